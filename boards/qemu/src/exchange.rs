//! The runner's side of a window: the memory that it shares with a partition (`realhpt_pseries::exchange`).
//!
//! While the machine runs, only doublewords of the header are touched, each by one atomic access. Bulk data
//! is copied in before the machine starts and out after it has ended; in a replay, which goes on while it runs,
//! by doublewords too. Nothing that the partition wrote is
//! trusted: offsets and lengths are checked before they are used.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use memmap2::{MmapOptions, MmapRaw};
use realhpt::hcall::abi::ReadFlags;
use realhpt_pseries::exchange::{self as layout, word};

use crate::manifest::Window;
use crate::tables::verify::{JournalEntry, Kind, PassRead};

/// What a partition is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// One of the layout's jobs.
    pub job: u64,
    /// LPID of the partition that it is about.
    pub target: u32,
    /// A parameter of the job.
    pub argument: u64,
    /// Input, section by section.
    pub sections: &'a [Vec<u8>],
}

/// How far the partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// One of the layout's phases.
    pub phase: u64,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes to do, 0 if not known.
    pub total: u64,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The partition has not said.
    Unfinished,
    /// All done.
    Done,
    /// A hypercall failed.
    Failed {
        /// Its token.
        call: u64,
        /// Its status.
        status: u64,
        /// A detail.
        detail: u64,
    },
}

/// One pass of output.
#[derive(Clone, Debug)]
pub struct Pass {
    /// What it is for.
    pub kind: Kind,
    /// Its records.
    pub records: Vec<u8>,
    /// Pending slots after it.
    pub pending: u64,
    /// Flags of its last call.
    pub flags: ReadFlags,
    /// Hypercalls it took.
    pub calls: u64,
    /// Timebase ticks it took.
    pub ticks: u64,
}

impl Pass {
    /// The pass as the verification takes it.
    #[must_use]
    pub fn read(&self) -> PassRead<'_> {
        PassRead {
            kind: self.kind,
            records: &self.records,
            pending: self.pending,
            flags: self.flags,
        }
    }
}

/// One measurement of a bench.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// One of the layout's numbers.
    pub what: u64,
    /// The table it is about, or the token.
    pub table: u64,
    /// Hypercalls it took.
    pub calls: u64,
    /// Bytes that they carried.
    pub bytes: u64,
    /// Timebase ticks.
    pub ticks: u64,
    /// Those of the longest call.
    pub longest: u64,
    /// How many passes of a reader these were; 0: none was.
    pub passes: u64,
}

/// Bytes of window that a job over a table of `order` with `input` bytes of sections needs: the table is read
/// out twice as a whole, and what changes in between is a part of it each time.
#[must_use]
pub fn room(order: u32, input: u64) -> u64 {
    let table = 1_u64.checked_shl(order).unwrap_or(u64::MAX >> 8);
    (layout::HEADER + input + 4 * table + (16 << 20)).next_multiple_of(16 << 20)
}

/// A window, mapped.
#[derive(Debug)]
pub struct Exchange {
    map: MmapRaw,
}

impl Exchange {
    /// Maps `window` of the machine's memory.
    ///
    /// # Errors
    /// If it cannot be mapped.
    pub fn map(memory: &File, window: Window) -> Result<Self> {
        let map = MmapOptions::new()
            .offset(window.host)
            .len(usize::try_from(window.size)?)
            .map_raw(memory)?;
        ensure!(
            u64::try_from(map.len())? >= layout::HEADER,
            "the window is too small"
        );
        Ok(Self { map })
    }

