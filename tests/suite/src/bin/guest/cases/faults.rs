//! Storage interrupts that a guest gets, with what they say.

use realhpt_pseries::{
    abi::Flags,
    cpu::Msr,
    guard::{self, Fault},
    hcall,
    mmu::pte::{
        BasePage, PP_READ_ONLY, PP_READ_WRITE, Page, R_KEY_HI, R_KEY_LO, R_M, R_N, SegmentSize,
    },
};

use super::{enter::NOWHERE, protect::flags};
use crate::{
    bench::{Bench, POOL, load, load_real, store, store_real, try_fetch, try_load, try_store},
    code::{self, RETURN},
    registers::write_amr,
    trouble::{Must as _, Outcome, faulted, holds, same},
};

/// SRR1 of an instruction storage interrupt: bits 33, 35, 36, 42 and 44.
const ISI: u64 = 0x5828_0000;

/// A data storage interrupt at `ea` with this DSISR.
fn data(what: &'static str, ea: u64, dsisr: u64, result: Result<u64, Fault>) -> Outcome {
    let fault = faulted(what, 0x300, result)?;
    same("DAR", ea, fault.dar)?;
    same("DSISR", dsisr, fault.dsisr)
}

/// An instruction storage interrupt at `ea` with these bits in SRR1.
fn instruction(what: &'static str, ea: u64, status: u64, result: Result<u64, Fault>) -> Outcome {
    let fault = faulted(what, 0x400, result)?;
    same("SRR0", ea, fault.srr0)?;
    same("SRR1", status, fault.srr1 & ISI)?;
    same(
        "MSR in SRR1",
        Msr::TRANSLATED.bits(),
        fault.srr1 & 0x9000_0000_0000_ffff,
    )
}

fn stored(ea: u64) -> Result<u64, Fault> {
    try_store(ea, 0x55).map(|()| 0)
}

pub(crate) fn no_entry(bench: &mut Bench<'_>) -> Outcome {
    for size in [SegmentSize::M256, SegmentSize::T1] {
        for page in [BasePage::K4, BasePage::K64, BasePage::M16] {
            let segment = bench.segment(size, page)?;
            for ea in [segment.base, segment.base + 0x123_4560] {
                data("a load", ea, 0x4000_0000, try_load(ea))?;
                data("a store", ea, 0x4200_0000, stored(ea))?;
                instruction("a fetch", ea, 0x4000_0000, try_fetch(ea))?;
            }
        }
    }
    Ok(())
}

pub(crate) fn no_segment(_: &mut Bench<'_>) -> Outcome {
    for ea in [
        0x7_1234_5678,
        0x1234_5678_9abc_def0,
        0xc000_0000_0000_0000,
        0xffff_ffff_ffff_fff0,
    ] {
        for result in [try_load(ea), stored(ea)] {
            let fault = faulted("an access", 0x380, result)?;
            same("DAR", ea, fault.dar)?;
        }
        let fault = faulted("a fetch", 0x480, try_fetch(ea & !3))?;
        same("SRR0", ea & !3, fault.srr0)?;
    }
    Ok(())
}

pub(crate) fn read_only(bench: &mut Bench<'_>) -> Outcome {
    for page in [Page::K4, Page::K64, Page::M16] {
        let mapped = bench.page(page, PP_READ_ONLY)?;
        store_real(mapped.ra, 0x77);
        same("a load", 0x77, load(mapped.ea))?;
        data("a store", mapped.ea, 0x0a00_0000, stored(mapped.ea))?;
        same("memory", 0x77, load(mapped.ea))?;
    }
    Ok(())
}

/// A segment whose key bit is set, and a page that then allows nothing.
pub(crate) fn no_access(bench: &mut Bench<'_>) -> Outcome {
    let ra = bench.memory(1 << 12)?;
    // Ks: the key of supervisor state (ISA 3.0B Book III section 5.7.8.1).
    let segment = bench.segment_with(SegmentSize::M256, BasePage::K4, 0x800)?;
    bench.map(&segment, segment.base, Page::K4, (ra, 0))?;
    data("a load", segment.base, 0x0800_0000, try_load(segment.base))?;
    data("a store", segment.base, 0x0a00_0000, stored(segment.base))?;
    // Not allowed to be read is not allowed to be executed.
    instruction(
        "a fetch",
        segment.base,
        0x0800_0000,
        try_fetch(segment.base),
    )
}

