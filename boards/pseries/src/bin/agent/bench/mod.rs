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
mod timed;

use realhpt_pseries::{
    cpu,
    exchange::{
        bench::{MAX_ROWS, ROW_WORDS, SECTIONS, row, what},
        word,
    },
    runtime::Runtime,
    window::Window,
};

use crate::job::{Case, Trouble};

/// The cases.
pub(crate) const CASES: [Case<Job>; 4] = [
    ("bench::calibration", Job::calibration),
    ("bench::hypercalls", Job::hypercalls),
    (
        "bench::hypercalls_with_a_reader",
        Job::hypercalls_with_a_reader,
    ),
    ("bench::passes", Job::passes),
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
}

/// The job's state.
#[derive(Debug)]
pub(crate) struct Job {
    window: Window,
    target: u64,
    partition: realhpt_pseries::hcall::Partition,
    rows: usize,
    /// When the slice began.
    slice: u64,
    longest_read: u64,
    longest_write: u64,
}

impl Job {
    /// The job as the window describes it.
    pub(crate) fn new(runtime: &Runtime, window: Window) -> Self {
        Self {
            window,
            target: window.get(word::TARGET),
            partition: runtime.partition,
            rows: 0,
            slice: 0,
            longest_read: 0,
            longest_write: 0,
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

    /// Everything about each table, and what was longest in all.
    fn passes(&mut self) -> Result<(), Trouble> {
        let sections = self.window.get(word::SECTIONS);
        for table in 0..sections / SECTIONS as u64 {
            self.table(table)?;
        }
        for (what, ticks) in [
            (what::LONGEST_READ, self.longest_read),
            (what::LONGEST_WRITE, self.longest_write),
        ] {
            self.row(
                what,
                0,
                Measured {
                    calls: 1,
                    bytes: 0,
                    ticks,
                },
            )?;
        }
        Ok(())
    }
}
