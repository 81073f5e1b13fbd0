//! Buffers outside the caller's memory, and of every size.

use std::sync::Mutex;

use crate::common::probe::{Deed, probed};
use crate::common::stream::{Header, Record, decode, encode, said};
use crate::common::world::{
    AGENT, AGENT_MEMORY, BUFFER, BUFFER_SIZE, CLIENT, CLIENT_MEMORY, CLIENT_WINDOW, Spec, Store,
    World,
};
use crate::{ENTRY, TOKENS, WRITE, open, store, stream};
use realhpt::addr::HostReal;
use realhpt::arch::Machine;
use realhpt::hcall::abi::{self, LPAR_SELF, ReadFlags, Status};
use realhpt::table::Format;

#[test]
fn buffers_outside_memory_are_refused_and_nothing_is_lost() {
    let store = store();
    let world = World::new(&store, Format::V2_07);
    world.restore(
        CLIENT,
        &encode(&[Record {
            index: 100,
            valid: vec![ENTRY; 9],
            invalid: 0,
        }]),
    );
    let reader = world.open(CLIENT, 0, 0);
    let writer = world.open(CLIENT, WRITE, 0);
    let end = AGENT_MEMORY;
    let bad = [
        (BUFFER + 1, 4096),
        (BUFFER + 4, 4096),
        (end, 24),
        (end - 16, 24),
        (end - 8, 32),
        (BUFFER, end),
        (BUFFER, u64::MAX),
        (BUFFER, u64::MAX - BUFFER),
        (BUFFER, 1 << 63),
        (u64::MAX - 7, 24),
        (!7, u64::MAX),
        (1 << 60, 4096),
        (CLIENT_MEMORY, 4096),
        (0, 0u64.wrapping_sub(8)),
    ];
    for (at, length) in bad {
        for (token, handle) in TOKENS.into_iter().zip([reader, writer]) {
            let status = stream(&world, AGENT, token, [handle, at, length]);
            assert_eq!(status, Status::Parameter, "{length:#x} bytes at {at:#x}");
        }
    }
    // Of a later pass as of the first.
    let other = world.open(CLIENT, 0, 0);
    let _ = world.pass(other, BUFFER_SIZE);
    world.call(CLIENT, abi::H_REMOVE, &[0, 104, 0]).ok();
    for (at, length) in bad {
        let status = stream(&world, AGENT, abi::H_HPT_READ, [other, at, length]);
        assert_eq!(status, Status::Parameter);
    }
    let pass = world.pass(other, 24);
    assert!(said(&pass.records).eq([(104, None)]));
    // The last doublewords of memory are as good as any.
    world.put(
        end - 24,
        &encode(&[Record {
            index: 300,
            valid: vec![ENTRY],
            invalid: 0,
        }]),
    );
    assert_eq!(
        stream(&world, AGENT, abi::H_HPT_WRITE, [writer, end - 24, 24]),
        Status::Success
    );
    let mut slots = 0;
    loop {
        let [bytes, state, ..] = world
            .call(AGENT, abi::H_HPT_READ, &[reader, end - 24, 24])
            .ok();
        let records = decode(&world.bytes(end - 24, bytes), Header::Big).unwrap();
        slots += said(&records).count();
        if state & ReadFlags::END_OF_PASS.bits() != 0 {
            break;
        }
    }
    assert_eq!(slots, 1 << 14);
}

#[test]
fn a_buffer_does_not_cross_from_one_region_into_the_next() {
    // Two regions that touch as the guest sees them and lie apart on the host.
    let regions = [(0, 0, 1 << 16), (1 << 16, 1 << 17, 1 << 16)];
    let agent = Spec::agent().with_regions(&regions);
    let store = Store::new(&[agent, Spec::client(18)]);
    let world = World::new(&store, Format::V3_0);
    let (_, reader) = open(&world, AGENT, u64::from(CLIENT), 0, 0);
    let at = (1 << 16) - 16;
    assert_eq!(
        stream(&world, AGENT, abi::H_HPT_READ, [reader, at, 4096]),
        Status::Parameter
    );
    assert_eq!(
        stream(&world, AGENT, abi::H_HPT_READ, [reader, 1 << 16, 4096]),
        Status::Success
    );
    let written = world.system.machine.load(HostReal::new(1 << 17));
    assert_eq!(
        written, 0x4000,
        "a run of all slots, where the second region lies"
    );
}

