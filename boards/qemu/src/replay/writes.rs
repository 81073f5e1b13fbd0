//! Streams written in a replay.
//!
//! What Linux did of a write is found out by going through it as Linux does, faults included ([`linux`]); what ours
//! must do by going through it as our contract says ([`ours`]). Ours is held to the contract, Linux's return value
//! to what was found out; then the table is brought to where Linux's is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use realhpt::hcall::abi::{OpenFlags, Status};

use super::Backend;
use super::file::StreamWrite;
use super::memory::{Memory, page_shift};
use super::sequence::Replay;
use super::streams::Said;
use crate::tables::record::{ByteOrder, ENTRY_BYTES, Entry, HEADER_BYTES, Header};

/// What stands beyond the buffer of a write.
const BEYOND: u8 = 0xee;
/// Linux's errors.
const EIO: u64 = 5;
const EINVAL: u64 = 22;
/// Entries that ours applies as one.
const PIECE: u64 = 256;
/// Calls without a byte consumed before a writer is given up: an invalid run over a large table takes some.
const IDLE: usize = 10_000;
/// No entry was bad.
const NONE_BAD: u64 = u64::MAX;

/// A write gone through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Followed {
    /// What it did, slot by slot, in order.
    applied: Vec<Said>,
    /// Bytes that were taken.
    taken: u64,
    /// Why it ended before its end.
    ended: Option<Ended>,
    /// The next header was read where the first entry stands.
    misparsed: bool,
}

/// What ended a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    /// The bad slot.
    slot: u64,
    /// Linux's error for it.
    errno: u64,
}

/// The bytes of a write, and what is beyond them.
#[derive(Clone, Copy)]
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(self, at: usize) -> [u8; N] {
        std::array::from_fn(|number| self.0.get(at + number).copied().unwrap_or(BEYOND))
    }

    fn header(self, at: usize) -> Header {
        Header::decode(self.array(at), ByteOrder::Little)
    }

    fn entry(self, at: usize) -> Entry {
        Entry::decode(self.array::<ENTRY_BYTES>(at))
    }
}

/// Goes through a write as Linux does: the count without the header is compared with what is left, an error loses
/// what was counted, the old entry goes before the new one is refused, and after a record with entries the next
/// header is read where the first of them stands.
fn linux(bytes: Bytes<'_>, count: u64, slots: u64, memory: &Memory) -> Followed {
    let mut followed = Followed::default();
    let mut at = 0;
    let mut after_entries = false;
    while followed.taken + HEADER_BYTES as u64 <= count {
        let header = bytes.header(at);
        followed.misparsed |= after_entries;
        if followed.taken + u64::from(header.n_valid) * ENTRY_BYTES as u64 > count {
            break;
        }
        after_entries |= header.n_valid != 0;
        followed.taken += HEADER_BYTES as u64;
        at += HEADER_BYTES;
        let index = u64::from(header.index);
        let refused = |slot, errno| Some(Ended { slot, errno });
        if header.end() > slots || index >= slots {
            followed.ended = refused(index, EINVAL);
            return followed;
        }
        let valid = index + u64::from(header.n_valid);
        for (slot, at) in (index..valid).zip((at..).step_by(ENTRY_BYTES)) {
            let entry = bytes.entry(at);
            if !entry.is_valid() || page_shift(entry.dw0, entry.dw1).is_none() {
                followed.ended = refused(slot, EINVAL);
                return followed;
            }
            if memory.linux_refuses(entry.dw0, entry.dw1) {
                followed.applied.push((slot, None));
                followed.ended = refused(slot, EIO);
                return followed;
            }
            followed.applied.push((slot, Some(entry)));
            followed.taken += ENTRY_BYTES as u64;
        }
        let invalid = valid..header.end();
        followed.applied.extend(invalid.map(|slot| (slot, None)));
    }
    followed
}

/// Goes through a write as ours must: what is refused ends it, what is no whole header or entry is left.
fn ours(bytes: Bytes<'_>, count: u64, slots: u64, memory: &Memory) -> Followed {
    let mut followed = Followed::default();
    let mut at = 0;
    let fits = |at: usize, bytes: usize| (at + bytes) as u64 <= count;
    while fits(at, HEADER_BYTES) {
        let header = bytes.header(at);
        let index = u64::from(header.index);
        if header.end() > slots {
            followed.ended = Some(Ended {
                slot: index,
                errno: EINVAL,
            });
            break;
        }
        at += HEADER_BYTES;
        let valid = index + u64::from(header.n_valid);
        for slot in index..valid {
            let entry = bytes.entry(at);
            if !fits(at, ENTRY_BYTES) {
                followed.taken = at as u64;
                return followed;
            }
            if !entry.is_valid() || memory.ours_refuses(entry.dw0, entry.dw1) {
                followed.taken = at as u64;
                followed.ended = Some(Ended { slot, errno: EIO });
                return followed;
            }
            followed.applied.push((slot, Some(entry)));
            at += ENTRY_BYTES;
        }
        let invalid = valid..header.end();
        followed.applied.extend(invalid.map(|slot| (slot, None)));
    }
    followed.taken = at as u64;
    followed
}

