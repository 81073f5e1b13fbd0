//! What the cases stand on: a processor, a partition with its table, and the calls it makes.

use std::sync::atomic::{AtomicU64 as Plain, Ordering as PlainOrdering};

use loom::sync::Mutex;
use loom::thread;
use realhpt::addr::{GuestReal, HostReal, Lpid};
use realhpt::arch::{GuestRegister, Machine};
use realhpt::hcall::abi::{
    self, Flags, H_ENTER, H_HPT_OPEN, H_HPT_READ, H_HPT_WRITE, H_PROTECT, H_REMOVE, OpenFlags,
    Privileges, ReadFlags, ReportKind, Status,
};
use realhpt::hcall::{Frame, Platform, Seat, dispatch};
use realhpt::lpar::{Description, Partition, System};
use realhpt::memory::{Region, Regions};
use realhpt::sync::{AtomicU64, BeDword, Ordering, fence};
use realhpt::table::{Format, Memory, Order};

pub(crate) const R: u64 = 0x100;
pub(crate) const C: u64 = 0x80;
const VALID: u64 = 1;

/// Slots that the cases use, the first group's. (loom's threads have small stacks.)
pub(crate) const SLOTS: usize = 8;

/// What is known of each.
pub(crate) type Image = [Option<(u64, u64)>; SLOTS];

/// The slot that the cases are about.
pub(crate) const SLOT: u64 = 3;

/// A TLB with room for the translation of one slot: R is stored when it is filled, and the C of a store is
/// held back until it is dropped, as a processor may. An access is made whole under the lock, so an invalidation
/// comes before it or after it; that is what `tlbie; eieio; tlbsync; ptesync` makes of it.
#[derive(Debug, Default)]
pub(crate) struct Tlb(Mutex<Held>);

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    filled: bool,
    /// C is to be stored.
    changed: bool,
}

impl Tlb {
    /// A store of a guest's to the page of the entry with these dwords; whether it was made, else there was a fault.
    pub(crate) fn store(&self, dwords: &[BeDword]) -> bool {
        let mut held = self.0.lock().unwrap();
        if !held.filled {
            if dwords[0].load(Ordering::Relaxed) & VALID == 0 {
                return false;
            }
            dwords[1].set_bits(R);
            held.filled = true;
        }
        held.changed = true;
        true
    }

    fn drop_translation(&self, dword1: Option<&BeDword>) {
        let mut held = self.0.lock().unwrap();
        if let (true, Some(dword1)) = (held.changed, dword1) {
            dword1.set_bits(C);
        }
        *held = Held::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.0.lock().unwrap().filled
    }

    /// A translation without an entry, for cases that have no table.
    pub(crate) fn fill(&self) {
        self.0.lock().unwrap().filled = true;
    }
}

/// A processor whose barriers are loom's fences. Guest memory is the test's own, one buffer for each thread.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    pub(crate) memory: Vec<Plain>,
    pub(crate) tlb: Option<&'static Tlb>,
    /// What the TLB's entry is of.
    pub(crate) translated: Option<&'static [BeDword]>,
    /// Whether a CPU has to forget for itself.
    pub(crate) forgets_for_itself: bool,
}

impl Processor {
    fn drop_translation(&self) {
        if let Some(tlb) = self.tlb {
            tlb.drop_translation(self.translated.map(|dwords| &dwords[1]));
        }
    }
}

impl Machine for Processor {
    fn ptesync(&self) {
        fence(Ordering::SeqCst);
    }
    fn tlbie(&self, _rb: u64, _lpid: Lpid) {
        self.drop_translation();
    }
    fn tlbsync(&self) {
        fence(Ordering::SeqCst);
    }
    fn tlbiel(&self, _rb: u64) {}
    fn tlbiel_sync(&self) {
        fence(Ordering::SeqCst);
    }
    fn flush_lpid(&self, _lpid: Lpid) {
        self.drop_translation();
        fence(Ordering::SeqCst);
    }
    fn forgets_everywhere(&self) -> bool {
        !self.forgets_for_itself
    }
    fn kick(&self, _cpu: usize) {}
    fn eieio(&self) {}
    fn load(&self, at: HostReal) -> u64 {
        self.memory[usize::try_from(at.raw() / 8).unwrap()].load(PlainOrdering::Relaxed)
    }
    fn store(&self, at: HostReal, value: u64) {
        self.memory[usize::try_from(at.raw() / 8).unwrap()].store(value, PlainOrdering::Relaxed);
    }
    fn store_byte(&self, dword: &BeDword, number: usize, value: u8) {
        dword.store_byte(number, value);
    }
    fn store_word(&self, at: HostReal, value: u32) {
        let dword = HostReal::new(at.raw() & !7);
        let shift = if at.is_aligned(8) { 32 } else { 0 };
        let before = self.load(dword) & !(0xffff_ffff << shift);
        self.store(dword, before | u64::from(value) << shift);
    }
    fn has(&self, _register: GuestRegister) -> bool {
        false
    }
    fn set(&self, _register: GuestRegister, _value: u64) {}
    fn time_base(&self) -> u64 {
        0
    }
    fn zero(&self, at: HostReal, bytes: u64) {
        for offset in (0..bytes).step_by(8) {
            self.store(HostReal::new(at.raw() + offset), 0);
        }
    }
    fn synchronise_instructions(&self, _at: HostReal, _bytes: u64) {}
}