/// Under 24 bytes there is no room for a header and an entry; from there on every size gets on and loses
/// nothing, and nothing is written beyond the size.
#[test]
fn every_buffer_size_from_0_to_200() {
    for format in [Format::V2_07, Format::V3_0] {
        let store = store();
        let world = World::new(&store, format);
        let runs = [
            (0, 1),
            (2, 3),
            (9, 12),
            (64, 7),
            (4095, 2),
            (8000, 30),
            (0x3fff, 1),
        ];
        let records: Vec<_> = runs
            .map(|(index, count)| Record {
                index,
                valid: vec![ENTRY; count],
                invalid: 0,
            })
            .to_vec();
        world.restore(CLIENT, &encode(&records));
        let whole = world.image(CLIENT);
        assert_eq!(whole.len(), 56);
        let reader = world.open(CLIENT, 0, 0);
        for length in 0..24 {
            assert_eq!(
                world.read(reader, length),
                Err(Status::Parameter),
                "{length} bytes"
            );
        }
        for length in 24..=200 {
            let reader = world.open(CLIENT, 0, 0);
            let pass = world.pass(reader, length);
            assert!(
                said(&pass.records).map(|(slot, _)| slot).eq(0..1 << 14),
                "{length} bytes"
            );
            let entries = said(&pass.records).filter_map(|(slot, entry)| Some((slot, entry?)));
            assert!(entries.eq(whole.clone()), "{length} bytes");
            assert_eq!(pass.pending, 0);
            assert!(world.pass(reader, length).clean);
            assert_eq!(world.close(reader), Status::Success);
        }
        assert_eq!(
            said(&world.pass(reader, 24).records).count(),
            1 << 14,
            "the refused calls lost nothing"
        );
    }
}

#[test]
fn writes_of_every_size_take_whole_headers_and_entries() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let stream = encode(&[
        Record {
            index: 4,
            valid: vec![ENTRY; 3],
            invalid: 2,
        },
        Record {
            index: 20,
            valid: vec![],
            invalid: 1,
        },
        Record {
            index: 30,
            valid: vec![ENTRY; 5],
            invalid: 0,
        },
    ]);
    for length in 0..=stream.len() {
        let writer = world.open(CLIENT, WRITE, 0);
        let (status, consumed, _) = world.write(writer, &stream[..length]);
        if length < 8 {
            assert_eq!(status, Status::Parameter);
            assert_eq!(world.close(writer), Status::Success);
            continue;
        }
        // Where a header or an entry ends: bytes 8, 24, 40, 56; 64; 72, 88, 104, 120, 136, 152.
        let ends = [8, 24, 40, 56, 64, 72, 88, 104, 120, 136, 152];
        let whole = ends.into_iter().filter(|&end| end <= length).max().unwrap();
        assert_eq!(
            (status, consumed as usize),
            (Status::Success, whole),
            "{length} bytes"
        );
        let inside = ![56, 64, 152].contains(&whole);
        let closed = if inside {
            Status::Partial
        } else {
            Status::Success
        };
        assert_eq!(
            world.close(writer),
            closed,
            "{length} bytes: told if a record was cut off"
        );
    }
    assert_eq!(world.image(CLIENT).len(), 8);
}

