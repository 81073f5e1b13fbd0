//! The reader slots of one table, and how changes are shared out among them.
//!
//! The table has one bitmap of changes, marked by whoever modifies an entry. Every reader has marks of its
//! own. Whichever reader scans a block of the table first takes the block's marks from the table and gives
//! them to *all* readers, so each sees every change once.
//!
//! # Invariants
//! * All of a reader's state, its marks among them, is touched under one lock. So are the verdict "clean" and
//!   the pending count: another reader may hold a taken word in a register.
//! * A word of a reader's marks counts only while its bit one level up is set, and one of their root while it bears the
//!   reader's serial. So an open clears nothing.
//! * During its first pass a reader keeps changes behind `kept` and drops those ahead, which the pass will
//!   see anyway. `kept` moves to a block's end before the block's entries are read, and back if the pass
//!   stops inside.
//! * `count` is the number of a reader's marks: kept up to date, never counted over the table.

use super::Budget;
use super::marks::{OwnMarks, Root, below};
use super::record::MAX_SLOTS;
use super::taken::{Taken, Within};
use crate::addr::Lpid;
use crate::arch::arrays::Levels;
use crate::hcall::abi::OpenFlags;
use crate::sync::Mutex;
use crate::table::bitmap::{BLOCK, REGION, WORD, above, ones};
use crate::table::{READERS, Table, Tables};

/// The reader slots of one table.
#[derive(Debug)]
pub struct Readers<'m> {
    slots: Mutex<Slots<'m>>,
    /// Room for what the one call on each of them has taken. It stays: to make it anew for each call would take longer than
    /// most calls.
    taken: [Mutex<Taken>; READERS],
}

/// The reader slots, and how far the sharing out of what is marked has come.
#[derive(Debug)]
struct Slots<'m> {
    readers: [ReaderSlot<'m>; READERS],
    round: Round,
    /// The table is about to be replaced: no call may begin.
    suspended: bool,
}

/// A round over the table in which all marks are shared out, a few blocks at a time.
#[derive(Debug, Default)]
struct Round {
    /// The next root word to look at.
    next: u64,
    /// Root words that are still to be looked at; none: what was marked before the round began is shared out.
    left: u64,
}

/// Root words of a table.
const fn roots(table_slots: u64) -> u64 {
    table_slots.div_ceil(REGION)
}

/// Words of a root, or of a summary, that are looked at for something to do at once.
const ROOTS: u64 = 1024;
// Work, in units of about two instructions: of a root word, of a block that marks are taken from, and of a word of marks that is
// given to four readers.
const ROOT_WORK: u64 = 5;
const BLOCK_WORK: u64 = 50;
const SHARE_WORK: u64 = 60;

/// One reader.
#[derive(Debug)]
pub(super) struct ReaderSlot<'m> {
    marks: OwnMarks<'m>,
    /// Who opened it; none: closed.
    owner: Option<Lpid>,
    /// Tells this use of the slot from earlier ones.
    serial: u64,
    /// Table generation it was opened on.
    generation: u64,
    /// A call on it is in progress.
    busy: bool,
    pub(super) bolted_only: bool,
    /// The slot it goes on at.
    pub(super) cursor: u64,
    /// Number of the pass it is in, from 1.
    pub(super) pass: u64,
    /// Whether the pass it is in has had a record, or could not look somewhere.
    pub(super) found: bool,
    /// First pass: changes to slots below are kept.
    kept: u64,
    /// Marks it has.
    count: u64,
}

/// Why a reader cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No such reader, or it is not the caller's.
    Unknown,
    /// Another call on it is in progress, or the table is being replaced.
    Busy,
    /// The table it was opened on was reset or replaced.
    Closed,
    /// All reader slots are taken.
    Full,
    /// The table has no slot that the reader is to start at.
    Outside,
    /// A record's index does not reach the table's last slot.
    TooBig,
}

/// A reader in use by one call; no other call gets it meanwhile.
#[derive(Debug)]
pub struct InUse<'r, 'm> {
    readers: &'r Readers<'m>,
    slot: usize,
    /// The root of its marks, for a look without the lock.
    root: Root<'m>,
}

impl Drop for InUse<'_, '_> {
    fn drop(&mut self) {
        self.with(|reader| reader.busy = false);
    }
}

/// The generation that no table has.
const NO_GENERATION: u64 = 0;

/// While this lives no call begins to use a reader, and none is using one but its maker's own.
#[derive(Debug)]
pub(crate) struct Suspended<'r, 'm>(&'r Readers<'m>);

impl Drop for Suspended<'_, '_> {
    fn drop(&mut self) {
        self.0.slots.lock().suspended = false;
    }
}

