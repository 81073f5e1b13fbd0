//! A slot of the table as a typestate: the only way an entry is made, changed or removed.
//!
//! ```text
//! Slot --claim--> Claimed --publish--> (entry)
//! Slot --lock---> Locked --invalidate--> Stale --tlb::flush--> Flushed --remove---> (free)
//!                   |                                            |------republish-> (entry)
//!                   |                                            |------clear_c---> (entry)
//!                   |                                            \------restore---> (entry)
//!                   |--clear_r--> Unreferenced --tlb::flush_live--> (entry)
//!                   |--remove_absent--> (free)      an entry that hardware never used owes no tlbie
//!                   \--set_view-------> (entry)
//! ```
//!
//! A [`Stale`] owes a `tlbie` and can do nothing but be flushed; only a [`Flushed`] has final R and C, so C is
//! cleared there alone. R may be cleared in an entry that hardware goes on using, by a store of its byte
//! ([`Locked::clear_r`]): what comes of that is an [`Unreferenced`], which can do nothing but be flushed
//! either. There is no way round. Each way to an entry or a free slot, but that of an entry given back as it was, ends in
//! a [`Changed`], which is to be noted for the readers.
//!
//! # Orderings (DESIGN section 5)
//! * Publish: `occupied` claimed; `unsettled` if due; guest view; dword 1; `eieio`; dword 0; `ptesync`.
//! * Invalidate: lock; store barrier; VALID cleared; `ptesync; tlbie; eieio; tlbsync; ptesync`; R and C read
//!   for good; guest view; both dwords zero; `occupied` released last.
//! * Reset R: lock; `unsettled`; guest view; `eieio`; the byte; `ptesync; tlbie; eieio; tlbsync; ptesync`; an
//!   R or C that hardware sets from the byte store on is news that `unsettled` says will come.
//! * HVLOCK is taken only on a dword 0 that shows VALID or ABSENT.

use super::bitmap::{Bit, Mark, WORD};
use super::block::Block;
use super::hpt::Table;
use super::hpte::{GuestR, GuestV, HVLOCK, RealR, RealV, SettledR, VALID, View};
use super::page_size::PageSize;
use super::ready;
use super::tlb;
use crate::addr::{HostReal, Ptex};
use crate::arch::Machine;
use crate::arch::arrays::Place;
use crate::memory::{Backing, Regions};
use crate::sync::{BeDword, Ordering, fence};

/// The byte of dword 1 that R is in, counted as it lies in memory.
const R_BYTE: usize = 6;

/// A slot, in whatever state.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'t> {
    pub(super) table: &'t Table<'t>,
    pub(super) place: Place<'t>,
}

/// An entry to be published.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Dword 0 as the guest gave it.
    pub v: GuestV,
    /// Dword 1 as the guest gave it.
    pub r: GuestR,
    /// Its page sizes.
    pub size: PageSize,
    /// The memory behind it; without, the entry is absent.
    pub page: Option<HostReal>,
}

impl Entry {
    /// The entry that these dwords make in a partition with these regions; none if B is reserved, the
    /// page-size encoding is not one, or the page begins in memory and does not fit there.
    #[inline]
    #[must_use]
    pub fn checked(v: GuestV, r: GuestR, regions: &Regions) -> Option<Self> {
        v.segment_size()?;
        let size = PageSize::decode(v.raw(), r.raw())?;
        let page = match regions.page(r.page(size), size.bytes()) {
            Backing::Memory(page) => Some(page),
            Backing::Absent => None,
            Backing::Misfit => return None,
        };
        Some(Self { v, r, size, page })
    }
}

/// An entry that hardware has nothing to add to ([`SettledR`]).
#[derive(Clone, Copy, Debug)]
pub struct Settled(Entry);

impl Settled {
    /// As [`Entry::checked`].
    #[inline]
    #[must_use]
    pub fn checked(v: GuestV, r: SettledR, regions: &Regions) -> Option<Self> {
        Entry::checked(v, r.guest(), regions).map(Self)
    }
}

