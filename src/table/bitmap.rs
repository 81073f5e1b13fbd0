//! Bitmaps with a bit for each slot, and [`Marks`]: a bitmap with a summary above it, and maybe a root above that.
//!
//! Words have 64 bits and are only ever accessed whole; a PTEG is eight bits of one word. (A PTEG as an
//! atomic byte of its own would be mixed-size access, which is undefined.)
//!
//! [`Bit`] and [`Mark`] are those of one slot, in words that were found before.
//!
//! # Orderings of [`Marks`]
//! A writer sets the leaf bit, and the summary bit only if the leaf word was zero before: one atomic, two for
//! the first mark in a word. A taker clears the summary bits first and then swaps the leaf words, so a mark
//! is always found: either its leaf bit is in the swapped word, or the swap came before it, left zero, and
//! the writer sets the summary again. The other order on either side loses marks. The swap is followed by an
//! acquire fence, and the mark preceded by a release fence, so whoever takes a mark sees the change it is
//! about (or a later one, with a mark of its own to come).
//!
//! Where there is a root, it stands to the summary as that to the leaves: who marks the first word of a block sets its bit
//! afterwards (`note_block`), and it is cleared before the summary's word is swapped. A bit that is set too late stands
//! above nothing until somebody looks.

use crate::arch::arrays::Levels;
use crate::sync::{AtomicU64, Ordering, fence};

/// Slots a word has bits for.
pub const WORD: u64 = u64::BITS as u64;
/// Slots a summary word stands for: 64 words of 64 bits.
pub const BLOCK: u64 = WORD * WORD;
/// Slots a root word stands for: 64 blocks.
pub const REGION: u64 = BLOCK * WORD;

/// A word's number as an index; the target and every host that holds such a table have 64-bit addresses.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits wherever a table fits"
)]
pub(crate) const fn index(word: u64) -> usize {
    word as usize
}

/// The bits of a word from number `bit` on; none from 64 on.
#[inline(always)]
pub(crate) const fn above(bit: u64) -> u64 {
    if bit < WORD { !0 << bit } else { 0 }
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

/// Word number `word`; zero beyond the end.
#[inline(always)]
pub(crate) fn load(words: &[AtomicU64], word: u64) -> u64 {
    words
        .get(index(word))
        .map_or(0, |word| word.load(Ordering::Relaxed))
}

/// One bit of a word.
#[derive(Clone, Copy, Debug)]
pub struct Bit<'t> {
    word: &'t AtomicU64,
    bit: u64,
}

impl<'t> Bit<'t> {
    /// The bit of slot `slot`, or of whatever else is numbered, in the word that it is in.
    #[inline(always)]
    #[must_use]
    pub const fn new(word: &'t AtomicU64, slot: u64) -> Self {
        let bit = 1 << (slot % WORD);
        Self { word, bit }
    }

    /// Whether it is set.
    #[inline(always)]
    #[must_use]
    pub fn is_set(self) -> bool {
        self.word.load(Ordering::Relaxed) & self.bit != 0
    }

    /// Sets it; whether it was clear. Who set it owns the slot.
    #[inline(always)]
    #[must_use]
    pub fn claim(self) -> bool {
        let claimed = self.word.fetch_or(self.bit, Ordering::Relaxed) & self.bit == 0;
        // The last owner's stores of zero come before the next owner's entry.
        fence(Ordering::Acquire);
        claimed
    }

    /// The same for the bits `bits` of a word, where nobody else sets any: whether they were all clear. If not, all are left as
    /// they were.
    #[inline(always)]
    #[must_use]
    pub(super) fn claim_all(word: &AtomicU64, bits: u64) -> bool {
        let found = word.fetch_or(bits, Ordering::Relaxed) & bits;
        fence(Ordering::Acquire);
        if found != 0 {
            word.fetch_and(!(bits & !found), Ordering::Release);
        }
        found == 0
    }

    /// Clears it, after everything its owner did to the slot.
    #[inline(always)]
    pub fn release(self) {
        self.word.fetch_and(!self.bit, Ordering::Release);
    }

    /// Sets it; whether its word was zero.
    #[inline(always)]
    fn set(self) -> bool {
        self.word.fetch_or(self.bit, Ordering::Relaxed) == 0
    }

    /// Clears it; whether its word is zero now.
    #[inline(always)]
    fn clear(self) -> bool {
        self.word.fetch_and(!self.bit, Ordering::Relaxed) & !self.bit == 0
    }
}

