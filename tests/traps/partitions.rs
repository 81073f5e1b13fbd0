//! Traps of partitions: what a reset leaves, who is flushed where, and which registers are whose.

use crate::common::stream::{Record, encode};
use crate::common::world::{
    AGENT, BUFFER, BUFFER_SIZE, CLIENT, CLIENT_HOST, CLIENT_WINDOW, JUNK, Spec, Store, World,
};
use crate::{C, ENTRY, EXACT, FORMATS, R, SLOTS, enter};
use realhpt::addr::Lpid;
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, LPAR_SELF, OpenFlags, Status};
use realhpt::table::Format;

/// T12. What has the VRMA's VSID and does not translate real mode, as a guest may enter it, decides nothing.
#[test]
fn the_vrma_is_what_translates_real_mode() {
    const V: u64 = 0x4001_ffff_ff00_0001;
    const LARGE: u64 = 4;
    // Page i of the VRMA hashes to group 0x7ff ^ i of 0x800, with pages of whatever size.
    let slot = |page: u64| (0x7ff ^ page) * 8 + 7;
    let page_4k = |page: u64| (slot(page), (V, page << 12 | 0x192));
    let page_64k = |page: u64| {
        let v = V | LARGE | page >> 7 << 7;
        (slot(page), (v, page << 16 | 0x1192))
    };
    let page_16m = |page: u64| (slot(page), (V | LARGE | page << 8, page << 24 | 0x192));
    let misled = [
        // Another page than the address names; a place where nobody looks for it; the secondary group's bit.
        (slot(3), (V, 0x4192)),
        (slot(3) ^ 0x100, (V, 0x3192)),
        (slot(5), (V | 2, 0x5192)),
        // A 64K page in a segment of 4K pages: the one before.
        (slot(0x18), (V | LARGE, 0x7192)),
        // A VSID like it, and a 256M segment.
        (slot(0), (V ^ 1 << 24, 0x192)),
        (slot(0), (V & !(1 << 62), 0x192)),
    ];
    let restored = |entries: &[(u64, (u64, u64))]| {
        let memory = [(0, CLIENT_HOST, 16 << 30)];
        let client = Spec::client(18).with_regions(&memory);
        let store = Store::new(&[Spec::agent(), client]);
        let world = World::new(&store, Format::V3_0);
        for &(slot, entry) in entries {
            let record = Record {
                index: u32::try_from(slot).unwrap(),
                valid: vec![entry],
                invalid: 0,
            };
            world.restore(CLIENT, &encode(&[record]));
        }
        world.client().table().vrma_shift()
    };
    for (page, shift) in [
        (page_4k(9), 12),
        (page_64k(0x123), 16),
        (page_16m(3), 24),
        // 64K on a segment of 4K pages: LP 0111.
        ((slot(0x10), (V | LARGE, 0x1_7192)), 12),
    ] {
        assert_eq!(restored(&[page]), Some(shift));
        for misled in misled {
            assert_eq!(restored(&[misled]), None, "{misled:x?}");
            assert_eq!(restored(&[misled, page]), Some(shift), "{misled:x?}");
        }
    }
    // Nothing is behind it; and 16G pages cannot be a VRMA's.
    let nowhere = page_16m(1 << 10);
    assert_eq!(restored(&[nowhere]), None);
    assert_eq!(restored(&[(slot(0), (V | LARGE, 0x3192))]), None);
}

/// T31: what stands beside the entries goes with them.
#[test]
fn nothing_of_a_table_outlives_it() {
    for format in FORMATS {
        for token in [abi::H_LPAR_RESET, abi::H_CLEAR_HPT] {
            let world = World::leaked(18, format);
            let slots = [0, 63, 64, 5000, SLOTS - 1];
            for slot in slots {
                enter(&world, slot, ENTRY);
            }
            let table = world.client().table();
            let caller = if token == abi::H_CLEAR_HPT {
                CLIENT
            } else {
                AGENT
            };
            while world.call(caller, token, &[u64::from(CLIENT)]).status() == Status::Continue {}
            for word in 0..SLOTS / 64 {
                assert_eq!(table.occupied().word(word), 0);
                assert_eq!(table.unsettled().word(word), 0);
            }
            for block in 0..SLOTS / 4096 {
                assert_eq!(table.unsettled().block(block), 0);
            }
            // What comes next is not taken for what was: its R and C are its own.
            for slot in slots {
                enter(&world, slot, (ENTRY.0, ENTRY.1 | R | C));
                assert!(!table.unsettled().contains(slot));
                let [v, r, ..] = world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0]).ok();
                assert_eq!((v, r), (ENTRY.0, ENTRY.1 | R | C));
            }
        }
    }
}

