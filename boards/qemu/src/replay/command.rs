//! `replay` and `sequence`: what was recorded, done again on a machine or on the library, and the verdict.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::calls;
use super::file::{Recorded, Sequence};
use super::memory::Memory;
use super::outcome::{Outcome, REASONS};
use super::trace::Trace;
use super::{Backend, Layout, host, machine};
use crate::cli;
use crate::machine::Kind;
use crate::session::Patience;
use crate::tables::formats::{self, Format};
use crate::tables::model::Pass;
use crate::terminal::{Bar, Terminal};
use crate::workspace;

/// A bar for steps that are counted.
struct Count {
    bar: Bar,
    total: usize,
}

impl Count {
    fn new(terminal: &Terminal, total: usize) -> Self {
        let bar = terminal.count("Replaying", total as u64);
        Self { bar, total }
    }

    fn at(&self, done: usize) {
        self.bar.at(done as u64, self.total as u64);
    }
}

/// Where something is done again.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// On the library, with entries in the format of this host.
    Library(Recorded),
    /// On a machine, which may take this long.
    Machine(Kind, Patience),
}

impl Place {
    /// The places that a command line means: the library in both formats, or one machine.
    fn all(on_host: bool, machine: Kind, timeout: Duration) -> Vec<Self> {
        if on_host {
            let both = [Recorded::Power8, Recorded::Power9];
            both.map(Self::Library).to_vec()
        } else {
            vec![Self::Machine(machine, Patience::of(timeout))]
        }
    }

    /// The host whose recorded answers are to be expected there.
    fn recorded(self) -> Recorded {
        match self {
            Self::Library(recorded) => recorded,
            Self::Machine(Kind::Powernv8, _) => Recorded::Power8,
            Self::Machine(Kind::Powernv9 | Kind::Powernv10, _) => Recorded::Power9,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Library(Recorded::Power8) => "library, ISA 2.07 format",
            Self::Library(Recorded::Power9) => "library, ISA 3.0 format",
            Self::Machine(kind, _) => kind.name(),
        }
    }

    /// Has `drive` drive a client as `layout` says.
    fn run<R>(
        self,
        terminal: &Terminal,
        layout: &Layout,
        drive: impl FnOnce(&mut dyn Backend) -> Result<R>,
    ) -> Result<R> {
        match self {
            Self::Library(recorded) => {
                let store = host::store(layout)?;
                drive(&mut host::Host::new(&store, recorded.format())?)
            }
            Self::Machine(kind, patience) => {
                machine::run(terminal, kind, layout, patience, |target| drive(target))
            }
        }
    }
}

/// Runs `sequence`. Returns whether every difference is listed.
///
/// # Errors
/// If it cannot be run: a file that is damaged, a machine that fails.
pub fn sequence(terminal: &Terminal, arguments: &cli::Sequence) -> Result<bool> {
    let mut good = true;
    for place in Place::all(arguments.host, arguments.machine, arguments.timeout) {
        let sequence = Sequence::load(&arguments.file, place.recorded())?;
        terminal.step(
            "Sequence",
            &format!(
                "{}: as {} answered it, {} steps, order {}; {}",
                shown(&arguments.file),
                place.recorded().name(),
                sequence.lines.len(),
                sequence.order,
                place.name(),
            ),
        );
        let layout = Memory::new(&sequence.slots).layout(sequence.order);
        let outcome = place.run(terminal, &layout, |backend| {
            let bar = Count::new(terminal, sequence.lines.len());
            super::sequence::run(backend, &sequence, |done| bar.at(done))
        })?;
        good &= show(terminal, &outcome);
    }
    Ok(good)
}

/// Shows what a sequence's replay found. Whether every difference is listed.
fn show(terminal: &Terminal, outcome: &Outcome) -> bool {
    for (name, number) in &outcome.reasons {
        let why = REASONS.iter().find(|row| row.0 == *name);
        let why = why.map_or("", |row| row.1);
        terminal.step("Listed", &format!("{number:>6} {name}: {why}"));
    }
    for other in &outcome.shown {
        terminal.bad("Differs", &format!("line {}: {}", other.line, other.what));
    }
    let words = format!(
        "{} of {} steps agree, {} differ for the reasons listed, {} differ otherwise",
        outcome.agreed, outcome.steps, outcome.listed, outcome.others
    );
    let good = outcome.others == 0;
    if good {
        terminal.step("verified", &words);
    } else {
        terminal.bad("Failed", &words);
    }
    good
}

