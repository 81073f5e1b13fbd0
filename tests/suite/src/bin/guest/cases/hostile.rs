//! Partitions that mean harm. The client does the mischief and checks the answers; the suite sees to it that
//! nobody else is the worse for it.

use realhpt_pseries::{
    abi::{OpenFlags, State},
    cpu::{self, TICKS_PER_MS, timebase},
    hcall,
};
use realhpt_suite::{job, partition};

use crate::{
    bench::{Bench, query},
    stream::{READ, is_sample_table, read_pass, restore_samples},
    trouble::{Must as _, Outcome, holds},
};

pub(crate) fn a_client_that_faults_at_every_access(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::FAULTS)
}

pub(crate) fn others_are_out_of_reach(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::OTHERS)
}

pub(crate) fn wild_handles(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::WILD_HANDLES)
}

/// The suite has streams open, over the client's table among others, and the client tries to guess them.
pub(crate) fn someone_elses_handles(bench: &mut Bench<'_>) -> Outcome {
    let (client, table) = (partition::CLIENT, partition::EMPTY);
    restore_samples(table)?;
    let over_client = bench
        .open(client, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    let over_table = bench
        .open(table, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    bench
        .open(table, OpenFlags::WRITE, 0)
        .must("open to write")?;
    bench.run(client, job::WILD_HANDLES)?;
    let pass = read_pass(over_client, READ.bytes())?;
    holds("coverage", pass.slots, pass.covers(1 << 14))?;
    is_sample_table(&read_pass(over_table, READ.bytes())?)
}

pub(crate) fn wild_buffers(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::WILD_BUFFERS)
}

pub(crate) fn wild_slots(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::WILD_SLOTS)
}

/// The client takes what readers of its own table it can get; one is left for the suite.
pub(crate) fn ones_own_table(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::OWN_TABLE)
}

pub(crate) fn every_token(bench: &mut Bench<'_>) -> Outcome {
    bench.run(partition::CLIENT, job::EVERY_TOKEN)
}

/// Lets a partition do its worst for some milliseconds; then the suite can still pause and reset it, and others
/// still work.
fn outlive(bench: &mut Bench<'_>, lpar: u64, job: u64, milliseconds: u64) -> Outcome {
    bench.start(lpar, job)?;
    let end = timebase() + milliseconds * TICKS_PER_MS;
    while timebase() < end && query(lpar)?.is(State::Running) {
        cpu::cede(10 * TICKS_PER_MS);
    }
    hcall::lpar_pause(lpar).must("pause")?;
    let state = query(lpar)?;
    holds(
        "state",
        state.state,
        state.is(State::Paused) || state.is(State::Halted),
    )?;
    hcall::lpar_reset(lpar).must("reset")?;
    bench.run(partition::CLIENT, job::END)
}

/// Every interrupt of the guest's ends in a storage interrupt of its vector's fetch, and that in the next one.
pub(crate) fn real_mode_pulled_away(bench: &mut Bench<'_>) -> Outcome {
    outlive(bench, partition::VICTIM, job::NO_REAL_MODE, 100)?;
    // Its memory is as it was: started anew, it works.
    bench.run(partition::VICTIM, job::END)
}

pub(crate) fn a_faulting_fault_handler(bench: &mut Bench<'_>) -> Outcome {
    outlive(bench, partition::RUIN, job::NO_VECTORS, 100)
}

pub(crate) fn random_instructions(bench: &mut Bench<'_>) -> Outcome {
    outlive(bench, partition::VICTIM, job::RANDOM, 2000)
}
