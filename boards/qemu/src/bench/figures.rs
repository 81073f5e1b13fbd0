//! What the measurements mean: rows with names and units, Linux's figures for the same work, budgets.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use realhpt::hcall::abi;
use realhpt_pseries::exchange::bench::{CALIBRATION, CHANGED_PERMILLE, READERS, what};
use serde::Serialize;

use super::linux::Linux;
use super::tables::{Kind as TableKind, Table, UNSETTLED_PERCENT};
use crate::exchange::Measurement;
use crate::machine::{Kind as Machine, PER_TICK};

/// The order that the budgets are for, which is Linux's.
pub const REFERENCE_ORDER: u32 = super::linux::ORDER;
/// The share of changed entries that they are for, which is the largest that is measured.
const REFERENCE_CHANGED: u64 = super::linux::CHANGED_PERMILLE;
const _: () = assert!(matches!(CHANGED_PERMILLE, [.., REFERENCE_CHANGED]));

/// A row of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The machine it was measured on.
    pub machine: &'static str,
    /// What was measured.
    pub row: String,
    /// Order of the table.
    pub order: u32,
    /// Valid entries per mille of the slots, where that matters.
    pub permille: Option<u32>,
    /// Guest instructions in all; none where it is not instructions that are counted.
    pub insns: Option<f64>,
    /// What there is one or more of.
    pub unit: &'static str,
    /// For each of them.
    pub per_unit: f64,
    /// Linux KVM-HV's figure for each.
    pub linux: Option<f64>,
    /// How many times as much Linux takes.
    pub ratio: Option<f64>,
    /// What it may be.
    #[serde(skip)]
    pub budget: Option<f64>,
    /// It says how cost grows with the table.
    #[serde(skip)]
    pub grows: bool,
}

impl Row {
    /// Whether it takes more than it may.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.budget.is_some_and(|budget| self.per_unit > budget)
    }
}

/// The row of a clean pass over a settled table.
pub const CLEAN_PASS: &str = "clean pass, all settled";
/// The row of a first pass over a settled table.
pub const FIRST_PASS: &str = "first pass, all settled";

/// The row of a clean pass over a table like Linux's.
#[must_use]
pub fn clean_pass_unsettled() -> String {
    format!("clean pass, {UNSETTLED_PERCENT} % unsettled")
}

/// The row of a first pass over a table like Linux's.
#[must_use]
pub fn first_pass_unsettled() -> String {
    format!("first pass, {UNSETTLED_PERCENT} % unsettled")
}

/// Makes rows of what one machine measured.
#[derive(Debug)]
pub struct Rows<'a> {
    machine: Machine,
    order: u32,
    linux: Option<&'static Linux>,
    tables: &'a [Table],
    measured: HashMap<(u64, u64), Measurement>,
    rows: Vec<Row>,
}

/// What one row measured, and what it is held against.
#[derive(Debug)]
struct Figure {
    insns: f64,
    unit: &'static str,
    units: u64,
    linux: Option<f64>,
    budget: Option<f64>,
    grows: bool,
}

impl Figure {
    /// So many instructions for so many units.
    const fn new(insns: f64, unit: &'static str, units: u64) -> Self {
        Self {
            insns,
            unit,
            units,
            linux: None,
            budget: None,
            grows: false,
        }
    }

    /// The same of what says how cost grows with the table.
    const fn growing(insns: f64, unit: &'static str, units: u64) -> Self {
        Self {
            grows: true,
            ..Self::new(insns, unit, units)
        }
    }

    /// Instructions of calls, for each of them or of their entries.
    const fn of_calls(insns: f64, calls: u64, entries: Option<u64>) -> Self {
        match entries {
            Some(entries) => Self::new(insns, "entry", calls * entries),
            None => Self::new(insns, "call", calls),
        }
    }

    const fn linux(self, linux: Option<f64>) -> Self {
        Self { linux, ..self }
    }

    const fn budget(self, budget: Option<f64>) -> Self {
        Self { budget, ..self }
    }
}

