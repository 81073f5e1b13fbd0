//! The marks that a reader has of its own: a leaf word for each 64 slots, and two levels above them.
//!
//! They are touched under the readers' lock alone, so relaxed loads and stores do. A word counts only while its bit one level
//! up is set, and a word of the root, one for each 262 144 slots, only while the serial beside it is the reader's: what an
//! earlier reader left need not be cleared, so a reader begins in constant time whatever the order.

use crate::arch::arrays::Levels;
use crate::sync::{AtomicU64, Ordering};
use crate::table::bitmap::{WORD, index, load, ones};

/// A reader's own marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnMarks<'m> {
    leaf: &'m [AtomicU64],
    summary: &'m [AtomicU64],
    root: Root<'m>,
}

/// The root of a reader's marks, for a look without the lock, too: bit b of word r says that block 64 r + b has marks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Root<'m> {
    /// The words, each with the serial of the reader that it is of. The word is stored first: who looks without the lock and
    /// sees an earlier one at most looks in vain, or misses what comes at this moment.
    words: &'m [[AtomicU64; 2]],
    /// The reader's serial; 0 is none's, as in memory that nobody has used.
    serial: u64,
}

impl Root<'_> {
    /// The blocks of root word `number` that have marks, a bit for each.
    #[inline(always)]
    pub(super) fn blocks(&self, number: u64) -> u64 {
        match self.words.get(index(number)) {
            Some([word, serial]) if serial.load(Ordering::Relaxed) == self.serial => {
                word.load(Ordering::Relaxed)
            }
            _ => 0,
        }
    }

    /// Changes whether a block has marks.
    fn set(&self, block: u64, any: bool) {
        let number = block / WORD;
        let blocks = with(self.blocks(number), block, any);
        if let Some([word, serial]) = self.words.get(index(number)) {
            word.store(blocks, Ordering::Relaxed);
            serial.store(self.serial, Ordering::Relaxed);
        }
    }
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
    /// Marks in these words, of which the root's are pairs.
    pub(super) const fn new(levels: Levels<'m>) -> Self {
        let (words, _) = levels.root.as_chunks();
        Self {
            leaf: levels.leaf,
            summary: levels.summary,
            root: Root { words, serial: 0 },
        }
    }

    /// The root.
    pub(super) const fn root(&self) -> Root<'m> {
        self.root
    }

    /// The words of a block that have marks, a bit for each.
    pub(super) fn summary(&self, block: u64) -> u64 {
        counted(self.summary, block, self.root.blocks(block / WORD))
    }

    /// The marks of a word.
    pub(super) fn leaf(&self, word: u64) -> u64 {
        counted(self.leaf, word, self.summary(word / WORD))
    }

    /// Changes the marks of a word.
    pub(super) fn set_leaf(&self, word: u64, marks: u64) {
        let block = word / WORD;
        let had = self.summary(block);
        store(self.leaf, word, marks);
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
            let had = load(self.leaf, number);
            let marks = had & within(number);
            if marks != had {
                store(self.leaf, number, had & !marks);
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
        store(self.summary, block, words);
        if (words == 0) != (had == 0) {
            self.root.set(block, words != 0);
        }
    }

    /// Drops all marks: what there is is not of the reader with this serial, which no reader had before.
    pub(super) const fn begin(&mut self, serial: u64) {
        self.root.serial = serial;
    }

    /// Adds marks; how many of them are new.
    pub(super) fn add(&self, word: u64, marks: u64) -> u64 {
        let had = self.leaf(word);
        self.set_leaf(word, had | marks);
        u64::from((marks & !had).count_ones())
    }
}
