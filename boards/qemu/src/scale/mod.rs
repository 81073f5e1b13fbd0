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
//! Calls, a block being the 4096 slots that a summary word stands for:
//!
//! | order | 18 | 24 | 30 | 32 | 34 | 36 | grows with |
//! |---|---|---|---|---|---|---|---|
//! | blocks | 4 | 256 | 16 384 | 65 536 | 262 144 | 1 048 576 | |
//! | opening, at slot 0 | 1 | 1 | 1 | 1 | 1 | 1 | nothing |
//! | clean pass, all settled | 1 | 1 | 1 | 1 | 1 | 1 | nothing |
//! | first pass, no entries | 1 | 6 | 365 | 1 457 | 5 826 | 23 302 | blocks / 45 |
//! | first pass, 65 536 single entries | | 163 | 565 | 1 725 | 5 958 | 22 796 | and entries |
//! | first pass, 1 in 1000 in runs of 64 | | 8 | 459 | 1 835 | 7 340 | 29 360 | and entries / 700 |
//! | 1 change: the pass that tells it | 1 | 1 | 5 | 17 | 65 | 257 | blocks / 4096 |
//! | the same until a pass is clean | 2 | 2 | 17 | 65 | 257 | 1 025 | blocks / 1024 |
//! | 100 changes apart: the pass | 1 | 6 | 13 | 34 | 100 | 300 | and changes, 2 to 20 a call |
//! | the same until a pass is clean | 2 | 7 | 17 | 65 | 257 | 1 025 | blocks / 1024 |
//! | 4096 changes together: the pass | 8 | 8 | 12 | 24 | 72 | 264 | and changes / 640 |
//! | clean pass, one entry unsettled | 1 | 1 | 5 | 17 | 65 | 257 | blocks / 4096 |
//! | pause, nothing to merge | 1 | 1 | 18 | 69 | 274 | 1 094 | blocks / 958 |
//! | reset, no entries but those changed | 33 | 48 | 1 056 | 4 128 | 16 416 | 65 568 | blocks / 16 |
//! | restore, all slots invalid | 1 | 23 | 1 462 | 5 845 | 23 380 | 93 518 | blocks / 11.2 |
//! | bytes of a first pass without entries | 8 | 144 | 8 744 | 34 960 | 139 816 | 559 248 | records of 65 535 slots |
//! | most bytes of one call | 10 216 | 10 248 | 10 248 | 10 248 | 10 248 | 10 248 | nothing |
//! | bytes a slot beside the HPT | 8.887 | 8.887 | 8.887 | 8.887 | 8.887 | 8.887 | nothing |
//! | blocks that an opening at the last slot sets | 4 | 256 | 16 384 | 65 536 | 262 144 | 1 048 576 | blocks, **in one call** |
//!
//! What this process had in use in the end at order 36: 20 MiB for the table without entries, 979 MiB with 65 536 single ones,
//! 998 MiB with 4 294 912 in runs. Some 5 s in all, release build.
//!
//! How long a call is was counted apart, by single steps of this program (x86-64, release build; every 229th call of a kind at
//! order 36; not part of the command). At order 36 a call of a first pass without entries takes 33 800 instructions, one of a
//! lap 49 871, one with a block of changes 50 616; a write of invalid slots 34 171, a pause 24 274. A call that lays out entries
//! takes up to 89 545 at order 24 already, most of them in this host's stand-in for a store to guest memory (on POWER the
//! longest is 38 688, by `bench`). An opening at the last slot takes 4 584 at order 24, 17 a block: it passes 50 000 at
//! order 28 and comes to some 18 million at order 36. It is the one call here that is not bounded.
//!
//! # Order 46
//! LoPAR's largest has 2^42 slots, 2^10 times as many as order 36: what grows with blocks takes 2^10 times as much. The memory
//! is 64 TiB and 35.5 TiB beside it, 3.5 of these for bitmaps. What the stream would need:
//!
//! * A header of 16 bytes with a u64 index and u32 counts, asked for by a flag when a stream is opened; the smallest buffer of
//!   H_HPT_READ would be 32 bytes. A record of one entry has 32 bytes for 24, a long run hardly more than now. Runs are cut where
//!   a call ends, so a table without entries is a record a call: 24 million, 0.4 GB; with counts of 16 bits it would be 1 GiB.
//!   Slots, cursors, pending counts and the orders of a table have 64 bits or reach to 46 already: only `stream::record`, and
//!   the writer where it reads a header, know of 32.
//! * Levels above the summary. Without them one change costs a lap of 262 145 calls, and 1 048 577 until a pass is clean; a
//!   pause takes 1.1 million. At what such calls take above this is 52 and 27 thousand million instructions. Each level has a
//!   word for 64 of the one below, in 0.0002 bytes a slot and less: order 36 needs two to have as few words to look at as
//!   order 24 has summary words now (256), order 46 three (4096, one call).
//! * Nothing else: a first pass, a reset and a restore go by the words of 64 slots, whatever is above them: 24, 67 and 96
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
