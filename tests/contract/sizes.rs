//! What depends on the size of a table, and what may not: the format's limits, the work of a call, the memory.

use crate::common::stream::{Header, Image, Record, decode, encode, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, Spec, Store, World};
use crate::huge::huge;
use realhpt::hcall::abi::{self, OpenFlags, ReadFlags, Status};
use realhpt::table::Format;
use realhpt_suite::table;

const BOLTED_ONLY: u64 = OpenFlags::BOLTED_ONLY.bits();
const WRITE: u64 = OpenFlags::WRITE.bits();
const EXACT: u64 = 1 << 39;

/// An entry in which R and C are set, and one in which they may still come.
const SETTLED: (u64, u64) = (0x4000_0045_6789_0081, 0x1192);
const UNSETTLED: (u64, u64) = (0x4000_0045_6789_0081, 0x1012);

/// What a call does at most: free slots that it passes, bytes that it lays out, entries in which it looks for R and C,
/// entries that it enters or removes. As many as take some tens of thousands of instructions.
const FREE: u64 = 1 << 18;
const BYTES: u64 = 17 << 10;
const LOOKS: u64 = 5000;
const CHANGES: u64 = 800;
/// Bytes of a stream that are given to one call.
const PART: usize = 4096;

/// Enters into a slot of the agent's.
fn enter(world: &World<'_>, slot: u64, (v, r): (u64, u64)) {
    let entered = world.call(AGENT, abi::H_ENTER, &[EXACT, slot, v, r]);
    assert_eq!(entered.ok()[0], slot);
}

/// The records that say that the table holds this entry in so many slots from the first on.
fn full(entry: (u64, u64), slots: u64) -> Vec<u8> {
    let record = |index: u64| Record {
        index: u32::try_from(index).unwrap(),
        valid: vec![entry; (slots - index).min(0xffff) as usize],
        invalid: 0,
    };
    encode(&Vec::from_iter((0..slots).step_by(0xffff).map(record)))
}

/// Reads a pass with the largest buffer, and looks at each call's bytes and at how many slots it spoke of. How many calls.
fn pass(world: &World<'_>, reader: u64, mut look: impl FnMut(u64, u64)) -> u64 {
    for calls in 1.. {
        let read = world.read(reader, BUFFER_SIZE).unwrap();
        let records = decode(&read.bytes, Header::Big).unwrap();
        look(read.bytes.len() as u64, said(&records).count() as u64);
        if read.flags.contains(ReadFlags::END_OF_PASS) {
            return calls;
        }
        assert!(calls < 1 << 16, "the reader does not get on");
    }
    unreachable!("a pass has an end")
}

/// Writes a stream in parts that are more than a call does, and looks at how much each call did.
fn write(world: &World<'_>, stream: &[u8], look: impl Fn(u64)) {
    let writer = world.open(AGENT, WRITE, 0);
    let mut rest = stream;
    while !rest.is_empty() {
        let part = &rest[..rest.len().min(PART)];
        let (status, consumed, _) = world.write(writer, part);
        assert_eq!(status, Status::Success);
        look(consumed);
        rest = &rest[consumed as usize..];
    }
    assert_eq!(world.close(writer), Status::Success);
}

