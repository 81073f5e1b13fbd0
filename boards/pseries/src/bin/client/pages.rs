//! The client's pages: where they are, and accesses through them that keep book of R and C.

use core::ptr;

use heapless::Vec;
use realhpt_pseries::{
    abi::Flags,
    cpu::{self, Msr},
    guard::{self, Fault},
    hcall,
    mmu::{
        Entry, MapError,
        pte::{
            BasePage, PP_READ_ONLY, PP_READ_WRITE, Page, R_C, R_KEY_HI, R_KEY_LO, R_N, R_PP, R_PP0,
            R_R, Segment, SegmentSize,
        },
    },
    runtime::Runtime,
};

use crate::trouble::{Trouble, expect};

/// The most pages.
pub(crate) const PAGES: usize = 256;

/// Guest real address of the memory the pages map: behind the program's page.
const POOL: u64 = 16 << 20;

/// The client's segments, far from the runtime's.
pub(crate) const SEGMENTS: [Segment; 5] = [
    Segment {
        base: 0x20_0000_0000,
        vsid: 0x5b_0000_1000,
        size: SegmentSize::M256,
        page: BasePage::K4,
    },
    Segment {
        base: 0x21_0000_0000,
        vsid: 0x5b_0000_2707,
        size: SegmentSize::M256,
        page: BasePage::K64,
    },
    Segment {
        base: 0x22_0000_0000,
        vsid: 0x5b_0000_3b0b,
        size: SegmentSize::M256,
        page: BasePage::M16,
    },
    Segment {
        base: 0x100_0000_0000,
        vsid: 0x5b0_4c17,
        size: SegmentSize::T1,
        page: BasePage::K4,
    },
    Segment {
        base: 0x200_0000_0000,
        vsid: 0x5b0_5d2f,
        size: SegmentSize::T1,
        page: BasePage::K64,
    },
];

/// Pages of one kind, at equal distances.
struct Run {
    segment: &'static Segment,
    page: Page,
    count: u64,
    /// Offset of the first in the segment, and its distance from the next.
    virtual_place: (u64, u64),
    /// The same in the pool.
    real_place: (u64, u64),
}

const fn run(
    segment: &'static Segment,
    page: Page,
    count: u64,
    virtual_place: (u64, u64),
    real_place: (u64, u64),
) -> Run {
    Run {
        segment,
        page,
        count,
        virtual_place,
        real_place,
    }
}

/// All pages. The 1T segments map memory that the 256M segments map too. In the runs of pages larger than
/// their base page each entry is for one base page, and the distances lead to another one in another page.
const RUNS: [Run; 8] = {
    let [small, medium, large, huge_small, huge_medium] = &SEGMENTS;
    [
        run(small, Page::K4, 96, (0, 0x3000), (0, 0x3000)),
        run(
            small,
            Page::K64In4K,
            12,
            (0x100_0000, 0x1_5000),
            (0x20_0000, 0x1_5000),
        ),
        run(
            small,
            Page::M16In4K,
            10,
            (0x400_0000, 0x12_3000),
            (0, 0x12_3000),
        ),
        run(
            medium,
            Page::K64,
            48,
            (0x8_0000, 0x1_0000),
            (0x40_0000, 0x1_0000),
        ),
        run(
            medium,
            Page::M16In64K,
            10,
            (0x400_0000, 0x13_0000),
            (0, 0x13_0000),
        ),
        run(large, Page::M16, 4, (0, 0x100_0000), (0, 0x100_0000)),
        run(
            huge_small,
            Page::K4,
            24,
            (0x12_3456_7000, 0x9_0000_1000),
            (0, 0x3000),
        ),
        run(
            huge_medium,
            Page::K64,
            12,
            (0x56_789a_0000, 0x1_0000),
            (0x40_0000, 0x1_0000),
        ),
    ]
};

/// One of the client's pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestPage {
    /// Its entry as it must be now.
    pub(crate) entry: Entry,
    /// Address of the doubleword in it that accesses go to.
    pub(crate) ea: u64,
    /// Guest real address of that doubleword.
    pub(crate) ra: u64,
    /// The entry is in the table.
    pub(crate) live: bool,
}

/// Enters the pages that the partition's memory has room for. Where the table is full, or somebody has the
/// virtual address, a page is left out; how many were is the second result.
pub(crate) fn enter(runtime: &Runtime) -> Result<(Vec<TestPage, PAGES>, u64), Trouble> {
    let mut pages = Vec::new();
    let mut left_out = 0;
    for run in &RUNS {
        for number in 0..run.count {
            let place = |(first, distance): (u64, u64)| first + number * distance;
            let ea = run.segment.base + place(run.virtual_place);
            let ra = POOL + place(run.real_place);
            if (ra | (run.page.size() - 1)) >= runtime.partition.memory {
                continue;
            }
            // Every seventh is read-only at first.
            let bits = if pages.len() % 7 == 6 {
                PP_READ_ONLY
            } else {
                PP_READ_WRITE
            };
            // SAFETY: the program has no references to the client's segments.
            match unsafe { runtime.table.map(run.segment, ea, run.page, (ra, bits), 0) } {
                Ok(entry) => {
                    // Somewhere in the base page, elsewhere for each.
                    let base_page = 1 << run.page.base().shift();
                    let offset = (pages.len() as u64 * 0x12_3458) & (base_page - 8);
                    let page = TestPage {
                        entry,
                        ea: ea + offset,
                        ra: ra + offset,
                        live: true,
                    };
                    assert!(pages.push(page).is_ok(), "too many pages");
                }
                Err(MapError::Refused(failure)) => return Err(failure.into()),
                Err(MapError::Full | MapError::Taken(_)) => left_out += 1,
            }
        }
    }
    Ok((pages, left_out))
}

