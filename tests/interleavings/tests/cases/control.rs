//! The control of a partition: who runs it, who pauses, holds or writes it, and what its CPUs remember.
//!
//! Who is inside says so in a relaxed atomic, and so does who has the partition to itself: each looks at the other's,
//! and sees an old value, too, where nothing orders the two.

use std::sync::Arc;

use loom::thread;
use realhpt::addr::{GuestReal, Lpid};
use realhpt::hcall::abi::{State, Status};
use realhpt::lpar::control::{Control, Start};
use realhpt::lpar::schedule::Readiness;
use realhpt::lpar::vcpu::Endian;
use realhpt::lpar::vcpus::Left;
use realhpt::sync::{AtomicU64, Ordering};

use crate::world::{Processor, Tlb, explore};

pub(crate) const START: Start = Start {
    entry: GuestReal::new(0x100),
    r3: 0,
    endian: Endian::Big,
};

/// A partition's control, and marks of who is inside and of who has it to itself.
struct Shared {
    control: Control,
    inside: AtomicU64,
    owned: AtomicU64,
}

impl Shared {
    /// A running partition with two vCPUs that wait for a processor.
    fn running() -> Arc<Self> {
        let shared = Self::stopped();
        shared.control.start(START, || Ok(())).unwrap();
        shared.control.start_vcpu(1, START).unwrap();
        shared
    }

    fn stopped() -> Arc<Self> {
        Arc::new(Self {
            control: Control::new(2),
            inside: AtomicU64::new(0),
            owned: AtomicU64::new(0),
        })
    }

    /// What a vCPU does inside.
    fn look(&self) {
        self.inside.fetch_add(1, Ordering::Relaxed);
        assert_eq!(self.owned.load(Ordering::Relaxed), 0);
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }

    /// What its owner does.
    fn touch(&self) {
        assert_eq!(self.owned.swap(1, Ordering::Relaxed), 0);
        assert_eq!(self.inside.load(Ordering::Relaxed), 0);
        self.owned.store(0, Ordering::Relaxed);
    }

    /// A slice of vCPU 1 on CPU 1, if it is given one: it goes into the guest for as long as it may, `turns` times at
    /// most.
    fn slice(&self, turns: usize) -> bool {
        if self.control.dispatch(1, 1).is_none() {
            return false;
        }
        for turn in 0..turns {
            if turn != 0 {
                thread::yield_now();
            }
            self.look();
            if !self.control.stays(1) {
                break;
            }
        }
        self.control.leave(1, Left::Preempted);
        true
    }
}

/// As often as it may.
const EVER: usize = usize::MAX;

#[test]
fn pause_against_dispatch() {
    explore(3, || {
        let shared = Shared::running();
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || guest.slice(EVER));
        let machine = Processor::default();
        while shared.control.pause(&machine).is_err() {
            thread::yield_now();
        }
        shared.touch();
        other.join().unwrap();
        assert!(!shared.slice(1), "it is paused");
        assert_eq!(shared.control.resume(), Ok(()));
        assert!(shared.slice(1));
    });
}

#[test]
fn halt_against_dispatch() {
    explore(3, || {
        let shared = Shared::running();
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || guest.slice(EVER));
        shared.control.halt(&Processor::default(), 7);
        while shared.control.state() != State::Halted {
            thread::yield_now();
        }
        shared.touch();
        other.join().unwrap();
        assert!(!shared.slice(1), "it has halted");
    });
}

/// vCPU 0 is inside when it holds the partition; the other one is not, or is waited for.
#[test]
fn hold_against_dispatch() {
    explore(3, || {
        let shared = Shared::running();
        assert!(shared.control.dispatch(0, 0).is_some());
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || {
            // It is not lost: when the hold ends it gets its turn.
            while !guest.slice(2) {
                thread::yield_now();
            }
        });
        let held = shared
            .control
            .hold(&Processor::default(), Some(0), || {})
            .unwrap();
        shared.touch();
        assert!(shared.control.stays(0), "the holder goes on");
        drop(held);
        other.join().unwrap();
    });
}

