//! Bitmaps with a bit for each slot, and [`Marks`]: a bitmap with a summary above it.
//!
//! Words have 64 bits and are only ever accessed whole; a PTEG is eight bits of one word. (A PTEG as an
//! atomic byte of its own would be mixed-size access, which is undefined.)
//!
//! # Orderings of [`Marks`]
//! A writer sets the leaf bit, and the summary bit only if the leaf word was zero before: one atomic, two for
//! the first mark in a word. A taker clears the summary bits first and then swaps the leaf words, so a mark
//! is always found: either its leaf bit is in the swapped word, or the swap came before it, left zero, and
//! the writer sets the summary again. The other order on either side loses marks. The swap is followed by an
//! acquire fence, and the mark preceded by a release fence, so whoever takes a mark sees the change it is
//! about (or a later one, with a mark of its own to come).

use crate::sync::{AtomicU64, Ordering, fence};

/// Slots a word has bits for.
pub const WORD: u64 = u64::BITS as u64;
/// Slots a summary word stands for: 64 words of 64 bits.
pub const BLOCK: u64 = WORD * WORD;

/// The word and the bit of a slot.
#[inline]
fn place(slot: u64) -> (usize, u64) {
    (index(slot / WORD), 1 << (slot % WORD))
}

/// A word's number as an index; the target and every host that holds such a table have 64-bit addresses.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits wherever a table fits"
)]
pub(crate) const fn index(word: u64) -> usize {
    word as usize
}

/// The bits of a word, lowest first.
#[inline]
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = u64> {
    core::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = u64::from(word.trailing_zeros());
        word &= word - 1;
        Some(bit)
    })
}

/// One bit for each slot.
#[derive(Clone, Copy, Debug)]
pub struct Bitmap<'m>(&'m [AtomicU64]);

impl<'m> Bitmap<'m> {
    /// The bitmap over `words`.
    #[must_use]
    pub const fn new(words: &'m [AtomicU64]) -> Self {
        Self(words)
    }

    /// Word number `word`; zero beyond the end.
    #[inline]
    #[must_use]
    pub fn word(&self, word: u64) -> u64 {
        self.0
            .get(index(word))
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// Whether the slot's bit is set.
    #[inline]
    #[must_use]
    pub fn contains(&self, slot: u64) -> bool {
        let (word, bit) = place(slot);
        self.0
            .get(word)
            .is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// Sets the slot's bit; whether it was clear. Who set it owns the slot.
    #[inline]
    #[must_use]
    pub fn claim(&self, slot: u64) -> bool {
        let (word, bit) = place(slot);
        let claimed = self
            .0
            .get(word)
            .is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0);
        // The last owner's stores of zero come before the next owner's entry.
        fence(Ordering::Acquire);
        claimed
    }

    /// Clears the slot's bit, after everything its owner did to the slot.
    #[inline]
    pub fn release(&self, slot: u64) {
        let (word, bit) = place(slot);
        if let Some(word) = self.0.get(word) {
            word.fetch_and(!bit, Ordering::Release);
        }
    }

    /// Clears a whole word, whose owner nobody else is.
    pub(super) fn release_word(&self, word: u64) {
        if let Some(word) = self.0.get(index(word)) {
            word.store(0, Ordering::Release);
        }
    }
}

/// A bitmap with a summary: bit w of the summary says that leaf word w may have bits.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'m> {
    leaf: &'m [AtomicU64],
    summary: &'m [AtomicU64],
}

impl<'m> Marks<'m> {
    /// The marks over these words; `summary` has a bit for each word of `leaf`.
    #[must_use]
    pub const fn new(leaf: &'m [AtomicU64], summary: &'m [AtomicU64]) -> Self {
        Self { leaf, summary }
    }

    /// Sets a slot's mark, after the change it is about is visible; whether its block had none before.
    #[inline]
    pub fn mark(&self, slot: u64) -> bool {
        let (word, bit) = place(slot);
        fence(Ordering::Release);
        let first = self
            .leaf
            .get(word)
            .is_some_and(|leaf| leaf.fetch_or(bit, Ordering::Relaxed) == 0);
        first && self.mark_summary(slot / WORD)
    }

    /// The words, for one whose own lock makes the protocol above needless: leaf and summary.
    #[must_use]
    pub const fn words(&self) -> (&'m [AtomicU64], &'m [AtomicU64]) {
        (self.leaf, self.summary)
    }

