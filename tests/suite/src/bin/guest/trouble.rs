//! What can be wrong with a case, with the evidence and the place in the source.

use core::{fmt, panic::Location};

use realhpt_pseries::{abi::Status, guard::Fault, hcall::Failure, mmu::MapError};

/// What was wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    what: &'static str,
    place: &'static Location<'static>,
    evidence: Evidence,
}

/// What it was found by.
#[derive(Clone, Copy, Debug)]
enum Evidence {
    Values { expected: u64, found: u64 },
    Call(Failure),
    Map(MapError),
    Interrupt(Fault),
}

/// How a case or a part of it went.
pub(crate) type Outcome<T = ()> = Result<T, Trouble>;

impl Trouble {
    #[track_caller]
    fn new(what: &'static str, evidence: Evidence) -> Self {
        Self {
            what,
            place: Location::caller(),
            evidence,
        }
    }

    /// An interrupt that the case did not expect.
    #[track_caller]
    pub(crate) fn interrupt(fault: Fault) -> Self {
        Self::new("unexpected interrupt", Evidence::Interrupt(fault))
    }

    /// What ended because of another trouble.
    #[track_caller]
    pub(crate) fn broken_off() -> Self {
        let (expected, found) = (1, 0);
        Self::new("broken off", Evidence::Values { expected, found })
    }

    /// The line of the source: the detail of a failed case, and a client's exit code.
    pub(crate) fn line(&self) -> u64 {
        self.place.line().into()
    }

    /// Where it is.
    pub(crate) fn place(&self) -> &Location<'static> {
        self.place
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match self.evidence {
            Evidence::Values { expected, found } => {
                write!(f, "{found:#x}, must be {expected:#x}")
            }
            Evidence::Call(failure) => failure.fmt(f),
            Evidence::Map(error) => error.fmt(f),
            Evidence::Interrupt(Fault {
                vector,
                dar,
                dsisr,
                srr0,
                srr1,
            }) => {
                write!(
                    f,
                    "{vector:#x} at {srr0:#x}, SRR1 {srr1:#x} DAR {dar:#x} DSISR {dsisr:#x}"
                )
            }
        }
    }
}

/// Nothing, if `found` is what is expected.
#[track_caller]
pub(crate) fn same(what: &'static str, expected: u64, found: u64) -> Outcome {
    if found == expected {
        return Ok(());
    }
    Err(Trouble::new(what, Evidence::Values { expected, found }))
}

/// Nothing, if it holds. `found` is shown if it does not.
#[track_caller]
pub(crate) fn holds(what: &'static str, found: u64, holds: bool) -> Outcome {
    if holds {
        return Ok(());
    }
    let expected = !0;
    Err(Trouble::new(what, Evidence::Values { expected, found }))
}

/// Nothing, if the call failed with this status.
#[track_caller]
pub(crate) fn refused<T>(
    what: &'static str,
    status: Status,
    result: Result<T, Failure>,
) -> Outcome {
    let found = match result {
        Ok(_) => Status::Success.raw(),
        Err(failure) if failure.is(status) => return Ok(()),
        Err(failure) => failure.status,
    };
    let expected = status.raw();
    Err(Trouble::new(what, Evidence::Values { expected, found }))
}

/// The fault, if there was one with this vector.
#[track_caller]
pub(crate) fn faulted<T>(
    what: &'static str,
    vector: u64,
    result: Result<T, Fault>,
) -> Outcome<Fault> {
    match result {
        Err(fault) if fault.vector == vector => Ok(fault),
        Err(fault) => Err(Trouble::new(what, Evidence::Interrupt(fault))),
        Ok(_) => Err(Trouble::new(
            what,
            Evidence::Values {
                expected: vector,
                found: 0,
            },
        )),
    }
}

/// What has to succeed.
pub(crate) trait Must<T> {
    /// The value, or the trouble that there is none.
    #[track_caller]
    fn must(self, what: &'static str) -> Outcome<T>;
}

impl<T> Must<T> for Result<T, Failure> {
    #[track_caller]
    fn must(self, what: &'static str) -> Outcome<T> {
        match self {
            Ok(value) => Ok(value),
            Err(failure) => Err(Trouble::new(what, Evidence::Call(failure))),
        }
    }
}

impl<T> Must<T> for Result<T, MapError> {
    #[track_caller]
    fn must(self, what: &'static str) -> Outcome<T> {
        match self {
            Ok(value) => Ok(value),
            Err(error) => Err(Trouble::new(what, Evidence::Map(error))),
        }
    }
}

impl<T> Must<T> for Result<T, Fault> {
    #[track_caller]
    fn must(self, what: &'static str) -> Outcome<T> {
        match self {
            Ok(value) => Ok(value),
            Err(fault) => Err(Trouble::new(what, Evidence::Interrupt(fault))),
        }
    }
}

impl<T> Must<T> for Option<T> {
    #[track_caller]
    fn must(self, what: &'static str) -> Outcome<T> {
        match self {
            Some(value) => Ok(value),
            None => Err(Trouble::new(
                what,
                Evidence::Values {
                    expected: 1,
                    found: 0,
                },
            )),
        }
    }
}
