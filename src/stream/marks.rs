//! The marks that a reader has of its own: a leaf word for each 64 slots, and a summary above them.
//!
//! They are touched under the readers' lock alone, so relaxed loads and stores do. A leaf word counts only while its
//! bit in the summary is set: what an earlier reader left there need not be cleared.

use crate::sync::{AtomicU64, Ordering};
use crate::table::bitmap::{WORD, index};

/// Doublewords of a reader's own marks; only touched under the lock, so relaxed loads and stores do.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnMarks<'m> {
    pub(super) leaf: &'m [AtomicU64],
    pub(super) summary: &'m [AtomicU64],
}

/// The bits of word number `word` whose slots are below `end`.
pub(super) fn below(word: u64, end: u64) -> u64 {
    match end.saturating_sub(word * WORD) {
        0 => 0,
        slots @ 1..WORD => (1 << slots) - 1,
        _ => !0,
    }
}

impl OwnMarks<'_> {
    pub(super) fn summary(&self, block: u64) -> u64 {
        self.summary
            .get(index(block))
            .map_or(0, |summary| summary.load(Ordering::Relaxed))
    }

    pub(super) fn set_summary(&self, block: u64, words: u64) {
        if let Some(summary) = self.summary.get(index(block)) {
            summary.store(words, Ordering::Relaxed);
        }
    }

    pub(super) fn leaf(&self, word: u64) -> u64 {
        if self.summary(word / WORD) >> (word % WORD) & 1 == 0 {
            return 0;
        }
        self.leaf
            .get(index(word))
            .map_or(0, |leaf| leaf.load(Ordering::Relaxed))
    }

    pub(super) fn set_leaf(&self, word: u64, marks: u64) {
        let (block, bit) = (word / WORD, 1 << (word % WORD));
        if let Some(leaf) = self.leaf.get(index(word)) {
            leaf.store(marks, Ordering::Relaxed);
        }
        let words = self.summary(block);
        self.set_summary(
            block,
            if marks == 0 {
                words & !bit
            } else {
                words | bit
            },
        );
    }

    /// Drops the marks of a block.
    pub(super) fn forget(&self, block: u64) {
        self.set_summary(block, 0);
    }

    /// Adds marks; how many of them are new.
    pub(super) fn add(&self, word: u64, marks: u64) -> u64 {
        let had = self.leaf(word);
        self.set_leaf(word, had | marks);
        u64::from((marks & !had).count_ones())
    }
}
