//! Traps of the stream: what a reader is told, and what a writer takes.

use crate::common::stream::{Record, encode, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, CLIENT_WINDOW, World};
use crate::{ABSENT, BOLTED, C, ENTRY, FORMATS, NOWHERE, R, SLOTS, enter, stat};
use realhpt::hcall::abi::{self, LPAR_SELF, OpenFlags, Status};
use realhpt::table::Format;

const BOLTED_ONLY: u64 = OpenFlags::BOLTED_ONLY.bits();
const WRITE: u64 = OpenFlags::WRITE.bits();

/// T2.
#[test]
fn a_reader_that_looks_takes_nothing_from_another() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let migration = world.open(CLIENT, 0, 0);
        let _ = world.pass(migration, BUFFER_SIZE);
        let bolted = world.open(CLIENT, BOLTED_ONLY, 0);
        let own = world.call(CLIENT, abi::H_HPT_OPEN, &[LPAR_SELF, 0, 0]).ok()[0];
        let _ = world.pass(bolted, BUFFER_SIZE);
        for slot in [3, 700, 9000] {
            enter(&world, slot, ENTRY);
            // The others look first: one that shows bolted entries alone, and one that is in its first pass.
            let pass = world.pass(bolted, BUFFER_SIZE);
            assert!(said(&pass.records).eq([(slot, None)]));
            let arguments = [own, CLIENT_WINDOW.0, 4096];
            world.call(CLIENT, abi::H_HPT_READ, &arguments).ok();
            let debug = world.open(CLIENT, 0, 0);
            let _ = world.pass(debug, BUFFER_SIZE);
            assert_eq!(world.close(debug), Status::Success);
            let pass = world.pass(migration, BUFFER_SIZE);
            assert!(said(&pass.records).eq([(slot, Some(ENTRY))]), "{slot}");
        }
    }
}

/// T5.
#[test]
fn a_change_is_told_with_its_own_index() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        // Clean slots before each of them, in the same word, word by word and block by block.
        let slots = [1, 5, 130, 4095, 4096, 4098, 16383];
        for slot in slots {
            enter(&world, slot, ENTRY);
        }
        let pass = world.pass(reader, BUFFER_SIZE);
        assert!(said(&pass.records).eq(slots.map(|slot| (slot, Some(ENTRY)))));
        world.call(CLIENT, abi::H_REMOVE, &[0, 4097, 0]);
        world.call(CLIENT, abi::H_REMOVE, &[0, 4098, 0]).ok();
        let pass = world.pass(reader, BUFFER_SIZE);
        assert!(said(&pass.records).eq([(4098, None)]));
    }
}

/// T6.
#[test]
fn r_and_c_that_hardware_sets_are_changes() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        for slot in [9, 5000] {
            enter(&world, slot, ENTRY);
        }
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        assert!(world.pass(reader, BUFFER_SIZE).clean);
        for (slot, bits, all) in [(9, R, R), (9, C, R | C), (5000, C, C), (5000, R, R | C)] {
            world.touch(slot, bits);
            let pass = world.pass(reader, BUFFER_SIZE);
            let seen = (slot, Some((ENTRY.0, ENTRY.1 | all)));
            assert!(said(&pass.records).eq([seen]), "{:x?}", pass.records);
            assert!(world.pass(reader, BUFFER_SIZE).clean);
        }
    }
}

/// T7.
#[test]
fn headers_and_entries_are_big_endian_bytes() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        let entry = (0x4000_0045_6789_0081, 0x0123_1012);
        enter(&world, 0x1234, entry);
        let read = world.read(reader, 4096).unwrap();
        let bytes = [
            [0x00, 0x00, 0x12, 0x34, 0x00, 0x01, 0x00, 0x00],
            [0x40, 0x00, 0x00, 0x45, 0x67, 0x89, 0x00, 0x81],
            [0x00, 0x00, 0x00, 0x00, 0x01, 0x23, 0x10, 0x12],
        ]
        .concat();
        assert_eq!(read.bytes, bytes);
        // And in again.
        world.call(CLIENT, abi::H_REMOVE, &[0, 0x1234, 0]).ok();
        world.restore(CLIENT, &bytes);
        let image = world.image(CLIENT);
        assert_eq!(Vec::from_iter(image), [(0x1234, entry)]);
    }
}

/// T8. The lock bit of a live entry: `tests/orderings/locks.rs`.
#[test]
fn no_bit_of_the_hypervisors_is_shown() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let absent = (0x4001_2345_6789_0081, NOWHERE | 0x12);
        // Bits 0x60 are the guest's to say in no call.
        for (slot, (v, r)) in [(1, absent), (2, ENTRY)] {
            enter(&world, slot, (v | 0x60, r));
        }
        assert_ne!(world.real(1).0 & ABSENT, 0);
        let image = world.image(CLIENT);
        assert_eq!(Vec::from_iter(image), [(1, absent), (2, ENTRY)]);
        for (slot, (v, r)) in [(1, absent), (2, ENTRY)] {
            let read = world.call(CLIENT, abi::H_READ, &[0, slot]).ok();
            assert_eq!(read[..2], [v, r]);
            let removed = world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0]).ok();
            assert_eq!(removed[..2], [v, r]);
        }
    }
}

