//! Holds the engine to long sequences of hypercalls and stream calls that Linux's KVM-HV executed.
//!
//! `tests/data/kvm-sequences`: thousands of random but structured calls each, with every register and every
//! byte of every stream read recorded, on POWER8 (our ISA 2.07 format is held to it) and POWER9 (ISA 3.0).
//! Compared is
//! * every status and every result register of H_ENTER, H_REMOVE, H_READ, H_PROTECT, H_BULK_REMOVE;
//! * every full, filtered and started-later first pass, slot by slot: the whole table that is;
//! * every read of the persistent reader: what Linux's reader is told, ours has been told by then, with the
//!   same contents; and when Linux's pass ends, ours has been told nothing else, but for what another of
//!   Linux's readers took away from it (they share one bit);
//! * the table after every write, and what of a bad write was done.
//!
//! Where Linux does something that we do not (a *quirk*, tagged in the data), the answer is held to what is
//! right, the reason is counted under its name in [`REASONS`], and the table is brought to where Linux's is, so
//! that everything after it is compared as strictly. A difference without such a tag fails.
//!
//! Played, not called: H_CLEAR_REF and H_CLEAR_MOD (they come with issue 3), by H_READ, H_REMOVE and H_ENTER; R
//! and C of the guest's own loads and stores, in the real entry that translates the address as hardware sets
//! them. KVM's eight memory slots are given as far as the engine has regions; entries of the others are
//! absent here, which a guest does not see but for the size of a page that is refused.
#![allow(clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::corpus::{bytes, number, unhex};
use common::stream::{Header, Image, Record, Said, apply, decode, differences, encode, said};
use common::world::{AGENT, BUFFER_SIZE, CLIENT, CLIENT_HOST, Spec, Store, World};
use realhpt::hcall::abi::{self, OpenFlags, State, Status};
use realhpt::memory::MAX_REGIONS;
use realhpt::sync::Ordering;
use realhpt::table::Format;
use serde_json::Value;

/// What may be otherwise than in Linux, and why.
const REASONS: &[(&str, &str)] = &[
    ("read_invalid_leaks", "section 6: H_READ of a slot without an entry is zero"),
    ("read_stale_RC_of_absent", "a copy of R and C that H_CLEAR_* forgot; the stream does not have it either"),
    ("andcond", "H_ANDCOND tests the guest's dword 0, in which VALID is set and the hypervisor's bits are not"),
    ("why_", "the page's memory slot is one that the engine has no region for: the entry is absent, any size fits"),
    ("clear", "issue 3: H_CLEAR_REF and H_CLEAR_MOD are played"),
    ("write_ret_larger_than_count", "section 6: Linux reads 8 bytes beyond the buffer; they are given here"),
    ("write_truncated_stop", "section 6: a record may be longer than the buffer; the rest is not given here"),
    ("write_error_after_partial_effect", "section 6: of a bad piece nothing is done; Linux does what precedes the bad entry"),
    ("small_buffer", "section 6: a buffer under 24 bytes is H_PARAMETER, not clean"),
    ("reset", "section 6: a reader of a table that was reset gets H_CLOSED"),
];

const R: u64 = 0x100;
const C: u64 = 0x80;
const EXACT: u64 = 1 << 39;
/// Linux's errno where H_ENTER refused an entry of a stream.
const EIO: u64 = 5;
/// The lock bit of Linux, which shows in its stream.
const LEAKED_LOCK: u64 = 0x40;
const SLOTS: u64 = 1 << 14;

/// One host's side of a recorded step: where POWER9 answered otherwise than POWER8 that stands beside it.
#[derive(Clone, Copy)]
struct Step<'v> {
    value: &'v Value,
    p9: bool,
}

