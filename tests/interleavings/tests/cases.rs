//! The cases. Slots 0 to 63 of the table exist; guest memory is 16 MiB at guest real 0.
#![cfg(loom)]

use std::sync::atomic::{AtomicU64 as Plain, Ordering as PlainOrdering};

use loom::thread;
use realhpt::addr::{GuestReal, HostReal, Lpid};
use realhpt::arch::Machine;
use realhpt::hcall::abi::{
    self, Flags, H_CLEAR_MOD, H_CLEAR_REF, H_ENTER, H_HPT_OPEN, H_HPT_READ, H_PROTECT, H_REMOVE,
    Privileges, ReadFlags, ReportKind, Status,
};
use realhpt::hcall::{Frame, Platform, Seat, dispatch};
use realhpt::lpar::{Description, Partition, System};
use realhpt::memory::{Region, Regions};
use realhpt::sync::{AtomicU64, BeDword, Ordering, fence};
use realhpt::table::{Format, Memory, Order};

/// A processor whose barriers are loom's fences. Guest memory is the test's own, one buffer for each thread.
struct Processor {
    memory: Vec<Plain>,
}

impl Machine for Processor {
    fn ptesync(&self) {
        fence(Ordering::SeqCst);
    }
    fn tlbie(&self, _rb: u64, _lpid: Lpid) {}
    fn tlbsync(&self) {
        fence(Ordering::SeqCst);
    }
    fn tlbiel(&self, _rb: u64) {}
    fn tlbiel_sync(&self) {
        fence(Ordering::SeqCst);
    }
    fn flush_lpid(&self, _lpid: Lpid) {
        fence(Ordering::SeqCst);
    }
    fn forgets_everywhere(&self) -> bool {
        true
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
    fn zero(&self, at: HostReal, bytes: u64) {
        for offset in (0..bytes).step_by(8) {
            self.store(HostReal::new(at.raw() + offset), 0);
        }
    }
    fn synchronise_instructions(&self, _at: HostReal, _bytes: u64) {}
}

struct Silent;

impl Platform for Silent {
    fn console_write(&self, _lpid: Lpid, _bytes: &[u8]) {}
    fn console_read(&self, _lpid: Lpid, _bytes: &mut [u8; 16]) -> usize {
        0
    }
    fn report(&self, _lpid: Lpid, _kind: ReportKind, _text: &[u8], _number: u64) {}
}

/// One partition, its table and what its vCPUs can call.
#[derive(Clone, Copy)]
struct World(&'static System<'static, Processor>);

const BUFFER: u64 = 256;

impl World {
    /// Each run of a model leaks its world: loom has no scoped threads.
    fn new() -> Self {
        let order = Order::new(18).unwrap();
        let hpt = Vec::leak((0..128).map(|_| BeDword::new(0)).collect());
        let beside = Vec::leak((0..64 + 1 + 12).map(|_| AtomicU64::new(0)).collect());
        let memory = Memory::window(order, hpt, beside).unwrap();
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
        let memory_words = (0..4 * BUFFER / 8).map(|_| Plain::new(0)).collect();
        let mut system = System::new(Processor {
            memory: memory_words,
        });
        system
            .add(Partition::new(description, Format::V3_0, memory))
            .unwrap();
        Self(Box::leak(Box::new(system)))
    }

    fn call(self, token: u64, arguments: &[u64]) -> Frame {
        let mut frame = Frame::default();
        frame.regs[0] = token;
        frame.regs[1..=arguments.len()].copy_from_slice(arguments);
        let caller = &self.0.partitions()[0];
        dispatch(self.0, &Silent, caller, Seat::default(), false, &mut frame);
        frame
    }

    fn enter(self, flags: Flags, ptex: u64, v: u64, r: u64) -> Frame {
        self.call(H_ENTER, &[flags.bits(), ptex, v, r])
    }

    fn remove(self, ptex: u64) -> Frame {
        self.call(H_REMOVE, &[0, ptex, 0])
    }

    fn open(self) -> u64 {
        let frame = self.call(H_HPT_OPEN, &[abi::LPAR_SELF, 0, 0]);
        assert_eq!(status(&frame), Status::Success);
        frame.argument(0)
    }

