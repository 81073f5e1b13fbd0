//! A trace done again: every call about hashed page tables, and the table that they leave.
//!
//! Compared are r3 to r12 after each call. What may be otherwise:
//! * bit 0x40 of a dword 0: QEMU's mark of a changed entry, which shows in what its H_REMOVE and H_READ return;
//! * C of a dword 1 that is set in the recording only: the recorded guest's stores set it, and they are not done
//!   again. It is counted;
//! * the place of R and C in the answers of H_BULK_REMOVE: QEMU puts them 8 bits too low (bits 50 and 51, not 58
//!   and 59 as LoPAR 14.5.4.1.7 has it);
//! * H_RESIZE_HPT_PREPARE that is busy for longer is made again: how long it takes is a machine's own affair.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use realhpt::hcall::abi::{self, ReadFlags};

use super::access::C;
use super::trace::{H_RESIZE_HPT_COMMIT, H_RESIZE_HPT_PREPARE, Recorded, Trace, name};
use super::{Backend, Frame, Layout, Region};
use crate::tables::formats::{ORDERS, Table};
use crate::tables::model::{Mask, Model};
use crate::tables::record::Entry;

/// The order of the table that the recorded guests began with.
pub const ORDER: u32 = 22;

/// Calls that are given to the backend at once.
const BATCH: usize = 4096;
/// Differences that are kept to be shown.
const SHOWN: usize = 10;
/// The most memory that the client is given; pages beyond it are absent, which no call shows.
const MEMORY: u64 = 1 << 30;
/// A page that every region of it takes.
const LARGE_PAGE: u64 = 16 << 20;
/// How often a call that is busy is made again.
const AGAIN: usize = 10_000;
/// The buffer that the final table is read with.
const BUFFER: u64 = 1 << 16;
/// QEMU's mark of a changed entry, in dword 0.
const DIRTY: u64 = 0x40;
/// H_LONG_BUSY_ORDER_1_MSEC to H_LONG_BUSY_ORDER_100_SEC.
const LONG_BUSY: std::ops::RangeInclusive<u64> = 9900..=9905;

/// How the calls of one kind went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many were made.
    pub made: u64,
    /// How many were answered as recorded.
    pub agreed: u64,
    /// How many of these but for a C that the recorded guest's stores had set.
    pub but_c: u64,
    /// How many have no answer in the recording.
    pub unseen: u64,
}

/// What the replay of a trace found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By the names of the calls.
    pub counts: BTreeMap<&'static str, Count>,
    /// Differences.
    pub differences: u64,
    /// The first of them: line and what it is.
    pub shown: Vec<(usize, String)>,
    /// log2 of the final table's size in bytes.
    pub order: u32,
    /// A first pass over it.
    pub records: Vec<u8>,
}

/// The client's partition for a trace: memory as far as its entries reach.
#[must_use]
pub fn layout(trace: &Trace, order: u32) -> Layout {
    let end = trace.memory().unwrap_or_default();
    let bytes = end.clamp(LARGE_PAGE, MEMORY).next_multiple_of(LARGE_PAGE);
    let region = Region {
        guest: 0,
        bytes,
        page: LARGE_PAGE,
    };
    Layout {
        order,
        regions: vec![region],
    }
}

/// Does the calls of a trace again on a table of `order`, and reads the table that they leave.
///
/// `done` is told how many calls are behind.
///
/// # Errors
/// The backend failed.
pub fn run<B: Backend + ?Sized>(
    backend: &mut B,
    trace: &Trace,
    order: u32,
    mut done: impl FnMut(usize),
) -> Result<Outcome> {
    let mut outcome = Outcome {
        order,
        ..Outcome::default()
    };
    let mut rest = trace.calls.as_slice();
    while let [first, ..] = rest {
        let number = if is_resize(first.token()) {
            outcome.resize(backend, first)?;
            1
        } else {
            let calls = rest.iter().take(BATCH);
            let number = calls.take_while(|call| !is_resize(call.token())).count();
            outcome.batch(backend, rest.get(..number).unwrap_or_default())?;
            number
        };
        rest = rest.get(number..).unwrap_or_default();
        done(trace.calls.len() - rest.len());
    }
    outcome.records = read(backend)?;
    Ok(outcome)
}

/// A first pass over the client's table.
fn read<B: Backend + ?Sized>(backend: &mut B) -> Result<Vec<u8>> {
    let (status, handle) = backend.open(0, 0)?;
    ensure!(status == 0, "H_HPT_OPEN: {status}");
    let mut records = Vec::new();
    let mut idle = 0;
    while idle < AGAIN {
        let answer = backend.read(handle, BUFFER)?;
        ensure!(answer.status == 0, "H_HPT_READ: {}", answer.status);
        idle = if answer.bytes.is_empty() { idle + 1 } else { 0 };
        records.extend(answer.bytes);
        if ReadFlags::from_bits_retain(answer.state & 0xffff_ffff).contains(ReadFlags::END_OF_PASS)
        {
            let status = backend.close(handle)?;
            ensure!(status == 0, "H_HPT_CLOSE: {status}");
            return Ok(records);
        }
    }
    bail!("the reader does not get on");
}

const fn is_resize(token: u64) -> bool {
    matches!(token, H_RESIZE_HPT_PREPARE | H_RESIZE_HPT_COMMIT)
}

