//! H_ENTER (LoPAR 14.5.4.1.2): makes an entry.
//!
//! Order of checks: B, page-size encoding, memory, ptex, slot: that of Linux KVM, and not LoPAR's, which has
//! WIMG before the slot and makes a WIMG that memory does not have an error. Like KVM we take it, give
//! hardware M alone, and show the guest its own WIMG back. An address without memory behind it makes an
//! absent entry. That the slot fits the hash is the guest's affair: an entry elsewhere is never found.
//!
//! The flags that zero the page and that make its instructions visible do so for pages of up to 64K, before
//! the entry shows itself and after all else has been checked: a call that is refused has changed nothing
//! (LoPAR does it before it looks for a slot). For a larger page LoPAR's answer is H_TOO_BIG. KVM takes the
//! flags with any page and does nothing; the work would not be bounded here either, so for larger pages we
//! do as KVM, and its guests are answered as they were. Without memory behind the page there is nothing to do.
//! Cookie and coalescing flags are hints that are not taken (KVM likewise).

use super::abi::{Flags, Status};
use super::{Answer, Call};
use crate::arch::Machine;
use crate::table::hpte::{GuestR, GuestV};
use crate::table::slot::{Entry, Settled, Slot};

/// Where the flags about the page's memory are: a test of one instruction leads past them all.
const LOW_FLAGS: Flags = Flags::from_bits_retain(0xffff_ffff);

/// The largest page that is zeroed or synchronised.
const LARGEST_PREPARED: u64 = 64 << 10;

/// H_ENTER as it is made all the time: no flags about the page's memory, nothing that hardware would have to tell of the
/// entry, and a slot that nobody else takes at this moment; none: it is another.
///
/// Linux enters its pages with R, and with C where they may be written.
#[inline(always)]
pub(super) fn enter<'c, M: Machine>(call: &mut Call<'c, '_, M>) -> Option<Answer<'c>> {
    if Flags::from_bits_retain(call.argument(0)).intersects(LOW_FLAGS) {
        return None;
    }
    let r = GuestR::entered(call.argument(3)).settled()?;
    let v = GuestV::entered(call.argument(2));
    let Some(entry) = Settled::checked(v, r, &call.caller.description().regions) else {
        return Some(Status::Parameter.into());
    };
    let slot = match free(call) {
        Err(status) => return Some(status.into()),
        Ok(slot) => slot,
    };
    // If the slot is taken the usual way ends: another vCPU was quicker, or it was named exactly.
    let changed = slot.claim()?.publish_settled(&call.system.machine, entry);
    call.put(0, changed.ptex().raw());
    Some(changed.into())
}

/// Any H_ENTER: apart, so that the usual way needs no room for what the others do.
#[inline(never)]
pub(super) fn enter_any<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let flags = Flags::from_bits_retain(call.argument(0));
    let v = GuestV::entered(call.argument(2));
    let r = GuestR::entered(call.argument(3));
    let Some(entry) = Entry::checked(v, r, &call.caller.description().regions) else {
        return Status::Parameter;
    };
    let claimed = loop {
        match free(call).map(Slot::claim) {
            Err(status) => return status,
            Ok(Some(claimed)) => break claimed,
            Ok(None) if flags.contains(Flags::EXACT) => return Status::PtegFull,
            // Another vCPU was quicker: the group has one free slot less.
            Ok(None) => {}
        }
    };
    prepare(&call.system.machine, flags, &entry);
    let changed = claimed.publish(&call.system.machine, entry);
    call.put(0, changed.ptex().raw());
    Answer::from(changed).note()
}

/// The slot to be claimed: the one that argument 1 names, if it is to be that, or the first free one of its group.
#[inline(always)]
fn free<'c, M: Machine>(call: &Call<'c, '_, M>) -> Result<Slot<'c>, Status> {
    let slot = call.caller.table().slot_at(call.argument(1));
    let slot = slot.ok_or(Status::Parameter)?;
    if Flags::from_bits_retain(call.argument(0)).contains(Flags::EXACT) {
        return Ok(slot);
    }
    slot.free_in_group().ok_or(Status::PtegFull)
}

/// Does with the memory of an entry what the flags say.
fn prepare<M: Machine>(machine: &M, flags: Flags, entry: &Entry) {
    let bytes = entry.size.bytes();
    let Some(page) = entry.page.filter(|_| bytes <= LARGEST_PREPARED) else {
        return;
    };
    if flags.contains(Flags::ZERO_PAGE) {
        machine.zero(page, bytes);
    }
    if flags.intersects(Flags::ICACHE) {
        machine.synchronise_instructions(page, bytes);
    }
}
