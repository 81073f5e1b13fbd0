//! What owns a table: partitions, their vCPUs, and the states they go through.
//!
//! [`System`] has all partitions of the machine; [`partition::Partition`] one of them, from the
//! [`partition::Description`] that a board reads from its manifest. [`control`] is the state machine that
//! keeps runs and writes of a partition apart; [`resize`] replaces a partition's table by one of another order;
//! [`papr`] is what PAPR keeps beside, interrupt controllers (`xics`) and what is shared in memory (`vpa`) among it;
//! [`vrma`] makes the entries that translate guest real mode;
//! [`fault`] answers storage interrupts; [`schedule`] chooses whose turn it is; [`vcpu`] is what is kept of a
//! guest's processor, [`vcpus`] where it is.

mod clear;
pub mod control;
pub mod fault;
pub mod papr;
pub mod partition;
pub mod resize;
pub mod schedule;
pub mod vcpu;
pub mod vcpus;
pub(crate) mod vpa;
pub mod vrma;
pub(crate) mod xics;

pub use partition::{Description, Partition};
pub use vcpus::MAX_VCPUS;

use crate::addr::Lpid;
use crate::arch::Machine;
use crate::hcall::abi::rtas::REBOOT;
use control::Control;
use vcpus::Left;

/// Bound on the partitions of a machine. (Fewer under loom, whose threads have stacks of 32 KiB.)
pub const MAX_PARTITIONS: usize = if cfg!(loom) { 1 } else { 8 };

/// The partitions of a machine.
#[derive(Debug)]
pub struct System<'m, M: Machine> {
    /// The processor under the engine.
    pub machine: M,
    partitions: heapless::Vec<Partition<'m>, MAX_PARTITIONS>,
}

impl<'m, M: Machine> System<'m, M> {
    /// A machine without partitions.
    #[must_use]
    pub const fn new(machine: M) -> Self {
        Self {
            machine,
            partitions: heapless::Vec::new(),
        }
    }

    /// Adds a partition.
    ///
    /// # Errors
    /// The partition, if there are too many or its LPID is taken or 0.
    #[expect(
        clippy::result_large_err,
        reason = "happens at boot, and the caller wants it back"
    )]
    pub fn add(&mut self, partition: Partition<'m>) -> Result<(), Partition<'m>> {
        let lpid = partition.description().lpid;
        if lpid.raw() == 0 || self.partition(lpid).is_some() {
            return Err(partition);
        }
        self.partitions.push(partition)
    }

    /// The partitions.
    #[must_use]
    pub fn partitions(&self) -> &[Partition<'m>] {
        &self.partitions
    }

    /// The partition with that LPID.
    #[must_use]
    pub fn partition(&self, lpid: Lpid) -> Option<&Partition<'m>> {
        self.partitions
            .iter()
            .find(|partition| partition.description().lpid == lpid)
    }

    /// Ends a partition: it is halted with `code`, and the streams that it had open are closed.
    pub fn halt(&self, partition: &Partition<'_>, code: u64) {
        // A line for each end, not for each vCPU that brings one about: a guest may start again and again.
        if partition.control().halt(&self.machine, code) {
            let name = partition.description().name;
            if code == REBOOT {
                crate::info!("partition {=str} wants to start again", name);
            } else {
                crate::info!("partition {=str} has ended with {=u64:#x}", name, code);
            }
        }
        self.close_streams_of(partition.description().lpid);
    }

    /// Takes a vCPU back from its CPU, which has saved all of its state. The last one of a partition that has halted
    /// closes what another one may have opened after the halt, and does so before it is out: whoever sees the partition
    /// halted finds none of its streams open.
    pub fn leave(&self, partition: &Partition<'_>, vcpu: usize, left: Left) {
        partition.vcpu_left(&self.machine, vcpu, left);
        if left == Left::Stopped {
            let risen = partition.papr().reset_vcpu(vcpu);
            partition.signal(&self.machine, risen);
        }
        if partition.control().is_ending() {
            self.close_streams_of(partition.description().lpid);
        }
        partition.control().leave(vcpu, left);
    }

    /// How often a vCPU was given something to do that had nothing. Nobody can run if nobody was found to while this
    /// stayed the same.
    #[must_use]
    pub fn starts(&self) -> u64 {
        let controls = self.partitions.iter().map(Partition::control);
        controls.map(Control::starts).sum()
    }

    /// Forgets on this CPU what other CPUs wait for it to forget.
    pub fn pay(&self, cpu: usize) {
        for partition in &self.partitions {
            let lpid = partition.description().lpid;
            partition.control().pay(&self.machine, lpid, cpu);
        }
    }

    /// Closes every stream that a partition has open, on whatever table: it has stopped.
    pub fn close_streams_of(&self, owner: Lpid) {
        for partition in &self.partitions {
            partition.close_streams_of(owner);
        }
    }
}
