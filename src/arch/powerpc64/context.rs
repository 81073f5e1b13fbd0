//! Moving the rest of a guest's state between the processor and its [`Context`].
//!
//! [`save`] uses some of the registers up (f0, v0; the counters stand still from then on); [`load`] overwrites
//! every one of them, so nothing of the last guest is left for the next.

use core::arch::global_asm;

use super::{drop_reservation, isync, slb, spr, time_base};
use crate::lpar::vcpu::{Context, MMCR0_FROZEN, guest_sprs};

// The engine is compiled without floating point and vectors, so the 64 VSX registers hold the guest's
// values from its exit on, and these two functions are all that touches them. They make the facilities
// available in the MSR for as long as it takes (FP, VEC and VSX are bits 50, 38 and 40: 0x2000, 0x2000000,
// 0x800000) and put the MSR back. FPSCR and VSCR go through f0 and v0: on the way out after these were
// stored, on the way in before they are loaded. On the way in the branch history is cleared too, which the
// next guest could read. r3 is the place of the 64 quadwords, r4 that of VSCR (16-byte aligned), r5 that of
// FPSCR.
global_asm!(
    ".section .text.realhpt_vsx,\"ax\",@progbits",
    ".globl realhpt_save_vsx",
    ".type realhpt_save_vsx,@function",
    "realhpt_save_vsx:",
    "mfmsr 6",
    "oris 7, 6, 0x280",
    "ori 7, 7, 0x2000",
    "mtmsrd 7",
    "isync",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,\
        32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
    "stxvd2x \\n, 0, 3",
    "addi 3, 3, 16",
    ".endr",
    "mffs 0",
    "stfd 0, 0(5)",
    "mfvscr 0",
    "stvx 0, 0, 4",
    "mtmsrd 6",
    "isync",
    "blr",
    ".size realhpt_save_vsx, . - realhpt_save_vsx",
    ".globl realhpt_load_vsx",
    ".type realhpt_load_vsx,@function",
    "realhpt_load_vsx:",
    "mfmsr 6",
    "oris 7, 6, 0x280",
    "ori 7, 7, 0x2000",
    "mtmsrd 7",
    "isync",
    "lfd 0, 0(5)",
    "mtfsf 255, 0, 1, 0",
    "lvx 0, 0, 4",
    "mtvscr 0",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,\
        32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
    "lxvd2x \\n, 0, 3",
    "addi 3, 3, 16",
    ".endr",
    "clrbhrb",
    "mtmsrd 6",
    "isync",
    "blr",
    ".size realhpt_load_vsx, . - realhpt_load_vsx",
    ".previous",
);

unsafe extern "C" {
    fn realhpt_save_vsx(vsr: *mut [u64; 2], vscr: *mut [u64; 2], fpscr: *mut u64);
    fn realhpt_load_vsx(vsr: *const [u64; 2], vscr: *const [u64; 2], fpscr: *const u64);
}

// Guests cannot begin transactions (HFSCR[TM] is 0), and hardware keeps them from these registers; an
// emulator that looks at MSR[TM] alone does not. In hypervisor state, too, they are there only with MSR[TM]
// (bit 31, 1 << 32) set: it is set for the moment, and put back. No transaction is or comes under way by that.
// r3 is the place of the three doublewords; TEXASRU is the upper half of TEXASR.
global_asm!(
    ".section .text.realhpt_tm,\"ax\",@progbits",
    ".macro realhpt_with_tm",
    "mfmsr 6",
    "li 7, 1",
    "sldi 7, 7, 32",
    "or 7, 7, 6",
    "mtmsrd 7",
    "isync",
    ".endm",
    ".globl realhpt_save_tm",
    ".type realhpt_save_tm,@function",
    "realhpt_save_tm:",
    "realhpt_with_tm",
    "mfspr 7, 128",
    "std 7, 0(3)",
    "mfspr 7, 129",
    "std 7, 8(3)",
    "mfspr 7, 130",
    "std 7, 16(3)",
    "mtmsrd 6",
    "isync",
    "blr",
    ".size realhpt_save_tm, . - realhpt_save_tm",
    ".globl realhpt_load_tm",
    ".type realhpt_load_tm,@function",
    "realhpt_load_tm:",
    "realhpt_with_tm",
    "ld 7, 0(3)",
    "mtspr 128, 7",
    "ld 7, 8(3)",
    "mtspr 129, 7",
    "ld 7, 16(3)",
    "mtspr 130, 7",
    "mtmsrd 6",
    "isync",
    "blr",
    ".size realhpt_load_tm, . - realhpt_load_tm",
    ".previous",
);

