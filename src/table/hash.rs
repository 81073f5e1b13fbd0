//! From a virtual address to its two groups (ISA 3.0B Book III section 5.7.9.2).
//!
//! The primary hash of a 256M segment is VSID xor page number, that of a 1T segment VSID xor VSID << 25 xor
//! page number, where pages have the segment's base page size; the secondary hash is its complement. The low
//! bits, as many as the table has groups for, choose the PTEG.

use super::hpte::{self, GuestV, RealV, SegmentSize};
use crate::addr::EffAddr;

/// L of an SLB entry's VSID doubleword.
const SLB_L: u64 = 0x100;
/// LP of an SLB entry's VSID doubleword.
const SLB_LP: u64 = 0x30;
/// B of an SLB entry's VSID doubleword.
const SLB_B_SHIFT: u32 = 62;

/// A segment as the VSID doubleword of an SLB entry says it: RS of `slbmte`, and ASDR after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    vsid: u64,
    size: SegmentSize,
    base_shift: u32,
}

impl Segment {
    /// The VSID of the segment that guest real mode is translated by.
    pub const VRMA_VSID: u64 = 0x01ff_ffff;

    /// The 1T segment `vsid` with base pages of `1 << base_shift` bytes.
    #[must_use]
    pub const fn one_terabyte(vsid: u64, base_shift: u32) -> Self {
        Self {
            vsid,
            size: SegmentSize::T1,
            base_shift,
        }
    }

    /// The segment of an SLB entry; none if B or L || LP is reserved, or says 1M pages, which no HPTE here
    /// encodes.
    #[must_use]
    pub const fn from_slb(slb_v: u64) -> Option<Self> {
        let base_shift = match (slb_v & SLB_L != 0, (slb_v & SLB_LP) >> 4) {
            (false, 0) => 12,
            (true, 0) => 24,
            (true, 1) => 16,
            (true, 2) => 34,
            _ => return None,
        };
        match slb_v >> SLB_B_SHIFT {
            0 => Some(Self {
                vsid: slb_v << 2 >> 14,
                size: SegmentSize::M256,
                base_shift,
            }),
            1 => Some(Self {
                vsid: slb_v << 2 >> 26,
                size: SegmentSize::T1,
                base_shift,
            }),
            _ => None,
        }
    }

    /// Log2 of the base page size.
    #[must_use]
    pub const fn base_shift(&self) -> u32 {
        self.base_shift
    }

    /// Log2 of the segment's size.
    const fn shift(&self) -> u32 {
        match self.size {
            SegmentSize::M256 => 28,
            SegmentSize::T1 => 40,
        }
    }

    /// The primary hash of an address in the segment.
    #[must_use]
    pub const fn hash(&self, at: EffAddr) -> u64 {
        let page = (at.raw() & ((1 << self.shift()) - 1)) >> self.base_shift;
        match self.size {
            SegmentSize::M256 => self.vsid ^ page,
            SegmentSize::T1 => self.vsid ^ self.vsid << 25 ^ page,
        }
    }

    /// B and AVPN of a dword 0 (ISA 2.07 format) that translates the address. AVPN bits that lie inside a
    /// large base page are zero.
    #[must_use]
    pub const fn avpn(&self, at: EffAddr) -> u64 {
        let (b, vsid) = match self.size {
            SegmentSize::M256 => (0, self.vsid << 12),
            SegmentSize::T1 => (1, self.vsid << 24),
        };
        let offset = at.raw() & ((1 << self.shift()) - 1);
        let inside = if self.base_shift >= 24 {
            (1 << (self.base_shift - 16)) - 1
        } else {
            0x7f
        };
        b << hpte::B_SHIFT | (vsid | offset >> 16) & !inside & ((1 << hpte::B_SHIFT) - 1)
    }
}

/// Whether an entry translates guest real mode: B and VSID are the VRMA's, whoever made it and whether it is
/// bolted or not.
#[must_use]
pub const fn is_vrma(v: GuestV) -> bool {
    // AVPN without its offset in the segment is B and VSID.
    v.raw() >> 24 == 1 << (hpte::B_SHIFT - 24) | Segment::VRMA_VSID
}

/// Whether an entry may be one of those, as far as a dword 0 of the table shows it: B may stand elsewhere.
pub(super) const fn may_be_vrma(v: RealV) -> bool {
    const B: u64 = 3 << hpte::B_SHIFT;
    v.raw() & !0xff_ffff & !B == Segment::VRMA_VSID << 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slb_doubleword_is_read_as_the_isa_has_it() {
        // B = 1, VSID 0x1ffffff, L = 0, LP = 0: what ASDR shows after a fault in guest real mode.
        let vrma = Segment::from_slb(0x4001_ffff_ff00_0000).unwrap();
        assert_eq!(vrma, Segment::one_terabyte(Segment::VRMA_VSID, 12));
        let linux = Segment::from_slb(0x0000_0123_4567_8000 | 0x110).unwrap();
        assert_eq!(linux.vsid, 0x1234_5678);
        assert_eq!(linux.base_shift(), 16);
        assert!(Segment::from_slb(1 << 63).is_none());
        assert!(Segment::from_slb(0x10).is_none());
        assert!(Segment::from_slb(0x130).is_none());
    }

    #[test]
    fn the_vrma_of_a_linux_host_hashes_where_linux_put_it() {
        // corpus/kvm-sequences c01: order 18, 64K pages, page i of the VRMA is slot 7 of group 0x7ff - i.
        let vrma = Segment::one_terabyte(Segment::VRMA_VSID, 16);
        for page in 0..0x80 {
            let at = EffAddr::new(page << 16);
            assert_eq!(vrma.hash(at) & 0x7ff, 0x7ff - page);
            assert_eq!(vrma.avpn(at), 0x4001_ffff_ff00_0000 | (page >> 7 << 7));
        }
    }

    #[test]
    fn a_large_base_page_has_no_avpn_bits_of_its_inside() {
        let segment = Segment::one_terabyte(1, 24);
        assert_eq!(
            segment.avpn(EffAddr::new(0x01ff_ffff)),
            segment.avpn(EffAddr::new(0x0100_0000))
        );
        assert_ne!(
            segment.avpn(EffAddr::new(0x0200_0000)),
            segment.avpn(EffAddr::new(0x0100_0000))
        );
    }
}