impl Suspended<'_, '_> {
    /// Makes the spare table the one in use. Whatever reader is open is closed; marks are the new table's.
    pub(crate) fn replace(&self, tables: &Tables<'_>) {
        let mut slots = self.0.slots.lock();
        slots.close_all();
        // The table that comes has no marks.
        slots.round = Round::default();
        tables.swap();
    }

    /// Gives the table in use, which a reset has emptied, the order that it began with. Whatever reader was opened
    /// since the reset began is closed, too: it may stand where there is no slot any more.
    pub(crate) fn begin_anew(&self, tables: &Tables<'_>) {
        let mut slots = self.0.slots.lock();
        slots.close_all();
        tables.begin_anew();
        // The marks of what was removed are still there.
        slots.round = Round {
            next: 0,
            left: roots(tables.current().order().slots()),
        };
    }
}

impl<'m> Readers<'m> {
    /// Free reader slots over these marks.
    #[must_use]
    pub fn new(marks: [Levels<'m>; READERS]) -> Self {
        Self {
            taken: core::array::from_fn(|_| Mutex::new(Taken::new())),
            slots: Mutex::new(Slots {
                round: Round::default(),
                suspended: false,
                readers: marks.map(|levels| ReaderSlot {
                    marks: OwnMarks::new(levels),
                    owner: None,
                    serial: 0,
                    generation: 0,
                    busy: false,
                    bolted_only: false,
                    cursor: 0,
                    pass: 0,
                    found: false,
                    kept: 0,
                    count: 0,
                }),
            }),
        }
    }

    /// Opens a reader for `owner`, whose first pass begins at `start`; gives its slot and serial. `spare` slots
    /// are left for others.
    ///
    /// # Errors
    /// [`Refused::TooBig`], [`Refused::Outside`] or [`Refused::Full`].
    pub fn open(
        &self,
        tables: &Tables<'_>,
        owner: Lpid,
        generation: u64,
        flags: OpenFlags,
        start: u64,
        spare: usize,
    ) -> Result<(usize, u64), Refused> {
        let mut slots = self.slots.lock();
        // The lock is what keeps the table the one in use.
        let table = tables.current();
        // The hypervisor's own is shown slots, not records.
        if owner != Lpid::HYPERVISOR && table.order().slots() > MAX_SLOTS {
            return Err(Refused::TooBig);
        }
        if start >= table.order().slots() {
            return Err(Refused::Outside);
        }
        let free = slots
            .readers
            .iter()
            .filter(|reader| reader.is_free())
            .count();
        let slot = slots.readers.iter().position(ReaderSlot::is_free);
        let Some(slot) = slot.filter(|_| free > spare) else {
            return Err(Refused::Full);
        };
        // Slots before the start are behind the first pass: what was marked there until now is the other readers' alone.
        // (Where that is more than one call may do, the new reader is told of some older changes, too.)
        if start != 0 {
            let _ = slots.go_round(table, &mut Budget::of_a_call());
        }
        let Some(reader) = slots.readers.get_mut(slot) else {
            return Err(Refused::Full);
        };
        reader.owner = Some(owner);
        reader.serial += 1;
        reader.marks.begin(reader.serial);
        reader.generation = generation;
        reader.bolted_only = flags.contains(OpenFlags::BOLTED_ONLY);
        (reader.cursor, reader.kept) = (start, start);
        (reader.pass, reader.found, reader.count) = (1, false, 0);
        let serial = reader.serial;
        table.announce_reader();
        Ok((slot, serial))
    }

    /// Takes a reader into use for one call.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn enter(
        &self,
        slot: usize,
        serial: u64,
        owner: Lpid,
        generation: u64,
    ) -> Result<InUse<'_, 'm>, Refused> {
        let mut slots = self.slots.lock();
        let suspended = slots.suspended;
        let reader = find(&mut slots.readers, slot, serial, owner)?;
        if reader.generation != generation {
            return Err(Refused::Closed);
        }
        if reader.busy || suspended {
            return Err(Refused::Busy);
        }
        reader.busy = true;
        let root = reader.marks.root();
        drop(slots);
        Ok(InUse {
            readers: self,
            slot,
            root,
        })
    }

    /// Waits until no call uses a reader, but for the caller's own, and lets none begin. What each does is bounded.
    pub(crate) fn suspend(&self, own: Option<&InUse<'_, 'm>>) -> Suspended<'_, 'm> {
        let own = own.map(|own| own.slot);
        loop {
            let mut slots = self.slots.lock();
            slots.suspended = true;
            let mut readers = slots.readers.iter().enumerate();
            if readers.all(|(number, reader)| !reader.busy || own == Some(number)) {
                return Suspended(self);
            }
            drop(slots);
            crate::arch::relax();
        }
    }

