//! The model beside the engine: each step is done in both, and the answers are compared. The guest's calls are
//! in [`calls`].

mod calls;

use std::collections::{BTreeMap, BTreeSet};

use crate::common::stream::{Header, Image, Record, apply, decode, differences, encode, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, CLIENT_MEMORY, Store, World};
use crate::entry::{BLOCK, BOLTED, C, Page, R, SLOTS, page};
use crate::ops::Op;
use crate::written::Stream;
use realhpt::hcall::abi::{self, OpenFlags, ReadFlags, Status};
use realhpt::table::Format;

/// An entry of the model: as the guest is shown it, with every R and C that hardware has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    v: u64,
    r: u64,
    usable: bool,
}

impl Entry {
    /// Whether hardware could still set an R or C that is not known: not if both are set, or R is and no key may write.
    fn may_tell(&self) -> bool {
        let pp = self.r >> 63 << 2 | self.r & 3;
        let read_only = [0b011, 0b110, 0b111].contains(&pp);
        self.usable && (self.r & R == 0 || self.r & C == 0 && !read_only)
    }
}

/// What a reader ought to know.
struct Reader {
    handle: u64,
    bolted_only: bool,
    start: u64,
    pass: u64,
    /// In the first pass: what comes next.
    cursor: u64,
    copy: Image,
    /// Slots that changed and that it has not been told of since.
    due: BTreeSet<u64>,
    /// Records in this pass.
    found: bool,
    /// Something happened since the pass began.
    disturbed: bool,
}

impl Reader {
    /// Whether each mark it is given is about a change since it was opened. With a filter or a start, R and C
    /// that hardware set before may be found late, and slots be said again.
    fn is_strict(&self) -> bool {
        !self.bolted_only && self.start == 0
    }

    fn shows(&self, entry: Option<&Entry>) -> Option<(u64, u64)> {
        let entry = entry.filter(|entry| !self.bolted_only || entry.v & BOLTED != 0)?;
        Some((entry.v, entry.r))
    }

    /// Its copy is the table, as its filter shows it.
    fn has_the_table(&self, entries: &BTreeMap<u64, Entry>) {
        let shown = |(&slot, entry)| Some((slot, self.shows(Some(entry))?));
        let mut table: Image = entries.iter().filter_map(shown).collect();
        if self.start != 0 {
            // What lay before the start is known only where it changed.
            table.retain(|slot, _| *slot >= self.start || self.copy.contains_key(slot));
        }
        assert_eq!(
            differences(&self.copy, &table),
            [""; 0],
            "the copy is the table"
        );
    }

    /// Slots that it has still to be told of.
    fn pending(&self) -> u64 {
        let ahead = if self.pass == 1 {
            SLOTS - self.cursor
        } else {
            0
        };
        ahead + self.due.len() as u64
    }
}

pub(crate) struct Model {
    world: World<'static>,
    format: Format,
    entries: BTreeMap<u64, Entry>,
    readers: Vec<Reader>,
    paused: bool,
    /// The guest's calls are made for it where that can be.
    by_proxy: bool,
    /// Slots whose R or C hardware has set: their marks come when someone looks.
    touched: BTreeSet<u64>,
    marks: Marks,
}

/// Changes that the readers' counts may not have yet: each call on a reader takes those of two blocks at least, more
/// than that it need not do at once.
#[derive(Default)]
struct Marks {
    /// Blocks that have some, or had.
    blocks: BTreeSet<u64>,
    /// How many of them may have some still.
    left: usize,
}

impl Marks {
    fn add(&mut self, slot: u64) {
        if self.blocks.insert(slot / BLOCK) || self.left < self.blocks.len() {
            self.left += 1;
        }
    }

    fn take_two(&mut self) {
        self.left = self.left.saturating_sub(2);
        if self.left == 0 {
            self.blocks.clear();
        }
    }

    /// How many of these slots may not be counted.
    fn uncounted(&self, due: &BTreeSet<u64>) -> u64 {
        let of = |block: &u64| due.range(block * BLOCK..(block + 1) * BLOCK).count() as u64;
        let mut counts: Vec<u64> = self.blocks.iter().map(of).collect();
        counts.sort_unstable();
        counts.iter().rev().take(self.left).sum()
    }
}

/// The entries that a start makes. Real mode: 16M pages of the 1T segment 0x1ffffff. Hash: that VSID, xor itself
/// << 25, xor the page.
fn vrma() -> BTreeMap<u64, Entry> {
    let entry = |page: u64| {
        let entry = Entry {
            v: 0x4001_ffff_ff00_0015 | page << 8,
            r: page << 24 | 0x190,
            usable: true,
        };
        (8 * (0x7ff ^ page) + 7, entry)
    };
    (0..CLIENT_MEMORY >> 24).map(entry).collect()
}

