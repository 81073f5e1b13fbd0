//! Several vCPUs of one partition, on several CPUs.

use core::sync::atomic::{AtomicU64, Ordering};

use realhpt_pseries::{
    abi::Status,
    cpu::{self, TICKS_PER_MS, timebase},
    hcall, vcpu,
};

use crate::{
    bench::Bench,
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// vCPUs of the suite's own partition.
const VCPUS: usize = 2;
/// How long another vCPU may take for what it is to do, a busy host included.
const PATIENCE: u64 = 10_000 * TICKS_PER_MS;

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
