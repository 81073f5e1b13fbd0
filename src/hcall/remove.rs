//! H_REMOVE and H_BULK_REMOVE (LoPAR 14.5.4.1.1 and 14.5.4.1.7): take entries away.
//!
//! R and C that are given back are read after the `tlbie`: a translation in a TLB may have held them until
//! then. H_AVPN and H_ANDCOND compare with dword 0 as the guest knows it. KVM compares H_ANDCOND with its own
//! locked dword 0, so its lock and absent bits show through; ours do not.

use super::abi::{Flags, Status};
use super::{Answer, Call};
use crate::arch::Machine;
use crate::table::hpte::{C, COMPARED, GuestR, GuestV, R};
use crate::table::slot::{Locked, Stale};
use crate::table::tlb::{self, Scope};

/// The entries of one H_BULK_REMOVE.
const BULK: usize = 4;

/// Whether an entry is the one that the caller means.
fn matches(v: GuestV, flags: Flags, avpn: u64) -> bool {
    !(flags.contains(Flags::AVPN) && v.raw() & COMPARED != avpn
        || flags.contains(Flags::ANDCOND) && v.raw() & avpn != 0)
}

#[inline(always)]
pub(super) fn remove<'c, M: Machine>(call: &mut Call<'c, '_, M>) -> Answer<'c> {
    let flags = Flags::from_bits_retain(call.argument(0));
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status.into(),
    };
    let v = locked.v();
    if !matches(v, flags, call.argument(2)) {
        return Status::NotFound.into();
    }
    let (view, changed) = if locked.is_valid() {
        let stale = locked.invalidate();
        tlb::flush_one(&call.system.machine, call.scope(), stale).remove()
    } else {
        locked.remove_absent()
    };
    call.put(0, v.raw());
    call.put(1, view.raw());
    changed.into()
}

/// The type of a translation specifier, its two highest bits.
pub(super) const TYPE: u64 = 3 << 62;
pub(super) const TYPE_REQUEST: u64 = 1 << 62;
pub(super) const TYPE_END: u64 = 3 << 62;
/// A request's condition, and the values it takes.
const CONDITION: u64 = 3 << 56;
const CONDITION_ABSOLUTE: u64 = 0;
const CONDITION_ANDCOND: u64 = 1 << 56;
const CONDITION_AVPN: u64 = 2 << 56;
/// The ptex of a request.
const PTEX: u64 = (1 << 56) - 1;
/// What a response is made of beside the request's condition and ptex.
const RESPONSE: u64 = 2 << 62;
const NOT_FOUND: u64 = 1 << 60;
const PARAMETER: u64 = 2 << 60;
const RC_SHIFT: u32 = 51;

/// Removes up to four entries, flushed in one batch.
///
/// Each specifier is answered in place. A bad one (an unused one too, as KVM and QEMU have it) ends the call
/// with H_PARAMETER after what came before it is done. The call waits for a lock only while it holds none:
/// else it flushes and lets go of what it holds first, so two calls never wait for each other.
#[inline(always)]
pub(super) fn bulk_remove<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let table = call.caller.table();
    let mut batch = Batch::<BULK>::new(call.scope());
    let mut status = Status::Success;
    for number in 0..BULK {
        let request = call.argument(2 * number);
        match request & TYPE {
            TYPE_REQUEST => {}
            TYPE_END => break,
            _ => {
                status = Status::Parameter;
                call.put(
                    2 * number,
                    RESPONSE | PARAMETER | request & (CONDITION | PTEX),
                );
                break;
            }
        }
        let answer = RESPONSE | request & (CONDITION | PTEX);
        let flags = match request & CONDITION {
            CONDITION_ABSOLUTE => Flags::empty(),
            CONDITION_ANDCOND => Flags::ANDCOND,
            CONDITION_AVPN => Flags::AVPN,
            _ => Flags::all(),
        };
        let slot = table.slot_at(request & PTEX);
        let (Some(slot), false) = (slot, flags == Flags::all()) else {
            status = Status::Parameter;
            call.put(2 * number, answer | PARAMETER);
            break;
        };
        let locked = match slot.try_lock() {
            Some(locked) => locked,
            None => {
                batch.flush(&call.system.machine);
                slot.lock()
            }
        };
        let avpn = call.argument(2 * number + 1);
        match locked {
            Some(locked) if matches(locked.v(), flags, avpn) => {
                batch.remove(number, locked);
                call.put(2 * number, answer);
            }
            _ => call.put(2 * number, answer | NOT_FOUND),
        }
    }
    batch.flush(&call.system.machine);
    for (number, rc) in batch.results.into_iter().enumerate() {
        if rc != 0 {
            call.put(2 * number, call.argument(2 * number) | rc << RC_SHIFT);
        }
    }
    status
}

/// Entries that a call with `MAX` specifiers has taken from hardware and not flushed yet, and what came of those
/// before.
pub(super) struct Batch<'t, const MAX: usize> {
    scope: Scope,
    stale: heapless::Vec<Stale<'t>, MAX>,
    /// The specifiers that they belong to.
    numbers: heapless::Vec<usize, MAX>,
    /// R and C of each specifier's entry.
    pub(super) results: [u64; MAX],
}

impl<'t, const MAX: usize> Batch<'t, MAX> {
    /// Nothing yet; whoever may remember translations of the entries is in `scope`.
    pub(super) const fn new(scope: Scope) -> Self {
        Self {
            scope,
            stale: heapless::Vec::new(),
            numbers: heapless::Vec::new(),
            results: [0; MAX],
        }
    }

    /// Removes the entry that specifier `number` is about: what hardware may use, with the next flush.
    pub(super) fn remove(&mut self, number: usize, locked: Locked<'t>) {
        if locked.is_valid() {
            // As many as there are specifiers: the push never fails.
            let _ = self.stale.push(locked.invalidate());
            let _ = self.numbers.push(number);
        } else {
            let (view, changed) = locked.remove_absent();
            changed.note();
            note(&mut self.results, number, view);
        }
    }

    /// Removes all that is held, with one sequence.
    pub(super) fn flush<M: Machine>(&mut self, machine: &M) {
        if self.stale.is_empty() {
            return;
        }
        let Self {
            scope,
            stale,
            numbers,
            results,
        } = self;
        tlb::flush(machine, *scope, stale, |flushed| {
            let (view, changed) = flushed.remove();
            changed.note();
            if let Some(number) = numbers.pop() {
                note(results, number, view);
            }
        });
    }
}

/// Keeps R and C of the entry that specifier `number` was about.
fn note(results: &mut [u64], number: usize, view: GuestR) {
    if let Some(result) = results.get_mut(number) {
        *result = view.raw() & (R | C);
    }
}
