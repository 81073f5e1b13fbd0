//! Which vCPU of a partition is where: offline, waiting for a processor, or on one.
//!
//! `Vcpus` is plain state; [`super::control::Control`] keeps it under its lock, so a vCPU is given to one CPU
//! at a time, and whoever waits for a partition to be out of guest state sees all of its vCPUs at once. A
//! vCPU counts as being on its CPU from before it enters the guest until the CPU has given it back:
//! hypercalls that it makes are within.

use super::control::Start;
use super::schedule::Readiness;
use crate::arch::MAX_CPUS;

/// Bound on the vCPUs of a partition. (Fewer under loom, whose threads have stacks of 32 KiB.)
pub const MAX_VCPUS: usize = if cfg!(loom) { 2 } else { 8 };

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Not started, or it stopped itself.
    Offline,
    /// It has work and no processor.
    Ready,
    /// It ceded and waits to be prodded, or for its decrementer.
    Ceded,
    /// On this CPU.
    On(usize),
}

#[derive(Clone, Copy, Debug)]
struct Vcpu {
    place: Place,
    /// Asked for and not yet carried out by the CPU that takes it first.
    start: Option<Start>,
    /// Prodded since it last ceded.
    prodded: bool,
    /// The CPU that it was on last.
    last: Option<usize>,
}

const OFFLINE: Vcpu = Vcpu {
    place: Place::Offline,
    start: None,
    prodded: false,
    last: None,
};

/// What a CPU has to do before it enters a vCPU that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Its registers are set anew.
    pub start: Option<Start>,
    /// It was on another CPU last, or on none.
    pub moved: bool,
}

/// How a vCPU left its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It would go on.
    Preempted,
    /// It has nothing to do until it is prodded, or its decrementer says so.
    Ceded,
    /// It stopped itself, and can be started anew.
    Stopped,
}

/// Why a vCPU was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotStarted {
    /// The partition has no such vCPU.
    Unknown,
    /// It runs already.
    Online,
}

/// The vCPUs of one partition.
#[derive(Debug)]
pub(super) struct Vcpus {
    all: [Vcpu; MAX_VCPUS],
    count: usize,
}

impl Vcpus {
    /// So many vCPUs, at least one and at most [`MAX_VCPUS`], all offline.
    pub(super) fn new(count: usize) -> Self {
        Self {
            all: [OFFLINE; MAX_VCPUS],
            count: count.clamp(1, MAX_VCPUS),
        }
    }

    fn get(&mut self, vcpu: usize) -> Option<&mut Vcpu> {
        self.all.get_mut(..self.count)?.get_mut(vcpu)
    }

    /// All vCPUs offline; they are on no CPU.
    pub(super) fn reset(&mut self) {
        self.all = [OFFLINE; MAX_VCPUS];
    }

    pub(super) fn start(&mut self, vcpu: usize, start: Start) -> Result<(), NotStarted> {
        let vcpu = self.get(vcpu).ok_or(NotStarted::Unknown)?;
        if vcpu.place != Place::Offline {
            return Err(NotStarted::Online);
        }
        *vcpu = Vcpu {
            place: Place::Ready,
            start: Some(start),
            ..OFFLINE
        };
        Ok(())
    }

    pub(super) fn readiness(&self, vcpu: usize) -> Readiness {
        match self.all.get(vcpu).map(|vcpu| vcpu.place) {
            Some(Place::Ready) => Readiness::Ready,
            Some(Place::Ceded) => Readiness::Ceded,
            Some(Place::On(_)) => Readiness::Elsewhere,
            Some(Place::Offline) | None => Readiness::Out,
        }
    }

    /// Gives a vCPU that waits for a processor to `cpu`.
    pub(super) fn dispatch(&mut self, vcpu: usize, cpu: usize) -> Option<Duty> {
        let vcpu = self.get(vcpu)?;
        if !matches!(vcpu.place, Place::Ready | Place::Ceded) {
            return None;
        }
        let moved = vcpu.last.replace(cpu) != Some(cpu);
        vcpu.place = Place::On(cpu);
        Some(Duty {
            start: vcpu.start.take(),
            moved,
        })
    }

    /// Takes a vCPU back from its CPU.
    pub(super) fn leave(&mut self, vcpu: usize, left: Left) {
        let Some(vcpu) = self.get(vcpu) else {
            return;
        };
        match left {
            Left::Stopped => *vcpu = OFFLINE,
            Left::Ceded if !vcpu.prodded => vcpu.place = Place::Ceded,
            Left::Ceded => (vcpu.place, vcpu.prodded) = (Place::Ready, false),
            Left::Preempted => vcpu.place = Place::Ready,
        }
    }