    /// Writes a job. The machine must not have been started.
    ///
    /// # Errors
    /// If the window is too small for it.
    pub fn write(&self, job: &Job<'_>) -> Result<()> {
        ensure!(
            job.sections.len() <= layout::MAX_SECTIONS,
            "more than {} sections",
            layout::MAX_SECTIONS
        );
        let mut offset = layout::HEADER;
        for (number, section) in job.sections.iter().enumerate() {
            self.copy_in(offset, section)?;
            self.set(word::FIRST_SECTION + 2 * number, offset);
            let length = u64::try_from(section.len())?;
            self.set(word::FIRST_SECTION + 2 * number + 1, length);
            offset = (offset + length).next_multiple_of(8);
        }
        let size = u64::try_from(self.map.len())?;
        self.set(word::VERSION, layout::VERSION);
        self.set(word::JOB, job.job);
        self.set(word::TARGET, job.target.into());
        self.set(word::ARGUMENT, job.argument);
        self.set(word::SECTIONS, u64::try_from(job.sections.len())?);
        self.set(word::OUTPUT, offset);
        self.set(word::OUTPUT_SIZE, size.saturating_sub(offset));
        self.set(word::MAGIC, layout::MAGIC);
        Ok(())
    }

    /// How far the partition is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            phase: self.get(word::PHASE),
            done: self.get(word::DONE),
            total: self.get(word::TOTAL),
        }
    }

    /// How the job ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.get(word::RESULT) {
            0 => Outcome::Unfinished,
            1 => Outcome::Done,
            _ => Outcome::Failed {
                call: self.get(word::FAILED_CALL),
                status: self.get(word::FAILED_STATUS),
                detail: self.get(word::FAILED_DETAIL),
            },
        }
    }

    /// What is wrong with how the job ended; nothing if it is done.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        match self.outcome() {
            Outcome::Done => None,
            Outcome::Unfinished => Some("the agent did not finish its job".to_owned()),
            Outcome::Failed {
                call,
                status,
                detail,
            } => Some(format!(
                "the agent failed: hypercall {call:#x} gave {}, detail {detail:#x}",
                status.cast_signed()
            )),
        }
    }

    /// The passes that the partition wrote. The machine must have ended.
    ///
    /// # Errors
    /// If one is described wrongly.
    pub fn passes(&self) -> Result<Vec<Pass>> {
        let count = usize::try_from(self.get(word::PASSES))?;
        ensure!(
            count <= layout::MAX_PASSES,
            "the partition says that it wrote {count} passes"
        );
        (0..count)
            .map(|number| {
                self.pass(number)
                    .with_context(|| format!("pass {}", number + 1))
            })
            .collect()
    }

    fn pass(&self, number: usize) -> Result<Pass> {
        use layout::pass::{CALLS, FLAGS, KIND, LENGTH, OFFSET, PENDING, TICKS};
        let word = |which: usize| self.get(word::FIRST_PASS + number * layout::PASS_WORDS + which);
        let kind = word(KIND);
        Ok(Pass {
            kind: Kind::from_word(kind).with_context(|| format!("kind {kind} is none"))?,
            records: self.copy_out(word(OFFSET), word(LENGTH))?,
            pending: word(PENDING),
            flags: ReadFlags::from_bits_retain(word(FLAGS)),
            calls: word(CALLS),
            ticks: word(TICKS),
        })
    }

    /// The measurements that the partition wrote.
    ///
    /// # Errors
    /// If there are more than there can be.
    pub fn measurements(&self) -> Result<Vec<Measurement>> {
        use layout::bench::{MAX_ROWS, ROW_WORDS, row};
        let count = usize::try_from(self.get(word::ROWS))?;
        ensure!(
            count <= MAX_ROWS,
            "the partition says that it made {count} measurements"
        );
        let measurement = |number| {
            let word = |which: usize| self.get(word::FIRST_ROW + number * ROW_WORDS + which);
            Measurement {
                what: word(row::WHAT),
                table: word(row::TABLE),
                calls: word(row::CALLS),
                bytes: word(row::BYTES),
                ticks: word(row::TICKS),
                longest: word(row::LONGEST),
                passes: word(row::PASSES),
            }
        };
        Ok((0..count).map(measurement).collect())
    }

    /// Whether the agent says that the target could not run, since its table has no room for a VRMA.
    #[must_use]
    pub fn has_no_room(&self) -> bool {
        self.get(word::NO_ROOM) == 1
    }

    /// The journal that the partition wrote, if it has one. The machine must have ended.
    ///
    /// # Errors
    /// If it is not one.
    pub fn journal(&self) -> Result<Vec<JournalEntry>> {
        let count = self.get(word::JOURNAL);
        let entry = 8 * u64::try_from(layout::JOURNAL_WORDS)?;
        let bytes = count
            .checked_mul(entry)
            .context("the journal's length is absurd")?;
        let bytes = self
            .copy_out(layout::HEADER, bytes)
            .context("the client's journal")?;
        let dword = |entry: &[u8], number: usize| {
            let bytes = entry
                .chunks_exact(8)
                .nth(number)
                .and_then(|bytes| bytes.try_into().ok());
            u64::from_be_bytes(bytes.unwrap_or_default())
        };
        let entries = bytes.chunks_exact(8 * layout::JOURNAL_WORDS);
        Ok(entries
            .map(|entry| JournalEntry {
                ptex: dword(entry, 0),
                dw0: dword(entry, 1),
                dw1: dword(entry, 2),
            })
            .collect())
    }

    /// Doubleword `number` of the header.
    fn word(&self, number: usize) -> &AtomicU64 {
        let offset = number * 8;
        assert!(
            offset < self.map.len(),
            "the header has no doubleword {number}"
        );
        // SAFETY: the offset is inside the mapping.
        let place = unsafe { self.map.as_mut_ptr().add(offset) };
        // SAFETY: the mapping is page-aligned and the offset a multiple of 8, so the place is aligned; it lives
        // as long as `self`. Others write it at the same time, each by one access to the whole doubleword, as
        // this process does: no access of another size reaches the header while the machine runs.
        unsafe { AtomicU64::from_ptr(place.cast()) }
    }

    /// What doubleword `number` says. What the partition wrote before it wrote that is seen afterwards.
    pub(crate) fn get(&self, number: usize) -> u64 {
        u64::from_be(self.word(number).load(Ordering::Acquire))
    }

    /// Has doubleword `number` say this. A partition that sees it sees what was written before.
    pub(crate) fn set(&self, number: usize, value: u64) {
        self.word(number).store(value.to_be(), Ordering::Release);
    }

    /// Puts bytes behind the header while the machine runs, `offset` being a multiple of 8. The last doubleword is
    /// filled up with zeros.
    ///
    /// # Errors
    /// If they are not in the window.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let whole = bytes.len().next_multiple_of(8);
        self.place(offset, u64::try_from(whole)?)?;
        let first = usize::try_from(offset / 8)?;
        for (number, chunk) in (first..).zip(bytes.chunks(8)) {
            let mut dword = [0; 8];
            for (byte, given) in dword.iter_mut().zip(chunk) {
                *byte = *given;
            }
            self.set(number, u64::from_be_bytes(dword));
        }
        Ok(())
    }

    /// Bytes that the partition put there, while the machine runs; `offset` is a multiple of 8.
    ///
    /// # Errors
    /// If they are not in the window.
    pub(crate) fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        let whole = length
            .checked_next_multiple_of(8)
            .context("the length is absurd")?;
        self.place(offset, whole)?;
        let first = usize::try_from(offset / 8)?;
        let numbers = first..first + usize::try_from(whole / 8)?;
        let mut bytes: Vec<u8> = numbers
            .flat_map(|number| self.get(number).to_be_bytes())
            .collect();
        bytes.truncate(usize::try_from(length)?);
        Ok(bytes)
    }

    /// The place of `length` bytes at `offset`, if they are in the window and not in its header.
    fn place(&self, offset: u64, length: u64) -> Result<(*mut u8, usize)> {
        let end = offset
            .checked_add(length)
            .filter(|&end| end <= self.map.len() as u64);
        ensure!(
            end.is_some() && offset >= layout::HEADER,
            "{length} bytes at {offset:#x} are not in the window of {:#x} bytes",
            self.map.len()
        );
        // SAFETY: the offset is inside the mapping, as was just checked.
        let place = unsafe { self.map.as_mut_ptr().add(usize::try_from(offset)?) };
        Ok((place, usize::try_from(length)?))
    }

    fn copy_in(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let (place, length) = self.place(offset, u64::try_from(bytes.len())?)?;
        // SAFETY: `place` is good for `length` bytes, the length of `bytes`; the machine has not been started,
        // so nobody else uses them, and `bytes` is no part of the mapping, which is never seen as a slice.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, length) };
        Ok(())
    }

    fn copy_out(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        if length == 0 {
            return Ok(Vec::new());
        }
        let (place, length) = self.place(offset, length)?;
        let mut bytes = vec![0; length];
        // SAFETY: `place` is good for `length` bytes, and so is the vector, which was just made; the machine
        // has ended, so nobody writes them.
        unsafe { std::ptr::copy_nonoverlapping(place, bytes.as_mut_ptr(), length) };
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: u64) -> Exchange {
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC)
            .expect("a file in memory");
        let file = File::from(file);
        file.set_len(size).expect("its length");
        Exchange::map(&file, Window { host: 0, size }).expect("a window")
    }

    #[test]
    fn sections_stand_behind_the_header_and_output_behind_them() {
        let exchange = window(room(18, 24));
        let sections = [vec![1; 24], Vec::new(), vec![2; 8]];
        exchange
            .write(&Job {
                job: 1,
                target: 2,
                argument: 0,
                sections: &sections,
            })
            .expect("room");
        assert_eq!(exchange.get(word::SECTIONS), 3);
        assert_eq!(exchange.get(word::FIRST_SECTION), layout::HEADER);
        assert_eq!(exchange.get(word::FIRST_SECTION + 4), layout::HEADER + 24);
        assert_eq!(exchange.get(word::OUTPUT), layout::HEADER + 32);
        assert_eq!(
            exchange.copy_out(layout::HEADER + 16, 16).expect("in it"),
            [[1; 8], [2; 8]].concat()
        );
        assert_eq!(exchange.outcome(), Outcome::Unfinished);
    }

    #[test]
    fn bytes_go_in_and_out_while_a_machine_runs() {
        let exchange = window(layout::HEADER + 64);
        let at = layout::HEADER + 8;
        exchange.put(at, b"0123456789").expect("room");
        assert_eq!(exchange.bytes(at, 10).expect("room"), b"0123456789");
        assert_eq!(exchange.bytes(at + 8, 8).expect("room"), b"89\0\0\0\0\0\0");
        assert!(exchange.put(at + 48, b"012345678").is_err());
        assert!(exchange.put(at - 16, b"0").is_err(), "the header");
        assert!(exchange.bytes(at, u64::MAX - 7).is_err());
        assert!(exchange.bytes(at, u64::MAX).is_err());
    }

    #[test]
    fn doublewords_are_big_endian() {
        let exchange = window(layout::HEADER);
        exchange.set(word::MAGIC, layout::MAGIC);
        assert_eq!(
            exchange
                .word(word::MAGIC)
                .load(Ordering::Relaxed)
                .to_ne_bytes(),
            *b"RHPTXCHG"
        );
    }

    #[test]
    fn a_partition_cannot_point_out_of_its_window() {
        let exchange = window(layout::HEADER + 64);
        let first = word::FIRST_PASS;
        exchange.set(word::PASSES, 1);
        exchange.set(first + layout::pass::KIND, layout::kind::FIRST);
        for (offset, length, good) in [
            (layout::HEADER, 64, true),
            (layout::HEADER, 65, false),
            (layout::HEADER - 8, 8, false),
            (u64::MAX - 7, 64, false),
            (layout::HEADER, u64::MAX, false),
        ] {
            exchange.set(first + layout::pass::OFFSET, offset);
            exchange.set(first + layout::pass::LENGTH, length);
            assert_eq!(exchange.passes().is_ok(), good, "{length} at {offset:#x}");
        }
        exchange.set(word::PASSES, u64::MAX);
        assert!(exchange.passes().is_err());
        exchange.set(word::JOURNAL, u64::MAX / 2);
        assert!(exchange.journal().is_err());
        exchange.set(word::JOURNAL, 2);
        assert_eq!(exchange.journal().expect("two entries fit").len(), 2);
    }
}
