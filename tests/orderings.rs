//! Holds the engine to the orderings of DESIGN section 5, as far as one processor shows them.
//!
//! * What is asked of hardware, in which order: `ptesync; tlbie ...; eieio; tlbsync; ptesync` around an
//!   invalidation, with the right RB; `eieio` between the doublewords of a publication and `ptesync` after it;
//!   one sequence for a bulk remove; none for an entry that hardware never saw.
//! * What stands in the table at each of these moments ([`Probe`]): dword 1 before dword 0, `unsettled` before
//!   VALID, VALID gone before the `tlbie`, nothing of a host address after.
//! * That R and C which hardware sets at the last moment are never lost: they come with the answer, the guest's
//!   view and the stream.
//! * That an entry someone holds the lock of holds up nobody but those who must wait.
//!
//! What two processors do to each other is loom's to show.

mod common;

use std::sync::Mutex;

use common::stream::{Image, said};
use common::world::{BUFFER_SIZE, CLIENT, CLIENT_HOST, Store, World, recording};
use realhpt::addr::{EffAddr, HostReal, Lpid};
use realhpt::arch::Machine;
use realhpt::arch::host::{Event, Recording};
use realhpt::hcall::abi::{self, State, Status};
use realhpt::table::Format;
use realhpt::table::hash::Segment;
use realhpt::table::search::Found;

const FORMATS: [Format; 2] = [Format::V2_07, Format::V3_0];
const LPID: Lpid = Lpid::new(CLIENT);
const EXACT: u64 = 1 << 39;
const VALID: u64 = 1;
const ABSENT: u64 = 0x20;
const HVLOCK: u64 = 0x40;
const R: u64 = 0x100;
const C: u64 = 0x80;
const M: u64 = 0x10;
/// A guest address without memory.
const NOWHERE: u64 = 0x70_0000_0000;

/// Slot, dword 0, dword 1 without R and C, and RB of the tlbie: made from virtual addresses by the layout of RB
/// in the ISA alone.
const ENTRIES: [(u64, u64, u64, u64); 4] = [
    // 4K in a 256M segment, in the primary and in the secondary group.
    (0x2223, 0x1234_5678_9a81, 0x50_0012, 0x1234_5678_9abc_d000),
    (0x1ddb, 0x1234_5678_9a83, 0x50_1012, 0x1234_5678_9abc_d000),
    // 64K.
    (0x29ab, 0x1234_5678_9a85, 0xabc_1012, 0x1234_5678_9abc_10c1),
    // 16M in a 1T segment: the hash of VSID 1 and page 0 is 1 ^ 1 << 25.
    (0x000b, 0x4000_0000_0100_0005, 0x100_0012, 0x0000_0100_0000_0101),
];

fn enter<M: Machine>(world: &World<'_, M>, slot: u64, v: u64, r: u64) {
    assert_eq!(world.call(CLIENT, abi::H_ENTER, &[EXACT, slot, v, r]).ok()[0], slot);
}

fn events(world: &World<'_>, act: impl FnOnce()) -> Vec<Event> {
    world.system.machine.record();
    act();
    world.system.machine.recorded()
}

fn read_entry<M: Machine>(world: &World<'_, M>, slot: u64) -> (u64, u64) {
    let [v, r, ..] = world.call(CLIENT, abi::H_READ, &[0, slot]).ok();
    (v, r)
}

#[test]
fn a_removal_is_flushed_before_its_r_and_c_are_read() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        for (slot, v, r, rb) in ENTRIES {
            for late in [0, R, R | C] {
                enter(&world, slot, v, r);
                world.late(slot, late);
                let mut answer = None;
                let events =
                    events(&world, || answer = Some(world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0])));
                let expected = [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync];
                assert_eq!(events, expected, "{format:?}, slot {slot:#x}: {events:x?}");
                assert_eq!(answer.unwrap().ok()[..2], [v, r | late], "set as late as can be");
                assert_eq!(world.real(slot), (0, 0), "no host address is left to be read");
            }
        }
    }
}

