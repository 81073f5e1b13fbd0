//! A recorded sequence done again: the hypercalls and accesses; streams are in `streams` and
//! `writes`.
//!
//! Compared is
//! * of every hypercall r3 and r4 to r12, those that it has no result for included;
//! * every full, filtered and started-later first pass, slot by slot: the whole table that is;
//! * every read of the persistent reader: what Linux's reader is told, ours has been told by then, with the
//!   same contents; and when Linux's pass ends, ours has been told nothing else, but for what another of
//!   Linux's readers took away from it (they share one bit);
//! * every write: our answer with what it must be by our contract, and the table that it leaves.
//!
//! Where Linux does something that we do not, the answer is held to what is right, the reason is counted under its
//! name ([`super::outcome::REASONS`]), and the table is brought to where Linux's is, so that everything after it is
//! compared as strictly.

use anyhow::Result;
use realhpt::hcall::abi;

use super::access::{Address, C, R};
use super::file::{Access, Call, Line, Sequence, Step};
use super::memory::{Backing, Memory, page_shift};
use super::outcome::Outcome;
use super::streams::Persistent;
use super::{Access as Accessed, Backend, Frame};
use crate::tables::formats::slots;
use crate::tables::record::Entry;

/// Calls that are given to the backend at once.
const BATCH: usize = 256;
/// What the recorded guest had in the registers after its arguments, the first one of them.
const JUNK: u64 = 0xa5a5_0000;

/// Linux's own bit of dword 1: modified.
const MODIFIED: u64 = 1 << 62;

/// DSISR of an access that the protection does not allow.
const PROTECTION: u64 = 0x0800_0000;

const H_SUCCESS: i64 = abi::Status::Success as i64;
const H_PARAMETER: i64 = abi::Status::Parameter as i64;
const H_NOT_FOUND: i64 = abi::Status::NotFound as i64;
const H_PTEG_FULL: i64 = abi::Status::PtegFull as i64;

/// A replay under way.
pub(super) struct Replay<'b, B: Backend + ?Sized> {
    pub(super) backend: &'b mut B,
    /// Slots of the table.
    pub(super) slots: u64,
    pub(super) memory: Memory,
    pub(super) persistent: Persistent,
    pub(super) outcome: Outcome,
    /// Calls not yet made.
    queue: Vec<(usize, Call)>,
}

/// Does a sequence again.
///
/// `done` is told how many lines are behind.
///
/// # Errors
/// The backend failed.
pub fn run<B: Backend + ?Sized>(
    backend: &mut B,
    sequence: &Sequence,
    mut done: impl FnMut(usize),
) -> Result<Outcome> {
    let slots = slots(sequence.order);
    let mut replay = Replay {
        backend,
        slots,
        memory: Memory::new(&sequence.slots),
        persistent: Persistent::new(None, slots),
        outcome: Outcome::default(),
        queue: Vec::new(),
    };
    for (number, line) in sequence.lines.iter().enumerate() {
        replay.line(line)?;
        done(number);
    }
    replay.make_calls()?;
    Ok(replay.outcome)
}

/// A call's registers as the recorded guest loaded them.
fn frame(token: u64, arguments: &[u64]) -> Frame {
    let mut frame = [0; 10];
    let values = std::iter::once(token).chain(arguments.iter().copied().chain(JUNK..));
    for (register, value) in frame.iter_mut().zip(values) {
        *register = value;
    }
    frame
}

/// The registers after a call: r3 and from r4 on results, the others as before.
fn answered(before: &Frame, ret: i64, out: &[u64]) -> Frame {
    let mut after = *before;
    let values = std::iter::once(ret.cast_unsigned()).chain(out.iter().copied());
    for (register, value) in after.iter_mut().zip(values) {
        *register = value;
    }
    after
}

/// Registers for people: the first that differ.
fn differing(expected: &Frame, found: &Frame) -> String {
    let differ = (3..).zip(expected.iter().zip(found));
    let words: Vec<String> = differ
        .filter(|(_, (expected, found))| expected != found)
        .map(|(register, (expected, found))| format!("r{register} {found:x}, not {expected:x}"))
        .collect();
    words.join("; ")
}

