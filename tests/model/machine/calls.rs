//! The guest's calls, and hardware that sets R and C meanwhile.

use crate::common::world::{CLIENT_MEMORY, CLIENT_WINDOW};
use crate::entry::{ANDCOND, AVPN, BOLTED, C, EXACT, R, READ_4, SLOTS, entered};
use crate::ops::With;
use realhpt::hcall::abi::{self, Status};

use super::{Entry, Model};

/// Flags of H_PAGE_INIT and H_ENTER.
const ICACHE: u64 = 3 << 22;
const ZERO_PAGE: u64 = 1 << 15;
const COPY_PAGE: u64 = 1 << 14;

/// The slot in a request of H_BULK_REMOVE or H_BLOCK_REMOVE.
const PTEX: u64 = (1 << 56) - 1;

/// B, L and the LP bits that say a size.
fn sizes(Entry { v, r, .. }: Entry) -> (u64, u64, u64) {
    let lp = match r >> 12 & 0xf {
        // 64K pages: the rest is of the real page number.
        size @ (1 | 7) => size,
        _ => r >> 12 & 0xff,
    };
    (v >> 62, v & 4, if v & 4 == 0 { 0 } else { lp })
}

/// Log2 of the base page size.
fn base(Entry { v, r, .. }: Entry) -> u32 {
    match (v & 4 != 0, r >> 12 & 0xff) {
        (false, _) | (true, 0x38) => 12,
        (true, lp) if lp & 0xf == 7 => 12,
        (true, 0) => 24,
        (true, 3) => 34,
        _ => 16,
    }
}

/// The virtual address as far as AVPN has it.
fn address(v: u64) -> u128 {
    u128::from(v & 0x3fff_ffff_ffff_ff80) << 16
}

/// The number of the block of eight base pages: AVPN gives the address from bit 23 on, the group the rest.
fn block(entry: Entry, slot: u64) -> u128 {
    let address = address(entry.v);
    let vsid = address >> if entry.v >> 62 == 1 { 40 } else { 28 };
    let hash = u128::from(slot / 8) ^ if entry.v & 2 != 0 { 0x7ff } else { 0 };
    let page = (hash ^ vsid) & 0x7ff;
    (address | page << base(entry) & 0x7f_ffff) >> (base(entry) + 3)
}

/// Whether an AVPN is of the entry's block.
fn is_covered(entry: Entry, avpn: u64) -> bool {
    let shift = base(entry) + 3;
    let of = |v: u64| (v >> 62, address(v) >> shift);
    avpn & 0x7f == 0 && of(avpn) == of(entry.v)
}

impl Model {
    fn argument(&self, slot: u64, with: With) -> u64 {
        match with {
            With::Own(turned) => {
                self.entries.get(&slot).map_or(0, |entry| entry.v & !0x7f) ^ turned
            }
            With::Bits(bits) => bits,
        }
    }

    /// Whether there is an entry and it is the one that is meant.
    fn meant(&self, slot: u64, flags: u64, avpn: u64) -> Option<Entry> {
        self.entries.get(&slot).copied().filter(|entry| {
            (flags & AVPN == 0 || entry.v & !0x7f == avpn)
                && (flags & ANDCOND == 0 || entry.v & avpn == 0)
        })
    }

    pub(super) fn enter(&mut self, flags: u64, slot: u64, v: u64, r: u64) {
        let arguments = [flags, slot, v, r];
        let (status, out) = self.call(abi::H_ENTER, &arguments);
        let free = || {
            let group = slot & !7;
            let mut slots = if flags & EXACT != 0 {
                slot..slot + 1
            } else {
                group..group + 8
            };
            slots.find(|slot| !self.entries.contains_key(slot))
        };
        let expected = match entered(v, r, self.format) {
            None => Err(Status::Parameter),
            Some(_) if slot >= SLOTS => Err(Status::Parameter),
            Some((v, r, usable)) => match free() {
                None => Err(Status::PtegFull),
                Some(slot) => Ok((slot, Entry { v, r, usable })),
            },
        };
        match expected {
            Err(expected) => assert_eq!((status, &out[..4]), (expected, &arguments[..])),
            Ok((slot, entry)) => {
                assert_eq!(
                    (status, &out[..4]),
                    (Status::Success, &[slot, arguments[1], v, r][..])
                );
                self.entries.insert(slot, entry);
                self.changed(slot);
            }
        }
    }

