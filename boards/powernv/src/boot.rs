//! The first instructions, and the link to the image's main function.
//!
//! skiboot enters `_start` with MSR = SF|HV (big-endian, translation off, machine check off), the machine's
//! device tree in r3 and OPAL's base and entry in r8 and r9, on one CPU; the others wait in OPAL.

use core::arch::global_asm;

/// What skiboot hands over.
#[derive(Clone, Copy, Debug)]
pub struct Handover {
    /// Real address of the machine's flattened device tree.
    pub device_tree: u64,
    /// OPAL's r2.
    pub opal_base: u64,
    /// OPAL's entry.
    pub opal_entry: u64,
}

// Three things stand between skiboot and Rust. The TOC pointer: the image is linked below 2 GiB, so its
// address is two immediate halves, and nothing is loaded before it is there. The stack: the boot CPU's own, at
// the image's end; it begins with an empty frame, whose back chain is zero. And .bss, which has no place in
// the file and holds debug sections until it is zeroed, eight bytes at a time. r3, r8 and r9 stay as they
// came, and become the arguments of `realhpt_main`.
global_asm!(
    ".section .text.head,\"ax\",@progbits",
    ".globl _start",
    "_start:",
    "lis 2, .TOC.@ha",
    "addi 2, 2, .TOC.@l",
    "lis 1, __stack_top@ha",
    "addi 1, 1, __stack_top@l",
    "li 0, 0",
    "stdu 0, -64(1)",
    "lis 4, __bss_start@ha",
    "addi 4, 4, __bss_start@l",
    "lis 5, __bss_end@ha",
    "addi 5, 5, __bss_end@l",
    "2: cmpld 4, 5",
    "bge 3f",
    "std 0, 0(4)",
    "addi 4, 4, 8",
    "b 2b",
    "3:",
    "mr 4, 8",
    "mr 5, 9",
    "bl realhpt_main",
    "nop",
    "4: b 4b",
    ".previous",
);

/// Names the image's main function: `entry!(main)` with `fn(Handover) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// What the entry code calls.
        // SAFETY: the one symbol of this name; the entry code passes three doublewords.
        #[unsafe(no_mangle)]
        extern "C" fn realhpt_main(device_tree: u64, opal_base: u64, opal_entry: u64) -> ! {
            let main: fn($crate::boot::Handover) -> ! = $main;
            main($crate::boot::Handover {
                device_tree,
                opal_base,
                opal_entry,
            })
        }
    };
}
