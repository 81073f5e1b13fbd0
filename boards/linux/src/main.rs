//! `hptstress SECONDS [SEED]`: works Linux's memory management hard, and checks every byte.
//!
//! Processes map, write, protect, unmap and move memory, fork, send pages through pipes and swap pages of a pool
//! that all of them have: what makes a kernel enter, change and remove entries of its hashed page table. What is
//! read is always compared with what was written, and what must fault has to. It ends with status 0 and a closing
//! line, or with status 1 and a line that says what was wrong. The same seed does the same things; in which order
//! the processes do them is the scheduler's.
//!
//! The way through it: [`start`] is what the kernel enters; `run` makes the processes; each does rounds of
//! `work`, on the `pages` of its own and the `pool` of all; `system` has the system calls.
#![cfg_attr(target_arch = "powerpc64", no_std, no_main)]

#[cfg(target_arch = "powerpc64")]
mod pages;
#[cfg(target_arch = "powerpc64")]
mod pool;
#[cfg(target_arch = "powerpc64")]
mod run;
#[cfg(target_arch = "powerpc64")]
mod start;
#[cfg(target_arch = "powerpc64")]
mod system;
#[cfg(target_arch = "powerpc64")]
mod trouble;
#[cfg(target_arch = "powerpc64")]
mod work;

/// The program is built for Linux in a partition; on the host there is only this.
#[cfg(not(target_arch = "powerpc64"))]
fn main() {
    eprintln!("this program runs on Linux in a partition");
}
