//! The controller: reads the workers' table while they work, and sees that all agree when they stand still.
//!
//! Four readers are open, each with a first pass, a filter and a pace of its own. One reads whole passes with a large
//! buffer. The others, opened one after the other while the workers are at it, read a few pieces at a time, so that
//! pauses come in the middle of their passes: one with a small buffer, one the bolted entries alone with the smallest
//! buffer that there may be, and one that is opened anew after each pause, wherever it may begin.
//!
//! At a pause each of them makes its lap, and all four copies must be equal, as far as each shows it; another first pass
//! must be, and what the hypervisor keeps. Then a part of the table is rewritten to what it is, sometimes removed first,
//! and the workers go on without having noticed. When they stand still by themselves the copies must also be what they
//! know.

use core::{
    fmt::Write as _,
    sync::atomic::{Ordering::Relaxed, Ordering::SeqCst, fence},
};

use realhpt_pseries::{
    abi::{MIN_READ_BUFFER, OpenFlags, State},
    cpu::{TICKS_PER_MS, timebase},
    hcall::{self, Hpte, MANIFEST_ENTRY},
    mmu::pte::V_VALID,
    println, report, vcpu,
};
use realhpt_suite::stress::{case, partition::WORKERS};

use super::{
    Job, Known,
    audit::Audit,
    copy::{Copy, Reader, View},
    pages, published, restorer, word,
    worker::DEEDS,
};
use crate::{
    bench,
    random::Random,
    stream::{Records, WRITE},
    trouble::{Must as _, Outcome, Trouble, same},
};

/// How long the workers run between two pauses, at most.
const INTERVAL: u64 = 40 * TICKS_PER_MS;
/// How many pieces of a reader are read at a time, at most.
const PIECES: u64 = 8;
/// Whole passes of the first reader, after which the others are opened one after the other.
const PASSES: u64 = 3;

/// The whole table, with as large a buffer as there is.
const WHOLE: View = View {
    flags: OpenFlags::empty(),
    start: 0,
    size: u64::MAX,
};
/// The same in small pieces.
const SMALL: View = View { size: 408, ..WHOLE };
/// The bolted entries alone, in the smallest ones.
const BOLTED: View = View {
    flags: OpenFlags::BOLTED_ONLY,
    size: MIN_READ_BUFFER,
    ..WHOLE
};
/// Bytes of the last reader's buffer, at most.
const LATE: u64 = 4096;

/// A line of the log.
macro_rules! note {
    ($($text:tt)*) => {{
        let mut line = heapless::String::<{ report::TEXT }>::new();
        // What does not fit is left out.
        let _ = write!(line, $($text)*);
        report::note(&line);
    }};
}

/// How the cases went that the controller itself decides.
#[derive(Debug)]
struct Verdicts {
    readers: Outcome,
    table: Outcome,
}

/// How many readers there are beside the first.
const OTHERS: usize = 3;

struct Controller<'j> {
    job: &'j Job,
    random: Random,
    large: Reader,
    /// The others, as far as they are open; the last one is opened anew after each pause.
    others: [Option<Reader>; OTHERS],
    fresh: Copy,
    audit: Audit,
    verdicts: Verdicts,
    pauses: u64,
    rewritten: u64,
    /// How often the last reader made a lap before a pause.
    reopened: u64,
}

/// The program.
pub(crate) fn main(job: &Job) -> u64 {
    report::plan(case::ALL.len() as u64);
    let (each, rounds) = job.rounds();
    note!(
        "stress: seed {:#x}, {} operations by each of 4 vCPUs in {rounds} rounds",
        job.seed,
        each * rounds
    );
    match Controller::new(job) {
        Ok(mut controller) => {
            let workers = controller.run();
            controller.summary();
            decide(case::WORKERS, &workers);
            decide(case::READERS, &controller.verdicts.readers);
            decide(case::TABLE, &controller.verdicts.table);
        }
        Err(trouble) => {
            for name in [case::WORKERS, case::READERS, case::TABLE] {
                decide(name, &Err(trouble));
            }
        }
    }
    restorer::stop();
    let line = loop {
        if let Some(line) = restorer::ended() {
            break line;
        }
        let _ = hcall::confer(u64::MAX);
    };
    let restored = restorer::ROUNDS.load(Relaxed);
    note!("stress: {restored} tables restored meanwhile");
    if line == 0 && restored > 0 {
        report::passed(case::RESTORER);
    } else {
        report::failed(case::RESTORER, line);
    }
    report::end();
    0
}

