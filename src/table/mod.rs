//! The HPT of one partition: the real table, the guest view, and what is known about each slot.
//!
//! Key types: [`Table`] owns the memory; [`hpte`] has the bits of an entry in both real formats and keeps
//! the guest's dword 1 ([`hpte::GuestR`]) apart from hardware's ([`hpte::RealR`]); [`slot`] is the typestate
//! through which alone an entry changes, [`batch`] the same for the slots of a word at once, which [`ready`] makes entries for;
//! [`tlb`] makes tlbie operands and batches; [`bitmap`] has the
//! occupied, unsettled and changed bitmaps; [`hash`] finds the groups of an address, [`block`] the block of
//! pages that an entry belongs to. [`Tables`] is the table in use and the spare one that [`resize`] fills.
//!
//! # Invariants
//! * Who sets a bit in `occupied` owns the slot until dword 0 shows VALID or ABSENT; the bit is cleared last
//!   of all when an entry goes.
//! * HVLOCK is only ever taken on a dword 0 that shows VALID or ABSENT, tested in the same
//!   `ldarx`/`stdcx.`: a lock on a claimed slot would overwrite the entry being published.
//! * A valid slot whose bit in `unsettled` is clear has every R and C that hardware may set in its guest view
//!   already.
//! * A slot that is not occupied is zero in both dwords: no stale real address is left to be read.
//! * Whether a slot is in `unsettled` stands in its guest view, too, in a bit that no guest has: whoever holds the slot
//!   need not look at the bitmap, which is for those who scan.
//! * A modification ends in a [`slot::Changed`], which is to be noted before the call returns.
//!
//! The arrays themselves are [`crate::arch::arrays`]: a slot's number is checked once for all of them.
//!
//! Which test fails when an ordering is broken stands in `tests/interleavings/src/lib.rs`.

mod area;
pub mod batch;
pub mod bitmap;
pub mod block;
pub mod hash;
pub mod hpt;
pub mod hpte;
pub mod page_size;
pub mod ready;
pub mod resize;
pub mod search;
pub mod slot;
mod tables;
pub mod tlb;

pub use area::Memory;
pub use hpt::{Order, READERS, Table};
pub use hpte::Format;
pub use tables::Tables;