impl Outcome {
    /// Makes calls that follow one another, and compares.
    fn batch<B: Backend + ?Sized>(&mut self, backend: &mut B, calls: &[Recorded]) -> Result<()> {
        let mut frames: Vec<Frame> = calls.iter().map(|call| call.before).collect();
        backend.hcalls(&mut frames)?;
        for (call, frame) in calls.iter().zip(&frames) {
            self.compare(call, frame);
        }
        Ok(())
    }

    /// Makes a call that resizes the table, which may take longer than it did in the recording.
    fn resize<B: Backend + ?Sized>(&mut self, backend: &mut B, call: &Recorded) -> Result<()> {
        let is_busy = |frame: &Frame| LONG_BUSY.contains(&frame[0]);
        for _ in 0..AGAIN {
            let mut frames = [call.before];
            backend.hcalls(&mut frames)?;
            let [frame] = frames;
            if is_busy(&frame) && call.after.is_some_and(|after| !is_busy(&after)) {
                continue;
            }
            self.compare(call, &frame);
            if call.token() == H_RESIZE_HPT_COMMIT && frame[0] == 0 {
                let order = u32::try_from(call.before[2]).unwrap_or(u32::MAX);
                ensure!(ORDERS.contains(&order), "a resize to order {order}");
                self.order = order;
            }
            return Ok(());
        }
        bail!("line {}: the table cannot be prepared", call.line);
    }

    fn compare(&mut self, call: &Recorded, ours: &Frame) {
        let name = name(call.token()).unwrap_or("unknown");
        let count = self.counts.entry(name).or_default();
        count.made += 1;
        let Some(recorded) = &call.after else {
            count.unseen += 1;
            return;
        };
        let (mut theirs, mut ours) = (*recorded, *ours);
        let but_c = excuse(call, &mut theirs, &mut ours);
        if theirs == ours {
            count.agreed += 1;
            count.but_c += u64::from(but_c);
            return;
        }
        let differ = (3..).zip(theirs.iter().zip(&ours));
        let words: Vec<String> = differ
            .filter(|(_, (theirs, ours))| theirs != ours)
            .map(|(register, (theirs, ours))| format!("r{register} {ours:x}, not {theirs:x}"))
            .collect();
        self.differs(call.line, format!("{name}: {}", words.join("; ")));
    }

    fn differs(&mut self, line: usize, what: String) {
        self.differences += 1;
        if self.shown.len() < SHOWN {
            self.shown.push((line, what));
        }
    }

    /// Holds the final table to the recorded one. How many entries lack a C that the recorded guest's stores set.
    ///
    /// # Errors
    /// Records that are none.
    pub fn hold_to(&mut self, recorded: &Table) -> Result<u64> {
        if self.order != recorded.order {
            let words = format!("the table has order {}, not {}", self.order, recorded.order);
            self.differs(0, words);
            return Ok(0);
        }
        let (mut ours, mut theirs) = (Model::new(self.order), Model::new(self.order));
        ours.apply(&self.records)?;
        for section in &recorded.sections {
            theirs.apply(section)?;
        }
        let mask = Mask { dw0: DIRTY, dw1: 0 };
        let mut but_c = 0;
        for difference in ours.differences(&theirs, mask) {
            match (difference.left, difference.right) {
                (Some(left), Some(right)) if is_but_c(left, right) => but_c += 1,
                _ => self.differs(0, difference.in_words("ours", "recorded")),
            }
        }
        Ok(but_c)
    }
}

/// Whether two entries, QEMU's mark aside, differ in that only the recorded one has C.
fn is_but_c(ours: Entry, recorded: Entry) -> bool {
    (ours.dw0 ^ recorded.dw0) & !DIRTY == 0 && ours.dw1 | C == recorded.dw1
}

/// Takes what may be otherwise out of the registers after a call. Whether C was.
fn excuse(call: &Recorded, theirs: &mut Frame, ours: &mut Frame) -> bool {
    /// R and C of an answered request of H_BULK_REMOVE: LoPAR's place, and QEMU's.
    const BULK_C: u64 = 1 << 58;
    const QEMU_BULK_RC: u64 = 3 << 50;
    let is_request = |tsh: u64| tsh >> 62 == 1;
    let mut but_c = false;
    let succeeded = theirs[0] == 0;
    let registers = theirs.iter_mut().zip(ours.iter_mut()).skip(1);
    match call.token() {
        abi::H_BULK_REMOVE => {
            let requests = call.before.iter().skip(1).zip(registers).step_by(2);
            for (_, (theirs, ours)) in requests.filter(|(tsh, _)| is_request(**tsh)) {
                *theirs = *theirs & !QEMU_BULK_RC | (*theirs & QEMU_BULK_RC) << 8;
                if *ours | BULK_C == *theirs && *ours != *theirs {
                    *theirs = *ours;
                    but_c = true;
                }
            }
        }
        token @ (abi::H_REMOVE | abi::H_READ) if succeeded => {
            let flags = abi::Flags::from_bits_retain(call.before[1]);
            let four = token == abi::H_READ && flags.contains(abi::Flags::READ_4);
            let entries = if four { 4 } else { 1 };
            for (number, (theirs, ours)) in registers.take(2 * entries).enumerate() {
                if number % 2 == 0 {
                    *theirs &= !DIRTY;
                } else if *ours | C == *theirs && *ours != *theirs {
                    *theirs = *ours;
                    but_c = true;
                }
            }
        }
        _ => {}
    }
    but_c
}