impl<B: Backend + ?Sized> Replay<'_, B> {
    fn line(&mut self, line: &Line) -> Result<()> {
        if let Step::Call(call) = &line.step
            && !changes_for_a_reason(call)
        {
            self.queue.push((line.number, call.clone()));
            if self.queue.len() == BATCH {
                self.make_calls()?;
            }
            return Ok(());
        }
        self.make_calls()?;
        self.outcome.begin(line.number);
        match &line.step {
            Step::Call(call) => self.call_apart(call)?,
            Step::Access(access) => self.access(*access)?,
            Step::Read(read) => self.read(read)?,
            Step::Write(write) => self.write(write)?,
            Step::Reset => self.reset()?,
            // Nothing of Linux's to compare with.
            Step::Vrma(entries) => return self.vrma(entries),
        }
        self.outcome.end();
        Ok(())
    }

    /// Makes the calls that wait, and compares.
    fn make_calls(&mut self) -> Result<()> {
        let calls = std::mem::take(&mut self.queue);
        let before: Vec<Frame> = calls
            .iter()
            .map(|(_, call)| frame(call.token, &call.input))
            .collect();
        let mut after = before.clone();
        self.backend.hcalls(&mut after)?;
        for ((line, call), (before, after)) in calls.iter().zip(before.iter().zip(&after)) {
            self.outcome.begin(*line);
            self.compare(call, before, after);
            self.outcome.end();
        }
        Ok(())
    }

    /// Makes a call alone: registers before and after.
    fn alone(&mut self, call: &Call) -> Result<(Frame, Frame)> {
        let before = frame(call.token, &call.input);
        let mut after = [before];
        self.backend.hcalls(&mut after)?;
        let [after] = after;
        Ok((before, after))
    }

    /// A call that is ours, not Linux's: r3, r4, r5.
    fn hcall(&mut self, token: u64, arguments: &[u64]) -> Result<(i64, [u64; 2])> {
        let mut frames = [frame(token, arguments)];
        self.backend.hcalls(&mut frames)?;
        let [[ret, a, b, ..]] = frames;
        Ok((ret.cast_signed(), [a, b]))
    }

    /// The entries of slots as H_READ shows them.
    pub(super) fn entries(&mut self, slots: &[u64]) -> Result<Vec<Option<Entry>>> {
        let mut frames: Vec<Frame> = slots
            .iter()
            .map(|&slot| frame(abi::H_READ, &[0, slot]))
            .collect();
        self.backend.hcalls(&mut frames)?;
        let entry = |&[ret, dw0, dw1, ..]: &Frame| {
            let entry = Entry { dw0, dw1 };
            (ret == 0 && entry.is_valid()).then_some(entry)
        };
        Ok(frames.iter().map(entry).collect())
    }

    fn entry(&mut self, slot: u64) -> Result<Option<Entry>> {
        Ok(self.entries(&[slot])?.pop().flatten())
    }

    /// Makes the entry of a slot another one, by calls that Linux did not have.
    fn set(&mut self, slot: u64, entry: Option<Entry>) -> Result<()> {
        if self.entry(slot)?.is_some() {
            let (ret, _) = self.hcall(abi::H_REMOVE, &[0, slot, 0])?;
            self.outcome.expect(ret == 0, || {
                format!("slot {slot:#x} cannot be emptied: {ret}")
            });
        }
        if let Some(Entry { dw0, dw1 }) = entry {
            let exact = abi::Flags::EXACT.bits();
            let (ret, _) = self.hcall(abi::H_ENTER, &[exact, slot, dw0, dw1])?;
            self.outcome.expect(ret == 0, || {
                format!("slot {slot:#x} cannot be given its entry again: {ret}")
            });
        }
        Ok(())
    }

    /// Compares a call that nothing has to follow.
    fn compare(&mut self, call: &Call, before: &Frame, after: &Frame) {
        let mut expected = answered(before, call.ret, &call.out);
        match call.token {
            abi::H_READ => self.excuse_read(call, &mut expected, after),
            abi::H_CLEAR_REF | abi::H_CLEAR_MOD => self.excuse_clear(&mut expected),
            _ => {}
        }
        self.outcome.expect(expected == *after, || {
            let (name, input) = (&call.name, &call.input);
            format!("{name} {input:x?}: {}", differing(&expected, after))
        });
    }

    /// Takes out of the comparison Linux's own mark in what H_CLEAR_* return.
    fn excuse_clear(&mut self, expected: &mut Frame) {
        if let [0, dword1, ..] = expected
            && *dword1 & MODIFIED != 0
        {
            *dword1 &= !MODIFIED;
            self.outcome.because("modified_bit");
        }
    }

    /// Takes out of the comparison what Linux shows of slots without an entry, and what it forgot to clear.
    fn excuse_read(&mut self, call: &Call, expected: &mut Frame, found: &Frame) {
        let stale = call.is_tagged("read_stale_RC_of_absent");
        // r3 stands before the entries.
        let pairs = expected.iter_mut().skip(1).zip(found.iter().skip(1));
        for (number, (linux, ours)) in pairs.take(call.out.len()).enumerate() {
            let (entry, is_dword1) = (number / 2, number % 2 != 0);
            if call.invalid >> entry & 1 != 0 {
                // Ours shows nothing, whatever Linux shows.
                if std::mem::take(linux) != 0 {
                    self.outcome.because("read_invalid");
                }
            } else if stale && is_dword1 && *linux != *ours && (*linux ^ *ours) & !(R | C) == 0 {
                *linux = *ours;
                self.outcome.because("stale_rc");
            }
        }
    }

    /// Makes a call after which Linux's table may be another one than ours, and brings ours there.
    fn call_apart(&mut self, call: &Call) -> Result<()> {
        match call.token {
            abi::H_REMOVE => self.remove(call),
            abi::H_BULK_REMOVE => self.bulk_remove(call),
            _ => self.enter(call),
        }
    }

    /// H_ENTER of a page that Linux has no host page for.
    fn enter(&mut self, call: &Call) -> Result<()> {
        let (before, after) = self.alone(call)?;
        let [ret, slot, ..] = after;
        let ret = ret.cast_signed();
        // KVM looks at the memory before the slot.
        if call.ret != H_PARAMETER || !matches!(ret, H_SUCCESS | H_PTEG_FULL) {
            self.compare(call, &before, &after);
            return Ok(());
        }
        self.outcome.because("host_page");
        if ret == H_SUCCESS {
            self.set(slot, None)?;
            self.persistent.ours_alone.insert(slot);
        }
        Ok(())
    }

    /// H_REMOVE where Linux tests its own dword 0, not the guest's.
    fn remove(&mut self, call: &Call) -> Result<()> {
        let [flags, slot, argument] = call.input[..] else {
            return Ok(());
        };
        let entry = self.entry(slot)?;
        let (before, after) = self.alone(call)?;
        let [ret, ..] = after;
        let ret = ret.cast_signed();
        if ret == call.ret {
            self.compare(call, &before, &after);
            return Ok(());
        }
        let flags = abi::Flags::from_bits_retain(flags);
        let right = entry.is_some_and(|Entry { dw0, .. }| {
            !(flags.contains(abi::Flags::AVPN) && dw0 & !0x7f != argument
                || flags.contains(abi::Flags::ANDCOND) && dw0 & argument != 0)
        });
        let expected = match entry {
            Some(Entry { dw0, dw1 }) if right => answered(&before, H_SUCCESS, &[dw0, dw1]),
            _ => answered(&before, H_NOT_FOUND, &[]),
        };
        self.outcome.expect(expected == after, || {
            format!("H_REMOVE: {}", differing(&expected, &after))
        });
        self.outcome.because("andcond");
        let linux = if call.ret == H_SUCCESS { None } else { entry };
        self.set(slot, linux)?;
        self.persistent.ours_alone.insert(slot);
        Ok(())
    }

    /// The same in H_BULK_REMOVE.
    fn bulk_remove(&mut self, call: &Call) -> Result<()> {
        /// The condition of a request is H_ANDCOND.
        const fn is_andcond(request: u64) -> bool {
            request >> 56 & 3 == 1
        }
        /// Removed has 0x8 in the upper half of the answer's first byte, not found 0x9.
        const fn is_removed(answer: u64) -> bool {
            answer >> 60 == 8
        }
        let requests: Vec<u64> = call.input.iter().step_by(2).copied().collect();
        let places: Vec<u64> = requests.iter().map(|tsh| tsh & ((1 << 56) - 1)).collect();
        let entries = self.entries(&places)?;
        let (before, after) = self.alone(call)?;
        let mut expected = answered(&before, call.ret, &call.out);
        for (number, (&slot, entry)) in places.iter().zip(&entries).enumerate() {
            let at = 1 + 2 * number;
            let (Some(linux), Some(&ours)) = (expected.get_mut(at), after.get(at)) else {
                continue;
            };
            // The condition of this request, or of one before it for the same slot.
            let conditional = requests
                .iter()
                .zip(&places)
                .take(number + 1)
                .any(|(&request, &place)| place == slot && is_andcond(request));
            if *linux == ours || !conditional || is_removed(*linux) == is_removed(ours) {
                continue;
            }
            let linux = std::mem::replace(linux, ours);
            self.outcome.because("andcond");
            self.set(slot, if is_removed(linux) { None } else { *entry })?;
            self.persistent.ours_alone.insert(slot);
        }
        self.outcome.expect(expected == after, || {
            format!("H_BULK_REMOVE: {}", differing(&expected, &after))
        });
        Ok(())
    }

    /// A load or store through the one entry that translates its address for Linux: hardware saw no entry of a
    /// page that was not there, unless there was no other: then Linux made the page first.
    fn access(&mut self, access: Access) -> Result<()> {
        let Access {
            store,
            ea,
            slb_rs,
            slb_rb,
        } = access;
        let address = Address::new(ea, slb_rs);
        let places: Vec<(u64, u64)> = address.slots(self.slots).collect();
        let slots: Vec<u64> = places.iter().map(|place| place.0).collect();
        let entries = self.entries(&slots)?;
        let (mut there, mut later) = (Vec::new(), Vec::new());
        for ((slot, secondary), entry) in places.into_iter().zip(entries) {
            let Some(entry) = entry else { continue };
            if !address.is_translated_by(secondary, entry.dw0, entry.dw1) {
                continue;
            }
            let real = real_address(entry, ea);
            match self.memory.backing(real) {
                Backing::None => {}
                Backing::Present => there.push((slot, entry, real)),
                Backing::Later => later.push((slot, entry, real)),
            }
        }
        if there.is_empty() {
            there.append(&mut later);
        }
        let [(translating, entry, real)] = there[..] else {
            let words = format!("{} entries translate {ea:#x}, not one", there.len());
            self.outcome.other(words);
            return Ok(());
        };
        // Those that are not there for Linux are out of hardware's way meanwhile.
        for &(slot, ..) in &later {
            self.outcome.because("page_in");
            self.set(slot, None)?;
            self.persistent.ours_alone.insert(slot);
        }
        match self.backend.access(store, ea, slb_rs, slb_rb)? {
            Accessed::Done => {}
            Accessed::Interrupted(PROTECTION) if !store && is_reserved(entry.dw1) => {
                self.outcome.because("read_only_page");
                let referenced = entry.dw1 | R;
                if referenced != entry.dw1 {
                    let dw1 = referenced;
                    self.set(translating, Some(Entry { dw1, ..entry }))?;
                }
            }
            accessed @ Accessed::Interrupted(_) => {
                self.outcome
                    .other(format!("the access at {ea:#x}: {accessed:x?}"));
            }
        }
        for (slot, entry, _) in later {
            self.set(slot, Some(entry))?;
        }
        self.memory.touch(real);
        Ok(())
    }
}

/// Whether the protection of a dword 1 is none that the ISA gives a meaning: pp0 is set, and pp is not 10.
fn is_reserved(dw1: u64) -> bool {
    dw1 >> 63 == 1 && dw1 & 3 != 2
}

/// Whether Linux's table may be another one than ours after this call.
fn changes_for_a_reason(call: &Call) -> bool {
    call.is_tagged("andcond_") || call.is_tagged("why_page_larger_than_host_page")
}

/// The guest real address that an entry translates `ea` to.
fn real_address(entry: Entry, ea: u64) -> u64 {
    const RPN: u64 = 0x0fff_ffff_ffff_f000;
    let shift = page_shift(entry.dw0, entry.dw1).unwrap_or(12);
    (entry.dw1 & RPN) >> shift << shift | ea & ((1 << shift) - 1)
}