#[test]
fn a_protection_is_changed_in_an_invalid_entry_and_loses_no_r_or_c() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        for (slot, v, r, rb) in ENTRIES {
            enter(&world, slot, v, r);
            let _ = world.pass(reader, BUFFER_SIZE);
            world.late(slot, R | C);
            // Read-only, key 0b10101, no execute.
            let flags = 2 << 12 | 5 << 9 | 4 | 3;
            let events = events(&world, || {
                world.call(CLIENT, abi::H_PROTECT, &[flags, slot, 0]).ok();
            });
            let flush = [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync];
            let publish = [Event::Eieio, Event::Ptesync];
            assert_eq!(events, [&flush[..], &publish[..]].concat(), "{format:?}, slot {slot:#x}");
            let view = r & !3 | R | C | 2 << 60 | 5 << 9 | 4 | 3;
            assert_eq!(read_entry(&world, slot), (v, view));
            let real = world.real(slot).1;
            assert_eq!(real & (R | C), R | C, "in the real entry, too");
            assert_eq!(real & (3 << 60 | 0xe07), 2 << 60 | 5 << 9 | 4 | 3);
            let pass: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
            assert_eq!(pass, [(slot, Some((v, view)))]);
        }
        assert!(world.pass(reader, BUFFER_SIZE).clean);
    }
}

#[test]
fn a_bulk_removal_is_one_sequence() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let late = [0, R, C, R | C];
        let mut request = [0; 8];
        for (number, (slot, v, r, _)) in ENTRIES.into_iter().enumerate() {
            enter(&world, slot, v, r);
            world.late(slot, late[number]);
            request[2 * number] = 1 << 62 | slot;
        }
        let mut answer = None;
        let events =
            events(&world, || answer = Some(world.call(CLIENT, abi::H_BULK_REMOVE, &request)));
        let mut expected = vec![Event::Ptesync];
        expected.extend(ENTRIES.map(|(.., rb)| Event::Tlbie(rb, LPID)));
        expected.push(Event::Tlbsync);
        assert_eq!(events, expected, "{format:?}");
        let out = answer.unwrap().ok();
        for (number, (slot, ..)) in ENTRIES.into_iter().enumerate() {
            let (r, c) = (late[number] & R != 0, late[number] & C != 0);
            let rc = u64::from(r) << 59 | u64::from(c) << 58;
            assert_eq!(out[2 * number], 2 << 62 | rc | slot);
            assert_eq!(world.real(slot), (0, 0));
        }
    }
}

#[test]
fn a_bulk_removal_flushes_what_it_holds_before_it_waits() {
    let world = World::leaked(18, Format::V3_0);
    let [(slot, v, r, rb), (other, w, s, other_rb), ..] = ENTRIES;
    enter(&world, slot, v, r);
    enter(&world, other, w, s);
    let request = [1 << 62 | slot, 0, 1 << 62 | slot, 0, 1 << 62 | other, 0, 3 << 62, 0];
    let mut answer = None;
    let events = events(&world, || answer = Some(world.call(CLIENT, abi::H_BULK_REMOVE, &request)));
    // The second request finds the slot locked by the first one.
    let sequence = |rb| [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync];
    assert_eq!(events, [sequence(rb), sequence(other_rb)].concat());
    let out = answer.unwrap().ok();
    assert_eq!([out[0], out[2], out[4]], [2 << 62 | slot, 9 << 60 | slot, 2 << 62 | other]);
}

