//! How proptest draws ops: arguments that are mostly good.

use crate::common::stream::Record;
use crate::common::world::BUFFER_SIZE;
use crate::entry::{ANDCOND, AVPN, BOLTED, C, EXACT, PLACES, R, READ_4, SLOTS};
use crate::ops::{Op, With};
use proptest::collection::vec;
use proptest::prelude::{any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::{Just, Strategy};

const PTEX: u64 = (1 << 56) - 1;

/// Slots close together at both ends of the table and of the first block, so that calls meet.
pub(crate) fn slot() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..16u64,
        3 => 4088..4104u64,
        3 => 0x3ff0..0x4000u64,
        1 => select(vec![0x4000, 0x4001, u64::MAX, 1 << 32, 1 << 56, 64, 5000]),
    ]
}

pub(crate) fn entry() -> impl Strategy<Value = (u64, u64)> {
    let avpn = select(vec![
        0,
        0x80,
        0x1234_5678_9a80,
        0x4000_0000_0000_0080,
        0x4fff_ffff_ffff_ff80 & !0xf << 52,
    ]);
    let low = select(vec![
        0x01, 0x01, 0x05, 0x05, 0x11, 0x13, 0x15, 0x00, 0x69, 0x7f,
    ]);
    let odd_v = select(
        vec![0u64; 20]
            .into_iter()
            .chain([1 << 63, 3 << 62, 1 << 56])
            .collect::<Vec<_>>(),
    );
    let place = select(PLACES.to_vec());
    let low_r = any::<u64>().prop_map(|bits| bits & 0xf000_0000_0000_0fff);
    (avpn, low, odd_v, place, low_r)
        .prop_map(|(avpn, low, odd, place, low_r)| (avpn | low | odd, place | low_r))
}

pub(crate) fn with() -> impl Strategy<Value = With> {
    prop_oneof![
        3 => Just(With::Own(0)),
        1 => (0..64u32).prop_map(|bit| With::Own(1 << bit)),
        1 => select(vec![0, BOLTED, 1, 0x60, u64::MAX]).prop_map(With::Bits),
    ]
}

pub(crate) fn flags() -> impl Strategy<Value = u64> {
    (
        select(vec![0, 0, AVPN, ANDCOND, AVPN | ANDCOND]),
        any::<u64>(),
    )
        .prop_map(|(condition, junk)| condition | junk & !(AVPN | ANDCOND | EXACT | READ_4))
}

pub(crate) fn late() -> impl Strategy<Value = u64> {
    select(vec![0, 0, R, C, R | C])
}

pub(crate) fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 0..24u64, 6 => 24..=200u64, 2 => 24..=4096u64, 2 => Just(BUFFER_SIZE)]
}

/// A request of H_BULK_REMOVE or H_BLOCK_REMOVE: its first byte, and the slot.
const fn request(kind: u64, slot: u64) -> u64 {
    kind << 56 | slot & PTEX
}

fn record() -> impl Strategy<Value = Record> {
    (0..SLOTS + 8, vec(entry(), 0..5), 0..70u16).prop_map(|(index, valid, invalid)| Record {
        index: u32::try_from(index).unwrap(),
        valid,
        invalid,
    })
}

/// What changes a table that runs, or looks at it.
pub(crate) fn change() -> impl Strategy<Value = Op> {
    // Mostly requests, with a condition as it comes.
    let bulk = (0..256u64, slot(), with()).prop_map(|(kind, slot, with)| {
        let kind = if kind < 200 { kind & 0x33 | 0x40 } else { kind };
        (request(kind, slot), with)
    });
    // Mostly requests, by AVPN or not, with page states and bits that are not looked at.
    let block = (0..256u64, slot()).prop_map(|(kind, slot)| {
        let kind = if kind < 240 { kind & 0x3f | 0x40 } else { kind };
        request(kind, slot)
    });
    prop_oneof![
        12 => (flags(), any::<bool>(), slot(), entry()).prop_map(|(flags, exact, slot, (v, r))| {
            Op::Enter { flags: flags | if exact { EXACT } else { 0 }, slot, v, r }
        }),
        6 => (flags(), slot(), with(), late())
            .prop_map(|(flags, slot, with, late)| Op::Remove { flags, slot, with, late }),
        6 => (flags(), slot(), with(), late())
            .prop_map(|(flags, slot, with, late)| Op::Protect { flags, slot, with, late }),
        4 => (flags(), any::<bool>(), slot())
            .prop_map(|(flags, four, slot)| Op::Read { flags: flags | if four { READ_4 } else { 0 }, slot }),
        3 => proptest::array::uniform4(bulk).prop_map(Op::Bulk),
        3 => (slot(), with(), proptest::array::uniform8(block))
            .prop_map(|(of, with, requests)| Op::Block { of, with, requests }),
        6 => (select(vec![R, C]), any::<u64>(), slot(), late())
            .prop_map(|(bit, flags, slot, late)| Op::Clear { bit, flags, slot, late }),
        8 => (slot(), select(vec![R, R | C, C])).prop_map(|(slot, bits)| Op::Touch { slot, bits }),
    ]
}

/// A stream that is written.
pub(crate) fn write() -> impl Strategy<Value = Op> {
    (vec(record(), 1..3), 8..200usize).prop_map(|(records, cut)| Op::Write { records, cut })
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let page_init = (
        select(vec![0u64, 1 << 14, 1 << 15, 1 << 22, 0xf << 32, 1]),
        slot(),
        slot(),
    );
    prop_oneof![
        48 => change(),
        3 => (select(vec![0, 0, 0, 0, 0, 1, 1, 2, 3, 4]), select(vec![0, 0, 0, 1, 8, 4096, 4100, SLOTS - 1, SLOTS]))
            .prop_map(|(flags, start)| Op::Open { flags, start }),
        12 => (0..4usize, length()).prop_map(|(reader, length)| Op::Stream { reader, length }),
        1 => (0..4usize).prop_map(|reader| Op::Close { reader }),
        2 => Just(Op::Pause),
        2 => Just(Op::Resume),
        3 => write(),
        1 => page_init.prop_map(|(flags, page, source)| Op::PageInit {
            flags,
            page: page << 12,
            source: source << 12,
        }),
        1 => (any::<bool>(), select(vec![0, 0, 0, 1, 1 << 63]), 0..50u64)
            .prop_map(|(commits, flags, shift)| Op::Resize { commits, flags, shift }),
        1 => Just(Op::Stat),
        1 => any::<bool>().prop_map(Op::Proxy),
        1 => prop_oneof![9 => Just(Op::ClearAll), 1 => Just(Op::Reset)],
    ]
}
