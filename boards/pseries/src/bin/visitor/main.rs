//! The visitor: makes single accesses in a partition whose table is a record of somebody else's.
//!
//! It lives in guest real mode, by the entries that the record has for that, and neither enters nor removes one:
//! what the hypervisor's table and hardware's R and C become is what the accesses make of them. The runner puts
//! an access into the mailbox (`exchange::visit`) and has the agent let the partition run for a moment; the
//! visitor makes it with data translated by the one SLB entry that it is given, notes how it went, and cedes.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod visit;

#[cfg(target_os = "none")]
realhpt_pseries::real_entry!(visit::main);

/// The program needs a partition under it; on the host there is only this.
#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this program runs in a partition");
}
