//! The stream as its format says, apart from the engine: records, and tables as maps.

use std::collections::BTreeMap;

/// Byte order of a record's header. Entries are big-endian always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    /// Ours.
    Big,
    /// Linux on a little-endian host.
    Little,
}

/// A record: a run of entries and a run of invalid slots after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) index: u32,
    pub(crate) valid: Vec<(u64, u64)>,
    pub(crate) invalid: u16,
}

/// What a record says of one slot: its entry, or that there is none.
pub(crate) type Said = (u64, Option<(u64, u64)>);

impl Record {
    /// The slots in order, and what is said of each.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Said> + '_ {
        let start = u64::from(self.index);
        let valid = self.valid.iter().map(|&entry| Some(entry));
        let invalid = (0..self.invalid).map(|_| None);
        (start..).zip(valid.chain(invalid))
    }
}

/// Takes a stream apart; what is not whole records is an error that says where.
pub(crate) fn decode(bytes: &[u8], order: Header) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (header, entries) = rest
            .split_at_checked(8)
            .ok_or_else(|| format!("half a header at byte {at}"))?;
        let (index, n_valid, n_invalid) = match order {
            Header::Big => (
                u32::from_be_bytes(header[..4].try_into().unwrap()),
                u16::from_be_bytes(header[4..6].try_into().unwrap()),
                u16::from_be_bytes(header[6..].try_into().unwrap()),
            ),
            Header::Little => (
                u32::from_le_bytes(header[..4].try_into().unwrap()),
                u16::from_le_bytes(header[4..6].try_into().unwrap()),
                u16::from_le_bytes(header[6..].try_into().unwrap()),
            ),
        };
        let (entries, next) = entries
            .split_at_checked(usize::from(n_valid) * 16)
            .ok_or_else(|| format!("the record at byte {at} is longer than the stream"))?;
        let valid = entries
            .chunks_exact(16)
            .map(|entry| {
                let (v, r) = entry.split_at(8);
                (
                    u64::from_be_bytes(v.try_into().unwrap()),
                    u64::from_be_bytes(r.try_into().unwrap()),
                )
            })
            .collect();
        records.push(Record {
            index,
            valid,
            invalid: n_invalid,
        });
        rest = next;
    }
    Ok(records)
}

/// Puts records together as our stream has them.
pub(crate) fn encode(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(record.index.to_be_bytes());
        bytes.extend((record.valid.len() as u16).to_be_bytes());
        bytes.extend(record.invalid.to_be_bytes());
        for (v, r) in &record.valid {
            bytes.extend(v.to_be_bytes());
            bytes.extend(r.to_be_bytes());
        }
    }
    bytes
}

/// A table as a map from slot to entry.
pub(crate) type Image = BTreeMap<u64, (u64, u64)>;

/// Applies what was said.
pub(crate) fn apply(image: &mut Image, said: impl IntoIterator<Item = Said>) {
    for (slot, entry) in said {
        match entry {
            Some(entry) => {
                image.insert(slot, entry);
            }
            None if image.is_empty() => {}
            None => {
                image.remove(&slot);
            }
        }
    }
}

/// Everything that records say, in order.
pub(crate) fn said(records: &[Record]) -> impl Iterator<Item = Said> + '_ {
    records.iter().flat_map(Record::slots)
}

/// A table as records: runs of entries, each with the invalid slots after it, whole from slot 0 on.
pub(crate) fn records_of(image: &Image, slots: u64) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut slot = 0;
    while slot < slots {
        let index = u32::try_from(slot).unwrap();
        let mut record = Record {
            index,
            ..Record::default()
        };
        while let (Some(&entry), true) = (image.get(&slot), record.valid.len() < 0xffff) {
            record.valid.push(entry);
            slot += 1;
        }
        while slot < slots && !image.contains_key(&slot) && record.invalid < u16::MAX {
            record.invalid += 1;
            slot += 1;
        }
        records.push(record);
    }
    records
}

/// The first differences of two tables, for people; nothing if they are equal.
pub(crate) fn differences(ours: &Image, theirs: &Image) -> Vec<String> {
    let show = |entry: Option<&(u64, u64)>| {
        entry.map_or_else(|| "none".to_owned(), |(v, r)| format!("{v:016x} {r:016x}"))
    };
    ours.keys()
        .chain(theirs.keys())
        .filter(|slot| ours.get(slot) != theirs.get(slot))
        .take(8)
        .map(|slot| {
            format!(
                "slot {slot:#x}: {} not {}",
                show(ours.get(slot)),
                show(theirs.get(slot))
            )
        })
        .collect()
}