    pub(super) fn remove(&mut self, flags: u64, slot: u64, with: With, late: u64) {
        let avpn = self.argument(slot, with);
        let meant = self.meant(slot, flags, avpn);
        let late = match meant {
            Some(entry) if entry.usable => late,
            _ => 0,
        };
        if late != 0 {
            self.world.late(slot, late);
        }
        let (status, out) = self.call(abi::H_REMOVE, &[flags, slot, avpn]);
        match meant {
            _ if slot >= SLOTS => {
                assert_eq!((status, &out[..2]), (Status::Parameter, &[flags, slot][..]))
            }
            None => assert_eq!((status, &out[..2]), (Status::NotFound, &[flags, slot][..])),
            Some(Entry { v, r, .. }) => {
                assert_eq!(
                    (status, &out[..3]),
                    (Status::Success, &[v, r | late, avpn][..])
                );
                self.entries.remove(&slot);
                self.changed(slot);
                assert_eq!(
                    self.world.real(slot),
                    (0, 0),
                    "nothing is left in a free slot"
                );
            }
        }
    }

    pub(super) fn protect(&mut self, flags: u64, slot: u64, with: With, late: u64) {
        let avpn = self.argument(slot, with);
        // H_PROTECT knows no H_ANDCOND.
        let meant = self.meant(slot, flags & !ANDCOND, avpn);
        let late = match meant {
            Some(entry) if entry.usable => late,
            _ => 0,
        };
        if late != 0 {
            self.world.late(slot, late);
        }
        let (status, out) = self.call(abi::H_PROTECT, &[flags, slot, avpn]);
        assert_eq!(out[..3], [flags, slot, avpn]);
        match meant {
            _ if slot >= SLOTS => assert_eq!(status, Status::Parameter),
            None => assert_eq!(status, Status::NotFound),
            Some(Entry { v, r, usable }) => {
                assert_eq!(status, Status::Success);
                // pp0, the two high bits of the key; the three low ones, N and pp.
                let moved = (flags >> 8 & 1) << 63 | (flags >> 12 & 3) << 60;
                let r = r & !(1 << 63 | 3 << 60 | 0xe07) | moved | flags & 0xe07 | late;
                self.entries.insert(slot, Entry { v, r, usable });
                self.changed(slot);
            }
        }
    }

    pub(super) fn read(&self, flags: u64, slot: u64) {
        let (status, out) = self.call(abi::H_READ, &[flags, slot]);
        if slot >= SLOTS {
            assert_eq!((status, &out[..2]), (Status::Parameter, &[flags, slot][..]));
            return;
        }
        assert_eq!(status, Status::Success);
        let slots = if flags & READ_4 != 0 {
            slot & !3..(slot & !3) + 4
        } else {
            slot..slot + 1
        };
        for (number, slot) in slots.enumerate() {
            let expected = self
                .entries
                .get(&slot)
                .map_or((0, 0), |entry| (entry.v, entry.r));
            assert_eq!(
                (out[2 * number], out[2 * number + 1]),
                expected,
                "slot {slot:#x}"
            );
        }
    }