/// T31: of the table before the last, whose area the next one stands in, there is nothing either.
#[test]
fn a_table_is_not_what_was_in_its_area_before() {
    for format in FORMATS {
        let client = Spec::client(18).resizable(19);
        let store = Store::new(&[Spec::agent(), client]);
        let world = World::new(&store, format);
        let reader = world.open(CLIENT, 0, 0);
        for slot in [0, 63, 5000, SLOTS - 1] {
            enter(&world, slot, ENTRY);
        }
        assert_eq!(world.close(reader), Status::Success);
        for shift in [19, 18] {
            for token in [abi::H_RESIZE_HPT_PREPARE, abi::H_RESIZE_HPT_COMMIT] {
                let mut status = Status::Continue;
                while status != Status::Success {
                    status = world.call(CLIENT, token, &[0, shift]).status();
                }
            }
        }
        let table = world.client().table();
        for word in 0..SLOTS / 64 {
            assert_eq!(table.occupied().word(word), 0);
            assert_eq!(table.unsettled().word(word), 0);
            assert_eq!(table.changed().word(word), 0);
        }
        assert!((0..SLOTS).all(|slot| world.real(slot) == (0, 0)));
        assert!(world.image(CLIENT).is_empty());
    }
}

/// T33. H_LOCAL says that no other processor used the entry: for a partition with several vCPUs it is not believed,
/// and with one the hypervisor knows better than the flag.
#[test]
fn only_a_single_vcpu_flushes_for_itself() {
    for vcpus in [1, 2] {
        let client = Spec {
            vcpus,
            ..Spec::client(18)
        };
        let store = Box::leak(Box::new(Store::new(&[Spec::agent(), client])));
        let world = World::new(store, Format::V3_0);
        let of = |act: &dyn Fn()| {
            world.system.machine.record();
            act();
            let events = world.system.machine.recorded();
            let count = |wanted: fn(&Event) -> bool| events.iter().filter(|e| wanted(e)).count();
            let foreign = |event: &&Event| matches!(event, Event::Tlbie(_, lpid) if *lpid != Lpid::new(CLIENT));
            assert_eq!(events.iter().filter(foreign).count(), 0);
            let here = count(|event| matches!(event, Event::Tlbiel(_)));
            (here, count(|event| matches!(event, Event::Tlbie(..))))
        };
        let expected = if vcpus == 1 { (1, 0) } else { (0, 1) };
        for flag in (0..64)
            .map(|bit| 1 << bit)
            .filter(|flag| flag & 3 << 30 == 0)
        {
            for token in [abi::H_PROTECT, abi::H_CLEAR_MOD, abi::H_REMOVE] {
                if token == abi::H_PROTECT {
                    enter(&world, 8, ENTRY);
                }
                let flushed = of(&|| {
                    world.call(CLIENT, token, &[flag, 8, 0]).ok();
                });
                assert_eq!(flushed, expected, "{vcpus}, {token:#x}, {flag:#x}");
            }
        }
        // Made by another, under its LPIDR: everywhere, and for the partition.
        enter(&world, 8, ENTRY);
        enter(&world, 9, ENTRY);
        let proxied = of(&|| {
            let removed = world.proxy(CLIENT, abi::H_REMOVE, &[0, 8, 0]);
            assert_eq!(removed.unwrap().status(), Status::Success);
        });
        assert_eq!(proxied, (0, 1));
        let invalid = Record {
            index: 0,
            valid: vec![],
            invalid: 64,
        };
        let restored = of(&|| world.restore(CLIENT, &encode(std::slice::from_ref(&invalid))));
        assert_eq!(restored, (0, 1));
        enter(&world, 9, ENTRY);
        let reset = of(&|| {
            assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
        });
        assert_eq!(reset, (0, 1));
    }
}