impl<'t> Slot<'t> {
    /// Its number.
    #[inline]
    #[must_use]
    pub const fn ptex(self) -> Ptex {
        Ptex::new(self.place.number())
    }

    #[inline(always)]
    pub(super) fn dword0(self) -> &'t BeDword {
        self.place.dword0()
    }

    #[inline(always)]
    pub(super) fn dword1(self) -> &'t BeDword {
        self.place.dword1()
    }

    /// The guest view, if the slot has an entry.
    #[inline(always)]
    pub(super) fn view(self) -> View {
        View::read(self.place.view().load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn occupied(self) -> Bit<'t> {
        Bit::new(self.place.occupied(), self.place.number())
    }

    #[inline(always)]
    fn unsettled(self) -> Mark<'t> {
        Mark::new(self.place.unsettled(), self.place.number())
    }

    /// Claims the slot, if it is free.
    #[inline(always)]
    #[must_use]
    pub fn claim(self) -> Option<Claimed<'t>> {
        self.occupied().claim().then_some(Claimed(self))
    }

    /// The first free slot of the PTEG that this one is in. The occupied bitmap says which are free; that a bit
    /// is being set or cleared at this moment reads as a full group, as if the call had come earlier or later.
    #[inline(always)]
    #[must_use]
    pub fn free_in_group(self) -> Option<Self> {
        let first = self.place.number() & !7;
        let occupied = self.place.occupied().load(Ordering::Relaxed) >> (first % WORD) & 0xff;
        let free = u64::from((!occupied).trailing_zeros());
        (free < 8).then(|| Self {
            place: self.place.in_group(free),
            ..self
        })
    }

    /// A change of the slot, of which readers are to be told.
    #[inline(always)]
    pub fn changed(self) -> Changed<'t> {
        Changed {
            table: self.table,
            number: self.place.number(),
        }
    }

    /// Locks the entry in the slot; waits while another holds the lock. None if there is no entry.
    #[inline]
    #[must_use]
    pub fn lock(self) -> Option<Locked<'t>> {
        loop {
            match self.try_lock() {
                Some(answer) => return answer,
                None => crate::arch::relax(),
            }
        }
    }

    /// Locks the entry in the slot. `Some(None)`: there is no entry. `None`: another holds the lock.
    #[inline]
    #[must_use]
    pub fn try_lock(self) -> Option<Option<Locked<'t>>> {
        loop {
            let v = RealV::read(self.dword0().load(Ordering::Relaxed));
            if v.is_locked() {
                return None;
            }
            if !v.is_entry() {
                return Some(None);
            }
            if self.dword0().try_replace(v.raw(), v.raw() | HVLOCK) {
                // Acquire for what the last holder stored; release so that what this holder stores (the
                // guest view first of all) is not seen before the lock.
                fence(Ordering::AcqRel);
                // B may stand in dword 1, where nobody but the holder changes it.
                let real = RealR::read(self.dword1().load(Ordering::Relaxed));
                let entry = self.table.layout().guest_v(v, real);
                return Some(Some(Locked {
                    slot: self,
                    v,
                    entry,
                }));
            }
        }
    }

    #[inline(always)]
    fn free(self) {
        self.dword1().store(0, Ordering::Relaxed);
        self.dword0().store(0, Ordering::Release);
        self.occupied().release();
    }

    /// Sets the state of `unsettled` for an entry that hardware may use from now on, or might have, and whose guest view was
    /// `was` and will be `view`; the latter as it is to be kept.
    #[inline(always)]
    fn settle(self, was: View, view: GuestR, usable: bool) -> View {
        let due = usable && !view.is_settled();
        if due != was.is_unsettled() {
            let blocks = if due {
                i64::from(self.unsettled().set())
            } else {
                self.unsettled().clear()
            };
            if blocks != 0 {
                self.table.count_unsettled(blocks);
            }
        }
        View::new(view, due)
    }

    #[inline(always)]
    fn set_view(self, view: View) {
        self.place.view().store(view.raw(), Ordering::Relaxed);
    }
}

