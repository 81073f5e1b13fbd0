//! The interrupt controllers of a partition, as LoPAR's interrupt option (chapter 6; 14.5.4, Interrupt Support) shows
//! them: a presentation controller for each vCPU, and the sources that may interrupt them.
//!
//! [`Xics`] has all of it behind one lock, held for a few loads and stores; beside it stands a bit for each vCPU that an
//! interrupt waits for, which a board asks for before each entry. A server's number is its vCPU's.
//!
//! Nothing latches an interrupt: what waits for a vCPU is found out whenever it is asked for, from what holds at that
//! moment. An interprocessor interrupt waits while MFRR is more favoured (less) than CPPR, a source's while its device
//! raises it, no vCPU is serving it, and its priority is more favoured than CPPR. So none is lost, and there is
//! nothing to give back to its source when CPPR changes; one that is served and still raised comes again after its
//! H_EOI.
//!
//! # Invariants
//! * The bits are as the state says whenever the lock is free. Whoever changes the state learns which of them rose, and
//!   wakes those vCPUs after that ([`Partition::signal`]): a vCPU that cedes beside it is prodded, or sees its bit.

use super::partition::Partition;
use super::vcpus::MAX_VCPUS;
use crate::arch::Machine;
use crate::hcall::abi::VTY_INTERRUPT;
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::table::bitmap::{index, ones};

/// The source that interprocessor interrupts have.
const IPI: u32 = 2;
/// The least favoured priority: nothing of it is ever presented.
const MASKED: u8 = 0xff;

/// vCPUs, a bit each.
pub(crate) type Set = u64;

/// The presentation controller of a vCPU.
#[derive(Clone, Copy, Debug)]
struct Presentation {
    /// What is presented is more favoured than this.
    cppr: u8,
    /// Priority of the interprocessor interrupt that was asked for.
    mfrr: u8,
}

/// As LoPAR has a processor start: nothing comes through.
const CLOSED: Presentation = Presentation {
    cppr: 0,
    mfrr: MASKED,
};

/// A source of interrupts.
#[derive(Clone, Copy, Debug)]
struct Source {
    number: u32,
    server: usize,
    priority: u8,
    /// The priority that it has when it is on.
    saved: u8,
    /// Its device wants to be served.
    raised: bool,
    /// The vCPU that has accepted it; it was not ended yet.
    served: Option<usize>,
}

impl Source {
    const fn new(number: u32) -> Self {
        Self {
            number,
            server: 0,
            priority: MASKED,
            saved: MASKED,
            raised: false,
            served: None,
        }
    }
}

/// What waits for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    priority: u8,
    number: u32,
}

#[derive(Debug)]
struct State {
    presentations: [Presentation; MAX_VCPUS],
    sources: [Source; 1],
    vcpus: usize,
}

impl State {
    fn new(vcpus: usize) -> Self {
        Self {
            presentations: [CLOSED; MAX_VCPUS],
            sources: [Source::new(VTY_INTERRUPT)],
            vcpus,
        }
    }

    fn presentation(&mut self, vcpu: usize) -> Option<&mut Presentation> {
        self.presentations.get_mut(..self.vcpus)?.get_mut(vcpu)
    }

    fn source(&mut self, number: u32) -> Option<&mut Source> {
        let mut sources = self.sources.iter_mut();
        sources.find(|source| source.number == number)
    }

    /// The most favoured interrupt that waits for a vCPU.
    fn waiting(&self, vcpu: usize) -> Option<Waiting> {
        let Presentation { cppr, mfrr } = *self.presentations.get(vcpu)?;
        let ipi = Waiting {
            priority: mfrr,
            number: IPI,
        };
        let sources = self.sources.iter();
        let raised = sources
            .filter(|source| source.server == vcpu && source.raised && source.served.is_none());
        let all = raised.map(|source| Waiting {
            priority: source.priority,
            number: source.number,
        });
        core::iter::once(ipi)
            .chain(all)
            .filter(|waiting| waiting.priority < cppr)
            .min_by_key(|waiting| waiting.priority)
    }

    /// The vCPUs that an interrupt waits for.
    fn pending(&self) -> Set {
        (0..self.vcpus)
            .filter(|&vcpu| self.waiting(vcpu).is_some())
            .fold(0, |set, vcpu| set | 1 << vcpu)
    }
}

/// The interrupt controllers of a partition.
#[derive(Debug)]
pub(crate) struct Xics {
    state: Mutex<State>,
    /// The vCPUs that an interrupt waits for.
    pending: AtomicU64,
}

/// CPPR and the number of a source, as XIRR has them.
fn xirr(cppr: u8, number: u32) -> u64 {
    u64::from(cppr) << 24 | u64::from(number)
}

impl Xics {
    pub(super) fn new(vcpus: usize) -> Self {
        Self {
            state: Mutex::new(State::new(vcpus.clamp(1, MAX_VCPUS))),
            pending: AtomicU64::new(0),
        }
    }

    /// Begins anew: the partition starts.
    pub(super) fn reset(&self) {
        let mut state = self.state.lock();
        *state = State::new(state.vcpus);
        self.pending.store(0, Ordering::Relaxed);
    }

    /// Begins anew for a vCPU, which goes offline. What it was serving is served by nobody now.
    pub(super) fn reset_vcpu(&self, vcpu: usize) -> Set {
        let ((), risen) = self.change(|state| {
            if let Some(presentation) = state.presentation(vcpu) {
                *presentation = CLOSED;
            }
            let sources = state.sources.iter_mut();
            for source in sources.filter(|source| source.served == Some(vcpu)) {
                source.served = None;
            }
        });
        risen
    }

