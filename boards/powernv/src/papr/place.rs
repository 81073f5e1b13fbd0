//! Where in a PAPR guest's memory its device tree and RTAS stand.
//!
//! The last 2 MiB of the memory at guest real 0, of its first 512 MiB at most, are the hypervisor's while the guest
//! starts: high, so that a kernel that copies itself to 0 does not run over them; within reach of real mode and of the
//! 32-bit addresses that RTAS is called with. What of it the guest must keep is in the tree's memory reservation block:
//! a page for each, of the largest usual size.

use realhpt::addr::GuestReal;

/// Bytes at the end that nothing is loaded into.
const AREA: u64 = 2 << 20;
/// The area ends here at the latest.
const LIMIT: u64 = 512 << 20;
/// Bytes of such a page.
const PAGE: u64 = 64 << 10;

/// The place of both.
///
/// Invariant: all of the area is memory of the partition's, in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    area: u64,
}

impl Place {
    /// Bytes that RTAS may take.
    pub const RTAS_SIZE: u32 = 4 << 10;
    /// Bytes that the tree may take.
    pub const TREE_SIZE: u64 = PAGE;
    /// Bytes from RTAS on that the guest keeps.
    pub const KEPT: u64 = 2 * PAGE;

    /// The place in a partition that has this much memory from guest real 0 on; none if that is not twice as much as the
    /// area takes.
    #[must_use]
    pub const fn new(memory: u64) -> Option<Self> {
        let limit = if memory < LIMIT { memory } else { LIMIT };
        // Areas begin at multiples of their size, so that no guest's page holds something else too.
        let end = limit & !(AREA - 1);
        if end < 2 * AREA {
            return None;
        }
        Some(Self { area: end - AREA })
    }

    /// Where RTAS is, and is entered.
    #[must_use]
    pub const fn rtas(self) -> GuestReal {
        GuestReal::new(self.area)
    }

    /// Where the tree is.
    #[must_use]
    pub const fn tree(self) -> GuestReal {
        GuestReal::new(self.area + PAGE)
    }

    /// Whether a range overlaps the area.
    #[must_use]
    pub const fn overlaps(self, start: GuestReal, size: u64) -> bool {
        size != 0 && start.raw() < self.area + AREA && start.raw().saturating_add(size) > self.area
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_is_at_the_end_of_the_memory_and_below_512_mib() {
        for (memory, rtas) in [
            (64, 62),
            (256, 254),
            (512, 510),
            (528, 510),
            (1 << 20, 510),
            (4, 2),
        ] {
            let place = Place::new(memory * MIB).unwrap();
            assert_eq!(place.rtas().raw(), rtas * MIB, "{memory} MiB");
            assert_eq!(place.tree().raw() - place.rtas().raw(), PAGE);
        }
        for too_little in [0, 1, 2 * MIB, 4 * MIB - 1] {
            assert_eq!(Place::new(too_little), None);
        }
    }

    #[test]
    fn what_lies_over_it_is_noticed() {
        let place = Place::new(64 * MIB).unwrap();
        let overlaps = |start, size| place.overlaps(GuestReal::new(start), size);
        assert!(overlaps(0, 64 * MIB) && overlaps(63 * MIB, 1) && overlaps(0, 62 * MIB + 1));
        assert!(!overlaps(0, 62 * MIB) && !overlaps(64 * MIB, MIB) && !overlaps(63 * MIB, 0));
    }
}