#[test]
fn what_hardware_never_saw_owes_no_tlbie() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        let v = 0x4001_2345_6789_0081;
        enter(&world, 5, v, NOWHERE | M | 2);
        // Of what the guest gave, dword 1 has the B that only it can hold, if the format has it there.
        let b = if format == Format::V3_0 { 1 << 58 } else { 0 };
        let kept = if format == Format::V3_0 { v & 0x000f_ffff_ffff_ffff } else { v };
        assert_eq!(world.real(5), (kept & !VALID | ABSENT, b));
        let events = events(&world, || {
            world.call(CLIENT, abi::H_PROTECT, &[3, 5, 0]).ok();
            assert_eq!(read_entry(&world, 5), (v, NOWHERE | M | 3));
            assert_eq!(world.call(CLIENT, abi::H_REMOVE, &[0, 5, 0]).ok()[..2], [v, NOWHERE | M | 3]);
            enter(&world, 6, v, NOWHERE | M | 2);
            assert_eq!(world.call(CLIENT, abi::H_BULK_REMOVE, &[1 << 62 | 6, 0, 3 << 62]).ok()[0], 2 << 62 | 6);
        });
        assert_eq!(events, [Event::Eieio, Event::Ptesync], "of the H_ENTER alone");
        assert_eq!((world.real(5), world.real(6)), ((0, 0), (0, 0)));
        let pass: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
        assert_eq!(pass, [(5, None), (6, None)], "and the reader is told all the same");
    }
}

#[test]
fn the_real_entry_has_the_format_of_its_processor() {
    // 1T and 256M segments; the guest's own WIMG is shown to it and not given to hardware.
    let v = 0x4000_1234_5678_9085;
    let r = 0x0012_1000 | 0x2a | 1 << 63 | 0xa00 | 2;
    let host = (CLIENT_HOST + 0x12_0000) | 0x1000;
    let real = 1 << 63 | host | 0xa00 | M | 2;
    for (format, dword0, dword1) in
        [(Format::V2_07, v, real), (Format::V3_0, 0x0000_1234_5678_9085, real | 1 << 58)]
    {
        let world = World::leaked(18, format);
        enter(&world, 0x123, v, r);
        assert_eq!(world.real(0x123), (dword0, dword1), "{format:?}");
        assert_eq!(read_entry(&world, 0x123), (v, r));
        enter(&world, 0x124, v & !(1 << 62), r);
        assert_eq!(world.real(0x124), (dword0 & !(1 << 62), dword1 & !(1 << 58)), "{format:?}: 256M");
        // A page number that reaches where ISA 3.0 has B does not become one.
        enter(&world, 0x125, v, r | 3 << 58);
        assert_eq!(world.real(0x125).1 >> 58 & 3, u64::from(format == Format::V3_0), "{format:?}");
        assert_eq!(read_entry(&world, 0x125), (v, r | 3 << 58));
    }
}

type Hook = Box<dyn Fn(Event) + Send>;

/// A machine that lets the test look at the table at each event.
struct Probe {
    inner: Recording,
    hook: Mutex<Option<Hook>>,
}

impl Probe {
    fn see(&self, event: Event) {
        if let Some(hook) = &*self.hook.lock().unwrap() {
            hook(event);
        }
    }
}

impl Machine for Probe {
    fn ptesync(&self) {
        self.see(Event::Ptesync);
    }
    fn tlbie(&self, rb: u64, lpid: Lpid) {
        self.see(Event::Tlbie(rb, lpid));
    }
    fn tlbsync(&self) {
        self.see(Event::Tlbsync);
    }
    fn flush_lpid(&self, lpid: Lpid) {
        self.see(Event::FlushLpid(lpid));
    }
    fn eieio(&self) {
        self.see(Event::Eieio);
    }
    fn load(&self, at: HostReal) -> u64 {
        self.inner.load(at)
    }
    fn store(&self, at: HostReal, value: u64) {
        self.inner.store(at, value);
    }
}

/// What stood in a slot at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    event: Event,
    dword0: u64,
    dword1: u64,
    unsettled: bool,
    occupied: bool,
}

