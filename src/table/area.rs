//! The memory of tables.
//!
//! [`Memory`] is what a board reserves for a partition's table, all of it at once and zeroed: the HPT, naturally
//! aligned, and beside it the guest view and the bitmaps (DESIGN section 3). For a table that may be resized
//! there are two areas of the largest order it may have; a smaller table stands at the beginning of one. Nothing
//! is allocated later.

use super::bitmap::{BLOCK, REGION, WORD, index};
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

    fn levels(&mut self, sizes: Sizes) -> Option<Levels<'m>> {
        Some(Levels {
            leaf: self.take(sizes.leaf)?,
            summary: self.take(sizes.summary)?,
            root: self.take(sizes.root)?,
        })
    }
}

/// Slots, and words of each level of the bitmaps.
#[derive(Clone, Copy)]
struct Sizes {
    slots: usize,
    leaf: usize,
    summary: usize,
    root: usize,
}

impl Sizes {
    /// Those of a table of this order.
    const fn of(order: Order) -> Self {
        let slots = order.slots();
        Self {
            slots: index(slots),
            leaf: index(slots / WORD),
            summary: index(slots / BLOCK),
            root: index(slots.div_ceil(REGION)),
        }
    }

    /// Those of a window of one word of slots.
    #[cfg(loom)]
    const WINDOW: Self = Self {
        slots: index(WORD),
        leaf: 1,
        summary: 1,
        root: 1,
    };

    /// The same for what nobody looks for by a root.
    const fn rootless(self) -> Self {
        Self { root: 0, ..self }
    }

    /// The same for a reader's marks, whose root words say beside each of which reader they are.
    const fn of_a_reader(self) -> Self {
        Self {
            root: 2 * self.root,
            ..self
        }
    }

    /// Words of a bitmap with its levels.
    const fn levels(self) -> u64 {
        (self.leaf + self.summary + self.root) as u64
    }
}

/// What one table stands in.
fn divide<'m>(hpt: &'m [BeDword], words: &mut Words<'m>, sizes: Sizes) -> Option<Arrays<'m>> {
    let (hpt, _) = hpt.as_chunks();
    let (view, occupied) = (words.take(sizes.slots)?, words.take(sizes.leaf)?);
    let (unsettled, changed) = (words.levels(sizes.rootless())?, words.levels(sizes)?);
    Arrays::new(hpt, view, occupied, unsettled, changed)
}

impl<'m> Memory<'m> {
    /// Doublewords a table of this order needs beside the HPT: 8 bytes a slot of guest view, an eighth of a
    /// byte for each of the bitmaps, and the levels above them.
    ///
    /// ```
    /// use realhpt::table::{Memory, Order};
    /// let order = Order::new(24).unwrap();
    /// let bytes = Memory::words_beside(order) * 8;
    /// assert!(bytes as f64 / order.slots() as f64 <= 9.0);
    /// ```
    #[must_use]
    pub const fn words_beside(order: Order) -> u64 {
        Self::words_beside_spare(order) + READERS as u64 * Sizes::of(order).of_a_reader().levels()
    }

    /// Doublewords that a spare area of this order needs beside its HPT. The readers' marks are those of the
    /// first: whichever table is in use is the one that is read.
    #[must_use]
    pub const fn words_beside_spare(order: Order) -> u64 {
        let slots = order.slots();
        let sizes = Sizes::of(order);
        slots + slots / WORD + sizes.rootless().levels() + sizes.levels()
    }

    /// The memory of a table: `hpt` has two doublewords a slot, `beside` [`Self::words_beside`] of them; all
    /// are zero. None if a length is another.
    #[must_use]
    pub fn new(order: Order, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        if hpt.len() != 2 * index(order.slots()) || beside.len() as u64 != Self::words_beside(order)
        {
            return None;
        }
        Self::divide(order, hpt, beside, Sizes::of(order))
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
        let spare = Some(divide(hpt, &mut Words(beside), Sizes::of(order))?);
        Some(Self { spare, ..self })
    }

    /// The same with a table that begins with this order, at the beginning of its area; none if it is larger.
    #[must_use]
    pub fn holding(self, order: Order) -> Option<Self> {
        (order <= self.capacity).then_some(Self { order, ..self })
    }

    /// The memory of a table of which only the first 64 slots exist, for loom: every atomic there is one more
    /// thing to explore. `hpt` has 128 doublewords, `beside` 64 + 1 + 3 * 6 - 1 + 4.
    #[cfg(loom)]
    #[must_use]
    pub fn window(order: Order, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        Self::divide(order, hpt, beside, Sizes::WINDOW)
    }

    /// The same with a spare area of which as much exists: `beside` has 64 + 1 + 3 * 2 - 1 doublewords.
    #[cfg(loom)]
    #[must_use]
    pub fn with_spare_window(self, hpt: &'m [BeDword], beside: &'m [AtomicU64]) -> Option<Self> {
        let spare = divide(hpt, &mut Words(beside), Sizes::WINDOW)?;
        Some(Self {
            spare: Some(spare),
            ..self
        })
    }

    fn divide(
        order: Order,
        hpt: &'m [BeDword],
        beside: &'m [AtomicU64],
        sizes: Sizes,
    ) -> Option<Self> {
        let words = &mut Words(beside);
        let first = divide(hpt, words, sizes)?;
        let mut marks = || words.levels(sizes.of_a_reader());
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
