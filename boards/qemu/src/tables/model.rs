//! A hashed page table on the host, to which streams are applied.
//!
//! Key types: [`Model`] is the table, [`Pass`] says what a run of records holds, [`Mask`] which bits two tables may
//! differ in, [`Difference`] where they differ.
//!
//! Invariants: a slot is either invalid or has VALID in dword 0; records are checked before they are applied.

use std::collections::BTreeMap;
use std::fmt;

use super::formats;
use super::record::{Entry, Header, Malformed, V_VALID, entries_of, for_each_record};

/// Slots per page of a [`Model`].
const PAGE_LEN: usize = 512;
const PAGE: u64 = PAGE_LEN as u64;

/// The hypervisor's own bits of dword 0: lock (0x40, QEMU's dirty bit) and absent (0x20).
pub const V_HYPERVISOR: u64 = 0x60;
/// The hypervisor's own bit of dword 1: modified (KVM's HPTE_GR_MODIFIED).
pub const R_HYPERVISOR: u64 = 1 << 62;
/// Dword 1: referenced and changed.
pub const R_RC: u64 = 0x180;
/// The bits of the AVPN in dword 0 for which the format of ISA 3.0 has no place.
const V_NOT_IN_ISA300: u64 = 0x3ff << 52;

/// A VRMA entry's dword 0 above its low 24 bits: a segment of 1T with the VSID of the virtual real mode area.
const VRMA: u64 = 1 << 62 | 0x1ff_ffff << 24;

/// Whether an entry maps the virtual real mode area.
#[must_use]
pub fn is_vrma(entry: Entry) -> bool {
    entry.is_valid() && entry.dw0 & !0xff_ffff == VRMA
}

/// The format in which a machine keeps entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// ISA 2.07: POWER8.
    Isa207,
    /// ISA 3.0: POWER9 and POWER10.
    Isa300,
}

/// Bits that do not count when entries are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// In dword 0.
    pub dw0: u64,
    /// In dword 1.
    pub dw1: u64,
}

impl Mask {
    /// Every bit counts.
    pub const NONE: Self = Self { dw0: 0, dw1: 0 };

    /// What a table cannot be expected to keep on the way through a machine.
    #[must_use]
    pub fn through(generation: Generation) -> Self {
        let lost = match generation {
            Generation::Isa207 => 0,
            Generation::Isa300 => V_NOT_IN_ISA300,
        };
        Self {
            dw0: V_HYPERVISOR | lost,
            dw1: R_HYPERVISOR,
        }
    }

    /// The entry without the bits that do not count.
    #[must_use]
    pub fn apply(self, entry: Entry) -> Entry {
        Entry {
            dw0: entry.dw0 & !self.dw0,
            dw1: entry.dw1 & !self.dw1,
        }
    }

    /// Whether two slots are the same but for these bits.
    #[must_use]
    pub fn same(self, left: Option<Entry>, right: Option<Entry>) -> bool {
        left.map(|entry| self.apply(entry)) == right.map(|entry| self.apply(entry))
    }
}

/// What a run of records holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Records.
    pub records: u64,
    /// Valid entries.
    pub entries: u64,
    /// Invalid slots.
    pub invalid: u64,
    /// Bytes.
    pub bytes: u64,
    /// Slots named from slot 0 on without a gap and none twice, up to the first record that breaks this.
    pub consecutive: u64,
    /// The first record that does not begin where the one before it ended (the first: at slot 0).
    pub out_of_place: Option<OutOfPlace>,
}

/// A record that does not begin where the one before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfPlace {
    /// The record's offset in bytes.
    pub at: u64,
    /// The slot it begins with.
    pub index: u32,
}

impl Pass {
    /// Checks the records of a pass and says what they hold.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with them.
    pub fn measure(records: &[u8], order: u32) -> Result<Self, Malformed> {
        let mut pass = Self::default();
        for_each_record(records, formats::slots(order), |at, header, _| {
            pass.count(at, header)
        })?;
        Ok(pass)
    }

    fn count(&mut self, at: u64, header: Header) {
        self.records += 1;
        self.entries += u64::from(header.n_valid);
        self.invalid += u64::from(header.n_invalid);
        self.bytes += 8 + 16 * u64::from(header.n_valid);
        if self.out_of_place.is_some() {
            return;
        }
        if u64::from(header.index) == self.consecutive {
            self.consecutive = header.end();
        } else {
            self.out_of_place = Some(OutOfPlace {
                at,
                index: header.index,
            });
        }
    }

    /// Slots that the records name, one named twice counted twice.
    #[must_use]
    pub fn covered(&self) -> u64 {
        self.entries + self.invalid
    }

    /// Whether the pass names each slot of a table of this order once and in order, as a first pass must.
    ///
    /// # Errors
    ///
    /// In words, where it does not.
    pub fn covers_once(&self, order: u32) -> Result<(), String> {
        let slots = formats::slots(order);
        match self.out_of_place {
            Some(OutOfPlace { at, index }) => Err(format!(
                "the record at byte {at} begins with slot {index:#x}, the next one was {:#x}",
                self.consecutive
            )),
            None if self.consecutive != slots => Err(format!(
                "the records end with slot {:#x} of {slots:#x}",
                self.consecutive
            )),
            None => Ok(()),
        }
    }
}

/// A table.
#[derive(Clone)]
pub struct Model {
    order: u32,
    /// The pages that ever had a valid slot. An invalid slot is zero.
    pages: BTreeMap<u64, Box<[Entry; PAGE_LEN]>>,
}

impl Model {
    /// An empty table.
    #[must_use]
    pub fn new(order: u32) -> Self {
        Self {
            order,
            pages: BTreeMap::new(),
        }
    }

