//! Holds the engine to a model: a map from slot to entry, written from PAPR and the stream's contract alone.
//!
//! * Random sequences of hypercalls, good and bad, in both formats: every status and result is the model's.
//! * Up to four readers, each with its own filter, start and buffer sizes, interleaved with the calls and with
//!   hardware that sets R and C, at any time and at the last moment: a first pass says each slot from its start
//!   on once and in order; a later pass says what changed since and nothing else; whatever is said is what the
//!   table holds then; a pass that nothing interrupts leaves the reader's copy equal to the table; CLEAN is
//!   never said while something is due; pending is what is due, exactly when the partition is paused.
//! * Four readers at once, each with its own filter, start and pace, beside writers at random: after every lap each
//!   one's copy equals the table ([`laps`]).
//! * Streams written: records good and hostile, cut anywhere: what is consumed is applied and nothing else is,
//!   the first bad entry's index is right; a table read and restored, in the other format too, is the same.
//! * The calls that reach memory itself ([`memory`]): what they do to which bytes, and to no others.
//!
//! The sequences are drawn from a fixed seed, so each run is the same; a failing one is shown shrunk.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod entry;
mod laps;
mod machine;
mod memory;
mod ops;
mod readers;
mod strategies;
mod writes;
mod written;

use common::stream::{Image, encode, records_of, said};
use common::world::{BUFFER_SIZE, CLIENT, Store, World};
use entry::{C, FORMATS, R, SLOTS};
use machine::Model;
use proptest::collection::vec;
use proptest::test_runner::{Config, TestRunner};
use realhpt::hcall::abi::{self, Status};
use realhpt::table::Format;
use strategies::op;

fn runner(cases: u32) -> TestRunner {
    common::runner::runner(Config {
        cases,
        max_shrink_iters: 400,
        ..Config::default()
    })
}

#[test]
fn calls_and_readers_do_as_the_model() {
    for format in FORMATS {
        runner(36)
            .run(&vec(op(), 1..250), |ops| {
                let store = Box::leak(Box::new(Store::pair(18)));
                let mut model = Model::new(store, format);
                for op in ops {
                    model.step(op);
                }
                model.finish();
                Ok(())
            })
            .unwrap();
    }
}

/// Every slot holds an entry whose R and C may still come: as much work as a table can be for a reader.
#[test]
fn a_table_full_of_unsettled_entries_is_read_to_the_end() {
    let world = World::leaked(18, Format::V3_0);
    let fresh = |slot: u64| {
        (
            0x4000_0000_0000_0081 | slot << 12,
            (slot & 0xfff) << 12 | 0x12,
        )
    };
    let image: Image = (0..SLOTS).map(|slot| (slot, fresh(slot))).collect();
    world.restore(CLIENT, &encode(&records_of(&image, SLOTS)));
    let reader = world.open(CLIENT, 0, 0);
    let pass = world.pass(reader, BUFFER_SIZE);
    assert!(said(&pass.records).eq(image.iter().map(|(&slot, &entry)| (slot, Some(entry)))));
    for (bits, length) in [(R, 400), (C, BUFFER_SIZE)] {
        for _ in 0..2 {
            let pass = world.pass(reader, length);
            assert_eq!(
                (pass.records.len(), pass.clean),
                (0, true),
                "nothing changed"
            );
        }
        for slot in 0..SLOTS {
            world.touch(slot, bits);
        }
        let pass = world.pass(reader, length);
        assert!(
            said(&pass.records).map(|(slot, _)| slot).eq(0..SLOTS),
            "each once"
        );
        assert!(said(&pass.records).all(|(_, entry)| entry.unwrap().1 & bits != 0));
    }
    assert!(world.pass(reader, 24).clean);
    // R comes back with another entry in each: all of it again, for a reader that stops at every one.
    world.restore(CLIENT, &encode(&records_of(&image, SLOTS)));
    assert!(
        said(&world.pass(reader, 24).records)
            .map(|(slot, _)| slot)
            .eq(0..SLOTS)
    );
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
    assert!(world.image(CLIENT).is_empty());
}
