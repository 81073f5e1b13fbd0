//! Partition control: query, start, pause, resume, reset, and how partitions end.

use realhpt_pseries::{
    abi::{H_LPAR_RESET, H_LPAR_START, LPAR_SELF, OpenFlags, Privileges, State, Status},
    cpu::{self, TICKS_PER_MS},
    exit,
    hcall::{self, MANIFEST_ENTRY, hcall},
    mmu::pte::{Page, R_C, R_R, Segment, SegmentSize, V_BOLTED},
};
use realhpt_suite::{job, partition};

use crate::{
    bench::{self, Bench},
    stream::{Records, WRITE, first_pass},
    trouble::{Must as _, Outcome, refused, same},
};

fn is(lpar: u64, lpid: u64, memory: u64, privileges: Privileges) -> Outcome {
    let partition = bench::query(lpar)?;
    same("LPID", lpid, partition.lpid)?;
    same("memory", memory, partition.memory)?;
    same("order", 18, partition.order)?;
    same("privileges", privileges.bits(), partition.privileges.bits())
}

pub(crate) fn query(bench: &mut Bench<'_>) -> Outcome {
    let all = Privileges::CONTROL | Privileges::REPORT;
    let own = bench.runtime.partition;
    for lpar in [LPAR_SELF, partition::SUITE] {
        is(lpar, partition::SUITE, own.memory, all)?;
        same("state", State::Running as u64, bench::query(lpar)?.state)?;
    }
    for lpar in partition::CLIENT..=partition::LAST {
        is(lpar, lpar, own.memory, Privileges::empty())?;
        same("state", State::Stopped as u64, bench::query(lpar)?.state)?;
    }
    for lpar in [
        0,
        partition::LAST + 1,
        99,
        1 << 16 | 1,
        1 << 32 | 1,
        u64::MAX - 1,
    ] {
        refused("a partition", Status::Parameter, hcall::lpar_query(lpar))?;
    }
    Ok(())
}

#[track_caller]
fn state(lpar: u64, expected: State) -> Outcome {
    same("state", expected as u64, bench::query(lpar)?.state)
}

pub(crate) fn states(_: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    let start = |job| hcall::lpar_start(client, MANIFEST_ENTRY, job);
    state(client, State::Stopped)?;
    refused("resume", Status::Busy, hcall::lpar_resume(client))?;
    start(job::USE_PAGES).must("start")?;
    state(client, State::Running)?;
    refused("start", Status::Busy, start(job::END))?;
    refused("resume", Status::Busy, hcall::lpar_resume(client))?;
    refused("reset", Status::Busy, hcall::lpar_reset(client))?;
    for _ in 0..3 {
        cpu::cede(TICKS_PER_MS);
        hcall::lpar_pause(client).must("pause")?;
        state(client, State::Paused)?;
        hcall::lpar_pause(client).must("pause again")?;
        refused("start", Status::Busy, start(job::END))?;
        hcall::lpar_resume(client).must("resume")?;
        state(client, State::Running)?;
    }
    hcall::lpar_pause(client).must("pause")?;
    hcall::lpar_reset(client).must("reset")?;
    state(client, State::Stopped)?;
    refused("resume", Status::Busy, hcall::lpar_resume(client))?;
    same("entries after a reset", 0, first_pass(client)?.valid)?;
    // Oneself, whom nobody could resume.
    for lpar in [LPAR_SELF, partition::SUITE] {
        refused("pause oneself", Status::Parameter, hcall::lpar_pause(lpar))?;
        refused(
            "resume oneself",
            Status::Parameter,
            hcall::lpar_resume(lpar),
        )?;
        for token in [H_LPAR_RESET, H_LPAR_START] {
            let mut registers = [token, lpar, 0x100, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: refused.
            unsafe { hcall(&mut registers) };
            let [status, ..] = registers;
            same("reset and start oneself", Status::Parameter.raw(), status)?;
        }
    }
    for lpar in [0, 99, u64::MAX - 1] {
        refused("pause", Status::Parameter, hcall::lpar_pause(lpar))?;
        refused("resume", Status::Parameter, hcall::lpar_resume(lpar))?;
        refused("reset", Status::Parameter, hcall::lpar_reset(lpar))?;
        let start = hcall::lpar_start(lpar, MANIFEST_ENTRY, 0);
        refused("start", Status::Parameter, start)?;
    }
    Ok(())
}

pub(crate) fn exit_codes(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    for (job, code) in [(job::END, 0), (job::END_WITH_CODE, 0x1234), (job::END, 0)] {
        bench.start(client, job)?;
        same("exit code", code, bench.wait(client)?)?;
        refused("resume", Status::Busy, hcall::lpar_resume(client))?;
        refused(
            "start",
            Status::Busy,
            hcall::lpar_start(client, MANIFEST_ENTRY, 0),
        )?;
        hcall::lpar_reset(client).must("reset")?;
        same(
            "exit code after a reset",
            0,
            bench::query(client)?.exit_code,
        )?;
    }
    Ok(())
}

/// A client that faults or panics ends itself, and says how.
pub(crate) fn a_crash_is_an_end(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    for (job, code) in [
        (job::CRASH, exit::EXCEPTION | 0x380),
        (job::PANIC, exit::PANIC),
        (job::END, 0),
    ] {
        bench.start(client, job)?;
        same("exit code", code, bench.wait(client)?)?;
        hcall::lpar_reset(client).must("reset")?;
    }
    Ok(())
}

/// Zeros are no instructions, at the entry and at the vectors: the guest interrupts itself for ever.
pub(crate) fn a_runaway_is_paused(_: &mut Bench<'_>) -> Outcome {
    let empty = partition::EMPTY;
    for entry in [
        MANIFEST_ENTRY,
        0x100,
        0,
        64 << 20,
        0x2000_0000,
        u64::MAX - 3,
    ] {
        hcall::lpar_start(empty, entry, 0).must("start")?;
        for _ in 0..5 {
            cpu::cede(10 * TICKS_PER_MS);
        }
        state(empty, State::Running)?;
        hcall::lpar_pause(empty).must("pause")?;
        state(empty, State::Paused)?;
        hcall::lpar_resume(empty).must("resume")?;
        cpu::cede(10 * TICKS_PER_MS);
        hcall::lpar_pause(empty).must("pause")?;
        hcall::lpar_reset(empty).must("reset")?;
    }
    Ok(())
}

/// Real mode runs by the entries that were restored, of whatever page size, and no others are made.
pub(crate) fn a_restored_vrma(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    for (page, pages) in [(Page::K64, 128), (Page::K4, 2048), (Page::M16, 2)] {
        let vrma = Segment {
            base: 0,
            vsid: 0x1ff_ffff,
            size: SegmentSize::T1,
            page: page.base(),
        };
        let mut records = Records::new();
        for ea in (0..pages).map(|number| number * page.size()) {
            let slot = bench.group(vrma.hash(ea)) + 7;
            let entry = (
                vrma.dword_0(ea, page) | V_BOLTED,
                page.dword_1(ea, 2 | R_R | R_C),
            );
            records.record(slot, [entry].into_iter(), 0);
        }
        let writer = bench
            .open(client, OpenFlags::WRITE, 0)
            .must("open to write")?
            .handle;
        same(
            "bytes",
            records.bytes(),
            records.write(writer, WRITE.bytes())?,
        )?;
        bench.close(writer).must("close")?;
        bench.run(client, job::END)?;
        // Those, and the one that the runtime makes for its program.
        same("entries", pages + 1, first_pass(client)?.valid)?;
        hcall::lpar_reset(client).must("reset")?;
    }
    Ok(())
}
