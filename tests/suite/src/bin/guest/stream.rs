//! Streams as the cases read and write them: buffers, a decoder, and passes as a whole.
//!
//! The records are taken apart here on their own, from DESIGN's description of the format.

use core::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use heapless::Vec;
use realhpt_pseries::{
    abi::{ENTRY, OpenFlags, RECORD_HEADER},
    hcall::{self, Hpte, Piece, hpt_read},
    mmu::pte::{Page, R_C, R_R, V_BOLTED, V_LARGE, V_VALID},
};

use crate::trouble::{Must as _, Outcome, holds, same};

/// Doublewords of a buffer.
const WORDS: usize = 8192;
/// Bytes behind a buffer that are looked at.
const MARGIN: u64 = 16;
/// What stands in a buffer before a read.
const BACKGROUND: u64 = 0xa5a5_a5a5_a5a5_a5a5;
/// More calls than any pass takes.
const CALLS: u64 = 1 << 16;

/// A buffer where hypercalls find it: in the program's memory, whose guest real addresses are its own.
#[derive(Debug)]
#[repr(align(4096))]
pub(crate) struct Buffer([AtomicU64; WORDS]);

/// For reads.
pub(crate) static READ: Buffer = Buffer::new();
/// For writes.
pub(crate) static WRITE: Buffer = Buffer::new();

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Its guest real address.
    pub(crate) fn address(&self) -> u64 {
        (&raw const self.0).expose_provenance() as u64
    }

    /// Its length in bytes, without the end that nothing may be written to.
    pub(crate) const fn bytes(&self) -> u64 {
        WORDS as u64 * 8 - MARGIN
    }

    pub(crate) fn word(&self, number: u64) -> u64 {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.0.get(number).map_or(0, |word| word.load(Relaxed))
    }

    fn set(&self, number: u64, value: u64) {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(word) = self.0.get(number) {
            word.store(value, Relaxed);
        }
    }

    fn wipe(&self, bytes: u64) {
        for number in 0..bytes.div_ceil(8) {
            self.set(number, BACKGROUND);
        }
    }

    /// The bytes from `from` up to `to` are as [`Self::wipe`] left them.
    fn untouched(&self, from: u64, to: u64) -> Outcome {
        for at in from..to {
            let byte = self.word(at / 8) >> (56 - at % 8 * 8) & 0xff;
            same("byte behind what was read", BACKGROUND & 0xff, byte)?;
        }
        Ok(())
    }
}

/// One pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pass {
    pub(crate) number: u64,
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    /// Slots it spoke of.
    pub(crate) slots: u64,
    /// Slot behind the last record's.
    next: u64,
    /// Every record began where the one before ended, the first at the start.
    gapless: bool,
    /// Depends on each valid entry, its slot and their order.
    pub(crate) digest: u64,
    /// Valid entries.
    pub(crate) valid: u64,
    /// The first of the valid entries, and of the slots that are invalid, as long as there is room.
    pub(crate) entries: Vec<(u64, Hpte), 64>,
    pub(crate) holes: Vec<u64, 64>,
    pub(crate) pending: u64,
    pub(crate) clean: bool,
}

impl Pass {
    fn at(start: u64) -> Self {
        Self {
            next: start,
            gapless: true,
            ..Self::default()
        }
    }

    /// Whether it spoke of every slot from the start to `end` once.
    pub(crate) fn covers(&self, end: u64) -> bool {
        self.gapless && self.next == end
    }

    /// What it said of a slot, if that is among the first.
    pub(crate) fn of(&self, slot: u64) -> Option<Option<Hpte>> {
        let mut entries = self.entries.iter();
        match entries.find(|(number, _)| *number == slot) {
            Some((_, entry)) => Some(Some(*entry)),
            None => self.holes.contains(&slot).then_some(None),
        }
    }
}

impl Sink for Pass {
    fn record(&mut self, slots: Range<u64>) -> Outcome {
        holds("order of records", slots.start, slots.start >= self.next)?;
        self.gapless &= slots.start == self.next;
        self.records += 1;
        self.next = slots.end;
        Ok(())
    }

    fn slot(&mut self, number: u64, entry: Option<Hpte>) -> Outcome {
        self.slots += 1;
        if let Some((dw0, dw1)) = entry {
            self.valid += 1;
            for word in [number, dw0, dw1] {
                // FNV-1a, by doublewords.
                self.digest = (self.digest ^ word).wrapping_mul(0x100_0000_01b3);
            }
        }
        // When there is no more room, the digest is what is left.
        match entry {
            Some(entry) => drop(self.entries.push((number, entry))),
            None => drop(self.holes.push(number)),
        }
        Ok(())
    }
}

