//! Marks that a reader has taken, from a few blocks of the table: they are delivered, or put back.
//!
//! A pass takes them under the readers' lock and delivers them without it, so they stand apart from the reader's own
//! marks meanwhile.

use super::marks::below;
use crate::table::bitmap::{BLOCK, WORD, above, index};

/// A part of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within {
    pub(super) cursor: u64,
    pub(super) end: u64,
}

impl Within {
    /// The bits of word number `word` that are in it.
    #[inline(always)]
    pub(super) fn of(self, word: u64) -> u64 {
        if self.cursor.is_multiple_of(BLOCK) && self.end.is_multiple_of(BLOCK) {
            return !0;
        }
        !below(word, self.cursor) & below(word, self.end)
    }
}

/// Words that marks are taken of before they are delivered, at most: each delivery has its price, and most blocks have few. A
/// block is only begun while there is room for all of its words.
const ROOM: usize = 2 * PER_BLOCK;
/// Words of a block. (loom's table has one, and its threads have stacks of 32 KiB.)
const PER_BLOCK: usize = if cfg!(loom) { 1 } else { index(WORD) };

/// Marks that were taken: the number of a word, and those of its slots, lowest first.
#[derive(Debug)]
pub(super) struct Taken {
    words: heapless::Vec<(u64, u64), ROOM>,
}

impl Taken {
    /// No marks.
    pub(super) const fn new() -> Self {
        Self {
            words: heapless::Vec::new(),
        }
    }

    /// Has it be without marks.
    pub(super) fn clear(&mut self) {
        self.words.clear();
    }

    /// Whether there is room for the marks of another block.
    pub(super) fn has_room(&self) -> bool {
        self.words.len() <= ROOM - PER_BLOCK
    }

    /// Adds marks of a word that comes after all others.
    #[inline(always)]
    pub(super) fn push(&mut self, word: u64, marks: u64) {
        // Whoever begins a block has asked for room.
        let _ = self.words.push((word, marks));
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many words have some.
    pub(super) fn count(&self) -> u64 {
        self.words.len() as u64
    }

    /// The words that have marks of slots from `cursor` on: their numbers, and those marks.
    #[inline(always)]
    pub(super) fn from(&self, cursor: u64) -> impl Iterator<Item = (u64, u64)> {
        let (first, within) = (cursor / WORD, above(cursor % WORD));
        let at = self.words.partition_point(|&(word, _)| word < first);
        let words = self.words.get(at..).unwrap_or_default();
        words.iter().filter_map(move |&(word, marks)| {
            let marks = if word == first { marks & within } else { marks };
            (marks != 0).then_some((word, marks))
        })
    }
}
