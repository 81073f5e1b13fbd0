//! Code that is expected to fault.
//!
//! [`run`] calls a function under any MSR and comes back with its value, or with the [`Fault`] that ended
//! it: the vector, DAR, DSISR, SRR0, SRR1. On it stand [`load`], [`store`] and [`fetch`] of an effective
//! address. A test writes its own instruction as a naked function:
//!
//! ```ignore
//! #[unsafe(naked)]
//! unsafe extern "C" fn write_hid0(value: u64, _: u64) -> u64 {
//!     naked_asm!("mtspr 1008, 3", "blr")
//! }
//! let fault = unsafe { guard::run(write_hid0, [0, 0], Msr::TRANSLATED) }.unwrap_err();
//! assert_eq!(fault.vector, 0x700);
//! ```
//!
//! How it comes back: `guard_run` keeps the nonvolatile registers on its stack and enters the function by
//! `rfid`, with LR at an `sc`. So a return is an interrupt too (0xC00), from problem state as from
//! supervisor state, and every interrupt takes one way: the handler records it and returns to
//! `guard_recover` under the MSR of before.

use core::{
    arch::{global_asm, naked_asm},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use crate::{cpu::Msr, exception::Frame, vcpu};

/// What ended guarded code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The interrupt's vector, such as 0x300.
    pub vector: u64,
    /// Address of the data access, where the interrupt gives one.
    pub dar: u64,
    /// DSISR.
    pub dsisr: u64,
    /// Where the interrupt came.
    pub srr0: u64,
    /// MSR there, with the interrupt's own bits.
    pub srr1: u64,
}

/// Code to run: two arguments, one value.
pub type Code = unsafe extern "C" fn(u64, u64) -> u64;

/// The guard of a vCPU. A guard within guarded code puts the outer one back when it is done.
struct Guard {
    armed: AtomicBool,
    /// The decrementer's interrupt ends the code too: it was entered with EE.
    decrementer: AtomicBool,
    stack: AtomicU64,
    msr: AtomicU64,
    value: AtomicU64,
    fault: [AtomicU64; 5],
}

static GUARDS: [Guard; vcpu::MAX] = [const {
    Guard {
        armed: AtomicBool::new(false),
        decrementer: AtomicBool::new(false),
        stack: AtomicU64::new(0),
        msr: AtomicU64::new(0),
        value: AtomicU64::new(0),
        fault: [const { AtomicU64::new(0) }; 5],
    }
}; vcpu::MAX];

/// The guard of the calling vCPU.
fn own() -> &'static Guard {
    let [first, ..] = &GUARDS;
    GUARDS.get(vcpu::current()).unwrap_or(first)
}

/// A guard that is to be put back.
struct Outer {
    armed: bool,
    decrementer: bool,
    stack: u64,
    msr: u64,
}

impl Guard {
    /// Arms it for code under `msr`; what it was before.
    fn arm(&self, msr: Msr) -> Outer {
        Outer {
            armed: self.armed.swap(true, Relaxed),
            decrementer: self.decrementer.swap(msr.contains(Msr::EE), Relaxed),
            stack: self.stack.load(Relaxed),
            msr: self.msr.load(Relaxed),
        }
    }

    fn restore(&self, outer: Outer) {
        self.stack.store(outer.stack, Relaxed);
        self.msr.store(outer.msr, Relaxed);
        self.decrementer.store(outer.decrementer, Relaxed);
        self.armed.store(outer.armed, Relaxed);
    }
}

// guard_run(code, a, b, msr, where to keep the stack pointer, where to keep the MSR)
//
// Saves what the ABI calls nonvolatile (r14-r31, LR, CR; r2, as the code may have a TOC of its own), notes
// r1 and the MSR for the handler, and enters the code by rfid: r3, r4 its arguments, r12 its address (ELFv2's
// global entry point derives r2 from it), LR at `guard_done`. `guard_recover` is entered by the handler's
// rfid with r1 as noted.
global_asm!(
    ".section .text.guard_run, \"ax\", @progbits",
    ".globl guard_done",
    ".globl guard_recover",
    ".globl guard_run",
    "guard_run:",
    "mflr %r0",
    "std %r0, 16(%r1)",
    "mfcr %r0",
    "std %r0, 8(%r1)",
    "stdu %r1, -192(%r1)",
    "std %r2, 24(%r1)",
    "std %r14, 32+8*0(%r1)",
    "std %r15, 32+8*1(%r1)",
    "std %r16, 32+8*2(%r1)",
    "std %r17, 32+8*3(%r1)",
    "std %r18, 32+8*4(%r1)",
    "std %r19, 32+8*5(%r1)",
    "std %r20, 32+8*6(%r1)",
    "std %r21, 32+8*7(%r1)",
    "std %r22, 32+8*8(%r1)",
    "std %r23, 32+8*9(%r1)",
    "std %r24, 32+8*10(%r1)",
    "std %r25, 32+8*11(%r1)",
    "std %r26, 32+8*12(%r1)",
    "std %r27, 32+8*13(%r1)",
    "std %r28, 32+8*14(%r1)",
    "std %r29, 32+8*15(%r1)",
    "std %r30, 32+8*16(%r1)",
    "std %r31, 32+8*17(%r1)",
    "std %r1, 0(%r7)",
    "mfmsr %r0",
    "std %r0, 0(%r8)",
    "lis %r0, guard_done@h",
    "ori %r0, %r0, guard_done@l",
    "mtlr %r0",
    "mr %r12, %r3",
    "mr %r3, %r4",
    "mr %r4, %r5",
    "mtsrr0 %r12",
    "mtsrr1 %r6",
    "rfid",
    "guard_done:",
    "sc",
    "guard_recover:",
    "ld %r2, 24(%r1)",
    "ld %r14, 32+8*0(%r1)",
    "ld %r15, 32+8*1(%r1)",
    "ld %r16, 32+8*2(%r1)",
    "ld %r17, 32+8*3(%r1)",
    "ld %r18, 32+8*4(%r1)",
    "ld %r19, 32+8*5(%r1)",
    "ld %r20, 32+8*6(%r1)",
    "ld %r21, 32+8*7(%r1)",
    "ld %r22, 32+8*8(%r1)",
    "ld %r23, 32+8*9(%r1)",
    "ld %r24, 32+8*10(%r1)",
    "ld %r25, 32+8*11(%r1)",
    "ld %r26, 32+8*12(%r1)",
    "ld %r27, 32+8*13(%r1)",
    "ld %r28, 32+8*14(%r1)",
    "ld %r29, 32+8*15(%r1)",
    "ld %r30, 32+8*16(%r1)",
    "ld %r31, 32+8*17(%r1)",
    "addi %r1, %r1, 192",
    "ld %r0, 8(%r1)",
    "mtcr %r0",
    "ld %r0, 16(%r1)",
    "mtlr %r0",
    "blr",
    ".text",
);