impl Model {
    /// In memory for an agent and a client, all zero; what hardware does late outlives every borrow of it.
    pub(crate) fn new(store: &'static Store, format: Format) -> Self {
        let world = World::new(store, format);
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        Self {
            world,
            format,
            entries: vrma(),
            readers: vec![],
            paused: false,
            by_proxy: false,
            touched: BTreeSet::new(),
            marks: Marks::default(),
        }
    }

    fn changed(&mut self, slot: u64) {
        // A call by proxy has shared them out before it returned.
        let shared_out = self.paused && self.by_proxy;
        if !self.readers.is_empty() && !shared_out {
            self.marks.add(slot);
        }
        self.told(slot);
    }

    /// A change that was shared out before the call returned.
    fn told(&mut self, slot: u64) {
        for reader in &mut self.readers {
            reader.disturbed = true;
            if reader.pass > 1 || slot < reader.cursor {
                reader.due.insert(slot);
            }
        }
    }

    fn call(&self, token: u64, arguments: &[u64]) -> (Status, [u64; 9]) {
        if self.by_proxy {
            match self.world.proxy(CLIENT, token, arguments) {
                Ok(answer) => {
                    assert!(self.paused, "a call for a partition that runs");
                    return (answer.status(), answer.out);
                }
                Err(status) => assert_eq!((status, self.paused), (Status::Busy, false)),
            }
        }
        let answer = self.world.call(CLIENT, token, arguments);
        (answer.status(), answer.out)
    }

    pub(crate) fn step(&mut self, op: Op) {
        match op {
            Op::Enter { flags, slot, v, r } => self.enter(flags, slot, v, r),
            Op::Remove {
                flags,
                slot,
                with,
                late,
            } => self.remove(flags, slot, with, late),
            Op::Protect {
                flags,
                slot,
                with,
                late,
            } => self.protect(flags, slot, with, late),
            Op::Read { flags, slot } => self.read(flags, slot),
            Op::Bulk(requests) => self.bulk(requests),
            Op::Block { of, with, requests } => self.block(of, with, requests),
            Op::Clear {
                bit,
                flags,
                slot,
                late,
            } => self.clear(bit, flags, slot, late),
            Op::Touch { slot, bits } => self.touch(slot, bits),
            Op::Open { flags, start } => self.open(flags, start),
            Op::Stream { reader, length } => self.stream(reader, length),
            Op::Close { reader } => {
                if reader < self.readers.len() {
                    assert_eq!(
                        self.world.close(self.readers.swap_remove(reader).handle),
                        Status::Success
                    );
                }
            }
            Op::Pause => {
                assert_eq!(
                    self.world.control(abi::H_LPAR_PAUSE, CLIENT),
                    Status::Success
                );
                self.paused = true;
                // It has shared everything out.
                self.marks = Marks::default();
            }
            Op::Resume => {
                let resumed = self
                    .world
                    .call(AGENT, abi::H_LPAR_RESUME, &[u64::from(CLIENT)]);
                let expected = if self.paused {
                    Status::Success
                } else {
                    Status::Busy
                };
                assert_eq!(resumed.status(), expected);
                self.paused = false;
            }
            Op::Write { records, cut } => self.write(&records, cut),
            Op::PageInit {
                flags,
                page,
                source,
            } => self.page_init(flags, page, source),
            Op::Resize {
                commits,
                flags,
                shift,
            } => self.resize(commits, flags, shift),
            Op::ClearAll => self.clear_all(),
            Op::Reset => self.reset(),
            Op::Stat => {
                self.stat();
            }
            Op::Proxy(by_proxy) => self.by_proxy = by_proxy,
        }
    }

