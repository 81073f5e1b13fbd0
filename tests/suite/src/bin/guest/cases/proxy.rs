//! H_LPAR_HCALL: calls on a partition's table, made for it.

use realhpt_pseries::{
    abi::{
        H_BULK_REMOVE, H_CEDE, H_CLEAR_MOD, H_CLEAR_REF, H_ENTER, H_HPT_OPEN, H_LPAR_EXIT,
        H_LPAR_HCALL, H_LPAR_RESET, H_LPAR_START, H_PROTECT, H_READ, H_REMOVE, H_REPORT, LPAR_SELF,
        Status,
    },
    cpu::{self, TICKS_PER_MS},
    hcall::{self, Failure, Registers},
    mmu::pte::{PP_READ_ONLY, PP_READ_WRITE, R_C, R_R},
};
use realhpt_suite::{job, partition};

use super::enter::{NOBODY, small};
use crate::{
    bench::{self, Bench},
    client,
    stream::first_pass,
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// The table that is worked on: its partition never runs.
const TABLE: u64 = partition::EMPTY;
/// H_ENTER: this very slot.
const EXACT: u64 = 1 << 39;
/// What registers hold that no argument is in.
const JUNK: u64 = 0x6a75_6e6b;

/// Registers with a call and its arguments.
pub(super) fn registers(token: u64, arguments: &[u64]) -> Registers {
    let mut registers = [JUNK; 10];
    let values = core::iter::once(&token).chain(arguments);
    for (register, value) in registers.iter_mut().zip(values) {
        *register = *value;
    }
    registers
}

/// Has the registers loaded by a partition.
pub(super) fn proxy(lpar: u64, registers: &mut Registers) -> Result<(), Failure> {
    let address = registers.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: the registers are there to be written.
    unsafe { hcall::lpar_hcall(lpar, address) }
}

/// A call that can be made: the registers are then as expected.
#[track_caller]
fn answers(lpar: u64, token: u64, arguments: &[u64], expected: &[u64]) -> Outcome {
    let mut found = registers(token, arguments);
    proxy(lpar, &mut found).must("a call by proxy")?;
    let [status, values @ ..] = expected else {
        return Ok(());
    };
    for (expected, found) in registers(*status, values).into_iter().zip(found) {
        same("a register", expected, found)?;
    }
    Ok(())
}

pub(crate) fn every_call_on_a_table(_: &mut Bench<'_>) -> Outcome {
    let (dw0, dw1) = (NOBODY, small(PP_READ_WRITE));
    for ptex in [8, 0x1005, 0x3fff] {
        let enter = [EXACT, ptex, dw0, dw1];
        answers(TABLE, H_ENTER, &enter, &[0, ptex, ptex, dw0, dw1])?;
        let full = Status::PtegFull.raw();
        answers(TABLE, H_ENTER, &enter, &[full, EXACT, ptex, dw0, dw1])?;
        answers(TABLE, H_READ, &[0, ptex], &[0, dw0, dw1])?;
    }
    for token in [H_CLEAR_REF, H_CLEAR_MOD] {
        answers(TABLE, token, &[0, 8], &[0, dw1, 8])?;
    }
    let protect = [PP_READ_ONLY, 8, 0];
    answers(TABLE, H_PROTECT, &protect, &[0, PP_READ_ONLY, 8, 0])?;
    answers(TABLE, H_READ, &[0, 8], &[0, dw0, small(PP_READ_ONLY)])?;
    same("entries", 3, first_pass(TABLE)?.valid)?;
    let remove = [0, 8, 0];
    answers(TABLE, H_REMOVE, &remove, &[0, dw0, small(PP_READ_ONLY), 0])?;
    let not_found = Status::NotFound.raw();
    answers(TABLE, H_REMOVE, &remove, &[not_found, 0, 8, 0])?;
    let request = |ptex: u64| 1 << 62 | ptex;
    let bulk = [request(0x1005), 0, request(0x3fff), 0, 3 << 62, 0, 0, 0];
    let mut found = registers(H_BULK_REMOVE, &bulk);
    proxy(TABLE, &mut found).must("a call by proxy")?;
    let [status, first, _, second, ..] = found;
    same("status", 0, status)?;
    same("the first entry", 2 << 62 | 0x1005, first)?;
    same("the second entry", 2 << 62 | 0x3fff, second)?;
    same("entries", 0, first_pass(TABLE)?.valid)?;
    let parameter = Status::Parameter.raw();
    answers(TABLE, H_READ, &[0, 0x4000], &[parameter, 0, 0x4000])
}

/// A translation that the client uses is gone when it goes on, and what hardware set by then has come back.
pub(crate) fn takes_effect(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    bench.start(client, job::WATCH_PAGE)?;
    let mut slot = None;
    for _ in 0..1000 {
        cpu::cede(TICKS_PER_MS);
        let pass = first_pass(client)?;
        let entry = pass
            .entries
            .iter()
            .find(|(_, (dw0, dw1))| dw0 & !0x7f == client::page_tag(1) && dw1 & R_R != 0);
        slot = entry.map(|(slot, _)| *slot);
        if slot.is_some() {
            break;
        }
    }
    let slot = slot.must("the client's page")?;
    hcall::lpar_pause(client).must("pause")?;
    let mut removed = registers(H_REMOVE, &[0, slot, 0]);
    proxy(client, &mut removed).must("a call by proxy")?;
    let [status, dw0, dw1, ..] = removed;
    same("status", 0, status)?;
    same("the page", client::page_tag(1), dw0 & !0x7f)?;
    same("R and C", R_R, dw1 & (R_R | R_C))?;
    hcall::lpar_resume(client).must("resume")?;
    same("exit code", 0, bench.wait(client)?)
}

pub(crate) fn not_while_it_runs(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    bench.start(client, job::USE_PAGES)?;
    for lpar in [client, LPAR_SELF, partition::SUITE] {
        for token in [H_READ, H_ENTER, H_REMOVE, H_CEDE, 1] {
            let before = registers(token, &[0, 8, 0]);
            let mut after = before;
            refused("while it runs", Status::Busy, proxy(lpar, &mut after))?;
            holds("registers", token, after == before)?;
        }
    }
    hcall::lpar_pause(client).must("pause")?;
    let mut read = registers(H_READ, &[0, 8]);
    proxy(client, &mut read).must("a call by proxy")?;
    hcall::lpar_resume(client).must("resume")?;
    refused(
        "while it runs again",
        Status::Busy,
        proxy(client, &mut read),
    )
}

/// What is no call on a table is not made, and its partition is as it was.
pub(crate) fn no_other_calls(_: &mut Bench<'_>) -> Outcome {
    let function = Status::Function.raw();
    for token in [
        0,
        H_CEDE,
        H_HPT_OPEN,
        H_LPAR_START,
        H_LPAR_RESET,
        H_LPAR_EXIT,
        H_LPAR_HCALL,
        H_REPORT,
        1 << 32 | H_READ,
        u64::MAX,
    ] {
        let arguments = [TABLE, LPAR_SELF, 3, 4, 5, 6, 7, 8, 9];
        let [a, b, c, d, e, f, g, h, i] = arguments;
        answers(
            TABLE,
            token,
            &arguments,
            &[function, a, b, c, d, e, f, g, h, i],
        )?;
    }
    same("state", 0, bench::query(TABLE)?.state)
}

pub(crate) fn bad_partitions_and_buffers(bench: &mut Bench<'_>) -> Outcome {
    let mut frame = registers(H_ENTER, &[EXACT, 8, NOBODY, small(PP_READ_WRITE)]);
    let before = frame;
    for lpar in [0, partition::LAST + 1, 99, 1 << 16 | TABLE, u64::MAX - 1] {
        refused("a partition", Status::Parameter, proxy(lpar, &mut frame))?;
    }
    holds("registers", 0, frame == before)?;
    let good = frame.as_mut_ptr().expose_provenance() as u64;
    let memory = bench.runtime.partition.memory;
    for address in [
        good + 1,
        good + 4,
        good | 1 << 63,
        memory - 72,
        memory - 8,
        memory,
        0x2000_0000,
        1 << 59,
        u64::MAX - 79,
        u64::MAX - 7,
        u64::MAX,
    ] {
        // SAFETY: refused.
        let made = unsafe { hcall::lpar_hcall(TABLE, address) };
        refused("a buffer", Status::Parameter, made)?;
    }
    holds("registers", 0, frame == before)?;
    same("entries", 0, first_pass(TABLE)?.valid)
}
