//! H_PROTECT (LoPAR 14.5.4.1.6): gives an entry another protection and storage key.
//!
//! The entry is taken from hardware, flushed, and given back: a permission is never widened or narrowed in
//! place, and the new dword 1 is made from the old one as hardware left it, so no R or C is lost. LoPAR lets
//! R be cleared on the way; like KVM we keep it. A processor that faults meanwhile finds the entry locked and
//! tries again.

use super::Call;
use super::abi::{Flags, Status};
use crate::arch::Machine;
use crate::table::hpte::COMPARED;
use crate::table::tlb;

#[inline(always)]
pub(super) fn protect<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let flags = call.argument(0);
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status,
    };
    let by_avpn = Flags::from_bits_retain(flags).contains(Flags::AVPN);
    if by_avpn && locked.v().raw() & COMPARED != call.argument(2) {
        return Status::NotFound;
    }
    let view = locked.view().protected(flags);
    if locked.is_valid() {
        let stale = locked.invalidate();
        let flushed = tlb::flush_one(&call.system.machine, call.scope(), stale);
        let view = flushed.view().protected(flags);
        flushed.republish(&call.system.machine, view);
    } else {
        locked.set_view(view);
    }
    Status::Success
}
