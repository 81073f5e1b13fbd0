//! H_PAGE_INIT (LoPAR 14.5.4.3.3): zeroes or copies a 4 KiB page of the caller's memory.
//!
//! Checked as by KVM: flags that do not exist, then both addresses for the multiple of 4 KiB, then the memory; with
//! both flags the page is copied. The flags about the instruction cache are honoured as QEMU and LoPAR have it;
//! KVM takes them and does nothing. For a call that does nothing to memory the addresses are not looked at
//! further (KVM likewise; QEMU wants memory there). CMO's page states are taken and not kept: there is no such
//! option here.
//!
//! The page is reached by its real address: the C bit of no entry is set by that, and the stream does not tell of
//! it. Whoever copies the partition's memory while it runs has to be told by other means; nobody does so yet
//! (the engine has no tracking of dirty memory), and for a partition that is paused only a proxy makes calls.

use super::Call;
use super::abi::{Flags, Status};
use crate::addr::GuestReal;
use crate::arch::Machine;

/// Bytes of the page.
const PAGE: u64 = 4096;

/// The flags that exist. The CMO ones are four bits.
const KNOWN: Flags = Flags::ZERO_PAGE
    .union(Flags::COPY_PAGE)
    .union(Flags::ICACHE)
    .union(Flags::PAGE_STATE);

#[inline(never)]
pub(super) fn page_init<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let flags = Flags::from_bits_retain(call.argument(0));
    let (destination, source) = (
        GuestReal::new(call.argument(1)),
        GuestReal::new(call.argument(2)),
    );
    let copy = flags.contains(Flags::COPY_PAGE);
    if !KNOWN.contains(flags) || !destination.is_aligned(PAGE) || copy && !source.is_aligned(PAGE) {
        return Status::Parameter;
    }
    if !flags.intersects(KNOWN.difference(Flags::PAGE_STATE)) {
        return Status::Success;
    }
    let machine = &call.system.machine;
    let regions = &call.caller.description().regions;
    let Some(page) = regions.claim(destination, PAGE) else {
        return Status::Parameter;
    };
    if copy {
        let Some(source) = regions.claim(source, PAGE) else {
            return Status::Parameter;
        };
        let (mut source, mut page) = (source.unread(), page.unread());
        while let (Some(from), Some(to)) = (source.dword(), page.dword()) {
            machine.store(to, machine.load(from));
        }
    } else if flags.contains(Flags::ZERO_PAGE) {
        machine.zero(page.host(), page.bytes());
    }
    if flags.intersects(Flags::ICACHE) {
        machine.synchronise_instructions(page.host(), page.bytes());
    }
    Status::Success
}
