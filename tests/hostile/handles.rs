//! Handles that are not the caller's, not open or not any more; and what opening refuses.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::probe::{Deed, probed};
use crate::common::stream::{Header, Record, decode, encode, said};
use crate::common::world::{AGENT, BUFFER, BUFFER_SIZE, CLIENT, JUNK, Spec, Store, World};
use crate::{ENTRY, OTHER, TOKENS, WRITE, open, store, stream};
use realhpt::hcall::abi::{LPAR_SELF, Privileges, Status};
use realhpt::hcall::{Next, abi};
use realhpt::table::Format;

#[test]
fn wild_and_foreign_handles_are_refused() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let reader = world.open(CLIENT, 0, 0);
    let writer = world.open(CLIENT, WRITE, 0);
    let client = u64::from(CLIENT) << 8;
    let mut wild = vec![
        0,
        1,
        u64::MAX,
        JUNK,
        client,
        client | 0xff,
        client | 4,
        77 << 8,
        1 << 63,
    ];
    // The same slot's other uses, other slots, the reader's slot on other tables.
    wild.extend([
        reader + (1 << 24),
        reader ^ 1,
        reader ^ 3 << 8,
        reader | 0xff,
        writer - 0xff,
    ]);
    wild.extend([
        reader + (1 << 40),
        writer + (1 << 24),
        reader ^ 1 << 63,
        writer ^ 0x80,
    ]);
    wild.extend((0..64).map(|bit| reader ^ 1 << bit));
    wild.extend((0..64).map(|bit| writer ^ 1 << bit));
    for handle in wild
        .into_iter()
        .filter(|&handle| handle != reader && handle != writer)
    {
        for token in TOKENS {
            let status = stream(&world, AGENT, token, [handle, BUFFER, 4096]);
            assert_eq!(status, Status::Parameter, "handle {handle:#x}");
        }
        let closed = world.call(AGENT, abi::H_HPT_CLOSE, &[handle]);
        assert_eq!(closed.status(), Status::Parameter, "handle {handle:#x}");
    }
    // A handle is good only for the partition that opened it, were it the table's own.
    for caller in [CLIENT, OTHER] {
        for handle in [reader, writer] {
            for token in TOKENS {
                assert_eq!(
                    stream(&world, caller, token, [handle, 0, 4096]),
                    Status::Parameter
                );
            }
            let closed = world.call(caller, abi::H_HPT_CLOSE, &[handle]);
            assert_eq!(closed.status(), Status::Parameter);
        }
    }
    // A reader does not write, a writer does not read.
    assert_eq!(
        stream(&world, AGENT, abi::H_HPT_READ, [writer, BUFFER, 4096]),
        Status::Parameter
    );
    assert_eq!(
        stream(&world, AGENT, abi::H_HPT_WRITE, [reader, BUFFER, 4096]),
        Status::Parameter
    );
    // After all that both are as they were.
    assert_eq!(
        said(&world.pass(reader, BUFFER_SIZE).records).count(),
        1 << 14
    );
    assert_eq!(
        world
            .write(
                writer,
                &encode(&[Record {
                    index: 3,
                    valid: vec![ENTRY],
                    invalid: 0
                }])
            )
            .0,
        Status::Success
    );
    for handle in [reader, writer] {
        assert_eq!(world.close(handle), Status::Success);
        assert_eq!(world.close(handle), Status::Parameter, "closed is closed");
        assert_eq!(
            stream(&world, AGENT, abi::H_HPT_READ, [handle, BUFFER, 4096]),
            Status::Parameter
        );
        assert_eq!(
            stream(&world, AGENT, abi::H_HPT_WRITE, [handle, BUFFER, 4096]),
            Status::Parameter
        );
    }
    let again = world.open(CLIENT, 0, 0);
    assert_ne!(again, reader, "the next use of the slot has another handle");
}

