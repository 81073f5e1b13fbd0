//! H_CLEAR_REF and H_CLEAR_MOD: what hardware set goes, and hardware sets it again.

use realhpt_pseries::{
    abi::{Flags, LPAR_SELF, OpenFlags, Status},
    hcall::{self, Failure, clear_mod, clear_ref},
    mmu::pte::{PP_READ_ONLY, PP_READ_WRITE, Page, R_C, R_M, R_R},
};

use super::{
    enter::{NOBODY, NOWHERE, outside},
    protect::flags,
};
use crate::{
    bench::{Bench, Mapped, load, load_real, store},
    stream::{READ, read_pass},
    trouble::{Must as _, Outcome, holds, refused, same},
};

const PAGES: [Page; 6] = [
    Page::K4,
    Page::K64In4K,
    Page::M16In4K,
    Page::K64,
    Page::M16In64K,
    Page::M16,
];

/// The call gives dword 1 with `before`, and leaves it with `after`.
fn cleared(
    clear: fn(u64) -> Result<u64, Failure>,
    page: &Mapped,
    (before, after): (u64, u64),
) -> Outcome {
    let given = clear(page.entry.ptex).must("clear")?;
    same("dword 1 before", page.entry.dw1 | before, given)?;
    has(page, after)
}

fn has(page: &Mapped, bits: u64) -> Outcome {
    let (dw0, dw1) = hcall::read(page.entry.ptex).must("read")?;
    same("dword 0", page.entry.dw0, dw0)?;
    same("dword 1", page.entry.dw1 | bits, dw1)
}

pub(crate) fn r_goes_and_comes_back(bench: &mut Bench<'_>) -> Outcome {
    for size in PAGES {
        let page = bench.page(size, PP_READ_WRITE)?;
        cleared(clear_ref, &page, (0, 0))?;
        store(page.ea, 0x11);
        cleared(clear_ref, &page, (R_R | R_C, R_C))?;
        cleared(clear_ref, &page, (R_C, R_C))?;
        same("a load after it", 0x11, load(page.ea))?;
        has(&page, R_R | R_C)?;
        cleared(clear_ref, &page, (R_R | R_C, R_C))?;
        store(page.ea, 0x22);
        has(&page, R_R | R_C)?;
        same("memory", 0x22, load_real(page.ra))?;
        let (_, removed) = page.entry.remove().must("remove")?;
        same("dword 1 removed", page.entry.dw1 | R_R | R_C, removed)?;
        bench.clear()?;
    }
    Ok(())
}

pub(crate) fn c_goes_and_comes_back(bench: &mut Bench<'_>) -> Outcome {
    for size in PAGES {
        let page = bench.page(size, PP_READ_WRITE)?;
        cleared(clear_mod, &page, (0, 0))?;
        load(page.ea);
        cleared(clear_mod, &page, (R_R, R_R))?;
        for value in 1..5 {
            store(page.ea, value);
            cleared(clear_mod, &page, (R_R | R_C, R_R))?;
            // A load does not bring it back.
            same("a load after it", value, load(page.ea))?;
            cleared(clear_mod, &page, (R_R, R_R))?;
        }
        store(page.ea, 0x33);
        has(&page, R_R | R_C)?;
        cleared(clear_ref, &page, (R_R | R_C, R_C))?;
        cleared(clear_mod, &page, (R_C, 0))?;
        bench.clear()?;
    }
    Ok(())
}

pub(crate) fn c_of_a_page_that_was_writable(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 1);
    hcall::protect(flags(PP_READ_ONLY), page.entry.ptex, 0).must("read-only")?;
    let dw1 = page.entry.dw1 & !PP_READ_WRITE | PP_READ_ONLY | R_R;
    let before = clear_mod(page.entry.ptex).must("clear")?;
    same("dword 1 before", dw1 | R_C, before)?;
    same("dword 1", dw1, hcall::read(page.entry.ptex).must("read")?.1)?;
    hcall::protect(flags(PP_READ_WRITE), page.entry.ptex, 0).must("writable")?;
    store(page.ea, 2);
    has(&page, R_R | R_C)
}

pub(crate) fn an_entry_without_memory(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let dw1 = NOWHERE | R_M | PP_READ_WRITE;
    let entry = (NOBODY, dw1 | R_R | R_C);
    let ptex = bench.enter(Flags::empty(), group, entry).must("enter")?;
    for (clear, before, after) in [
        (clear_ref as fn(u64) -> _, R_R | R_C, R_C),
        (clear_ref, R_C, R_C),
        (clear_mod, R_C, 0),
        (clear_mod, 0, 0),
    ] {
        same("before", dw1 | before, clear(ptex).must("clear")?)?;
        same("after", dw1 | after, hcall::read(ptex).must("read")?.1)?;
    }
    Ok(())
}

pub(crate) fn what_is_not_there(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    for clear in [clear_ref, clear_mod] {
        refused("a free slot", Status::NotFound, clear(group))?;
        for ptex in outside(bench.slots()) {
            refused("a slot outside", Status::Parameter, clear(ptex))?;
        }
    }
    Ok(())
}

/// A reader is told of each bit that goes and of each that comes back, and of nothing where none went.
pub(crate) fn a_reader_is_told(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 1);
    let reader = bench
        .open(LPAR_SELF, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    // The program's own pages get their R and C meanwhile.
    for _ in 0..8 {
        read_pass(reader, READ.bytes())?;
    }
    let told = |what, expected: Option<u64>| -> Outcome {
        let pass = read_pass(reader, READ.bytes())?;
        let found = pass.of(page.entry.ptex);
        match (found.flatten(), expected) {
            (Some((_, dw1)), Some(bits)) => same(what, page.entry.dw1 | bits, dw1),
            (None, None) => holds(what, 0, found.is_none()),
            (found, _) => holds(what, found.map_or(0, |(_, dw1)| dw1), false),
        }
    };
    told("nothing yet", None)?;
    cleared(clear_ref, &page, (R_R | R_C, R_C))?;
    told("R gone", Some(R_C))?;
    cleared(clear_ref, &page, (R_C, R_C))?;
    told("no change", None)?;
    load(page.ea);
    told("R again", Some(R_R | R_C))?;
    cleared(clear_mod, &page, (R_R | R_C, R_R))?;
    told("C gone", Some(R_R))?;
    cleared(clear_mod, &page, (R_R, R_R))?;
    told("no change", None)?;
    store(page.ea, 2);
    told("C again", Some(R_R | R_C))
}
