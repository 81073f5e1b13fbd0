//! Slots of one word that are changed together: how a restore makes entries and takes them away.
//!
//! ```text
//! Batch --claim------> ClaimedBatch --place--> ChangedBatch --note
//! Batch --invalidate-> StaleBatch --tlb::flush_batch--> FlushedBatch --remove--> ChangedBatch --note
//! ```
//!
//! The protocol is a slot's ([`super::slot`]), and so are the orderings; each of its steps is made for all slots before the
//! next one begins. So there is one barrier where a slot has one for itself, and one atomic for the bits of a word.
//!
//! The partition does not run and nobody calls for it: who restores is the only one to make or remove entries. Readers do look
//! at the table, and merge R and C that they find.

use super::bitmap::{Bit, Mark, WORD, index, ones};
use super::hpt::Table;
use super::hpte::View;
use super::ready::Piece;
use super::slot::Slot;
use crate::addr::Lpid;
use crate::arch::Machine;
use crate::arch::arrays::{Run, WordSlots};
use crate::sync::{Ordering, fence};

/// Slots that follow each other in one word.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'t> {
    table: &'t Table<'t>,
    word: u64,
    slots: WordSlots<'t>,
    run: Run,
}

impl<'t> Batch<'t> {
    /// `count` slots from slot `first` on, as many of them as are in its word; none for none, or where the table's area has no
    /// such word.
    #[inline(always)]
    #[must_use]
    pub fn new(table: &'t Table<'t>, first: u64, count: u64) -> Option<Self> {
        let (word, bit) = (first / WORD, first % WORD);
        let run = Run::new(bit, count.min(WORD - bit))?;
        Some(Self {
            table,
            word,
            slots: table.word(word)?,
            run,
        })
    }

    /// Its first `count` slots; none if it has not as many, or for none.
    #[inline(always)]
    #[must_use]
    pub const fn start(self, count: u64) -> Option<Self> {
        match self.run.start(count) {
            Some(run) => Some(Self { run, ..self }),
            None => None,
        }
    }

    /// How many slots.
    #[inline(always)]
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.run.length()
    }

    /// Those that are occupied.
    #[inline(always)]
    #[must_use]
    pub fn occupied(&self) -> Occupied<'t> {
        Occupied(Subset {
            table: self.table,
            word: self.word,
            slots: self.run.mask() & self.slots.occupied().load(Ordering::Relaxed),
        })
    }

    /// Claims the slots; none if not all are free.
    #[inline(always)]
    #[must_use]
    pub fn claim(self) -> Option<ClaimedBatch<'t>> {
        Bit::claim_all(self.slots.occupied(), self.run.mask()).then_some(ClaimedBatch(self))
    }

    #[inline(always)]
    const fn changed(self) -> ChangedBatch<'t> {
        ChangedBatch(Subset {
            table: self.table,
            word: self.word,
            slots: self.run.mask(),
        })
    }
}

/// Some slots of one word.
#[derive(Clone, Copy, Debug)]
struct Subset<'t> {
    table: &'t Table<'t>,
    word: u64,
    /// A bit for each.
    slots: u64,
}

/// Slots of one word that have entries, or are claimed.
#[derive(Clone, Copy, Debug)]
pub struct Occupied<'t>(Subset<'t>);

impl<'t> Occupied<'t> {
    /// The partition that the table translates for.
    #[inline(always)]
    #[must_use]
    pub const fn lpid(self) -> Lpid {
        self.0.table.lpid()
    }

    /// Whether there are none.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.slots == 0
    }

    /// How many there are.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0.slots.count_ones() as u64
    }

    /// Takes the entries in the slots away from hardware. They stay locked and owe a `tlbie` each; one that hardware never
    /// used owes none.
    pub fn invalidate(self) -> StaleBatch<'t> {
        let Self(Subset { table, word, slots }) = self;
        let mut stale = StaleBatch {
            entries: Subset {
                table,
                word,
                slots: 0,
            },
            operands: heapless::Vec::new(),
        };
        for bit in ones(slots) {
            let slot = table.slot_at(word * WORD + bit);
            let Some(locked) = slot.and_then(Slot::lock) else {
                continue;
            };
            stale.entries.slots |= 1 << bit;
            let operand = locked.invalidate_in_batch();
            // There is room for each slot of a word.
            let _ = operand.map(|operand| stale.operands.push(operand));
        }
        stale
    }
}

