//! A partition's memory: the only bridge from [`GuestReal`] to [`HostReal`].
//!
//! A partition has a few contiguous [`Region`]s. [`Regions::page`] translates the page of an HPTE,
//! [`Regions::claim`] a buffer that a guest named: until then the buffer is an allegation, afterwards a
//! [`GuestBuffer`], wholly inside one region. Neither ever yields a Rust reference: the guest's other
//! vCPUs may write there at any moment, so doublewords are read once and then checked
//! ([`crate::arch::Machine::load`]).

use crate::addr::{GuestReal, HostReal};

/// A contiguous piece of a partition's real memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    guest: GuestReal,
    host: HostReal,
    size: u64,
}

impl Region {
    /// The region of `size` bytes at `guest` that lies at `host`; none if either end would wrap, if the
    /// region is empty or if it is not made of whole 4 KiB pages.
    #[must_use]
    pub const fn new(guest: GuestReal, host: HostReal, size: u64) -> Option<Self> {
        if size == 0
            || !guest.is_aligned(0x1000)
            || !host.is_aligned(0x1000)
            || size & 0xfff != 0
            || guest.checked_add(size).is_none()
            || host.checked_add(size).is_none()
        {
            return None;
        }
        Some(Self { guest, host, size })
    }

    /// Where the guest sees it.
    #[must_use]
    pub const fn guest(&self) -> GuestReal {
        self.guest
    }

    /// Where it is.
    #[must_use]
    pub const fn host(&self) -> HostReal {
        self.host
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How much further up it lies than the guest sees it, modulo 2^64.
    #[inline(always)]
    #[must_use]
    pub const fn skew(&self) -> u64 {
        self.host.raw().wrapping_sub(self.guest.raw())
    }

    /// The offsets below this are those at which a page of `bytes`, a power of two, may begin: it lies wholly inside, and
    /// is whole pages away from where the guest sees it. A page begins at a multiple of its size in the guest's addresses.
    #[must_use]
    pub const fn reach(&self, bytes: u64) -> u64 {
        if self.skew() & (bytes - 1) == 0 {
            (self.size + 1).saturating_sub(bytes)
        } else {
            0
        }
    }

    /// The offset of `at` in the region, if it lies inside.
    #[inline(always)]
    const fn offset(&self, at: GuestReal) -> Option<u64> {
        // What is below the region wraps to what is beyond it: the region itself does not wrap.
        let offset = at.raw().wrapping_sub(self.guest.raw());
        if offset < self.size {
            Some(offset)
        } else {
            None
        }
    }
}

/// What is behind the page of an HPTE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory, all of it, at this host real address.
    Memory(HostReal),
    /// Nothing: the page begins outside every region. Such an entry is kept as absent.
    Absent,
    /// The page begins in a region but does not lie wholly inside it, or the region's host and guest
    /// addresses differ by less than whole pages of this size. Hardware drops the low RPN bits of a large
    /// page: such an entry would reach a neighbour's memory.
    Misfit,
}

/// Bound on the regions of one partition.
pub const MAX_REGIONS: usize = 8;

/// The regions of a partition, which do not overlap in the guest's addresses.
///
/// Beyond the last one are regions without a byte: a look at all of them needs no count.
#[derive(Clone, Debug)]
pub struct Regions {
    list: [Region; MAX_REGIONS],
    count: usize,
}

impl Default for Regions {
    fn default() -> Self {
        Self::new()
    }
}

impl Regions {
    /// No memory at all.
    #[must_use]
    pub const fn new() -> Self {
        let none = Region {
            guest: GuestReal::new(0),
            host: HostReal::new(0),
            size: 0,
        };
        Self {
            list: [none; MAX_REGIONS],
            count: 0,
        }
    }

    /// Adds a region; gives it back if it overlaps another or there are too many.
    ///
    /// # Errors
    /// The region that did not fit.
    pub fn add(&mut self, region: Region) -> Result<(), Region> {
        let overlaps = self.iter().any(|other| {
            other.offset(region.guest).is_some() || region.offset(other.guest).is_some()
        });
        match self.list.get_mut(self.count) {
            Some(free) if !overlaps => {
                *free = region;
                self.count += 1;
                Ok(())
            }
            _ => Err(region),
        }
    }

    /// The regions.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.list.iter().take(self.count)
    }

    /// What is behind the page of `bytes` (a power of two) at `page`, which is a multiple of `bytes`.
    #[inline(always)]
    #[must_use]
    pub fn page(&self, page: GuestReal, bytes: u64) -> Backing {
        for region in &self.list {
            if let Some(offset) = region.offset(page) {
                if region.size - offset < bytes || region.skew() & (bytes - 1) != 0 {
                    return Backing::Misfit;
                }
                return Backing::Memory(HostReal::new(region.host.raw() + offset));
            }
        }
        Backing::Absent
    }

    /// Claims the buffer of `bytes` at `at`: 8-byte aligned and wholly inside one region, else nothing.
    #[must_use]
    pub fn claim(&self, at: GuestReal, bytes: u64) -> Option<GuestBuffer> {
        if !at.is_aligned(8) {
            return None;
        }
        self.iter().find_map(|region| {
            let offset = region.offset(at)?;
            (region.size - offset >= bytes).then(|| GuestBuffer {
                host: HostReal::new(region.host.raw() + offset),
                bytes,
            })
        })
    }
}

