//! What a table costs: to restore, to read in passes, to write over and to empty.

use realhpt_pseries::{
    abi::{self, OpenFlags, ReadFlags, Status},
    exchange::{
        bench::{CHANGED_PERMILLE, CHUNK, READERS, SECTIONS, what},
        phase, word,
    },
    hcall,
};

use super::{Job, Measured, result};
use crate::job::Trouble;

/// How many calls in a row may consume nothing: an invalid run of 65535 slots takes a few of them.
const STANDSTILL: u64 = 1 << 12;

/// A clean pass is read again until there are so many ticks: it may take so few that one more or less, as the
/// clock has it, would show.
const PLENTY: u64 = 1 << 15;

/// Sections of a table, counted from its first.
pub(super) const WHOLE: usize = 0;
const CHANGES: usize = 1;
const EMPTY: usize = CHANGES + CHANGED_PERMILLE.len();

impl Job {
    /// Everything about one table.
    pub(super) fn table(&mut self, table: u64) -> Result<(), Trouble> {
        let first = usize::try_from(table).map_err(|_| Trouble::BadJob)? * SECTIONS;
        let (whole, changes, empty) = (first + WHOLE, first + CHANGES, first + EMPTY);
        self.reset(self.target)?;
        self.write(what::RESTORE, table, whole)?;
        let stat = hcall::hpt_stat(self.target)?;
        let beside = Measured {
            calls: 1,
            ticks: stat.beside,
            ..Measured::default()
        };
        self.row(what::BESIDE, table, beside)?;

        let clean = ReadFlags::END_OF_PASS | ReadFlags::CLEAN;
        let reader = self.open(what::OPEN, table, 0)?;
        self.read(what::FIRST_PASS, table, reader, ReadFlags::END_OF_PASS)?;
        self.read(what::CLEAN_PASS, table, reader, clean)?;
        for (what, changes) in (what::CHANGED_PASS..).zip(changes..empty) {
            let _ = self.section(self.target, changes)?;
            self.read(what, table, reader, ReadFlags::END_OF_PASS)?;
        }
        let last = (1 << (stat.order - 4)) - 1;
        hcall::hpt_close(self.open(what::OPEN_AT_END, table, last)?)?;
        hcall::hpt_close(reader)?;
        self.readers(table, empty - 1)?;

        self.write(what::OVERWRITE, table, whole)?;
        self.write(what::INVALIDATE, table, empty)
    }

    /// Opens a reader that begins at slot `start`.
    fn open(&mut self, what: u64, table: u64, start: u64) -> Result<u64, Trouble> {
        let call = [
            abi::H_HPT_OPEN,
            self.target,
            OpenFlags::empty().bits(),
            start,
        ];
        // SAFETY: it touches nothing of the agent's.
        let ([handle, _], ticks) = unsafe { self.successful(call) }?;
        let mut measured = Measured::default();
        measured.add(0, ticks);
        self.row(what, table, measured)?;
        Ok(handle)
    }

    /// Passes of all the readers that a table may have, one after the other.
    fn readers(&mut self, table: u64, changes: usize) -> Result<(), Trouble> {
        let mut readers = [0; READERS];
        for reader in &mut readers {
            *reader = hcall::hpt_open(self.target, OpenFlags::empty(), 0)?.handle;
        }
        for (what, reader) in (what::FIRST_PASS_OF_MANY..).zip(readers) {
            self.read(what, table, reader, ReadFlags::END_OF_PASS)?;
        }
        let clean = ReadFlags::END_OF_PASS | ReadFlags::CLEAN;
        for (what, reader) in (what::CLEAN_PASS_OF_MANY..).zip(readers) {
            self.read(what, table, reader, clean)?;
        }
        let _ = self.section(self.target, changes)?;
        for (what, reader) in (what::CHANGED_PASS_OF_MANY..).zip(readers) {
            self.read(what, table, reader, ReadFlags::END_OF_PASS)?;
        }
        for reader in readers {
            hcall::hpt_close(reader)?;
        }
        Ok(())
    }

    /// Empties the table of `target`.
    pub(super) fn reset(&mut self, target: u64) -> Result<(), Trouble> {
        loop {
            let mut registers = [abi::H_LPAR_RESET, target, 0, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: it runs, so it is not the one that is reset.
            unsafe { self.call(&mut registers) }?;
            match result(abi::H_LPAR_RESET, &registers) {
                Err(failure) if failure.is(Status::Continue) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Reads a pass, whose last call is to say `flags`.
    fn read(
        &mut self,
        what: u64,
        table: u64,
        handle: u64,
        flags: ReadFlags,
    ) -> Result<(), Trouble> {
        let mut measured = Measured::default();
        self.pass(&mut measured, handle, flags)?;
        while flags.contains(ReadFlags::CLEAN) && measured.ticks < PLENTY {
            self.pass(&mut measured, handle, flags)?;
        }
        self.row(what, table, measured)
    }

    /// Adds one pass.
    fn pass(
        &mut self,
        measured: &mut Measured,
        handle: u64,
        flags: ReadFlags,
    ) -> Result<(), Trouble> {
        self.window.begin_phase(phase::READ, 0);
        let buffer = self.window.base() + self.window.get(word::OUTPUT);
        measured.passes += 1;
        loop {
            let call = [abi::H_HPT_READ, handle, buffer, CHUNK];
            // SAFETY: the buffer is in the window, of which no one holds anything but atomics.
            let ([bytes, said], ticks) = unsafe { self.successful(call) }?;
            measured.add(bytes, ticks);
            self.window.set(word::DONE, measured.bytes);
            let said = ReadFlags::from_bits_retain(said & 0xffff_ffff);
            if said == flags {
                return Ok(());
            }
            if said.contains(ReadFlags::END_OF_PASS) {
                return Err(Trouble::Stream(abi::H_HPT_READ, said.bits()));
            }
        }
    }

    /// Writes a section as a stream of its own.
    fn write(&mut self, what: u64, table: u64, section: usize) -> Result<(), Trouble> {
        let measured = self.section(self.target, section)?;
        self.row(what, table, measured)
    }

    /// Writes a section into the table of `target`.
    pub(super) fn section(&mut self, target: u64, section: usize) -> Result<Measured, Trouble> {
        let at = word::FIRST_SECTION + 2 * section;
        let (offset, length) = (self.window.get(at), self.window.get(at + 1));
        if offset
            .checked_add(length)
            .is_none_or(|end| end > self.window.size())
        {
            return Err(Trouble::Stream(abi::H_HPT_WRITE, offset));
        }
        self.window.begin_phase(phase::RESTORE, length);
        let handle = hcall::hpt_open(target, OpenFlags::WRITE, 0)?.handle;
        let mut measured = Measured::default();
        let mut standing = 0;
        while measured.bytes < length {
            let piece = (length - measured.bytes).min(CHUNK);
            let place = self.window.base() + offset + measured.bytes;
            let call = [abi::H_HPT_WRITE, handle, place, piece];
            // SAFETY: the buffer is only read.
            let ([consumed, _], ticks) = unsafe { self.successful(call) }?;
            standing = if consumed == 0 { standing + 1 } else { 0 };
            if consumed > piece || standing > STANDSTILL {
                return Err(Trouble::Stream(abi::H_HPT_WRITE, consumed));
            }
            measured.add(consumed, ticks);
            self.window.set(word::DONE, measured.bytes);
        }
        hcall::hpt_close(handle)?;
        Ok(measured)
    }
}