    pub(super) fn bulk(&mut self, requests: [(u64, With); 4]) {
        let mut arguments = [0; 8];
        for (number, &(request, with)) in requests.iter().enumerate() {
            arguments[2 * number] = request;
            arguments[2 * number + 1] = self.argument(request & PTEX, with);
        }
        let (status, out) = self.call(abi::H_BULK_REMOVE, &arguments);
        let mut expected = arguments;
        let mut verdict = Status::Success;
        for number in 0..4 {
            let (request, avpn) = (arguments[2 * number], arguments[2 * number + 1]);
            let (kind, condition, slot) = (request >> 62, request >> 56 & 3, request & PTEX);
            let kept = request & (3 << 56 | PTEX);
            if kind == 3 {
                break;
            }
            if kind != 1 || condition == 3 || slot >= SLOTS {
                expected[2 * number] = 0xa << 60 | kept;
                verdict = Status::Parameter;
                break;
            }
            let flags = [0, ANDCOND, AVPN][usize::try_from(condition).unwrap()];
            expected[2 * number] = match self.meant(slot, flags, avpn) {
                None => 9 << 60 | kept,
                Some(Entry { r, .. }) => {
                    self.entries.remove(&slot);
                    self.changed(slot);
                    8 << 60 | kept | (r & (R | C)) << 51
                }
            };
        }
        assert_eq!(
            (status, &out[..8]),
            (verdict, &expected[..]),
            "{arguments:x?}"
        );
    }

    pub(super) fn block(&mut self, of: u64, with: With, requests: [u64; 8]) {
        let avpn = self.argument(of, with);
        let mut arguments = [avpn; 9];
        arguments[1..].copy_from_slice(&requests);
        let (status, out) = self.call(abi::H_BLOCK_REMOVE, &arguments);
        let given = &arguments[1..];
        let end = given.iter().position(|request| request >> 62 == 3);
        let requests = &given[..end.unwrap_or(8)];
        if requests.iter().any(|request| request >> 62 != 1) {
            assert_eq!((status, out), (Status::Parameter, arguments));
            return;
        }
        let mut expected = given.to_vec();
        let mut verdict = Status::Success;
        let mut first: Option<(Entry, u64)> = None;
        let mut held = Vec::new();
        for (answer, &request) in expected.iter_mut().zip(requests) {
            let slot = request & PTEX;
            let meant = self.entries.get(&slot).copied();
            let code = match meant {
                _ if slot >= SLOTS => 2,
                _ if held.contains(&slot) => 4,
                None => 1,
                Some(entry) if entry.v & BOLTED != 0 => 1,
                Some(entry) if request >> 56 & 1 != 0 && !is_covered(entry, avpn) => 1,
                Some(entry) => match first {
                    Some((first, _)) if sizes(entry) != sizes(first) => 3,
                    Some((first, at)) if block(entry, slot) != block(first, at) => 5,
                    _ => 0,
                },
            };
            let kept = 2 << 62 | request & (1 << 56 | PTEX);
            *answer = kept | code << 59;
            match meant {
                Some(entry) if code == 0 => {
                    *answer |= (entry.r & (R | C)) << 50;
                    first = first.or(Some((entry, slot)));
                    // Hardware may use it: it is locked until all are flushed.
                    held.extend(entry.usable.then_some(slot));
                    self.entries.remove(&slot);
                    self.changed(slot);
                }
                _ => verdict = Status::Partial,
            }
        }
        expected.push(arguments[8]);
        assert_eq!(
            (status, &out[..]),
            (verdict, &expected[..]),
            "{arguments:x?}"
        );
    }

    pub(super) fn clear(&mut self, bit: u64, flags: u64, slot: u64, late: u64) {
        let token = if bit == R {
            abi::H_CLEAR_REF
        } else {
            abi::H_CLEAR_MOD
        };
        let meant = self.entries.get(&slot).copied();
        // Hardware is late only where it is waited for: for C always, for R where it goes. A pause has waited.
        let late = match meant {
            Some(entry) if !self.paused && entry.usable && (bit == C || entry.r & R != 0) => late,
            _ => 0,
        };
        if late != 0 {
            self.world.late(slot, late);
        }
        let (status, out) = self.call(token, &[flags, slot]);
        let Some(Entry { v, r, usable }) = meant else {
            let expected = if slot < SLOTS {
                Status::NotFound
            } else {
                Status::Parameter
            };
            assert_eq!((status, &out[..2]), (expected, &[flags, slot][..]));
            return;
        };
        // What comes while R goes is there afterwards; what comes before C goes is known.
        let (before, after) = if bit == R {
            (r, r & !R | late)
        } else {
            (r | late, (r | late) & !C)
        };
        assert_eq!((status, &out[..2]), (Status::Success, &[before, slot][..]));
        self.entries.insert(
            slot,
            Entry {
                v,
                r: after,
                usable,
            },
        );
        if before & bit != 0 {
            self.changed(slot);
        }
        let news = if bit == R {
            late & !(r & !R)
        } else if before & C == 0 {
            late & !r
        } else {
            0
        };
        if news != 0 {
            self.touched.insert(slot);
            self.changed(slot);
        }
    }

