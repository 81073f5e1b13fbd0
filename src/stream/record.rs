//! The record: `{u32 index, u16 n_valid, u16 n_invalid}` and `n_valid` entries of 16 bytes, all big-endian.
//!
//! The run of valid entries begins at `index`, the run of invalid slots follows it. `Encoder` lays records
//! into a guest's buffer; a header is written when its record is complete.

use crate::addr::HostReal;
use crate::arch::Machine;
use crate::hcall::abi::{ENTRY, RECORD_HEADER};
use crate::memory::GuestBuffer;
use crate::table::hpte::{GuestR, GuestV};

/// The longest run that a header can count.
pub const MAX_RUN: u64 = u16::MAX as u64;

/// Where a header's doubleword counts valid entries, and invalid slots.
const VALID_SHIFT: u32 = 16;
const INVALID_SHIFT: u32 = 0;

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

/// No slot: the open record cannot be joined by any.
const NO_SLOT: u64 = u64::MAX;

/// Lays records into a buffer, joining runs that touch.
///
/// The header of the record that is open stands in `header`, complete but for what still joins; it is stored
/// when the next record begins, or at the end.
#[derive(Debug)]
pub(super) struct Encoder<'a, M: Machine> {
    machine: &'a M,
    buffer: GuestBuffer,
    bytes: u64,
    /// Where the open record's header goes; none before the first record.
    at: Option<HostReal>,
    header: u64,
    /// The slot that would join the open record's valid run, and its invalid run.
    next_valid: u64,
    next_invalid: u64,
}

impl<'a, M: Machine> Encoder<'a, M> {
    pub(super) const fn new(machine: &'a M, buffer: GuestBuffer) -> Self {
        let (next_valid, next_invalid) = (NO_SLOT, NO_SLOT);
        Self {
            machine,
            buffer,
            bytes: 0,
            at: None,
            header: 0,
            next_valid,
            next_invalid,
        }
    }

    /// Adds an entry; whether there was room.
    #[inline]
    #[must_use]
    pub(super) fn valid(&mut self, slot: u64, v: GuestV, r: GuestR) -> bool {
        let joins = slot == self.next_valid && self.run(VALID_SHIFT) < MAX_RUN;
        let at = if joins {
            self.bytes
        } else {
            self.bytes + RECORD_HEADER
        };
        let Some((dword0, dword1)) = self.buffer.entry(at) else {
            return false;
        };
        if !joins && !self.begin(slot) {
            return false;
        }
        self.machine.store(dword0, v.raw());
        self.machine.store(dword1, r.raw());
        self.bytes = at + ENTRY;
        self.header += 1 << VALID_SHIFT;
        (self.next_valid, self.next_invalid) = (slot + 1, slot + 1);
        true
    }

    /// Adds a run of entries from `slot` on, as many as `copies` gives and there is room for; how many. The
    /// header is touched once for all of them.
    #[inline]
    pub(super) fn valid_run(
        &mut self,
        slot: u64,
        copies: impl Iterator<Item = (GuestV, GuestR)>,
    ) -> u64 {
        let joins = slot == self.next_valid && self.run(VALID_SHIFT) < MAX_RUN;
        let (at, most) = if joins {
            (self.bytes, MAX_RUN - self.run(VALID_SHIFT))
        } else {
            (self.bytes + RECORD_HEADER, MAX_RUN)
        };
        let mut count = 0;
        for ((dword0, dword1), (v, r)) in self.buffer.entries(at).zip(copies) {
            self.machine.store(dword0, v.raw());
            self.machine.store(dword1, r.raw());
            count += 1;
            if count == most {
                break;
            }
        }
        if count != 0 && (joins || self.begin(slot)) {
            self.bytes = at + count * ENTRY;
            self.header += count << VALID_SHIFT;
            (self.next_valid, self.next_invalid) = (slot + count, slot + count);
        }
        count
    }

    /// Adds a run of invalid slots; how many there was room for.
    #[inline]
    #[must_use]
    pub(super) fn invalid(&mut self, slot: u64, count: u64) -> u64 {
        let mut added = 0;
        while added < count {
            let next = slot + added;
            let joins = next == self.next_invalid && self.run(INVALID_SHIFT) < MAX_RUN;
            if !joins && !self.begin(next) {
                break;
            }
            let run = (count - added).min(MAX_RUN - self.run(INVALID_SHIFT));
            self.header += run << INVALID_SHIFT;
            added += run;
            (self.next_valid, self.next_invalid) = (NO_SLOT, next + run);
        }
        added
    }

    /// The length of one of the open record's runs.
    #[inline]
    const fn run(&self, shift: u32) -> u64 {
        (self.header >> shift) & MAX_RUN
    }

    /// Completes the open record and begins one at `slot`; whether there was room for its header.
    #[inline]
    fn begin(&mut self, slot: u64) -> bool {
        let Some(at) = self.buffer.dword(self.bytes) else {
            return false;
        };
        self.complete();
        self.bytes += RECORD_HEADER;
        self.at = Some(at);
        self.header = slot << 32;
        true
    }

    #[inline]
    fn complete(&mut self) {
        if let Some(at) = self.at {
            self.machine.store(at, self.header);
        }
    }

    /// Completes the last record; how many bytes the records take.
    #[must_use]
    pub(super) fn finish(mut self) -> u64 {
        self.complete();
        self.bytes
    }
}
