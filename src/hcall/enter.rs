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
use crate::table::Table;
use crate::table::hpte::{GuestR, GuestV};
use crate::table::slot::{Claimed, Entry};

/// Where the flags about the page's memory are: a test of one instruction leads past them all.
const LOW_FLAGS: Flags = Flags::from_bits_retain(0xffff_ffff);

/// The largest page that is zeroed or synchronised.
const LARGEST_PREPARED: u64 = 64 << 10;

/// H_ENTER as it is made all the time: no flags about the page's memory, and nothing that hardware would have to tell of
/// the entry; none: it is another.
///
/// Linux enters its pages with R, and with C where they may be written.
#[inline(always)]
pub(super) fn enter<'c, M: Machine>(call: &mut Call<'c, '_, M>) -> Option<Answer<'c>> {
    let prepares = Flags::from_bits_retain(call.argument(0)).intersects(LOW_FLAGS);
    if prepares || !GuestR::entered(call.argument(3)).is_settled() {
        return None;
    }
    Some(make(call, |_, _| {}))
}

/// Any H_ENTER: apart, so that the usual way needs no room for what the others do.
#[inline(never)]
pub(super) fn enter_any<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let flags = Flags::from_bits_retain(call.argument(0));
    make(call, |machine, entry| prepare(machine, flags, entry)).note()
}

/// Makes the entry that the arguments say. `prepare` comes before anyone can use it.
#[inline(always)]
fn make<'c, M: Machine>(
    call: &mut Call<'c, '_, M>,
    prepare: impl FnOnce(&M, &Entry),
) -> Answer<'c> {
    let flags = Flags::from_bits_retain(call.argument(0));
    let table = call.caller.table();
    let v = GuestV::entered(call.argument(2));
    let r = GuestR::entered(call.argument(3));
    let Some(entry) = Entry::checked(v, r, &call.caller.description().regions) else {
        return Status::Parameter.into();
    };
    let ptex = call.argument(1);
    let exact = flags.contains(Flags::EXACT);
    match claim(table, ptex, exact) {
        Err(status) => status.into(),
        Ok(claimed) => {
            prepare(&call.system.machine, &entry);
            let changed = claimed.publish(&call.system.machine, entry);
            call.put(0, changed.ptex().raw());
            changed.into()
        }
    }
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

/// A free slot: exactly `ptex`, or the first one of its group.
#[inline(always)]
fn claim<'t>(table: &'t Table<'_>, ptex: u64, exact: bool) -> Result<Claimed<'t>, Status> {
    if exact {
        let slot = table.slot_at(ptex).ok_or(Status::Parameter)?;
        return slot.claim().ok_or(Status::PtegFull);
    }
    let slot = table.slot_at(ptex).ok_or(Status::Parameter)?;
    slot.claim_in_group().ok_or(Status::PtegFull)
}
