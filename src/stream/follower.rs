//! A reader of the hypervisor's own: it is shown slots where others get records.
//!
//! A resize follows the table that it carries entries over from. The first lap shows the occupied slots, each
//! later one the slots that changed since they were shown; what the follower cannot use now it is shown again in
//! the next lap. The marks are those of a reader slot, so all that is said of readers ([`super::readers`]) holds
//! here: a slot is shown after its mark is taken, and a change after that marks it again. Most slots are of no use to
//! a follower, and to show one costs more than to look at it: `worth` sorts those out, a word of them at a time, by a
//! look that comes after the mark is taken, too.

use super::Budget;
use super::readers::InUse;
use crate::table::Table;
use crate::table::bitmap::{BLOCK, WORD, ones};

// Work, in about the instructions that it takes: to begin a block, to take up a word of it, to share out a word
// of marks, to sort out a slot.
const BLOCK_WORK: u64 = 24;
const WORD_WORK: u64 = 40;
const SHARE_WORK: u64 = 100;
const SORT_WORK: u64 = 8;

/// Goes on with the lap that the reader is in: gives `show` one slot after the other; whether the lap is over.
/// `worth` says which slots of a word, of those that are in its second argument, are to be shown at all. `show` says
/// whether it is done with the slot, and spends what that took. A slot is shown while there is work left.
pub(crate) fn follow(
    table: &Table<'_>,
    reader: &InUse<'_, '_>,
    budget: &mut Budget,
    worth: impl Fn(u64, u64) -> u64,
    mut show: impl FnMut(u64, &mut Budget) -> bool,
) -> bool {
    let mut show_word = |word: u64, slots: u64, budget: &mut Budget| {
        let _ = budget.spend(u64::from(slots.count_ones()) * SORT_WORK);
        show_word(reader, word, worth(word, slots), budget, &mut show)
    };
    let (mut cursor, first) = reader.with(|reader| (reader.cursor, reader.is_first_pass()));
    let slots = table.order().slots();
    let mut stopped = false;
    while cursor < slots && !stopped {
        if !budget.spend(BLOCK_WORK) {
            break;
        }
        (cursor, stopped) = if first {
            let end = (cursor / BLOCK + 1) * BLOCK;
            let shared_out = reader.enter_block(table, cursor);
            let _ = budget.spend(shared_out * SHARE_WORK);
            let reached = occupied(table, cursor..end, budget, &mut show_word);
            reader.leave_block(reached);
            (reached, reached < end)
        } else {
            changed(table, reader, cursor, budget, &mut show_word)
        };
    }
    reader.with(|reader| reader.cursor = cursor);
    reader.conclude(table, budget).ended
}

/// Shows the occupied slots of a block, or of the rest of it; where it stopped.
fn occupied(
    table: &Table<'_>,
    slots: core::ops::Range<u64>,
    budget: &mut Budget,
    show_word: &mut impl FnMut(u64, u64, &mut Budget) -> u64,
) -> u64 {
    let mut cursor = slots.start;
    while cursor < slots.end {
        let (word, bit) = (cursor / WORD, cursor % WORD);
        let shown = if budget.spend(WORD_WORK) {
            let occupied = table.occupied().word(word) & !0 << bit;
            show_word(word, occupied, budget)
        } else {
            bit
        };
        cursor = word * WORD + shown;
        if shown < WORD {
            break;
        }
    }
    cursor
}

/// Shows changed slots from slot `from` on, of some blocks; up to where, and whether it stopped there for want of work.
fn changed(
    table: &Table<'_>,
    reader: &InUse<'_, '_>,
    from: u64,
    budget: &mut Budget,
    show_word: &mut impl FnMut(u64, u64, &mut Budget) -> u64,
) -> (u64, bool) {
    reader.with_room(|taken| {
        taken.clear();
        let upto = reader.take(table, from, table.order().slots(), taken, budget);
        for (word, marks) in taken.from(from) {
            let shown = if budget.spend(WORD_WORK) {
                show_word(word, marks, budget)
            } else {
                0
            };
            if shown < WORD {
                let stopped = (word * WORD + shown).max(from);
                reader.put_back(taken, stopped);
                return (stopped, true);
            }
        }
        (upto, false)
    })
}

/// Shows slots of a word, and keeps the marks of those that are to be shown again; the bit that it stopped at for
/// want of work, or [`WORD`].
fn show_word(
    reader: &InUse<'_, '_>,
    word: u64,
    slots: u64,
    budget: &mut Budget,
    show: &mut impl FnMut(u64, &mut Budget) -> bool,
) -> u64 {
    let (mut again, mut stopped) = (0, WORD);
    for bit in ones(slots) {
        if budget.is_spent() {
            stopped = bit;
            break;
        }
        if !show(word * WORD + bit, budget) {
            again |= 1 << bit;
        }
    }
    if again != 0 {
        reader.keep(word, again);
    }
    stopped
}
