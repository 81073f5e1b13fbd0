//! What a stream that is written does to a table, whatever its bytes are and wherever it is cut: from the
//! contract of H_HPT_WRITE alone (`realhpt::hcall::abi`).

use std::collections::BTreeSet;

use crate::common::stream::Image;
use crate::entry::{SLOTS, entered};
use realhpt::hcall::abi::Status;
use realhpt::table::Format;

/// The most entries of one record that are applied as one.
const WORD: u64 = 64;

/// Entries and headers that a call does in any case: its work is bounded, but not so tightly. An invalid run counts
/// by the entries in it, and one for so many slots.
const FEW: u64 = 24;
const RUN: u64 = 512;

/// The answer to an H_HPT_WRITE: status, bytes consumed, index of the first bad entry.
pub(crate) type Answer = (Status, u64, u64);

/// What a call may do that does all it can.
struct Outcome {
    answer: Answer,
    /// Bytes before what is bad, or not whole: in smaller pieces all of them may be consumed.
    good: u64,
    work: u64,
}

/// The place in a stream, and the table that it has made so far.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    format: Format,
    pub(crate) image: Image,
    /// Slots that may have changed.
    pub(crate) changed: BTreeSet<u64>,
    /// The next slot; entries and then invalid slots that the record has left.
    index: u64,
    valid: u64,
    invalid: u64,
}

impl Stream {
    /// A stream that nothing is written of.
    pub(crate) fn new(format: Format, image: Image) -> Self {
        Self {
            format,
            image,
            changed: BTreeSet::new(),
            index: 0,
            valid: 0,
            invalid: 0,
        }
    }

    /// Whether it stands inside a record.
    pub(crate) fn is_inside_record(&self) -> bool {
        self.valid != 0 || self.invalid != 0
    }

    /// Holds the answer to a call that was given these bytes to what it may be, and follows it. The rest of the
    /// bytes is to be given again. `shown` is the engine's table: where a run of invalid slots is under way
    /// it says how far that is. Whether anything was done.
    pub(crate) fn follow(
        &mut self,
        bytes: &[u8],
        answer: Answer,
        shown: impl Fn(u64) -> Option<(u64, u64)>,
    ) -> bool {
        if bytes.len() < 8 {
            assert_eq!(answer, (Status::Parameter, 0, u64::MAX), "no header fits");
            return false;
        }
        let mut all = self.clone();
        let Outcome {
            answer: expected,
            good,
            work,
        } = all.apply_all(bytes);
        if answer == expected {
            *self = all;
            return expected.1 != 0;
        }
        let (status, consumed, bad) = answer;
        assert!(
            work > FEW,
            "{answer:?}, not {expected:?}, and there is not much to do"
        );
        assert_eq!(
            (status, bad),
            (Status::Success, u64::MAX),
            "a call that stopped early"
        );
        assert!(consumed <= good, "{answer:?}, not {expected:?}");
        let before = self.image.len();
        self.apply_to(bytes, consumed, shown);
        let done = consumed != 0 || self.image.len() < before;
        assert!(done, "the writer does not get on");
        true
    }

    /// Applies everything that is whole and good, in pieces as large as they may be.
    fn apply_all(&mut self, bytes: &[u8]) -> Outcome {
        let mut at = self.start();
        let mut work = 0;
        loop {
            if self.valid != 0 {
                let whole = (bytes.len() as u64 - at) / 16;
                let piece = self.valid.min(WORD - self.index % WORD).min(whole);
                if piece == 0 {
                    break;
                }
                work += piece;
                let good = |number: u64| self.entry(bytes, at + 16 * number).is_some();
                if let Some(bad) = (0..piece).find(|&number| !good(number)) {
                    return Outcome {
                        answer: (Status::Parameter, at, self.index + bad),
                        good: at + 16 * bad,
                        work,
                    };
                }
                for _ in 0..piece {
                    self.apply_entry(bytes, at);
                    at += 16;
                }
            } else if self.invalid != 0 {
                let run = self.index..self.index + self.invalid;
                work += self.image.range(run).count() as u64 + self.invalid / RUN;
                self.invalidate(self.invalid);
            } else {
                let Some(header) = dword(bytes, at) else {
                    break;
                };
                work += 1;
                if let Err(index) = self.begin(header) {
                    return Outcome {
                        answer: (Status::Parameter, at, index),
                        good: at,
                        work,
                    };
                }
                at += 8;
            }
        }
        Outcome {
            answer: (Status::Success, at, u64::MAX),
            good: at,
            work,
        }
    }

