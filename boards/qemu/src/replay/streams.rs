//! Streams read and reset in a replay.

use std::collections::BTreeSet;

use anyhow::{Result, bail, ensure};
use realhpt::hcall::abi::{MIN_READ_BUFFER, ReadFlags, Status};

use super::Backend;
use super::file::StreamRead;
use super::sequence::Replay;
use crate::tables::record::{Entry, entries_of, for_each_record};

/// Linux's lock bit, which shows in its stream.
const LEAKED_LOCK: u64 = 0x40;
/// The buffer that our own reads take.
const BUFFER: u64 = 1 << 16;
/// Reads without a byte before a reader is given up.
const IDLE: usize = 10_000;

/// What a stream says of one slot: its entry, or that there is none.
pub(super) type Said = (u64, Option<Entry>);

/// What records, which have been checked, say, slot by slot.
pub(super) fn said(records: &[u8], slots: u64) -> Result<Vec<Said>> {
    let mut said = Vec::new();
    for_each_record(records, slots, |_, header, entries| {
        let unlocked = |entry: Entry| Entry {
            dw0: entry.dw0 & !LEAKED_LOCK,
            ..entry
        };
        let valid = entries_of(entries).map(|entry| Some(unlocked(entry)));
        let invalid = (0..header.n_invalid).map(|_| None);
        said.extend((u64::from(header.index)..).zip(valid.chain(invalid)));
    })
    .map_err(|malformed| anyhow::anyhow!("what was read: {malformed}"))?;
    Ok(said)
}

fn show(entry: Option<Entry>) -> String {
    entry.map_or_else(|| "invalid".to_owned(), |entry| entry.to_string())
}

/// The first difference of what two readers were told, in words.
fn first_difference(ours: &[Said], linux: &[Said]) -> Option<String> {
    let longer = ours.len().max(linux.len());
    (0..longer).find_map(|number| match (ours.get(number), linux.get(number)) {
        (Some(ours), Some(linux)) if ours == linux => None,
        (Some((slot, entry)), Some((other, theirs))) if slot == other => Some(format!(
            "slot {slot:#x}: {}, not {}",
            show(*entry),
            show(*theirs)
        )),
        (ours, linux) => {
            let name = |said: Option<&Said>| {
                said.map_or_else(
                    || "nothing".to_owned(),
                    |(slot, _)| format!("slot {slot:#x}"),
                )
            };
            Some(format!("{}, not {}", name(ours), name(linux)))
        }
    })
}

/// Our side of the persistent reader.
pub(super) struct Persistent {
    handle: Option<u64>,
    /// The table as it knows it.
    copy: Vec<Option<Entry>>,
    /// Slots that it has been told of and none of Linux's readers has yet: Linux has them marked, whether a reader
    /// is open or not, and whatever becomes of the table.
    told: Vec<bool>,
    /// What perhaps only it will be told, until Linux's reader comes by: calls of ours that Linux did not have.
    pub(super) ours_alone: BTreeSet<u64>,
    /// Where Linux's reader stands.
    cursor: u64,
    /// It has not been through the table yet.
    first_pass: bool,
    /// What it is opened with.
    flags: u64,
}

impl Persistent {
    /// No reader, of an empty table.
    pub(super) fn new(slots: u64) -> Self {
        let slots = usize::try_from(slots).unwrap_or_default();
        Self {
            handle: None,
            copy: vec![None; slots],
            told: vec![false; slots],
            ours_alone: BTreeSet::new(),
            cursor: 0,
            first_pass: false,
            flags: 0,
        }
    }

    fn hear(&mut self, said: &[Said]) -> Option<()> {
        for &(slot, entry) in said {
            let slot = usize::try_from(slot).ok()?;
            *self.copy.get_mut(slot)? = entry;
            *self.told.get_mut(slot)? = true;
        }
        Some(())
    }

    /// Whether it was told of a slot since a reader of Linux's was, which one has been now.
    fn take_told(&mut self, slot: u64) -> bool {
        self.ours_alone.remove(&slot);
        let told = usize::try_from(slot).ok();
        told.and_then(|slot| self.told.get_mut(slot))
            .is_some_and(std::mem::take)
    }

