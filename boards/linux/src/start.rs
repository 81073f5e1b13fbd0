//! The first instructions, and what the kernel left on the stack: arguments and auxiliary vector.

use core::arch::global_asm;
use core::ffi::CStr;
use core::panic::PanicInfo;

use linux_raw_sys::auxvec::{AT_NULL, AT_PAGESZ};

use crate::{run, system};

// The kernel gives r1: argc, argv, NULL, envp, NULL, auxv stand from there. r2 is ours to set (ELFv2 has its
// functions take it from r12, which is the entry's address when a program begins). The frame below has what a callee
// may write above its own.
global_asm!(
    ".globl _start",
    ".type _start,@function",
    "_start:",
    "addis 2, 12, .TOC. - _start@ha",
    "addi 2, 2, .TOC. - _start@l",
    "mr 3, 1",
    "li 0, 0",
    "stdu 0, -32(1)",
    "mtlr 0",
    "bl {begin}",
    "nop",
    "trap",
    begin = sym begin,
);

/// What the program was started with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arguments {
    /// The first two arguments, as numbers.
    pub(crate) numbers: [Option<u64>; 2],
    /// Bytes of a page.
    pub(crate) page: usize,
}

/// # Safety
/// `stack` is the stack pointer that the kernel started the program with.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the caller's.
    let arguments = unsafe { read(stack) };
    system::exit(run::main(arguments))
}

/// # Safety
/// As for [`begin`].
unsafe fn read(stack: *const usize) -> Arguments {
    // SAFETY: the number of arguments stands there.
    let count = unsafe { stack.read() };
    let mut arguments = Arguments {
        page: 1 << 16,
        ..Arguments::default()
    };
    for (index, number) in (1..count).zip(&mut arguments.numbers) {
        // SAFETY: one of `count` pointers that follow the number.
        let argument = unsafe { stack.add(1 + index).read() };
        // SAFETY: an argument is a string with an end.
        let text = unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(argument)) };
        *number = text.to_str().ok().and_then(|text| text.parse().ok());
    }
    // SAFETY: behind the arguments and their NULL.
    let mut word = unsafe { stack.add(count + 2) };
    // SAFETY: the environment, up to its NULL.
    while unsafe { word.read() } != 0 {
        // SAFETY: as above; the auxiliary vector follows.
        word = unsafe { word.add(1) };
    }
    // SAFETY: behind that NULL.
    word = unsafe { word.add(1) };
    loop {
        // SAFETY: pairs up to one that begins with AT_NULL.
        let kind = unsafe { word.read() };
        // SAFETY: the pair's other half.
        let value = unsafe { word.add(1).read() };
        if kind == usize::try_from(AT_NULL).unwrap_or_default() {
            return arguments;
        }
        if u32::try_from(kind) == Ok(AT_PAGESZ) {
            arguments.page = value;
        }
        // SAFETY: that was not the last pair.
        word = unsafe { word.add(2) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    system::say(format_args!("{info}"));
    system::exit(2)
}