/// A record's index has 32 bits: the last slot of a table of order 36 has the last one.
#[test]
fn a_table_beyond_order_36_is_too_big() {
    for format in [Format::V2_07, Format::V3_0] {
        let world = huge(36, format);
        let last = u64::from(u32::MAX);
        enter(&world, last, SETTLED);
        let opened = world.call(AGENT, abi::H_HPT_OPEN, &[abi::LPAR_SELF, 0, last]);
        let [reader, order, ..] = opened.ok();
        assert_eq!(order, 36);
        let pass = world.pass(reader, 24);
        assert!(said(&pass.records).eq([(last, Some(SETTLED))]));
        assert_eq!(world.close(reader), Status::Success);
        let nothing = Record {
            index: u32::MAX,
            valid: vec![],
            invalid: 1,
        };
        world.restore(AGENT, &encode(&[nothing]));
        let [v, ..] = world.call(AGENT, abi::H_READ, &[0, last]).ok();
        assert_eq!(v, 0);
        // In 32 bits the slot behind it is the first one.
        for (valid, invalid) in [(vec![SETTLED; 2], 0), (vec![SETTLED], 1), (vec![], 0xffff)] {
            let beyond = Record {
                index: u32::MAX,
                valid,
                invalid,
            };
            let writer = world.open(AGENT, WRITE, 0);
            let written = world.write(writer, &encode(&[beyond]));
            assert_eq!(written, (Status::Parameter, 0, last));
            assert_eq!(world.close(writer), Status::Success);
        }

        let world = huge(37, format);
        enter(&world, last + 1, SETTLED);
        for flags in [0, BOLTED_ONLY, WRITE] {
            let arguments = [abi::LPAR_SELF, flags, 0];
            let opened = world.call(AGENT, abi::H_HPT_OPEN, &arguments);
            assert_eq!(opened.status(), Status::TooBig);
            assert_eq!(opened.out[..3], arguments, "it has no results");
        }
        let [_, order, _, readers, writers, ..] =
            world.call(AGENT, abi::H_HPT_STAT, &[abi::LPAR_SELF]).ok();
        assert_eq!((order, readers, writers), (37, 0, 0));
    }
}

/// Runs that are longer than a header can count, read and written.
#[test]
fn a_record_counts_no_more_than_65535_of_each() {
    for format in [Format::V2_07, Format::V3_0] {
        let world = huge(22, format);
        let slots = 1 << 18;
        assert!(world.image(AGENT).is_empty(), "one run of all slots");
        let longest = Record {
            index: 7,
            valid: vec![SETTLED; 0xffff],
            invalid: 0xffff,
        };
        write(&world, &full(UNSETTLED, slots), |_| {});
        let before = world.image(AGENT);
        assert!(before.values().eq(vec![&UNSETTLED; slots as usize]));
        write(&world, &encode(&[longest]), |_| {});
        let mut expected = before;
        expected.extend((7..).take(0xffff).map(|slot| (slot, SETTLED)));
        expected.retain(|slot, _| !(7 + 0xffff..7 + 2 * 0xffff).contains(slot));
        // Not shown as differences: it is a table of 262144 slots.
        assert!(world.image(AGENT) == expected);
    }
}

/// However large the table, and whatever is in it.
#[test]
fn the_work_of_a_call_is_bounded_at_any_order() {
    for order in [18, 24, 30] {
        let world = huge(order, Format::V3_0);
        let slots = 1 << (order - 4);
        let reader = world.open(AGENT, 0, 0);
        let mut all = 0;
        let calls = pass(&world, reader, |_, slots| {
            assert!(slots <= FREE, "{slots} free slots in one call");
            all += slots;
        });
        assert_eq!(all, slots);
        assert!(calls >= slots / FREE);
        // A change at each end, and none between them.
        for slot in [0, slots - 1] {
            enter(&world, slot, SETTLED);
        }
        let mut all = 0;
        let calls = pass(&world, reader, |_, slots| all += slots);
        assert_eq!(all, 2);
        assert!(calls <= 1 + slots / FREE);
        // Every call looks for marks that are not shared out in a part of a large table.
        let clean = (0..=slots / FREE).any(|_| world.pass(reader, 24).clean);
        assert!(clean);
    }
}

