//! The entries that translate guest real mode: the VRMA (ISA 3.0B Book III section 5.7.3.4; LoPAR's RMA).
//!
//! On POWER9 and later, and on POWER8 with LPCR\[VPM0\], a guest with translation off runs through the 1T
//! segment [`Segment::VRMA_VSID`]. Its entries stand in the partition's own table. They are made when the
//! partition first runs and no restored table had any, with 16M pages, over the region that begins at guest
//! real 0, up to 4 GiB of it: bolted, R and C set, so that they are settled.

use crate::addr::{EffAddr, GuestReal};
use crate::arch::Machine;
use crate::hcall::abi::Status;
use crate::memory::{Backing, Regions};
use crate::table::hash::Segment;
use crate::table::hpte::{BOLTED, C, GuestR, GuestV, LARGE, M, R, SECONDARY};
use crate::table::page_size::PageSize;
use crate::table::search::Found;
use crate::table::slot::{Claimed, Entry};
use crate::table::{Table, tlb};

/// Pages of the VRMA.
const SIZE: PageSize = PageSize::M16;
/// The most that it has: 4 GiB. It is what a guest starts in, not all that it has, and it is made in one call.
const MAX_PAGES: u64 = 256;
/// The last slot of a group, where operating systems look last.
const LAST: u64 = 7;

/// Makes the VRMA of a partition, unless its table has one.
///
/// # Errors
/// [`Status::PtegFull`] if both groups of a page are full; [`Status::Parameter`] if there is no memory at
/// guest real 0 that 16M pages can map.
pub fn prepare<M: Machine>(
    machine: &M,
    table: &Table<'_>,
    regions: &Regions,
) -> Result<(), Status> {
    if table.vrma_shift().is_some() {
        return Ok(());
    }
    let segment = Segment::one_terabyte(Segment::VRMA_VSID, SIZE.base_shift());
    let pages = |page: u64| match regions.page(GuestReal::new(page << SIZE.shift()), SIZE.bytes()) {
        Backing::Memory(host) if page < MAX_PAGES => Some((page, host)),
        _ => None,
    };
    let mut made = 0;
    for (page, host) in (0..).map_while(pages) {
        let at = EffAddr::new(page << SIZE.shift());
        let Some((claimed, h)) = claim(table, segment.hash(at)) else {
            unmake(machine, table, segment, made);
            return Err(Status::PtegFull);
        };
        let v = GuestV::entered(segment.avpn(at) | BOLTED | LARGE | h);
        let r = GuestR::entered(at.raw() | R | C | M);
        let entry = Entry {
            v,
            r,
            size: SIZE,
            page: Some(host),
        };
        claimed.publish(machine, entry).note();
        made += 1;
    }
    if made == 0 {
        return Err(Status::Parameter);
    }
    table.set_vrma_shift(Some(SIZE.base_shift()));
    Ok(())
}

/// Takes the first `made` pages' entries out again: a table without room for all is left as it was.
fn unmake<M: Machine>(machine: &M, table: &Table<'_>, segment: Segment, made: u64) {
    for page in 0..made {
        if let Found::Entry { ptex, .. } = table.find(segment, EffAddr::new(page << SIZE.shift()))
            && let Some(locked) = table.slot(ptex).and_then(|slot| slot.lock())
        {
            let flushed = tlb::flush_one(machine, table.lpid(), locked.invalidate());
            flushed.remove().1.note();
        }
    }
}

/// A slot for an entry of that hash: the last of its primary group, else a free one there, else one of the
/// secondary group.
fn claim<'t>(table: &'t Table<'_>, hash: u64) -> Option<(Claimed<'t>, u64)> {
    let mask = table.order().groups() - 1;
    [(hash & mask, 0), (!hash & mask, SECONDARY)]
        .into_iter()
        .find_map(|(group, h)| {
            (0..=LAST).rev().find_map(|slot| {
                let slot = table.slot_at(group * 8 + slot)?;
                slot.claim().map(|claimed| (claimed, h))
            })
        })
}
