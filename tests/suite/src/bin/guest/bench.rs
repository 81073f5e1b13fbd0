//! The bench: what a case works with. What it made through the bench is cleared away after it.

use core::ptr;

use heapless::Vec;
use realhpt_pseries::{
    abi::{Flags, OpenFlags, Privileges, State},
    cpu::{self, Msr, TICKS_PER_MS, timebase},
    guard::{self, Fault},
    hcall::{self, Hpte, MANIFEST_ENTRY, Partition, Stream},
    mmu::{
        Entry,
        pte::{BasePage, PP_READ_WRITE, Page, Segment, SegmentSize},
        slb,
    },
    runtime::{FIRST_FREE_SLB, Runtime},
};
use realhpt_suite::partition;

use crate::{
    registers::{Sprs, write_amr},
    trouble::{Must as _, Outcome, holds, same},
};

/// Guest real address of the memory that cases map: behind the program's page.
pub(crate) const POOL: u64 = 16 << 20;
/// How long a partition may take for what it is started for.
pub(crate) const PATIENCE: u64 = 20_000 * TICKS_PER_MS;

/// What a case works with.
#[derive(Debug)]
pub(crate) struct Bench<'r> {
    pub(crate) runtime: &'r Runtime,
    entries: Vec<Entry, 512>,
    segments: Vec<Segment, 16>,
    handles: Vec<u64, 16>,
    /// Segments there ever were: each has addresses and a VSID of its own.
    serial: u64,
    /// Bytes of the pool that are taken.
    taken: u64,
    outcome: Outcome,
}

/// A page that a case can use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapped {
    /// Its effective address.
    pub(crate) ea: u64,
    /// Guest real address of the same byte.
    pub(crate) ra: u64,
    /// The segment it is in.
    pub(crate) segment: Segment,
    /// Its entry, as it was entered.
    pub(crate) entry: Entry,
}

impl<'r> Bench<'r> {
    /// An empty bench.
    pub(crate) fn new(runtime: &'r Runtime) -> Self {
        Self {
            runtime,
            entries: Vec::new(),
            segments: Vec::new(),
            handles: Vec::new(),
            serial: 0,
            taken: 0,
            outcome: Ok(()),
        }
    }

    /// The bench of vCPU `number` of a partition that has several: what it maps is not what the others map.
    pub(crate) fn of_vcpu(runtime: &'r Runtime, number: u64) -> Self {
        Self {
            serial: number << 8,
            taken: number << 20,
            ..Self::new(runtime)
        }
    }

    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// How many slots the table has.
    pub(crate) fn slots(&self) -> u64 {
        self.runtime.table.slots()
    }

    /// Index of the first slot of the group that a hash leads to.
    pub(crate) fn group(&self, hash: u64) -> u64 {
        hash << 3 & (self.slots() - 1)
    }

    /// A segment that nobody uses, in the SLB; `bits` goes to its VSID doubleword.
    pub(crate) fn segment_with(
        &mut self,
        size: SegmentSize,
        page: BasePage,
        bits: u64,
    ) -> Outcome<Segment> {
        let base = match size {
            SegmentSize::M256 => (0x100 + self.serial) << 28,
            SegmentSize::T1 => (0x10 + self.serial) << 40,
        };
        self.segment_at(base, (size, page), bits)
    }

    /// A segment at an effective address, with a VSID that nobody has.
    pub(crate) fn segment_at(
        &mut self,
        base: u64,
        (size, page): (SegmentSize, BasePage),
        bits: u64,
    ) -> Outcome<Segment> {
        let serial = self.serial;
        self.serial += 1;
        let vsid = match size {
            SegmentSize::M256 => 0x6a_0000_0000 + serial * 0x1_0001,
            SegmentSize::T1 => 0x6a0_0000 + serial * 0x1001,
        };
        let segment = Segment {
            base,
            vsid,
            size,
            page,
        };
        let slot = FIRST_FREE_SLB + self.segments.len() as u64;
        self.segments.push(segment).ok().must("place in the SLB")?;
        let esid = segment.base | 1 << 27 | slot;
        // SAFETY: nothing of the program is at these addresses.
        unsafe { slb::insert_raw(esid, segment.vsid_dword() | bits) };
        Ok(segment)
    }

