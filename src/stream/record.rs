//! The record: `{u32 index, u16 n_valid, u16 n_invalid}` and `n_valid` entries of 16 bytes, all big-endian.
//!
//! The run of valid entries begins at `index`, the run of invalid slots follows it. `Encoder` lays records
//! into a guest's buffer; a header is written when its record is complete.

use crate::addr::HostReal;
use crate::arch::Machine;
use crate::hcall::abi::{ENTRY, RECORD_HEADER};
use crate::memory::GuestBuffer;
use crate::table::bitmap::BLOCK;
use crate::table::hpte::{GuestR, GuestV};

/// The most slots that a table may have for a record's index to reach all of them: a table of order 36.
pub const MAX_SLOTS: u64 = 1 << 32;

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

/// The counts of a header's doubleword, and the count of invalid slots alone.
const COUNTS: u64 = 0xffff_ffff;
const INVALID: u64 = 0xffff;
/// Where it counts valid entries.
const VALID_SHIFT: u32 = 16;

/// Bytes that 64 slots take at most: every other one is an entry, in a record of its own, and one more header; or all are.
const WORD_ROOM: u64 = 64 * ENTRY + 33 * RECORD_HEADER;

/// No slot: the open record cannot be joined by any.
const NO_SLOT: u64 = u64::MAX;

/// Lays records into a buffer, joining runs that touch.
///
/// The header of the record that is open stands in `header`, complete but for what still joins; it is stored
/// when the next record begins, or at the end. A record without a slot is none: what begins next takes its place.
///
/// Invariant: `at`, `out`, `end` and `whole` are addresses in the buffer or its end, 8-byte aligned,
/// `at <= out <= end <= whole`; there are 8 bytes for a header at `at` once a record is open.
#[derive(Debug)]
pub(super) struct Encoder<'a, M: Machine> {
    machine: &'a M,
    start: u64,
    /// Where the next entry goes.
    out: u64,
    /// Up to where it may go, by the last [`Self::limit`], and in the end.
    end: u64,
    whole: u64,
    /// Where the open record's header goes.
    at: u64,
    header: u64,
    /// The slot that follows what the open record has.
    next: u64,
}

impl<M: Machine> Clone for Encoder<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: Machine> Copy for Encoder<'_, M> {}

impl<'a, M: Machine> Encoder<'a, M> {
    pub(super) const fn new(machine: &'a M, buffer: GuestBuffer) -> Self {
        let start = buffer.host().raw();
        Self {
            machine,
            start,
            out: start,
            end: start + buffer.bytes() / 8 * 8,
            whole: start + buffer.bytes() / 8 * 8,
            at: start,
            header: 0,
            next: NO_SLOT,
        }
    }

    /// Lays out so many bytes more, at most.
    #[inline(always)]
    pub(super) const fn limit(&mut self, bytes: u64) {
        let left = self.whole - self.out;
        self.end = self.out + if bytes < left { bytes & !7 } else { left };
    }

    /// Bytes that are laid out.
    #[inline(always)]
    pub(super) const fn bytes(&self) -> u64 {
        self.out - self.start
    }

    /// Whether more of the room is taken than left.
    pub(super) const fn is_mostly_full(&self) -> bool {
        self.out - self.start > self.end - self.out
    }

    /// Whether there is room for what 64 slots take at most.
    #[inline(always)]
    #[must_use]
    pub(super) const fn has_room_for_word(&self) -> bool {
        self.end - self.out >= WORD_ROOM
    }

    /// Completes the open record and begins one at `slot`, for which there is room.
    #[inline(always)]
    fn begin_roomy(&mut self, slot: u64) {
        if self.header & COUNTS != 0 {
            self.machine.store(HostReal::new(self.at), self.header);
            self.at = self.out;
        }
        self.out = self.at + RECORD_HEADER;
        (self.header, self.next) = (slot << 32, slot);
    }

    /// Completes the open record and begins one at `slot`, if there is room for `bytes` of it; whether there was.
    fn begin(&mut self, slot: u64, bytes: u64) -> bool {
        let at = if self.header & COUNTS == 0 {
            self.at
        } else {
            self.out
        };
        if self.end - at < bytes {
            return false;
        }
        self.begin_roomy(slot);
        true
    }

    /// Whether `count` valid entries go on with the open record's, which the slot before them is the last of.
    #[inline(always)]
    const fn joins(&self, count: u64) -> bool {
        let valid = (self.header & COUNTS) >> VALID_SHIFT;
        self.header & INVALID == 0 && valid + count <= MAX_RUN
    }

