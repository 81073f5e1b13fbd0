//! Tables through the window: sections in, passes out.

use realhpt_pseries::{
    abi::{self, MIN_READ_BUFFER, ReadFlags},
    cpu,
    exchange::{HEADER, MAX_PASSES, MAX_SECTIONS, PASS_WORDS, kind, pass, phase, word},
    hcall::{self, Piece, Stream},
    println,
    window::Window,
};

use crate::job::Trouble;

/// Buffer length of a call if the job does not say.
pub(crate) const CHUNK: u64 = 1 << 20;

/// How many calls in a row may consume nothing: a record's header counts as consumed when its invalid run of up
/// to 65535 slots is done, and that may take some calls.
const STANDSTILL: u64 = 1 << 12;

/// The job's buffer length: at least what a call needs, and a multiple of 8.
fn chunk(window: &Window) -> u64 {
    match window.get(word::CHUNK) {
        0 => CHUNK,
        asked => asked.max(MIN_READ_BUFFER) & !7,
    }
}

/// Writes every section to the stream, in order.
pub(crate) fn restore(window: &Window, stream: &Stream) -> Result<(), Trouble> {
    let count = usize::try_from(window.get(word::SECTIONS)).map_err(|_| Trouble::BadJob)?;
    if count > MAX_SECTIONS {
        return Err(Trouble::BadJob);
    }
    let places = (word::FIRST_SECTION..).step_by(2).take(count);
    let sections = places.map(|at| (window.get(at), window.get(at + 1)));
    let lengths = sections.clone().map(|(_, length)| length);
    window.begin_phase(phase::RESTORE, lengths.fold(0, u64::saturating_add));
    let chunk = chunk(window);
    let (mut done, mut calls) = (0, 0);
    let mut progress = |consumed| {
        calls += 1;
        done += consumed;
        window.set(word::DONE, done);
    };
    for (offset, length) in sections {
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > window.size()) {
            return Err(Trouble::BadJob);
        }
        let place = window.base() + offset;
        write(stream, (place, length), chunk, &mut progress)?;
    }
    println!("restore: {done} bytes in {calls} calls");
    Ok(())
}

/// Writes the bytes at `place`, in calls of at most `chunk` bytes.
fn write(
    stream: &Stream,
    (place, length): (u64, u64),
    chunk: u64,
    mut progress: impl FnMut(u64),
) -> Result<(), Trouble> {
    let (mut done, mut standing) = (0, 0);
    while done < length {
        let piece = (length - done).min(chunk);
        let consumed = hcall::hpt_write(stream.handle, place + done, piece)?;
        standing = if consumed == 0 { standing + 1 } else { 0 };
        if consumed > piece || standing > STANDSTILL {
            return Err(Trouble::Stream(abi::H_HPT_WRITE, consumed));
        }
        done += consumed;
        progress(consumed);
    }
    Ok(())
}

/// The calls of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    /// Bytes of its records.
    pub(crate) length: u64,
    /// How many calls.
    pub(crate) count: u64,
    /// Timebase ticks that they took.
    pub(crate) ticks: u64,
    /// What the last one said.
    pub(crate) last: Piece,
}

/// Reads a pass to its end, into the `room` bytes of the window at `offset`, in calls of at most `chunk` bytes. `progress` hears
/// after each how many bytes there are.
pub(crate) fn read(
    window: &Window,
    handle: u64,
    (offset, room): (u64, u64),
    chunk: u64,
    mut progress: impl FnMut(u64),
) -> Result<Calls, Trouble> {
    let room = room.min(window.size().saturating_sub(offset));
    let (mut length, mut count, mut ticks) = (0, 0, 0);
    loop {
        let buffer = (room - length).min(chunk) & !7;
        if offset < HEADER || buffer < MIN_READ_BUFFER {
            return Err(Trouble::NoRoom);
        }
        let start = cpu::timebase();
        // SAFETY: the buffer is in the window, of which no one holds anything but atomics.
        let piece = unsafe { hcall::hpt_read(handle, window.base() + offset + length, buffer) };
        ticks += cpu::timebase() - start;
        let last = piece?;
        if last.bytes > buffer || last.bytes % 8 != 0 {
            return Err(Trouble::Stream(abi::H_HPT_READ, last.bytes));
        }
        length += last.bytes;
        count += 1;
        progress(length);
        if last.flags.contains(ReadFlags::END_OF_PASS) {
            return Ok(Calls {
                length,
                count,
                ticks,
                last,
            });
        }
    }
}

/// One pass, as it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    /// Its number.
    pub(crate) number: u64,
    /// Bytes of its records.
    pub(crate) length: u64,
    /// What the last call said.
    pub(crate) flags: ReadFlags,
    /// Slots that are pending after it.
    pub(crate) pending: u64,
}

impl Pass {
    /// Whether nothing had changed.
    pub(crate) const fn is_clean(&self) -> bool {
        self.length == 0 && self.pending == 0 && self.flags.contains(ReadFlags::CLEAN)
    }
}

/// The window's room for passes.
#[derive(Debug)]
pub(crate) struct Output {
    window: Window,
    /// Offset of the next pass's records.
    next: u64,
    end: u64,
    chunk: u64,
    passes: usize,
}

impl Output {
    /// The room that the job gives.
    pub(crate) fn new(window: Window) -> Self {
        let next = window.get(word::OUTPUT);
        let end = next
            .saturating_add(window.get(word::OUTPUT_SIZE))
            .min(window.size());
        Self {
            window,
            next,
            end,
            chunk: chunk(&window),
            passes: 0,
        }
    }

    /// Reads a pass to its end. A pass while the target runs is kept only if something is in it.
    pub(crate) fn read(&mut self, stream: &Stream, kind: u64) -> Result<Pass, Trouble> {
        self.window.begin_phase(phase::READ, 0);
        let place = (self.next, self.end.saturating_sub(self.next));
        let progress = |length| self.window.set(word::DONE, length);
        let read = read(&self.window, stream.handle, place, self.chunk, progress)?;
        let Calls {
            length,
            count: calls,
            ticks,
            last,
        } = read;
        let result = Pass {
            number: last.pass,
            length,
            flags: last.flags,
            pending: last.pending,
        };
        if kind != kind::LIVE || length > 0 {
            self.describe(&result, kind, (calls, ticks))?;
            println!(
                "pass {}: {length} bytes in {calls} calls, {} pending, {:?}",
                result.number, result.pending, result.flags
            );
        }
        Ok(result)
    }

    /// Describes a pass in the window and keeps its records.
    fn describe(
        &mut self,
        read: &Pass,
        kind: u64,
        (calls, ticks): (u64, u64),
    ) -> Result<(), Trouble> {
        if self.passes == MAX_PASSES {
            return Err(Trouble::NoRoom);
        }
        let first = word::FIRST_PASS + self.passes * PASS_WORDS;
        for (number, value) in [
            (pass::OFFSET, self.next),
            (pass::LENGTH, read.length),
            (pass::NUMBER, read.number),
            (pass::PENDING, read.pending),
            (pass::FLAGS, read.flags.bits()),
            (pass::CALLS, calls),
            (pass::KIND, kind),
            (pass::TICKS, ticks),
        ] {
            self.window.set(first + number, value);
        }
        self.next += read.length;
        self.passes += 1;
        self.window.set(word::PASSES, self.passes as u64);
        Ok(())
    }
}
