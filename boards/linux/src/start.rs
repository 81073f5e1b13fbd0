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

/// Words of memory, one after the other.
struct Words(*const usize);

impl Words {
    /// # Safety
    /// There is another one.
    unsafe fn next(&mut self) -> usize {
        // SAFETY: the caller's.
        let word = unsafe { self.0.read() };
        // SAFETY: behind that one at most.
        self.0 = unsafe { self.0.add(1) };
        word
    }
}

/// # Safety
/// As for [`begin`].
unsafe fn read(stack: *const usize) -> Arguments {
    let mut words = Words(stack);
    let mut arguments = Arguments {
        page: 1 << 16,
        ..Arguments::default()
    };
    // SAFETY: the number of arguments, of which the first is the program's name.
    let count = unsafe { words.next() };
    for index in 0..count {
        // SAFETY: there are so many.
        let argument = unsafe { words.next() };
        // SAFETY: an argument is a string with an end.
        let text = unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(argument)) };
        let number = index
            .checked_sub(1)
            .and_then(|index| arguments.numbers.get_mut(index));
        if let Some(number) = number {
            *number = text.to_str().ok().and_then(|text| text.parse().ok());
        }
    }
    // SAFETY: NULL, then the environment, which ends with NULL too.
    let _ = unsafe { words.next() };
    // SAFETY: as above.
    while unsafe { words.next() } != 0 {}
    loop {
        // SAFETY: pairs follow, up to one that begins with AT_NULL.
        let kind = unsafe { words.next() };
        // SAFETY: the pair's other half.
        let value = unsafe { words.next() };
        match u32::try_from(kind) {
            Ok(AT_NULL) => return arguments,
            Ok(AT_PAGESZ) => arguments.page = value,
            _ => {}
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    system::say(format_args!("{info}"));
    system::exit(2)
}
