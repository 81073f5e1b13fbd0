//! The memory of the virtual machine that was recorded, and which entries Linux and we refuse for it.
//!
//! KVM refuses a page that its slot does not hold whole, or whose host page is smaller. Here a page must lie
//! within a region, and guest and host addresses must agree modulo the page: so a slot of small host pages becomes
//! a region that is 64K askew, and one of huge pages, or of pages that KVM makes later, a region that is not.

use std::collections::BTreeSet;

use super::{Layout, Region};

/// log2 of Linux's page.
const PAGE: u32 = 16;
/// log2 of its huge page.
const HUGE: u32 = 24;
/// Dword 1: the page's address.
const RPN: u64 = 0x0fff_ffff_ffff_f000;

/// What a slot had behind it when the recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// None; made when they are touched.
    None,
    /// All of them.
    All,
    /// All of them, 16M each.
    Huge,
    /// All of them, read-only in the host.
    ReadOnly,
    /// Every second one.
    EverySecond,
}

impl Pages {
    /// What a header's number means.
    pub(super) fn decode(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::All,
            2 => Self::Huge,
            3 => Self::ReadOnly,
            4 => Self::EverySecond,
            _ => return None,
        })
    }
}

/// A memory slot of KVM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySlot {
    /// Guest real address.
    pub guest: u64,
    /// Bytes.
    pub bytes: u64,
    /// What was behind it.
    pub pages: Pages,
}

impl MemorySlot {
    fn has(&self, at: u64) -> bool {
        self.guest <= at && at - self.guest < self.bytes
    }

    /// log2 of the largest page that our region for it takes.
    fn shift(&self) -> u32 {
        match self.pages {
            Pages::None | Pages::Huge => HUGE,
            Pages::All | Pages::ReadOnly | Pages::EverySecond => PAGE,
        }
    }
}

/// What is behind a page of KVM's guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// No memory.
    None,
    /// Memory whose page is made when it is touched.
    Later,
    /// A page.
    Present,
}

/// log2 of the page that an entry maps, if its encoding is one (LoPAR 14.5.4; L, then LP in dword 1).
#[must_use]
pub fn page_shift(v: u64, r: u64) -> Option<u32> {
    if v & 4 == 0 {
        return Some(12);
    }
    match (r >> 12 & 0xf, r >> 16 & 0xf) {
        (1 | 7, _) => Some(16),
        (0 | 8, 0) | (8, 3) => Some(24),
        (3, 0) => Some(34),
        _ => None,
    }
}

/// The guest real address of the page that an entry maps.
#[must_use]
pub fn page_of(v: u64, r: u64) -> Option<u64> {
    let shift = page_shift(v, r)?;
    Some((r & RPN) >> shift << shift)
}

/// The memory of a file's virtual machine.
#[derive(Clone, Debug)]
pub struct Memory {
    slots: Vec<MemorySlot>,
    /// Pages of 64K that Linux has made since.
    touched: BTreeSet<u64>,
    /// Those of them that were only loaded from: Linux has its one page of zeros there until somebody stores.
    zeros: BTreeSet<u64>,
}

impl Memory {
    /// Memory with these slots.
    #[must_use]
    pub fn new(slots: &[MemorySlot]) -> Self {
        Self {
            slots: slots.to_vec(),
            touched: BTreeSet::new(),
            zeros: BTreeSet::new(),
        }
    }

    /// As the client's partition.
    #[must_use]
    pub fn layout(&self, order: u32) -> Layout {
        let region = |slot: &MemorySlot| Region {
            guest: slot.guest,
            bytes: slot.bytes,
            page: 1 << slot.shift(),
        };
        Layout {
            order,
            regions: self.slots.iter().map(region).collect(),
        }
    }

    fn slot(&self, at: u64) -> Option<&MemorySlot> {
        self.slots.iter().find(|slot| slot.has(at))
    }

    /// What is behind the 4K page of a dword 1.
    #[must_use]
    pub fn backing(&self, r: u64) -> Backing {
        let at = r & RPN;
        let Some(slot) = self.slot(at) else {
            return Backing::None;
        };
        let there = match slot.pages {
            Pages::None => false,
            Pages::All | Pages::Huge | Pages::ReadOnly => true,
            Pages::EverySecond => (at - slot.guest) >> PAGE & 1 == 0,
        };
        if there || self.touched.contains(&(at >> PAGE)) {
            Backing::Present
        } else {
            Backing::Later
        }
    }

    /// Notes that the guest accesses a guest real address: from now on its page is there. Whether this gives it
    /// another page than the one that was there.
    pub(super) fn touch(&mut self, at: u64, store: bool) -> bool {
        let page = at >> PAGE;
        if self.backing(at) == Backing::Later {
            self.touched.insert(page);
            if !store {
                self.zeros.insert(page);
            }
            return false;
        }
        store && self.zeros.remove(&page)
    }

    /// Whether two guest real addresses are in one page of Linux's.
    pub(super) const fn is_one_page(a: u64, b: u64) -> bool {
        a >> PAGE == b >> PAGE
    }

    /// The page of an entry, and the slot that it begins in.
    fn page(&self, v: u64, r: u64) -> Option<(u64, u32, &MemorySlot)> {
        let page = page_of(v, r)?;
        Some((page, page_shift(v, r)?, self.slot(page)?))
    }

    /// Whether KVM's H_ENTER refuses an entry whose page-size encoding exists.
    #[must_use]
    pub fn linux_refuses(&self, v: u64, r: u64) -> bool {
        if v >> 63 != 0 {
            return true;
        }
        self.page(v, r).is_some_and(|(page, shift, slot)| {
            let aligned = (slot.guest | slot.bytes) & ((1 << shift) - 1) == 0;
            let host = match slot.pages {
                Pages::Huge => HUGE,
                _ => PAGE,
            };
            // A page that is not there is refused too if it has neighbours.
            let pages = page >> PAGE..(page + (1 << shift)) >> PAGE;
            let is_backed = slot.pages != Pages::None || self.touched.range(pages).next().is_some();
            !aligned || host < shift && is_backed
        })
    }

    /// Whether ours does.
    #[must_use]
    pub fn ours_refuses(&self, v: u64, r: u64) -> bool {
        if v >> 63 != 0 || page_shift(v, r).is_none() {
            return true;
        }
        self.page(v, r).is_some_and(|(page, shift, slot)| {
            slot.bytes - (page - slot.guest) < 1 << shift || slot.shift() < shift
        })
    }
}
