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
use super::readers::InUse;
use super::record::Encoder;
use super::taken::Taken;
use crate::arch::Machine;
use crate::arch::arrays::Run;
use crate::hcall::abi::ReadFlags;
use crate::memory::GuestBuffer;
use crate::sync::Ordering;
use crate::table::Table;
use crate::table::bitmap::{BLOCK, WORD, above, ones};
use crate::table::hpt::Copy;

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

// Work, in units of about two instructions: to begin a block and to go through its words, to pass a block in a row that
// has nothing, to take up a word of marks, and to share one out; to look at an entry that is not settled, to merge its R
// and C, and to look at a slot by itself; to lay out a byte of records: an entry in a run takes 28 instructions for its
// 16, one in a record of its own, with what it takes to find it, up to 100 for its 24.
const BLOCK_WORK: u64 = 500;
const IDLE_WORK: u64 = 6;
const WORD_WORK: u64 = 40;
const SHARE_WORK: u64 = 20;
const UNSETTLED_WORK: u64 = 8;
const HARVEST_WORK: u64 = 80;
const SLOT_WORK: u64 = 100;
const BYTE_WORK: u64 = 2;

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
    if !first && reader.is_idle(table) {
        cursor = slots;
    }
    // Made for the first block that has changes: most passes have none.
    let mut taken = None;
    while cursor < slots {
        let reached = if first {
            pass.first(cursor, (cursor / BLOCK + 1) * BLOCK)
        } else {
            pass.later(cursor, &mut taken)
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

/// Where the quick way through entries ends.
#[derive(Clone, Copy, Debug)]
enum Stop {
    /// All is laid out.
    End,
    /// At a slot that is no plain entry.
    Odd(u64),
    /// At a slot whose word there may be no room for.
    Tight(u64),
}

impl<M: Machine> Pass<'_, '_, '_, M> {
    /// Runs `act`, which may lay out as many bytes as there is work left for, and spends what it laid out.
    #[inline(always)]
    fn within_budget(&mut self, act: impl FnOnce(&mut Self) -> Reached) -> Reached {
        let before = self.encoder.bytes();
        self.encoder.limit(self.budget.left() / BYTE_WORK);
        let reached = act(self);
        let bytes = self.encoder.bytes() - before;
        let _ = self.budget.spend(bytes * BYTE_WORK);
        reached
    }

    /// The rest of a block in the first pass.
    fn first(&mut self, cursor: u64, end: u64) -> Reached {
        if !self.budget.spend(BLOCK_WORK) {
            return Err(cursor);
        }
        let shared_out = self.reader.enter_block(self.table, cursor);
        let _ = self.budget.spend(shared_out * SHARE_WORK);
        let reached = self.within_budget(|pass| pass.entries_and_runs(cursor, end));
        self.reader
            .leave_block(reached.unwrap_or_else(|stopped| stopped));
        reached
    }

    /// Lays out the slots from the cursor to the end of its block: entries, and between them runs that are invalid.
    fn entries_and_runs(&mut self, mut cursor: u64, end: u64) -> Reached {
        loop {
            let stop = self.plain_and_runs(cursor, end);
            match stop {
                Stop::End => return Ok(end),
                Stop::Odd(slot) | Stop::Tight(slot) => {
                    if !self.deliver_stopped(stop, slot, true) {
                        return Err(slot);
                    }
                    cursor = slot + 1;
                }
            }
        }
    }

    /// The same as long as entries are plain and there is room.
    ///
    /// The encoder is a value of its own meanwhile, and nothing is called: so it stays in registers.
    #[inline(never)]
    fn plain_and_runs(&mut self, mut cursor: u64, end: u64) -> Stop {
        let mut encoder = self.encoder;
        if !encoder.settle_in(cursor) {
            return Stop::Tight(cursor);
        }
        let plain = self.table.plain(self.bolted_only);
        let table = self.table;
        let occupied = table.occupied().words(cursor / WORD, end / WORD);
        let mut within = above(cursor % WORD);
        let stop = 'words: {
            for (word, occupied) in (cursor / WORD..).zip(occupied) {
                let mut slots = occupied.load(Ordering::Relaxed) & within;
                within = !0;
                if slots == 0 {
                    continue;
                }
                let Some(entries) = table.word(word).filter(|_| encoder.has_room_for_word()) else {
                    let slot = word * WORD + u64::from(slots.trailing_zeros());
                    encoder.gap(slot - cursor);
                    cursor = slot;
                    break 'words Stop::Tight(cursor);
                };
                while let Some((run, rest)) = Run::first(slots) {
                    let slot = word * WORD + run.bit();
                    let (gap, count) = (slot - cursor, run.length());
                    let done = encoder.run_after(slot, gap, count, plain.run(entries, run));
                    cursor = slot + done;
                    if done < count {
                        break 'words Stop::Odd(cursor);
                    }
                    slots = rest;
                }
            }
            encoder.gap(end - cursor);
            cursor = end;
            Stop::End
        };
        encoder.resume_at(cursor);
        self.encoder = encoder;
        stop
    }

    /// Blocks without anything to look at, or the rest of one that has something, in a later pass: what hardware has set
    /// is merged, and then the changes are delivered, that one among them.
    fn later(&mut self, cursor: u64, taken: &mut Option<Taken>) -> Reached {
        let block = cursor / BLOCK;
        let left = self.table.order().slots() / BLOCK - block;
        let idle = self.reader.idle_blocks(self.table, block, left.min(IDLE));
        if idle != 0 {
            if !self.budget.spend(idle * IDLE_WORK) {
                return Err(cursor);
            }
            return Ok((block + idle) * BLOCK);
        }
        let end = (block + 1) * BLOCK;
        // A block is begun with half of a call's work left, so that something is delivered however much there is to
        // merge.
        if self.budget.left() < Budget::of_a_call().left() / 2 || !self.budget.spend(BLOCK_WORK) {
            return Err(cursor);
        }
        let upto = self.harvest(cursor, end);
        let cursor = self.changes(cursor, upto, taken)?;
        if cursor < end { Err(cursor) } else { Ok(end) }
    }

    /// Merges R and C into the guest view in the unsettled entries of a block, from the cursor on; up to where: not to the
    /// end, if there is too much of it for a call.
    fn harvest(&mut self, cursor: u64, end: u64) -> u64 {
        let unsettled = self.table.unsettled();
        let (block, first) = (cursor / BLOCK, cursor / WORD % WORD);
        let least = self.budget.left() / 2;
        for word in ones(unsettled.block(block) & above(first)).map(|word| block * WORD + word) {
            if self.budget.left() < least {
                return word * WORD;
            }
            let slots = unsettled.word(word) & above(cursor.saturating_sub(word * WORD));
            let _ = self
                .budget
                .spend(WORD_WORK + u64::from(slots.count_ones()) * UNSETTLED_WORK);
            for bit in ones(self.table.news(word, slots)) {
                let Some(place) = self.table.slot_at(word * WORD + bit) else {
                    continue;
                };
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
        end
    }

    /// Delivers the changes from the cursor to `end`, both in one block.
    fn changes(&mut self, cursor: u64, end: u64, taken: &mut Option<Taken>) -> Reached {
        if cursor == end || !self.reader.may_have_changes(self.table, cursor / BLOCK) {
            return Ok(end);
        }
        let taken = taken.get_or_insert_with(Taken::new);
        self.reader.take(self.table, cursor, end, taken);
        let words = u64::from(taken.words.count_ones());
        let _ = self
            .budget
            .spend(words * WORD_WORK + taken.shared_out * SHARE_WORK);
        let reached = self.within_budget(|pass| pass.taken(taken, cursor, end));
        if let Err(stopped) = reached {
            self.reader.put_back(taken, stopped);
        }
        reached
    }

    /// Delivers the slots of taken marks, from the cursor on.
    fn taken(&mut self, taken: &Taken, mut cursor: u64, end: u64) -> Reached {
        loop {
            let stop = self.plain_taken(taken, cursor);
            match stop {
                Stop::End => return Ok(end),
                Stop::Odd(slot) | Stop::Tight(slot) => {
                    if !self.deliver_stopped(stop, slot, false) {
                        return Err(slot);
                    }
                    cursor = slot + 1;
                }
            }
        }
    }

    /// The same as long as they are plain entries and there is room; the encoder as in [`Self::plain_and_runs`].
    #[inline(never)]
    fn plain_taken(&mut self, taken: &Taken, cursor: u64) -> Stop {
        let mut encoder = self.encoder;
        let plain = self.table.plain(self.bolted_only);
        let table = self.table;
        let stop = 'words: {
            for (word, marks) in taken.from(cursor) {
                let Some(entries) = table.word(word).filter(|_| encoder.has_room_for_word()) else {
                    break 'words Stop::Tight(word * WORD + u64::from(marks.trailing_zeros()));
                };
                let mut marks = marks;
                while let Some((run, rest)) = Run::first(marks) {
                    let slot = word * WORD + run.bit();
                    let done = encoder.run(slot, run.length(), plain.run(entries, run));
                    if done < run.length() {
                        break 'words Stop::Odd(slot + done);
                    }
                    marks = rest;
                }
            }
            Stop::End
        };
        self.encoder = encoder;
        stop
    }

    /// Delivers the slot that the quick way stopped at; whether that could be done. A call that has more behind it than
    /// before it ends where it gets tight: slot by slot the rest would take longer than all else.
    fn deliver_stopped(&mut self, stop: Stop, slot: u64, first: bool) -> bool {
        let enough = matches!(stop, Stop::Tight(_)) && self.encoder.is_mostly_full();
        !enough && self.deliver_odd(slot, first)
    }

    /// Delivers one slot as what it is; whether that could be done. In the first pass, what hardware has set is
    /// merged at once and the other readers are told; this one sees it here.
    #[inline(never)]
    fn deliver_odd(&mut self, slot: u64, first: bool) -> bool {
        let Some(place) = self.table.slot_at(slot) else {
            return false;
        };
        if !self.budget.spend(SLOT_WORK) {
            return false;
        }
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