impl TestPage {
    /// What the page's doubleword holds before a store: no other place holds it.
    pub(crate) const fn pattern(&self) -> u64 {
        self.ra ^ 0x7061_7474_6572_6e00
    }

    /// Loads through the page; memory must have been read.
    pub(crate) fn load(&mut self) -> Result<(), Trouble> {
        let found = load(self.ea);
        self.entry.dw1 |= R_R;
        expect("load", self.ea, load_real(self.ra), found)
    }

    /// Stores through the page; memory must have been written.
    pub(crate) fn store(&mut self, value: u64) -> Result<(), Trouble> {
        store(self.ea, value);
        self.entry.dw1 |= R_R | R_C;
        expect("store", self.ea, value, load_real(self.ra))
    }

    /// Loads or stores, and must fault with this vector. Only for pages that have been referenced: whether an
    /// access that is not allowed sets R is the processor's choice.
    pub(crate) fn expect_fault(
        &self,
        what: &'static str,
        vector: u64,
        access: impl FnOnce() -> Result<u64, Fault>,
    ) -> Result<Fault, Trouble> {
        match access() {
            Ok(value) => Err(Trouble::Wrong {
                what,
                at: self.ea,
                expected: vector,
                found: value,
            }),
            Err(fault) => {
                expect(what, self.ea, vector, fault.vector)?;
                Ok(fault)
            }
        }
    }

    /// A load that must find no entry.
    pub(crate) fn expect_unmapped(&self) -> Result<(), Trouble> {
        // SAFETY: main runs translated, and a load is sound.
        let load = || unsafe { guard::load(self.ea, Msr::TRANSLATED) };
        let fault = self.expect_fault("load through a removed entry", 0x300, load)?;
        expect("DSISR of no entry", self.ea, 0x4000_0000, fault.dsisr)?;
        expect("DAR of no entry", self.ea, self.ea, fault.dar)
    }

    /// A store that must not be allowed.
    pub(crate) fn expect_read_only(&self) -> Result<(), Trouble> {
        let before = load_real(self.ra);
        // SAFETY: main runs translated; the pool is the client's to be written.
        let store = || unsafe { guard::store(self.ea, !before, Msr::TRANSLATED) }.map(|()| 0);
        let fault = self.expect_fault("store to a read-only page", 0x300, store)?;
        expect(
            "DSISR of a store not allowed",
            self.ea,
            0x0a00_0000,
            fault.dsisr,
        )?;
        expect("read-only memory", self.ra, before, load_real(self.ra))
    }

    /// A fetch that must not be allowed.
    pub(crate) fn expect_no_execute(&self) -> Result<(), Trouble> {
        let at = self.ea & !3;
        // SAFETY: main runs translated; what stands there is not reached.
        let fetch = || unsafe { guard::fetch(at, Msr::TRANSLATED) };
        let fault = self.expect_fault("fetch from a no-execute page", 0x400, fetch)?;
        expect("SRR0 of no-execute", at, at, fault.srr0)?;
        expect(
            "SRR1 of no-execute",
            at,
            0x1000_0000,
            fault.srr1 & 0x5800_0000,
        )
    }

    /// H_PROTECT with bits of dword 1.
    pub(crate) fn protect(&mut self, bits: u64) -> Result<(), Trouble> {
        self.entry = protect(self.entry, bits)?;
        Ok(())
    }
}

/// Bits of dword 1 that H_PROTECT sets.
const PROTECTION: u64 = R_PP0 | R_KEY_HI | R_KEY_LO | R_N | R_PP;

/// H_PROTECT of an entry, found by its AVPN: the entry with its new bits. In the hcall's flags pp0 and the
/// upper key bits stand elsewhere (LoPAR 14.5.4.1.6).
pub(crate) fn protect(entry: Entry, bits: u64) -> Result<Entry, Trouble> {
    let flags = (bits & R_PP0) >> 55 | (bits & R_KEY_HI) >> 48 | (bits & (R_KEY_LO | R_N | R_PP));
    let flags = Flags::from_bits_retain(flags) | Flags::AVPN;
    hcall::protect(flags, entry.ptex, entry.tag())?;
    Ok(Entry {
        dw1: (entry.dw1 & !PROTECTION) | bits,
        ..entry
    })
}

/// Loads the doubleword at an effective address.
fn load(ea: u64) -> u64 {
    // SAFETY: a page of the client maps it; no reference points into the pool.
    unsafe { ptr::read_volatile(pointer(ea)) }
}

/// Stores the doubleword at an effective address.
fn store(ea: u64, value: u64) {
    // SAFETY: a page of the client maps it; no reference points into the pool.
    unsafe { ptr::write_volatile(pointer(ea), value) }
}

/// Loads a doubleword of the pool in real mode.
fn load_real(ra: u64) -> u64 {
    // SAFETY: in real mode the program is where it is, and the pool is memory.
    unsafe { cpu::with_msr(Msr::REAL, || load(ra)) }
}

/// Stores a doubleword of the pool in real mode.
pub(crate) fn store_real(ra: u64, value: u64) {
    // SAFETY: in real mode the program is where it is, and the pool is memory.
    unsafe { cpu::with_msr(Msr::REAL, || store(ra, value)) }
}

/// A pointer that is only a number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the target has 64-bit pointers"
)]
fn pointer(address: u64) -> *mut u64 {
    ptr::without_provenance_mut(address as usize)
}
