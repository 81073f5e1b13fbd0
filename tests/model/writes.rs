//! Streams written: what is consumed is applied and nothing else is.

use crate::common::stream::{Image, Record, apply, differences, encode, records_of, said};
use crate::common::world::{CLIENT, Spec, Store, World};
use crate::entry::{EXACT, FORMATS, SLOTS, entered};
use crate::runner;
use crate::strategies::entry;
use crate::written::Stream;
use proptest::collection::vec;
use proptest::prelude::{any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::{Just, Strategy};
use realhpt::hcall::abi::{self, OpenFlags, Status};
use realhpt::table::Format;

/// A run of invalid slots over a full table is more than one call may do: the caller comes again with what is
/// not consumed, until all is.
#[test]
fn a_long_invalid_run_is_not_consumed_before_it_is_done() {
    let world = World::leaked(18, Format::V2_07);
    let image: Image = (0..SLOTS).map(|slot| (slot, (0x81, 0x1012))).collect();
    let full = encode(&records_of(&image, SLOTS));
    let last = Record {
        index: 77,
        valid: vec![(0x81, 0x2012)],
        invalid: 1000,
    };
    for records in [
        vec![Record {
            index: 0,
            valid: vec![],
            invalid: SLOTS as u16,
        }],
        vec![
            Record {
                index: 0,
                valid: vec![(0x81, 0x1012)],
                invalid: SLOTS as u16 - 1,
            },
            last,
        ],
    ] {
        world.restore(CLIENT, &full);
        let mut expected = Image::new();
        apply(&mut expected, said(&records));
        let bytes = encode(&records);
        let handle = world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
        let mut rest = &bytes[..];
        let mut calls = 0;
        while !rest.is_empty() {
            let (status, consumed, _) = world.write(handle, rest);
            assert_eq!(status, Status::Success);
            rest = &rest[usize::try_from(consumed).unwrap()..];
            calls += 1;
            assert!(calls < 200, "the writer does not get on");
        }
        assert!(calls > 10, "it was more than one call may do");
        assert_eq!(world.close(handle), Status::Success);
        assert_eq!(differences(&world.image(CLIENT), &expected), [""; 0]);
    }
}

/// A stream to be written: records, the place of a hostile change in it, and where it is cut.
fn written() -> impl Strategy<Value = (Vec<Record>, Option<(usize, u64)>, Vec<usize>)> {
    let good = select(vec![
        (0x4000_0045_6789_0081, 0x1192),
        (0x1234_5678_9a85, 0xabc_1012),
        (0x91, 0x70_0000_0112),
    ]);
    let record = (0..SLOTS - 700, vec(good, 0..40), 0..20u16, 0..12u32).prop_map(
        |(index, valid, invalid, long)| {
            // Now and then one that is longer than a piece.
            let valid = if long == 0 {
                valid
                    .iter()
                    .copied()
                    .cycle()
                    .take(valid.len() * 15)
                    .collect()
            } else {
                valid
            };
            Record {
                index: u32::try_from(index).unwrap(),
                valid,
                invalid,
            }
        },
    );
    let hostile = proptest::option::of((
        any::<usize>(),
        prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(1 << 63 | 1)],
    ));
    (vec(record, 1..8), hostile, vec(1..900usize, 1..12))
}

#[test]
fn what_is_consumed_is_applied_and_nothing_else() {
    for format in FORMATS {
        runner(64)
            .run(&written(), |(records, hostile, cuts)| {
                let store = Store::pair(18);
                let world = World::new(&store, format);
                let mut stream = encode(&records);
                if let Some((at, dword)) = hostile {
                    let at = at % (stream.len() / 8) * 8;
                    stream[at..at + 8].copy_from_slice(&dword.to_be_bytes());
                }
                let handle = world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
                let mut expected = Stream::new(format, Image::new());
                let (mut at, mut cuts, mut longer) = (0, cuts.into_iter().cycle(), 0);
                while at < stream.len() {
                    let length = (cuts.next().unwrap() + longer).min(stream.len() - at);
                    let bytes = &stream[at..at + length];
                    let answer @ (status, consumed, _) = world.write(handle, bytes);
                    let got_on = expected.follow(bytes, answer, |slot| shown(&world, slot));
                    at += usize::try_from(consumed).unwrap();
                    assert_eq!(
                        differences(&world.image(CLIENT), &expected.image),
                        [""; 0],
                        "{at} bytes applied"
                    );
                    if bytes.len() >= 8 && status != Status::Success {
                        break;
                    }
                    longer = if got_on { 0 } else { longer + 8 };
                    if length == stream.len() - at && !got_on {
                        break;
                    }
                }
                Ok(())
            })
            .unwrap();
    }
}

/// What H_READ shows of a slot.
fn shown(world: &World<'_>, slot: u64) -> Option<(u64, u64)> {
    let [v, r, ..] = world.call(CLIENT, abi::H_READ, &[0, slot]).ok();
    (v != 0).then_some((v, r))
}

/// A table as it is read, with buffers of any size, is the stream that makes the same table elsewhere.
#[test]
fn a_table_read_and_restored_is_the_same() {
    const OTHER: u16 = 3;
    let runs = || vec((0..SLOTS - 300, vec(entry(), 1..12), 1..20usize), 0..24);
    for (format, other) in [(Format::V2_07, Format::V3_0), (Format::V3_0, Format::V2_07)] {
        runner(24)
            .run(&(runs(), 24..3000u64), |(runs, length)| {
                let specs = [Spec::agent(), Spec::client(18)];
                let (store, elsewhere) = (
                    Store::new(&specs),
                    Store::new(&[
                        Spec::agent(),
                        Spec {
                            lpid: OTHER,
                            ..Spec::client(18)
                        },
                    ]),
                );
                let (world, elsewhere) =
                    (World::new(&store, format), World::new(&elsewhere, other));
                let mut table = Image::new();
                for (index, entries, times) in runs {
                    let entries = entries.iter().cycle().take(entries.len() * times);
                    let good = entries.filter_map(|&(v, r)| entered(v, r, Format::V3_0));
                    table.extend((index..).zip(good.map(|(v, r, _)| (v, r))));
                }
                for (&slot, &(v, r)) in &table {
                    world.call(CLIENT, abi::H_ENTER, &[EXACT, slot, v, r]).ok();
                }
                let reader = world.open(CLIENT, 0, 0);
                let pass = world.pass(reader, length);
                // The destination was not empty.
                let rest: Image = (100..140).map(|slot| (slot, (0x81, 0x1012))).collect();
                elsewhere.restore(OTHER, &encode(&records_of(&rest, 200)));
                elsewhere.restore(OTHER, &encode(&pass.records));
                assert_eq!(differences(&elsewhere.image(OTHER), &table), [""; 0]);
                Ok(())
            })
            .unwrap();
    }
}
