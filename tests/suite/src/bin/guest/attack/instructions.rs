//! Random instructions, with random registers.

use core::arch::naked_asm;

use realhpt_pseries::{cpu::Msr, guard, runtime::Runtime};

use super::Parameters;
use crate::{code, trouble::Outcome};

/// Executes random words in all states that a guest has, for ever. Nothing of the program need be left, but it is to
/// take a while: all registers are random, so that what they address is nothing of the program's.
pub(crate) fn run(runtime: &Runtime, number: u64) -> Outcome {
    let mut random = Parameters::of(runtime.argument).random(number);
    let facilities = Msr::FP | Msr::VEC | Msr::VSX;
    loop {
        let mut words = [0_u32; 12];
        for word in &mut words {
            let bits = random.word();
            // Most of the interesting instructions have opcodes 31 and 19.
            *word = match random.below(4) {
                // A store to a displacement from nothing would end in the vectors.
                0 if bits >> 31 != 0 || bits >> 26 & 0x3c == 0x24 => bits | 1 << 16,
                0 => bits,
                1 => bits & 0x03ff_ffff | 19 << 26,
                _ => bits & 0x03ff_ffff | 31 << 26,
            };
        }
        let msr = match random.below(4) {
            0 => Msr::PROBLEM,
            1 => Msr::PROBLEM | facilities,
            2 => Msr::TRANSLATED | facilities,
            _ => Msr::TRANSLATED | Msr::from_bits_retain(1 << 32),
        };
        let at = code::place(&words);
        // SAFETY: none: this program has nothing left to lose.
        let _ = unsafe { guard::run(with_random_registers, [at, random.next() | 1], msr) };
    }
}

/// Goes to the first argument with registers made from the second: each is the one before, turned and added to itself.
/// LR is as it came.
#[unsafe(naked)]
unsafe extern "C" fn with_random_registers(_: u64, _: u64) -> u64 {
    naked_asm!(
        "mtctr 3",
        ".irp n, 0,1,2,3,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "rotldi \\n, 4, 13",
        "add \\n, \\n, 4",
        "rotldi 4, 4, 29",
        "xor 4, 4, \\n",
        ".endr",
        "bctr",
    )
}
