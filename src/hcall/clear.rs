//! H_CLEAR_REF and H_CLEAR_MOD (LoPAR 14.5.4.1.4 and 14.5.4.1.5): take R or C away from an entry and give dword
//! 1 as it was before.
//!
//! R is cleared in an entry that hardware goes on using, as "Resetting the Reference Bit" of the ISA has it: a
//! store of R's byte alone, which cannot put back the byte where hardware sets C meanwhile, and a `tlbie`, so
//! that the next access sets R again. An R that a processor still held back comes after that, as a reference
//! that was made later.
//!
//! C says whether a page has to be saved, so it must be known for good before it goes: the entry is taken from
//! hardware and flushed, and C is read and cleared in between. LoPAR looks at C first and leaves an entry
//! without it alone; a C that a processor holds back would then show up after the call. Like KVM we flush
//! every entry that hardware may use.
//!
//! A bit that is clear already is no change: no reader is told of it. (KVM likewise, and it returns its internal
//! mark of a change, bit 62, which is not shown here.) An entry without memory behind it has the R and C that
//! the guest entered it with and no others. No flag is defined; what is given is not looked at (KVM likewise).

use super::abi::Status;
use super::{Answer, Call};
use crate::arch::Machine;
use crate::table::tlb;

#[inline(always)]
pub(super) fn clear_ref<'c, M: Machine>(call: &mut Call<'c, '_, M>) -> Answer<'c> {
    let (machine, scope) = (&call.system.machine, call.scope());
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status.into(),
    };
    let before = locked.view_with_rc();
    call.put(0, before.raw());
    if !before.is_referenced() {
        return Status::Success.into();
    }
    let changed = if locked.is_valid() {
        tlb::flush_live(machine, scope, locked.clear_r(machine))
    } else {
        locked.set_view(before.unreferenced())
    };
    changed.into()
}

#[inline(always)]
pub(super) fn clear_mod<'c, M: Machine>(call: &mut Call<'c, '_, M>) -> Answer<'c> {
    let (machine, scope) = (&call.system.machine, call.scope());
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status.into(),
    };
    if locked.is_valid() {
        let flushed = tlb::flush_one(machine, scope, locked.invalidate());
        let before = flushed.view();
        call.put(0, before.raw());
        if before.is_changed() {
            return flushed.clear_c(machine).into();
        }
        flushed.restore(machine);
    } else {
        let before = locked.view();
        call.put(0, before.raw());
        if before.is_changed() {
            return locked.set_view(before.unchanged()).into();
        }
    }
    Status::Success.into()
}
