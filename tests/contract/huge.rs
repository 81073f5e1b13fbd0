//! Tables of any order: their memory is there where it is touched.

use core::slice::from_raw_parts;

use crate::common::world::{AGENT, AGENT_MEMORY, Board, World, recording};
use memmap2::{MmapMut, MmapOptions};
use realhpt::addr::{GuestReal, HostReal, Lpid};
use realhpt::hcall::abi::Privileges;
use realhpt::lpar::{Description, Partition, System};
use realhpt::memory::{Region, Regions};
use realhpt::sync::{AtomicU64, BeDword};
use realhpt::table::{Format, Memory, Order};

/// Zeroed doublewords that are never given back.
fn zeros(words: u64) -> &'static MmapMut {
    let mut options = MmapOptions::new();
    let options = options.len(usize::try_from(words * 8).unwrap());
    let zeros = options.no_reserve_swap().map_anon().unwrap();
    Box::leak(Box::new(zeros))
}

/// An agent that has a table of this order, and nobody else.
pub(crate) fn huge(order: u32, format: Format) -> World<'static> {
    let order = Order::new(order).unwrap();
    let (hpt, beside) = (zeros(2 * order.slots()), zeros(Memory::words_beside(order)));
    // SAFETY: the mapping is page-aligned, zero, as long as this and never ends; a doubleword of the table is transparent
    // over an atomic one.
    let hpt = unsafe { from_raw_parts(hpt.as_ptr().cast::<BeDword>(), hpt.len() / 8) };
    // SAFETY: the same.
    let beside = unsafe { from_raw_parts(beside.as_ptr().cast::<AtomicU64>(), beside.len() / 8) };
    let memory = Memory::new(order, hpt, beside).unwrap();
    let mut regions = Regions::new();
    let region = Region::new(GuestReal::new(0), HostReal::new(0), AGENT_MEMORY).unwrap();
    regions.add(region).unwrap();
    let description = Description {
        name: "agent",
        lpid: Lpid::new(AGENT),
        privileges: Privileges::CONTROL,
        regions,
        shared: None,
        entry: GuestReal::new(0x100),
        vcpus: 1,
    };
    let mut system = System::new(recording());
    let added = system.add(Partition::new(description, format, memory));
    assert!(added.is_ok());
    World {
        system,
        board: Board::default(),
    }
}
