//! The arrays of a table's area, and a place in all of them.
//!
//! An area has an element for each slot (the HPT's doublewords, the guest view), for each 64 slots (the words of the
//! bitmaps), for each 4096 (the words of their summaries), and maybe for each 262 144 (their roots). They are as long as one
//! another, so one check of a slot's number is enough for all: [`Arrays::place`] makes it, and a [`Place`] only exists where
//! there is an element in every array but a root. Each further check would stand on the way of every hypercall, a few
//! instructions and a branch at a time.

use crate::sync::{AtomicU64, BeDword, Steady};

/// Slots of a word.
const WORD: u64 = u64::BITS as u64;
/// Slots of a summary word.
const BLOCK: u64 = WORD * WORD;
/// Slots of a PTEG.
const GROUP: u64 = 8;

/// A bitmap and the levels above it: a bit for each slot, a bit for each word, and a bit for each word of those.
#[derive(Clone, Copy, Debug, Default)]
pub struct Levels<'m> {
    /// The bitmap.
    pub leaf: &'m [AtomicU64],
    /// Its summary.
    pub summary: &'m [AtomicU64],
    /// The summary's; empty where nobody looks for blocks by it.
    pub root: &'m [AtomicU64],
}

impl Levels<'_> {
    /// Whether there is an element of the lower two for as many slots.
    const fn cover(&self, slots: u64) -> bool {
        self.leaf.len() as u64 >= slots.div_ceil(WORD)
            && self.summary.len() as u64 >= slots.div_ceil(BLOCK)
    }
}

/// The arrays of one area.
///
/// Invariant: `slots` is at most `hpt.len()`, which is a multiple of a PTEG's eight, and every array has an element for each of
/// as many slots.
#[derive(Debug)]
pub struct Arrays<'m> {
    hpt: &'m [[BeDword; 2]],
    view: &'m [AtomicU64],
    occupied: &'m [AtomicU64],
    unsettled: Levels<'m>,
    changed: Levels<'m>,
    slots: Steady,
}

impl Default for Arrays<'_> {
    /// Arrays without a slot.
    fn default() -> Self {
        Self {
            hpt: &[],
            view: &[],
            occupied: &[],
            unsettled: Levels::default(),
            changed: Levels::default(),
            slots: Steady::new(0),
        }
    }
}

impl<'m> Arrays<'m> {
    /// Arrays whose slots are all in use; none if they do not have an element each for all slots, or the slots make no
    /// whole PTEGs.
    #[must_use]
    pub fn new(
        hpt: &'m [[BeDword; 2]],
        view: &'m [AtomicU64],
        occupied: &'m [AtomicU64],
        unsettled: Levels<'m>,
        changed: Levels<'m>,
    ) -> Option<Self> {
        let slots = hpt.len() as u64;
        let fit = view.len() as u64 == slots
            && slots.is_multiple_of(GROUP)
            && occupied.len() as u64 >= slots.div_ceil(WORD)
            && unsettled.cover(slots)
            && changed.cover(slots);
        fit.then_some(Self {
            hpt,
            view,
            occupied,
            unsettled,
            changed,
            slots: Steady::new(slots),
        })
    }

    /// Has only the first `slots` slots be in use: as many of them as there are.
    pub fn use_slots(&self, slots: u64) {
        self.slots.set(slots.min(self.hpt.len() as u64));
    }

