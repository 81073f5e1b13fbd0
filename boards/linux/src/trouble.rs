//! What can be wrong.

use core::fmt;

/// The result of something that may go wrong.
pub(crate) type Result<T> = core::result::Result<T, Trouble>;

/// What was wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// Memory holds something else than it should.
    Wrong {
        /// When that was found.
        after: &'static str,
        /// Where.
        address: usize,
        /// What it holds.
        found: u64,
        /// What it should hold.
        wanted: u64,
    },
    /// Memory could be used that should have faulted, or faulted and should not have.
    Fault {
        /// When.
        after: &'static str,
        /// Where.
        address: usize,
        /// Exit status of the process that tried; none: a signal ended it.
        status: Option<i32>,
    },
    /// A child found something wrong, and has said what.
    Child,
    /// A system call failed.
    Call {
        /// Which.
        name: &'static str,
        /// With what number.
        error: usize,
    },
    /// Something else.
    Other(&'static str),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Wrong {
                after,
                address,
                found,
                wanted,
            } => write!(
                f,
                "wrong bytes at {address:#x} after {after}: {found:#018x}, not {wanted:#018x}"
            ),
            Self::Fault {
                after,
                address,
                status,
            } => write!(f, "wrong access at {address:#x} after {after}: {status:?}"),
            Self::Child => f.write_str("a child has failed"),
            Self::Call { name, error } => write!(f, "{name} failed: error {error}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}
