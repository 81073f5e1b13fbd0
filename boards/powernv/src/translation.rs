//! Puts a partition's HPT under the processor: SDR1 on POWER8, the partition table from POWER9 on.

use core::sync::atomic::{AtomicU64, Ordering};

use realhpt::arch::Machine as _;
use realhpt::arch::powerpc64::{Processor, isync, spr};
use realhpt::lpar::Partition;
use realhpt::sync::Mutex;

use crate::machine::Generation;
use crate::mode;

/// Entries of the partition table: the smallest one, 4 KiB.
const ENTRIES: usize = 256;

/// The partition table (ISA 3.0B Book III section 5.7.6.1): two doublewords for each LPID.
#[repr(C, align(4096))]
struct PartitionTable([[AtomicU64; 2]; ENTRIES]);

static TABLE: PartitionTable =
    PartitionTable([const { [const { AtomicU64::new(0) }; 2] }; ENTRIES]);

/// Who changes [`TABLE`] holds it until the flush is done, and who looks at it takes it too: a CPU that found its
/// entry there before that would go on with what its processor remembers of another.
static CHANGE: Mutex<()> = Mutex::new(());

/// What all partitions of this machine have in common in how they are translated.
#[derive(Clone, Copy, Debug)]
pub struct Translation {
    /// LPCR as skiboot left it.
    left: u64,
}

impl Translation {
    /// Prepares the processor: the partition table, which is empty yet, and the facilities that guests have.
    #[must_use]
    pub fn init(generation: Generation) -> Self {
        let (table, hfscr) = match generation {
            Generation::Power8 => (false, mode::HFSCR),
            Generation::Power9 => (true, mode::HFSCR | mode::HFSCR_SCV),
            Generation::Power10 => (true, mode::HFSCR | mode::HFSCR_SCV | mode::HFSCR_PREFIX),
        };
        // SAFETY: concerns guests only.
        unsafe { spr::HFSCR.write(hfscr) };
        // SAFETY: guests own all of their authority masks.
        unsafe { spr::AMOR.write(u64::MAX) };
        // SAFETY: guests run with no compatibility mode.
        unsafe { spr::PCR.write(0) };
        if table {
            // The low bits say the size: 0 is 4 KiB.
            // SAFETY: the table is static, aligned and of that size.
            unsafe { spr::PTCR.write((&raw const TABLE).expose_provenance() as u64) };
        }
        isync();
        Self {
            left: spr::LPCR.read(),
        }
    }

    /// Puts the partition's HPT under the processor for the LPID that LPIDR holds, and has it take the vCPU's interrupts
    /// as `interrupts` says, in bits of the LPCR; gives the LPCR that was set.
    ///
    /// The table or the page size of its VRMA may be another than last time: the partition table's entry is rewritten
    /// when it differs, and the processors then forget what they remember of the old one.
    #[must_use]
    pub fn load(
        &self,
        processor: &Processor,
        generation: Generation,
        partition: &Partition<'_>,
        interrupts: u64,
    ) -> u64 {
        let table = partition.table();
        let hpt = table.hpt().as_ptr().expose_provenance() as u64;
        let (order, shift) = (table.order(), partition.vrma_shift());
        let lpcr = if generation == Generation::Power8 {
            // SAFETY: translates guests; the table is the partition's.
            unsafe { spr::SDR1.write(mode::sdr1(hpt, order)) };
            mode::lpcr_power8(self.left, shift)
        } else {
            let lpid = partition.description().lpid;
            let entry = mode::partition_entry(hpt, order, shift);
            let _change = CHANGE.lock();
            if let Some([dword0, _]) = TABLE.0.get(usize::from(lpid.raw()))
                && dword0.load(Ordering::Relaxed) != entry
            {
                dword0.store(entry, Ordering::Relaxed);
                processor.flush_lpid(lpid);
            }
            mode::lpcr_power9(self.left)
        };
        let lpcr = mode::with_interrupts(lpcr, interrupts);
        // SAFETY: concerns guests, but for HEIC and the like, which hold off what the hypervisor does not use.
        unsafe { spr::LPCR.write(lpcr) };
        isync();
        lpcr
    }
}
