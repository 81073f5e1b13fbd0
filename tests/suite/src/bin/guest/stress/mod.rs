//! The stress: four vCPUs of one partition at work on a few groups of its table, and others on that table and
//! beside it.
//!
//! | who | does |
//! |---|---|
//! | the workers' four vCPUs ([`worker`]) | enter, protect, remove, read and access at random; know what comes of it |
//! | their first one ([`workers`]) | after each round compares what all know with H_READ and publishes it |
//! | the controller's first vCPU ([`controller`]) | reads the workers' table all the time; pauses them, compares, rewrites |
//! | its second one ([`restorer`]) | writes a third partition's table and reads it back |
//!
//! [`pages`] says which virtual pages there are, [`shadow`] what is known of each; [`copy`] is a table as a reader
//! knows it, [`audit`] compares one with what the hypervisor keeps.
//!
//! Under QEMU a `tlbiel` makes all CPUs forget, as a `tlbie` does. So what this run shows of flushes is that there is
//! one before a call returns; that it reaches everybody is for the host's tests, which record it.
//!
//! # What the partitions agree on
//! They share a window. The host puts the job there; the workers publish in it what they know, as [`SHADOW`], and
//! count [`word::ROUNDS`] up. Then they wait for the controller to count [`word::ANSWERED`] up to it: meanwhile
//! the table stands still, and everything must agree entry by entry.

mod audit;
mod controller;
mod copy;
mod pages;
mod restorer;
mod shadow;
mod worker;
mod workers;

use core::sync::atomic::{Ordering::SeqCst, fence};

use realhpt_pseries::{
    abi::Privileges,
    exchange::word::{FIRST_SECTION, JOB},
    mmu::Entry,
    runtime::Runtime,
    window::Window,
};
use realhpt_suite::stress;

/// Doublewords of the window's header that the partitions use among themselves.
pub(crate) mod word {
    /// Rounds that the workers have done.
    pub(crate) const ROUNDS: usize = 0x1800;
    /// Rounds that the controller is done with.
    pub(crate) const ANSWERED: usize = 0x1801;
    /// How many entries are published.
    pub(crate) const ENTRIES: usize = 0x1802;
    /// How often the workers did what, [`super::worker::DEEDS`] doublewords.
    pub(crate) const DEEDS: usize = 0x1810;
}

/// Doubleword of the window where the published entries stand: [`SHADOW_WORDS`] each: slot, dword 0, dword 1, and
/// whether R and C are known.
const SHADOW: usize = 0x2_0000;
const SHADOW_WORDS: usize = 4;
/// Doublewords of the window where the copies of tables stand, and between two of them.
const COPIES: usize = 0x4_0000;
const COPY: usize = 0x2_0000;

/// What the host asks for.
#[derive(Clone, Copy, Debug)]
struct Job {
    window: Window,
    /// Operations of all workers together.
    operations: u64,
    seed: u64,
}

impl Job {
    /// The job in the window, if it is this one.
    fn of(runtime: &Runtime) -> Option<Self> {
        let window = runtime.window?;
        if window.get(JOB) != stress::JOB {
            return None;
        }
        let parameter = |number: u64| {
            let at = window.get(FIRST_SECTION) / 8 + number;
            usize::try_from(at).map_or(0, |at| window.get(at))
        };
        Some(Self {
            window,
            operations: parameter(stress::parameter::OPERATIONS).max(1),
            seed: parameter(stress::parameter::SEED).max(1),
        })
    }

    /// Operations of each worker in a round, and rounds: at least three.
    const fn rounds(&self) -> (u64, u64) {
        const ROUND: u64 = 5000;
        let each = self.operations.div_ceil(stress::WORKERS as u64);
        let rounds = each.div_ceil(ROUND);
        let rounds = if rounds < 3 { 3 } else { rounds };
        (each.div_ceil(rounds), rounds)
    }
}

/// What is known of a slot: its entry, and whether its R and C are too.
#[derive(Clone, Copy, Debug)]
struct Known {
    entry: Entry,
    exact: bool,
}

/// Puts what is known of the table into the window, and counts the round.
fn publish(window: &Window, known: impl Iterator<Item = Known>, round: u64) {
    let mut count = 0;
    for Known { entry, exact } in known {
        let at = SHADOW + count * SHADOW_WORDS;
        let words = [entry.ptex, entry.dw0, entry.dw1, exact.into()];
        for (number, word) in words.into_iter().enumerate() {
            window.set(at + number, word);
        }
        count += 1;
    }
    window.set(word::ENTRIES, count as u64);
    fence(SeqCst);
    window.set(word::ROUNDS, round);
}

/// What is published.
fn published(window: &Window) -> impl Iterator<Item = Known> {
    let count = usize::try_from(window.get(word::ENTRIES)).unwrap_or(usize::MAX);
    (0..count.min(COPY / SHADOW_WORDS)).map(move |number| {
        let at = SHADOW + number * SHADOW_WORDS;
        let [ptex, dw0, dw1, exact] = [0, 1, 2, 3].map(|number| window.get(at + number));
        Known {
            entry: Entry { ptex, dw0, dw1 },
            exact: exact != 0,
        }
    })
}

/// The program, if the host asks for the stress.
pub(crate) fn main(runtime: &Runtime) -> Option<u64> {
    let job = Job::of(runtime)?;
    let reports = runtime.partition.privileges.contains(Privileges::REPORT);
    Some(if reports {
        controller::main(&job)
    } else {
        workers::main(runtime, job)
    })
}
