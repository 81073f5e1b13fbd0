//! The client: a partition's program that makes an HPT change in every way a guest can.
//!
//! It runs in a partition whose table holds somebody else's entries. It enters pages of all sizes in
//! segments of its own, loads and stores through them (so hardware sets R and C), changes their protection,
//! removes some, does the same to a few of the entries it found, and checks at each step what memory, the
//! faults and H_READ say. Between the steps it cedes, so that readers of the stream see it at work. How every
//! slot it touched must look at last stands in its journal (`exchange`).
//!
//! It ends with code 0, or with another and a line that says what was wrong.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod journal;
#[cfg(target_os = "none")]
mod pages;
#[cfg(target_os = "none")]
mod steps;
#[cfg(target_os = "none")]
mod trouble;

#[cfg(target_os = "none")]
realhpt_pseries::entry!(steps::main);

/// The program needs a partition under it; on the host there is only this.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs in a partition");
}
