//! H_PROTECT.

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall,
    mmu::pte::{PP_READ_ONLY, PP_READ_WRITE, R_KEY_HI, R_KEY_LO, R_M, R_N, R_PP, R_PP0},
};

use super::enter::{NOBODY, NOWHERE, outside, small};
use crate::{
    bench::{Bench, load, store, try_store},
    trouble::{Must as _, Outcome, faulted, refused, same},
};

/// Dword 1's bits as the call's flags have them (LoPAR 14.5.4.1.6): pp0 and the upper key bits are elsewhere.
pub(crate) fn flags(bits: u64) -> Flags {
    Flags::from_bits_retain(
        (bits & R_PP0) >> 55 | (bits & R_KEY_HI) >> 48 | bits & (R_KEY_LO | R_N | R_PP),
    )
}

pub(crate) fn every_bit(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()?;
    let before = small(PP_READ_WRITE);
    bench
        .enter(Flags::EXACT, ptex, (NOBODY, before))
        .must("enter")?;
    for bits in [
        0,
        1,
        PP_READ_ONLY,
        R_N,
        R_PP0 | PP_READ_WRITE,
        R_KEY_LO,
        R_KEY_HI,
        1 << 61 | 1 << 9,
        R_PP0 | R_KEY_HI | R_KEY_LO | R_N | R_PP,
        PP_READ_WRITE,
    ] {
        hcall::protect(flags(bits), ptex, 0).must("protect")?;
        let (dw0, dw1) = hcall::read(ptex).must("read")?;
        same("dword 0", NOBODY, dw0)?;
        same("dword 1", before & !PP_READ_WRITE | bits, dw1)?;
    }
    Ok(())
}

pub(crate) fn takes_effect(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 1);
    for value in 2..10 {
        hcall::protect(flags(PP_READ_ONLY), page.entry.ptex, 0).must("read-only")?;
        let fault = faulted("a store", 0x300, try_store(page.ea, value))?;
        same("DSISR", 0x0a00_0000, fault.dsisr)?;
        same("memory", value - 1, load(page.ea))?;
        hcall::protect(flags(PP_READ_WRITE), page.entry.ptex, 0).must("writable")?;
        store(page.ea, value);
        same("memory", value, load(page.ea))?;
    }
    Ok(())
}

pub(crate) fn by_avpn(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    let (ptex, tag) = (page.entry.ptex, page.entry.tag());
    for wrong in [0, tag ^ 0x80, tag ^ 1 << 62, tag | 1] {
        let flags = flags(PP_READ_ONLY) | Flags::AVPN;
        refused(
            "another AVPN",
            Status::NotFound,
            hcall::protect(flags, ptex, wrong),
        )?;
    }
    store(page.ea, 7);
    hcall::protect(flags(PP_READ_ONLY) | Flags::AVPN, ptex, tag).must("its AVPN")?;
    faulted("a store", 0x300, try_store(page.ea, 8)).map(drop)
}

pub(crate) fn what_is_not_there(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()?;
    for by in [Flags::empty(), Flags::AVPN] {
        refused("a free slot", Status::NotFound, hcall::protect(by, ptex, 0))?;
    }
    Ok(())
}

pub(crate) fn slots_outside_the_table(bench: &mut Bench<'_>) -> Outcome {
    for ptex in outside(bench.slots()) {
        refused(
            "a slot outside",
            Status::Parameter,
            hcall::protect(Flags::empty(), ptex, 0),
        )?;
    }
    Ok(())
}

pub(crate) fn an_entry_without_memory(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()?;
    let dw1 = NOWHERE | R_M;
    bench
        .enter(Flags::EXACT, ptex, (NOBODY, dw1 | PP_READ_WRITE))
        .must("enter")?;
    let bits = R_PP0 | R_KEY_HI | R_N | PP_READ_ONLY;
    hcall::protect(flags(bits), ptex, 0).must("protect")?;
    let (dw0, found) = hcall::read(ptex).must("read")?;
    same("dword 0", NOBODY, dw0)?;
    same("dword 1", dw1 | bits, found)
}