#[test]
fn handles_of_a_table_that_was_reset_are_closed() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let readers = [world.open(CLIENT, 0, 0), world.open(CLIENT, 1, 77)];
    let writer = world.open(CLIENT, WRITE, 0);
    let half = encode(&[Record {
        index: 3,
        valid: vec![ENTRY; 4],
        invalid: 0,
    }]);
    assert_eq!(world.write(writer, &half[..40]).1, 40);
    let _ = world.read(readers[0], 24);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
    for reader in readers {
        assert_eq!(world.read(reader, 4096), Err(Status::Closed));
        assert_eq!(
            world.read(reader, 4096),
            Err(Status::Closed),
            "and stays it"
        );
    }
    assert_eq!(world.write(writer, &half[40..]).0, Status::Closed);
    // The writer's place is free at once: its stream is at its end.
    let (status, next) = open(&world, AGENT, u64::from(CLIENT), WRITE, 0);
    assert_eq!(status, Status::Success);
    assert_eq!(world.write(next, &half).0, Status::Success);
    assert_eq!(world.image(CLIENT).len(), 4, "from the start of a record");
    for reader in readers {
        assert_eq!(world.close(reader), Status::Success);
        assert_eq!(world.read(reader, 4096), Err(Status::Parameter));
    }
    assert_eq!(
        world.close(writer),
        Status::Parameter,
        "its place is another's"
    );
    assert_eq!(world.close(next), Status::Success);
    let answer = world
        .call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), 0, 0])
        .ok();
    assert_eq!(answer[1..3], [18, 2], "order and generation");
}

#[test]
fn streams_of_a_partition_that_ends_are_closed() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    for _ in 0..2 {
        assert_eq!(open(&world, CLIENT, LPAR_SELF, 0, 0).0, Status::Success);
    }
    let count = || {
        world
            .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
            .ok()[3]
    };
    assert_eq!(count(), 2);
    let exit = world.call(CLIENT, abi::H_LPAR_EXIT, &[0]);
    assert_eq!(exit.next, Next::Exit);
    assert_eq!(count(), 0);
}

/// Whatever table they are over: one's own, or another's, which goes on.
#[test]
fn streams_end_with_who_opened_them() {
    let controller = Spec {
        lpid: OTHER,
        privileges: Privileges::CONTROL,
        ..Spec::client(18).with_regions(&[(0, 1 << 40, 16 << 20)])
    };
    let store = Store::new(&[Spec::agent(), Spec::client(18), controller]);
    let world = World::new(&store, Format::V3_0);
    let target = u64::from(CLIENT);
    let count = || world.call(AGENT, abi::H_HPT_STAT, &[target]).ok()[3..5].to_vec();
    let of_another = world.open(CLIENT, 0, 0);
    let end = |how: u64| {
        if how == abi::H_LPAR_EXIT {
            let exit = world.call(OTHER, how, &[0]);
            assert_eq!(exit.next, Next::Exit);
        } else {
            assert_eq!(world.control(abi::H_LPAR_PAUSE, OTHER), Status::Success);
        }
    };
    for how in [abi::H_LPAR_EXIT, abi::H_LPAR_RESET] {
        assert_eq!(world.control(abi::H_LPAR_START, OTHER), Status::Success);
        let handles = [0, 0, WRITE].map(|flags| {
            let (status, handle) = open(&world, OTHER, target, flags, 0);
            assert_eq!(status, Status::Success);
            handle
        });
        assert_eq!(count(), [3, 1]);
        end(how);
        // A partition that is paused has them still.
        let left = if how == abi::H_LPAR_EXIT {
            [1, 0]
        } else {
            [3, 1]
        };
        assert_eq!(count(), left);
        assert_eq!(world.control(abi::H_LPAR_RESET, OTHER), Status::Success);
        assert_eq!(count(), [1, 0]);
        for handle in handles {
            for token in TOKENS {
                let used = stream(&world, OTHER, token, [handle, 0, 4096]);
                assert_eq!(used, Status::Parameter);
            }
            let closed = world.call(OTHER, abi::H_HPT_CLOSE, &[handle]);
            assert_eq!(closed.status(), Status::Parameter);
        }
    }
    let pass = world.pass(of_another, BUFFER_SIZE);
    assert_eq!(said(&pass.records).count(), 1 << 14);
}

