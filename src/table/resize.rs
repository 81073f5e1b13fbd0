//! Carrying entries over into a table of another order (LoPAR, hash page table resize option).
//!
//! What is carried are the bolted entries, as LoPAR has it, and those of the VRMA, bolted or not, for without
//! them guest real mode would be gone; QEMU and KVM carry the bolted ones alone, and make their own VRMA's
//! bolted. Other entries are dropped: the guest enters them again when it faults.
//!
//! An entry keeps its slot in the group, and H. The group is the hash's: most of the page number is in AVPN, and
//! the eleven bits below it are in the number of the old group, which the smallest table has that many of
//! ([`group`], as in [`super::tlb::operand`]).
//!
//! # What is known about the table that is being filled
//! Hardware does not walk it and no reader reads it, so its bitmap of changes serves for the *sources*: which
//! slots of the old table have an entry there. When a source changes, its copy is found again from the slot
//! alone: in the one group, or when growing in each of those, that entries of the old group go to, and the copy
//! is the one whose own old group it is.
//!
//! That holds for entries that stand where their hash leads to. Others, which hardware never finds, are
//! *strays*: their old group cannot be told from the new one. LoPAR wants them carried, too, but that is done
//! when nothing changes any more.

use super::bitmap::{WORD, index, ones};
use super::block::page_bits;
use super::hash::{is_vrma, may_be_vrma};
use super::hpt::{Copy, Order, Table};
use super::hpte::{GuestV, RealV, SECONDARY, SegmentSize};
use super::page_size::PageSize;
use super::slot::Entry;
use crate::arch::Machine;
use crate::memory::Regions;
use crate::sync::Ordering;

/// Slots of a PTEG.
const GROUP: u64 = 8;

/// The group, in a table of order `to`, of an entry that stands in group number `from` of any table: the number's
/// low eleven bits say what AVPN lacks.
///
/// ```
/// use realhpt::table::Order;
/// use realhpt::table::hpte::GuestV;
/// use realhpt::table::page_size::PageSize;
/// use realhpt::table::resize::group;
/// // A 4K page of the 256M segment 0x123: page 0x4567, so AVPN ends with 0x4567 >> 11.
/// let v = GuestV::entered(0x123 << 12 | (0x4567 >> 11) << 7);
/// let hash = 0x123 ^ 0x4567;
/// let [small, large] = [18, 22].map(|order| Order::new(order).unwrap());
/// assert_eq!(group(v, PageSize::K4, hash & 0x7ff, large), hash);
/// assert_eq!(group(v, PageSize::K4, hash, small), hash & 0x7ff);
/// ```
#[must_use]
pub const fn group(v: GuestV, size: PageSize, from: u64, to: Order) -> u64 {
    // AVPN of the ISA 2.07 format: VSID, and the offset in the segment without its low 23 bits.
    let avpn = v.raw() << 2 >> 9;
    let (vsid, above, shifted) = match v.segment_size() {
        Some(SegmentSize::T1) => (avpn >> 17, avpn & 0x1_ffff, avpn >> 17 << 25),
        _ => (avpn >> 5, avpn & 0x1f, 0),
    };
    let base = size.base_shift();
    let page = if base < 23 {
        above << (23 - base) | page_bits(v, from) & ((1 << (23 - base)) - 1)
    } else {
        above >> (base - 23)
    };
    let hash = vsid ^ shifted ^ page;
    (if v.raw() & SECONDARY != 0 {
        !hash
    } else {
        hash
    }) & (to.groups() - 1)
}

/// What came of a slot that was to be carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It is, or there was nothing to carry.
    Done,
    /// Its place is taken by another one's.
    Blocked,
    /// A stray, and the old table may still change.
    Stray,
    /// The entry was being changed at every look.
    Busy,
}

/// A table in use, and the one that is being filled from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rehash<'a, 'm> {
    pub(crate) old: &'a Table<'m>,
    pub(crate) new: &'a Table<'m>,
    pub(crate) regions: &'a Regions,
}

