//! Every vCPU of the machine in one row, with its state while no CPU has it.
//!
//! [`Seats`] is made at boot and then shared by all CPUs. Who may touch a vCPU's state is decided by its
//! partition's control: the CPU that it was given to, from `dispatch` to `leave`.

use core::cell::UnsafeCell;

use realhpt::lpar::schedule::Readiness;
use realhpt::lpar::vcpu::{Context, Registers};
use realhpt::lpar::{MAX_PARTITIONS, MAX_VCPUS, Partition};

use crate::board::Machine;
use crate::layout::{Error, Layout};
use crate::manifest::Manifest;
use crate::place;

/// What is kept of a vCPU.
#[derive(Debug)]
pub struct Vcpu {
    pub(crate) registers: Registers,
    pub(crate) context: Context,
}

/// Where a vCPU's state is kept.
#[derive(Debug)]
struct Kept(UnsafeCell<Vcpu>);

// SAFETY: reached through `Seats::vcpu` alone, by the one CPU that the vCPU was given to.
unsafe impl Sync for Kept {}

/// One vCPU.
#[derive(Debug)]
struct Seat {
    /// Its partition, by its place in the machine.
    partition: usize,
    /// Its number there.
    vcpu: usize,
    /// The one CPU that it runs on; none: any.
    pin: Option<usize>,
}

/// All vCPUs of the machine.
#[derive(Debug)]
pub struct Seats {
    seats: heapless::Vec<Seat, { MAX_PARTITIONS * MAX_VCPUS }>,
    kept: &'static [Kept],
}

impl Seats {
    /// Seats for the vCPUs of these partitions. A vCPU that is pinned to a CPU that the machine, which has so many,
    /// lacks runs on another.
    ///
    /// # Errors
    /// What the layout says.
    pub fn new(manifest: &Manifest<'_>, cpus: usize, layout: &mut Layout) -> Result<Self, Error> {
        let mut seats = heapless::Vec::new();
        for (partition, entry) in manifest.partitions.iter().enumerate() {
            for vcpu in 0..entry.vcpus {
                let pin = entry.pin.map(|first| (first + vcpu) % cpus.max(1));
                // As many as there can be.
                let _ = seats.push(Seat {
                    partition,
                    vcpu,
                    pin,
                });
            }
        }
        let kept = place::values(layout, seats.len(), || {
            Kept(UnsafeCell::new(Vcpu {
                registers: Registers::new(),
                context: Context::new(0),
            }))
        })?;
        Ok(Self { seats, kept })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seats.len()
    }

    /// The partition of a seat, and the number of its vCPU there.
    #[must_use]
    pub fn of<'m>(
        &self,
        machine: &'m Machine,
        seat: usize,
    ) -> Option<(&'m Partition<'static>, usize)> {
        let seat = self.seats.get(seat)?;
        Some((machine.partitions().get(seat.partition)?, seat.vcpu))
    }

    /// What the vCPU of a seat could do with a turn on a CPU.
    #[must_use]
    pub fn readiness(&self, machine: &Machine, seat: usize, cpu: usize) -> Readiness {
        let Some((partition, vcpu)) = self.of(machine, seat) else {
            return Readiness::Out;
        };
        let pin = self.seats.get(seat).and_then(|seat| seat.pin);
        match partition.control().readiness(vcpu) {
            Readiness::Ready | Readiness::Ceded if pin.is_some_and(|pin| pin != cpu) => {
                Readiness::Elsewhere
            }
            readiness => readiness,
        }
    }

    /// The state of a seat's vCPU.
    ///
    /// # Safety
    /// The vCPU was given to the calling CPU, which has not given it back, and no other reference to its state
    /// exists.
    #[expect(
        clippy::mut_from_ref,
        reason = "whose it is stands in the partition's control"
    )]
    pub unsafe fn vcpu(&self, seat: usize) -> Option<&mut Vcpu> {
        let kept = self.kept.get(seat)?;
        // SAFETY: the caller's.
        Some(unsafe { &mut *kept.0.get() })
    }
}
