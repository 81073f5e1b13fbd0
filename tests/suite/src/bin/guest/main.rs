//! The suite's guest: in the partition with the privilege to report it runs the cases, elsewhere it is a client.
//!
//! A case is a function of the [`bench::Bench`], which has what a case needs and clears away what it leaves. It
//! runs under a guard: an interrupt that it did not expect fails it by name, and the next case goes on.
//! What is expected and what was found goes to the log as a note before the case's own line.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod attack;
#[cfg(target_os = "none")]
mod bench;
#[cfg(target_os = "none")]
mod cases;
#[cfg(target_os = "none")]
mod client;
#[cfg(target_os = "none")]
mod code;
#[cfg(target_os = "none")]
mod crowd;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod run;
#[cfg(target_os = "none")]
mod stream;
#[cfg(target_os = "none")]
mod stress;
#[cfg(target_os = "none")]
mod trouble;

#[cfg(target_os = "none")]
realhpt_pseries::entry!(run::main);

/// The program needs a partition under it; on the host there is only this.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs in a partition");
}
