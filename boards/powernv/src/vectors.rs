//! The vectors, the way of a guest in and out, and the short way of a hypercall.
//!
//! The code in section `.vectors` is copied to real address 0x100 and runs there, with translation off and
//! HSPRG0 pointing to the CPU's area ([`Cpu`]). It has no relocations: it branches within itself, and
//! reaches Rust through addresses in the area. External interrupts and the decrementers cannot come while it
//! runs (`MSR[EE]` is 0, HDEC comes only in guest state), so HSPRG1 is free to hold the guest's r13.
//!
//! # The short way: `sc 1`, 0xC00
//!
//! A hypercall that the engine answers at once never leaves the vector's 64 instructions but for the call
//! of Rust. What Rust code may change is saved, and no more: r1 to r12, LR, CR. r0, CTR and XER are not the guest's
//! any more after a hypercall (LoPAR 14.5.3): they come back as zero, so they show nothing. r13 is the area's address and
//! Rust does not touch it; r14 to r31 Rust gives back as they were; floating point and vectors it has none. SRR0 and SRR1 stay where they are, as nothing in between takes an interrupt that
//! returns. r3 to r12 are saved as the [`realhpt::hcall::Frame`] that the engine works on, and loaded from
//! there: whatever the engine does not set comes back as it was.
//!
//! Step by step: r13 to HSPRG1, the area's address from HSPRG0; twelve stores; the two special registers through r5
//! and r6, whose own values are already saved; whom to call, from the table of [`crate::entries`], by the
//! token in r3; SRR1, from which Rust sees problem state and 32-bit mode, as the second argument and the area as the
//! first; the stack of whoever entered the guest; and the call, by CTR, of a global entry point: r12 is its address, so
//! it finds its own TOC. Back with 0: everything loaded again, and CFAR, which shows where the hypervisor branched last,
//! set to what is no secret, the guest's own LR; r13 last; `rfid`. That is 53 instructions beside Rust's.
//!
//! Back with anything else, the vCPU leaves the guest for good: the rest of its registers is saved and the
//! long way's tail taken, as if the number were a vector.
//!
//! # The long way
//!
//! All other vectors save every register, note the vector, and return to the caller of [`enter`], on its
//! stack, with r14 to r31, CR and LR as it left them. The vector's number goes along in r12. CFAR is read
//! before the first branch. Which of SRR0/1 and HSRR0/1 hold the guest's place depends on the vector: external
//! interrupts (with `LPCR[LPES0]` = 0) and those from 0x980 on that are the hypervisor's own use HSRR.
//!
//! # Unexpected interrupts
//!
//! An interrupt out of hypervisor state shows HV in the saved MSR. It takes the same saves, for the sake of
//! the log, and goes to [`crate::unexpected::interrupt`] on the emergency stack. Nothing comes back from
//! there, so it does not matter what it overwrote.

use core::arch::global_asm;
use core::ffi::c_void;
use core::mem::offset_of;
use core::ptr;

use realhpt::addr::HostReal;
use realhpt::arch::powerpc64::cache;
use realhpt::hcall::Frame;
use realhpt::lpar::vcpu::Registers;

use crate::cpu::Cpu;
use crate::entries::TOKENS;

/// Real address of the first vector.
const BASE: u64 = 0x100;
/// Real address behind the last vector's code.
pub const END: u64 = 0x3000;

/// Vectors of exits, as [`enter`] returns them.
pub mod vector {
    /// System reset.
    pub const SYSTEM_RESET: u64 = 0x100;
    /// Machine check.
    pub const MACHINE_CHECK: u64 = 0x200;
    /// External.
    pub const EXTERNAL: u64 = 0x500;
    /// Hypervisor decrementer.
    pub const HDEC: u64 = 0x980;
    /// Hypervisor data storage.
    pub const HDSI: u64 = 0xe00;
    /// Hypervisor instruction storage.
    pub const HISI: u64 = 0xe20;
    /// Hypervisor emulation assistance: an illegal instruction.
    pub const HEAI: u64 = 0xe40;
    /// Hypervisor maintenance.
    pub const HMI: u64 = 0xe60;
    /// Directed hypervisor doorbell.
    pub const DOORBELL: u64 = 0xe80;
    /// Hypervisor virtualisation.
    pub const HVI: u64 = 0xea0;
    /// Hypervisor facility unavailable.
    pub const HFU: u64 = 0xf80;
}