    #[inline]
    fn mark_summary(&self, word: u64) -> bool {
        let (word, bit) = place(word);
        self.summary
            .get(word)
            .is_some_and(|words| words.fetch_or(bit, Ordering::Relaxed) == 0)
    }

    /// The blocks that there is room for.
    #[must_use]
    pub const fn blocks(&self) -> core::ops::Range<u64> {
        0..self.summary.len() as u64
    }

    /// The words of a block that may have marks, a bit for each.
    #[inline]
    #[must_use]
    pub fn block(&self, block: u64) -> u64 {
        self.summary
            .get(index(block))
            .map_or(0, |summary| summary.load(Ordering::Relaxed))
    }

    /// Leaf word number `word`.
    #[inline]
    #[must_use]
    pub fn word(&self, word: u64) -> u64 {
        self.leaf
            .get(index(word))
            .map_or(0, |leaf| leaf.load(Ordering::Relaxed))
    }

    /// Takes the marks of a block away: gives each word that had some to `taken`, lowest first.
    #[inline]
    pub fn take(&self, block: u64, mut taken: impl FnMut(u64, u64)) {
        let Some(summary) = self.summary.get(index(block)) else {
            return;
        };
        if summary.load(Ordering::Relaxed) == 0 {
            return;
        }
        let words = summary.swap(0, Ordering::Relaxed);
        // The swaps of the leaf words must not be done before the summary is clear.
        fence(Ordering::SeqCst);
        for word in ones(words) {
            let word = block * WORD + word;
            let marks = self
                .leaf
                .get(index(word))
                .map_or(0, |leaf| leaf.swap(0, Ordering::Relaxed));
            if marks != 0 {
                taken(word, marks);
            }
        }
        fence(Ordering::Acquire);
    }

    /// Clears a slot's mark where whoever clears is the only one who may set it (the holder of the slot).
    ///
    /// The summary bit is cleared when the word has become empty; the word is looked at again afterwards,
    /// since another slot's mark may have come in between and found the summary still set.
    pub fn clear(&self, slot: u64) {
        let (word, bit) = place(slot);
        let Some(leaf) = self.leaf.get(word) else {
            return;
        };
        if leaf.fetch_and(!bit, Ordering::Relaxed) & !bit != 0 {
            return;
        }
        let (summary, bit) = place(slot / WORD);
        let Some(summary) = self.summary.get(summary) else {
            return;
        };
        summary.fetch_and(!bit, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if leaf.load(Ordering::Relaxed) != 0 {
            summary.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether a slot's mark is set.
    #[inline]
    #[must_use]
    pub fn contains(&self, slot: u64) -> bool {
        self.word(slot / WORD) >> (slot % WORD) & 1 != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn words(count: usize) -> Vec<AtomicU64> {
        (0..count).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_claim_is_made_once() {
        let words = words(2);
        let bitmap = Bitmap::new(&words);
        assert!(bitmap.claim(70));
        assert!(!bitmap.claim(70));
        assert_eq!((bitmap.word(0), bitmap.word(1)), (0, 1 << 6));
        bitmap.release(70);
        assert!(!bitmap.contains(70));
        assert!(
            !bitmap.claim(128),
            "beyond the table nothing can be claimed"
        );
    }

    #[test]
    fn marks_are_taken_once_and_in_order() {
        let (leaf, summary) = (words(128), words(2));
        let marks = Marks::new(&leaf, &summary);
        for slot in [BLOCK + 5, 63, 64, 1, 4095] {
            marks.mark(slot);
        }
        let mut taken = Vec::new();
        marks.take(0, |word, bits| taken.push((word, bits)));
        assert_eq!(taken, [(0, 1 << 63 | 1 << 1), (1, 1), (63, 1 << 63)]);
        marks.take(0, |_, _| panic!("taken twice"));
        assert_eq!(marks.block(1), 1);
    }

    #[test]
    fn clearing_the_last_mark_of_a_word_clears_its_summary() {
        let (leaf, summary) = (words(64), words(1));
        let marks = Marks::new(&leaf, &summary);
        marks.mark(3);
        marks.mark(7);
        marks.clear(3);
        assert_eq!(marks.block(0), 1);
        marks.clear(7);
        assert_eq!(marks.block(0), 0);
        assert!(!marks.contains(7));
    }
}