unsafe extern "C" {
    fn realhpt_save_tm(registers: *mut u64);
    fn realhpt_load_tm(registers: *const u64);
}

/// Whether the processor has transactions: POWER8 and POWER9, by the version in PVR. POWER10 has none.
fn has_transactions() -> bool {
    matches!(spr::PVR.read() >> 16, 0x4b..=0x4e)
}

macro_rules! save_sprs {
    ($($field:ident = $name:ident,)*) => {
        fn save_sprs(context: &mut Context) {
            $(context.sprs.$field = spr::$name.read();)*
        }
    };
}

macro_rules! load_sprs {
    ($($field:ident = $name:ident,)*) => {
        fn load_sprs(context: &Context) {
            $(
                // SAFETY: a register of the guest's, with the guest's value.
                unsafe { spr::$name.write(context.sprs.$field) };
            )*
        }
    };
}

guest_sprs!(save_sprs);
guest_sprs!(load_sprs);

/// DEC as a 32-bit register has it (`LPCR[LD]` = 0), without its sign extension.
const DEC_BITS: u64 = 0xffff_ffff;

/// Saves the state of the vCPU that is in the processor.
pub fn save(context: &mut Context) {
    context.mmcr0 = spr::MMCR0.read();
    // SAFETY: no counter counts while the others are read.
    unsafe { spr::MMCR0.write(context.mmcr0 | MMCR0_FROZEN) };
    isync();
    save_sprs(context);
    if has_transactions() {
        // SAFETY: room for three doublewords, on a processor that has the registers.
        unsafe { realhpt_save_tm(context.transaction.as_mut_ptr()) };
    }
    context.ctrl = spr::CTRL_READ.read();
    // DEC counts down with the time base; signed, as it may have passed zero.
    let dec = spr::DEC.read() & DEC_BITS;
    let dec = if dec > DEC_BITS / 2 {
        dec | !DEC_BITS
    } else {
        dec
    };
    context.decrementer = time_base().wrapping_add(dec);
    slb::save(&mut context.slb);
    // SAFETY: room for each.
    unsafe {
        realhpt_save_vsx(
            context.vsr.as_mut_ptr(),
            &raw mut context.vscr,
            &raw mut context.fpscr,
        );
    }
}

/// Puts the state of a vCPU into the processor, and drops the last one's reservation.
pub fn load(context: &Context) {
    // SAFETY: no counter counts while the others are set.
    unsafe { spr::MMCR0.write(MMCR0_FROZEN) };
    isync();
    load_sprs(context);
    if has_transactions() {
        // SAFETY: three doublewords of the guest's own, on a processor that has the registers.
        unsafe { realhpt_load_tm(context.transaction.as_ptr()) };
    }
    // SAFETY: the guest's run latch.
    unsafe { spr::CTRL_WRITE.write(context.ctrl) };
    let remaining = context.decrementer.wrapping_sub(time_base());
    // A DEC that passed zero longer ago than 32 bits can say has still passed it.
    let dec = if remaining.cast_signed() < -(1 << 31) {
        1 << 31
    } else {
        remaining & DEC_BITS
    };
    // SAFETY: the guest's decrementer.
    unsafe { spr::DEC.write(dec) };
    slb::load(&context.slb);
    // SAFETY: room for each.
    unsafe {
        realhpt_load_vsx(
            context.vsr.as_ptr(),
            &raw const context.vscr,
            &raw const context.fpscr,
        );
    }
    // SAFETY: the guest's counters go on.
    unsafe { spr::MMCR0.write(context.mmcr0) };
    drop_reservation();
    isync();
}
