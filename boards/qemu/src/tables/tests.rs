//! Tests of the tables: files with flaws, properties, the corpus, the verdict.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails may panic, and its numbers are small"
)]

mod corpus;
mod files;
mod properties;
mod verdict;

use std::path::PathBuf;

use super::formats;
use super::model::Model;
use super::record::{ByteOrder, Entry, Header};

/// A file of `tests/data`.
fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data")).join(name)
}

/// One record.
fn record(index: u64, entries: &[Entry], n_invalid: u64) -> Vec<u8> {
    let header = Header {
        index: index as u32,
        n_valid: entries.len().try_into().unwrap(),
        n_invalid: n_invalid.try_into().unwrap(),
    };
    let mut bytes = header.encode(ByteOrder::Big).to_vec();
    bytes.extend(entries.iter().flat_map(|entry| entry.encode()));
    bytes
}

/// A record for one slot.
fn update(ptex: u64, slot: Option<Entry>) -> Vec<u8> {
    match slot {
        Some(entry) => record(ptex, &[entry], 0),
        None => record(ptex, &[], 1),
    }
}

/// A pass over the whole table: each slot once, in order.
fn whole_pass(model: &Model) -> Vec<u8> {
    let slots = formats::slots(model.order());
    let mut bytes = Vec::new();
    let mut ptex = 0;
    while ptex < slots {
        let start = ptex;
        let room = |at: u64| at < slots && at - start < 0xffff;
        let mut entries = Vec::new();
        while let Some(entry) = model.get(ptex).filter(|_| room(ptex)) {
            entries.push(entry);
            ptex += 1;
        }
        let invalid = ptex;
        while ptex < slots && ptex - invalid < 0xffff && model.get(ptex).is_none() {
            ptex += 1;
        }
        bytes.extend(record(start, &entries, ptex - invalid));
    }
    bytes
}
