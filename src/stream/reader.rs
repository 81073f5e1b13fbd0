//! One read of the stream: the next records of a pass into a guest's buffer.
//!
//! The first pass walks the occupied bitmap: an invalid run costs its words, not its slots, and only entries
//! are looked at. A later pass takes the reader's own marks, after it has merged into the guest view what
//! hardware has set (R, C) in the entries that are not settled: that merge is a change like any other.
//!
//! # Orderings
//! * First pass: the block's marks are taken and `kept` is moved before its entries are read.
//! * Later pass: marks are taken before the entries they are about are read, so a change after that marks
//!   again.
//! * What was taken and did not fit, or could not be read (its entry was being changed at every try), is put
//!   back before the call returns: a guest cannot hold a reader, and nothing is lost.

use super::Budget;
use super::readers::{InUse, Taken};
use super::record::Encoder;
use crate::arch::Machine;
use crate::hcall::abi::ReadFlags;
use crate::memory::GuestBuffer;
use crate::table::Table;
use crate::table::bitmap::{BLOCK, WORD, index, ones};
use crate::table::hpt::Copy;
use crate::table::slot::Slot;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bytes of whole records in the buffer.
    pub bytes: u64,
    /// The pass that they belong to, from 1.
    pub pass: u64,
    /// Whether the pass is over, and clean.
    pub flags: ReadFlags,
    /// Slots that the reader has still to be told about, as far as is known: exact for a paused partition.
    pub pending: u64,
}

// Work, in about the instructions that it takes: to begin a block, to pass one in a row that has nothing, to
// take up a word of a bitmap, a run of entries, each entry of a run, and a slot by itself; to look at an entry
// that is not settled; to share out a word of marks; and to merge an entry's R and C.
const BLOCK_WORK: u64 = 24;
const IDLE_WORK: u64 = 8;
const WORD_WORK: u64 = 40;
const ENTRY_WORK: u64 = 54;
const SLOT_WORK: u64 = 200;
const RUN_WORK: u64 = 120;
const UNSETTLED_WORK: u64 = 70;
const SHARE_WORK: u64 = 100;
const HARVEST_WORK: u64 = 160;

/// Slots from which on a run is worth the longer way to its shorter loop.
const LONG_RUN: u64 = 4;

/// Blocks that are skipped at once, at most, where there is nothing to look at.
const IDLE: u64 = 1024;

/// Reads the next records of the pass that the reader is in.
#[must_use]
pub fn read<M: Machine>(
    machine: &M,
    table: &Table<'_>,
    reader: &InUse<'_, '_>,
    buffer: GuestBuffer,
) -> Read {
    let (mut cursor, bolted_only, first) =
        reader.with(|reader| (reader.cursor, reader.bolted_only, reader.is_first_pass()));
    let slots = table.order().slots();
    let mut pass = Pass {
        table,
        reader,
        encoder: Encoder::new(machine, buffer),
        budget: Budget::of_a_call(),
        bolted_only,
        missed: false,
    };
    while cursor < slots {
        let reached = if first {
            pass.first(cursor, (cursor / BLOCK + 1) * BLOCK)
        } else {
            pass.later(cursor)
        };
        cursor = reached.unwrap_or_else(|stopped| stopped);
        if reached.is_err() {
            break;
        }
    }
    let missed = pass.missed;
    let bytes = pass.encoder.finish();
    reader.with(|reader| {
        reader.cursor = cursor;
        reader.found |= bytes != 0 || missed;
    });
    let conclusion = reader.conclude(table);
    let mut flags = ReadFlags::empty();
    flags.set(ReadFlags::END_OF_PASS, conclusion.ended);
    flags.set(ReadFlags::CLEAN, conclusion.clean);
    Read {
        bytes,
        pass: conclusion.pass,
        flags,
        pending: conclusion.pending,
    }
}

struct Pass<'a, 'r, 'm, M: Machine> {
    table: &'a Table<'a>,
    reader: &'a InUse<'r, 'm>,
    encoder: Encoder<'a, M>,
    budget: Budget,
    bolted_only: bool,
    /// An entry could not be looked at: the pass is not clean, whatever it found.
    missed: bool,
}

/// Where a call goes on: at the end of the block, or where it has to stop.
type Reached = Result<u64, u64>;

