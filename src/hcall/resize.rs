//! H_RESIZE_HPT_PREPARE and H_RESIZE_HPT_COMMIT (LoPAR, hash page table resize option). What they do is
//! [`crate::lpar::resize`]'s.
//!
//! A prepare answers H_LONG_BUSY_ORDER_100_MSEC when it begins, then H_LONG_BUSY_ORDER_1_MSEC while there is more
//! to do: each call does a piece. A commit is done in one call, however much is left: Linux makes it under
//! `stop_machine` and takes anything but H_SUCCESS for a failure.

use super::abi::Status;
use super::{Call, Next};
use crate::arch::Machine;

/// The vCPU that calls: partitions have one.
const CALLER: usize = 0;

#[inline(never)]
pub(super) fn prepare<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let (flags, shift) = (call.argument(0), call.argument(1));
    call.caller
        .prepare_resize(&call.system.machine, flags, shift)
}

#[inline(never)]
pub(super) fn commit<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let (flags, shift) = (call.argument(0), call.argument(1));
    let status = call
        .caller
        .commit_resize(&call.system.machine, CALLER, flags, shift);
    let next = match status {
        Status::Success => Next::Reload,
        _ => Next::Resume,
    };
    (status, next)
}
