//! The resize of a partition's table (LoPAR, hash page table resize option): what is pending, and how far it is.
//!
//! ```text
//! none --prepare--> Emptying --> Following --> Ready --commit--> none, on the new table
//!  ^                    \------------\-----------\---- cancelled, another prepare, reset, a collision
//! ```
//!
//! The pending table stands in the spare area, which holds what was left there the last time. Each
//! H_RESIZE_HPT_PREPARE does a piece of the work: it empties the area, then follows the table in use as a reader
//! of its own and carries its bolted entries over ([`crate::table::resize`]). It is ready when all were seen once
//! and, in one more lap, what changed meanwhile. The partition goes on all the time; what changes after that is
//! the commit's. The commit does all that is left in one call, with the partition held.
//!
//! # Orderings of the commit
//! The partition is held, so nothing changes its table any more but R and C; no reader is in use, and none can be
//! taken into use; the LPID is flushed, so R and C are final. *Then* R and C are looked at, whatever is left is
//! carried, the spare table becomes the one in use, the table has another generation, and the LPID is flushed
//! again. The board has the processor walk the new table before any vCPU is entered again.
//!
//! # Which answers
//! The order of checks is LoPAR's. QEMU and KVM look at flags and shift first and answer H_PARAMETER for bad
//! flags of a commit, too (here H_CLOSED, as LoPAR has it), and leave a pending resize alone that a bad prepare
//! would discard by LoPAR. Two bolted entries that want one slot are H_PTEG_FULL: of a prepare when it is ready
//! but for that, and the next prepare looks again; of a commit for good. That discards the pending table, as QEMU
//! and KVM do and as LoPAR lets a platform do at any time; the table in use goes on as it was. A partition
//! without a spare area is answered H_RESOURCE, as one that asks for more than it has: it may ask.

use super::Partition;
use crate::addr::Lpid;
use crate::arch::Machine;
use crate::hcall::abi::{OpenFlags, Status};
use crate::stream::Budget;
use crate::stream::follower::follow;
use crate::stream::readers::InUse;
use crate::sync::Mutex;
use crate::table::bitmap::{BLOCK, WORD, ones};
use crate::table::resize::{Carried, Rehash, wipe};
use crate::table::{Order, Table};

/// Prepares that say that they are not done, at most: who changes its table faster than it is followed gets no
/// further. Linux gives up when it was told to sleep for ten seconds in all; what is not done by then is the commit's,
/// all of whose time the partition stands still.
const PATIENCE: u32 = 1024;
/// An entry is looked for in as many places in a call of a prepare, at most.
const PLACES: u64 = 1024;

// Work, in about instructions: to empty a word of slots, and an entry in it; to look at a slot; to carry an entry; to look
// into one of the places where a copy can be.
const WIPE_WORK: u64 = 16;
const ENTRY_WORK: u64 = 10;
const LOOK_WORK: u64 = 60;
const CARRY_WORK: u64 = 300;
const PLACE_WORK: u64 = 8;

/// Who commits a resize.
pub(crate) struct Committer<'c, M: Machine> {
    /// The processors.
    pub(crate) machine: &'c M,
    /// The partition's vCPU; none: another partition does it, while this one does not run.
    pub(crate) vcpu: Option<usize>,
    /// The CPU that it is on.
    pub(crate) cpu: usize,
    /// What is done while other CPUs are waited for.
    pub(crate) meanwhile: &'c dyn Fn(),
}

/// The pending resize of one partition.
#[derive(Debug)]
pub struct Resize(Mutex<Option<Pending>>);

/// A resize under way.
#[derive(Debug)]
struct Pending {
    order: Order,
    step: Step,
    /// Its reader slot and the serial of its use; none: there was no slot free, so the commit does it all.
    reader: Option<(usize, u64)>,
    /// Prepares that said that they were not done.
    unfinished: u32,
    lap: Lap,
    /// Whether entries were blocked in the last lap.
    blocked: bool,
}

/// What happened in the lap that is being made.
#[derive(Clone, Copy, Debug, Default)]
struct Lap {
    /// An entry found its place taken.
    blocked: bool,
    /// A place became free.
    freed: bool,
    /// Prepares that it took.
    pieces: u32,
}

/// How far a pending resize is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The area is empty up to this word of slots.
    Emptying(u64),
    /// Laps over the table in use that are still to be made.
    Following(u32),
    /// The commit may come.
    Ready,
}

/// Laps of a prepare: all, and what changed meanwhile.
const LAPS: u32 = 2;

impl Default for Resize {
    fn default() -> Self {
        Self::new()
    }
}

impl Resize {
    /// Nothing is pending.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }
}

