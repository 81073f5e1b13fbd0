//! The guest's calls, and hardware that sets R and C meanwhile.

use crate::ops::With;
use crate::{ANDCOND, AVPN, C, EXACT, R, READ_4, SLOTS, entered};
use realhpt::hcall::abi::{self, Status};

use super::{Entry, Model};

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

    pub(super) fn bulk(&mut self, requests: [(u64, u64, With); 4]) {
        const PTEX: u64 = (1 << 56) - 1;
        let mut arguments = [0; 8];
        for (number, &(kind, slot, with)) in requests.iter().enumerate() {
            // Mostly requests, with a condition as it comes.
            let kind = if kind < 200 { kind & 0x33 | 0x40 } else { kind };
            arguments[2 * number] = kind << 56 | slot & PTEX;
            arguments[2 * number + 1] = self.argument(slot & PTEX, with);
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
}