/// Instructions of the ways through the vectors, counted in the text below: for an account of what exits cost
/// ([`crate::account`]).
pub(crate) mod length {
    /// The short way of a hypercall, there and back, without the function that it calls.
    pub(crate) const SHORT_WAY: u64 = 53;
    /// A hypercall whose vCPU leaves the guest: the short way there, and the long way's tail.
    pub(crate) const HYPERCALL_OUT: u64 = 29 + 3 + 12 + TAIL;
    /// Any other exit: the vector, the common part, the tail.
    pub(crate) const OUT: u64 = 7 + 5 + 20 + TAIL;
    /// Into the guest.
    pub(crate) const IN: u64 = 77;
    const TAIL: u64 = 53;
}

/// Bytes of the frame in which [`enter`] keeps its caller's registers: 32 of linkage area, 18 registers.
const FRAME: usize = 32 + 18 * 8;

global_asm!(
    ".section .vectors,\"ax\",@progbits",
    ".globl realhpt_vectors",
    "realhpt_vectors:",
    // A vector of the long way. Seven instructions: vectors may be eight apart.
    ".macro exit_vector number, save_restore",
    ".org \\number - {base}",
    "mtspr 305, 13",
    "mfspr 13, 304",
    "std 12, {r12}(13)",
    "std 11, {r11}(13)",
    "mfspr 11, 28",
    "li 12, \\number",
    "b exit_\\save_restore",
    ".endm",
    "exit_vector 0x100, srr",
    "exit_vector 0x200, srr",
    "exit_vector 0x300, srr",
    "exit_vector 0x380, srr",
    "exit_vector 0x400, srr",
    "exit_vector 0x480, srr",
    "exit_vector 0x500, hsrr",
    "exit_vector 0x600, srr",
    "exit_vector 0x700, srr",
    "exit_vector 0x800, srr",
    "exit_vector 0x900, srr",
    "exit_vector 0x980, hsrr",
    "exit_vector 0xa00, srr",
    // The short way.
    ".org 0xc00 - {base}",
    "mtspr 305, 13",
    "mfspr 13, 304",
    "std 1, {r0} + 8(13)",
    "std 2, {r0} + 16(13)",
    ".irp n, 3,4,5,6,7,8,9,10,11,12",
    "std \\n, {r3} + 8 * (\\n - 3)(13)",
    ".endr",
    "mflr 5",
    "mfcr 6",
    "std 5, {lr}(13)",
    "std 6, {cr}(13)",
    // The token, rotated so that one that is no multiple of four is beyond the table, too.
    "rotrdi 5, 3, 2",
    "ld 6, {hypercalls}(13)",
    "mr 3, 13",
    "cmpldi 5, {tokens}",
    "mfspr 4, 27",
    "blt 1f",
    "li 5, {tokens}",
    "1:",
    "sldi 5, 5, 3",
    "ldx 12, 6, 5",
    "ld 1, {stack}(13)",
    "mtctr 12",
    "bctrl",
    "cmpldi 3, 0",
    "bne 2f",
    "ld 5, {lr}(13)",
    "ld 6, {cr}(13)",
    "li 0, 0",
    "mtspr 28, 5",
    "mtlr 5",
    "mtcr 6",
    "mtctr 0",
    "mtxer 0",
    "ld 1, {r0} + 8(13)",
    "ld 2, {r0} + 16(13)",
    ".irp n, 3,4,5,6,7,8,9,10,11,12",
    "ld \\n, {r3} + 8 * (\\n - 3)(13)",
    ".endr",
    "mfspr 13, 305",
    "rfid",
    "2:",
    "b hypercall_exit",
    "exit_vector 0xd00, srr",
    "exit_vector 0xe00, hsrr",
    "exit_vector 0xe20, hsrr",
    "exit_vector 0xe40, hsrr",
    "exit_vector 0xe60, hsrr",
    "exit_vector 0xe80, hsrr",
    "exit_vector 0xea0, hsrr",
    "exit_vector 0xf00, srr",
    "exit_vector 0xf20, srr",
    "exit_vector 0xf40, srr",
    "exit_vector 0xf60, srr",
    "exit_vector 0xf80, hsrr",
    "exit_vector 0x1300, srr",
    "exit_vector 0x1500, hsrr",
    "exit_vector 0x1700, srr",
    // The long way goes on here. r11 has CFAR, r12 the vector's number.
    ".org 0x1800 - {base}",
    "exit_hsrr:",
    "std 0, {r0}(13)",
    "std 4, {r3} + 8(13)",
    "mfspr 0, 314",
    "mfspr 4, 315",
    "b exit_common",
    "exit_srr:",
    "std 0, {r0}(13)",
    "std 4, {r3} + 8(13)",
    "mfspr 0, 26",
    "mfspr 4, 27",
    "exit_common:",
    "std 0, {pc}(13)",
    "std 4, {msr}(13)",
    "std 11, {cfar}(13)",
    "std 1, {r0} + 8(13)",
    "std 2, {r0} + 16(13)",
    "std 3, {r3}(13)",
    ".irp n, 5,6,7,8,9,10",
    "std \\n, {r3} + 8 * (\\n - 3)(13)",
    ".endr",
    "mflr 5",
    "mfcr 6",
    "mfctr 7",
    "mfxer 8",
    "std 5, {lr}(13)",
    "std 6, {cr}(13)",
    "std 7, {ctr}(13)",
    "std 8, {xer}(13)",
    "exit_tail:",
    "std 12, {vector}(13)",
    "mfspr 5, 305",
    "std 5, {r13}(13)",
    ".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "std \\n, {r13} + 8 * (\\n - 13)(13)",
    ".endr",
    "mfspr 5, 896",
    "std 5, {ppr}(13)",
    "or 2, 2, 2",
    // MSR[HV] is bit 3: rotated to the last place and alone.
    "rldicl. 5, 4, 4, 63",
    "bne 3f",
    "ld 1, {stack}(13)",
    ".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "ld \\n, 32 + 8 * (\\n - 14)(1)",
    ".endr",
    "ld 2, 24(1)",
    "mr 3, 12",
    "addi 1, 1, {frame}",
    "ld 0, 16(1)",
    "mtlr 0",
    "lwz 0, 8(1)",
    "mtcr 0",
    "blr",
    "3:",
    "ld 1, {emergency}(13)",
    "ld 12, {unexpected}(13)",
    "mr 3, 13",
    "mtctr 12",
    "bctr",
    // A hypercall that does not go back at once: r3 is what Rust answered, the volatile registers are saved.
    // What a hypercall does not keep is zero when the guest goes on.
    "hypercall_exit:",
    "mr 12, 3",
    "li 0, 0",
    "std 0, {r0}(13)",
    "std 0, {ctr}(13)",
    "std 0, {xer}(13)",
    "ld 5, {lr}(13)",
    "std 5, {cfar}(13)",
    "mfspr 5, 26",
    "mfspr 4, 27",
    "std 5, {pc}(13)",
    "std 4, {msr}(13)",
    "b exit_tail",
    ".globl realhpt_vectors_end",
    "realhpt_vectors_end:",
    ".previous",
    // Into the guest. The caller's r14 to r31, TOC, CR and LR go to its stack, whose top the area remembers;
    // then the guest's registers are loaded, r13 last, and `hrfid` takes MSR and address from HSRR1 and HSRR0.
    // HSRR, so that SRR0 and SRR1 stay the guest's own. The conditional store gives up any reservation that
    // the hypervisor's own atomics may have left; its place is the linkage area's spare doubleword.
    ".section .text.realhpt_enter,\"ax\",@progbits",
    ".globl realhpt_enter",
    ".type realhpt_enter,@function",
    "realhpt_enter:",
    "mflr 0",
    "std 0, 16(1)",
    "mfcr 0",
    "stw 0, 8(1)",
    "stdu 1, -{frame}(1)",
    "std 2, 24(1)",
    ".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "std \\n, 32 + 8 * (\\n - 14)(1)",
    ".endr",
    "mr 13, 3",
    "std 1, {stack}(13)",
    "addi 4, 1, 16",
    "stdcx. 4, 0, 4",
    "ld 4, {pc}(13)",
    "mtspr 314, 4",
    "ld 5, {msr}(13)",
    "mtspr 315, 5",
    "ld 6, {ppr}(13)",
    "mtspr 896, 6",
    "ld 5, {lr}(13)",
    "ld 6, {cr}(13)",
    "ld 7, {ctr}(13)",
    "ld 8, {xer}(13)",
    "ld 9, {cfar}(13)",
    "mtlr 5",
    "mtcr 6",
    "mtctr 7",
    "mtxer 8",
    "mtspr 28, 9",
    "ld 0, {r0}(13)",
    "ld 1, {r0} + 8(13)",
    "ld 2, {r0} + 16(13)",
    ".irp n, 3,4,5,6,7,8,9,10,11,12",
    "ld \\n, {r3} + 8 * (\\n - 3)(13)",
    ".endr",
    ".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "ld \\n, {r13} + 8 * (\\n - 13)(13)",
    ".endr",
    "ld 13, {r13}(13)",
    "hrfid",
    ".size realhpt_enter, . - realhpt_enter",
    ".previous",
    base = const BASE,
    frame = const FRAME,
    r0 = const offset_of!(Cpu, registers) + offset_of!(Registers, low),
    r3 = const offset_of!(Cpu, registers) + offset_of!(Registers, frame) + offset_of!(Frame, regs),
    r11 = const offset_of!(Cpu, registers) + offset_of!(Registers, frame) + 8 * 8,
    r12 = const offset_of!(Cpu, registers) + offset_of!(Registers, frame) + 9 * 8,
    r13 = const offset_of!(Cpu, registers) + offset_of!(Registers, high),
    lr = const offset_of!(Cpu, registers) + offset_of!(Registers, lr),
    cr = const offset_of!(Cpu, registers) + offset_of!(Registers, cr),
    ctr = const offset_of!(Cpu, registers) + offset_of!(Registers, ctr),
    xer = const offset_of!(Cpu, registers) + offset_of!(Registers, xer),
    cfar = const offset_of!(Cpu, registers) + offset_of!(Registers, cfar),
    ppr = const offset_of!(Cpu, registers) + offset_of!(Registers, ppr),
    pc = const offset_of!(Cpu, registers) + offset_of!(Registers, pc),
    msr = const offset_of!(Cpu, registers) + offset_of!(Registers, msr),
    vector = const offset_of!(Cpu, vector),
    stack = const offset_of!(Cpu, stack),
    emergency = const offset_of!(Cpu, emergency),
    hypercalls = const offset_of!(Cpu, hypercalls),
    tokens = const TOKENS,
    unexpected = const offset_of!(Cpu, unexpected),
);

