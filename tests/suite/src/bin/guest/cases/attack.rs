//! Partitions with several vCPUs that mean harm, and memory that changes while the hypervisor looks at it.
//!
//! What comes of it shows in the hypervisor's own books: no real entry leads out of its partition's memory
//! ([`Inside`]); and in the others, who go on and have all that is theirs.

use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use realhpt_pseries::{
    abi::{Flags, H_ENTER, H_PROTECT, H_REMOVE, OpenFlags, State, Status},
    cpu::{self, Msr, TICKS_PER_MS, timebase},
    hcall::{self, hcall},
    mmu::pte::{BasePage, PP_READ_ONLY, PP_READ_WRITE, Page, R_N, SegmentSize, V_LARGE, V_VALID},
    vcpu,
};
use realhpt_suite::{
    job, order,
    partition::{CLIENT, CROWD, EMPTY},
    raw::LOOK,
    region,
};

use crate::{
    attack,
    bench::{Bench, PATIENCE, POOL, query},
    code::{self, mfspr, mtspr},
    random::Random,
    registers::State as Registers,
    stream::{READ, Records, WRITE, is_sample_table, read_pass, restore_samples},
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// Dword 0 of a real entry: no memory behind it.
const ABSENT: u64 = 0x20;
/// Dword 1: the page's number.
const RPN: u64 = 0x01ff_ffff_ffff_f000;

/// What is known of a partition's memory: every real entry of its table leads to the page that its guest view names,
/// in one of these regions, and to nothing else: host and guest address of a region are as far apart for each entry.
struct Inside {
    lpar: u64,
    regions: &'static [region::Region],
    apart: [Option<u64>; region::ALL.len()],
}

impl Inside {
    const fn new(lpar: u64, regions: &'static [region::Region]) -> Self {
        Self {
            lpar,
            regions,
            apart: [None; region::ALL.len()],
        }
    }

    /// Looks at these slots; how many valid entries there are.
    fn slots(&mut self, slots: Range<u64>) -> Outcome<u64> {
        let mut valid = 0;
        for slot in slots {
            let mut registers = [LOOK, self.lpar, slot, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: it only looks.
            unsafe { hcall(&mut registers) };
            let [status, dw0, dw1, view, ..] = registers;
            same("status of the look", 0, status)?;
            if dw0 & V_VALID == 0 {
                same("page of an entry that is not valid", 0, dw1 & RPN)?;
                continue;
            }
            same("absent and valid", 0, dw0 & ABSENT)?;
            valid += 1;
            let bytes = if dw0 & V_LARGE == 0 {
                Page::K4.size()
            } else if dw1 & 0x7000 == 0x7000 || dw1 & 0xf000 == 0x1000 {
                Page::K64.size()
            } else {
                Page::M16.size()
            };
            let page = view & 0x0fff_ffff_ffff_f000 & !(bytes - 1);
            let mut all = self.regions.iter().zip(&mut self.apart);
            let found =
                all.find(|((base, size, _), _)| *base <= page && page + bytes <= base + size);
            let (_, known) = found.must("a region that the page is in")?;
            let apart = (dw1 & RPN & !(bytes - 1)).wrapping_sub(page);
            let known = *known.get_or_insert(apart);
            same("host and guest address apart", known, apart)?;
        }
        Ok(valid)
    }
}

/// Looks at the whole table of the crowd.
fn crowd_stays_inside() -> Outcome<u64> {
    let slots = 1 << (query(CROWD)?.order - 4);
    Inside::new(CROWD, &region::ALL).slots(0..slots)
}

/// Dword 0 of an entry that no segment of anybody's leads to, but for its flags.
const NOBODY: u64 = 0x77_7777 << 12;
/// Memory of a partition that has one region.
static ONE: [region::Region; 1] = [region::FIRST];

pub(crate) fn every_page_size_everywhere(bench: &mut Bench<'_>) -> Outcome {
    bench.run(CROWD, job::REACH)
}

/// Five vCPUs of two partitions on fewer CPUs, each with patterns of its own.
pub(crate) fn everything_is_ones_own(bench: &mut Bench<'_>) -> Outcome {
    bench.start(CROWD, job::with(job::CROWD_KEEP_EVERYTHING, 1, 0))?;
    for round in 0..64 {
        attack::keep::everything(0x77_0000 + round)?;
        // Out of guest state and back, by a kick.
        if hcall::lpar_pause(CROWD).is_ok() && query(CROWD)?.is(State::Paused) {
            hcall::lpar_resume(CROWD).must("resume")?;
        }
        if query(CROWD)?.is(State::Halted) {
            return same("exit code of the crowd", 0, bench.wait(CROWD)?);
        }
    }
    holds("rounds without an end of the crowd", 64, false)
}

/// Every interrupt that the hypervisor gives a guest, whatever it came from: all registers are as they were, and DAR
/// and DSISR are the guest's own unless the interrupt sets them.
pub(crate) fn what_an_interrupt_shows(bench: &mut Bench<'_>) -> Outcome {
    const LOAD: u32 = 0xe8a6_0000;
    const STORE: u32 = 0xf8a6_0000;
    let hole = bench.segment(SegmentSize::M256, BasePage::K4)?.base + 0x4560;
    let read_only = bench.page(Page::K4, PP_READ_ONLY | R_N)?.ea;
    let nothing = bench.segment(SegmentSize::M256, BasePage::K4)?;
    let memory = bench.runtime.partition.memory;
    bench.map(&nothing, nothing.base, Page::K4, (memory, PP_READ_WRITE))?;
    let data = [
        (LOAD, hole, 0x300),
        (STORE, hole, 0x300),
        (STORE, read_only, 0x300),
        (LOAD, nothing.base, 0x300),
        (LOAD, 0x7_1234_5678, 0x380),
    ];
    // No instruction; doze or stop; a message; LPCR, read and written; tlbie; hrfid; a trap.
    let words = [
        0,
        0x4c00_0324,
        0x4c00_02e4,
        0x7c00_191c,
        mfspr(318),
        mtspr(318),
        0x7c00_1a64,
        0x4c00_0224,
        0x7fe0_0008,
    ];
    let fetches = [hole, read_only, nothing.base, 0x7_1234_5678];
    let mut seed = 0x1919;
    for msr in [Msr::TRANSLATED, Msr::PROBLEM] {
        let mut interrupt = |at: u64, r6: Option<u64>| {
            seed += 1;
            let mut state = Registers::pattern(seed);
            if let (Some(value), Some(place)) = (r6, state.gprs.get_mut(6)) {
                *place = value;
            }
            state.interrupt_at(at, msr, [seed << 32, seed])
        };
        for (word, ea, vector) in data {
            let fault = interrupt(code::place(&[word]), Some(ea))?;
            same("vector", vector, fault.vector)?;
            same("DAR", ea, fault.dar)?;
        }
        for word in words {
            let fault = interrupt(code::place(&[word]), None)?;
            same("vector", 0x700, fault.vector)?;
            same("DAR that nobody set", fault.dar >> 32, fault.dsisr)?;
            same("HV in SRR1", 0, fault.srr1 & 1 << 60)?;
        }
        for ea in fetches {
            let fault = interrupt(ea & !3, None)?;
            holds(
                "vector",
                fault.vector,
                fault.vector == 0x400 || fault.vector == 0x480,
            )?;
            same("SRR0", ea & !3, fault.srr0)?;
            same("DAR that nobody set", fault.dar >> 32, fault.dsisr)?;
        }
    }
    Ok(())
}

/// Words that another vCPU changes, and how far it is: 0 it is to stop, 1 it is to go on.
static CHANGED: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static CHANGING: AtomicU64 = AtomicU64::new(0);
/// Where the words that are changed stand, and how many.
static PLACE: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A word of a frame: a token, a flag, a slot, half an entry.
fn of_a_frame(random: &mut Random, _: u64) -> u64 {
    let small = Page::K4.dword_1(POOL, PP_READ_WRITE);
    let all = [
        V_VALID | NOBODY,
        V_VALID | V_LARGE | NOBODY,
        V_VALID | V_LARGE | (NOBODY + (1 << 12)),
        0,
        small,
        small + 0x3000_0000,
        small | 0x7000,
        Page::M16In4K.dword_1(0x3ff_0000, PP_READ_WRITE),
        Page::M16.dword_1(0x400_0000, PP_READ_WRITE),
        0x2000_0000 | PP_READ_WRITE,
        H_ENTER,
        H_PROTECT,
        H_REMOVE,
        Flags::EXACT.bits(),
        11,
        u64::MAX,
    ];
    one_of(random, &all)
}

/// A word of a record of which most entries are good ones, whichever halves meet: the header, and then dword 0 and
/// dword 1 in turn.
fn of_a_record(random: &mut Random, number: u64) -> u64 {
    let large = Page::K64In4K.dword_1(POOL, PP_READ_WRITE);
    if random.once_in(256) {
        return of_a_frame(random, number);
    }
    match number {
        0 => one_of(
            random,
            &[
                8 << 32 | 16 << 16 | 4,
                8 << 32 | 15 << 16,
                9 << 32 | 16 << 16 | 9,
            ],
        ),
        number if number & 1 == 1 => {
            one_of(random, &[V_VALID | NOBODY, V_VALID | V_LARGE | NOBODY])
        }
        _ => one_of(
            random,
            &[
                large,
                large + 0x10_0000,
                large + 0x2000_0000,
                large + 0x3ff_0000 - POOL,
            ],
        ),
    }
}

fn one_of(random: &mut Random, all: &[u64]) -> u64 {
    let number = random.below(all.len() as u64);
    let word = usize::try_from(number)
        .ok()
        .and_then(|number| all.get(number));
    word.copied().unwrap_or(0)
}

/// What the other vCPU does.
fn change(seed: u64) {
    let mut random = Random(seed);
    let (place, count) = (PLACE.load(Relaxed), COUNT.load(Relaxed));
    while CHANGING.load(Relaxed) == 1 {
        let number = random.below(count);
        let word = if place == WRITE.address() {
            of_a_record(&mut random, number)
        } else {
            of_a_frame(&mut random, number)
        };
        crate::bench::store(place + 8 * number, word);
    }
    CHANGING.store(2, Relaxed);
}

/// Does something while another vCPU changes `count` doublewords at `place`.
fn while_it_changes(place: u64, count: u64, mut act: impl FnMut() -> Outcome) -> Outcome {
    PLACE.store(place, Relaxed);
    COUNT.store(count, Relaxed);
    CHANGING.store(1, Relaxed);
    let begin = timebase();
    loop {
        // SAFETY: it changes what is only read by hypercalls, which copy it.
        match unsafe { vcpu::start(1, change, 0x5eed) } {
            Err(failure) if failure.is(Status::Busy) && timebase() - begin < PATIENCE => {}
            result => break result.must("start of a vCPU")?,
        }
    }
    let begin = timebase();
    let mut went = Ok(());
    while went.is_ok() && timebase() - begin < 60 * TICKS_PER_MS {
        went = act();
    }
    CHANGING.store(0, Relaxed);
    let begin = timebase();
    while CHANGING.load(Relaxed) != 2 {
        holds("time it takes", begin, timebase() - begin < PATIENCE)?;
        cpu::cede(TICKS_PER_MS);
    }
    went
}

/// The frame of a call by proxy: what is checked is what is done.
pub(crate) fn a_frame_that_changes(_: &mut Bench<'_>) -> Outcome {
    let frame = (&raw const CHANGED).expose_provenance() as u64;
    let mut inside = Inside::new(EMPTY, &ONE);
    let mut entered = 0;
    while_it_changes(frame, 5, || {
        // Some of the calls are good ones.
        for (word, value) in CHANGED
            .iter()
            .zip([H_ENTER, 0, 8, V_VALID | NOBODY, 0x12 | POOL])
        {
            word.store(value, Relaxed);
        }
        // SAFETY: the frame is the case's.
        unsafe { hcall::lpar_hcall(EMPTY, frame) }.must("a call by proxy")?;
        entered += inside.slots(8..16)?;
        Ok(())
    })?;
    holds("entries", entered, entered > 0)?;
    inside.slots(0..1 << (order::FIRST - 4)).map(drop)
}

/// The records of a write.
pub(crate) fn a_buffer_that_changes_while_it_is_written(bench: &mut Bench<'_>) -> Outcome {
    let writer = |bench: &mut Bench<'_>| bench.open(EMPTY, OpenFlags::WRITE, 0).must("open");
    let mut handle = writer(bench)?.handle;
    let mut records = Records::new();
    records.record(
        8,
        (0..16_u32).map(|number| {
            let ra = POOL + u64::from(number << 12);
            (V_VALID | NOBODY, Page::K4.dword_1(ra, PP_READ_WRITE))
        }),
        4,
    );
    let mut inside = Inside::new(EMPTY, &ONE);
    let (mut taken, mut entered) = (0, 0);
    while_it_changes(WRITE.address(), records.bytes() / 8, || {
        let bytes = records.bytes();
        match hcall::hpt_write(handle, WRITE.address(), bytes) {
            Ok(consumed) => {
                holds(
                    "bytes consumed",
                    consumed,
                    consumed <= bytes && consumed % 8 == 0,
                )?;
                taken += consumed;
            }
            Err(failure) => refused("a write", Status::Parameter, Err::<(), _>(failure))?,
        }
        // Records as wild as these end anywhere.
        let _ = bench.close(handle);
        handle = writer(bench)?.handle;
        entered += inside.slots(8..32)?;
        Ok(())
    })?;
    holds("bytes that were taken", taken, taken > 0)?;
    holds("entries", entered, entered > 0)
}

/// What is read does not depend on what stands where it is put.
pub(crate) fn a_buffer_that_changes_while_it_is_read(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(EMPTY)?;
    let other = bench
        .open(EMPTY, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    while_it_changes(READ.address(), 512, || {
        let reader = bench
            .open(EMPTY, OpenFlags::empty(), 0)
            .must("open")?
            .handle;
        let mut calls = 0;
        loop {
            // SAFETY: the buffer is there to be written.
            let piece = unsafe { hcall::hpt_read(reader, READ.address(), 4096) }.must("read")?;
            holds("bytes", piece.bytes, piece.bytes <= 4096)?;
            calls += 1;
            holds("calls", calls, calls < 1000)?;
            if piece.flags.bits() & 1 != 0 {
                same("pending", 0, piece.pending)?;
                break;
            }
        }
        bench.close(reader).must("close")
    })?;
    is_sample_table(&read_pass(other, READ.bytes())?)
}

/// How long a storm lasts, in milliseconds.
const STORM: u64 = 150;

/// Lets the crowd storm while it is read, called for, paused and resumed, and once while it is reset and started anew.
/// A second partition goes on meanwhile, and has what is its own.
fn weather(bench: &mut Bench<'_>, storm: u64) -> Outcome {
    let mut random = Random(storm);
    bench.start(CROWD, storm)?;
    bench.start(CLIENT, job::with(job::CROWD_KEEP_EVERYTHING, 3, 0))?;
    let begin = timebase();
    while query(CROWD)?.is(State::Running) {
        holds("time a storm takes", begin, timebase() - begin < PATIENCE)?;
        // It may replace its table at any time, and the reader is at its end.
        if let Ok(stream) = bench.open(CROWD, OpenFlags::empty(), 0) {
            for _ in 0..random.below(8) {
                // SAFETY: the buffer is there to be written.
                let piece = unsafe { hcall::hpt_read(stream.handle, READ.address(), 4096) };
                match piece {
                    Ok(piece) => holds("bytes", piece.bytes, piece.bytes <= 4096)?,
                    // At this moment it is replacing its table.
                    Err(failure) if failure.is(Status::Busy) => {}
                    Err(failure) => {
                        refused("a read", Status::Closed, Err::<(), _>(failure))?;
                    }
                }
            }
            let _ = bench.close(stream.handle);
        }
        cpu::cede(random.below(16) * TICKS_PER_MS);
        // It may have ended.
        if hcall::lpar_pause(CROWD).is_ok() && query(CROWD)?.is(State::Paused) {
            // A quarter of a million instructions: more than the storm has for itself.
            if random.once_in(16) {
                crowd_stays_inside()?;
            }
            hcall::lpar_resume(CROWD).must("resume")?;
        }
    }
    same("exit code of the crowd", 0, bench.wait(CROWD)?)?;
    crowd_stays_inside()?;
    hcall::lpar_reset(CROWD).must("reset")?;
    bench.start(CROWD, storm)?;
    cpu::cede(random.below(20) * TICKS_PER_MS);
    hcall::lpar_pause(CROWD).must("pause")?;
    hcall::lpar_reset(CROWD).must("reset")?;
    same("entries after a reset", 0, crowd_stays_inside()?)?;
    same("exit code of the client", 0, bench.wait(CLIENT)?)?;
    bench.run(CROWD, job::END)
}

pub(crate) fn a_storm_of_calls(bench: &mut Bench<'_>) -> Outcome {
    weather(bench, job::with(job::CROWD_STORM, 7, STORM))
}

/// All entries may go but those of real mode.
pub(crate) fn a_storm_in_real_mode(bench: &mut Bench<'_>) -> Outcome {
    weather(bench, job::with(job::CROWD_WILD_STORM, 8, STORM))
}

/// The partition ends well, and the log has not heard of each start (`tests/on_target.rs` counts).
pub(crate) fn a_first_vcpu_that_is_started_again(bench: &mut Bench<'_>) -> Outcome {
    bench.run(CROWD, job::with(job::CROWD_RESTART, 0, 0))
}

/// It is told to come again later: what it writes is no more than the log can take beside all else.
pub(crate) fn a_terminal_that_never_stops(bench: &mut Bench<'_>) -> Outcome {
    bench.run(CROWD, job::with(job::CROWD_FLOOD, 0, 0))
}

/// All vCPUs of a partition execute random words. It comes last: nothing is left of the program.
pub(crate) fn a_storm_of_instructions(bench: &mut Bench<'_>) -> Outcome {
    bench.start(CROWD, job::with(job::CROWD_RANDOM, 5, 0))?;
    bench.run(CLIENT, job::with(job::CROWD_KEEP_EVERYTHING, 4, 0))?;
    hcall::lpar_pause(CROWD).must("pause")?;
    let state = query(CROWD)?;
    holds(
        "state",
        state.state,
        state.is(State::Paused) || state.is(State::Halted),
    )?;
    crowd_stays_inside()?;
    hcall::lpar_reset(CROWD).must("reset")
}
