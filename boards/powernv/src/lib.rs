//! The powernv board: everything of the bootable image but its main function.
//!
//! The way through it: `boot` has the first instructions and `start` the rest of the boot, which reads the
//! machine's device tree ([`tree`]) and the [`manifest`], lays out memory ([`layout`], `place`), makes the
//! `partitions` with the register values of [`mode`], puts into their memory what the `guests` start with, [`papr`] ones
//! with a device tree of their own, and starts the other CPUs (`smp`). Each CPU then `run`s whichever
//! vCPU of the `seats` is next. Guests leave through the
//! `vectors`; a hypercall goes to the engine from there, by one of the `entries`, any other exit through `exits`; an image
//! may have an `account` of what they cost. `opal`, `uart` and `logger` talk to the outside, `console` for the guests, with what
//! is kept for them in [`input`] and told apart by [`mux`]; [`rtc`] reads what OPAL says of the time; `unexpected` and `end` are
//! the ends that no verdict has.
//!
//! What is pure builds on the host too, for its tests.
#![no_std]

extern crate alloc;

pub mod input;
pub mod layout;
pub mod machine;
pub mod manifest;
pub mod mode;
pub mod mux;
pub mod papr;
pub mod rtc;
pub mod tree;

#[cfg(target_os = "none")]
pub mod account;
#[cfg(target_os = "none")]
pub mod board;
#[cfg(target_os = "none")]
pub mod boot;
#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod end;
#[cfg(target_os = "none")]
mod entries;
#[cfg(target_os = "none")]
pub mod exits;
#[cfg(target_os = "none")]
pub mod external;
#[cfg(target_os = "none")]
pub mod guests;
#[cfg(target_os = "none")]
pub mod logger;
#[cfg(target_os = "none")]
pub mod opal;
#[cfg(target_os = "none")]
pub mod partitions;
#[cfg(target_os = "none")]
pub mod place;
#[cfg(target_os = "none")]
pub mod run;
#[cfg(target_os = "none")]
pub mod seats;
#[cfg(target_os = "none")]
pub mod smp;
#[cfg(target_os = "none")]
pub mod start;
#[cfg(target_os = "none")]
pub mod time;
#[cfg(target_os = "none")]
pub mod translation;
#[cfg(target_os = "none")]
pub mod uart;
#[cfg(target_os = "none")]
pub(crate) mod unexpected;
#[cfg(target_os = "none")]
pub mod vectors;
