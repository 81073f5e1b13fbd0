//! Operations for the model: every hypercall on a table, its readers, what is written to it, and hardware. Arguments
//! are mostly good, and any 64 bits where the input says so.

use crate::bytes::{Bytes, empty_store};
use crate::common::stream::Record;
use crate::common::world::BUFFER_SIZE;
use crate::entry::{ANDCOND, AVPN, BOLTED, C, EXACT, FORMATS, PLACES, R, READ_4, SLOTS};
use crate::machine::Model;
use crate::ops::{Op, With};

/// The most operations of one input.
const MOST: usize = 400;

/// Where it is set, the operations are shown.
const SHOW: &str = "REALHPT_FUZZ_SHOW";

/// Runs an input: the format, then operations.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let format = bytes.one_of(&FORMATS);
    let mut model = Model::new(empty_store(), format);
    let shown = std::env::var_os(SHOW).is_some();
    for _ in 0..MOST {
        if bytes.is_empty() {
            break;
        }
        let op = op(&mut bytes);
        if shown {
            eprintln!("{op:x?}");
        }
        model.step(op);
    }
    model.finish();
}

fn op(bytes: &mut Bytes<'_>) -> Op {
    match bytes.u8() % 32 {
        0..5 => {
            let (flags, slot) = (flags(bytes, EXACT), slot(bytes));
            let (v, r) = entry(bytes);
            Op::Enter { flags, slot, v, r }
        }
        5..7 => Op::Remove {
            flags: flags(bytes, 0),
            slot: slot(bytes),
            with: with(bytes),
            late: late(bytes),
        },
        7..9 => Op::Protect {
            flags: protection(bytes),
            slot: slot(bytes),
            with: with(bytes),
            late: late(bytes),
        },
        9 => Op::Read {
            flags: flags(bytes, READ_4),
            slot: slot(bytes),
        },
        10 => Op::Bulk(std::array::from_fn(|_| (request(bytes), with(bytes)))),
        11..13 => Op::Block {
            of: slot(bytes),
            with: with(bytes),
            requests: std::array::from_fn(|_| request(bytes)),
        },
        13..15 => Op::Clear {
            bit: bytes.one_of(&[R, C]),
            flags: flags(bytes, 0),
            slot: slot(bytes),
            late: late(bytes),
        },
        15..18 => Op::Touch {
            slot: slot(bytes),
            bits: bytes.one_of(&[R, R | C, C]),
        },
        18 => {
            let flags = match bytes.u8() {
                choice @ 0..0xc0 => [0, 0, 1][usize::from(choice % 3)],
                choice @ 0xc0..0xf8 => u64::from(choice & 7),
                _ => bytes.u64(),
            };
            let start = match bytes.u8() {
                0..0x80 => 0,
                0x80..0xa0 => bytes.one_of(&[1, 8, 4096, 4100, SLOTS - 1, SLOTS]),
                _ => slot(bytes),
            };
            Op::Open { flags, start }
        }
        19..23 => {
            let reader = usize::from(bytes.u8() % 4);
            let length = match bytes.u8() {
                choice @ 0..0x20 => u64::from(choice),
                choice @ 0x20..0xc0 => u64::from(choice),
                0xc0..0xe0 => u64::from(bytes.u16()),
                0xe0..0xfc => BUFFER_SIZE,
                _ => bytes.u64(),
            };
            Op::Stream { reader, length }
        }
        23 => Op::Close {
            reader: usize::from(bytes.u8() % 4),
        },
        24 => Op::Pause,
        25 => Op::Resume,
        26..28 => {
            let records = 1 + bytes.u8() % 3;
            Op::Write {
                records: (0..records).map(|_| record(bytes)).collect(),
                cut: usize::from(bytes.u8()),
            }
        }
        28 => Op::PageInit {
            flags: match bytes.u8() {
                choice @ 0..0xe0 => {
                    let flag = |bit: u8, flag: u64| u64::from(choice >> bit & 1) * flag;
                    flag(0, 1 << 14) | flag(1, 1 << 15) | flag(2, 1 << 22) | flag(3, 1 << 32)
                }
                _ => bytes.u64(),
            },
            page: page(bytes),
            source: page(bytes),
        },
        29 => match bytes.u8() {
            0..0xc0 => Op::ClearAll,
            _ => Op::Reset,
        },
        30 => match bytes.u8() {
            0..0x80 => Op::Stat,
            choice => Op::Resize {
                commits: choice & 1 != 0,
                flags: if choice & 2 == 0 { 0 } else { bytes.u64() },
                shift: if choice & 4 == 0 {
                    u64::from(bytes.u8() % 64)
                } else {
                    bytes.u64()
                },
            },
        },
        _ => Op::Proxy(bytes.u8() & 1 != 0),
    }
}