    /// Applies as much as a call did that consumed so many bytes.
    fn apply_to(&mut self, bytes: &[u8], end: u64, shown: impl Fn(u64) -> Option<(u64, u64)>) {
        let mut at = self.start();
        loop {
            if self.valid != 0 {
                if at == end {
                    return;
                }
                assert!(at < end, "{end} bytes end inside an entry");
                self.apply_entry(bytes, at);
                at += 16;
            } else if self.invalid != 0 {
                // The doubleword before the run is consumed with the end of it.
                if at == end + 8 {
                    self.follow_run(&shown);
                    return;
                }
                self.invalidate(self.invalid);
            } else if at == end {
                // A run right after its header may be under way, and the header is given again.
                let header = dword(bytes, at);
                if header.is_some_and(|header| self.begin(header).is_ok()) && self.valid == 0 {
                    self.follow_run(&shown);
                }
                (self.valid, self.invalid) = (0, 0);
                return;
            } else {
                assert!(at < end, "{end} bytes end inside a header");
                let header = dword(bytes, at).unwrap();
                self.begin(header)
                    .unwrap_or_else(|index| panic!("a record at {index:#x} was taken"));
                at += 8;
            }
        }
    }

    /// What is not to be looked at: the doubleword before a run that is under way.
    fn start(&self) -> u64 {
        if self.valid == 0 && self.invalid != 0 {
            8
        } else {
            0
        }
    }

    /// Begins a record; if it leaves the table, its index.
    fn begin(&mut self, header: u64) -> Result<(), u64> {
        let (index, valid, invalid) = (header >> 32, header >> 16 & 0xffff, header & 0xffff);
        if index >= SLOTS || index + valid + invalid > SLOTS {
            return Err(index);
        }
        (self.index, self.valid, self.invalid) = (index, valid, invalid);
        Ok(())
    }

    /// The entry there as the guest is shown it, if it can be one.
    fn entry(&self, bytes: &[u8], at: u64) -> Option<(u64, u64)> {
        let (v, r) = (dword(bytes, at)?, dword(bytes, at + 8)?);
        if v & 1 == 0 {
            return None;
        }
        entered(v, r, self.format).map(|(v, r, _)| (v, r))
    }

    fn apply_entry(&mut self, bytes: &[u8], at: u64) {
        let entry = self.entry(bytes, at);
        let entry = entry.unwrap_or_else(|| panic!("the entry of {:#x} was taken", self.index));
        self.image.insert(self.index, entry);
        self.changed.insert(self.index);
        self.index += 1;
        self.valid -= 1;
    }

    /// Makes the invalid run up to a slot done.
    fn invalidate(&mut self, slots: u64) {
        let run = self.index..self.index + slots;
        let gone: Vec<u64> = self.image.range(run).map(|(&slot, _)| slot).collect();
        for slot in gone {
            self.image.remove(&slot);
            self.changed.insert(slot);
        }
        self.index += slots;
        self.invalid -= slots;
    }

    /// Does as much of the invalid run as the engine has done, which is not all.
    fn follow_run(&mut self, shown: impl Fn(u64) -> Option<(u64, u64)>) {
        let run = self.index..self.index + self.invalid;
        let mut entries = self.image.range(run.clone());
        let left = entries.find(|&(&slot, &entry)| shown(slot) == Some(entry));
        let end = match left {
            Some((&left, _)) => left,
            // No entry is left, but it has not looked at all the slots.
            None => run.end,
        };
        self.invalidate(end - self.index);
        self.invalid = (run.end - end).max(1);
    }
}

fn dword(bytes: &[u8], at: u64) -> Option<u64> {
    let bytes = bytes.get(at as usize..)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}
