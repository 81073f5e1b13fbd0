//! Cache-inhibited loads and stores for devices.
//!
//! With translation off every ordinary access is cached; `lbzcix` and its kin (ISA 3.0B Book III section
//! 4.4.1) are the way to a device in real mode. Each access here is followed by `eieio`, so accesses reach
//! a device in the order of the program, and reads are waited for before the value is used to decide.

use core::arch::asm;

/// Reads a byte.
///
/// # Safety
/// `at` is a register of a device that may be read at this point.
#[must_use]
pub unsafe fn load_u8(at: u64) -> u8 {
    let value: u64;
    // SAFETY: the caller's; RA = 0 stands for the number zero.
    unsafe {
        asm!("lbzcix {value}, 0, {at}", "eieio", value = out(reg) value, at = in(reg) at,
            options(nostack, preserves_flags));
    }
    value.to_le_bytes()[0]
}

/// Writes a byte.
///
/// # Safety
/// `at` is a register of a device that may be written at this point.
pub unsafe fn store_u8(at: u64, value: u8) {
    // SAFETY: the caller's.
    unsafe {
        asm!("stbcix {value}, 0, {at}", "eieio", value = in(reg) u64::from(value), at = in(reg) at,
            options(nostack, preserves_flags));
    }
}

/// Reads a big-endian word.
///
/// # Safety
/// As [`load_u8`].
#[must_use]
pub unsafe fn load_u32(at: u64) -> u32 {
    let value: u64;
    // SAFETY: the caller's.
    unsafe {
        asm!("lwzcix {value}, 0, {at}", "eieio", value = out(reg) value, at = in(reg) at,
            options(nostack, preserves_flags));
    }
    // Its upper half is zero.
    u32::try_from(value).unwrap_or(0)
}

/// Writes a big-endian word.
///
/// # Safety
/// As [`store_u8`].
pub unsafe fn store_u32(at: u64, value: u32) {
    // SAFETY: the caller's.
    unsafe {
        asm!("stwcix {value}, 0, {at}", "eieio", value = in(reg) u64::from(value), at = in(reg) at,
            options(nostack, preserves_flags));
    }
}

/// Reads a big-endian doubleword.
///
/// # Safety
/// As [`load_u8`].
#[must_use]
pub unsafe fn load_u64(at: u64) -> u64 {
    let value: u64;
    // SAFETY: the caller's.
    unsafe {
        asm!("ldcix {value}, 0, {at}", "eieio", value = out(reg) value, at = in(reg) at,
            options(nostack, preserves_flags));
    }
    value
}

/// Writes a big-endian doubleword.
///
/// # Safety
/// As [`store_u8`].
pub unsafe fn store_u64(at: u64, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("stdcix {value}, 0, {at}", "eieio", value = in(reg) value, at = in(reg) at,
            options(nostack, preserves_flags));
    }
}
