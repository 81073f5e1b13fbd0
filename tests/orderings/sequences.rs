//! What is asked of hardware, in which order, and that late R and C are never lost.

use crate::common::stream::{Header, Image, Record, decode, encode, said};
use crate::common::world::{BUFFER_SIZE, CLIENT, World};
use crate::{ABSENT, C, ENTRIES, FORMATS, LPID, M, NOWHERE, R, VALID, enter, read_entry};
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, State, Status};
use realhpt::sync::Ordering;
use realhpt::table::Format;

pub(crate) fn events(world: &World<'_>, act: impl FnOnce()) -> Vec<Event> {
    world.system.machine.record();
    act();
    world.system.machine.recorded()
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
                let events = events(&world, || {
                    answer = Some(world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0]))
                });
                let expected = [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync];
                assert_eq!(events, expected, "{format:?}, slot {slot:#x}: {events:x?}");
                assert_eq!(
                    answer.unwrap().ok()[..2],
                    [v, r | late],
                    "set as late as can be"
                );
                assert_eq!(
                    world.real(slot),
                    (0, 0),
                    "no host address is left to be read"
                );
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
            assert_eq!(
                events,
                [&flush[..], &publish[..]].concat(),
                "{format:?}, slot {slot:#x}"
            );
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
        let events = events(&world, || {
            answer = Some(world.call(CLIENT, abi::H_BULK_REMOVE, &request))
        });
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
    let request = [
        1 << 62 | slot,
        0,
        1 << 62 | slot,
        0,
        1 << 62 | other,
        0,
        3 << 62,
        0,
    ];
    let mut answer = None;
    let events = events(&world, || {
        answer = Some(world.call(CLIENT, abi::H_BULK_REMOVE, &request))
    });
    // The second request finds the slot locked by the first one.
    let sequence = |rb| [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync];
    assert_eq!(events, [sequence(rb), sequence(other_rb)].concat());
    let out = answer.unwrap().ok();
    assert_eq!(
        [out[0], out[2], out[4]],
        [2 << 62 | slot, 9 << 60 | slot, 2 << 62 | other]
    );
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
        let kept = if format == Format::V3_0 {
            v & 0x000f_ffff_ffff_ffff
        } else {
            v
        };
        assert_eq!(world.real(5), (kept & !VALID | ABSENT, b));
        let events = events(&world, || {
            world.call(CLIENT, abi::H_PROTECT, &[3, 5, 0]).ok();
            assert_eq!(read_entry(&world, 5), (v, NOWHERE | M | 3));
            assert_eq!(
                world.call(CLIENT, abi::H_REMOVE, &[0, 5, 0]).ok()[..2],
                [v, NOWHERE | M | 3]
            );
            enter(&world, 6, v, NOWHERE | M | 2);
            assert_eq!(
                world
                    .call(CLIENT, abi::H_BULK_REMOVE, &[1 << 62 | 6, 0, 3 << 62])
                    .ok()[0],
                2 << 62 | 6
            );
        });
        assert_eq!(
            events,
            [Event::Eieio, Event::Ptesync],
            "of the H_ENTER alone"
        );
        assert_eq!((world.real(5), world.real(6)), ((0, 0), (0, 0)));
        let pass: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
        assert_eq!(
            pass,
            [(5, None), (6, None)],
            "and the reader is told all the same"
        );
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
            let records = decode(&read.bytes, Header::Big).unwrap();
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
        assert!(
            (0..4).all(|block| table.unsettled().block(block) == 0),
            "nothing can come any more"
        );
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
        let mut flushed: Vec<_> = events
            .iter()
            .filter(|event| matches!(event, Event::Tlbie(..)))
            .collect();
        flushed.sort_by_key(|event| format!("{event:?}"));
        let mut expected = ENTRIES.map(|(.., rb)| Event::Tlbie(rb, LPID));
        expected.sort_by_key(|event| format!("{event:?}"));
        assert!(flushed.into_iter().eq(&expected), "each valid entry once");
        let hpt = world.client().table().hpt();
        assert!(hpt.iter().all(|dword| dword.load(Ordering::Relaxed) == 0));
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
    let record = Record {
        index: 0,
        valid: vec![entry; 3],
        invalid: 1,
    };
    let events = events(&world, || world.restore(CLIENT, &encode(&[record])));
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Tlbie(..))), 4);
    assert_eq!(
        count(|event| matches!(event, Event::Tlbsync)),
        2,
        "a batch for each run"
    );
    // One for all that are made; `moments` has what stands in the table then.
    assert_eq!(count(|event| matches!(event, Event::Eieio)), 1);
    assert_eq!(
        events.iter().position(|event| *event == Event::Ptesync),
        Some(0)
    );
    let pass: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
    let new = Some(entry);
    assert_eq!(
        pass,
        [(0, new), (1, new), (2, new), (3, None)],
        "the old R and C are not the new entry's"
    );
}
