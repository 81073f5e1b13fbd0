//! What it costs to empty a table at once and to give it another size.
//!
//! Both are done to a stopped partition by H_LPAR_HCALL: what the proxy itself takes, some hundred instructions a
//! call, is in the figures.

use realhpt_pseries::{
    abi::{self, Status},
    exchange::{
        bench::{SECTIONS, what},
        word,
    },
    hcall::{self, Failure, Registers},
};

use super::{Job, Measured, passes::WHOLE, result};
use crate::job::Trouble;

/// The tables that this is done with, by number: one with few entries, one with many.
const TABLES: [u64; 2] = [0, 2];

impl Job {
    /// Empties and resizes with each of the tables.
    pub(super) fn resize(&mut self) -> Result<(), Trouble> {
        let order = hcall::lpar_query(self.resizable)?.order;
        for table in TABLES {
            let whole = usize::try_from(table).map_err(|_| Trouble::BadJob)? * SECTIONS + WHOLE;
            self.reset(self.resizable)?;
            let _ = self.section(self.resizable, whole)?;
            self.measured(what::CLEAR_HPT, table, [abi::H_CLEAR_HPT, 0, 0])?;

            let _ = self.section(self.resizable, whole)?;
            for (prepare, commit, order) in [
                (what::PREPARE_LARGER, what::COMMIT_LARGER, order + 1),
                (what::PREPARE_SMALLER, what::COMMIT_SMALLER, order),
            ] {
                self.measured(prepare, table, [abi::H_RESIZE_HPT_PREPARE, 0, order])?;
                self.measured(commit, table, [abi::H_RESIZE_HPT_COMMIT, 0, order])?;
            }

            // The longest commit there is: everything that was carried over has changed since.
            let _ = self.section(self.resizable, whole)?;
            let prepare = [abi::H_RESIZE_HPT_PREPARE, 0, order + 1];
            let _ = self.proxied(prepare)?;
            let _ = self.section(self.resizable, whole)?;
            let commit = [abi::H_RESIZE_HPT_COMMIT, 0, order + 1];
            self.measured(what::COMMIT_CHANGED, table, commit)?;
        }
        Ok(())
    }

    fn measured(&mut self, what: u64, table: u64, call: [u64; 3]) -> Result<(), Trouble> {
        let measured = self.proxied(call)?;
        self.row(what, table, measured)
    }

    /// Makes a call for the partition until it is done.
    fn proxied(&mut self, [token, r4, r5]: [u64; 3]) -> Result<Measured, Trouble> {
        let first = self.window.get(word::OUTPUT) / 8;
        let first = usize::try_from(first).map_err(|_| Trouble::BadJob)?;
        let frame = self.window.base() + 8 * first as u64;
        let mut measured = Measured::default();
        loop {
            let registers: Registers = [token, r4, r5, 0, 0, 0, 0, 0, 0, 0];
            for (number, register) in (first..).zip(registers) {
                self.window.set(number, register);
            }
            let call = [abi::H_LPAR_HCALL, self.resizable, frame, 0];
            // SAFETY: the frame is in the window, of which no one holds anything but atomics.
            let (_, ticks) = unsafe { self.successful(call) }?;
            self.note(token, ticks)?;
            measured.add(0, ticks);
            let registers: Registers =
                core::array::from_fn(|number| self.window.get(first + number));
            match result(token, &registers) {
                Err(failure) if is_unfinished(&failure) => {}
                other => return Ok(other.map(|_| measured)?),
            }
        }
    }
}

/// Whether a call is to be made again.
fn is_unfinished(failure: &Failure) -> bool {
    [
        Status::Continue,
        Status::LongBusyOrder1Msec,
        Status::LongBusyOrder100Msec,
    ]
    .into_iter()
    .any(|status| failure.is(status))
}
