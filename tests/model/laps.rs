//! Four readers of one table at once, each with a first pass, a filter and a pace of its own, beside writers.
//!
//! They begin one after the other while the guest is at work, and read at random moments. Then the partition is paused,
//! and every reader makes its lap: whatever came in between, its copy is the table then. The same after writes and calls
//! by proxy into the paused partition; and then it goes on.

use crate::common::world::{BUFFER_SIZE, Store};
use crate::entry::{C, FORMATS, R, SLOTS};
use crate::machine::Model;
use crate::ops::Op;
use crate::runner;
use crate::strategies::{change, slot, write};
use proptest::array::uniform4;
use proptest::collection::vec;
use proptest::prelude::prop_oneof;
use proptest::sample::select;
use proptest::strategy::{Just, Strategy};

/// A reader: what it is shown, where it begins, and the sizes of its buffers, in turn.
#[derive(Clone, Debug)]
struct Reader {
    flags: u64,
    start: u64,
    lengths: Vec<u64>,
}

/// What happens between two laps.
#[derive(Clone, Debug)]
enum Step {
    Change(Op),
    /// The next reader begins, if there is one that has not.
    Open,
    /// One call of this reader.
    Read(usize),
}

/// What happens from one pause to the next: beside readers, and to the paused partition.
type Round = (Vec<Step>, Vec<Op>);

fn reader() -> impl Strategy<Value = Reader> {
    let length = prop_oneof![
        3 => Just(24),
        4 => 24..=200u64,
        2 => 24..=4096u64,
        1 => Just(BUFFER_SIZE),
    ];
    let pace = prop_oneof![1 => Just(vec![24]), 4 => vec(length, 1..5)];
    let start = select(vec![0, 0, 0, 8, 4096, 4100, SLOTS - 1]);
    (0..=1u64, start, pace).prop_map(|(flags, start, lengths)| Reader {
        flags,
        start,
        lengths,
    })
}

fn round() -> impl Strategy<Value = Round> {
    let touch = (slot(), select(vec![R, R | C, C]))
        .prop_map(|(slot, bits)| Step::Change(Op::Touch { slot, bits }));
    let step = prop_oneof![
        10 => change().prop_map(Step::Change),
        8 => (0..4usize).prop_map(Step::Read),
        1 => Just(Step::Open),
        4 => touch,
    ];
    let while_paused = prop_oneof![2 => change(), 1 => write(), 1 => Just(Op::Stat)];
    (vec(step, 0..80), vec(while_paused, 0..12))
}

/// The readers of the model, each at its pace.
struct Readers {
    all: [Reader; 4],
    /// How many of them are open.
    open: usize,
    calls: [usize; 4],
}

impl Readers {
    /// How long the next buffer of a reader is.
    fn length(&mut self, number: usize) -> u64 {
        let lengths = &self.all[number].lengths;
        self.calls[number] += 1;
        lengths[self.calls[number] % lengths.len()]
    }

    fn open(&mut self, model: &mut Model) {
        if let Some(&Reader { flags, start, .. }) = self.all.get(self.open) {
            model.step(Op::Open { flags, start });
            self.open += 1;
        }
    }

    fn take(&mut self, step: Step, model: &mut Model) {
        match step {
            Step::Change(op) => model.step(op),
            Step::Open => self.open(model),
            Step::Read(reader) => {
                let length = self.length(reader);
                model.step(Op::Stream { reader, length });
            }
        }
    }
}

#[test]
fn four_readers_have_the_table_after_every_lap() {
    let whole = Reader {
        flags: 0,
        start: 0,
        lengths: vec![24],
    };
    for format in FORMATS {
        let plans = (uniform4(reader()), vec(round(), 1..4));
        runner(40)
            .run(&plans, |(mut all, rounds)| {
                // One of them is shown everything, and has to make do with the smallest buffer.
                all[1] = whole.clone();
                let mut readers = Readers {
                    all,
                    open: 0,
                    calls: [0; 4],
                };
                let store = Box::leak(Box::new(Store::pair(18)));
                let mut model = Model::new(store, format);
                for (beside, paused) in rounds {
                    for step in beside {
                        readers.take(step, &mut model);
                    }
                    while readers.open < 4 {
                        readers.open(&mut model);
                    }
                    model.step(Op::Pause);
                    model.lap(|number| readers.length(number));
                    model.step(Op::Proxy(true));
                    for op in paused {
                        model.step(op);
                    }
                    model.lap(|number| readers.length(number));
                    model.step(Op::Proxy(false));
                    model.step(Op::Resume);
                }
                model.finish();
                Ok(())
            })
            .unwrap();
    }
}
