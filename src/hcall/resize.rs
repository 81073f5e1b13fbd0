//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT (LoPAR, hash page table resize option). What they do is
//! [`crate::lpar::resize`]'s.
//!
//! A prepare answers H_LONG_BUSY_ORDER_100_MSEC when it begins, then H_LONG_BUSY_ORDER_1_MSEC while there is more
//! to do: each call does a piece. A commit is done in one call, however much is left: Linux makes it under
//! `stop_machine` and takes anything but H_SUCCESS for a failure.

use super::Call;
use super::abi::Status;
use crate::arch::Machine;
use crate::lpar::resize::Committer;

#[inline(never)]
pub(super) fn prepare<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let (flags, shift) = (call.argument(0), call.argument(1));
    call.caller
        .prepare_resize(&call.system.machine, flags, shift)
}

/// With H_SUCCESS the board has the processor walk the new table before the caller goes on.
#[inline(never)]
pub(super) fn commit<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let (flags, shift) = (call.argument(0), call.argument(1));
    let committer = Committer {
        machine: &call.system.machine,
        vcpu: call.vcpu(),
        cpu: call.cpu(),
        // Another CPU may be waiting for this one to forget something, while this one waits for it.
        meanwhile: &|| call.system.pay(call.cpu()),
    };
    call.caller.commit_resize(&committer, flags, shift)
}