/// A slot that was modified, for everybody to see; readers are still to be told.
///
/// A full barrier stands between the store that locked or published the entry and the making of this: the ptesync of the
/// flush, of the publication, or a fence of its own where neither is due.
#[derive(Clone, Copy, Debug)]
#[must_use = "readers miss a change that is not noted before the call returns"]
pub struct Changed<'t> {
    table: &'t Table<'t>,
    number: u64,
}

impl Changed<'_> {
    /// The slot's number.
    #[inline]
    #[must_use]
    pub const fn ptex(self) -> Ptex {
        Ptex::new(self.number)
    }

    /// Whether anyone reads.
    #[inline(always)]
    #[must_use]
    pub fn is_due(self) -> bool {
        self.table.is_read()
    }

    /// Notes the change, if anyone reads.
    #[inline(always)]
    pub fn note(self) {
        if self.is_due() {
            self.mark();
        }
    }

    /// Marks the slot as changed, whoever reads.
    #[inline]
    pub fn mark(self) {
        let mark = self.table.changed().at(self.number);
        if mark.is_some_and(Mark::set) {
            self.table.touch(self.number / WORD);
        }
    }
}

/// A slot whose bit in `occupied` is ours: nobody else touches it until it shows an entry.
#[derive(Debug)]
#[must_use = "a claimed slot is lost until it is published"]
pub struct Claimed<'t>(Slot<'t>);

impl<'t> Claimed<'t> {
    /// Makes `entry` the slot's entry, all but the `ptesync` that ends the sequence. Hardware may use the entry from here on.
    #[inline(always)]
    pub fn place<M: Machine>(self, machine: &M, entry: Entry) -> Slot<'t> {
        let none = View::new(entry.r, false);
        let view = self.0.settle(none, entry.r, entry.page.is_some());
        self.show(machine, &entry, view)
    }

    /// Makes `entry` the slot's entry.
    #[inline(always)]
    pub fn publish<M: Machine>(self, machine: &M, entry: Entry) -> Changed<'t> {
        let slot = self.place(machine, entry);
        machine.ptesync();
        slot.changed()
    }

    /// The same for one that hardware has nothing to add to.
    #[inline(always)]
    pub fn publish_settled<M: Machine>(self, machine: &M, entry: Settled) -> Changed<'t> {
        let Settled(entry) = entry;
        let slot = self.show(machine, &entry, View::new(entry.r, false));
        machine.ptesync();
        slot.changed()
    }

    #[inline(always)]
    fn show<M: Machine>(self, machine: &M, entry: &Entry, view: View) -> Slot<'t> {
        let Self(slot) = self;
        let (v, r) = ready::real(entry, slot.table.layout());
        slot.set_view(view);
        slot.dword1().store(r.raw(), Ordering::Relaxed);
        machine.eieio();
        slot.dword0().store(v.raw(), Ordering::Release);
        slot
    }
}

/// An entry that is ours to change. Dropped, it is as it was.
#[derive(Debug)]
#[must_use = "the entry stays locked until this is dropped"]
pub struct Locked<'t> {
    slot: Slot<'t>,
    /// Dword 0 as it stood unlocked.
    v: RealV,
    /// The same as the guest knows it.
    entry: GuestV,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.slot.dword0().store(self.v.raw(), Ordering::Release);
    }
}