    /// A segment that nobody uses, in the SLB.
    pub(crate) fn segment(&mut self, size: SegmentSize, page: BasePage) -> Outcome<Segment> {
        self.segment_with(size, page, 0)
    }

    /// Maps a page of a segment of the bench.
    pub(crate) fn map(
        &mut self,
        segment: &Segment,
        ea: u64,
        page: Page,
        (ra, bits): (u64, u64),
    ) -> Outcome<Entry> {
        // SAFETY: the program has no references to the bench's segments.
        let entry =
            unsafe { self.runtime.table.map(segment, ea, page, (ra, bits), 0) }.must("mapping")?;
        self.keep(entry)?;
        Ok(entry)
    }

    /// H_ENTER of an entry that no segment of the program leads to.
    pub(crate) fn enter(
        &mut self,
        flags: Flags,
        ptex: u64,
        hpte: Hpte,
    ) -> Result<u64, hcall::Failure> {
        // SAFETY: entries of cases are for VSIDs of the bench, or of nobody.
        let ptex = unsafe { hcall::enter(flags, ptex, hpte) }?;
        let _ = self.keep(Entry {
            ptex,
            dw0: hpte.0,
            dw1: hpte.1,
        });
        Ok(ptex)
    }

    fn keep(&mut self, entry: Entry) -> Outcome {
        self.entries.push(entry).ok().must("room for entries")
    }

    /// `size` bytes of memory for pages of that size, which nobody uses.
    pub(crate) fn memory(&mut self, size: u64) -> Outcome<u64> {
        let at = (POOL + self.taken).next_multiple_of(size);
        self.taken = at + size - POOL;
        holds(
            "memory left",
            at,
            at + size <= self.runtime.partition.memory,
        )?;
        Ok(at)
    }

    /// A page of memory, in a segment of its own, with these bits in dword 1.
    pub(crate) fn page(&mut self, page: Page, bits: u64) -> Outcome<Mapped> {
        let ra = self.memory(page.size())?;
        let segment = self.segment(SegmentSize::M256, page.base())?;
        let ea = segment.base;
        let entry = self.map(&segment, ea, page, (ra, bits))?;
        Ok(Mapped {
            ea,
            ra,
            segment,
            entry,
        })
    }

    /// A 4K page that can be read and written.
    pub(crate) fn small_page(&mut self) -> Outcome<Mapped> {
        self.page(Page::K4, PP_READ_WRITE)
    }

    /// A group of free slots: its first.
    pub(crate) fn free_group(&mut self) -> Outcome<u64> {
        for group in (0..self.slots()).step_by(8) {
            let halves = [group, group + 4].map(hcall::read_4);
            let [Ok(low), Ok(high)] = halves else {
                continue;
            };
            if low.iter().chain(&high).all(|&entry| entry == (0, 0)) {
                return Ok(group);
            }
        }
        None.must("a free group")
    }

    /// Opens a stream.
    pub(crate) fn open(
        &mut self,
        lpar: u64,
        flags: OpenFlags,
        start: u64,
    ) -> Result<Stream, hcall::Failure> {
        let stream = hcall::hpt_open(lpar, flags, start)?;
        let _ = self.handles.push(stream.handle);
        Ok(stream)
    }

    /// Closes a stream.
    pub(crate) fn close(&mut self, handle: u64) -> Result<(), hcall::Failure> {
        self.handles.retain(|&open| open != handle);
        hcall::hpt_close(handle)
    }

    /// Starts a partition for a job.
    pub(crate) fn start(&mut self, lpar: u64, job: u64) -> Outcome {
        hcall::lpar_start(lpar, MANIFEST_ENTRY, job).must("start")
    }

    /// Waits until a partition has ended; its exit code.
    pub(crate) fn wait(&mut self, lpar: u64) -> Outcome<u64> {
        let begin = timebase();
        loop {
            let partition = query(lpar)?;
            if partition.is(State::Halted) {
                return Ok(partition.exit_code);
            }
            holds(
                "state while it is waited for",
                partition.state,
                partition.is(State::Running),
            )?;
            holds(
                "time it takes",
                timebase() - begin,
                timebase() - begin < PATIENCE,
            )?;
            cpu::cede(TICKS_PER_MS);
        }
    }

