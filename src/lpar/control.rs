//! The states of a partition, where its vCPUs are, and the exclusion between its runs and writes to its table.
//!
//! ```text
//! Stopped --start--> Running --pause--> Paused --resume--> Running
//!    ^                  \--halt--> Halted
//!    \------------------- reset (Stopped, Paused, Halted)
//! ```
//!
//! A CPU takes a vCPU with [`Control::dispatch`] and gives it back with [`Control::leave`]; in between the vCPU
//! counts as in guest state, hypercalls included. A change of state takes effect at once for who is outside,
//! and for who is inside when it has left: it is *kicked* ([`crate::arch::Machine::kick`]), and its CPU asks
//! [`Control::stays`] after every exit. The state changes before the kick is sent, so a CPU that was kicked too
//! early to notice sees it when it asks.
//!
//! A write to the table (restore, reset, a call by proxy) registers itself with [`Control::begin_write`] and
//! is refused while the partition runs or a vCPU is still inside; start and resume are refused while a write is
//! in flight. Both are decided under one lock, so there is no moment between check and act. A piece of a pause
//! registers itself the same way: else the partition could run, and be paused by someone else, between what the
//! piece has seen and what it notes.
//!
//! # Translations on other CPUs
//! `seen` are the CPUs that may remember translations of the partition. Where no instruction reaches them all
//! ([`crate::arch::Machine::forgets_everywhere`]), each has to forget for itself: `owed` are those that have not
//! yet. A CPU pays before it enters one of the partition's vCPUs again, or when it is asked to
//! ([`Control::pay`]).

use super::schedule::Readiness;
use super::vcpu::Endian;
use super::vcpus::{Duty, Left, NotStarted, Vcpus, bit};
use crate::addr::{GuestReal, Lpid};
use crate::arch::Machine;
use crate::hcall::abi::{State, Status};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Where and with what a vCPU starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first instruction's address, in guest real mode.
    pub entry: GuestReal,
    /// r3 at the first instruction.
    pub r3: u64,
    /// The byte order of the first instruction and of its accesses.
    pub endian: Endian,
}

/// How far a partition that does not run has been quieted: its translations dropped, its R and C merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// It ran since, or never was.
    No,
    /// The CPUs that ran it have been told to drop its translations.
    Told,
    /// Its translations are dropped; R and C are merged in slots below this one.
    Below(u64),
    /// All is done.
    Yes,
}

/// Who has a partition to itself: none of its vCPUs is given to a CPU, but for the holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    /// Everybody runs.
    Nobody,
    /// One of its vCPUs, in a call.
    Vcpu(usize),
    /// A call by proxy.
    Proxy,
}

#[derive(Debug)]
struct Inner {
    state: State,
    quiet: Quiet,
    vcpus: Vcpus,
    holder: Holder,
    /// Writes in flight.
    writes: u32,
    exit_code: u64,
    generation: u64,
    /// How often it or one of its vCPUs was started or resumed.
    starts: u64,
    /// Where a reset goes on, while one is under way.
    reset_at: Option<u64>,
    /// CPUs that may remember translations of the partition.
    seen: u64,
}

impl Inner {
    /// Whether its table is someone's who does not want it to run.
    fn is_taken(&self) -> bool {
        self.writes != 0 || self.holder != Holder::Nobody || self.reset_at.is_some()
    }

    /// Its first vCPU starts, and no other.
    fn run(&mut self, start: Start) {
        self.vcpus.reset();
        let _ = self.vcpus.start(0, start);
        (self.state, self.quiet) = (State::Running, Quiet::No);
        self.starts += 1;
    }
}

/// The control of one partition.
#[derive(Debug)]
pub struct Control {
    inner: Mutex<Inner>,
    /// CPUs that have still to forget its translations. Bits are set under the lock.
    owed: AtomicU64,
}

