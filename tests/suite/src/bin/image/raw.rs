//! The calls that reach into a partition's real HPT.

use core::{arch::asm, sync::atomic::Ordering::Relaxed};

use realhpt::{
    addr::Lpid,
    arch::powerpc64::spr,
    hcall::{
        Frame,
        abi::{Privileges, Status},
    },
    table::bitmap::{BLOCK, WORD},
};
use realhpt_powernv::{
    board::{Extension, Machine},
    boot::Handover,
    machine::Generation,
    start,
};
use realhpt_suite::raw;

/// Boots.
pub(crate) fn main(handover: Handover) -> ! {
    start::boot(handover, Raw)
}

/// What the suite's image adds.
struct Raw;

impl Extension for Raw {
    fn hypercall(&self, machine: &Machine, caller: Lpid, frame: &mut Frame) -> Option<Status> {
        let [token, slot, dw0, dw1, ..] = frame.regs;
        let privileges = machine.partition(caller)?.description().privileges;
        if !privileges.contains(Privileges::REPORT) {
            return None;
        }
        match token {
            raw::PEEK => {
                let [first, second] = entry(caller, slot);
                // SAFETY: a slot of the caller's HPT: memory, whoever else uses it.
                frame.put(0, unsafe { first.read_volatile() });
                // SAFETY: as above.
                frame.put(1, unsafe { second.read_volatile() });
            }
            raw::POKE => {
                let [first, second] = entry(caller, slot);
                // SAFETY: a slot of the caller's HPT, which has only itself to hurt: the suite's guest is
                // trusted with what it makes of a real entry.
                unsafe { second.write_volatile(dw1) };
                // SAFETY: as above.
                unsafe { first.write_volatile(dw0) };
            }
            raw::FLUSH => flush(slot, caller),
            raw::LOOK => {
                let results = look(machine, slot, dw0)?;
                for (number, result) in results.into_iter().enumerate() {
                    frame.put(number, result);
                }
            }
            _ => return None,
        }
        Some(Status::Success)
    }
}

/// What the engine keeps of a slot of a partition's table: its real entry, its guest view, its bits.
fn look(machine: &Machine, lpid: u64, slot: u64) -> Option<[u64; 4]> {
    let lpid = Lpid::new(u16::try_from(lpid).ok()?);
    let table = machine.partition(lpid)?.table();
    let place = table.slot(table.order().ptex(slot)?)?;
    let at = usize::try_from(2 * slot).ok()?;
    let entry: &[_; 2] = table.hpt().get(at..)?.first_chunk()?;
    let [dw0, dw1] = entry.each_ref().map(|dword| dword.load(Relaxed));
    let view = place.lock().map_or(0, |locked| locked.view().raw());
    let unsettled = table.unsettled();
    let bits = [
        (raw::bitmap::OCCUPIED, table.occupied().contains(slot)),
        (raw::bitmap::UNSETTLED, unsettled.contains(slot)),
        (
            raw::bitmap::UNSETTLED_SUMMARY,
            unsettled.block(slot / BLOCK) >> (slot % BLOCK / WORD) & 1 != 0,
        ),
        (raw::bitmap::CHANGED, table.changed().contains(slot)),
    ];
    let bits = bits.into_iter().filter(|&(_, set)| set);
    Some([dw0, dw1, view, bits.fold(0, |all, (bit, _)| all | bit)])
}

/// The two doublewords of a slot of the HPT that the processor walks for the partition.
fn entry(lpid: Lpid, slot: u64) -> [*mut u64; 2] {
    let place = if Generation::detect() == Generation::Power8 {
        // SDR1: HTABORG, HTABSIZE.
        spr::SDR1.read()
    } else {
        // PTCR: where the partition table is. Its first doubleword for the partition is as SDR1 is, with more below.
        let table = spr::PTCR.read() & !0xfff;
        let row = pointer(table + 16 * u64::from(lpid.raw()));
        // SAFETY: an entry of the partition table, which the processor reads too.
        unsafe { row.read_volatile() }
    };
    let slots = 1 << ((place & 0x1f) + 18 - 4);
    let at = (place & 0x0fff_ffff_fffc_0000) + 16 * (slot % slots);
    [pointer(at), pointer(at + 8)]
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the target has 64-bit pointers"
)]
fn pointer(at: u64) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(at as usize)
}

/// The sequence that makes every thread forget a translation, and R and C final (ISA 3.0B Book III section 5.10.1):
/// earlier stores to the HPT first, then the tlbie, then everybody is waited for.
fn flush(rb: u64, lpid: Lpid) {
    // SAFETY: translations are only forgotten.
    unsafe {
        asm!(
            "ptesync",
            "tlbie {rb}, {lpid}",
            "eieio",
            "tlbsync",
            "ptesync",
            rb = in(reg) rb,
            lpid = in(reg) u64::from(lpid.raw()),
            options(nostack),
        );
    }
}
