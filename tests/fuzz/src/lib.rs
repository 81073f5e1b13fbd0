//! What the fuzzer runs (`tests/fuzz/run`). The targets are shells around the functions here, and `tests/fuzz_corpus`
//! runs the inputs that were found through the same functions.
//!
//! * `hcalls`: bytes are operations for `tests/model`, which holds each answer to what it must be.
//! * `writer`: bytes are written as a stream, in pieces of any length, beside the model's expectation.
//! * `files`: bytes are a file for each of the readers of `boards/qemu`.
//!
//! An input is good if it is run without a panic.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a finding is a panic"
)]

mod bytes;
#[path = "../../common/mod.rs"]
mod common;
#[path = "../../model/entry.rs"]
mod entry;
mod files;
mod hcalls;
#[path = "../../model/machine/mod.rs"]
mod machine;
#[path = "../../model/ops.rs"]
mod ops;
mod writer;
#[path = "../../model/written.rs"]
mod written;

/// Runs operations on the engine and the model.
pub fn hcalls(data: &[u8]) {
    hcalls::run(data);
}

/// Writes bytes as a stream.
pub fn writer(data: &[u8]) {
    writer::run(data);
}

/// Reads bytes as a file.
pub fn files(data: &[u8]) {
    files::run(data);
}
