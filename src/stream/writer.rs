//! Restoring a table: records from a guest's buffer, applied in pieces.
//!
//! A piece is up to [`PIECE`] entries of one record, or a part of its invalid run. The entries of a piece are
//! read once into the writer's own memory, checked, and then applied whole: until the last of them has been
//! found good nothing of the piece is done. The writer remembers its place in a record that is longer than
//! the buffer.
//!
//! The partition does not run meanwhile (its control sees to that), so only readers look at the table; the
//! slot protocol holds for them as ever. What a piece overwrites or removes is flushed in one batch, and what it changes
//! is given to the readers before the next one: what is pending for each of them is exact while a partition is paused.
//!
//! What a good entry is follows KVM: VALID set, a page-size encoding that exists, B of 0 or 1, and a page
//! that lies wholly in the partition's memory or begins outside it (then the entry is absent and comes back
//! unchanged).

use super::record::Header;
use super::{Budget, Readers};
use crate::arch::Machine;
use crate::hcall::abi::{ENTRY, RECORD_HEADER};
use crate::memory::{GuestBuffer, Regions};
use crate::table::bitmap::{BLOCK, WORD, ones};
use crate::table::hpte::{GuestR, GuestV, VALID};
use crate::table::slot::{Entry, Slot, Stale};
use crate::table::{Table, tlb};

/// The most entries that are applied as one. (Fewer under loom, whose threads have stacks of 32 KiB.)
pub const PIECE: usize = if cfg!(loom) { 4 } else { 256 };

/// Work of one entry and of one word of an invalid run, in about instructions.
const ENTRY_WORK: u64 = 280;
const REMOVE_WORK: u64 = 240;
const WORD_WORK: u64 = 32;
const PIECE_WORK: u64 = 220;
/// Work of giving a block's changes to the readers.
const SHARE_WORK: u64 = 80;

/// The place in the stream, between two calls.
#[derive(Debug)]
pub struct Writer {
    /// The next slot.
    index: u64,
    /// Entries and then invalid slots that the record has left.
    valid: u64,
    invalid: u64,
    piece: heapless::Vec<Entry, PIECE>,
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the buffer that are applied.
    pub consumed: u64,
    /// What is wrong with what comes next, if that is why the call ended.
    pub refused: Option<BadPiece>,
}

/// What is wrong with a piece of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPiece {
    /// The record leaves the table; its index.
    Range(u64),
    /// The entry of this slot is not one that can be entered.
    Entry(u64),
}

