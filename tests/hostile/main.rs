//! Holds the engine to what it owes a guest that means no good: an answer, and nothing done.
//!
//! Handles that are wild, foreign, closed or of another generation; buffers outside memory, unaligned, wrapping,
//! across two regions; calls without the privilege, from problem state, of unknown tokens; writes to a running
//! partition; readers beyond the slots; junk in every register. Each is refused with the code that DESIGN
//! sections 6 and 7 say, registers that have no result keep what they held, and whatever was open goes on as
//! if nothing had been. A call that reached outside every partition's memory would panic in `Recording`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod buffers;
#[path = "../common/mod.rs"]
mod common;
mod handles;
mod junk;
mod privileges;
mod proxy;
mod races;

use common::world::{JUNK, Spec, Store, World};
use realhpt::hcall::abi::{self, OpenFlags, Status};

const WRITE: u64 = OpenFlags::WRITE.bits();

/// A third partition, with a table and memory of its own and no privilege.
const OTHER: u16 = 3;

const ENTRY: (u64, u64) = (0x4000_0045_6789_0081, 0x1192);

fn store() -> Store {
    let other = Spec {
        lpid: OTHER,
        ..Spec::client(18).with_regions(&[(0, 1 << 40, 16 << 20)])
    };
    Store::new(&[Spec::agent(), Spec::client(18).resizable(19), other])
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
