//! tlbie operands, and the one way from a stale entry to a flushed one.
//!
//! [`operand`] is pure and held to golden vectors, since QEMU ignores RB: no run on it would find a wrong
//! one. [`flush`] issues the sequence of ISA 3.0B Book III section 5.10.1.2 for a batch of [`Stale`] slots:
//! `ptesync; tlbie ...; eieio; tlbsync; ptesync`; or with `tlbiel ...; ptesync` where [`Scope`] allows
//! it. [`flush_live`] issues it for an entry that stays valid.

use super::batch::{FlushedBatch, StaleBatch};
use super::block::page_bits;
use super::hpte::{B_SHIFT, GuestV, RealR};
use super::page_size::PageSize;
use super::slot::{Changed, Flushed, Stale, Unreferenced};
use crate::addr::{Lpid, Ptex};
use crate::arch::Machine;
use crate::sync::{Ordering, fence};

/// What RB has for an entry of one page size.
///
/// With 4K base pages L is 0: RB has the VA down to the 4K page, and in AP which actual page size lies on it. With others
/// L is 1: the VA down to the actual page; below it the LP bits, and in AVAL the bits of VA from 58 on that LP took the
/// place of.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// Log2 of the base page size.
    base: u32,
    /// Bits of the virtual address.
    va: u64,
    /// Bits of dword 1: LP.
    lp: u64,
    /// Bits of the page's number, from AVAL's place on.
    aval: u64,
    /// L and AP.
    fixed: u64,
}

impl Shape {
    const fn of(size: PageSize) -> Self {
        let base = size.base_shift();
        let within = size.bytes() - 1;
        if base == 12 {
            let ap = match size.shift() {
                12 => 0,
                16 => 0b101,
                _ => 0b100,
            };
            return Self {
                base,
                va: !0xfff,
                lp: 0,
                aval: 0,
                fixed: ap << 5,
            };
        }
        Self {
            base,
            va: !within,
            lp: 0xf_f000 & within,
            aval: 0xfe,
            fixed: 1,
        }
    }
}

/// RB of the `tlbie` that invalidates an entry (ISA 3.0B Book III section 5.9.3.3; the same in 2.07 and 3.0
/// for R = 0).
///
/// `v` gives AVPN, B, H and L; `r` the LP bits, which are the guest's in an entry that hardware uses; the group the low bits of the page number. Of B only the values 0
/// and 1 exist here: H_ENTER refuses the others, since they would be fed to hardware.
#[inline(always)]
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "there is a shape for each page size"
)]
pub const fn operand(v: GuestV, r: RealR, ptex: Ptex) -> u64 {
    /// In the order of their declaration.
    const SHAPES: [Shape; 7] = [
        Shape::of(PageSize::K4),
        Shape::of(PageSize::K64InK4),
        Shape::of(PageSize::M16InK4),
        Shape::of(PageSize::K64),
        Shape::of(PageSize::M16InK64),
        Shape::of(PageSize::M16),
        Shape::of(PageSize::G16),
    ];
    let shape = &SHAPES[PageSize::of(v.raw(), r.raw()) as usize];
    // The low 64 bits of the virtual address, whose low 23 bits AVPN lacks.
    let avpn = (v.raw() & !0x7f) << 16;
    let page = page_bits(v, ptex.pteg()) << shape.base;
    let b = v.raw() >> B_SHIFT & 1;
    (avpn | page & 0x7f_f000) & shape.va
        | r.raw() & shape.lp
        | page >> 12 & shape.aval
        | b << 8
        | shape.fixed
}

/// Which CPUs may remember a translation that is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The calling one alone, whose LPIDR names the partition: `tlbiel` does. Only for calls that the one vCPU
    /// of a partition makes for itself.
    Here,
    /// Any: `tlbie` for this partition.
    Everywhere(Lpid),
}

impl From<Lpid> for Scope {
    fn from(lpid: Lpid) -> Self {
        Self::Everywhere(lpid)
    }
}

impl Scope {
    #[inline]
    fn invalidate<M: Machine>(self, machine: &M, operand: u64) {
        match self {
            Self::Here => machine.tlbiel(operand),
            Self::Everywhere(lpid) => machine.tlbie(operand, lpid),
        }
    }

    #[inline]
    fn wait<M: Machine>(self, machine: &M) {
        match self {
            Self::Here => machine.tlbiel_sync(),
            Self::Everywhere(_) => machine.tlbsync(),
        }
    }
}

