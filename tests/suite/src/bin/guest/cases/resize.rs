//! H_RESIZE_HPT_PREPARE, H_RESIZE_HPT_COMMIT and H_CLEAR_HPT: on a table that the caller runs on.
//!
//! A client does it to its own ([`resize_own_table`], [`clear_own_table`]); the suite looks on.

use heapless::Vec;
use realhpt_pseries::{
    abi::{Flags, LPAR_SELF, OpenFlags, Status},
    cpu::{self, Msr},
    hcall::{self, Failure},
    mmu::{
        Entry, MapError, Table,
        pte::{PP_READ_WRITE, Page, R_C, R_R, Segment, SegmentSize, V_BOLTED},
    },
};
use realhpt_suite::{job, order, partition};

use crate::{
    bench::{Bench, load, load_real, query, store, store_real, try_load},
    stream::{READ, first_pass},
    trouble::{Must as _, Outcome, faulted, holds, refused, same},
};

/// The pages that a client goes on using, each in a segment of its own.
const PAGES: [(SegmentSize, Page); 6] = [
    (SegmentSize::M256, Page::K4),
    (SegmentSize::T1, Page::K4),
    (SegmentSize::M256, Page::K64In4K),
    (SegmentSize::M256, Page::K64),
    (SegmentSize::T1, Page::K64),
    (SegmentSize::M256, Page::M16),
];

/// A page of a client's, and where in it is looked.
#[derive(Clone, Copy)]
struct Used {
    segment: Segment,
    page: Page,
    ea: u64,
    ra: u64,
}

/// Makes pages and maps them with software bits `software`.
fn use_pages(
    bench: &mut Bench<'_>,
    pages: &[(SegmentSize, Page)],
    software: u64,
) -> Outcome<Vec<Used, 8>> {
    let table = bench.runtime.table;
    let mut all = Vec::new();
    for (number, &(size, page)) in (0..).zip(pages) {
        let ra = bench.memory(page.size())?;
        let segment = bench.segment(size, page.base())?;
        // Far into the segment, so that the hash has bits that a small table does without.
        let ea = segment.base + 0x0d00_0000 + number * 8;
        let used = Used {
            segment,
            page,
            ea,
            ra: ra + (ea & (page.size() - 1)),
        };
        enter(&table, &used, software).must("map")?;
        store(used.ea, used.ea);
        all.push(used).ok().must("room for pages")?;
    }
    Ok(all)
}

fn enter(table: &Table, used: &Used, software: u64) -> Result<Entry, MapError> {
    let memory = (used.ra, PP_READ_WRITE);
    // SAFETY: the segments are the bench's, in which the program has no references.
    unsafe { table.map(&used.segment, used.ea, used.page, memory, software) }
}

/// Resizes as Linux does: prepares for as long as it is told to come again, then one commit.
fn resize(order: u64) -> Outcome {
    refused(
        "the first prepare",
        Status::LongBusyOrder100Msec,
        hcall::resize_hpt_prepare(order),
    )?;
    let mut calls = 0;
    while let Err(failure) = hcall::resize_hpt_prepare(order) {
        refused::<()>("a prepare", Status::LongBusyOrder1Msec, Err(failure))?;
        calls += 1;
        holds("prepares", calls, calls < 300)?;
    }
    // SAFETY: the program's own page is bolted.
    unsafe { hcall::resize_hpt_commit(order) }.must("commit")?;
    same("order", order, query(LPAR_SELF)?.order)
}

