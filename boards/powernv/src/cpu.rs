//! The area of one CPU, which HSPRG0 points to from the moment the vectors are ours.
//!
//! The assembly of [`crate::vectors`] finds here what it needs between a guest and Rust: where the guest's
//! registers go, the stack to go on with, and whom to call. A vCPU's [`Registers`] are here while it has the
//! CPU, and parked with the rest of it otherwise.
//!
//! The boot CPU's area is static: it logs before there is any memory to be had. The others get theirs, and a
//! stack, when they are started ([`crate::smp`]).

use core::cell::UnsafeCell;

use realhpt::arch::powerpc64::spr;
use realhpt::hcall::Seat;
use realhpt::lpar::Partition;
use realhpt::lpar::vcpu::Registers;

use crate::entries::TOKENS;

/// Bytes of a CPU's emergency stack.
const EMERGENCY: usize = 8192;
/// Bytes that stay free at the top of a stack: the first frame's linkage area.
pub(crate) const TOP: usize = 64;

/// A stack that is only used when nothing goes on anyway.
#[derive(Debug)]
#[repr(C, align(128))]
struct Stack([u8; EMERGENCY]);

/// What is called when a guest makes a hypercall: the CPU's area, and SRR1. 0: the guest goes on.
pub type HypercallEntry = unsafe extern "C" fn(cpu: *mut Cpu, srr1: u64) -> u64;
/// What is called on an interrupt out of hypervisor state.
pub type UnexpectedEntry = unsafe extern "C" fn(cpu: *mut Cpu) -> !;
/// What a CPU that was started calls.
pub type SecondaryEntry = unsafe extern "C" fn(cpu: *mut Cpu) -> !;

/// The area of one CPU.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Cpu {
    /// Registers of the vCPU that has the CPU, while it is out of the guest; or, on an unexpected interrupt,
    /// the hypervisor's own.
    pub registers: Registers,
    /// The vector of the last exit.
    pub vector: u64,
    /// r1 of the caller of [`crate::vectors::enter`]: its frame, and the stack of hypercalls. Before a CPU that was
    /// started has called anything: the top of its stack.
    pub(crate) stack: u64,
    /// r1 for what is called on an unexpected interrupt.
    pub(crate) emergency: u64,
    /// Whom hypercalls call, by token.
    pub(crate) hypercalls: &'static [HypercallEntry; TOKENS + 1],
    /// Whom an unexpected interrupt calls.
    pub(crate) unexpected: UnexpectedEntry,
    /// Whom a CPU that was started calls.
    pub(crate) secondary: SecondaryEntry,
    /// For hypercalls: the board, whose type their entry knows.
    pub(crate) board: *const (),
    /// For hypercalls: the partition that has the CPU.
    pub(crate) partition: *const Partition<'static>,
    /// For hypercalls: which of its vCPUs, and on which CPU: this one.
    pub(crate) seat: Seat,
    emergency_stack: Stack,
}

unsafe extern "C" fn no_hypercall(_cpu: *mut Cpu, _srr1: u64) -> u64 {
    0
}

unsafe extern "C" fn no_secondary(_cpu: *mut Cpu) -> ! {
    loop {
        realhpt::arch::powerpc64::relax();
    }
}

impl Cpu {
    /// The area of CPU `number`, before anything ran there.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self {
            registers: Registers::new(),
            vector: 0,
            stack: 0,
            emergency: 0,
            hypercalls: &[no_hypercall; TOKENS + 1],
            unexpected: crate::unexpected::interrupt,
            secondary: no_secondary,
            board: core::ptr::null(),
            partition: core::ptr::null(),
            seat: Seat {
                vcpu: 0,
                cpu: number,
            },
            emergency_stack: Stack([0; EMERGENCY]),
        }
    }

    /// Its number in the machine; the boot CPU is 0.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.seat.cpu as usize
    }
}

struct Area(UnsafeCell<Cpu>);

// SAFETY: reached through HSPRG0 and `boot_cpu` alone, by the one CPU it belongs to.
unsafe impl Sync for Area {}

static BOOT: Area = Area(UnsafeCell::new(Cpu::new(0)));

/// Gives the boot CPU its area, and says where it is.
pub fn init_boot_cpu() -> *mut Cpu {
    let cpu = BOOT.0.get();
    // SAFETY: the boot CPU's own area, which nobody else uses yet.
    unsafe { init(cpu) };
    cpu
}

/// Makes an area that of the calling CPU.
///
/// # Safety
/// Nobody else uses it, and it stays where it is.
pub unsafe fn init(cpu: *mut Cpu) {
    // SAFETY: the caller's.
    let area = unsafe { &mut *cpu };
    area.emergency = ((&raw mut area.emergency_stack).expose_provenance() + EMERGENCY - TOP) as u64;
    // SAFETY: HSPRG0 is for this.
    unsafe { spr::HSPRG0.write(cpu.expose_provenance() as u64) };
}
