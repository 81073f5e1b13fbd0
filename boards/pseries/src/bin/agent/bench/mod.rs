//! The bench: what hypercalls and passes cost, in ticks of the timebase.
//!
//! The measurements stand in the window as rows (`exchange::bench`); the host makes instructions of the
//! ticks and holds them against Linux's.
//!
//! The hypervisor's own tick falls into a measurement only if a slice ends in it: [`Job::whole_slice`]
//! begins a new one when there is not enough left. What is short is measured several times, and the least
//! counts.

mod calls;
mod passes;
mod resize;
mod timed;

use heapless::LinearMap;
use realhpt_pseries::{
    abi::Status,
    cpu,
    exchange::{
        bench::{MAX_ROWS, ROW_WORDS, SECTIONS, row, what},
        word,
    },
    hcall::{Failure, Registers},
    runtime::Runtime,
    window::Window,
};

use crate::job::{Case, Trouble};

/// The cases.
pub(crate) const CASES: [Case<Job>; 6] = [
    ("bench::calibration", Job::calibration),
    ("bench::hypercalls", Job::hypercalls),
    (
        "bench::hypercalls_with_a_reader",
        Job::hypercalls_with_a_reader,
    ),
    ("bench::passes", Job::passes),
    ("bench::resize", Job::resize),
    ("bench::longest", Job::longest),
];

/// A slice is older than this when a new one is begun: less than half of the hypervisor's slice of 10 ms,
/// and no measured piece takes the other half.
const WHOLE: u64 = 4 * cpu::TICKS_PER_MS;

/// One measurement.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    calls: u64,
    bytes: u64,
    ticks: u64,
    longest: u64,
    /// Passes of a reader that these are.
    passes: u64,
}

impl Measured {
    /// Adds a call.
    fn add(&mut self, bytes: u64, ticks: u64) {
        self.calls += 1;
        self.bytes += bytes;
        self.ticks += ticks;
        self.longest = self.longest.max(ticks);
    }
}

/// Hypercalls whose longest is noted.
const TOKENS: usize = 24;

/// The job's state.
#[derive(Debug)]
pub(crate) struct Job {
    window: Window,
    target: u64,
    /// The partition that may resize its table.
    resizable: u64,
    partition: realhpt_pseries::hcall::Partition,
    rows: usize,
    /// When the slice began.
    slice: u64,
    /// Ticks of the longest call by token.
    longest: LinearMap<u64, u64, TOKENS>,
}

impl Job {
    /// The job as the window describes it.
    pub(crate) fn new(runtime: &Runtime, window: Window) -> Self {
        Self {
            window,
            target: window.get(word::TARGET),
            resizable: window.get(word::ARGUMENT),
            partition: runtime.partition,
            rows: 0,
            slice: 0,
            longest: LinearMap::new(),
        }
    }

    /// Begins a slice of the processor, unless there is plenty left of this one.
    fn whole_slice(&mut self) {
        if cpu::timebase().wrapping_sub(self.slice) > WHOLE {
            cpu::cede(cpu::TICKS_PER_MS);
            self.slice = cpu::timebase();
        }
    }

    /// Writes a row.
    fn row(&mut self, what: u64, table: u64, measured: Measured) -> Result<(), Trouble> {
        if self.rows == MAX_ROWS {
            return Err(Trouble::NoRoom);
        }
        let first = word::FIRST_ROW + self.rows * ROW_WORDS;
        for (number, value) in [
            (row::WHAT, what),
            (row::TABLE, table),
            (row::CALLS, measured.calls),
            (row::BYTES, measured.bytes),
            (row::TICKS, measured.ticks),
            (row::LONGEST, measured.longest),
            (row::PASSES, measured.passes),
        ] {
            self.window.set(first + number, value);
        }
        self.rows += 1;
        self.window.set(word::ROWS, self.rows as u64);
        Ok(())
    }

    fn calibration(&mut self) -> Result<(), Trouble> {
        self.slice = 0;
        self.whole_slice();
        let ticks = timed::calibration();
        let measured = Measured {
            ticks,
            ..Measured::default()
        };
        self.row(what::CALIBRATION, 0, measured)
    }

    /// Everything about each table.
    fn passes(&mut self) -> Result<(), Trouble> {
        let sections = self.window.get(word::SECTIONS);
        for table in 0..sections / SECTIONS as u64 {
            self.table(table)?;
        }
        Ok(())
    }

    /// What was longest in all, by call.
    fn longest(&mut self) -> Result<(), Trouble> {
        for (token, ticks) in core::mem::take(&mut self.longest).iter() {
            let mut measured = Measured::default();
            measured.add(0, *ticks);
            self.row(what::LONGEST, *token, measured)?;
        }
        Ok(())
    }

    /// One call, measured by itself: its ticks. `registers` are r3 to r12 as it leaves them.
    ///
    /// # Safety
    /// As [`realhpt_pseries::hcall::hcall`].
    unsafe fn call(&mut self, registers: &mut Registers) -> Result<u64, Trouble> {
        let [token, ..] = *registers;
        self.whole_slice();
        // SAFETY: the caller's.
        let ticks = unsafe { timed::call(registers) };
        self.note(token, ticks)?;
        Ok(ticks)
    }

    /// Notes what one call took.
    fn note(&mut self, token: u64, ticks: u64) -> Result<(), Trouble> {
        let longest = self.longest.get(&token).copied().unwrap_or(0).max(ticks);
        self.longest
            .insert(token, longest)
            .map_err(|_| Trouble::NoRoom)
            .map(drop)
    }

    /// The same for a call that is to succeed: r4 and r5, and its ticks.
    ///
    /// # Safety
    /// As [`realhpt_pseries::hcall::hcall`].
    unsafe fn successful(
        &mut self,
        [r3, r4, r5, r6]: [u64; 4],
    ) -> Result<([u64; 2], u64), Trouble> {
        let mut registers: Registers = [r3, r4, r5, r6, 0, 0, 0, 0, 0, 0];
        // SAFETY: the caller's.
        let ticks = unsafe { self.call(&mut registers) }?;
        Ok((result(r3, &registers)?, ticks))
    }
}

/// What a call with this token left: r4 and r5, if it succeeded.
fn result(token: u64, registers: &Registers) -> Result<[u64; 2], Failure> {
    let [status, first, second, ..] = *registers;
    let detail = [first, second];
    if status == Status::Success.raw() {
        Ok(detail)
    } else {
        Err(Failure {
            call: token,
            status,
            detail,
        })
    }
}
