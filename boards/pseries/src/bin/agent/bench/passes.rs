//! What a table costs: to restore, to read in passes, to write over and to empty.

use realhpt_pseries::{
    abi::{self, OpenFlags, ReadFlags, Status},
    exchange::{
        bench::{CHUNK, SECTIONS, what},
        phase, word,
    },
    hcall::{self, Failure, Registers},
};

use super::{Job, Measured, timed};
use crate::job::Trouble;

/// How many calls in a row may consume nothing: an invalid run of 65535 slots takes a few of them.
const STANDSTILL: u64 = 1 << 12;

/// Sections of a table, counted from its first.
const WHOLE: usize = 0;
const CHANGES: usize = 1;
const EMPTY: usize = 2;

impl Job {
    /// Everything about one table.
    pub(super) fn table(&mut self, table: u64) -> Result<(), Trouble> {
        let first = usize::try_from(table).map_err(|_| Trouble::BadJob)? * SECTIONS;
        let (whole, changes, empty) = (first + WHOLE, first + CHANGES, first + EMPTY);
        hcall::lpar_reset(self.target)?;
        self.write(what::RESTORE, table, whole)?;
        let stat = hcall::hpt_stat(self.target)?;
        let beside = Measured {
            calls: 1,
            bytes: 0,
            ticks: stat.beside,
        };
        self.row(what::BESIDE, table, beside)?;

        let reader = hcall::hpt_open(self.target, OpenFlags::empty(), 0)?.handle;
        self.read(what::FIRST_PASS, table, reader, ReadFlags::END_OF_PASS)?;
        let clean = ReadFlags::END_OF_PASS | ReadFlags::CLEAN;
        self.read(what::CLEAN_PASS, table, reader, clean)?;
        let _ = self.section(table, changes)?;
        self.read(what::CHANGED_PASS, table, reader, ReadFlags::END_OF_PASS)?;
        hcall::hpt_close(reader)?;

        self.write(what::OVERWRITE, table, whole)?;
        self.write(what::INVALIDATE, table, empty)
    }

    /// Reads a pass, whose last call is to say `flags`.
    fn read(
        &mut self,
        what: u64,
        table: u64,
        handle: u64,
        flags: ReadFlags,
    ) -> Result<(), Trouble> {
        self.window.begin_phase(phase::READ, 0);
        let buffer = self.window.base() + self.window.get(word::OUTPUT);
        let mut measured = Measured::default();
        loop {
            self.whole_slice();
            let call = [abi::H_HPT_READ, handle, buffer, CHUNK];
            // SAFETY: the buffer is in the window, of which no one holds anything but atomics.
            let ([bytes, said], ticks) = unsafe { timed_call(call) }?;
            measured.calls += 1;
            measured.bytes += bytes;
            measured.ticks += ticks;
            self.longest_read = self.longest_read.max(ticks);
            self.window.set(word::DONE, measured.bytes);
            let said = ReadFlags::from_bits_retain(said & 0xffff_ffff);
            if said.contains(ReadFlags::END_OF_PASS) {
                if said != flags {
                    return Err(Trouble::Stream(abi::H_HPT_READ, said.bits()));
                }
                return self.row(what, table, measured);
            }
        }
    }

    /// Writes a section as a stream of its own.
    fn write(&mut self, what: u64, table: u64, section: usize) -> Result<(), Trouble> {
        let measured = self.section(table, section)?;
        self.row(what, table, measured)
    }

    fn section(&mut self, table: u64, section: usize) -> Result<Measured, Trouble> {
        let at = word::FIRST_SECTION + 2 * section;
        let (offset, length) = (self.window.get(at), self.window.get(at + 1));
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.window.size())
        {
            return Err(Trouble::Stream(abi::H_HPT_WRITE, table));
        }
        self.window.begin_phase(phase::RESTORE, length);
        let handle = hcall::hpt_open(self.target, OpenFlags::WRITE, 0)?.handle;
        let mut measured = Measured::default();
        let mut standing = 0;
        while measured.bytes < length {
            self.whole_slice();
            let piece = (length - measured.bytes).min(CHUNK);
            let place = self.window.base() + offset + measured.bytes;
            // SAFETY: the buffer is only read.
            let ([consumed, _], ticks) =
                unsafe { timed_call([abi::H_HPT_WRITE, handle, place, piece]) }?;
            standing = if consumed == 0 { standing + 1 } else { 0 };
            if consumed > piece || standing > STANDSTILL {
                return Err(Trouble::Stream(abi::H_HPT_WRITE, consumed));
            }
            measured.calls += 1;
            measured.bytes += consumed;
            measured.ticks += ticks;
            self.longest_write = self.longest_write.max(ticks);
            self.window.set(word::DONE, measured.bytes);
        }
        hcall::hpt_close(handle)?;
        Ok(measured)
    }
}

/// A call with a buffer: what it leaves in r4 and r5, and its ticks.
///
/// # Safety
/// As [`hcall::hcall`].
unsafe fn timed_call([r3, r4, r5, r6]: [u64; 4]) -> Result<([u64; 2], u64), Failure> {
    let mut registers: Registers = [r3, r4, r5, r6, 0, 0, 0, 0, 0, 0];
    // SAFETY: the caller's.
    let ticks = unsafe { timed::call(&mut registers) };
    let [status, first, second, ..] = registers;
    if status == Status::Success.raw() {
        Ok(([first, second], ticks))
    } else {
        Err(Failure {
            call: r3,
            status,
            detail: [first, second],
        })
    }
}
