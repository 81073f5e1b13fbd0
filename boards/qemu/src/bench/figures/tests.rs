//! What rows are made of measurements, and which measurements cannot be.

use std::collections::HashSet;

use super::super::TABLES;
use super::*;

const MEMORY: u64 = 64 << 20;
/// Of what was measured and is about nothing else: 1000 instructions.
const TICKS: u64 = 512;

fn measurement(what: u64, table: usize, bytes: u64) -> Measurement {
    Measurement {
        what,
        table: table as u64,
        calls: 1,
        bytes,
        ticks: TICKS,
        longest: TICKS,
        passes: 0,
    }
}

/// What an agent measures, as it would be if everything took the same.
fn measured(tables: &[Table]) -> Vec<Measurement> {
    let mut all = Vec::new();
    for (call, ..) in CALLS {
        all.push(measurement(call, 0, 0));
        all.push(measurement(call | what::WITH_READER, 0, 0));
    }
    for (token, ..) in LONGEST {
        all.push(measurement(
            what::LONGEST,
            usize::try_from(token).expect("a token"),
            0,
        ));
    }
    for (number, table) in tables.iter().enumerate() {
        let readers = READERS as u64;
        let changed = table.changed.iter().map(|changed| 24 * changed);
        let largest = changed.clone().next_back().expect("shares");
        for (whats, bytes) in [
            (what::RESTORE..=what::CLEAN_PASS, 16 * table.entries),
            (what::OPEN_AT_END..=what::BESIDE, 0),
            (
                what::CLEAN_PASS_OF_MANY..=what::CLEAN_PASS_OF_MANY + readers - 1,
                0,
            ),
            (
                what::FIRST_PASS_OF_MANY..=what::FIRST_PASS_OF_MANY + readers - 1,
                16 * table.entries,
            ),
            (
                what::CHANGED_PASS_OF_MANY..=what::CHANGED_PASS_OF_MANY + readers - 1,
                largest,
            ),
        ] {
            all.extend(whats.map(|what| measurement(what, number, bytes)));
        }
        let changed = (what::CHANGED_PASS..).zip(changed);
        all.extend(changed.map(|(what, bytes)| measurement(what, number, bytes)));
    }
    all.extend(WHOLE_TABLE.map(|(what, ..)| measurement(what, 0, 0)));
    all
}

fn tables() -> Vec<Table> {
    TABLES
        .into_iter()
        .map(|kind| Table::make(kind, 18, MEMORY).expect("a table"))
        .collect()
}

/// Sets what one measurement says.
fn set(measured: &mut [Measurement], what: u64, table: u64, ticks: u64) {
    let found = measured
        .iter_mut()
        .find(|found| (found.what, found.table) == (what, table));
    found.expect("a measurement").ticks = ticks;
}

#[test]
fn every_row_is_there_once_and_has_what_it_is_held_against() {
    let tables = tables();
    let mut measured = measured(&tables);
    // 10 % of 163 entries are 17.
    set(&mut measured, what::CHANGED_PASS + 2, 0, 512 + 17 * 512);
    let rows = Rows::make(Machine::Powernv9, 18, &tables, &measured).expect("rows");
    let keys: HashSet<_> = rows.iter().map(|row| (&row.row, row.permille)).collect();
    assert_eq!(keys.len(), rows.len());
    let find = |name: &str, permille| {
        let row = rows
            .iter()
            .find(|row| row.row == name && row.permille == permille);
        row.unwrap_or_else(|| panic!("no row {name}"))
    };

    let changed = find("pass with 10 % changed, less a clean one", Some(10));
    assert_eq!((changed.insns, changed.per_unit), (Some(17000.0), 1000.0));
    assert_eq!((changed.linux, changed.ratio), (Some(294.0), Some(0.29)));
    assert!(changed.is_over() && changed.grows);
    let fewer = find("pass with 0.1 % changed, less a clean one", Some(10));
    assert_eq!((fewer.linux, fewer.budget), (None, None));

    let first = find(FIRST_PASS, Some(125));
    assert_eq!(first.per_unit, 1000.0);
    // A 64th of what it is for order 24.
    assert_eq!(first.linux, Some(77.7e6 / 64.0));
    let clean = find(&clean_pass_unsettled(), Some(500));
    assert_eq!(clean.linux, Some(round(13.53 * 16384.0, 2)));
    assert_eq!(
        find("first pass, last of 4 readers", Some(1000)).linux,
        None
    );
    assert_eq!(find("null (H_REMOVE, free slot)", None).ratio, Some(2.64));
    assert!(!find("longest call, commits aside", None).is_over());
}

#[test]
fn a_budget_for_a_whole_table_is_for_the_reference_order() {
    let tables = tables();
    let measured = measured(&tables);
    for (order, budget) in [(18, None), (REFERENCE_ORDER, Some(CLEAN_BUDGET))] {
        let rows = Rows::make(Machine::Powernv8, order, &tables, &measured).expect("rows");
        let clean = rows.iter().find(|row| row.row == CLEAN_PASS);
        assert_eq!(clean.expect("a clean pass").budget, budget);
    }
}

#[test]
fn what_is_missing_or_cannot_be_is_an_error() {
    let tables = tables();
    let whole = measured(&tables);
    let make = |measured: &[Measurement]| {
        Rows::make(Machine::Powernv9, 18, &tables, measured).map_err(|error| error.to_string())
    };
    let without = whole.iter().filter(|row| row.what != what::ENTER).copied();
    let error = make(&without.collect::<Vec<_>>()).expect_err("no H_ENTER");
    assert!(error.contains("did not measure"), "{error}");
    for what in [what::FIRST_PASS, what::CHANGED_PASS_OF_MANY] {
        let mut short = whole.clone();
        let pass = short.iter_mut().find(|row| row.what == what);
        pass.expect("a pass").bytes = 8;
        let error = make(&short).expect_err("entries are missing");
        assert!(error.contains("had 8 bytes"), "{error}");
    }
}

#[test]
fn a_loop_that_is_not_counted_is_an_error() {
    let counted = |ticks| {
        calibration(&[Measurement {
            ticks,
            ..measurement(what::CALIBRATION, 0, 0)
        }])
    };
    assert_eq!(counted(512_000).expect("as many"), 1e6);
    assert!(counted(513_000).is_err());
    assert!(calibration(&[]).is_err());
}

#[test]
fn passes_that_were_measured_together_are_one() {
    let tables = tables();
    let mut measured = measured(&tables);
    let clean = measured.iter_mut().find(|row| row.what == what::CLEAN_PASS);
    clean.expect("a clean pass").passes = 4;
    let rows = Rows::make(Machine::Powernv9, 18, &tables, &measured).expect("rows");
    let clean = rows.iter().find(|row| row.row == CLEAN_PASS);
    assert_eq!(clean.expect("a clean pass").insns, Some(250.0));
}
