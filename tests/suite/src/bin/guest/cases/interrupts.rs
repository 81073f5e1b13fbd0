//! The decrementer, and H_CEDE.

use realhpt_pseries::{
    abi::H_CEDE,
    cpu::{self, Msr, TICKS_PER_MS, timebase},
    guard,
    hcall::hcall,
};

use crate::{
    bench::Bench,
    code::wait_for_decrementer,
    registers,
    trouble::{Outcome, faulted, holds, same},
};

/// Longer than anything here takes, other partitions' turns and a busy host included.
const LONG: u64 = 2000 * TICKS_PER_MS;

/// The decrementer's interrupt comes after so many ticks, not before.
pub(crate) fn interrupt_after(ticks: u64) -> Outcome {
    // The last interrupt left it negative: it would come again at once.
    cpu::cede(1);
    let begin = timebase();
    // SAFETY: the code only waits, and EE lets the interrupt end it.
    let ended = unsafe { guard::run(wait_for_decrementer, [ticks, 0], Msr::TRANSLATED | Msr::EE) };
    let passed = timebase() - begin;
    let fault = faulted("waiting for the decrementer", 0x900, ended)?;
    holds("EE in SRR1", fault.srr1, fault.srr1 & Msr::EE.bits() != 0)?;
    holds(
        "ticks it took",
        passed,
        (ticks..ticks + LONG).contains(&passed),
    )
}

pub(crate) fn decrementer(_: &mut Bench<'_>) -> Outcome {
    // The last one is longer than a slice: other partitions would have their turn.
    for ticks in [1, 1000, TICKS_PER_MS, 25 * TICKS_PER_MS] {
        interrupt_after(ticks)?;
    }
    Ok(())
}

/// The decrementer is negative when H_CEDE returns: its handler has put it off by then.
pub(crate) fn cede_lets_the_decrementer_in(_: &mut Bench<'_>) -> Outcome {
    for ticks in [1, TICKS_PER_MS, 20 * TICKS_PER_MS] {
        let begin = timebase();
        let deadline = begin + ticks;
        while timebase() < deadline {
            holds("ticks of a cede", ticks, timebase() - begin < LONG)?;
            cpu::cede(deadline.saturating_sub(timebase()).max(1));
        }
        let left = registers::decrementer();
        holds("decrementer after it", left.cast_unsigned(), left > 0)?;
    }
    Ok(())
}

/// Without anything to wait for: it is a turn of the others, and no more.
pub(crate) fn cede_comes_back(_: &mut Bench<'_>) -> Outcome {
    let begin = timebase();
    for _ in 0..20 {
        let mut registers = [H_CEDE, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        // SAFETY: no memory is involved; the decrementer is far off.
        unsafe { hcall(&mut registers) };
        let [status, ..] = registers;
        same("status", 0, status)?;
        let msr = cpu::msr();
        holds("EE after it", msr.bits(), msr.contains(Msr::EE))?;
        // SAFETY: the program as it runs everywhere else.
        unsafe { cpu::set_msr(Msr::TRANSLATED) };
    }
    let passed = timebase() - begin;
    holds("ticks it took", passed, passed < LONG)
}
