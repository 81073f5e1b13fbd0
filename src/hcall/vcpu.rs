//! The calls by which a partition's vCPUs share processors: H_CONFER and H_PROD (LoPAR 14.11.3), and the start
//! of a vCPU, which guests know as the RTAS call start-cpu.
//!
//! H_CEDE may return early, so whoever cedes looks again whether there is something to do; a guest that polls
//! relies on nothing else. One that an interrupt waits for comes back at once.
//!
//! The dispatch count that H_CONFER is given is the yield count of the target as the caller saw it in its VPA: if that has
//! changed since, or is even, the target has a processor or had one, and the caller goes on. A target without a VPA
//! has shown none, and gets the slice.

use super::abi::Status;
use super::{Call, Next};
use crate::addr::GuestReal;
use crate::arch::Machine;
use crate::lpar::control::Start;
use crate::lpar::vcpu::Endian;
use crate::table::bitmap::index;

/// H_CONFER: to whoever is ready.
const ALL: u64 = u64::MAX;

/// The vCPU gives up its processor until there is something to do. It is asked here whether there is: an interrupt that
/// comes later prods it.
#[inline(never)]
pub(super) fn cede<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let vcpu = call.seat.vcpu as usize;
    if call.caller.external_pending(vcpu) {
        // There is such a vCPU: it calls.
        let _ = call.caller.control().prod(vcpu);
    }
    (Status::Success, Next::Cede)
}

/// The vCPU gives the rest of its slice to another one, or to all: whose turn is next gets it.
#[inline(never)]
pub(super) fn confer<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let target = call.argument(0);
    if target == ALL {
        return (Status::Success, Next::Yield);
    }
    if !call.caller.control().has(index(target)) {
        return (Status::Parameter, Next::Resume);
    }
    let seen = call.argument(1) & u64::from(u32::MAX);
    match call.caller.papr().yield_count(index(target)) {
        Some(count) if count & 1 == 0 || u64::from(count) != seen => {
            (Status::Success, Next::Resume)
        }
        _ => (Status::Success, Next::Yield),
    }
}

/// Wakes a vCPU that ceded, or has its next H_CEDE return at once.
#[inline(never)]
pub(super) fn prod<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let target = index(call.argument(0));
    call.caller.control().prod(target).into()
}

/// Starts a vCPU of the caller's partition.
#[inline(never)]
pub(super) fn start<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let start = Start {
        entry: GuestReal::new(call.argument(1)),
        r3: call.argument(2),
        endian: Endian::Big,
    };
    let target = index(call.argument(0));
    call.caller.control().start_vcpu(target, start).into()
}
