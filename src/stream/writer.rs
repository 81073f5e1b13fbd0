//! Restoring a table: records from a guest's buffer, applied in pieces.
//!
//! A piece is the entries of one record that are in the buffer and go into the 64 slots of one word, or as much of its invalid
//! run. The entries of a piece are read once into the writer's own memory, checked, and then applied whole: until the last of
//! them has been found good nothing of the piece is done. The writer remembers its place in a record that is longer than the
//! buffer.
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
use crate::memory::{Entries, GuestBuffer, Regions, Unread};
use crate::table::batch::{Batch, Occupied};
use crate::table::bitmap::{BLOCK, WORD};
use crate::table::ready::{Making, Piece, Room};
use crate::table::{Table, tlb};

// Work, in units of about two instructions: of a record's header, of a piece and of an entry, of a word of an invalid run; of a
// record that is quickly done, beside its entries; to take entries away, and each of them; to give a block's changes to the readers.
const HEADER_WORK: u64 = 15;
const PIECE_WORK: u64 = 110;
const ENTRY_WORK: u64 = 30;
const WORD_WORK: u64 = 25;
const RECORD_WORK: u64 = 40;
const REMOVAL_WORK: u64 = 200;
const REMOVE_WORK: u64 = 60;
const SHARE_WORK: u64 = 220;

// A call that has done nothing yet can do any piece.
const _: () = assert!(
    PIECE_WORK + REMOVAL_WORK + WORD * (ENTRY_WORK + REMOVE_WORK) < Budget::of_a_call().left()
);

/// The place in the stream, between two calls.
#[derive(Debug)]
pub struct Writer {
    place: Place,
    room: Room,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The next slot.
    index: u64,
    /// Entries and then invalid slots that the record has left.
    valid: u64,
    invalid: u64,
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

impl Place {
    const START: Self = Self {
        index: 0,
        valid: 0,
        invalid: 0,
    };

    /// Whether a record is at its end.
    const fn is_between_records(&self) -> bool {
        self.valid == 0 && self.invalid == 0
    }

    /// Whether a call ended, or begins, between the entries of a record and the end of its invalid run.
    const fn is_inside_invalid_run(&self) -> bool {
        self.valid == 0 && self.invalid != 0
    }
}

impl Writer {
    /// A writer at the start of a stream.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            place: Place::START,
            room: Room::new(),
        }
    }

    /// Begins a new stream.
    pub const fn restart(&mut self) {
        self.place = Place::START;
    }

    /// Whether the stream stands inside a record.
    #[must_use]
    pub const fn is_inside_record(&self) -> bool {
        !self.place.is_between_records()
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
        let making = Making::new(table, regions);
        let mut budget = Budget::of_a_call();
        let room = &mut self.room;
        let mut stand = Stand {
            place: self.place,
            unread: buffer.unread(),
            overwrites: false,
        };
        if stand.place.is_inside_invalid_run() {
            // What stood for it has been read.
            let _ = stand.unread.dword();
        }
        let refused = loop {
            // What is overwritten is seldom followed by what is quickly done.
            let quickly = if stand.place.valid == 0 && !stand.overwrites {
                quick(machine, &making, room, &mut stand, &mut budget)
            } else {
                Ok(Step::Waits)
            };
            let step = match quickly {
                Ok(Step::Waits) => step(machine, &making, room, &mut stand, &mut budget),
                other => other,
            };
            match step {
                Ok(Step::Done) => {}
                Ok(Step::Changed(block)) => {
                    let _ = budget.spend(share_out(table, readers, block));
                }
                Ok(Step::Waits) => break None,
                Err(bad) => break Some(bad),
            }
        };
        let Stand { place, unread, .. } = stand;
        self.place = place;
        let mut consumed = buffer.unread().bytes() - unread.bytes();
        if place.is_inside_invalid_run() {
            // There is work left, so there must be something to come again with: the doubleword before the
            // run counts as consumed when the run is done.
            consumed -= RECORD_HEADER;
        }
        Written { consumed, refused }
    }
}

/// Where a stream stands, and what of the buffer is not applied.
#[derive(Clone, Copy, Debug)]
struct Stand {
    place: Place,
    unread: Unread,
    /// There were entries where the last ones were put, or invalid slots.
    overwrites: bool,
}

/// What was done of a stream.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Something, of which nobody is to be told.
    Done,
    /// Something in this block, of which readers are to be told.
    Changed(u64),
    /// Nothing: the next piece waits for a call with more work, or for more of the stream.
    Waits,
}

