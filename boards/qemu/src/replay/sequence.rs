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

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use realhpt::hcall::abi;

use super::access::{Address, C, R};
use super::file::{Access, Call, Line, Sequence, Step};
use super::memory::{Backing, Memory, page_of, page_shift};
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

/// Dword 0: valid.
const VALID: u64 = 1;
/// Linux's own bits of dword 0: hardware may not use the entry yet; it is locked, as it is while it is looked at.
const ABSENT: u64 = 0x20;
const LOCKED: u64 = 0x40;
/// The bits of dword 0 that are the hypervisor's.
const HYPERVISOR: u64 = VALID | ABSENT | LOCKED;

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
    /// Slots whose entry Linux lets hardware use, and the page that it maps. Not those that had no page behind them
    /// when they were entered, until they are accessed themselves, nor those whose page Linux has replaced.
    usable: BTreeMap<u64, u64>,
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
        persistent: Persistent::new(slots),
        usable: BTreeMap::new(),
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
            abi::H_CLEAR_REF => self.excuse_clear(call, R, &mut expected),
            abi::H_CLEAR_MOD => self.excuse_clear(call, C, &mut expected),
            abi::H_ENTER => {
                if let ([.., dword0, dword1], H_SUCCESS, [slot]) =
                    (&call.input[..], call.ret, &call.out[..])
                {
                    self.entered(*slot, *dword0, *dword1);
                }
            }
            _ => {}
        }
        self.outcome.expect(expected == *after, || {
            let (name, input) = (&call.name, &call.input);
            format!("{name} {input:x?}: {}", differing(&expected, after))
        });
    }

    /// Takes out of the comparison Linux's own mark in what H_CLEAR_* return. Where it is not marked, and its
    /// readers do not know of the bit that is taken away, they will not hear of it.
    fn excuse_clear(&mut self, call: &Call, bit: u64, expected: &mut Frame) {
        let ([_, slot], [0, dword1, ..]) = (&call.input[..], expected) else {
            return;
        };
        if *dword1 & MODIFIED != 0 {
            *dword1 &= !MODIFIED;
            self.outcome.because("modified_bit");
        } else if *dword1 & bit != 0 && self.persistent.is_unseen(*slot, bit) {
            self.outcome.because("unseen_rc");
            self.persistent.ours_alone.insert(*slot);
        }
    }

    /// Takes out of the comparison what Linux shows of slots without an entry, and what it forgot to clear.
    fn excuse_read(&mut self, call: &Call, expected: &mut Frame, found: &Frame) {
        // The first entry's slot; four begin at a multiple of four.
        let first = match call.input[..] {
            [_, slot] if call.out.len() > 2 => slot & !3,
            [_, slot] => slot,
            _ => return,
        };
        // r3 stands before the entries.
        let pairs = expected.iter_mut().skip(1).zip(found.iter().skip(1));
        for (number, (linux, ours)) in pairs.take(call.out.len()).enumerate() {
            let (entry, is_dword1) = (number / 2, number % 2 != 0);
            if call.invalid >> entry & 1 != 0 {
                // Ours shows nothing, whatever Linux shows.
                if std::mem::take(linux) != 0 {
                    self.outcome.because("read_invalid");
                }
            } else if is_dword1
                && !self.usable.contains_key(&(first + number as u64 / 2))
                && *linux != *ours
                && *linux | R | C == *ours | R | C
                && *linux & *ours == *ours
            {
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

    /// H_ENTER of a page that Linux refuses for what is behind it in the host.
    fn enter(&mut self, call: &Call) -> Result<()> {
        let (before, after) = self.alone(call)?;
        let [ret, slot, ..] = after;
        let ret = ret.cast_signed();
        // KVM looks at the memory before the slot.
        let is_good = matches!(call.input[..], [.., v, r] if !self.memory.ours_refuses(v, r));
        if call.ret != H_PARAMETER || !matches!(ret, H_SUCCESS | H_PTEG_FULL) || !is_good {
            self.compare(call, &before, &after);
            return Ok(());
        }
        self.outcome.because("host_page");
        let theirs = answered(&before, call.ret, &call.out);
        let refused = answered(&before, H_PARAMETER, &[]);
        self.outcome.expect(theirs == refused, || {
            format!("H_ENTER of Linux: {}", differing(&refused, &theirs))
        });
        if ret == H_SUCCESS {
            self.set(slot, None)?;
            self.persistent.ours_alone.insert(slot);
        }
        Ok(())
    }

    /// Dword 0 of an entry as Linux's H_ANDCOND finds it: with its own bits, and V where hardware may use it.
    fn dword0_in_linux(&self, slot: u64, dword0: u64) -> u64 {
        let own = if self.usable.contains_key(&slot) {
            VALID | LOCKED
        } else {
            ABSENT | LOCKED
        };
        dword0 & !HYPERVISOR | own
    }

    /// H_REMOVE where Linux tests its own dword 0, not the guest's.
    fn remove(&mut self, call: &Call) -> Result<()> {
        let [flags, slot, argument] = call.input[..] else {
            return Ok(());
        };
        let entry = self.entry(slot)?;
        let (before, after) = self.alone(call)?;
        let flags = abi::Flags::from_bits_retain(flags);
        let answer = |tested: u64| match entry {
            Some(Entry { dw0, dw1 })
                if !(flags.contains(abi::Flags::AVPN) && dw0 & !0x7f != argument
                    || flags.contains(abi::Flags::ANDCOND) && tested & argument != 0) =>
            {
                answered(&before, H_SUCCESS, &[dw0, dw1])
            }
            _ => answered(&before, H_NOT_FOUND, &[]),
        };
        let dword0 = entry.map_or(0, |entry| entry.dw0);
        let (right, theirs) = (answer(dword0), answer(self.dword0_in_linux(slot, dword0)));
        if right == theirs {
            self.compare(call, &before, &after);
            return Ok(());
        }
        self.outcome.expect(right == after, || {
            format!("H_REMOVE: {}", differing(&right, &after))
        });
        let recorded = answered(&before, call.ret, &call.out);
        self.outcome.expect(recorded == theirs, || {
            format!("H_REMOVE in Linux: {}", differing(&theirs, &recorded))
        });
        self.outcome.because("andcond");
        let left = if call.ret == H_SUCCESS { None } else { entry };
        self.set(slot, left)?;
        self.persistent.ours_alone.insert(slot);
        Ok(())
    }

    /// The same in H_BULK_REMOVE, in which a request may be for a slot that one before it emptied, for one of the
    /// two.
    fn bulk_remove(&mut self, call: &Call) -> Result<()> {
        let requests = Request::all(&call.input);
        let places: BTreeSet<u64> = requests.iter().map(|request| request.slot).collect();
        let places: Vec<u64> = places.into_iter().collect();
        let entries = self.entries(&places)?;
        let before_it: BTreeMap<u64, Option<Entry>> = places.into_iter().zip(entries).collect();
        let (mut right, mut linux) = (before_it.clone(), before_it);
        let (before, after) = self.alone(call)?;
        let mut expected = answered(&before, call.ret, &call.out);
        for (request, answer) in requests.iter().zip(expected.iter_mut().skip(1).step_by(2)) {
            if request.is_end || !Request::is_done(*answer) {
                break;
            }
            let slot = request.slot;
            let in_linux = |entry: Entry| self.dword0_in_linux(slot, entry.dw0);
            let wanted = request.answer(right.get(&slot).copied().flatten(), |entry| entry.dw0);
            let theirs = request.answer(linux.get(&slot).copied().flatten(), in_linux);
            if Request::is_removed(theirs) {
                linux.insert(slot, None);
            }
            if Request::is_removed(wanted) {
                right.insert(slot, None);
            }
            if *answer == theirs && theirs != wanted {
                *answer = wanted;
                self.outcome.because("andcond");
            }
        }
        self.outcome.expect(expected == after, || {
            format!("H_BULK_REMOVE: {}", differing(&expected, &after))
        });
        for (slot, entry) in linux {
            if right.get(&slot) != Some(&entry) {
                self.set(slot, entry)?;
                self.persistent.ours_alone.insert(slot);
            }
        }
        Ok(())
    }

    /// Notes that Linux has an entry in a slot from now on.
    pub(super) fn entered(&mut self, slot: u64, dword0: u64, dword1: u64) {
        let page = page_of(dword0, dword1).unwrap_or(dword1);
        if self.memory.backing(page) == Backing::Present {
            self.usable.insert(slot, page);
        } else {
            self.usable.remove(&slot);
        }
    }

    /// A load or store through the one entry that translates its address for Linux: the one that it lets hardware
    /// use, or else the first one that is found, which it then makes usable.
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
        let mut found = Vec::new();
        for ((slot, secondary), entry) in places.into_iter().zip(entries) {
            if let Some(entry) = entry
                && address.is_translated_by(secondary, entry.dw0, entry.dw1)
                && self.memory.backing(real_address(entry, ea)) != Backing::None
            {
                found.push((slot, entry));
            }
        }
        let usable: Vec<_> = (0..found.len())
            .filter(|&number| {
                let slot = found.get(number).map(|found| found.0);
                slot.is_some_and(|slot| self.usable.contains_key(&slot))
            })
            .collect();
        if found.is_empty() || usable.len() > 1 {
            let words = format!("{} entries translate {ea:#x}, not one", usable.len());
            self.outcome.other(words);
            return Ok(());
        }
        let mut chosen = usable.first().copied();
        if let Some(&(_, entry)) = chosen.and_then(|number| found.get(number))
            && self.touch(real_address(entry, ea), store)
        {
            // Its page was replaced, and Linux looks again.
            chosen = None;
        }
        let (translating, entry) = found.remove(chosen.unwrap_or_default());
        let real = real_address(entry, ea);
        if chosen.is_none() {
            let _ = self.touch(real, store);
        }
        let page = page_of(entry.dw0, entry.dw1).unwrap_or(real);
        self.usable.insert(translating, page);
        // Those that Linux keeps from hardware are out of its way meanwhile.
        for &(slot, _) in &found {
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
        for (slot, entry) in found {
            self.set(slot, Some(entry))?;
        }
        Ok(())
    }

    /// Notes that the guest accesses a guest real address. Whether Linux gives it another page for that, which it
    /// does not let hardware use before an entry of the page is accessed again.
    fn touch(&mut self, real: u64, store: bool) -> bool {
        let replaced = self.memory.touch(real, store);
        if replaced {
            self.usable
                .retain(|_, page| !Memory::is_one_page(*page, real));
        }
        replaced
    }
}

/// A request of H_BULK_REMOVE.
struct Request {
    is_end: bool,
    condition: u64,
    slot: u64,
    argument: u64,
}

impl Request {
    const ANDCOND: u64 = 1;
    const AVPN: u64 = 2;

    fn all(input: &[u64]) -> Vec<Self> {
        let pairs = input.chunks_exact(2);
        pairs
            .filter_map(|pair| pair.try_into().ok().map(Self::new))
            .collect()
    }

    const fn new([request, argument]: [u64; 2]) -> Self {
        Self {
            is_end: request >> 62 == 3,
            condition: request >> 56 & 3,
            slot: request & ((1 << 56) - 1),
            argument,
        }
    }

    /// Whether it tests bits that Linux's dword 0 may have otherwise than the guest's.
    const fn tests_hypervisor(&self) -> bool {
        self.condition == Self::ANDCOND && self.argument & HYPERVISOR != 0
    }

    /// The answer to it, of a slot with this entry, when H_ANDCOND tests that dword 0 of it.
    fn answer(&self, entry: Option<Entry>, tested: impl Fn(Entry) -> u64) -> u64 {
        let found = entry.filter(|&entry| match self.condition {
            Self::ANDCOND => tested(entry) & self.argument == 0,
            Self::AVPN => entry.dw0 & !0x7f == self.argument,
            _ => true,
        });
        let code = match found {
            Some(Entry { dw1, .. }) => 8 << 60 | (dw1 & (R | C)) << 51,
            None => 9 << 60,
        };
        code | self.condition << 56 | self.slot
    }

    /// Whether an answer says that the slot was looked at: it has 0x8 in its first digit where the entry was
    /// removed, 0x9 where none was found.
    const fn is_done(answer: u64) -> bool {
        matches!(answer >> 60, 8 | 9)
    }

    const fn is_removed(answer: u64) -> bool {
        answer >> 60 == 8
    }
}

/// Whether the protection of a dword 1 is none that the ISA gives a meaning: pp0 is set, and pp is not 10.
fn is_reserved(dw1: u64) -> bool {
    dw1 >> 63 == 1 && dw1 & 3 != 2
}

/// Whether Linux's table may be another one than ours after this call.
fn changes_for_a_reason(call: &Call) -> bool {
    match (call.token, &call.input[..]) {
        (abi::H_REMOVE, &[flags, _, argument]) => {
            let flags = abi::Flags::from_bits_retain(flags);
            flags.contains(abi::Flags::ANDCOND) && argument & HYPERVISOR != 0
        }
        (abi::H_BULK_REMOVE, input) => Request::all(input).iter().any(Request::tests_hypervisor),
        _ => {
            call.is_tagged("why_page_larger_than_host_page")
                || call.is_tagged("why_memslot_not_aligned_to_page_size")
        }
    }
}

/// The guest real address that an entry translates `ea` to.
fn real_address(entry: Entry, ea: u64) -> u64 {
    const BASE: u64 = (1 << 12) - 1;
    let shift = page_shift(entry.dw0, entry.dw1).unwrap_or(12);
    page_of(entry.dw0, entry.dw1).unwrap_or(entry.dw1 & !BASE) | ea & ((1 << shift) - 1)
}
