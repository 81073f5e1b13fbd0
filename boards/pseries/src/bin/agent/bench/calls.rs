//! What the HPT hypercalls cost, on the agent's own table.
//!
//! The calls work on groups of the table that are empty, under VSIDs that no segment has: nothing is
//! translated by what they enter. Each entry stands in the group that its hash leads to, and the groups are taken
//! by eights: their pages are a block of H_BLOCK_REMOVE.

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
/// Entries of one H_BLOCK_REMOVE, and pages of a block.
const BLOCK: usize = 8;
/// Slots of a group.
const GROUP: u64 = 8;
/// How often each measurement is made.
const TIMES: usize = 5;
/// The first VSID of the entries: its low bits are zero, so the number of the page is that of the group.
const VSIDS: u64 = 0x7b_0000_0000;
/// Log2 of the pages of a segment.
const PAGES_SHIFT: u32 = 28 - 16;

/// A specifier of H_BULK_REMOVE: a request, on the condition that the entry has this AVPN.
const REQUEST_AVPN: u64 = 1 << 62 | 2 << 56;
/// The same of H_BLOCK_REMOVE, as Linux makes them.
const REQUEST_BLOCK: u64 = 1 << 62 | 1 << 56;

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
const KINDS: [(u64, u64, Status); 15] = [
    (what::NULL, abi::H_REMOVE, Status::NotFound),
    (what::ENTER, abi::H_ENTER, Status::Success),
    (what::READ, abi::H_READ, Status::Success),
    (what::PROTECT, abi::H_PROTECT, Status::Success),
    (what::REMOVE, abi::H_REMOVE, Status::Success),
    // Again, for the ones that follow to have something to remove. Only the first of a kind counts.
    (what::ENTER, abi::H_ENTER, Status::Success),
    (what::BULK_REMOVE, abi::H_BULK_REMOVE, Status::Success),
    (what::ENTER, abi::H_ENTER, Status::Success),
    (what::CLEAR_MOD, abi::H_CLEAR_MOD, Status::Success),
    (what::CLEAR_MOD_AGAIN, abi::H_CLEAR_MOD, Status::Success),
    (what::CLEAR_REF, abi::H_CLEAR_REF, Status::Success),
    (what::CLEAR_REF_AGAIN, abi::H_CLEAR_REF, Status::Success),
    (what::REMOVE, abi::H_REMOVE, Status::Success),
    (what::ENTER, abi::H_ENTER, Status::Success),
    (what::BLOCK_REMOVE, abi::H_BLOCK_REMOVE, Status::Success),
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
        what::ENTER => [0, ptex, dw0, dw1, 0, 0, 0, 0, 0],
        what::PROTECT => [avpn | PP_READ_ONLY, ptex, tag, 0, 0, 0, 0, 0, 0],
        what::REMOVE => [avpn, ptex, tag, 0, 0, 0, 0, 0, 0],
        _ => [0, ptex, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// The arguments of every call of a kind.
fn all_arguments(kind: u64, entries: &[Entry]) -> Vec<Arguments, CALLS> {
    let bulk = |entries: &[Entry]| {
        let mut specifiers = Arguments::default();
        for (specifier, entry) in specifiers.chunks_exact_mut(2).zip(entries) {
            specifier.copy_from_slice(&[REQUEST_AVPN | entry.ptex, entry.tag]);
        }
        specifiers
    };
    let block = |entries: &[Entry]| {
        let mut arguments = Arguments::default();
        let [avpn, specifiers @ ..] = &mut arguments;
        for (specifier, entry) in specifiers.iter_mut().zip(entries) {
            *avpn = entry.tag;
            *specifier = REQUEST_BLOCK | entry.ptex;
        }
        arguments
    };
    match kind {
        what::BULK_REMOVE => entries.chunks_exact(BULK).map(bulk).collect(),
        what::BLOCK_REMOVE => entries.chunks_exact(BLOCK).map(block).collect(),
        _ => entries.iter().map(|entry| arguments(kind, entry)).collect(),
    }
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
        let unmeasured = Measured {
            ticks: u64::MAX,
            ..Measured::default()
        };
        let mut least = [(0, unmeasured); KINDS.len()];
        // As often as the others: the longest may be one of a kind, and takes a tick more or less as the clock has it.
        for (kind, token, expected) in core::iter::repeat_n(KINDS, TIMES).flatten() {
            reader.map_or(Ok(()), |reader| self.catch_up(&reader))?;
            for arguments in all_arguments(kind, &entries) {
                // SAFETY: the entries are under VSIDs that no segment has, and only they are touched.
                unsafe { self.single(token, expected, &arguments) }?;
            }
        }
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
                        ticks,
                        ..Measured::default()
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
            // A second one of a kind is there for the sake of what comes after it.
            if least.iter().position(|(first, _)| *first == kind) == Some(number) {
                self.row(kind | with_reader, 0, measured)?;
            }
        }
        Ok(())
    }

    /// One call by itself, for the longest to be known.
    ///
    /// # Safety
    /// As [`hcall::hcall`].
    unsafe fn single(
        &mut self,
        token: u64,
        expected: Status,
        arguments: &Arguments,
    ) -> Result<(), Trouble> {
        let mut registers = [token; 10];
        let [_, rest @ ..] = &mut registers;
        *rest = *arguments;
        // SAFETY: the caller's.
        unsafe { self.call(&mut registers) }?;
        let [status, ..] = registers;
        if status == expected.raw() {
            Ok(())
        } else {
            Err(Trouble::Stream(token, status))
        }
    }

    /// Whether nothing is in a group.
    fn is_empty(group: u64) -> Result<bool, Trouble> {
        let halves = [hcall::read_4(group)?, hcall::read_4(group + GROUP / 2)?];
        let mut entries = halves.as_flattened().iter();
        Ok(entries.all(|(dw0, _)| dw0 & V_VALID == 0))
    }

    /// An entry for each group of the first blocks of empty groups.
    fn entries(&self) -> Result<Vec<Entry, CALLS>, Trouble> {
        let mut entries = Vec::new();
        let groups = (1_u64 << (self.partition.order - 4)) / GROUP;
        for block in (0..groups).step_by(BLOCK) {
            let block = block..block + BLOCK as u64;
            if entries.is_full() {
                return Ok(entries);
            }
            let empty = block.clone().map(|group| Self::is_empty(group * GROUP));
            if !empty
                .collect::<Result<Vec<bool, BLOCK>, _>>()?
                .iter()
                .all(|&empty| empty)
            {
                continue;
            }
            for group in block {
                let page = Page::K64;
                let segment = Segment {
                    base: 0,
                    vsid: VSIDS | group >> PAGES_SHIFT << PAGES_SHIFT,
                    size: SegmentSize::M256,
                    page: page.base(),
                };
                let at = group % (1 << PAGES_SHIFT) * page.size();
                let memory = entries.len() as u64 * page.size() % self.partition.memory;
                let _ = entries.push(Entry {
                    ptex: group * GROUP,
                    dw0: segment.dword_0(at, page),
                    dw1: page.dword_1(memory, PP_READ_WRITE | R_R | R_C),
                    tag: segment.tag(at),
                });
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