    /// Whether an interrupt waits for a vCPU.
    #[inline]
    pub(super) fn is_pending(&self, vcpu: usize) -> bool {
        self.pending.load(Ordering::Relaxed) >> (vcpu % MAX_VCPUS) & 1 != 0
    }

    /// Changes the state; what comes of it, and the vCPUs that an interrupt waits for now and none did before.
    fn change<R>(&self, act: impl FnOnce(&mut State) -> R) -> (R, Set) {
        let mut state = self.state.lock();
        let result = act(&mut state);
        let pending = state.pending();
        let before = self.pending.load(Ordering::Relaxed);
        self.pending.store(pending, Ordering::Relaxed);
        (result, pending & !before)
    }

    /// A change that is refused if there is nothing to be changed.
    fn try_change(&self, act: impl FnOnce(&mut State) -> Option<()>) -> Option<Set> {
        let (done, risen) = self.change(act);
        done.map(|()| risen)
    }

    /// Sets CPPR of a vCPU.
    pub(crate) fn set_cppr(&self, vcpu: usize, cppr: u8) -> Option<Set> {
        self.try_change(|state| {
            state.presentation(vcpu)?.cppr = cppr;
            Some(())
        })
    }

    /// Asks for an interprocessor interrupt of a vCPU, or with the least favoured priority for none any more.
    pub(crate) fn set_mfrr(&self, vcpu: usize, mfrr: u8) -> Option<Set> {
        self.try_change(|state| {
            state.presentation(vcpu)?.mfrr = mfrr;
            Some(())
        })
    }

    /// A vCPU accepts what waits for it: XIRR, whose source is 0 if nothing does.
    pub(crate) fn accept(&self, vcpu: usize) -> u64 {
        // CPPR only gets more favoured: nothing rises.
        let (accepted, _) = self.change(|state| {
            let waiting = state.waiting(vcpu);
            let Some(presentation) = state.presentation(vcpu) else {
                return 0;
            };
            let cppr = presentation.cppr;
            let Some(Waiting { priority, number }) = waiting else {
                return xirr(cppr, 0);
            };
            presentation.cppr = priority;
            if let Some(source) = state.source(number) {
                source.served = Some(vcpu);
            }
            xirr(cppr, number)
        });
        accepted
    }

    /// XIRR and MFRR of a vCPU, as they are.
    pub(crate) fn poll(&self, vcpu: usize) -> Option<(u64, u8)> {
        let mut state = self.state.lock();
        let number = state.waiting(vcpu).map_or(0, |waiting| waiting.number);
        let Presentation { cppr, mfrr } = *state.presentation(vcpu)?;
        Some((xirr(cppr, number), mfrr))
    }

    /// A vCPU ends an interrupt: the source is served, and CPPR is what it was.
    pub(crate) fn end(&self, vcpu: usize, cppr: u8, number: u32) -> Option<Set> {
        self.try_change(|state| {
            if !matches!(number, 0 | IPI) {
                state.source(number)?.served = None;
            }
            state.presentation(vcpu)?.cppr = cppr;
            Some(())
        })
    }

    /// Routes a source to a server.
    pub(crate) fn route(&self, number: u32, server: usize, priority: u8) -> Option<Set> {
        self.try_change(|state| {
            let _ = state.presentation(server)?;
            let source = state.source(number)?;
            (source.server, source.priority, source.saved) = (server, priority, priority);
            Some(())
        })
    }

    /// Server and priority of a source.
    pub(crate) fn routed(&self, number: u32) -> Option<(usize, u8)> {
        let mut state = self.state.lock();
        let source = state.source(number)?;
        Some((source.server, source.priority))
    }

    /// Switches a source on, with the priority that it had, or off.
    pub(crate) fn switch(&self, number: u32, on: bool) -> Option<Set> {
        self.try_change(|state| {
            let source = state.source(number)?;
            source.priority = if on { source.saved } else { MASKED };
            Some(())
        })
    }

    /// A device wants to be served, or does not any more.
    pub(crate) fn raise(&self, number: u32, raised: bool) -> Set {
        self.try_change(|state| {
            state.source(number)?.raised = raised;
            Some(())
        })
        .unwrap_or(0)
    }
}

impl Partition<'_> {
    /// Whether an external interrupt is to be delivered to a vCPU as soon as its MSR\[EE\] allows. To be asked before
    /// each entry, and after [`crate::hcall::Next::Interrupt`]; who is in guest state when that changes is kicked.
    #[inline]
    #[must_use]
    pub fn external_pending(&self, vcpu: usize) -> bool {
        self.papr().xics().is_pending(vcpu)
    }

    /// There is input for the partition's terminal. H_GET_TERM_CHAR takes that back when it has read all of it.
    pub fn terminal_has_input<M: Machine>(&self, machine: &M) {
        let risen = self.papr().xics().raise(VTY_INTERRUPT, true);
        self.signal(machine, risen);
    }

    /// Wakes the vCPUs that an interrupt waits for now.
    pub(crate) fn signal<M: Machine>(&self, machine: &M, risen: Set) {
        for vcpu in ones(risen) {
            self.control().wake(machine, index(vcpu));
        }
    }
}
