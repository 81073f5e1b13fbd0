//! Atomics and locks: a thin face over core and spin that loom can stand behind.
//!
//! Everything two processors (or a processor and the table-walk hardware) may touch at once goes through
//! this module, so that `--cfg loom` explores the engine's own code and not a copy of its protocols. loom
//! models fences by `fence(SeqCst)` faithfully but not SeqCst accesses, so the engine uses relaxed accesses
//! with explicit fences throughout; the fence is then also where the `lwsync` or `sync` stands on POWER.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// Lowers the SMT priority of a spinning thread, so that the one it waits for gets the core.
#[cfg(not(loom))]
#[derive(Debug)]
pub struct Smt;

#[cfg(not(loom))]
impl spin::RelaxStrategy for Smt {
    fn relax() {
        crate::arch::relax();
    }
}

/// A fair lock whose waiters give their core away. Held for bounded work only: real-mode handlers are not
/// preempted.
#[cfg(not(loom))]
pub type Mutex<T> = spin::mutex::TicketMutex<T, Smt>;

/// loom's lock with spin's face.
#[cfg(loom)]
#[derive(Debug)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Mutex<T> {
    /// A lock around `value`.
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    /// Takes the lock.
    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<loom::sync::MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

/// A number that changes only while no other processor is at what it is about: a lock or the hold of a partition
/// orders the change. So it is none of loom's atomics, each access to which is one more thing to explore.
#[derive(Debug)]
pub struct Steady(core::sync::atomic::AtomicU64);

impl Steady {
    /// The number `value`.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(core::sync::atomic::AtomicU64::new(value))
    }

    /// The number.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// Changes it.
    pub fn set(&self, value: u64) {
        self.0.store(value, core::sync::atomic::Ordering::Relaxed);
    }
}

/// A doubleword that hardware reads: big-endian in memory on every machine, so that the bytes of a table are
/// the same on target and in a test on a little-endian host.
///
/// Under loom each load is also a store to a second atomic, which nobody loads. loom keeps in mind one access to
/// each atomic when it looks for another order of two threads: a thread that loads before it replaces, as whoever
/// locks an entry does, hides that another thread has loaded before. What nobody loads orders nothing either.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(transparent))]
pub struct BeDword(AtomicU64, #[cfg(loom)] AtomicU64);

impl BeDword {
    /// A doubleword with this value.
    #[must_use]
    pub fn new(value: u64) -> Self {
        Self(
            AtomicU64::new(value.to_be()),
            #[cfg(loom)]
            AtomicU64::new(0),
        )
    }

    /// The value.
    #[inline]
    pub fn load(&self, order: Ordering) -> u64 {
        #[cfg(loom)]
        self.1.store(0, Ordering::Relaxed);
        u64::from_be(self.0.load(order))
    }

    /// Sets the value.
    #[inline]
    pub fn store(&self, value: u64, order: Ordering) {
        self.0.store(value.to_be(), order);
    }

    /// Replaces `current` by `new`, relaxed, in one `ldarx`/`stdcx.` pair; whether it was `current`.
    #[inline(always)]
    pub fn try_replace(&self, current: u64, new: u64) -> bool {
        self.0
            .compare_exchange(
                current.to_be(),
                new.to_be(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Replaces one byte, counted from the first in memory, as a store of that byte does: beside what others do
    /// to the other seven. The stand-in for an instruction that only the target has.
    #[cfg(not(target_os = "none"))]
    pub fn store_byte(&self, number: usize, value: u8) {
        loop {
            let before = self.0.load(Ordering::Relaxed);
            let mut bytes = before.to_ne_bytes();
            if let Some(byte) = bytes.get_mut(number) {
                *byte = value;
            }
            let after = u64::from_ne_bytes(bytes);
            let replaced =
                self.0
                    .compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed);
            if replaced.is_ok() {
                return;
            }
        }
    }

    /// Sets bits as hardware sets R and C: beside the stores of others. Tests play hardware with it.
    #[cfg(not(target_os = "none"))]
    pub fn set_bits(&self, bits: u64) {
        self.0.fetch_or(bits.to_be(), Ordering::Relaxed);
    }
}
