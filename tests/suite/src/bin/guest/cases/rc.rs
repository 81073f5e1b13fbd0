//! R and C: set by hardware, seen by H_READ, given back by H_REMOVE, harvested by the stream.

use realhpt_pseries::{
    abi::{Flags, H_CLEAR_REF, LPAR_SELF, OpenFlags},
    cpu::{self, TICKS_PER_MS, timebase},
    hcall::{self, Hpte, hcall},
    mmu::pte::{PP_READ_ONLY, PP_READ_WRITE, Page, R_C, R_R},
};
use realhpt_suite::{job, partition, raw::LOOK};

use super::{
    protect::flags,
    proxy::{proxy, registers},
};
use crate::{
    bench::{Bench, Mapped, PATIENCE, load, store, store_real, try_fetch},
    client,
    code::RETURN,
    stream::{self, READ, read_pass},
    trouble::{Must as _, Outcome, holds, same},
};

const PAGES: [Page; 6] = [
    Page::K4,
    Page::K64In4K,
    Page::M16In4K,
    Page::K64,
    Page::M16In64K,
    Page::M16,
];

/// R and C are these, for H_READ and for H_REMOVE.
fn are(page: &Mapped, expected: u64) -> Outcome {
    let (_, read) = hcall::read(page.entry.ptex).must("read")?;
    same("R and C read", expected, read & (R_R | R_C))?;
    same("the rest", page.entry.dw1, read & !(R_R | R_C))
}

fn removed_with(page: &Mapped, expected: u64) -> Outcome {
    are(page, expected)?;
    let (_, removed) = page.entry.remove().must("remove")?;
    same("dword 1 removed", page.entry.dw1 | expected, removed)
}

/// Does something with a fresh page of each size.
fn with_each(
    bench: &mut Bench<'_>,
    expected: u64,
    mut act: impl FnMut(&Mapped) -> Outcome,
) -> Outcome {
    for page in PAGES {
        let mapped = bench.page(page, PP_READ_WRITE)?;
        are(&mapped, 0)?;
        act(&mapped)?;
        removed_with(&mapped, expected)?;
        bench.clear()?;
    }
    Ok(())
}

pub(crate) fn a_load_sets_r(bench: &mut Bench<'_>) -> Outcome {
    with_each(bench, R_R, |page| {
        load(page.ea);
        Ok(())
    })
}

pub(crate) fn a_store_sets_r_and_c(bench: &mut Bench<'_>) -> Outcome {
    with_each(bench, R_R | R_C, |page| {
        store(page.ea, 1);
        Ok(())
    })
}

pub(crate) fn a_store_after_a_load_sets_c(bench: &mut Bench<'_>) -> Outcome {
    with_each(bench, R_R | R_C, |page| {
        load(page.ea);
        are(page, R_R)?;
        store(page.ea, 1);
        Ok(())
    })
}

pub(crate) fn a_fetch_sets_r(bench: &mut Bench<'_>) -> Outcome {
    with_each(bench, R_R, |page| {
        store_real(page.ra, u64::from(RETURN) << 32);
        try_fetch(page.ea).must("fetch").map(drop)
    })
}

pub(crate) fn protect_keeps_them(bench: &mut Bench<'_>) -> Outcome {
    for page in [Page::K4, Page::K64, Page::M16] {
        let mapped = bench.page(page, PP_READ_WRITE)?;
        store(mapped.ea, 1);
        let ptex = mapped.entry.ptex;
        hcall::protect(flags(PP_READ_ONLY), ptex, 0).must("read-only")?;
        let (_, dw1) = hcall::read(ptex).must("read")?;
        same("R and C", R_R | R_C, dw1 & (R_R | R_C))?;
        hcall::protect(flags(PP_READ_WRITE), ptex, 0).must("writable")?;
        removed_with(&mapped, R_R | R_C)?;
        bench.clear()?;
    }
    Ok(())
}

pub(crate) fn a_new_entry_starts_without(bench: &mut Bench<'_>) -> Outcome {
    let page = bench.small_page()?;
    store(page.ea, 1);
    for _ in 0..10 {
        page.entry.remove().must("remove")?;
        let entry = (page.entry.dw0, page.entry.dw1);
        bench
            .enter(Flags::EXACT, page.entry.ptex, entry)
            .must("enter")?;
        are(&page, 0)?;
        load(page.ea);
        are(&page, R_R)?;
    }
    Ok(())
}

