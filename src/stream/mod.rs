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
#[derive(Debug)]
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

    /// Whether there is none left.
    pub(crate) const fn is_spent(&self) -> bool {
        self.0 == 0
    }

    /// Spends `work`; whether there was any left before.
    #[inline]
    pub(crate) const fn spend(&mut self, work: u64) -> bool {
        let left = self.0 > 0;
        self.0 = self.0.saturating_sub(work);
        left
    }
}