/// Turns the headers of a stream from Linux's byte order into ours.
fn turn_headers(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(place) = stream.get_mut(at..at + HEADER_BYTES) {
        let header = Header::decode(
            std::array::from_fn(|n| place.get(n).copied().unwrap_or(0)),
            ByteOrder::Little,
        );
        place.copy_from_slice(&header.encode(ByteOrder::Big));
        at += HEADER_BYTES + ENTRY_BYTES * usize::from(header.n_valid);
    }
}

/// What a write did to a slot.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// What stands there after it.
    last: Option<Entry>,
    /// What was entered last.
    entered: Option<Entry>,
    /// Readers hear of it: writing what is there already is a change to them, emptying what is empty is not.
    is_news: bool,
}

impl Change {
    const fn none(was: Option<Entry>) -> Self {
        Self {
            last: was,
            entered: None,
            is_news: false,
        }
    }
}

/// What a write that did this changed, by slots.
fn changes(applied: &[Said], was: impl Fn(u64) -> Option<Entry>) -> BTreeMap<u64, Change> {
    let mut changes = BTreeMap::new();
    for &(slot, entry) in applied {
        let change = changes
            .entry(slot)
            .or_insert_with(|| Change::none(was(slot)));
        change.is_news |= entry.is_some() || change.last.is_some();
        change.entered = entry.or(change.entered);
        change.last = entry;
    }
    changes
}

/// What is said of slots, one by one, as records with big-endian headers.
fn records(said: &[Said]) -> Result<Vec<u8>> {
    let mut stream = Vec::new();
    for &(slot, entry) in said {
        let header = Header {
            index: u32::try_from(slot)?,
            n_valid: u16::from(entry.is_some()),
            n_invalid: u16::from(entry.is_none()),
        };
        stream.extend(header.encode(ByteOrder::Big));
        stream.extend(entry.iter().flat_map(|entry| entry.encode()));
    }
    Ok(stream)
}

