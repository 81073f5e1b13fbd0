//! Addresses, each with its space in its type.
//!
//! [`GuestReal`] is what a guest calls real; [`HostReal`] is what hardware calls real. `memory` has the only
//! bridge between them, so a guest's address cannot reach an HPTE or a load untranslated. [`Ptex`] exists
//! only in range of the table that made it.

use core::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        pub struct $name(u64);

        impl $name {
            /// The address `raw`.
            #[must_use]
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }

            /// The number.
            #[must_use]
            pub const fn raw(self) -> u64 {
                self.0
            }

            /// The address `bytes` further on, if there is one.
            #[must_use]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `size`, a power of two.
            #[must_use]
            pub const fn is_aligned(self, size: u64) -> bool {
                self.0 & (size - 1) == 0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

address! {
    /// An address in a partition's real memory, which begins at 0.
    GuestReal
}
address! {
    /// An address in the machine's real memory.
    HostReal
}
address! {
    /// An effective address of a guest.
    EffAddr
}

/// A logical partition's id, as LPIDR holds it. 0 is the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Lpid(u16);

impl Lpid {
    /// The hypervisor itself.
    pub const HYPERVISOR: Self = Self(0);

    /// The LPID `raw`.
    #[must_use]
    pub const fn new(raw: u16) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// The index of an HPTE in its table; byte offset = 16 times this.
///
/// Made only by [`crate::table::hpt::Order::ptex`], which checks the range, so a table's memory can be
/// indexed by it. (A Ptex of a larger table than the one it is used with is a bug of the engine; indexing
/// is checked all the same.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ptex(u64);

impl Ptex {
    pub(crate) const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The number of the PTEG that the slot is in.
    pub(crate) const fn pteg(self) -> u64 {
        self.0 >> 3
    }
}