/// Hypercalls: their names, how many entries each is about that the figure is for, their budgets.
const CALLS: [(u64, &str, Option<u64>, Option<f64>); 11] = [
    (what::NULL, "null (H_REMOVE, free slot)", None, Some(100.0)),
    (what::READ, "H_READ", None, Some(140.0)),
    (what::PROTECT, "H_PROTECT", None, Some(200.0)),
    (what::ENTER, "H_ENTER, R and C set", None, Some(200.0)),
    (what::REMOVE, "H_REMOVE", None, Some(220.0)),
    (what::BULK_REMOVE, "H_BULK_REMOVE of 4", None, None),
    (what::BLOCK_REMOVE, "H_BLOCK_REMOVE of 8", Some(8), None),
    (what::CLEAR_REF, "H_CLEAR_REF, R set", None, None),
    (what::CLEAR_REF_AGAIN, "H_CLEAR_REF, R clear", None, None),
    (what::CLEAR_MOD, "H_CLEAR_MOD, C set", None, None),
    (what::CLEAR_MOD_AGAIN, "H_CLEAR_MOD, C clear", None, None),
];
/// Hypercalls whose longest is shown; whether it may depend on the table's size.
const LONGEST: [(u64, &str, bool); 15] = [
    (abi::H_HPT_OPEN, "H_HPT_OPEN", true),
    (abi::H_HPT_READ, "H_HPT_READ", true),
    (abi::H_HPT_WRITE, "H_HPT_WRITE", true),
    (abi::H_LPAR_RESET, "H_LPAR_RESET", true),
    (abi::H_CLEAR_HPT, "H_CLEAR_HPT", true),
    (abi::H_RESIZE_HPT_PREPARE, "H_RESIZE_HPT_PREPARE", true),
    (abi::H_RESIZE_HPT_COMMIT, "H_RESIZE_HPT_COMMIT", true),
    (abi::H_REMOVE, "H_REMOVE", false),
    (abi::H_ENTER, "H_ENTER", false),
    (abi::H_READ, "H_READ", false),
    (abi::H_PROTECT, "H_PROTECT", false),
    (abi::H_BULK_REMOVE, "H_BULK_REMOVE", false),
    (abi::H_BLOCK_REMOVE, "H_BLOCK_REMOVE", false),
    (abi::H_CLEAR_REF, "H_CLEAR_REF", false),
    (abi::H_CLEAR_MOD, "H_CLEAR_MOD", false),
];
/// What is done in a call or more until it is done: its name; whether it is a commit, which is one call.
const WHOLE_TABLE: [(u64, &str, bool); 6] = [
    (what::CLEAR_HPT, "H_CLEAR_HPT", false),
    (what::PREPARE_LARGER, "prepare of twice the size", false),
    (what::COMMIT_LARGER, "commit of twice the size", true),
    (what::PREPARE_SMALLER, "prepare of half the size", false),
    (what::COMMIT_SMALLER, "commit of half the size", true),
    (what::COMMIT_CHANGED, "commit, all changed since", true),
];
/// A clean pass of the reference order in which nothing is unsettled.
const CLEAN_BUDGET: f64 = 2000.0;
/// What an unsettled entry may add.
const UNSETTLED_BUDGET: f64 = 12.0;
/// An entry that has changed, where 10 % have.
const CHANGED_BUDGET: f64 = 80.0;
/// What a reader may add to a hypercall.
const READER_BUDGET: f64 = 30.0;
/// The longest call.
const CALL_BUDGET: f64 = 50_000.0;
/// Bytes for each slot beside a table that has four reader slots.
const BESIDE_BUDGET: f64 = 9.0;

/// A first pass of the reference order.
const fn first_budget(permille: u32) -> Option<f64> {
    match permille {
        10 => Some(0.7e6),
        125 => Some(6e6),
        500 => Some(17e6),
        _ => None,
    }
}

/// Instructions of the known loop, as they were measured: as many as it has, else QEMU does not count them.
///
/// # Errors
/// If it is others.
pub fn calibration(measurements: &[Measurement]) -> Result<f64> {
    let measurement = measurements
        .iter()
        .find(|measurement| measurement.what == what::CALIBRATION);
    let measurement = measurement.context("the agent did not measure the known loop")?;
    let measured = measurement.ticks as f64 * PER_TICK;
    let known = CALIBRATION as f64;
    ensure!(
        (measured - known).abs() <= known / 1000.0,
        "a loop of {known} instructions was measured as {measured}: QEMU does not count instructions"
    );
    Ok(measured)
}

impl<'a> Rows<'a> {
    /// Rows of these measurements, made with these tables.
    ///
    /// # Errors
    /// If a measurement is missing, or one cannot be right.
    pub fn make(
        machine: Machine,
        order: u32,
        tables: &'a [Table],
        measurements: &[Measurement],
    ) -> Result<Vec<Row>> {
        let mut rows = Self {
            machine,
            order,
            linux: Linux::on(machine),
            tables,
            measured: measurements
                .iter()
                .map(|row| ((row.what, row.table), *row))
                .collect(),
            rows: Vec::new(),
        };
        rows.clean_passes()?;
        rows.openings()?;
        rows.first_passes()?;
        rows.changed_passes()?;
        rows.writes()?;
        rows.calls()?;
        rows.whole_tables()?;
        rows.longest()?;
        rows.memory()?;
        Ok(rows.rows)
    }

