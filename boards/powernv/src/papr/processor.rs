//! What the nodes of a guest's CPUs say of the processor.
//!
//! Where the machine's own device tree says it, it is taken from there; else from the generation. What a processor *has*
//! and what a guest *may use* of it are two things: a partition here has a hashed page table, no radix tree, no
//! transactions and no messages between threads (HFSCR, [`crate::mode`]), so its tree announces none of these.

use alloc::vec;
use alloc::vec::Vec;

use realhpt::table::hash::Segment;
use realhpt::table::hpte::LARGE;
use realhpt::table::page_size::PageSize;

use crate::machine::Generation;

/// One of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of it.
    pub size: u32,
    /// Bytes of a line, which is a block too.
    pub line: u32,
}

/// The processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Its version register.
    pub pvr: u32,
    /// Which generation it is.
    pub generation: Generation,
    /// Ticks of the time base in a second.
    pub time_base: u32,
    /// Cycles in a second, if the machine says so.
    pub clock: Option<u32>,
    /// The instruction cache.
    pub instructions: Cache,
    /// The data cache.
    pub data: Cache,
}

impl Processor {
    /// A processor of which nothing is known but its version.
    #[must_use]
    pub const fn new(pvr: u32, generation: Generation) -> Self {
        const LINE: u32 = 128;
        let (instructions, data) = match generation {
            Generation::Power8 => (32, 64),
            Generation::Power9 => (32, 32),
            Generation::Power10 => (48, 32),
        };
        Self {
            pvr,
            generation,
            time_base: 512_000_000,
            clock: None,
            instructions: Cache {
                size: instructions << 10,
                line: LINE,
            },
            data: Cache {
                size: data << 10,
                line: LINE,
            },
        }
    }

    /// The name that its nodes have.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.generation {
            Generation::Power8 => "PowerPC,POWER8",
            Generation::Power9 => "PowerPC,POWER9",
            Generation::Power10 => "PowerPC,POWER10",
        }
    }

    /// `ibm,pa-features` (LoPAR, processor binding): one descriptor, of type 0, with the bits that are true for a guest.
    #[must_use]
    pub fn pa_features(&self) -> Vec<u8> {
        let newer = match self.generation {
            Generation::Power8 => [].as_slice(),
            Generation::Power9 | Generation::Power10 => &ISA_3_0,
        };
        let features = || ISA_2_07.iter().chain(newer);
        let bytes = features().map(|&(byte, _)| byte + 1).max().unwrap_or(0);
        let mut descriptor = vec![bytes, 0];
        descriptor.resize(2 + usize::from(bytes), 0);
        for &(byte, bit) in features() {
            if let Some(byte) = descriptor.get_mut(2 + usize::from(byte)) {
                *byte |= 0x80 >> bit;
            }
        }
        descriptor
    }

    /// `ibm,pi-features` (LoPAR, processor binding): one descriptor, of type 0 and one byte.
    #[must_use]
    pub const fn pi_features(&self) -> [u8; 3] {
        /// `msgsndp` is not there: a bit that says so when it is set.
        const NO_MESSAGES: u8 = 0x80 >> 4;
        [1, 0, NO_MESSAGES]
    }
}

/// Features of POWER8 and later, by byte and bit of the descriptor.
const ISA_2_07: [(u8, u8); 27] = [
    (0, 0),  // MMU
    (0, 1),  // floating point
    (0, 2),  // SLB
    (0, 3),  // CTRL[RUN]
    (0, 6),  // no-execute
    (1, 3),  // floating-point round to integer
    (1, 5),  // SPRG3 may be read in problem state
    (1, 6),  // SLB entry 0 survives slbia
    (1, 7),  // pp = 110
    (2, 0),  // virtualised partition memory
    (2, 1),  // ISA 2.05's data stream
    (2, 5),  // PPR
    (2, 6),  // ISA 2.02
    (2, 7),  // ISA 2.06
    (3, 0),  // load and store doubleword
    (3, 1),  // data stream: urgency
    (5, 0),  // little-endian
    (5, 1),  // come-from address
    (5, 2),  // elemental barriers
    (5, 3),  // load and store quadword
    (6, 0),  // ISA 2.07
    (16, 0), // vector
    (18, 0), // vector-scalar
    (20, 0), // vector exclusive or
    (34, 0), // event-based branches
    (34, 1), // event-based branches, extended
    (54, 0), // decimal floating point
];

