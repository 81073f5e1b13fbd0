//! The memory of the virtual machine that was recorded.

use crate::common::world::CLIENT_HOST;
use realhpt::memory::MAX_REGIONS;
use serde_json::Value;

/// The memory of a file's virtual machine.
#[derive(Clone)]
pub(crate) struct MemorySlots {
    /// As regions of the client's.
    pub(crate) given: Vec<(u64, u64, u64)>,
    /// Guest address and size of those that there is no region for.
    pub(crate) left: Vec<(u64, u64)>,
    /// Guest address, size and what is there of all.
    pub(crate) all: Vec<[u64; 3]>,
}

/// What is behind a page of KVM's guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// No memory.
    None,
    /// Memory whose page is made when it is touched.
    Later,
    /// A page.
    Present,
}

impl MemorySlots {
    /// The slots that matter most are given. KVM refuses a page of 16M in a slot whose bounds are not multiples
    /// of it or that has smaller pages; here it is refused where guest and host addresses differ by less: so
    /// all but the slot of huge pages are placed 64K askew. The one that has no page present takes every size,
    /// as if it were not there.
    pub(crate) fn of(header: &Value) -> Self {
        const BY_WEIGHT: [usize; 7] = [0, 2, 4, 5, 6, 3, 7];
        const TAKES_ALL: usize = 1;
        const HUGE: u64 = 2;
        let slots = header["slots"].as_array().unwrap();
        assert_eq!(slots.len(), BY_WEIGHT.len() + 1);
        assert_eq!(slots[TAKES_ALL][2], 0);
        let place = BY_WEIGHT.map(|slot| [0, 1, 2].map(|at| slots[slot][at].as_u64().unwrap()));
        let (given, left) = place.split_at(MAX_REGIONS.min(place.len()));
        Self {
            given: given
                .iter()
                .map(|&[guest, size, how]| {
                    let skew = if how == HUGE { 0 } else { 0x1_0000 };
                    (guest, CLIENT_HOST + guest + skew, size)
                })
                .collect(),
            left: left.iter().map(|&[guest, size, _]| (guest, size)).collect(),
            all: slots
                .iter()
                .map(|slot| [0, 1, 2].map(|at| slot[at].as_u64().unwrap()))
                .collect(),
        }
    }

    /// What is behind the 4K page of a dword 1.
    pub(crate) fn backing(&self, r: u64) -> Backing {
        let page = r & 0x0fff_ffff_ffff_f000;
        let of = self
            .all
            .iter()
            .find(|&&[guest, size, _]| guest <= page && page - guest < size);
        match of {
            None => Backing::None,
            Some([_, _, 0]) => Backing::Later,
            // Every second page of 64K.
            Some(&[guest, _, 4]) if (page - guest) >> 16 & 1 != 0 => Backing::Later,
            Some(_) => Backing::Present,
        }
    }

    /// Whether KVM refuses the entry for its page in a slot that is left out.
    pub(crate) fn refuses(&self, v: u64, r: u64) -> bool {
        let shift = match (v & 4 != 0, r >> 12 & 0xf) {
            (true, 0 | 8) => 24,
            (true, 3) => 34,
            _ => return false,
        };
        let page = r & 0x0fff_ffff_ffff_f000 & !((1 << shift) - 1);
        self.left
            .iter()
            .any(|&(guest, size)| guest <= page && page - guest < size)
    }

    /// The first such entry in a stream: where it begins, and its slot.
    pub(crate) fn first_refused(&self, stream: &[u8]) -> Option<(usize, u64)> {
        let dword = |at: usize| {
            stream
                .get(at..at + 8)
                .map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
        };
        let mut at = 0;
        while let Some(header) = dword(at) {
            at += 8;
            for slot in (header >> 32..).take((header >> 16 & 0xffff) as usize) {
                let (v, r) = (dword(at)?, dword(at + 8)?);
                if self.refuses(v, r) {
                    return Some((at, slot));
                }
                at += 16;
            }
        }
        None
    }
}
