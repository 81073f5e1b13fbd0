//! Entries of a stream on their way into the table: checked, and as they will stand there.
//!
//! A [`Making`] has what is the same for all entries of a restore as values, so that an entry is a few dozen instructions;
//! a [`Piece`] has those that are applied together. Nothing of the table is touched here: a piece is gathered whole, from
//! doublewords that were read once, or not at all. [`super::batch`] puts it into the table.

use super::bitmap::{WORD, index};
use super::hash::is_vrma;
use super::hpt::Table;
use super::hpte::{ABSENT, B_RESERVED, GuestR, GuestV, Layout, RPN, RealR, RealV, VALID, View};
use super::page_size::PageSize;
use super::slot::Entry;
use crate::addr::Ptex;
use crate::arch::Machine;
use crate::memory::{Entries, Regions};

/// An entry as it will stand in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    pub(super) v: RealV,
    pub(super) r: RealR,
    pub(super) view: View,
}

/// What stands in a table of this layout for `entry`: dword 0 and dword 1.
#[inline(always)]
pub(super) fn real(entry: &Entry, layout: Layout) -> (RealV, RealR) {
    match entry.page {
        Some(page) => (
            layout.real_v(entry.v, VALID),
            entry.r.real(entry.v, entry.size, page, layout),
        ),
        None => (layout.real_v(entry.v, ABSENT), layout.absent_r(entry.v)),
    }
}

/// Room for the entries of a piece: as many as a word has slots.
#[derive(Debug)]
pub struct Room([Ready; index(WORD)]);

impl Room {
    /// Room.
    #[must_use]
    pub const fn new() -> Self {
        let none = Ready {
            v: RealV::read(0),
            r: RealR::read(0),
            view: View::read(0),
        };
        Self([none; index(WORD)])
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

/// Entries that are applied together, for slots that follow each other in one word.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// As many as there are slots.
    pub(super) entries: &'a [Ready],
    /// Those slots of the word in whose entries hardware can still set R or C.
    pub(super) unsettled: u64,
    /// Log2 of the base page size that guest real mode is translated with, if an entry says so.
    pub(super) vrma: Option<u32>,
}

impl<'a> Piece<'a> {
    /// The piece that has this entry alone, for slot `slot`.
    #[inline(always)]
    #[must_use]
    pub fn of_one((entry, is_unsettled): &'a (Ready, bool), slot: u64) -> Self {
        Self {
            entries: core::slice::from_ref(entry),
            unsettled: u64::from(*is_unsettled) << (slot % WORD),
            vrma: None,
        }
    }
}

/// Which bits of dword 1 are the address of a page of one size, and where one may be.
#[derive(Clone, Copy, Debug)]
struct Reach {
    address: u64,
    /// Offsets in the region below which one may begin.
    reach: u64,
}

/// How the entries are made that nearly all are: with memory of the largest region behind them, and not the VRMA's.
#[derive(Clone, Copy, Debug)]
struct Usual {
    layout: Layout,
    /// Where the region begins for the guest, and how much further up the host has it.
    guest: u64,
    skew: u64,
    /// By the number of the page size; beyond them that of what is none.
    reaches: [Reach; PageSize::COUNT + 1],
}

impl Usual {
    fn new(layout: Layout, regions: &Regions) -> Self {
        let none = Reach {
            address: 0,
            reach: 0,
        };
        let mut usual = Self {
            layout,
            guest: 0,
            skew: 0,
            reaches: [none; PageSize::COUNT + 1],
        };
        let Some(region) = regions.iter().max_by_key(|region| region.size()) else {
            return usual;
        };
        (usual.guest, usual.skew) = (region.guest().raw(), region.skew());
        for (of_size, size) in usual.reaches.iter_mut().zip(PageSize::ALL) {
            *of_size = Reach {
                address: RPN & !(size.bytes() - 1),
                reach: region.reach(size.bytes()),
            };
        }
        usual
    }