/// The mark of one slot, or the marks of several of one word: the bits, and the summary's bit of their word.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'t> {
    leaf: Bit<'t>,
    summary: Bit<'t>,
}

impl<'t> Mark<'t> {
    /// The mark of slot `slot` in these words, the leaf's and the summary's.
    #[inline(always)]
    #[must_use]
    pub const fn new((leaf, summary): (&'t AtomicU64, &'t AtomicU64), slot: u64) -> Self {
        Self {
            leaf: Bit::new(leaf, slot),
            summary: Bit::new(summary, slot / WORD),
        }
    }

    /// Whether it is set.
    #[inline(always)]
    #[must_use]
    pub fn is_set(self) -> bool {
        self.leaf.is_set()
    }

    /// Sets it, after the change it is about is visible; whether its block had none before.
    /// Of several, all at once.
    #[inline(always)]
    pub fn set(self) -> bool {
        fence(Ordering::Release);
        if !self.leaf.set() {
            return false;
        }
        // Who finds the summary's bit must find the leaf's.
        fence(Ordering::Release);
        self.summary.set()
    }

    /// Clears it, where whoever clears is the only one who may set it (the holder of the slot); how many blocks more have
    /// marks now than before, or fewer: none, or one.
    ///
    /// The summary bit is cleared when the word has become empty; the word is looked at again afterwards,
    /// since another slot's mark may have come in between and found the summary still set.
    ///
    /// Inlined: a call would have every way through a hypercall save registers for it.
    #[inline(always)]
    pub fn clear(self) -> i64 {
        if !self.leaf.clear() {
            return 0;
        }
        let emptied = self.summary.clear();
        fence(Ordering::SeqCst);
        let filled = self.leaf.word.load(Ordering::Relaxed) != 0 && self.summary.set();
        i64::from(filled) - i64::from(emptied)
    }
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
        load(self.0, word)
    }

    /// Whether the slot's bit is set.
    #[inline]
    #[must_use]
    pub fn contains(&self, slot: u64) -> bool {
        self.at(slot).is_some_and(Bit::is_set)
    }

    /// The slot's bit; none beyond the end.
    #[inline]
    #[must_use]
    pub fn at(&self, slot: u64) -> Option<Bit<'m>> {
        let word = self.0.get(index(slot / WORD))?;
        Some(Bit::new(word, slot))
    }

    /// Clears a whole word, whose owner nobody else is.
    pub(super) fn release_word(&self, word: u64) {
        if let Some(word) = self.0.get(index(word)) {
            word.store(0, Ordering::Release);
        }
    }
}

/// A bitmap with a summary: bit w of the summary says that leaf word w may have bits. Where there is a root, bit b of it says
/// the same of word b of the summary.
#[derive(Clone, Copy, Debug)]
pub struct Marks<'m>(Levels<'m>);

impl<'m> Marks<'m> {
    /// The marks over these words.
    #[must_use]
    pub const fn new(levels: Levels<'m>) -> Self {
        Self(levels)
    }

