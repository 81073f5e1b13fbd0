//! Holds the engine to long sequences of hypercalls and stream calls that Linux's KVM-HV executed.
//!
//! `tests/data/kvm-sequences`: thousands of random but structured calls each, with every register and every
//! byte of every stream read recorded, on POWER8 (our ISA 2.07 format is held to it) and POWER9 (ISA 3.0).
//! Compared is
//! * every status and every result register of H_ENTER, H_REMOVE, H_READ, H_PROTECT, H_BULK_REMOVE;
//! * every full, filtered and started-later first pass, slot by slot: the whole table that is;
//! * every read of the persistent reader: what Linux's reader is told, ours has been told by then, with the
//!   same contents; and when Linux's pass ends, ours has been told nothing else, but for what another of
//!   Linux's readers took away from it (they share one bit);
//! * the table after every write, and what of a bad write was done.
//!
//! Where Linux does something that we do not (a *quirk*, tagged in the data), the answer is held to what is
//! right, the reason is counted under its name in [`REASONS`], and the table is brought to where Linux's is, so
//! that everything after it is compared as strictly. A difference without such a tag fails.
//!
//! Played, not called: H_CLEAR_REF and H_CLEAR_MOD (they come with issue 3), by H_READ, H_REMOVE and H_ENTER; R
//! and C of the guest's own loads and stores, in the real entry that translates the address as hardware sets
//! them. KVM's eight memory slots are given as far as the engine has regions; entries of the others are
//! absent here, which a guest does not see but for the size of a page that is refused.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod memory;
mod replay;
mod step;

use common::corpus::bytes;
use common::world::{Spec, Store, World};
use memory::MemorySlots;
use realhpt::table::Format;
use replay::Replay;
use serde_json::Value;
use step::Step;

/// What may be otherwise than in Linux, and why.
const REASONS: &[(&str, &str)] = &[
    (
        "read_invalid_leaks",
        "section 6: H_READ of a slot without an entry is zero",
    ),
    (
        "read_stale_RC_of_absent",
        "a copy of R and C that H_CLEAR_* forgot; the stream does not have it either",
    ),
    (
        "andcond",
        "H_ANDCOND tests the guest's dword 0, in which VALID is set and the hypervisor's bits are not",
    ),
    (
        "why_",
        "the page's memory slot is one that the engine has no region for: the entry is absent, any size fits",
    ),
    ("clear", "issue 3: H_CLEAR_REF and H_CLEAR_MOD are played"),
    (
        "write_ret_larger_than_count",
        "section 6: Linux reads 8 bytes beyond the buffer; they are given here",
    ),
    (
        "write_truncated_stop",
        "section 6: a record may be longer than the buffer; the rest is not given here",
    ),
    (
        "write_error_after_partial_effect",
        "section 6: of a bad piece nothing is done; Linux does what precedes the bad entry",
    ),
    (
        "small_buffer",
        "section 6: a buffer under 24 bytes is H_PARAMETER, not clean",
    ),
    (
        "reset",
        "section 6: a reader of a table that was reset gets H_CLOSED",
    ),
];

const R: u64 = 0x100;

const C: u64 = 0x80;

const EXACT: u64 = 1 << 39;

/// Linux's errno where H_ENTER refused an entry of a stream.
const EIO: u64 = 5;

/// The lock bit of Linux, which shows in its stream.
const LEAKED_LOCK: u64 = 0x40;

const SLOTS: u64 = 1 << 14;

fn replay(name: &str) {
    let file = bytes(&format!("kvm-sequences/{name}.jsonl.xz"));
    let steps: Vec<Value> = file
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    for (format, p9) in [(Format::V2_07, false), (Format::V3_0, true)] {
        let slots = MemorySlots::of(&steps[0]);
        let client = Spec::client(18).with_regions(&slots.given);
        let store = Store::new(&[Spec::agent(), client]);
        let world = World::new(&store, format);
        let mut replay = Replay::new(&world, slots.clone());
        for (number, value) in steps.iter().enumerate().skip(1) {
            let step = Step { value, p9 };
            let guard = Whereabouts {
                name,
                number: number + 1,
                format,
            };
            match step.text("t") {
                "op" => replay.op(step),
                "read" => replay.read(step),
                "vrma" => replay.vrma(step),
                "write" => replay.write(step),
                "reset" => replay.reset(),
                other => panic!("{other} is new"),
            }
            drop(guard);
        }
        let (compared, reasons) = replay.outcome();
        println!("{name} {format:?}: {compared} steps compared; otherwise: {reasons:?}");
        assert!(compared > 1000);
    }
}

/// Says at which line of which file a test failed.
struct Whereabouts<'n> {
    name: &'n str,
    number: usize,
    format: Format,
}

impl Drop for Whereabouts<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "at line {} of {}, {:?}",
                self.number, self.name, self.format
            );
        }
    }
}

macro_rules! sequences {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*
    };
}

sequences! { c01 c02 c03 c04 c05 c06 h01 r01 r02 r03 w01 w02 x01 }