/// Slots whose bits in `occupied` are ours.
#[derive(Debug)]
#[must_use = "claimed slots are lost until they are published"]
pub struct ClaimedBatch<'t>(Batch<'t>);

impl<'t> ClaimedBatch<'t> {
    /// Makes the entries of `piece`, of which there is one for each slot, the slots' entries.
    ///
    /// What dword 0 gives access to is stored for all of them before the first dword 0 is: one barrier stands between.
    #[inline(always)]
    pub fn place<M: Machine>(self, machine: &M, piece: Piece<'_>) -> ChangedBatch<'t> {
        let Self(batch) = self;
        let Batch { slots, run, .. } = batch;
        batch.table.unsettle(batch.word, piece.unsettled);
        for (([_, dword1], view), entry) in slots.run(run).zip(piece.entries) {
            view.store(entry.view.raw(), Ordering::Relaxed);
            dword1.store(entry.r.raw(), Ordering::Relaxed);
        }
        fence(Ordering::Release);
        machine.eieio();
        for (([dword0, _], _), entry) in slots.run(run).zip(piece.entries) {
            dword0.store(entry.v.raw(), Ordering::Relaxed);
        }
        machine.ptesync();
        if let Some(shift) = piece.vrma
            && batch.table.vrma_shift().is_none()
        {
            batch.table.set_vrma_shift(Some(shift));
        }
        batch.changed()
    }
}

/// Entries whose VALID is cleared, and that are locked. They owe their `tlbie`.
#[derive(Debug)]
#[must_use = "stale entries must be flushed: translations of them live on"]
pub struct StaleBatch<'t> {
    entries: Subset<'t>,
    /// RB for each that hardware may have used.
    operands: heapless::Vec<u64, { index(WORD) }>,
}

impl<'t> StaleBatch<'t> {
    /// RB of each `tlbie` that is owed.
    #[inline]
    #[must_use]
    pub fn operands(&self) -> &[u64] {
        &self.operands
    }

    /// Called by `tlb` alone, after the sequence.
    #[inline]
    pub(super) fn flushed(self) -> FlushedBatch<'t> {
        FlushedBatch(self.entries)
    }
}

/// Entries that no processor uses any more, still locked.
#[derive(Debug)]
#[must_use = "the slots stay locked until the entries are removed"]
pub struct FlushedBatch<'t>(Subset<'t>);

impl<'t> FlushedBatch<'t> {
    /// Frees the slots.
    pub fn remove(self) -> ChangedBatch<'t> {
        let Self(emptied) = self;
        let Subset { table, word, slots } = emptied;
        let Some(entries) = table.word(word) else {
            return ChangedBatch(emptied);
        };
        let mut unsettled = 0;
        for bit in ones(slots) {
            let ([_, dword1], view) = entries.slot(bit);
            if View::read(view.load(Ordering::Relaxed)).is_unsettled() {
                unsettled |= 1 << bit;
            }
            dword1.store(0, Ordering::Relaxed);
        }
        table.settle(word, unsettled);
        fence(Ordering::Release);
        for bit in ones(slots) {
            let ([dword0, _], _) = entries.slot(bit);
            dword0.store(0, Ordering::Relaxed);
        }
        entries.occupied().fetch_and(!slots, Ordering::Release);
        ChangedBatch(emptied)
    }
}

/// Slots that were modified, for everybody to see; readers are still to be told. A full barrier stands between what
/// locked or published the entries and the making of this, as with [`super::slot::Changed`].
#[derive(Clone, Copy, Debug)]
#[must_use = "readers miss a change that is not noted before the call returns"]
pub struct ChangedBatch<'t>(Subset<'t>);

impl ChangedBatch<'_> {
    /// Notes the changes, if anyone reads; whether anyone does.
    #[inline(always)]
    pub fn note(self) -> bool {
        let Self(Subset { table, word, slots }) = self;
        let is_due = table.is_read();
        if is_due && table.changed().some(word, slots).is_some_and(Mark::set) {
            table.touch(word);
        }
        is_due
    }
}
