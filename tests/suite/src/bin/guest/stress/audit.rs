//! What the hypervisor keeps of a table, slot by slot: against what a reader was told of it.
//!
//! For a table that stands still, of a partition that was paused or never ran, and whose changes its readers have
//! been told. The real entry is derived here once more, from the ISA's two formats.

use realhpt_pseries::{
    hcall::{Hpte, hcall},
    mmu::pte::{R_C, R_KEY_HI, R_KEY_LO, R_M, R_N, R_PP, R_PP0, R_R, V_VALID},
};
use realhpt_suite::raw::{LOOK, bitmap};

use crate::{
    registers::is_power8,
    trouble::{Outcome, same},
};

/// Dword 0: an entry without memory behind it, in place of VALID.
const ABSENT: u64 = 0x20;
/// ISA 3.0: dword 0 lacks B, which dword 1 has.
const WITHOUT_B: u64 = 0x000f_ffff_ffff_ffff;
const B_SHIFT: u32 = 58;
/// Dword 1: what the real entry has as the guest gave it.
const FIELDS: u64 = R_PP0 | R_KEY_HI | R_KEY_LO | R_N | R_PP | R_R | R_C;
/// Dword 1: the real page number and what a large page has in place of its low bits.
const RPN: u64 = 0x01ff_ffff_ffff_f000;

/// The partition whose table it is, as far as its entries show it.
#[derive(Debug)]
pub(crate) struct Audit {
    lpar: u64,
    /// Bytes of memory from guest real 0.
    memory: u64,
    /// Whether what is behind that is a window; else it is nothing.
    window: bool,
    /// Host real address of guest real 0, once an entry has shown it.
    base: Option<u64>,
}

impl Audit {
    pub(crate) const fn new(lpar: u64, memory: u64, window: bool) -> Self {
        Self {
            lpar,
            memory,
            window,
            base: None,
        }
    }

    /// Compares a slot with what is known of it: zeros if it is free.
    pub(crate) fn slot(&mut self, slot: u64, (v, r): Hpte) -> Outcome {
        let mut registers = [LOOK, self.lpar, slot, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: it only looks.
        unsafe { hcall(&mut registers) };
        let [status, dw0, dw1, view, bits, ..] = registers;
        same("status of the look", 0, status)?;
        if v == 0 {
            same("real dword 0 of a free slot", 0, dw0)?;
            same("real dword 1 of a free slot", 0, dw1)?;
            let bits = bits & !bitmap::UNSETTLED_SUMMARY;
            return same("bits of a free slot", 0, bits);
        }
        same("guest view", r, view)?;
        let settled = r & R_R != 0 && (r & R_C != 0 || is_read_only(r));
        let is_absent = !self.window && r & RPN >= self.memory;
        let mut expected = bitmap::OCCUPIED;
        if !settled && !is_absent {
            expected |= bitmap::UNSETTLED | bitmap::UNSETTLED_SUMMARY;
        }
        let bits = if settled || is_absent {
            bits & !bitmap::UNSETTLED_SUMMARY
        } else {
            bits
        };
        same("bits of an entry", expected, bits)?;
        let state = if is_absent { ABSENT } else { V_VALID };
        let (real_v, b) = if is_power8() {
            (v, 0)
        } else {
            (v & WITHOUT_B, v >> 62 << B_SHIFT)
        };
        same("real dword 0", real_v & !V_VALID | state, dw0)?;
        if is_absent {
            return same("real dword 1 of an absent entry", b, dw1);
        }
        same(
            "real dword 1 but for its page",
            r & FIELDS | R_M | b,
            dw1 & !RPN,
        )?;
        if r & RPN < self.memory {
            let base = (dw1 & RPN).wrapping_sub(r & RPN);
            let known = *self.base.get_or_insert(base);
            same("host real address of the memory", known, base)?;
        }
        Ok(())
    }
}

/// pp0, pp = 011, 110, 111: no key may write the page.
const fn is_read_only(r: u64) -> bool {
    let pp = (r & R_PP0) >> 61 | r & R_PP;
    matches!(pp, 0b011 | 0b110 | 0b111)
}
