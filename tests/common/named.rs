//! Tables in the docs of tests, whose rows name the tests that hold them: whether those are there.

use std::fs;
use std::path::Path;

/// The tests that a row names: file and function.
pub(crate) fn named(row: &str) -> impl Iterator<Item = (&str, &str)> {
    row.split('`').skip(1).step_by(2).filter_map(|name| {
        let (file, function) = name.rsplit_once("::")?;
        file.ends_with(".rs").then_some((file, function))
    })
}

/// Whether a source has a function of this name with `#[test]` above it.
pub(crate) fn has_test(source: &str, function: &str) -> bool {
    source
        .split("#[test]")
        .skip(1)
        .any(|test| test.trim_start().starts_with(&format!("fn {function}()")))
}

/// Each test that a row names is there. `row` says which one it is.
pub(crate) fn all_are_there(row: &str, text: &str) {
    for (file, function) in named(text) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{row}: {file}: {error}");
        });
        assert!(has_test(&source, function), "{row}: {file}::{function}");
    }
}
