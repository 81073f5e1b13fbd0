//! Emptying a table that stays in use, a piece at a time: what a reset and H_CLEAR_HPT do.

use super::Partition;
use crate::arch::Machine;
use crate::hcall::abi::Status;
use crate::table::bitmap::{WORD, ones};
use crate::table::hash::is_vrma;
use crate::table::hpte::GuestV;
use crate::table::tlb;

/// Slots that one piece looks at.
const PIECE: u64 = 1 << 16;
/// Entries that one piece removes or passes, at most: more than a word of slots has.
const PIECE_ENTRIES: u64 = 128;

impl Partition<'_> {
    /// H_CLEAR_HPT: a piece of it, from where the last one stopped.
    pub(crate) fn clear_hpt<M: Machine>(&self, machine: &M) -> Status {
        // One piece at a time: who is told that the table is clear must not find another still at it.
        let Some(mut from) = self.clearing().try_lock() else {
            return Status::Continue;
        };
        let reached = self.remove_from(machine, *from, is_vrma);
        *from = reached.unwrap_or(0);
        match reached {
            Some(_) => Status::Continue,
            None => Status::Success,
        }
    }

    /// Removes the entries from slot `from` on, but for those to keep, as H_REMOVE would; where it stopped.
    pub(super) fn remove_from<M: Machine>(
        &self,
        machine: &M,
        from: u64,
        keep: fn(GuestV) -> bool,
    ) -> Option<u64> {
        let table = self.table();
        let slots = table.order().slots();
        let end = (from + PIECE).min(slots);
        let mut work = PIECE_ENTRIES;
        for word in from / WORD..end / WORD {
            for bit in ones(table.occupied().word(word)) {
                if work == 0 {
                    return Some(word * WORD);
                }
                work -= 1;
                let slot = table.slot_at(word * WORD + bit);
                let Some(locked) = slot.and_then(|slot| slot.lock()) else {
                    continue;
                };
                if keep(locked.v()) {
                    continue;
                }
                let (_, changed) = if locked.is_valid() {
                    tlb::flush_one(machine, table.lpid(), locked.invalidate()).remove()
                } else {
                    locked.remove_absent()
                };
                changed.note();
            }
        }
        (end < slots).then_some(end)
    }
}
