//! The suite's image: the bootable image with the hypercalls of [`realhpt_suite::raw`].
//!
//! It finds the real HPT where the processor does, in SDR1 or the partition table (ISA 3.0B Book III section
//! 5.7.6): the engine that is under test has no part in it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod raw;

#[cfg(target_os = "none")]
realhpt_powernv::entry!(raw::main);

/// The program needs the machine under it; on the host there is only this.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs on a powernv machine");
}
