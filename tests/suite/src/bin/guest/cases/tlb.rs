//! What `tlbie` and its sequence are for: the image's own calls change the real entry behind hardware's back.

use realhpt_pseries::{
    hcall::hcall,
    mmu::pte::{PP_READ_ONLY, PP_READ_WRITE, Page, R_C, R_R},
};
use realhpt_suite::raw;

use crate::{
    bench::{Bench, Mapped, load, load_real, store, store_real, try_load, try_store},
    registers::is_power8,
    trouble::{Outcome, faulted, holds, same},
};

/// Calls one of the image's own.
fn call(token: u64, arguments: [u64; 3]) -> Outcome<(u64, u64)> {
    let [a, b, c] = arguments;
    let mut registers = [token, a, b, c, 0, 0, 0, 0, 0, 0];
    // SAFETY: the entries of a bench's pages are changed so that they translate the same address, or none.
    unsafe { hcall(&mut registers) };
    let [status, first, second, ..] = registers;
    same("status of the image's own call", 0, status)?;
    Ok((first, second))
}

fn peek(page: &Mapped) -> Outcome<(u64, u64)> {
    call(raw::PEEK, [page.entry.ptex, 0, 0])
}

fn poke(page: &Mapped, dw0: u64, dw1: u64) -> Outcome {
    call(raw::POKE, [page.entry.ptex, dw0, dw1]).map(drop)
}

/// The sequence for a 4K page. RB: AVA from the virtual address without its low 12 bits, B, AP 0, L 0 (ISA 3.0B
/// Book III section 5.9.3.3).
fn flush(page: &Mapped) -> Outcome {
    let va = page.segment.vsid << 28 | page.ea & 0x0fff_ffff;
    call(raw::FLUSH, [va & !0xfff, 0, 0]).map(drop)
}

pub(crate) fn an_entry_removed_without_the_sequence_stays(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 0x11);
    let (dw0, dw1) = peek(&page)?;
    holds("a valid entry", dw0, dw0 & 1 != 0)?;
    poke(&page, 0, 0)?;
    same("a load by the stale translation", 0x11, load(page.ea))?;
    store(page.ea, 0x22);
    same("a store by the stale translation", 0x22, load_real(page.ra))?;
    flush(&page)?;
    let fault = faulted("a load after the sequence", 0x300, try_load(page.ea))?;
    same("DSISR", 0x4000_0000, fault.dsisr)?;
    let fault = faulted(
        "a store after the sequence",
        0x300,
        try_store(page.ea, 0x33),
    )?;
    same("DSISR of the store", 0x4200_0000, fault.dsisr)?;
    poke(&page, dw0, dw1)?;
    same("a load by the entry again", 0x22, load(page.ea))
}

pub(crate) fn a_permission_taken_without_the_sequence_stays(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 0x11);
    let (dw0, dw1) = peek(&page)?;
    poke(&page, dw0, dw1 & !PP_READ_WRITE | PP_READ_ONLY)?;
    store(page.ea, 0x22);
    same("memory", 0x22, load_real(page.ra))?;
    flush(&page)?;
    let fault = faulted(
        "a store after the sequence",
        0x300,
        try_store(page.ea, 0x33),
    )?;
    same("DSISR", 0x0a00_0000, fault.dsisr)?;
    same("a load after the sequence", 0x22, load(page.ea))
}

pub(crate) fn r_and_c_taken_without_the_sequence_stay_away(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 0x11);
    let (dw0, dw1) = peek(&page)?;
    same("R and C", R_R | R_C, dw1 & (R_R | R_C))?;
    poke(&page, dw0, dw1 & !(R_R | R_C))?;
    store(page.ea, 0x22);
    let (_, later) = peek(&page)?;
    same(
        "R and C that hardware believes are set",
        0,
        later & (R_R | R_C),
    )?;
    flush(&page)?;
    store(page.ea, 0x33);
    let (_, later) = peek(&page)?;
    same("R and C set again", R_R | R_C, later & (R_R | R_C))
}

/// An address that the machine has nothing at: a machine check that came with the guest running is the guest's.
pub(crate) fn a_machine_check_is_the_guests_own(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    let (dw0, dw1) = peek(&page)?;
    let nowhere = 0x0000_7fff_ffff_f000;
    poke(
        &page,
        dw0,
        dw1 & 0xfff | dw1 & 0x0e00_0000_0000_0000 | nowhere,
    )?;
    faulted("a load", 0x200, try_load(page.ea))?;
    poke(&page, dw0, dw1)?;
    flush(&page)?;
    store(page.ea, 0x55);
    same("memory", 0x55, load_real(page.ra))
}

/// In hardware's format of this processor, with a host real address, and none of the guest's attributes lost.
pub(crate) fn the_real_entry_is_what_it_should_be(bench: &mut Bench<'_>) -> Outcome {
    for page in [Page::K4, Page::K64, Page::M16, Page::M16In4K] {
        let page = bench.page(page, PP_READ_ONLY)?;
        store_real(page.ra, 0x44);
        load(page.ea);
        let (dw0, dw1) = peek(&page)?;
        let guest = page.entry.dw0;
        let b = guest >> 62;
        if is_power8() {
            same("dword 0", guest, dw0)?;
        } else {
            same("dword 0 without B", guest & 0x000f_ffff_ffff_ffff, dw0)?;
            same("B in dword 1", b, dw1 >> 58 & 3)?;
        }
        let fields = 0xfff;
        same(
            "below the page number",
            page.entry.dw1 & fields | R_R,
            dw1 & fields,
        )?;
        let page_number = 0x01ff_ffff_ffff_f000;
        let (guest, host) = (page.entry.dw1 & page_number, dw1 & page_number);
        holds("host real address", host, host != guest)?;
        same(
            "LP and offset in a 16M page",
            guest & 0xff_f000,
            host & 0xff_f000,
        )?;
    }
    Ok(())
}
