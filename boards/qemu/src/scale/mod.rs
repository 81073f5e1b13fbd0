//! `scale`: the library alone on this host, with tables of orders that no machine here holds.
//!
//! A table is made in memory that is only reserved ([`crate::zeroed`]): an entry takes a page of 4K of the HPT and one of the
//! guest view, its marks take theirs, and what is only looked at is the host's page of zeros. So a table of order 36, the
//! largest that the stream's index reaches, is made and streamed for real, 99 GiB of it in less than 1 GiB: nothing up to there
//! is projected. Tables beyond it are made, too, and H_HPT_OPEN answers H_TOO_BIG.
//!
//! What is counted is hypercalls, and what came in them. A call of the stream ends where its work is spent (23 000 units of
//! about two instructions), so calls are work in units of a whole call; the count is the same on every run and on every host.
//! Everything goes through the hypercalls, and every pass is checked slot by slot (`measure`). Times are for information.
//!
//! # What grows
//! Calls, a block being the 4096 slots that a summary word stands for, and a region the 64 blocks of a root word:
//!
//! | order | 18 | 24 | 30 | 32 | 34 | 36 | grows with |
//! |---|---|---|---|---|---|---|---|
//! | blocks | 4 | 256 | 16 384 | 65 536 | 262 144 | 1 048 576 | |
//! | opening, at slot 0 or at the last one | 1 | 1 | 1 | 1 | 1 | 1 | nothing |
//! | clean pass, all settled | 1 | 1 | 1 | 1 | 1 | 1 | nothing |
//! | first pass, no entries | 1 | 7 | 391 | 1 561 | 6 242 | 24 967 | blocks / 42 |
//! | first pass, 65 536 single entries | | 128 | 649 | 1 928 | 6 554 | 24 967 | and entries |
//! | first pass, 1 in 1000 in runs of 64 | | 8 | 525 | 2 098 | 8 389 | 33 555 | and entries |
//! | 1 change: the pass that tells it | 1 | 1 | 1 | 1 | 2 | 6 | regions / 3000 |
//! | the same until a pass is clean | 2 | 2 | 2 | 2 | 3 | 11 | regions / 1500 |
//! | 100 changes apart: the pass | 2 | 2 | 2 | 2 | 3 | 8 | and changes |
//! | 4096 changes together: the pass | 6 | 6 | 6 | 7 | 13 | 50 | and changes |
//! | clean pass, one entry unsettled | 1 | 1 | 5 | 17 | 65 | 257 | blocks / 4096 |
//! | pause, one entry unsettled | 1 | 1 | 18 | 69 | 274 | 1 094 | blocks / 958 |
//! | reset, no entries but those changed | 33 | 48 | 1 056 | 4 128 | 16 416 | 65 568 | blocks / 16 |
//! | restore, all slots invalid | 1 | 18 | 1 142 | 4 568 | 18 272 | 73 086 | blocks / 14 |
//! | bytes a slot beside the HPT | 8.89 | 8.89 | 8.89 | 8.89 | 8.89 | 8.89 | nothing |
//!
//! What is unsettled is found by the summary alone: a root for it would be one more level on the way of every hypercall that
//! makes an entry, and where there is something unsettled there are few blocks without. Without anything unsettled a clean pass
//! and a pause are one call at every order.
//!
//! What this process had in use in the end at order 36: 5 MiB for the table without entries, 964 MiB with 65 536 single ones,
//! 982 MiB with 4 294 912 in runs.
//!
//! # Order 46
//! LoPAR's largest has 2^42 slots, 2^10 times as many as order 36: what grows with blocks takes 2^10 times as much. The memory
//! is 64 TiB and 35.5 TiB beside it, 3.5 of these for bitmaps. What the stream would need:
//!
//! * A header of 16 bytes with a u64 index and u32 counts, asked for by a flag when a stream is opened; the smallest buffer of
//!   H_HPT_READ would be 32 bytes. A record of one entry has 32 bytes for 24, a long run hardly more than now. Runs are cut where
//!   a call ends, so a table without entries is a record a call: 26 million, 0.4 GB; with counts of 16 bits it would be 1 GiB.
//!   Slots, cursors, pending counts and the orders of a table have 64 bits or reach to 46 already: only `stream::record`, and
//!   the writer where it reads a header, know of 32.
//! * One more level above the root, and the root for what is unsettled, too. Without them one change is looked for in 2^24 root
//!   words, some 6 000 calls, and one unsettled entry in 2^30 summary words, 262 144.
//! * Nothing else: a first pass, a reset and a restore go by the words of 64 slots, whatever is above them: 26, 67 and 75
//!   million calls. Levels above `occupied` would make them go by what is there.

