//! H_PROTECT (LoPAR 14.5.4.1.6): gives an entry another protection and storage key.
//!
//! The entry is taken from hardware, flushed, and given back: a permission is never widened or narrowed in
//! place, and the new dword 1 is made from the old one as hardware left it, so no R or C is lost. LoPAR lets
//! R be cleared on the way; like KVM we keep it. A processor that faults meanwhile finds the entry locked and
//! tries again.

use super::abi::{Flags, Status};
use super::{Answer, Call};
use crate::arch::Machine;
use crate::table::hpte::COMPARED;
use crate::table::tlb;

#[inline(always)]
pub(super) fn protect<'c, M: Machine>(call: &Call<'c, '_, M>) -> Answer<'c> {
    let flags = call.argument(0);
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status.into(),
    };
    let by_avpn = Flags::from_bits_retain(flags).contains(Flags::AVPN);
    if by_avpn && locked.v().raw() & COMPARED != call.argument(2) {
        return Status::NotFound.into();
    }
    let changed = if locked.is_valid() {
        let stale = locked.invalidate();
        let flushed = tlb::flush_one(&call.system.machine, call.scope(), stale);
        let view = flushed.view().protected(flags);
        flushed.republish(&call.system.machine, view)
    } else {
        let view = locked.view().protected(flags);
        locked.set_view(view)
    };
    changed.into()
}
