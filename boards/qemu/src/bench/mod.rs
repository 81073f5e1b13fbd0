//! `bench`: what the hypervisor's work costs in guest instructions, beside Linux's figures.
//!
//! QEMU runs with `-icount shift=0`: an instruction takes one nanosecond, so the guest's timebase counts
//! instructions, and every run gives the same numbers. The agent measures around its hypercalls
//! (`exchange::bench`); here its tables are made ([`tables`]), its ticks get a meaning ([`figures`]) beside
//! [`linux`]'s, and both are shown ([`report`], [`plot`]). What a guest pays for all of it is counted by an image of its own,
//! while Linux boots ([`guest`]).

pub mod figures;
pub mod guest;
pub mod linux;
pub mod plot;
pub mod report;
pub mod tables;

use std::time::Duration;

use anyhow::Result;
use realhpt_pseries::exchange::bench::{CALIBRATION, CHUNK};
use realhpt_pseries::exchange::{self as layout, job};

use self::figures::{Row, Rows};
use self::tables::{Kind as TableKind, Table};
use crate::cli::{Bench, Part};
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
const TABLES: [TableKind; 8] = [
    table(10),
    table(125),
    table(500),
    table(1000),
    unsettled(10),
    unsettled(125),
    unsettled(500),
    TableKind {
        single: true,
        ..table(125)
    },
];

const fn unsettled(permille: u32) -> TableKind {
    TableKind {
        settled: false,
        ..table(permille)
    }
}

const fn table(permille: u32) -> TableKind {
    TableKind {
        permille,
        settled: true,
        single: false,
    }
}

/// How long one machine may take. Tables of order 26 take half a minute.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs it. Returns whether everything could be measured.
///
/// # Errors
/// If it cannot be run; what goes wrong on the machine is shown here.
pub fn run(terminal: &Terminal, arguments: &Bench) -> Result<bool> {
    setup::ensure(terminal)?;
    let images = Images::build(terminal, &[HYPERVISOR, GUESTS])?;
    let machines = arguments
        .machine
        .map_or(MACHINES.to_vec(), |machine| vec![machine]);
    let mut rows = Vec::new();
    if arguments.only != Some(Part::Linux) {
        let Some(measured) = tables(terminal, &images, arguments, &machines)? else {
            return Ok(false);
        };
        rows.extend(measured);
    }
    if arguments.only != Some(Part::Tables) {
        rows.extend(guest::measure(terminal, &images, &machines)?);
    }
    if let Some(path) = &arguments.json {
        report::save(path, &rows)?;
        terminal.step("Wrote", &path.display().to_string());
    }
    Ok(true)
}

/// Measures and shows what is done with tables; no rows if something went wrong, which is shown.
fn tables(
    terminal: &Terminal,
    images: &Images,
    arguments: &Bench,
    machines: &[Kind],
) -> Result<Option<Vec<Row>>> {
    let mut orders = arguments.order.clone();
    orders.sort_unstable();
    orders.dedup();
    let mut rows = Vec::new();
    for &order in &orders {
        let Some(measured) = measure(terminal, images, order, machines)? else {
            return Ok(None);
        };
        rows.extend(measured);
    }
    // By machine, then by order, as they are shown.
    let rows: Vec<Row> = machines
        .iter()
        .flat_map(|machine| rows.iter().filter(|row| row.machine == machine.name()))
        .cloned()
        .collect();
    for rows in rows.chunk_by(|row, next| row.machine == next.machine) {
        report::show(terminal, rows);
    }
    if let Some(path) = &arguments.plot {
        plot::save(path, &rows)?;
        terminal.step("Wrote", &path.display().to_string());
    }
    Ok(Some(rows))
}

/// The rows of tables of one order on each of the machines; none if something went wrong, which is shown.
fn measure(
    terminal: &Terminal,
    images: &Images,
    order: u32,
    machines: &[Kind],
) -> Result<Option<Vec<Row>>> {
    let mut manifest = Manifest::standard(images)?;
    let client = manifest.partition_mut(CLIENT)?;
    client.order = order;
    let memory = client.memory;
    // Another partition is resized: the spare table would be in the figure of the memory.
    let resizable = manifest.partition_mut(SPARE)?;
    (resizable.memory, resizable.order) = (memory, order);
    resizable.max_order = Some(order + 1);
    let bar = terminal.spinner("Making", &format!("tables of order {order}"));
    let mut tables: Vec<Table> = TABLES
        .into_iter()
        .map(|kind| Table::make(kind, order, memory))
        .collect::<Result<_>>()?;
    let sections: Vec<Vec<u8>> = tables
        .iter_mut()
        .flat_map(|table| table.sections.drain(..))
        .collect();
    drop(bar);
    let input: usize = sections.iter().map(|section| section.len() + 8).sum();
    let window = layout::HEADER + u64::try_from(input)? + CHUNK;
    let agent = manifest.partition_mut(AGENT)?;
    agent.window = Some(window.next_multiple_of(16 << 20));
    // The single hypercalls are about its own table.
    agent.order = order;

    let image = images.path(HYPERVISOR);
    let mut rows = Vec::new();
    for &kind in machines {
        let settings = Settings {
            kind,
            image: &image,
            manifest: &manifest,
            cpus: 1,
            count_instructions: true,
        };
        let bar = terminal.spinner("Measuring", &format!("{}, order {order}", kind.name()));
        let measured = run_on(terminal, &settings, &sections)?;
        drop(bar);
        let Some(measured) = measured else {
            return Ok(None);
        };
        let counted = figures::calibration(&measured)?;
        terminal.step(
            "Calibrated",
            &format!(
                "{}, order {order}: a loop of {} instructions was counted as {}",
                kind.name(),
                report::number(CALIBRATION as f64),
                report::number(counted)
            ),
        );
        rows.extend(Rows::make(kind, order, &tables, &measured)?);
    }
    Ok(Some(rows))
}

/// One machine's measurements; none if something went wrong, which is shown.
fn run_on(
    terminal: &Terminal,
    settings: &Settings<'_>,
    sections: &[Vec<u8>],
) -> Result<Option<Vec<Measurement>>> {
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