    /// Reads to the end of a pass, applied to `copy`: slot to both dwords. Whether the pass was clean.
    fn pass(self, handle: u64, thread: u64, copy: &mut [Option<(u64, u64)>; 64]) -> bool {
        loop {
            let buffer = thread * BUFFER;
            let frame = self.call(H_HPT_READ, &[handle, buffer, BUFFER]);
            assert_eq!(status(&frame), Status::Success);
            self.apply(buffer, frame.argument(0), copy);
            let flags = ReadFlags::from_bits_truncate(frame.argument(1));
            if flags.contains(ReadFlags::END_OF_PASS) {
                return flags.contains(ReadFlags::CLEAN);
            }
            // Not at the end: an entry is being changed by another, who must get on.
            thread::yield_now();
        }
    }

    fn apply(self, buffer: u64, bytes: u64, copy: &mut [Option<(u64, u64)>; 64]) {
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
            for slot in index + valid..(index + valid + invalid).min(64) {
                copy[slot as usize] = None;
            }
        }
    }

    /// What is in the table now that nobody else runs.
    fn table(self) -> [Option<(u64, u64)>; 64] {
        core::array::from_fn(|slot| {
            let frame = self.call(abi::H_READ, &[0, slot as u64]);
            (frame.argument(0) != 0).then_some((frame.argument(0), frame.argument(1)))
        })
    }
}

fn status(frame: &Frame) -> Status {
    Status::from_raw(frame.regs[0]).unwrap()
}

/// A 4K entry with R and C set, so settled, of page `page`.
fn entry(page: u64) -> (u64, u64) {
    (page << 12 | 1, page << 12 | 0x190 | 2)
}

fn explore(preemptions: usize, case: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(case);
}

#[test]
fn two_enter_into_the_last_slot_of_a_group() {
    explore(3, || {
        let world = World::new();
        for slot in 0..7 {
            let (v, r) = entry(slot + 1);
            assert_eq!(
                status(&world.enter(Flags::EXACT, slot, v, r)),
                Status::Success
            );
        }
        let enter = move |page| {
            let (v, r) = entry(page);
            world.enter(Flags::empty(), 0, v, r)
        };
        let other = thread::spawn(move || enter(20));
        let here = enter(21);
        let there = other.join().unwrap();
        let statuses = [status(&here), status(&there)];
        assert!(statuses.contains(&Status::Success) && statuses.contains(&Status::PtegFull));
        let winner = if status(&here) == Status::Success {
            entry(21)
        } else {
            entry(20)
        };
        assert_eq!(world.table()[7], Some(winner));
    });
}

/// There is a slot for each: that one of them was quicker is no full group.
#[test]
fn two_enter_into_a_group_with_room() {
    explore(3, || {
        let world = World::new();
        let enter = move |page| {
            let (v, r) = entry(page);
            world.enter(Flags::empty(), 0, v, r)
        };
        let other = thread::spawn(move || enter(20));
        let here = enter(21);
        let there = other.join().unwrap();
        assert_eq!([status(&here), status(&there)], [Status::Success; 2]);
        let mut slots = [here.argument(0), there.argument(0)];
        assert_eq!(world.table()[slots[0] as usize], Some(entry(21)));
        assert_eq!(world.table()[slots[1] as usize], Some(entry(20)));
        slots.sort();
        assert_eq!(slots, [0, 1]);
    });
}

#[test]
fn remove_of_a_slot_that_is_being_entered() {
    explore(3, || {
        let world = World::new();
        let (v, r) = entry(1);
        let other = thread::spawn(move || world.remove(3));
        assert_eq!(status(&world.enter(Flags::EXACT, 3, v, r)), Status::Success);
        let removed = other.join().unwrap();
        match status(&removed) {
            Status::Success => {
                assert_eq!((removed.argument(0), removed.argument(1)), (v, r));
                assert_eq!(world.table()[3], None);
                assert_eq!(status(&world.enter(Flags::EXACT, 3, v, r)), Status::Success);
            }
            status => {
                assert_eq!(status, Status::NotFound);
                assert_eq!(world.table()[3], Some((v, r)));
            }
        }
    });
}

