//! Holds the engine to what PAPR says of a platform: modes and registers, RTAS, interrupts, the areas of vCPUs.
//!
//! Calls are made by a guest with two vCPUs, as guests make them; what they do to a processor is seen in what the
//! machine records. Error codes are those that LoPAR, or where it is silent QEMU and KVM, give; an input that means no
//! good is refused and nothing is done.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod modes;
mod rtas;
mod vpa;
mod xics;

use common::world::{CLIENT, Store, World};
use realhpt::hcall::abi::Status;
use realhpt::table::Format;

/// The status of a call of the client's first vCPU.
fn status(world: &World<'_>, token: u64, arguments: &[u64]) -> Status {
    world.call(CLIENT, token, arguments).status()
}

/// A world with a client, whose first `vcpus` vCPUs are on the CPUs of the same number.
fn running(store: &Store, vcpus: usize) -> World<'_> {
    let world = World::new(store, Format::V3_0);
    world.start(CLIENT, vcpus);
    world
}
