//! The table of traps is whole, and the tests that it names are there.

use crate::common::named::{all_are_there, has_test, named};

const DOCS: &str = include_str!("main.rs");

/// How many traps there are.
const TRAPS: usize = 41;

#[test]
fn each_trap_has_a_row_and_each_test_is_there() {
    let rows = DOCS.lines().filter_map(|line| {
        let row = line.strip_prefix("//! | ")?.strip_suffix(" |")?;
        row.starts_with('T').then_some(row)
    });
    let mut count = 0;
    for (number, row) in (1..).zip(rows) {
        let columns: Vec<_> = row.split(" | ").collect();
        let [trap, what, answer] = columns[..] else {
            panic!("three columns: {row}");
        };
        assert_eq!(trap, format!("T{number}"), "each once, in order");
        assert!(!what.is_empty());
        let why = answer
            .strip_prefix("cannot occur: ")
            .is_some_and(|why| !why.is_empty());
        assert!(why || answer.starts_with('`'), "{trap}: a test or why not");
        assert!(why || named(answer).next().is_some(), "{trap}: no test");
        all_are_there(trap, answer);
        count += 1;
    }
    assert_eq!(count, TRAPS);
}

#[test]
fn a_name_that_is_not_a_tests_is_found_out() {
    let source = "#[test]\nfn one() {}\nfn two() {}\n/// fn three()\n#[test]\nfn four_and() {}";
    for (name, is_test) in [
        ("one", true),
        ("two", false),
        ("three", false),
        ("four", false),
    ] {
        assert_eq!(has_test(source, name), is_test, "{name}");
    }
    let row = "`a/b.rs::c`, `d`; because (`e::f`, `src/g.rs::h`)";
    assert!(named(row).eq([("a/b.rs", "c"), ("src/g.rs", "h")]));
}
