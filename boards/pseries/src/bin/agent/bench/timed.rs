//! The stopwatch: timebase readings right around `sc 1`, so that nothing of the program is in between.
//!
//! Under QEMU's `-icount shift=0` an instruction takes one nanosecond and the timebase counts 512 MHz: ticks
//! are instructions, 1.953125 to one. Each loop stands in the source twice, with its `sc 1` and without:
//! the difference is the calls alone.

use core::arch::asm;

use realhpt_pseries::{exchange::bench::CALIBRATION, hcall::Registers};

/// Arguments of a call, r4 to r12.
pub(super) type Arguments = [u64; 9];

/// Ticks of a loop of [`CALIBRATION`] instructions.
pub(super) fn calibration() -> u64 {
    /// Instructions of one round of the loop below.
    const ROUND: u64 = 8;
    const { assert!(CALIBRATION.is_multiple_of(ROUND)) };
    let (start, stop): (u64, u64);
    // Seven instructions that do nothing and a branch that counts CTR down, so many times that there are
    // as many as asked for.
    //
    // SAFETY: reads the timebase and changes CTR.
    unsafe {
        asm!(
            "mtctr {rounds}",
            "mfspr {start}, 268",
            "2:",
            ".rept 7",
            "nop",
            ".endr",
            "bdnz 2b",
            "mfspr {stop}, 268",
            rounds = in(reg) CALIBRATION / ROUND,
            start = out(reg) start,
            stop = out(reg) stop,
            out("ctr") _,
            options(nomem, nostack),
        );
    }
    stop - start
}

/// One call with r3 to r12 as given, which come back as the hypervisor left them; its ticks.
///
/// # Safety
/// As [`realhpt_pseries::hcall::hcall`].
pub(super) unsafe fn call(registers: &mut Registers) -> u64 {
    let [r3, r4, r5, r6, r7, r8, r9, r10, r11, r12] = registers;
    let (start, stop): (u64, u64);
    // The readings are kept where a call leaves registers alone.
    //
    // SAFETY: the clobbers are all that LoPAR lets a hypervisor change; the caller vouches for the effect.
    unsafe {
        asm!(
            "mfspr 14, 268",
            "sc 1",
            "mfspr 15, 268",
            inout("r3") *r3, inout("r4") *r4, inout("r5") *r5, inout("r6") *r6, inout("r7") *r7,
            inout("r8") *r8, inout("r9") *r9, inout("r10") *r10, inout("r11") *r11, inout("r12") *r12,
            out("r14") start, out("r15") stop,
            out("r0") _, out("ctr") _, out("xer") _,
            out("cr0") _, out("cr1") _, out("cr2") _, out("cr3") _,
            out("cr4") _, out("cr5") _, out("cr6") _, out("cr7") _,
        );
    }
    stop - start
}

/// A loop of calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loop {
    /// Its ticks.
    pub(super) ticks: u64,
    /// Bits in which any call's status was another than the one expected.
    pub(super) unexpected: u64,
}

/// The same loop with `$call` in its place: for each element of `arguments`, r4 to r12 from it and the
/// token in r3, the call, and the status held against the one expected. What the loop needs is in
/// registers that a call leaves alone.
macro_rules! timed_loop {
    ($(#[$about:meta])* $name:ident, $call:literal) => {
        $(#[$about])*
        unsafe fn $name(token: u64, expected: u64, arguments: &[Arguments]) -> Loop {
            let range = arguments.as_ptr_range();
            let (start, stop, unexpected): (u64, u64, u64);
            // SAFETY: the loop reads the elements of `arguments`, of which there is one at least; the clobbers
            // are all that LoPAR lets a hypervisor change; the caller vouches for the effect of the calls.
            unsafe {
                asm!(
                    "mfspr 19, 268",
                    "2:",
                    "ld 4, 0(15)",
                    "ld 5, 8(15)",
                    "ld 6, 16(15)",
                    "ld 7, 24(15)",
                    "ld 8, 32(15)",
                    "ld 9, 40(15)",
                    "ld 10, 48(15)",
                    "ld 11, 56(15)",
                    "ld 12, 64(15)",
                    "mr 3, 14",
                    $call,
                    "xor 3, 3, 17",
                    "or 18, 18, 3",
                    "addi 15, 15, 72",
                    "cmpld 15, 16",
                    "bne 2b",
                    "mfspr 20, 268",
                    in("r14") token,
                    inout("r15") range.start => _,
                    in("r16") range.end,
                    in("r17") expected,
                    inout("r18") 0_u64 => unexpected,
                    out("r19") start, out("r20") stop,
                    out("r0") _, out("r3") _, out("r4") _, out("r5") _, out("r6") _, out("r7") _,
                    out("r8") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _,
                    out("ctr") _, out("xer") _,
                    out("cr0") _, out("cr1") _, out("cr2") _, out("cr3") _,
                    out("cr4") _, out("cr5") _, out("cr6") _, out("cr7") _,
                );
            }
            Loop { ticks: stop - start, unexpected }
        }
    };
}

timed_loop!(
    /// # Safety
    /// As [`realhpt_pseries::hcall::hcall`], for every call; `arguments` is not empty.
    with_calls,
    "sc 1"
);
timed_loop!(
    /// # Safety
    /// `arguments` is not empty.
    without_calls,
    ""
);

/// Calls with each of `arguments`; the ticks are the calls' alone, without those of the loop around them.
///
/// # Safety
/// As [`realhpt_pseries::hcall::hcall`], for every call.
pub(super) unsafe fn calls(token: u64, expected: u64, arguments: &[Arguments]) -> Loop {
    if arguments.is_empty() {
        return Loop {
            ticks: 0,
            unexpected: 0,
        };
    }
    // SAFETY: there are some.
    let around = unsafe { without_calls(token, expected, arguments) };
    // SAFETY: the caller's; there are some.
    let all = unsafe { with_calls(token, expected, arguments) };
    Loop {
        ticks: all.ticks.saturating_sub(around.ticks),
        unexpected: all.unexpected,
    }
}
