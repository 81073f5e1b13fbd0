//! H_REMOVE.

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall,
    mmu::pte::{PP_READ_WRITE, R_C, R_M, R_R, V_BOLTED},
};

use super::enter::{NOBODY, NOWHERE, outside, small};
use crate::{
    bench::{Bench, load, store, try_load},
    trouble::{Must as _, Outcome, faulted, refused, same},
};

/// The entry in the slot is this one.
fn holds_entry(ptex: u64, dw0: u64) -> Outcome {
    same(
        "the entry in the slot",
        dw0,
        hcall::read(ptex).must("read")?.0,
    )
}

pub(crate) fn gives_the_entry_back(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 1);
    let (dw0, dw1) = hcall::remove(Flags::empty(), page.entry.ptex, 0).must("remove")?;
    same("dword 0", page.entry.dw0, dw0)?;
    same("dword 1", page.entry.dw1 | R_R | R_C, dw1)?;
    holds_entry(page.entry.ptex, 0)?;
    faulted("a load after it", 0x300, try_load(page.ea)).map(drop)
}

pub(crate) fn by_avpn(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    let (ptex, tag) = (page.entry.ptex, page.entry.tag());
    for wrong in [0, tag ^ 0x80, tag ^ 1 << 62, tag | 1, !0] {
        let removed = hcall::remove(Flags::AVPN, ptex, wrong);
        refused("another AVPN", Status::NotFound, removed)?;
    }
    holds_entry(ptex, page.entry.dw0)?;
    same("still mapped", load(page.ea), load(page.ea))?;
    hcall::remove(Flags::AVPN, ptex, tag)
        .must("its AVPN")
        .map(drop)
}

pub(crate) fn by_andcond(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()?;
    let dw0 = NOBODY | V_BOLTED;
    bench
        .enter(Flags::EXACT, ptex, (dw0, small(PP_READ_WRITE)))
        .must("enter")?;
    // As Linux does it: everything but what is bolted.
    let bolted = hcall::remove(Flags::ANDCOND, ptex, V_BOLTED);
    refused("a bit in common", Status::NotFound, bolted)?;
    refused(
        "all bits",
        Status::NotFound,
        hcall::remove(Flags::ANDCOND, ptex, !0),
    )?;
    holds_entry(ptex, dw0)?;
    // The bits of the hypervisor's own do not show through.
    hcall::remove(Flags::ANDCOND, ptex, 0x60)
        .must("no bit in common")
        .map(drop)
}

pub(crate) fn what_is_not_there(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()? + 2;
    for flags in [Flags::empty(), Flags::AVPN, Flags::ANDCOND] {
        let removed = hcall::remove(flags, ptex, 0);
        refused("a free slot", Status::NotFound, removed)?;
    }
    bench
        .enter(Flags::EXACT, ptex, (NOBODY, small(PP_READ_WRITE)))
        .must("enter")?;
    hcall::remove(Flags::empty(), ptex, 0).must("once")?;
    refused(
        "twice",
        Status::NotFound,
        hcall::remove(Flags::empty(), ptex, 0),
    )
}

pub(crate) fn slots_outside_the_table(bench: &mut Bench<'_>) -> Outcome {
    for ptex in outside(bench.slots()) {
        let removed = hcall::remove(Flags::empty(), ptex, 0);
        refused("a slot outside", Status::Parameter, removed)?;
    }
    Ok(())
}

pub(crate) fn an_entry_without_memory(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.free_group()?;
    let entry = (NOBODY, NOWHERE | R_M | R_R | PP_READ_WRITE);
    bench.enter(Flags::EXACT, ptex, entry).must("enter")?;
    let wrong = hcall::remove(Flags::AVPN, ptex, 0);
    refused("another AVPN", Status::NotFound, wrong)?;
    let (dw0, dw1) = hcall::remove(Flags::ANDCOND, ptex, 0x60).must("remove")?;
    same("dword 0", entry.0, dw0)?;
    same("dword 1", entry.1, dw1)?;
    holds_entry(ptex, 0)
}
