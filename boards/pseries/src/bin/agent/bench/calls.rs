//! What the HPT hypercalls cost, on the agent's own table.
//!
//! The calls work on groups of the table that are empty, under VSIDs that no segment has: nothing is
//! translated by what they enter.

use heapless::Vec;
use realhpt_pseries::{
    abi::{self, Flags, LPAR_SELF, OpenFlags, ReadFlags, Status},
    exchange::{
        bench::{CHUNK, what},
        word,
    },
    hcall::{self, Stream},
    mmu::pte::{PP_READ_ONLY, PP_READ_WRITE, Page, R_C, R_R, Segment, SegmentSize, V_VALID},
};

use super::{
    Job, Measured,
    timed::{self, Arguments},
};
use crate::job::Trouble;

/// Calls of one measurement.
const CALLS: usize = 256;
/// Entries of one H_BULK_REMOVE.
const BULK: usize = 4;
/// How often each measurement is made.
const TIMES: usize = 5;
/// The first VSID of the entries.
const VSIDS: u64 = 0x7b_0000_0000;

/// A specifier of H_BULK_REMOVE: a request, on the condition that the entry has this AVPN.
const REQUEST_AVPN: u64 = 1 << 62 | 2 << 56;

/// An entry that the calls make and remove.
#[derive(Clone, Copy)]
struct Entry {
    /// The first slot of an empty group.
    ptex: u64,
    dw0: u64,
    dw1: u64,
    /// B and AVPN.
    tag: u64,
}

/// What is measured, in order: each call finds the table as the one before it left it.
const KINDS: [(u64, u64, Status); 7] = [
    (what::NULL, abi::H_REMOVE, Status::NotFound),
    (what::ENTER, abi::H_ENTER, Status::Success),
    (what::READ, abi::H_READ, Status::Success),
    (what::PROTECT, abi::H_PROTECT, Status::Success),
    (what::REMOVE, abi::H_REMOVE, Status::Success),
    // Again, for the last one to have something to remove; the least of both counts.
    (what::ENTER, abi::H_ENTER, Status::Success),
    (what::BULK_REMOVE, abi::H_BULK_REMOVE, Status::Success),
];

/// The arguments of a kind of call on an entry.
fn arguments(kind: u64, entry: &Entry) -> Arguments {
    let Entry {
        ptex,
        dw0,
        dw1,
        tag,
    } = *entry;
    let avpn = Flags::AVPN.bits();
    match kind {
        what::ENTER => [0, ptex, dw0, dw1, 0, 0, 0, 0],
        what::PROTECT => [avpn | PP_READ_ONLY, ptex, tag, 0, 0, 0, 0, 0],
        what::REMOVE => [avpn, ptex, tag, 0, 0, 0, 0, 0],
        _ => [0, ptex, 0, 0, 0, 0, 0, 0],
    }
}

/// The arguments of every call of a kind.
fn all_arguments(kind: u64, entries: &[Entry]) -> Vec<Arguments, CALLS> {
    if kind != what::BULK_REMOVE {
        return entries.iter().map(|entry| arguments(kind, entry)).collect();
    }
    let specifiers = entries.chunks_exact(BULK).map(|entries| {
        let mut specifiers = Arguments::default();
        for (specifier, entry) in specifiers.chunks_exact_mut(2).zip(entries) {
            specifier.copy_from_slice(&[REQUEST_AVPN | entry.ptex, entry.tag]);
        }
        specifiers
    });
    specifiers.collect()
}

impl Job {
    pub(super) fn hypercalls(&mut self) -> Result<(), Trouble> {
        self.measure(None)
    }

    pub(super) fn hypercalls_with_a_reader(&mut self) -> Result<(), Trouble> {
        let reader = hcall::hpt_open(LPAR_SELF, OpenFlags::empty(), 0)?;
        self.measure(Some(reader))?;
        Ok(hcall::hpt_close(reader.handle)?)
    }

    /// Measures every kind, the least of a few times; with a reader of the table if there is one.
    fn measure(&mut self, reader: Option<Stream>) -> Result<(), Trouble> {
        let entries = self.entries()?;
        let mut least = [(
            0,
            Measured {
                calls: 0,
                bytes: 0,
                ticks: u64::MAX,
            },
        ); KINDS.len()];
        for _ in 0..TIMES {
            for (least, (kind, token, expected)) in least.iter_mut().zip(KINDS) {
                // A reader that has seen everything so far: the changes that follow are new to it.
                reader.map_or(Ok(()), |reader| self.catch_up(&reader))?;
                let arguments = all_arguments(kind, &entries);
                self.whole_slice();
                // SAFETY: the entries are under VSIDs that no segment has, and only they are touched.
                let measured = unsafe { timed::calls(token, expected.raw(), &arguments) };
                if measured.unexpected != 0 {
                    return Err(Trouble::Stream(token, measured.unexpected));
                }
                let calls = arguments.len() as u64;
                let ticks = measured.ticks.min(least.1.ticks);
                *least = (
                    kind,
                    Measured {
                        calls,
                        bytes: 0,
                        ticks,
                    },
                );
            }
        }
        let with_reader = if reader.is_some() {
            what::WITH_READER
        } else {
            0
        };
        for (number, (kind, measured)) in least.into_iter().enumerate() {
            // The second ENTER is there for the sake of what comes after it.
            if least.iter().position(|(first, _)| *first == kind) == Some(number) {
                self.row(kind | with_reader, 0, measured)?;
            }
        }
        Ok(())
    }

    /// An entry for each of the first empty groups.
    fn entries(&self) -> Result<Vec<Entry, CALLS>, Trouble> {
        let mut entries = Vec::new();
        let slots = 1_u64 << (self.partition.order - 4);
        for group in (0..slots).step_by(8) {
            let halves = [hcall::read_4(group)?, hcall::read_4(group + 4)?];
            if halves
                .as_flattened()
                .iter()
                .any(|(dw0, _)| dw0 & V_VALID != 0)
            {
                continue;
            }
            let number = entries.len() as u64;
            let page = Page::K64;
            let segment = Segment {
                base: 0,
                vsid: VSIDS + number,
                size: SegmentSize::M256,
                page: page.base(),
            };
            let memory = number * page.size() % self.partition.memory;
            let entry = Entry {
                ptex: group,
                dw0: segment.dword_0(0, page),
                dw1: page.dword_1(memory, PP_READ_WRITE | R_R | R_C),
                tag: segment.tag(0),
            };
            if entries.push(entry).is_err() {
                break;
            }
        }
        if entries.is_full() {
            Ok(entries)
        } else {
            Err(Trouble::NoRoom)
        }
    }

    /// Reads to the end of a pass.
    fn catch_up(&self, reader: &Stream) -> Result<(), Trouble> {
        let buffer = self.window.base() + self.window.get(word::OUTPUT);
        loop {
            // SAFETY: the buffer is in the window, of which no one holds anything but atomics.
            let piece = unsafe { hcall::hpt_read(reader.handle, buffer, CHUNK) }?;
            if piece.flags.contains(ReadFlags::END_OF_PASS) {
                return Ok(());
            }
        }
    }
}