/// A write in flight.
#[derive(Debug)]
pub struct Writing<'c>(&'c Control);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().writes -= 1;
    }
}

/// A partition that is held: none of its vCPUs is in guest state or in a call, but for the holder. Dropped, the
/// others go on.
#[derive(Debug)]
#[must_use = "the others go on when this is dropped"]
pub struct Held<'c>(&'c Control);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().holder = Holder::Nobody;
    }
}

impl Held<'_> {
    /// Gives the table another generation: it was replaced.
    pub(super) fn renew(&self) {
        self.0.inner.lock().generation += 1;
    }
}

impl Control {
    /// A partition with so many vCPUs that never ran.
    #[must_use]
    pub fn new(vcpus: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                state: State::Stopped,
                quiet: Quiet::No,
                vcpus: Vcpus::new(vcpus),
                holder: Holder::Nobody,
                writes: 0,
                exit_code: 0,
                generation: 1,
                starts: 0,
                reset_at: None,
                seen: 0,
            }),
            owed: AtomicU64::new(0),
        }
    }

    /// Its state. One that halts counts as running until its last vCPU has left its CPU: whoever sees it halted
    /// can go on with it at once.
    #[must_use]
    pub fn state(&self) -> State {
        let inner = self.inner.lock();
        match inner.state {
            State::Halted if inner.vcpus.inside_but(None) != 0 => State::Running,
            state => state,
        }
    }

    /// What it halted with.
    #[must_use]
    pub fn exit_code(&self) -> u64 {
        self.inner.lock().exit_code
    }

    /// The generation of its table: another one after each reset and each replacement.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.lock().generation
    }

    /// How often it or one of its vCPUs was started or resumed.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.inner.lock().starts
    }

    /// What one of its vCPUs could do with a turn.
    #[must_use]
    pub fn readiness(&self, vcpu: usize) -> Readiness {
        let inner = self.inner.lock();
        match inner.vcpus.readiness(vcpu) {
            // One that is to leave its CPU is still there, and will hear of what comes next.
            Readiness::Elsewhere => Readiness::Elsewhere,
            _ if inner.state != State::Running => Readiness::Out,
            _ if inner.holder != Holder::Nobody => Readiness::Elsewhere,
            readiness => readiness,
        }
    }

    /// Gives a vCPU that waits for a processor to `cpu`, and says what is to be done first; nothing if it does
    /// not wait, or may not run.
    #[must_use]
    pub fn dispatch(&self, vcpu: usize, cpu: usize) -> Option<Duty> {
        let mut inner = self.inner.lock();
        if inner.state != State::Running || inner.holder != Holder::Nobody {
            return None;
        }
        let duty = inner.vcpus.dispatch(vcpu, cpu)?;
        inner.seen |= bit(cpu);
        Some(duty)
    }

    /// Whether a vCPU that is on a CPU may go into the guest again.
    #[must_use]
    pub fn stays(&self, vcpu: usize) -> bool {
        let inner = self.inner.lock();
        inner.state == State::Running
            && [Holder::Nobody, Holder::Vcpu(vcpu)].contains(&inner.holder)
    }

    /// Whether it has halted; some of its vCPUs may still be on their way out.
    pub(super) fn is_ending(&self) -> bool {
        self.inner.lock().state == State::Halted
    }

    /// Takes a vCPU back from its CPU, which has saved all of its state.
    pub fn leave(&self, vcpu: usize, left: Left) {
        self.inner.lock().vcpus.leave(vcpu, left);
    }

    /// Wakes a vCPU that ceded, or will.
    ///
    /// # Errors
    /// [`Status::Parameter`] if there is no such vCPU.
    pub fn prod(&self, vcpu: usize) -> Result<(), Status> {
        if self.inner.lock().vcpus.prod(vcpu) {
            Ok(())
        } else {
            Err(Status::Parameter)
        }
    }

    /// Wakes a vCPU that ceded, or will, and has it leave guest state soon, if it is in it: there is something that it has to
    /// be told.
    pub fn wake<M: Machine>(&self, machine: &M, vcpu: usize) {
        let mut inner = self.inner.lock();
        let _ = inner.vcpus.prod(vcpu);
        let cpu = inner.vcpus.cpu(vcpu);
        drop(inner);
        if let Some(cpu) = cpu {
            machine.kick(cpu);
        }
    }

    /// Has the vCPUs but this one leave guest state soon, if they are in it.
    pub fn kick_others<M: Machine>(&self, machine: &M, vcpu: Option<usize>) {
        kick(machine, self.inside_but(vcpu));
    }

    /// Whether a vCPU is offline; none: the partition has no such vCPU.
    #[must_use]
    pub fn is_offline(&self, vcpu: usize) -> Option<bool> {
        let inner = self.inner.lock();
        let known = inner.vcpus.has(vcpu);
        known.then(|| inner.vcpus.readiness(vcpu) == Readiness::Out)
    }

    /// Whether the partition has such a vCPU.
    #[must_use]
    pub fn has(&self, vcpu: usize) -> bool {
        self.inner.lock().vcpus.has(vcpu)
    }

    /// Starts another vCPU of a running partition.
    ///
    /// # Errors
    /// [`Status::Parameter`] if there is no such vCPU, [`Status::Busy`] if it runs already.
    pub fn start_vcpu(&self, vcpu: usize, start: Start) -> Result<(), Status> {
        let mut inner = self.inner.lock();
        let started = inner.vcpus.start(vcpu, start);
        inner.starts += 1;
        drop(inner);
        started.map_err(|not| match not {
            NotStarted::Unknown => Status::Parameter,
            NotStarted::Online => Status::Busy,
        })
    }

    /// Registers a write to the table.
    ///
    /// # Errors
    /// [`Status::Busy`] while the partition runs, is held, has a vCPU that is still to leave its CPU, or is being reset.
    pub fn begin_write(&self) -> Result<Writing<'_>, Status> {
        let mut inner = self.inner.lock();
        if inner.state == State::Running
            || inner.holder != Holder::Nobody
            || inner.reset_at.is_some()
            || inner.vcpus.inside_but(None) != 0
        {
            return Err(Status::Busy);
        }
        inner.writes += 1;
        drop(inner);
        Ok(Writing(self))
    }

    /// Lets a stopped partition run, after `prepare` has made its table ready: its first vCPU starts.
    ///
    /// # Errors
    /// [`Status::Busy`] if it is not stopped or a write is in flight; or what `prepare` says.
    pub fn start(
        &self,
        start: Start,
        prepare: impl FnOnce() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut inner = self.inner.lock();
        if inner.state != State::Stopped || inner.is_taken() {
            return Err(Status::Busy);
        }
        prepare()?;
        inner.run(start);
        Ok(())
    }

    /// Takes a running partition out of its turns, nothing for one that does not run; how far it has been
    /// quieted since it ran, and that it stays so. While vCPUs are inside their CPUs are kicked.
    ///
    /// # Errors
    /// [`Status::Continue`] while a vCPU is still to leave its CPU, or the partition is held; [`Status::Busy`]
    /// while it is being reset.
    pub fn pause<M: Machine>(&self, machine: &M) -> Result<(Quiet, Writing<'_>), Status> {
        let mut inner = self.inner.lock();
        if inner.state == State::Running {
            inner.state = State::Paused;
        }
        if inner.reset_at.is_some() {
            return Err(Status::Busy);
        }
        let inside = inner.vcpus.inside_but(None);
        if inside == 0 && inner.holder == Holder::Nobody {
            inner.writes += 1;
            let quiet = inner.quiet;
            drop(inner);
            return Ok((quiet, Writing(self)));
        }
        drop(inner);
        kick(machine, inside);
        Err(Status::Continue)
    }

    /// Notes how far a partition that does not run has been quieted.
    pub fn set_quiet(&self, quiet: Quiet) {
        let mut inner = self.inner.lock();
        if inner.state != State::Running {
            inner.quiet = quiet;
        }
    }

    /// Lets a paused partition go on.
    ///
    /// # Errors
    /// [`Status::Busy`] if it is not paused or a write is in flight.
    pub fn resume(&self) -> Result<(), Status> {
        let mut inner = self.inner.lock();
        if inner.state != State::Paused || inner.is_taken() {
            return Err(Status::Busy);
        }
        (inner.state, inner.quiet) = (State::Running, Quiet::No);
        inner.starts += 1;
        Ok(())
    }

    /// Ends a partition that cannot or will not go on. Another vCPU may come to an end before it is out: the first one
    /// says how it was, and hears that it was the first.
    pub fn halt<M: Machine>(&self, machine: &M, code: u64) -> bool {
        let mut inner = self.inner.lock();
        let first = inner.state != State::Halted;
        if first {
            (inner.state, inner.exit_code) = (State::Halted, code);
        }
        let inside = inner.vcpus.inside_but(None);
        drop(inner);
        kick(machine, inside);
        first
    }

    /// Does a piece of a reset: `clear` empties the table from a slot on and says where it stopped, or nothing
    /// when it is done. The first piece gives the table a new generation, so no reader of the old one goes on.
    ///
    /// # Errors
    /// [`Status::Busy`] while the partition runs, has a vCPU that is still to leave its CPU, or another write is
    /// in flight; [`Status::Continue`] when there is more to do.
    pub fn reset(&self, clear: impl FnOnce(u64) -> Option<u64>) -> Result<(), Status> {
        self.empty(|_| true, clear, |_| Ok(()))
    }

    /// The same for a partition that has halted with `code`, and which starts when its table is empty, after `prepare`
    /// has made that ready. It is never stopped in between: whoever waits for that would have it first, and the
    /// partition would not start at all. One that cannot be made ready stays halted, with that status as its code.
    ///
    /// # Errors
    /// As for [`Self::reset`]; [`Status::Busy`] also if it has not halted with that code; or what `prepare` says.
    pub fn restart(
        &self,
        code: u64,
        start: Start,
        clear: impl FnOnce(u64) -> Option<u64>,
        prepare: impl FnOnce() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let wanted = |inner: &Inner| inner.state == State::Halted && inner.exit_code == code;
        self.empty(wanted, clear, |inner| {
            if let Err(status) = prepare() {
                (inner.state, inner.exit_code) = (State::Halted, status.raw());
                return Err(status);
            }
            inner.run(start);
            Ok(())
        })
    }

    /// Does a piece of a reset, if it `may` be reset now. After the last one the partition has stopped, and at once
    /// `then` is done.
    fn empty(
        &self,
        may: impl FnOnce(&Inner) -> bool,
        clear: impl FnOnce(u64) -> Option<u64>,
        then: impl FnOnce(&mut Inner) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let from = {
            let mut inner = self.inner.lock();
            if inner.state == State::Running
                || inner.writes != 0
                || inner.holder != Holder::Nobody
                || inner.vcpus.inside_but(None) != 0
                || !may(&inner)
            {
                return Err(Status::Busy);
            }
            inner.writes += 1;
            if inner.reset_at.is_none() {
                inner.generation += 1;
            }
            // From the first piece on: a write beside it would leave entries behind where it has been.
            *inner.reset_at.get_or_insert(0)
        };
        let reached = clear(from);
        let mut inner = self.inner.lock();
        inner.writes -= 1;
        inner.reset_at = reached;
        if reached.is_some() {
            return Err(Status::Continue);
        }
        inner.vcpus.reset();
        (inner.state, inner.exit_code) = (State::Stopped, 0);
        then(&mut inner)
    }

    /// Holds the partition for one of its vCPUs, which makes a call, or for a call by proxy while it does not run:
    /// returns when none of its other vCPUs is in guest state or in a call. None if it is held already, or a write
    /// is in flight that is not the proxy's own.
    ///
    /// The wait is bounded: who is inside is kicked, hypercalls are bounded in work, and none of them waits for
    /// a vCPU of this partition but this one. It may wait for this CPU to forget something, as
    /// [`Self::forget_now`] does: `meanwhile` is done while others are waited for.
    pub fn hold<M: Machine>(
        &self,
        machine: &M,
        vcpu: Option<usize>,
        meanwhile: impl Fn(),
    ) -> Option<Held<'_>> {
        let mut inner = self.inner.lock();
        let (holder, own_writes) = match vcpu {
            Some(vcpu) => (Holder::Vcpu(vcpu), 0),
            None => (Holder::Proxy, 1),
        };
        if inner.holder != Holder::Nobody || inner.writes > own_writes || inner.reset_at.is_some() {
            return None;
        }
        inner.holder = holder;
        drop(inner);
        let held = Held(self);
        kick(machine, self.inside_but(vcpu));
        while self.inside_but(vcpu) != 0 {
            meanwhile();
            crate::arch::relax();
        }
        Some(held)
    }

    fn inside_but(&self, vcpu: Option<usize>) -> u64 {
        self.inner.lock().vcpus.inside_but(vcpu)
    }

    /// Has every CPU that may remember translations of the partition, of which no vCPU but the caller's is in
    /// guest state, forget them; whether all have. `cpu` is the caller's own. Those that have to be asked are
    /// kicked: to be called again until all have answered.
    pub fn forget<M: Machine>(&self, machine: &M, lpid: Lpid, cpu: usize) -> bool {
        if machine.forgets_everywhere() {
            machine.flush_lpid(lpid);
            return true;
        }
        let mut inner = self.inner.lock();
        // The caller may be one of its vCPUs, and goes on.
        let inside = inner.vcpus.inside_but(None);
        let seen = core::mem::replace(&mut inner.seen, inside);
        self.owed.fetch_or(seen, Ordering::Relaxed);
        drop(inner);
        self.pay(machine, lpid, cpu);
        self.has_forgotten(machine)
    }

    /// The same, and waits until all have. `meanwhile` is done while others are waited for: they may be waiting for
    /// this CPU.
    pub fn forget_now<M: Machine>(
        &self,
        machine: &M,
        lpid: Lpid,
        cpu: usize,
        meanwhile: impl Fn(),
    ) {
        let mut forgotten = self.forget(machine, lpid, cpu);
        while !forgotten {
            meanwhile();
            crate::arch::relax();
            forgotten = self.has_forgotten(machine);
        }
    }

    /// Whether every CPU that was told to forget the partition's translations has; the others are kicked.
    pub fn has_forgotten<M: Machine>(&self, machine: &M) -> bool {
        let owed = self.owed.load(Ordering::Acquire);
        kick(machine, owed);
        owed == 0
    }

    /// Forgets the partition's translations on this CPU, if it was told to.
    #[inline]
    pub fn pay<M: Machine>(&self, machine: &M, lpid: Lpid, cpu: usize) {
        if self.owed.load(Ordering::Relaxed) & bit(cpu) != 0 {
            machine.flush_lpid(lpid);
            self.owed.fetch_and(!bit(cpu), Ordering::Release);
        }
    }
}

