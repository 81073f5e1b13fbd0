//! The cases, a module for each topic. Their order is the list's in the library.

pub(crate) mod attack;
pub(crate) mod block;
pub(crate) mod bulk;
pub(crate) mod calls;
pub(crate) mod clear;
pub(crate) mod crowd;
pub(crate) mod enter;
pub(crate) mod faults;
pub(crate) mod hostile;
pub(crate) mod instructions;
pub(crate) mod interrupts;
pub(crate) mod page_init;
pub(crate) mod partitions;
pub(crate) mod protect;
pub(crate) mod proxy;
pub(crate) mod rc;
pub(crate) mod read;
pub(crate) mod reading;
pub(crate) mod remove;
pub(crate) mod resize;
pub(crate) mod sizes;
pub(crate) mod smp;
pub(crate) mod switches;
pub(crate) mod tlb;
pub(crate) mod writing;
