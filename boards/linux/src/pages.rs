//! Pages with known contents.
//!
//! Every page holds a pattern made of a tag: no word of it is like another, nor like one of another tag's. So a page
//! that is somewhere else, or half of one, is found out.

use core::ptr::{self, with_exposed_provenance, with_exposed_provenance_mut};

use crate::system::{self, Access, FAULTED, Source};
use crate::trouble::{Result, Trouble};

/// A word of the pattern of `tag`: the finaliser of SplitMix64.
fn word(tag: u64, index: usize) -> u64 {
    let index = u64::try_from(index).unwrap_or_default();
    let mixed = tag
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(index.wrapping_mul(0xd134_2543_de82_ef95));
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Fills the page at `at` with the pattern of `tag`.
///
/// # Safety
/// A page of `page` bytes that may be written is there, and no Rust value.
pub(crate) unsafe fn fill(at: usize, page: usize, tag: u64) {
    for index in 0..page / 8 {
        let place = with_exposed_provenance_mut::<u64>(at + 8 * index);
        // SAFETY: within the page.
        unsafe { place.write_volatile(word(tag, index)) };
    }
}

/// Checks that the page at `at` holds the pattern of `tag`.
///
/// # Safety
/// A page of `page` bytes that may be read is there.
pub(crate) unsafe fn check(at: usize, page: usize, tag: u64, after: &'static str) -> Result<()> {
    for index in 0..page / 8 {
        let address = at + 8 * index;
        // SAFETY: within the page.
        let found = unsafe { with_exposed_provenance::<u64>(address).read_volatile() };
        compare(address, found, word(tag, index), after)?;
    }
    Ok(())
}

fn compare(address: usize, found: u64, wanted: u64, after: &'static str) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Trouble::Wrong {
        after,
        address,
        found,
        wanted,
    })
}

/// Checks that the page at `at` is zero.
///
/// # Safety
/// As for [`check`].
pub(crate) unsafe fn check_zero(at: usize, page: usize, after: &'static str) -> Result<()> {
    for index in 0..page / 8 {
        let address = at + 8 * index;
        // SAFETY: within the page.
        let found = unsafe { with_exposed_provenance::<u64>(address).read_volatile() };
        compare(address, found, 0, after)?;
    }
    Ok(())
}

/// Swaps the contents of two pages.
///
/// # Safety
/// Both are pages of `page` bytes that may be written and that nobody else uses.
pub(crate) unsafe fn swap(one: usize, other: usize, page: usize) {
    let one = with_exposed_provenance_mut::<u8>(one);
    let other = with_exposed_provenance_mut::<u8>(other);
    // SAFETY: two pages, which do not overlap.
    unsafe { ptr::swap_nonoverlapping(one, other, page) };
}

/// Checks that `access` to `at` faults, by a child that tries.
pub(crate) fn must_fault(at: usize, access: Access, after: &'static str) -> Result<()> {
    let child = system::fork(|| {
        if system::end_on_fault().is_err() {
            return 1;
        }
        let place = with_exposed_provenance_mut::<u64>(at);
        if access == Access::Write {
            // SAFETY: it faults, or the check fails; nobody but this process has the memory.
            unsafe { place.write_volatile(0) };
        } else {
            // SAFETY: as above.
            let _ = unsafe { place.read_volatile() };
        }
        0
    })?;
    match system::wait(child)? {
        Some(FAULTED) => Ok(()),
        status => Err(Trouble::Fault {
            after,
            address: at,
            status,
        }),
    }
}

/// Maps `bytes` at one of the addresses that `choose` gives, where nothing is yet.
pub(crate) fn map_somewhere(
    bytes: usize,
    source: Source,
    mut choose: impl FnMut() -> usize,
) -> Result<usize> {
    let mut tries = 16;
    loop {
        match system::map(Some(choose()), bytes, source) {
            Err(Trouble::Call { .. }) if tries > 0 => tries -= 1,
            result => return result,
        }
    }
}
