//! What the measurements mean: rows with names and units, Linux's figures for the same work, budgets.
//!
//! Linux's figures: 6.1 KVM-HV on the same machine under the same QEMU, `-icount shift=0`, mitigations off, tables
//! of order 24 made as ours are, one record for each write and 64 KiB for each read. Those for a whole table grow
//! with its slots. No figure: nothing was measured.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use realhpt::hcall::abi;
use realhpt_pseries::exchange::bench::{CALIBRATION, what};
use serde::Serialize;

use super::tables::{Kind as TableKind, Table};
use crate::exchange::Measurement;
use crate::machine::Kind as Machine;

/// The order that Linux's figures and the budgets are for.
const REFERENCE_ORDER: u32 = 24;
/// Instructions of a tick: a nanosecond each, at 512 MHz.
const PER_TICK: f64 = 1000.0 / 512.0;

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
}

/// Linux's figures on one machine. Of a table: at 1 %, 12.5 % and 50 %.
struct Linux {
    /// A clean pass, for each slot.
    clean: [f64; 3],
    /// A first pass of order 24, in millions.
    first: [f64; 3],
    changed: [f64; 3],
    restore: [f64; 3],
    overwrite: [f64; 3],
    invalidate: [f64; 3],
    /// For each entry of a table without a free slot: first pass, and restore by 512 entries.
    dense: [f64; 2],
    null: f64,
    enter: f64,
    read: f64,
    protect: f64,
    remove: f64,
    bulk_remove: f64,
    /// Bytes beside the table for each slot, without those for each page of the guest.
    beside: f64,
}

const POWER8: Linux = Linux {
    clean: [11.06, 11.65, 13.52],
    first: [51.2, 76.9, 125.9],
    changed: [290.0, 294.0, 298.0],
    restore: [2602.0, 1388.0, 893.0],
    overwrite: [3614.0, 2421.0, 1927.0],
    invalidate: [1936.0, 1106.0, 1052.0],
    dense: [159.0, 622.0],
    null: 313.0,
    enter: 1384.0,
    read: 435.0,
    protect: 608.0,
    remove: 1229.0,
    bulk_remove: 4121.0,
    beside: 16.0,
};

const POWER9: Linux = Linux {
    clean: [11.07, 11.65, 13.53],
    first: [51.3, 77.7, 128.7],
    changed: [294.0, 299.0, 304.0],
    restore: [2550.0, 1354.0, 883.0],
    overwrite: [3573.0, 2410.0, 1929.0],
    invalidate: [1948.0, 1117.0, 1063.0],
    null: 2635.0,
    enter: 3735.0,
    read: 2815.0,
    protect: 2941.0,
    remove: 3566.0,
    bulk_remove: 6452.0,
    ..POWER8
};

const fn linux(machine: Machine) -> Option<&'static Linux> {
    match machine {
        Machine::Powernv8 => Some(&POWER8),
        Machine::Powernv9 => Some(&POWER9),
        Machine::Powernv10 => None,
    }
}

/// Where a figure for an occupancy stands.
const fn column(permille: u32) -> Option<usize> {
    match permille {
        10 => Some(0),
        125 => Some(1),
        500 => Some(2),
        _ => None,
    }
}

fn at(figures: &[f64; 3], permille: u32) -> Option<f64> {
    figures.get(column(permille)?).copied()
}

