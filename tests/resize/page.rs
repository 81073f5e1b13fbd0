//! Pages by their whole virtual address, of 78 bits, and what follows for their entries in a table of any order.

use crate::common::world::{CLIENT, World};
use crate::{BOLTED, FORMATS, enter};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use realhpt::hcall::abi::{self, Status};
use realhpt::table::Order;
use realhpt::table::hpte::GuestV;
use realhpt::table::page_size::PageSize;
use realhpt::table::resize::group;

/// Base page shift, actual page shift, L and LP in place.
const SIZES: [(u32, u32, u64, u64); 7] = [
    (12, 12, 0, 0),
    (12, 16, 4, 0x7000),
    (12, 24, 4, 0x3_8000),
    (16, 16, 4, 0x1000),
    (16, 24, 4, 0x8000),
    (24, 24, 4, 0),
    (34, 34, 4, 0x3000),
];

/// A page, and in which of its groups its entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// Virtual address of its first byte.
    va: u128,
    one_terabyte: bool,
    size: usize,
    secondary: bool,
}

impl Page {
    const fn segment_shift(self) -> u32 {
        if self.one_terabyte { 40 } else { 28 }
    }

    fn hash(self) -> u64 {
        let segment = self.segment_shift();
        let vsid = (self.va >> segment) as u64;
        let page = (self.va & ((1 << segment) - 1)) as u64 >> SIZES[self.size].0;
        if self.one_terabyte {
            vsid ^ vsid << 25 ^ page
        } else {
            vsid ^ page
        }
    }

    /// A 4K page at an offset of a 256M segment, in its primary group.
    pub(crate) const fn in_segment(vsid: u64, offset: u64) -> Self {
        Self {
            va: (vsid as u128) << 28 | offset as u128,
            one_terabyte: false,
            size: 0,
            secondary: false,
        }
    }

    /// Its group in a table of this order.
    pub(crate) fn group(self, order: u32) -> u64 {
        let hash = if self.secondary {
            !self.hash()
        } else {
            self.hash()
        };
        hash & ((1 << (order - 7)) - 1)
    }

    /// Dword 0 of its entry.
    pub(crate) fn v(self) -> u64 {
        let avpn = (self.va >> 23) as u64;
        u64::from(self.one_terabyte) << 62
            | avpn << 7
            | SIZES[self.size].2
            | u64::from(self.secondary) << 1
            | 1
    }

    /// Dword 1 of an entry that maps it to a page at or below this guest real address.
    pub(crate) fn r(self, at: u64) -> u64 {
        let (_, shift, _, lp) = SIZES[self.size];
        at >> shift << shift | lp
    }

    /// The page that an entry which stands in a group of a table would map if that were its hash's: what a rehash
    /// goes by where an entry stands elsewhere.
    pub(crate) fn as_standing_in(self, group: u64) -> Self {
        let (base, ..) = SIZES[self.size];
        if base >= 23 {
            return self;
        }
        let hash = if self.secondary { !group } else { group };
        let vsid = (self.va >> self.segment_shift()) as u64;
        let low = u128::from((hash ^ vsid) & ((1 << (23 - base)) - 1));
        Self {
            va: self.va >> 23 << 23 | low << base,
            ..self
        }
    }
}

/// Any page of sizes that the client's memory has, in one of few segments, so that groups fill up.
pub(crate) fn page() -> impl Strategy<Value = Page> {
    let segment = prop_oneof![Just(0x1ff_ffff_u64), 0..4u64, any::<u64>()];
    let place = (segment, any::<u64>(), any::<u64>(), any::<bool>());
    (place, 0..6usize, any::<bool>(), any::<bool>()).prop_map(
        |((vsid, offset, few, is_few), size, one_terabyte, secondary)| {
            // The VSID that both formats have room for.
            let (shift, vsid) = if one_terabyte {
                (40, vsid & 0xfff_ffff)
            } else {
                (28, vsid & 0xff_ffff_ffff)
            };
            // Few page numbers that differ where only larger tables tell.
            let offset = if is_few { few & 0x7000_3000 } else { offset };
            let (base, ..) = SIZES[size];
            let offset = offset & ((1 << shift) - 1) & !((1 << base) - 1);
            Page {
                va: u128::from(vsid) << shift | u128::from(offset),
                one_terabyte,
                size,
                secondary,
            }
        },
    )
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x4e1a),
        ..ProptestConfig::default()
    }
}

#[test]
fn the_group_in_any_table_follows_from_the_group_in_any_other() {
    let orders = || 18..47u32;
    let large = (any::<u128>(), any::<bool>(), 0..7usize, any::<bool>());
    proptest!(config(20_000), |((va, one_terabyte, size, secondary) in large, from in orders(), to in orders())| {
        // 16G pages are in 1T segments only.
        let size = if one_terabyte { size } else { size % 6 };
        let (base, ..) = SIZES[size];
        let va = va & ((1 << 76) - 1) & !((1 << base) - 1);
        let page = Page { va, one_terabyte, size, secondary };
        let (v, r) = (page.v(), page.r(0));
        let size = PageSize::decode(v, r).unwrap();
        let order = Order::new(to).unwrap();
        let found = group(GuestV::entered(v), size, page.group(from), order);
        prop_assert_eq!(found, page.group(to), "{:x?} from order {} to {}", page, from, to);
    });
}

#[test]
fn both_formats_hold_every_page() {
    // What the strategy makes comes back from the table as it was entered.
    proptest!(config(64), |(page in page())| {
        for format in FORMATS {
            let world = World::leaked(18, format);
            let (v, r) = (page.v() | BOLTED, page.r(0x300_0000) | 0x190);
            prop_assert_eq!(enter(&world, 8, (v, r)), Status::Success);
            let answer = world.call(CLIENT, abi::H_READ, &[0, 8]).ok();
            prop_assert_eq!((answer[0], answer[1]), (v, r));
        }
    });
}