    /// Has a partition do a job, which must end well. A job that does not gives the line of the client's source.
    pub(crate) fn run(&mut self, lpar: u64, job: u64) -> Outcome {
        self.start(lpar, job)?;
        let code = self.wait(lpar)?;
        same("exit code of the job", 0, code)
    }

    /// Takes away what the last case left.
    pub(crate) fn clear(&mut self) -> Outcome {
        // SAFETY: the program needs none of them.
        unsafe { Sprs::default().set() };
        // SAFETY: the program's own pages have key 0, which this allows everything.
        unsafe { write_amr(0) };
        for handle in self.handles.drain(..) {
            // It may have been closed, or be good no more.
            let _ = hcall::hpt_close(handle);
        }
        for entry in self.entries.drain(..) {
            let _ = entry.remove();
        }
        for (slot, segment) in (FIRST_FREE_SLB..).zip(self.segments.drain(..)) {
            // SAFETY: the program has no references to the segment.
            unsafe { slb::remove(&segment) };
            // SAFETY: an invalid entry.
            unsafe { slb::insert_raw(slot, 0) };
        }
        self.taken = 0;
        self.outcome = Ok(());
        let privileges = self.runtime.partition.privileges;
        if !privileges.contains(Privileges::CONTROL) {
            return Ok(());
        }
        for lpar in partition::CLIENT..=partition::LAST {
            let state = query(lpar)?;
            if state.is(State::Running) {
                hcall::lpar_pause(lpar).must("pause")?;
            }
            hcall::lpar_reset(lpar).must("reset")?;
        }
        Ok(())
    }
}

/// H_LPAR_QUERY.
pub(crate) fn query(lpar: u64) -> Outcome<Partition> {
    hcall::lpar_query(lpar).must("query")
}

/// Loads the doubleword at an effective address of the bench. A fault ends the case.
pub(crate) fn load(ea: u64) -> u64 {
    // SAFETY: the bench's pages are nobody's references.
    unsafe { ptr::read_volatile(pointer(ea)) }
}

/// Stores the doubleword at an effective address of the bench. A fault ends the case.
pub(crate) fn store(ea: u64, value: u64) {
    // SAFETY: the bench's pages are nobody's references.
    unsafe { ptr::write_volatile(pointer(ea), value) }
}

/// Loads a doubleword of the pool in real mode.
pub(crate) fn load_real(ra: u64) -> u64 {
    // SAFETY: in real mode the program is where it is, and the pool is memory.
    unsafe { cpu::with_msr(Msr::REAL, || load(ra)) }
}

/// Stores a doubleword of the pool in real mode.
pub(crate) fn store_real(ra: u64, value: u64) {
    // SAFETY: in real mode the program is where it is, and the pool is memory.
    unsafe { cpu::with_msr(Msr::REAL, || store(ra, value)) }
}

/// Loads under a guard.
pub(crate) fn try_load(ea: u64) -> Result<u64, Fault> {
    // SAFETY: cases run translated, and a load is sound.
    unsafe { guard::load(ea, Msr::TRANSLATED) }
}

/// Stores under a guard, at an address of the bench.
pub(crate) fn try_store(ea: u64, value: u64) -> Result<(), Fault> {
    // SAFETY: cases run translated, and what the bench maps is free to be written.
    unsafe { guard::store(ea, value, Msr::TRANSLATED) }
}

/// Calls an address of the bench under a guard.
pub(crate) fn try_fetch(ea: u64) -> Result<u64, Fault> {
    // SAFETY: cases run translated; where this does not fault, the case has put a return there.
    unsafe { guard::fetch(ea, Msr::TRANSLATED) }
}

/// A pointer that is only a number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the target has 64-bit pointers"
)]
fn pointer(address: u64) -> *mut u64 {
    ptr::without_provenance_mut(address as usize)
}
