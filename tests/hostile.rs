//! Holds the engine to what it owes a guest that means no good: an answer, and nothing done.
//!
//! Handles that are wild, foreign, closed or of another generation; buffers outside memory, unaligned, wrapping,
//! across two regions; calls without the privilege, from problem state, of unknown tokens; writes to a running
//! partition; readers beyond the slots; junk in every register. Each is refused with the code that DESIGN
//! sections 6 and 7 say, registers that have no result keep what they held, and whatever was open goes on as
//! if nothing had been. A call that reached beyond the caller's memory would panic in `Recording`.

mod common;

use common::stream::{Header, Record, decode, encode, said};
use common::world::{
    AGENT, AGENT_MEMORY, BUFFER, BUFFER_SIZE, CLIENT, CLIENT_MEMORY, CLIENT_WINDOW, JUNK, Spec, Store, World,
};
use proptest::prelude::{any, prop_oneof};
use proptest::strategy::{Just, Strategy};
use realhpt::addr::HostReal;
use realhpt::arch::Machine;
use realhpt::hcall::Next;
use realhpt::hcall::abi::{self, LPAR_SELF, OpenFlags, Privileges, ReadFlags, ReportKind, State, Status};
use realhpt::table::Format;

const WRITE: u64 = OpenFlags::WRITE.bits();
/// A third partition, with a table and memory of its own and no privilege.
const OTHER: u16 = 3;
const ENTRY: (u64, u64) = (0x4000_0045_6789_0081, 0x1192);

fn store() -> Store {
    let other = Spec { lpid: OTHER, ..Spec::client(18).with_regions(&[(0, 1 << 40, 16 << 20)]) };
    Store::new(&[Spec::agent(), Spec::client(18), other])
}

fn open(world: &World<'_>, caller: u16, target: u64, flags: u64, start: u64) -> (Status, u64) {
    let answer = world.call(caller, abi::H_HPT_OPEN, &[target, flags, start]);
    (answer.status(), answer.out[0])
}

/// A stream call with a buffer.
fn stream(world: &World<'_>, caller: u16, token: u64, arguments: [u64; 3]) -> Status {
    let answer = world.call(caller, token, &arguments);
    let status = answer.status();
    if status != Status::Success && token == abi::H_HPT_READ {
        assert_eq!(answer.out[..3], arguments, "a refused read has no results");
    }
    assert_eq!(answer.out[3], JUNK);
    status
}

const TOKENS: [u64; 2] = [abi::H_HPT_READ, abi::H_HPT_WRITE];

#[test]
fn wild_and_foreign_handles_are_refused() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let reader = world.open(CLIENT, 0, 0);
    let writer = world.open(CLIENT, WRITE, 0);
    let client = u64::from(CLIENT) << 8;
    let mut wild = vec![0, 1, u64::MAX, JUNK, client, client | 0xff, client | 4, 77 << 8, 1 << 63];
    // The same slot's other uses, other slots, the reader's slot on other tables.
    wild.extend([reader + (1 << 24), reader ^ 1, reader ^ 3 << 8, reader | 0xff, writer - 0xff]);
    wild.extend([reader + (1 << 40), writer + (1 << 24), reader ^ 1 << 63, writer ^ 0x80]);
    wild.extend((0..64).map(|bit| reader ^ 1 << bit));
    wild.extend((0..64).map(|bit| writer ^ 1 << bit));
    for handle in wild.into_iter().filter(|&handle| handle != reader && handle != writer) {
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
                assert_eq!(stream(&world, caller, token, [handle, 0, 4096]), Status::Parameter);
            }
            let closed = world.call(caller, abi::H_HPT_CLOSE, &[handle]);
            assert_eq!(closed.status(), Status::Parameter);
        }
    }
    // A reader does not write, a writer does not read.
    assert_eq!(stream(&world, AGENT, abi::H_HPT_READ, [writer, BUFFER, 4096]), Status::Parameter);
    assert_eq!(stream(&world, AGENT, abi::H_HPT_WRITE, [reader, BUFFER, 4096]), Status::Parameter);
    // After all that both are as they were.
    assert_eq!(said(&world.pass(reader, BUFFER_SIZE).records).count(), 1 << 14);
    assert_eq!(world.write(writer, &encode(&[Record { index: 3, valid: vec![ENTRY], invalid: 0 }])).0, Status::Success);
    for handle in [reader, writer] {
        assert_eq!(world.close(handle), Status::Success);
        assert_eq!(world.close(handle), Status::Parameter, "closed is closed");
        assert_eq!(stream(&world, AGENT, abi::H_HPT_READ, [handle, BUFFER, 4096]), Status::Parameter);
        assert_eq!(stream(&world, AGENT, abi::H_HPT_WRITE, [handle, BUFFER, 4096]), Status::Parameter);
    }
    let again = world.open(CLIENT, 0, 0);
    assert_ne!(again, reader, "the next use of the slot has another handle");
}

