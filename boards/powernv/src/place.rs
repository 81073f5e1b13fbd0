//! From ranges of the machine's memory to things in them.
//!
//! The layout gives a range out once, to whoever asked; here it becomes what it was asked for. What is placed
//! stays until the machine is switched off.

use core::{ptr, slice};

use realhpt::addr::HostReal;
use realhpt::arch::powerpc64::cache;

use crate::layout::{Error, Layout, Range};

/// Alignment of everything that has no larger one: a cache block, which is what zeroing goes by.
pub const BLOCK: u64 = 128;

/// Takes memory and zeroes it.
///
/// # Errors
/// What the layout says.
pub fn zeroed(layout: &mut Layout, size: u64, alignment: u64) -> Result<Range, Error> {
    let range = layout.allocate(size.next_multiple_of(BLOCK), alignment.max(BLOCK))?;
    // SAFETY: memory that nobody else has, in whole blocks.
    unsafe { cache::zero(HostReal::new(range.start), range.size()) };
    Ok(range)
}

/// A number of bytes or words as Rust counts them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits on this target"
)]
#[must_use]
pub const fn count(number: u64) -> usize {
    number as usize
}

/// The pointer to a host real address: translation is off.
#[must_use]
pub fn pointer<T>(at: u64) -> *mut T {
    ptr::with_exposed_provenance_mut(count(at))
}

/// Takes memory for `words` doublewords that are zero, as atomics or whatever else is a transparent face of
/// them.
///
/// # Errors
/// What the layout says.
///
/// # Safety
/// All-zero bytes are a `T`, and its size is 8.
pub unsafe fn doublewords<T>(
    layout: &mut Layout,
    words: u64,
    alignment: u64,
) -> Result<&'static [T], Error> {
    const { assert!(size_of::<T>() == 8) };
    let range = zeroed(layout, words * 8, alignment)?;
    // SAFETY: zeroed, aligned, never given out again; the caller says that zero is a `T`.
    Ok(unsafe { slice::from_raw_parts(pointer(range.start), count(words)) })
}

/// Puts a value into memory of its own.
///
/// # Errors
/// What the layout says.
pub fn value<T>(layout: &mut Layout, value: T) -> Result<&'static mut T, Error> {
    let range = layout.allocate(
        (size_of::<T>() as u64).next_multiple_of(BLOCK),
        (align_of::<T>() as u64).max(BLOCK),
    )?;
    let place: *mut T = pointer(range.start);
    // SAFETY: aligned, large enough, never given out again.
    unsafe { place.write(value) };
    // SAFETY: just written.
    Ok(unsafe { &mut *place })
}

/// Puts `count` values into memory of their own, one after the other.
///
/// # Errors
/// What the layout says.
pub fn values<T>(
    layout: &mut Layout,
    count: usize,
    mut make: impl FnMut() -> T,
) -> Result<&'static mut [T], Error> {
    let bytes = (size_of::<T>() * count) as u64;
    let range = layout.allocate(
        bytes.next_multiple_of(BLOCK),
        (align_of::<T>() as u64).max(BLOCK),
    )?;
    let first: *mut T = pointer(range.start);
    for number in 0..count {
        // SAFETY: inside the range.
        let place = unsafe { first.add(number) };
        // SAFETY: aligned, never given out again.
        unsafe { place.write(make()) };
    }
    // SAFETY: all just written.
    Ok(unsafe { slice::from_raw_parts_mut(first, count) })
}

/// Copies bytes to the beginning of a range.
///
/// # Safety
/// The range has room for the bytes and is the caller's alone.
pub unsafe fn copy(bytes: &[u8], range: Range) {
    // SAFETY: the caller's.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), pointer(range.start), bytes.len()) };
    cache::synchronise_instructions(HostReal::new(range.start), bytes.len() as u64);
}