impl<'t> Locked<'t> {
    /// Whether hardware may use the entry; else it is absent.
    #[inline]
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.v.is_valid()
    }

    /// Dword 0 as the guest knows it.
    #[inline]
    #[must_use]
    pub const fn v(&self) -> GuestV {
        self.entry
    }

    /// The guest view as it is now, without the R and C that hardware has set since it was last looked at.
    #[inline]
    #[must_use]
    pub fn view(&self) -> GuestR {
        self.slot.view().guest()
    }

    /// The guest view and the R and C that hardware has set by now.
    #[inline]
    #[must_use]
    pub fn view_with_rc(&self) -> GuestR {
        self.view().with(self.real().rc())
    }

    fn real(&self) -> RealR {
        RealR::read(self.slot.dword1().load(Ordering::Relaxed))
    }

    /// Merges R and C that hardware has set into the guest view; whether there were any. Hardware may go on
    /// using the entry.
    pub(super) fn harvest(self) -> bool {
        let was = self.slot.view();
        let rc = self.real().rc();
        if !self.v.is_valid() || !rc.is_news_to(was.guest()) {
            return false;
        }
        let view = self.slot.settle(was, was.guest().with(rc), true);
        self.slot.set_view(view);
        true
    }

    /// The block of virtual pages that the entry's page lies in.
    #[must_use]
    pub fn block(&self) -> Block {
        let entry = self.v();
        Block::of(
            entry,
            PageSize::of(entry.raw(), self.view().raw()),
            self.slot.ptex(),
        )
    }

    /// Clears R, which is set, in the guest view and in the entry that hardware uses. It stays valid and locked
    /// and owes a `tlbie`: only then will the next access set R again.
    #[inline]
    pub fn clear_r<M: Machine>(self, machine: &M) -> Unreferenced<'t> {
        let (slot, v) = (self.slot, self.v);
        let (entry, real) = (self.v(), self.real());
        let was = slot.view();
        let view = was.guest().with(real.rc()).unreferenced();
        core::mem::forget(self);
        slot.set_view(slot.settle(was, view, true));
        machine.eieio();
        machine.store_byte(slot.dword1(), R_BYTE, real.unreferenced_byte());
        Unreferenced {
            slot,
            v,
            operand: tlb::operand(entry, real, slot.ptex()),
        }
    }

    /// Takes the entry away from hardware, if hardware may have used it. It stays locked, and owes a `tlbie` with this RB;
    /// the batch that it is in sees to both.
    #[inline]
    #[must_use]
    pub(super) fn invalidate_in_batch(self) -> Option<u64> {
        if self.is_valid() {
            return Some(self.invalidate().operand);
        }
        core::mem::forget(self);
        None
    }

    /// Takes the entry away from hardware. It stays locked and owes a `tlbie`.
    #[inline]
    pub fn invalidate(self) -> Stale<'t> {
        let (slot, v) = (self.slot, self.v);
        let (entry, real) = (self.v(), self.real());
        core::mem::forget(self);
        slot.dword0()
            .store(v.raw() & !VALID | HVLOCK, Ordering::Relaxed);
        Stale {
            slot,
            v,
            entry,
            operand: tlb::operand(entry, real, slot.ptex()),
        }
    }

    /// Removes an entry that hardware never used, and gives what it was.
    #[inline(always)]
    pub fn remove_absent(self) -> (GuestR, Changed<'t>) {
        let (slot, view) = (self.slot, self.view());
        core::mem::forget(self);
        // There is no flush whose ptesync could stand between the lock and the look at `interest`.
        fence(Ordering::SeqCst);
        slot.free();
        (view, slot.changed())
    }

    /// Removes an entry of a table that hardware does not walk and nobody reads.
    pub(super) fn remove_unused(self) {
        let (slot, was) = (self.slot, self.slot.view());
        core::mem::forget(self);
        let _ = slot.settle(was, was.guest(), false);
        slot.free();
    }

    /// Gives an entry that hardware never used another guest view.
    #[inline(always)]
    pub fn set_view(self, view: GuestR) -> Changed<'t> {
        let slot = self.slot;
        slot.set_view(View::new(view, false));
        fence(Ordering::SeqCst);
        drop(self);
        slot.changed()
    }
}

/// An entry whose VALID is cleared while translations of it may live on in a TLB. It owes a `tlbie`.
#[derive(Debug)]
#[must_use = "a stale entry must be flushed: translations of it live on"]
pub struct Stale<'t> {
    slot: Slot<'t>,
    v: RealV,
    entry: GuestV,
    operand: u64,
}