    /// The HPT, all of the area.
    #[must_use]
    pub const fn hpt(&self) -> &'m [[BeDword; 2]] {
        self.hpt
    }

    /// The guest view, all of the area.
    #[must_use]
    pub const fn view(&self) -> &'m [AtomicU64] {
        self.view
    }

    /// Which slots are in use or claimed.
    #[must_use]
    pub const fn occupied(&self) -> &'m [AtomicU64] {
        self.occupied
    }

    /// Where hardware could still set an R or C that the guest view lacks.
    #[must_use]
    pub const fn unsettled(&self) -> Levels<'m> {
        self.unsettled
    }

    /// What was modified since any reader looked.
    #[must_use]
    pub const fn changed(&self) -> Levels<'m> {
        self.changed
    }

    /// The slots of a word; none if the area has no such word.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, word: u64) -> Option<WordSlots<'m>> {
        if word >= self.hpt.len() as u64 / WORD {
            return None;
        }
        let first = word * WORD;
        #[expect(clippy::cast_possible_truncation, reason = "indices of the array")]
        let slots = first as usize..(first + WORD) as usize;
        // SAFETY: there is an element for the word's last slot, and so for each.
        let hpt = unsafe { self.hpt.get_unchecked(slots.clone()) };
        // SAFETY: there are as many of these.
        let view = unsafe { self.view.get_unchecked(slots) };
        // SAFETY: and a word of bits for them.
        let occupied = unsafe { element(self.occupied, word) };
        Some(WordSlots {
            hpt: hpt.first_chunk()?,
            view: view.first_chunk()?,
            occupied,
        })
    }

    /// The slots of words from number `from` to number `to`, as many of them as the area has.
    #[inline(always)]
    pub fn words(&self, from: u64, to: u64) -> impl Iterator<Item = WordSlots<'m>> {
        let (hpt, _) = self.hpt.as_chunks();
        let (view, _) = self.view.as_chunks();
        #[expect(clippy::cast_possible_truncation, reason = "no more than there are")]
        let words = from as usize..to.min(hpt.len() as u64) as usize;
        let hpt = hpt.get(words.clone()).unwrap_or_default();
        let view = view.get(words.clone()).unwrap_or_default();
        let occupied = self.occupied.get(words).unwrap_or_default();
        let slots = hpt.iter().zip(view).zip(occupied);
        slots.map(|((hpt, view), occupied)| WordSlots {
            hpt,
            view,
            occupied,
        })
    }

    /// The place of slot `number`, if that is in use.
    #[inline(always)]
    #[must_use]
    pub fn place(&self, number: u64) -> Option<Place<'_>> {
        // SAFETY: there is an element for each slot in use.
        (number < self.slots.get()).then(|| unsafe { Place::new(self, number) })
    }
}

/// A slot's place in the arrays of its area.
///
/// Invariant: every array has an element `number`, or for its word or block. That fewer slots may be in use later changes
/// nothing: the arrays stay as long as they are.
#[derive(Clone, Copy, Debug)]
pub struct Place<'t> {
    arrays: &'t Arrays<'t>,
    number: u64,
    /// The HPT's element. It is needed again and again: found once.
    dwords: &'t [BeDword; 2],
}

/// A run of bits that are set in a word.
///
/// Invariant: `bit` is below 64, `length` is not zero, `bit + length` is at most 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    bit: u64,
    length: u64,
}

impl Run {
    /// The first run of a word, and the word without it; none if no bit is set.
    ///
    /// Adding the lowest bit to a word clears its run, and sets the bit above it.
    ///
    /// ```
    /// use realhpt::arch::arrays::Run;
    /// let (run, rest) = Run::first(0b1001_1100).unwrap();
    /// assert_eq!((run.bit(), run.length(), rest), (2, 3, 0b1000_0000));
    /// assert_eq!(Run::first(0), None);
    /// ```
    #[inline(always)]
    #[must_use]
    pub fn first(word: u64) -> Option<(Self, u64)> {
        if word == 0 {
            return None;
        }
        let lowest = word & word.wrapping_neg();
        let rest = word & word.wrapping_add(lowest);
        // SAFETY: the lowest bit is set in `word` and not in `rest`. (Without this, whoever goes through a run looks first
        // whether it has a bit.)
        unsafe { core::hint::assert_unchecked(rest != word) };
        let run = Self {
            bit: u64::from((lowest - 1).count_ones()),
            length: u64::from((word ^ rest).count_ones()),
        };
        Some((run, rest))
    }

