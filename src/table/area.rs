//! The memory of tables.
//!
//! [`Memory`] is what a board reserves for a partition's table, all of it at once and zeroed: the HPT, naturally
//! aligned, and beside it the guest view and the bitmaps (DESIGN section 3). For a table that may be resized
//! there are two areas of the largest order it may have; a smaller table stands at the beginning of one. Nothing
//! is allocated later.

use super::bitmap::{BLOCK, WORD, index};
use super::hpt::{Order, READERS};
use crate::arch::arrays::{Arrays, Levels};
use crate::sync::{AtomicU64, BeDword};

/// The memory of a partition's table, as a board reserves it; with a spare area if the table is to be resized.
#[derive(Debug)]
pub struct Memory<'m> {
    /// What the areas are made for.
    capacity: Order,
    /// What the table begins with.
    pub(super) order: Order,
    pub(super) first: Arrays<'m>,
    pub(super) spare: Option<Arrays<'m>>,
    pub(super) readers: [Levels<'m>; READERS],
}

/// Hands out doublewords from the front.
struct Words<'m>(&'m [AtomicU64]);

impl<'m> Words<'m> {
    fn take(&mut self, words: usize) -> Option<&'m [AtomicU64]> {
        let (taken, left) = self.0.split_at_checked(words)?;
        self.0 = left;
        Some(taken)
    }

    fn levels(&mut self, leaf: usize, summary: usize) -> Option<Levels<'m>> {
        let (leaf, summary) = (self.take(leaf)?, self.take(summary)?);
        Some(Levels { leaf, summary })
    }
}

/// What one table stands in.
fn divide<'m>(
    hpt: &'m [BeDword],
    words: &mut Words<'m>,
    (slots, leaf, summary): (usize, usize, usize),
) -> Option<Arrays<'m>> {
    let (hpt, _) = hpt.as_chunks();
    let (view, occupied) = (words.take(slots)?, words.take(leaf)?);
    let (unsettled, changed) = (words.levels(leaf, summary)?, words.levels(leaf, summary)?);
    Arrays::new(hpt, view, occupied, unsettled, changed)
}

/// Slots, and leaf and summary words of the bitmaps, of a table of this order.
const fn sizes(order: Order) -> (usize, usize, usize) {
    let slots = order.slots();
    (index(slots), index(slots / WORD), index(slots / BLOCK))
}

impl<'m> Memory<'m> {
    /// Doublewords a table of this order needs beside the HPT: 8 bytes a slot of guest view, an eighth of a
    /// byte for each of the bitmaps, and their summaries.
    ///
    /// ```
    /// use realhpt::table::{Memory, Order};
    /// let order = Order::new(24).unwrap();
    /// let bytes = Memory::words_beside(order) * 8;
    /// assert!(bytes as f64 / order.slots() as f64 <= 9.0);
    /// ```
    #[must_use]
    pub const fn words_beside(order: Order) -> u64 {
        let slots = order.slots();
        Self::words_beside_spare(order) + READERS as u64 * (slots / WORD + slots / BLOCK)
    }

    /// Doublewords that a spare area of this order needs beside its HPT. The readers' marks are those of the
    /// first: whichever table is in use is the one that is read.
    #[must_use]
    pub const fn words_beside_spare(order: Order) -> u64 {
        let slots = order.slots();
        slots + slots / WORD + 2 * (slots / WORD + slots / BLOCK)
    }

    /// The memory of a table: `hpt` has two doublewords a slot, `beside` [`Self::words_beside`] of them; all
    /// are zero. None if a length is another.
    #[must_use]
    pub fn new(order: Order, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        if hpt.len() != 2 * index(order.slots()) || beside.len() as u64 != Self::words_beside(order)
        {
            return None;
        }
        Self::divide(order, hpt, beside, sizes(order))
    }

    /// The same with a spare area as large, so that the table can be resized to any order up to this one:
    /// `beside` has [`Self::words_beside_spare`] doublewords. None if a length is another.
    #[must_use]
    pub fn with_spare(self, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        let order = self.capacity;
        if hpt.len() != 2 * index(order.slots())
            || beside.len() as u64 != Self::words_beside_spare(order)
        {
            return None;
        }
        let spare = Some(divide(hpt, &mut Words(beside), sizes(order))?);
        Some(Self { spare, ..self })
    }

    /// The same with a table that begins with this order, at the beginning of its area; none if it is larger.
    #[must_use]
    pub fn holding(self, order: Order) -> Option<Self> {
        (order <= self.capacity).then_some(Self { order, ..self })
    }

    /// The memory of a table of which only the first 64 slots exist, for loom: every atomic there is one more
    /// thing to explore. `hpt` has 128 doublewords, `beside` 64 + 1 + 2 * 6.
    #[cfg(loom)]
    #[must_use]
    pub fn window(order: Order, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        Self::divide(order, hpt, beside, (index(WORD), 1, 1))
    }

    /// The same with a spare area of which as much exists: `beside` has 64 + 1 + 2 * 2 doublewords.
    #[cfg(loom)]
    #[must_use]
    pub fn with_spare_window(self, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        let spare = divide(hpt, &mut Words(beside), (index(WORD), 1, 1))?;
        Some(Self {
            spare: Some(spare),
            ..self
        })
    }

    fn divide(
        order: Order,
        hpt: &'m [BeDword],
        beside: &'m [AtomicU64],
        sizes: (usize, usize, usize),
    ) -> Option<Self> {
        let words = &mut Words(beside);
        let first = divide(hpt, words, sizes)?;
        let mut marks = || words.levels(sizes.1, sizes.2);
        let readers = [marks()?, marks()?, marks()?, marks()?];
        Some(Self {
            capacity: order,
            order,
            first,
            spare: None,
            readers,
        })
    }

    /// Bytes of all that is reserved, the HPT with the rest.
    pub(super) const fn bytes(&self) -> u64 {
        let first = self.capacity.bytes() + Self::words_beside(self.capacity) * 8;
        match self.spare {
            None => first,
            Some(_) => first + self.capacity.bytes() + Self::words_beside_spare(self.capacity) * 8,
        }
    }
}
