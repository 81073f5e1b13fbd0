//! The SLB: 32 entries that say which virtual segment an effective segment is.

use core::arch::asm;

use super::isync;
use crate::addr::EffAddr;
use crate::lpar::vcpu::{SLB_ENTRIES, SlbEntry};

/// RB of `slbmte`, and what `slbmfee` reads: V.
const VALID: u64 = 0x0800_0000;

/// Reads all entries. `slbmfee` gives ESID and V of the entry whose index is in RB, `slbmfev` its VSID
/// doubleword; what `slbmte` takes to make it again is both and the index.
pub fn save(entries: &mut [SlbEntry; SLB_ENTRIES]) {
    for (index, entry) in (0_u64..).zip(entries) {
        let (esid, vsid): (u64, u64);
        // SAFETY: reads.
        unsafe {
            asm!("slbmfee {esid}, {index}", "slbmfev {vsid}, {index}", index = in(reg) index,
                esid = out(reg) esid, vsid = out(reg) vsid, options(nomem, nostack, preserves_flags));
        }
        *entry = if esid & VALID != 0 {
            SlbEntry {
                esid: esid | index,
                vsid,
            }
        } else {
            SlbEntry::default()
        };
    }
}

/// Replaces all entries. `slbia` spares entry 0, so that one is overwritten with an invalid entry first; it
/// also drops what the processor remembers of translations through the old segments. The `isync` before
/// and after keep accesses on their side; here, with translation off, they matter for the guest's.
pub fn load(entries: &[SlbEntry; SLB_ENTRIES]) {
    // SAFETY: the hypervisor itself does not translate.
    unsafe {
        asm!("isync", "slbmte {zero}, {zero}", "slbia", "isync", zero = in(reg) 0_u64,
            options(nostack, preserves_flags));
    }
    for entry in entries.iter().filter(|entry| entry.esid & VALID != 0) {
        // SAFETY: an entry that a guest made and `save` read.
        unsafe {
            asm!("slbmte {vsid}, {esid}", vsid = in(reg) entry.vsid, esid = in(reg) entry.esid,
                options(nostack, preserves_flags));
        }
    }
    isync();
}

/// The VSID doubleword of the entry that translates an address: what POWER9 puts into ASDR and POWER8 leaves
/// to be searched. `slbfee.` sets `CR0[EQ]` if there is one; `mfcr` brings that bit to where Rust can see it.
#[must_use]
pub fn find(at: EffAddr) -> Option<u64> {
    const CR0_EQ: u64 = 1 << 29;
    let (vsid, cr): (u64, u64);
    // SAFETY: reads.
    unsafe {
        asm!("slbfee. {vsid}, {at}", "mfcr {cr}", at = in(reg) at.raw(), vsid = out(reg) vsid,
            cr = out(reg) cr, out("cr0") _, options(nomem, nostack));
    }
    (cr & CR0_EQ != 0).then_some(vsid)
}
