//! The machine under the engine: one trait, and one switch between the two that implement it.
//!
//! [`Machine`] is all the engine knows of the processor: the TLB instructions and barriers that keep a real
//! HPT coherent (ISA 3.0B Book III section 5.10), the byte store that R of a live entry is cleared with, and
//! guest memory by host real address: doublewords and words, and what is done to pages as a whole; and the few
//! registers of a guest that hypercalls set or need.
//! `powerpc64` has the instructions; `host` records what was asked for and plays a hardware that
//! sets R and C as late as it may, so that tests can hold the engine to its orderings. `arrays` is the memory that the
//! engine's tables are in.

use crate::addr::{HostReal, Lpid};
use crate::sync::BeDword;

pub mod arrays;
#[cfg(not(target_os = "none"))]
pub mod host;
#[cfg(target_os = "none")]
pub mod powerpc64;

/// Bound on the CPUs of a machine: sets of them are the bits of a doubleword.
pub const MAX_CPUS: usize = 64;

/// Registers of a vCPU that it sets by hypercall. They are in the processor while it makes the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuestRegister {
    /// For software.
    Sprg0,
    /// Breaks when the instruction at an address completes.
    Ciabr,
    /// The address of a watchpoint.
    Dawr0,
    /// What of it is watched.
    Dawrx0,
    /// The address of the second watchpoint (ISA 3.1).
    Dawr1,
    /// What of it is watched.
    Dawrx1,
}

/// What the engine needs of a processor.
pub trait Machine {
    /// Begins an invalidation: earlier stores to the HPT (VALID cleared) are performed before the tlbie that
    /// follow. `ptesync`.
    fn ptesync(&self);

    /// Invalidates the translation of one entry on every thread: `tlbie` with RB as
    /// [`crate::table::tlb::operand`] makes it and RS = LPID.
    fn tlbie(&self, rb: u64, lpid: Lpid);

    /// Ends an invalidation: every thread has dropped the translations and their R and C are in memory.
    /// `eieio; tlbsync; ptesync`.
    fn tlbsync(&self);

    /// Invalidates the translation of one entry on this CPU alone: `tlbiel`. For the partition that LPIDR
    /// names, where no other CPU remembers any of its translations.
    fn tlbiel(&self, rb: u64);

    /// Ends an invalidation on this CPU alone: `ptesync`.
    fn tlbiel_sync(&self);

    /// Drops every translation of the partition, and waits until that is done: on every CPU, or on this one,
    /// as [`Machine::forgets_everywhere`] says.
    fn flush_lpid(&self, lpid: Lpid);

    /// Whether [`Machine::flush_lpid`] reaches every CPU. Else each one that ran the partition has to do it.
    fn forgets_everywhere(&self) -> bool;

    /// Has a CPU leave guest state soon; or as soon as it enters it, if it is in the hypervisor now. What was
    /// stored before is seen by then.
    fn kick(&self, cpu: usize);

    /// Orders the store of dword 1 before that of dword 0 as hardware's table walk sees them: `eieio`.
    fn eieio(&self);

    /// Stores one byte of a doubleword that hardware may be storing other bytes of: `stb`. Bytes are counted as
    /// they lie in memory, so 6 has R of a dword 1 and 7 has C. (A wider store would put back the byte that
    /// hardware has set a bit in; a byte as an atomic of its own beside the doubleword is undefined in Rust.)
    fn store_byte(&self, dword: &BeDword, number: usize, value: u8);

    /// Reads a doubleword of guest memory as big-endian. `at` is 8-byte aligned and came from a region.
    fn load(&self, at: HostReal) -> u64;

    /// Writes a doubleword of guest memory as big-endian. `at` is 8-byte aligned and came from a region.
    fn store(&self, at: HostReal, value: u64);

    /// Writes a word of guest memory as big-endian, and nothing beside it. `at` is 4-byte aligned and came from a
    /// region.
    fn store_word(&self, at: HostReal, value: u32);

    /// Whether guests may have this register: the processor has it, and no value in it harms others.
    fn has(&self, register: GuestRegister) -> bool;

    /// Sets a register of the vCPU that makes the hypercall. It is one that the processor has.
    fn set(&self, register: GuestRegister, value: u64);

    /// The time base.
    fn time_base(&self) -> u64;

    /// Zeroes guest memory that came from a region; address and length are multiples of 128. `dcbz`.
    fn zero(&self, at: HostReal, bytes: u64);

    /// Makes what was stored in guest memory visible to instruction fetch: `dcbst; sync; icbi; sync; isync`.
    fn synchronise_instructions(&self, at: HostReal, bytes: u64);
}

/// One turn of a spin loop, where no [`Machine`] is at hand: gives the core to its other threads for a while.
#[inline]
pub fn relax() {
    #[cfg(target_os = "none")]
    powerpc64::relax();
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(any(loom, target_os = "none")))]
    core::hint::spin_loop();
}
