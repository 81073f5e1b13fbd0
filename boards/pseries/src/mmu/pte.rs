//! Segments, hashes and HPTEs as a guest makes them: the format of ISA 2.07, which PAPR calls use on every
//! processor (LoPAR 14.5.4; ISA 2.07B Book III-S sections 5.7.7 and 5.7.9).
//!
//! Written from the ISA for the guests alone, so that the hypervisor's own code is not checked by itself.

/// Dword 0: the entry is valid.
pub const V_VALID: u64 = 1;
/// Dword 0: in the group of the secondary hash.
pub const V_SECONDARY: u64 = 1 << 1;
/// Dword 0: a page larger than 4K; dword 1 has its encoding.
pub const V_LARGE: u64 = 1 << 2;
/// Dword 0: an operating system's mark for entries it will not evict.
pub const V_BOLTED: u64 = 1 << 4;
/// Dword 0: B and AVPN.
pub const V_TAG: u64 = !0x7f;

/// Dword 1: first bit of the page protection.
pub const R_PP0: u64 = 1 << 63;
/// Dword 1: upper two bits of the storage key.
pub const R_KEY_HI: u64 = 3 << 60;
/// Dword 1: lower three bits of the storage key.
pub const R_KEY_LO: u64 = 7 << 9;
/// Dword 1: the page was referenced.
pub const R_R: u64 = 1 << 8;
/// Dword 1: the page was changed.
pub const R_C: u64 = 1 << 7;
/// Dword 1: memory coherence required, as memory has it.
pub const R_M: u64 = 1 << 4;
/// Dword 1: no instructions are fetched from the page.
pub const R_N: u64 = 1 << 2;
/// Dword 1: page protection. With the keys of this runtime's segments 0 to 2 allow everything.
pub const R_PP: u64 = 3;
/// Protection: read and write.
pub const PP_READ_WRITE: u64 = 2;
/// Protection: read only.
pub const PP_READ_ONLY: u64 = 3;

/// Size of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentSize {
    /// 256 MiB.
    M256,
    /// 1 TiB.
    T1,
}

/// Base page size of a segment: the unit its pages are hashed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasePage {
    /// 4 KiB.
    K4,
    /// 64 KiB.
    K64,
    /// 16 MiB.
    M16,
}

impl BasePage {
    /// Log 2 of the size.
    #[must_use]
    pub const fn shift(self) -> u32 {
        match self {
            Self::K4 => 12,
            Self::K64 => 16,
            Self::M16 => 24,
        }
    }

    /// L and LP of the SLB entry.
    const fn slb(self) -> u64 {
        match self {
            Self::K4 => 0,
            Self::K64 => 0x110,
            Self::M16 => 0x100,
        }
    }
}

/// A page: its size and the base page size of the segment it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// 4K in a 4K segment.
    K4,
    /// 64K in a 4K segment.
    K64In4K,
    /// 16M in a 4K segment.
    M16In4K,
    /// 64K in a 64K segment.
    K64,
    /// 16M in a 64K segment.
    M16In64K,
    /// 16M in a 16M segment.
    M16,
}

impl Page {
    /// Base page size of the segments that can have such a page.
    #[must_use]
    pub const fn base(self) -> BasePage {
        match self {
            Self::K4 | Self::K64In4K | Self::M16In4K => BasePage::K4,
            Self::K64 | Self::M16In64K => BasePage::K64,
            Self::M16 => BasePage::M16,
        }
    }

    /// The page's size in bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        match self {
            Self::K4 => 1 << 12,
            Self::K64In4K | Self::K64 => 1 << 16,
            Self::M16In4K | Self::M16In64K | Self::M16 => 1 << 24,
        }
    }

    /// L of dword 0.
    const fn large(self) -> u64 {
        match self {
            Self::K4 => 0,
            _ => V_LARGE,
        }
    }

    /// LP of dword 1, in place: the low bits of the real page number that a larger page has no use for.
    const fn lp(self) -> u64 {
        match self {
            Self::K4 | Self::M16 => 0,
            Self::K64In4K => 0x7000,
            Self::M16In4K => 0x3_8000,
            Self::K64 => 0x1000,
            Self::M16In64K => 0x8000,
        }
    }

    /// Dword 1 of a page of memory that has guest real address `ra` in it, with protection bits `bits`.
    #[must_use]
    pub const fn dword_1(self, ra: u64, bits: u64) -> u64 {
        (ra & !(self.size() - 1)) | self.lp() | R_M | bits
    }
}

/// A segment: effective addresses from `base`, and the virtual segment they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first effective address, a multiple of its size.
    pub base: u64,
    /// Virtual segment id: 40 bits (256M) or 28 (1T) hold on every processor.
    pub vsid: u64,
    /// Its size.
    pub size: SegmentSize,
    /// Its base page size.
    pub page: BasePage,
}

impl Segment {
    /// The segment's offset of an effective address in it.
    const fn offset(&self, ea: u64) -> u64 {
        match self.size {
            SegmentSize::M256 => ea & 0x0fff_ffff,
            SegmentSize::T1 => ea & 0xff_ffff_ffff,
        }
    }

    /// The primary hash of an effective address in the segment. The secondary one is its complement.
    #[must_use]
    pub const fn hash(&self, ea: u64) -> u64 {
        let page = self.offset(ea) >> self.page.shift();
        match self.size {
            SegmentSize::M256 => self.vsid ^ page,
            SegmentSize::T1 => self.vsid ^ (self.vsid << 25) ^ page,
        }
    }

    /// B and AVPN of dword 0 for an effective address in the segment.
    ///
    /// The AVPN is the virtual address without its low 23 bits; those of them that a base page leaves are
    /// implied by the hash. A 16M base page covers one bit more, which must be zero.
    #[must_use]
    pub const fn tag(&self, ea: u64) -> u64 {
        let page = self.offset(ea) & !((1 << self.page.shift()) - 1);
        let low = (page >> 23) << 7;
        match self.size {
            SegmentSize::M256 => (self.vsid << 12) | low,
            SegmentSize::T1 => (1 << 62) | (self.vsid << 24) | low,
        }
    }

    /// Dword 0 of an entry for the page at `ea`, in the group of the primary hash.
    #[must_use]
    pub const fn dword_0(&self, ea: u64, page: Page) -> u64 {
        self.tag(ea) | page.large() | V_VALID
    }

    /// RB of slbmte: ESID and the valid bit. The number of the SLB entry is to be added.
    pub(super) const fn esid_dword(&self) -> u64 {
        self.base | (1 << 27)
    }

    /// RS of slbmte: B, VSID, base page size; keys 0 for both states.
    #[must_use]
    pub const fn vsid_dword(&self) -> u64 {
        let place = match self.size {
            SegmentSize::M256 => self.vsid << 12,
            SegmentSize::T1 => (1 << 62) | (self.vsid << 24),
        };
        place | self.page.slb()
    }
}