unsafe extern "C" {
    static realhpt_vectors: u8;
    static realhpt_vectors_end: u8;
    fn realhpt_enter(cpu: *mut c_void) -> u64;
}

/// Copies the vectors to where the processor looks for them, over skiboot's.
///
/// # Safety
/// HSPRG0 points to the CPU's area, and nothing else lives from real address 0x100 to [`END`].
pub unsafe fn install() {
    let from = &raw const realhpt_vectors;
    let bytes = (&raw const realhpt_vectors_end).addr() - from.addr();
    debug_assert!(BASE + bytes as u64 <= END);
    // SAFETY: the caller's; source and destination are far apart. The destination begins below any address
    // that Rust knows of, which is why it is given a provenance of its own.
    unsafe {
        ptr::copy_nonoverlapping(from, ptr::with_exposed_provenance_mut(0x100), bytes);
    }
    cache::synchronise_instructions(HostReal::new(BASE), bytes as u64);
}

/// Runs the guest whose registers are in the CPU's area, until it leaves; says by which vector, or what the
/// hypercall entry answered.
///
/// # Safety
/// `cpu` is the area that HSPRG0 points to. LPIDR, LPCR, HPT and the rest of the vCPU's state are loaded, and
/// `registers.msr` has HV clear.
pub unsafe fn enter(cpu: *mut Cpu) -> u64 {
    // SAFETY: the caller's.
    unsafe { realhpt_enter(cpu.cast()) }
}