    fn measurement(&self, what: u64, table: usize) -> Result<Measurement> {
        let key = (what, u64::try_from(table)?);
        self.measured
            .get(&key)
            .copied()
            .with_context(|| format!("the agent did not measure {what:#x} of table {table}"))
    }

    /// Instructions in all, or for a pass.
    fn insns(&self, what: u64, table: usize) -> Result<f64> {
        let Measurement { ticks, passes, .. } = self.measurement(what, table)?;
        Ok(ticks as f64 * PER_TICK / passes.max(1) as f64)
    }

    fn tables(&self, of: impl Fn(TableKind) -> bool) -> Vec<(usize, &'a Table)> {
        self.tables
            .iter()
            .enumerate()
            .filter(|(_, table)| of(table.kind))
            .collect()
    }

    /// Tables with a record for each run, in which nothing is left for hardware to set.
    fn plain(&self) -> Vec<(usize, &'a Table)> {
        self.tables(|kind| kind.settled && !kind.single)
    }

    /// Tables like Linux's.
    fn unsettled(&self) -> Vec<(usize, &'a Table)> {
        self.tables(|kind| !kind.settled)
    }

    /// A budget for a whole table of the reference order.
    fn whole(&self, budget: f64) -> Option<f64> {
        (self.order == REFERENCE_ORDER).then_some(budget)
    }

    fn row(&mut self, row: impl Into<String>, permille: impl Into<Option<u32>>, figure: Figure) {
        let Figure {
            insns,
            unit,
            units,
            linux,
            budget,
            grows,
        } = figure;
        // A table may be too small to have one of them.
        let per_unit = insns / units.max(1) as f64;
        self.rows.push(Row {
            machine: self.machine.name(),
            row: row.into(),
            order: self.order,
            permille: permille.into(),
            insns: Some(round(insns, 1)),
            unit,
            per_unit: round(per_unit, 2),
            linux: linux.map(|linux| round(linux, 2)),
            ratio: linux.map(|linux| round(linux / per_unit, 2)),
            budget,
            grows,
        });
    }