#[test]
fn buffers_outside_memory_are_refused_and_nothing_is_lost() {
    let store = store();
    let world = World::new(&store, Format::V2_07);
    world.restore(CLIENT, &encode(&[Record { index: 100, valid: vec![ENTRY; 9], invalid: 0 }]));
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
        (u64::MAX & !7, u64::MAX),
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
    // The last doublewords of memory are as good as any.
    world.put(end - 24, &encode(&[Record { index: 300, valid: vec![ENTRY], invalid: 0 }]));
    assert_eq!(stream(&world, AGENT, abi::H_HPT_WRITE, [writer, end - 24, 24]), Status::Success);
    let mut slots = 0;
    loop {
        let [bytes, state, ..] = world.call(AGENT, abi::H_HPT_READ, &[reader, end - 24, 24]).ok();
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
    assert_eq!(stream(&world, AGENT, abi::H_HPT_READ, [reader, at, 4096]), Status::Parameter);
    assert_eq!(stream(&world, AGENT, abi::H_HPT_READ, [reader, 1 << 16, 4096]), Status::Success);
    let written = world.system.machine.load(HostReal::new(1 << 17));
    assert_eq!(written, 0x4000, "a run of all slots, where the second region lies");
}

/// Under 24 bytes there is no room for a header and an entry; from there on every size gets on and loses
/// nothing, and nothing is written beyond the size.
#[test]
fn every_buffer_size_from_0_to_200() {
    for format in [Format::V2_07, Format::V3_0] {
        let store = store();
        let world = World::new(&store, format);
        let runs = [(0, 1), (2, 3), (9, 12), (64, 7), (4095, 2), (8000, 30), (0x3fff, 1)];
        let records: Vec<_> = runs
            .map(|(index, count)| Record { index, valid: vec![ENTRY; count], invalid: 0 })
            .to_vec();
        world.restore(CLIENT, &encode(&records));
        let whole = world.image(CLIENT);
        assert_eq!(whole.len(), 56);
        let reader = world.open(CLIENT, 0, 0);
        for length in 0..24 {
            assert_eq!(world.read(reader, length), Err(Status::Parameter), "{length} bytes");
        }
        for length in 24..=200 {
            let reader = world.open(CLIENT, 0, 0);
            let pass = world.pass(reader, length);
            assert!(said(&pass.records).map(|(slot, _)| slot).eq(0..1 << 14), "{length} bytes");
            let entries = said(&pass.records).filter_map(|(slot, entry)| Some((slot, entry?)));
            assert!(entries.eq(whole.clone()), "{length} bytes");
            assert_eq!(pass.pending, 0);
            assert!(world.pass(reader, length).clean);
            assert_eq!(world.close(reader), Status::Success);
        }
        assert_eq!(said(&world.pass(reader, 24).records).count(), 1 << 14, "the refused calls lost nothing");
    }
}

#[test]
fn writes_of_every_size_take_whole_headers_and_entries() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let stream = encode(&[
        Record { index: 4, valid: vec![ENTRY; 3], invalid: 2 },
        Record { index: 20, valid: vec![], invalid: 1 },
        Record { index: 30, valid: vec![ENTRY; 5], invalid: 0 },
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
        assert_eq!((status, consumed as usize), (Status::Success, whole), "{length} bytes");
        let inside = ![56, 64, 152].contains(&whole);
        let closed = if inside { Status::Partial } else { Status::Success };
        assert_eq!(world.close(writer), closed, "{length} bytes: told if a record was cut off");
    }
    assert_eq!(world.image(CLIENT).len(), 8);
}

#[test]
fn without_the_privilege_there_is_only_ones_own_table() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let tokens = [abi::H_HPT_OPEN, abi::H_HPT_STAT, abi::H_LPAR_QUERY];
    for target in [u64::from(AGENT), u64::from(OTHER), 0, 99, 1 << 16 | u64::from(CLIENT), u64::MAX - 1] {
        for token in tokens {
            let answer = world.call(CLIENT, token, &[target, 0, 0]);
            assert_eq!(answer.status(), Status::Authority, "{token:#x} on {target:#x}");
            assert_eq!(answer.out[..4], [target, 0, 0, JUNK], "nothing is said of it");
        }
    }
    for target in [u64::from(AGENT), u64::from(OTHER), u64::from(CLIENT), LPAR_SELF, 0, 99] {
        for token in [abi::H_LPAR_PAUSE, abi::H_LPAR_RESUME, abi::H_LPAR_RESET, abi::H_LPAR_START] {
            let answer = world.call(CLIENT, token, &[target, 0, 0]);
            assert_eq!(answer.status(), Status::Authority, "{token:#x} on {target:#x}");
        }
    }
    // Its own, by name and by number.
    for target in [LPAR_SELF, u64::from(CLIENT)] {
        assert_eq!(open(&world, CLIENT, target, 0, 0).0, Status::Success);
        let stat = world.call(CLIENT, abi::H_HPT_STAT, &[target]).ok();
        assert_eq!(stat[..3], [abi::ABI_VERSION, 18, 1]);
        assert_eq!(world.call(CLIENT, abi::H_LPAR_QUERY, &[target]).ok()[0], u64::from(CLIENT));
    }
    // With the privilege: what there is not is H_PARAMETER, and so is oneself where that makes no sense.
    for target in [0, 99, 1 << 16 | u64::from(CLIENT), u64::MAX - 1] {
        for token in tokens {
            assert_eq!(world.call(AGENT, token, &[target, 0, 0]).status(), Status::Parameter);
        }
    }
    for token in [abi::H_LPAR_PAUSE, abi::H_LPAR_RESUME, abi::H_LPAR_RESET, abi::H_LPAR_START] {
        for target in [LPAR_SELF, u64::from(AGENT)] {
            assert_eq!(world.call(AGENT, token, &[target, 0, 0]).status(), Status::Parameter);
        }
    }
}

