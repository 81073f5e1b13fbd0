//! Zeroed memory that takes nothing until it is written to.
//!
//! The host gives a page of an anonymous mapping when the page is first stored to, and shows zeros before. So a table of
//! any order that addresses are enough for can be made: what is used of it is what it costs. No swap is set aside, and no
//! page is larger than 4K where the host can be told so: one entry would else cost 2 MiB.

use std::io;

use memmap2::{MmapOptions, MmapRaw};
use realhpt::sync::{AtomicU64, BeDword};

/// Zeroed doublewords.
#[derive(Debug)]
pub struct Zeroed {
    map: MmapRaw,
    count: usize,
}

impl Zeroed {
    /// So many doublewords.
    ///
    /// # Errors
    /// If there are no addresses for them.
    pub fn new(count: u64) -> io::Result<Self> {
        let none = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = count.checked_mul(8).ok_or_else(none)?;
        let map: MmapRaw = MmapOptions::new()
            .len(usize::try_from(bytes).map_err(|_| none())?)
            .no_reserve_swap()
            .map_anon()?
            .into();
        // A kernel without large pages refuses, and need not be told.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::NoHugePage);
        let count = map.len() / 8;
        Ok(Self { map, count })
    }

    /// They, as the words of bitmaps and of a guest view.
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        let first = self.map.as_ptr().cast();
        // SAFETY: the mapping has as many doublewords, page-aligned, initialised (zero) and there as long as `self`;
        // whoever gets at them does so through these shared references to atomics.
        unsafe { std::slice::from_raw_parts(first, self.count) }
    }

    /// They, as the doublewords of an HPT.
    #[must_use]
    pub fn dwords(&self) -> &[BeDword] {
        let first = self.map.as_ptr().cast();
        // SAFETY: as above; `BeDword` is transparent, an atomic doubleword for which zero is zero in either byte order.
        unsafe { std::slice::from_raw_parts(first, self.count) }
    }
}

#[cfg(test)]
mod tests {
    use realhpt::sync::Ordering;

    use super::*;

    #[test]
    fn more_than_any_host_has_is_there_and_zero() {
        // 1 TiB.
        let memory = Zeroed::new(1 << 37).unwrap();
        let [first, .., last] = memory.words() else {
            panic!("it is empty");
        };
        last.store(1, Ordering::Relaxed);
        assert_eq!(first.load(Ordering::Relaxed), 0);
        let dword = memory.dwords().last().unwrap();
        assert_eq!(dword.load(Ordering::Relaxed), u64::to_be(1));
    }

    #[test]
    fn what_there_are_no_addresses_for_is_refused() {
        assert!(Zeroed::new(1 << 60).is_err());
        assert!(Zeroed::new(u64::MAX).is_err());
    }
}