struct Silent;

impl Platform for Silent {
    fn console_write(&self, _lpid: Lpid, _bytes: &[u8]) -> bool {
        true
    }
    fn console_read(&self, _lpid: Lpid, _bytes: &mut [u8; 16]) -> usize {
        0
    }
    fn report(&self, _lpid: Lpid, _kind: ReportKind, _text: &[u8], _number: u64) {}
}

/// One partition, its table and what its vCPUs can call.
#[derive(Clone, Copy)]
pub(crate) struct World(pub(crate) &'static System<'static, Processor>);

/// A buffer that a whole word of entries fits in: so that they are copied the quick way.
pub(crate) const BUFFER: u64 = 1536;
/// A buffer that one entry fits in.
pub(crate) const ONE_ENTRY: u64 = 24;

/// How the world is made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spec {
    /// The table has a spare area.
    pub(crate) resizable: bool,
    /// A processor has a TLB, for the entry of [`SLOT`].
    pub(crate) tlb: bool,
}

fn words(count: usize) -> &'static [AtomicU64] {
    Vec::leak((0..count).map(|_| AtomicU64::new(0)).collect())
}

fn dwords() -> &'static [BeDword] {
    Vec::leak((0..128).map(|_| BeDword::new(0)).collect())
}

impl World {
    pub(crate) fn new() -> Self {
        Self::made(Spec::default())
    }

    /// Each run of a model leaks its world: loom has no scoped threads.
    pub(crate) fn made(spec: Spec) -> Self {
        let order = Order::new(18).unwrap();
        let hpt = dwords();
        let mut memory = Memory::window(order, hpt, words(64 + 1 + 21)).unwrap();
        if spec.resizable {
            memory = memory
                .with_spare_window(dwords(), words(64 + 1 + 5))
                .unwrap();
        }
        let mut regions = Regions::new();
        regions
            .add(Region::new(GuestReal::new(0), HostReal::new(0), 1 << 24).unwrap())
            .unwrap();
        let description = Description {
            name: "client",
            lpid: Lpid::new(1),
            privileges: Privileges::CONTROL,
            regions,
            shared: None,
            entry: GuestReal::new(0),
            vcpus: 2,
        };
        let mut system = System::new(Processor {
            memory: (0..4 * BUFFER / 8).map(|_| Plain::new(0)).collect(),
            tlb: spec.tlb.then(|| &*Box::leak(Box::<Tlb>::default())),
            translated: Some(&hpt[2 * SLOT as usize..]),
            forgets_for_itself: false,
        });
        system
            .add(Partition::new(description, Format::V3_0, memory))
            .unwrap();
        Self(Box::leak(Box::new(system)))
    }

    pub(crate) fn partition(self) -> &'static Partition<'static> {
        &self.0.partitions()[0]
    }

    /// A guest's store to the page of [`SLOT`], whichever table is walked; whether it was made.
    pub(crate) fn guest_stores(self) -> bool {
        let dwords = self.0.machine.translated.unwrap();
        self.0.machine.tlb.unwrap().store(dwords)
    }

    pub(crate) fn call_from(self, vcpu: u32, token: u64, arguments: &[u64]) -> Frame {
        let mut frame = Frame::default();
        frame.regs[0] = token;
        frame.regs[1..=arguments.len()].copy_from_slice(arguments);
        let seat = Seat { vcpu, cpu: vcpu };
        dispatch(self.0, &Silent, self.partition(), seat, false, &mut frame);
        frame
    }

    pub(crate) fn call(self, token: u64, arguments: &[u64]) -> Frame {
        self.call_from(0, token, arguments)
    }

    pub(crate) fn enter(self, flags: Flags, ptex: u64, (v, r): (u64, u64)) -> Frame {
        self.call(H_ENTER, &[flags.bits(), ptex, v, r])
    }

    /// Enters into a slot that is known to be free.
    pub(crate) fn make(self, ptex: u64, entry: (u64, u64)) {
        assert_eq!(
            status(&self.enter(Flags::EXACT, ptex, entry)),
            Status::Success
        );
    }

    pub(crate) fn remove(self, ptex: u64) -> Frame {
        self.call(H_REMOVE, &[0, ptex, 0])
    }

    pub(crate) fn protect(self, ptex: u64, pp: u64) -> Frame {
        self.call(H_PROTECT, &[pp, ptex, 0])
    }

    pub(crate) fn open(self) -> u64 {
        let frame = self.call(H_HPT_OPEN, &[abi::LPAR_SELF, 0, 0]);
        assert_eq!(status(&frame), Status::Success);
        frame.argument(0)
    }