#[test]
fn a_report_needs_the_privilege_and_a_buffer() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let passed = ReportKind::Passed as u64;
    let report = |caller, arguments: [u64; 4]| world.call(caller, abi::H_REPORT, &arguments);
    assert_eq!(report(CLIENT, [passed, 0, 0, 0]).status(), Status::Authority);
    let end = report(OTHER, [ReportKind::End as u64, 0, 0, 0]);
    assert_eq!((end.status(), end.next), (Status::Authority, Next::Resume), "no one else ends the run");
    for arguments in [
        [5, BUFFER, 4, 0],
        [u64::MAX, BUFFER, 4, 0],
        [passed, BUFFER + 1, 4, 0],
        [passed, AGENT_MEMORY, 4, 0],
        [passed, AGENT_MEMORY - 8, 12, 0],
        [passed, u64::MAX - 7, 16, 0],
    ] {
        let answer = report(AGENT, arguments);
        assert_eq!((answer.status(), answer.next), (Status::Parameter, Next::Resume), "{arguments:x?}");
    }
    assert_eq!(*world.board.reports.lock().unwrap(), []);
    world.put(BUFFER, b"a name of a case");
    assert_eq!(report(AGENT, [passed, BUFFER, 6, 7]).status(), Status::Success);
    // A name longer than is kept is cut off; one of no bytes needs no buffer.
    assert_eq!(report(AGENT, [passed, BUFFER, u64::MAX, 8]).status(), Status::Success);
    assert_eq!(report(AGENT, [ReportKind::End as u64, JUNK, 0, 9]).next, Next::PowerOff);
    let reports = world.board.reports.lock().unwrap();
    assert_eq!(reports[0], (ReportKind::Passed, b"a name".to_vec(), 7));
    assert_eq!((&reports[1].1[..16], reports[1].1.len()), (&b"a name of a case"[..], 96));
    assert_eq!(reports[2], (ReportKind::End, vec![], 9));
}

#[test]
fn problem_state_and_unknown_tokens_get_an_answer_and_nothing_else() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let arguments = [1 << 39, 8, ENTRY.0, ENTRY.1];
    for token in (0..0x400).step_by(4).chain((0xf000..0xf200).step_by(4)).chain([1, 2, u64::MAX]) {
        let answer = world.call_from(CLIENT, true, token, &arguments);
        assert_eq!((answer.status(), answer.next), (Status::Privilege, Next::Resume), "{token:#x}");
        assert_eq!(answer.out[..5], [arguments[0], 8, ENTRY.0, ENTRY.1, JUNK]);
    }
    assert!(world.image(CLIENT).is_empty());
    for token in [0, 1, 5, 0x3fc, 0xf11c, 0xf200, 1 << 32 | abi::H_ENTER, u64::MAX] {
        let answer = world.call(CLIENT, token, &arguments);
        assert_eq!((answer.status(), answer.next), (Status::Function, Next::Resume), "{token:#x}");
        assert_eq!(answer.out[..5], [arguments[0], 8, ENTRY.0, ENTRY.1, JUNK]);
    }
}

