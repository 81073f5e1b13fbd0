//! The record: `{u32 index, u16 n_valid, u16 n_invalid}` and `n_valid` entries of 16 bytes, all big-endian.
//!
//! The run of valid entries begins at `index`, the run of invalid slots follows it. [`Encoder`] lays records
//! into a guest's buffer; a header is written when its record is complete.

use crate::addr::HostReal;
use crate::arch::Machine;
use crate::hcall::abi::{ENTRY, RECORD_HEADER};
use crate::memory::GuestBuffer;
use crate::table::hpte::{GuestR, GuestV};

/// The longest run that a header can count.
pub const MAX_RUN: u64 = u16::MAX as u64;

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The first slot.
    pub index: u32,
    /// Entries that follow.
    pub n_valid: u16,
    /// Invalid slots after them.
    pub n_invalid: u16,
}

impl Header {
    /// The header as its doubleword.
    ///
    /// ```
    /// use realhpt::stream::record::Header;
    /// let header = Header { index: 0x1234, n_valid: 2, n_invalid: 0xffff };
    /// assert_eq!(header.to_dword(), 0x0000_1234_0002_ffff);
    /// assert_eq!(Header::from_dword(header.to_dword()), header);
    /// ```
    #[must_use]
    pub const fn to_dword(self) -> u64 {
        (self.index as u64) << 32 | (self.n_valid as u64) << 16 | self.n_invalid as u64
    }

    /// The header that the doubleword is.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the fields are cut out")]
    pub const fn from_dword(dword: u64) -> Self {
        Self {
            index: (dword >> 32) as u32,
            n_valid: (dword >> 16) as u16,
            n_invalid: dword as u16,
        }
    }
}

/// A record that is being laid into the buffer.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: HostReal,
    index: u64,
    valid: u64,
    invalid: u64,
}

/// Lays records into a buffer, joining runs that touch.
#[derive(Debug)]
pub(super) struct Encoder<'a, M: Machine> {
    machine: &'a M,
    buffer: GuestBuffer,
    bytes: u64,
    open: Option<Open>,
}

impl<'a, M: Machine> Encoder<'a, M> {
    pub(super) const fn new(machine: &'a M, buffer: GuestBuffer) -> Self {
        Self {
            machine,
            buffer,
            bytes: 0,
            open: None,
        }
    }

    /// Adds an entry; whether there was room.
    #[inline]
    #[must_use]
    pub(super) fn valid(&mut self, slot: u64, v: GuestV, r: GuestR) -> bool {
        let joins = self.open.is_some_and(|open| {
            open.invalid == 0 && open.index + open.valid == slot && open.valid < MAX_RUN
        });
        let header = if joins { 0 } else { RECORD_HEADER };
        let at = self.bytes + header;
        let (Some(dword0), Some(dword1)) = (self.buffer.dword(at), self.buffer.dword(at + 8))
        else {
            return false;
        };
        if !joins && !self.begin(slot) {
            return false;
        }
        self.machine.store(dword0, v.raw());
        self.machine.store(dword1, r.raw());
        self.bytes = at + ENTRY;
        if let Some(open) = &mut self.open {
            open.valid += 1;
        }
        true
    }

    /// Adds a run of invalid slots; how many there was room for.
    #[inline]
    #[must_use]
    pub(super) fn invalid(&mut self, slot: u64, count: u64) -> u64 {
        let mut added = 0;
        while added < count {
            let next = slot + added;
            let joins = self.open.is_some_and(|open| {
                open.index + open.valid + open.invalid == next && open.invalid < MAX_RUN
            });
            if !joins && !self.begin(next) {
                break;
            }
            if let Some(open) = &mut self.open {
                let run = (count - added).min(MAX_RUN - open.invalid);
                open.invalid += run;
                added += run;
            }
        }
        added
    }

    /// Completes the open record and begins one at `slot`; whether there was room for its header.
    fn begin(&mut self, slot: u64) -> bool {
        let Some(at) = self.buffer.dword(self.bytes) else {
            return false;
        };
        self.complete();
        self.bytes += RECORD_HEADER;
        self.open = Some(Open {
            at,
            index: slot,
            valid: 0,
            invalid: 0,
        });
        true
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "slots of a streamed table fit; runs are bounded"
    )]
    fn complete(&mut self) {
        if let Some(open) = self.open.take() {
            let header = Header {
                index: open.index as u32,
                n_valid: open.valid as u16,
                n_invalid: open.invalid as u16,
            };
            self.machine.store(open.at, header.to_dword());
        }
    }

    /// Completes the last record; how many bytes the records take.
    #[must_use]
    pub(super) fn finish(mut self) -> u64 {
        self.complete();
        self.bytes
    }
}