/// Runs `replay`. Returns whether every answer was the recorded one.
///
/// # Errors
/// If it cannot be run: a file that is damaged, a machine that fails.
pub fn replay(terminal: &Terminal, arguments: &cli::Replay) -> Result<bool> {
    let trace = Trace::load(&arguments.trace)?;
    terminal.step(
        "Trace",
        &format!(
            "{}: {} calls about hashed page tables, {} others",
            shown(&arguments.trace),
            trace.calls.len(),
            trace.skipped
        ),
    );
    let table = table_beside(&arguments.trace);
    let recorded = match &table {
        Some(path) => Some(formats::load(path, Some(Format::Qemu), None)?),
        None => None,
    };
    let layout = calls::layout(&trace, arguments.order);
    let mut good = true;
    for place in Place::all(arguments.host, arguments.machine, arguments.timeout) {
        terminal.step(
            "Replaying",
            &format!("on a table of order {}; {}", arguments.order, place.name()),
        );
        let mut outcome = place.run(terminal, &layout, |backend| {
            let bar = Count::new(terminal, trace.calls.len());
            calls::run(backend, &trace, arguments.order, |done| bar.at(done))
        })?;
        let entries = Pass::measure(&outcome.records, outcome.order)?.entries;
        let mut words = format!("order {}, {entries} entries", outcome.order);
        if let (Some(recorded), Some(path)) = (&recorded, &table) {
            let before = outcome.differences;
            let but_c = outcome.hold_to(recorded)?;
            let differences = outcome.differences - before;
            words = format!(
                "{words}; {differences} differences from {}{}",
                shown(path),
                but_c_in_words(but_c)
            );
        }
        for (name, count) in &outcome.counts {
            terminal.step("Replayed", &in_words(name, *count));
        }
        terminal.step("Table", &words);
        if let Some(out) = &arguments.out {
            formats::save(
                out,
                Format::Qemu,
                outcome.order,
                std::slice::from_ref(&outcome.records),
            )?;
            terminal.step(
                "Wrote",
                &format!("{}: qemu, {entries} entries", out.display()),
            );
        }
        good &= show_calls(terminal, &outcome);
    }
    Ok(good)
}

/// Shows how a trace's replay ended. Whether every answer was the recorded one.
fn show_calls(terminal: &Terminal, outcome: &calls::Outcome) -> bool {
    for (line, what) in &outcome.shown {
        let place = match line {
            0 => "the final table".to_owned(),
            line => format!("line {line}"),
        };
        terminal.bad("Differs", &format!("{place}: {what}"));
    }
    let total = |of: fn(&calls::Count) -> u64| outcome.counts.values().map(of).sum::<u64>();
    let words = format!(
        "{} of {} calls agree{}",
        total(|count| count.agreed),
        total(|count| count.made - count.unseen),
        but_c_in_words(total(|count| count.but_c)),
    );
    let good = outcome.differences == 0;
    if good {
        terminal.step("verified", &words);
    } else {
        terminal.bad(
            "Failed",
            &format!("{words}; {} differences in all", outcome.differences),
        );
    }
    good
}

fn in_words(name: &str, count: calls::Count) -> String {
    let unseen = match count.unseen {
        0 => String::new(),
        unseen => format!(", {unseen} whose answer was not seen"),
    };
    format!(
        "{name:<20} {:>6} of {:>6} agree{}{unseen}",
        count.agreed,
        count.made - count.unseen,
        but_c_in_words(count.but_c)
    )
}

fn but_c_in_words(but_c: u64) -> String {
    match but_c {
        0 => String::new(),
        but_c => format!(", {but_c} but for C that stores of the recorded guest set"),
    }
}

/// The table that a trace ends with, if it stands beside it: `NAME.htab.xz` or `NAME.htab` for `NAME.hcalls.txt.xz`.
fn table_beside(trace: &Path) -> Option<PathBuf> {
    let name = trace.file_name()?.to_str()?;
    let stem = name.split(".hcalls").next()?;
    let beside = [".htab.xz", ".htab"].map(|end| trace.with_file_name(format!("{stem}{end}")));
    beside.into_iter().find(|path| path.is_file())
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.strip_prefix(workspace()).unwrap_or(path).display()
}
