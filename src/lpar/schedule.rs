//! Whose turn it is on a CPU: round robin over the vCPUs that it can run.
//!
//! A vCPU that ceded its slice gets its turn all the same: it may poll for what it waits for, and H_CEDE may
//! return early. But when all that can run have ceded, there is time to rest before the next turn.

/// What a vCPU could do with a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has work.
    Ready,
    /// It gave up its last slice and waits for something.
    Ceded,
    /// Another CPU has it, or it is another CPU's alone.
    Elsewhere,
    /// It is offline, or its partition is stopped, paused, halted or held.
    Out,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This one's.
    Run(usize),
    /// This one's, but nobody has work: the CPU may rest first.
    Rest(usize),
    /// Nobody's on this CPU. Others may change that.
    Idle,
    /// Nobody can run on any CPU, and nobody is left who could change that.
    Nobody,
}

/// The turn after that of `last`, which comes last now.
pub fn next(last: usize, vcpus: usize, readiness: impl Fn(usize) -> Readiness) -> Turn {
    let after = last.saturating_add(1).min(vcpus);
    let (mut first, mut ready, mut elsewhere) = (None, false, false);
    for index in (after..vcpus).chain(0..after) {
        match readiness(index) {
            Readiness::Ready => ready = true,
            Readiness::Ceded => {}
            Readiness::Elsewhere => {
                elsewhere = true;
                continue;
            }
            Readiness::Out => continue,
        }
        first = first.or(Some(index));
    }
    match first {
        Some(next) if ready => Turn::Run(next),
        Some(next) => Turn::Rest(next),
        None if elsewhere => Turn::Idle,
        None => Turn::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness::{Ceded, Elsewhere, Out, Ready};
    use super::*;

    fn turn(last: usize, vcpus: &[Readiness]) -> Turn {
        next(last, vcpus.len(), |index| vcpus[index])
    }

    #[test]
    fn everyone_that_can_run_gets_a_turn() {
        let all = [Ready, Ready, Ready];
        assert_eq!(turn(0, &all), Turn::Run(1));
        assert_eq!(turn(2, &all), Turn::Run(0));
        assert_eq!(turn(0, &[Ready, Out, Ready]), Turn::Run(2));
        assert_eq!(turn(2, &[Out, Out, Ready]), Turn::Run(2));
    }

    #[test]
    fn who_ceded_is_not_starved_by_who_has_work() {
        assert_eq!(turn(0, &[Ready, Ceded]), Turn::Run(1));
        assert_eq!(turn(1, &[Ready, Ceded]), Turn::Run(0));
    }

    #[test]
    fn the_cpu_rests_when_all_have_ceded() {
        assert_eq!(turn(0, &[Ceded, Out, Ceded]), Turn::Rest(2));
        assert_eq!(turn(0, &[Ceded, Out, Out]), Turn::Rest(0));
    }

    #[test]
    fn what_another_cpu_has_is_neither_run_nor_nobody() {
        assert_eq!(turn(0, &[Ready, Elsewhere, Ready]), Turn::Run(2));
        assert_eq!(turn(0, &[Ceded, Elsewhere]), Turn::Rest(0));
        assert_eq!(turn(0, &[Elsewhere, Out]), Turn::Idle);
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(turn(0, &[Out, Out]), Turn::Nobody);
        assert_eq!(turn(usize::MAX, &[]), Turn::Nobody);
        assert_eq!(turn(9, &[Ready]), Turn::Run(0));
    }
}