impl Partition<'_> {
    /// H_RESIZE_HPT_PREPARE.
    pub(crate) fn prepare_resize<M: Machine>(&self, machine: &M, flags: u64, shift: u64) -> Status {
        let Some(mut pending) = self.resize().0.try_lock() else {
            // Another vCPU does a piece of the work.
            return Status::LongBusyOrder1Msec;
        };
        if let Some(resize) = pending.as_mut().filter(|resize| resize.is(flags, shift)) {
            return match self.work(machine, resize) {
                Ok(status) => status,
                Err(status) => {
                    self.discard(pending.take());
                    status
                }
            };
        }
        self.discard(pending.take());
        if flags != 0 {
            return Status::Parameter;
        }
        if shift == 0 {
            return Status::Success;
        }
        let Some(order) = u32::try_from(shift).ok().and_then(Order::new) else {
            return Status::Parameter;
        };
        let spare = self.tables().spare();
        if spare.is_none_or(|spare| spare.capacity() < order) {
            return Status::Resource;
        }
        *pending = Some(Pending {
            order,
            step: Step::Emptying(0),
            reader: None,
            unfinished: 0,
            lap: Lap::default(),
            blocked: false,
        });
        Status::LongBusyOrder100Msec
    }

    /// H_RESIZE_HPT_COMMIT. With H_SUCCESS the partition has another table.
    pub(crate) fn commit_resize<M: Machine>(
        &self,
        by: &Committer<'_, M>,
        flags: u64,
        shift: u64,
    ) -> Status {
        let Some(mut pending) = self.resize().0.try_lock() else {
            return Status::Busy;
        };
        let Some(resize) = pending.as_mut().filter(|resize| resize.is(flags, shift)) else {
            return Status::Closed;
        };
        if resize.step != Step::Ready {
            return Status::Busy;
        }
        let held = self.control().hold(by.machine, by.vcpu, by.meanwhile);
        let Some(held) = held else {
            return Status::Busy;
        };
        let result = self.finish(by, resize);
        if result.is_ok() {
            held.renew();
        }
        self.discard(pending.take());
        result.into()
    }

    /// Gives up what is pending: the table is being reset.
    pub(super) fn cancel_resize(&self) {
        let pending = self.resize().0.lock().take();
        self.discard(pending);
    }

    /// Closes the reader of a resize that is over.
    fn discard(&self, resize: Option<Pending>) {
        if let Some((slot, serial)) = resize.and_then(|resize| resize.reader) {
            let _ = self
                .readers()
                .close(self.tables(), slot, serial, Lpid::HYPERVISOR);
        }
    }

    /// The two tables of a resize.
    fn rehash(&self) -> Result<Rehash<'_, '_>, Status> {
        Ok(Rehash {
            old: self.tables().current(),
            new: self.tables().spare().ok_or(Status::Resource)?,
            regions: &self.description().regions,
        })
    }

    /// Does a piece of the work of a prepare; what it is answered with.
    fn work<M: Machine>(&self, machine: &M, resize: &mut Pending) -> Result<Status, Status> {
        let rehash = self.rehash()?;
        let mut budget = Budget::of_a_call();
        if let Step::Emptying(block) = resize.step {
            resize.step = empty(rehash.new, block, &mut budget);
            if let Step::Following(_) = resize.step {
                rehash.new.set_order(resize.order);
                resize.reader = self.open_follower();
                if resize.reader.is_none() {
                    resize.step = Step::Ready;
                }
            }
        }
        if let Some(reader) = resize.follower(self)? {
            let lap = &mut resize.lap;
            lap.pieces += 1;
            let worth = |word, slots| rehash.worth(word, slots);
            let over = follow(rehash.old, &reader, &mut budget, worth, |slot, budget| {
                carry_again(&rehash, machine, slot, budget, lap) == Carried::Done
            });
            if over {
                resize.end_lap();
            }
        }
        if resize.step != Step::Ready {
            resize.unfinished += 1;
            if resize.unfinished < PATIENCE {
                return Ok(Status::LongBusyOrder1Msec);
            }
            resize.step = Step::Ready;
        }
        Ok(if resize.blocked {
            Status::PtegFull
        } else {
            Status::Success
        })
    }

    /// Opens the reader of a resize, if there is a slot that its partition could have.
    fn open_follower(&self) -> Option<(usize, u64)> {
        let spare = Self::reserved_readers(self.description().privileges);
        let generation = self.control().generation();
        let (owner, flags) = (Lpid::HYPERVISOR, OpenFlags::empty());
        self.readers()
            .open(self.tables(), owner, generation, flags, 0, spare)
            .ok()
    }

    /// Does all that is left, and makes the new table the one in use. On an error the old one is.
    fn finish<M: Machine>(
        &self,
        by: &Committer<'_, M>,
        resize: &mut Pending,
    ) -> Result<(), Status> {
        let machine = by.machine;
        let forget = || {
            let lpid = self.description().lpid;
            self.control()
                .forget_now(machine, lpid, by.cpu, by.meanwhile);
        };
        let reader = resize.follower(self)?;
        let suspended = self.readers().suspend(reader.as_ref());
        forget();
        let rehash = self.rehash()?;
        let is_full = match &reader {
            Some(reader) => carry_rest(&rehash, machine, reader),
            None => carry_all(&rehash, machine, resize.order),
        };
        if is_full {
            return Err(Status::PtegFull);
        }
        suspended.replace(self.tables());
        *self.clearing().lock() = 0;
        forget();
        Ok(())
    }
}

