//! What this host has of memory, what this process has of it, and what a table will take.

use anyhow::{Context as _, Result};
use realhpt::table::{Memory, Order};

use super::population::Populated;

/// The most that a table may take: other work goes on beside this.
const MOST: u64 = 6 << 30;
/// What is left to others.
const SPARED: u64 = 2 << 30;

const PAGE: u64 = 4096;
/// What a page of the host's page tables maps.
const MAPPED: u64 = 2 << 20;

/// About what the pages of a table come to that its entries, its marks and one reader are in, and the page tables for all of
/// it. (What is only read is a page of zeros that all share.)
#[must_use]
pub fn estimate(order: Order, populated: Populated) -> u64 {
    let slots = order.slots();
    // The HPT, the guest view, and the leaf words of bitmaps: occupied, and for changes the table's and the reader's.
    let pages = |bytes: u64, runs: u64| (runs * 2).min(bytes / PAGE + 1) * PAGE;
    let entries = pages(slots * 16, populated.runs())
        + pages(slots * 8, populated.runs())
        + pages(slots / 8, populated.runs());
    // The reader's summary is written as the first pass goes over the table, the others where there are marks.
    let summaries = 3 * slots / 64 / 64 * 8;
    let mapped = (order.bytes() + Memory::words_beside(order) * 8) / MAPPED * PAGE;
    entries + summaries + mapped
}

/// Why a table that takes so much cannot be made now, if it cannot.
///
/// # Errors
/// If this host does not say what it has.
pub fn refuses(bytes: u64) -> Result<Option<String>> {
    let available = field("/proc/meminfo", "MemAvailable:")?;
    let room = available.saturating_sub(SPARED).min(MOST);
    let mib = |bytes: u64| bytes >> 20;
    Ok((bytes > room).then(|| {
        format!(
            "it takes some {} MiB, and {} MiB may be taken of the {} MiB that are available",
            mib(bytes),
            mib(room),
            mib(available)
        )
    }))
}

/// Bytes of memory that this process has, page tables included.
///
/// # Errors
/// If this host does not say.
pub fn used() -> Result<u64> {
    Ok(field("/proc/self/status", "VmRSS:")? + field("/proc/self/status", "VmPTE:")?)
}

/// A number of kibibytes in a file of fields, in bytes.
fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
        .with_context(|| format!("{path} has no {name}"))?;
    let kibibytes: u64 = number.parse()?;
    Ok(kibibytes << 10)
}
