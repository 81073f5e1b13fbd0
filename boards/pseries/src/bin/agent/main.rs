//! The guest agent: streams and controls other partitions by hypercall.
//!
//! Its job stands in the window it shares with the host (`exchange`): a command line on its console, the
//! round trip of a table, a bench, the commands of a replay, or passes without end. A job's cases are reported to the hypervisor, whose verdict ends the
//! run; data and progress stand in the window.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod follow;
#[cfg(target_os = "none")]
mod job;
#[cfg(target_os = "none")]
mod replay;
#[cfg(target_os = "none")]
mod roundtrip;
#[cfg(target_os = "none")]
mod shell;
#[cfg(target_os = "none")]
mod stream;

#[cfg(target_os = "none")]
realhpt_pseries::entry!(job::main);

/// The program needs a partition under it; on the host there is only this.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs in a partition");
}
