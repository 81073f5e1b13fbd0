//! The inputs that the fuzzer found (`tests/data/fuzz`), each through the function that found it: none panics. How
//! they came to be, and how to find more: `tests/fuzz/run`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../fuzz/src/bytes.rs"]
mod bytes;
#[path = "../common/mod.rs"]
mod common;
#[path = "../model/entry.rs"]
mod entry;
#[path = "../fuzz/src/files.rs"]
mod files;
#[path = "../fuzz/src/hcalls.rs"]
mod hcalls;
#[path = "../model/machine/mod.rs"]
mod machine;
#[path = "../model/ops.rs"]
mod ops;
#[path = "../fuzz/src/writer.rs"]
mod writer;
#[path = "../model/written.rs"]
mod written;

use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs each of a target's inputs. A failing one is named.
fn replay(target: &str, run: fn(&[u8])) {
    let bytes = common::corpus::bytes(&format!("fuzz/{target}.tar.xz"));
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut ran = 0;
    for file in archive.entries().unwrap() {
        let mut file = file.unwrap();
        if !file.header().entry_type().is_file() {
            continue;
        }
        let mut input = Vec::new();
        file.read_to_end(&mut input).unwrap();
        let name = file.path().unwrap().display().to_string();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&input))) {
            eprintln!("{target}: the input {name} failed");
            resume_unwind(panic);
        }
        ran += 1;
    }
    assert!(ran > 0, "{target}: there is no input");
    println!("{target}: {ran} inputs");
}

#[test]
fn hypercalls_do_as_the_model() {
    replay("hcalls", hcalls::run);
}

#[test]
fn what_is_written_is_applied_as_far_as_it_is_good() {
    replay("writer", writer::run);
}

#[test]
fn files_are_read_or_refused_in_a_line() {
    replay("files", files::run);
}