/// Another vCPU makes calls on a handle while one is under way on it.
#[test]
fn a_handle_in_use_is_busy() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let world = probed(Format::V3_0);
    let target = u64::from(CLIENT);
    let call = |token, handle| world.call(AGENT, token, &[handle, BUFFER, 4096]).status();
    // Each call is made twice inside the first one, so that a handle is still in use after one is refused.
    let inside = move |deed: Deed, at: fn(Deed) -> bool, token, handle| {
        if at(deed) && SEEN.fetch_add(1, Ordering::Relaxed) == 0 {
            for token in [token, abi::H_HPT_CLOSE, token, abi::H_HPT_CLOSE] {
                let used = world.call(AGENT, token, &[handle, BUFFER, 4096]);
                assert_eq!(used.status(), Status::Busy, "{token:#x}");
            }
            let [_, _, _, readers, writers, ..] =
                world.call(AGENT, abi::H_HPT_STAT, &[target]).ok();
            assert_eq!((readers, writers), (1, 1));
            let second = world.call(AGENT, abi::H_HPT_OPEN, &[target, WRITE, 0]);
            assert_eq!(second.status(), Status::Resource);
        }
    };
    let watch = |at: fn(Deed) -> bool, token, handle| {
        SEEN.store(0, Ordering::Relaxed);
        let hook = move |deed| inside(deed, at, token, handle);
        let status = world.system.machine.watch(hook, || call(token, handle));
        assert_eq!(status, Status::Success);
        assert!(SEEN.load(Ordering::Relaxed) > 0, "it was made inside");
    };
    let reader = world.open(CLIENT, 0, 0);
    let writer = world.open(CLIENT, WRITE, 0);
    let record = Record {
        index: 3,
        valid: vec![ENTRY; 4],
        invalid: 0,
    };
    let bytes = encode(&[record]);
    world.put(BUFFER, &bytes);
    world.put(BUFFER + bytes.len() as u64, &[0; 4096]);
    watch(
        |deed| matches!(deed, Deed::Loads(_)),
        abi::H_HPT_WRITE,
        writer,
    );
    for first in [true, false] {
        watch(
            |deed| matches!(deed, Deed::Stores(_)),
            abi::H_HPT_READ,
            reader,
        );
        let read = world.bytes(BUFFER, if first { 80 } else { 72 });
        let records = decode(&read, Header::Big).unwrap();
        let told = said(&records).filter_map(|(slot, entry)| Some((slot, entry?)));
        assert!(told.eq((3..7).map(|slot| (slot, ENTRY))), "{records:x?}");
        // A later pass: the same entries once more.
        let _ = world.pass(reader, BUFFER_SIZE);
        assert_eq!(world.write(writer, &bytes).0, Status::Success);
    }
    for handle in [reader, writer] {
        assert_eq!(world.close(handle), Status::Success);
    }
}

#[test]
fn reader_slots_run_out_and_the_last_is_a_control_partitions() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    for _ in 0..3 {
        assert_eq!(open(&world, CLIENT, LPAR_SELF, 0, 0).0, Status::Success);
    }
    let (status, own) = open(&world, CLIENT, LPAR_SELF, 0, 0);
    assert_eq!(
        (status, own),
        (Status::Resource, LPAR_SELF),
        "the last slot is not for it"
    );
    let last = world.open(CLIENT, 0, 0);
    assert_eq!(
        open(&world, AGENT, u64::from(CLIENT), 0, 0).0,
        Status::Resource,
        "a fifth"
    );
    assert_eq!(world.close(last), Status::Success);
    let _ = world.open(CLIENT, 0, 0);
    // One writer for a table.
    let writer = world.open(CLIENT, WRITE, 0);
    assert_eq!(
        open(&world, AGENT, u64::from(CLIENT), WRITE, 0).0,
        Status::Resource
    );
    assert_eq!(
        open(&world, CLIENT, LPAR_SELF, WRITE, 0).0,
        Status::Resource
    );
    assert_eq!(world.close(writer), Status::Success);
    let stat = world
        .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
        .ok();
    assert_eq!(stat[3..5], [4, 0], "readers and writers");
}

#[test]
fn what_opening_refuses_opens_nothing() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let target = u64::from(CLIENT);
    for (flags, start) in [
        (4, 0),
        (1 << 63, 0),
        (u64::MAX, 0),
        (0, 1 << 14),
        (1, u64::MAX),
        (WRITE, 1),
    ] {
        assert_eq!(
            open(&world, AGENT, target, flags, start).0,
            Status::Parameter,
            "{flags:#x} {start:#x}"
        );
    }
    assert_eq!(
        world.call(AGENT, abi::H_HPT_STAT, &[target]).ok()[3..5],
        [0, 0]
    );
}
