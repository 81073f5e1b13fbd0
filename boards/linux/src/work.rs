//! What a process does in a round.

use core::sync::atomic::Ordering;

use fastrand::Rng;

use crate::pages::{self, must_fault};
use crate::pool::{PAGES, Pool};
use crate::system::{self, Access, Source};
use crate::trouble::{Result, Trouble};

/// The most memory of a process's own.
const MEMORY: usize = 2 << 20;
/// Addresses are below this: what every process of Linux has on this architecture.
const ADDRESSES: usize = 1 << 46;
/// And above this, where the program is.
const PROGRAM: usize = 1 << 32;
/// They are multiples of the larger of Linux's two page sizes.
const ALIGNMENT: usize = 1 << 16;

/// A process at work.
#[derive(Debug)]
pub(crate) struct Worker {
    random: Rng,
    pool: Pool,
    page: usize,
}

/// Pages of a process's own.
#[derive(Debug)]
struct Region {
    base: usize,
    page: usize,
    tags: heapless::Vec<u64, { MEMORY / 4096 }>,
}

/// An address that may be free.
fn address(random: &mut Rng) -> usize {
    random.usize(PROGRAM / ALIGNMENT..ADDRESSES / ALIGNMENT) * ALIGNMENT
}

impl Region {
    fn bytes(&self) -> usize {
        self.tags.len() * self.page
    }

    fn pages(&self) -> impl Iterator<Item = (usize, u64)> {
        let at = (self.base..).step_by(self.page);
        at.zip(self.tags.iter().copied())
    }

    fn check(&self, after: &'static str) -> Result<()> {
        for (at, tag) in self.pages() {
            // SAFETY: a page of the region, which is mapped.
            unsafe { pages::check(at, self.page, tag, after) }?;
        }
        Ok(())
    }

    /// Writes some of the pages, with new tags.
    fn write(&mut self, random: &mut Rng, mut which: impl FnMut(&mut Rng) -> bool) {
        let at = (self.base..).step_by(self.page);
        for (at, tag) in at.zip(&mut self.tags) {
            if which(random) {
                // Tags of the pool's pages are small.
                *tag = random.u64(1 << 32..);
                // SAFETY: a page of the region, which is mapped and writable.
                unsafe { pages::fill(at, self.page, *tag) };
            }
        }
    }
}