impl<'t> Stale<'t> {
    /// RB of the tlbie it owes.
    #[inline]
    #[must_use]
    pub const fn operand(&self) -> u64 {
        self.operand
    }

    /// Called by `tlb` alone, after the sequence.
    #[inline]
    pub(super) fn flushed(self) -> Flushed<'t> {
        let real = RealR::read(self.slot.dword1().load(Ordering::Relaxed));
        let was = self.slot.view();
        Flushed {
            slot: self.slot,
            v: self.v,
            entry: self.entry,
            real,
            was,
            view: was.guest().with(real.rc()),
        }
    }
}

/// An entry whose R is cleared while a TLB may still hold that it is set. It owes a `tlbie`.
#[derive(Debug)]
#[must_use = "it must be flushed: R would not be set by the next access, and it stays locked"]
pub struct Unreferenced<'t> {
    slot: Slot<'t>,
    v: RealV,
    operand: u64,
}

impl<'t> Unreferenced<'t> {
    /// RB of the tlbie it owes.
    #[inline]
    #[must_use]
    pub const fn operand(&self) -> u64 {
        self.operand
    }

    /// Called by `tlb` alone, after the sequence: lets the entry go.
    #[inline(always)]
    pub(super) fn flushed(self) -> Changed<'t> {
        let Self { slot, v, .. } = self;
        slot.dword0().store(v.raw(), Ordering::Release);
        slot.changed()
    }
}

/// An entry that no processor uses any more: its R and C are final. Still locked.
#[derive(Debug)]
#[must_use = "the slot stays locked until the entry is removed or republished"]
pub struct Flushed<'t> {
    slot: Slot<'t>,
    v: RealV,
    entry: GuestV,
    real: RealR,
    /// The guest view as it is kept.
    was: View,
    /// The guest view with all R and C.
    view: GuestR,
}

impl<'t> Flushed<'t> {
    /// Its number.
    #[inline]
    #[must_use]
    pub const fn ptex(&self) -> Ptex {
        self.slot.ptex()
    }

    /// Dword 0 as the guest knew it.
    #[inline]
    #[must_use]
    pub const fn v(&self) -> GuestV {
        self.entry
    }

    /// Dword 1 as the guest knows it, R and C for good.
    #[inline]
    #[must_use]
    pub const fn view(&self) -> GuestR {
        self.view
    }

    /// Frees the slot; gives dword 1 as the guest knew it.
    #[inline(always)]
    pub fn remove(self) -> (GuestR, Changed<'t>) {
        let _ = self.slot.settle(self.was, self.view, false);
        self.slot.free();
        (self.view, self.slot.changed())
    }

    /// Gives the entry back to hardware with the protection of `view`. The real dword 1 is the old one as it stands
    /// after the flush, so no R or C is lost.
    #[inline(always)]
    pub fn republish<M: Machine>(self, machine: &M, view: GuestR) -> Changed<'t> {
        let real = self.real.protected_as(view);
        self.change(machine, view, real)
    }

    /// Gives the entry back to hardware without C.
    #[inline(always)]
    pub fn clear_c<M: Machine>(self, machine: &M) -> Changed<'t> {
        let (view, real) = (self.view.unchanged(), self.real.unchanged());
        self.change(machine, view, real)
    }

    /// Gives the entry back to hardware as it was. What hardware set in it meanwhile is still to be merged.
    #[inline]
    pub fn restore<M: Machine>(self, machine: &M) {
        self.slot.dword0().store(self.v.raw(), Ordering::Release);
        machine.ptesync();
    }

    /// Always inlined: else an H_PROTECT moves all that is known of the entry through memory.
    #[inline(always)]
    fn change<M: Machine>(self, machine: &M, view: GuestR, real: RealR) -> Changed<'t> {
        self.slot.set_view(self.slot.settle(self.was, view, true));
        self.slot.dword1().store(real.raw(), Ordering::Relaxed);
        machine.eieio();
        self.slot.dword0().store(self.v.raw(), Ordering::Release);
        machine.ptesync();
        self.slot.changed()
    }
}
