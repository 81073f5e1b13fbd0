//! From guest real 0x100 to main.

use core::arch::global_asm;

use crate::{exit, println, vcpu};

// The start: real mode, r3 = the argument that H_LPAR_START or the boot manifest gave, nothing else known.
//
// 1. r1: the stack. Its first frame is ours, with a zero back chain where a walk of the stack ends.
// 2. .bss: the flat image does not have it and a restarted partition has used it. The stacks at its end are
//    not zeroed.
// 3. r2: the TOC pointer, which ELFv2 code reached by its local entry point needs.
// 4. SPRG1: the top of the first vCPU's exception stack.
global_asm!(
    ".section .text._start_rust, \"ax\", @progbits",
    ".globl __pseries_start",
    "__pseries_start:",
    "lis %r1, __stack_top@h",
    "ori %r1, %r1, __stack_top@l",
    "li %r0, 0",
    "stdu %r0, -112(%r1)",
    "lis %r4, __bss_start@h",
    "ori %r4, %r4, __bss_start@l",
    "lis %r5, __bss_end@h",
    "ori %r5, %r5, __bss_end@l",
    "1: cmpld %r4, %r5",
    "bge 2f",
    "std %r0, 0(%r4)",
    "addi %r4, %r4, 8",
    "b 1b",
    "2:",
    "lis %r2, .TOC.@ha",
    "addi %r2, %r2, .TOC.@l",
    "lis %r4, (__exception_stacks + {stack})@h",
    "ori %r4, %r4, (__exception_stacks + {stack})@l",
    "mtsprg 1, %r4",
    "bl {rust}",
    "nop",
    "trap",
    ".text",
    stack = const vcpu::EXCEPTION_STACK,
    rust = sym start_rust,
);

unsafe extern "Rust" {
    /// The program, as [`entry!`] or [`real_entry!`] makes it: r3 at the start, and the exit code.
    safe fn __pseries_main(argument: u64) -> u64;
}

/// Runs the program, ends the partition.
extern "C" fn start_rust(argument: u64) -> ! {
    exit::exit(__pseries_main(argument))
}

/// Names a program's main function: `fn(&Runtime) -> u64`, whose value is the partition's exit code.
///
/// ```ignore
/// fn main(runtime: &Runtime) -> u64 {
///     println!("LPID {}", runtime.partition.lpid);
///     0
/// }
/// realhpt_pseries::entry!(main);
/// ```
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn __pseries_main(argument: u64) -> u64 {
            $crate::runtime::run(argument, $main)
        }
    };
}

/// Names the main function of a program that stays in real mode and touches no table: `fn(u64) -> u64`, from r3
/// at the start to the exit code.
#[macro_export]
macro_rules! real_entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn __pseries_main(argument: u64) -> u64 {
            let main: fn(u64) -> u64 = $main;
            main(argument)
        }
    };
}

/// A panic ends the partition.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    exit::exit(exit::PANIC)
}
