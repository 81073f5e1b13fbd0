//! Instructions that no compiler writes: put into memory word by word and called under a guard.

use core::{
    arch::{asm, naked_asm},
    ptr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use realhpt_pseries::{
    cpu::Msr,
    guard::{self, Code, Fault},
    vcpu,
};

/// `blr`.
pub(crate) const RETURN: u32 = 0x4e80_0020;
/// `sc 1`.
pub(crate) const HYPERCALL: u32 = 0x4400_0022;

/// The most words of one piece.
const WORDS: usize = 64;

#[repr(align(128))]
struct Piece([AtomicU32; WORDS]);

/// One for each vCPU, in the program's page, which may be executed in any state.
static PIECES: [Piece; vcpu::MAX] =
    [const { Piece([const { AtomicU32::new(0) }; WORDS]) }; vcpu::MAX];

/// The calling vCPU's.
fn piece() -> &'static Piece {
    let [first, ..] = &PIECES;
    PIECES.get(vcpu::current()).unwrap_or(first)
}

/// Puts a piece of code into memory that is executed; `blr` follows it. Its address.
pub(crate) fn place(words: &[u32]) -> u64 {
    let all = words.iter().copied().chain(core::iter::repeat(RETURN));
    let piece = piece();
    for (place, word) in piece.0.iter().zip(all) {
        place.store(word, Relaxed);
    }
    let at = ptr::from_ref(piece).expose_provenance() as u64;
    // The caches of instructions do not see stores by themselves (ISA 3.0B Book II section 1.8): the block is
    // stored and its stale copy invalidated. 128 bytes are a block on every POWER processor.
    for block in (at..at + size_of::<Piece>() as u64).step_by(128) {
        // SAFETY: the addresses are the piece's; nothing executes it now.
        unsafe {
            asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", "sync", "isync", in(reg) block, options(nostack));
        }
    }
    at
}

/// Executes a piece of code with two arguments under an MSR; its r3, or how it ended.
///
/// # Safety
/// What the code does, if anything, must be sound. It returns by `blr`, or faults.
pub(crate) unsafe fn execute(words: &[u32], arguments: [u64; 2], msr: Msr) -> Result<u64, Fault> {
    let at = usize::try_from(place(words)).unwrap_or_default();
    // SAFETY: a function pointer to rfid; ELFv2's entry by address is the function's first instruction.
    let code =
        unsafe { core::mem::transmute::<*const (), Code>(ptr::with_exposed_provenance::<()>(at)) };
    // SAFETY: the caller's.
    unsafe { guard::run(code, arguments, msr) }
}

/// The address of the instruction that a faulted piece stopped at, in words from its start.
pub(crate) fn word_of(fault: &Fault) -> u64 {
    let start = ptr::from_ref(piece()).addr() as u64;
    fault.srr0.wrapping_sub(start) / 4
}

/// `mfspr` to r3.
pub(crate) const fn mfspr(number: u32) -> u32 {
    0x7c60_02a6 | spr(number)
}

/// `mtspr` from r3.
pub(crate) const fn mtspr(number: u32) -> u32 {
    0x7c60_03a6 | spr(number)
}

/// The number of a special purpose register stands in an instruction with its halves exchanged.
const fn spr(number: u32) -> u32 {
    (number & 0x1f) << 16 | (number >> 5) << 11
}

/// Sets the decrementer to the first argument and waits for ever.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn wait_for_decrementer(ticks: u64, _: u64) -> u64 {
    naked_asm!("mtspr 22, 3", "2: b 2b")
}