#[test]
fn remove_against_protect_on_one_slot() {
    explore(3, || {
        let world = World::new();
        let (v, r) = entry(1);
        assert_eq!(status(&world.enter(Flags::EXACT, 3, v, r)), Status::Success);
        let other = thread::spawn(move || world.call(H_PROTECT, &[3, 3, 0]));
        let removed = world.remove(3);
        let protected = other.join().unwrap();
        assert_eq!(status(&removed), Status::Success);
        let expected = match status(&protected) {
            Status::Success => r | 3,
            _ => r,
        };
        assert_eq!((removed.argument(0), removed.argument(1)), (v, expected));
        assert_eq!(world.table()[3], None);
    });
}

/// A reader opens while a change is in flight: what it has read when nothing happens any more is the table.
fn open_against(change: impl Fn(World) + Send + Sync + Copy + 'static, before: fn(World)) {
    explore(2, move || {
        let world = World::new();
        before(world);
        let other = thread::spawn(move || change(world));
        let handle = world.open();
        let mut copy = [None; 64];
        world.pass(handle, 1, &mut copy);
        other.join().unwrap();
        while !world.pass(handle, 1, &mut copy) {
            thread::yield_now();
        }
        assert_eq!(copy, world.table());
    });
}

fn one_entry(world: World) {
    let (v, r) = entry(1);
    assert_eq!(status(&world.enter(Flags::EXACT, 3, v, r)), Status::Success);
}

/// An entry without memory behind it: nothing of it is ever flushed.
fn one_absent_entry(world: World) {
    let (v, r) = entry(0x10_0000);
    assert_eq!(status(&world.enter(Flags::EXACT, 3, v, r)), Status::Success);
}

#[test]
fn reader_opens_against_enter() {
    open_against(one_entry, |_| {});
}

#[test]
fn reader_opens_against_enter_of_an_absent_entry() {
    open_against(one_absent_entry, |_| {});
}

#[test]
fn reader_opens_against_remove() {
    open_against(
        |world| {
            let _ = world.remove(3);
        },
        one_entry,
    );
}

#[test]
fn reader_opens_against_remove_of_an_absent_entry() {
    open_against(
        |world| {
            let _ = world.remove(3);
        },
        one_absent_entry,
    );
}

#[test]
fn reader_opens_against_protect() {
    open_against(
        |world| {
            let _ = world.call(H_PROTECT, &[3, 3, 0]);
        },
        one_entry,
    );
}

#[test]
fn reader_opens_against_protect_of_an_absent_entry() {
    open_against(
        |world| {
            let _ = world.call(H_PROTECT, &[3, 3, 0]);
        },
        one_absent_entry,
    );
}

#[test]
fn reader_opens_against_clear_ref() {
    for before in [one_entry, one_absent_entry] {
        open_against(
            |world| {
                let _ = world.call(H_CLEAR_REF, &[0, 3]);
            },
            before,
        );
    }
}

#[test]
fn reader_opens_against_clear_mod() {
    for before in [one_entry, one_absent_entry] {
        open_against(
            |world| {
                let _ = world.call(H_CLEAR_MOD, &[0, 3]);
            },
            before,
        );
    }
}

/// Hardware sets C in an entry whose R is being cleared: the store of R's byte does not put C's back.
#[test]
fn c_set_while_r_is_cleared_is_not_lost() {
    explore(2, || {
        let world = World::new();
        let table = world.0.partitions()[0].table();
        let (v, r) = entry(1);
        let referenced = r & !0x80;
        assert_eq!(
            status(&world.enter(Flags::EXACT, 3, v, referenced)),
            Status::Success
        );
        let handle = world.open();
        let mut copy = [None; 64];
        world.pass(handle, 1, &mut copy);
        let other = thread::spawn(move || {
            assert_eq!(status(&world.call(H_CLEAR_REF, &[0, 3])), Status::Success);
        });
        table.hpt()[7].set_bits(0x80);
        other.join().unwrap();
        while !world.pass(handle, 1, &mut copy) {
            thread::yield_now();
        }
        assert_eq!(copy[3], Some((v, r & !0x100)));
    });
}