    fn clean_passes(&mut self) -> Result<()> {
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            let insns = self.insns(what::CLEAN_PASS, number)?;
            let figure = Figure::growing(insns, "pass", 1)
                .linux(self.linux_clean(permille))
                .budget(self.whole(CLEAN_BUDGET));
            self.row(CLEAN_PASS, permille, figure);
        }
        for (number, table) in self.unsettled() {
            let permille = table.kind.permille;
            let insns = self.insns(what::CLEAN_PASS, number)?;
            let budget = CLEAN_BUDGET + UNSETTLED_BUDGET * table.unsettled as f64;
            let figure = Figure::growing(insns, "pass", 1)
                .linux(self.linux_clean(permille))
                .budget(self.whole(budget));
            self.row(clean_pass_unsettled(), permille, figure);
        }
        // What unsettled entries add: the same table without any is the one to hold it against.
        for (number, table) in self.unsettled() {
            let permille = table.kind.permille;
            let same = self
                .plain()
                .into_iter()
                .find(|(_, other)| other.kind.permille == permille);
            let (settled, _) = same.context("a table without its settled twin")?;
            let more =
                self.insns(what::CLEAN_PASS, number)? - self.insns(what::CLEAN_PASS, settled)?;
            let figure = Figure::growing(more, "unsettled entry", table.unsettled)
                .budget(Some(UNSETTLED_BUDGET));
            self.row("clean pass, more for unsettled", permille, figure);
        }
        for (number, table) in self.plain() {
            let insns = self.insns(of_last_reader(what::CLEAN_PASS_OF_MANY)?, number)?;
            let figure = Figure::growing(insns, "pass", 1).budget(self.whole(CLEAN_BUDGET));
            let name = format!("clean pass, last of {READERS} readers");
            self.row(name, table.kind.permille, figure);
        }
        Ok(())
    }

    /// What it takes to open a reader does not grow with the table.
    fn openings(&mut self) -> Result<()> {
        for (name, what) in [
            ("open a reader", what::OPEN),
            ("open a reader at the last slot", what::OPEN_AT_END),
        ] {
            for (number, table) in self.plain() {
                let figure = Figure::growing(self.insns(what, number)?, "call", 1);
                self.row(name, table.kind.permille, figure);
            }
        }
        Ok(())
    }

    fn linux_clean(&self, permille: u32) -> Option<f64> {
        self.linux?.clean_pass(self.order, permille)
    }

    fn first_passes(&mut self) -> Result<()> {
        let of_last = of_last_reader(what::FIRST_PASS_OF_MANY)?;
        let last = format!("first pass, last of {READERS} readers");
        for (name, what, tables) in [
            (FIRST_PASS.to_owned(), what::FIRST_PASS, self.plain()),
            (first_pass_unsettled(), what::FIRST_PASS, self.unsettled()),
            (last, of_last, self.plain()),
        ] {
            for (number, table) in tables {
                let permille = table.kind.permille;
                self.check_first_pass(what, number, table)?;
                let insns = self.insns(what, number)?;
                // Linux was not measured with several readers.
                let linux = self.linux.filter(|_| what == what::FIRST_PASS);
                let figure = Figure::growing(insns, "pass", 1)
                    .linux(linux.and_then(|linux| linux.first_pass(self.order, permille)))
                    .budget(first_budget(permille).and_then(|budget| self.whole(budget)));
                self.row(name.as_str(), permille, figure);
            }
        }
        Ok(())
    }

    /// A first pass must have brought every entry, else its cost says nothing.
    fn check_first_pass(&self, what: u64, number: usize, table: &Table) -> Result<()> {
        let pass = self.measurement(what, number)?;
        let least = 16 * table.entries;
        // A call ends in the middle of a run at worst, which then takes another header.
        let most = least + 8 * (table.records + 2 * pass.calls);
        ensure!(
            (least..=most).contains(&pass.bytes),
            "a first pass over {} entries had {} bytes",
            table.entries,
            pass.bytes
        );
        Ok(())
    }

    fn changed_passes(&mut self) -> Result<()> {
        let shares = CHANGED_PERMILLE.into_iter().zip(what::CHANGED_PASS..);
        for (share, (changed, what)) in shares.enumerate() {
            let is_reference = changed == REFERENCE_CHANGED;
            for (number, table) in self.plain() {
                let permille = table.kind.permille;
                let linux = self.linux.filter(|_| is_reference);
                let figure = self
                    .changed(what, what::CLEAN_PASS, (number, table), share)?
                    .linux(linux.and_then(|linux| linux.changed(permille)))
                    .budget(is_reference.then_some(CHANGED_BUDGET));
                let percent = percent(changed);
                let name = format!("pass with {percent} % changed, less a clean one");
                self.row(name, permille, figure);
            }
        }
        // The first of them finds all marks where the calls left them, the others what it has left for them.
        for (which, what, clean) in [
            (
                "first",
                what::CHANGED_PASS_OF_MANY,
                what::CLEAN_PASS_OF_MANY,
            ),
            (
                "last",
                of_last_reader(what::CHANGED_PASS_OF_MANY)?,
                of_last_reader(what::CLEAN_PASS_OF_MANY)?,
            ),
        ] {
            let share = CHANGED_PERMILLE.len() - 1;
            for (number, table) in self.plain() {
                let figure = self
                    .changed(what, clean, (number, table), share)?
                    .budget(Some(CHANGED_BUDGET));
                let percent = percent(REFERENCE_CHANGED);
                let name = format!("{percent} % changed, {which} of {READERS} readers");
                self.row(name, table.kind.permille, figure);
            }
        }
        Ok(())
    }

    /// What a pass takes for each entry that has changed.
    fn changed(
        &self,
        what: u64,
        clean: u64,
        (number, table): (usize, &Table),
        share: usize,
    ) -> Result<Figure> {
        let pass = self.measurement(what, number)?;
        let changed = table.changed.get(share).copied();
        let changed = changed.context("a table without what is changed in it")?;
        // Neighbours may be in one record, and a call may end between them.
        let least = 16 * changed;
        ensure!(
            (least..=least + 8 * changed).contains(&pass.bytes),
            "a pass over {changed} changed entries had {} bytes",
            pass.bytes
        );
        let insns = self.insns(what, number)? - self.insns(clean, number)?;
        Ok(Figure::growing(insns, "changed entry", changed))
    }

    fn writes(&mut self) -> Result<()> {
        for (number, table) in self.tables(|kind| kind.settled) {
            let TableKind {
                permille, single, ..
            } = table.kind;
            let insns = self.insns(what::RESTORE, number)?;
            let (name, budget) = match (single, permille) {
                (true, _) => ("restore, one entry in a record", Some(150.0)),
                (false, 1000) => ("restore, long runs", Some(60.0)),
                (false, _) => ("restore", None),
            };
            let figure = Figure::growing(insns, "entry", table.entries)
                .linux(self.linux.and_then(|linux| linux.restore(permille)))
                .budget(budget);
            self.row(name, permille, figure);
        }
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            let insns = self.insns(what::OVERWRITE, number)?;
            let figure = Figure::new(insns, "entry", table.entries)
                .linux(self.linux.and_then(|linux| linux.overwrite(permille)));
            self.row("overwrite", permille, figure);
        }
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            let insns = self.insns(what::INVALIDATE, number)?;
            let figure = Figure::new(insns, "entry", table.entries)
                .linux(self.linux.and_then(|linux| linux.invalidate(permille)));
            self.row("invalidate", permille, figure);
        }
        Ok(())
    }

    fn calls(&mut self) -> Result<()> {
        for (call, name, entries, budget) in CALLS {
            let Measurement { calls, .. } = self.measurement(call, 0)?;
            let figure = Figure::of_calls(self.insns(call, 0)?, calls, entries)
                .linux(self.linux.and_then(|linux| linux.call(call)))
                .budget(budget);
            self.row(name, None, figure);
        }
        for (call, name, entries, budget) in CALLS {
            let call = call | what::WITH_READER;
            let Measurement { calls, .. } = self.measurement(call, 0)?;
            let figure = Figure::of_calls(self.insns(call, 0)?, calls, entries)
                .budget(budget.map(|budget| budget + READER_BUDGET));
            self.row(format!("{name}, with a reader"), None, figure);
        }
        Ok(())
    }

    /// What empties or resizes a whole table.
    fn whole_tables(&mut self) -> Result<()> {
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            for (what, name, is_commit) in WHOLE_TABLE {
                let Ok(Measurement { calls, longest, .. }) = self.measurement(what, number) else {
                    // It is not done with every table.
                    continue;
                };
                let insns = self.insns(what, number)?;
                if is_commit {
                    let name = format!("{name}, {} bolted", table.bolted);
                    self.row(name, permille, Figure::new(insns, "call", 1));
                    continue;
                }
                let longest = Figure::new(longest as f64 * PER_TICK, "call", 1);
                self.row(name, permille, Figure::new(insns, "table", 1));
                let name = format!("{name}, longest of {calls}");
                self.row(name, permille, longest.budget(Some(CALL_BUDGET)));
            }
        }
        Ok(())
    }

    fn longest(&mut self) -> Result<()> {
        let mut longest = 0_f64;
        for (token, name, grows) in LONGEST {
            let insns = self.insns(what::LONGEST, usize::try_from(token)?)?;
            // A commit is one call, whatever there is to do: Linux makes it under `stop_machine`.
            let budget = (token != abi::H_RESIZE_HPT_COMMIT).then_some(CALL_BUDGET);
            let figure = Figure {
                grows,
                ..Figure::new(insns, "call", 1).budget(budget)
            };
            self.row(format!("longest {name}"), None, figure);
            if budget.is_some() {
                longest = longest.max(insns);
            }
        }
        let figure = Figure::growing(longest, "call", 1).budget(Some(CALL_BUDGET));
        self.row("longest call, commits aside", None, figure);
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        let bytes = self.measurement(what::BESIDE, 0)?.ticks as f64;
        let each = round(bytes / f64::exp2(f64::from(self.order) - 4.0), 3);
        let figure = self.linux.map(|linux| linux.beside);
        self.rows.push(Row {
            machine: self.machine.name(),
            row: "memory beside the table, bytes".to_owned(),
            order: self.order,
            permille: None,
            insns: None,
            unit: "slot",
            per_unit: each,
            linux: figure,
            ratio: figure.map(|figure| round(figure / each, 2)),
            budget: Some(BESIDE_BUDGET),
            grows: true,
        });
        Ok(())
    }
}

/// What was measured of the last of all readers, where there is a figure for each.
fn of_last_reader(first: u64) -> Result<u64> {
    Ok(first + u64::try_from(READERS)? - 1)
}

/// So many per mille, in percent.
fn percent(permille: u64) -> f64 {
    permille as f64 / 10.0
}

pub(super) fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests;
