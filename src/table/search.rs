//! Finding the entry that translates an address, as hardware would, absent and locked ones included.

use super::bitmap::{WORD, ones};
use super::hash::Segment;
use super::hpt::{Copy, Table};
use super::hpte::{ABSENT, COMPARED, GuestR, GuestV, SECONDARY};
use super::page_size::PageSize;
use crate::addr::{EffAddr, Ptex};
use crate::sync::Ordering;

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No entry.
    Nothing,
    /// Someone is changing an entry in one of the groups: it may be the one.
    Locked,
    /// The entry, and whether hardware may use it (else it is absent: no memory is behind it).
    Entry {
        /// Its slot.
        ptex: Ptex,
        /// Dword 0 as the guest knows it.
        v: GuestV,
        /// Dword 1 as the guest knows it.
        r: GuestR,
        /// Hardware may use it, now or when whoever changes it is done: it is not absent.
        valid: bool,
    },
}

impl Table<'_> {
    /// Searches the primary and then the secondary group for the entry that translates `at` in `segment`:
    /// B, AVPN, H and the base page size match (ISA 3.0B Book III section 5.7.9.3).
    #[must_use]
    pub fn find(&self, segment: Segment, at: EffAddr) -> Found {
        let mask = self.order().groups() - 1;
        let hash = segment.hash(at);
        let avpn = segment.avpn(at);
        let mut locked = false;
        for (group, h) in [(hash & mask, 0), (!hash & mask, SECONDARY)] {
            let first = group * 8;
            // Most slots of most groups are free, and the groups are looked at on each first access of a guest to a page.
            let occupied = self.occupied().word(first / WORD) >> (first % WORD) & 0xff;
            for slot in ones(occupied).filter_map(|bit| self.slot_at(first + bit)) {
                match self.copy(slot) {
                    Copy::Free => {}
                    Copy::Busy => locked = true,
                    Copy::Entry { v, r, .. } => {
                        let size = PageSize::decode(v.raw(), r.raw());
                        let matches = v.raw() & (COMPARED | SECONDARY) == avpn | h
                            && size.is_some_and(|size| size.base_shift() == segment.base_shift());
                        if matches {
                            // By now someone may have locked it, and cleared VALID for a moment.
                            let valid = slot.dword0().load(Ordering::Relaxed) & ABSENT == 0;
                            let ptex = slot.ptex();
                            return Found::Entry { ptex, v, r, valid };
                        }
                    }
                }
            }
        }
        if locked {
            Found::Locked
        } else {
            Found::Nothing
        }
    }
}
