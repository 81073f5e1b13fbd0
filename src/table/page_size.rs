//! The page sizes of an HPTE, and how L and LP encode them (ISA 3.0B Book III section 5.7.9.1).
//!
//! An entry is decoded on the way of every hypercall, so that is one load from a table.

use super::bitmap::index;
use super::hpte::LARGE;

/// The page sizes of an HPTE: base page size, which the hash is made with, and actual page size.
///
/// Made once from L and LP ([`PageSize::decode`]). The encodings are those that POWER8 and POWER9 have and
/// Linux announces to guests.
///
/// ```
/// use realhpt::table::page_size::PageSize;
/// // L = 1, LP = 0b0000_1000: a 16 MiB page in a segment with 64 KiB base pages.
/// let size = PageSize::decode(0x4, 0x8000).unwrap();
/// assert_eq!(size, PageSize::M16InK64);
/// assert_eq!((size.base_shift(), size.shift()), (16, 24));
/// // LP = 0b0000_0010 is no page size.
/// assert_eq!(PageSize::decode(0x4, 0x2000), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 4 KiB.
    K4,
    /// 64 KiB in a 4 KiB segment.
    K64InK4,
    /// 16 MiB in a 4 KiB segment.
    M16InK4,
    /// 64 KiB.
    K64,
    /// 16 MiB in a 64 KiB segment.
    M16InK64,
    /// 16 MiB.
    M16,
    /// 16 GiB.
    G16,
}

impl PageSize {
    /// How many there are.
    pub const COUNT: usize = Self::NONE as usize;
    /// The number after the last one's.
    const NONE: u8 = 7;
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; Self::COUNT] = [
        Self::K4,
        Self::K64InK4,
        Self::M16InK4,
        Self::K64,
        Self::M16InK64,
        Self::M16,
        Self::G16,
    ];

    /// The page sizes of an entry by their number in [`Self::ALL`]; [`Self::COUNT`] if the encoding is not one.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "nine bits make an index of 512 encodings"
    )]
    pub(super) const fn number(dword0: u64, dword1: u64) -> usize {
        const NUMBERS: [u8; 512] = {
            let encodings = PageSize::encodings();
            let mut numbers = [PageSize::NONE; 512];
            let mut at = 0;
            while at < 512 {
                if let Some(size) = encodings[at] {
                    numbers[at] = size as u8;
                }
                at += 1;
            }
            numbers
        };
        // Three bits, as the compiler is to know: whoever has a place for each number needs no check.
        NUMBERS[Self::encoding(dword0, dword1)] as usize & 7
    }

    /// The page sizes of an entry; none if the encoding is not one.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "nine bits make an index of 512 encodings"
    )]
    pub const fn decode(dword0: u64, dword1: u64) -> Option<Self> {
        const ENCODINGS: [Option<PageSize>; 512] = PageSize::encodings();
        ENCODINGS[Self::encoding(dword0, dword1)]
    }

    /// The page sizes of an entry of a table: it was entered with an encoding of one.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "nine bits make an index of 512 encodings"
    )]
    pub const fn of(dword0: u64, dword1: u64) -> Self {
        const SIZES: [PageSize; 512] = {
            let encodings = PageSize::encodings();
            let mut sizes = [PageSize::K4; 512];
            let mut at = 0;
            while at < 512 {
                if let Some(size) = encodings[at] {
                    sizes[at] = size;
                }
                at += 1;
            }
            sizes
        };
        SIZES[Self::encoding(dword0, dword1)]
    }

    /// L and LP of an entry as one number: L above the eight bits of LP.
    #[inline(always)]
    const fn encoding(dword0: u64, dword1: u64) -> usize {
        index((dword0 & LARGE) << 6 | (dword1 >> 12) & 0xff) & 511
    }

    /// What each of these numbers encodes. A table of them is one load instead of a row of comparisons, which every
    /// hypercall on an entry would go through.
    #[expect(clippy::indexing_slicing, reason = "all 512, one after the other")]
    const fn encodings() -> [Option<Self>; 512] {
        let mut encodings = [None; 512];
        let mut at = 0;
        while at < 512 {
            encodings[at] = Self::encoded(at >= 256, at as u64 % 256);
            at += 1;
        }
        encodings
    }

    /// What L and LP encode.
    const fn encoded(large: bool, lp: u64) -> Option<Self> {
        if !large {
            return Some(Self::K4);
        }
        match (lp & 0xf, lp >> 4) {
            (0, 0) => Some(Self::M16),
            (1, _) => Some(Self::K64),
            (3, 0) => Some(Self::G16),
            (7, _) => Some(Self::K64InK4),
            (8, 0) => Some(Self::M16InK64),
            (8, 3) => Some(Self::M16InK4),
            _ => None,
        }
    }

    /// Log2 of the base page size.
    #[inline(always)]
    #[must_use]
    pub const fn base_shift(self) -> u32 {
        self.shifts().0 as u32
    }

    /// Log2 of the actual page size.
    #[inline(always)]
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.shifts().1 as u32
    }

    /// Log2 of the base and of the actual page size.
    #[inline(always)]
    #[expect(
        clippy::indexing_slicing,
        reason = "there are shifts for each page size"
    )]
    const fn shifts(self) -> (u8, u8) {
        /// In the order of their declaration. A table: compared one by one they take longer than what they are for.
        const SHIFTS: [(u8, u8); 7] = [
            (12, 12),
            (12, 16),
            (12, 24),
            (16, 16),
            (16, 24),
            (24, 24),
            (34, 34),
        ];
        SHIFTS[self as usize]
    }

    /// The actual page size in bytes.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.shift()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_of_the_page_sizes() {
        let valid: std::vec::Vec<_> = (0..0x100)
            .filter_map(|lp: u64| PageSize::decode(LARGE, lp << 12).map(|size| (lp, size)))
            .collect();
        for (lp, size) in &valid {
            let expected = match lp & 0xf {
                0 => PageSize::M16,
                1 => PageSize::K64,
                3 => PageSize::G16,
                7 => PageSize::K64InK4,
                _ if lp >> 4 == 0 => PageSize::M16InK64,
                _ => PageSize::M16InK4,
            };
            assert_eq!(*size, expected, "LP {lp:#x}");
        }
        // 16M and 16G need all eight bits, 64K in either segment four of them, 16M mixed all eight.
        assert_eq!(valid.len(), 1 + 16 + 1 + 16 + 2);
        assert_eq!(PageSize::decode(0, 0xff000), Some(PageSize::K4));
    }
}
