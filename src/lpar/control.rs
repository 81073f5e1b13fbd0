//! The states of a partition, and the exclusion between its runs and writes to its table.
//!
//! ```text
//! Stopped --start--> Running --pause--> Paused --resume--> Running
//!    ^                  \--halt--> Halted
//!    \------------------- reset (Stopped, Paused, Halted)
//! ```
//!
//! A write to the table (restore, reset, a call by proxy) registers itself with [`Control::begin_write`] and
//! is refused while the partition runs; start and resume are refused while a write is in flight. Both are
//! decided under one lock, so there is no moment between check and act.
//!
//! A call that replaces the table holds the partition ([`Control::hold`]): whatever its state is, it stays so,
//! and none of its other vCPUs is in guest state or in a call.

use crate::addr::GuestReal;
use crate::hcall::abi::{State, Status};
use crate::sync::Mutex;

/// Where and with what a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first instruction's address, in guest real mode.
    pub entry: GuestReal,
    /// r3 at the first instruction.
    pub r3: u64,
}

/// How far a partition that does not run has been quieted: its translations dropped, its R and C merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// It ran since, or never was.
    No,
    /// Its translations are dropped; R and C are merged in slots below this one.
    Below(u64),
    /// All is done.
    Yes,
}

#[derive(Debug)]
struct Inner {
    state: State,
    quiet: Quiet,
    /// Asked for and not yet carried out by the board.
    start: Option<Start>,
    /// Writes in flight.
    writes: u32,
    /// One of its vCPUs, or a call by proxy, holds it.
    held: bool,
    exit_code: u64,
    generation: u64,
    /// Where a reset goes on, while one is under way.
    reset_at: Option<u64>,
}

impl Inner {
    /// Whether its table is someone's who does not want it to run.
    const fn is_taken(&self) -> bool {
        self.writes != 0 || self.held || self.reset_at.is_some()
    }
}

/// The control of one partition.
#[derive(Debug)]
pub struct Control(Mutex<Inner>);

/// A write in flight.
#[derive(Debug)]
pub struct Writing<'c>(&'c Control);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.0.lock().writes -= 1;
    }
}

/// A partition that is held: it goes on when this is dropped.
#[derive(Debug)]
#[must_use = "the partition goes on when this is dropped"]
pub struct Held<'c>(&'c Control);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.0.lock().held = false;
    }
}