/// What stands in `slot` at each event of `act`.
fn moments(world: &'static World<'static, Probe>, slot: u64, act: impl FnOnce()) -> Vec<Moment> {
    static SEEN: Mutex<Vec<Moment>> = Mutex::new(Vec::new());
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    SEEN.lock().unwrap().clear();
    *world.system.machine.hook.lock().unwrap() = Some(Box::new(move |event| {
        let table = world.client().table();
        let (dword0, dword1) = world.real(slot);
        let (unsettled, occupied) = (table.unsettled().contains(slot), table.occupied().contains(slot));
        SEEN.lock().unwrap().push(Moment { event, dword0, dword1, unsettled, occupied });
    }));
    act();
    *world.system.machine.hook.lock().unwrap() = None;
    SEEN.lock().unwrap().clone()
}

fn probed(format: Format) -> &'static World<'static, Probe> {
    let store = Box::leak(Box::new(Store::pair(18)));
    let probe = Probe { inner: recording(), hook: Mutex::new(None) };
    Box::leak(Box::new(World::on(probe, store, format)))
}

#[test]
fn an_entry_shows_itself_last() {
    for format in FORMATS {
        let world = probed(format);
        for (rc, unsettled) in [(0, true), (R, true), (C, true), (R | C, false)] {
            let slot = 0x100 + rc;
            let v = 0x1234_5678_9a85;
            let seen = moments(world, slot, || enter(world, slot, v, 0xabc_1012 | rc));
            let dword1 = CLIENT_HOST + 0xabc_1012 + rc;
            let before =
                Moment { event: Event::Eieio, dword0: 0, dword1, unsettled, occupied: true };
            let after = Moment { event: Event::Ptesync, dword0: v, ..before };
            assert_eq!(seen, [before, after], "{format:?}: {seen:x?}");
        }
        // Read-only: C cannot come.
        let seen = moments(world, 8, || enter(world, 8, 0x1234_5678_9a85, 0xabc_1013 | R));
        assert!(seen.iter().all(|moment| !moment.unsettled));
        // Absent: the same order, and nothing hardware could set.
        let seen = moments(world, 9, || enter(world, 9, 0x1234_5678_9a81, NOWHERE | M | 2));
        let state: Vec<_> = seen.iter().map(|moment| (moment.event, moment.dword0, moment.unsettled)).collect();
        let absent = 0x1234_5678_9a80 | ABSENT;
        assert_eq!(state, [(Event::Eieio, 0, false), (Event::Ptesync, absent, false)]);
    }
}

#[test]
fn an_entry_is_invalid_and_locked_until_it_is_flushed() {
    for format in FORMATS {
        let world = probed(format);
        let [(slot, v, r, rb), ..] = ENTRIES;
        enter(world, slot, v, r);
        let [dword0, dword1] = <[u64; 2]>::from(world.real(slot));
        let held = |event| Moment {
            event,
            dword0: dword0 & !VALID | HVLOCK,
            dword1,
            unsettled: true,
            occupied: true,
        };
        let sequence = [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync].map(held);
        let seen = moments(world, slot, || {
            world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0]).ok();
        });
        assert_eq!(seen, sequence, "{format:?}");
        assert!(!world.client().table().occupied().contains(slot));
        assert!(!world.client().table().unsettled().contains(slot));

        // H_PROTECT: from read-only with R (settled) to writable: unsettled before VALID comes back.
        enter(world, slot, v, r | R | 3);
        assert!(!world.client().table().unsettled().contains(slot));
        let seen = moments(world, slot, || {
            world.call(CLIENT, abi::H_PROTECT, &[2, slot, 0]).ok();
        });
        let [.., before, after] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((before.event, before.dword0), (Event::Eieio, dword0 & !VALID | HVLOCK));
        assert_eq!((before.dword1 & 3, before.unsettled), (2, true), "dword 1 and unsettled first");
        assert_eq!((after.event, after.dword0), (Event::Ptesync, dword0));
    }
}