impl<'v> Step<'v> {
    fn field(self, name: &str) -> Option<&'v Value> {
        let other = if self.p9 { self.value.get("p9") } else { None };
        other.and_then(|other| other.get(name)).or_else(|| self.value.get(name))
    }

    fn text(self, name: &str) -> &'v str {
        self.value[name].as_str().unwrap()
    }

    fn number(self, name: &str) -> u64 {
        self.value[name].as_u64().unwrap()
    }

    fn numbers(self, name: &str) -> Vec<u64> {
        let list = self.field(name).unwrap().as_array().unwrap();
        list.iter().map(|value| number(value.as_str().unwrap())).collect()
    }

    /// A field with a name of its own for POWER9, which stands there only where it differs.
    fn either(self, p8: &str, p9: &str) -> Option<&'v Value> {
        let other = if self.p9 { self.value.get(p9) } else { None };
        other.or_else(|| self.value.get(p8))
    }

    fn is_tagged(self, tag: &str) -> bool {
        let tags = self.either("q", "q9").and_then(Value::as_array);
        tags.is_some_and(|tags| tags.iter().any(|other| other.as_str().unwrap().starts_with(tag)))
    }

    fn ret(self) -> i64 {
        self.field("ret").unwrap().as_i64().unwrap()
    }

    /// What each read of the stream said, and in how many bytes.
    fn data(self) -> Vec<(u64, Vec<Said>)> {
        let list = self.field("data").unwrap().as_array().unwrap();
        list.iter()
            .map(|bytes| {
                let bytes = unhex(bytes.as_str().unwrap());
                let records = decode(&bytes, Header::Little).unwrap();
                let unlocked = |(v, r)| (v & !LEAKED_LOCK, r);
                let said = said(&records).map(|(slot, entry)| (slot, entry.map(unlocked))).collect();
                (bytes.len() as u64, said)
            })
            .collect()
    }
}

/// Our side of the persistent reader.
struct Persistent {
    handle: Option<u64>,
    /// The table as it knows it.
    copy: Vec<Option<(u64, u64)>>,
    /// Slots that it has been told of and Linux's reader has not yet.
    told: Vec<bool>,
    /// What only it will be told: calls of ours that Linux did not have.
    ours_alone: BTreeSet<u64>,
    /// Where Linux's reader stands.
    cursor: u64,
    /// The table was reset under it: Linux's reader may hear of entries that went then.
    reset: bool,
}

impl Persistent {
    fn new(handle: Option<u64>) -> Self {
        let (copy, told) = (vec![None; SLOTS as usize], vec![false; SLOTS as usize]);
        Self { handle, copy, told, ours_alone: BTreeSet::new(), cursor: 0, reset: false }
    }
}

struct Replay<'s, 'w> {
    world: &'w World<'s>,
    slots: MemorySlots,
    persistent: Persistent,
    reasons: BTreeMap<&'static str, u64>,
    compared: u64,
}

impl Replay<'_, '_> {
    fn because(&mut self, reason: &str) {
        let row = REASONS.iter().find(|row| row.0 == reason);
        let (name, _) = row.unwrap_or_else(|| panic!("{reason} is no reason"));
        *self.reasons.entry(name).or_default() += 1;
    }

    fn hcall(&self, token: u64, arguments: &[u64]) -> (i64, [u64; 9]) {
        let answer = self.world.call(CLIENT, token, arguments);
        (answer.raw.cast_signed(), answer.out)
    }

    /// The entry of a slot as H_READ shows it.
    fn entry(&self, slot: u64) -> Option<(u64, u64)> {
        let (status, [v, r, ..]) = self.hcall(abi::H_READ, &[0, slot]);
        (status == 0 && v & 1 != 0).then_some((v, r))
    }

    /// Makes the entry of a slot another one, by calls that Linux did not have.
    fn set(&mut self, slot: u64, entry: Option<(u64, u64)>) {
        if self.entry(slot).is_some() {
            assert_eq!(self.hcall(abi::H_REMOVE, &[0, slot, 0]).0, 0);
        }
        if let Some((v, r)) = entry {
            assert_eq!(self.hcall(abi::H_ENTER, &[EXACT, slot, v, r]).0, 0);
        }
    }

    fn op(&mut self, step: Step<'_>) {
        let input = step.numbers("in");
        match step.text("op") {
            "LOAD" => self.access(&input, R),
            "STORE" => self.access(&input, R | C),
            "H_CLEAR_REF" => self.clear(step, R),
            "H_CLEAR_MOD" => self.clear(step, C),
            "H_ENTER" => self.enter(step, &input),
            "H_REMOVE" => self.remove(step, &input),
            "H_READ" => self.read_entries(step, &input),
            "H_PROTECT" => {
                let (ret, out) = self.hcall(abi::H_PROTECT, &input);
                assert_eq!(ret, step.ret());
                assert_eq!(out[..input.len()], input, "it has no results");
            }
            "H_BULK_REMOVE" => self.bulk_remove(step, &input),
            other => panic!("{other} is new"),
        }
        self.compared += 1;
    }

