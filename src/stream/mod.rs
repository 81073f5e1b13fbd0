//! The chunked stream of a table: what Linux's `KVM_PPC_GET_HTAB_FD` gives, with a contract that loses
//! nothing.
//!
//! A stream is a row of records ([`record`]): a run of valid entries, then a run of invalid slots that take
//! no bytes. [`reader`] makes them: a first pass gives everything, each later pass what changed since.
//! [`readers`] keeps the reader slots of one table and shares the changes out among them. [`writer`] restores
//! a table from records, in pieces that are applied whole or not at all. `follower` is a reader of the
//! hypervisor's own: it is shown slots, not records.
//!
//! # What is promised (DESIGN section 6)
//! * Each reader sees every change once, at its own pace, with its own filter and first pass.
//! * Nothing is taken before it is delivered; the end of a pass is said, not guessed.
//! * Every call is bounded in work, whatever the order of the table, and goes on where the last one stopped.
//! * A pass begun after the partition was paused is exact.
//!
//! Each row of that section, with the tests that hold it: `tests/contract`.
//!
//! # How it grows
//! Calls to H_HPT_READ, counted with real tables of each order (`cargo run -- scale`; `boards/qemu/src/scale` has all of it, and
//! what a wider index than the record's would take):
//!
//! | order | 24 | 30 | 36 | grows with |
//! |---|---|---|---|---|
//! | opening, at any slot; clean pass, all settled | 1 | 1 | 1 | nothing |
//! | first pass, no entries | 7 | 391 | 24 967 | words of 64 slots; entries come to it |
//! | first pass, 1 slot in 1000 valid, in runs of 64 | 8 | 525 | 33 555 | |
//! | one change: the pass that tells it | 1 | 1 | 6 | root words, 3000 a call |
//! | one change: until a pass is clean | 2 | 2 | 11 | root words |
//! | clean pass, one entry unsettled | 1 | 5 | 257 | summary words, 4096 a call |
//!
//! Bytes of memory a slot and the work of a call do not grow; order 36 is the largest that the record's index reaches, and one
//! above is refused.

pub(crate) mod follower;
mod marks;
pub mod reader;
pub mod readers;
pub mod record;
mod taken;
pub mod writer;

pub use readers::Readers;
pub use writer::Writer;

/// Work that one call may do, in units of about an instruction. A real-mode hypervisor holds off interrupts
/// while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(u64);

impl Budget {
    /// The work of one call.
    pub(crate) const fn of_a_call() -> Self {
        Self(23_000)
    }

    /// Work without a bound, for a call that has to be done in one.
    pub(crate) const fn unbounded() -> Self {
        Self(u64::MAX)
    }

    /// How much there is left.
    #[inline(always)]
    pub(crate) const fn left(&self) -> u64 {
        self.0
    }

    /// Sets `work` of it apart, for something that must get on whatever comes before it.
    pub(crate) const fn reserve(&mut self, work: u64) -> Self {
        let work = if self.0 < work { self.0 } else { work };
        self.0 -= work;
        Self(work)
    }

    /// Adds what was set apart.
    pub(crate) const fn join(&mut self, reserve: Self) {
        self.0 += reserve.0;
    }

    /// Has only so much be left.
    #[inline(always)]
    pub(crate) const fn keep(&mut self, left: u64) {
        if left < self.0 {
            self.0 = left;
        }
    }

    /// Whether there is none left.
    pub(crate) const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Spends `work`, if there is as much; whether there was.
    #[inline(always)]
    pub(crate) const fn afford(&mut self, work: u64) -> bool {
        let enough = self.0 >= work;
        if enough {
            self.0 -= work;
        }
        enough
    }

    /// Spends `work`; whether there was any left before.
    #[inline]
    pub(crate) const fn spend(&mut self, work: u64) -> bool {
        let left = self.0 > 0;
        self.0 = self.0.saturating_sub(work);
        left
    }
}
