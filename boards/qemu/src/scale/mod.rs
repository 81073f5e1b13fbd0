//! `scale`: the library alone on this host, with tables of orders that no machine here holds.

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
                terminal.step("Skipped", &format!("{what}: there are not as many slots"));
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
