//! H_LPAR_HCALL: a hypercall on a partition's table, made for it by another.
//!
//! Replays, restore tools and debuggers do to a table what its guest could do, while the guest does not run. The
//! frame, r3 to r12 as the guest would load them, stands in the caller's buffer; the same ten doublewords come
//! back. What may be made so is what [`super::hpt`] routes: the HPT calls, and nothing that acts on a vCPU or on another
//! partition. Any other token puts H_FUNCTION into the frame.
//!
//! # Status
//! The call's own status says only whether the proxy could be made, in this order:
//! * H_AUTHORITY: the target is another partition and the caller has no control privilege;
//! * H_PARAMETER: there is no such partition, or the buffer is none of the caller's;
//! * H_BUSY: the target runs or is being reset. So is the answer for oneself, with or without the privilege: who
//!   makes a call runs, and has the call itself.
//!
//! Until all of that is decided, nothing is read; where it is refused, nothing is written.
//!
//! # Orderings
//! * The frame is read once, into the hypervisor's memory, and acted on there: another vCPU of the caller's may
//!   write the buffer meanwhile.
//! * The proxy is a write in flight ([`Control::begin_write`]), whatever the call in it: start and resume of the
//!   target and a proxy exclude each other (DESIGN section 5, item 10).
//! * It runs under the caller's LPID, maybe on a thread that never ran the target: what it invalidates is
//!   invalidated everywhere, by `tlbie` for the target's LPID, never by `tlbiel` (item 9).
//! * What it changed is shared out to the readers before it returns, so the pending count of a partition that was
//!   paused stays exact. On a table above order 26, or where one call changed entries far apart, that can be more
//!   than one call may do: H_LPAR_PAUSE, made again, does the rest.
//!
//! [`Control::begin_write`]: crate::lpar::control::Control::begin_write

use super::abi::Status;
use super::{Call, Frame, hpt};
use crate::addr::GuestReal;
use crate::arch::Machine;

/// Registers of the frame, and its bytes.
const REGISTERS: usize = 10;
const BYTES: u64 = 8 * REGISTERS as u64;

/// Rounds of sharing out. A round takes marks from two blocks, and the calls name at most eight slots.
const ROUNDS: usize = 4;

#[inline(never)]
pub(super) fn hcall<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    try_hcall(call).into()
}

fn try_hcall<M: Machine>(call: &Call<'_, '_, M>) -> Result<(), Status> {
    let target = call.target(0)?;
    let machine = &call.system.machine;
    let buffer = call
        .caller
        .description()
        .regions
        .claim(GuestReal::new(call.argument(1)), BYTES)
        .ok_or(Status::Parameter)?;
    if core::ptr::eq(target, call.caller) {
        return Err(Status::Busy);
    }
    let writing = target.control().begin_write()?;
    let places = (0..BYTES)
        .step_by(8)
        .filter_map(|offset| buffer.dword(offset));
    let mut frame = Frame::default();
    for (register, at) in frame.regs.iter_mut().zip(places.clone()) {
        *register = machine.load(at);
    }
    let [token, ..] = frame.regs;
    let mut proxied = Call {
        system: call.system,
        caller: target,
        seat: call.seat,
        by_proxy: true,
        frame: &mut frame,
    };
    let status = hpt(&mut proxied, token);
    frame.regs[0] = status.unwrap_or(Status::Function).raw();
    let _ = (0..ROUNDS).any(|_| target.readers().share_out(target.tables()));
    drop(writing);
    for (register, at) in frame.regs.into_iter().zip(places) {
        machine.store(at, register);
    }
    Ok(())
}