/// Another of the caller's vCPUs changes every doubleword of a stream as soon as it has been read: what is checked is what
/// is applied, and nothing is read again.
#[test]
fn what_is_written_is_read_once() {
    for format in [Format::V2_07, Format::V3_0] {
        let world = probed(format);
        let stream = encode(&[
            Record {
                index: 1000,
                valid: vec![ENTRY; 300],
                invalid: 700,
            },
            Record {
                index: 5000,
                valid: vec![ENTRY],
                invalid: 0,
            },
        ]);
        let writer = world.open(CLIENT, WRITE, 0);
        let mut at = 0;
        while at < stream.len() {
            world.put(BUFFER, &stream[at..]);
            let before = Mutex::new(None);
            let spoil = move |deed| {
                let Deed::Loads(place) = deed else { return };
                let before = before.lock().unwrap().replace(place);
                if let Some(before) = before {
                    world.system.machine.store(before, !0);
                }
                assert_ne!(world.system.machine.load_unseen(place), !0, "read again");
            };
            let length = (stream.len() - at) as u64;
            let arguments = [writer, BUFFER, length];
            let written = world.system.machine.watch(spoil, || {
                world.call(AGENT, abi::H_HPT_WRITE, &arguments).ok()
            });
            at += written[0] as usize;
        }
        assert_eq!(world.close(writer), Status::Success);
        let slots = (1000..1300).chain([5000]);
        assert_eq!(
            world.image(CLIENT),
            slots.map(|slot| (slot, ENTRY)).collect()
        );
    }
}

/// A guest reads its own table into its own memory; its shared window is as good as the rest.
#[test]
fn a_guest_streams_its_own_table() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let (guest, host, size) = CLIENT_WINDOW;
    let (_, reader) = open(&world, CLIENT, LPAR_SELF, 0, 0);
    world
        .call(CLIENT, abi::H_ENTER, &[1 << 39, 8, ENTRY.0, ENTRY.1])
        .ok();
    let [bytes, ..] = world
        .call(CLIENT, abi::H_HPT_READ, &[reader, guest, size])
        .ok();
    let records = decode(&world.bytes(host, bytes), Header::Big).unwrap();
    assert_eq!(records[1].valid, [ENTRY]);
    assert_eq!(
        stream(
            &world,
            CLIENT,
            abi::H_HPT_READ,
            [reader, guest + size - 8, 24]
        ),
        Status::Parameter
    );
}

/// The calls that write a page by its real address, with every address that is not the caller's: nothing of anybody
/// else's memory changes.
#[test]
fn pages_of_others_are_out_of_reach() {
    const ZERO: u64 = 1 << 15;
    const COPY: u64 = 1 << 14;
    const EXACT: u64 = 1 << 39;
    const OTHER_HOST: u64 = 1 << 40;
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let everything = AGENT_MEMORY + CLIENT_WINDOW.2;
    world.put(0, &vec![0x5a; everything as usize]);
    world.put(OTHER_HOST, &[0x77; 0x1000]);
    // Host addresses among them, in case one is taken for its own.
    let wild = (12..64)
        .flat_map(|bit| [1 << bit, (1 << bit) - 0x1000, !0 << bit])
        .chain([0, BUFFER, CLIENT_MEMORY, OTHER_HOST, CLIENT_WINDOW.1]);
    let own =
        |page: u64| page < CLIENT_MEMORY || page.wrapping_sub(CLIENT_WINDOW.0) < CLIENT_WINDOW.2;
    for page in wild.filter(|&page| !own(page)) {
        for flags in [ZERO, COPY, ZERO | COPY] {
            for arguments in [[flags, page, 0x3000], [flags | COPY, 0x3000, page]] {
                let answer = world.call(CLIENT, abi::H_PAGE_INIT, &arguments);
                assert_eq!(answer.status(), Status::Parameter, "{arguments:x?}");
            }
        }
        for (large, lp) in [(0, 0), (4, 0x7000), (4, 0x1000), (4, 0)] {
            let arguments = [ZERO | EXACT, 8, 0x81 | large, page & !0xffff | lp | 0x12];
            let answer = world.call(CLIENT, abi::H_ENTER, &arguments);
            if answer.status() == Status::Success {
                world.call(CLIENT, abi::H_REMOVE, &[0, 8, 0]).ok();
            }
        }
    }
    assert!(world.bytes(0, everything).iter().all(|&byte| byte == 0x5a));
    assert!(
        world
            .bytes(OTHER_HOST, 0x1000)
            .iter()
            .all(|&byte| byte == 0x77)
    );
}
