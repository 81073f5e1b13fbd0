//! H_BLOCK_REMOVE: one sequence for all, R and C after it, and no lock waited for.

use crate::common::stream::said;
use crate::common::world::{BUFFER_SIZE, CLIENT, World};
use crate::sequences::events;
use crate::{C, ENTRIES, FORMATS, HVLOCK, LPID, R, enter, read_entry};
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, Status};
use realhpt::sync::Ordering;

const REQUEST: u64 = 0x40 << 56;
const REQUEST_AVPN: u64 = 0x41 << 56;

/// Eight 4K pages of a 256M segment, slot and RB of each: the hash is the VSID xor the page, so pages that differ
/// in three bits are in groups that do.
fn pages() -> [(u64, u64); 8] {
    let [(slot, .., rb), ..] = ENTRIES;
    core::array::from_fn(|page| {
        let other = page as u64 ^ rb >> 12 & 7;
        (slot ^ other << 3, rb ^ other << 12)
    })
}

#[test]
fn eight_pages_are_removed_with_one_sequence() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        let [(_, v, r, _), ..] = ENTRIES;
        let late = |number: usize| [0, R, C, R | C][number & 3];
        for (number, (slot, _)) in pages().into_iter().enumerate() {
            enter(&world, slot, v, r | if number == 4 { R } else { 0 });
        }
        let _ = world.pass(reader, BUFFER_SIZE);
        for (number, (slot, _)) in pages().into_iter().enumerate() {
            world.late(slot, late(number));
        }
        let mut arguments = [v & !0x7f; 9];
        for (argument, (slot, _)) in arguments[1..].iter_mut().zip(pages()) {
            *argument = REQUEST_AVPN | slot;
        }
        let mut answer = None;
        let events = events(&world, || {
            answer = Some(world.call(CLIENT, abi::H_BLOCK_REMOVE, &arguments));
        });
        let mut expected = vec![Event::Ptesync];
        expected.extend(pages().map(|(_, rb)| Event::Tlbie(rb, LPID)));
        expected.push(Event::Tlbsync);
        assert_eq!(events, expected, "{format:?}");
        let out = answer.unwrap().ok();
        for (number, (slot, _)) in pages().into_iter().enumerate() {
            let rc = late(number) | if number == 4 { R } else { 0 };
            let (r, c) = (rc & R != 0, rc & C != 0);
            let control = 0x81 | u64::from(r) << 2 | u64::from(c) << 1;
            assert_eq!(out[number], control << 56 | slot, "page {number}");
            assert_eq!(world.real(slot), (0, 0));
        }
        assert_eq!(out[8], arguments[8], "r12 has no result");
        let mut gone = pages().map(|(slot, _)| slot);
        gone.sort_unstable();
        let told = world.pass(reader, BUFFER_SIZE);
        assert!(said(&told.records).eq(gone.map(|slot| (slot, None))));
    }
}

#[test]
fn a_locked_entry_is_busy_and_the_others_go() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let [(_, v, r, _), ..] = ENTRIES;
        let [(first, first_rb), (locked, locked_rb), (last, last_rb), ..] = pages();
        for slot in [first, locked, last] {
            enter(&world, slot, v, r);
        }
        let dword0 = &world.client().table().hpt()[2 * locked as usize];
        let unlocked = world.real(locked).0;
        dword0.set_bits(HVLOCK);
        // The first one is named again while the call holds it.
        let mut arguments = [0; 9];
        for (argument, slot) in arguments[1..].iter_mut().zip([locked, first, first, last]) {
            *argument = REQUEST | slot;
        }
        arguments[5] = 0xc0 << 56 | 0x77;
        let mut answer = None;
        let sequence = events(&world, || {
            answer = Some(world.call(CLIENT, abi::H_BLOCK_REMOVE, &arguments));
        });
        let flushed = [first_rb, last_rb].map(|rb| Event::Tlbie(rb, LPID));
        assert_eq!(sequence[1..3], flushed);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), Status::Partial);
        let responses = [0xa0, 0x80, 0xa0, 0x80].map(|control| control << 56);
        let slots = [locked, first, first, last];
        for ((found, response), slot) in answer.out.into_iter().zip(responses).zip(slots) {
            assert_eq!(found, response | slot);
        }
        assert_eq!(answer.out[4..8], arguments[5..], "given back");
        dword0.store(unlocked, Ordering::Relaxed);
        assert_eq!(read_entry(&world, locked), (v, r));
        let again = [0, REQUEST | locked, 0xc0 << 56];
        let sequence = events(&world, || {
            world.call(CLIENT, abi::H_BLOCK_REMOVE, &again).ok();
        });
        assert_eq!(sequence[1], Event::Tlbie(locked_rb, LPID));
    }
}

#[test]
fn what_is_not_of_the_block_stays() {
    const BOLTED: u64 = 0x10;
    for format in FORMATS {
        let world = World::leaked(18, format);
        let [(_, v, r, _), _, (large, large_v, large_r, _), _] = ENTRIES;
        let [(first, _), (second, _), (bolted, _), (free, _), ..] = pages();
        // Bit 3 of the page's number.
        let (next, other_vsid) = (first ^ 8 << 3, second ^ 1);
        enter(&world, first, v, r);
        enter(&world, second, v, r);
        enter(&world, bolted, v | BOLTED, r);
        enter(&world, next, v, r);
        enter(&world, other_vsid, v ^ 1 << 40, r);
        enter(&world, large, large_v, large_r);
        let requests = [
            (REQUEST | bolted, 0x88),
            (REQUEST | free, 0x88),
            (REQUEST | first, 0x80),
            (REQUEST | next, 0xa8),
            (REQUEST | other_vsid, 0xa8),
            (REQUEST_AVPN | other_vsid, 0x89),
            (REQUEST | large, 0x98),
            (REQUEST_AVPN | second, 0x81),
        ];
        let mut arguments = [v & !0x7f; 9];
        for (argument, (request, _)) in arguments[1..].iter_mut().zip(requests) {
            *argument = request;
        }
        let answer = world.call(CLIENT, abi::H_BLOCK_REMOVE, &arguments);
        assert_eq!(answer.status(), Status::Partial);
        for (found, (request, response)) in answer.out.into_iter().zip(requests) {
            let slot = request & 0xffff;
            assert_eq!(found, response << 56 | slot, "{format:?}");
            let gone = matches!(response, 0x80 | 0x81) || slot == free;
            assert_eq!(world.real(slot) == (0, 0), gone);
        }
    }
}