impl<B: Backend + ?Sized> Replay<'_, B> {
    pub(super) fn write(&mut self, write: &StreamWrite) -> Result<()> {
        let bytes = Bytes(&write.buffer);
        let theirs = linux(bytes, write.count, self.slots, &self.memory);
        for &(slot, entry) in &theirs.applied {
            if let Some(Entry { dw0, dw1 }) = entry {
                self.entered(slot, dw0, dw1);
            }
        }
        let expected = match theirs.ended {
            Some(Ended { errno, .. }) => (-1, errno),
            None => (theirs.taken.cast_signed(), 0),
        };
        self.outcome
            .expect(expected == (write.ret, write.errno), || {
                format!(
                    "Linux returned {} (errno {}), by its way through it {} (errno {})",
                    write.ret, write.errno, expected.0, expected.1
                )
            });
        let contract = ours(bytes, write.count, self.slots, &self.memory);
        let same = contract.ended.is_none()
            && write.count >= HEADER_BYTES as u64
            && (contract.taken, &contract.applied) == (write.count, &theirs.applied);
        let before = if same { Vec::new() } else { self.image()? };
        let applied = self.write_ours(write, &contract)?;
        if same {
            return Ok(());
        }
        self.list(write, &theirs, &contract, &applied);
        self.follow(&before, &theirs.applied, &applied)
    }

    /// Writes as ours is to be written to, and holds the answer to the contract. What it has applied.
    fn write_ours(&mut self, write: &StreamWrite, contract: &Followed) -> Result<Vec<Said>> {
        let count = usize::try_from(write.count)?;
        let mut stream = write.buffer.clone();
        stream.resize(count, BEYOND);
        turn_headers(&mut stream);
        let (status, consumed, bad) =
            self.give(&stream, contract.taken, contract.ended.is_some())?;
        let (wanted, slot) = match contract.ended {
            Some(Ended { slot, .. }) => (Status::Parameter, slot),
            None if write.count < HEADER_BYTES as u64 => (Status::Parameter, NONE_BAD),
            None => (Status::Success, NONE_BAD),
        };
        // Of the piece with the bad entry nothing is done.
        let least = match contract.ended {
            Some(_) => contract
                .taken
                .saturating_sub(PIECE * ENTRY_BYTES as u64 + HEADER_BYTES as u64),
            None => contract.taken,
        };
        let right =
            (status, bad) == (wanted as i64, slot) && (least..=contract.taken).contains(&consumed);
        self.outcome.expect(right, || {
            format!(
                "H_HPT_WRITE: {status}, {consumed} bytes, bad {bad:#x}, not {}, {} bytes, bad {slot:#x}",
                wanted as i64, contract.taken
            )
        });
        let left = contract.taken.saturating_sub(consumed) / ENTRY_BYTES as u64;
        let applied = contract
            .applied
            .len()
            .saturating_sub(usize::try_from(left)?);
        Ok(contract.applied.get(..applied).unwrap_or_default().to_vec())
    }

    /// Writes a stream, of which `whole` bytes are whole headers and entries that are good, with a bad one after them
    /// if `is_bad`, and closes it: status, consumed, bad.
    fn give(&mut self, stream: &[u8], whole: u64, is_bad: bool) -> Result<(i64, u64, u64)> {
        let handle = self.open(OpenFlags::WRITE.bits(), 0)?;
        let mut total = 0;
        let mut idle = 0;
        let answer = loop {
            let rest = usize::try_from(total).ok().and_then(|at| stream.get(at..));
            let (status, consumed, bad) = self.backend.write(handle, rest.unwrap_or_default())?;
            total += consumed;
            idle = if consumed == 0 { idle + 1 } else { 0 };
            // A call may end before a bad entry, which the next one then has first.
            if status != 0 || total >= whole && !is_bad {
                break (status, total, bad);
            }
            ensure!(idle < IDLE, "the writer does not get on");
        };
        let status = self.backend.close(handle)?;
        if !matches!(status, 0 | H_PARTIAL) {
            bail!("H_HPT_CLOSE: {status}");
        }
        Ok(answer)
    }

    /// Why ours did otherwise.
    fn list(
        &mut self,
        write: &StreamWrite,
        theirs: &Followed,
        contract: &Followed,
        applied: &[Said],
    ) {
        let outcome = &mut self.outcome;
        // What is refused or taken beyond the count, ours never saw.
        let beyond = contract.ended.is_none() && contract.taken < write.count;
        let truncated = theirs.ended.is_none() && theirs.taken < write.count;
        match (theirs.ended, contract.ended) {
            _ if theirs.misparsed => outcome.because("misparse"),
            _ if write.count < HEADER_BYTES as u64 => outcome.because("small_buffer"),
            _ if truncated => outcome.because("truncated"),
            _ if beyond => outcome.because("count"),
            (Some(theirs), Some(ours)) if theirs.slot == ours.slot => outcome.because("errno"),
            (Some(theirs), _) if theirs.errno == EIO => outcome.because("host_page"),
            (theirs, ours) => {
                outcome.other(format!("Linux ended with {theirs:?}, ours with {ours:?}"));
            }
        }
        if theirs.ended.is_some() && !theirs.misparsed && theirs.applied != applied {
            outcome.because("partial");
        }
    }

    /// Brings the table to where Linux's is.
    fn follow(&mut self, before: &[Option<Entry>], linux: &[Said], ours: &[Said]) -> Result<()> {
        let was = |slot: u64| {
            let slot = usize::try_from(slot).ok();
            slot.and_then(|slot| before.get(slot)).copied().flatten()
        };
        let (linux, ours) = (changes(linux, was), changes(ours, was));
        let slots: BTreeSet<u64> = linux.keys().chain(ours.keys()).copied().collect();
        let mut corrected = Vec::new();
        for slot in slots {
            let untouched = Change::none(was(slot));
            let wanted = linux.get(&slot).unwrap_or(&untouched);
            let found = ours.get(&slot).unwrap_or(&untouched);
            let is_silent = wanted.is_news && !found.is_news;
            if wanted.last != found.last || is_silent {
                if is_silent && wanted.last.is_none() && was(slot).is_none() {
                    // Emptying it again is news only after it was entered.
                    corrected.push((slot, wanted.entered));
                }
                corrected.push((slot, wanted.last));
            }
            if !wanted.is_news && (found.is_news || wanted.last != found.last) {
                self.persistent.ours_alone.insert(slot);
            }
        }
        if corrected.is_empty() {
            return Ok(());
        }
        let stream = records(&corrected)?;
        let (status, _, bad) = self.give(&stream, u64::try_from(stream.len())?, false)?;
        self.outcome.expect(status == 0, || {
            format!("slot {bad:#x} cannot be brought to where Linux has it: {status}")
        });
        Ok(())
    }

    /// Restores the entries that KVM makes itself when the guest first runs: here the guest takes those that are
    /// there.
    pub(super) fn vrma(&mut self, entries: &[(u64, Entry)]) -> Result<()> {
        for &(slot, Entry { dw0, dw1 }) in entries {
            self.entered(slot, dw0, dw1);
        }
        let entries = entries.iter().map(|&(slot, entry)| (slot, Some(entry)));
        let stream = records(&entries.collect::<Vec<_>>())?;
        let (status, ..) = self.give(&stream, u64::try_from(stream.len())?, false)?;
        ensure!(status == 0, "the VRMA cannot be restored: {status}");
        Ok(())
    }
}

const H_PARTIAL: i64 = Status::Partial as i64;