pub mod measure;
pub mod memory;
pub mod population;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use realhpt::hcall::abi::Status;
use realhpt::table::Order;

use self::measure::{Measured, measure, opens};
use self::population::Population;
use crate::cli::Scale;
use crate::terminal::Terminal;

/// What the tables are filled with.
const POPULATIONS: [Population; 3] = [
    Population::Empty,
    Population::Single(1 << 16),
    Population::Runs(1000),
];
/// The largest table that is streamed.
const LARGEST: u32 = 36;

/// Runs it. Returns whether everything could be measured.
///
/// # Errors
/// If an answer is not what it has to be.
pub fn run(terminal: &Terminal, arguments: &Scale) -> Result<bool> {
    let (mut all, mut done) = (Vec::new(), true);
    for &number in &arguments.order {
        let order = Order::new(number).with_context(|| format!("no table has order {number}"))?;
        if number > LARGEST {
            let answers = opens(order)?;
            ensure!(
                answers == [Some(Status::TooBig); 2],
                "H_HPT_OPEN of order {number} answers {answers:?}"
            );
            terminal.step(
                "Refused",
                &format!("order {number}: H_TOO_BIG, to read and to write"),
            );
            continue;
        }
        for population in POPULATIONS {
            let what = format!("order {number}, {population}");
            let Some(populated) = population.of(order.slots()) else {
                terminal.step("Skipped", &format!("{what}: the table is too small for it"));
                continue;
            };
            if let Some(why) = memory::refuses(memory::estimate(order, populated))? {
                terminal.bad("Skipped", &format!("{what}: {why}"));
                done = false;
                continue;
            }
            let bar = terminal.spinner("Measuring", &what);
            let measured = measure(order, population, populated)?;
            drop(bar);
            show(terminal, &measured);
            all.push(measured);
        }
    }
    if let Some(path) = &arguments.json {
        save(path, &all)?;
        terminal.step("Wrote", &path.display().to_string());
    }
    Ok(done)
}

/// Shows one table's rows.
fn show(terminal: &Terminal, measured: &Measured) {
    terminal.step(
        "Measured",
        &format!(
            "order {}, {}: {} entries; {:.2} bytes a slot beside the HPT; {} MiB in use",
            measured.order,
            measured.population,
            measured.entries,
            measured.bytes_beside_per_slot,
            measured.used_bytes >> 20
        ),
    );
    terminal.line(&format!(
        "{:26} {:>8} {:>6} {:>10} {:>10} {:>11} {:>13} {:>9}",
        "", "calls", "passes", "records", "entries", "bytes", "most a call", "ms"
    ));
    let some = |number: u64| match number {
        0 => String::new(),
        number => number.to_string(),
    };
    for row in &measured.rows {
        let line = format!(
            "{:26} {:>8} {:>6} {:>10} {:>10} {:>11} {:>13} {:>9.3}",
            row.row,
            row.calls,
            some(row.passes),
            some(row.records),
            some(row.entries),
            some(row.bytes),
            some(row.most_bytes),
            row.microseconds as f64 / 1000.0,
        );
        terminal.line(&line);
    }
}

/// Writes what was measured as JSON.
fn save(path: &Path, all: &[Measured]) -> Result<()> {
    let failed = || format!("cannot write to {}", path.display());
    let file = File::create(path).with_context(failed)?;
    serde_json::to_writer_pretty(BufWriter::new(file), all).with_context(failed)
}
