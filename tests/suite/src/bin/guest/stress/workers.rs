//! The workers' partition: its four vCPUs go through the rounds together.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

use realhpt_pseries::{
    cpu::{self, TICKS_PER_MS},
    exit, hcall,
    mmu::{Entry, slb},
    println,
    runtime::{FIRST_FREE_SLB, Runtime},
    vcpu,
};
use realhpt_suite::stress::WORKERS;

use super::{
    Job, Known, pages, publish,
    shadow::{self, Shadow},
    word,
    worker::{self, Worker},
};
use crate::{
    bench::store_real,
    trouble::{Must as _, Outcome, Trouble, same},
};

/// What the other vCPUs have to know of the job.
static SEED: AtomicU64 = AtomicU64::new(0);
static EACH: AtomicU64 = AtomicU64::new(0);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
/// How often a worker has come to the end of a part of a round.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// The most entries that the runtime and the VRMA have.
type Others = heapless::Vec<Entry, 32>;

/// The program of the first vCPU.
pub(crate) fn main(runtime: &Runtime, job: Job) -> u64 {
    match run(runtime, &job) {
        Ok(()) => 0,
        Err(trouble) => give_up(0, &trouble),
    }
}

/// Ends the partition: something was not as it must be.
fn give_up(worker: u64, trouble: &Trouble) -> ! {
    println!("worker {worker}: {trouble} ({})", trouble.place());
    exit::exit(trouble.line())
}

/// The program of the other vCPUs.
fn other(number: u64) {
    let mut worker = enter_work(number);
    for round in 1..=ROUNDS.load(Relaxed) {
        if let Err(trouble) = worker.work(round * EACH.load(Relaxed)) {
            give_up(number, &trouble);
        }
        meet(2 * round - 1);
        meet(2 * round);
    }
}

fn enter_work(number: u64) -> Worker {
    for (slot, segment) in (FIRST_FREE_SLB..).zip(pages::segments(number)) {
        // SAFETY: the program has no references to these addresses.
        unsafe { slb::insert(slot, &segment) };
    }
    Worker::new(number, SEED.load(Relaxed))
}

/// Waits until all have come here, to the end of part `part`.
fn meet(part: u64) {
    ARRIVED.fetch_add(1, SeqCst);
    while ARRIVED.load(Acquire) < part * WORKERS as u64 {
        // Whoever is still at work may have no processor.
        let _ = hcall::confer(u64::MAX);
    }
    fence(SeqCst);
}

fn run(runtime: &Runtime, job: &Job) -> Outcome {
    for number in 0..pages::FRAMES {
        let frame = pages::frame(number);
        store_real(frame, pages::identity(number));
        for worker in 0..WORKERS as u64 {
            store_real(frame + pages::own(worker), 0);
        }
    }
    let others = entries_so_far(runtime)?;
    let (each, rounds) = job.rounds();
    SEED.store(job.seed, Relaxed);
    EACH.store(each, Relaxed);
    ROUNDS.store(rounds, Release);
    for number in 1..WORKERS {
        // SAFETY: the workers share atomics alone, and memory that is stored to at places of their own.
        unsafe { vcpu::start(number, other, number as u64) }.must("start of a vCPU")?;
    }
    let mut worker = enter_work(0);
    for round in 1..=rounds {
        worker.work(round * each)?;
        meet(2 * round - 1);
        compare(runtime, &others)?;
        for (number, count) in (word::DEEDS..).zip(worker::deeds()) {
            job.window.set(number, count);
        }
        publish(&job.window, known(&others), round);
        while job.window.get(word::ANSWERED) != round {
            cpu::cede(TICKS_PER_MS);
        }
        fence(SeqCst);
        meet(2 * round);
    }
    Ok(())
}

/// The entries that are there before anybody works: of real mode, the program, the window.
fn entries_so_far(runtime: &Runtime) -> Outcome<Others> {
    let mut entries = Others::new();
    for ptex in 0..runtime.table.slots() {
        let (dw0, dw1) = hcall::read(ptex).must("H_READ")?;
        if dw0 != 0 {
            let entry = Entry { ptex, dw0, dw1 };
            entries
                .push(entry)
                .ok()
                .must("room for the runtime's entries")?;
        }
    }
    Ok(entries)
}

/// What all workers know of the table, and what was there before.
fn known(others: &Others) -> impl Iterator<Item = Known> {
    let all = (0..WORKERS as u64).flat_map(|worker| shadow::of(worker).iter());
    let exact = all
        .filter_map(Shadow::entry)
        .map(|entry| Known { entry, exact: true });
    exact.chain(others.iter().map(|&entry| Known {
        entry,
        exact: false,
    }))
}

/// Compares what is known with what H_READ says of every slot.
fn compare(runtime: &Runtime, others: &Others) -> Outcome {
    let mut found = 0;
    for first in (0..runtime.table.slots()).step_by(4) {
        for (ptex, (dw0, dw1)) in (first..).zip(hcall::read_4(first).must("H_READ of four")?) {
            if dw0 == 0 {
                same("dword 1 of a free slot", 0, dw1)?;
                continue;
            }
            found += 1;
            let mut known = known(others);
            let Known { entry, exact } = known
                .find(|known| known.entry.ptex == ptex)
                .must("an entry that is known")?;
            let mask = if exact { !0 } else { !pages::RC };
            same("dword 0 read in the end", entry.dw0, dw0)?;
            same("dword 1 read in the end", entry.dw1 & mask, dw1 & mask)?;
        }
    }
    same("entries", known(others).count() as u64, found)
}
