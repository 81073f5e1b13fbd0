//! Where things stand in the memory of a PAPR guest, and the partition that is made of them.
//!
//! ```text
//! 0            free: Linux copies itself there
//! 0x400000     the program, with the zeros that it wants behind it
//!              the initial RAM disk, on a page of its own
//! limit - 2M   the hypervisor's: device tree, RTAS
//! limit        the memory's size, or 512 MiB if that is less
//! ```

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::guest::program::{LOAD_ADDRESS, Program};
use crate::manifest::{Load, Papr, Partition};

/// Device tree and RTAS stand below this, so that 32-bit code reaches them.
const LIMIT: u64 = 512 << 20;
/// What the hypervisor has below the limit.
const RESERVED: u64 = 2 << 20;
/// The RAM disk begins at a multiple of this: the larger of Linux's page sizes.
const PAGE: u64 = 1 << 16;
/// A table has 128 bytes of memory for each of its bytes, as LoPAR recommends and as Linux does for its guests.
const MEMORY_TO_TABLE: u64 = 128;
/// log2 of the smallest table's bytes.
const LEAST_ORDER: u32 = 18;

/// What a partition runs. Partitions made of one value share its bytes.
#[derive(Clone, Debug)]
pub struct Software {
    program: Arc<[u8]>,
    initrd: Option<(Arc<[u8]>, u64)>,
    /// Behind the last byte that it needs.
    end: u64,
    papr: Papr,
}

impl Software {
    /// A program with its RAM disk and its command line. A RAM disk of no bytes is none.
    #[must_use]
    pub fn new(program: Program, initrd: Option<Vec<u8>>, bootargs: &str) -> Self {
        let mut end = program.end();
        let mut papr = Papr {
            entry: program.entry,
            little_endian: program.little_endian,
            bootargs: bootargs.to_owned(),
            initrd: None,
        };
        let initrd = initrd.filter(|bytes| !bytes.is_empty()).map(|bytes| {
            let start = end.next_multiple_of(PAGE);
            end = start + bytes.len() as u64;
            papr.initrd = Some((start, end));
            (bytes.into(), start)
        });
        Self {
            program: program.bytes.into(),
            initrd,
            end,
            papr,
        }
    }

    /// A partition that runs it, at boot, and without which the machine does not go on; it has so many bytes of memory.
    ///
    /// # Errors
    /// If it does not fit in that.
    pub fn partition(&self, lpid: u32, label: &str, memory: u64, vcpus: u32) -> Result<Partition> {
        let room = memory.min(LIMIT).saturating_sub(RESERVED);
        ensure!(
            self.end <= room,
            "{label} needs {} MiB for its program and RAM disk below {} MiB, its memory of {} MiB has {} there",
            self.end.div_ceil(1 << 20),
            LIMIT >> 20,
            memory >> 20,
            room >> 20
        );
        let program = Load {
            bytes: Arc::clone(&self.program),
            guest: LOAD_ADDRESS,
        };
        let initrd = self.initrd.iter().map(|(bytes, guest)| Load {
            bytes: Arc::clone(bytes),
            guest: *guest,
        });
        Ok(Partition {
            lpid,
            label: label.to_owned(),
            memory,
            regions: Vec::new(),
            order: order(memory),
            max_order: None,
            privileges: Vec::new(),
            guest: None,
            loads: std::iter::once(program).chain(initrd).collect(),
            papr: Some(self.papr.clone()),
            start: true,
            essential: true,
            console: false,
            window: None,
            vcpus,
            pin: None,
        })
    }
}

/// log2 of the bytes of the table for so much memory.
fn order(memory: u64) -> u32 {
    let bytes = (memory / MEMORY_TO_TABLE).max(1);
    bytes.next_power_of_two().ilog2().max(LEAST_ORDER)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn program(size: u64) -> Program {
        Program {
            bytes: vec![1; 100],
            size,
            entry: LOAD_ADDRESS + 0x10,
            little_endian: true,
        }
    }

    #[test]
    fn a_table_has_a_byte_for_128_of_memory() {
        let orders = [16, 64, 256, 512, 768, 1024].map(|memory| order(memory * MIB));
        assert_eq!(orders, [18, 19, 21, 22, 23, 23]);
    }

    #[test]
    fn a_disk_stands_behind_the_programs_zeros() {
        let software = Software::new(program(0x1_0001), Some(vec![2; 10]), "quiet");
        let partition = software
            .partition(2, "linux", 64 * MIB, 2)
            .expect("it fits");
        let [program, disk] = partition.loads.as_slice() else {
            panic!("two loads");
        };
        assert_eq!((program.guest, program.bytes.len()), (0x40_0000, 100));
        assert_eq!((disk.guest, disk.bytes.len()), (0x42_0000, 10));
        let papr = partition.papr.expect("a guest of PAPR");
        let expected = Papr {
            entry: 0x40_0010,
            little_endian: true,
            bootargs: "quiet".to_owned(),
            initrd: Some((0x42_0000, 0x42_000a)),
        };
        assert_eq!(papr, expected);
        assert_eq!((partition.vcpus, partition.order), (2, 19));
        let again = software
            .partition(3, "other", 64 * MIB, 1)
            .expect("it fits");
        let other = again.loads.first().expect("a program");
        assert!(Arc::ptr_eq(&program.bytes, &other.bytes));
    }

    #[test]
    fn what_does_not_fit_below_the_hypervisors_part_is_refused() {
        let room = 64 * MIB - RESERVED - LOAD_ADDRESS;
        let partition = |size, memory| {
            let software = Software::new(program(size), None, "");
            software.partition(1, "linux", memory, 1)
        };
        assert!(partition(room, 64 * MIB).is_ok());
        assert!(partition(room + 1, 64 * MIB).is_err());
        let room = LIMIT - RESERVED - LOAD_ADDRESS;
        assert!(partition(room, 4096 * MIB).is_ok());
        let error = partition(room + 1, 4096 * MIB).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "linux needs 511 MiB for its program and RAM disk below 512 MiB, its memory of 4096 MiB has 510 there"
        );
    }
}
