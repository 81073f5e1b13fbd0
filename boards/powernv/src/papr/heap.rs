//! The memory that device trees are made in.
//!
//! The writer of trees wants an allocator. This one has an arena of the layout's, given to it at boot; it is used by the boot CPU
//! alone, before any partition runs, and by nothing else of the hypervisor. Memory that it has not got ends the boot with an error line:
//! Rust's own answer to it is a panic.

use linked_list_allocator::LockedHeap;

use crate::layout::{Error, Layout};
use crate::place;

/// Bytes of the arena: the tree, of 64 KiB at most, several times over.
const ARENA: u64 = 1 << 20;

#[global_allocator]
static HEAP: LockedHeap = LockedHeap::empty();

/// Gives the allocator its arena. To be called once.
///
/// # Errors
/// What the layout says.
pub(crate) fn init(layout: &mut Layout) -> Result<(), Error> {
    let arena = place::zeroed(layout, ARENA, place::BLOCK)?;
    // SAFETY: the arena is its own, for good, and it has no other.
    unsafe {
        HEAP.lock()
            .init(place::pointer(arena.start), place::count(arena.size()));
    }
    Ok(())
}