/// What takes the records of a stream.
pub(crate) trait Sink {
    /// A record of these slots begins.
    fn record(&mut self, slots: Range<u64>) -> Outcome;

    /// A slot of the record: its entry, if it has one.
    fn slot(&mut self, number: u64, entry: Option<Hpte>) -> Outcome;
}

/// Takes the records of one call apart.
pub(crate) fn decode(buffer: &Buffer, bytes: u64, sink: &mut impl Sink) -> Outcome {
    let mut at = 0;
    while at < bytes {
        holds("room for a header", bytes - at, bytes - at >= RECORD_HEADER)?;
        let header = buffer.word(at / 8);
        at += RECORD_HEADER;
        let (index, valid, invalid) = (header >> 32, header >> 16 & 0xffff, header & 0xffff);
        holds("record of nothing", header, valid + invalid > 0)?;
        holds("room for entries", bytes - at, bytes - at >= valid * ENTRY)?;
        sink.record(index..index + valid + invalid)?;
        for number in 0..valid {
            let (dw0, dw1) = (buffer.word(at / 8), buffer.word(at / 8 + 1));
            same("VALID, and no bit of the hypervisor's", V_VALID, dw0 & 0x61)?;
            sink.slot(index + number, Some((dw0, dw1)))?;
            at += ENTRY;
        }
        for number in 0..invalid {
            sink.slot(index + valid + number, None)?;
        }
    }
    Ok(())
}

/// One H_HPT_READ of `size` bytes into the read buffer.
pub(crate) fn read_piece(handle: u64, size: u64) -> Result<Piece, hcall::Failure> {
    // SAFETY: the buffer is there to be written.
    unsafe { hpt_read(handle, READ.address(), size) }
}

/// Reads a pass with a buffer of `size` bytes, of a reader that began at slot `start`.
pub(crate) fn read_pass_from(handle: u64, size: u64, start: u64) -> Outcome<Pass> {
    let mut pass = Pass::at(start);
    loop {
        READ.wipe(size + MARGIN);
        let piece = read_piece(handle, size).must("read")?;
        holds("bytes in the buffer", piece.bytes, piece.bytes <= size)?;
        READ.untouched(size, size + MARGIN)?;
        decode(&READ, piece.bytes, &mut pass)?;
        pass.calls += 1;
        pass.bytes += piece.bytes;
        pass.pending = piece.pending;
        if pass.calls == 1 {
            pass.number = piece.pass;
        }
        same("number of the pass", pass.number, piece.pass)?;
        let ended = piece.flags.bits() & 1 != 0;
        let clean = piece.flags.bits() & 2 != 0;
        holds("clean without an end", piece.flags.bits(), ended || !clean)?;
        if ended {
            pass.clean = clean;
            return Ok(pass);
        }
        holds("calls of a pass", pass.calls, pass.calls < CALLS)?;
    }
}

/// Reads a pass with a buffer of `size` bytes.
pub(crate) fn read_pass(handle: u64, size: u64) -> Outcome<Pass> {
    read_pass_from(handle, size, 0)
}

/// The first pass of a new reader over a partition's table.
pub(crate) fn first_pass(lpar: u64) -> Outcome<Pass> {
    let stream = hcall::hpt_open(lpar, OpenFlags::empty(), 0).must("open")?;
    let pass = read_pass(stream.handle, READ.bytes());
    hcall::hpt_close(stream.handle).must("close")?;
    let pass = pass?;
    holds(
        "coverage of the first pass",
        pass.next,
        pass.covers(1 << (stream.order - 4)),
    )?;
    Ok(pass)
}

/// Records being laid into a buffer.
#[derive(Debug)]
pub(crate) struct Records {
    buffer: &'static Buffer,
    words: u64,
}

impl Records {
    /// None yet, in the write buffer.
    pub(crate) const fn new() -> Self {
        Self::within(&WRITE)
    }

    /// None yet, in this buffer.
    pub(crate) const fn within(buffer: &'static Buffer) -> Self {
        Self { buffer, words: 0 }
    }

    pub(crate) fn word(&mut self, value: u64) {
        self.buffer.set(self.words, value);
        self.words += 1;
    }

    /// A header.
    pub(crate) fn header(&mut self, index: u64, valid: u64, invalid: u64) {
        self.word(index << 32 | valid << 16 | invalid);
    }