/// T36. Entries that the hypervisor makes or moves, for itself or for another partition, are in nobody's r4 on.
#[test]
fn what_is_done_inside_touches_no_register() {
    for format in FORMATS {
        let client = Spec::client(18).resizable(19);
        let store = Box::leak(Box::new(Store::new(&[Spec::agent(), client])));
        let world = World::new(store, format);
        let junk = |number: u64| JUNK + number;
        let target = u64::from(CLIENT);
        let quiet = |caller, token, arguments: &[u64]| {
            let answer = world.call(caller, token, arguments);
            let given = arguments.iter().copied().chain((0..).map(junk));
            assert!(
                given.take(9).eq(answer.out),
                "{token:#x}: {:x?}",
                answer.out
            );
            answer.status()
        };
        let until_done = |caller, token, arguments: &[u64]| {
            loop {
                match quiet(caller, token, arguments) {
                    Status::Continue
                    | Status::LongBusyOrder1Msec
                    | Status::LongBusyOrder100Msec => {}
                    status => return status,
                }
            }
        };
        // A restore: two results, and the entries in no register.
        let writer = world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
        let record = Record {
            index: 80,
            valid: vec![ENTRY; 3],
            invalid: 9,
        };
        let bytes = encode(&[record]);
        world.put(BUFFER, &bytes);
        let length = bytes.len() as u64;
        let written = world.call(AGENT, abi::H_HPT_WRITE, &[writer, BUFFER, length]);
        assert_eq!(written.ok()[..4], [length, u64::MAX, length, JUNK]);
        assert_eq!(quiet(AGENT, abi::H_HPT_CLOSE, &[writer]), Status::Success);
        // By proxy: the index is in the frame's r4 and not in the caller's.
        let entered = world.proxy(CLIENT, abi::H_ENTER, &[0, 0x48, ENTRY.0, ENTRY.1]);
        assert_eq!(entered.unwrap().ok()[..4], [0x48, 0x48, ENTRY.0, ENTRY.1]);
        // A start makes the VRMA; a resize carries it over; a pause merges, a reset removes.
        let start = [target, LPAR_SELF, 7];
        assert_eq!(quiet(AGENT, abi::H_LPAR_START, &start), Status::Success);
        let shift = [0, 19];
        for token in [abi::H_RESIZE_HPT_PREPARE, abi::H_RESIZE_HPT_COMMIT] {
            assert_eq!(until_done(CLIENT, token, &shift), Status::Success);
        }
        assert_eq!(until_done(CLIENT, abi::H_CLEAR_HPT, &[]), Status::Success);
        for token in [abi::H_LPAR_PAUSE, abi::H_LPAR_RESUME, abi::H_LPAR_PAUSE] {
            assert_eq!(until_done(AGENT, token, &[target]), Status::Success);
        }
        assert_eq!(world.image(CLIENT).len(), 16, "the VRMA");
        let reset = until_done(AGENT, abi::H_LPAR_RESET, &[target]);
        assert_eq!(reset, Status::Success);
    }
}

/// T24. What the hypervisor stores into a guest's memory sets no bit of any entry: see the table for whose affair
/// that is.
#[test]
fn stores_of_the_hypervisors_change_no_entry() {
    let world = World::leaked(18, Format::V3_0);
    let page = CLIENT_WINDOW.0;
    enter(&world, 8, (ENTRY.0, page | 0x12));
    let reader = world.open(CLIENT, 0, 0);
    let _ = world.pass(reader, BUFFER_SIZE);
    let before = world.real(8);
    for flags in [1 << 15, 1 << 14] {
        let answer = world.call(CLIENT, abi::H_PAGE_INIT, &[flags, page, page + 0x1000]);
        assert_eq!(answer.status(), Status::Success);
    }
    assert_eq!(world.real(8), before);
    assert!(world.pass(reader, BUFFER_SIZE).clean);
    let arguments = [1 << 15 | EXACT, 9, 0x81, page | 0x12];
    world.call(CLIENT, abi::H_ENTER, &arguments).ok();
    let entered = world.call(CLIENT, abi::H_READ, &[0, 9]).ok();
    assert_eq!(entered[1] & (R | C), 0, "as the guest gave them");
}