/// T11.
#[test]
fn a_page_size_that_is_none_is_not_restored() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let good = (0x1234_5678_9a85, 0xabc_1012);
        // L = 1 with LP that stands for nothing, and B of 2 and 3.
        let bad = [
            (good.0, 0xabc_2012),
            (good.0, 0xabc_f012),
            (good.0 | 2 << 62, good.1),
            (good.0 | 3 << 62, good.1),
        ];
        for entry in bad {
            let writer = world.open(CLIENT, WRITE, 0);
            let record = Record {
                index: 40,
                valid: vec![good, good, entry, good],
                invalid: 0,
            };
            let (status, consumed, index) = world.write(writer, &encode(&[record]));
            assert_eq!((status, consumed, index), (Status::Parameter, 8, 42));
            let _ = world.close(writer);
            assert!(world.image(CLIENT).is_empty(), "{entry:x?}");
        }
    }
}

/// T16. In 32 bits the sum of index and counts would be small.
#[test]
fn a_record_that_would_wrap_is_refused() {
    let world = World::leaked(18, Format::V3_0);
    enter(&world, 3, ENTRY);
    for (index, valid, invalid) in [
        (u32::MAX, 0, 9),
        (u32::MAX - 1, 2, 2),
        (u32::MAX - 0xfffe, 0, u16::MAX),
        (0x3fff, 1, 1),
        (0x4000, 0, 0),
        (1, 0, 0x4000),
    ] {
        let writer = world.open(CLIENT, WRITE, 0);
        let record = Record {
            index,
            valid: vec![ENTRY; valid],
            invalid,
        };
        let written = world.write(writer, &encode(&[record]));
        assert_eq!(written, (Status::Parameter, 0, u64::from(index)));
        assert_eq!(world.close(writer), Status::Success, "at no record");
    }
    assert_eq!(Vec::from_iter(world.image(CLIENT)), [(3, ENTRY)]);
}

/// T15.
#[test]
fn an_open_that_fails_leaves_nothing_taken() {
    let world = World::leaked(18, Format::V3_0);
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    let open = |caller, flags, start| {
        let target = if caller == CLIENT {
            LPAR_SELF
        } else {
            u64::from(CLIENT)
        };
        let arguments = [target, flags, start];
        world.call(caller, abi::H_HPT_OPEN, &arguments).status()
    };
    for _ in 0..10 {
        assert_eq!(open(AGENT, 4, 0), Status::Parameter);
        assert_eq!(open(AGENT, 0, SLOTS), Status::Parameter);
        assert_eq!(open(AGENT, WRITE, 1), Status::Parameter);
        assert_eq!(open(AGENT, WRITE, 0), Status::Busy, "it runs");
    }
    assert_eq!(stat(&world)[3..5], [0, 0]);
    for caller in [CLIENT, CLIENT, CLIENT, AGENT] {
        assert_eq!(open(caller, 0, 0), Status::Success);
    }
    for caller in [CLIENT, AGENT] {
        assert_eq!(open(caller, 0, 0), Status::Resource);
    }
    assert_eq!(stat(&world)[3..5], [4, 0]);
    // When those that were opened are gone nobody is interested any more.
    let _ = world.call(CLIENT, abi::H_LPAR_EXIT, &[0]);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
    let last = stat(&world);
    assert_eq!(last[3..5], [0, 0], "the agent's is the old table's");
}

/// T18. Nothing is noted while nobody reads, and what stood there before comes once.
#[test]
fn what_was_there_before_a_reader_opened_comes_once() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let slots = [0, 77, 5000, 16383];
        let marked = || {
            let changed = world.client().table().changed();
            slots.into_iter().any(|slot| changed.contains(slot))
        };
        for slot in slots {
            enter(&world, slot, (ENTRY.0 | BOLTED, ENTRY.1));
        }
        assert!(!marked(), "nobody reads");
        // With another reader, which has not looked yet, changes are noted; the new one's pass is not for that.
        let other = world.open(CLIENT, 0, 9000);
        for slot in slots {
            world.call(CLIENT, abi::H_PROTECT, &[3, slot, 0]).ok();
        }
        assert!(marked());
        let reader = world.open(CLIENT, 0, 0);
        let first = world.pass(reader, BUFFER_SIZE);
        assert_eq!(said(&first.records).count() as u64, SLOTS);
        assert!(world.pass(reader, BUFFER_SIZE).clean, "nothing comes twice");
        let ahead = world.pass(other, BUFFER_SIZE);
        assert_eq!(said(&ahead.records).count() as u64, SLOTS - 9000);
        let behind = world.pass(other, BUFFER_SIZE);
        let told: Vec<_> = said(&behind.records).map(|(slot, _)| slot).collect();
        assert_eq!(told, slots[..3], "to whom was past them");
        assert_eq!(world.close(other), Status::Success);
        // Recording is on before the first entry is read: what changes behind the first pass is kept.
        let reader = world.open(CLIENT, 0, 0);
        let read = world.read(reader, 24).unwrap();
        assert_eq!(
            read.bytes.len(),
            24,
            "slot 0, and that those behind it are free"
        );
        world.call(CLIENT, abi::H_PROTECT, &[2, 0, 0]).ok();
        let _ = world.pass(reader, BUFFER_SIZE);
        let next = world.pass(reader, BUFFER_SIZE);
        let entry = (ENTRY.0 | BOLTED, ENTRY.1);
        assert!(said(&next.records).eq([(0, Some(entry))]));
    }
}
