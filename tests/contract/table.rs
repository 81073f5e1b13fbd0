//! The table of the contract names tests and cases that there are.

use crate::common::named::{all_are_there, named};
use realhpt_suite::{CASES, stress};

const DOCS: &str = include_str!("main.rs");

/// What `tests/on_target.rs` has beside the cases of the suite and of the stress.
const ON_TARGET: [&str; 2] = ["roundtrip", "boot_log_says_what_tables_cost"];

/// The names in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn each_row_has_tests_on_the_host_and_on_target() {
    let source = include_str!("../on_target.rs");
    for name in ON_TARGET {
        assert!(source.contains(&format!("{{}}::{name}")), "{name}");
    }
    let cases: Vec<&str> = [CASES, &stress::case::ALL, &ON_TARGET].concat();
    let rows = DOCS.lines().filter_map(|line| {
        let row = line.strip_prefix("//! | ")?.strip_suffix(" |")?;
        (!row.starts_with("contract |")).then_some(row)
    });
    let mut contracts = Vec::new();
    for row in rows {
        let columns: Vec<_> = row.split(" | ").collect();
        let [contract, host, target] = columns[..] else {
            panic!("three columns: {row}");
        };
        assert!(!contracts.contains(&contract), "{contract}: twice");
        contracts.push(contract);
        assert!(named(host).next().is_some(), "{contract}: no test");
        assert_eq!(named(host).count(), quoted(host).count(), "{contract}");
        all_are_there(contract, host);
        let why = target
            .strip_prefix("none: ")
            .is_some_and(|why| !why.is_empty());
        assert!(why || quoted(target).next().is_some(), "{contract}");
        for case in quoted(target) {
            assert!(cases.contains(&case), "{contract}: {case}");
        }
    }
    assert!(contracts.len() > 30, "{} rows", contracts.len());
}
