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

use super::Call;
use super::abi::Status;
use crate::arch::Machine;
use crate::table::tlb;

#[inline(always)]
pub(super) fn clear_ref<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let (machine, scope) = (&call.system.machine, call.scope());
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status,
    };
    let before = locked.view_with_rc();
    if before.is_referenced() {
        if locked.is_valid() {
            tlb::flush_live(machine, scope, locked.clear_r(machine));
        } else {
            locked.set_view(before.unreferenced());
        }
    }
    call.put(0, before.raw());
    Status::Success
}

#[inline(always)]
pub(super) fn clear_mod<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let (machine, scope) = (&call.system.machine, call.scope());
    let locked = match call.entry() {
        Ok(locked) => locked,
        Err(status) => return status,
    };
    let before;
    if locked.is_valid() {
        let flushed = tlb::flush_one(machine, scope, locked.invalidate());
        before = flushed.view();
        if before.is_changed() {
            flushed.clear_c(machine);
        } else {
            flushed.restore(machine);
        }
    } else {
        before = locked.view();
        if before.is_changed() {
            locked.set_view(before.unchanged());
        }
    }
    call.put(0, before.raw());
    Status::Success
}
