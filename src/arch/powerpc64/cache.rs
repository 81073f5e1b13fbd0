//! What is done a cache block at a time.

use core::arch::asm;

use super::isync;
use crate::addr::HostReal;

/// Bytes of a cache block on every POWER server processor.
const BLOCK: usize = 128;

/// Zeroes memory, a block with each `dcbz`.
///
/// # Safety
/// The memory is the caller's to write and no Rust reference to it exists; address and length are multiples
/// of 128.
pub unsafe fn zero(at: HostReal, bytes: u64) {
    for block in (at.raw()..at.raw() + bytes).step_by(BLOCK) {
        // SAFETY: inside the caller's memory.
        unsafe { asm!("dcbz 0, {at}", at = in(reg) block, options(nostack, preserves_flags)) };
    }
}

/// Makes instructions that were stored as data visible to instruction fetch: each block to memory, then out
/// of the instruction cache (ISA 3.0B Book II section 1.8).
pub fn synchronise_instructions(at: HostReal, bytes: u64) {
    let blocks = || (at.raw() & !(BLOCK as u64 - 1)..at.raw() + bytes).step_by(BLOCK);
    for block in blocks() {
        // SAFETY: changes no content.
        unsafe { asm!("dcbst 0, {at}", at = in(reg) block, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
    for block in blocks() {
        // SAFETY: changes no content.
        unsafe { asm!("icbi 0, {at}", at = in(reg) block, options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("sync", options(nostack, preserves_flags)) };
    isync();
}