/// Reports a case.
fn decide(name: &str, outcome: &Outcome) {
    match outcome {
        Ok(()) => report::passed(name),
        Err(trouble) => {
            note!("{trouble}");
            println!("{name}: {trouble} ({})", trouble.place());
            report::failed(name, trouble.line());
        }
    }
}

impl<'j> Controller<'j> {
    /// Starts the workers and the restorer.
    fn new(job: &'j Job) -> Outcome<Self> {
        let partition = bench::query(WORKERS)?;
        let slots = 1 << (partition.order - 4);
        let copy = |number| Copy::new(job.window, number, slots);
        // SAFETY: the restorer works on buffers of its own.
        unsafe { vcpu::start(1, restorer::main, job.seed) }.must("start of the restorer")?;
        let large = Reader::open(WORKERS, copy(0), WHOLE)?;
        hcall::lpar_start(WORKERS, MANIFEST_ENTRY, 0).must("start")?;
        Ok(Self {
            job,
            random: Random(job.seed | 1),
            large,
            others: [const { None }; OTHERS],
            fresh: copy(1 + OTHERS),
            audit: Audit::new(WORKERS, partition.memory, true),
            verdicts: Verdicts {
                readers: Ok(()),
                table: Ok(()),
            },
            pauses: 0,
            rewritten: 0,
            reopened: 0,
        })
    }

    /// Reads until the workers have ended, or something is not as it must be; how the workers ended.
    fn run(&mut self) -> Outcome {
        let mut answered = 0;
        let mut last = timebase();
        let (_, rounds) = self.job.rounds();
        while bench::query(WORKERS)?.is(State::Running) {
            self.read()?;
            let round = self.job.window.get(word::ROUNDS);
            if round > answered {
                fence(SeqCst);
                self.pause(true)?;
                answered = round;
                note!("stress: round {round} of {rounds}, {} pauses", self.pauses);
                self.job.window.set(word::ANSWERED, answered);
            } else if timebase() - last > INTERVAL {
                self.pause(false)?;
            } else {
                continue;
            }
            if !self.all_agree() {
                return Err(Trouble::broken_off());
            }
            last = timebase();
        }
        let partition = bench::query(WORKERS)?;
        same("exit code of the workers", 0, partition.exit_code)?;
        same("state in the end", State::Halted as u64, partition.state)?;
        self.pause(true)?;
        if !self.all_agree() {
            return Err(Trouble::broken_off());
        }
        same("rounds", rounds, answered)
    }

    /// Reads on, beside the workers.
    fn read(&mut self) -> Outcome {
        let result = self.try_read();
        if let Err(trouble) = result {
            self.verdicts.readers = Err(trouble);
        }
        result
    }

