//! The processor as a partition's program sees it: MSR, translation, time, H_CEDE.

use core::arch::asm;

use bitflags::bitflags;

use crate::hcall;

bitflags! {
    /// Bits of the machine state register (ISA 3.0B Book III section 3.2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Msr: u64 {
        /// 64-bit mode.
        const SF = 1 << 63;
        /// Vector facility.
        const VEC = 1 << 25;
        /// VSX facility.
        const VSX = 1 << 23;
        /// External and decrementer interrupts are taken.
        const EE = 1 << 15;
        /// Problem state.
        const PR = 1 << 14;
        /// Floating point facility.
        const FP = 1 << 13;
        /// Machine checks are taken.
        const ME = 1 << 12;
        /// Instruction fetches are translated.
        const IR = 1 << 5;
        /// Data accesses are translated.
        const DR = 1 << 4;
        /// An interrupt now could be recovered from.
        const RI = 1 << 1;
        /// Little-endian mode.
        const LE = 1 << 0;
        const _ = !0;
    }
}

impl Msr {
    /// Real mode: no translation.
    pub const REAL: Self = Self::SF.union(Self::ME).union(Self::RI);
    /// Instruction fetches real, data translated.
    pub const DATA: Self = Self::REAL.union(Self::DR);
    /// Fetches and data translated: what main runs with.
    pub const TRANSLATED: Self = Self::DATA.union(Self::IR);
    /// Problem state, which is always translated.
    pub const PROBLEM: Self = Self::TRANSLATED.union(Self::PR);
}

/// The MSR.
#[must_use]
pub fn msr() -> Msr {
    let bits: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfmsr {}", out(reg) bits, options(nomem, nostack)) };
    Msr::from_bits_retain(bits)
}

/// Sets the MSR and goes on after it.
///
/// `rfid` changes instruction address, IR, DR and everything else at one point, context-synchronized;
/// `mtmsrd` would leave the switch of IR to the fetches that are already under way. The address to go on at
/// is found by `bcl 20,31,.+4`, the form of a branch that says "here" and is not taken for a call by the
/// processor's return stack.
///
/// # Safety
/// The program and its stack must be mapped 1:1 if the new MSR translates. It must stay in supervisor state,
/// 64-bit, big-endian, with EE off (the interrupts that EE admits are handled in [`cede`] and under a
/// [`crate::guard`] only).
pub unsafe fn set_msr(new: Msr) {
    // SAFETY: the caller vouches for the new state; memory is what it was, as the mapping is 1:1.
    unsafe {
        asm!(
            "bcl 20, 31, 2f",
            "2: mflr {here}",
            "addi {here}, {here}, 3f - 2b",
            "mtsrr0 {here}",
            "mtsrr1 {msr}",
            "rfid",
            "3:",
            here = out(reg_nonzero) _,
            msr = in(reg) new.bits(),
            out("lr") _,
        );
    }
}

/// Runs `f` under another MSR and comes back.
///
/// # Safety
/// As [`set_msr`]; and what `f` reaches must be mapped, or be real memory, under that MSR.
pub unsafe fn with_msr<R>(new: Msr, f: impl FnOnce() -> R) -> R {
    let before = msr();
    // SAFETY: the caller vouches for it.
    unsafe { set_msr(new) };
    let result = f();
    // SAFETY: the program ran under this MSR before.
    unsafe { set_msr(before) };
    result
}

/// The timebase. The powernv machines and their partitions count 512 MHz.
#[must_use]
pub fn timebase() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 268", out(reg) ticks, options(nomem, nostack)) };
    ticks
}

/// Ticks of the timebase in a millisecond.
pub const TICKS_PER_MS: u64 = 512_000;

/// Sets the decrementer to `ticks`; at most 2^31 - 1 of them count.
fn set_decrementer(ticks: u64) {
    let ticks = ticks.min(0x7fff_ffff);
    // SAFETY: the decrementer's interrupt is taken only in `cede`, where it is expected.
    unsafe { asm!("mtspr 22, {}", in(reg) ticks, options(nomem, nostack)) };
}

/// Puts the decrementer's interrupt off for as long as it can be.
pub(crate) fn quiet_decrementer() {
    set_decrementer(u64::MAX);
}

/// Gives the processor up for about `ticks` of the timebase, or less.
///
/// H_CEDE turns MSR[EE] on (LoPAR 14.11.4.1), so the decrementer's interrupt is delivered, here or before
/// the call returns; its handler puts the decrementer off. `mtmsrd` with L = 1 then turns EE off again
/// without touching anything but EE and RI.
pub fn cede(ticks: u64) {
    set_decrementer(ticks);
    hcall::cede();
    // SAFETY: sets RI, as it was, and clears EE.
    unsafe { asm!("mtmsrd {}, 1", in(reg) Msr::RI.bits(), options(nostack)) };
    quiet_decrementer();
}
