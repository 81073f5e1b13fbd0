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

// Work, in units of about two instructions: to begin a block and to go through its words in a first pass, and to begin one in a
// later pass; to look at a word of a level above for blocks that have something; to take up a word of marks, and to share one
// out; to look at an entry that is not settled, to merge its R and C, and to look at a slot by itself. To lay out a byte of
// records takes five quarters of a unit, or less: an entry is 24 instructions for its 16, and a record 30 more for its 8. To find
// them takes 40 for each word, of which a block has 64: together two units a byte where there are few.
const FIRST_WORK: u64 = 500;
const LATER_WORK: u64 = 100;
const LEVEL_WORK: u64 = 3;
const WORD_WORK: u64 = 40;
const SHARE_WORK: u64 = 20;
const UNSETTLED_WORK: u64 = 7;
const HARVEST_WORK: u64 = 80;
const SLOT_WORK: u64 = 100;
// What each call does for all readers, at least: else one that looks far and wide would never hear that all is told.
const ROUND_WORK: u64 = 2000;
const WORDS_WORK: u64 = 20 * WORD;

/// Summary words that are looked at at once for something unsettled.
const SUMMARIES: u64 = 1024;

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
    let mut budget = Budget::of_a_call();
    let reserve = budget.reserve(ROUND_WORK);
    let mut pass = Pass {
        table,
        reader,
        encoder: Encoder::new(machine, buffer),
        budget,
        bolted_only,
        missed: false,
    };
    if !first && reader.is_idle(table) {
        cursor = slots;
    }
    if first {
        cursor = pass.go_through(cursor, |pass, cursor| {
            pass.first(cursor, (cursor / BLOCK + 1) * BLOCK)
        });
    } else if cursor < slots {
        cursor = reader
            .with_room(|taken| pass.go_through(cursor, |pass, cursor| pass.later(cursor, taken)));
    }
    let (missed, mut budget) = (pass.missed, pass.budget);
    budget.join(reserve);
    let bytes = pass.encoder.finish();
    reader.with(|reader| {
        reader.cursor = cursor;
        reader.found |= bytes != 0 || missed;
    });
    let conclusion = reader.conclude(table, &mut budget);
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
        let left = self.budget.left();
        let most = (left / 2).max(left.saturating_sub(WORDS_WORK) * 4 / 5);
        self.encoder.limit(most);
        let reached = act(self);
        let bytes = self.encoder.bytes() - before;
        let _ = self.budget.spend(bytes + bytes / 4 + bytes.min(WORDS_WORK));
        reached
    }

    /// Goes through the table from the cursor on, by `part` and `part`; where it stopped.
    #[inline(always)]
    fn go_through(
        &mut self,
        mut cursor: u64,
        mut part: impl FnMut(&mut Self, u64) -> Reached,
    ) -> u64 {
        let slots = self.table.order().slots();
        while cursor < slots {
            match part(self, cursor) {
                Ok(reached) => cursor = reached,
                Err(stopped) => return stopped,
            }
        }
        cursor
    }

    /// The rest of a block in the first pass.
    fn first(&mut self, cursor: u64, end: u64) -> Reached {
        if !self.budget.spend(FIRST_WORK) {
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
        let first = cursor / WORD;
        let mut within = above(cursor % WORD);
        let stop = 'words: {
            for (number, entries) in (0..).zip(table.words(first, end / WORD)) {
                let mut slots = entries.occupied().load(Ordering::Relaxed) & within;
                within = !0;
                if slots == 0 {
                    continue;
                }
                let start = (first + number) * WORD;
                if !encoder.has_room_for_word() {
                    let slot = start + u64::from(slots.trailing_zeros());
                    encoder.gap(slot - cursor);
                    cursor = slot;
                    break 'words Stop::Tight(cursor);
                }
                while let Some((run, rest)) = Run::first(slots) {
                    let slot = start + run.bit();
                    let (gap, count) = (slot - cursor, run.length());
                    let copies = plain.run(entries, run);
                    if let Err(done) = encoder.run_after(slot, gap, count, copies) {
                        encoder.count_valid(done);
                        cursor = slot + done;
                        break 'words Stop::Odd(cursor);
                    }
                    cursor = slot + count;
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

    /// Some blocks, from the cursor on, in a later pass: what hardware has set in each is merged and its changes are taken,
    /// those among them; then all of them are delivered.
    fn later(&mut self, from: u64, taken: &mut Taken) -> Reached {
        taken.clear();
        let gathered = self.gather(from, taken);
        let upto = gathered.unwrap_or_else(|stopped| stopped);
        if taken.is_empty() {
            return gathered;
        }
        let _ = self.budget.spend(taken.count() * WORD_WORK);
        let delivered = self.within_budget(|pass| pass.taken(taken, from, upto));
        if let Err(stopped) = delivered {
            self.reader.put_back(taken, stopped);
            return delivered;
        }
        gathered
    }

    /// Takes the changes of some blocks, from the cursor on; up to where. Half of a call's work is left for them: so something is
    /// delivered however much there is to merge.
    fn gather(&mut self, mut cursor: u64, taken: &mut Taken) -> Reached {
        let slots = self.table.order().slots();
        let enough = Budget::of_a_call().left() / 2;
        while cursor < slots && taken.has_room() {
            if self.budget.left() < enough {
                return Err(cursor);
            }
            // Up to the next block that has something unsettled there is nothing to merge.
            let block = cursor / BLOCK;
            let unsettled = self.next_unsettled(block, slots / BLOCK);
            let (end, upto) = if unsettled == block {
                let _ = self.budget.spend(LATER_WORK);
                let end = (block + 1) * BLOCK;
                (end, self.harvest(cursor, end))
            } else {
                (unsettled * BLOCK, unsettled * BLOCK)
            };
            cursor = if unsettled == block && !self.reader.may_have_changes(self.table, block) {
                upto
            } else {
                self.reader
                    .take(self.table, cursor, upto, taken, &mut self.budget)
            };
            if upto < end && cursor == upto {
                return Err(upto);
            }
        }
        Ok(cursor)
    }

    /// The first block from `block` on, and before `end`, that has something unsettled, or the first that was not looked at; if
    /// there is none, the end.
    fn next_unsettled(&mut self, block: u64, end: u64) -> u64 {
        if !self.table.has_unsettled() {
            return end;
        }
        let next = self
            .table
            .unsettled()
            .first_block(block, end.min(block + SUMMARIES));
        let _ = self.budget.spend((next - block) * LEVEL_WORK);
        next
    }

    /// Merges R and C into the guest view in the unsettled entries of a block, from the cursor on; up to where: not to the
    /// end, if there is too much of it for a call.
    fn harvest(&mut self, cursor: u64, end: u64) -> u64 {
        let table = self.table;
        let unsettled = table.unsettled();
        let (block, first) = (cursor / BLOCK, cursor / WORD);
        let within = above(cursor % WORD);
        let mut left = self.budget.left();
        let least = left / 2;
        for word in ones(unsettled.block(block) & above(first % WORD)) {
            let word = block * WORD + word;
            if left < least {
                self.budget.keep(left);
                return word * WORD;
            }
            let mut slots = unsettled.word(word);
            if word == first {
                slots &= within;
            }
            let work = WORD_WORK + u64::from(slots.count_ones()) * UNSETTLED_WORK;
            left = left.saturating_sub(work);
            let news = table.news(word, slots);
            if news != 0 {
                left = left.saturating_sub(self.merge(word, news));
            }
        }
        self.budget.keep(left);
        end
    }

    /// Merges R and C in those slots of a word that have news; what that takes.
    #[inline(never)]
    fn merge(&mut self, word: u64, news: u64) -> u64 {
        for bit in ones(news) {
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
        }
        u64::from(news.count_ones()) * HARVEST_WORK
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
                    let copies = plain.run(entries, run);
                    if let Err(done) = encoder.run(slot, run.length(), copies) {
                        encoder.count_valid(done);
                        encoder.resume_at(slot + done);
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
