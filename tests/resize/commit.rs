//! What a commit does to all that was on the old table, to R and C, and in which order.

use crate::common::stream::{Image, Record, encode, records_of, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, World};
use crate::page::Page;
use crate::{
    BOLTED, C, EXACT, FORMATS, R, commit, enter, leaked, prepare, prepare_all, remove, resize,
};
use realhpt::addr::Lpid;
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, OpenFlags, State, Status};
use realhpt::table::Format;

/// The nth bolted page of the tests, 4K in a 256M segment.
fn bolted(nth: u64) -> (Page, (u64, u64)) {
    let page = Page::in_segment(0x77, nth << 12);
    (page, (page.v() | BOLTED, page.r(nth << 12) | 0x12))
}

/// Where it stands in a table of this order.
fn slot(nth: u64, order: u32) -> u64 {
    bolted(nth).0.group(order) * 8 + (nth + (nth >> 13)) % 8
}

fn enter_bolted(world: &World<'_>, count: u64, order: u32) {
    for nth in 0..count {
        let status = enter(world, slot(nth, order), bolted(nth).1);
        assert_eq!(status, Status::Success);
    }
}

fn image(count: u64, order: u32) -> Image {
    (0..count)
        .map(|nth| (slot(nth, order), bolted(nth).1))
        .collect()
}

#[test]
fn r_and_c_that_come_last_are_in_the_new_table() {
    for format in FORMATS {
        for readers in [0, 4] {
            let world = leaked(18, format);
            enter_bolted(&world, 20, 18);
            let handles: Vec<_> = (0..readers).map(|_| world.open(CLIENT, 0, 0)).collect();
            assert_eq!(prepare_all(&world, 20), Status::Success);
            // Some before the commit, and some when the translations are dropped.
            world.touch(slot(1, 18), R);
            world.touch(slot(2, 18), R | C);
            world.late(slot(3, 18), R | C);
            world.late(slot(1, 18), C);
            world.system.machine.record();
            assert_eq!(commit(&world, 20), Status::Success);
            let events = world.system.machine.recorded();
            for handle in handles {
                assert_eq!(world.close(handle), Status::Success);
            }
            let mut expected = image(20, 20);
            for nth in 1..4 {
                expected.get_mut(&slot(nth, 20)).unwrap().1 |= R | C;
            }
            assert_eq!(world.image(CLIENT), expected);
            let flush = Event::FlushLpid(Lpid::new(CLIENT));
            let flushes = events.iter().filter(|&&event| event == flush).count();
            assert_eq!(events.first(), Some(&flush), "before R and C are looked at");
            assert_eq!(
                (events.last(), flushes),
                (Some(&flush), 2),
                "after the table is another"
            );
            assert!(!events.iter().any(|event| matches!(event, Event::Tlbie(..))));
        }
    }
}

#[test]
fn what_is_not_bolted_is_dropped_and_the_vrma_is_not() {
    for format in FORMATS {
        let world = leaked(18, format);
        let plain = Page::in_segment(0x99, 0x5000);
        assert_eq!(
            enter(&world, plain.group(18) * 8, (plain.v(), plain.r(0) | 0x12)),
            Status::Success
        );
        // Restored with the VRMA's VSID and without the bit, as a stream may have it.
        let vrma = 0x4001_ffff_ff00_0001;
        let hash: u64 = 0x1ff_ffff ^ 0x1ff_ffff << 25;
        let at = |order: u32| (hash & ((1 << (order - 7)) - 1)) * 8 + 7;
        assert_eq!(enter(&world, at(18), (vrma, 0x192)), Status::Success);
        enter_bolted(&world, 5, 18);
        resize(&world, 21);
        let mut expected = image(5, 21);
        expected.insert(at(21), (vrma, 0x192));
        assert_eq!(world.image(CLIENT), expected);
    }
}