impl Regions {
    /// Claims the buffer of `count` words at `at`: 4-byte aligned and wholly inside one region, else nothing.
    #[must_use]
    pub fn claim_words(&self, at: GuestReal, count: u32) -> Option<GuestWords> {
        if !at.is_aligned(4) {
            return None;
        }
        let (count, before) = (u64::from(count), at.raw() >> 2 & 1);
        let buffer = self.claim(
            GuestReal::new(at.raw() & !7),
            (4 * (before + count)).next_multiple_of(8),
        )?;
        Some(GuestWords {
            buffer,
            before,
            count,
        })
    }
}

/// A buffer of a guest's that was checked: 8-byte aligned, inside one region of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestBuffer {
    host: HostReal,
    bytes: u64,
}

impl GuestBuffer {
    /// Its length in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where it is.
    #[must_use]
    pub const fn host(&self) -> HostReal {
        self.host
    }

    /// All of it, to be read from the front.
    #[inline]
    #[must_use]
    pub const fn unread(&self) -> Unread {
        let at = self.host.raw();
        Unread {
            at,
            end: at + self.bytes / 8 * 8,
        }
    }

    /// The place of the doubleword at byte `offset`, a multiple of 8, if it lies inside.
    #[inline]
    #[must_use]
    pub const fn dword(&self, offset: u64) -> Option<HostReal> {
        match self.bytes.checked_sub(offset) {
            Some(rest) if rest >= 8 && offset & 7 == 0 => {
                Some(HostReal::new(self.host.raw() + offset))
            }
            _ => None,
        }
    }
}

/// A buffer of words, 4-byte aligned, that was checked. Guest memory is read by doublewords, and a region is made of whole
/// ones: so the buffer may have a word more before it and one behind it, which are the partition's own and are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestWords {
    buffer: GuestBuffer,
    /// Words of the first doubleword that come before the buffer.
    before: u64,
    count: u64,
}

impl GuestWords {
    /// Where a word is, to be stored there.
    #[must_use]
    pub const fn word(&self, number: u64) -> Option<HostReal> {
        if number >= self.count {
            return None;
        }
        Some(HostReal::new(
            self.buffer.host.raw() + 4 * (self.before + number),
        ))
    }

    /// Where the doubleword is that holds a word, and how far to the right its value is to be shifted.
    #[must_use]
    pub const fn holder(&self, number: u64) -> Option<(HostReal, u32)> {
        match self.word(number) {
            Some(at) if at.is_aligned(8) => Some((at, 32)),
            Some(at) => Some((HostReal::new(at.raw() & !7), 0)),
            None => None,
        }
    }
}

/// What of a buffer is still to be read: whole doublewords.
///
/// Invariant: `at` and `end` are 8-byte aligned addresses in the buffer or its end, and `at <= end`.
#[derive(Clone, Copy, Debug)]
pub struct Unread {
    at: u64,
    end: u64,
}

impl Unread {
    /// How many bytes there are.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.end - self.at
    }

    /// The place of the next doubleword, which is read with that.
    #[inline(always)]
    #[must_use]
    pub const fn dword(&mut self) -> Option<HostReal> {
        if self.bytes() < 8 {
            return None;
        }
        let at = self.at;
        self.at += 8;
        Some(HostReal::new(at))
    }

    /// The next entry of two doublewords, which is read with that.
    #[inline(always)]
    #[must_use]
    pub const fn entry(&mut self) -> Option<[HostReal; 2]> {
        if self.bytes() < 16 {
            return None;
        }
        let at = self.at;
        self.at += 16;
        Some([HostReal::new(at), HostReal::new(at + 8)])
    }

    /// The next `count` entries of two doublewords, which are read with that; fewer if there are not as many.
    #[inline(always)]
    #[must_use]
    pub const fn entries(&mut self, count: u64) -> Entries {
        let whole = self.bytes() / 16;
        let at = self.at;
        self.at += 16 * if count < whole { count } else { whole };
        Entries { at, end: self.at }
    }
}

/// Entries in a buffer, one after the other.
#[derive(Clone, Debug)]
pub struct Entries {
    at: u64,
    end: u64,
}

impl Entries {
    /// How many there are.
    #[inline(always)]
    #[must_use]
    pub const fn left(&self) -> u64 {
        (self.end - self.at) / 16
    }

