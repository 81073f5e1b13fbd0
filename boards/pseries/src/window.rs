//! The window: memory shared with the host runner, laid out as [`crate::exchange`] says.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::exchange::word;

/// The window, mapped at the effective address that equals its guest real address.
///
/// The host and the hypervisor read and write it too, so its doublewords are atomics. The host reads words
/// of progress while they change and data only after the machine has ended: no order is needed.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    words: &'static [AtomicU64],
}

impl Window {
    /// # Safety
    /// `size` bytes of memory are mapped for reading and writing at `base`, a multiple of 8, for as long as
    /// the program runs, and nothing in the program refers to them but the window.
    pub(crate) unsafe fn new(base: u64, size: u64) -> Option<Self> {
        let base = core::ptr::without_provenance(usize::try_from(base).ok()?);
        let length = usize::try_from(size / 8).ok()?;
        // SAFETY: the caller vouches for the memory.
        let words = unsafe { core::slice::from_raw_parts(base, length) };
        Some(Self { words })
    }

    /// Guest real and effective address of the window.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.words.as_ptr().addr() as u64
    }

    /// Bytes of the window.
    #[must_use]
    pub fn size(&self) -> u64 {
        size_of_val(self.words) as u64
    }

    /// Doubleword `number`, 0 behind the end.
    #[must_use]
    pub fn get(&self, number: usize) -> u64 {
        self.words.get(number).map_or(0, |word| word.load(Relaxed))
    }

    /// Sets doubleword `number`. Behind the end there is none to set.
    pub fn set(&self, number: usize, value: u64) {
        if let Some(word) = self.words.get(number) {
            word.store(value, Relaxed);
        }
    }

    /// Shows what the program is doing.
    pub fn begin_phase(&self, phase: u64, total: u64) {
        self.set(word::DONE, 0);
        self.set(word::TOTAL, total);
        self.set(word::PHASE, phase);
    }
}
