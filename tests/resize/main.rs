//! H_CLEAR_HPT, H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT: what becomes of a table when it is emptied in use or
//! replaced by one of another order.
//!
//! * Where an entry of a resized table belongs is computed here from its full virtual address ([`page`]), which no
//!   HPTE holds: the engine has to rebuild it.
//! * Random tables, resized while they change, are compared with a rehash from scratch ([`model`]).
//! * Each answer of LoPAR's, in its order of checks ([`answers`]); what a commit does to readers and writers, to R
//!   and C, and in which order ([`commit`]).
//! * T13: readers and writers of a table that was replaced or reset. T31: what stands beside the entries goes with
//!   them: guest view and bitmaps. T32: a flush of the LPID on replacing. T38: prepares over and over, and a commit
//!   that fails. T39: everybody is told the order.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod clear;
mod commit;
mod model;
mod page;

use common::world::{CLIENT, Spec, Store, World};
use realhpt::hcall::abi::{self, Status};
use realhpt::table::Format;

const FORMATS: [Format; 2] = [Format::V2_07, Format::V3_0];
const EXACT: u64 = 1 << 39;
const BOLTED: u64 = 0x10;
const R: u64 = 0x100;
const C: u64 = 0x80;
/// The largest order that the client may resize its table to.
const LARGEST: u32 = 22;

/// Memory of an agent and a client with a table of this order that it may resize.
fn store(order: u32) -> Store {
    Store::new(&[Spec::agent(), Spec::client(order).resizable(LARGEST)])
}

/// The same in a machine, in memory that is never given back.
fn leaked(order: u32, format: Format) -> World<'static> {
    World::new(Box::leak(Box::new(store(order))), format)
}

fn prepare(world: &World<'_>, order: u32) -> Status {
    let arguments = [0, u64::from(order)];
    world
        .call(CLIENT, abi::H_RESIZE_HPT_PREPARE, &arguments)
        .status()
}

/// Prepares as Linux does: again for as long as it is told to.
fn prepare_all(world: &World<'_>, order: u32) -> Status {
    assert_eq!(prepare(world, order), Status::LongBusyOrder100Msec);
    for _ in 0..1100 {
        match prepare(world, order) {
            Status::LongBusyOrder1Msec => {}
            status => return status,
        }
    }
    panic!("the prepares do not end");
}

fn commit(world: &World<'_>, order: u32) -> Status {
    let arguments = [0, u64::from(order)];
    world
        .call(CLIENT, abi::H_RESIZE_HPT_COMMIT, &arguments)
        .status()
}

fn resize(world: &World<'_>, order: u32) {
    assert_eq!(prepare_all(world, order), Status::Success);
    assert_eq!(commit(world, order), Status::Success);
    assert_eq!(world.client().table().order().raw(), order);
}

fn enter(world: &World<'_>, slot: u64, (v, r): (u64, u64)) -> Status {
    world
        .call(CLIENT, abi::H_ENTER, &[EXACT, slot, v, r])
        .status()
}

fn remove(world: &World<'_>, slot: u64) -> Status {
    world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0]).status()
}