/// Makes rows of what one machine measured.
#[derive(Debug)]
pub struct Rows<'a> {
    machine: Machine,
    order: u32,
    tables: &'a [Table],
    measured: HashMap<(u64, u64), Measurement>,
    rows: Vec<Row>,
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
/// Hypercalls whose longest is shown.
const LONGEST: [(u64, &str); 14] = [
    (abi::H_HPT_READ, "H_HPT_READ"),
    (abi::H_HPT_WRITE, "H_HPT_WRITE"),
    (abi::H_LPAR_RESET, "H_LPAR_RESET"),
    (abi::H_CLEAR_HPT, "H_CLEAR_HPT"),
    (abi::H_RESIZE_HPT_PREPARE, "H_RESIZE_HPT_PREPARE"),
    (abi::H_RESIZE_HPT_COMMIT, "H_RESIZE_HPT_COMMIT"),
    (abi::H_REMOVE, "H_REMOVE"),
    (abi::H_ENTER, "H_ENTER"),
    (abi::H_READ, "H_READ"),
    (abi::H_PROTECT, "H_PROTECT"),
    (abi::H_BULK_REMOVE, "H_BULK_REMOVE"),
    (abi::H_BLOCK_REMOVE, "H_BLOCK_REMOVE"),
    (abi::H_CLEAR_REF, "H_CLEAR_REF"),
    (abi::H_CLEAR_MOD, "H_CLEAR_MOD"),
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
/// What a reader may add to a hypercall.
const READER_BUDGET: f64 = 30.0;
/// The longest call.
const CALL_BUDGET: f64 = 50_000.0;
/// Bytes for each slot beside a table that has four reader slots.
const BESIDE_BUDGET: f64 = 9.0;

impl<'a> Rows<'a> {
    /// Rows of these measurements, made with these tables.
    ///
    /// # Errors
    /// If instructions cannot be told from ticks, or a measurement is missing.
    pub fn make(
        machine: Machine,
        order: u32,
        tables: &'a [Table],
        measurements: &[Measurement],
    ) -> Result<Vec<Row>> {
        let mut rows = Self {
            machine,
            order,
            tables,
            measured: measurements
                .iter()
                .map(|row| ((row.what, row.table), *row))
                .collect(),
            rows: Vec::new(),
        };
        rows.calibrate()?;
        rows.passes()?;
        rows.writes()?;
        rows.calls()?;
        rows.whole_tables()?;
        rows.rest()?;
        Ok(rows.rows)
    }

    fn measurement(&self, what: u64, table: usize) -> Result<Measurement> {
        let key = (what, u64::try_from(table)?);
        self.measured
            .get(&key)
            .copied()
            .with_context(|| format!("the agent did not measure {what:#x} of table {table}"))
    }

    fn insns(&self, what: u64, table: usize) -> Result<f64> {
        Ok(self.measurement(what, table)?.ticks as f64 * PER_TICK)
    }

    /// A known loop must take as many instructions as it has.
    fn calibrate(&self) -> Result<()> {
        let measured = self.insns(what::CALIBRATION, 0)?;
        let known = CALIBRATION as f64;
        ensure!(
            (measured - known).abs() <= known / 1000.0,
            "a loop of {known} instructions was measured as {measured}: QEMU does not count instructions"
        );
        Ok(())
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

    /// How many times as many slots as a table of the reference order has.
    fn scale(&self) -> f64 {
        f64::exp2(f64::from(self.order) - f64::from(REFERENCE_ORDER))
    }

    /// A budget for a whole table of the reference order.
    fn whole(&self, budget: f64) -> Option<f64> {
        (self.order == REFERENCE_ORDER).then_some(budget)
    }

    fn row(
        &mut self,
        row: impl Into<String>,
        permille: Option<u32>,
        (insns, unit, units): (f64, &'static str, u64),
        linux: Option<f64>,
        budget: Option<f64>,
    ) {
        // A table may be too small to have one of them.
        let per_unit = insns / units.max(1) as f64;
        self.rows.push(Row {
            machine: self.machine.name(),
            row: row.into(),
            order: self.order,
            permille,
            insns: Some(round(insns, 1)),
            unit,
            per_unit: round(per_unit, 2),
            linux: linux.map(|linux| round(linux, 2)),
            ratio: linux.map(|linux| round(linux / per_unit, 2)),
            budget,
        });
    }

    fn passes(&mut self) -> Result<()> {
        let linux = linux(self.machine);
        let slots = f64::exp2(f64::from(self.order) - 4.0);
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            let insns = self.insns(what::CLEAN_PASS, number)?;
            let figure = linux.and_then(|linux| Some(at(&linux.clean, permille)? * slots));
            let budget = self.whole(2000.0);
            self.row(
                "clean pass, all settled",
                Some(permille),
                (insns, "pass", 1),
                figure,
                budget,
            );
        }
        // What unsettled entries add: the same table without any is the one to hold it against.
        for (number, table) in self.tables(|kind| !kind.settled) {
            let permille = table.kind.permille;
            let same = self
                .plain()
                .into_iter()
                .find(|(_, other)| other.kind.permille == permille);
            let (settled, _) = same.context("a table without its settled twin")?;
            let more =
                self.insns(what::CLEAN_PASS, number)? - self.insns(what::CLEAN_PASS, settled)?;
            self.row(
                "clean pass, more for unsettled",
                Some(permille),
                (more, "unsettled entry", table.unsettled),
                None,
                Some(12.0),
            );
        }
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            self.check_first_pass(number, table)?;
            let insns = self.insns(what::FIRST_PASS, number)?;
            let figure = match (linux, permille) {
                (Some(linux), 1000) => {
                    let [each, _] = linux.dense;
                    Some(each * slots)
                }
                (linux, _) => {
                    linux.and_then(|linux| Some(at(&linux.first, permille)? * 1e6 * self.scale()))
                }
            };
            let budget = at(&[0.7e6, 6e6, 17e6], permille).and_then(|budget| self.whole(budget));
            self.row(
                "first pass",
                Some(permille),
                (insns, "pass", 1),
                figure,
                budget,
            );
        }
        for (number, table) in self.plain() {
            let permille = table.kind.permille;
            let clean = self.insns(what::CLEAN_PASS, number)?;
            let insns = self.insns(what::CHANGED_PASS, number)? - clean;
            let figure = linux.and_then(|linux| at(&linux.changed, permille));
            self.row(
                "pass with 10 % changed, less a clean one",
                Some(permille),
                (insns, "changed entry", table.changed),
                figure,
                Some(80.0),
            );
        }
        Ok(())
    }

    /// The first pass must have brought every entry, else its cost says nothing.
    fn check_first_pass(&self, number: usize, table: &Table) -> Result<()> {
        let pass = self.measurement(what::FIRST_PASS, number)?;
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

    fn writes(&mut self) -> Result<()> {
        let linux = linux(self.machine);
        for (number, table) in self.tables(|kind| kind.settled) {
            let TableKind {
                permille, single, ..
            } = table.kind;
            let insns = self.insns(what::RESTORE, number)?;
            let figure = match (linux, permille) {
                (Some(linux), 1000) => {
                    let [_, each] = linux.dense;
                    Some(each)
                }
                (linux, _) => linux.and_then(|linux| at(&linux.restore, permille)),
            };
            let (name, budget) = match (single, permille) {
                (true, _) => ("restore, one entry in a record", Some(150.0)),
                (false, 1000) => ("restore, long runs", Some(60.0)),
                (false, _) => ("restore", None),
            };
            let measured = (insns, "entry", table.entries);
            self.row(name, Some(permille), measured, figure, budget);
        }
        for (what, name, figures) in [
            (
                what::OVERWRITE,
                "overwrite",
                linux.map(|linux| linux.overwrite),
            ),
            (
                what::INVALIDATE,
                "invalidate",
                linux.map(|linux| linux.invalidate),
            ),
        ] {
            for (number, table) in self.plain() {
                let permille = table.kind.permille;
                let insns = self.insns(what, number)?;
                let figure = figures.and_then(|figures| at(&figures, permille));
                let measured = (insns, "entry", table.entries);
                self.row(name, Some(permille), measured, figure, None);
            }
        }
        Ok(())
    }

    fn calls(&mut self) -> Result<()> {
        for (call, name, entries, budget) in CALLS {
            let Measurement { calls, .. } = self.measurement(call, 0)?;
            let insns = self.insns(call, 0)?;
            let figure = linux(self.machine).and_then(|linux| match call {
                what::NULL => Some(linux.null),
                what::READ => Some(linux.read),
                what::PROTECT => Some(linux.protect),
                what::ENTER => Some(linux.enter),
                what::REMOVE => Some(linux.remove),
                what::BULK_REMOVE => Some(linux.bulk_remove),
                _ => None,
            });
            self.row(name, None, measured(insns, calls, entries), figure, budget);
        }
        for (call, name, entries, budget) in CALLS {
            let call = call | what::WITH_READER;
            let Measurement { calls, .. } = self.measurement(call, 0)?;
            let insns = self.insns(call, 0)?;
            let budget = budget.map(|budget| budget + READER_BUDGET);
            let name = format!("{name}, with a reader");
            self.row(name, None, measured(insns, calls, entries), None, budget);
        }
        Ok(())
    }

    /// What empties or resizes a whole table.
    fn whole_tables(&mut self) -> Result<()> {
        for (number, table) in self.plain() {
            let permille = Some(table.kind.permille);
            for (what, name, is_commit) in WHOLE_TABLE {
                let Ok(Measurement { calls, longest, .. }) = self.measurement(what, number) else {
                    // It is not done with every table.
                    continue;
                };
                let insns = self.insns(what, number)?;
                if is_commit {
                    let name = format!("{name}, {} bolted", table.bolted);
                    self.row(name, permille, (insns, "call", 1), None, None);
                    continue;
                }
                let longest = longest as f64 * PER_TICK;
                let budget = Some(CALL_BUDGET);
                self.row(name, permille, (insns, "table", 1), None, None);
                let name = format!("{name}, longest of {calls}");
                self.row(name, permille, (longest, "call", 1), None, budget);
            }
        }
        Ok(())
    }

    fn rest(&mut self) -> Result<()> {
        for (token, name) in LONGEST {
            let insns = self.insns(what::LONGEST, usize::try_from(token)?)?;
            // A commit is one call, whatever there is to do: Linux makes it under `stop_machine`.
            let budget = (token != abi::H_RESIZE_HPT_COMMIT).then_some(CALL_BUDGET);
            let name = format!("longest {name}");
            self.row(name, None, (insns, "call", 1), None, budget);
        }
        let bytes = self.measurement(what::BESIDE, 0)?.ticks as f64;
        let each = round(bytes / f64::exp2(f64::from(self.order) - 4.0), 3);
        let figure = linux(self.machine).map(|linux| linux.beside);
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
        });
        Ok(())
    }
}

/// Instructions of calls, for each of them or of their entries.
const fn measured(insns: f64, calls: u64, entries: Option<u64>) -> (f64, &'static str, u64) {
    match entries {
        Some(entries) => (insns, "entry", calls * entries),
        None => (insns, "call", calls),
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}
