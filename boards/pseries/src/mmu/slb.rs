//! The segment lookaside buffer (ISA 3.0B Book III section 5.9.3.1), which a partition's program fills itself.

use core::arch::asm;

use super::pte::{Segment, SegmentSize};

/// Entries that every processor with an HPT has.
pub const ENTRIES: u64 = 32;

/// Empties the SLB.
///
/// `slbia` leaves entry 0 alone, so that one is written as invalid first; the `isync` around them end earlier
/// and begin later translations.
///
/// # Safety
/// Nothing of the program may be translated.
pub unsafe fn clear() {
    // SAFETY: the caller runs in real mode.
    unsafe {
        asm!(
            "isync",
            "slbmte {zero}, {zero}",
            "slbia",
            "isync",
            zero = in(reg) 0_u64,
            options(nostack),
        );
    }
}

/// Puts a segment in SLB entry `slot` (below [`ENTRIES`]), where none for these effective addresses may be.
///
/// `isync` before: earlier accesses are translated without it; after: later ones with it.
///
/// # Safety
/// The segment must translate no address that the program refers to, or translate it as before.
pub unsafe fn insert(slot: u64, segment: &Segment) {
    // SAFETY: the caller's.
    unsafe { insert_raw(segment.esid_dword() | slot, segment.vsid_dword()) };
}

/// `slbmte` with RB and RS as given, whatever they say.
///
/// # Safety
/// As [`insert`]. Reserved encodings are interrupts.
pub unsafe fn insert_raw(rb: u64, rs: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("isync", "slbmte {rs}, {rb}", "isync", rs = in(reg) rs, rb = in(reg) rb, options(nostack))
    };
}

/// ESID and VSID doubleword of SLB entry `slot` (below [`ENTRIES`]), without its number.
#[must_use]
pub fn read(slot: u64) -> [u64; 2] {
    let (esid, vsid): (u64, u64);
    // SAFETY: reads.
    unsafe {
        asm!("slbmfee {e}, {n}", "slbmfev {v}, {n}", e = out(reg) esid, v = out(reg) vsid,
            n = in(reg) slot, options(nomem, nostack));
    }
    [esid, vsid]
}

/// Removes the segment and the translations that were made from it.
///
/// `slbie` wants the segment's B beside the ESID; an entry written with class 0 is removed with class 0.
///
/// # Safety
/// The program may refer to no address of the segment after it.
pub unsafe fn remove(segment: &Segment) {
    let b = match segment.size {
        SegmentSize::M256 => 0,
        SegmentSize::T1 => 1 << 25,
    };
    // SAFETY: the caller's.
    unsafe { asm!("isync", "slbie {}", "isync", in(reg) segment.base | b, options(nostack)) };
}