#[test]
fn a_running_partition_goes_on_in_the_same_vrma() {
    for format in FORMATS {
        let world = leaked(18, format);
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        let mut before: Vec<_> = world.image(CLIENT).into_values().collect();
        before.sort_by_key(|&(_, r)| r);
        assert_eq!(before.len(), 16, "16M pages of 256M");
        for order in [19, 22, 18] {
            resize(&world, order);
            assert_eq!(world.client().state(), State::Running);
            assert_eq!(world.client().vrma_shift(), 24);
            let mut after: Vec<_> = world.image(CLIENT).into_values().collect();
            after.sort_by_key(|&(_, r)| r);
            assert_eq!(after, before);
        }
        // A partition that is paused is one that a proxy calls for.
        assert_eq!(world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
        resize(&world, 20);
        assert_eq!(world.client().state(), State::Paused);
        assert_eq!(world.control(abi::H_LPAR_RESUME, CLIENT), Status::Success);
    }
}

#[test]
fn readers_of_the_old_table_are_closed_and_new_ones_see_each_change_once() {
    // T13.
    for order in [18, 20, 22] {
        let world = leaked(20, Format::V3_0);
        enter_bolted(&world, 100, 20);
        let old = world.open(CLIENT, 0, 0);
        let own = world
            .call(CLIENT, abi::H_HPT_OPEN, &[abi::LPAR_SELF, 0, 0])
            .ok()[0];
        // One in its first pass, one behind it; both stay open, so the new table has readers to be told of.
        world.pass(old, BUFFER_SIZE);
        resize(&world, order);
        assert_eq!(world.read(old, 64), Err(Status::Closed));
        assert_eq!(world.read(old, 8), Err(Status::Closed));
        let answer = world.call(CLIENT, abi::H_HPT_READ, &[own, 1 << 32, 64]);
        assert_eq!(answer.status(), Status::Closed);
        let stat = |number: usize| {
            world
                .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
                .ok()[number]
        };
        assert_eq!(
            (stat(3), stat(6)),
            (0, 0),
            "open readers, and what is pending for them"
        );
        let new = world.open(CLIENT, 0, 0);
        let first = world.pass(new, BUFFER_SIZE);
        assert_eq!(
            said(&first.records).flat_map(|(_, entry)| entry).count(),
            100
        );
        for handle in [old, new, own] {
            // The old ones end at any time; changes are told all the same.
            remove(&world, slot(7, order));
            enter(&world, slot(7, order), bolted(7).1);
            let pass = world.pass(new, BUFFER_SIZE);
            let changes: Vec<_> = said(&pass.records).collect();
            assert_eq!(changes, [(slot(7, order), Some(bolted(7).1))]);
            assert!(world.pass(new, BUFFER_SIZE).clean);
            let owner = if handle == own { CLIENT } else { AGENT };
            if handle != new {
                let answer = world.call(owner, abi::H_HPT_CLOSE, &[handle]);
                assert_eq!(answer.status(), Status::Success);
            }
        }
        assert_eq!(world.close(new), Status::Success);
        // With nobody open nothing is marked any more, on neither table.
        enter(&world, slot(200, order), bolted(200).1);
        assert!(!world.client().table().changed().contains(slot(200, order)));
        assert_eq!(world.close(new), Status::Parameter);
    }
}

#[test]
fn a_start_in_the_middle_of_the_new_table_is_told_of_nothing_older() {
    // What was carried is noted where changes will be: none of that is told.
    let world = leaked(22, Format::V3_0);
    for nth in 0..300 {
        let (page, entry) = bolted(nth * 64);
        let status = enter(&world, page.group(22) * 8, entry);
        assert_eq!(status, Status::Success);
    }
    resize(&world, 22);
    let start = 1 << 17;
    let reader = world.open(CLIENT, 0, start);
    let pass = world.pass(reader, BUFFER_SIZE);
    assert!(said(&pass.records).all(|(slot, _)| slot >= start));
    let pass = world.pass(reader, BUFFER_SIZE);
    assert_eq!((pass.records, pass.clean), (vec![], true));
}

#[test]
fn a_writer_of_the_old_table_is_closed() {
    let world = leaked(20, Format::V3_0);
    let writer = world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
    let record = |index: u64, entries: Vec<(u64, u64)>| {
        encode(&[Record {
            index: index as u32,
            valid: entries,
            invalid: 0,
        }])
    };
    let (status, ..) = world.write(writer, &record(slot(1, 20), vec![bolted(1).1]));
    assert_eq!(status, Status::Success);
    resize(&world, 18);
    for index in [slot(2, 18), slot(2, 20)] {
        let written = world.write(writer, &record(index, vec![bolted(2).1]));
        assert_eq!(written, (Status::Closed, 0, u64::MAX));
    }
    assert_eq!(
        world.image(CLIENT),
        [(slot(1, 18), bolted(1).1)].into_iter().collect()
    );
    // It ends, and another one writes the new table.
    assert_eq!(world.close(writer), Status::Success);
    let full = image(50, 18);
    world.restore(CLIENT, &encode(&records_of(&full, 1 << 14)));
    assert_eq!(world.image(CLIENT), full);
}

#[test]
fn a_resize_does_not_take_the_last_reader_slot() {
    let world = leaked(18, Format::V3_0);
    enter_bolted(&world, 30, 18);
    for taken in 0..=4_u64 {
        let handles: Vec<_> = (0..taken).map(|_| world.open(CLIENT, 0, 0)).collect();
        assert_eq!(prepare_all(&world, 19), Status::Success);
        remove(&world, slot(3, 18));
        enter(&world, slot(3, 18), bolted(3).1);
        // It is nobody's to see, to count or to close.
        let stat = world
            .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
            .ok();
        assert_eq!(stat[3], taken);
        let mine = u64::from(taken < 3);
        let more: Vec<_> = (taken + mine..4)
            .map(|_| world.open(CLIENT, 0, 0))
            .collect();
        let full = world.call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), 0, 0]);
        assert_eq!(full.status(), Status::Resource);
        assert_eq!(prepare(&world, 19), Status::Success);
        assert_eq!(
            prepare(&world, 0),
            Status::Success,
            "cancelled: its slot is free again"
        );
        let last = (taken < 3).then(|| world.open(CLIENT, 0, 0));
        for handle in handles.into_iter().chain(more).chain(last) {
            assert_eq!(world.close(handle), Status::Success);
        }
    }
}

