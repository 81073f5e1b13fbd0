//! Marks that a reader has taken, a block of the table at a time: they are delivered, or put back.
//!
//! A pass takes them under the readers' lock and delivers them without it, so they stand apart from the reader's own
//! marks meanwhile.

use super::marks::below;
use crate::table::bitmap::{BLOCK, WORD, above, index, ones};

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

/// Marks of a block that were taken. One is used for block after block: nothing is cleared but what says which words count.
#[derive(Debug)]
pub(super) struct Taken {
    /// The number of the block's first word.
    pub(super) first: u64,
    /// Words of the block that have some, a bit for each.
    pub(super) words: u64,
    /// The marks of those words.
    marks: [u64; index(WORD)],
    /// How many words of marks were shared out on the way.
    pub(super) shared_out: u64,
}

impl Taken {
    /// No marks.
    pub(super) const fn new() -> Self {
        Self {
            first: 0,
            words: 0,
            marks: [0; index(WORD)],
            shared_out: 0,
        }
    }

    pub(super) fn begin(&mut self, block: u64) {
        (self.first, self.words, self.shared_out) = (block * WORD, 0, 0);
    }

    /// Adds marks of word `word` of the block.
    #[inline(always)]
    pub(super) fn add(&mut self, word: u64, marks: u64) {
        if let Some(of_word) = self.marks.get_mut(index(word)) {
            let had = if self.words >> word & 1 == 0 {
                0
            } else {
                *of_word
            };
            *of_word = had | marks;
            self.words |= 1 << word;
        }
    }

    /// The words that have marks of slots from `cursor` on: their numbers, and those marks.
    #[inline(always)]
    pub(super) fn from(&self, cursor: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = cursor.saturating_sub(self.first * WORD);
        ones(self.words & above(first / WORD)).filter_map(move |word| {
            let marks = self.marks.get(index(word))? & above(first.saturating_sub(word * WORD));
            (marks != 0).then_some((self.first + word, marks))
        })
    }
}
