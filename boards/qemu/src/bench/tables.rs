//! The tables of the bench: made, not found, so that occupancy can be chosen, and always the same.
//!
//! They are made like the ones that Linux's figures were measured with: addresses drawn at random in segments of
//! both sizes, pages of 4K, of 64K, and of 64K in 4K segments; each entry in the first free slot of its primary
//! group, else of its secondary one; random protection, keys and WIMG as a guest has them; memory behind each.

use anyhow::{Result, ensure};
use realhpt::addr::EffAddr;
use realhpt::table::hash::Segment;
use realhpt_pseries::exchange::bench::CHANGED_PERMILLE;

use crate::tables::record::{ByteOrder, Entry, Header, V_VALID};

const V_SECONDARY: u64 = 0x2;
const V_LARGE: u64 = 0x4;
const V_BOLTED: u64 = 0x10;
const R_R: u64 = 0x100;
const R_C: u64 = 0x80;
const R_M: u64 = 0x10;
const R_N: u64 = 0x4;
const R_KEY_LO_SHIFT: u32 = 9;
const R_PP: u64 = 0x3;

/// Slots of a group.
const GROUP: usize = 8;
/// Of the entries of a table that is not settled, so many percent are unsettled.
pub const UNSETTLED_PERCENT: u64 = 64;

/// How a table is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Valid entries per mille of the slots.
    pub permille: u32,
    /// R and C are set in every entry, else as in Linux's tables: hardware could still set one in
    /// [`UNSETTLED_PERCENT`].
    pub settled: bool,
    /// A record for each entry, else for each run.
    pub single: bool,
}

/// A table, and what the agent is to do with it.
#[derive(Clone, Debug)]
pub struct Table {
    /// How it is.
    pub kind: Kind,
    /// Its valid entries.
    pub entries: u64,
    /// Entries in which hardware could still set R or C.
    pub unsettled: u64,
    /// Bolted entries.
    pub bolted: u64,
    /// Entries that are written again, for each of [`CHANGED_PERMILLE`].
    pub changed: Vec<u64>,
    /// Records of the whole table.
    pub records: u64,
    /// The sections, as the exchange has them: the table, the entries that are written again for each share, and
    /// the table as invalid slots. Each ends with a record without slots, so that its last run is applied when all
    /// is consumed.
    pub sections: Vec<Vec<u8>>,
}

impl Table {
    /// Makes a table of order `order` for a guest with `memory` bytes of memory.
    ///
    /// # Errors
    /// If the order is none that a stream could have.
    pub fn make(kind: Kind, order: u32, memory: u64) -> Result<Self> {
        ensure!((18..=36).contains(&order), "no table has order {order}");
        let slots = fill(kind, 1 << (order - 4), memory)?;
        let whole = records(&slots, kind.single)?;
        let valid = || {
            slots
                .iter()
                .enumerate()
                .filter_map(|(index, slot)| Some((index, (*slot)?)))
        };
        let mut sections = vec![whole.0];
        let mut changed = Vec::new();
        for permille in CHANGED_PERMILLE {
            // Every so many of them: a change is as likely at one place of the table as at another.
            let every = usize::try_from(1000 / permille)?;
            let mut changes = Vec::new();
            for (index, entry) in valid().step_by(every) {
                record(&mut changes, index, &[entry], 0)?;
            }
            sections.push(changes);
            changed.push(u64::try_from(valid().step_by(every).count())?);
        }
        sections.push(records(&vec![None; slots.len()], false)?.0);
        Ok(Self {
            kind,
            entries: u64::try_from(valid().count())?,
            bolted: u64::try_from(
                valid()
                    .filter(|(_, entry)| entry.dw0 & V_BOLTED != 0)
                    .count(),
            )?,
            unsettled: u64::try_from(valid().filter(|(_, entry)| !is_settled(*entry)).count())?,
            changed,
            records: whole.1,
            sections: sections.into_iter().map(ended).collect(),
        })
    }
}

