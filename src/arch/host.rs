//! A machine for tests: it records what the engine asks of hardware, and plays the hardware.
//!
//! [`Recording`] keeps the order of barriers and invalidations as [`Event`]s. Its table walk is the test's: a
//! closure given to [`Recording::late`] runs once, at the next `tlbsync`, where a processor may still write R
//! and C of a translation that it has just dropped. Guest memory is a vector of doublewords from host real 0;
//! what is given by [`Recording::back`] beside it is kept sparsely, so that a large partition costs a test
//! nothing but what is stored in it.

use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::vec::Vec;

use super::{GuestRegister, Machine};
use crate::addr::{HostReal, Lpid};
use crate::sync::BeDword;

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
    /// The byte of that number in a doubleword of the table was stored, with this value.
    StoreByte(usize, u8),
    /// Memory was zeroed: where, and how many bytes.
    Zero(HostReal, u64),
    /// Instructions were made visible: where, and how many bytes.
    Synchronise(HostReal, u64),
    /// A register of the calling vCPU was set.
    Set(GuestRegister, u64),
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
    no_watchpoints: bool,
    time: AtomicU64,
    backed: Vec<(u64, u64)>,
    /// Doublewords of backed memory that are not zero.
    sparse: Mutex<BTreeMap<u64, u64>>,
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

    /// The same, but without watchpoints that guests may have, as on POWER9.
    #[must_use]
    pub fn without_watchpoints(self) -> Self {
        Self {
            no_watchpoints: true,
            ..self
        }
    }

    /// Lets time pass, in ticks of the time base.
    pub fn pass(&self, ticks: u64) {
        self.time.fetch_add(ticks, Ordering::Relaxed);
    }

    /// Puts memory at `at`, all zero. What lies below the end of the vector stays in it.
    pub fn back(&mut self, at: HostReal, bytes: u64) {
        self.backed.push((at.raw(), bytes));
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

    /// The doubleword at `at`, if it is one of the vector's; else there is memory that is kept sparsely.
    fn dword(&self, at: HostReal) -> Option<&AtomicU64> {
        let number = usize::try_from(at.raw() / 8).ok();
        let dword = number.and_then(|number| self.memory.get(number));
        let backed = |&(start, bytes): &(u64, u64)| at.raw().wrapping_sub(start) < bytes;
        assert!(
            dword.is_some() || self.backed.iter().any(backed),
            "the engine reached {at:?}, where the machine has no memory"
        );
        dword
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

    fn store_byte(&self, dword: &BeDword, number: usize, value: u8) {
        self.note(Event::StoreByte(number, value));
        dword.store_byte(number, value);
    }

    fn load(&self, at: HostReal) -> u64 {
        match self.dword(at) {
            Some(dword) => u64::from_be(dword.load(Ordering::Relaxed)),
            None => locked(&self.sparse)
                .get(&at.raw())
                .copied()
                .unwrap_or_default(),
        }
    }

    fn store(&self, at: HostReal, value: u64) {
        match self.dword(at) {
            Some(dword) => dword.store(value.to_be(), Ordering::Relaxed),
            None => {
                locked(&self.sparse).insert(at.raw(), value);
            }
        }
    }

    fn store_word(&self, at: HostReal, value: u32) {
        let dword = HostReal::new(at.raw() & !7);
        let shift = if at.is_aligned(8) { 32 } else { 0 };
        let before = self.load(dword) & !(0xffff_ffff << shift);
        self.store(dword, before | u64::from(value) << shift);
    }

    fn has(&self, register: GuestRegister) -> bool {
        !self.no_watchpoints || register <= GuestRegister::Ciabr
    }

    fn set(&self, register: GuestRegister, value: u64) {
        self.note(Event::Set(register, value));
    }

    fn time_base(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    fn zero(&self, at: HostReal, bytes: u64) {
        self.note(Event::Zero(at, bytes));
        let (mut at, end) = (at.raw(), at.raw() + bytes);
        while at < end {
            match self.dword(HostReal::new(at)) {
                Some(dword) => {
                    dword.store(0, Ordering::Relaxed);
                    at += 8;
                }
                None => {
                    locked(&self.sparse).retain(|place, _| !(at..end).contains(place));
                    at = end;
                }
            }
        }
    }

    fn synchronise_instructions(&self, at: HostReal, bytes: u64) {
        self.note(Event::Synchronise(at, bytes));
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
    fn store_byte(&self, dword: &BeDword, number: usize, value: u8) {
        (**self).store_byte(dword, number, value);
    }
    fn load(&self, at: HostReal) -> u64 {
        (**self).load(at)
    }
    fn store(&self, at: HostReal, value: u64) {
        (**self).store(at, value);
    }
    fn store_word(&self, at: HostReal, value: u32) {
        (**self).store_word(at, value);
    }
    fn has(&self, register: GuestRegister) -> bool {
        (**self).has(register)
    }
    fn set(&self, register: GuestRegister, value: u64) {
        (**self).set(register, value);
    }
    fn time_base(&self) -> u64 {
        (**self).time_base()
    }
    fn zero(&self, at: HostReal, bytes: u64) {
        (**self).zero(at, bytes);
    }
    fn synchronise_instructions(&self, at: HostReal, bytes: u64) {
        (**self).synchronise_instructions(at, bytes);
    }
}