#[test]
fn the_work_of_a_call_is_bounded_whatever_is_in_the_table() {
    let world = huge(22, Format::V3_0);
    let slots = 1 << 16;
    let reader = world.open(AGENT, 0, 0);
    let _ = world.pass(reader, BUFFER_SIZE);
    // Each entry new, and each another one, where R and C may come in every one of them.
    for entry in [SETTLED, UNSETTLED] {
        write(&world, &full(entry, slots), |bytes| {
            assert!(bytes <= CHANGES * 16 + 8, "{bytes} bytes in one call");
        });
        let first = world.open(AGENT, 0, 0);
        for reader in [first, reader] {
            let mut all = 0;
            pass(&world, reader, |bytes, slots| {
                assert!(bytes <= BYTES, "{bytes} bytes in one call");
                all += slots;
            });
            assert!(all >= slots, "{all} slots");
        }
        assert_eq!(world.close(first), Status::Success);
    }
    let calls = pass(&world, reader, |bytes, _| assert_eq!(bytes, 0));
    assert!(
        calls >= slots / LOOKS,
        "{calls} calls to look at {slots} entries"
    );
    // All of them go, a few in each call.
    let writer = world.open(AGENT, WRITE, 0);
    for index in [0, 0xffff] {
        let invalid = (slots - index).min(0xffff) as u16;
        let run = Record {
            index: index as u32,
            valid: vec![],
            invalid,
        };
        let stream = encode(&[run]);
        let calls = (1u64..).find(|_| world.write(writer, &stream).1 == 8);
        assert!(calls.unwrap() >= u64::from(invalid) / CHANGES);
    }
    assert_eq!(world.close(writer), Status::Success);
    assert_eq!(world.image(AGENT), Image::new());
}

/// A pass that found nothing, at the end of which a change has come that lies further on than a call looks: what is known
/// to be pending is nothing, and it is not clean all the same.
#[test]
fn a_pass_is_not_clean_before_all_changes_are_looked_for() {
    // The largest order, for all readers' marks to be more than a call looks for.
    let world = huge(36, Format::V3_0);
    let (slots, block) = (1_u64 << 32, 4096);
    let reader = world.open(AGENT, 0, 0);
    let _ = world.pass(reader, BUFFER_SIZE);
    // As much to look at as makes a pass several calls.
    let behind = 3000 * block;
    let records = |slot: u64| Record {
        index: u32::try_from(behind + slot).unwrap(),
        valid: vec![UNSETTLED; 4096],
        invalid: 0,
    };
    world.restore(
        AGENT,
        &encode(&[0, 1, 2, 3].map(|number| records(number * block))),
    );
    let _ = world.pass(reader, BUFFER_SIZE);
    let calls = pass(&world, reader, |bytes, _| assert_eq!(bytes, 0));
    assert!(calls > 1);
    for slot in [0, 1, 2, 3].map(|quarter| quarter * (slots / 4)) {
        // What was marked on the way to here is looked for first.
        let clean = (0..40).any(|_| world.pass(reader, BUFFER_SIZE).clean);
        assert!(clean);
        for _ in 1..calls {
            let read = world.read(reader, BUFFER_SIZE).unwrap();
            assert_eq!((read.bytes.len(), read.flags), (0, ReadFlags::empty()));
        }
        enter(&world, slot, SETTLED);
        let last = world.read(reader, BUFFER_SIZE).unwrap();
        assert_eq!((last.bytes.len(), last.flags), (0, ReadFlags::END_OF_PASS));
        let next = world.pass(reader, BUFFER_SIZE);
        assert!(said(&next.records).eq([(slot, Some(SETTLED))]));
    }
}

/// And it is what DESIGN section 3 has as the target: 8.6 bytes a slot with one reader slot, 9.0 with four.
#[test]
fn what_stands_beside_a_table_is_said() {
    let beside = |world: &World<'_>, lpid: u16| {
        let stat = world.call(AGENT, abi::H_HPT_STAT, &[u64::from(lpid)]);
        stat.ok()[5]
    };
    for order in [18, 22, 24, 36] {
        let said = beside(&huge(order, Format::V3_0), AGENT);
        assert_eq!(said, table::bytes_beside(order));
        let slots = 1 << (order - 4);
        assert!(said <= slots * 90 / 10);
        assert!(table::bytes_for(slots, 1) <= slots * 86 / 10);
    }
    let store = Store::new(&[Spec::agent(), Spec::client(18).resizable(20)]);
    let world = World::new(&store, Format::V2_07);
    assert_eq!(
        beside(&world, CLIENT),
        table::bytes_beside_resizable(18, 20)
    );
}
