//! What is known of each page: the slot and the dwords of its entry, if it is mapped.
//!
//! Only its owner writes a [`Shadow`]. Others may look at those of common pages while they change: its version is
//! odd from before the owner makes a call about it until it has noted what came of it. Who finds the same even
//! version before and after an access knows what the page was all the while. So a call of one vCPU that has returned
//! binds the accesses of all others that begin after it.
//!
//! A second version counts only the calls that make or remove the entry. While it stays the page leads to the same
//! memory, or nowhere, whatever happens to its protection.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use realhpt_pseries::mmu::Entry;
use realhpt_suite::stress::WORKERS;

use super::pages::PAGES;

/// What is known of a page. Dword 0 is 0 while it is not mapped.
#[derive(Debug)]
pub(crate) struct Shadow {
    version: AtomicU64,
    mapping: AtomicU64,
    ptex: AtomicU64,
    dw0: AtomicU64,
    dw1: AtomicU64,
}

/// A look at another's page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    version: u64,
    mapping: u64,
    pub(crate) entry: Option<Entry>,
}

#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const COUNT: usize = PAGES as usize;

static SHADOWS: [[Shadow; COUNT]; WORKERS] = [const { [const { Shadow::new() }; COUNT] }; WORKERS];

/// All pages of a worker.
pub(crate) fn of(worker: u64) -> &'static [Shadow; COUNT] {
    let [first, ..] = &SHADOWS;
    usize::try_from(worker)
        .ok()
        .and_then(|worker| SHADOWS.get(worker))
        .unwrap_or(first)
}

/// One page of a worker.
pub(crate) fn page(worker: u64, number: u64) -> &'static Shadow {
    let all = of(worker);
    let [first, ..] = all;
    usize::try_from(number)
        .ok()
        .and_then(|number| all.get(number))
        .unwrap_or(first)
}

impl Shadow {
    const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            mapping: AtomicU64::new(0),
            ptex: AtomicU64::new(0),
            dw0: AtomicU64::new(0),
            dw1: AtomicU64::new(0),
        }
    }

    /// Its entry. For its owner, or when the workers stand still.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let [ptex, dw0, dw1] = [&self.ptex, &self.dw0, &self.dw1].map(|word| word.load(Relaxed));
        (dw0 != 0).then_some(Entry { ptex, dw0, dw1 })
    }

    /// Its owner is about to make a call that makes or removes its entry.
    pub(crate) fn begin(&self) {
        self.mapping.fetch_add(1, Relaxed);
        self.begin_protect();
    }

    /// The call came back, and this is what the page is now.
    pub(crate) fn end(&self, entry: Option<Entry>) {
        self.end_protect(entry);
        self.mapping.fetch_add(1, Release);
    }

    /// Its owner is about to change its protection.
    pub(crate) fn begin_protect(&self) {
        self.version.fetch_add(1, Relaxed);
        fence(SeqCst);
    }

    /// The call came back, and this is what the entry is now.
    pub(crate) fn end_protect(&self, entry: Option<Entry>) {
        self.set(entry);
        self.version.fetch_add(1, Release);
    }

    /// Notes what its owner's own access did.
    pub(crate) fn set(&self, entry: Option<Entry>) {
        let Entry { ptex, dw0, dw1 } = entry.unwrap_or(Entry {
            ptex: 0,
            dw0: 0,
            dw1: 0,
        });
        self.ptex.store(ptex, Relaxed);
        self.dw0.store(dw0, Relaxed);
        self.dw1.store(dw1, Relaxed);
    }

    /// Another's look at it; none while its entry is made or removed.
    pub(crate) fn look(&self) -> Option<Look> {
        let mapping = self.mapping.load(Acquire);
        let version = self.version.load(Acquire);
        let entry = self.entry();
        let look = Look {
            version,
            mapping,
            entry,
        };
        self.is_mapped_as(&look).then_some(look)
    }

    /// Whether it leads to where it led at the look, and did all the time.
    pub(crate) fn is_mapped_as(&self, look: &Look) -> bool {
        fence(SeqCst);
        look.mapping.is_multiple_of(2) && self.mapping.load(Relaxed) == look.mapping
    }

    /// Whether it is as it was at the look in all, and was all the time.
    pub(crate) fn is_still(&self, look: &Look) -> bool {
        fence(SeqCst);
        look.version.is_multiple_of(2) && self.version.load(Relaxed) == look.version
    }
}