#[test]
fn without_a_reader_slot_the_commit_does_it_all() {
    for format in FORMATS {
        let world = leaked(18, format);
        enter_bolted(&world, 500, 18);
        resize(&world, 20);
        let handles: Vec<_> = (0..4).map(|_| world.open(CLIENT, 0, 0)).collect();
        assert_eq!(prepare_all(&world, 22), Status::Success);
        remove(&world, slot(3, 20));
        assert_eq!(commit(&world, 22), Status::Success);
        let mut expected = image(500, 22);
        expected.remove(&slot(3, 22));
        for handle in handles {
            world.close(handle);
        }
        assert_eq!(world.image(CLIENT), expected);
    }
}

/// Each call of a prepare does a bounded piece, however many entries there are, and there are not too many calls.
#[test]
fn a_prepare_is_bounded_and_so_are_the_prepares() {
    let world = leaked(20, Format::V3_0);
    let full = image(1 << 16, 20);
    assert_eq!(full.len(), 1 << 16, "every slot holds a bolted entry");
    world.restore(CLIENT, &encode(&records_of(&full, 1 << 16)));
    for order in [21, 20] {
        assert_eq!(prepare(&world, order), Status::LongBusyOrder100Msec);
        let mut calls = 1;
        loop {
            world.system.machine.record();
            let status = prepare(&world, order);
            // One eieio for each entry that is carried over.
            let carried = world.system.machine.recorded().len();
            assert!(carried <= 90, "{carried} entries in one call");
            calls += 1;
            if status == Status::Success {
                break;
            }
            assert_eq!(status, Status::LongBusyOrder1Msec);
        }
        // Linux adds up what it is told to sleep for: 100 ms and then 1 ms a call, of its ten seconds.
        assert!((100..=1025).contains(&calls), "{calls} calls");
        assert_eq!(commit(&world, order), Status::Success);
        assert_eq!(world.image(CLIENT), image(1 << 16, order));
    }
}