    /// The entry that these doublewords make, if it is such a one; and whether hardware can still set R or C in it.
    #[inline(always)]
    #[expect(clippy::indexing_slicing, reason = "there is a reach for each number")]
    fn entry(&self, [v, r]: [u64; 2]) -> Option<(Ready, bool)> {
        let Reach { address, reach } = self.reaches[PageSize::number(v, r)];
        // VALID clear and B reserved as the two highest bits of an offset: beyond any reach. What is below the region wraps to
        // what is beyond it, too.
        let bad = (v ^ VALID).rotate_right(1) & (VALID | B_RESERVED).rotate_right(1);
        let offset = (r & address).wrapping_sub(self.guest) | bad;
        if offset >= reach || is_vrma(GuestV::entered(v)) {
            return None;
        }
        let view = self.layout.guest_r(View::read(r));
        let ready = Ready {
            v: self.layout.usual_v(v),
            r: self.layout.usual_r(v, r.wrapping_add(self.skew)),
            view: View::new(view, false),
        };
        if view.is_settled() {
            return Some((ready, false));
        }
        let view = View::new(view, true);
        Some((Ready { view, ..ready }, true))
    }
}

/// How the entries of a restore are made.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    table: &'a Table<'a>,
    regions: &'a Regions,
    usual: Usual,
}

impl<'a> Making<'a> {
    /// For entries of `table`, whose partition has these regions.
    #[must_use]
    pub fn new(table: &'a Table<'a>, regions: &'a Regions) -> Self {
        Self {
            table,
            regions,
            usual: Usual::new(table.layout(), regions),
        }
    }

    /// The table that they are for.
    #[inline(always)]
    #[must_use]
    pub const fn table(&self) -> &'a Table<'a> {
        self.table
    }

    /// Gathers these entries of a guest's buffer, for as many slots from slot `first` on. They end with the first slot's
    /// word at the latest.
    ///
    /// # Errors
    /// The slot of the first that is none.
    #[inline(always)]
    pub fn gather<'r, M: Machine>(
        &self,
        machine: &M,
        room: &'r mut Room,
        first: u64,
        entries: Entries,
    ) -> Result<Piece<'r>, u64> {
        let (mut slot, mut unsettled, mut vrma) = (first, 0, None);
        for (entry, at) in entries.with(&mut room.0) {
            let dwords = at.map(|at| machine.load(at));
            let (ready, is_unsettled) = match self.usual(dwords) {
                Some(usual) => usual,
                None => {
                    let (ready, is_unsettled, shift) =
                        unusual(self.table, self.regions, slot, dwords).ok_or(slot)?;
                    vrma = vrma.or(shift);
                    (ready, is_unsettled)
                }
            };
            *entry = ready;
            if is_unsettled {
                unsettled |= 1 << (slot % WORD);
            }
            slot += 1;
        }
        Ok(Piece {
            entries: room.0.get(..index(slot - first)).unwrap_or_default(),
            unsettled,
            vrma,
        })
    }

    /// The same of one entry that was read already and is not [`usual`](Self::usual).
    ///
    /// # Errors
    /// The slot, if it is none.
    pub fn odd<'r>(
        &self,
        room: &'r mut Room,
        slot: u64,
        dwords: [u64; 2],
    ) -> Result<Piece<'r>, u64> {
        let (ready, is_unsettled, vrma) =
            unusual(self.table, self.regions, slot, dwords).ok_or(slot)?;
        let Room([first, ..]) = room;
        *first = ready;
        Ok(Piece {
            entries: core::slice::from_ref(first),
            unsettled: u64::from(is_unsettled) << (slot % WORD),
            vrma,
        })
    }

    /// The entry that these doublewords make, if it is as nearly all are; and whether hardware can still set R or C in it.
    #[inline(always)]
    #[must_use]
    pub fn usual(&self, dwords: [u64; 2]) -> Option<(Ready, bool)> {
        self.usual.entry(dwords)
    }
}

/// The entry of slot `slot` that these doublewords make, whatever it is like; whether hardware can still set R or C in it; and
/// what it says of guest real mode. None if it is no entry.
#[inline(never)]
fn unusual(
    table: &Table<'_>,
    regions: &Regions,
    slot: u64,
    dwords: [u64; 2],
) -> Option<(Ready, bool, Option<u32>)> {
    let (ready, entry) = any(table.layout(), regions, dwords)?;
    let vrma = table.restored_vrma_shift(Ptex::new(slot), &entry);
    Some((ready, ready.view.is_unsettled(), vrma))
}

