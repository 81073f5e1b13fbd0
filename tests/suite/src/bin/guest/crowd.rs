//! The client on several vCPUs: what each of them does for a job.

use core::{
    ptr::{from_ref, with_exposed_provenance},
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, SeqCst},
    },
};

use realhpt_pseries::{
    abi::{H_PUT_TERM_CHAR, LPAR_SELF, OpenFlags, Status},
    cpu::{self, TICKS_PER_MS, timebase},
    exit, hcall,
    mmu::pte::{BasePage, PP_READ_WRITE, Page, SegmentSize},
    println,
    runtime::Runtime,
    vcpu,
};
use realhpt_suite::job;

use crate::{
    attack,
    bench::{Bench, PATIENCE, load, store, store_real, try_load},
    cases::{interrupts::interrupt_after, switches},
    code::{execute, mfspr},
    random::Random,
    trouble::{Must as _, Outcome, faulted, holds, refused, same},
};

/// vCPUs of the crowd.
pub(crate) const VCPUS: usize = 4;
/// How long a vCPU works before it brings about the partition's end.
const A_WHILE: u64 = 8 * TICKS_PER_MS;
/// Rounds in which registers are kept.
const ROUNDS: u64 = 5;
/// Starts of a vCPU by another one.
const STARTS: u64 = 90;
/// Mappings of a page by a vCPU that moves: so many, and until it has moved so often, but not for ever.
const MAPPINGS: u64 = 40;
const MOVES: u64 = 4;
const MOST_MAPPINGS: u64 = 600;
/// The number of the processor.
const PIR: u32 = 1023;

/// vCPUs that are done.
static DONE: AtomicU64 = AtomicU64::new(0);
/// What the relay has come to.
static RELAY: AtomicU64 = AtomicU64::new(0);

/// The program of the first vCPU.
pub(crate) fn main(runtime: &Runtime) -> Outcome {
    if runtime.argument == job::CROWD_RELAY {
        return relay();
    }
    if runtime.argument & job::NUMBER == job::CROWD_RESTART {
        return restart();
    }
    let at = from_ref(runtime).expose_provenance() as u64;
    let mut vcpus = 1;
    for number in 1..VCPUS {
        // SAFETY: `main` does not return while the others run, so the runtime stays; what they do is their own.
        match unsafe { vcpu::start(number, other, at) } {
            // The partition has no more.
            Err(failure) if failure.is(Status::Parameter) => break,
            started => started.must("start of a vCPU")?,
        }
        vcpus += 1;
    }
    work(runtime, 0)?;
    if [job::CROWD_STORM, job::CROWD_WILD_STORM].contains(&(runtime.argument & job::NUMBER)) {
        // It ends while the others are at it.
        return Ok(());
    }
    DONE.fetch_add(1, SeqCst);
    let begin = timebase();
    while DONE.load(Acquire) < vcpus {
        holds("time it takes", begin, timebase() - begin < PATIENCE)?;
        cpu::cede(TICKS_PER_MS);
    }
    Ok(())
}

/// The program of the others.
fn other(runtime: u64) {
    let at = usize::try_from(runtime).unwrap_or_default();
    // SAFETY: `main` gives the address of its runtime, which stays.
    let runtime: &Runtime = unsafe { &*with_exposed_provenance(at) };
    let number = vcpu::current() as u64;
    if let Err(trouble) = work(runtime, number) {
        println!("vCPU {number}: {trouble} ({})", trouble.place());
        exit::exit(trouble.line());
    }
    DONE.fetch_add(1, SeqCst);
}

