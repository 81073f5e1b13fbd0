//! A pool of pages that all processes have, in a file in memory. Each page is under a lock; who has two of them
//! swaps their contents.

use core::ptr::with_exposed_provenance;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::pages;
use crate::system::{self, File, Source};
use crate::trouble::{Result, Trouble};

/// Pages of the pool.
pub(crate) const PAGES: usize = 32;

/// What the processes have in common beside the pages.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// For each page its tag, with [`LOCKED`] while somebody has it.
    tags: [AtomicU64; PAGES],
    /// Rounds that were done.
    pub(crate) rounds: AtomicU64,
    /// Pages that were checked.
    pub(crate) checked: AtomicU64,
    /// A process has found something wrong: the others end.
    pub(crate) failed: AtomicU64,
}

const LOCKED: u64 = 1 << 63;

/// The pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pool {
    file: File,
    page: usize,
    /// Where this process has all of it.
    base: usize,
    /// What is in common.
    pub(crate) common: &'static Common,
}

impl Pool {
    /// A pool of pages with the tags 0, 1, ... To be made before the processes that share it.
    pub(crate) fn new(page: usize) -> Result<Self> {
        let file = system::memory_file(PAGES * page)?;
        let base = system::map(None, PAGES * page, Source::File(file, 0))?;
        let common = system::map(None, size_of::<Common>(), Source::Shared)?;
        // SAFETY: zeros are a `Common`, the mapping is aligned, and it stays.
        let common = unsafe { &*with_exposed_provenance::<Common>(common) };
        let pool = Self {
            file,
            page,
            base,
            common,
        };
        for (index, tag) in (0..).zip(&common.tags) {
            let number = tag_of(index);
            tag.store(number, Ordering::Relaxed);
            // SAFETY: the pool's page, which nobody has yet.
            unsafe { pages::fill(pool.at(index), page, number) };
        }
        Ok(pool)
    }

    fn at(&self, index: usize) -> usize {
        self.base + index * self.page
    }

    fn tag(&self, index: usize) -> Result<&'static AtomicU64> {
        let tags = &self.common.tags;
        tags.get(index).ok_or(Trouble::Other("no such page"))
    }

    /// Takes a page, and gives its tag.
    fn lock(&self, index: usize) -> Result<u64> {
        let tag = self.tag(index)?;
        loop {
            let before = tag.fetch_or(LOCKED, Ordering::Acquire);
            if before & LOCKED == 0 {
                return Ok(before);
            }
            if self.common.failed.load(Ordering::Relaxed) != 0 {
                return Err(Trouble::Child);
            }
            system::give_way();
        }
    }

    /// Swaps the contents of two pages, one of them by way of another mapping at one of the addresses that `choose`
    /// gives.
    pub(crate) fn swap(
        &self,
        one: usize,
        other: usize,
        choose: impl FnMut() -> usize,
    ) -> Result<()> {
        let (one, other) = (one.min(other), one.max(other));
        if one == other {
            return Ok(());
        }
        let tags = (self.lock(one)?, self.lock(other)?);
        let source = Source::File(self.file, other * self.page);
        let alias = pages::map_somewhere(self.page, source, choose)?;
        // SAFETY: these pages are this process's while it has their locks.
        unsafe { pages::check(self.at(one), self.page, tags.0, "another's swap") }?;
        // SAFETY: as above.
        unsafe { pages::check(alias, self.page, tags.1, "mapping a page again") }?;
        // SAFETY: as above.
        unsafe { pages::swap(self.at(one), alias, self.page) };
        // SAFETY: as above.
        unsafe { pages::check(self.at(one), self.page, tags.1, "a swap") }?;
        // SAFETY: as above.
        unsafe { pages::check(self.at(other), self.page, tags.0, "a swap by an alias") }?;
        // SAFETY: nothing refers to the alias.
        unsafe { system::unmap(alias, self.page) }?;
        self.common.checked.fetch_add(4, Ordering::Relaxed);
        self.tag(one)?.store(tags.1, Ordering::Release);
        self.tag(other)?.store(tags.0, Ordering::Release);
        Ok(())
    }

    /// Checks that every page is there once, with its contents. No process swaps any more.
    pub(crate) fn verify(&self) -> Result<()> {
        let mut seen = 0_u64;
        for (index, tag) in self.common.tags.iter().enumerate() {
            let tag = tag.load(Ordering::Acquire);
            seen |= 1_u64
                .checked_shl(u32::try_from(tag).unwrap_or(64))
                .unwrap_or(0);
            // SAFETY: a page of the pool, which nobody writes.
            unsafe { pages::check(self.at(index), self.page, tag, "all swaps") }?;
        }
        if seen.count_ones() as usize == PAGES {
            Ok(())
        } else {
            Err(Trouble::Other("a page of the pool got lost"))
        }
    }
}

fn tag_of(index: usize) -> u64 {
    u64::try_from(index).unwrap_or_default()
}
