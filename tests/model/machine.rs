//! The model beside the engine: each step is done in both, and the answers are compared. The guest's calls are
//! in [`calls`].

mod calls;

use std::collections::{BTreeMap, BTreeSet};

use crate::common::stream::{Header, Image, Record, apply, decode, differences, encode, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, CLIENT_MEMORY, World};
use crate::ops::Op;
use crate::{BOLTED, SLOTS, entered};
use realhpt::hcall::abi::{self, OpenFlags, ReadFlags, Status};
use realhpt::table::Format;

/// An entry of the model: as the guest is shown it, with every R and C that hardware has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    v: u64,
    r: u64,
    usable: bool,
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
    /// Slots whose R or C hardware has set: their marks come when someone looks.
    touched: BTreeSet<u64>,
}

impl Model {
    pub(crate) fn new(format: Format) -> Self {
        let world = World::leaked(18, format);
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        // Real mode: 16M pages of the 1T segment 0x1ffffff. Hash: that VSID, xor itself << 25, xor the page.
        let vrma = (0..CLIENT_MEMORY >> 24).map(|page| {
            let v = 0x4001_ffff_ff00_0015 | page << 8;
            (
                8 * (0x7ff ^ page) + 7,
                Entry {
                    v,
                    r: page << 24 | 0x190,
                    usable: true,
                },
            )
        });
        let entries = vrma.collect();
        Self {
            world,
            format,
            entries,
            readers: vec![],
            paused: false,
            touched: BTreeSet::new(),
        }
    }

    fn changed(&mut self, slot: u64) {
        for reader in &mut self.readers {
            reader.disturbed = true;
            if reader.pass > 1 || slot < reader.cursor {
                reader.due.insert(slot);
            }
        }
    }

    fn call(&self, token: u64, arguments: &[u64]) -> (Status, [u64; 9]) {
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
            Op::Write { record } => self.write(record),
        }
    }

    fn open(&mut self, flags: u64, start: u64) {
        let opened = self
            .world
            .call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), flags, start]);
        if start >= SLOTS {
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

    fn stream(&mut self, reader: usize, length: u64) {
        let Some(reader) = self.readers.get_mut(reader) else {
            return;
        };
        let read = match self.world.read(reader.handle, length) {
            Err(status) => return assert_eq!((status, length < 24), (Status::Parameter, true)),
            Ok(read) => read,
        };
        assert!(length >= 24);
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
            let shown = |(&slot, entry)| Some((slot, reader.shows(Some(entry))?));
            let mut table: Image = self.entries.iter().filter_map(shown).collect();
            if reader.start != 0 {
                // What lay before the start is known only where it changed.
                table.retain(|slot, _| *slot >= reader.start || reader.copy.contains_key(slot));
            }
            assert_eq!(
                differences(&reader.copy, &table),
                [""; 0],
                "the copy is the table"
            );
        }
        let clean = read.flags.contains(ReadFlags::CLEAN);
        assert_eq!(clean, ended && !reader.found && read.pending == 0);
        assert!(
            !clean || reader.due.is_empty(),
            "clean with {:x?} due",
            reader.due
        );
        // Pending: what is known. What hardware has set and nobody has looked at is not.
        let due = reader.pending();
        let unknown = reader.due.intersection(&self.touched).count() as u64;
        if reader.is_strict() {
            let known = if self.paused { due } else { due - unknown };
            assert!(
                known <= read.pending && read.pending <= due,
                "pending {} of {due}",
                read.pending
            );
        } else {
            assert!(
                read.pending >= due - unknown && read.pending <= due + self.touched.len() as u64
            );
        }
        if ended {
            reader.pass += 1;
            (reader.found, reader.disturbed) = (false, false);
        }
    }

    fn write(&mut self, (index, entries, invalid): (u64, Vec<(u64, u64)>, u16)) {
        let record = Record {
            index: u32::try_from(index).unwrap(),
            valid: entries,
            invalid,
        };
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
        let bytes = encode(core::slice::from_ref(&record));
        let (status, consumed, bad) = self.world.write(handle, &bytes);
        let length = record.slots().count() as u64;
        let bad_entry = record
            .valid
            .iter()
            .position(|&(v, r)| v & 1 == 0 || entered(v, r, self.format).is_none());
        if index >= SLOTS || index + length > SLOTS {
            assert_eq!((status, consumed, bad), (Status::Parameter, 0, index));
        } else if let Some(number) = bad_entry {
            assert_eq!(
                (status, consumed, bad),
                (Status::Parameter, 8, index + number as u64)
            );
        } else {
            assert_eq!(
                (status, consumed, bad),
                (Status::Success, bytes.len() as u64, u64::MAX)
            );
            for (slot, entry) in record.slots() {
                let had = self.entries.remove(&slot).is_some();
                if let Some((v, r)) = entry {
                    let (v, r, usable) = entered(v, r, self.format).unwrap();
                    self.entries.insert(slot, Entry { v, r, usable });
                }
                if had || entry.is_some() {
                    self.changed(slot);
                }
            }
        }
        assert!(matches!(
            self.world.close(handle),
            Status::Success | Status::Partial
        ));
    }

    /// Lets every reader come to the end: paused, each is told all and then finds nothing.
    pub(crate) fn finish(mut self) {
        self.step(Op::Pause);
        for number in 0..self.readers.len() {
            for length in [24, 100, BUFFER_SIZE] {
                let passes = self.readers[number].pass + 1;
                for _ in 0..100_000 {
                    self.stream(number, length);
                    if self.readers[number].pass == passes {
                        break;
                    }
                }
                assert_eq!(
                    self.readers[number].pass, passes,
                    "the reader does not get on"
                );
            }
            assert!(self.world.pass(self.readers[number].handle, 24).clean);
        }
        for reader in core::mem::take(&mut self.readers) {
            assert_eq!(self.world.close(reader.handle), Status::Success);
        }
        let table: Image = self
            .entries
            .iter()
            .map(|(&slot, entry)| (slot, (entry.v, entry.r)))
            .collect();
        assert_eq!(differences(&self.world.image(CLIENT), &table), [""; 0]);
        // Both views of the table say the same of each slot: what is occupied, valid, settled.
        for slot in 0..SLOTS {
            let entry = self.entries.get(&slot);
            let engine = self.world.client().table();
            assert_eq!(engine.occupied().contains(slot), entry.is_some());
            let (dword0, dword1) = self.world.real(slot);
            match entry {
                None => assert_eq!((dword0, dword1), (0, 0)),
                Some(entry) => assert_eq!(dword0 & 0x61, if entry.usable { 1 } else { 0x20 }),
            }
        }
    }
}
