//! The input as numbers. What is beyond its end is zero.

use crate::common::world::Store;

/// What is left of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'d>(pub(crate) &'d [u8]);

impl Bytes<'_> {
    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_at(self.0.len().min(N));
        self.0 = later;
        let mut bytes = [0; N];
        bytes[..now.len()].copy_from_slice(now);
        bytes
    }

    pub(crate) fn u8(&mut self) -> u8 {
        let [byte] = self.take();
        byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    /// One of these.
    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.u8()) % choices.len()]
    }
}

thread_local! {
    /// What hardware does late outlives every borrow, so the memory of the tables is never given back: each input
    /// has it again.
    static STORE: &'static Store = Box::leak(Box::new(Store::pair(18)));
}

/// The memory of the tables, empty.
pub(crate) fn empty_store() -> &'static Store {
    let store = STORE.with(|store| *store);
    store.empty();
    store
}
