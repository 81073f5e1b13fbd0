//! realhpt: a hashed-page-table engine for POWER.
//!
//! The library is the engine: the real HPT that hardware walks, the guest view beside it, the bitmaps, the
//! chunked stream and the PAPR calls over them. It has no operating system under it and no allocator; the
//! memory it works on is handed to it. A board (`boards/powernv`) is a shell around it.
//!
//! The arrows point one way: boards -> [`hcall`] -> [`lpar`] -> [`stream`] -> [`table`] -> [`memory`],
//! [`addr`], [`arch`]. So the way of an H_ENTER reads top-down: vector 0xC00, `hcall::dispatch`,
//! `hcall::enter`, `memory` translates, `table` claims and publishes the slot, `arch` orders the stores. What time it is
//! is said by [`calendar`]'s words.
#![no_std]

#[cfg(any(test, not(target_os = "none")))]
extern crate std;

pub mod addr;
pub mod arch;
pub mod calendar;
pub mod hcall;
pub mod log;
pub mod lpar;
pub mod memory;
pub mod stream;
pub mod sync;
pub mod table;
