//! H_BLOCK_REMOVE (LoPAR 14.5.4.1.8): removes up to eight entries of one naturally aligned block of eight virtual
//! pages, all of one size, with one sequence of barriers.
//!
//! Neither Linux KVM nor QEMU has it; we follow LoPAR, and Linux's guest code where LoPAR does not say.
//!
//! * r4 has the AVPN, r5 to r12 a specifier each: type and flags in the first byte, ptex in the rest. The answers
//!   stand from r4 on, as results do: that of r5's specifier in r4. Linux reads them there. From the end mark
//!   on, specifiers are given back as they were.
//! * The types are looked at first. One that is neither request nor end is H_PARAMETER, and nothing is done: in
//!   LoPAR the call returns before it invalidates anything.
//! * Then, in this order: a ptex that the table does not have (bits that are reserved count as part of it), an
//!   entry that is locked, none or a bolted one, another AVPN, another size than the first entry's, another
//!   block. Each is an answer in the specifier, makes the call H_PARTIAL, and does not stop it.
//! * No lock is waited for: *busy* is the answer, also for a slot that a request before has named.
//! * "The virtual page" is the base page, as in Linux: eight entries of a 16M page in a 64K segment are eight pages.
//!   Every size is supported; a block of 16M base pages has several AVPNs, and the one given covers the block.
//! * Page states of the CMO option are not kept; the bits that change them are not looked at.

use super::Call;
use super::abi::Status;
use super::remove::{Batch, TYPE, TYPE_END, TYPE_REQUEST};
use crate::arch::Machine;
use crate::table::Table;
use crate::table::block::Block;
use crate::table::hpte::{C, R};
use crate::table::slot::Locked;

/// The specifiers of one call.
const SPECIFIERS: usize = 8;

/// A request: only if the AVPN is the one given.
const BY_AVPN: u64 = 1 << 56;
/// The ptex, and bits that are reserved and zero.
const PTEX: u64 = (1 << 56) - 1;
/// What a response is made of beside the request's flag and ptex.
const RESPONSE: u64 = 2 << 62;
const CODE_SHIFT: u32 = 59;
/// From R and C of dword 1 to those of a response: bits 5 and 6 of the first byte.
const RC_SHIFT: u32 = 50;

/// Why an entry was not removed, as a response says it.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
enum Refusal {
    NotFound = 1,
    Parameter = 2,
    OtherSize = 3,
    Busy = 4,
    OtherBlock = 5,
}

/// The entry that a request is about, locked, if it is to be removed, and its block.
fn requested<'t>(
    table: &'t Table<'_>,
    request: u64,
    avpn: u64,
    first: Option<Block>,
) -> Result<(Locked<'t>, Block), Refusal> {
    let slot = table.slot_at(request & PTEX).ok_or(Refusal::Parameter)?;
    let locked = slot
        .try_lock()
        .ok_or(Refusal::Busy)?
        .ok_or(Refusal::NotFound)?;
    let block = locked.block();
    if locked.v().is_bolted() || request & BY_AVPN != 0 && !block.is_covered_by(avpn) {
        return Err(Refusal::NotFound);
    }
    match first {
        Some(first) if !block.is_like(&first) => Err(Refusal::OtherSize),
        Some(first) if block != first => Err(Refusal::OtherBlock),
        _ => Ok((locked, block)),
    }
}

#[inline(never)]
pub(super) fn block_remove<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let table = call.caller.table();
    let avpn = call.argument(0);
    let mut specifiers: [u64; SPECIFIERS] =
        core::array::from_fn(|number| call.argument(number + 1));
    let requests = || {
        let until_end = specifiers
            .iter()
            .take_while(|&specifier| specifier & TYPE != TYPE_END);
        until_end.copied()
    };
    if requests().any(|specifier| specifier & TYPE != TYPE_REQUEST) {
        return Status::Parameter;
    }
    let count = requests().count();
    let mut status = Status::Success;
    let mut first = None;
    let mut batch = Batch::<SPECIFIERS>::new(call.scope());
    for (number, specifier) in specifiers.iter_mut().enumerate().take(count) {
        let request = *specifier;
        *specifier = RESPONSE | request & (BY_AVPN | PTEX);
        match requested(table, request, avpn, first) {
            Ok((locked, block)) => {
                first = first.or(Some(block));
                batch.remove(number, locked);
            }
            Err(refusal) => {
                *specifier |= (refusal as u64) << CODE_SHIFT;
                status = Status::Partial;
            }
        }
    }
    batch.flush(&call.system.machine);
    for (number, (specifier, rc)) in specifiers.into_iter().zip(batch.results).enumerate() {
        call.put(number, specifier | (rc & (R | C)) << RC_SHIFT);
    }
    status
}