/// Whether hardware has nothing left to set: R and C are, or R is and no key may write the page.
fn is_settled(Entry { dw1, .. }: Entry) -> bool {
    let read_only = matches!((dw1 >> 63, dw1 & R_PP), (0, 3) | (1, 2 | 3));
    dw1 & R_R != 0 && (dw1 & R_C != 0 || read_only)
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is small beside 2^64.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether it is one of the `permille` in a thousand.
    fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// The slots of a table.
fn fill(kind: Kind, count: usize, memory: u64) -> Result<Vec<Option<Entry>>> {
    let mut random = Random(0x7265_616c_6870_7421 ^ u64::from(kind.permille));
    let mut slots = vec![None; count];
    let groups = u64::try_from(count / GROUP)?;
    let mut wanted = count * usize::try_from(kind.permille)? / 1000;
    while wanted > 0 {
        let (entry, hash) = entry(kind, &mut random, memory);
        for (hash, secondary) in [(hash, 0), (!hash, V_SECONDARY)] {
            let first = usize::try_from(hash & (groups - 1))? * GROUP;
            let group = slots.get_mut(first..first + GROUP).unwrap_or_default();
            if let Some(free) = group.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(Entry {
                    dw0: entry.dw0 | secondary,
                    ..entry
                });
                wanted -= 1;
                break;
            }
        }
    }
    Ok(slots)
}

/// A random entry and its primary hash.
fn entry(kind: Kind, random: &mut Random, memory: u64) -> (Entry, u64) {
    // Shares as in Linux's tables: base page shift, page shift, L, LP.
    let (base, page, large, lp) = match random.below(1000) {
        0..490 => (12, 12, 0, 0),
        490..905 => (16, 16, V_LARGE, 0x1000),
        _ => (12, 16, V_LARGE, 0x7000),
    };
    // The VSID doubleword of an SLB entry: B at 62, VSID above 12 or 24 bits, L || LP.
    let llp = if base == 16 { 0x110 } else { 0 };
    let slb = if random.chance(500) {
        1 << 62 | random.below(1 << 26) << 24
    } else {
        random.below(1 << 38) << 12
    };
    let at = EffAddr::new(random.below(1 << 40));
    let (tag, hash) =
        Segment::from_slb(slb | llp).map_or((0, 0), |segment| (segment.avpn(at), segment.hash(at)));
    let bolted = if random.chance(60) { V_BOLTED } else { 0 };

    // What was used and protection go together: shares as in Linux's tables, too.
    let (drawn, protection) = match random.below(100) {
        0..35 => (0, 2),
        35..53 => (R_R | R_C, 2),
        53..70 => (R_R, 2),
        70..82 => (0, 3),
        82..94 => (R_R, 3),
        _ => (R_R | R_C, 0),
    };
    let used = if kind.settled { R_R | R_C } else { drawn };
    let no_execute = if random.chance(500) { R_N } else { 0 };
    let key = if random.chance(90) {
        random.below(8) << R_KEY_LO_SHIFT
    } else {
        0
    };
    let real = random.below(memory >> page) << page;
    let entry = Entry {
        dw0: tag | large | bolted | V_VALID,
        dw1: real | lp | key | used | R_M | no_execute | protection,
    };
    (entry, hash)
}

/// The most that a record counts of either kind.
const MOST: usize = u16::MAX as usize;

/// Records of the whole table, and how many.
fn records(slots: &[Option<Entry>], single: bool) -> Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::new();
    let (mut index, mut count) = (0, 0);
    while let Some(rest) = slots.get(index..).filter(|rest| !rest.is_empty()) {
        let limit = if single { 1 } else { MOST };
        let valid: Vec<Entry> = rest.iter().map_while(|slot| *slot).take(limit).collect();
        let invalid = rest
            .iter()
            .skip(valid.len())
            .take_while(|slot| slot.is_none())
            .take(MOST)
            .count();
        record(&mut bytes, index, &valid, invalid)?;
        index += valid.len() + invalid;
        count += 1;
    }
    Ok((bytes, count))
}