    /// The run of `length` bits from `bit` on; none if that is no run of a word.
    ///
    /// ```
    /// use realhpt::arch::arrays::Run;
    /// assert_eq!(Run::new(60, 4).map(Run::mask), Some(0xf << 60));
    /// assert!(Run::new(60, 5).is_none() && Run::new(3, 0).is_none());
    /// ```
    #[inline(always)]
    #[must_use]
    pub const fn new(bit: u64, length: u64) -> Option<Self> {
        if bit < WORD && length != 0 && length <= WORD - bit {
            Some(Self { bit, length })
        } else {
            None
        }
    }

    /// Its first `length` bits; none if it has not as many, or for none.
    #[inline(always)]
    #[must_use]
    pub const fn start(self, length: u64) -> Option<Self> {
        if length != 0 && length <= self.length {
            Some(Self { length, ..self })
        } else {
            None
        }
    }

    /// Its bits.
    #[inline(always)]
    #[must_use]
    pub const fn mask(self) -> u64 {
        !0 >> ((WORD - self.length) % WORD) << (self.bit % WORD)
    }

    /// Its first bit.
    #[inline(always)]
    #[must_use]
    pub const fn bit(self) -> u64 {
        self.bit
    }

    /// How many bits it has.
    #[inline(always)]
    #[must_use]
    pub const fn length(self) -> u64 {
        self.length
    }
}

/// What the 64 slots of a word have in the HPT and in the guest view, and their bits of `occupied`.
#[derive(Clone, Copy, Debug)]
pub struct WordSlots<'t> {
    hpt: &'t [[BeDword; 2]; 64],
    view: &'t [AtomicU64; 64],
    occupied: &'t AtomicU64,
}

impl<'t> WordSlots<'t> {
    /// Their bits of `occupied`.
    #[inline(always)]
    #[must_use]
    pub const fn occupied(self) -> &'t AtomicU64 {
        self.occupied
    }

    /// Those of a run, one slot after the other.
    #[inline(always)]
    pub fn run(self, run: Run) -> impl Iterator<Item = (&'t [BeDword; 2], &'t AtomicU64)> {
        let (hpt, view) = (self.hpt.as_slice(), self.view.as_slice());
        #[expect(clippy::cast_possible_truncation, reason = "64 at most")]
        let slots = run.bit as usize..(run.bit + run.length) as usize;
        // SAFETY: the run's end is at most 64, and that is the length of both.
        let hpt = unsafe { hpt.get_unchecked(slots.clone()) };
        // SAFETY: as above.
        let view = unsafe { view.get_unchecked(slots) };
        hpt.iter().zip(view)
    }

    /// Those of slot `bit`, modulo 64.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "six bits make an index of 64 slots"
    )]
    pub const fn slot(self, bit: u64) -> (&'t [BeDword; 2], &'t AtomicU64) {
        let at = (bit % WORD) as usize;
        (&self.hpt[at], &self.view[at])
    }
}

/// Element `number` of an array.
///
/// # Safety
/// There is such an element.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is an index of an array"
)]
unsafe fn element<T>(array: &[T], number: u64) -> &T {
    // SAFETY: the caller's.
    unsafe { array.get_unchecked(number as usize) }
}

impl<'t> Place<'t> {
    /// # Safety
    /// Every array has an element for slot `number`.
    #[inline(always)]
    unsafe fn new(arrays: &'t Arrays<'t>, number: u64) -> Self {
        // SAFETY: the caller's.
        let dwords = unsafe { element(arrays.hpt, number) };
        Self {
            arrays,
            number,
            dwords,
        }
    }

    /// The slot's number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }

    /// The place of slot `number` of the same PTEG, modulo 8.
    #[inline(always)]
    #[must_use]
    pub fn in_group(self, number: u64) -> Self {
        // SAFETY: the arrays' length is a multiple of a PTEG's.
        unsafe { Self::new(self.arrays, self.number / GROUP * GROUP + number % GROUP) }
    }

