//! How far entries reach: pages of every size at the ends of the partition's regions and where it has nothing.

use realhpt_pseries::{
    cpu::Msr,
    guard,
    mmu::pte::{BasePage, PP_READ_WRITE, Page, Segment, SegmentSize},
};
use realhpt_suite::region;

use super::{ELSEWHERE, SEGMENTS, SIZES, insert_segments};
use crate::{
    bench::{Bench, POOL},
    trouble::{Must as _, Outcome, faulted, holds, same},
};

/// What is behind a page, by the partition's regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Memory,
    Nothing,
    Misfit,
}

fn behind(page: u64, bytes: u64) -> Behind {
    let mut regions = region::ALL.into_iter();
    match regions.find(|&(base, size, _)| base <= page && page < base + size) {
        None => Behind::Nothing,
        Some((base, size, largest)) if base + size - page >= bytes && bytes <= largest => {
            Behind::Memory
        }
        Some(_) => Behind::Misfit,
    }
}

/// Pages of every size at the ends of every region and elsewhere: each is memory of the partition's, or refused, or
/// an access through it faults. In real mode, too, which the partition's own entries translate.
pub(crate) fn run(bench: &mut Bench<'_>) -> Outcome {
    insert_segments();
    let vrma = Segment {
        base: 0,
        vsid: 0x1ff_ffff,
        size: SegmentSize::T1,
        page: BasePage::M16,
    };
    let ends = region::ALL
        .into_iter()
        .flat_map(|(base, size, _)| [base, base + size, base + size - 1]);
    for at in ends.chain(ELSEWHERE) {
        for page in SIZES {
            for steps in [0, 1, 2, 0_u64.wrapping_sub(1)] {
                let ra = at.wrapping_add(steps.wrapping_mul(page.size())) & 0x0fff_ffff_ffff_f000;
                let first = ra & !(page.size() - 1);
                // Not what the program lives in.
                if first >= POOL {
                    let segment = SEGMENTS.iter().find(|segment| segment.page == page.base());
                    let segment = segment.must("a segment")?;
                    reach_through(bench, segment, page, ra)?;
                }
            }
        }
        // The VRMA has 16M pages; each of its entries is the next one's.
        let ea = region::FIRST.1 + (at & 0xf000);
        reach_by(bench, &vrma, ea, (Page::M16, at), Msr::REAL)?;
    }
    Ok(())
}

/// Maps a page and accesses it at both ends.
fn reach_through(bench: &Bench<'_>, segment: &Segment, page: Page, ra: u64) -> Outcome {
    let within = ra & (page.size() - 1);
    reach_by(
        bench,
        segment,
        segment.base + within,
        (page, ra),
        Msr::TRANSLATED,
    )
}

fn reach_by(
    bench: &Bench<'_>,
    segment: &Segment,
    ea: u64,
    (page, ra): (Page, u64),
    msr: Msr,
) -> Outcome {
    let first = ra & 0x0fff_ffff_ffff_f000 & !(page.size() - 1);
    let behind = behind(first, page.size());
    let table = bench.runtime.table;
    let to = (ra & 0x0fff_ffff_ffff_f000, PP_READ_WRITE);
    // SAFETY: the program has no references there.
    let entry = match unsafe { table.map(segment, ea, page, to, 0) } {
        Ok(entry) => entry,
        Err(_) => return holds("a page that is refused", ra, behind == Behind::Misfit),
    };
    holds("a page that is entered", ra, behind != Behind::Misfit)?;
    // The base page that the entry translates.
    let step = 1 << page.base().shift();
    let start = ea & !(step - 1);
    for at in [start, start + step - 8] {
        // SAFETY: a page of nobody's.
        let load = unsafe { guard::load(at, msr) };
        // SAFETY: as above.
        let store = unsafe { guard::store(at, at, msr) };
        if behind == Behind::Memory {
            load.must("a load")?;
            store.must("a store")?;
            // SAFETY: as above.
            let found = unsafe { guard::load(at, msr) }.must("a load")?;
            same("what was stored", at, found)?;
            continue;
        }
        let fault = faulted("a load", 0x300, load)?;
        same("DSISR", 0x0400_0000, fault.dsisr)?;
        let fault = faulted("a store", 0x300, store.map(|()| 0))?;
        same("DSISR", 0x0600_0000, fault.dsisr)?;
        // SAFETY: there is nothing.
        let fault = faulted("a fetch", 0x400, unsafe { guard::fetch(at & !3, msr) })?;
        same("SRR1", 0x0008_0000, fault.srr1 & 0x5828_0000)?;
    }
    entry.remove().must("remove").map(drop)
}
