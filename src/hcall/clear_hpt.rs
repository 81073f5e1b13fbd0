//! H_CLEAR_HPT (LoPAR 2.9): empties the caller's table, for a kernel that hands over to another.
//!
//! LoPAR: all entries go but those of the VRMA and of adjunct partitions (here are none), their translations are
//! dropped on every processor, and the call may answer H_CONTINUE, to be made again. A VRMA entry is one whose B
//! and VSID are the VRMA's, bolted or not and whoever made it: the test that Linux's own clearing loop makes
//! before it removes an entry. Neither Linux KVM nor QEMU has the call; Linux then reads the whole table and
//! removes entry by entry.
//!
//! LoPAR wants the caller in real mode, and lets other HPT calls be H_BUSY meanwhile. Neither is enforced or
//! used here: a caller with translation on loses the page it runs on, which is its own affair, and other calls go
//! on as ever. An entry that another vCPU makes behind the place that the clearing has come to stays. The place
//! is the partition's: a second caller goes on where the first has come to, and a caller that never comes again
//! after H_CONTINUE leaves the rest to the next.

use super::Call;
use super::abi::Status;
use crate::arch::Machine;

#[inline(never)]
pub(super) fn clear_hpt<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    call.caller.clear_hpt(&call.system.machine)
}