#[test]
fn a_pause_flushes_before_it_takes_r_and_c_for_good() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        for (slot, v, r, _) in ENTRIES {
            enter(&world, slot, v, r);
        }
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        for (slot, ..) in ENTRIES {
            world.late(slot, R | C);
        }
        let events = events(&world, || {
            assert_eq!(world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
        });
        assert_eq!(events, [Event::FlushLpid(LPID)]);
        assert_eq!(world.client().state(), State::Paused);
        let pending = world.read(reader, 24).unwrap();
        let mut told: Image = Image::new();
        let mut count = ENTRIES.len() as u64;
        let mut read = pending;
        loop {
            let records = common::stream::decode(&read.bytes, common::stream::Header::Big).unwrap();
            for (slot, entry) in said(&records) {
                told.insert(slot, entry.unwrap());
                count -= 1;
            }
            assert_eq!(read.pending, count, "pending is exact when paused");
            if read.flags.contains(abi::ReadFlags::END_OF_PASS) {
                break;
            }
            read = world.read(reader, 24).unwrap();
        }
        let expected = ENTRIES.map(|(slot, v, r, _)| (slot, (v, r | R | C)));
        assert_eq!(told, Image::from(expected));
        assert!(world.pass(reader, BUFFER_SIZE).clean);
        let table = world.client().table();
        assert!((0..4).all(|block| table.unsettled().block(block) == 0), "nothing can come any more");
    }
}

#[test]
fn a_reset_flushes_each_entry_and_then_the_partition() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        for (slot, v, r, _) in ENTRIES {
            enter(&world, slot, v, r);
        }
        enter(&world, 0x3fff, 0x81, NOWHERE | M);
        let events = events(&world, || {
            assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
        });
        assert_eq!(events.last(), Some(&Event::FlushLpid(LPID)));
        let mut flushed: Vec<_> = events.iter().filter(|event| matches!(event, Event::Tlbie(..))).collect();
        flushed.sort_by_key(|event| format!("{event:?}"));
        let mut expected = ENTRIES.map(|(.., rb)| Event::Tlbie(rb, LPID));
        expected.sort_by_key(|event| format!("{event:?}"));
        assert!(flushed.into_iter().eq(&expected), "each valid entry once");
        let hpt = world.client().table().hpt();
        assert!(hpt.iter().all(|dword| dword.load(realhpt::sync::Ordering::Relaxed) == 0));
    }
}

#[test]
fn a_restore_flushes_what_it_overwrites_in_one_batch() {
    let world = World::leaked(18, Format::V3_0);
    let entry = (0x1234_5678_9a81, 0x50_0012);
    for slot in 0..4 {
        enter(&world, slot, entry.0, entry.1);
        world.late(slot, R | C);
    }
    let reader = world.open(CLIENT, 0, 0);
    let _ = world.pass(reader, BUFFER_SIZE);
    let record = common::stream::Record { index: 0, valid: vec![entry; 3], invalid: 1 };
    let events = events(&world, || world.restore(CLIENT, &common::stream::encode(&[record])));
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Tlbie(..))), 4);
    assert_eq!(count(|event| matches!(event, Event::Tlbsync)), 2, "a batch for each run");
    assert_eq!(count(|event| matches!(event, Event::Eieio)), 3);
    assert_eq!(events.iter().position(|event| *event == Event::Ptesync), Some(0));
    let pass: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
    let new = Some(entry);
    assert_eq!(pass, [(0, new), (1, new), (2, new), (3, None)], "the old R and C are not the new entry's");
}

