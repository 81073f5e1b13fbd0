//! What is done when a guest leaves: every interrupt that it can cause has an answer.
//!
//! The answers keep to one rule: whatever a guest does is between it and its own interrupt vectors, or ends
//! it; never the hypervisor.

use core::sync::atomic::{AtomicU32, Ordering};

use realhpt::addr::EffAddr;
use realhpt::arch::powerpc64::{slb, spr};
use realhpt::lpar::Partition;
use realhpt::lpar::fault::{Answer, Fault, Kind};
use realhpt::lpar::vcpu::{self, Interrupt, msr};
use realhpt::lpar::vcpus::Left;
use realhpt::table::hash::Segment;

use crate::board::Machine;
use crate::cpu::Cpu;
use crate::entries::answer;
use crate::machine::Generation;
use crate::vectors::vector;
use crate::{external, opal};

/// What the vCPU does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on, or has been halted.
    Enter,
    /// It goes on if its slice is not over: the hypervisor's decrementer came.
    Tick,
    /// It goes on, but somebody wants something of this CPU.
    Kicked,
    /// It leaves the CPU: its slice is over or given up, it waits for something, or it stops.
    Leave(Left),
    /// The verdict is given.
    PowerOff,
}

/// An illegal instruction, as the guest sees it.
const ILLEGAL: Interrupt = Interrupt {
    vector: vcpu::vector::PROGRAM,
    status: vcpu::ILLEGAL_INSTRUCTION,
    dar: None,
    dsisr: None,
};

/// An external interrupt, as the guest sees it: which one, it asks its controller.
const EXTERNAL: Interrupt = Interrupt {
    vector: vcpu::vector::EXTERNAL,
    status: 0,
    dar: None,
    dsisr: None,
};

/// How many lines of one kind a run logs: a guest can bring some interrupts about as fast as it likes.
struct Quota(AtomicU32);

impl Quota {
    const fn new() -> Self {
        Self(AtomicU32::new(16))
    }

