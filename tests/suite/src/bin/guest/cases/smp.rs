//! Several vCPUs of one partition, on several CPUs.

use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use realhpt_pseries::{
    abi::{OpenFlags, ReadFlags, Status},
    cpu::{self, TICKS_PER_MS, timebase},
    hcall::{self, Hpte, hpt_read},
    vcpu,
};
use realhpt_suite::partition;

use crate::{
    bench::{Bench, PATIENCE},
    stream::{Buffer, READ, Sink, WRITE, decode, restore_samples},
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// vCPUs of the suite's own partition.
const VCPUS: usize = 2;
/// What the other vCPU has come to.
static STEP: AtomicU64 = AtomicU64::new(0);

/// Waits until the other vCPU has come to a step, or past it: it goes on while this one may have no processor.
fn wait_for(step: u64) -> Outcome {
    let begin = timebase();
    while STEP.load(Ordering::Acquire) < step {
        holds("step to wait for", step, timebase() - begin < PATIENCE)?;
        core::hint::spin_loop();
    }
    Ok(())
}

/// Starts the other vCPU, which may be on its way out from the last time.
fn start(main: vcpu::Main, argument: u64) -> Outcome {
    STEP.store(0, Ordering::Release);
    let begin = timebase();
    loop {
        // SAFETY: what is started here works on atomics alone.
        match unsafe { vcpu::start(1, main, argument) } {
            Err(failure) if failure.is(Status::Busy) && timebase() - begin < PATIENCE => {}
            result => return result.must("start of a vCPU"),
        }
    }
}

pub(crate) fn a_vcpu_starts_and_stops(_: &mut Bench<'_>) -> Outcome {
    for round in 1..20 {
        start(|step| STEP.store(step, Ordering::Release), round)?;
        wait_for(round)?;
    }
    Ok(())
}

pub(crate) fn a_vcpu_that_runs_is_not_started(_: &mut Bench<'_>) -> Outcome {
    start(
        |_| {
            STEP.store(1, Ordering::Release);
            while STEP.load(Ordering::Acquire) != 2 {
                core::hint::spin_loop();
            }
            STEP.store(3, Ordering::Release);
        },
        0,
    )?;
    wait_for(1)?;
    // SAFETY: it is refused.
    refused("start of one that runs", Status::Busy, unsafe {
        vcpu::start(1, |_| {}, 0)
    })?;
    // SAFETY: it is refused.
    refused("start of oneself", Status::Busy, unsafe {
        vcpu::start(0, |_| {}, 0)
    })?;
    STEP.store(2, Ordering::Release);
    wait_for(3)?;
    for number in [VCPUS as u64, 7, 8, 1 << 32, u64::MAX] {
        // SAFETY: it is refused.
        let result = unsafe { hcall::vcpu_start(number, 0x100, 0) };
        refused("start of no vCPU", Status::Parameter, result)?;
        refused("prod of no vCPU", Status::Parameter, hcall::prod(number))?;
        if number != u64::MAX {
            refused(
                "confer to no vCPU",
                Status::Parameter,
                hcall::confer(number),
            )?;
        }
    }
    Ok(())
}

/// Each waits for the other a few hundred times: both are on a CPU at once.
pub(crate) fn two_vcpus_run_at_once(_: &mut Bench<'_>) -> Outcome {
    const ROUNDS: u64 = 300;
    start(
        |_| {
            for round in 0..ROUNDS {
                while STEP.load(Ordering::Acquire) != 2 * round + 1 {
                    core::hint::spin_loop();
                }
                STEP.store(2 * round + 2, Ordering::Release);
            }
        },
        0,
    )?;
    let begin = timebase();
    for round in 0..ROUNDS {
        STEP.store(2 * round + 1, Ordering::Release);
        wait_for(2 * round + 2)?;
    }
    let took = timebase() - begin;
    // By turns of 10 ms it would be 6 s at least; a host with fewer cores than CPUs takes turns of its own.
    holds("time it took", took, took < 20_000 * TICKS_PER_MS)
}

pub(crate) fn a_prod_ends_a_cede(_: &mut Bench<'_>) -> Outcome {
    start(
        |_| {
            STEP.store(1, Ordering::Release);
            cpu::cede(u64::MAX);
            STEP.store(2, Ordering::Release);
        },
        0,
    )?;
    wait_for(1)?;
    hcall::prod(1).must("prod")?;
    wait_for(2)?;
    hcall::confer(u64::MAX).must("confer to all")?;
    hcall::confer(1).must("confer to one")?;
    same("step", 2, STEP.load(Ordering::Acquire))
}

/// Slots that two vCPUs were told of by one reader, the sum of their numbers, and how often one of them found it in use.
static TOLD: AtomicU64 = AtomicU64::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU64 = AtomicU64::new(0);
/// Passes of the reader that have ended.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// What one of them is told.
struct Told;

impl Sink for Told {
    fn record(&mut self, _: Range<u64>) -> Outcome {
        Ok(())
    }

    fn slot(&mut self, number: u64, _: Option<Hpte>) -> Outcome {
        TOLD.fetch_add(1, Ordering::Relaxed);
        SUM.fetch_add(number, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a reader's first pass with small buffers, together with whoever else does, to its end.
fn share_pass(handle: u64, buffer: &Buffer) -> Outcome {
    while PASSES.load(Ordering::Acquire) == 0 {
        // SAFETY: the buffer is there to be written.
        match unsafe { hpt_read(handle, buffer.address(), 64) } {
            Ok(piece) => {
                if piece.pass == 1 {
                    decode(buffer, piece.bytes, &mut Told)?;
                }
                if piece.flags.contains(ReadFlags::END_OF_PASS) {
                    PASSES.fetch_add(1, Ordering::Release);
                }
            }
            Err(failure) => {
                refused::<()>("a read", Status::Busy, Err(failure))?;
                BUSY.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// Two vCPUs read by one handle: one of them at a time, the other is told so, and each slot comes once.
pub(crate) fn a_handle_in_use_is_busy(bench: &mut Bench<'_>) -> Outcome {
    let table = partition::EMPTY;
    restore_samples(table)?;
    let begin = timebase();
    BUSY.store(0, Ordering::Relaxed);
    while BUSY.load(Ordering::Relaxed) == 0 {
        holds(
            "time without a call that was busy",
            begin,
            timebase() - begin < PATIENCE,
        )?;
        for count in [&TOLD, &SUM, &PASSES] {
            count.store(0, Ordering::Relaxed);
        }
        let reader = bench.open(table, OpenFlags::empty(), 0).must("open")?;
        start(
            |handle| {
                STEP.store(1, Ordering::Release);
                let line = share_pass(handle, &WRITE).map_or_else(|trouble| trouble.line(), |()| 0);
                STEP.store(2 + line, Ordering::Release);
            },
            reader.handle,
        )?;
        wait_for(1)?;
        share_pass(reader.handle, &READ)?;
        wait_for(2)?;
        same(
            "line of the other one's trouble",
            0,
            STEP.load(Ordering::Acquire) - 2,
        )?;
        let slots = 1 << 14;
        same("slots", slots, TOLD.load(Ordering::Relaxed))?;
        same(
            "sum of their numbers",
            slots * (slots - 1) / 2,
            SUM.load(Ordering::Relaxed),
        )?;
        bench.close(reader.handle).must("close")?;
    }
    Ok(())
}