    /// Adds the `count` entries that `copies` gives to the open record, in whose word there is room for them.
    ///
    /// # Errors
    /// How many came before one that is none. They are laid out, and still to be counted ([`Self::count_valid`]): so what
    /// is rare stays apart from what is not.
    #[inline(always)]
    fn entries(
        &mut self,
        count: u64,
        copies: impl Iterator<Item = Option<(GuestV, GuestR)>>,
    ) -> Result<(), u64> {
        let first = self.out;
        for copy in copies {
            let Some((v, r)) = copy else {
                return Err((self.out - first) / ENTRY);
            };
            self.machine.store(HostReal::new(self.out), v.raw());
            self.machine.store(HostReal::new(self.out + 8), r.raw());
            self.out += ENTRY;
        }
        self.count_valid(count);
        Ok(())
    }

    /// Counts entries that are laid out in the open record.
    #[inline(always)]
    pub(super) const fn count_valid(&mut self, count: u64) {
        self.header += count << VALID_SHIFT;
    }

    /// Adds the `count` entries from `slot` on that `copies` gives. They are of a word that there was room for when its first
    /// one was added. The header is touched once for all of them.
    ///
    /// # Errors
    /// As [`Self::entries`]; [`Self::resume_at`] is due, too.
    #[inline(always)]
    pub(super) fn run(
        &mut self,
        slot: u64,
        count: u64,
        copies: impl Iterator<Item = Option<(GuestV, GuestR)>>,
    ) -> Result<(), u64> {
        if slot != self.next || !self.joins(count) {
            self.begin_roomy(slot);
        }
        self.entries(count, copies)?;
        self.next = slot + count;
        Ok(())
    }

    /// The same in a first pass, which leaves no slot out: `gap` invalid ones come before the entries and go on with the
    /// open record, which [`Self::settle_in`] has made sure of. [`Self::resume_at`] ends a row of these.
    ///
    /// # Errors
    /// As [`Self::entries`].
    #[inline(always)]
    pub(super) fn run_after(
        &mut self,
        slot: u64,
        gap: u64,
        count: u64,
        copies: impl Iterator<Item = Option<(GuestV, GuestR)>>,
    ) -> Result<(), u64> {
        if gap != 0 {
            self.machine
                .store(HostReal::new(self.at), self.header + gap);
            (self.at, self.out) = (self.out, self.out + RECORD_HEADER);
            self.header = slot << 32;
        } else if !self.joins(count) {
            self.begin_roomy(slot);
        }
        self.entries(count, copies)
    }

    /// Adds invalid slots after a row of those, as they do.
    #[inline(always)]
    pub(super) const fn gap(&mut self, count: u64) {
        self.header += count;
    }

    /// Has a record be open at `slot`, where a row of a first pass begins, with room for as many invalid slots as a block
    /// has; whether there was room.
    pub(super) fn settle_in(&mut self, slot: u64) -> bool {
        let joins = slot == self.next && self.header & INVALID <= MAX_RUN - BLOCK;
        joins || self.begin(slot, RECORD_HEADER)
    }

    /// Has the open record go on at `slot`, after a row of [`Self::run_after`] and [`Self::gap`] up to there.
    #[inline(always)]
    pub(super) const fn resume_at(&mut self, slot: u64) {
        self.next = slot;
    }

    /// Adds one entry; whether there was room.
    pub(super) fn valid(&mut self, slot: u64, v: GuestV, r: GuestR) -> bool {
        let room = if slot == self.next && self.joins(1) {
            self.end - self.out >= ENTRY
        } else {
            self.begin(slot, RECORD_HEADER + ENTRY)
        };
        room && self.run(slot, 1, core::iter::once(Some((v, r)))).is_ok()
    }

    /// Adds a run of invalid slots, in as many records as it takes; how many slots there was room for.
    pub(super) fn invalid(&mut self, slot: u64, count: u64) -> u64 {
        let mut added = 0;
        while added < count {
            let next = slot + added;
            let joins = next == self.next && self.header & INVALID < MAX_RUN;
            if !joins && !self.begin(next, RECORD_HEADER) {
                break;
            }
            let run = (count - added).min(MAX_RUN - (self.header & INVALID));
            self.header += run;
            self.next += run;
            added += run;
        }
        added
    }

    /// Completes the last record; how many bytes the records take.
    #[must_use]
    pub(super) fn finish(self) -> u64 {
        if self.header & COUNTS == 0 {
            return self.at - self.start;
        }
        self.machine.store(HostReal::new(self.at), self.header);
        self.bytes()
    }
}