    /// A record of entries and of invalid slots after them.
    pub(crate) fn record(
        &mut self,
        index: u64,
        entries: impl ExactSizeIterator<Item = Hpte>,
        invalid: u64,
    ) {
        self.header(index, entries.len() as u64, invalid);
        for (dw0, dw1) in entries {
            self.word(dw0);
            self.word(dw1);
        }
    }

    /// Bytes so far.
    pub(crate) const fn bytes(&self) -> u64 {
        self.words * 8
    }

    /// Writes them in pieces of at most `size` bytes. How many bytes were taken: all of them, unless a call
    /// takes nothing.
    pub(crate) fn write(&self, handle: u64, size: u64) -> Outcome<u64> {
        let mut done = 0;
        while done < self.bytes() {
            let length = size.min(self.bytes() - done);
            let place = self.buffer.address() + done;
            let consumed = hcall::hpt_write(handle, place, length).must("write")?;
            holds(
                "bytes consumed",
                consumed,
                consumed <= length && consumed % 8 == 0,
            )?;
            if consumed == 0 {
                break;
            }
            done += consumed;
        }
        Ok(done)
    }

    /// Writes all of them, in pieces of at most `size` bytes. A call that stops inside a long invalid run may
    /// take nothing.
    pub(crate) fn write_all(&self, handle: u64, size: u64) -> Outcome {
        let (mut done, mut calls) = (0, 0);
        while done < self.bytes() {
            holds("calls of a write", calls, calls < CALLS)?;
            calls += 1;
            let length = size.min(self.bytes() - done);
            let place = self.buffer.address() + done;
            done += hcall::hpt_write(handle, place, length).must("write")?;
        }
        same("bytes written", self.bytes(), done)
    }
}

/// An entry for a slot that looks like none other: 4K or 64K, bolted or not, with memory or (every eighth)
/// without, with R and C or not.
pub(crate) fn sample(slot: u64) -> Hpte {
    let bolted = if slot.is_multiple_of(3) { V_BOLTED } else { 0 };
    let dw0 = (0x12_3400 + slot) << 12 | slot << 7 & 0xf80 | bolted | V_VALID;
    let page = if slot.is_multiple_of(5) {
        Page::K64
    } else {
        Page::K4
    };
    let large = if slot.is_multiple_of(5) { V_LARGE } else { 0 };
    let ra = if slot % 8 == 7 { 1 << 40 } else { 0 } + ((slot % 128) << 16);
    let rc = match slot % 4 {
        1 => R_R,
        2 => R_R | R_C,
        _ => 0,
    };
    (dw0 | large, page.dword_1(ra, 2 | rc))
}

/// Runs of slots that [`sample_table`] fills: alone, across words of a bitmap, across its blocks, at the ends.
pub(crate) const RUNS: [(u64, u64); 8] = [
    (0, 3),
    (5, 1),
    (62, 5),
    (130, 1),
    (132, 1),
    (1000, 40),
    (4090, 12),
    (16382, 2),
];

/// The records of a table of order 18 with [`sample`] entries in [`RUNS`].
pub(crate) fn sample_table() -> Records {
    let mut records = Records::new();
    for (start, count) in RUNS {
        records.record(start, Samples(start..start + count), 0);
    }
    records
}

/// The samples of some slots.
#[derive(Debug)]
pub(crate) struct Samples(pub(crate) core::ops::Range<u64>);

impl Iterator for Samples {
    type Item = Hpte;

    fn next(&mut self) -> Option<Hpte> {
        self.0.next().map(sample)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.0.end - self.0.start).unwrap_or_default();
        (left, Some(left))
    }
}

impl ExactSizeIterator for Samples {}

/// What a first pass over [`sample_table`] must look like.
pub(crate) fn is_sample_table(pass: &Pass) -> Outcome {
    let mut expected = Pass::default();
    for (start, count) in RUNS {
        for slot in start..start + count {
            expected.slot(slot, Some(sample(slot)))?;
        }
    }
    same("valid entries", expected.valid, pass.valid)?;
    same("digest of the entries", expected.digest, pass.digest)
}

/// Restores [`sample_table`] into a stopped partition.
pub(crate) fn restore_samples(lpar: u64) -> Outcome {
    let stream = hcall::hpt_open(lpar, OpenFlags::WRITE, 0).must("open to write")?;
    let records = sample_table();
    let done = records.write(stream.handle, WRITE.bytes())?;
    same("bytes written", records.bytes(), done)?;
    hcall::hpt_close(stream.handle).must("close")
}
