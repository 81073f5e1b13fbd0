//! The processes, from the first to the closing line.

use core::sync::atomic::Ordering;

use crate::pool::Pool;
use crate::start::Arguments;
use crate::system;
use crate::trouble::{Result, Trouble};
use crate::work::{Worker, ended_well, status};

/// How many processes there are.
const WORKERS: usize = 4;

/// Runs them all and gives the exit status.
pub(crate) fn main(arguments: Arguments) -> i32 {
    let [Some(seconds), seed] = arguments.numbers else {
        system::say(format_args!("usage: hptstress SECONDS [SEED]"));
        return 2;
    };
    status(run(seconds, seed.unwrap_or(1), arguments.page))
}

fn run(seconds: u64, seed: u64, page: usize) -> Result<()> {
    system::say(format_args!(
        "{WORKERS} processes, {seconds} s, pages of {page} bytes, seed {seed}"
    ));
    let pool = Pool::new(page)?;
    let begin = system::seconds();
    let until = begin.saturating_add(seconds);
    let mut children = heapless::Vec::<_, WORKERS>::new();
    // A process's own seed is one of as many from the program's.
    let seeds = (0..).map(|number: u64| seed.wrapping_mul(WORKERS as u64).wrapping_add(number));
    for own in seeds.take(WORKERS) {
        let worker = Worker::new(pool, page, own);
        let child = system::fork(|| status(rounds(worker, pool, until)))?;
        // There is room for all.
        let _ = children.push(child);
    }
    let mut result = Ok(());
    for child in children {
        result = result.and(ended_well(child));
    }
    result?;
    pool.verify()?;
    let common = pool.common;
    system::say(format_args!(
        "{} rounds, {} pages checked in {} s: no wrong byte",
        common.rounds.load(Ordering::Relaxed),
        common.checked.load(Ordering::Relaxed),
        system::seconds() - begin
    ));
    Ok(())
}

/// One process's rounds: at least one.
fn rounds(mut worker: Worker, pool: Pool, until: u64) -> Result<()> {
    let failed = &pool.common.failed;
    loop {
        if let Err(trouble) = worker.round() {
            failed.store(1, Ordering::Relaxed);
            return Err(trouble);
        }
        if failed.load(Ordering::Relaxed) != 0 {
            return Err(Trouble::Child);
        }
        if system::seconds() >= until {
            return Ok(());
        }
    }
}