    /// Closes a reader.
    ///
    /// # Errors
    /// [`Refused::Unknown`] or [`Refused::Busy`].
    pub fn close(
        &self,
        tables: &Tables<'_>,
        slot: usize,
        serial: u64,
        owner: Lpid,
    ) -> Result<(), Refused> {
        let mut slots = self.slots.lock();
        let reader = find(&mut slots.readers, slot, serial, owner)?;
        if reader.busy {
            return Err(Refused::Busy);
        }
        reader.owner = None;
        tables.current().retire_reader();
        Ok(())
    }

    /// Closes every reader of `owner`, which has stopped. A call that another CPU of it still has under way
    /// ends as it would have; its slot is free when it has.
    pub fn close_all_of(&self, tables: &Tables<'_>, owner: Lpid) {
        let mut slots = self.slots.lock();
        let table = tables.current();
        for reader in slots
            .readers
            .iter_mut()
            .filter(|reader| reader.owner == Some(owner))
        {
            reader.owner = None;
            table.retire_reader();
        }
    }

    /// Shares out what is marked in a block of the table in use, which is not replaced meanwhile.
    pub(crate) fn share_out_block(&self, table: &Table<'_>, block: u64) {
        let _ = share_out(&mut self.slots.lock().readers, table, block);
    }

    /// Shares out more of what is marked; whether that is all of it.
    pub fn share_out(&self, tables: &Tables<'_>) -> bool {
        let mut slots = self.slots.lock();
        slots.go_round(tables.current(), &mut Budget::of_a_call())
    }

    /// How many readers are open on this generation of the table, and the slots pending for all of them. The
    /// hypervisor's own does not count.
    #[must_use]
    pub fn open_and_pending(&self, tables: &Tables<'_>, generation: u64) -> (u64, u64) {
        let mut slots = self.slots.lock();
        let table = tables.current();
        let _ = slots.go_round(table, &mut Budget::of_a_call());
        let guests =
            |reader: &&ReaderSlot<'_>| reader.owner.is_some_and(|owner| owner != Lpid::HYPERVISOR);
        slots
            .readers
            .iter()
            .filter(guests)
            .filter(|reader| reader.generation == generation)
            .fold((0, 0), |(open, pending), reader| {
                (open + 1, pending + reader.pending(table))
            })
    }
}

fn find<'s, 'm>(
    slots: &'s mut [ReaderSlot<'m>; READERS],
    slot: usize,
    serial: u64,
    owner: Lpid,
) -> Result<&'s mut ReaderSlot<'m>, Refused> {
    slots
        .get_mut(slot)
        .filter(|reader| reader.owner == Some(owner) && reader.serial == serial)
        .ok_or(Refused::Unknown)
}

/// Takes the table's marks of a block and gives them to every reader; how many words had some.
fn share_out(slots: &mut [ReaderSlot<'_>; READERS], table: &Table<'_>, block: u64) -> u64 {
    let mut words = 0;
    let _ = table.changed().take(block, |word, marks| {
        words += 1;
        for reader in slots.iter_mut().filter(|reader| reader.owner.is_some()) {
            reader.add(word, marks);
        }
    });
    words
}

impl<'m> Slots<'m> {
    /// One reader, and those of the others that are open; none, if there is no such one.
    fn one_and_others<'s>(
        &'s mut self,
        slot: usize,
    ) -> Option<(
        &'s mut ReaderSlot<'m>,
        [Option<&'s mut ReaderSlot<'m>>; READERS],
    )> {
        let mut others = self.readers.each_mut().map(Some);
        let one = others.get_mut(slot)?.take()?;
        let others = others.map(|other| other.filter(|other| other.owner.is_some()));
        Some((one, others))
    }

    /// Has every reader that is open find its table gone.
    fn close_all(&mut self) {
        for reader in &mut self.readers {
            reader.generation = NO_GENERATION;
        }
    }

    /// Goes on with a round, as far as there is work left; whether all that was marked before this call is shared out now. A
    /// mark in a block that had none begins a new round.
    fn go_round(&mut self, table: &Table<'_>, budget: &mut Budget) -> bool {
        let roots = roots(table.order().slots());
        if table.take_touched() {
            self.round.left = roots;
        }
        while self.round.left > 0 {
            for block in ones(table.changed().root(self.round.next)) {
                if budget.is_spent() {
                    return false;
                }
                let words = share_out(&mut self.readers, table, self.round.next * WORD + block);
                let _ = budget.spend(words * SHARE_WORK);
            }
            if !budget.spend(ROOT_WORK) {
                return false;
            }
            self.round.next = (self.round.next + 1) % roots;
            self.round.left -= 1;
        }
        true
    }
}

