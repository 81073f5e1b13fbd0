//! Traps of the hypercalls on a table.

use crate::common::world::{CLIENT, CLIENT_HOST, JUNK, World};
use crate::{ABSENT, C, ENTRY, EXACT, FORMATS, NOWHERE, R, SLOTS, enter, stat};
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, Flags, Status};
use realhpt::table::Format;

/// The calls that name one slot, in r5.
const ON_A_SLOT: [u64; 6] = [
    abi::H_ENTER,
    abi::H_READ,
    abi::H_REMOVE,
    abi::H_PROTECT,
    abi::H_CLEAR_REF,
    abi::H_CLEAR_MOD,
];

/// T14. However an entry goes, and while it is there: no address of the host's.
#[test]
fn no_host_address_is_left_to_be_read() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let shown = |slot| {
            let mut out = world.call(CLIENT, abi::H_READ, &[0, slot]).ok().to_vec();
            let four = world.call(CLIENT, abi::H_READ, &[Flags::READ_4.bits(), slot]);
            out.extend(four.ok());
            assert!(out.iter().all(|&out| out & CLIENT_HOST == 0), "{out:x?}");
            out[..2].to_vec()
        };
        let specifiers = [1 << 62 | 9, 0, 3 << 62];
        let block = [ENTRY.0 & !0x7f, 1 << 62 | 10, 3 << 62];
        let ways: [(u64, u64, &[u64]); 4] = [
            (8, abi::H_REMOVE, &[0, 8, 0]),
            (9, abi::H_BULK_REMOVE, &specifiers),
            (10, abi::H_BLOCK_REMOVE, &block),
            (11, abi::H_CLEAR_HPT, &[]),
        ];
        for (slot, token, arguments) in ways {
            enter(&world, slot, ENTRY);
            assert_ne!(world.real(slot).1 & CLIENT_HOST, 0);
            assert_eq!(shown(slot), [ENTRY.0, ENTRY.1]);
            for token in [abi::H_CLEAR_REF, abi::H_CLEAR_MOD] {
                world.touch(slot, R | C);
                let before = world.call(CLIENT, token, &[0, slot]).ok()[0];
                assert_eq!(before, ENTRY.1 | R | C, "all of it and nothing else");
                world.touch(slot, R | C);
            }
            let mut answer = world.call(CLIENT, token, arguments);
            while answer.status() == Status::Continue {
                answer = world.call(CLIENT, token, arguments);
            }
            assert_eq!(answer.status(), Status::Success);
            assert!(answer.out.iter().all(|&out| out & CLIENT_HOST == 0));
            assert_eq!(shown(slot), [0, 0]);
            assert_eq!(world.real(slot), (0, 0), "nor in the table");
        }
        // Were an address left in a slot that is free, it would not be shown either.
        world.touch(13, CLIENT_HOST | 0x1192);
        assert_eq!(shown(13), [0, 0]);
    }
}

/// T34. B would be fed to `tlbie`; the other half of the trap is RB's golden vectors.
#[test]
fn a_reserved_segment_size_is_refused() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        for b in [2, 3] {
            for (v, r) in [ENTRY, (ENTRY.0, NOWHERE | 0x12)] {
                let v = v & !(3 << 62) | b << 62;
                let answer = world.call(CLIENT, abi::H_ENTER, &[EXACT, 8, v, r]);
                assert_eq!(answer.status(), Status::Parameter);
            }
        }
        assert_eq!(world.real(8), (0, 0));
    }
}

/// T35.
#[test]
fn an_index_is_not_cut_to_32_bits() {
    let world = World::leaked(18, Format::V3_0);
    enter(&world, 8, ENTRY);
    let before = world.real(8);
    for high in (32..64).map(|bit| 1 << bit) {
        for token in ON_A_SLOT {
            let arguments = [EXACT, high | 8, ENTRY.0, ENTRY.1];
            let answer = world.call(CLIENT, token, &arguments);
            assert_eq!(answer.status(), Status::Parameter, "{token:#x} {high:#x}");
        }
    }
    for high in (32..56).map(|bit| 1 << bit) {
        let request = 1 << 62 | high | 8;
        let answer = world.call(CLIENT, abi::H_BULK_REMOVE, &[request, 0, 3 << 62]);
        assert_eq!(answer.status(), Status::Parameter);
        assert_eq!(answer.out[0], 0xa << 60 | high | 8);
    }
    assert_eq!(world.real(8), before);
}