impl Rehash<'_, '_> {
    /// Carries what is in a slot over. `quiet`: the old table does not change any more.
    pub(crate) fn carry<M: Machine>(&self, machine: &M, slot: u64, quiet: bool) -> Carried {
        let Some(place) = self.old.slot_at(slot) else {
            return Carried::Done;
        };
        let (v, r) = match self.old.copy(place) {
            Copy::Entry { v, r, .. } if v.is_bolted() || is_vrma(v) => (v, r),
            Copy::Entry { .. } | Copy::Free => return Carried::Done,
            Copy::Busy => return Carried::Busy,
        };
        // It was found good when it was entered, and a partition's memory stays where it is.
        let Some(entry) = Entry::checked(v, r, self.regions) else {
            return Carried::Done;
        };
        let (from, number) = (slot / GROUP, slot % GROUP);
        let to = group(v, entry.size, from, self.new.order());
        if !quiet && group(v, entry.size, to, self.old.order()) != from {
            return Carried::Stray;
        }
        let place = self.new.slot_at(to * GROUP + number);
        let Some(claimed) = place.and_then(|place| place.claim()) else {
            return Carried::Blocked;
        };
        let _ = claimed.place(machine, entry);
        self.new.changed().mark(slot);
        Carried::Done
    }

    /// The slots of a word, of those in `slots`, that something has to be done about: what was carried from them is
    /// there, or what is in them is to be carried. Most entries are dropped, and dword 0 alone says so.
    pub(crate) fn worth(&self, word: u64, slots: u64) -> u64 {
        let mut worth = slots & self.new.changed().word(word);
        let first = index(word * WORD);
        let entries = self.old.entries().get(first..).unwrap_or_default();
        for bit in ones(slots & !worth) {
            if let Some([dword0, _]) = entries.get(index(bit)) {
                let seen = RealV::read(dword0.load(Ordering::Relaxed));
                if seen.is_locked() || seen.is_entry() && (seen.is_bolted() || may_be_vrma(seen)) {
                    worth |= 1 << bit;
                }
            }
        }
        worth
    }

    /// Whether something was carried over from a slot.
    pub(crate) fn is_source(&self, slot: u64) -> bool {
        self.new.changed().contains(slot)
    }

    /// How many places there are for an entry of one slot.
    pub(crate) fn places(&self) -> u64 {
        (self.new.order().groups() / self.old.order().groups()).max(1)
    }

    /// Takes what was carried over from a slot out again.
    pub(crate) fn drop_copy(&self, slot: u64) {
        if !self.is_source(slot) {
            return;
        }
        self.new.changed().clear(slot);
        let (from, number) = (slot / GROUP, slot % GROUP);
        let lowest = from & (self.new.order().groups() - 1);
        for place in 0..self.places() {
            let to = lowest + place * self.old.order().groups();
            let at = to * GROUP + number;
            if !self.new.occupied().contains(at) {
                continue;
            }
            let Some(place) = self.new.slot_at(at) else {
                continue;
            };
            let Copy::Entry { v, r, .. } = self.new.copy(place) else {
                continue;
            };
            let size = PageSize::decode(v.raw(), r.raw());
            let is_copy = size.is_some_and(|size| group(v, size, to, self.old.order()) == from);
            if is_copy && let Some(locked) = place.lock() {
                locked.remove_unused();
                return;
            }
        }
    }
}

/// Empties a word of slots, and with the first word of a block its marks, of a table that is not in use, whatever
/// order it had; how many entries there were. A slot that is not occupied is zero already.
pub(crate) fn wipe(table: &Table<'_>, word: u64) -> u64 {
    if word.is_multiple_of(WORD) {
        let _ = table.changed().take(word / WORD, |_, _| {});
        if table.unsettled().take(word / WORD, |_, _| {}) {
            table.count_unsettled(-1);
        }
    }
    let occupied = table.occupied().word(word);
    if occupied == 0 {
        return 0;
    }
    let dwords = index(2 * word * WORD)..index(2 * (word + 1) * WORD);
    let (entries, _) = table.hpt().get(dwords).unwrap_or_default().as_chunks();
    for bit in ones(occupied) {
        if let Some([dword0, dword1]) = entries.get(index(bit)) {
            dword1.store(0, Ordering::Relaxed);
            dword0.store(0, Ordering::Relaxed);
        }
    }
    table.occupied().release_word(word);
    u64::from(occupied.count_ones())
}