    /// The slot's mark; none beyond the end.
    #[inline]
    #[must_use]
    pub fn at(&self, slot: u64) -> Option<Mark<'m>> {
        let leaf = self.0.leaf.get(index(slot / WORD))?;
        let summary = self.0.summary.get(index(slot / BLOCK))?;
        Some(Mark::new((leaf, summary), slot))
    }

    /// The marks of some slots of word `word`; none beyond the end.
    #[inline(always)]
    #[must_use]
    pub(super) fn some(&self, word: u64, slots: u64) -> Option<Mark<'m>> {
        let leaf = self.0.leaf.get(index(word))?;
        let summary = self.0.summary.get(index(word / WORD))?;
        Some(Mark {
            leaf: Bit {
                word: leaf,
                bit: slots,
            },
            summary: Bit::new(summary, word),
        })
    }

    /// Sets a slot's mark.
    #[inline]
    pub fn mark(&self, slot: u64) {
        if let Some(mark) = self.at(slot) {
            mark.set();
        }
    }

    /// Sets the root's bit of a block, whose first word was marked.
    pub(super) fn note_block(&self, block: u64) {
        if let Some(root) = self.0.root.get(index(block / WORD)) {
            fence(Ordering::Release);
            let _ = Bit::new(root, block).set();
        }
    }

    /// The blocks of a root word that may have marks, a bit for each.
    #[inline(always)]
    #[must_use]
    pub fn root(&self, root: u64) -> u64 {
        load(self.0.root, root)
    }

    /// The first block from `block` on, and before `end`, that may have marks, by the summary; else `end`.
    #[must_use]
    pub fn first_block(&self, block: u64, end: u64) -> u64 {
        let last = index(end).min(self.0.summary.len());
        let words = self.0.summary.get(index(block)..last).unwrap_or_default();
        let empty = words
            .iter()
            .take_while(|word| word.load(Ordering::Relaxed) == 0)
            .count() as u64;
        if empty == words.len() as u64 {
            end
        } else {
            block + empty
        }
    }

    /// The blocks that there is room for.
    #[must_use]
    pub const fn blocks(&self) -> core::ops::Range<u64> {
        0..self.0.summary.len() as u64
    }

    /// The words of a block that may have marks, a bit for each.
    #[inline]
    #[must_use]
    pub fn block(&self, block: u64) -> u64 {
        load(self.0.summary, block)
    }

    /// Leaf word number `word`.
    #[inline]
    #[must_use]
    pub fn word(&self, word: u64) -> u64 {
        load(self.0.leaf, word)
    }

    /// Takes the marks of a block away: gives each word that had some to `taken`, lowest first. Whether it had any, or may
    /// have had.
    #[inline]
    pub fn take(&self, block: u64, mut taken: impl FnMut(u64, u64)) -> bool {
        let Some(summary) = self.0.summary.get(index(block)) else {
            return false;
        };
        let root = self.0.root.get(index(block / WORD));
        let root = root.map(|root| Bit::new(root, block));
        if let Some(root) = root.filter(|root| root.is_set()) {
            let _ = root.clear();
            // The summary's word must not be swapped before its bit in the root is clear.
            fence(Ordering::SeqCst);
        }
        if summary.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let words = summary.swap(0, Ordering::Relaxed);
        // The swaps of the leaf words must not be done before the summary is clear.
        fence(Ordering::SeqCst);
        for word in ones(words) {
            let word = block * WORD + word;
            let marks = self
                .0
                .leaf
                .get(index(word))
                .map_or(0, |leaf| leaf.swap(0, Ordering::Relaxed));
            if marks != 0 {
                taken(word, marks);
            }
        }
        fence(Ordering::Acquire);
        words != 0
    }

    /// Clears a slot's mark.
    pub fn clear(&self, slot: u64) {
        if let Some(mark) = self.at(slot) {
            let _ = mark.clear();
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
        let bit = bitmap.at(70).unwrap();
        assert!(bit.claim());
        assert!(!bit.claim());
        assert_eq!((bitmap.word(0), bitmap.word(1)), (0, 1 << 6));
        bit.release();
        assert!(!bitmap.contains(70));
        assert!(
            bitmap.at(128).is_none(),
            "beyond the table nothing can be claimed"
        );
    }

    #[test]
    fn marks_are_taken_once_and_in_order() {
        let (leaf, summary, root) = (words(128), words(2), words(1));
        let marks = Marks::new(Levels {
            leaf: &leaf,
            summary: &summary,
            root: &root,
        });
        for slot in [BLOCK + 5, 63, 64, 1, 4095] {
            marks.mark(slot);
            marks.note_block(slot / BLOCK);
        }
        assert_eq!(marks.root(0), 0b11);
        let mut taken = Vec::new();
        marks.take(0, |word, bits| taken.push((word, bits)));
        assert_eq!(taken, [(0, 1 << 63 | 1 << 1), (1, 1), (63, 1 << 63)]);
        marks.take(0, |_, _| panic!("taken twice"));
        assert_eq!((marks.block(1), marks.root(0)), (1, 0b10));
        assert_eq!([marks.first_block(0, 2), marks.first_block(0, 1)], [1, 1]);
    }

    #[test]
    fn clearing_the_last_mark_of_a_word_clears_its_summary() {
        let (leaf, summary) = (words(64), words(1));
        let marks = Marks::new(Levels {
            leaf: &leaf,
            summary: &summary,
            root: &[],
        });
        marks.mark(3);
        marks.mark(7);
        marks.clear(3);
        assert_eq!(marks.block(0), 1);
        marks.clear(7);
        assert_eq!(marks.block(0), 0);
        assert!(!marks.contains(7));
    }
}