    /// Prods a vCPU; whether there is such a one.
    pub(super) fn prod(&mut self, vcpu: usize) -> bool {
        let Some(vcpu) = self.get(vcpu) else {
            return false;
        };
        if vcpu.place == Place::Ceded {
            vcpu.place = Place::Ready;
        } else if vcpu.place != Place::Offline {
            vcpu.prodded = true;
        }
        true
    }

    /// Whether there is such a vCPU.
    pub(super) fn has(&self, vcpu: usize) -> bool {
        vcpu < self.count
    }

    /// The CPU that a vCPU is on.
    pub(super) fn cpu(&self, vcpu: usize) -> Option<usize> {
        match self.all.get(vcpu)?.place {
            Place::On(cpu) => Some(cpu),
            _ => None,
        }
    }

    /// The CPUs that vCPUs are on, but for this one's.
    pub(super) fn inside_but(&self, but: Option<usize>) -> u64 {
        let others = self
            .all
            .iter()
            .enumerate()
            .filter(|&(number, _)| Some(number) != but);
        others.fold(0, |cpus, (_, vcpu)| match vcpu.place {
            Place::On(cpu) => cpus | bit(cpu),
            _ => cpus,
        })
    }
}

/// The set of one CPU.
pub(super) const fn bit(cpu: usize) -> u64 {
    1 << (cpu % MAX_CPUS)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::addr::GuestReal;
    use crate::lpar::vcpu::Endian;

    const START: Start = Start {
        entry: GuestReal::new(0x100),
        r3: 7,
        endian: Endian::Big,
    };

    fn started() -> Vcpus {
        let mut vcpus = Vcpus::new(2);
        assert_eq!(vcpus.start(0, START), Ok(()));
        vcpus
    }

    #[test]
    fn a_vcpu_is_on_one_cpu_at_a_time() {
        let mut vcpus = started();
        let duty = vcpus.dispatch(0, 3).unwrap();
        assert_eq!((duty.start, duty.moved), (Some(START), true));
        assert_eq!(vcpus.dispatch(0, 1), None);
        assert_eq!(vcpus.inside_but(None), 1 << 3);
        assert_eq!(vcpus.inside_but(Some(0)), 0);
        vcpus.leave(0, Left::Preempted);
        let again = vcpus.dispatch(0, 3).unwrap();
        assert_eq!((again.start, again.moved), (None, false));
        vcpus.leave(0, Left::Preempted);
        assert!(vcpus.dispatch(0, 1).unwrap().moved);
    }

    #[test]
    fn only_a_vcpu_that_exists_and_is_offline_is_started() {
        let mut vcpus = started();
        assert_eq!(vcpus.start(0, START), Err(NotStarted::Online));
        assert_eq!(vcpus.start(2, START), Err(NotStarted::Unknown));
        assert_eq!(vcpus.start(1, START), Ok(()));
        assert!(vcpus.dispatch(1, 0).is_some());
        assert_eq!(vcpus.start(1, START), Err(NotStarted::Online));
        vcpus.leave(1, Left::Stopped);
        assert_eq!(vcpus.dispatch(1, 0), None);
        assert_eq!(vcpus.start(1, START), Ok(()));
    }

    #[test]
    fn a_prod_is_not_lost_whenever_it_comes() {
        let mut vcpus = started();
        assert!(vcpus.dispatch(0, 0).is_some());
        // Before it is out.
        assert!(vcpus.prod(0));
        vcpus.leave(0, Left::Ceded);
        assert_eq!(vcpus.readiness(0), Readiness::Ready);
        // When it has ceded.
        assert!(vcpus.dispatch(0, 0).is_some());
        vcpus.leave(0, Left::Ceded);
        assert_eq!(vcpus.readiness(0), Readiness::Ceded);
        assert!(vcpus.prod(0));
        assert_eq!(vcpus.readiness(0), Readiness::Ready);
        assert!(!vcpus.prod(2), "there is no such vCPU");
    }

    #[test]
    fn a_prod_outlives_the_end_of_a_slice() {
        let mut vcpus = started();
        assert!(vcpus.dispatch(0, 0).is_some());
        assert!(vcpus.prod(0));
        vcpus.leave(0, Left::Preempted);
        assert!(vcpus.dispatch(0, 0).is_some());
        vcpus.leave(0, Left::Ceded);
        assert_eq!(vcpus.readiness(0), Readiness::Ready);
        assert!(vcpus.dispatch(0, 0).is_some());
        vcpus.leave(0, Left::Ceded);
        assert_eq!(vcpus.readiness(0), Readiness::Ceded, "one prod, one cede");
    }
}