/// Kicks a set of CPUs.
fn kick<M: Machine>(machine: &M, cpus: u64) {
    for cpu in crate::table::bitmap::ones(cpus) {
        machine.kick(crate::table::bitmap::index(cpu));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::arch::host::{Event, Recording};

    const START: Start = Start {
        entry: GuestReal::new(0x100),
        r3: 7,
        endian: Endian::Big,
    };

    #[test]
    fn a_write_and_a_run_exclude_each_other() {
        let control = Control::new(2);
        let writing = control.begin_write().unwrap();
        assert_eq!(
            control.start(START, || panic!("prepared beside a write")),
            Err(Status::Busy)
        );
        drop(writing);
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        let started = |vcpu| control.dispatch(vcpu, 0).and_then(|duty| duty.start);
        assert_eq!(started(0), Some(START));
        assert_eq!(started(1), None);
        assert_eq!(control.begin_write().unwrap_err(), Status::Busy);
        let machine = Recording::new(0);
        machine.record();
        assert_eq!(control.pause(&machine).unwrap_err(), Status::Continue);
        assert_eq!(machine.recorded(), [Event::Kick(0)]);
        assert!(!control.stays(0));
        assert_eq!(control.begin_write().unwrap_err(), Status::Busy);
        control.leave(0, Left::Preempted);
        assert_eq!(control.pause(&machine).unwrap().0, Quiet::No);
        assert_eq!(control.dispatch(0, 0), None);
        let writing = control.begin_write().unwrap();
        assert_eq!(control.resume(), Err(Status::Busy));
        drop(writing);
        assert_eq!(control.resume(), Ok(()));
        assert_eq!(control.resume(), Err(Status::Busy));
    }

    #[test]
    fn a_reset_goes_on_where_it_stopped_and_lets_nothing_in() {
        let control = Control::new(2);
        control.halt(&Recording::new(0), 3);
        let first = |from| {
            assert_eq!(control.begin_write().unwrap_err(), Status::Busy);
            Some(from + 10)
        };
        assert_eq!(control.reset(first), Err(Status::Continue));
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
    fn a_restart_ends_in_a_run_and_leaves_no_moment_to_others() {
        const CODE: u64 = 5;
        let control = Control::new(2);
        let never = |_| panic!("emptied");
        let restart = |clear: &dyn Fn(u64) -> Option<u64>| {
            let prepare = || Ok(());
            control.restart(CODE, START, clear, prepare)
        };
        assert_eq!(restart(&never), Err(Status::Busy), "it has stopped");
        let machine = Recording::new(0);
        control.halt(&machine, 3);
        assert_eq!(restart(&never), Err(Status::Busy), "for another reason");
        assert_eq!(control.reset(|_| None), Ok(()));
        control.halt(&machine, CODE);
        assert_eq!(restart(&|_| Some(10)), Err(Status::Continue));
        assert_eq!(control.state(), State::Halted);
        assert_eq!(control.pause(&machine).unwrap_err(), Status::Busy);
        assert_eq!(restart(&|_| None), Ok(()));
        assert_eq!(control.state(), State::Running);
        assert_eq!(control.dispatch(0, 0).unwrap().start, Some(START));
        control.leave(0, Left::Stopped);
        // Someone else's reset takes its place.
        control.halt(&machine, CODE);
        assert_eq!(restart(&|_| Some(10)), Err(Status::Continue));
        assert_eq!(control.reset(|_| None), Ok(()));
        assert_eq!(restart(&never), Err(Status::Busy));
        assert_eq!(control.state(), State::Stopped);
    }

    #[test]
    fn a_restart_that_cannot_be_prepared_is_an_end() {
        let control = Control::new(2);
        control.halt(&Recording::new(0), 5);
        let refused = control.restart(5, START, |_| None, || Err(Status::PtegFull));
        assert_eq!(refused, Err(Status::PtegFull));
        let end = (State::Halted, Status::PtegFull.raw());
        assert_eq!((control.state(), control.exit_code()), end);
    }

    #[test]
    fn what_is_held_stays_as_it_is() {
        let control = Control::new(2);
        let machine = Recording::new(0);
        let held = control.hold(&machine, None, || {}).unwrap();
        assert!(control.hold(&machine, None, || {}).is_none());
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
        drop(control.hold(&machine, None, || {}).unwrap());
        assert!(control.hold(&machine, Some(0), || {}).is_none());
        let another = control.begin_write().unwrap();
        assert!(control.hold(&machine, None, || {}).is_none());
        drop((writing, another));
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        drop(control.hold(&machine, Some(0), || {}).unwrap());
    }

    #[test]
    fn a_start_that_cannot_be_prepared_did_not_happen() {
        let control = Control::new(2);
        assert_eq!(
            control.start(START, || Err(Status::PtegFull)),
            Err(Status::PtegFull)
        );
        assert_eq!(
            (control.state(), control.dispatch(0, 0)),
            (State::Stopped, None)
        );
    }

    #[test]
    fn who_holds_a_partition_has_it_alone() {
        let control = Control::new(3);
        let machine = Recording::new(0);
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        assert_eq!(control.start_vcpu(1, START), Ok(()));
        assert!(control.dispatch(0, 0).is_some());
        let held = control.hold(&machine, Some(0), || {}).unwrap();
        assert!(control.hold(&machine, Some(1), || {}).is_none());
        assert_eq!(control.dispatch(1, 1), None);
        assert!(control.stays(0));
        drop(held);
        assert!(control.dispatch(1, 1).is_some());
        // One that is inside is waited for: it leaves when it is kicked.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while control.stays(1) {
                    std::thread::yield_now();
                }
                control.leave(1, Left::Preempted);
            });
            drop(control.hold(&machine, Some(0), || {}).unwrap());
        });
        assert!(control.dispatch(1, 2).is_some_and(|duty| duty.moved));
    }

    /// POWER8, of which each core has to forget for itself.
    #[test]
    fn every_cpu_that_ran_it_forgets() {
        let lpid = Lpid::new(1);
        let machine = Recording::new(0).forgetting_for_itself();
        let control = Control::new(2);
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        for cpu in [0, 2] {
            assert!(control.dispatch(0, cpu).is_some());
            control.leave(0, Left::Preempted);
        }
        assert_eq!(control.pause(&machine).unwrap().0, Quiet::No);
        machine.record();
        assert!(!control.forget(&machine, lpid, 0), "CPU 2 has not");
        assert_eq!(machine.recorded(), [Event::FlushLpid(lpid), Event::Kick(2)]);
        machine.record();
        control.pay(&machine, lpid, 1);
        assert!(!control.has_forgotten(&machine));
        control.pay(&machine, lpid, 2);
        assert!(control.has_forgotten(&machine));
        control.pay(&machine, lpid, 2);
        assert_eq!(machine.recorded(), [Event::Kick(2), Event::FlushLpid(lpid)]);
        assert!(control.forget(&machine, lpid, 0), "nobody ran it since");
    }

    #[test]
    fn the_first_end_is_the_end() {
        let (control, machine) = (Control::new(2), Recording::new(0));
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        assert_eq!(control.start_vcpu(1, START), Ok(()));
        assert!(control.dispatch(0, 0).is_some() && control.dispatch(1, 1).is_some());
        assert!(control.halt(&machine, 5));
        assert!(!control.halt(&machine, 7));
        control.leave(0, Left::Preempted);
        assert_eq!(control.state(), State::Running, "one is still to leave");
        control.leave(1, Left::Preempted);
        assert_eq!((control.state(), control.exit_code()), (State::Halted, 5));
    }

    #[test]
    fn a_vcpu_that_is_handed_over_to_is_counted() {
        let control = Control::new(2);
        assert_eq!(control.start(START, || Ok(())), Ok(()));
        assert!(control.dispatch(0, 0).is_some());
        let before = control.starts();
        assert_eq!(control.readiness(1), Readiness::Out);
        assert_eq!(control.start_vcpu(1, START), Ok(()));
        control.leave(0, Left::Stopped);
        // Both were seen at rest, and yet one has work.
        assert_eq!(control.readiness(0), Readiness::Out);
        assert_ne!(control.starts(), before);
    }
}
