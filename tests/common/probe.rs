//! A machine that lets the test look, and act, while the engine is at work.

use std::sync::{Arc, Mutex};

use super::world::{World, recording};
use realhpt::addr::{HostReal, Lpid};
use realhpt::arch::host::{Event, Recording};
use realhpt::arch::{GuestRegister, Machine};
use realhpt::sync::BeDword;
use realhpt::table::Format;
use realhpt_qemu::library::Store;

/// What the engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It asks something of hardware.
    Asks(Event),
    /// It loads a doubleword of guest memory.
    Loads(HostReal),
    /// It stores one.
    Stores(HostReal),
}

type Hook = Arc<dyn Fn(Deed) + Send + Sync>;

/// A machine with a hook at each deed, just before it is done.
pub(crate) struct Probe {
    inner: Recording,
    hook: Mutex<Option<Hook>>,
}

impl Probe {
    fn see(&self, deed: Deed) {
        // Not under the lock: what the hook does may be seen again.
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(deed);
        }
    }

    fn asks(&self, event: Event) {
        self.see(Deed::Asks(event));
    }

    /// What stands in guest memory; the hook does not see it.
    pub(crate) fn load_unseen(&self, at: HostReal) -> u64 {
        self.inner.load(at)
    }

    /// Runs `act` with this hook.
    pub(crate) fn watch<R>(
        &self,
        hook: impl Fn(Deed) + Send + Sync + 'static,
        act: impl FnOnce() -> R,
    ) -> R {
        *self.hook.lock().unwrap() = Some(Arc::new(hook));
        let result = act();
        *self.hook.lock().unwrap() = None;
        result
    }
}

impl Machine for Probe {
    fn ptesync(&self) {
        self.asks(Event::Ptesync);
    }
    fn tlbie(&self, rb: u64, lpid: Lpid) {
        self.asks(Event::Tlbie(rb, lpid));
    }
    fn tlbsync(&self) {
        self.asks(Event::Tlbsync);
    }
    fn tlbiel(&self, rb: u64) {
        self.asks(Event::Tlbiel(rb));
    }
    fn tlbiel_sync(&self) {
        self.asks(Event::TlbielSync);
    }
    fn flush_lpid(&self, lpid: Lpid) {
        self.asks(Event::FlushLpid(lpid));
    }
    fn forgets_everywhere(&self) -> bool {
        true
    }
    fn kick(&self, cpu: usize) {
        self.asks(Event::Kick(cpu));
    }
    fn eieio(&self) {
        self.asks(Event::Eieio);
    }
    fn store_byte(&self, dword: &BeDword, number: usize, value: u8) {
        self.asks(Event::StoreByte(number, value));
        self.inner.store_byte(dword, number, value);
    }
    fn load(&self, at: HostReal) -> u64 {
        self.see(Deed::Loads(at));
        self.inner.load(at)
    }
    fn store(&self, at: HostReal, value: u64) {
        self.see(Deed::Stores(at));
        self.inner.store(at, value);
    }
    fn store_word(&self, at: HostReal, value: u32) {
        self.see(Deed::Stores(at));
        self.inner.store_word(at, value);
    }
    fn has(&self, register: GuestRegister) -> bool {
        self.inner.has(register)
    }
    fn set(&self, register: GuestRegister, value: u64) {
        self.asks(Event::Set(register, value));
    }
    fn time_base(&self) -> u64 {
        self.inner.time_base()
    }
    fn zero(&self, at: HostReal, bytes: u64) {
        self.asks(Event::Zero(at, bytes));
        self.inner.zero(at, bytes);
    }
    fn synchronise_instructions(&self, at: HostReal, bytes: u64) {
        self.asks(Event::Synchronise(at, bytes));
    }
}

/// An agent and a client with a table of order 18 on such a machine, in memory that is never given back.
pub(crate) fn probed(format: Format) -> &'static World<'static, Probe> {
    let store = Box::leak(Box::new(Store::pair(18)));
    let probe = Probe {
        inner: recording(),
        hook: Mutex::new(None),
    };
    Box::leak(Box::new(World::on(probe, store, format)))
}