    /// The places of both doublewords of each, with an element of `others`, as many as there are of both.
    ///
    /// How many that is, is found out here, so that the way through them looks at one end only.
    #[inline(always)]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lesser is an array's length"
    )]
    pub fn with<T>(self, others: &mut [T]) -> impl Iterator<Item = (&mut T, [HostReal; 2])> {
        let count = self.left().min(others.len() as u64) as usize;
        let others = others.get_mut(..count).unwrap_or_default();
        others.iter_mut().enumerate().map(move |(number, other)| {
            let at = self.at + 16 * number as u64;
            (other, [HostReal::new(at), HostReal::new(at + 8)])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Regions {
        let mut regions = Regions::new();
        // The host base is a multiple of 16 MiB plus 64 KiB away: good for 64K pages, not for 16M ones.
        let low = Region::new(GuestReal::new(0), HostReal::new(0x4001_0000), 0x200_0000).unwrap();
        let high = Region::new(
            GuestReal::new(1 << 32),
            HostReal::new(0x8000_0000),
            0x200_0000,
        )
        .unwrap();
        regions.add(low).unwrap();
        regions.add(high).unwrap();
        regions
    }

    #[test]
    fn a_page_lies_within_one_region_or_is_refused() {
        let regions = regions();
        let page = |at, bytes| regions.page(GuestReal::new(at), bytes);
        assert_eq!(
            page(0x1f_f000, 0x1000),
            Backing::Memory(HostReal::new(0x4001_0000 + 0x1f_f000))
        );
        assert_eq!(page(0x200_0000, 0x1000), Backing::Absent);
        assert_eq!(
            page(1 << 32, 1 << 24),
            Backing::Memory(HostReal::new(0x8000_0000))
        );
        assert_eq!(
            page(1 << 32, 1 << 34),
            Backing::Misfit,
            "longer than the region"
        );
        assert_eq!(
            page(0, 1 << 24),
            Backing::Misfit,
            "hardware would drop the 64 KiB of skew"
        );
    }

    #[test]
    fn a_buffer_is_aligned_and_does_not_leave_its_region() {
        let regions = regions();
        let claim = |at, bytes| regions.claim(GuestReal::new(at), bytes);
        assert!(claim(8, 16).is_some());
        assert!(claim(4, 16).is_none());
        assert!(claim(0x200_0000 - 8, 8).is_some());
        assert!(claim(0x200_0000 - 8, 16).is_none());
        assert!(claim(0x200_0000, 0).is_none());
        assert!(claim(8, u64::MAX).is_none());
        assert!(claim(u64::MAX - 7, 16).is_none());
    }

    #[test]
    fn a_buffer_ends_where_it_ends() {
        let buffer = regions().claim(GuestReal::new(16), 20).unwrap();
        assert_eq!(buffer.dword(8), Some(HostReal::new(0x4001_0018)));
        assert_eq!(buffer.dword(16), None, "four bytes are left");
        assert_eq!(buffer.dword(u64::MAX), None);
        assert_eq!(buffer.dword(4), None);
    }

    #[test]
    fn a_buffer_is_read_from_the_front_in_whole_entries() {
        let buffer = regions()
            .claim(GuestReal::new(16), 8 + 3 * 16 + 12)
            .unwrap();
        let mut unread = buffer.unread();
        assert_eq!(unread.dword(), Some(HostReal::new(0x4001_0010)));
        let mut others = [0; 5];
        let two: std::vec::Vec<_> = unread
            .entries(2)
            .with(&mut others)
            .map(|(_, at)| at.map(HostReal::raw))
            .collect();
        assert_eq!(
            two,
            [[0x4001_0018, 0x4001_0020], [0x4001_0028, 0x4001_0030]]
        );
        let mut last = unread;
        assert_eq!(last.entries(2).left(), 1, "there is no more");
        assert_eq!(
            unread.entry().map(|at| at.map(HostReal::raw)),
            Some([0x4001_0038, 0x4001_0040])
        );
        assert_eq!(unread.entry(), None);
        assert_eq!(unread.entries(2).left(), 0);
        assert_eq!(unread.dword(), Some(HostReal::new(0x4001_0048)));
        assert_eq!(unread.dword(), None, "four bytes are left");
    }

    #[test]
    fn words_are_where_they_are_in_their_doublewords() {
        let regions = regions();
        let claim = |at, count| regions.claim_words(GuestReal::new(at), count);
        let words = claim(12, 3).unwrap();
        assert_eq!(words.word(0), Some(HostReal::new(0x4001_000c)));
        assert_eq!(words.holder(0), Some((HostReal::new(0x4001_0008), 0)));
        assert_eq!(words.holder(1), Some((HostReal::new(0x4001_0010), 32)));
        assert_eq!(words.word(3), None);
        assert!(claim(2, 1).is_none());
        assert!(claim(0x200_0000 - 4, 1).is_some());
        assert!(claim(0x200_0000 - 4, 2).is_none());
        assert!(claim(8, u32::MAX).is_none());
        assert!(claim(u64::MAX - 3, 1).is_none());
    }

    #[test]
    fn overlapping_regions_are_refused() {
        let mut regions = regions();
        let inside = Region::new(GuestReal::new(0x1000), HostReal::new(0), 0x1000).unwrap();
        assert_eq!(regions.add(inside), Err(inside));
        assert!(Region::new(GuestReal::new(0x10), HostReal::new(0), 0x1000).is_none());
        assert!(Region::new(GuestReal::new(0), HostReal::new(!0xfff), 0x2000).is_none());
    }
}