pub(crate) fn no_execute(bench: &mut Bench<'_>) -> Outcome {
    for page in [Page::K4, Page::K64, Page::M16] {
        let mapped = bench.page(page, PP_READ_WRITE | R_N)?;
        store_real(mapped.ra, u64::from(RETURN) << 32);
        instruction("a fetch", mapped.ea, 0x1000_0000, try_fetch(mapped.ea))?;
        load(mapped.ea);
        hcall::protect(flags(PP_READ_WRITE), mapped.entry.ptex, 0).must("executable")?;
        try_fetch(mapped.ea).must("a fetch")?;
    }
    Ok(())
}

/// The AMR's two bits of a key forbid stores and loads.
pub(crate) fn storage_key(bench: &mut Bench<'_>) -> Outcome {
    // Key 9: 0b01_001.
    let bits = PP_READ_WRITE | R_KEY_HI & 1 << 60 | R_KEY_LO & 1 << 9;
    let page = bench.page(Page::K4, bits)?;
    let key = |rights: u64| rights << (62 - 2 * 9);
    let set = |amr: u64| -> Outcome {
        // SAFETY: the program's pages have key 0.
        unsafe { write_amr(amr) };
        // Hardware looks at the AMR with each access. QEMU keeps what it allowed with the translation: that is
        // made anew.
        hcall::protect(flags(bits), page.entry.ptex, 0).must("protect")
    };
    store(page.ea, 1);
    set(key(2))?;
    load(page.ea);
    data("a store", page.ea, 0x0220_0000, stored(page.ea))?;
    set(key(1))?;
    store(page.ea, 2);
    data("a load", page.ea, 0x0020_0000, try_load(page.ea))?;
    set(key(3))?;
    data("a load", page.ea, 0x0020_0000, try_load(page.ea))?;
    data("a store", page.ea, 0x0220_0000, stored(page.ea))?;
    // All other keys but 0 are forbidden.
    set(!key(3) & !0 >> 2)?;
    store(page.ea, 3);
    same("a load", 3, load(page.ea))
}

/// The entry is there and no memory behind it. "No entry" would have an operating system enter it again and try
/// for ever; the answer must be one that it takes for final.
pub(crate) fn no_memory(bench: &mut Bench<'_>) -> Outcome {
    for ra in [bench.runtime.partition.memory, NOWHERE] {
        let segment = bench.segment(SegmentSize::M256, BasePage::K4)?;
        let ea = segment.base + 0x5000;
        let entry = bench.map(&segment, ea, Page::K4, (ra, PP_READ_WRITE | R_M))?;
        data("a load", ea, 0x0400_0000, try_load(ea))?;
        data("a store", ea, 0x0600_0000, stored(ea))?;
        instruction("a fetch", ea, 0x0008_0000, try_fetch(ea))?;
        // Without the entry it is another fault.
        hcall::remove(Flags::empty(), entry.ptex, 0).must("remove")?;
        data("a load without entry", ea, 0x4000_0000, try_load(ea))?;
    }
    Ok(())
}

pub(crate) fn problem_state(bench: &mut Bench<'_>) -> Outcome {
    // PP = 0 is for supervisor state alone where Kp is set.
    let ra = bench.memory(1 << 12)?;
    let segment = bench.segment_with(SegmentSize::M256, BasePage::K4, 0x400)?;
    bench.map(&segment, segment.base, Page::K4, (ra, 0))?;
    store(segment.base, 5);
    // SAFETY: a load and a store that fault.
    let load = unsafe { guard::load(segment.base, Msr::PROBLEM) };
    // SAFETY: the page is the case's.
    let store = unsafe { guard::store(segment.base, 6, Msr::PROBLEM) };
    data("a load", segment.base, 0x0800_0000, load)?;
    data("a store", segment.base, 0x0a00_0000, store.map(|()| 0))?;
    same("memory", 5, crate::bench::load(segment.base))?;
    // SAFETY: a load that faults.
    let fault = unsafe { guard::load(0x7_1234_5678, Msr::PROBLEM) };
    let fault = faulted("a load without segment", 0x380, fault)?;
    holds("PR in SRR1", fault.srr1, fault.srr1 & Msr::PR.bits() != 0)
}

