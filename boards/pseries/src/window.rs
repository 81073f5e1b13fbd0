//! The window: memory shared with the host runner, laid out as [`crate::exchange`] says.

use core::{
    ptr::{NonNull, with_exposed_provenance_mut},
    sync::atomic::{Ordering, fence},
};

use volatile::VolatilePtr;

use crate::exchange::word;

/// The window, mapped at the effective address that equals its guest real address.
///
/// The host and the hypervisor read and write it too, so each access is one that the compiler leaves alone. The
/// host reads words of progress while they change and data only after the machine has ended: no order is
/// needed, except where a word hands over others ([`Window::acquire`], [`Window::release`]).
#[derive(Clone, Copy, Debug)]
pub struct Window {
    base: NonNull<u64>,
    words: usize,
}

impl Window {
    /// The window of `size` bytes at `base`; none at address 0.
    ///
    /// # Safety
    /// `size` bytes of memory are mapped for reading and writing at `base`, a multiple of 8, for as long as
    /// the program runs, and nothing in the program refers to them but the window.
    #[must_use]
    pub unsafe fn new(base: u64, size: u64) -> Option<Self> {
        let base = NonNull::new(with_exposed_provenance_mut(usize::try_from(base).ok()?))?;
        let words = usize::try_from(size / 8).ok()?;
        Some(Self { base, words })
    }

    /// Guest real and effective address of the window.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base.addr().get() as u64
    }

    /// Bytes of the window.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.words as u64 * 8
    }

    /// Doubleword `number`, if the window has it.
    fn word(&self, number: usize) -> Option<VolatilePtr<'_, u64>> {
        if number >= self.words {
            return None;
        }
        // SAFETY: inside the window, which `new`'s caller vouched for.
        let at = unsafe { self.base.add(number) };
        // SAFETY: the same; nothing else in the program refers to it.
        Some(unsafe { VolatilePtr::new(at) })
    }

    /// Doubleword `number`, 0 behind the end.
    #[must_use]
    pub fn get(&self, number: usize) -> u64 {
        self.word(number).map_or(0, |word| word.read())
    }

    /// Sets doubleword `number`. Behind the end there is none to set.
    pub fn set(&self, number: usize, value: u64) {
        if let Some(word) = self.word(number) {
            word.write(value);
        }
    }

    /// Doubleword `number`. What the host wrote before it wrote that is seen by later accesses.
    #[must_use]
    pub fn acquire(&self, number: usize) -> u64 {
        let value = self.get(number);
        fence(Ordering::Acquire);
        value
    }

    /// Sets doubleword `number`. The host that sees it sees what was written before.
    pub fn release(&self, number: usize, value: u64) {
        fence(Ordering::Release);
        self.set(number, value);
    }

    /// Shows what the program is doing.
    pub fn begin_phase(&self, phase: u64, total: u64) {
        self.set(word::DONE, 0);
        self.set(word::TOTAL, total);
        self.set(word::PHASE, phase);
    }
}
