//! `bench`: what the hypervisor's work costs in guest instructions, beside Linux's figures.
//!
//! QEMU runs with `-icount shift=0`: an instruction takes one nanosecond, so the guest's timebase counts
//! instructions, and every run gives the same numbers. The agent measures around its hypercalls
//! (`exchange::bench`); here its tables are made ([`tables`]) and its ticks get a meaning ([`figures`]).

pub mod figures;
pub mod tables;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use realhpt_pseries::exchange::bench::CHUNK;
use realhpt_pseries::exchange::{self as layout, job};

use self::figures::{Row, Rows};
use self::tables::{Kind as TableKind, Table};
use crate::cli::Bench;
use crate::exchange::{Exchange, Job, Measurement, Progress};
use crate::images::{GUESTS, HYPERVISOR, Images};
use crate::log::{Frame, Level};
use crate::machine::{Kind, Settings};
use crate::manifest::{AGENT, CLIENT, Manifest, SPARE};
use crate::session::{Patience, Session, Watcher};
use crate::setup;
use crate::terminal::Terminal;
use crate::verdict::Case;

/// The machines that Linux was measured on.
const MACHINES: [Kind; 2] = [Kind::Powernv9, Kind::Powernv8];

/// The tables. Each unsettled one has a settled twin.
const TABLES: [TableKind; 6] = [
    table(10),
    table(125),
    table(500),
    table(1000),
    TableKind {
        settled: false,
        ..table(125)
    },
    TableKind {
        single: true,
        ..table(125)
    },
];

const fn table(permille: u32) -> TableKind {
    TableKind {
        permille,
        settled: true,
        single: false,
    }
}

/// How long one machine may take. Tables of order 24 take seconds.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs it. Returns whether everything could be measured.
///
/// # Errors
/// If it cannot be run; what goes wrong on the machine is shown here.
pub fn run(terminal: &Terminal, arguments: &Bench) -> Result<bool> {
    setup::ensure(terminal)?;
    let images = Images::build(terminal, &[HYPERVISOR, GUESTS])?;
    let mut manifest = Manifest::standard(&images)?;
    let client = manifest.partition_mut(CLIENT)?;
    client.order = arguments.order;
    let memory = client.memory;
    // Another partition is resized: the spare table would be in the figure of the memory.
    let resizable = manifest.partition_mut(SPARE)?;
    (resizable.memory, resizable.order) = (memory, arguments.order);
    resizable.max_order = Some(arguments.order + 1);
    let bar = terminal.spinner("Making", "tables");
    let tables: Vec<Table> = TABLES
        .into_iter()
        .map(|kind| Table::make(kind, arguments.order, memory))
        .collect::<Result<_>>()?;
    drop(bar);
    let sections: Vec<Vec<u8>> = tables
        .iter()
        .flat_map(|table| table.sections.clone())
        .collect();
    let input: usize = sections.iter().map(|section| section.len() + 8).sum();
    let window = layout::HEADER + u64::try_from(input)? + CHUNK;
    manifest.partition_mut(AGENT)?.window = Some(window.next_multiple_of(16 << 20));

    let image = images.path(HYPERVISOR);
    let machines = arguments
        .machine
        .map_or(MACHINES.to_vec(), |machine| vec![machine]);
    let mut rows = Vec::new();
    for kind in machines {
        let settings = Settings {
            kind,
            image: &image,
            manifest: &manifest,
            cpus: 1,
            count_instructions: true,
        };
        let Some(measured) = measure(terminal, &settings, &sections)? else {
            return Ok(false);
        };
        let measured = Rows::make(kind, arguments.order, &tables, &measured)?;
        show(terminal, kind, arguments.order, &measured);
        rows.extend(measured);
    }
    if let Some(path) = &arguments.json {
        save(path, &rows)?;
        terminal.step("Wrote", &path.display().to_string());
    }
    Ok(true)
}

/// One machine's measurements; none if something went wrong, which is shown.
fn measure(
    terminal: &Terminal,
    settings: &Settings<'_>,
    sections: &[Vec<u8>],
) -> Result<Option<Vec<Measurement>>> {
    let bar = terminal.spinner("Measuring", settings.kind.name());
    let mut session = Session::start(settings, |memory| {
        let window = settings.manifest.window(AGENT)?;
        Exchange::map(memory, window)?.write(&Job {
            job: job::BENCH,
            target: CLIENT,
            argument: u64::from(SPARE),
            sections,
        })
    })?;
    let agent = Exchange::map(session.memory(), settings.manifest.window(AGENT)?)?;
    let mut watch = Watch {
        terminal,
        agent: &agent,
        last: None,
    };
    let ended = session.run(Patience::of(PATIENCE), &mut watch)?;
    drop(bar);
    let mut complaints = session.complaints(ended);
    complaints.extend(agent.complaint());
    if complaints.is_empty() {
        return agent.measurements().map(Some);
    }
    session.show_failure(terminal, ended, &complaints);
    Ok(None)
}

/// Shows warnings, and sees that the agent goes on.
struct Watch<'a> {
    terminal: &'a Terminal,
    agent: &'a Exchange,
    last: Option<Progress>,
}

impl Watcher for Watch<'_> {
    fn frame(&mut self, frame: &Frame, _case: Option<&Case>) {
        if frame.level >= Level::Warn {
            self.terminal.frame(frame);
        }
    }

    fn tick(&mut self) -> bool {
        let progress = Some(self.agent.progress());
        std::mem::replace(&mut self.last, progress) != progress
    }
}

/// Shows one machine's rows as a table.
fn show(terminal: &Terminal, machine: Kind, order: u32, rows: &[Row]) {
    terminal.step(
        "Measured",
        &format!(
            "{}, table of order {order}; guest instructions",
            machine.name()
        ),
    );
    terminal.line(&format!(
        "{:44} {:>7} {:>15} {:>13} {:>13} {:>8} {:>13}",
        "", "valid", "per", "realhpt", "Linux", "ratio", "budget"
    ));
    let blank = String::new;
    for row in rows {
        let permille = row.permille.map_or_else(blank, |permille| {
            format!("{} %", f64::from(permille) / 10.0)
        });
        let over = row.budget.is_some_and(|budget| row.per_unit > budget);
        let line = format!(
            "{:44} {permille:>7} {:>15} {:>13} {:>13} {:>8} {:>13}{}",
            row.row,
            row.unit,
            number(row.per_unit),
            row.linux.map_or_else(blank, number),
            row.ratio
                .map_or_else(blank, |ratio| format!("{}x", number(ratio))),
            row.budget.map_or_else(blank, number),
            if over { "  over" } else { "" },
        );
        terminal.line(line.trim_end());
    }
}

/// A number as it is read best: its thousands apart, a fraction only where it matters.
fn number(value: f64) -> String {
    if value.abs() < 1000.0 {
        let digits = if value.abs() < 100.0 { 2 } else { 1 };
        let text = format!("{value:.digits$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = if value < 0.0 { "-" } else { "" }.to_owned();
    for (place, digit) in digits.char_indices() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes the rows as JSON.
fn save(path: &Path, rows: &[Row]) -> Result<()> {
    let failed = || format!("cannot write to {}", path.display());
    let file = File::create(path).with_context(failed)?;
    serde_json::to_writer_pretty(BufWriter::new(file), rows).with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_well() {
        for (value, text) in [
            (0.0, "0"),
            (8.719, "8.72"),
            (12.0, "12"),
            (313.04, "313"),
            (999.96, "1000"),
            (1354.0, "1 354"),
            (128_700_000.0, "128 700 000"),
            (-200_000.0, "-200 000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
