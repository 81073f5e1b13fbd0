//! Whose turn it is: round robin over the partitions that can run.
//!
//! A partition that ceded its slice gets its turn all the same, since it polls for what it waits for; but
//! when all that can run have ceded, there is time to rest before the next turn.

/// What a partition could do with a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It has work.
    Ready,
    /// It gave up its last slice and waits for something.
    Ceded,
    /// It is stopped, paused or halted.
    Out,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This one's.
    Run(usize),
    /// This one's, but nobody has work: the CPU may rest first.
    Rest(usize),
    /// Nobody can run, and nobody is left who could change that.
    Nobody,
}

/// The turn after that of `last`, which comes last now.
pub fn next(last: usize, partitions: usize, readiness: impl Fn(usize) -> Readiness) -> Turn {
    let in_order = || {
        let after = last.saturating_add(1).min(partitions);
        (after..partitions).chain(0..after)
    };
    let Some(next) = in_order().find(|&index| readiness(index) != Readiness::Out) else {
        return Turn::Nobody;
    };
    if in_order().any(|index| readiness(index) == Readiness::Ready) {
        Turn::Run(next)
    } else {
        Turn::Rest(next)
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness::{Ceded, Out, Ready};
    use super::*;

    fn turn(last: usize, partitions: &[Readiness]) -> Turn {
        next(last, partitions.len(), |index| partitions[index])
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
    fn nobody_is_nobody() {
        assert_eq!(turn(0, &[Out, Out]), Turn::Nobody);
        assert_eq!(turn(usize::MAX, &[]), Turn::Nobody);
        assert_eq!(turn(9, &[Ready]), Turn::Run(0));
    }
}
