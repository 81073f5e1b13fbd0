//! A partition that attacks: what its vCPUs do for a job.
//!
//! * [`storm`]: calls at random, all vCPUs to the same slots, frames and streams;
//! * [`instructions`]: random words in all states that a guest has;
//! * [`keep`]: every register that can be set, kept while others have the processor;
//! * [`reach`]: pages of every size at addresses of every kind.

pub(crate) mod instructions;
pub(crate) mod keep;
pub(crate) mod reach;
pub(crate) mod storm;

use realhpt_pseries::{
    cpu::TICKS_PER_MS,
    mmu::{
        pte::{BasePage, Page, Segment, SegmentSize},
        slb,
    },
    runtime::FIRST_FREE_SLB,
};

use crate::random::Random;

/// The segments of a storm: all vCPUs have the same.
const SEGMENTS: [Segment; 4] = [
    segment(0, SegmentSize::M256, BasePage::K4),
    segment(1, SegmentSize::M256, BasePage::K64),
    segment(2, SegmentSize::M256, BasePage::M16),
    segment(3, SegmentSize::T1, BasePage::K4),
];

const fn segment(number: u64, size: SegmentSize, page: BasePage) -> Segment {
    let vsid = match size {
        SegmentSize::M256 => 0x6b_0000_0000 + number * 0x101,
        SegmentSize::T1 => 0x6b0_0000,
    };
    Segment {
        base: (0x70 + number) << 40,
        vsid,
        size,
        page,
    }
}

/// Every page size but 16G.
const SIZES: [Page; 6] = [
    Page::K4,
    Page::K64In4K,
    Page::M16In4K,
    Page::K64,
    Page::M16In64K,
    Page::M16,
];

/// Puts the segments into the SLB.
fn insert_segments() {
    for (slot, segment) in (FIRST_FREE_SLB..).zip(&SEGMENTS) {
        // SAFETY: nothing of the program is there.
        unsafe { slb::insert(slot, segment) };
    }
}

/// Guest real addresses that a page, a buffer or a frame may be said to have, beside the pool's: the program's own,
/// the end of the memory, the image, the firmware, others' memory, devices, nothing, and what wraps.
const ELSEWHERE: [u64; 24] = [
    0x3ff_0000,
    0x3ff_f000,
    0x400_0000,
    0x400_1000,
    0x500_0000,
    0x1000_0000,
    0x2000_0000,
    0x2001_0000,
    0x3000_0000,
    0x3100_0000,
    0x3800_0000,
    0x4000_0000,
    0x4400_0000,
    0x5000_0000,
    0x7fff_f000,
    0x8000_0000,
    0x1_0000_0000,
    0x0003_fc00_0000_0000,
    0x0003_ff80_0000_0000,
    0x0006_0301_fc00_0000,
    0x0006_0300_d001_0000,
    0x0100_0000_0000_0000,
    0x0fff_ffff_ffff_f000,
    0xffff_ffff_ffff_f000,
];

/// The parameters of a job: what stands above its number.
#[derive(Clone, Copy)]
struct Parameters {
    seed: u64,
    ticks: u64,
}

impl Parameters {
    const fn of(argument: u64) -> Self {
        Self {
            seed: argument >> 8 & 0xffff,
            ticks: (argument >> 24) * TICKS_PER_MS,
        }
    }

    /// Another sequence for each vCPU.
    fn random(self, number: u64) -> Random {
        Random(0x9e37_79b9_7f4a_7c15 ^ self.seed << 20 ^ number << 8 | 1)
    }
}

/// One of the things in a row.
fn one_of<T: Copy + Default>(random: &mut Random, all: &[T]) -> T {
    let number = random.below(all.len() as u64);
    let thing = usize::try_from(number)
        .ok()
        .and_then(|number| all.get(number));
    thing.copied().unwrap_or_default()
}