    /// Dword 0.
    #[inline(always)]
    #[must_use]
    pub fn dword0(self) -> &'t BeDword {
        let [dword0, _] = self.dwords;
        dword0
    }

    /// Dword 1.
    #[inline(always)]
    #[must_use]
    pub fn dword1(self) -> &'t BeDword {
        let [_, dword1] = self.dwords;
        dword1
    }

    /// The guest's dword 1.
    #[inline(always)]
    #[must_use]
    pub fn view(self) -> &'t AtomicU64 {
        // SAFETY: the invariant.
        unsafe { element(self.arrays.view, self.number) }
    }

    /// The slot's word of `occupied`.
    #[inline(always)]
    #[must_use]
    pub fn occupied(self) -> &'t AtomicU64 {
        // SAFETY: the invariant.
        unsafe { element(self.arrays.occupied, self.number / WORD) }
    }

    /// The slot's words of `unsettled`: the leaf's, and the summary's.
    #[inline(always)]
    #[must_use]
    pub fn unsettled(self) -> (&'t AtomicU64, &'t AtomicU64) {
        let levels = &self.arrays.unsettled;
        // SAFETY: the invariant, for a word of the leaf.
        let leaf = unsafe { element(levels.leaf, self.number / WORD) };
        // SAFETY: the invariant, for a word of the summary.
        let summary = unsafe { element(levels.summary, self.number / BLOCK) };
        (leaf, summary)
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
    fn runs_of_a_word_follow_each_other() {
        for word in [
            1,
            0b1101_1000,
            !0,
            1 << 63,
            3 << 62 | 0b10,
            !0 << 1,
            !0 >> 1,
        ] {
            let (mut left, mut seen) = (word, 0);
            while let Some((run, rest)) = Run::first(left) {
                let bits = !0 >> (64 - run.length()) << run.bit();
                assert_eq!(rest, left & !bits);
                assert!(seen < 1 << run.bit(), "they come from below");
                (left, seen) = (rest, bits);
            }
        }
        assert_eq!(Run::first(!0).unwrap().0.length(), 64);
    }

    #[test]
    fn a_place_exists_where_every_array_has_an_element() {
        let hpt: Vec<[BeDword; 2]> = (0..200)
            .map(|_| [BeDword::new(0), BeDword::new(0)])
            .collect();
        let (view, leaf, summary) = (words(200), words(4), words(1));
        let levels = |words| Levels {
            leaf: words,
            summary: &summary,
            root: &[],
        };
        let arrays = |view, occupied, changed| {
            Arrays::new(&hpt, view, occupied, levels(&leaf), levels(changed))
        };
        assert!(arrays(&view[1..], &leaf, &leaf).is_none());
        assert!(arrays(&view, &leaf[1..], &leaf).is_none());
        assert!(arrays(&view, &leaf, &leaf[1..]).is_none());
        let arrays = arrays(&view, &leaf, &leaf).unwrap();
        assert!(arrays.place(199).is_some() && arrays.place(200).is_none());
        arrays.use_slots(100);
        assert!(arrays.place(99).is_some() && arrays.place(100).is_none());
        arrays.use_slots(1000);
        assert!(arrays.place(199).is_some() && arrays.place(200).is_none());
        let place = arrays.place(199).unwrap();
        assert_eq!(place.in_group(3).number(), 195);
        let slots = arrays.word(2).unwrap();
        let (run, _) = Run::first(!0 << 60).unwrap();
        let run: Vec<_> = slots.run(run).collect();
        assert_eq!(run.len(), 4);
        assert!(core::ptr::eq(run[3].0, &hpt[191]) && core::ptr::eq(run[0].1, &view[188]));
        assert!(core::ptr::eq(slots.slot(63).0, &hpt[191]));
        assert!(core::ptr::eq(slots.occupied(), &leaf[2]));
        assert!(arrays.word(3).is_none(), "eight slots are no word");
        let place = arrays.place(130).unwrap();
        assert!(core::ptr::eq(place.dword1(), &hpt[130][1]));
        assert!(core::ptr::eq(place.unsettled().0, &leaf[2]));
    }
}