impl<'a, M: Machine> Pass<'a, '_, '_, M> {
    fn slot(&self, slot: u64) -> Option<Slot<'a>> {
        self.table.slot_at(slot)
    }

    /// The rest of a block in the first pass.
    fn first(&mut self, cursor: u64, end: u64) -> Reached {
        if !self.budget.spend(BLOCK_WORK) {
            return Err(cursor);
        }
        let shared_out = self.reader.enter_block(self.table, cursor);
        let _ = self.budget.spend(shared_out * SHARE_WORK);
        let reached = self.entries_and_runs(cursor, end);
        self.reader
            .leave_block(reached.unwrap_or_else(|stopped| stopped));
        reached
    }

    fn entries_and_runs(&mut self, mut cursor: u64, end: u64) -> Reached {
        while cursor < end {
            if !self.budget.spend(WORD_WORK) {
                return Err(cursor);
            }
            let word = cursor / WORD;
            let end = (word + 1) * WORD;
            let mut occupied = self.table.occupied().word(word) >> (cursor % WORD);
            loop {
                let run = u64::from(occupied.trailing_zeros()).min(end - cursor);
                if run != 0 {
                    let added = self.encoder.invalid(cursor, run);
                    cursor += added;
                    if added < run {
                        return Err(cursor);
                    }
                    if cursor == end {
                        break;
                    }
                    occupied >>= run;
                }
                let run = u64::from((!occupied).trailing_zeros()).min(end - cursor);
                let delivered = self.deliver_run(cursor, run, true);
                cursor += delivered;
                if delivered < run {
                    return Err(cursor);
                }
                if cursor == end {
                    break;
                }
                occupied >>= run;
            }
        }
        Ok(end)
    }

    /// Blocks without anything to look at, and the rest of the one that has something, in a later pass: word
    /// by word, so that a call that runs out of work has got on however many entries are not settled.
    fn later(&mut self, mut cursor: u64) -> Reached {
        let left = self.table.order().slots() / BLOCK - cursor / BLOCK;
        let idle = self
            .reader
            .idle_blocks(self.table, cursor / BLOCK, left.min(IDLE));
        if idle != 0 {
            if !self.budget.spend(idle * IDLE_WORK) {
                return Err(cursor);
            }
            return Ok((cursor / BLOCK + idle) * BLOCK);
        }
        let block = cursor / BLOCK;
        let end = (block + 1) * BLOCK;
        if !self.budget.spend(BLOCK_WORK) {
            return Err(cursor);
        }
        for word in ones(self.table.unsettled().block(block)).map(|word| block * WORD + word) {
            if word < cursor / WORD {
                continue;
            }
            cursor = self.changes(cursor, (word * WORD).max(cursor))?;
            if !self.budget.spend(WORD_WORK) {
                return Err(cursor);
            }
            self.harvest(word, cursor);
        }
        self.changes(cursor, end)
    }

    /// Delivers the changes from the cursor to `end`, both in one block.
    fn changes(&mut self, mut cursor: u64, end: u64) -> Reached {
        if cursor == end || !self.reader.may_have_changes(self.table, cursor / BLOCK) {
            return Ok(end);
        }
        while let Some(Taken {
            word,
            marks,
            shared_out,
        }) = self.reader.take(self.table, cursor, end)
        {
            let _ = self.budget.spend(WORD_WORK + shared_out * SHARE_WORK);
            let mut left = marks;
            while left != 0 {
                let bit = u64::from(left.trailing_zeros());
                let run = u64::from((!(left >> bit)).trailing_zeros());
                let slot = word * WORD + bit;
                let delivered = self.deliver_run(slot, run, false);
                if delivered < run {
                    self.reader.put_back(word, left & (!0 << (bit + delivered)));
                    return Err(slot + delivered);
                }
                // All of the run, which may be all that is left of the word.
                left &= (!0 << bit) << (run - 1) << 1;
            }
            cursor = (word + 1) * WORD;
            if cursor >= end {
                break;
            }
        }
        Ok(end)
    }

    /// Merges R and C into the guest view in the unsettled entries of a word, from the cursor on.
    fn harvest(&mut self, word: u64, cursor: u64) {
        for bit in ones(self.table.unsettled().word(word)) {
            let slot = word * WORD + bit;
            let Some(place) = self.slot(slot) else {
                continue;
            };
            let _ = self.budget.spend(UNSETTLED_WORK);
            if slot < cursor || !self.table.has_news(place) {
                continue;
            }
            // Marked before it is merged: once it is merged the entry may be settled, and another reader
            // that finds neither mark nor news calls its pass clean. Who takes the mark too early sees R and
            // C all the same, in the real entry.
            place.changed().mark();
            if self.table.harvest(place).is_none() {
                self.missed = true;
            }
            let _ = self.budget.spend(HARVEST_WORK);
        }
    }

    /// Delivers a run of slots, each as what it is; how many. In a long run, what is an entry, unlocked, and
    /// has no news goes by in a loop of its own; whatever is not goes one slot at a time.
    #[inline]
    fn deliver_run(&mut self, slot: u64, count: u64, first: bool) -> u64 {
        let mut done = 0;
        while done < count {
            if count - done >= LONG_RUN {
                let _ = self.budget.spend(RUN_WORK);
                let most = self.budget.pieces(ENTRY_WORK).min(count - done);
                let bolted_only = self.bolted_only;
                let entries = self
                    .table
                    .copies(slot + done)
                    .take(index(most))
                    .map_while(|copy| match copy {
                        Copy::Entry { v, r, news: false } if !bolted_only || v.is_bolted() => {
                            Some((v, r))
                        }
                        _ => None,
                    });
                let copied = self.encoder.valid_run(slot + done, entries);
                let _ = self.budget.spend(copied * ENTRY_WORK);
                done += copied;
            }
            if done < count {
                if !self.budget.spend(SLOT_WORK) || !self.deliver(slot + done, first) {
                    break;
                }
                done += 1;
            }
        }
        done
    }

    /// Delivers one slot as what it is; whether that could be done. In the first pass, what hardware has set is
    /// merged at once and the other readers are told; this one sees it here.
    fn deliver(&mut self, slot: u64, first: bool) -> bool {
        let Some(place) = self.slot(slot) else {
            return false;
        };
        match self.table.copy(place) {
            Copy::Busy => {
                self.missed = true;
                false
            }
            Copy::Entry { v, r, news } if !self.bolted_only || v.is_bolted() => {
                if !self.encoder.valid(slot, v, r) {
                    return false;
                }
                if first && news {
                    self.reader
                        .merge_and_tell_others(slot, || self.table.harvest(place) == Some(true));
                }
                true
            }
            Copy::Entry { .. } | Copy::Free => self.encoder.invalid(slot, 1) == 1,
        }
    }
}