impl Held<'_> {
    /// Gives the table another generation: it was replaced.
    pub(super) fn renew(&self) {
        self.0.0.lock().generation += 1;
    }
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// A partition that never ran.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new(Inner {
            state: State::Stopped,
            quiet: Quiet::No,
            start: None,
            writes: 0,
            held: false,
            exit_code: 0,
            generation: 1,
            reset_at: None,
        }))
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.0.lock().state
    }

    /// What it halted with.
    #[must_use]
    pub fn exit_code(&self) -> u64 {
        self.0.lock().exit_code
    }

    /// The generation of its table: another one after each reset and each replacement.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    /// Registers a write to the table.
    ///
    /// # Errors
    /// [`Status::Busy`] while the partition runs, is held or is being reset.
    pub fn begin_write(&self) -> Result<Writing<'_>, Status> {
        let mut inner = self.0.lock();
        if inner.state == State::Running || inner.held || inner.reset_at.is_some() {
            return Err(Status::Busy);
        }
        inner.writes += 1;
        drop(inner);
        Ok(Writing(self))
    }

    /// Holds the partition for its vCPU number `by`, or for a call by proxy while it does not run: returns when none
    /// of its other vCPUs is in guest state or in a call. None if it is held already, or another write is in
    /// flight. (A running partition has no writes in flight; a call by proxy is one.)
    pub fn hold(&self, by: usize) -> Option<Held<'_>> {
        // It is its only one, so no other has to be waited for.
        let _ = by;
        let mut inner = self.0.lock();
        if inner.held || inner.writes > 1 || inner.reset_at.is_some() {
            return None;
        }
        inner.held = true;
        drop(inner);
        Some(Held(self))
    }

    /// Lets a stopped partition run, after `prepare` has made its table ready.
    ///
    /// # Errors
    /// [`Status::Busy`] if it is not stopped or a write is in flight; or what `prepare` says.
    pub fn start(
        &self,
        start: Start,
        prepare: impl FnOnce() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut inner = self.0.lock();
        if inner.state != State::Stopped || inner.is_taken() {
            return Err(Status::Busy);
        }
        prepare()?;
        (inner.state, inner.quiet) = (State::Running, Quiet::No);
        inner.start = Some(start);
        Ok(())
    }

    /// The start that was asked for and is to be carried out now: the vCPU's registers are set anew.
    #[must_use]
    pub fn take_start(&self) -> Option<Start> {
        self.0.lock().start.take()
    }

    /// Takes a running partition out of its turn, nothing for one that does not run; how far it has been
    /// quieted since it ran.
    pub fn pause(&self) -> Quiet {
        let mut inner = self.0.lock();
        if inner.state == State::Running {
            inner.state = State::Paused;
        }
        inner.quiet
    }

    /// Notes how far a partition that does not run has been quieted.
    pub fn set_quiet(&self, quiet: Quiet) {
        let mut inner = self.0.lock();
        if inner.state != State::Running {
            inner.quiet = quiet;
        }
    }

    /// Lets a paused partition go on.
    ///
    /// # Errors
    /// [`Status::Busy`] if it is not paused or a write is in flight.
    pub fn resume(&self) -> Result<(), Status> {
        let mut inner = self.0.lock();
        if inner.state != State::Paused || inner.is_taken() {
            return Err(Status::Busy);
        }
        (inner.state, inner.quiet) = (State::Running, Quiet::No);
        Ok(())
    }

    /// Ends a partition that cannot or will not go on.
    pub fn halt(&self, code: u64) {
        let mut inner = self.0.lock();
        inner.state = State::Halted;
        inner.exit_code = code;
    }

    /// Does a piece of a reset: `clear` empties the table from a slot on and says where it stopped, or nothing
    /// when it is done. The first piece gives the table a new generation, so no reader of the old one goes on.
    ///
    /// # Errors
    /// [`Status::Busy`] while the partition runs or another write is in flight; [`Status::Continue`] when
    /// there is more to do.
    pub fn reset(&self, clear: impl FnOnce(u64) -> Option<u64>) -> Result<(), Status> {
        let from = {
            let mut inner = self.0.lock();
            if inner.state == State::Running || inner.writes != 0 || inner.held {
                return Err(Status::Busy);
            }
            inner.writes += 1;
            if inner.reset_at.is_none() {
                inner.generation += 1;
            }
            inner.reset_at.unwrap_or(0)
        };
        let reached = clear(from);
        let mut inner = self.0.lock();
        inner.writes -= 1;
        inner.reset_at = reached;
        if reached.is_some() {
            return Err(Status::Continue);
        }
        (inner.state, inner.start, inner.exit_code) = (State::Stopped, None, 0);
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const START: Start = Start {
        entry: GuestReal::new(0x100),
        r3: 7,
    };

    #[test]
    fn a_write_and_a_run_exclude_each_other() {
        let control = Control::new();
        let writing = control.begin_write().unwrap();
        assert_eq!(
            control.start(START, || panic!("prepared beside a write")),
            Err(Status::Busy)
        );
        drop(writing);
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        assert_eq!(control.take_start(), Some(START));
        assert_eq!(control.take_start(), None);
        assert_eq!(control.begin_write().unwrap_err(), Status::Busy);
        control.pause();
        let writing = control.begin_write().unwrap();
        assert_eq!(control.resume(), Err(Status::Busy));
        drop(writing);
        assert_eq!(control.resume(), Ok(()));
        assert_eq!(control.resume(), Err(Status::Busy));
    }

    #[test]
    fn a_reset_goes_on_where_it_stopped_and_lets_nothing_in() {
        let control = Control::new();
        control.halt(3);
        assert_eq!(control.reset(|from| Some(from + 10)), Err(Status::Continue));
        assert_eq!(control.generation(), 2);
        assert_eq!(control.begin_write().unwrap_err(), Status::Busy);
        assert_eq!(control.start(START, || Ok(())), Err(Status::Busy));
        assert_eq!(
            control.reset(|from| {
                assert_eq!(from, 10);
                None
            }),
            Ok(())
        );
        assert_eq!(
            (control.generation(), control.state(), control.exit_code()),
            (2, State::Stopped, 0)
        );
    }

    #[test]
    fn what_is_held_stays_as_it_is() {
        let control = Control::new();
        let held = control.hold(0).unwrap();
        assert!(control.hold(1).is_none());
        assert_eq!(control.begin_write().unwrap_err(), Status::Busy);
        assert_eq!(
            control.reset(|_| panic!("reset under a hold")),
            Err(Status::Busy)
        );
        assert_eq!(
            control.start(START, || panic!("started under a hold")),
            Err(Status::Busy)
        );
        drop(held);
        // One write may be the holder's own, by proxy; two are not.
        let writing = control.begin_write().unwrap();
        drop(control.hold(0).unwrap());
        let another = control.begin_write().unwrap();
        assert!(control.hold(0).is_none());
        drop((writing, another));
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        drop(control.hold(0).unwrap());
    }

    #[test]
    fn a_start_that_cannot_be_prepared_did_not_happen() {
        let control = Control::new();
        assert_eq!(
            control.start(START, || Err(Status::PtegFull)),
            Err(Status::PtegFull)
        );
        assert_eq!(
            (control.state(), control.take_start()),
            (State::Stopped, None)
        );
    }
}