impl Step {
    /// What was done in the block of slot `slot`.
    #[inline(always)]
    const fn of(is_read: bool, slot: u64) -> Self {
        if is_read {
            Self::Changed(slot / BLOCK)
        } else {
            Self::Done
        }
    }
}

/// Applies the next piece, or takes up the next record.
fn step<M: Machine>(
    machine: &M,
    making: &Making<'_>,
    room: &mut Room,
    Stand {
        place,
        unread,
        overwrites,
    }: &mut Stand,
    budget: &mut Budget,
) -> Result<Step, BadPiece> {
    let table = making.table();
    let first = place.index;
    if place.valid != 0 {
        let whole = unread.bytes() / ENTRY;
        let Some(batch) = Batch::new(table, first, place.valid.min(whole)) else {
            return Ok(Step::Waits);
        };
        let (count, occupied) = (batch.count(), batch.occupied());
        let work = PIECE_WORK + count * ENTRY_WORK + removal_work(occupied);
        if !budget.afford(work) {
            return Ok(Step::Waits);
        }
        let mut rest = *unread;
        let piece = making
            .gather(machine, room, first, rest.entries(count))
            .map_err(BadPiece::Entry)?;
        if !occupied.is_empty() {
            let _ = remove(machine, occupied);
        }
        // The slots were emptied and nobody else makes entries: the claim succeeds.
        let Some(is_read) = publish(machine, batch, piece) else {
            return Ok(Step::Waits);
        };
        *unread = rest;
        place.index += count;
        place.valid -= count;
        *overwrites = !occupied.is_empty();
        return Ok(Step::of(is_read, first));
    }
    if let Some(batch) = Batch::new(table, first, place.invalid) {
        let (count, occupied) = (batch.count(), batch.occupied());
        if !budget.afford(WORD_WORK + removal_work(occupied)) {
            return Ok(Step::Waits);
        }
        place.index += count;
        place.invalid -= count;
        let is_read = if occupied.is_empty() {
            false
        } else {
            *overwrites = true;
            remove(machine, occupied)
        };
        return Ok(Step::of(is_read, first));
    }
    let Some(record) = next_record(machine, table.order().slots(), unread, budget)? else {
        return Ok(Step::Waits);
    };
    *place = record;
    Ok(Step::Done)
}

/// Reads the header of the next record of a table with so many slots; none if there is no work or nothing in the buffer left
/// for it.
#[inline(always)]
fn next_record<M: Machine>(
    machine: &M,
    slots: u64,
    unread: &mut Unread,
    budget: &mut Budget,
) -> Result<Option<Place>, BadPiece> {
    let mut rest = *unread;
    let Some(at) = rest.dword() else {
        return Ok(None);
    };
    if !budget.afford(HEADER_WORK) {
        return Ok(None);
    }
    let header = Header::from_dword(machine.load(at));
    let record = Place {
        index: u64::from(header.index),
        valid: u64::from(header.n_valid),
        invalid: u64::from(header.n_invalid),
    };
    // An empty record past the end is one that leaves the table, too.
    if record.index >= slots || record.index + record.valid + record.invalid > slots {
        return Err(BadPiece::Range(record.index));
    }
    *unread = rest;
    Ok(Some(record))
}