/// A client, translated, in tables of one order after the other.
pub(crate) fn resize_own_table(bench: &mut Bench<'_>) -> Outcome {
    let bolted = use_pages(bench, &PAGES, V_BOLTED)?;
    // There is no memory for another of the largest.
    let [small @ .., _] = &PAGES;
    let plain = use_pages(bench, small, 0)?;
    let [first, largest] = [order::FIRST, order::LARGEST].map(u64::from);
    for order in [first + 1, largest, first, first, largest, first + 2] {
        resize(order)?;
        let table = Table::new(order);
        for used in &bolted {
            same("a page that is bolted", used.ea, load(used.ea))?;
            store(used.ea, !used.ea);
            same("its memory", !used.ea, load_real(used.ra))?;
            store(used.ea, used.ea);
            // The guest's own search, by the hash in a table of this order, finds it.
            let Err(MapError::Taken(ptex)) = enter(&table, used, 0) else {
                return same("an entry that is there", 1, 0);
            };
            let (dw0, dw1) = hcall::read(ptex).must("read")?;
            holds("bolted", dw0, dw0 & V_BOLTED != 0)?;
            same("R and C", R_R | R_C, dw1 & (R_R | R_C))?;
        }
        for used in &plain {
            let fault = faulted("a page that is not bolted", 0x300, try_load(used.ea))?;
            same("DSISR", 0x4000_0000, fault.dsisr)?;
            enter(&table, used, 0).must("map it again")?;
            same("it is there again", used.ea, load(used.ea))?;
        }
    }
    refused(
        "more than it may have",
        Status::Resource,
        hcall::resize_hpt_prepare(largest + 1),
    )?;
    // SAFETY: refused.
    let again = unsafe { hcall::resize_hpt_commit(first) };
    refused("a commit of nothing", Status::Closed, again)
}

/// What a client in real mode does: clears its table, and enters the program's own page again.
fn clear_and_go_on(program: Entry) -> Result<u64, Failure> {
    // SAFETY: in real mode.
    unsafe { hcall::clear_hpt() }?;
    let (first, _) = hcall::read(program.ptex)?;
    let entry = (program.dw0, program.dw1);
    // SAFETY: the entry that there was.
    unsafe { hcall::enter(Flags::EXACT, program.ptex, entry) }?;
    Ok(first)
}

/// A client clears its table in real mode and goes on.
pub(crate) fn clear_own_table(bench: &mut Bench<'_>) -> Outcome {
    let pages = use_pages(bench, &PAGES, V_BOLTED)?;
    let program = bench.runtime.program;
    // SAFETY: in real mode the program is where it is, and it is translated again by the time it goes back.
    let cleared = unsafe { cpu::with_msr(Msr::REAL, || clear_and_go_on(program)) };
    same(
        "the program's entry when the table is clear",
        0,
        cleared.must("clear")?,
    )?;
    for used in &pages {
        let fault = faulted("a page that is gone", 0x300, try_load(used.ea))?;
        same("DSISR", 0x4000_0000, fault.dsisr)?;
        same("its memory", used.ea, load_real(used.ra))?;
        enter(&bench.runtime.table, used, 0).must("map it again")?;
        same("it is there again", used.ea, load(used.ea))?;
    }
    store_real(pages.first().must("a page")?.ra, 1);
    Ok(())
}

pub(crate) fn a_guest_resizes_its_own_table(bench: &mut Bench<'_>) -> Outcome {
    let victim = partition::VICTIM;
    bench.run(victim, job::RESIZE)?;
    let last = u64::from(order::FIRST) + 2;
    same("order in the end", last, query(victim)?.order)?;
    hcall::lpar_reset(victim).must("reset")?;
    same(
        "order after a reset",
        order::FIRST.into(),
        query(victim)?.order,
    )
}

pub(crate) fn a_reader_of_the_old_table_is_closed(bench: &mut Bench<'_>) -> Outcome {
    let victim = partition::VICTIM;
    let old = bench.open(victim, OpenFlags::empty(), 0).must("open")?;
    same("order", order::FIRST.into(), old.order)?;
    bench.run(victim, job::RESIZE)?;
    // SAFETY: READ is there to be written.
    let read = unsafe { hcall::hpt_read(old.handle, READ.address(), 64) };
    refused("a read", Status::Closed, read)?;
    bench.close(old.handle).must("close")?;
    let new = bench.open(victim, OpenFlags::empty(), 0).must("open")?;
    same(
        "order of the table now",
        u64::from(order::FIRST) + 2,
        new.order,
    )?;
    holds(
        "generation",
        new.generation,
        new.generation > old.generation + 5,
    )?;
    bench.close(new.handle).must("close")?;
    let entries = first_pass(victim)?.valid;
    holds("entries", entries, entries > 2 * PAGES.len() as u64)
}

pub(crate) fn a_cleared_table_has_real_mode_left(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::VICTIM, job::CLEAR)
}