impl ReaderSlot<'_> {
    /// Whether it can be opened: closed, and not in use by a call that began before.
    const fn is_free(&self) -> bool {
        self.owner.is_none() && !self.busy
    }

    /// Whether it is in its first pass.
    pub(super) const fn is_first_pass(&self) -> bool {
        self.pass == 1
    }

    /// Adds marks of a word, those that it keeps.
    fn add(&mut self, word: u64, marks: u64) {
        let kept = if self.is_first_pass() {
            below(word, self.kept)
        } else {
            !0
        };
        if marks & kept != 0 {
            self.count += self.marks.add(word, marks & kept);
        }
    }

    /// Slots this reader has still to be told about, as far as is known: all that its first pass has ahead,
    /// and those with marks.
    fn pending(&self, table: &Table<'_>) -> u64 {
        let ahead = if self.is_first_pass() {
            table.order().slots() - self.cursor
        } else {
            0
        };
        ahead + self.count
    }
}

impl<'m> InUse<'_, 'm> {
    /// Runs `act` with the room for what the reader takes. Nobody else waits for it: there is one call on a reader.
    pub(super) fn with_room<R>(&self, act: impl FnOnce(&mut Taken) -> R) -> R {
        #[expect(
            clippy::indexing_slicing,
            reason = "there is room for each reader slot"
        )]
        act(&mut self.readers.taken[self.slot].lock())
    }

    /// Runs `act` on the reader under the readers' lock.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut ReaderSlot<'m>) -> R) -> R {
        let mut slots = self.readers.slots.lock();
        #[expect(
            clippy::indexing_slicing,
            reason = "the slot was found when the reader was taken into use"
        )]
        act(&mut slots.readers[self.slot])
    }

    /// Begins to read the entries of the block that `cursor` is in, in the first pass: changes from here on
    /// are kept, earlier ones are dropped, for the entries are still to be read.
    /// How many words of marks were shared out on the way.
    pub(super) fn enter_block(&self, table: &Table<'_>, cursor: u64) -> u64 {
        let block = cursor / BLOCK;
        let mut slots = self.readers.slots.lock();
        let shared_out = share_out(&mut slots.readers, table, block);
        if let Some(reader) = slots.readers.get_mut(self.slot) {
            reader.kept = (block + 1) * BLOCK;
        }
        shared_out
    }

    /// Ends reading a block of the first pass at `cursor`, inside it or at its end.
    pub(super) fn leave_block(&self, cursor: u64) {
        self.with(|reader| {
            let end = reader.kept;
            reader.cursor = cursor;
            if cursor == end {
                return;
            }
            // Slots from the cursor on will be read yet: what changed meanwhile need not come twice.
            reader.kept = cursor;
            let ahead = |word| !below(word, cursor);
            reader.marks.take(cursor / BLOCK, ahead, |_, marks| {
                reader.count -= u64::from(marks.count_ones());
            });
        });
    }

    /// Whether a later pass would find nothing anywhere: no mark of the reader's own, none that is not shared out, and
    /// nothing that hardware could still set. As [`Self::next_marked`] it may miss what comes at this moment.
    pub(super) fn is_idle(&self, table: &Table<'_>) -> bool {
        let slots = self.readers.slots.lock();
        let reader = slots.readers.get(self.slot);
        slots.round.left == 0 && table.is_quiet() && reader.is_some_and(|reader| reader.count == 0)
    }

    /// Whether a block may hold changes for the reader. As [`Self::next_marked`] it may miss what comes at this moment.
    pub(super) fn may_have_changes(&self, table: &Table<'_>, block: u64) -> bool {
        let root = block / WORD;
        (self.root.blocks(root) | table.changed().root(root)) >> (block % WORD) & 1 != 0
    }

    /// The first block from `block` on, and before `end`, that may have a mark of the reader's own, or one that is not shared
    /// out yet. Where there is none, or it is too far to look for, the first that was not looked at. May miss what comes at
    /// this moment; the verdict at the end of a pass does not.
    fn next_marked(&self, table: &Table<'_>, block: u64, end: u64) -> u64 {
        let changed = table.changed();
        let mut within = above(block % WORD);
        let first = block / WORD;
        let last = (first + ROOTS).min(end.div_ceil(WORD));
        for root in first..last {
            let blocks = (self.root.blocks(root) | changed.root(root)) & within;
            if blocks != 0 {
                let next = root * WORD + u64::from(blocks.trailing_zeros());
                return next.min(end);
            }
            within = !0;
        }
        (last * WORD).min(end)
    }

    /// Takes the reader's marks from slot `cursor` to `end`, in a later pass, from as many blocks as `taken` has room for and
    /// half of the work that is left is enough for; up to where. (The other half is for their delivery. Without it they would
    /// be put back, and taken again by the next call, and so on.)
    ///
    /// They are delivered, or put back. What is marked in the table goes to the other readers; the reader's own share comes at
    /// once, unless it has marks already that it would have to be put between.
    pub(super) fn take(
        &self,
        table: &Table<'_>,
        mut cursor: u64,
        end: u64,
        taken: &mut Taken,
        budget: &mut Budget,
    ) -> u64 {
        let mut slots = self.readers.slots.lock();
        let Some((reader, mut others)) = slots.one_and_others(self.slot) else {
            return end;
        };
        let alone = others.iter().all(Option::is_none);
        let least = budget.left() / 2;
        let (mut count, mut shared_out) = (0, 0);
        while cursor < end && taken.has_room() && budget.left() > least {
            let block = cursor / BLOCK;
            let next = self.next_marked(table, block, end.div_ceil(BLOCK));
            if next != block {
                let _ = budget.spend(((next - block) / WORD + 1) * ROOT_WORK);
                cursor = (next * BLOCK).min(end);
                continue;
            }
            let upto = ((block + 1) * BLOCK).min(end);
            let range = Within { cursor, end: upto };
            let has_own = reader.marks.summary(block) != 0;
            let _ = table.changed().take(block, |number, marks| {
                shared_out += 1;
                if !alone {
                    for other in others.iter_mut().flatten() {
                        other.add(number, marks);
                    }
                }
                let mine = if has_own { 0 } else { marks & range.of(number) };
                if mine != 0 {
                    taken.push(number, mine);
                }
                if mine != marks {
                    reader.add(number, marks & !mine);
                }
            });
            if has_own {
                let within = |number| range.of(number);
                reader.marks.take(block, within, |number, marks| {
                    count += u64::from(marks.count_ones());
                    taken.push(number, marks);
                });
            }
            let _ = budget.spend(BLOCK_WORK);
            cursor = upto;
        }
        reader.count -= count;
        let _ = budget.spend(shared_out * SHARE_WORK);
        cursor
    }

    /// Keeps marks of a word for the next pass.
    pub(super) fn keep(&self, word: u64, marks: u64) {
        self.with(|reader| reader.count += reader.marks.add(word, marks));
    }

    /// Puts marks back that could not be delivered: those from slot `cursor` on.
    pub(super) fn put_back(&self, taken: &Taken, cursor: u64) {
        self.with(|reader| {
            for (word, marks) in taken.from(cursor) {
                reader.count += reader.marks.add(word, marks);
            }
        });
    }

    /// Runs `merge`, and if it merged something tells every other reader: this one has seen it already. Both
    /// under the lock, for between them a reader would find neither news nor mark and call its pass clean.
    pub(super) fn merge_and_tell_others(&self, slot: u64, merge: impl FnOnce() -> bool) {
        let mut slots = self.readers.slots.lock();
        if !merge() {
            return;
        }
        for (number, reader) in slots.readers.iter_mut().enumerate() {
            if number != self.slot && reader.owner.is_some() {
                reader.add(slot / WORD, 1 << (slot % WORD));
            }
        }
    }

    /// Ends a pass if the cursor is at the end of the table; whether the pass ended, whether it was clean, its
    /// number, and what is pending. What is marked is shared out first, as far as there is work left.
    pub(super) fn conclude(&self, table: &Table<'_>, budget: &mut Budget) -> Conclusion {
        let mut slots = self.readers.slots.lock();
        let all_told = slots.go_round(table, budget);
        let Some(reader) = slots.readers.get_mut(self.slot) else {
            return Conclusion {
                pass: 0,
                ended: false,
                clean: false,
                pending: 0,
            };
        };
        let ended = reader.cursor == table.order().slots();
        let pending = reader.pending(table);
        let pass = reader.pass;
        let clean = ended && !reader.found && all_told && pending == 0;
        if ended {
            reader.pass += 1;
            (reader.cursor, reader.found) = (0, false);
        }
        Conclusion {
            pass,
            ended,
            clean,
            pending,
        }
    }
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conclusion {
    pub(super) pass: u64,
    pub(super) ended: bool,
    pub(super) clean: bool,
    pub(super) pending: u64,
}
