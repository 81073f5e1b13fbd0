//! A partition with more vCPUs than there are CPUs, seen and controlled from another one.
//!
//! What its vCPUs do shows in its table, which they change all the time: when nothing changes, none is in guest
//! state.

use realhpt_pseries::{
    abi::{OpenFlags, State, Status},
    cpu::{self, TICKS_PER_MS, timebase},
    exit,
    hcall::{self, MANIFEST_ENTRY},
};
use realhpt_suite::{
    job,
    partition::{CLIENT, CROWD},
};

use crate::{
    bench::{Bench, PATIENCE, query},
    stream::{READ, first_pass, read_pass},
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// Waits until a pass of the reader has something in it.
fn wait_for_changes(reader: u64) -> Outcome {
    let begin = timebase();
    while read_pass(reader, READ.bytes())?.slots == 0 {
        holds(
            "time without a change",
            begin,
            timebase() - begin < PATIENCE,
        )?;
    }
    Ok(())
}

/// One more pass has all that was changed, and then nothing changes for longer than a slice.
fn nothing_moves(reader: u64) -> Outcome {
    let pass = read_pass(reader, READ.bytes())?;
    same("pending after a pass", 0, pass.pending)?;
    let begin = timebase();
    while timebase() - begin < 12 * TICKS_PER_MS {
        let pass = read_pass(reader, READ.bytes())?;
        holds("slots that changed", pass.slots, pass.clean)?;
    }
    Ok(())
}

/// A reader of the crowd's table, when it is at work.
fn reader_of_the_crowd(bench: &mut Bench<'_>) -> Outcome<u64> {
    let reader = bench
        .open(CROWD, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    read_pass(reader, READ.bytes())?;
    wait_for_changes(reader)?;
    Ok(reader)
}

pub(crate) fn a_pause_takes_every_vcpu_out(bench: &mut Bench<'_>) -> Outcome {
    bench.start(CROWD, job::CROWD_WORK)?;
    let reader = reader_of_the_crowd(bench)?;
    for round in 0..12 {
        wait_for_changes(reader)?;
        cpu::cede(round % 4 * TICKS_PER_MS);
        hcall::lpar_pause(CROWD).must("pause")?;
        same("state", State::Paused as u64, query(CROWD)?.state)?;
        nothing_moves(reader)?;
        hcall::lpar_resume(CROWD).must("resume")?;
    }
    wait_for_changes(reader)
}

/// Until it is paused and every vCPU is out.
pub(crate) fn what_runs_is_busy(bench: &mut Bench<'_>) -> Outcome {
    bench.start(CROWD, job::CROWD_WORK)?;
    let reader = reader_of_the_crowd(bench)?;
    for _ in 0..100 {
        refused("reset", Status::Busy, hcall::lpar_reset(CROWD))?;
        refused("resume", Status::Busy, hcall::lpar_resume(CROWD))?;
        let start = hcall::lpar_start(CROWD, MANIFEST_ENTRY, job::END);
        refused("start", Status::Busy, start)?;
        let writer = hcall::hpt_open(CROWD, OpenFlags::WRITE, 0);
        refused("a writer", Status::Busy, writer)?;
    }
    // The calls that were refused have changed nothing.
    wait_for_changes(reader)?;
    hcall::lpar_pause(CROWD).must("pause")?;
    let writer = hcall::hpt_open(CROWD, OpenFlags::WRITE, 0).must("a writer")?;
    hcall::hpt_close(writer.handle).must("close")?;
    hcall::lpar_reset(CROWD).must("reset")
}

pub(crate) fn an_end_ends_every_vcpu(bench: &mut Bench<'_>) -> Outcome {
    for (job, code) in [
        (job::CROWD_EXIT, 0x4321),
        (job::CROWD_CRASH, exit::EXCEPTION | 0x380),
        (job::CROWD_PANIC, exit::PANIC),
    ] {
        bench.start(CROWD, job)?;
        let reader = bench
            .open(CROWD, OpenFlags::empty(), 0)
            .must("open")?
            .handle;
        same("exit code", code, bench.wait(CROWD)?)?;
        // The first pass, and what changed behind it.
        read_pass(reader, READ.bytes())?;
        nothing_moves(reader)?;
        bench.close(reader).must("close")?;
        hcall::lpar_reset(CROWD).must("reset")?;
    }
    Ok(())
}

/// What other vCPUs opened while one ended the partition, too.
pub(crate) fn an_end_closes_what_is_open(bench: &mut Bench<'_>) -> Outcome {
    for _ in 0..12 {
        bench.start(CROWD, job::CROWD_OPEN)?;
        same("exit code", 0, bench.wait(CROWD)?)?;
        let stat = hcall::hpt_stat(CROWD).must("statistics")?;
        same("readers", 0, stat.readers)?;
        hcall::lpar_reset(CROWD).must("reset")?;
    }
    Ok(())
}

/// The program that is started then finds only its first vCPU online.
pub(crate) fn a_reset_takes_every_vcpu_offline(bench: &mut Bench<'_>) -> Outcome {
    for _ in 0..4 {
        bench.start(CROWD, job::CROWD_WORK)?;
        let reader = reader_of_the_crowd(bench)?;
        hcall::lpar_pause(CROWD).must("pause")?;
        hcall::lpar_reset(CROWD).must("reset")?;
        bench.close(reader).must("close")?;
        same("entries after a reset", 0, first_pass(CROWD)?.valid)?;
        bench.run(CROWD, job::CROWD_RELAY)?;
        hcall::lpar_reset(CROWD).must("reset")?;
    }
    Ok(())
}

pub(crate) fn vcpus_start_each_other(bench: &mut Bench<'_>) -> Outcome {
    bench.run(CROWD, job::CROWD_RELAY)
}

/// They are on one CPU and then on another: registers, segments, decrementers.
pub(crate) fn registers_move_along(bench: &mut Bench<'_>) -> Outcome {
    bench.run(CROWD, job::CROWD_KEEP)
}

/// Of a partition with one vCPU, which flushes for the CPU that it is on alone. The crowd keeps the CPUs busy, so
/// that it moves.
pub(crate) fn no_stale_translation_where_a_vcpu_comes_to(bench: &mut Bench<'_>) -> Outcome {
    bench.start(CROWD, job::CROWD_WORK)?;
    bench.run(CLIENT, job::MOVE)?;
    same("state", State::Running as u64, query(CROWD)?.state)
}
