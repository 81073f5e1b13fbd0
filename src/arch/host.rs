//! A machine for tests: it records what the engine asks of hardware, and plays the hardware.
//!
//! [`Recording`] keeps the order of barriers and invalidations as [`Event`]s. Its table walk is the test's: a
//! closure given to [`Recording::late`] runs once, at the next `tlbsync`, where a processor may still write R
//! and C of a translation that it has just dropped. Guest memory is a vector of doublewords from host real 0.

use std::boxed::Box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::vec::Vec;

use super::Machine;
use crate::addr::{HostReal, Lpid};

/// Something the engine asked of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `ptesync`.
    Ptesync,
    /// `tlbie` with this RB for this partition.
    Tlbie(u64, Lpid),
    /// `eieio; tlbsync; ptesync`.
    Tlbsync,
    /// `tlbiel` with this RB.
    Tlbiel(u64),
    /// The `ptesync` that ends it.
    TlbielSync,
    /// This CPU was kicked.
    Kick(usize),
    /// Everything of a partition was dropped.
    FlushLpid(Lpid),
    /// `eieio`.
    Eieio,
}

/// What hardware does late.
type Late = Box<dyn FnOnce() + Send>;

/// A machine that records.
#[derive(Default)]
pub struct Recording {
    events: Mutex<Option<Vec<Event>>>,
    late: Mutex<Vec<Late>>,
    memory: Vec<AtomicU64>,
    for_itself: bool,
}

impl core::fmt::Debug for Recording {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recording")
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// A machine with `bytes` of memory, that does not record yet.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            memory: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            ..Self::default()
        }
    }

    /// The same, but each CPU has to forget a partition's translations for itself, as on POWER8.
    #[must_use]
    pub fn forgetting_for_itself(self) -> Self {
        Self {
            for_itself: true,
            ..self
        }
    }

    /// Begins to record.
    pub fn record(&self) {
        *locked(&self.events) = Some(Vec::new());
    }

    /// What was recorded since [`Self::record`].
    #[must_use]
    pub fn recorded(&self) -> Vec<Event> {
        locked(&self.events).take().unwrap_or_default()
    }

    /// Has hardware do something late: just before the next `tlbsync` or flush of a partition ends.
    pub fn late(&self, act: impl FnOnce() + Send + 'static) {
        locked(&self.late).push(Box::new(act));
    }

    fn note(&self, event: Event) {
        if let Some(events) = locked(&self.events).as_mut() {
            events.push(event);
        }
    }

    fn run_late(&self) {
        let late = core::mem::take(&mut *locked(&self.late));
        for act in late {
            act();
        }
    }

    fn dword(&self, at: HostReal) -> &AtomicU64 {
        let number = usize::try_from(at.raw() / 8).ok();
        match number.and_then(|number| self.memory.get(number)) {
            Some(dword) => dword,
            None => panic!("the engine reached {at:?}, where the machine has no memory"),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Machine for Recording {
    fn ptesync(&self) {
        self.note(Event::Ptesync);
        fence(Ordering::SeqCst);
    }

    fn tlbie(&self, rb: u64, lpid: Lpid) {
        self.note(Event::Tlbie(rb, lpid));
    }

    fn tlbsync(&self) {
        self.run_late();
        self.note(Event::Tlbsync);
        fence(Ordering::SeqCst);
    }

    fn tlbiel(&self, rb: u64) {
        self.note(Event::Tlbiel(rb));
    }

    fn tlbiel_sync(&self) {
        self.run_late();
        self.note(Event::TlbielSync);
        fence(Ordering::SeqCst);
    }

    fn forgets_everywhere(&self) -> bool {
        !self.for_itself
    }

    fn kick(&self, cpu: usize) {
        self.note(Event::Kick(cpu));
    }

    fn flush_lpid(&self, lpid: Lpid) {
        self.run_late();
        self.note(Event::FlushLpid(lpid));
        fence(Ordering::SeqCst);
    }

    fn eieio(&self) {
        self.note(Event::Eieio);
    }

    fn load(&self, at: HostReal) -> u64 {
        u64::from_be(self.dword(at).load(Ordering::Relaxed))
    }

    fn store(&self, at: HostReal, value: u64) {
        self.dword(at).store(value.to_be(), Ordering::Relaxed);
    }
}

impl<T: Machine> Machine for &T {
    fn ptesync(&self) {
        (**self).ptesync();
    }
    fn tlbie(&self, rb: u64, lpid: Lpid) {
        (**self).tlbie(rb, lpid);
    }
    fn tlbsync(&self) {
        (**self).tlbsync();
    }
    fn tlbiel(&self, rb: u64) {
        (**self).tlbiel(rb);
    }
    fn tlbiel_sync(&self) {
        (**self).tlbiel_sync();
    }
    fn flush_lpid(&self, lpid: Lpid) {
        (**self).flush_lpid(lpid);
    }
    fn forgets_everywhere(&self) -> bool {
        (**self).forgets_everywhere()
    }
    fn kick(&self, cpu: usize) {
        (**self).kick(cpu);
    }
    fn eieio(&self) {
        (**self).eieio();
    }
    fn load(&self, at: HostReal) -> u64 {
        (**self).load(at)
    }
    fn store(&self, at: HostReal, value: u64) {
        (**self).store(at, value);
    }
}