#[test]
fn a_running_partition_is_not_written_and_a_written_one_does_not_run() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let control = |token| world.control(token, CLIENT);
    let record = encode(&[Record { index: 3, valid: vec![ENTRY], invalid: 0 }]);
    assert_eq!(control(abi::H_LPAR_RESUME), Status::Busy, "it never ran");
    let writer = world.open(CLIENT, WRITE, 0);
    assert_eq!(control(abi::H_LPAR_START), Status::Success);
    assert_eq!(control(abi::H_LPAR_START), Status::Busy, "it runs");
    let before = world.image(CLIENT);
    assert_eq!(world.write(writer, &record).0, Status::Busy);
    assert_eq!(open(&world, AGENT, u64::from(CLIENT), WRITE, 0).0, Status::Busy);
    assert_eq!(open(&world, CLIENT, LPAR_SELF, WRITE, 0).0, Status::Busy, "nor by itself");
    assert_eq!(control(abi::H_LPAR_RESET), Status::Busy);
    assert_eq!(world.image(CLIENT), before);

    assert_eq!(control(abi::H_LPAR_PAUSE), Status::Success);
    assert_eq!(control(abi::H_LPAR_PAUSE), Status::Success, "twice is once");
    assert_eq!(world.write(writer, &record).0, Status::Success, "the handle outlived it");
    assert_eq!(control(abi::H_LPAR_RESUME), Status::Success);
    assert_eq!(world.write(writer, &record).0, Status::Busy);
    assert_eq!(world.client().state(), State::Running);

    // It ends itself: whoever looks at it goes on.
    let reader = world.open(CLIENT, 0, 0);
    let exit = world.call(CLIENT, abi::H_LPAR_EXIT, &[42]);
    assert_eq!(exit.next, Next::Exit);
    let query = world.call(AGENT, abi::H_LPAR_QUERY, &[u64::from(CLIENT)]).ok();
    assert_eq!((query[1], query[7]), (State::Halted as u64, 42));
    assert_eq!(world.write(writer, &record).0, Status::Success);
    assert_eq!(said(&world.pass(reader, BUFFER_SIZE).records).count(), 1 << 14);
    assert_eq!(control(abi::H_LPAR_START), Status::Busy, "a reset comes first");
    assert_eq!(control(abi::H_LPAR_RESET), Status::Success);
    assert_eq!(world.client().state(), State::Stopped);
}

#[test]
fn handles_of_a_table_that_was_reset_are_closed() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let readers = [world.open(CLIENT, 0, 0), world.open(CLIENT, 1, 77)];
    let writer = world.open(CLIENT, WRITE, 0);
    let half = encode(&[Record { index: 3, valid: vec![ENTRY; 4], invalid: 0 }]);
    assert_eq!(world.write(writer, &half[..40]).1, 40);
    let _ = world.read(readers[0], 24);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
    for reader in readers {
        assert_eq!(world.read(reader, 4096), Err(Status::Closed));
        assert_eq!(world.read(reader, 4096), Err(Status::Closed), "and stays it");
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
    assert_eq!(world.close(writer), Status::Parameter, "its place is another's");
    assert_eq!(world.close(next), Status::Success);
    let answer = world.call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), 0, 0]).ok();
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
    let count = || world.call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)]).ok()[3];
    assert_eq!(count(), 2);
    let exit = world.call(CLIENT, abi::H_LPAR_EXIT, &[0]);
    assert_eq!(exit.next, Next::Exit);
    assert_eq!(count(), 0);
}

#[test]
fn reader_slots_run_out_and_the_last_is_a_control_partitions() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    for _ in 0..3 {
        assert_eq!(open(&world, CLIENT, LPAR_SELF, 0, 0).0, Status::Success);
    }
    let (status, own) = open(&world, CLIENT, LPAR_SELF, 0, 0);
    assert_eq!((status, own), (Status::Resource, LPAR_SELF), "the last slot is not for it");
    let last = world.open(CLIENT, 0, 0);
    assert_eq!(open(&world, AGENT, u64::from(CLIENT), 0, 0).0, Status::Resource, "a fifth");
    assert_eq!(world.close(last), Status::Success);
    let _ = world.open(CLIENT, 0, 0);
    // One writer for a table.
    let writer = world.open(CLIENT, WRITE, 0);
    assert_eq!(open(&world, AGENT, u64::from(CLIENT), WRITE, 0).0, Status::Resource);
    assert_eq!(open(&world, CLIENT, LPAR_SELF, WRITE, 0).0, Status::Resource);
    assert_eq!(world.close(writer), Status::Success);
    let stat = world.call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)]).ok();
    assert_eq!(stat[3..5], [4, 0], "readers and writers");
}

