//! The guest side: a small runtime for programs that run alone in a PAPR partition.
//!
//! A program says [`entry!`] with its main function and links with `linker/pseries.ld`. The runtime enters
//! at guest real 0x100 in real mode, asks the hypervisor what the partition is, enters HPTEs for the
//! program and for the window it shares with the host, turns translation on and calls main with a
//! `runtime::Runtime`. When main returns, the partition ends with main's value as its exit code. A program that
//! says `real_entry!` instead stays in real mode, and the runtime touches no table.
//!
//! Key modules: `hcall` (the calls, raw and typed), `mmu` (segments, hashes and HPTEs as a guest makes
//! them, sharing no code with the hypervisor under test), `guard` (accesses that are expected to fault),
//! `exception` (everything that is not expected ends the partition with a register frame on the console), `vcpu`
//! (starts further vCPUs).
//!
//! Effective addresses of the program and of the window equal their guest real addresses. So a buffer's
//! address is what a hypercall wants, and interrupt handlers, which run in real mode, see the same memory.
//!
//! On the host only [`exchange`] exists: the layout that the runner and the partitions share.
#![cfg_attr(target_os = "none", no_std)]

pub mod exchange;

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod exception;
#[cfg(target_os = "none")]
pub mod exit;
#[cfg(target_os = "none")]
pub mod guard;
#[cfg(target_os = "none")]
pub mod hcall;
#[cfg(target_os = "none")]
pub mod mmu;
#[cfg(target_os = "none")]
pub mod report;
#[cfg(target_os = "none")]
pub mod runtime;
#[cfg(target_os = "none")]
pub mod vcpu;
#[cfg(target_os = "none")]
pub mod window;

/// The hypercall ABI as the hypervisor publishes it.
#[cfg(target_os = "none")]
pub use realhpt::hcall::abi;