/// The entry that these doublewords make, whatever it is like, and as it will stand in the table.
fn any(layout: Layout, regions: &Regions, [v, r]: [u64; 2]) -> Option<(Ready, Entry)> {
    if v & VALID == 0 {
        return None;
    }
    let entry = Entry::checked(GuestV::entered(v), GuestR::entered(r), regions)?;
    let (v, r) = real(&entry, layout);
    let is_unsettled = v.is_valid() && !entry.r.is_settled();
    let view = View::new(entry.r, is_unsettled);
    Some((Ready { v, r, view }, entry))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::addr::{GuestReal, HostReal};
    use crate::memory::Region;
    use crate::table::Format;
    use std::vec::Vec;

    fn regions(list: &[(u64, u64, u64)]) -> Regions {
        let mut regions = Regions::new();
        for &(guest, host, size) in list {
            let (guest, host) = (GuestReal::new(guest), HostReal::new(host));
            let region = Region::new(guest, host, size).expect("a region");
            regions.add(region).expect("no overlap");
        }
        regions
    }

    /// The quick way makes what the other one makes, or leaves it to that: for every page size, at the ends of regions that are
    /// whole pages away from where the guest sees them, or not, with and without each of the bits.
    #[test]
    fn a_usual_entry_is_made_as_any_other() {
        const G: u64 = 1 << 34;
        const AVPN: u64 = 0x0012_3456_7890_0000;
        const VRMA: u64 = 0x4001_ffff_ff00_0000;
        let all = [
            regions(&[(0, 0x4000_0000, 2 * G)]),
            regions(&[(0, 0x4001_0000, 0x200_0000)]),
            regions(&[(0, 0x1_0000, 0x10_0000), (G, 4 * G + 0x1000, 0x1100_0000)]),
            regions(&[(G, 0x1000_0000, 4 * G), (0, 0x1000, 0x1000)]),
            Regions::new(),
        ];
        let pages: Vec<u64> = [
            0,
            0x1000,
            0x10_0000,
            0x200_0000,
            G,
            G + 0x1100_0000,
            2 * G,
            5 * G,
            RPN,
        ]
        .into_iter()
        .flat_map(|page| {
            [
                page,
                page.wrapping_sub(0x1000),
                page.wrapping_sub(0x100_0000),
            ]
        })
        .collect();
        let bits = [0, 1, 0x5, 0x67, 1 << 63 | 5, 3 << 62 | 1, 1 << 62 | 0x95];
        let vs: Vec<u64> = bits
            .map(|bits| AVPN | bits)
            .into_iter()
            .chain([VRMA | 5, VRMA])
            .collect();
        let r_bits = [0, 0x80, 0x100, 0x180, 0x103, 1 << 63 | 0x102, !RPN, 0x7b];
        let (mut usual_ones, mut left) = (0, 0);
        for (regions, layout) in all.iter().flat_map(|regions| {
            [Format::V2_07, Format::V3_0].map(|format| (regions, format.layout()))
        }) {
            let usual = Usual::new(layout, regions);
            for (&page, lp) in pages
                .iter()
                .flat_map(|page| (0..256).map(move |lp| (page, lp)))
            {
                for (v, r) in vs.iter().flat_map(|&v| r_bits.map(|r| (v, r))) {
                    let dwords = [v, page & !0xf_f000 & RPN | lp << 12 | r];
                    let Some((made, is_unsettled)) = usual.entry(dwords) else {
                        left += 1;
                        continue;
                    };
                    let (expected, _) = any(layout, regions, dwords).unwrap();
                    assert_eq!(made, expected, "{dwords:x?}");
                    assert_eq!(is_unsettled, expected.view.is_unsettled());
                    usual_ones += 1;
                }
            }
        }
        assert!(usual_ones > 10_000 && left > 10_000, "{usual_ones} {left}");
    }
}