impl BadPiece {
    /// The index of the first bad entry.
    #[must_use]
    pub const fn index(self) -> u64 {
        match self {
            Self::Range(index) | Self::Entry(index) => index,
        }
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A writer at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            index: 0,
            valid: 0,
            invalid: 0,
            piece: heapless::Vec::new(),
        }
    }

    /// Begins a new stream.
    pub fn restart(&mut self) {
        (self.index, self.valid, self.invalid) = (0, 0, 0);
        self.piece.clear();
    }

    /// Whether the stream stands inside a record.
    #[must_use]
    pub const fn is_inside_record(&self) -> bool {
        self.valid != 0 || self.invalid != 0
    }

    /// Applies what is in the buffer, as much of it as one call may.
    pub fn write<M: Machine>(
        &mut self,
        machine: &M,
        table: &Table<'_>,
        readers: &Readers<'_>,
        regions: &Regions,
        buffer: GuestBuffer,
    ) -> Written {
        let mut budget = Budget::of_a_call();
        let mut consumed = if self.is_inside_invalid_run() {
            RECORD_HEADER
        } else {
            0
        };
        let refused = loop {
            let from = self.index;
            if self.valid != 0 {
                match self.entries(machine, table, regions, buffer, &mut consumed, &mut budget) {
                    Ok(0) => break None,
                    Ok(_) => {}
                    Err(bad) => break Some(bad),
                }
            } else if self.invalid != 0 {
                if !self.invalidate(machine, table, &mut budget) {
                    break None;
                }
            } else {
                let Some(at) = buffer.dword(consumed) else {
                    break None;
                };
                if !budget.spend(WORD_WORK) {
                    break None;
                }
                let header = Header::from_dword(machine.load(at));
                let (index, valid, invalid) = (
                    u64::from(header.index),
                    u64::from(header.n_valid),
                    u64::from(header.n_invalid),
                );
                // An empty record past the end is one that leaves the table, too.
                if index >= table.order().slots() || index + valid + invalid > table.order().slots()
                {
                    break Some(BadPiece::Range(index));
                }
                (self.index, self.valid, self.invalid) = (index, valid, invalid);
                consumed += RECORD_HEADER;
                continue;
            }
            if table.is_read() {
                self.share_out(table, readers, from, &mut budget);
            }
        };
        if self.is_inside_invalid_run() {
            // There is work left, so there must be something to come again with: the doubleword before the
            // run counts as consumed when the run is done.
            consumed -= RECORD_HEADER;
        }
        Written { consumed, refused }
    }

    /// Gives the readers what was changed from slot `from` up to the next one.
    #[inline(never)]
    fn share_out(&self, table: &Table<'_>, readers: &Readers<'_>, from: u64, budget: &mut Budget) {
        for block in from / BLOCK..self.index.div_ceil(BLOCK) {
            if table.changed().block(block) != 0 {
                readers.share_out_block(table, block);
                let _ = budget.spend(SHARE_WORK);
            }
        }
    }

    /// Whether a call ended, or begins, between the entries of a record and the end of its invalid run.
    const fn is_inside_invalid_run(&self) -> bool {
        self.valid == 0 && self.invalid != 0
    }

    /// Applies one piece of entries; how many, 0 if the buffer or the work of a call is at its end.
    fn entries<M: Machine>(
        &mut self,
        machine: &M,
        table: &Table<'_>,
        regions: &Regions,
        buffer: GuestBuffer,
        consumed: &mut u64,
        budget: &mut Budget,
    ) -> Result<u64, BadPiece> {
        self.piece.clear();
        let limit = self.valid.min(PIECE as u64);
        for number in 0..limit {
            let at = *consumed + number * ENTRY;
            let Some((dword0, dword1)) = buffer.entry(at) else {
                break;
            };
            let overwrites = table.occupied().contains(self.index + number);
            let work = if overwrites {
                ENTRY_WORK + REMOVE_WORK
            } else {
                ENTRY_WORK
            };
            if !budget.spend(work) {
                break;
            }
            let (v, r) = (machine.load(dword0), machine.load(dword1));
            let entry = check(v, r, regions).ok_or(BadPiece::Entry(self.index + number))?;
            if self.piece.push(entry).is_err() {
                break;
            }
        }
        let count = self.piece.len() as u64;
        let _ = budget.spend(PIECE_WORK);
        remove(machine, table, self.index..self.index + count);
        let slots = self.index..self.index + count;
        let places = slots.clone().map(|slot| table.slot_at(slot));
        for (place, &entry) in places.zip(&self.piece) {
            // The slot was emptied and the partition does not run: the claim succeeds.
            if let Some(claimed) = place.and_then(|place| place.claim()) {
                let slot = claimed.place(machine, entry);
                table.note_restored(slot.ptex(), &entry);
            }
        }
        machine.ptesync();
        for slot in slots.filter_map(|slot| table.slot_at(slot)) {
            slot.changed().note();
        }
        *consumed += count * ENTRY;
        self.index += count;
        self.valid -= count;
        Ok(count)
    }

    /// Applies a part of the invalid run; whether there was work left to do it with.
    fn invalidate<M: Machine>(
        &mut self,
        machine: &M,
        table: &Table<'_>,
        budget: &mut Budget,
    ) -> bool {
        let word = self.index / WORD;
        let end = ((word + 1) * WORD).min(self.index + self.invalid);
        let within = |slot: u64| self.index <= slot && slot < end;
        let occupied = ones(table.occupied().word(word))
            .filter(|bit| within(word * WORD + bit))
            .count();
        if !budget.spend(WORD_WORK + occupied as u64 * REMOVE_WORK) {
            return false;
        }
        if occupied != 0 {
            remove(machine, table, self.index..end);
        }
        self.invalid -= end - self.index;
        self.index = end;
        true
    }
}

/// An entry of a stream, if it is one that can be entered.
#[inline]
fn check(v: u64, r: u64, regions: &Regions) -> Option<Entry> {
    if v & VALID == 0 {
        return None;
    }
    Entry::checked(GuestV::entered(v), GuestR::entered(r), regions)
}

/// The slots of a range that are occupied.
fn occupied<'a>(
    table: &'a Table<'_>,
    slots: core::ops::Range<u64>,
) -> impl Iterator<Item = Slot<'a>> + 'a {
    (slots.start / WORD..slots.end.div_ceil(WORD)).flat_map(move |word| {
        let slots = slots.clone();
        let all = ones(table.occupied().word(word)).map(move |bit| word * WORD + bit);
        all.filter(move |slot| slots.contains(slot))
            .filter_map(|slot| table.slot_at(slot))
    })
}

/// Empties the slots: at most [`PIECE`] entries, flushed in one batch.
fn remove<M: Machine>(machine: &M, table: &Table<'_>, slots: core::ops::Range<u64>) {
    let mut batch: heapless::Vec<Stale<'_>, PIECE> = heapless::Vec::new();
    for slot in occupied(table, slots) {
        let Some(locked) = slot.lock() else {
            continue;
        };
        if !locked.is_valid() {
            locked.remove_absent().1.note();
            continue;
        }
        if let Err(stale) = batch.push(locked.invalidate()) {
            // A range longer than a piece: flush what is full by itself.
            let flushed = tlb::flush_one(machine, table.lpid(), stale);
            flushed.remove().1.note();
        }
    }
    if !batch.is_empty() {
        tlb::flush(machine, table.lpid(), &mut batch, |flushed| {
            flushed.remove().1.note();
        });
    }
}
