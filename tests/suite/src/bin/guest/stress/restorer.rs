//! The restorer: writes the table of a partition that never runs again and again, beside all else, and reads it
//! back.
//!
//! What a slot holds after a round follows from the round and the slot alone, so nothing is kept. A reader that
//! stays is told of each round exactly where something was written or removed.

use core::{
    ops::Range,
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use realhpt_pseries::{
    abi::{OpenFlags, ReadFlags},
    hcall::{self, Hpte, hpt_read},
    println,
};
use realhpt_suite::stress::partition::RESTORED;

use super::audit::Audit;
use crate::{
    bench,
    random::Random,
    stream::{Buffer, Records, Sink, decode, sample},
    trouble::{Must as _, Outcome, holds, same},
};

static READ: Buffer = Buffer::new();
static WRITE: Buffer = Buffer::new();

/// Slots of the table.
const SLOTS: u64 = 1 << 14;
/// Slots that are written from one buffer.
const BATCH: u64 = 2048;
/// Rounds after which the table is reset.
const RESET: u64 = 8;
/// More calls than a pass takes.
const CALLS: u64 = 1 << 16;

/// What the controller sees of it.
pub(crate) static ROUNDS: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
/// The line where something was not as it must be.
static LINE: AtomicU64 = AtomicU64::new(0);

/// Tells it to end after the round it is in.
pub(crate) fn stop() {
    STOP.store(1, Release);
}

/// Whether it has ended, and if so the line of its trouble, or 0.
pub(crate) fn ended() -> Option<u64> {
    (ENDED.load(Acquire) != 0).then(|| LINE.load(Relaxed))
}

/// The program of the vCPU.
pub(crate) fn main(seed: u64) {
    if let Err(trouble) = run(seed) {
        println!("restorer: {trouble} ({})", trouble.place());
        LINE.store(trouble.line(), Relaxed);
    }
    ENDED.store(1, Release);
}

/// What a slot holds after a round: about half of them an entry, in runs; the same as before or another.
fn content(round: u64, slot: u64) -> Option<Hpte> {
    if round == 0 {
        return None;
    }
    // What a piece of 16 slots holds is made in one of the last four rounds.
    let piece = slot / 16;
    let made = round - (round + piece) % round.min(4);
    let bits = (made << 32 | piece).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    let present = match bits % 4 {
        0 => 0,
        1 => 0xffff,
        _ => bits >> 8,
    };
    let (dw0, dw1) = sample(slot);
    (present >> (slot % 16) & 1 != 0).then_some((dw0 ^ (made & 0xff) << 40, dw1))
}

fn run(seed: u64) -> Outcome {
    let mut random = Random(seed ^ 0x5e70_5e70_5e70_5e70 | 1);
    let memory = bench::query(RESTORED)?.memory;
    let mut round = 0;
    let mut reader = open(OpenFlags::empty())?;
    read(reader, 0..0, 0, &mut random)?;
    while STOP.load(Acquire) == 0 {
        round += 1;
        write(round, &mut random)?;
        read(reader, round - 1..round, round, &mut random)?;
        if random.once_in(3) {
            let fresh = open(OpenFlags::empty())?;
            read(fresh, 0..round, round, &mut random)?;
            hcall::hpt_close(fresh).must("close")?;
        }
        let mut audit = Audit::new(RESTORED, memory, false);
        for slot in (random.below(8)..SLOTS).step_by(8) {
            audit.slot(slot, content(round, slot).unwrap_or((0, 0)))?;
        }
        ROUNDS.fetch_add(1, Relaxed);
        if round == RESET {
            hcall::lpar_reset(RESTORED).must("reset")?;
            hcall::hpt_close(reader).must("close")?;
            round = 0;
            reader = open(OpenFlags::empty())?;
            read(reader, 0..0, 0, &mut random)?;
        }
    }
    Ok(())
}

fn open(flags: OpenFlags) -> Outcome<u64> {
    Ok(hcall::hpt_open(RESTORED, flags, 0).must("open")?.handle)
}

/// Writes what the table holds after a round.
fn write(round: u64, random: &mut Random) -> Outcome {
    let writer = open(OpenFlags::WRITE)?;
    let mut slot = 0;
    while slot < SLOTS {
        let end = slot + BATCH;
        let mut records = Records::within(&WRITE);
        while slot < end {
            let run = |from: u64, wanted: bool| {
                let run = (from..end).take_while(|&slot| content(round, slot).is_some() == wanted);
                run.count() as u64
            };
            let valid = run(slot, true);
            let invalid = run(slot + valid, false);
            records.header(slot, valid, invalid);
            for (dw0, dw1) in (slot..slot + valid).filter_map(|slot| content(round, slot)) {
                records.word(dw0);
                records.word(dw1);
            }
            slot += valid + invalid;
        }
        records.write_all(writer, 64 + random.below(8000) * 8)?;
    }
    hcall::hpt_close(writer).must("close")
}

/// What a pass says, against what the table holds.
struct Check {
    round: u64,
    /// The last slot that was spoken of, and how many.
    next: u64,
    spoken: u64,
    /// Slots that have another content than after this round, and how many of them were spoken of.
    before: u64,
    changed: u64,
}

impl Sink for Check {
    fn record(&mut self, slots: Range<u64>) -> Outcome {
        holds("order of records", slots.start, slots.start >= self.next)?;
        self.next = slots.end;
        holds("end of a record", slots.end, slots.end <= SLOTS)
    }

    fn slot(&mut self, number: u64, entry: Option<Hpte>) -> Outcome {
        let expected = content(self.round, number);
        let (dw0, dw1) = expected.unwrap_or((0, 0));
        let (found_dw0, found_dw1) = entry.unwrap_or((0, 0));
        same("restored dword 0", dw0, found_dw0)?;
        same("restored dword 1", dw1, found_dw1)?;
        self.spoken += 1;
        self.changed += u64::from(content(self.before, number) != expected);
        Ok(())
    }
}

/// Reads the pass of a reader that knows the table as after the first of `rounds`, when it is as after `now`: each
/// slot that has changed comes once.
fn read(handle: u64, rounds: Range<u64>, now: u64, random: &mut Random) -> Outcome {
    let mut check = Check {
        round: now,
        next: 0,
        spoken: 0,
        before: rounds.start,
        changed: 0,
    };
    let mut calls = 0;
    loop {
        holds("calls of a pass", calls, calls < CALLS)?;
        calls += 1;
        let size = READ.bytes().min(24 + random.below(4096) * 8);
        // SAFETY: the buffer is there to be written.
        let piece = unsafe { hpt_read(handle, READ.address(), size) }.must("read")?;
        decode(&READ, piece.bytes, &mut check)?;
        if piece.flags.contains(ReadFlags::END_OF_PASS) {
            same("pending after a pass", 0, piece.pending)?;
            break;
        }
    }
    let changed = (0..SLOTS).filter(|&slot| content(check.before, slot) != content(now, slot));
    same("slots that changed", changed.count() as u64, check.changed)
}
