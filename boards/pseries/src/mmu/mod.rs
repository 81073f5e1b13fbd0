//! The guest's side of the MMU: [`pte`] makes hashes and HPTEs, [`slb`] makes segments, [`Table`] enters
//! mappings by hypercall.

pub mod pte;
pub mod slb;

use core::fmt;

use self::pte::{Page, Segment, V_SECONDARY, V_TAG, V_VALID};
use crate::{
    abi::{Flags, Status},
    hcall::{self, Failure, Hpte},
};

/// The partition's hashed page table, which is only reached by hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    order: u64,
}

/// An entry that H_ENTER made: where, and as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its index.
    pub ptex: u64,
    /// Dword 0, with H set in the secondary group.
    pub dw0: u64,
    /// Dword 1.
    pub dw1: u64,
}

impl Entry {
    /// B and AVPN, what H_REMOVE and H_PROTECT compare under [`Flags::AVPN`].
    #[must_use]
    pub const fn tag(&self) -> u64 {
        self.dw0 & V_TAG
    }

    /// Removes the entry, if it is still this one.
    ///
    /// # Errors
    /// As [`hcall::remove`].
    pub fn remove(&self) -> Result<Hpte, Failure> {
        hcall::remove(Flags::AVPN, self.ptex, self.tag())
    }
}

/// Why there is no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The table has an entry for this virtual address, at this index: the VSID is somebody's.
    Taken(u64),
    /// Both groups are full.
    Full,
    /// The hypervisor would not.
    Refused(Failure),
}

impl From<Failure> for MapError {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(ptex) => write!(f, "the virtual page has an entry, {ptex:#x}"),
            Self::Full => write!(f, "both groups are full"),
            Self::Refused(failure) => failure.fmt(f),
        }
    }
}

impl Table {
    /// The table of 2^`order` bytes.
    #[must_use]
    pub const fn new(order: u64) -> Self {
        Self { order }
    }

    /// How many slots it has.
    #[must_use]
    pub const fn slots(&self) -> u64 {
        1 << (self.order - 4)
    }

    /// Index of the first slot of the group a hash leads to. A group has eight slots of 16 bytes.
    const fn group(&self, hash: u64) -> u64 {
        (hash << 3) & (self.slots() - 1)
    }

    /// The slot of the valid entry with this dword 0, V and H aside, in the group from `first`.
    fn find(first: u64, dw0: u64) -> Result<Option<u64>, Failure> {
        for half in [first, first + 4] {
            for (ptex, (found, _)) in (half..).zip(hcall::read_4(half)?) {
                if found & V_VALID != 0 && (found ^ dw0) & V_TAG == 0 {
                    return Ok(Some(ptex));
                }
            }
        }
        Ok(None)
    }

    /// Maps the base page at `ea` to the page that has guest real `ra` in it: in the primary group, else in
    /// the secondary. `ea` and `ra` agree in the bits below the page's size. `software` goes to the bits of
    /// dword 0 that are the operating system's, `bits` to dword 1 (protection, N, keys).
    ///
    /// The tables this runs on may hold another system's entries. Two entries for one virtual page would
    /// be a machine check on hardware, so both groups are looked through first.
    ///
    /// # Errors
    /// [`MapError`].
    ///
    /// # Safety
    /// The program may have no reference to effective addresses in the page that means other memory.
    pub unsafe fn map(
        &self,
        segment: &Segment,
        ea: u64,
        page: Page,
        (ra, bits): (u64, u64),
        software: u64,
    ) -> Result<Entry, MapError> {
        let dw0 = segment.dword_0(ea, page) | software;
        let dw1 = page.dword_1(ra, bits);
        let hash = segment.hash(ea);
        let groups = [
            (self.group(hash), dw0),
            (self.group(!hash), dw0 | V_SECONDARY),
        ];
        for (group, dw0) in groups {
            if let Some(ptex) = Self::find(group, dw0)? {
                return Err(MapError::Taken(ptex));
            }
        }
        for (group, dw0) in groups {
            // SAFETY: the caller's.
            match unsafe { hcall::enter(Flags::empty(), group, (dw0, dw1)) } {
                Ok(ptex) => return Ok(Entry { ptex, dw0, dw1 }),
                Err(failure) if failure.is(Status::PtegFull) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(MapError::Full)
    }
}
