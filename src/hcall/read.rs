//! H_READ (LoPAR 14.5.4.1.5): shows entries as the guest knows them.
//!
//! An entry without VALID reads as zero. KVM shows whatever dword 1 was left there: a host real address.

use super::Call;
use super::abi::{Flags, Status};
use crate::arch::Machine;
use crate::table::Table;
use crate::table::hpt::Copy;
use crate::table::slot::Slot;

/// H_READ of one entry that nobody is changing; none: four are wanted, or someone is.
#[inline(always)]
pub(super) fn read<M: Machine>(call: &mut Call<'_, '_, M>) -> Option<Status> {
    if Flags::from_bits_retain(call.argument(0)).contains(Flags::READ_4) {
        return None;
    }
    let table = call.caller.table();
    let Some(slot) = table.slot_at(call.argument(1)) else {
        return Some(Status::Parameter);
    };
    let (dword0, dword1) = match table.try_copy(slot) {
        Copy::Entry { v, r, .. } => (v.raw(), r.raw()),
        Copy::Free => (0, 0),
        Copy::Busy => return None,
    };
    call.put(0, dword0);
    call.put(1, dword1);
    Some(Status::Success)
}

/// H_READ of the four entries of a half group; or of one that is being changed.
#[inline(never)]
pub(super) fn read_any<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let flags = Flags::from_bits_retain(call.argument(0));
    let table = call.caller.table();
    let ptex = call.argument(1);
    let (first, count) = if flags.contains(Flags::READ_4) {
        (ptex & !3, 4)
    } else {
        (ptex, 1)
    };
    for number in 0..count {
        let Some(slot) = table.slot_at(first + number) else {
            return Status::Parameter;
        };
        let (dword0, dword1) = entry(table, slot);
        let register = crate::table::bitmap::index(2 * number);
        call.put(register, dword0);
        call.put(register + 1, dword1);
    }
    Status::Success
}

/// A consistent copy; where writers do not leave the entry alone for long enough, one made under its lock.
fn entry(table: &Table<'_>, slot: Slot<'_>) -> (u64, u64) {
    loop {
        match table.copy(slot) {
            Copy::Entry { v, r, .. } => return (v.raw(), r.raw()),
            Copy::Free => return (0, 0),
            Copy::Busy => {
                if let Some(locked) = slot.lock() {
                    return (locked.v().raw(), locked.view_with_rc().raw());
                }
            }
        }
    }
}