    fn try_read(&mut self) -> Outcome {
        self.large.pass()?;
        let slots = self.fresh.slots();
        let late = View {
            flags: if self.random.once_in(2) {
                OpenFlags::BOLTED_ONLY
            } else {
                OpenFlags::empty()
            },
            start: self.random.below(slots),
            size: MIN_READ_BUFFER + self.random.below(LATE),
        };
        let views = [SMALL, BOLTED, late];
        let enough = (1..).map(|number| number * PASSES);
        for ((number, other), (view, enough)) in (1..)
            .zip(&mut self.others)
            .zip(views.into_iter().zip(enough))
        {
            match other {
                Some(other) => {
                    for _ in 0..self.random.below(PIECES) {
                        other.piece()?;
                    }
                }
                None if self.large.passes > enough => {
                    let copy = Copy::new(self.job.window, number, slots);
                    *other = Some(Reader::open(WORKERS, copy, view)?);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Pauses the workers, if they have not ended, compares, rewrites, and lets them go on, unless something does not
    /// agree. `still`: the workers have published what they know.
    fn pause(&mut self, still: bool) -> Outcome {
        hcall::lpar_pause(WORKERS).must("pause")?;
        self.pauses += 1;
        self.verdicts.readers = self.agree(still);
        if self.verdicts.readers.is_ok() {
            self.verdicts.table = self.audit(still);
        }
        if self.all_agree() {
            self.verdicts.readers = self.rewrite();
        }
        if self.all_agree() && bench::query(WORKERS)?.is(State::Paused) {
            hcall::lpar_resume(WORKERS).must("resume")?;
        }
        Ok(())
    }

    const fn all_agree(&self) -> bool {
        self.verdicts.readers.is_ok() && self.verdicts.table.is_ok()
    }

    /// All copies are equal, and what the workers know.
    fn agree(&mut self, still: bool) -> Outcome {
        self.large.settle()?;
        let copy = self.large.copy;
        for other in self.others.iter_mut().flatten() {
            other.settle()?;
            other.agrees(&copy)?;
        }
        let stat = hcall::hpt_stat(WORKERS).must("statistics")?;
        same("pending for all after their laps", 0, stat.pending)?;
        // Its slot is the next one's.
        let [.., last] = &mut self.others;
        if let Some(last) = last.take() {
            self.reopened += 1;
            last.close()?;
        }
        self.fresh.forget();
        let mut fresh = Reader::open(WORKERS, self.fresh, WHOLE)?;
        let piece = fresh.pass()?;
        same("pending after a first pass", 0, piece.pending)?;
        fresh.copy.same(&copy)?;
        fresh.close()?;
        if !still {
            return Ok(());
        }
        let mut known = 0;
        for Known { entry, exact } in published(&self.job.window) {
            let mask = if exact { !0 } else { !pages::RC };
            let (dw0, dw1) = copy.get(entry.ptex);
            same("dword 0 that the workers know", entry.dw0, dw0)?;
            same(
                "dword 1 that the workers know",
                entry.dw1 & mask,
                dw1 & mask,
            )?;
            known += 1;
        }
        let entries = (0..copy.slots()).filter(|&slot| copy.get(slot).0 != 0);
        same("entries", known, entries.count() as u64)
    }

    /// What the hypervisor keeps is what the readers were told: of all slots, or of those that the workers use.
    fn audit(&mut self, all: bool) -> Outcome {
        let copy = self.large.copy;
        if all {
            return (0..copy.slots()).try_for_each(|slot| self.audit.slot(slot, copy.get(slot)));
        }
        (0..pages::SLOTS)
            .map(pages::slot)
            .try_for_each(|slot| self.audit.slot(slot, copy.get(slot)))
    }

    /// Writes some of the slots that the workers use as what they are; sometimes they are made free first. Then the
    /// readers may be told of it at once, or later.
    fn rewrite(&mut self) -> Outcome {
        let copy = self.large.copy;
        let first = pages::slot(self.random.below(pages::SLOTS));
        let end = (first + 1 + self.random.below(160)).min(copy.slots());
        let writer = hcall::hpt_open(WORKERS, OpenFlags::WRITE, 0).must("open to write")?;
        if self.random.once_in(2) {
            let mut records = Records::new();
            records.header(first, 0, end - first);
            records.write_all(writer.handle, WRITE.bytes())?;
        }
        let mut records = Records::new();
        let mut slot = first;
        while slot < end {
            let is_valid = |&slot: &u64| copy.get(slot).0 & V_VALID != 0;
            let valid = (slot..end).take_while(is_valid).count() as u64;
            let from = slot + valid;
            let invalid = (from..end).take_while(|slot| !is_valid(slot)).count() as u64;
            records.header(slot, valid, invalid);
            for slot in slot..from {
                let (dw0, dw1): Hpte = copy.get(slot);
                records.word(dw0);
                records.word(dw1);
            }
            slot = from + invalid;
        }
        records.write_all(writer.handle, 256 + self.random.below(400) * 8)?;
        hcall::hpt_close(writer.handle).must("close")?;
        self.rewritten += end - first;
        if self.random.once_in(3) {
            self.large.settle()?;
            self.large.copy.same(&self.fresh)?;
        }
        Ok(())
    }

    /// What was done, for the log.
    fn summary(&self) {
        const NAMES: [&str; DEEDS] = [
            "entered",
            "found full",
            "protected",
            "removed",
            "read",
            "accessed",
            "faulted",
            "by others' pages",
            "not matching",
        ];
        for (number, name) in (word::DEEDS..).zip(NAMES) {
            note!("stress: {} {name}", self.job.window.get(number));
        }
        let [small, bolted, _] = &self.others;
        let passes = |reader: &Option<Reader>| reader.as_ref().map_or(0, |reader| reader.passes);
        note!(
            "stress: {} pauses, {} slots rewritten, {}, {} and {} passes, {} readers opened anew",
            self.pauses,
            self.rewritten,
            self.large.passes,
            passes(small),
            passes(bolted),
            self.reopened
        );
    }
}
