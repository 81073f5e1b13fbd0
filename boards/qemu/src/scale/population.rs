//! What a table is filled with: so many entries in runs of one length, as far from one another as they can be.
//!
//! Which slots have one is arithmetic, so that a table of 2^32 slots is checked slot by slot with nothing kept of it.

use std::fmt;

/// Slots of a word of a bitmap.
const WORD: u64 = 64;

/// What a table is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// Nothing.
    Empty,
    /// So many entries, each alone.
    Single(u64),
    /// So many in a million slots, in runs of 64 that fill a word of the bitmaps each: real memory is taken by the page,
    /// and entries that stand apart would each take two of 4K.
    Runs(u64),
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("empty"),
            Self::Single(count) => write!(f, "{count} single entries"),
            Self::Runs(share) => write!(f, "{share} ppm in runs of {WORD}"),
        }
    }
}

/// A population of a table of a certain size.
#[derive(Clone, Copy, Debug)]
pub struct Populated {
    slots: u64,
    runs: u64,
    stride: u64,
    length: u64,
}

impl Population {
    /// It, in a table of so many slots (a power of two up to 2^42); none, if it would fill more than half of it,
    /// or the table has not enough for one run.
    #[must_use]
    pub fn of(self, slots: u64) -> Option<Populated> {
        let (runs, length) = match self {
            Self::Empty => (0, 1),
            Self::Single(count) => (count, 1),
            Self::Runs(share) => (slots * share / 1_000_000 / WORD, WORD),
        };
        let stride = slots.checked_div(runs).unwrap_or(slots) / length * length;
        let some = runs != 0 || self == Self::Empty;
        (some && stride >= 2 * length).then_some(Populated {
            slots,
            runs,
            stride,
            length,
        })
    }
}

impl Populated {
    /// How many entries there are.
    #[must_use]
    pub fn entries(self) -> u64 {
        self.runs * self.length
    }

    /// How many runs they are in.
    #[must_use]
    pub fn runs(self) -> u64 {
        self.runs
    }

    /// The slots that have one, in order.
    pub fn slots(self) -> impl Iterator<Item = u64> {
        (0..self.runs).flat_map(move |run| run * self.stride..run * self.stride + self.length)
    }

    /// Whether a slot has one.
    #[must_use]
    pub fn contains(self, slot: u64) -> bool {
        slot / self.stride < self.runs && slot % self.stride < self.length
    }

    /// `count` free slots, in order and as far from one another as they can be.
    pub fn free(self, count: u64) -> impl Iterator<Item = u64> {
        let stride = self.slots / count;
        (0..count).filter_map(move |number| {
            let from = number * stride + stride / 2;
            (from..self.slots).find(|&slot| !self.contains(slot))
        })
    }

    /// The free slots of the second half, in order.
    pub fn free_behind(self) -> impl Iterator<Item = u64> {
        (self.slots / 2..self.slots).filter(move |&slot| !self.contains(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_population_has_the_entries_that_it_says() {
        for (population, entries) in [
            (Population::Empty, 0),
            (Population::Single(1000), 1000),
            (Population::Runs(31_250), 512),
        ] {
            let populated = population.of(1 << 14).unwrap();
            assert_eq!(populated.entries(), entries);
            let slots: Vec<u64> = populated.slots().collect();
            let said: Vec<u64> = (0..1 << 14)
                .filter(|&slot| populated.contains(slot))
                .collect();
            assert_eq!(slots, said, "{population}");
            let free: Vec<u64> = populated.free(100).collect();
            assert_eq!(free.len(), 100);
            assert!(free.is_sorted_by(|a, b| a < b));
            assert!(free.iter().all(|&slot| !populated.contains(slot)));
        }
        assert!(Population::Single(1 << 14).of(1 << 14).is_none());
        assert!(Population::Runs(1000).of(1 << 14).is_none());
    }
}
