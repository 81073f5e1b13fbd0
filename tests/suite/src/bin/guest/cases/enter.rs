//! H_ENTER.

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall::{self, Hpte},
    mmu::pte::{
        BasePage, PP_READ_ONLY, PP_READ_WRITE, Page, R_C, R_M, R_R, SegmentSize, V_BOLTED, V_LARGE,
        V_SECONDARY, V_VALID,
    },
};

use crate::{
    bench::{Bench, POOL, load, load_real, store, store_real, try_fetch},
    code::RETURN,
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// All pages that a guest with little memory can map.
const PAGES: [Page; 6] = [
    Page::K4,
    Page::K64In4K,
    Page::M16In4K,
    Page::K64,
    Page::M16In64K,
    Page::M16,
];

/// Dword 0 of an entry that no segment of anybody's leads to.
pub(crate) const NOBODY: u64 = 0x77_7777 << 12 | V_VALID;
/// Slots that a table does not have.
pub(crate) fn outside(slots: u64) -> [u64; 7] {
    [
        slots,
        slots + 1,
        slots + 8,
        1 << 31,
        1 << 40,
        1 << 63,
        u64::MAX,
    ]
}
/// Guest real address of a page without memory.
pub(crate) const NOWHERE: u64 = 0x12_3456_7000;

/// A small page of the pool.
pub(crate) fn small(bits: u64) -> u64 {
    Page::K4.dword_1(POOL, bits)
}

fn access(bench: &mut Bench<'_>, size: SegmentSize, inside: u64) -> Outcome {
    for page in PAGES {
        let segment = bench.segment(size, page.base())?;
        let ra = bench.memory(page.size())?;
        // Not the first base page: its number goes to hash and AVPN, the page's own bits to the offset.
        let ea = segment.base + inside + (inside & (page.size() - 1)) + (page.size() >> 1);
        let ea = ea & !7;
        let at = ra + (ea & (page.size() - 1));
        let entry = bench.map(&segment, ea, page, (at, PP_READ_WRITE))?;
        store_real(at, ea);
        same("load through the page", ea, load(ea))?;
        store(ea, !ea);
        same("memory after a store through the page", !ea, load_real(at))?;
        let (dw0, dw1) = hcall::read(entry.ptex).must("read")?;
        same("dword 0", entry.dw0, dw0)?;
        same("dword 1", entry.dw1 | R_R | R_C, dw1)?;
        bench.clear()?;
    }
    Ok(())
}

pub(crate) fn every_page_size_translates(bench: &mut Bench<'_>) -> Outcome {
    access(bench, SegmentSize::M256, 0x234_5678)
}

pub(crate) fn one_terabyte_segments_translate(bench: &mut Bench<'_>) -> Outcome {
    access(bench, SegmentSize::T1, 0x98_7654_3210)
}

pub(crate) fn the_secondary_group_translates(bench: &mut Bench<'_>) -> Outcome {
    for size in [SegmentSize::M256, SegmentSize::T1] {
        let segment = bench.segment(size, BasePage::K4)?;
        let ra = bench.memory(1 << 12)?;
        let ea = segment.base + 0x3000;
        let group = bench.group(!segment.hash(ea));
        let dw0 = segment.dword_0(ea, Page::K4) | V_SECONDARY;
        bench
            .enter(
                Flags::empty(),
                group,
                (dw0, Page::K4.dword_1(ra, PP_READ_WRITE)),
            )
            .must("enter")?;
        store(ea, 0x5ec0);
        same("memory", 0x5ec0, load_real(ra))?;
    }
    Ok(())
}

pub(crate) fn a_group_fills_up(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let entry = |number: u64| (NOBODY + (number << 12), small(PP_READ_WRITE));
    for number in 0..8 {
        // The low three bits of the index do not count.
        let ptex = bench
            .enter(Flags::empty(), group + (number * 3) % 8, entry(number))
            .must("enter")?;
        same("the first free slot", group + number, ptex)?;
    }
    let full = |bench: &mut Bench<'_>| bench.enter(Flags::empty(), group + 5, entry(8));
    refused("a ninth", Status::PtegFull, full(bench))?;
    hcall::remove(Flags::empty(), group + 3, 0).must("remove")?;
    same(
        "the slot that is free again",
        group + 3,
        full(bench).must("enter again")?,
    )?;
    refused("a ninth again", Status::PtegFull, full(bench))
}

pub(crate) fn an_exact_slot(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()? + 6;
    let entry = (NOBODY, small(PP_READ_WRITE));
    same(
        "the slot",
        ptex,
        bench.enter(Flags::EXACT, ptex, entry).must("enter")?,
    )?;
    let again = bench.enter(Flags::EXACT, ptex, (NOBODY + 0x1000, entry.1));
    refused("an occupied slot", Status::PtegFull, again)?;
    same(
        "the entry is as before",
        entry.0,
        hcall::read(ptex).must("read")?.0,
    )
}

pub(crate) fn slots_outside_the_table(bench: &mut Bench<'_>) -> Outcome {
    for ptex in outside(bench.slots()) {
        for flags in [Flags::empty(), Flags::EXACT] {
            let entered = bench.enter(flags, ptex, (NOBODY, small(PP_READ_WRITE)));
            refused("a slot outside", Status::Parameter, entered)?;
        }
    }
    Ok(())
}

pub(crate) fn reserved_segment_sizes(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    for b in [2, 3] {
        let entry = (NOBODY | b << 62, small(PP_READ_WRITE));
        refused(
            "B",
            Status::Parameter,
            bench.enter(Flags::empty(), group, entry),
        )?;
    }
    same("the slot", 0, hcall::read(group).must("read")?.0)
}

/// L and LP, all 256 of them, against the list that a POWER8 has.
pub(crate) fn every_page_size_encoding(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    for lp in 0..0x100 {
        let good = match (lp & 0xf, lp >> 4) {
            // 16M; 64K; 4K in which 64K are; the two with 16M pages. 16G does not fit the memory.
            (0, 0) | (1 | 7, _) | (8, 0 | 3) => true,
            _ => false,
        };
        // All ones above: the page would begin far outside. So only the encoding counts.
        let ra = 0x0f00_0000_0000_0000 | lp << 12;
        let result = bench.enter(Flags::empty(), group, (NOBODY | V_LARGE, ra | R_M | 2));
        // 16G pages are a good encoding too, and absent at such an address.
        if good || lp == 3 {
            let ptex = result.must("a page size that exists")?;
            hcall::remove(Flags::empty(), ptex, 0).must("remove")?;
        } else {
            refused("a page size that does not exist", Status::Parameter, result)?;
        }
    }
    // Without L the same bits are part of the address.
    let ptex = bench
        .enter(
            Flags::empty(),
            group,
            (NOBODY, Page::K4.dword_1(POOL + 0x2000, PP_READ_WRITE)),
        )
        .must("a 4K page")?;
    hcall::remove(Flags::empty(), ptex, 0)
        .must("remove")
        .map(drop)
}

pub(crate) fn a_page_that_leaves_its_region(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    // 16G from address 0: the memory begins there and ends before.
    let entered = bench.enter(Flags::empty(), group, (NOBODY | V_LARGE, 0x3000 | R_M | 2));
    refused("a page larger than the memory", Status::Parameter, entered)
}

pub(crate) fn a_page_without_memory_is_kept(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let behind = bench.runtime.partition.memory;
    for ra in [behind, behind + 0x1000, NOWHERE, 0x0fff_ffff_ffff_f000] {
        let entry: Hpte = (NOBODY | V_BOLTED, ra | R_M | PP_READ_ONLY);
        let ptex = bench.enter(Flags::empty(), group, entry).must("enter")?;
        let (dw0, dw1) = hcall::read(ptex).must("read")?;
        same("dword 0", entry.0, dw0)?;
        same("dword 1", entry.1, dw1)?;
        let (dw0, dw1) = hcall::remove(Flags::AVPN, ptex, entry.0 & !0x7f).must("remove")?;
        same("dword 0 removed", entry.0, dw0)?;
        same("dword 1 removed", entry.1, dw1)?;
    }
    Ok(())
}

pub(crate) fn bits_that_are_not_the_guests(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    // Software bits 57 and 58 of dword 0 are the hypervisor's, 59 and 60 the guest's; VALID is set whatever was
    // given; bit 1 of dword 1 does not exist.
    let given = (NOBODY & !V_VALID | 0x78, small(PP_READ_WRITE) | 1 << 62);
    let ptex = bench.enter(Flags::empty(), group, given).must("enter")?;
    let (dw0, dw1) = hcall::read(ptex).must("read")?;
    same("dword 0", NOBODY | 0x18, dw0)?;
    same("dword 1", small(PP_READ_WRITE), dw1)?;
    // Not locked: it can be changed.
    hcall::protect(Flags::empty(), ptex, 0).must("protect")
}

pub(crate) fn attributes_are_shown_as_given(bench: &mut Bench<'_>) -> Outcome {
    for attributes in [0x00, 0x10, 0x20, 0x28, 0x50, 0x70, 0x78] {
        let segment = bench.segment(SegmentSize::M256, BasePage::K4)?;
        let dw0 = segment.dword_0(segment.base, Page::K4);
        let dw1 = small(PP_READ_WRITE) & !0x78 | attributes;
        let group = bench.group(segment.hash(segment.base));
        let ptex = bench
            .enter(Flags::empty(), group, (dw0, dw1))
            .must("enter")?;
        store(segment.base, attributes);
        same("memory", attributes, load_real(POOL))?;
        same(
            "dword 1",
            dw1 | R_R | R_C,
            hcall::read(ptex).must("read")?.1,
        )?;
    }
    Ok(())
}

/// Copy page, coalesce, local, page state and the cookie: no effect on anything.
pub(crate) fn hints_change_nothing(bench: &mut Bench<'_>) -> Outcome {
    let ra = bench.memory(1 << 12)?;
    store_real(ra, 0x1357);
    for hint in [1 << 14, 1 << 21, 1 << 28, 0xf << 32, 1 << 47, 0xffff << 48] {
        let group = bench.free_group()?;
        let flags = Flags::from_bits_retain(hint);
        let ptex = bench
            .enter(flags, group, (NOBODY, Page::K4.dword_1(ra, 2)))
            .must("enter")?;
        same("memory", 0x1357, load_real(ra))?;
        holds("slot", ptex, ptex & !7 == group)?;
        hcall::remove(Flags::empty(), ptex, 0).must("remove")?;
    }
    Ok(())
}

/// All of a page of up to 64K and nothing beside it; a larger one is left as it was, and so is one whose entry is
/// refused.
pub(crate) fn zeroes_the_page(bench: &mut Bench<'_>) -> Outcome {
    for page in PAGES {
        let size = page.size();
        let zeroed = size <= 1 << 16;
        let (before, ra) = (bench.memory(size)?, bench.memory(size)?);
        let within = [ra, ra + 8, ra + size / 2, ra + size - 8];
        let beside = if zeroed {
            let behind = bench.memory(size)?;
            [before + size - 8, behind]
        } else {
            [before, before + size - 8]
        };
        for at in within.into_iter().chain(beside) {
            store_real(at, at);
        }
        let group = bench.free_group()?;
        let large = if page == Page::K4 { 0 } else { V_LARGE };
        let entry = (NOBODY | large, page.dword_1(ra, PP_READ_WRITE));
        let flags = Flags::ZERO_PAGE | Flags::EXACT;
        let taken = bench.enter(Flags::EXACT, group, entry).must("enter")?;
        refused(
            "a slot in use",
            Status::PtegFull,
            bench.enter(flags, taken, entry),
        )?;
        let outside = bench.enter(flags, bench.slots(), entry);
        refused("a slot outside", Status::Parameter, outside)?;
        for at in within {
            same("memory where there is no entry", at, load_real(at))?;
        }
        bench.enter(flags, group + 1, entry).must("enter")?;
        for at in within {
            same("memory", if zeroed { 0 } else { at }, load_real(at))?;
        }
        for at in beside {
            same("memory beside it", at, load_real(at))?;
        }
        bench.clear()?;
    }
    Ok(())
}

/// Code that was stored as data is executed by the entry that is made after it.
pub(crate) fn makes_code_visible(bench: &mut Bench<'_>) -> Outcome {
    let segment = bench.segment(SegmentSize::M256, BasePage::K4)?;
    let ra = bench.memory(1 << 12)?;
    let entry = (
        segment.dword_0(segment.base, Page::K4),
        Page::K4.dword_1(ra, PP_READ_WRITE),
    );
    let group = bench.group(segment.hash(segment.base));
    for number in 1..20 {
        // li 3, number; blr.
        store_real(ra, (0x3860_0000 | number) << 32 | u64::from(RETURN));
        let flags = if number & 1 == 0 {
            Flags::ICACHE_SYNCHRONIZE
        } else {
            Flags::ICACHE_INVALIDATE
        };
        let ptex = bench.enter(flags, group, entry).must("enter")?;
        let given = try_fetch(segment.base).must("fetch")?;
        same("what the code gives", number, given)?;
        hcall::remove(Flags::empty(), ptex, 0).must("remove")?;
    }
    Ok(())
}
