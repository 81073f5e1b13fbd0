//! Linux's linear map in a table: what its kernel must have entered, by the size of its memory alone.
//!
//! A 64-bit hash kernel maps all of its memory at 0xc000000000000000, bolted, with the largest page that it is offered and
//! that fits; the segments of that range have the proto-VSIDs of context 1, of which the VSID is made by a multiplication
//! (Documentation of `get_vsid` in Linux's `mmu-hash.h`): so the entries of the map can be told from all others, and each
//! maps the guest real address that its virtual one says.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use super::hash::Page;
use super::model::Model;

/// Dword 0: Linux will not evict it.
const V_BOLTED: u64 = 0x10;
/// The context of the first 512 TiB of the linear map.
const CONTEXT: u64 = 1;
/// Bits of a virtual address, without the context's 19 and a segment's 40: those of a segment's number.
const ESID_BITS: u32 = 68 - 19 - 40;
/// VSIDs of segments of 1 TiB: the proto-VSID times this prime, modulo 2^28 - 1.
const MULTIPLIER: u64 = 12_538_073;
const MODULUS: u64 = (1 << 28) - 1;

/// The VSID of the linear map's segment with this number.
const fn vsid(segment: u64) -> u64 {
    (CONTEXT << ESID_BITS | segment) * MULTIPLIER % MODULUS
}

/// The linear map of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearMap {
    /// Entries.
    pub entries: u64,
    /// log2 of their pages' size.
    pub shift: u32,
}

/// Finds the linear map of a kernel with `memory` bytes, up to 1 TiB, and checks that it is what it must be: bolted entries of one
/// page size, which map every byte of the memory once, each at its own address.
///
/// # Errors
/// What is not so.
pub fn linear_map(table: &Model, memory: u64) -> Result<LinearMap> {
    ensure!(memory <= 1 << 40, "more memory than a segment has");
    let mut reals = BTreeMap::new();
    let mut shift = None;
    let own = table.entries().filter_map(|(ptex, entry)| {
        let page = Page::of(entry)?;
        (page.one_terabyte && page.vsid == vsid(0)).then_some((ptex, entry, page))
    });
    for (ptex, entry, page) in own {
        ensure!(
            entry.dw0 & V_BOLTED != 0,
            "slot {ptex:#x}: an entry of the linear map that is not bolted: {entry}"
        );
        let shift = *shift.get_or_insert(page.shift);
        ensure!(
            page.shift == shift,
            "slot {ptex:#x}: pages of 2^{} bytes in a linear map of 2^{shift}",
            page.shift
        );
        ensure!(
            page.real >> 23 == page.offset >> 23,
            "slot {ptex:#x}: offset {:#x} of the linear map is mapped to {:#x}",
            page.offset,
            page.real
        );
        if let Some(other) = reals.insert(page.real, ptex) {
            bail!(
                "slots {other:#x} and {ptex:#x} both map {:#x} in the linear map",
                page.real
            );
        }
    }
    let Some(shift) = shift else {
        bail!("the table has no linear map");
    };
    let expected = (0..memory).step_by(1 << shift);
    let missing = expected.clone().find(|real| !reals.contains_key(real));
    if let Some(real) = missing {
        bail!("{real:#x} of {memory:#x} bytes is not in the linear map");
    }
    ensure!(
        reals.len() == expected.count(),
        "the linear map has {} entries of 2^{shift} bytes, for {memory:#x} bytes of memory",
        reals.len()
    );
    Ok(LinearMap {
        entries: reals.len() as u64,
        shift,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::formats;
    use crate::workspace;

    #[test]
    fn the_vsid_is_the_one_that_linux_has() {
        assert_eq!(vsid(0), 0x0ea1_b217);
    }

    /// A table that QEMU wrote, of a guest with 512 MiB that was offered pages of 64K.
    #[test]
    fn a_real_table_has_its_linear_map() {
        let path = workspace().join("tests/data/qemu-htab/idle512.htab.xz");
        let table = formats::load(&path, None, None).expect("a table");
        let mut model = Model::new(table.order);
        for section in &table.sections {
            model.apply(section).expect("records");
        }
        let map = LinearMap {
            entries: 8192,
            shift: 16,
        };
        assert_eq!(linear_map(&model, 512 << 20).expect("a map"), map);
        assert!(linear_map(&model, 513 << 20).is_err());
        assert!(linear_map(&model, 511 << 20).is_err());
        assert!(linear_map(&Model::new(22), 512 << 20).is_err());
        let all = model.entries();
        let strays = all.filter(|&(ptex, entry)| !crate::tables::hash::fits(ptex, entry, 22));
        assert_eq!(strays.count(), 0);
    }
}
