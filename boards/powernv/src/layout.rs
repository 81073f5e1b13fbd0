//! Where everything goes in the machine's memory.
//!
//! [`Layout`] starts from what the device tree calls memory, loses what firmware, image and windows take,
//! and gives out the rest, lowest fitting address first. It only counts: no memory is touched here.

/// A piece of the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Host real address of its first byte.
    pub start: u64,
    /// Host real address of the byte after its last.
    pub end: u64,
}

impl Range {
    /// The range of `size` bytes at `start`; one that would wrap ends at the last address.
    #[must_use]
    pub const fn new(start: u64, size: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(size),
        }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    const fn contains(&self, other: &Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    const fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// Bound on the pieces that free memory may fall into.
const PIECES: usize = 64;

/// What could not be placed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No free piece is large enough for this many bytes with this alignment.
    NoRoom {
        /// Bytes asked for.
        size: u64,
        /// Their alignment.
        alignment: u64,
    },
    /// The range is not free memory.
    NotFree(Range),
    /// Free memory fell into more pieces than there is room to note.
    TooManyPieces,
}

/// The free memory of the machine, in ascending order; the pieces do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    free: heapless::Vec<Range, PIECES>,
}

impl Layout {
    /// A machine without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            free: heapless::Vec::new(),
        }
    }

    /// Adds memory.
    ///
    /// # Errors
    /// [`Error::NotFree`] if it overlaps other memory; [`Error::TooManyPieces`].
    pub fn add(&mut self, range: Range) -> Result<(), Error> {
        if range.size() == 0 {
            return Ok(());
        }
        if self.free.iter().any(|free| free.overlaps(&range)) {
            return Err(Error::NotFree(range));
        }
        let at = self
            .free
            .iter()
            .position(|free| free.start > range.start)
            .unwrap_or(self.free.len());
        self.free
            .insert(at, range)
            .map_err(|_| Error::TooManyPieces)
    }

    /// Takes away whatever of the range is free.
    ///
    /// # Errors
    /// [`Error::TooManyPieces`].
    pub fn reserve(&mut self, range: Range) -> Result<(), Error> {
        let before = core::mem::take(&mut self.free);
        for free in before {
            for rest in [
                Range {
                    start: free.start,
                    end: free.end.min(range.start),
                },
                Range {
                    start: free.start.max(range.end),
                    end: free.end,
                },
            ] {
                if rest.start < rest.end {
                    self.free.push(rest).map_err(|_| Error::TooManyPieces)?;
                }
            }
        }
        Ok(())
    }

    /// Whether all of the range is free.
    #[must_use]
    pub fn is_free(&self, range: Range) -> bool {
        self.free.iter().any(|free| free.contains(&range))
    }

    /// Takes the lowest `size` bytes that begin at a multiple of `alignment`, a power of two.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::TooManyPieces`].
    pub fn allocate(&mut self, size: u64, alignment: u64) -> Result<Range, Error> {
        let found = self.free.iter().find_map(|free| {
            let range = Range::new(free.start.checked_next_multiple_of(alignment)?, size);
            (range.size() == size && free.contains(&range)).then_some(range)
        });
        let range = found.ok_or(Error::NoRoom { size, alignment })?;
        self.reserve(range)?;
        Ok(range)
    }

    /// Bytes that are free.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        self.free.iter().map(Range::size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// 2 GiB as skiboot leaves them, with the image at 512 MiB and firmware at 768 MiB.
    fn machine() -> Layout {
        let mut layout = Layout::new();
        layout.add(Range::new(0, 2048 * MIB)).unwrap();
        layout.reserve(Range::new(0, 0x1_0000)).unwrap();
        layout.reserve(Range::new(512 * MIB, 2 * MIB)).unwrap();
        layout.reserve(Range::new(768 * MIB, 0x409_0058)).unwrap();
        layout
    }

    #[test]
    fn what_is_given_out_is_aligned_free_and_given_once() {
        let mut layout = machine();
        let before = layout.free_bytes();
        let mut given: heapless::Vec<Range, 16> = heapless::Vec::new();
        for (size, alignment) in [
            (64 * MIB, 64 * MIB),
            (256 * MIB, 16 * MIB),
            (0x0123_4000, 128),
            (512 * MIB, 16 * MIB),
        ] {
            let range = layout.allocate(size, alignment).unwrap();
            assert_eq!((range.start % alignment, range.size()), (0, size));
            assert!(!layout.is_free(range));
            assert!(given.iter().all(|other| !other.overlaps(&range)));
            given.push(range).unwrap();
        }
        let taken: u64 = given.iter().map(Range::size).sum();
        assert_eq!(layout.free_bytes(), before - taken);
    }

    #[test]
    fn too_much_is_refused_and_changes_nothing() {
        let mut layout = machine();
        let before = layout.free_bytes();
        let refused = Error::NoRoom {
            size: 4096 * MIB,
            alignment: 16 * MIB,
        };
        assert_eq!(layout.allocate(4096 * MIB, 16 * MIB), Err(refused));
        assert!(layout.allocate(u64::MAX, 1 << 46).is_err());
        assert_eq!(layout.free_bytes(), before);
    }

    #[test]
    fn reservations_may_overlap_each_other_and_lie_outside() {
        let mut layout = machine();
        let before = layout.free_bytes();
        layout.reserve(Range::new(768 * MIB, MIB)).unwrap();
        layout.reserve(Range::new(4096 * MIB, MIB)).unwrap();
        layout.reserve(Range::new(u64::MAX, 5)).unwrap();
        assert_eq!(layout.free_bytes(), before);
        layout.reserve(Range::new(0, 600 * MIB)).unwrap();
        assert!(!layout.is_free(Range::new(600 * MIB - 1, 2)));
        assert!(layout.is_free(Range::new(600 * MIB, MIB)));
    }

    #[test]
    fn memory_is_added_in_any_order_but_once() {
        let mut layout = Layout::new();
        layout.add(Range::new(32 * MIB, MIB)).unwrap();
        layout.add(Range::new(0, MIB)).unwrap();
        let again = Range::new(32 * MIB + 5, 1);
        assert_eq!(layout.add(again), Err(Error::NotFree(again)));
        assert_eq!(layout.allocate(MIB, MIB).unwrap().start, 0);
        assert_eq!(layout.allocate(MIB, MIB).unwrap().start, 32 * MIB);
    }
}
