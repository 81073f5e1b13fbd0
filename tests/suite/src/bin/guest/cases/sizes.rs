//! What may not depend on the size of a table or on what is in it: the records' limits and the work of a call.

use realhpt_pseries::{
    abi::{H_RESIZE_HPT_COMMIT, H_RESIZE_HPT_PREPARE, OpenFlags, Status},
    hcall::{Hpte, hpt_write},
    mmu::pte::{PP_READ_WRITE, R_C, R_R, V_VALID},
};
use realhpt_suite::{order, partition};

use super::proxy::{proxy, registers};
use crate::{
    bench::{Bench, query},
    stream::{READ, Records, WRITE, first_pass, read_pass, read_piece},
    trouble::{Must as _, Outcome, holds, same},
};

/// The order of the table, and how many slots it has: one more than a record counts.
const ORDER: u64 = order::FIRST as u64 + 2;
const SLOTS: u64 = 1 << (ORDER - 4);
/// The longest run that a record counts.
const LONGEST: u64 = 0xffff;
/// What a call does at most, as many as take some tens of thousands of instructions: bytes that it lays out, entries
/// that it enters or removes, and entries in which it looks for R and C.
const BYTES: u64 = 17 << 10;
const CHANGES: u64 = 800;
const LOOKS: u64 = 5000;

/// An entry of 4K, the same in every slot.
const fn entry(rc: u64) -> Hpte {
    (0x12_3456 << 12 | V_VALID, PP_READ_WRITE | rc)
}

/// Makes the table of a partition that does not run one of this order.
fn resize(lpar: u64, order: u64) -> Outcome {
    for token in [H_RESIZE_HPT_PREPARE, H_RESIZE_HPT_COMMIT] {
        for calls in 0.. {
            holds("calls", calls, calls < 1000)?;
            let mut frame = registers(token, &[0, order]);
            proxy(lpar, &mut frame).must("a call by proxy")?;
            let [status, ..] = frame;
            if status == Status::Success.raw() {
                break;
            }
            let again = [Status::LongBusyOrder1Msec, Status::LongBusyOrder100Msec];
            holds(
                "status",
                status,
                again.iter().any(|again| again.raw() == status),
            )?;
        }
    }
    same("order", order, query(lpar)?.order)
}

/// Writes a record of these runs, all of whose entries are the same; how many calls it takes, and what each does is
/// bounded.
fn write(
    bench: &mut Bench<'_>,
    lpar: u64,
    (index, valid, invalid): (u64, u64, u64),
    entry: Hpte,
) -> Outcome<u64> {
    let writer = bench
        .open(lpar, OpenFlags::WRITE, 0)
        .must("open to write")?
        .handle;
    let mut records = Records::new();
    records.header(index, valid, invalid);
    let in_buffer = 500.min(valid);
    for _ in 0..in_buffer {
        records.word(entry.0);
        records.word(entry.1);
    }
    // The entries follow each other; what was taken is as good again.
    let (mut left, mut at, mut calls) = (8 + 16 * valid, 0, 0);
    while left > 0 {
        calls += 1;
        holds("calls of a write", calls, calls < 1 << 16)?;
        let consumed = hpt_write(writer, WRITE.address() + at, left.min(records.bytes() - at))
            .must("write")?;
        holds("bytes of a call", consumed, consumed <= 8 + 16 * CHANGES)?;
        left -= consumed;
        at += consumed;
        if at + 16 > records.bytes() && left >= 16 {
            at = 8;
        }
    }
    bench.close(writer).must("close")?;
    Ok(calls)
}

/// Makes every slot of the table hold this entry.
fn fill(bench: &mut Bench<'_>, lpar: u64, entry: Hpte) -> Outcome {
    write(bench, lpar, (0, LONGEST, 0), entry)?;
    write(bench, lpar, (LONGEST, SLOTS - LONGEST, 0), entry).map(drop)
}

pub(crate) fn a_record_counts_no_more_than_65535_of_each(bench: &mut Bench<'_>) -> Outcome {
    let table = partition::VICTIM;
    resize(table, ORDER)?;
    // All free, and then all in use.
    same("entries", 0, first_pass(table)?.valid)?;
    fill(bench, table, entry(R_R | R_C))?;
    same("entries", SLOTS, first_pass(table)?.valid)?;
    write(bench, table, (1, 0, LONGEST), entry(0))?;
    same("entries", SLOTS - LONGEST, first_pass(table)?.valid)
}

pub(crate) fn the_work_of_a_call_is_bounded(bench: &mut Bench<'_>) -> Outcome {
    let table = partition::VICTIM;
    resize(table, ORDER)?;
    let reader = bench
        .open(table, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    read_pass(reader, READ.bytes())?;
    for rc in [R_R | R_C, 0] {
        fill(bench, table, entry(rc))?;
        let first = bench
            .open(table, OpenFlags::empty(), 0)
            .must("open")?
            .handle;
        for reader in [reader, first] {
            let pass = read_pass(reader, READ.bytes())?;
            same("entries", SLOTS, pass.valid)?;
            holds(
                "calls of a pass",
                pass.calls,
                pass.calls >= pass.bytes / BYTES,
            )?;
        }
        bench.close(first).must("close")?;
    }
    // R and C may come in all of them, and have not.
    let pass = read_pass(reader, READ.bytes())?;
    same("slots of a pass without a change", 0, pass.slots)?;
    holds("calls of that", pass.calls, pass.calls >= SLOTS / LOOKS)?;
    let calls = write(bench, table, (0, 0, LONGEST), entry(0))?;
    holds("calls to remove them", calls, calls >= LONGEST / CHANGES)
}

/// A call may find nothing in as much as it does; so may a whole pass, behind which something has changed.
pub(crate) fn a_pass_that_says_nothing_goes_on(bench: &mut Bench<'_>) -> Outcome {
    let table = partition::EMPTY;
    write(bench, table, (0, 1 << 14, 0), entry(0))?;
    let reader = bench
        .open(table, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    read_pass(reader, READ.bytes())?;
    let piece = read_piece(reader, READ.bytes()).must("read")?;
    same("bytes", 0, piece.bytes)?;
    same("flags", 0, piece.flags.bits())?;
    write(bench, table, (0, 1, 0), entry(R_R))?;
    let rest = read_pass(reader, READ.bytes())?;
    same("slots in the rest", 0, rest.slots)?;
    same("pending after it", 1, rest.pending)?;
    holds("cleanness", rest.slots, !rest.clean)?;
    let next = read_pass(reader, READ.bytes())?;
    same("slots in the next pass", 1, next.slots)?;
    let told = next.of(0).flatten().must("the slot")?;
    same("dword 1", entry(R_R).1, told.1)?;
    holds(
        "a clean pass",
        reader,
        read_pass(reader, READ.bytes())?.clean,
    )
}