/// What ISA 3.0 adds.
const ISA_3_0: [(u8, u8); 9] = [
    (32, 0), // little-endian atomics
    (46, 0), // system call vectored
    (48, 0), // SIMD
    (50, 0), // quad-precision floating point
    (52, 0), // string operations
    (56, 0), // decimal integers
    (58, 0), // SHA
    (60, 0), // atomics in memory
    (62, 0), // random numbers
];

/// `ibm,segment-page-sizes` (LoPAR, processor binding): for each base page size log2, L || LP of an SLB entry, and the actual page sizes
/// with it, each log2 and LP of an HPTE. Page sizes above `1 << largest` are left out: what they would map is not the
/// partition's, or not in one piece.
///
/// All numbers are looked for in the engine's own decoders, so what a guest is told is what H_ENTER takes.
#[must_use]
pub fn segment_page_sizes(largest: u32) -> Vec<u32> {
    let mut words = Vec::new();
    let sizes = || PageSize::ALL.iter().filter(|size| size.shift() <= largest);
    for base in [12, 16, 24, 34] {
        let actual = || sizes().filter(|size| size.base_shift() == base);
        let Some(slb) = slb_encoding(base).filter(|_| actual().next().is_some()) else {
            continue;
        };
        let count = u32::try_from(actual().count()).unwrap_or(0);
        words.extend([base, slb, count]);
        for size in actual() {
            words.extend([size.shift(), lp_encoding(*size)]);
        }
    }
    words
}

/// L || LP of an SLB entry whose segment has pages of `1 << base_shift` bytes.
fn slb_encoding(base_shift: u32) -> Option<u32> {
    (0..=0x130).step_by(0x10).find(|&encoding: &u32| {
        let segment = Segment::from_slb(u64::from(encoding));
        segment.is_some_and(|segment| segment.base_shift() == base_shift)
    })
}

/// LP of an HPTE of this page size: the lowest, since higher ones have bits of the address in them. Zero where L is not set.
fn lp_encoding(size: PageSize) -> u32 {
    let encodes = |lp: &u32| PageSize::decode(LARGE, u64::from(*lp) << 12) == Some(size);
    (0..256).find(encodes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_those_that_linux_and_qemu_know() {
        let mpss = [
            &[12, 0, 3, 12, 0, 16, 7, 24, 0x38][..],
            &[16, 0x110, 2, 16, 1, 24, 8],
            &[24, 0x100, 1, 24, 0],
        ];
        assert_eq!(segment_page_sizes(24), mpss.concat());
        assert_eq!(
            segment_page_sizes(16),
            [12, 0, 2, 12, 0, 16, 7, 16, 0x110, 1, 16, 1]
        );
        assert_eq!(segment_page_sizes(12), [12, 0, 1, 12, 0]);
        assert_eq!(segment_page_sizes(63).len(), mpss.concat().len() + 5);
    }

    #[test]
    fn nothing_is_announced_that_a_guest_has_not() {
        const TRANSACTIONS: usize = 22;
        const RADIX: usize = 40;
        const LARGE_DECREMENTER: usize = 24;
        let features = |generation| Processor::new(0, generation).pa_features();
        for generation in [Generation::Power8, Generation::Power9, Generation::Power10] {
            let features = features(generation);
            assert_eq!(features.len(), usize::from(features[0]) + 2);
            assert_eq!(features[1], 0);
            assert_eq!(features[2..9], [0xf2, 0x17, 0xc7, 0xc0, 0, 0xf0, 0x80]);
            for byte in [TRANSACTIONS, RADIX, LARGE_DECREMENTER] {
                assert_eq!(features[2 + byte], 0, "byte {byte}");
            }
        }
        assert_eq!(features(Generation::Power8).len(), 2 + 55);
        assert_eq!(features(Generation::Power9).len(), 2 + 63);
        assert_eq!(
            Processor::new(0, Generation::Power9).pi_features(),
            [1, 0, 8]
        );
    }
}
