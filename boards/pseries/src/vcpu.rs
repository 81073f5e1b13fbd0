//! More vCPUs than the one that a partition starts with.
//!
//! [`start`] gives a vCPU a stack, the segments of the one that starts it, and a function to run: translated, as
//! main is. When the function returns the vCPU goes offline, and can be started again. Each vCPU has an
//! exception stack and a guard of its own; SPRG1, the top of the former, tells which one is running.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::{
    cpu::{self, Msr},
    hcall::{self, Failure},
    mmu::slb,
    runtime::FIRST_FREE_SLB,
};

/// The most vCPUs that a program can have.
pub const MAX: usize = 8;
/// Bytes of an exception stack.
pub(crate) const EXCEPTION_STACK: u64 = 16 << 10;
/// Bytes of the stack of a vCPU that was started.
const STACK: u64 = 64 << 10;

/// What a vCPU runs: the argument it is started with.
pub type Main = fn(u64);

/// What is to be run by a vCPU that is being started.
struct Order {
    main: AtomicUsize,
    argument: AtomicU64,
}

static ORDERS: [Order; MAX] = [const {
    Order {
        main: AtomicUsize::new(0),
        argument: AtomicU64::new(0),
    }
}; MAX];

/// How many segments the runtime has.
#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const COUNT: usize = FIRST_FREE_SLB as usize;

/// The runtime's segments, ESID and VSID doubleword of each.
static SEGMENTS: [[AtomicU64; 2]; COUNT] = [const { [const { AtomicU64::new(0) }; 2] }; COUNT];

// The first instructions of a vCPU that was started: real mode, r3 = its number, nothing else known. The TOC
// pointer as in `entry.rs`; SPRG1, the top of its exception stack: they stand in a row, number 0 first; r1, the
// top of its stack: they stand in a row, number 1 first. Numbers are below 8, so the products fit the shifts.
global_asm!(
    ".text",
    ".globl __pseries_vcpu",
    "__pseries_vcpu:",
    "lis %r2, .TOC.@ha",
    "addi %r2, %r2, .TOC.@l",
    "lis %r4, (__exception_stacks + {exception})@h",
    "ori %r4, %r4, (__exception_stacks + {exception})@l",
    "sldi %r5, %r3, {exception_shift}",
    "add %r4, %r4, %r5",
    "mtsprg 1, %r4",
    "lis %r1, __vcpu_stacks@h",
    "ori %r1, %r1, __vcpu_stacks@l",
    "sldi %r5, %r3, {stack_shift}",
    "add %r1, %r1, %r5",
    "li %r0, 0",
    "stdu %r0, -112(%r1)",
    "bl {rust}",
    "nop",
    "trap",
    exception = const EXCEPTION_STACK,
    exception_shift = const EXCEPTION_STACK.trailing_zeros(),
    stack_shift = const STACK.trailing_zeros(),
    rust = sym begin,
);

unsafe extern "C" {
    safe fn __pseries_vcpu();
    static __exception_stacks: u8;
}

/// The number of the calling vCPU.
#[must_use]
pub fn current() -> usize {
    let top: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfsprg {}, 1", out(reg) top, options(nomem, nostack)) };
    let first = (&raw const __exception_stacks).addr() as u64;
    let number = top.wrapping_sub(first + EXCEPTION_STACK) / EXCEPTION_STACK;
    usize::try_from(number).unwrap_or(0)
}

/// Starts vCPU `number` with `main(argument)`.
///
/// # Errors
/// H_PARAMETER if there is no such vCPU, H_BUSY if it runs.
///
/// # Safety
/// `main` must be sound on a vCPU of its own, beside whatever else runs.
pub unsafe fn start(number: usize, main: Main, argument: u64) -> Result<(), Failure> {
    for (slot, [esid, vsid]) in (0..).zip(&SEGMENTS) {
        let [e, v] = slb::read(slot);
        esid.store(e, Ordering::Relaxed);
        vsid.store(v, Ordering::Relaxed);
    }
    if let Some(order) = ORDERS.get(number) {
        order.argument.store(argument, Ordering::Relaxed);
        order.main.store(main as usize, Ordering::Release);
    }
    let entry = __pseries_vcpu as *const () as u64;
    // SAFETY: the entry code, with the number that it expects.
    unsafe { hcall::vcpu_start(number as u64, entry, number as u64) }
}

/// Makes the vCPU as the program expects it, and runs what it was started for.
extern "C" fn begin(number: u64) -> ! {
    cpu::quiet_decrementer();
    // SAFETY: real mode: nothing is translated.
    unsafe { slb::clear() };
    for (slot, [esid, vsid]) in (0..).zip(&SEGMENTS) {
        let esid = esid.load(Ordering::Relaxed);
        // SAFETY: the segments that the program runs by.
        unsafe { slb::insert_raw(esid | slot, vsid.load(Ordering::Relaxed)) };
    }
    // SAFETY: program and stack are mapped 1:1, EE is off.
    unsafe { cpu::set_msr(Msr::TRANSLATED) };
    let order = usize::try_from(number)
        .ok()
        .and_then(|number| ORDERS.get(number));
    if let Some(order) = order {
        let main = order.main.load(Ordering::Acquire);
        // SAFETY: `start` stored a function there, before it started this vCPU.
        let main: Main = unsafe { core::mem::transmute::<usize, Main>(main) };
        main(order.argument.load(Ordering::Relaxed));
    }
    hcall::vcpu_stop();
    // The call does not return. A hypervisor that lacks it leaves only this.
    loop {
        hcall::cede();
    }
}