    /// A load or store through the entry that translates its address: found as hardware found it, which saw no
    /// entry of a page that was not there, unless there was no other: then Linux made the page first.
    fn access(&mut self, input: &[u64], bits: u64) {
        const COMPARED: u64 = !0x7f | SECONDARY;
        const SECONDARY: u64 = 2;
        let [ea, slb] = [input[0], input[1]];
        assert_eq!(slb & 0xc000_0000_0000_0ffe, 0, "a segment of 256M and 4K pages");
        let vsid = slb >> 12;
        let hash = vsid ^ (ea & 0x0fff_ffff) >> 12;
        let avpn = vsid << 12 | (ea & 0x0fff_ffff) >> 16 & !0x7f;
        let mut found = Vec::new();
        for (hash, h) in [(hash, 0), (!hash, SECONDARY)] {
            let group = 8 * (hash & (SLOTS / 8 - 1));
            for slot in group..group + 8 {
                let Some((v, r)) = self.entry(slot) else { continue };
                let base_4k = v & 4 == 0 || matches!(r >> 12 & 0xff, 0x38) || r >> 12 & 0xf == 7;
                if v & COMPARED == avpn | h && base_4k && self.slots.backing(r) != Backing::None {
                    found.push((slot, v, r));
                }
            }
        }
        if found.len() > 1 {
            found.retain(|&(_, _, r)| self.slots.backing(r) == Backing::Present);
        }
        let [(slot, v, r)] = found[..] else { panic!("exactly one entry translates: {found:x?}") };
        let real = &self.world.client().table().hpt()[2 * slot as usize..][..2];
        if real[0].load(Ordering::Relaxed) & 1 != 0 {
            real[1].set_bits(bits);
        } else if bits & !r != 0 {
            self.set(slot, Some((v, r | bits)));
        }
    }

    fn clear(&mut self, step: Step<'_>, bit: u64) {
        self.because("clear");
        let input = step.numbers("in");
        let slot = input[1];
        let entry = self.entry(slot);
        match step.ret() {
            0 => {
                let (v, r) = entry.expect("Linux has an entry there");
                let stale = if step.is_tagged("clear_rc_leaves") || step.is_tagged("read_stale") { R | C } else { 0 };
                let linux = step.numbers("out")[0] & !(1 << 62);
                assert_eq!(r & !stale, linux & !stale, "dword 1 before");
                if r & bit != 0 {
                    self.set(slot, Some((v, r & !bit)));
                }
            }
            -4 => assert!(slot >= SLOTS),
            -7 => assert_eq!(entry, None),
            other => panic!("{other} is new"),
        }
    }

    fn enter(&mut self, step: Step<'_>, input: &[u64]) {
        let (ret, out) = self.hcall(abi::H_ENTER, input);
        if ret != step.ret() && self.slots.refuses(input[2], input[3]) {
            // KVM looks at the memory before the slot.
            self.because("why_");
            assert_eq!(step.ret(), -4);
            assert!(matches!(ret, 0 | -6));
            if ret == 0 {
                self.set(out[0], None);
                self.persistent.ours_alone.insert(out[0]);
            }
            return;
        }
        assert_eq!(ret, step.ret());
        assert_eq!(out[0], step.numbers("out")[0]);
        assert_eq!(out[1..input.len()], input[1..], "only r4 has a result");
    }

    fn remove(&mut self, step: Step<'_>, input: &[u64]) {
        let before = self.entry(input[1]);
        let (ret, out) = self.hcall(abi::H_REMOVE, input);
        if step.is_tagged("andcond") {
            self.because("andcond");
            let (v, _) = before.expect("there is an entry that the condition is about");
            assert_eq!(ret, if v & input[2] == 0 { 0 } else { -7 }, "the guest's bits decide");
            self.set(input[1], if step.ret() == 0 { None } else { before });
            self.persistent.ours_alone.insert(input[1]);
            return;
        }
        assert_eq!(ret, step.ret());
        let linux = step.numbers("out");
        assert_eq!(out[..linux.len()], linux);
        assert_eq!(out[2], input[2], "r6 has no result");
    }