/// One record.
fn record(bytes: &mut Vec<u8>, index: usize, valid: &[Entry], invalid: usize) -> Result<()> {
    let header = Header {
        index: u32::try_from(index)?,
        n_valid: u16::try_from(valid.len())?,
        n_invalid: u16::try_from(invalid)?,
    };
    bytes.extend(header.encode(ByteOrder::Big));
    bytes.extend(valid.iter().flat_map(|entry| entry.encode()));
    Ok(())
}

/// A stream with a record without slots behind it.
fn ended(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend([0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use realhpt_pseries::exchange::bench::SECTIONS;

    use super::*;
    use crate::tables::model::Model;
    use crate::tables::record::{ENTRY_BYTES, HEADER_BYTES};

    const MEMORY: u64 = 64 << 20;

    fn table(permille: u32, settled: bool, single: bool) -> Table {
        let kind = Kind {
            permille,
            settled,
            single,
        };
        Table::make(kind, 18, MEMORY).expect("a table")
    }

    fn without_end(section: &[u8]) -> &[u8] {
        section.strip_suffix(&[0; 8]).expect("an end")
    }

    #[test]
    fn a_table_has_as_many_entries_as_it_says_and_every_slot_once() {
        for (permille, single) in [(10, false), (125, false), (125, true), (1000, false)] {
            let table = table(permille, true, single);
            assert_eq!(table.entries, 16384 * u64::from(permille) / 1000);
            assert_eq!(table.unsettled, 0);
            let [whole, changes @ .., empty] = table.sections.as_slice() else {
                panic!("no sections");
            };
            assert_eq!(table.sections.len(), SECTIONS);
            let mut model = Model::new(18);
            let pass = model.apply(without_end(whole)).expect("a stream");
            assert_eq!((pass.covered(), pass.records), (16384, table.records));
            let before = model.entries().count();
            for (changes, &changed) in changes.iter().zip(&table.changed) {
                let pass = model.apply(without_end(changes)).expect("a stream");
                assert_eq!(pass.entries, changed);
            }
            assert_eq!(model.entries().count(), before);
            let pass = model.apply(without_end(empty)).expect("a stream");
            assert_eq!((pass.covered(), model.entries().count()), (16384, 0));
        }
    }

    #[test]
    fn what_is_written_again_is_spread_over_the_table() {
        let table = table(500, true, false);
        assert_eq!(table.changed, [9, 82, 820]);
        for (changes, &changed) in table.sections.iter().skip(1).zip(&table.changed) {
            let mut eighths = [0; 8];
            let records = without_end(changes).chunks_exact(HEADER_BYTES + ENTRY_BYTES);
            for record in records {
                let header = record.first_chunk().expect("a header");
                let index = Header::decode(*header, ByteOrder::Big).index;
                eighths[index as usize * eighths.len() / 16384] += 1;
            }
            assert_eq!(eighths.iter().sum::<u64>(), changed);
            let even = changed / 8;
            assert!(
                eighths
                    .iter()
                    .all(|&eighth| eighth.abs_diff(even) <= 1 + even / 10),
                "{eighths:?}"
            );
        }
    }

    #[test]
    fn entries_are_as_in_linux_tables() {
        let table = table(125, false, false);
        // Linux's: 1.586 entries a record; both within a few percent.
        assert!((1250..1340).contains(&table.records), "{}", table.records);
        let unsettled = table.entries * UNSETTLED_PERCENT / 100;
        assert!(
            table.unsettled.abs_diff(unsettled) <= unsettled / 20,
            "{}",
            table.unsettled
        );
        let mut model = Model::new(18);
        let whole = table.sections.first().expect("the table");
        model.apply(without_end(whole)).expect("a stream");
        for (_, Entry { dw0, dw1 }) in model.entries() {
            let size = if dw0 & V_LARGE == 0 { 1 << 12 } else { 1 << 16 };
            assert!(dw1 & 0x0fff_ffff_ffff_f000 & !(size - 1) <= MEMORY - size);
        }
    }

    #[test]
    fn the_same_table_is_made_every_time() {
        let [first, second] = [(); 2].map(|()| table(500, false, false));
        assert_eq!(first.sections, second.sections);
    }
}