/// Someone holds the lock of an entry: a reader gives way and loses nothing.
#[test]
fn a_held_lock_does_not_hold_a_reader() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        for (slot, v, r, _) in ENTRIES {
            enter(&world, slot, v, r);
        }
        let (slot, v, r, _) = ENTRIES[1];
        let dword0 = &world.client().table().hpt()[2 * slot as usize];
        let unlocked = world.real(slot).0;
        let lock = || dword0.set_bits(HVLOCK);
        let unlock = || dword0.store(unlocked, realhpt::sync::Ordering::Relaxed);

        lock();
        let mut before = Vec::new();
        for _ in 0..20 {
            let read = world.read(reader, BUFFER_SIZE).unwrap();
            assert!(read.flags.is_empty(), "it is not the end");
            let records = common::stream::decode(&read.bytes, common::stream::Header::Big).unwrap();
            before.extend(said(&records));
        }
        assert_eq!(before.last().map(|said| said.0), Some(slot - 1), "everything before it is there");
        unlock();
        let rest: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
        assert_eq!(rest.first(), Some(&(slot, Some((v, r)))));
        assert_eq!(before.len() + rest.len(), 1 << 14);

        // A later pass: R and C are news, the entry is locked when it is looked at.
        world.touch(slot, R);
        lock();
        let read = world.read(reader, BUFFER_SIZE).unwrap();
        assert!(!read.flags.contains(abi::ReadFlags::CLEAN), "there is news that could not be had");
        assert_eq!(read.bytes, []);
        unlock();
        let mut told = Vec::new();
        for _ in 0..3 {
            told.extend(said(&world.pass(reader, BUFFER_SIZE).records));
        }
        assert_eq!(told, [(slot, Some((v, r | R)))], "once");
        assert!(world.pass(reader, BUFFER_SIZE).clean);
    }
}

#[test]
fn a_locked_or_claimed_slot_is_taken_and_found_locked() {
    let world = World::leaked(18, Format::V3_0);
    let segment = Segment::one_terabyte(0x1234, 12);
    let at = EffAddr::new(0x5000);
    let slot = 8 * (segment.hash(at) & 0x7ff) + 3;
    let found = || world.client().table().find(segment, at);
    assert_eq!(found(), Found::Nothing);
    enter(&world, slot, segment.avpn(at) | VALID, 0x50_0012);
    assert!(matches!(found(), Found::Entry { ptex, valid: true, .. } if ptex.raw() == slot));
    let dword0 = &world.client().table().hpt()[2 * slot as usize];
    let unlocked = world.real(slot).0;
    // As it stands while H_PROTECT flushes it: whoever faults on it now tries again.
    dword0.store(unlocked & !VALID | HVLOCK, realhpt::sync::Ordering::Relaxed);
    assert_eq!(found(), Found::Locked);
    let again = world.call(CLIENT, abi::H_ENTER, &[EXACT, slot, 0x81, 0x50_0012]);
    assert_eq!(again.status(), Status::PtegFull);
    let beside = world.call(CLIENT, abi::H_ENTER, &[0, slot, 0x81, 0x50_0012]).ok()[0];
    assert_eq!(beside, slot & !7);
    dword0.store(unlocked, realhpt::sync::Ordering::Relaxed);
    assert!(matches!(found(), Found::Entry { .. }));

    // Claimed and not published yet: there is no entry for anyone, and the slot is not free.
    let table = world.client().table();
    let ptex = table.order().ptex(0x3000).unwrap();
    let _claimed = table.slot(ptex).unwrap().claim().unwrap();
    assert_eq!(world.call(CLIENT, abi::H_REMOVE, &[0, 0x3000, 0]).status(), Status::NotFound);
    assert_eq!(world.call(CLIENT, abi::H_PROTECT, &[0, 0x3000, 0]).status(), Status::NotFound);
    assert_eq!(read_entry(&world, 0x3000), (0, 0));
    let exact = world.call(CLIENT, abi::H_ENTER, &[EXACT, 0x3000, 0x81, 0x50_0012]);
    assert_eq!(exact.status(), Status::PtegFull);
    assert_eq!(world.real(0x3000), (0, 0), "nobody locked it");
}
