//! H_CLEAR_REF and H_CLEAR_MOD: what is asked of hardware, and what it sets at the last moment.

use crate::common::stream::{Said, said};
use crate::common::world::{BUFFER_SIZE, CLIENT, World};
use crate::sequences::events;
use crate::{C, ENTRIES, FORMATS, LPID, M, NOWHERE, R, enter, read_entry};
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, Status};

/// The call for a slot: what is asked of hardware, and r4.
fn clear(world: &World<'_>, token: u64, slot: u64) -> (Vec<Event>, u64) {
    let mut answer = None;
    // Flags are not looked at.
    let events = events(world, || {
        answer = Some(world.call(CLIENT, token, &[!0, slot]));
    });
    let [dword1, rest @ ..] = answer.unwrap().ok();
    assert_eq!(rest[0], slot, "r4 alone has a result");
    (events, dword1)
}

fn told(world: &World<'_>, reader: u64) -> Vec<Said> {
    said(&world.pass(reader, BUFFER_SIZE).records).collect()
}

fn sequence(rb: u64) -> [Event; 3] {
    [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync]
}

#[test]
fn r_goes_by_a_store_of_its_byte_and_a_tlbie() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        for (slot, v, r, rb) in ENTRIES {
            // Key bits in the same byte stay.
            let r = r | 0xa00;
            enter(&world, slot, v, r);
            world.touch(slot, R | C);
            let _ = told(&world, reader);
            let before = world.real(slot);
            let (events, dword1) = clear(&world, abi::H_CLEAR_REF, slot);
            let byte = (before.1 >> 8) as u8 & !1;
            let expected = [
                &[Event::Eieio, Event::StoreByte(6, byte)],
                &sequence(rb)[..],
            ];
            assert_eq!(events, expected.concat(), "{format:?}, slot {slot:#x}");
            assert_eq!(dword1, r | R | C, "as it was before");
            assert_eq!(
                world.real(slot),
                (before.0, before.1 & !R),
                "valid, unlocked"
            );
            assert_eq!(read_entry(&world, slot), (v, r | C));
            assert_eq!(told(&world, reader), [(slot, Some((v, r | C)))]);

            // Clear already: nothing is done and nobody is told.
            let (events, dword1) = clear(&world, abi::H_CLEAR_REF, slot);
            assert_eq!((events, dword1), (vec![], r | C));
            assert!(world.pass(reader, BUFFER_SIZE).clean);

            // Hardware sets it again.
            world.touch(slot, R);
            assert_eq!(told(&world, reader), [(slot, Some((v, r | R | C)))]);
        }
    }
}

#[test]
fn an_r_or_c_that_comes_while_r_goes_is_not_lost() {
    for format in FORMATS {
        for late in [R, C, R | C] {
            let world = World::leaked(18, format);
            let reader = world.open(CLIENT, 0, 0);
            for (slot, v, r, _) in ENTRIES {
                enter(&world, slot, v, r | R);
                let _ = told(&world, reader);
                world.late(slot, late);
                let (_, dword1) = clear(&world, abi::H_CLEAR_REF, slot);
                assert_eq!(dword1, r | R);
                assert_eq!(read_entry(&world, slot), (v, r | late), "{format:?}");
                assert!(world.client().table().unsettled().contains(slot) || late == R | C);
                assert_eq!(told(&world, reader), [(slot, Some((v, r | late)))]);
                assert!(world.pass(reader, BUFFER_SIZE).clean);
            }
        }
    }
}

#[test]
fn c_goes_from_an_invalid_entry_after_the_flush() {
    for format in FORMATS {
        for late in [0, R, C, R | C] {
            let world = World::leaked(18, format);
            let reader = world.open(CLIENT, 0, 0);
            for (slot, v, r, rb) in ENTRIES {
                enter(&world, slot, v, r | if late == 0 { C } else { 0 });
                let _ = told(&world, reader);
                let before = world.real(slot);
                world.late(slot, late);
                let (events, dword1) = clear(&world, abi::H_CLEAR_MOD, slot);
                let all = r | late | if late == 0 { C } else { 0 };
                assert_eq!(dword1, all, "R and C as they are after the flush");
                let back: &[Event] = if all & C != 0 {
                    &[Event::Eieio, Event::Ptesync]
                } else {
                    &[Event::Ptesync]
                };
                let expected = [&sequence(rb), back].concat();
                assert_eq!(events, expected, "{format:?}, slot {slot:#x}");
                let after = (before.0, before.1 & !C | late & R);
                assert_eq!(world.real(slot), after);
                assert_eq!(read_entry(&world, slot), (v, all & !C));
                assert!(world.client().table().unsettled().contains(slot));
                assert_eq!(told(&world, reader), [(slot, Some((v, all & !C)))]);

                // Clear already: flushed, since a processor might hold one back, and no change.
                let (events, dword1) = clear(&world, abi::H_CLEAR_MOD, slot);
                assert_eq!(events, [&sequence(rb)[..], &[Event::Ptesync]].concat());
                assert_eq!(dword1, all & !C);
                assert!(world.pass(reader, BUFFER_SIZE).clean);

                // Hardware sets it again.
                world.touch(slot, C);
                assert_eq!(told(&world, reader), [(slot, Some((v, all | C)))]);
            }
        }
    }
}

#[test]
fn without_memory_there_is_the_guests_view_alone() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        let (v, r) = (0x4001_2345_6789_0081, NOWHERE | M | 2);
        enter(&world, 5, v, r | R | C);
        let _ = told(&world, reader);
        let real = world.real(5);
        for (token, before, after) in [
            (abi::H_CLEAR_MOD, R | C, R),
            (abi::H_CLEAR_MOD, R, R),
            (abi::H_CLEAR_REF, R, 0),
            (abi::H_CLEAR_REF, 0, 0),
        ] {
            let (events, dword1) = clear(&world, token, 5);
            assert_eq!((events, dword1), (vec![], r | before));
            assert_eq!(read_entry(&world, 5), (v, r | after));
            assert_eq!(world.real(5), real);
            let change = (before != after).then_some((5, Some((v, r | after))));
            assert_eq!(told(&world, reader), Vec::from_iter(change));
        }
    }
}

#[test]
fn where_there_is_no_entry_nothing_happens() {
    let world = World::leaked(18, FORMATS[1]);
    for token in [abi::H_CLEAR_REF, abi::H_CLEAR_MOD] {
        for (slot, status) in [
            (7, Status::NotFound),
            (0x4000, Status::Parameter),
            (u64::MAX, Status::Parameter),
        ] {
            let events = events(&world, || {
                let answer = world.call(CLIENT, token, &[0, slot]);
                assert_eq!((answer.status(), answer.out[0]), (status, 0));
            });
            assert_eq!(events, []);
        }
    }
}
