//! The table of a partition, and the spare one that a resize makes the next.
//!
//! # Invariants
//! * Nobody but a resize touches the spare table, and hardware does not walk it.
//! * Which of the two is in use changes ([`Tables::swap`]) under the lock of the partition's readers, while the
//!   partition is held: none of its processors is in guest state or in a hypercall, and no reader is in use. So a
//!   call looks the table up once it is inside one of these, and never keeps it.

use super::area::Memory;
use super::bitmap::index;
use super::hpt::{Order, READERS, Table};
use super::hpte::Format;
use crate::addr::Lpid;
use crate::arch::arrays::Levels;
use crate::sync::Steady;

/// One or two tables, one of them in use.
#[derive(Debug)]
pub struct Tables<'m> {
    /// Where there is no spare area the second one has no slots.
    pair: [Table<'m>; 2],
    has_spare: bool,
    /// Which one is in use.
    current: Steady,
    /// The order that the first one began with.
    initial: Order,
    /// Bytes of all that is reserved for them.
    reserved: u64,
}

impl<'m> Tables<'m> {
    /// Empty tables over zeroed memory, and the marks of their reader slots.
    #[must_use]
    pub fn new(lpid: Lpid, format: Format, memory: Memory<'m>) -> (Self, [Levels<'m>; READERS]) {
        let reserved = memory.bytes();
        let Memory {
            order,
            first,
            spare,
            readers,
            ..
        } = memory;
        let tables = Self {
            has_spare: spare.is_some(),
            pair: [first, spare.unwrap_or_default()]
                .map(|arrays| Table::new(lpid, format, order, arrays)),
            current: Steady::new(0),
            initial: order,
            reserved,
        };
        (tables, readers)
    }

    /// The table in use.
    #[inline(always)]
    #[must_use]
    pub fn current(&self) -> &Table<'m> {
        self.get(self.current.get())
    }

    #[inline(always)]
    #[expect(
        clippy::indexing_slicing,
        reason = "one bit makes an index of two tables"
    )]
    fn get(&self, number: u64) -> &Table<'m> {
        &self.pair[index(number & 1)]
    }

    /// The other one, if there is one.
    #[must_use]
    pub(crate) fn spare(&self) -> Option<&Table<'m>> {
        self.has_spare.then(|| self.get(self.current.get() ^ 1))
    }

    /// Makes the spare table the one in use, and the other way round. See the invariants for who may.
    pub(crate) fn swap(&self) {
        if let Some(spare) = self.spare() {
            spare.succeed(self.current());
            self.current.set(self.current.get() ^ 1);
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
