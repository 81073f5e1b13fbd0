//! A table as a reader knows it, kept in the window, and the readers that keep such copies.

use core::ops::Range;

use realhpt_pseries::{
    abi::{OpenFlags, ReadFlags},
    hcall::{self, Hpte, Piece},
    mmu::pte::V_BOLTED,
    window::Window,
};

use super::{COPIES, COPY};
use crate::{
    stream::{READ, Sink, decode, read_piece},
    trouble::{Must as _, Outcome, holds, same},
};

/// More calls than any pass takes.
const CALLS: u64 = 1 << 20;

/// What stands in a copy for a slot that no reader has spoken of.
const UNKNOWN: u64 = 0x7777_7777_7777_7777;

/// A copy of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    window: Window,
    /// Its first doubleword in the window.
    first: usize,
    slots: u64,
}

impl Copy {
    /// Copy `number` in the window, of a table with so many slots: nothing is known yet.
    pub(crate) fn new(window: Window, number: usize, slots: u64) -> Self {
        let copy = Self {
            window,
            first: COPIES + number * COPY,
            slots,
        };
        copy.forget();
        copy
    }

    /// Nothing is known any more.
    pub(crate) fn forget(&self) {
        for slot in 0..self.slots {
            self.put(slot, (UNKNOWN, UNKNOWN));
        }
    }

    pub(crate) const fn slots(&self) -> u64 {
        self.slots
    }

    fn place(&self, slot: u64) -> usize {
        self.first + 2 * usize::try_from(slot).unwrap_or_default()
    }

    /// A slot's entry: zeros if it is free.
    pub(crate) fn get(&self, slot: u64) -> Hpte {
        let at = self.place(slot);
        (self.window.get(at), self.window.get(at + 1))
    }

    fn put(&self, slot: u64, (dw0, dw1): Hpte) {
        let at = self.place(slot);
        self.window.set(at, dw0);
        self.window.set(at + 1, dw1);
    }

    /// Whether two copies agree entry by entry.
    pub(crate) fn same(&self, other: &Self) -> Outcome {
        (0..self.slots).try_for_each(|slot| is_told(slot, other.get(slot), self.get(slot)))
    }
}

impl Sink for Copy {
    fn record(&mut self, slots: Range<u64>) -> Outcome {
        holds("end of a record", slots.end, slots.end <= self.slots)
    }

    fn slot(&mut self, number: u64, entry: Option<Hpte>) -> Outcome {
        self.put(number, entry.unwrap_or((0, 0)));
        Ok(())
    }
}

/// Whether a reader was told this of a slot.
fn is_told(slot: u64, expected: Hpte, told: Hpte) -> Outcome {
    if told == expected {
        return Ok(());
    }
    same("slot in which two readers differ", !0, slot)
}

/// What a reader is shown, where its first pass begins, and how many bytes its buffer has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) flags: OpenFlags,
    pub(crate) start: u64,
    pub(crate) size: u64,
}

/// A reader with its copy.
#[derive(Debug)]
pub(crate) struct Reader {
    handle: u64,
    view: View,
    pub(crate) copy: Copy,
    /// Passes that it has read to their ends.
    pub(crate) passes: u64,
    /// Whether it stands between two passes.
    between: bool,
}

impl Reader {
    /// A new reader of a partition's table.
    pub(crate) fn open(lpar: u64, copy: Copy, view: View) -> Outcome<Self> {
        let stream = hcall::hpt_open(lpar, view.flags, view.start).must("open")?;
        same("slots", copy.slots(), 1 << (stream.order - 4))?;
        let size = view.size.min(READ.bytes());
        Ok(Self {
            handle: stream.handle,
            view: View { size, ..view },
            copy,
            passes: 0,
            between: true,
        })
    }

    /// One call.
    pub(crate) fn piece(&mut self) -> Outcome<Piece> {
        let size = self.view.size;
        let piece = read_piece(self.handle, size).must("read")?;
        holds("bytes in the buffer", piece.bytes, piece.bytes <= size)?;
        same("number of the pass", self.passes + 1, piece.pass)?;
        decode(&READ, piece.bytes, &mut self.copy)?;
        self.between = piece.flags.contains(ReadFlags::END_OF_PASS);
        self.passes += u64::from(self.between);
        Ok(piece)
    }

    /// The rest of the pass that it is in, or a whole one; its last piece.
    pub(crate) fn pass(&mut self) -> Outcome<Piece> {
        let mut calls = 0;
        loop {
            holds("calls of a pass", calls, calls < CALLS)?;
            calls += 1;
            let piece = self.piece()?;
            if self.between {
                return Ok(piece);
            }
        }
    }

    /// Makes the copy exact, of a partition that is paused: what a pass that began before it missed comes in the
    /// next one, and then there is nothing more. So it is with a first pass, which begins where its reader does.
    pub(crate) fn settle(&mut self) -> Outcome {
        if !self.between || self.passes == 0 {
            self.pass()?;
        }
        let piece = self.pass()?;
        same(
            "pending after a pass of a paused partition",
            0,
            piece.pending,
        )?;
        let piece = self.pass()?;
        holds(
            "cleanness of the pass after it",
            piece.flags.bits(),
            piece.flags.contains(ReadFlags::CLEAN) && piece.bytes == 0,
        )
    }

    /// Whether its copy is this one, as its view shows it: what lay before its start it knows where that changed.
    pub(crate) fn agrees(&self, whole: &Copy) -> Outcome {
        for slot in 0..whole.slots() {
            let (mut expected, told) = (whole.get(slot), self.copy.get(slot));
            if self.view.flags.contains(OpenFlags::BOLTED_ONLY) && expected.0 & V_BOLTED == 0 {
                expected = (0, 0);
            }
            if slot >= self.view.start || told != (UNKNOWN, UNKNOWN) {
                is_told(slot, expected, told)?;
            }
        }
        Ok(())
    }

    /// Ends it.
    pub(crate) fn close(self) -> Outcome {
        hcall::hpt_close(self.handle).must("close")
    }
}
