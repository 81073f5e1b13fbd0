//! From guest real 0x100 to main.

use core::arch::global_asm;

use crate::{exit, println, runtime::Runtime, vcpu};

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
    /// The program's main function, as [`entry!`] names it.
    safe fn __pseries_main(runtime: &Runtime) -> u64;
}

/// Sets the runtime up, runs main, ends the partition.
extern "C" fn start_rust(argument: u64) -> ! {
    match Runtime::set_up(argument) {
        Ok(runtime) => exit::exit(__pseries_main(&runtime)),
        Err(error) => {
            println!("set-up failed: {error}");
            exit::exit(exit::SET_UP | error.step())
        }
    }
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
        fn __pseries_main(runtime: &$crate::runtime::Runtime) -> u64 {
            let main: fn(&$crate::runtime::Runtime) -> u64 = $main;
            main(runtime)
        }
    };
}

/// A panic ends the partition.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    exit::exit(exit::PANIC)
}
