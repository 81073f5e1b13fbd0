//! H_PAGE_INIT (LoPAR 14.5.4.3.3).

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall::{self, Failure},
    mmu::pte::{PP_READ_WRITE, Page},
};

use super::enter::NOWHERE;
use crate::{
    bench::{Bench, load, load_real, store_real, try_fetch},
    code::RETURN,
    trouble::{Must as _, Outcome, refused, same},
};

const PAGE: u64 = 4096;

fn init(flags: Flags, destination: u64, source: u64) -> Result<(), Failure> {
    // SAFETY: the pages of the pool are nobody's references; others are refused.
    unsafe { hcall::page_init(flags, destination, source) }
}

/// Three pages in a row, of which each doubleword holds its address.
fn three(bench: &mut Bench<'_>) -> Outcome<[u64; 3]> {
    let first = bench.memory(PAGE)?;
    bench.memory(2 * PAGE)?;
    for at in (first..first + 3 * PAGE).step_by(8) {
        store_real(at, at);
    }
    Ok([first, first + PAGE, first + 2 * PAGE])
}

fn holds(page: u64, value: impl Fn(u64) -> u64) -> Outcome {
    for at in (page..page + PAGE).step_by(8) {
        same("memory", value(at), load_real(at))?;
    }
    Ok(())
}

pub(crate) fn zeroes_and_copies(bench: &mut Bench<'_>) -> Outcome {
    let [before, page, behind] = three(bench)?;
    init(Flags::empty(), page, 0).must("nothing")?;
    holds(page, |at| at)?;
    init(Flags::ZERO_PAGE, page, !0).must("zero")?;
    holds(page, |_| 0)?;
    init(Flags::COPY_PAGE, page, before).must("copy")?;
    holds(page, |at| at - PAGE)?;
    init(Flags::COPY_PAGE | Flags::ZERO_PAGE, page, behind).must("both")?;
    holds(page, |at| at + PAGE)?;
    init(Flags::COPY_PAGE, page, page).must("copy onto itself")?;
    holds(page, |at| at + PAGE)?;
    init(Flags::ZERO_PAGE | Flags::PAGE_STATE, page, 0).must("with a page state")?;
    holds(page, |_| 0)?;
    holds(before, |at| at)?;
    holds(behind, |at| at)
}

/// The store goes past translation: what is mapped sees it, and C is not set by it.
pub(crate) fn sets_no_c(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store_real(page.ra, 0x77);
    init(Flags::ZERO_PAGE, page.ra, 0).must("zero")?;
    let (_, dw1) = hcall::read(page.entry.ptex).must("read")?;
    same("dword 1", page.entry.dw1, dw1)?;
    same("a load", 0, load(page.ea))
}

pub(crate) fn copies_code(bench: &mut Bench<'_>) -> Outcome {
    let [source, ..] = three(bench)?;
    let page = bench.page(Page::K4, PP_READ_WRITE)?;
    // li 3, number; blr.
    for number in 1..20 {
        store_real(source, (0x3860_0000 | number) << 32 | u64::from(RETURN));
        let flags = Flags::COPY_PAGE
            | if number & 1 == 0 {
                Flags::ICACHE_SYNCHRONIZE
            } else {
                Flags::ICACHE_INVALIDATE
            };
        init(flags, page.ra, source).must("copy")?;
        same(
            "what the code gives",
            number,
            try_fetch(page.ea).must("fetch")?,
        )?;
    }
    Ok(())
}

pub(crate) fn bad_arguments(bench: &mut Bench<'_>) -> Outcome {
    let [first, page, _] = three(bench)?;
    let refuse = |flags, destination, source| {
        let result = init(flags, destination, source);
        refused("the call", Status::Parameter, result)
    };
    for bit in 0..64 {
        let flag = Flags::from_bits_retain(1 << bit);
        let known = Flags::ZERO_PAGE | Flags::COPY_PAGE | Flags::ICACHE | Flags::PAGE_STATE;
        if !known.contains(flag) {
            refuse(flag | Flags::ZERO_PAGE, page, first)?;
        }
    }
    let memory = bench.runtime.partition.memory;
    for bad in [
        page + 1,
        page + 8,
        page + 0x800,
        memory,
        NOWHERE,
        0x2000_0000,
        1 << 60,
        !0xfff,
    ] {
        for flags in [Flags::ZERO_PAGE, Flags::COPY_PAGE, Flags::ICACHE] {
            refuse(flags, bad, first)?;
        }
        refuse(Flags::COPY_PAGE, page, bad)?;
    }
    holds(first, |at| at)?;
    holds(page, |at| at)
}
