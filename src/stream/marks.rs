//! The marks that a reader has of its own: a leaf word for each 64 slots, and two levels above them.
//!
//! They are touched under the readers' lock alone, so relaxed loads and stores do. A word counts only while its bit one level
//! up is set: what an earlier reader left there need not be cleared. Only the root is, when a reader begins: that is a word for
//! each 262 144 slots, 16 384 of them for the largest table that a stream can be of.

use crate::arch::arrays::Levels;
use crate::sync::{AtomicU64, Ordering};
use crate::table::bitmap::{WORD, index, load, ones};

/// A reader's own marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnMarks<'m> {
    levels: Levels<'m>,
}

/// The bits of word number `word` whose slots are below `end`.
pub(super) fn below(word: u64, end: u64) -> u64 {
    match end.saturating_sub(word * WORD) {
        0 => 0,
        slots @ 1..WORD => (1 << slots) - 1,
        _ => !0,
    }
}

/// Word `number` of a level, which counts while its bit one level up is set in `above`.
fn counted(level: &[AtomicU64], number: u64, above: u64) -> u64 {
    if above >> (number % WORD) & 1 == 0 {
        return 0;
    }
    load(level, number)
}

/// Stores word `number` of a level.
fn store(level: &[AtomicU64], number: u64, value: u64) {
    if let Some(word) = level.get(index(number)) {
        word.store(value, Ordering::Relaxed);
    }
}

/// A word with the bit of `number` set if what it stands for has any.
const fn with(word: u64, number: u64, any: bool) -> u64 {
    let bit = 1 << (number % WORD);
    if any { word | bit } else { word & !bit }
}

impl<'m> OwnMarks<'m> {
    pub(super) const fn new(levels: Levels<'m>) -> Self {
        Self { levels }
    }

    /// The root, for a look without the lock: bit b says that block b has marks.
    pub(super) const fn root(&self) -> &'m [AtomicU64] {
        self.levels.root
    }

    /// The words of a block that have marks, a bit for each.
    pub(super) fn summary(&self, block: u64) -> u64 {
        counted(
            self.levels.summary,
            block,
            load(self.levels.root, block / WORD),
        )
    }

    /// The marks of a word.
    pub(super) fn leaf(&self, word: u64) -> u64 {
        counted(self.levels.leaf, word, self.summary(word / WORD))
    }

    /// Changes the marks of a word.
    pub(super) fn set_leaf(&self, word: u64, marks: u64) {
        let block = word / WORD;
        let had = self.summary(block);
        store(self.levels.leaf, word, marks);
        self.set_summary(block, had, with(had, word, marks != 0));
    }

    /// Takes those marks of a block that `within` says of a word's number: gives each word that had some to `taken`, lowest
    /// first.
    #[inline(always)]
    pub(super) fn take(
        &self,
        block: u64,
        within: impl Fn(u64) -> u64,
        mut taken: impl FnMut(u64, u64),
    ) {
        let words = self.summary(block);
        if words == 0 {
            return;
        }
        let mut left = 0;
        for word in ones(words) {
            let number = block * WORD + word;
            let had = load(self.levels.leaf, number);
            let marks = had & within(number);
            if marks != had {
                store(self.levels.leaf, number, had & !marks);
                left |= 1 << word;
            }
            if marks != 0 {
                taken(number, marks);
            }
        }
        self.set_summary(block, words, left);
    }

    /// Changes which words of a block have marks.
    fn set_summary(&self, block: u64, had: u64, words: u64) {
        store(self.levels.summary, block, words);
        if (words == 0) != (had == 0)
            && let Some(root) = self.levels.root.get(index(block / WORD))
        {
            let blocks = root.load(Ordering::Relaxed);
            root.store(with(blocks, block, words != 0), Ordering::Relaxed);
        }
    }

    /// Drops all marks.
    pub(super) fn forget_all(&self) {
        for root in self.levels.root {
            root.store(0, Ordering::Relaxed);
        }
    }

    /// Adds marks; how many of them are new.
    pub(super) fn add(&self, word: u64, marks: u64) -> u64 {
        let had = self.leaf(word);
        self.set_leaf(word, had | marks);
        u64::from((marks & !had).count_ones())
    }
}