/// Real mode reaches the memory at 0 and nothing else: not the window, not what lies behind, nothing of the
/// machine's.
pub(crate) fn outside_real_mode(bench: &mut Bench<'_>) -> Outcome {
    let memory = bench.runtime.partition.memory;
    for ea in [
        memory,
        0x2000_0100,
        0x3000_0000,
        0x1_0000_0000,
        0xff_ffff_fff8,
    ] {
        // SAFETY: a load from what is not the partition's.
        let load = unsafe { guard::load(ea, Msr::REAL) };
        // SAFETY: a store there.
        let store = unsafe { guard::store(ea, 0, Msr::REAL) }.map(|()| 0);
        // SAFETY: a fetch from there.
        let fetch = unsafe { guard::fetch(ea, Msr::REAL) };
        for (what, result) in [("a load", load), ("a store", store)] {
            let fault = faulted(what, 0x300, result)?;
            same("DAR", ea, fault.dar)?;
            same("DSISR", 0x4000_0000, fault.dsisr & 0x4000_0000)?;
        }
        let fault = faulted("a fetch", 0x400, fetch)?;
        same("SRR0", ea, fault.srr0)?;
        same("SRR1", 0x4000_0000, fault.srr1 & ISI)?;
    }
    // Real mode has 40 bits. An address with more leads to where they lead, if anywhere.
    for high in [
        1 << 40,
        0x0006_0300_0000_0000,
        0x0600_0000_0000_0000,
        1 << 63,
    ] {
        // SAFETY: a load from the program's memory, or from nowhere.
        if let Ok(found) = unsafe { guard::load(high | POOL, Msr::REAL) } {
            same("memory of one's own", load_real(POOL), found)?;
        }
    }
    // SAFETY: the last doubleword of the memory.
    unsafe { guard::load(memory - 8, Msr::REAL) }
        .must("the last doubleword")
        .map(drop)
}

pub(crate) fn unaligned(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    // ldarx 3, 0, 3.
    // SAFETY: a load that faults.
    let result = unsafe { code::execute(&[0x7c60_18a8], [page.ea + 4, 0], Msr::TRANSLATED) };
    let fault = faulted("ldarx", 0x600, result)?;
    same("DAR", page.ea + 4, fault.dar)
}

pub(crate) fn a_removed_entry(bench: &mut Bench<'_>) -> Outcome {
    for page in [
        Page::K4,
        Page::K64In4K,
        Page::M16In4K,
        Page::K64,
        Page::M16In64K,
        Page::M16,
    ] {
        let mapped = bench.page(page, PP_READ_WRITE)?;
        store(mapped.ea, 1);
        hcall::remove(Flags::empty(), mapped.entry.ptex, 0).must("remove")?;
        data("a load", mapped.ea, 0x4000_0000, try_load(mapped.ea))?;
        data("a store", mapped.ea, 0x4200_0000, stored(mapped.ea))?;
        instruction("a fetch", mapped.ea, 0x4000_0000, try_fetch(mapped.ea))?;
        bench.clear()?;
    }
    Ok(())
}

/// Many faults, one after the other, of every kind.
pub(crate) fn a_storm(bench: &mut Bench<'_>) -> Outcome {
    let hole = bench.segment(SegmentSize::M256, BasePage::K4)?.base;
    let page = bench.page(Page::K4, PP_READ_ONLY | R_N)?;
    for round in 0..2000 {
        let ea = hole + round * 0x1_1000 % (256 << 20);
        data("a load", ea, 0x4000_0000, try_load(ea))?;
        instruction("a fetch", ea, 0x4000_0000, try_fetch(ea))?;
        data("a store", page.ea, 0x0a00_0000, stored(page.ea))?;
        instruction("a fetch", page.ea, 0x1000_0000, try_fetch(page.ea))?;
    }
    Ok(())
}