/// Applies records as long as they are quickly done: the entries are of one word, whose slots are all free up to the end of the
/// record or of the word, and each entry is as nearly all are. Most of what a table is restored from is like that.
///
/// It ends between pieces: at one that waits, or that has to be done with more care; or after one that readers are to be told of.
///
/// # Errors
/// What is wrong with the record or the entry that comes next.
#[inline(never)]
fn quick<M: Machine>(
    machine: &M,
    making: &Making<'_>,
    room: &mut Room,
    stand: &mut Stand,
    budget: &mut Budget,
) -> Result<Step, BadPiece> {
    let table = making.table();
    let slots = table.order().slots();
    let mut left = *budget;
    let (mut place, mut unread) = (stand.place, stand.unread);
    let step = loop {
        if place.valid != 0 {
            break Ok(Step::Waits);
        }
        if let Some(run) = Batch::new(table, place.index, place.invalid) {
            if !run.occupied().is_empty() || !left.afford(WORD_WORK) {
                break Ok(Step::Waits);
            }
            place.index += run.count();
            place.invalid -= run.count();
            continue;
        }
        place = match next_record(machine, slots, &mut unread, &mut left) {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(Step::Waits),
            Err(bad) => break Err(bad),
        };
        // One by itself, as most are in a sparse table, never leaves the registers.
        let mut rest = unread;
        let (run, published) = if place.valid == 1 {
            let Some((run, batch)) = free(table, place, 1) else {
                continue;
            };
            let Some(at) = rest.entry() else {
                break Ok(Step::Waits);
            };
            if !left.afford(RECORD_WORK + ENTRY_WORK) {
                break Ok(Step::Waits);
            }
            let dwords = at.map(|at| machine.load(at));
            let published = match making.usual(dwords) {
                Some(entry) => {
                    let piece = Piece::of_one(&entry, place.index);
                    Ok(publish(machine, batch, piece))
                }
                None => odd(machine, making, room, place.index, dwords),
            };
            (run, published)
        } else {
            let Some((run, _)) = free(table, place, place.valid) else {
                continue;
            };
            let entries = rest.entries(place.valid);
            let work = RECORD_WORK + PIECE_WORK + place.valid * ENTRY_WORK;
            if entries.left() != place.valid || !left.afford(work) {
                break Ok(Step::Waits);
            }
            (run, several(machine, making, room, place.index, entries))
        };
        let is_read = match published {
            Ok(Some(is_read)) => is_read,
            Ok(None) => break Ok(Step::Waits),
            Err(slot) => break Err(BadPiece::Entry(slot)),
        };
        let (first, slots) = (place.index, place.valid + place.invalid);
        unread = rest;
        place = Place {
            index: first + run.count(),
            valid: 0,
            invalid: slots - run.count(),
        };
        if is_read {
            break Ok(Step::of(is_read, first));
        }
    };
    *budget = left;
    (stand.place, stand.unread) = (place, unread);
    step
}

/// The slots of a record in its first slot's word, and of those the `valid` ones of its entries, if all of them are there and all
/// slots are free.
#[inline(always)]
fn free<'t>(table: &'t Table<'t>, record: Place, valid: u64) -> Option<(Batch<'t>, Batch<'t>)> {
    let run = Batch::new(table, record.index, valid + record.invalid)?;
    let batch = run.start(valid)?;
    run.occupied().is_empty().then_some((run, batch))
}

/// Makes the entries of `piece` the entries of the slots of `batch`, which are free; whether anyone reads. None if they are not.
#[inline(always)]
fn publish<M: Machine>(machine: &M, batch: Batch<'_>, piece: Piece<'_>) -> Option<bool> {
    Some(batch.claim()?.place(machine, piece).note())
}

/// The same of entries of the buffer, once all of them are found good.
///
/// # Errors
/// The slot of the first that is none.
#[inline(never)]
fn several<M: Machine>(
    machine: &M,
    making: &Making<'_>,
    room: &mut Room,
    first: u64,
    entries: Entries,
) -> Result<Option<bool>, u64> {
    let batch = Batch::new(making.table(), first, entries.left());
    let piece = making.gather(machine, room, first, entries)?;
    Ok(batch.and_then(|batch| publish(machine, batch, piece)))
}

/// The same of one entry that was read and is not as nearly all are.
#[inline(never)]
fn odd<M: Machine>(
    machine: &M,
    making: &Making<'_>,
    room: &mut Room,
    slot: u64,
    dwords: [u64; 2],
) -> Result<Option<bool>, u64> {
    let batch = Batch::new(making.table(), slot, 1);
    let piece = making.odd(room, slot, dwords)?;
    Ok(batch.and_then(|batch| publish(machine, batch, piece)))
}

/// Gives the readers what was changed in a block; what that takes.
#[inline(never)]
fn share_out(table: &Table<'_>, readers: &Readers<'_>, block: u64) -> u64 {
    if table.changed().block(block) == 0 {
        return 0;
    }
    readers.share_out_block(table, block);
    SHARE_WORK
}

/// What it takes to empty these slots.
#[inline(always)]
const fn removal_work(occupied: Occupied<'_>) -> u64 {
    if occupied.is_empty() {
        0
    } else {
        REMOVAL_WORK + occupied.count() * REMOVE_WORK
    }
}

/// Empties the slots, flushed in one batch; whether anyone reads.
#[inline(never)]
fn remove<M: Machine>(machine: &M, occupied: Occupied<'_>) -> bool {
    let flushed = tlb::flush_batch(machine, occupied.lpid(), occupied.invalidate());
    flushed.remove().note()
}