/// The suite reads its own table: what it does between passes, hardware's bits included, comes once.
pub(crate) fn a_later_pass_harvests_them(bench: &mut Bench<'_>) -> Outcome {
    let pages = [
        bench.small_page()?,
        bench.small_page()?,
        bench.small_page()?,
    ];
    let [loaded, stored, idle] = pages;
    let reader = bench
        .open(LPAR_SELF, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    let settle = |what| -> Outcome {
        for _ in 0..8 {
            if read_pass(reader, READ.bytes())?.clean {
                return Ok(());
            }
        }
        holds(what, 0, false)
    };
    settle("a clean pass at last")?;
    load(loaded.ea);
    store(stored.ea, 1);
    let pass = read_pass(reader, READ.bytes())?;
    for (page, expected) in [(loaded, R_R), (stored, R_R | R_C)] {
        let (_, dw1) = pass
            .of(page.entry.ptex)
            .flatten()
            .must("the page in the pass")?;
        same("dword 1 in the pass", page.entry.dw1 | expected, dw1)?;
    }
    holds(
        "the page that was not used",
        idle.entry.ptex,
        pass.of(idle.entry.ptex).is_none(),
    )?;
    settle("a clean pass again")?;
    // The second bit of a page that has R.
    store(loaded.ea, 1);
    let pass = read_pass(reader, READ.bytes())?;
    let (_, dw1) = pass
        .of(loaded.entry.ptex)
        .flatten()
        .must("the page in the pass")?;
    same("dword 1 in the pass", loaded.entry.dw1 | R_R | R_C, dw1)
}

/// The client uses pages and then its processor; after the pause its table says so, without another call.
pub(crate) fn a_paused_partition_has_given_them(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    bench.start(client, job::USE_PAGES)?;
    let reader = bench
        .open(client, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    let mut used = [0; 4];
    for _ in 0..1000 {
        cpu::cede(TICKS_PER_MS);
        used = used_pages(&read_pass(reader, READ.bytes())?, used);
        let [_, loaded, stored, both] = used;
        if loaded == R_R && stored == R_R | R_C && both == R_R | R_C {
            break;
        }
    }
    hcall::lpar_pause(client).must("pause")?;
    used = used_pages(&read_pass(reader, READ.bytes())?, used);
    let expected = [0, R_R, R_R | R_C, R_R | R_C];
    for (expected, found) in expected.into_iter().zip(used) {
        same("R and C of the client's page", expected, found)?;
    }
    let pass = read_pass(reader, READ.bytes())?;
    holds("clean", pass.slots, pass.clean)?;
    same("pending", 0, pass.pending)?;
    let reference = used_pages(&stream::first_pass(client)?, [0; 4]);
    same(
        "a new reader's",
        u64::from(true),
        u64::from(reference == used),
    )
}

/// R that hardware has set and nobody has looked for: a pause does. The client loads from a page all the time.
pub(crate) fn a_pause_knows_what_is_pending(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    bench.start(client, job::WATCH_PAGE)?;
    let reader = bench
        .open(client, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    let begin = timebase();
    let in_time = || holds("time it takes", begin, timebase() - begin < PATIENCE);
    let ptex = loop {
        in_time()?;
        let pass = read_pass(reader, READ.bytes())?;
        let is_page =
            |(_, (dw0, dw1)): &&(u64, Hpte)| dw0 & !0x7f == client::page_tag(1) && dw1 & R_R != 0;
        if let Some((ptex, _)) = pass.entries.iter().find(is_page) {
            break *ptex;
        }
    };
    for _ in 0..4 {
        hcall::lpar_pause(client).must("pause")?;
        let pending = hcall::hpt_stat(client).must("statistics")?.pending;
        let pass = read_pass(reader, READ.bytes())?;
        same("slots that were pending", pending, pass.slots)?;
        let mut clear = registers(H_CLEAR_REF, &[0, ptex]);
        proxy(client, &mut clear).must("a call by proxy")?;
        let pass = read_pass(reader, READ.bytes())?;
        same("slots that the call changed", 1, pass.slots)?;
        hcall::lpar_resume(client).must("resume")?;
        // Until it stands in the real entry.
        loop {
            in_time()?;
            let mut look = [LOOK, client, ptex, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: it only looks.
            unsafe { hcall(&mut look) };
            let [status, _, dw1, ..] = look;
            same("status of the look", 0, status)?;
            if dw1 & R_R != 0 {
                break;
            }
            cpu::cede(TICKS_PER_MS);
        }
        hcall::lpar_pause(client).must("pause")?;
        let pending = hcall::hpt_stat(client).must("statistics")?.pending;
        let pass = read_pass(reader, READ.bytes())?;
        same("slots that were pending", pending, pass.slots)?;
        let (_, dw1) = pass.of(ptex).flatten().must("the page in the pass")?;
        same("R", R_R, dw1 & R_R)?;
        hcall::lpar_resume(client).must("resume")?;
    }
    Ok(())
}

/// R and C of the client's pages, as far as a pass has them.
fn used_pages(pass: &stream::Pass, before: [u64; 4]) -> [u64; 4] {
    let mut used = before;
    for (_, (dw0, dw1)) in &pass.entries {
        for (number, used) in (0..).zip(&mut used) {
            if dw0 & !0x7f == client::page_tag(number) {
                *used = dw1 & (R_R | R_C);
            }
        }
    }
    used
}