/// What a vCPU does for the job. What ends the partition is not always the first vCPU's affair.
fn work(runtime: &Runtime, number: u64) -> Outcome {
    let mut bench = Bench::of_vcpu(runtime, number);
    match (runtime.argument, number) {
        (job::CROWD_EXIT, 2) => {
            change_for(&mut bench, A_WHILE)?;
            exit::exit(0x4321)
        }
        (job::CROWD_CRASH, 3) => {
            change_for(&mut bench, A_WHILE)?;
            load(0x7_1234_5678);
            Ok(())
        }
        (job::CROWD_PANIC, 1) => {
            change_for(&mut bench, A_WHILE)?;
            panic!("as it was told")
        }
        (job::CROWD_OPEN, 0) => {
            change_for(&mut bench, A_WHILE)?;
            exit::exit(0)
        }
        (job::CROWD_OPEN, _) => loop {
            // All of them together may want more than there are.
            if let Ok(stream) = hcall::hpt_open(LPAR_SELF, OpenFlags::empty(), 0) {
                hcall::hpt_close(stream.handle).must("close")?;
            }
        },
        (job::CROWD_KEEP, _) => keep(&mut bench, number),
        (argument, _) => match argument & job::NUMBER {
            job::CROWD_STORM => attack::storm::run(runtime, number, false),
            job::CROWD_WILD_STORM => attack::storm::run(runtime, number, true),
            job::CROWD_RANDOM => attack::instructions::run(runtime, number),
            job::CROWD_FLOOD => flood(),
            job::CROWD_KEEP_EVERYTHING => attack::keep::run(runtime, number),
            _ => change_for(&mut bench, u64::MAX),
        },
    }
}

/// Changes the table for so many ticks: enters an entry, uses its page, removes it.
fn change_for(bench: &mut Bench<'_>, ticks: u64) -> Outcome {
    let begin = timebase();
    let segment = bench.segment(SegmentSize::M256, BasePage::K4)?;
    let ra = bench.memory(Page::K4.size())?;
    let table = bench.runtime.table;
    for page in 0.. {
        if timebase() - begin >= ticks {
            break;
        }
        let ea = segment.base + ((page % 64) << 12);
        let to = (ra, PP_READ_WRITE);
        // SAFETY: the program has no references to the bench's segments.
        let entry = unsafe { table.map(&segment, ea, Page::K4, to, 0) }.must("mapping")?;
        store(ea, page);
        same("what was stored", page, load(ea))?;
        entry.remove().must("remove")?;
    }
    Ok(())
}

/// Keeps registers of all kinds, a segment and the decrementer, at the same time as all others.
fn keep(bench: &mut Bench<'_>, number: u64) -> Outcome {
    switches::map_segment(bench)?;
    for round in 0..ROUNDS {
        let seed = 0xc400 + (number << 16) + round;
        switches::keep_registers(seed)?;
        switches::keep_segment(seed)?;
        interrupt_after((1 + number) * TICKS_PER_MS)?;
    }
    Ok(())
}

/// The others start each other in turn, each time one that has stopped; the first vCPU waits for them.
fn relay() -> Outcome {
    start(1, 1)?;
    let begin = timebase();
    while RELAY.load(Acquire) < STARTS {
        let step = RELAY.load(Acquire);
        holds("step of the relay", step, timebase() - begin < PATIENCE)?;
        cpu::cede(TICKS_PER_MS);
    }
    Ok(())
}

/// Starts a vCPU, which may be on its way out.
fn start(number: u64, step: u64) -> Outcome {
    let begin = timebase();
    let index = usize::try_from(number).unwrap_or_default();
    loop {
        // SAFETY: what is started works on atomics alone.
        match unsafe { vcpu::start(index, step_of_relay, step) } {
            Err(failure) if failure.is(Status::Busy) => {
                holds("time it takes", number, timebase() - begin < PATIENCE)?;
            }
            result => return result.must("start of a vCPU"),
        }
    }
}

fn step_of_relay(step: u64) {
    let number = vcpu::current() as u64;
    let next = number % (VCPUS as u64 - 1) + 1;
    let went = same("step of the relay", step - 1, RELAY.swap(step, SeqCst)).and_then(|()| {
        // SAFETY: it is refused.
        let oneself = unsafe { vcpu::start(vcpu::current(), step_of_relay, 0) };
        refused("start of oneself", Status::Busy, oneself)?;
        if step < STARTS {
            start(next, step + 1)
        } else {
            Ok(())
        }
    });
    if let Err(trouble) = went {
        println!("vCPU {number}: {trouble} ({})", trouble.place());
        exit::exit(trouble.line());
    }
}

