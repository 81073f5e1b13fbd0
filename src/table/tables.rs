//! The table of a partition, and the spare one that a resize makes the next.
//!
//! # Invariants
//! * Nobody but a resize touches the spare table, and hardware does not walk it.
//! * Which of the two is in use changes ([`Tables::swap`]) under the lock of the partition's readers, while the
//!   partition is held: none of its processors is in guest state or in a hypercall, and no reader is in use. So a
//!   call looks the table up once it is inside one of these, and never keeps it.

use super::area::Memory;
use super::bitmap::Marks;
use super::hpt::{Order, READERS, Table};
use super::hpte::Format;
use crate::addr::Lpid;
use crate::sync::Steady;

/// One or two tables, one of them in use.
#[derive(Debug)]
pub struct Tables<'m> {
    first: Table<'m>,
    second: Option<Table<'m>>,
    /// Not zero: the second one is in use.
    swapped: Steady,
    /// The order that the first one began with.
    initial: Order,
    /// Bytes of all that is reserved for them.
    reserved: u64,
}

impl<'m> Tables<'m> {
    /// Empty tables over zeroed memory, and the marks of their reader slots.
    #[must_use]
    pub fn new(lpid: Lpid, format: Format, memory: Memory<'m>) -> (Self, [Marks<'m>; READERS]) {
        let reserved = memory.bytes();
        let Memory {
            order,
            first,
            spare,
            readers,
            ..
        } = memory;
        let tables = Self {
            first: Table::new(lpid, format, order, first),
            second: spare.map(|spare| Table::new(lpid, format, order, spare)),
            swapped: Steady::new(0),
            initial: order,
            reserved,
        };
        (tables, readers)
    }

    /// The table in use.
    #[inline]
    #[must_use]
    pub fn current(&self) -> &Table<'m> {
        // Not swapped is the usual case, whether there is a second one or not.
        if self.swapped.get() == 0 {
            return &self.first;
        }
        self.second.as_ref().unwrap_or(&self.first)
    }

    /// The other one, if there is one.
    #[must_use]
    pub(crate) fn spare(&self) -> Option<&Table<'m>> {
        match &self.second {
            Some(_) if self.swapped.get() != 0 => Some(&self.first),
            second => second.as_ref(),
        }
    }

    /// Makes the spare table the one in use, and the other way round. See the invariants for who may.
    pub(crate) fn swap(&self) {
        if let Some(spare) = self.spare() {
            spare.succeed(self.current());
            self.swapped.set(1 - self.swapped.get());
        }
    }

    /// Gives the table in use, which is empty and whose partition is stopped, the order that it began with.
    pub(crate) fn begin_anew(&self) {
        self.current().set_order(self.initial);
    }

    /// Bytes of memory that is reserved for the tables, but for the HPT in use.
    #[must_use]
    pub fn bytes_beside(&self) -> u64 {
        self.reserved - self.current().order().bytes()
    }
}