/// A settled entry's R or C is cleared beside a reader, and comes back when everything has been said: the reader
/// looks at the entry again.
#[test]
fn a_bit_that_was_cleared_and_comes_back_is_seen() {
    for (token, bit) in [(H_CLEAR_REF, 0x100), (H_CLEAR_MOD, 0x80)] {
        explore(2, move || {
            let world = World::new();
            let table = world.0.partitions()[0].table();
            one_entry(world);
            let handle = world.open();
            let mut copy = [None; 64];
            world.pass(handle, 1, &mut copy);
            let other = thread::spawn(move || {
                assert_eq!(status(&world.call(token, &[0, 3])), Status::Success);
            });
            world.pass(handle, 1, &mut copy);
            other.join().unwrap();
            while !world.pass(handle, 1, &mut copy) {
                thread::yield_now();
            }
            let (v, r) = entry(1);
            assert_eq!(copy[3], Some((v, r & !bit)));
            table.hpt()[7].set_bits(bit);
            while !world.pass(handle, 1, &mut copy) {
                thread::yield_now();
            }
            assert_eq!(copy[3], Some((v, r)));
        });
    }
}

/// Two readers share out one change: whoever calls its lap clean has seen it.
#[test]
fn two_readers_both_see_a_change() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let handles = [world.open(), world.open()];
        let mut copies = [[None; 64]; 2];
        world.pass(handles[0], 1, &mut copies[0]);
        world.pass(handles[1], 2, &mut copies[1]);
        assert_eq!(status(&world.remove(3)), Status::Success);
        let [mut first, mut second] = copies;
        let other = thread::spawn(move || {
            while !world.pass(handles[0], 1, &mut first) {}
            first
        });
        while !world.pass(handles[1], 2, &mut second) {}
        assert_eq!(second, world.table());
        assert_eq!(other.join().unwrap(), world.table());
    });
}

/// The slot is removed and entered again while a reader merges R and C that hardware has set: the new entry's
/// R and C, set later, are not lost.
#[test]
fn unsettled_is_not_lost_when_a_slot_is_used_again() {
    explore(2, || {
        let world = World::new();
        let table = world.0.partitions()[0].table();
        let (v, r) = entry(1);
        let bare = r & !0x180;
        assert_eq!(
            status(&world.enter(Flags::EXACT, 3, v, bare)),
            Status::Success
        );
        let handle = world.open();
        let mut copy = [None; 64];
        world.pass(handle, 1, &mut copy);
        table.hpt()[7].set_bits(0x180);
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            assert_eq!(
                status(&world.enter(Flags::EXACT, 3, v, bare)),
                Status::Success
            );
        });
        world.pass(handle, 1, &mut copy);
        other.join().unwrap();
        table.hpt()[7].set_bits(0x180);
        while !world.pass(handle, 1, &mut copy) {
            thread::yield_now();
        }
        assert_eq!(copy[3], Some((v, r)));
    });
}

/// H_READ beside the removal of an entry and the entry of another into its slot: it shows one, the other or
/// none, never a half of each.
#[test]
fn read_against_remove_and_enter() {
    explore(3, || {
        let world = World::new();
        one_entry(world);
        let (old, new) = (entry(1), entry(2));
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            assert_eq!(
                status(&world.enter(Flags::EXACT, 3, new.0, new.1)),
                Status::Success
            );
        });
        let seen = world.call(abi::H_READ, &[0, 3]);
        let seen = (seen.argument(0), seen.argument(1));
        assert!([(0, 0), old, new].contains(&seen), "{seen:x?}");
        other.join().unwrap();
    });
}

/// The same for a stream: what a pass shows of a slot was true at some time.
#[test]
fn stream_against_remove_and_enter() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let (old, new) = (entry(1), entry(2));
        let handle = world.open();
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            assert_eq!(
                status(&world.enter(Flags::EXACT, 3, new.0, new.1)),
                Status::Success
            );
        });
        let mut copy = [None; 64];
        world.pass(handle, 1, &mut copy);
        assert!(
            [None, Some(old), Some(new)].contains(&copy[3]),
            "{:x?}",
            copy[3]
        );
        other.join().unwrap();
        while !world.pass(handle, 1, &mut copy) {
            thread::yield_now();
        }
        assert_eq!(copy[3], Some(new));
    });
}

/// A reader is in its first pass while another one shares changes out, and an entry is changed.
#[test]
fn first_pass_beside_another_reader() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let other_reader = world.open();
        let mut others = [None; 64];
        world.pass(other_reader, 2, &mut others);
        let handle = world.open();
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            world.pass(other_reader, 2, &mut others);
        });
        let mut copy = [None; 64];
        world.pass(handle, 1, &mut copy);
        other.join().unwrap();
        while !world.pass(handle, 1, &mut copy) {
            thread::yield_now();
        }
        assert_eq!(copy, world.table());
    });
}
