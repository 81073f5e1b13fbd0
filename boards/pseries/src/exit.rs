//! Exit codes and the end of a partition.
//!
//! A program's own codes are below 2^32, 0 is success. The runtime's codes say in their upper half what
//! happened, so that H_LPAR_QUERY of another partition can tell.

use crate::hcall;

/// The program panicked.
pub const PANIC: u64 = 1 << 32;
/// An interrupt that nobody expected; the vector is added.
pub const EXCEPTION: u64 = 2 << 32;
/// The runtime could not be set up; the step is added.
pub const SET_UP: u64 = 3 << 32;

/// Ends the partition.
pub fn exit(code: u64) -> ! {
    hcall::lpar_exit(code);
    // The call does not return. A hypervisor that lacks it leaves only this.
    loop {
        hcall::cede();
    }
}