/// Slots close together at both ends of the table and of the first block, so that calls meet; or any.
fn slot(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.u8() {
        choice @ 0..0x80 => u64::from(choice & 0xf),
        choice @ 0x80..0xb0 => 4088 + u64::from(choice & 0xf),
        choice @ 0xb0..0xe0 => 0x3ff0 + u64::from(choice & 0xf),
        0xe0..0xf0 => u64::from(bytes.u16()) % SLOTS,
        0xf0..0xf8 => bytes.one_of(&[0x4000, 0x4001, u64::MAX, 1 << 32, 1 << 56]),
        _ => bytes.u64(),
    }
}

/// Conditions, and `own`, the flag that the call has for itself; or any.
fn flags(bytes: &mut Bytes<'_>, own: u64) -> u64 {
    match bytes.u8() {
        choice @ 0..0xe0 => {
            let condition = [0, AVPN, ANDCOND, AVPN | ANDCOND][usize::from(choice & 3)];
            condition | if choice & 4 == 0 { own } else { 0 }
        }
        _ => bytes.u64(),
    }
}

/// Flags of H_PROTECT: the condition, pp0, pp, N and keys; or any.
fn protection(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.u8() {
        choice @ 0..0xe0 => {
            let choice = u64::from(choice);
            let condition = if choice & 1 == 0 { 0 } else { AVPN };
            condition | (choice >> 1 & 1) << 8 | choice >> 2 & 7
        }
        _ => bytes.u64(),
    }
}

fn late(bytes: &mut Bytes<'_>) -> u64 {
    bytes.one_of(&[0, 0, R, C, R | C])
}

/// What a call compares with.
fn with(bytes: &mut Bytes<'_>) -> With {
    match bytes.u8() {
        0..0x80 => With::Own(0),
        choice @ 0x80..0xc0 => With::Own(1 << (choice & 0x3f)),
        0xc0..0xe0 => With::Bits(bytes.one_of(&[0, BOLTED, 1, 0x60, u64::MAX])),
        0xe0..0xf0 => With::Own(bytes.u64()),
        _ => With::Bits(bytes.u64()),
    }
}

/// A request of H_BULK_REMOVE or H_BLOCK_REMOVE, with a condition or none; or any.
fn request(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.u8() {
        choice @ 0..0xd0 => (0x40 | u64::from(choice & 3)) << 56 | slot(bytes) & ((1 << 56) - 1),
        choice @ 0xd0..0xf0 => u64::from(choice << 4) << 56 | slot(bytes) & ((1 << 56) - 1),
        _ => bytes.u64(),
    }
}

/// An entry: segments of both sizes, pages of all sizes in memory, beside it and half of it; or any.
fn entry(bytes: &mut Bytes<'_>) -> (u64, u64) {
    let v = match bytes.u8() {
        choice @ 0..0xe0 => {
            let avpn = [
                0,
                0x80,
                0x1234_5678_9a80,
                0x4000_0000_0000_0080,
                0x4001_ffff_ff00_0100,
                0x400f_ffff_ffff_ff80,
                0x4fff_ffff_ffff_ff80,
            ];
            let low = [0x01, 0x01, 0x05, 0x05, 0x11, 0x13, 0x15, 0x7f];
            avpn[usize::from(choice / 8 % 7)] | low[usize::from(choice & 7)]
        }
        _ => bytes.u64(),
    };
    let r = match bytes.u8() {
        choice @ 0..0xe0 => {
            let low = u64::from(bytes.u16());
            PLACES[usize::from(choice & 0xf)] | (low >> 12) << 60 | low & 0xfff
        }
        _ => bytes.u64(),
    };
    (v, r)
}

fn record(bytes: &mut Bytes<'_>) -> Record {
    let index = match bytes.u8() {
        choice @ 0..0xf0 => {
            u64::from(choice & 0xf) + [0, 4088, SLOTS - 16][usize::from(choice % 3)]
        }
        _ => bytes.u64() & 0xffff_ffff,
    };
    let valid = bytes.u8() % 10;
    let invalid = match bytes.u8() {
        choice @ 0..0xc0 => u16::from(choice),
        _ => bytes.u16(),
    };
    Record {
        index: index as u32,
        valid: (0..valid).map(|_| entry(bytes)).collect(),
        invalid,
    }
}

/// The address of a page: in memory, in the window, at the ends of both; or any.
fn page(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.u8() {
        choice @ 0..0xc0 => u64::from(choice & 7) << 12,
        0xc0..0xf0 => bytes.one_of(&[
            0x0fff_f000,
            0x1000_0000,
            0xffff_f000,
            0x1_0000_0000,
            0x1_0000_f000,
            0x1_0001_0000,
            0x800,
            !0xfff,
        ]),
        _ => bytes.u64(),
    }
}
