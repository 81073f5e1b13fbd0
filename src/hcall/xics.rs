//! The calls of the interrupt option (LoPAR 14.5.4, Interrupt Support): H_XIRR, H_XIRR_X, H_CPPR, H_EOI, H_IPI, H_IPOLL.
//!
//! All but the last two are about the calling vCPU. A priority is the low byte of its register. A server that the partition
//! lacks is H_PARAMETER; so is the end of an interrupt that no source has, and CPPR stays as it is then.

use super::abi::Status;
use super::{Call, Next};
use crate::arch::Machine;
use crate::lpar::xics::Set;
use crate::table::bitmap::index;

/// Wakes the vCPUs that an interrupt waits for now; the caller looks for itself before it goes on.
pub(super) fn signal<M: Machine>(call: &Call<'_, '_, M>, risen: Set) -> Next {
    let own = call.vcpu().map_or(0, |vcpu| 1 << vcpu);
    call.caller.signal(&call.system.machine, risen & !own);
    if risen & own == 0 {
        Next::Resume
    } else {
        Next::Interrupt
    }
}

/// What comes of a change; none: there was nothing to be changed.
fn answer<M: Machine>(call: &Call<'_, '_, M>, risen: Option<Set>) -> (Status, Next) {
    match risen {
        Some(risen) => (Status::Success, signal(call, risen)),
        None => (Status::Parameter, Next::Resume),
    }
}

/// A register's low byte.
const fn priority(register: u64) -> u8 {
    let [.., low] = register.to_be_bytes();
    low
}

/// H_XIRR, and H_XIRR_X, which says beside what time it is.
#[inline(never)]
pub(super) fn accept<M: Machine>(call: &mut Call<'_, '_, M>, timed: bool) -> Status {
    let xirr = call.caller.papr().xics().accept(call.seat.vcpu as usize);
    call.put(0, xirr);
    if timed {
        let now = call.system.machine.time_base();
        call.put(1, now);
    }
    Status::Success
}

/// H_CPPR.
#[inline(never)]
pub(super) fn set_cppr<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let cppr = priority(call.argument(0));
    let xics = call.caller.papr().xics();
    answer(call, xics.set_cppr(call.seat.vcpu as usize, cppr))
}

/// H_EOI.
#[inline(never)]
pub(super) fn end<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let xirr = call.argument(0);
    // The source has 24 bits.
    let number = u32::try_from(xirr & 0xff_ffff).unwrap_or(0);
    let xics = call.caller.papr().xics();
    let cppr = priority(xirr >> 24);
    answer(call, xics.end(call.seat.vcpu as usize, cppr, number))
}

/// H_IPI.
#[inline(never)]
pub(super) fn ipi<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let (server, mfrr) = (index(call.argument(0)), priority(call.argument(1)));
    answer(call, call.caller.papr().xics().set_mfrr(server, mfrr))
}

/// H_IPOLL.
#[inline(never)]
pub(super) fn poll<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let server = index(call.argument(0));
    let Some((xirr, mfrr)) = call.caller.papr().xics().poll(server) else {
        return Status::Parameter;
    };
    call.put(0, xirr);
    call.put(1, mfrr.into());
    Status::Success
}