#[test]
fn what_opening_refuses_opens_nothing() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let target = u64::from(CLIENT);
    for (flags, start) in [(4, 0), (1 << 63, 0), (u64::MAX, 0), (0, 1 << 14), (1, u64::MAX), (WRITE, 1)] {
        assert_eq!(open(&world, AGENT, target, flags, start).0, Status::Parameter, "{flags:#x} {start:#x}");
    }
    assert_eq!(world.call(AGENT, abi::H_HPT_STAT, &[target]).ok()[3..5], [0, 0]);
}

/// A guest reads its own table into its own memory; its shared window is as good as the rest.
#[test]
fn a_guest_streams_its_own_table() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let (guest, host, size) = CLIENT_WINDOW;
    let (_, reader) = open(&world, CLIENT, LPAR_SELF, 0, 0);
    world.call(CLIENT, abi::H_ENTER, &[1 << 39, 8, ENTRY.0, ENTRY.1]).ok();
    let [bytes, ..] = world.call(CLIENT, abi::H_HPT_READ, &[reader, guest, size]).ok();
    let records = decode(&world.bytes(host, bytes), Header::Big).unwrap();
    assert_eq!(records[1].valid, [ENTRY]);
    assert_eq!(stream(&world, CLIENT, abi::H_HPT_READ, [reader, guest + size - 8, 24]), Status::Parameter);
}

/// Values that calls are likely to trip over.
fn nasty() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop_oneof![Just(0), Just(1), Just(2), Just(3), Just(u64::MAX), Just(LPAR_SELF - 1)],
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        2 => (0..64u32).prop_map(|bit| (1 << bit) - 1),
        2 => 0..0x4100u64,
        2 => Just(BUFFER),
        2 => (0..0x1_0000u64).prop_map(|at| at * 8),
        1 => Just(1 << 24 | 2 << 8),
        1 => Just(1 << 24 | 2 << 8 | 0xff),
        1 => any::<u64>(),
    ]
}

/// Any register values whatever, from all partitions: every call is answered, nothing panics, and the agent's
/// reader ends with the table as it is.
#[test]
fn junk_in_every_register_is_answered() {
    let tokens = [
        abi::H_REMOVE, abi::H_ENTER, abi::H_READ, abi::H_PROTECT, abi::H_BULK_REMOVE, abi::H_HPT_OPEN,
        abi::H_HPT_READ, abi::H_HPT_WRITE, abi::H_HPT_CLOSE, abi::H_HPT_STAT, abi::H_LPAR_QUERY,
        abi::H_LPAR_PAUSE, abi::H_LPAR_RESUME, abi::H_LPAR_RESET, abi::H_LPAR_START, abi::H_REPORT,
        abi::H_PUT_TERM_CHAR, abi::H_GET_TERM_CHAR, abi::H_CEDE, abi::H_LPAR_EXIT,
    ];
    let call = (0..tokens.len(), 1..4u16, proptest::collection::vec(nasty(), 9));
    let config = proptest::test_runner::Config { cases: 24, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    runner
        .run(&proptest::collection::vec(call, 1..600), |calls| {
            let store = store();
            let world = World::new(&store, Format::V3_0);
            for (token, caller, arguments) in calls {
                let answer = world.call(caller, tokens[token], &arguments);
                let _ = answer.status();
            }
            for target in [CLIENT, OTHER] {
                for handle in 0..4 {
                    for serial in 1..64 {
                        let _ = world.close(serial << 24 | u64::from(target) << 8 | handle);
                    }
                }
                let stat = world.call(AGENT, abi::H_HPT_STAT, &[u64::from(target)]).ok();
                if stat[3] < 4 {
                    let first = world.image(target);
                    assert_eq!(world.image(target), first);
                }
            }
            Ok(())
        })
        .unwrap();
}

/// The smallest orders and the largest whose memory a test can have; above 36 the index of a record has not
/// enough bits, and opening says so.
#[test]
fn privileges_are_what_the_description_says() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let query = |target: u16| world.call(AGENT, abi::H_LPAR_QUERY, &[u64::from(target)]).ok();
    let control = Privileges::CONTROL | Privileges::REPORT;
    assert_eq!(query(AGENT)[4], control.bits());
    assert_eq!(query(CLIENT)[4], 0);
    assert_eq!(query(CLIENT)[..4], [2, State::Stopped as u64, CLIENT_MEMORY, 18]);
}