#[test]
fn a_carried_entry_goes_on_as_any_other() {
    // T31: guest view and bitmaps have come with it.
    for format in FORMATS {
        let world = leaked(18, format);
        enter_bolted(&world, 8, 18);
        world.touch(slot(1, 18), R | C);
        resize(&world, 21);
        let at = |nth| slot(nth, 21);
        assert!(
            !world.client().table().unsettled().contains(at(1)),
            "settled"
        );
        assert!(world.client().table().unsettled().contains(at(2)));
        let [v, r, ..] = world.call(CLIENT, abi::H_REMOVE, &[0, at(1), 0]).ok();
        assert_eq!((v, r), (bolted(1).1.0, bolted(1).1.1 | R | C));
        assert_eq!(world.real(at(1)), (0, 0));
        world.late(at(2), R | C);
        let [_, r, ..] = world.call(CLIENT, abi::H_REMOVE, &[0, at(2), 0]).ok();
        assert_eq!(r, bolted(2).1.1 | R | C);
        let answer = world.call(CLIENT, abi::H_PROTECT, &[3, at(3), 0]);
        assert_eq!(answer.status(), Status::Success);
        let arguments = [EXACT, at(4), bolted(4).1.0, 2];
        let answer = world.call(CLIENT, abi::H_ENTER, &arguments);
        assert_eq!(answer.status(), Status::PtegFull, "it is there already");
    }
}

/// A reader that comes between the pieces of a reset may stand where the table, which gets its first order again,
/// has no slot any more.
#[test]
fn a_reader_that_comes_in_the_middle_of_a_reset_is_closed() {
    let world = leaked(18, Format::V3_0);
    resize(&world, 22);
    let client = u64::from(CLIENT);
    let reset = || world.call(AGENT, abi::H_LPAR_RESET, &[client]).status();
    assert_eq!(reset(), Status::Continue);
    let handle = world.open(CLIENT, 0, 200_000);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
    assert_eq!(world.client().table().order().raw(), 18);
    assert_eq!(world.read(handle, 4096), Err(Status::Closed));
    let stat = world.call(AGENT, abi::H_HPT_STAT, &[client]).ok();
    assert_eq!((stat[3], stat[6]), (0, 0), "readers, pending");
    assert_eq!(world.close(handle), Status::Success);
}

/// The sharing out of changes goes round the table in use, wherever it had come to in the one before.
#[test]
fn what_changes_after_a_reset_is_all_pending() {
    const BLOCK: u64 = 4096;
    let world = leaked(18, Format::V3_0);
    resize(&world, 22);
    let handle = world.open(CLIENT, 0, 0);
    let _ = world.pass(handle, BUFFER_SIZE);
    let pending = || {
        world
            .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
            .ok()[6]
    };
    let (_, entry) = bolted(1);
    for block in 0..20 {
        assert_eq!(enter(&world, block * BLOCK, entry), Status::Success);
    }
    for _ in 0..3 {
        let _ = pending();
    }
    assert_eq!(enter(&world, 30 * BLOCK, entry), Status::Success);
    for _ in 0..20 {
        let _ = pending();
    }
    assert_eq!(pending(), 21);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
    assert_eq!(world.close(handle), Status::Success);
    // All but the last slot is behind its first pass.
    let handle = world.open(CLIENT, 0, 4 * BLOCK - 1);
    for block in 0..4 {
        assert_eq!(enter(&world, block * BLOCK, entry), Status::Success);
    }
    for _ in 0..20 {
        let _ = pending();
    }
    assert_eq!(pending(), 4 + 1);
    assert_eq!(world.close(handle), Status::Success);
}
