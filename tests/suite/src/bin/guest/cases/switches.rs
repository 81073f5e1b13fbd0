//! What one partition leaves in the processor is not what another finds in it.
//!
//! The client has work all the time and so has the suite: neither gives its turn up, so that the client ends at
//! all shows that the hypervisor's decrementer takes turns.

use realhpt_pseries::{
    abi::State,
    cpu::{self, TICKS_PER_MS},
    mmu::pte::{BasePage, PP_READ_WRITE, Page, SegmentSize},
};
use realhpt_suite::{job, partition};

use crate::{
    bench::{Bench, load, query, store},
    registers::{self, Sprs, State as Registers},
    trouble::{Outcome, holds, same},
};

/// Longer than a turn.
pub(crate) const ROUND: u64 = 15 * TICKS_PER_MS;
/// Rounds of a client.
pub(crate) const ROUNDS: u64 = 12;
/// More rounds than the client needs to end.
const MOST_ROUNDS: u64 = 40 * ROUNDS;
/// The effective address that suite and client use alike.
const ADDRESS: u64 = 0x6_1230_0000_0000;

/// Keeps registers of all kinds for a round.
pub(crate) fn keep_registers(seed: u64) -> Outcome {
    let sprs = Sprs::pattern(seed);
    registers::enable_facilities();
    // SAFETY: nothing needs them.
    unsafe { sprs.set() };
    let sprs = Sprs::get();
    Registers::pattern(seed).keep_for(ROUND)?;
    let mut now = Sprs::get();
    now.take_scratch(&sprs);
    now.same(&sprs)
}

/// Maps the common address to memory of one's own.
pub(crate) fn map_segment(bench: &mut Bench<'_>) -> Outcome {
    let kind = (SegmentSize::M256, BasePage::K4);
    let segment = bench.segment_at(ADDRESS, kind, 0)?;
    let ra = bench.memory(1 << 12)?;
    bench
        .map(&segment, ADDRESS, Page::K4, (ra, PP_READ_WRITE))
        .map(drop)
}

/// Keeps a value behind the common address for a round.
pub(crate) fn keep_segment(value: u64) -> Outcome {
    store(ADDRESS, value);
    Registers::pattern(value).keep_for(ROUND)?;
    same("behind the common address", value, load(ADDRESS))
}

/// Does rounds until the client has done its own.
fn against_client(
    bench: &mut Bench<'_>,
    job: u64,
    mut round: impl FnMut(u64) -> Outcome,
) -> Outcome {
    let client = partition::CLIENT;
    bench.start(client, job)?;
    for number in 0..MOST_ROUNDS {
        round(number)?;
        if query(client)?.is(State::Halted) {
            return same("exit code of the client", 0, bench.wait(client)?);
        }
    }
    holds("rounds without an end of the client", MOST_ROUNDS, false)
}

pub(crate) fn registers_are_kept_apart(bench: &mut Bench<'_>) -> Outcome {
    against_client(bench, job::KEEP_REGISTERS, |round| {
        keep_registers(0x5111 + round)
    })
}

pub(crate) fn segments_are_kept_apart(bench: &mut Bench<'_>) -> Outcome {
    map_segment(bench)?;
    against_client(bench, job::KEEP_SEGMENTS, |round| {
        keep_segment(0x5222_0000 + round)
    })
}

/// The client sets everything it can to all ones and works on; the suite waits, and finds its own settings.
pub(crate) fn settings_are_kept_apart(bench: &mut Bench<'_>) -> Outcome {
    registers::enable_facilities();
    let sprs = Sprs::pattern(0x5333);
    // SAFETY: nothing needs them.
    unsafe { sprs.set() };
    let sprs = Sprs::get();
    bench.start(partition::CLIENT, job::SET_EVERYTHING)?;
    for _ in 0..20 {
        cpu::cede(5 * TICKS_PER_MS);
        Sprs::get().same(&sprs)?;
    }
    Ok(())
}