    fn read_entries(&mut self, step: Step<'_>, input: &[u64]) {
        let (ret, out) = self.hcall(abi::H_READ, input);
        assert_eq!(ret, step.ret());
        let linux = step.numbers("out");
        let invalid = step.either("inv", "inv9").map_or(0, |mask| {
            mask.as_u64().unwrap_or_else(|| number(mask.as_str().unwrap()))
        });
        let stale = if step.is_tagged("read_stale_RC_of_absent") { R | C } else { 0 };
        for (number, (ours, linux)) in out.chunks(2).zip(linux.chunks(2)).enumerate() {
            if invalid >> number & 1 != 0 {
                assert_eq!(ours, [0, 0], "no entry: nothing shown");
                self.because("read_invalid_leaks");
            } else if ours != linux {
                assert_eq!((ours[0], ours[1] & !stale), (linux[0], linux[1] & !stale), "entry {number}");
                self.because("read_stale_RC_of_absent");
            }
        }
    }

    fn bulk_remove(&mut self, step: Step<'_>, input: &[u64]) {
        let slots: Vec<u64> = input.chunks(2).map(|pair| pair[0] & ((1 << 56) - 1)).collect();
        let before: Vec<_> = slots.iter().map(|&slot| self.entry(slot)).collect();
        let (ret, out) = self.hcall(abi::H_BULK_REMOVE, input);
        assert_eq!(ret, step.ret());
        let linux = step.numbers("out");
        if !step.is_tagged("andcond") {
            assert_eq!(out[..8], linux);
            return;
        }
        self.because("andcond");
        for (number, slot) in slots.iter().enumerate() {
            let (ours, linux) = (out[2 * number], linux[2 * number]);
            if ours == linux {
                continue;
            }
            // The condition of this request, or of one before it for the same slot.
            let conditional = |at: usize| slots[at] == *slot && input[2 * at] >> 56 & 3 == 1;
            assert!((0..=number).any(conditional), "only what asks for H_ANDCOND may differ");
            // Removed has 0x8 in the upper half of the answer's first byte, not found 0x9.
            let removed = |answer: u64| answer >> 60 == 8;
            assert_ne!(removed(ours), removed(linux));
            self.set(*slot, if removed(linux) { None } else { before[number] });
            self.persistent.ours_alone.insert(*slot);
        }
    }

    /// Reads with the persistent reader to the end of its pass.
    fn catch_up(&mut self) {
        let Some(handle) = self.persistent.handle else { return };
        let pass = self.world.pass(handle, BUFFER_SIZE);
        for (slot, entry) in said(&pass.records) {
            self.persistent.copy[slot as usize] = entry;
            self.persistent.told[slot as usize] = true;
        }
    }

    fn read(&mut self, step: Step<'_>) {
        let data = step.data();
        match step.text("fd") {
            "P" => self.read_persistent(step, &data),
            kind => {
                self.catch_up();
                let (flags, start) = (step.number("flags"), step.number("start"));
                let handle = self.world.open(CLIENT, flags, start);
                let length = step.number("count");
                let ours: Vec<Said> = said(&self.world.pass(handle, length).records).collect();
                assert_eq!(self.world.close(handle), Status::Success);
                let image = |said: &[Said]| {
                    let mut image = Image::new();
                    apply(&mut image, said.iter().copied());
                    image
                };
                let linux: Vec<Said> = data.into_iter().flat_map(|(_, said)| said).collect();
                if ours != linux {
                    assert_eq!(differences(&image(&ours), &image(&linux)), [""; 0], "reader {kind}");
                    panic!("reader {kind}: each slot once, in order");
                }
                // Linux's persistent reader will not hear of what this one was told.
                self.persistent.told[start as usize..].fill(false);
            }
        }
        self.compared += 1;
    }