    /// Whether there is another line.
    fn take(&self) -> bool {
        let take = |left: u32| left.checked_sub(1);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

static MACHINE_CHECKS: Quota = Quota::new();
static EXTERNALS: Quota = Quota::new();
static RESETS: Quota = Quota::new();
static MAINTENANCE: Quota = Quota::new();

/// Handles an exit of the vCPU whose registers are in the CPU's area. LPCR is the one that it ran under.
pub fn handle(
    machine: &Machine,
    partition: &Partition<'static>,
    generation: Generation,
    cpu: &mut Cpu,
    exit: u64,
    lpcr: u64,
) -> Outcome {
    let status = cpu.registers.take_status();
    match exit {
        answer::CEDE => {
            // LoPAR: the call returns with external interrupts enabled.
            cpu.registers.msr |= msr::EE;
            return Outcome::Leave(Left::Ceded);
        }
        answer::YIELD => return Outcome::Leave(Left::Preempted),
        answer::STOP => return Outcome::Leave(Left::Stopped),
        answer::EXIT => return Outcome::Enter,
        answer::POWER_OFF => return Outcome::PowerOff,
        // The next turn begins with loading its translation.
        answer::RELOAD => return Outcome::Leave(Left::Preempted),
        // What waits for it is looked for before the next entry.
        answer::INTERRUPT => {}
        vector::HDEC => return Outcome::Tick,
        vector::DOORBELL => return Outcome::Kicked,
        vector::EXTERNAL if external::take(generation, cpu.number()) => return Outcome::Kicked,
        vector::HDSI | vector::HISI => {
            if let Answer::Interrupt(interrupt) =
                fault(partition, generation, cpu, exit, status).answer(partition.table())
            {
                deliver(cpu, interrupt, lpcr);
            }
        }
        // What the guest's facilities do not have is, to it, no instruction of this processor.
        vector::HEAI | vector::HFU => deliver(cpu, ILLEGAL, lpcr),
        vector::EXTERNAL | vector::HVI => {
            if EXTERNALS.take() {
                defmt::warn!("an external interrupt that nobody asked for; it is not ended");
            }
            external::hold_back(generation, cpu.number());
        }
        vector::HMI => maintenance(),
        vector::SYSTEM_RESET => {
            if RESETS.take() {
                defmt::warn!(
                    "system reset in partition {=str}",
                    partition.description().name
                );
            }
            if cpu.registers.msr & msr::RI == 0 {
                halt(machine, partition, cpu, exit);
            }
        }
        vector::MACHINE_CHECK => {
            if MACHINE_CHECKS.take() {
                log_machine_check(partition, cpu, status);
            }
            if cpu.registers.msr & msr::RI == 0 {
                halt(machine, partition, cpu, exit);
            } else {
                let vector = vcpu::vector::MACHINE_CHECK;
                let check = Interrupt {
                    vector,
                    status,
                    dar: None,
                    dsisr: None,
                };
                deliver(cpu, check, lpcr);
            }
        }
        _ => halt(machine, partition, cpu, exit),
    }
    Outcome::Enter
}

/// What hardware says of a storage interrupt. With translation off the segment is the VRMA's, with the page
/// size that the partition's VRMA has (ASDR then shows no page size). Else ASDR has it, or on POWER8, which
/// has no ASDR, the SLB, which is still the guest's.
fn fault(
    partition: &Partition<'_>,
    generation: Generation,
    cpu: &Cpu,
    exit: u64,
    status: u64,
) -> Fault {
    let (kind, at, status, translated) = if exit == vector::HDSI {
        (Kind::Data, spr::HDAR.read(), spr::HDSISR.read(), msr::DR)
    } else {
        (Kind::Fetch, cpu.registers.pc, status, msr::IR)
    };
    let at = EffAddr::new(at);
    let segment = if cpu.registers.msr & translated == 0 {
        Some(Segment::one_terabyte(
            Segment::VRMA_VSID,
            partition.vrma_shift(),
        ))
    } else if generation == Generation::Power8 {
        slb::find(at).and_then(Segment::from_slb)
    } else {
        Segment::from_slb(spr::ASDR.read())
    };
    Fault {
        kind,
        at,
        status,
        segment,
    }
}

/// Gives the guest an external interrupt, if it takes any now.
pub fn interrupt(cpu: &mut Cpu, lpcr: u64) {
    if cpu.registers.msr & msr::EE != 0 {
        deliver(cpu, EXTERNAL, lpcr);
    }
}

/// Gives the guest an interrupt of its own.
fn deliver(cpu: &mut Cpu, interrupt: Interrupt, lpcr: u64) {
    let saved = cpu.registers.deliver(interrupt, lpcr);
    // SAFETY: the guest's own register.
    unsafe { spr::SRR0.write(saved.srr0) };
    // SAFETY: the guest's own register.
    unsafe { spr::SRR1.write(saved.srr1) };
    if let Some(dar) = interrupt.dar {
        // SAFETY: the guest's own register.
        unsafe { spr::DAR.write(dar) };
    }
    if let Some(dsisr) = interrupt.dsisr {
        // SAFETY: the guest's own register.
        unsafe { spr::DSISR.write(dsisr) };
    }
}

fn log_machine_check(partition: &Partition<'_>, cpu: &Cpu, status: u64) {
    defmt::warn!(
        "machine check in partition {=str} at {=u64:#x}, SRR1 {=u64:#x} DAR {=u64:#x} DSISR {=u64:#x}",
        partition.description().name,
        cpu.registers.pc,
        cpu.registers.msr | status,
        spr::DAR.read(),
        spr::DSISR.read()
    );
}

/// Ends a partition that cannot go on; its code is the vector.
fn halt(machine: &Machine, partition: &Partition<'static>, cpu: &Cpu, exit: u64) {
    defmt::error!(
        "partition {=str} is halted: interrupt {=u64:#x} at {=u64:#x}, MSR {=u64:#x}",
        partition.description().name,
        exit,
        cpu.registers.pc,
        cpu.registers.msr
    );
    machine.halt(partition, exit);
}

/// A hypervisor maintenance interrupt: OPAL looks for the cause. What it leaves in HMER is cleared, and not
/// enabled any more: it would come again at once.
fn maintenance() {
    let causes = spr::HMER.read();
    let status = opal::handle_maintenance();
    if MAINTENANCE.take() {
        defmt::warn!(
            "hypervisor maintenance, HMER {=u64:#x}, OPAL says {=i64}",
            causes,
            status
        );
    }
    // SAFETY: an AND.
    unsafe { spr::HMER.write(0) };
    // SAFETY: disables causes that OPAL had its chance with.
    unsafe { spr::HMEER.write(spr::HMEER.read() & !causes) };
}