/// Both vCPUs make a call that holds the partition: one has it, the other is refused or comes later, and neither
/// waits for the other for ever.
#[test]
fn hold_against_hold() {
    explore(3, || {
        let shared = Shared::running();
        let call = |shared: &Shared, vcpu| {
            while shared.control.dispatch(vcpu, vcpu).is_none() {
                thread::yield_now();
            }
            let held = shared
                .control
                .hold(&Processor::default(), Some(vcpu), || {});
            let has_it = held.is_some();
            if has_it {
                shared.touch();
            }
            drop(held);
            shared.control.leave(vcpu, Left::Preempted);
            has_it
        };
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || call(&guest, 1));
        let here = call(&shared, 0);
        assert!(other.join().unwrap() || here);
    });
}

#[test]
fn a_write_against_resume() {
    explore(3, || {
        let shared = Shared::running();
        assert!(shared.control.pause(&Processor::default()).is_ok());
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || {
            let resumed = guest.control.resume();
            let ran = guest.slice(2);
            assert_eq!(ran, resumed.is_ok());
            ran
        });
        let writing = shared.control.begin_write();
        let wrote = writing.is_ok();
        if wrote {
            shared.touch();
        }
        drop(writing);
        assert!(other.join().unwrap() || wrote, "one of them gets on");
    });
}

#[test]
fn a_write_against_start() {
    explore(3, || {
        let shared = Shared::stopped();
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || {
            let started = guest.control.start(START, || Ok(()));
            if started.is_ok() {
                assert!(guest.control.dispatch(0, 1).is_some());
                guest.look();
                guest.control.leave(0, Left::Preempted);
            }
        });
        if let Ok(writing) = shared.control.begin_write() {
            shared.touch();
            drop(writing);
        }
        other.join().unwrap();
    });
}

#[test]
fn two_starts_are_one() {
    explore(3, || {
        let shared = Shared::stopped();
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || guest.control.start(START, || Ok(())));
        let results = [
            shared.control.start(START, || Ok(())),
            other.join().unwrap(),
        ];
        assert!(results.contains(&Ok(())) && results.contains(&Err(Status::Busy)));
    });
}

/// One CPU has a vCPU, whoever else would have it.
#[test]
fn a_vcpu_is_given_to_one_cpu() {
    explore(3, || {
        let shared = Shared::running();
        let slice = |shared: &Shared, cpu| {
            let given = shared.control.dispatch(1, cpu).is_some();
            if given {
                shared.touch();
                shared.control.leave(1, Left::Ceded);
            }
            given
        };
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || slice(&guest, 1));
        let here = slice(&shared, 0);
        assert!(other.join().unwrap() || here);
    });
}

/// A prod is not lost, whether it comes before the vCPU has ceded, while it leaves, or after.
#[test]
fn prod_against_cede() {
    explore(3, || {
        let shared = Shared::running();
        assert!(shared.control.dispatch(1, 1).is_some());
        let guest = Arc::clone(&shared);
        let other = thread::spawn(move || guest.control.leave(1, Left::Ceded));
        assert_eq!(shared.control.prod(1), Ok(()));
        other.join().unwrap();
        assert_eq!(shared.control.readiness(1), Readiness::Ready);
    });
}

/// Where a CPU has to forget for itself: it does before it goes into the partition again and when it is asked to,
/// and who asked hears of it afterwards.
#[test]
fn forget_against_dispatch_and_pay() {
    let lpid = Lpid::new(1);
    explore(3, move || {
        let shared = Shared::running();
        let tlb: &'static Tlb = Box::leak(Box::default());
        let over = Arc::new(AtomicU64::new(0));
        let cpu = |tlb| Processor {
            tlb,
            forgets_for_itself: true,
            ..Processor::default()
        };
        let (guest, asked) = (Arc::clone(&shared), Arc::clone(&over));
        let other = thread::spawn(move || {
            let here = cpu(Some(tlb));
            if guest.control.dispatch(1, 1).is_some() {
                guest.control.pay(&here, lpid, 1);
                if guest.control.stays(1) {
                    tlb.fill();
                }
                guest.control.leave(1, Left::Preempted);
            }
            while asked.load(Ordering::Relaxed) == 0 {
                guest.control.pay(&here, lpid, 1);
                thread::yield_now();
            }
        });
        let here = cpu(None);
        while shared.control.pause(&here).is_err() {
            thread::yield_now();
        }
        let mut forgotten = shared.control.forget(&here, lpid, 0);
        while !forgotten {
            thread::yield_now();
            forgotten = shared.control.has_forgotten(&here);
        }
        assert!(tlb.is_empty());
        over.store(1, Ordering::Relaxed);
        other.join().unwrap();
    });
}