    /// log2 of the table's size in bytes.
    #[must_use]
    pub fn order(&self) -> u32 {
        self.order
    }

    /// A slot: none if it is invalid or not in the table.
    #[must_use]
    pub fn get(&self, ptex: u64) -> Option<Entry> {
        let page = self.pages.get(&(ptex / PAGE))?;
        page.get((ptex % PAGE) as usize)
            .copied()
            .filter(|entry| entry.is_valid())
    }

    /// The valid slots in order.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.pages.iter().flat_map(|(number, page)| {
            (number * PAGE..)
                .zip(page.iter().copied())
                .filter(|(_, entry)| entry.is_valid())
        })
    }

    /// Applies records with big-endian headers and says what they hold. On an error the records before the bad one
    /// are applied.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the records.
    pub fn apply(&mut self, records: &[u8]) -> Result<Pass, Malformed> {
        let mut pass = Pass::default();
        for_each_record(
            records,
            formats::slots(self.order),
            |at, header, entries| {
                pass.count(at, header);
                let first_invalid = u64::from(header.index) + u64::from(header.n_valid);
                for (ptex, entry) in (u64::from(header.index)..).zip(entries_of(entries)) {
                    self.set(ptex, entry);
                }
                self.invalidate(first_invalid, header.end());
            },
        )?;
        Ok(pass)
    }

    fn set(&mut self, ptex: u64, entry: Entry) {
        let page = self
            .pages
            .entry(ptex / PAGE)
            .or_insert_with(|| Box::new([Entry::default(); PAGE_LEN]));
        if let Some(slot) = page.get_mut((ptex % PAGE) as usize) {
            *slot = entry;
        }
    }

    /// Makes the slots from `first` up to, not including, `end` invalid.
    fn invalidate(&mut self, first: u64, end: u64) {
        if first == end {
            return;
        }
        let last = end - 1;
        for (number, page) in self.pages.range_mut(first / PAGE..=last / PAGE) {
            let from = if *number == first / PAGE {
                (first % PAGE) as usize
            } else {
                0
            };
            let to = if *number == last / PAGE {
                (last % PAGE) as usize
            } else {
                PAGE_LEN - 1
            };
            if let Some(gone) = page.get_mut(from..=to) {
                gone.fill(Entry::default());
            }
        }
    }

    /// The first slot, if any, in which two tables differ, bits of `mask` aside.
    #[must_use]
    pub fn first_difference(&self, other: &Self, mask: Mask) -> Option<Difference> {
        self.differences(other, mask).next()
    }

    /// Every slot in which two tables differ, bits of `mask` aside.
    pub fn differences(&self, other: &Self, mask: Mask) -> impl Iterator<Item = Difference> {
        let (mut left, mut right) = (self.entries().peekable(), other.entries().peekable());
        std::iter::from_fn(move || {
            loop {
                let ptex = match (left.peek(), right.peek()) {
                    (Some((left, _)), Some((right, _))) => *left.min(right),
                    (Some((ptex, _)), None) | (None, Some((ptex, _))) => *ptex,
                    (None, None) => return None,
                };
                let left = left.next_if(|(at, _)| *at == ptex).map(|(_, entry)| entry);
                let right = right.next_if(|(at, _)| *at == ptex).map(|(_, entry)| entry);
                if !mask.same(left, right) {
                    return Some(Difference { ptex, left, right });
                }
            }
        })
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries().count();
        f.debug_struct("Model")
            .field("order", &self.order)
            .field("entries", &entries)
            .finish_non_exhaustive()
    }
}

/// A slot in which two tables differ; no entry is an invalid slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The slot.
    pub ptex: u64,
    /// In the one table.
    pub left: Option<Entry>,
    /// In the other.
    pub right: Option<Entry>,
}

impl Difference {
    /// The difference in words, with names for the two tables.
    #[must_use]
    pub fn in_words(&self, left: &str, right: &str) -> String {
        let show = |slot: Option<Entry>| slot.map_or("invalid".into(), |entry| entry.to_string());
        let mut words = format!(
            "slot {:#x} (group {:#x}, entry {}): {left} {}, {right} {}",
            self.ptex,
            self.ptex / 8,
            self.ptex % 8,
            show(self.left),
            show(self.right)
        );
        if let (Some(left), Some(right)) = (self.left, self.right) {
            words.push_str(&format!("; differ in {}", Fields(left, right)));
        }
        words
    }
}

/// The names of the fields in which two entries differ.
struct Fields(Entry, Entry);

/// Fields of dword 0 (ISA 2.07 Book III-S section 5.7.6.2; the software bits as PAPR and Linux use them).
const DW0_FIELDS: [(u64, &str); 8] = [
    (3 << 62, "B"),
    (0x3fff_ffff_ffff_ff80, "AVPN"),
    (V_HYPERVISOR, "lock/absent"),
    (0x10, "bolted"),
    (0x8, "software"),
    (0x4, "L"),
    (0x2, "H"),
    (V_VALID, "V"),
];

/// Fields of dword 1.
const DW1_FIELDS: [(u64, &str); 9] = [
    (1 << 63, "pp0"),
    (R_HYPERVISOR, "modified"),
    (3 << 60 | 0xe00, "key"),
    (0x0fff_ffff_ffff_f000, "RPN/LP"),
    (0x100, "R"),
    (0x80, "C"),
    (0x78, "WIMG"),
    (0x4, "N"),
    (0x3, "pp"),
];

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = (self.0.dw0 ^ self.1.dw0, self.0.dw1 ^ self.1.dw1);
        let dw0 = DW0_FIELDS.iter().filter(|(bits, _)| changed.0 & bits != 0);
        let dw1 = DW1_FIELDS.iter().filter(|(bits, _)| changed.1 & bits != 0);
        for (number, (_, name)) in dw0.chain(dw1).enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
