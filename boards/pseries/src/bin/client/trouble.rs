//! What can be wrong, with the evidence.

use core::fmt;

use realhpt_pseries::{hcall::Failure, mmu::MapError};

/// What was wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// A hypercall that had to succeed did not.
    Call(Failure),
    /// A mapping could not be made.
    Map(MapError),
    /// Something is not what it must be.
    Wrong {
        /// What.
        what: &'static str,
        /// Address or index.
        at: u64,
        /// What it must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
}

impl Trouble {
    /// The program's exit code.
    pub(crate) const fn code(&self) -> u64 {
        match self {
            Self::Call(_) => 1,
            Self::Map(_) => 2,
            Self::Wrong { .. } => 3,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl From<MapError> for Trouble {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(failure) => failure.fmt(f),
            Self::Map(error) => error.fmt(f),
            Self::Wrong {
                what,
                at,
                expected,
                found,
            } => {
                write!(f, "{what} at {at:#x}: {found:#x}, must be {expected:#x}")
            }
        }
    }
}

/// Nothing, if `found` is what is expected.
pub(crate) fn expect(
    what: &'static str,
    at: u64,
    expected: u64,
    found: u64,
) -> Result<(), Trouble> {
    if found == expected {
        Ok(())
    } else {
        Err(Trouble::Wrong {
            what,
            at,
            expected,
            found,
        })
    }
}