impl Worker {
    /// One of `pool`'s processes, whose choices follow from `seed`.
    pub(crate) fn new(pool: Pool, page: usize, seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            pool,
            page,
        }
    }

    /// Does a round.
    pub(crate) fn round(&mut self) -> Result<()> {
        let mut region = self.region()?;
        self.protect(&mut region)?;
        self.unmap(&mut region)?;
        self.relocate(&mut region)?;
        self.fork(&mut region)?;
        self.exchange(&region)?;
        for _ in 0..4 {
            let (one, other) = (self.random.usize(..PAGES), self.random.usize(..PAGES));
            let random = &mut self.random;
            self.pool.swap(one, other, || address(random))?;
        }
        region.check("the pool's swaps")?;
        // SAFETY: nothing refers to it.
        unsafe { system::unmap(region.base, region.bytes()) }?;
        let common = self.pool.common;
        common.rounds.fetch_add(1, Ordering::Relaxed);
        let checked = u64::try_from(9 * region.tags.len()).unwrap_or_default();
        common.checked.fetch_add(checked, Ordering::Relaxed);
        Ok(())
    }

    /// A region at some address, all of it written.
    fn region(&mut self) -> Result<Region> {
        let count = self.random.usize(4..=MEMORY / self.page);
        let random = &mut self.random;
        let base = pages::map_somewhere(count * self.page, Source::Zeros, || address(random))?;
        let mut region = Region {
            base,
            page: self.page,
            tags: (0..count).map(|_| 0).collect(),
        };
        region.write(random, |_| true);
        region.check("writing")?;
        Ok(region)
    }

    /// Takes writing away from some pages, then everything from one, and gives it back.
    fn protect(&mut self, region: &mut Region) -> Result<()> {
        let count = region.tags.len();
        let first = self.random.usize(..count);
        let some = self.random.usize(1..=count - first);
        let at = region.base + first * self.page;
        let bytes = some * self.page;
        // SAFETY: nobody writes it meanwhile.
        unsafe { system::protect(at, bytes, Access::Read) }?;
        let one = at + self.random.usize(..some) * self.page;
        must_fault(one, Access::Write, "taking writing away")?;
        region.check("taking writing away")?;
        // SAFETY: nobody uses it meanwhile.
        unsafe { system::protect(one, self.page, Access::None) }?;
        must_fault(one, Access::Read, "taking access away")?;
        // SAFETY: gives back what was taken.
        unsafe { system::protect(at, bytes, Access::Write) }?;
        region.check("giving access back")?;
        region.write(&mut self.random, |random| random.bool());
        region.check("writing again")
    }

    /// Takes a page out and puts another there.
    fn unmap(&mut self, region: &mut Region) -> Result<()> {
        let index = self.random.usize(..region.tags.len());
        let at = region.base + index * self.page;
        // SAFETY: nobody uses it meanwhile.
        unsafe { system::unmap(at, self.page) }?;
        must_fault(at, Access::Read, "unmapping")?;
        let again = system::map(Some(at), self.page, Source::Zeros)?;
        // SAFETY: it is mapped again.
        unsafe { pages::check_zero(again, self.page, "mapping anew") }?;
        let mut number = 0;
        region.write(&mut self.random, |_| {
            number += 1;
            number == index + 1
        });
        region.check("mapping anew")
    }

    /// Moves the region to another address.
    fn relocate(&mut self, region: &mut Region) -> Result<()> {
        let (old, bytes) = (region.base, region.bytes());
        let random = &mut self.random;
        let new = pages::map_somewhere(bytes, Source::Zeros, || address(random))?;
        // SAFETY: nobody uses the old address afterwards, and the new one was made for this.
        unsafe { system::relocate(old, bytes, new) }?;
        region.base = new;
        region.check("moving")?;
        must_fault(old, Access::Read, "moving")
    }

    /// Has a child and its parent write the same pages, each its own copies.
    fn fork(&mut self, region: &mut Region) -> Result<()> {
        let seed = self.random.u64(..);
        let child = system::fork(|| {
            let mut random = Rng::with_seed(seed);
            let mut work = || {
                region.check("a fork, in the child")?;
                region.write(&mut random, |random| random.bool());
                region.check("a child's writing")
            };
            status(work())
        })?;
        region.write(&mut self.random, |random| random.bool());
        region.check("a fork, in the parent")?;
        ended_well(child)?;
        region.check("a child's end")
    }

    /// Sends the pages to a child through a pipe, which sends other ones back.
    fn exchange(&mut self, region: &Region) -> Result<()> {
        let (there_out, there_in) = system::pipe()?;
        let (back_out, back_in) = system::pipe()?;
        let buffer = system::map(None, self.page, Source::Zeros)?;
        let page = self.page;
        let bytes = || {
            let buffer = core::ptr::with_exposed_provenance_mut::<u8>(buffer);
            // SAFETY: the page mapped above, to which there is no other reference at a time.
            unsafe { core::slice::from_raw_parts_mut(buffer, page) }
        };
        let child = system::fork(|| {
            let work = || {
                for (_, tag) in region.pages() {
                    system::read(there_out, bytes())?;
                    // SAFETY: the buffer.
                    unsafe { pages::check(buffer, page, tag, "a pipe") }?;
                    // SAFETY: the buffer.
                    unsafe { pages::fill(buffer, page, !tag) };
                    system::write(back_in, bytes())?;
                }
                Ok(())
            };
            status(work())
        })?;
        // A child that fails is then the end of a pipe.
        system::close(back_in)?;
        system::close(there_out)?;
        for (at, tag) in region.pages() {
            let source = core::ptr::with_exposed_provenance::<u8>(at);
            // SAFETY: a page of the region, which nobody writes meanwhile.
            system::write(there_in, unsafe {
                core::slice::from_raw_parts(source, page)
            })?;
            system::read(back_out, bytes())?;
            // SAFETY: the buffer.
            unsafe { pages::check(buffer, page, !tag, "a pipe back") }?;
        }
        system::close(there_in)?;
        system::close(back_out)?;
        ended_well(child)?;
        // SAFETY: nothing refers to it any more.
        unsafe { system::unmap(buffer, page) }
    }
}

/// Says what was wrong, and gives the exit status for it.
pub(crate) fn status(result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(trouble) => {
            system::say(format_args!("{trouble}"));
            1
        }
    }
}

/// Waits for a child that has to end with status 0.
pub(crate) fn ended_well(child: system::Child) -> Result<()> {
    match system::wait(child)? {
        Some(0) => Ok(()),
        Some(_) => Err(Trouble::Child),
        None => Err(Trouble::Other("a signal ended a child")),
    }
}