    /// Whether Linux's readers, who have heard of every change of a slot, cannot know that its entry has this bit in
    /// dword 1: it had not when they came by, or only this reader came by since, or it
    /// is told of bolted entries alone.
    pub(super) fn is_unseen(&self, slot: u64, bit: u64) -> bool {
        let told = usize::try_from(slot).ok();
        let told = told.and_then(|slot| self.told.get(slot)).copied();
        let lacks = |entry: Entry| entry.dw1 & bit == 0;
        self.handle.is_some() && (told == Some(true) || self.knows(slot).is_none_or(lacks))
    }

    fn knows(&self, slot: u64) -> Option<Entry> {
        let slot = usize::try_from(slot).ok()?;
        self.copy.get(slot).copied().flatten()
    }
}

impl<B: Backend + ?Sized> Replay<'_, B> {
    /// Reads to the end of the pass with a buffer of `length` bytes.
    fn pass(&mut self, handle: u64, length: u64) -> Result<Vec<Said>> {
        let mut records = Vec::new();
        let mut idle = 0;
        while idle < IDLE {
            let answer = self.backend.read(handle, length)?;
            ensure!(answer.status == 0, "H_HPT_READ: {}", answer.status);
            idle = if answer.bytes.is_empty() { idle + 1 } else { 0 };
            records.extend(answer.bytes);
            let flags = ReadFlags::from_bits_retain(answer.state & 0xffff_ffff);
            if flags.contains(ReadFlags::END_OF_PASS) {
                return said(&records, self.slots);
            }
        }
        bail!("the reader does not get on");
    }

    /// The whole table, by a reader of its own.
    pub(super) fn image(&mut self) -> Result<Vec<Option<Entry>>> {
        let handle = self.open(0, 0)?;
        let said = self.pass(handle, BUFFER)?;
        self.close(handle)?;
        let whole = (0..self.slots).eq(said.iter().map(|(slot, _)| *slot));
        self.outcome
            .expect(whole, || "a first pass has not each slot once".to_owned());
        Ok(said.into_iter().map(|(_, entry)| entry).collect())
    }

    pub(super) fn open(&mut self, flags: u64, start: u64) -> Result<u64> {
        let (status, handle) = self.backend.open(flags, start)?;
        ensure!(status == 0, "H_HPT_OPEN: {status}");
        Ok(handle)
    }

    fn close(&mut self, handle: u64) -> Result<()> {
        let status = self.backend.close(handle)?;
        self.outcome
            .expect(status == 0, || format!("H_HPT_CLOSE: {status}"));
        Ok(())
    }

    /// Reads with the persistent reader to the end of its pass.
    fn catch_up(&mut self) -> Result<()> {
        if let Some(handle) = self.persistent.handle {
            let said = self.pass(handle, BUFFER)?;
            ensure!(
                self.persistent.hear(&said).is_some(),
                "a slot beyond the table"
            );
        }
        Ok(())
    }

    pub(super) fn read(&mut self, read: &StreamRead) -> Result<()> {
        if read.persistent {
            self.read_persistent(read)
        } else {
            self.read_fresh(read)
        }
    }

    /// Reads of a reader that is there for them alone.
    fn read_fresh(&mut self, read: &StreamRead) -> Result<()> {
        self.catch_up()?;
        let linux = said(&read.data.concat(), self.slots)?;
        let (status, handle) = self.backend.open(read.flags, read.start)?;
        if read.start >= self.slots {
            self.outcome.because("start_index");
            let same = status == Status::Parameter as i64 && linux.is_empty();
            self.outcome
                .expect(same, || format!("H_HPT_OPEN: {status}"));
            return Ok(());
        }
        ensure!(status == 0, "H_HPT_OPEN: {status}");
        // Linux has no room for an entry in a buffer that just takes one.
        if read.count <= MIN_READ_BUFFER {
            self.small_buffer(handle, read, &linux)?;
            return self.close(handle);
        }
        let mut ours = self.pass(handle, read.count)?;
        self.close(handle)?;
        if read.reads != 0 {
            ours.truncate(linux.len());
        }
        if let Some(difference) = first_difference(&ours, &linux) {
            self.outcome.other(difference);
        }
        // Linux's persistent reader will not hear of what this one was told.
        for (slot, _) in linux {
            let _ = self.persistent.take_told(slot);
        }
        Ok(())
    }

    /// A read into a buffer in which Linux has no room for an entry.
    fn small_buffer(&mut self, handle: u64, read: &StreamRead, linux: &[Said]) -> Result<()> {
        self.outcome.because("small_buffer");
        self.outcome
            .expect(linux.is_empty(), || "Linux found room".to_owned());
        if read.count < MIN_READ_BUFFER {
            let status = self.backend.read(handle, read.count)?.status;
            self.outcome.expect(status == Status::Parameter as i64, || {
                format!("a buffer of {} bytes: {status}", read.count)
            });
        }
        Ok(())
    }

    fn read_persistent(&mut self, read: &StreamRead) -> Result<()> {
        if read.open {
            self.close_persistent()?;
            // Of what precedes its start it is told only when that changes.
            self.persistent.copy = self.image()?;
            let handle = self.open(read.flags, read.start)?;
            self.persistent.handle = Some(handle);
            self.persistent.flags = read.flags;
            self.persistent.cursor = read.start;
            self.persistent.first_pass = true;
        }
        let Some(handle) = self.persistent.handle else {
            bail!("a read of a reader that is not open");
        };
        if read.count <= MIN_READ_BUFFER {
            let linux = said(&read.data.concat(), self.slots)?;
            self.small_buffer(handle, read, &linux)?;
        } else {
            self.catch_up()?;
            for records in &read.data {
                let told = said(records, self.slots)?;
                // What ends a pass, for Linux does not say: the next entry would have had room.
                let bytes = u64::try_from(records.len())?;
                self.linux_reads(&told, bytes + MIN_READ_BUFFER < read.count);
            }
        }
        if read.close {
            self.close_persistent()?;
        }
        Ok(())
    }

    /// Closes the persistent reader, if it is open, told of all that has changed.
    fn close_persistent(&mut self) -> Result<()> {
        let Some(handle) = self.persistent.handle else {
            return Ok(());
        };
        self.catch_up()?;
        if self.persistent.first_pass {
            // What Linux's reader has not come to need not be marked.
            let ahead = self.persistent.cursor..self.slots;
            self.persistent.ours_alone.extend(ahead);
        }
        self.persistent.handle = None;
        self.close(handle)
    }

    /// One read of Linux's persistent reader.
    fn linux_reads(&mut self, read: &[Said], room_left: bool) {
        let (persistent, outcome) = (&mut self.persistent, &mut self.outcome);
        let from = persistent.cursor;
        for &(slot, entry) in read {
            // A first pass tells of all slots, whoever was told before.
            let told = persistent.take_told(slot) || persistent.first_pass;
            outcome.expect(told, || format!("slot {slot:#x}: ours was not told"));
            let ours = persistent.knows(slot);
            outcome.expect(ours == entry, || {
                format!("slot {slot:#x}: {}, not {}", show(ours), show(entry))
            });
            persistent.cursor = slot + 1;
        }
        if room_left || persistent.cursor == self.slots {
            for slot in from..self.slots {
                let ours_alone = persistent.ours_alone.contains(&slot);
                if persistent.take_told(slot) && !ours_alone {
                    outcome.other(format!("slot {slot:#x}: Linux was not told"));
                }
            }
            persistent.cursor = 0;
            persistent.first_pass = false;
        }
    }

    /// Empties the table. Linux leaves its marks as they are: its readers hear of what was marked, and of nothing
    /// else that went.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.catch_up()?;
        let status = self.backend.reset()?;
        ensure!(status == 0, "H_LPAR_RESET: {status}");
        let Some(handle) = self.persistent.handle.take() else {
            return Ok(());
        };
        let status = self.backend.read(handle, BUFFER)?.status;
        self.outcome.expect(status == Status::Closed as i64, || {
            format!("a read after the reset: {status}")
        });
        self.close(handle)?;
        self.outcome.because("reset");
        let handle = self.open(self.persistent.flags, 0)?;
        self.persistent.handle = Some(handle);
        let marked = self.persistent.told.clone();
        self.catch_up()?;
        self.persistent.told = marked;
        Ok(())
    }
}