    /// One read of as many bytes into the buffer of `thread`, applied to `copy`.
    pub(crate) fn read(self, handle: u64, thread: u64, bytes: u64, copy: &mut Image) -> Frame {
        let buffer = thread * BUFFER;
        let frame = self.call(H_HPT_READ, &[handle, buffer, bytes]);
        if status(&frame) == Status::Success {
            self.apply(buffer, frame.argument(0), copy);
        }
        frame
    }

    /// Reads to the end of a pass with buffers of that size, applied to `copy`. Whether the pass was clean.
    pub(crate) fn pass_of(self, handle: u64, thread: u64, bytes: u64, copy: &mut Image) -> bool {
        loop {
            let frame = self.read(handle, thread, bytes, copy);
            assert_eq!(status(&frame), Status::Success);
            let flags = ReadFlags::from_bits_truncate(frame.argument(1));
            if flags.contains(ReadFlags::CLEAN) {
                assert_eq!(frame.argument(2), 0, "clean, and something is pending");
            }
            if flags.contains(ReadFlags::END_OF_PASS) {
                return flags.contains(ReadFlags::CLEAN);
            }
            // Not at the end: an entry is being changed by another, who must get on.
            thread::yield_now();
        }
    }

    pub(crate) fn pass(self, handle: u64, thread: u64, copy: &mut Image) -> bool {
        self.pass_of(handle, thread, BUFFER, copy)
    }

    /// Passes until one is clean.
    pub(crate) fn passes(self, handle: u64, thread: u64, copy: &mut Image) {
        while !self.pass(handle, thread, copy) {
            thread::yield_now();
        }
    }

    fn apply(self, buffer: u64, bytes: u64, copy: &mut Image) {
        let dword = |at: u64| self.0.machine.load(HostReal::new(buffer + at));
        let mut at = 0;
        while at < bytes {
            let header = dword(at);
            let (index, valid, invalid) = (header >> 32, header >> 16 & 0xffff, header & 0xffff);
            at += 8;
            for slot in index..index + valid {
                if let Some(place) = copy.get_mut(slot as usize) {
                    *place = Some((dword(at), dword(at + 8)));
                }
                at += 16;
            }
            for slot in index + valid..(index + valid + invalid).min(SLOTS as u64) {
                copy[slot as usize] = None;
            }
        }
    }

    /// Opens a stream to write the table, which the partition does not run on.
    pub(crate) fn open_to_write(self) -> u64 {
        let frame = self.call(H_HPT_OPEN, &[abi::LPAR_SELF, OpenFlags::WRITE.bits(), 0]);
        assert_eq!(status(&frame), Status::Success);
        frame.argument(0)
    }

    /// Writes these entries, for the slots from `index` on.
    pub(crate) fn write(self, handle: u64, index: u64, entries: &[(u64, u64)]) {
        self.write_record(handle, index << 32 | (entries.len() as u64) << 16, entries);
    }

    /// Writes that slot `index` is invalid.
    pub(crate) fn invalidate(self, handle: u64, index: u64) {
        self.write_record(handle, index << 32 | 1, &[]);
    }

    /// Writes a record from the buffer of thread 0, and the header of an empty one.
    fn write_record(self, handle: u64, header: u64, entries: &[(u64, u64)]) {
        let dwords = entries.iter().flat_map(|&(v, r)| [v, r]);
        let mut bytes = 0;
        for dword in core::iter::once(header).chain(dwords).chain([0]) {
            self.0.machine.store(HostReal::new(bytes), dword);
            bytes += 8;
        }
        let frame = self.call(H_HPT_WRITE, &[handle, 0, bytes]);
        assert_eq!(
            (status(&frame), frame.argument(0)),
            (Status::Success, bytes)
        );
    }

    /// What is in the table now that nobody else runs.
    pub(crate) fn table(self) -> Image {
        core::array::from_fn(|slot| {
            let frame = self.call(abi::H_READ, &[0, slot as u64]);
            (frame.argument(0) != 0).then_some((frame.argument(0), frame.argument(1)))
        })
    }
}

pub(crate) fn status(frame: &Frame) -> Status {
    Status::from_raw(frame.regs[0]).unwrap()
}

/// A 4K entry with R and C set, so settled, of page `page`, in a group whose number has no bits that a larger
/// table would look at: it stays where it is when the table is resized.
pub(crate) const fn entry(page: u64) -> (u64, u64) {
    (page << 12 | 1, page << 12 | R | C | 0x10 | 2)
}

/// The same, neither referenced nor changed.
pub(crate) const fn unused(page: u64) -> (u64, u64) {
    let (v, r) = entry(page);
    (v, r & !(R | C))
}

/// The same entry, bolted.
pub(crate) fn bolted((v, r): (u64, u64)) -> (u64, u64) {
    (v | 0x10, r)
}

/// An entry without memory behind it: nothing of it is ever flushed.
pub(crate) fn absent() -> (u64, u64) {
    entry(0x10_0000)
}

pub(crate) fn explore(preemptions: usize, case: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(case);
}
