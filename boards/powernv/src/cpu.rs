//! The area of one CPU, which HSPRG0 points to from the moment the vectors are ours.
//!
//! The assembly of [`crate::vectors`] finds here what it needs between a guest and Rust: where the guest's
//! registers go, the stack to go on with, and whom to call. A vCPU's [`Registers`] are here while it has the
//! CPU, and parked with the rest of it otherwise.

use core::cell::UnsafeCell;

use realhpt::arch::powerpc64::spr;
use realhpt::lpar::Partition;
use realhpt::lpar::vcpu::Registers;

/// Bytes of a CPU's emergency stack.
const EMERGENCY: usize = 8192;

/// A stack that is only used when nothing goes on anyway.
#[derive(Debug)]
#[repr(C, align(128))]
struct Stack([u8; EMERGENCY]);

/// What is called when a guest makes a hypercall: the CPU's area, and SRR1. 0: the guest goes on.
pub type HypercallEntry = unsafe extern "C" fn(cpu: *mut Cpu, srr1: u64) -> u64;
/// What is called on an interrupt out of hypervisor state.
pub type UnexpectedEntry = unsafe extern "C" fn(cpu: *mut Cpu) -> !;

/// The area of one CPU.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Cpu {
    /// Registers of the vCPU that has the CPU, while it is out of the guest; or, on an unexpected interrupt,
    /// the hypervisor's own.
    pub registers: Registers,
    /// The vector of the last exit.
    pub vector: u64,
    /// r1 of the caller of [`crate::vectors::enter`]: its frame, and the stack of hypercalls.
    pub(crate) stack: u64,
    /// r1 for what is called on an unexpected interrupt.
    pub(crate) emergency: u64,
    /// Whom a hypercall calls.
    pub(crate) hypercall: HypercallEntry,
    /// Whom an unexpected interrupt calls.
    pub(crate) unexpected: UnexpectedEntry,
    /// For hypercalls: the board, whose type their entry knows.
    pub(crate) board: *const (),
    /// For hypercalls: the partition that has the CPU.
    pub(crate) partition: *const Partition<'static>,
    emergency_stack: Stack,
}

unsafe extern "C" fn no_hypercall(_cpu: *mut Cpu, _srr1: u64) -> u64 {
    0
}

struct Area(UnsafeCell<Cpu>);

// SAFETY: reached through HSPRG0 and `boot_cpu` alone, by the one CPU it belongs to.
unsafe impl Sync for Area {}

static BOOT: Area = Area(UnsafeCell::new(Cpu {
    registers: Registers::new(),
    vector: 0,
    stack: 0,
    emergency: 0,
    hypercall: no_hypercall,
    unexpected: crate::unexpected::interrupt,
    board: core::ptr::null(),
    partition: core::ptr::null(),
    emergency_stack: Stack([0; EMERGENCY]),
}));

/// Gives the boot CPU its area, and says where it is.
pub fn init_boot_cpu() -> *mut Cpu {
    let cpu = BOOT.0.get();
    // SAFETY: the boot CPU's own area, which nobody else uses yet.
    let area = unsafe { &mut *cpu };
    // 64 bytes below the end are the first frame's linkage area.
    area.emergency = ((&raw mut area.emergency_stack).expose_provenance() + EMERGENCY - 64) as u64;
    // SAFETY: HSPRG0 is for this.
    unsafe { spr::HSPRG0.write(cpu as u64) };
    cpu
}