    fn read_persistent(&mut self, step: Step<'_>, data: &[(u64, Vec<Said>)]) {
        let count = step.number("count");
        if step.number("open") == 1 {
            if let Some(handle) = self.persistent.handle.take() {
                assert_eq!(self.world.close(handle), Status::Success);
            }
            let handle = Some(self.world.open(CLIENT, 0, 0));
            self.persistent = Persistent::new(handle);
        }
        if count < 24 {
            let handle = self.persistent.handle.unwrap();
            assert_eq!(self.world.read(handle, count), Err(Status::Parameter));
            assert!(data.iter().all(|(bytes, _)| *bytes == 0));
            self.because("small_buffer");
        } else {
            self.catch_up();
            for (bytes, said) in data {
                // What ends a pass, for Linux does not say: the next entry would have had room.
                self.linux_reads(said, bytes + 24 < count);
            }
            assert!(step.number("nreads") != 0 || self.persistent.cursor == 0);
        }
        if step.number("close") == 1 {
            let handle = self.persistent.handle.take().unwrap();
            assert_eq!(self.world.close(handle), Status::Success);
            self.persistent = Persistent::new(None);
        }
    }

    /// One read of Linux's persistent reader.
    fn linux_reads(&mut self, read: &[Said], room_left: bool) {
        let persistent = &mut self.persistent;
        let from = persistent.cursor;
        for &(slot, entry) in read {
            if !core::mem::take(&mut persistent.told[slot as usize]) {
                assert!(persistent.reset && entry.is_none(), "slot {slot:#x}: ours was not told");
            }
            assert_eq!(persistent.copy[slot as usize], entry, "slot {slot:#x}");
            assert!(slot >= from);
            persistent.cursor = slot + 1;
        }
        if room_left || persistent.cursor == SLOTS {
            let left = (from..SLOTS).find(|slot| {
                let told = core::mem::take(&mut persistent.told[*slot as usize]);
                told && !persistent.ours_alone.remove(slot)
            });
            assert_eq!(left, None, "Linux was not told of that slot");
            persistent.cursor = 0;
        }
    }