impl Pending {
    /// Whether a call means this one. There are no flags that a pending resize could have.
    fn is(&self, flags: u64, shift: u64) -> bool {
        flags == 0 && shift == u64::from(self.order.raw())
    }

    /// Its reader, taken into use. It was opened on the table in use, or the resize would have been discarded.
    fn follower<'p, 'm>(
        &self,
        partition: &'p Partition<'m>,
    ) -> Result<Option<InUse<'p, 'm>>, Status> {
        let generation = partition.control().generation();
        self.reader
            .map(|(slot, serial)| {
                let owner = Lpid::HYPERVISOR;
                partition.readers().enter(slot, serial, owner, generation)
            })
            .transpose()
            .map_err(Status::from)
    }

    fn end_lap(&mut self) {
        let lap = core::mem::take(&mut self.lap);
        // What became free may be what was wanted before that; and what changed in the middle of the lap may be
        // what was in the way at its beginning.
        self.blocked = lap.blocked && !lap.freed && lap.pieces == 1;
        self.step = match self.step {
            Step::Following(laps) if laps > 1 => Step::Following(laps - 1),
            _ if lap.blocked && !self.blocked => Step::Following(1),
            _ => Step::Ready,
        };
    }
}

/// Empties an area from a block on.
fn empty(table: &Table<'_>, from: u64, budget: &mut Budget) -> Step {
    for word in from..table.changed().blocks().end * WORD {
        if !budget.spend(WIPE_WORK) {
            return Step::Emptying(word);
        }
        let _ = budget.spend(wipe(table, word) * ENTRY_WORK);
    }
    Step::Following(LAPS)
}

/// Carries a slot that changed: what was carried from it is dropped first. While the old table may change.
fn carry_again<M: Machine>(
    rehash: &Rehash<'_, '_>,
    machine: &M,
    slot: u64,
    budget: &mut Budget,
    lap: &mut Lap,
) -> Carried {
    let _ = budget.spend(LOOK_WORK);
    if rehash.is_source(slot) {
        // A table that grows by that much: the commit finds it.
        if rehash.places() > PLACES {
            return Carried::Busy;
        }
        let _ = budget.spend(rehash.places() * PLACE_WORK);
        rehash.drop_copy(slot);
        lap.freed = true;
    }
    let carried = rehash.carry(machine, slot, false);
    if rehash.is_source(slot) {
        let _ = budget.spend(CARRY_WORK);
    }
    lap.blocked |= carried == Carried::Blocked;
    carried
}

/// Carries what the follower has not carried, or what changed since; whether two entries want one slot. The old
/// table does not change any more.
///
/// First everything that changed is dropped, then everything is carried: so a place that is taken is taken for
/// good, and no stray is there yet when a copy is looked for.
fn carry_rest<M: Machine>(rehash: &Rehash<'_, '_>, machine: &M, reader: &InUse<'_, '_>) -> bool {
    let old = rehash.old;
    let lap = |show: &mut dyn FnMut(u64) -> bool| {
        let budget = &mut Budget::unbounded();
        let worth = |word, slots| rehash.worth(word, slots);
        while !follow(old, reader, budget, worth, |slot, _| show(slot)) {}
    };
    // The rest of the lap that it is in, the first one perhaps.
    lap(&mut |slot| {
        rehash.drop_copy(slot);
        rehash.carry(machine, slot, false) == Carried::Done
    });
    mark_news(rehash);
    lap(&mut |slot| {
        rehash.drop_copy(slot);
        false
    });
    let mut full = false;
    lap(&mut |slot| {
        full |= rehash.carry(machine, slot, true) != Carried::Done;
        true
    });
    full
}

/// Carries everything into an area that may still have to be emptied; whether two entries want one slot.
fn carry_all<M: Machine>(rehash: &Rehash<'_, '_>, machine: &M, order: Order) -> bool {
    let _ = empty(rehash.new, 0, &mut Budget::unbounded());
    rehash.new.set_order(order);
    let old = rehash.old;
    (0..old.order().slots() / WORD).any(|word| {
        ones(rehash.worth(word, old.occupied().word(word)))
            .map(|bit| word * WORD + bit)
            .any(|slot| rehash.carry(machine, slot, true) != Carried::Done)
    })
}

/// Merges R and C that came after an entry was carried into the old table's guest view: a change like any other.
fn mark_news(rehash: &Rehash<'_, '_>) {
    let old = rehash.old;
    for block in 0..old.order().slots() / BLOCK {
        for word in ones(old.unsettled().block(block)).map(|word| block * WORD + word) {
            for slot in ones(old.unsettled().word(word)).map(|bit| word * WORD + bit) {
                let place = old.slot_at(slot);
                if let Some(place) = place.filter(|_| rehash.is_source(slot))
                    && old.harvest(place) == Some(true)
                {
                    place.changed().mark();
                }
            }
        }
    }
}
