//! What PAPR keeps of a partition and its vCPUs beside their registers.
//!
//! [`Papr`] is a part of each [`Partition`]. Any vCPU may change what is kept of another one, on another CPU: so all
//! of it is behind atomics, or behind a lock that is held for a few loads and stores. It begins anew with each start of the
//! partition, and what is a vCPU's also when that vCPU stops itself; but what others prepare for a vCPU that is offline
//! is there when it starts.
//!
//! What a board asks and tells is here, too, as methods of [`Partition`].

use super::partition::Partition;
use super::vcpu::lpcr;
use super::vcpus::MAX_VCPUS;
use super::vpa::Areas;
use super::xics::{Set, Xics};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// What PAPR keeps of a partition.
#[derive(Debug)]
pub struct Papr {
    /// The fields of the LPCR that are the partition's choice.
    lpcr: AtomicU64,
    /// Seconds that its clock is ahead of the machine's, modulo 2^64. As a clock with a battery it goes on when the
    /// partition does not.
    clock: AtomicU64,
    xics: Xics,
    /// What each vCPU shares in memory.
    areas: [Mutex<Areas>; MAX_VCPUS],
}

impl Papr {
    /// Of a partition with so many vCPUs.
    pub(super) fn new(vcpus: usize) -> Self {
        Self {
            lpcr: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            xics: Xics::new(vcpus),
            areas: core::array::from_fn(|_| Mutex::new(Areas::new())),
        }
    }

    /// Begins anew: the partition starts.
    pub(super) fn reset(&self) {
        self.lpcr.store(0, Ordering::Relaxed);
        self.xics.reset();
        for areas in &self.areas {
            *areas.lock() = Areas::new();
        }
    }

    /// Begins anew for a vCPU, which stops itself; which vCPUs an interrupt waits for by that.
    pub(super) fn reset_vcpu(&self, vcpu: usize) -> Set {
        let _ = self.with_areas(vcpu, |areas| *areas = Areas::new());
        self.xics.reset_vcpu(vcpu)
    }

    /// Does something with what a vCPU shares in memory, if there can be such a vCPU.
    pub(crate) fn with_areas<R>(
        &self,
        vcpu: usize,
        act: impl FnOnce(&mut Areas) -> R,
    ) -> Option<R> {
        let mut areas = self.areas.get(vcpu)?.lock();
        Some(act(&mut areas))
    }

    /// The yield count of a vCPU that has a VPA.
    pub(crate) fn yield_count(&self, vcpu: usize) -> Option<u32> {
        self.with_areas(vcpu, |areas| areas.yield_count())?
    }

    /// Its interrupt controllers.
    pub(crate) const fn xics(&self) -> &Xics {
        &self.xics
    }

    /// Seconds that the partition's clock is ahead of the machine's, modulo 2^64.
    pub(crate) fn clock(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    /// Sets them.
    pub(crate) fn set_clock(&self, ahead: u64) {
        self.clock.store(ahead, Ordering::Relaxed);
    }

    /// Sets a field of the LPCR, at once: a vCPU that begins a turn meanwhile has the old value or the new one.
    pub(crate) fn set_lpcr(&self, field: u64, value: u64) {
        let set = |lpcr| Some(lpcr & !field | value & field);
        // It always says what is to be set.
        let _ = self
            .lpcr
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
    }
}

impl Partition<'_> {
    /// LPCR\[ILE\] and LPCR\[AIL\] as the partition wants them: to be loaded before each turn of a vCPU, and after
    /// [`crate::hcall::Next::Reload`].
    #[must_use]
    pub fn lpcr(&self) -> u64 {
        self.papr().lpcr.load(Ordering::Relaxed) & (lpcr::ILE | lpcr::AIL)
    }
}