    fn open(&mut self, flags: u64, start: u64) {
        let opened = self
            .world
            .call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), flags, start]);
        if flags > 3 {
            assert_eq!(opened.status(), Status::Parameter);
        } else if flags & OpenFlags::WRITE.bits() != 0 {
            let expected = match start {
                0 if self.paused => Status::Success,
                0 => Status::Busy,
                _ => Status::Parameter,
            };
            assert_eq!(opened.status(), expected);
            if expected == Status::Success {
                let closed = self.world.close(opened.ok()[0]);
                assert_eq!(closed, Status::Success);
            }
        } else if start >= SLOTS {
            assert_eq!(opened.status(), Status::Parameter);
        } else if self.readers.len() == 4 {
            assert_eq!(opened.status(), Status::Resource);
        } else {
            self.readers.push(Reader {
                handle: opened.ok()[0],
                bolted_only: flags == 1,
                start,
                pass: 1,
                cursor: start,
                copy: Image::new(),
                due: BTreeSet::new(),
                found: false,
                disturbed: false,
            });
        }
    }

    /// The least and the most that may be pending for a reader: what is due and known. What hardware has set and nobody has
    /// looked at is not, but for a pause.
    fn bounds(&self, reader: &Reader) -> (u64, u64) {
        let due = reader.pending();
        let unknown = if self.paused && reader.is_strict() {
            0
        } else {
            reader.due.intersection(&self.touched).count() as u64
        };
        let least = due.saturating_sub(unknown + self.marks.uncounted(&reader.due));
        let most = if reader.is_strict() {
            due
        } else {
            due + self.touched.len() as u64
        };
        (least, most)
    }

    fn stream(&mut self, number: usize, length: u64) {
        // What hardware has set is marked when it is found; a pause has looked for it.
        for reader in self.readers.iter().filter(|_| !self.paused) {
            for &slot in reader.due.intersection(&self.touched) {
                self.marks.add(slot);
            }
        }
        let Some(reader) = self.readers.get_mut(number) else {
            return;
        };
        let read = match self.world.read(reader.handle, length) {
            Err(status) => {
                let is_bad = !(24..=BUFFER_SIZE).contains(&length);
                return assert_eq!((status, is_bad), (Status::Parameter, true));
            }
            Ok(read) => read,
        };
        assert!((24..=BUFFER_SIZE).contains(&length));
        assert_eq!(read.pass, reader.pass);
        for (slot, entry) in said(&decode(&read.bytes, Header::Big).unwrap()) {
            assert_eq!(
                entry,
                reader.shows(self.entries.get(&slot)),
                "slot {slot:#x} is said as it is"
            );
            reader.found = true;
            let was_due = reader.due.remove(&slot);
            if reader.pass == 1 {
                assert_eq!(slot, reader.cursor, "each slot once, in order");
                reader.cursor += 1;
            } else if !was_due {
                let late = !reader.is_strict() && self.touched.contains(&slot);
                assert!(late, "slot {slot:#x} has not changed since it was said");
            }
            apply(&mut reader.copy, [(slot, entry)]);
        }
        let ended = read.flags.contains(ReadFlags::END_OF_PASS);
        if ended && reader.pass == 1 {
            assert_eq!(reader.cursor, SLOTS, "the first pass says everything");
        }
        if ended && !reader.disturbed {
            assert!(reader.due.is_empty(), "{:x?} was not said", reader.due);
            reader.has_the_table(&self.entries);
        }
        let clean = read.flags.contains(ReadFlags::CLEAN);
        self.marks.take_two();
        let is_clean = ended && !reader.found && read.pending == 0;
        // Where marks may be left it may wait.
        if self.marks.left == 0 || clean {
            assert_eq!(clean, is_clean);
        }
        assert!(
            !clean || reader.due.is_empty(),
            "clean with {:x?} due",
            reader.due
        );
        let (least, most) = self.bounds(&self.readers[number]);
        assert!(
            least <= read.pending && read.pending <= most,
            "pending {}, not {least} to {most}",
            read.pending
        );
        let reader = &mut self.readers[number];
        if ended {
            reader.pass += 1;
            (reader.found, reader.disturbed) = (false, false);
        }
    }

    fn write(&mut self, records: &[Record], cut: usize) {
        let opened = self.world.call(
            AGENT,
            abi::H_HPT_OPEN,
            &[u64::from(CLIENT), OpenFlags::WRITE.bits(), 0],
        );
        if !self.paused {
            assert_eq!(opened.status(), Status::Busy);
            return;
        }
        let handle = opened.ok()[0];
        let bytes = encode(records);
        let mut stream = Stream::new(self.format, self.image());
        let mut rest = &bytes[..];
        let mut cut = cut.max(8);
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(cut)];
            let answer @ (status, consumed, _) = self.world.write(handle, part);
            if !stream.follow(part, answer, |slot| self.shown(slot)) {
                if status != Status::Success || part.len() == rest.len() {
                    break;
                }
                // What is next is longer.
                cut += 16;
            }
            rest = &rest[consumed as usize..];
            if status != Status::Success {
                break;
            }
        }
        let expected = if stream.is_inside_record() {
            Status::Partial
        } else {
            Status::Success
        };
        assert_eq!(self.world.close(handle), expected);
        for slot in stream.changed {
            self.entries.remove(&slot);
            if let Some(&(v, r)) = stream.image.get(&slot) {
                let usable = page(v, r) == Some(Page::Memory);
                self.entries.insert(slot, Entry { v, r, usable });
            }
            // A write is into a partition that does not run, so it shares out what it changes.
            self.told(slot);
        }
    }

    /// What H_READ shows.
    fn shown(&self, slot: u64) -> Option<(u64, u64)> {
        let [v, r, ..] = self.world.call(CLIENT, abi::H_READ, &[0, slot]).ok();
        (v != 0).then_some((v, r))
    }

    fn image(&self) -> Image {
        let shown = |(&slot, entry): (&u64, &Entry)| (slot, (entry.v, entry.r));
        self.entries.iter().map(shown).collect()
    }

    /// Readers of a table that is reset are told so, and have their slots until they close.
    fn reset(&mut self) {
        let reset = self.world.control(abi::H_LPAR_RESET, CLIENT);
        if !self.paused {
            assert_eq!(reset, Status::Busy);
            return;
        }
        assert_eq!(reset, Status::Success);
        for reader in core::mem::take(&mut self.readers) {
            let read = self.world.read(reader.handle, BUFFER_SIZE);
            assert_eq!(read, Err(Status::Closed));
            assert_eq!(self.world.close(reader.handle), Status::Success);
        }
        assert_eq!(self.world.image(CLIENT), Image::new());
        self.touched.clear();
        self.marks = Marks::default();
        let started = self.world.control(abi::H_LPAR_START, CLIENT);
        assert_eq!(started, Status::Success);
        (self.entries, self.paused) = (vrma(), false);
    }

    /// H_HPT_STAT; how many slots are pending for all readers.
    fn stat(&mut self) -> u64 {
        let stat = self
            .world
            .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)]);
        let [version, order, _, readers, writers, _, pending, ..] = stat.ok();
        let expected = (abi::ABI_VERSION, 18, self.readers.len() as u64, 0);
        assert_eq!((version, order, readers, writers), expected);
        self.marks.take_two();
        let bounds = self.readers.iter().map(|reader| self.bounds(reader));
        let (least, most) = bounds.fold((0, 0), |(least, most), of_one| {
            (least + of_one.0, most + of_one.1)
        });
        assert!(
            least <= pending && pending <= most,
            "pending {pending} for all, not {least} to {most}"
        );
        pending
    }

    /// Lets every reader of a paused partition's table come to the end of its lap, and make one more, in turns of a call
    /// with a buffer of its `length`. Then it has been told everything: its copy is the table, and nothing is pending.
    pub(crate) fn lap(&mut self, mut length: impl FnMut(usize) -> u64) {
        assert!(self.paused);
        // What is pending is exact from here on, what hardware has set included.
        self.stat();
        let mut last: Vec<u64> = self.readers.iter().map(|reader| reader.pass + 2).collect();
        for calls in 0.. {
            assert!(calls < 100_000, "the readers do not get on");
            let behind = |&number: &usize| self.readers[number].pass < last[number];
            let behind: Vec<usize> = (0..last.len()).filter(behind).collect();
            if behind.is_empty() {
                break;
            }
            for number in behind {
                self.stream(number, length(number));
            }
        }
        for reader in &self.readers {
            reader.has_the_table(&self.entries);
        }
        assert_eq!(self.stat(), 0, "pending for those who know all");
        // The one after it has nothing.
        last.iter_mut().for_each(|pass| *pass += 1);
        for (number, last) in last.into_iter().enumerate() {
            while self.readers[number].pass < last {
                self.stream(number, length(number));
                assert!(!self.readers[number].found, "nothing is due");
            }
        }
    }

    /// Lets every reader come to the end: paused, each is told all and then finds nothing.
    pub(crate) fn finish(mut self) {
        self.step(Op::Pause);
        for length in [24, 100, BUFFER_SIZE] {
            self.lap(|_| length);
        }
        for reader in core::mem::take(&mut self.readers) {
            assert_eq!(self.world.close(reader.handle), Status::Success);
        }
        assert_eq!(
            differences(&self.world.image(CLIENT), &self.image()),
            [""; 0]
        );
        // Both views of the table say the same of each slot: what is occupied, valid, settled.
        let engine = self.world.client().table();
        let mut quiet = true;
        for slot in 0..SLOTS {
            let entry = self.entries.get(&slot);
            assert_eq!(engine.occupied().contains(slot), entry.is_some());
            let unsettled = entry.is_some_and(Entry::may_tell);
            assert_eq!(engine.unsettled().contains(slot), unsettled);
            quiet &= !unsettled;
            let (dword0, dword1) = self.world.real(slot);
            match entry {
                None => assert_eq!((dword0, dword1), (0, 0)),
                Some(entry) => assert_eq!(dword0 & 0x61, if entry.usable { 1 } else { 0x20 }),
            }
        }
        assert_eq!(engine.is_quiet(), quiet);
    }
}