unsafe extern "C" {
    fn guard_run(code: Code, a: u64, b: u64, msr: u64, stack_slot: *mut u64, msr_slot: *mut u64);
    safe fn guard_done();
    safe fn guard_recover();
}

/// Calls `code` under `msr` and comes back whatever happens.
///
/// # Errors
/// The fault that ended the code.
///
/// # Safety
/// What the code does when it does not fault must be sound. When it faults its frames are dropped as they
/// are: no value with a destructor, no lock may be in them. With EE in `msr` the decrementer's interrupt ends
/// the code as any other does; without, the code does not see it. Where `msr` translates, the program must
/// be mapped (main runs so), and the code must be reachable under it.
pub unsafe fn run(code: Code, [a, b]: [u64; 2], msr: Msr) -> Result<u64, Fault> {
    let guard = own();
    let outer = guard.arm(msr);
    // SAFETY: the caller vouches for the code; guard_run keeps what the ABI wants kept, and the two slots
    // are the guard's own.
    unsafe {
        guard_run(
            code,
            a,
            b,
            msr.bits(),
            guard.stack.as_ptr(),
            guard.msr.as_ptr(),
        )
    };
    let [vector, dar, dsisr, srr0, srr1] = guard.fault.each_ref().map(|word| word.load(Relaxed));
    guard.restore(outer);
    if vector == 0xc00 && srr0 == address(guard_done) + 4 {
        return Ok(guard.value.load(Relaxed));
    }
    Err(Fault {
        vector,
        dar,
        dsisr,
        srr0,
        srr1,
    })
}

/// Takes an interrupt that came under the guard: notes it and has the handler return to `guard_recover`.
pub(crate) fn take(frame: &mut Frame) -> bool {
    let guard = own();
    if frame.vector == 0x900 && !guard.decrementer.load(Relaxed) {
        return false;
    }
    if !guard.armed.swap(false, Relaxed) {
        return false;
    }
    let noted = [frame.vector, frame.dar, frame.dsisr, frame.srr0, frame.srr1];
    for (word, value) in guard.fault.iter().zip(noted) {
        word.store(value, Relaxed);
    }
    let [_, stack, _, value, ..] = &mut frame.gprs;
    guard.value.store(*value, Relaxed);
    *stack = guard.stack.load(Relaxed);
    frame.srr0 = address(guard_recover);
    frame.srr1 = guard.msr.load(Relaxed);
    true
}

/// Address of a label.
fn address(label: extern "C" fn()) -> u64 {
    label as usize as u64
}

/// Loads the doubleword at effective address `ea` under `msr`.
///
/// # Errors
/// The fault of the load.
///
/// # Safety
/// As [`run`]. Nothing more: a load by itself is sound.
pub unsafe fn load(ea: u64, msr: Msr) -> Result<u64, Fault> {
    // SAFETY: the caller's.
    unsafe { run(load_doubleword, [ea, 0], msr) }
}

/// Stores a doubleword at effective address `ea` under `msr`.
///
/// # Errors
/// The fault of the store.
///
/// # Safety
/// As [`run`]; and where the store reaches memory, that must be free to be written.
pub unsafe fn store(ea: u64, value: u64, msr: Msr) -> Result<(), Fault> {
    // SAFETY: the caller's.
    unsafe { run(store_doubleword, [ea, value], msr) }.map(drop)
}

/// Calls effective address `ea` under `msr`: a `blr` (0x4e800020) there returns.
///
/// # Errors
/// The fault of the fetch, or of what was fetched.
///
/// # Safety
/// As [`run`], for the code that stands at `ea`.
pub unsafe fn fetch(ea: u64, msr: Msr) -> Result<u64, Fault> {
    // SAFETY: any address is a function pointer to rfid; where it faults, that is the point.
    let code = unsafe {
        core::mem::transmute::<*const (), Code>(core::ptr::without_provenance(address_of(ea)))
    };
    // SAFETY: the caller's.
    unsafe { run(code, [0, 0], msr) }
}

/// `ea` as a pointer's number. Both have 64 bits here.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the target has 64-bit pointers"
)]
const fn address_of(ea: u64) -> usize {
    ea as usize
}

#[unsafe(naked)]
unsafe extern "C" fn load_doubleword(ea: u64, _: u64) -> u64 {
    naked_asm!("ld 3, 0(3)", "blr")
}

#[unsafe(naked)]
unsafe extern "C" fn store_doubleword(ea: u64, value: u64) -> u64 {
    naked_asm!("std 4, 0(3)", "blr")
}
