//! The virtual page of an entry, as far as the entry and its place say it, and the block of eight such pages
//! that H_BLOCK_REMOVE works on.
//!
//! An HPTE does not hold the whole virtual address: AVPN lacks the low 23 bits. Those of them that belong to
//! the page number are in the number of the entry's group, mixed by the hash (ISA 3.0B Book III section
//! 5.7.9.2); `page_bits` takes the hash back.

use super::hpte::{B_SHIFT, COMPARED, GuestV, SECONDARY, SegmentSize};
use super::page_size::PageSize;
use crate::addr::Ptex;

/// Log2 of the pages of a block.
const PAGES: u32 = 3;
/// Bits of the virtual address below those that AVPN has.
const BELOW_AVPN: u64 = 0x7f_ffff;
/// The bits of AVPN that say where in a segment of 1T a page is.
const VRMA_AVPN: u64 = 0xff_ff80;
/// How much further up a bit of AVPN stands in the virtual address than in dword 0.
const AVPN_SHIFT: u32 = 16;

/// The low eleven bits of the number of an entry's base page: as many of its group's number suffice for them, and
/// the smallest table has that many. Where VSID << 25 is in the hash, it does not reach these bits.
#[inline]
pub(super) const fn page_bits(v: GuestV, pteg: u64) -> u64 {
    let hash = if v.raw() & SECONDARY != 0 {
        !pteg
    } else {
        pteg
    };
    // VSID stands above 24 bits of offset in a segment of 1T, B = 1, above 12 in one of 256M, B = 0.
    let vsid = v.raw() >> 12 >> (12 * (v.raw() >> B_SHIFT & 1));
    (hash ^ vsid) & 0x7ff
}

/// Where in the VRMA, a segment of 1T, the page of one of its entries begins.
pub(super) const fn vrma_offset(v: GuestV, size: PageSize, ptex: Ptex) -> u64 {
    let above = (v.raw() & VRMA_AVPN) << AVPN_SHIFT;
    let below = page_bits(v, ptex.pteg()) << size.base_shift() & BELOW_AVPN;
    (above | below) & !(size.bytes() - 1)
}

/// A naturally aligned block of eight base pages of one segment, and the page sizes of an entry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    size: PageSize,
    segment: Option<SegmentSize>,
    /// B and AVPN, without the bits that differ inside a block.
    avpn: u64,
    /// The bits of the virtual address between AVPN and the block.
    low: u64,
}

impl Block {
    /// The block of the page that an entry with this dword 0 in this slot translates.
    #[must_use]
    pub const fn of(v: GuestV, size: PageSize, ptex: Ptex) -> Self {
        let within = Self::within(size);
        Self {
            size,
            segment: v.segment_size(),
            avpn: v.raw() & COMPARED & !(within >> AVPN_SHIFT),
            low: page_bits(v, ptex.pteg()) << size.base_shift() & BELOW_AVPN & !within,
        }
    }

    /// The bits of a virtual address that lie inside a block.
    const fn within(size: PageSize) -> u64 {
        (1 << (size.base_shift() + PAGES)) - 1
    }

    /// Whether the pages and segments have the same sizes.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.size, self.segment) == (other.size, other.segment)
    }

    /// Whether an AVPN that a guest gave covers the block: the seven bits below it are zero, as with H_AVPN.
    #[must_use]
    pub const fn is_covered_by(&self, avpn: u64) -> bool {
        avpn & !(Self::within(self.size) >> AVPN_SHIFT & COMPARED) == self.avpn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::EffAddr;
    use crate::table::Order;
    use crate::table::hash::Segment;

    /// The blocks of the entries for pages of a segment at these offsets, primary and secondary.
    fn blocks(segment: Segment, size: PageSize, offsets: &[u64]) -> std::vec::Vec<(u64, Block)> {
        let order = Order::new(20).unwrap();
        let mask = order.groups() - 1;
        let mut blocks = std::vec::Vec::new();
        for &offset in offsets {
            let at = EffAddr::new(offset);
            let hash = segment.hash(at);
            for (group, h) in [(hash, 0), (!hash, SECONDARY)] {
                let v = GuestV::entered(segment.avpn(at) | h);
                let ptex = order.ptex((group & mask) * 8 + 5).unwrap();
                blocks.push((v.raw() & COMPARED, Block::of(v, size, ptex)));
            }
        }
        blocks
    }

    #[test]
    fn eight_pages_are_a_block() {
        for (size, base) in [
            (PageSize::K4, 12),
            (PageSize::K64InK4, 12),
            (PageSize::K64, 16),
            (PageSize::M16InK64, 16),
            (PageSize::M16, 24),
        ] {
            for segment in [
                Segment::one_terabyte(0x12_3456, base),
                Segment::one_terabyte(Segment::VRMA_VSID, base),
            ] {
                let first = 40 << base;
                let inside: std::vec::Vec<u64> =
                    (0..8).map(|page| first + (page << base)).collect();
                let inside = blocks(segment, size, &inside);
                let (avpn, block) = inside[0];
                for (_, other) in &inside {
                    assert_eq!(*other, block, "{size:?}");
                    assert!(other.is_covered_by(avpn), "{size:?}");
                    assert!(!other.is_covered_by(avpn | 1), "{size:?}");
                    assert!(!other.is_covered_by(avpn ^ 1 << 20), "{size:?}");
                }
                let outside = [first - 1, first + (8 << base), first + (2048 << base)];
                for (_, other) in blocks(segment, size, &outside) {
                    assert!(other != block && other.is_like(&block), "{size:?}");
                }
            }
        }
    }

    #[test]
    fn sizes_are_told_apart() {
        let ptex = Order::new(18).unwrap().ptex(8).unwrap();
        let of = |v: u64, size| Block::of(GuestV::entered(v), size, ptex);
        let block = of(0x1234_5600, PageSize::K64);
        assert!(block.is_like(&of(0x7777_7700, PageSize::K64)));
        assert!(!block.is_like(&of(0x1234_5600, PageSize::M16InK64)));
        assert!(!block.is_like(&of(0x1234_5600 | 1 << 62, PageSize::K64)));
    }
}