    pub(super) fn touch(&mut self, slot: u64, bits: u64) {
        let Some(entry) = self.entries.get_mut(&slot) else {
            return;
        };
        // Hardware does not write through a page that no key may write to, nor while nobody runs.
        let read_only = matches!((entry.r >> 61 & 4) | entry.r & 3, 0b011 | 0b110 | 0b111);
        if self.paused || !entry.usable || read_only && bits & C != 0 || bits & !entry.r == 0 {
            return;
        }
        entry.r |= bits;
        self.world.touch(slot, bits);
        self.touched.insert(slot);
        self.changed(slot);
    }

    /// Only whether it is done: what it does to the page, `memory` looks at.
    pub(super) fn page_init(&self, flags: u64, page: u64, source: u64) {
        let known = 0xf << 32 | ICACHE | ZERO_PAGE | COPY_PAGE;
        let is_memory = |page: u64| {
            let (window, _, size) = CLIENT_WINDOW;
            page < CLIENT_MEMORY || (window..window + size).contains(&page)
        };
        let is_aligned = |page: u64| page & 0xfff == 0;
        let copies = flags & COPY_PAGE != 0;
        let does_nothing = flags & (ICACHE | ZERO_PAGE | COPY_PAGE) == 0;
        let good = flags & !known == 0
            && is_aligned(page)
            && (does_nothing || is_memory(page))
            && (!copies || is_aligned(source) && is_memory(source));
        let expected = if good {
            Status::Success
        } else {
            Status::Parameter
        };
        let (status, out) = self.call(abi::H_PAGE_INIT, &[flags, page, source]);
        assert_eq!((status, &out[..3]), (expected, &[flags, page, source][..]));
    }

    /// LoPAR: bits that are no flags, and sizes that are none, are H_PARAMETER; there is nothing to cancel, no memory
    /// for a new table, and none prepared.
    pub(super) fn resize(&self, commits: bool, flags: u64, shift: u64) {
        let (token, expected) = match shift {
            _ if commits => (abi::H_RESIZE_HPT_COMMIT, Status::Closed),
            _ if flags != 0 => (abi::H_RESIZE_HPT_PREPARE, Status::Parameter),
            0 => (abi::H_RESIZE_HPT_PREPARE, Status::Success),
            18..=46 => (abi::H_RESIZE_HPT_PREPARE, Status::Resource),
            _ => (abi::H_RESIZE_HPT_PREPARE, Status::Parameter),
        };
        let (status, out) = self.call(token, &[flags, shift]);
        assert_eq!((status, &out[..2]), (expected, &[flags, shift][..]));
    }

    /// H_CLEAR_HPT: all goes but the VRMA's entries.
    pub(super) fn clear_all(&mut self) {
        let mut calls = 0;
        loop {
            match self.call(abi::H_CLEAR_HPT, &[]).0 {
                Status::Continue => calls += 1,
                status => break assert_eq!(status, Status::Success),
            }
            assert!(calls < 10_000, "the calls do not end");
        }
        let gone = |(&slot, entry): (&u64, &Entry)| {
            let is_vrma = entry.v & !0xff_ffff == 0x4001_ffff_ff00_0000;
            (!is_vrma).then_some(slot)
        };
        let gone: Vec<u64> = self.entries.iter().filter_map(gone).collect();
        for slot in gone {
            self.entries.remove(&slot);
            self.changed(slot);
            assert_eq!(self.world.real(slot), (0, 0));
        }
    }
}
