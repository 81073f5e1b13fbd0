//! The host side of realhpt: `cargo run` is this.
//!
//! A run goes top-down through the modules: [`cli`] says what is wanted; [`setup`] fetches what the machine
//! lacks (by [`apt`] where it must); [`images`] builds the hypervisor and its guests; [`manifest`] describes
//! the partitions; [`machine`] starts QEMU; [`session`] watches it, with [`log`] for what the image says and
//! [`verdict`] for what that means; [`exchange`] carries tables in and out through the machine's memory; and
//! [`tables`] reads, writes and compares them.
//!
//! [`agent`] drives the agent while its machine runs. [`mod@guest`] runs Linux and other programs for PAPR, one or several at once, with the
//! machine's console on this terminal.
//!
//! [`scale`] needs no machine: it makes tables of the largest orders by the library alone, in memory that is only reserved
//! ([`zeroed`]).
//!
//! It is a library so that the on-target tests (`tests/on_target.rs`) drive the same machine ([`suite`]).

pub mod agent;
pub mod apt;
pub mod bench;
pub mod boot;
pub mod cli;
pub mod exchange;
pub mod guest;
pub mod images;
pub mod interrupt;
pub mod keys;
pub mod library;
mod lines;
pub mod log;
pub mod machine;
pub mod manifest;
pub mod progress;
pub mod replay;
pub mod roundtrip;
pub mod scale;
pub mod session;
pub mod setup;
pub mod suite;
pub mod tables;
pub mod terminal;
pub mod verdict;
pub mod zeroed;

use std::path::Path;

/// The workspace that this program was built from.
#[must_use]
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    // This package stands two levels down, in boards/qemu.
    package.ancestors().nth(2).unwrap_or(package)
}