/// Flushes a batch of stale entries and gives each to `flushed`, the last one first: from there on its R and
/// C are final.
pub fn flush<'t, const MAX: usize, M: Machine>(
    machine: &M,
    scope: impl Into<Scope>,
    batch: &mut heapless::Vec<Stale<'t>, MAX>,
    mut flushed: impl FnMut(Flushed<'t>),
) {
    let scope = scope.into();
    machine.ptesync();
    for stale in batch.iter() {
        scope.invalidate(machine, stale.operand());
    }
    scope.wait(machine);
    // From the end: the entries are moved out one by one, and a batch may be long.
    while let Some(stale) = batch.pop() {
        flushed(stale.flushed());
    }
}

/// The same for a batch that stays together; its R and C are nobody's concern any more. With nothing to flush it is the full
/// barrier that a change needs before it is noted.
pub fn flush_batch<'t, M: Machine>(
    machine: &M,
    scope: impl Into<Scope>,
    batch: StaleBatch<'t>,
) -> FlushedBatch<'t> {
    if batch.operands().is_empty() {
        fence(Ordering::SeqCst);
        return batch.flushed();
    }
    let scope = scope.into();
    machine.ptesync();
    for &operand in batch.operands() {
        scope.invalidate(machine, operand);
    }
    scope.wait(machine);
    batch.flushed()
}

/// Flushes one stale entry.
#[inline]
pub fn flush_one<'t, M: Machine>(
    machine: &M,
    scope: impl Into<Scope>,
    stale: Stale<'t>,
) -> Flushed<'t> {
    let scope = scope.into();
    machine.ptesync();
    scope.invalidate(machine, stale.operand());
    scope.wait(machine);
    stale.flushed()
}

/// Flushes one entry that stays valid, whose R was cleared. From there on it is nobody's.
#[inline(always)]
pub fn flush_live<'t, M: Machine>(
    machine: &M,
    scope: Scope,
    entry: Unreferenced<'t>,
) -> Changed<'t> {
    machine.ptesync();
    scope.invalidate(machine, entry.operand());
    scope.wait(machine);
    entry.flushed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Order;

    /// Made from 78-bit virtual addresses by the layout of RB in the ISA alone, without the hash reversed:
    /// name, dword 0, dword 1, ptex, RB.
    const GOLDEN: [(&str, u64, u64, u64, u64); 10] = [
        (
            "4K in 256M",
            0x1234_5678_9a81,
            0x50_0000_0000,
            0x2223,
            0x1234_5678_9abc_d000,
        ),
        (
            "4K in 256M, secondary",
            0x1234_5678_9a83,
            0x50_0000_0000,
            0x1ddb,
            0x1234_5678_9abc_d000,
        ),
        (
            "4K in 1T",
            0x4001_abcd_efab_1201,
            0x50_0000_0000,
            0x77553,
            0xabcd_efab_1234_5100,
        ),
        (
            "64K in a 4K segment",
            0x7_7777_7705,
            0xabc_7000,
            0x943,
            0x0007_7777_7765_f0a0,
        ),
        (
            "16M in a 4K segment, 1T, secondary",
            0x4000_0543_21fe_dc87,
            0x50_0003_8000,
            0x3bbbb,
            0x0543_21fe_dcba_9180,
        ),
        (
            "64K",
            0x1234_5678_9a85,
            0xabc_1000,
            0x29ab,
            0x1234_5678_9abc_10c1,
        ),
        (
            "64K in 1T, secondary",
            0x4001_abcd_efab_1207,
            0xabc_1000,
            0x90123,
            0xabcd_efab_1234_1141,
        ),
        (
            "16M in a 64K segment",
            0x9_9999_9d85,
            0x50_0000_8000,
            0xa3a3,
            0x0009_9999_9d00_80d1,
        ),
        (
            "16M in 1T",
            0x4001_ffff_ff00_0305,
            0x50_0000_0000,
            0x3ffe3,
            0xffff_ff00_0300_0101,
        ),
        (
            "16G in 1T",
            0x4000_abcd_ef7c_0007,
            0x50_0000_3000,
            0x21907b,
            0xabcd_ef7c_0000_3101,
        ),
    ];

    #[test]
    fn operands_equal_the_golden_vectors() {
        for (name, v, r, ptex, rb) in GOLDEN {
            let ptex = Order::new(26).unwrap().ptex(ptex).unwrap();
            let operand = operand(GuestV::entered(v), RealR::read(r), ptex);
            assert_eq!(operand, rb, "{name}: {operand:#x}, not {rb:#x}");
        }
    }
}