    fn vrma(&mut self, step: Step<'_>) {
        let entries = step.value["enter"].as_array().unwrap();
        let records: Vec<Record> = entries
            .iter()
            .map(|entry| {
                let [slot, v, r] = std::array::from_fn(|at| number(entry[at].as_str().unwrap()));
                Record { index: slot as u32, valid: vec![(v | 1, r)], invalid: 0 }
            })
            .collect();
        self.world.restore(CLIENT, &encode(&records));
        let before = self.world.image(CLIENT).len();
        assert_eq!(self.world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        assert_eq!(self.world.image(CLIENT).len(), before, "the VRMA that was restored is taken");
        assert_eq!(self.world.client().vrma_shift(), 16);
    }

    fn write(&mut self, step: Step<'_>) {
        let running = self.world.client().state() == State::Running;
        if running {
            assert_eq!(self.world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
        }
        let mut buffer = unhex(step.text("buf"));
        let count = step.number("count");
        // Where it failed it may have looked at those 8 bytes, too.
        let given = u64::try_from(step.ret()).unwrap_or(count + 8);
        buffer.resize(buffer.len().max(given as usize), 0xee);
        buffer.truncate(given as usize);
        turn_headers(&mut buffer);
        if step.ret() > count.cast_signed() {
            self.because("write_ret_larger_than_count");
        } else if given < count {
            self.because("write_truncated_stop");
        }
        // What KVM refuses for its memory slot, it refuses with the old entry gone already.
        let refused = if step.ret() < 0 { self.slots.first_refused(&buffer) } else { None };
        buffer.truncate(refused.map_or(buffer.len(), |(at, _)| at));
        let handle = self.world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
        if buffer.is_empty() {
            assert_eq!(step.ret(), 0);
        } else {
            let (status, consumed, bad) = self.world.write(handle, &buffer);
            match refused {
                _ if step.ret() >= 0 => {
                    assert_eq!((status, consumed, bad), (Status::Success, given, u64::MAX));
                }
                Some((at, slot)) if status == Status::Success => {
                    assert_eq!((consumed, step.number("errno")), (at as u64, EIO));
                    self.because("why_");
                    if self.entry(slot).is_some() {
                        self.set(slot, None);
                    }
                }
                _ => {
                    assert_eq!(status, Status::Parameter);
                    self.follow_a_bad_write(step, &buffer, consumed, bad);
                }
            }
        }
        assert!(matches!(self.world.close(handle), Status::Success | Status::Partial));
        if running {
            let resumed = self.world.call(AGENT, abi::H_LPAR_RESUME, &[u64::from(CLIENT)]);
            assert_eq!(resumed.status(), Status::Success);
        }
        self.compared += 1;
    }

    /// Does what Linux has done of a piece that is refused: the entries before the bad one are entered and,
    /// where H_ENTER was what failed (EIO), the bad one's slot is empty.
    fn follow_a_bad_write(&mut self, step: Step<'_>, buffer: &[u8], consumed: u64, bad: u64) {
        let mut at = 0;
        loop {
            let header: [u8; 8] = buffer[at..at + 8].try_into().unwrap();
            let [i0, i1, i2, i3, n0, n1, ..] = header;
            let index = u64::from(u32::from_be_bytes([i0, i1, i2, i3]));
            let entries = at + 8;
            let end = entries + 16 * usize::from(u16::from_be_bytes([n0, n1]));
            if consumed as usize == at {
                assert_eq!(bad, index, "the record leaves the table");
                assert_eq!(step.number("errno"), 22);
                return;
            }
            if (consumed as usize) < end {
                let applied = (consumed as usize - entries) / 16;
                let good = (bad - index) as usize;
                assert!(applied <= good && entries + 16 * good < end);
                let valid = (applied..good)
                    .map(|number| {
                        let dword = |at: usize| u64::from_be_bytes(buffer[at..at + 8].try_into().unwrap());
                        let at = entries + 16 * number;
                        (dword(at), dword(at + 8))
                    })
                    .collect();
                let lost = u16::from(step.number("errno") == EIO);
                let record = Record { index: (index as usize + applied) as u32, valid, invalid: lost };
                self.because("write_error_after_partial_effect");
                for (slot, entry) in record.slots() {
                    if entry.is_some() || self.entry(slot).is_some() {
                        self.set(slot, entry);
                    }
                }
                return;
            }
            at = end;
        }
    }

    fn reset(&mut self) {
        if self.world.client().state() == State::Running {
            assert_eq!(self.world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
        }
        assert_eq!(self.world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
        if let Some(handle) = self.persistent.handle.take() {
            assert_eq!(self.world.read(handle, 4096), Err(Status::Closed));
            assert_eq!(self.world.close(handle), Status::Success);
            self.because("reset");
            let handle = Some(self.world.open(CLIENT, 0, 0));
            self.persistent = Persistent { reset: true, ..Persistent::new(handle) };
            self.catch_up();
            self.persistent.told.fill(false);
        }
    }
}

/// Turns the headers of a stream from Linux's byte order into ours.
fn turn_headers(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = stream.get_mut(at..at + 8) {
        header[..4].reverse();
        header[4..6].reverse();
        header[6..].reverse();
        at += 8 + 16 * usize::from(u16::from_be_bytes([header[4], header[5]]));
    }
}

/// The memory of a file's virtual machine.
#[derive(Clone)]
struct MemorySlots {
    /// As regions of the client's.
    given: Vec<(u64, u64, u64)>,
    /// Guest address and size of those that there is no region for.
    left: Vec<(u64, u64)>,
    /// Guest address, size and what is there of all.
    all: Vec<[u64; 3]>,
}

/// What is behind a page of KVM's guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// No memory.
    None,
    /// Memory whose page is made when it is touched.
    Later,
    /// A page.
    Present,
}

impl MemorySlots {
    /// The slots that matter most are given. KVM refuses a page of 16M in a slot whose bounds are not multiples
    /// of it or that has smaller pages; here it is refused where guest and host addresses differ by less: so
    /// all but the slot of huge pages are placed 64K askew. The one that has no page present takes every size,
    /// as if it were not there.
    fn of(header: &Value) -> Self {
        const BY_WEIGHT: [usize; 7] = [0, 2, 4, 5, 6, 3, 7];
        const TAKES_ALL: usize = 1;
        const HUGE: u64 = 2;
        let slots = header["slots"].as_array().unwrap();
        assert_eq!(slots.len(), BY_WEIGHT.len() + 1);
        assert_eq!(slots[TAKES_ALL][2], 0);
        let place = BY_WEIGHT.map(|slot| [0, 1, 2].map(|at| slots[slot][at].as_u64().unwrap()));
        let (given, left) = place.split_at(MAX_REGIONS.min(place.len()));
        Self {
            given: given
                .iter()
                .map(|&[guest, size, how]| {
                    let skew = if how == HUGE { 0 } else { 0x1_0000 };
                    (guest, CLIENT_HOST + guest + skew, size)
                })
                .collect(),
            left: left.iter().map(|&[guest, size, _]| (guest, size)).collect(),
            all: slots.iter().map(|slot| [0, 1, 2].map(|at| slot[at].as_u64().unwrap())).collect(),
        }
    }

    /// What is behind the 4K page of a dword 1.
    fn backing(&self, r: u64) -> Backing {
        let page = r & 0x0fff_ffff_ffff_f000;
        let of = self.all.iter().find(|&&[guest, size, _]| guest <= page && page - guest < size);
        match of {
            None => Backing::None,
            Some([_, _, 0]) => Backing::Later,
            // Every second page of 64K.
            Some(&[guest, _, 4]) if (page - guest) >> 16 & 1 != 0 => Backing::Later,
            Some(_) => Backing::Present,
        }
    }

    /// Whether KVM refuses the entry for its page in a slot that is left out.
    fn refuses(&self, v: u64, r: u64) -> bool {
        let shift = match (v & 4 != 0, r >> 12 & 0xf) {
            (true, 0 | 8) => 24,
            (true, 3) => 34,
            _ => return false,
        };
        let page = r & 0x0fff_ffff_ffff_f000 & !((1 << shift) - 1);
        self.left.iter().any(|&(guest, size)| guest <= page && page - guest < size)
    }

    /// The first such entry in a stream: where it begins, and its slot.
    fn first_refused(&self, stream: &[u8]) -> Option<(usize, u64)> {
        let dword = |at: usize| {
            stream.get(at..at + 8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
        };
        let mut at = 0;
        while let Some(header) = dword(at) {
            at += 8;
            for slot in (header >> 32..).take((header >> 16 & 0xffff) as usize) {
                let (v, r) = (dword(at)?, dword(at + 8)?);
                if self.refuses(v, r) {
                    return Some((at, slot));
                }
                at += 16;
            }
        }
        None
    }
}

fn replay(name: &str) {
    let file = bytes(&format!("kvm-sequences/{name}.jsonl.xz"));
    let steps: Vec<Value> =
        file.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
    for (format, p9) in [(Format::V2_07, false), (Format::V3_0, true)] {
        let slots = MemorySlots::of(&steps[0]);
        let client = Spec::client(18).with_regions(&slots.given);
        let store = Store::new(&[Spec::agent(), client]);
        let world = World::new(&store, format);
        let mut replay = Replay {
            world: &world,
            slots: slots.clone(),
            persistent: Persistent::new(None),
            reasons: BTreeMap::new(),
            compared: 0,
        };
        for (number, value) in steps.iter().enumerate().skip(1) {
            let step = Step { value, p9 };
            let guard = Whereabouts { name, number: number + 1, format };
            match step.text("t") {
                "op" => replay.op(step),
                "read" => replay.read(step),
                "vrma" => replay.vrma(step),
                "write" => replay.write(step),
                "reset" => replay.reset(),
                other => panic!("{other} is new"),
            }
            drop(guard);
        }
        println!("{name} {format:?}: {} steps compared; otherwise: {:?}", replay.compared, replay.reasons);
        assert!(replay.compared > 1000);
    }
}

/// Says at which line of which file a test failed.
struct Whereabouts<'n> {
    name: &'n str,
    number: usize,
    format: Format,
}

impl Drop for Whereabouts<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at line {} of {}, {:?}", self.number, self.name, self.format);
        }
    }
}

macro_rules! sequences {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*
    };
}

sequences! { c01 c02 c03 c04 c05 c06 h01 r01 r02 r03 w01 w02 x01 }