/// T40: the range check of xenppc was off by one.
#[test]
fn the_first_slot_beyond_the_table_is_none() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        for token in ON_A_SLOT {
            for (slot, is_there) in [(SLOTS - 1, true), (SLOTS, false)] {
                let arguments = [EXACT, slot, ENTRY.0, ENTRY.1];
                let status = world.call(CLIENT, token, &arguments).status();
                let refused = status == Status::Parameter;
                assert_eq!(refused, !is_there, "{token:#x} {slot:#x} {status:?}");
            }
        }
    }
}

/// T40: H_READ gave four entries when it was asked for one.
#[test]
fn four_entries_are_read_where_four_are_asked_for() {
    let world = World::leaked(18, Format::V2_07);
    let entry = |slot: u64| (ENTRY.0, ENTRY.1 | slot << 12);
    for slot in 8..16 {
        enter(&world, slot, entry(slot));
    }
    let one = world.call(CLIENT, abi::H_READ, &[0, 14]).ok();
    let (v, r) = entry(14);
    assert_eq!(one[..4], [v, r, JUNK, JUNK + 1], "and no other register");
    let four = world.call(CLIENT, abi::H_READ, &[Flags::READ_4.bits(), 14]);
    let expected: Vec<u64> = (12..16).map(entry).flat_map(|(v, r)| [v, r]).collect();
    assert_eq!(four.ok()[..8], expected);
}

/// T40: H_REMOVE and H_CLEAR_* acted on what was no entry, H_CLEAR_REF with a tlbie for an address that was nowhere.
#[test]
fn what_is_no_entry_is_not_acted_on() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        // Bits of dword 1 that look like R and C, in a slot that is free; and an entry that was there once.
        world.touch(9, R | C);
        enter(&world, 10, ENTRY);
        world.call(CLIENT, abi::H_REMOVE, &[0, 10, 0]).ok();
        for slot in [8, 9, 10] {
            let before = world.real(slot);
            world.system.machine.record();
            for token in &ON_A_SLOT[2..] {
                let answer = world.call(CLIENT, *token, &[0, slot, 0]);
                assert_eq!(answer.status(), Status::NotFound);
                assert_eq!(answer.out[..3], [0, slot, 0], "no results");
            }
            let request = 1 << 62 | slot;
            let bulk = world.call(CLIENT, abi::H_BULK_REMOVE, &[request, 0, 3 << 62]);
            assert_eq!(bulk.ok()[0], 9 << 60 | slot);
            assert_eq!(world.system.machine.recorded(), []);
            assert_eq!(world.real(slot), before);
        }
        assert_eq!(stat(&world)[6], 0);
    }
}

/// T41: KVM-PR looked for VALID in the wrong byte, so an entry was overwritten; and nothing of it was checked.
#[test]
fn an_entry_is_not_entered_over_another() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let absent = (ENTRY.0, NOWHERE | 0x12);
        for (slot, entry) in [(8, ENTRY), (9, absent)] {
            enter(&world, slot, entry);
            let before = world.real(slot);
            assert_eq!(before.0 & ABSENT != 0, slot == 9);
            world.system.machine.record();
            let other = [EXACT, slot, 0x81, 0x2012];
            let answer = world.call(CLIENT, abi::H_ENTER, &other);
            assert_eq!(answer.status(), Status::PtegFull);
            assert_eq!(answer.out[..4], other);
            assert_eq!(world.system.machine.recorded(), [] as [Event; 0]);
            assert_eq!(world.real(slot), before);
        }
        // Without the flag the next free slot is taken, and those two are not.
        for slot in [10, 11, 12, 13, 14, 15] {
            let answer = world.call(CLIENT, abi::H_ENTER, &[0, 12, 0x81, 0x2012]);
            assert_eq!(answer.ok()[0], slot);
        }
        let full = world.call(CLIENT, abi::H_ENTER, &[0, 12, 0x81, 0x2012]);
        assert_eq!(full.status(), Status::PtegFull);
        // A page that is no multiple of its size does not reach what lies beside it, a size that is none nothing.
        let refused = [
            (0x1234_5678_9a85, 0xabc_2012),
            (0x1234_5678_9a85, 0xabc_f012),
        ];
        for (v, r) in refused {
            let answer = world.call(CLIENT, abi::H_ENTER, &[EXACT, 20, v, r]);
            assert_eq!(answer.status(), Status::Parameter);
        }
    }
}