/// A page is this frame, then nothing, then another, on whatever CPU the vCPU is.
pub(crate) fn move_about(bench: &mut Bench<'_>) -> Outcome {
    let segment = bench.segment(SegmentSize::M256, BasePage::K4)?;
    let frames = [
        bench.memory(Page::K4.size())?,
        bench.memory(Page::K4.size())?,
    ];
    for frame in frames {
        store_real(frame, frame);
    }
    let (mut last, mut moves) = (processor()?, 0);
    let mut random = Random(0x30_7e5);
    let mut give_up_the_turn = || {
        // Each CPU takes the next vCPU in a row, so two of them share an even number between them always in the same way,
        // as long as they are done in the same order. Turns of up to a slice and a half change that order.
        let until = timebase() + random.below(15 * TICKS_PER_MS);
        while timebase() < until {}
        hcall::confer(u64::MAX).must("confer")
    };
    for round in 0..MOST_MAPPINGS {
        if round >= MAPPINGS && moves >= MOVES {
            break;
        }
        let [first, second] = frames;
        let frame = if round % 2 == 0 { first } else { second };
        let to = (frame, PP_READ_WRITE);
        let table = bench.runtime.table;
        // SAFETY: the program has no references to the bench's segments.
        let entry =
            unsafe { table.map(&segment, segment.base, Page::K4, to, 0) }.must("mapping")?;
        same("frame that is mapped", frame, load(segment.base))?;
        give_up_the_turn()?;
        same("frame that is mapped", frame, load(segment.base))?;
        entry.remove().must("remove")?;
        give_up_the_turn()?;
        let fault = faulted("load from nowhere", 0x300, try_load(segment.base))?;
        same("DSISR", 0x4000_0000, fault.dsisr)?;
        let now = processor()?;
        moves += u64::from(now != last);
        last = now;
    }
    holds("moves", moves, moves >= MOVES)
}

/// The processor that the vCPU is on, at this moment.
fn processor() -> Outcome<u64> {
    // SAFETY: it reads a register.
    unsafe { execute(&[mfspr(PIR)], [0, 0], cpu::Msr::TRANSLATED) }.must("PIR")
}

/// How often the first vCPU is started again.
const RESTARTS: u64 = 1000;
/// How often it was.
static RESTARTED: AtomicU64 = AtomicU64::new(0);

/// The first vCPU stops, the second starts it, and so on; the first one's last start ends the partition.
fn restart() -> Outcome {
    // SAFETY: what is started works on atomics alone.
    unsafe { vcpu::start(1, start_the_first, 0) }.must("start of a vCPU")?;
    hcall::vcpu_stop();
    Ok(())
}

fn start_the_first(_: u64) {
    for _ in 0..RESTARTS {
        let number = RESTARTED.load(Acquire);
        // SAFETY: what is started works on atomics alone.
        while unsafe { vcpu::start(0, be_the_first, 0) }.is_err() {
            core::hint::spin_loop();
        }
        while RESTARTED.load(Acquire) == number {
            core::hint::spin_loop();
        }
    }
}

fn be_the_first(_: u64) {
    if RESTARTED.fetch_add(1, SeqCst) == RESTARTS - 1 {
        exit::exit(0);
    }
}

/// Writes eight lines a call until it is refused.
fn flood() -> Outcome {
    const REFUSALS: u64 = 10;
    const CALLS: u64 = 2000;
    const LINES: u64 = 0x610a_620a_630a_640a;
    let mut refusals = 0;
    for _ in 0..CALLS {
        let mut registers = [H_PUT_TERM_CHAR, 0, 16, LINES, LINES, 0, 0, 0, 0, 0];
        // SAFETY: no memory is involved.
        unsafe { hcall::hcall(&mut registers) };
        let [status, ..] = registers;
        if status == Status::Busy.raw() {
            refusals += 1;
        } else {
            same("status", Status::Success.raw(), status)?;
        }
        if refusals == REFUSALS {
            return Ok(());
        }
    }
    holds("refusals", refusals, false)
}
