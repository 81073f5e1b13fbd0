//! The virtual pages of the workers and the memory they are mapped to.
//!
//! Every page's primary hash leads to one of the same few groups, whoever owns it, so that the workers meet there
//! all the time. There are more pages than these groups and their secondary ones have slots.
//!
//! A worker has pages of its own, at the same effective addresses as all others have theirs but in segments of its
//! own, and *common* pages, which it maps and all can access.
//!
//! Every 4K of the memory says in its first doubleword where it is. All of it may be mapped by all workers at once;
//! each stores at places of its own.

use realhpt_pseries::mmu::pte::{Page, R_C, R_R, Segment, SegmentSize};

use crate::bench::POOL;

/// The groups that the pages hash to.
pub(crate) const GROUPS: u64 = 16;
const FIRST_GROUP: u64 = 0x100;
/// Bits of a hash that choose the group, in a table of order 18.
const HASH: u64 = 0x7ff;
/// Pages whose numbers are that far apart hash alike and differ in their AVPN.
const DISTANCE: u64 = HASH + 1;

/// A kind of pages: in which segment they are, and how many there are for each group.
struct Kind {
    segment: SegmentSize,
    page: Page,
    rows: u64,
    common: bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        segment: SegmentSize::M256,
        page: Page::K4,
        rows: 3,
        common: false,
    },
    Kind {
        segment: SegmentSize::M256,
        page: Page::K64,
        rows: 2,
        common: false,
    },
    Kind {
        segment: SegmentSize::T1,
        page: Page::K4,
        rows: 2,
        common: true,
    },
];

/// Pages that each worker has.
pub(crate) const PAGES: u64 = 7 * GROUPS;
/// The first of them that is common.
pub(crate) const FIRST_COMMON: u64 = 5 * GROUPS;

/// A virtual page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) segment: Segment,
    pub(crate) page: Page,
    /// Its effective address.
    pub(crate) ea: u64,
    /// All workers can access it.
    pub(crate) common: bool,
}

/// The segment of a worker's pages of a kind.
const fn segment_of(worker: u64, number: u64, kind: &Kind) -> Segment {
    let (base, vsid) = match kind.segment {
        SegmentSize::M256 => (
            (0x100 + number) << 28,
            0x6d_0000_0000 + (worker << 20) + (number << 16),
        ),
        SegmentSize::T1 => ((0x40 + worker) << 40, 0x6d0_0000 + (worker << 14)),
    };
    Segment {
        base,
        vsid: vsid | FIRST_GROUP,
        size: kind.segment,
        page: kind.page.base(),
    }
}

/// The segments that a worker needs: its own, and those of all common pages.
pub(crate) fn segments(worker: u64) -> impl Iterator<Item = Segment> {
    (0..).zip(&KINDS).flat_map(move |(number, kind)| {
        let owners = if kind.common {
            0..realhpt_suite::stress::WORKERS as u64
        } else {
            worker..worker + 1
        };
        owners.map(move |owner| segment_of(owner, number, kind))
    })
}

/// Page `number` of a worker.
pub(crate) fn place(worker: u64, number: u64) -> Place {
    let mut left = number % PAGES;
    for (kind_number, kind) in (0..).zip(&KINDS) {
        if left < kind.rows * GROUPS {
            let segment = segment_of(worker, kind_number, kind);
            let page = left % GROUPS + left / GROUPS * DISTANCE;
            return Place {
                segment,
                page: kind.page,
                ea: segment.base + (page << kind.page.base().shift()),
                common: kind.common,
            };
        }
        left -= kind.rows * GROUPS;
    }
    unreachable!("there are as many pages as the kinds have")
}

impl Place {
    /// The first slot of its primary or its secondary group.
    pub(crate) const fn group(&self, secondary: bool) -> u64 {
        let hash = self.segment.hash(self.ea);
        (if secondary { !hash } else { hash } & HASH) << 3
    }

    /// B and AVPN.
    pub(crate) const fn tag(&self) -> u64 {
        self.segment.tag(self.ea)
    }
}

/// Whether a tag is that of a page of the worker.
pub(crate) fn is_tag_of(worker: u64, tag: u64) -> bool {
    (0..).zip(&KINDS).any(|(number, kind)| {
        let segment = segment_of(worker, number, kind);
        let offset = match kind.segment {
            SegmentSize::M256 => 0xfff,
            SegmentSize::T1 => 0xff_ffff,
        };
        tag & !offset == segment.tag(segment.base)
    })
}

/// A slot of the groups that the pages hash to, `number` counted through them.
pub(crate) const fn slot(number: u64) -> u64 {
    let (group, slot) = (number / 8 % (2 * GROUPS), number % 8);
    let first = if group < GROUPS {
        FIRST_GROUP + group
    } else {
        !(FIRST_GROUP + group - GROUPS) & HASH
    };
    first << 3 | slot
}

/// How many slots they have.
pub(crate) const SLOTS: u64 = 2 * 8 * GROUPS;

/// 4K pieces of the memory.
pub(crate) const FRAMES: u64 = 512;
/// Bytes of one.
pub(crate) const FRAME: u64 = 1 << 12;

/// Guest real address of a frame.
pub(crate) const fn frame(number: u64) -> u64 {
    POOL + number % FRAMES * FRAME
}

/// The frame of a guest real address of the memory.
pub(crate) const fn frame_of(ra: u64) -> u64 {
    (ra - POOL) / FRAME
}

/// What a frame's first doubleword says.
pub(crate) const fn identity(frame: u64) -> u64 {
    0x1de7_0000_0000_0000 | frame
}

/// Distance of a worker's own doubleword from a frame's start.
pub(crate) const fn own(worker: u64) -> u64 {
    0x80 * (worker + 1)
}

/// Distance of the doubleword that a worker stores to through others' pages.
pub(crate) const fn own_by_others_pages(worker: u64) -> u64 {
    own(worker) + 8
}

/// Guest real address of the page that dword 1 leads to.
pub(crate) const fn page_of(page: Page, dw1: u64) -> u64 {
    dw1 & 0x0fff_ffff_ffff_f000 & !(page.size() - 1)
}

/// R and C.
pub(crate) const RC: u64 = R_R | R_C;
