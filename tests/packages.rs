//! Tests of packages that plain `cargo test` does not build: those that need other flags, and a library whose
//! programs are not the host's. Each runs in a cargo of its own, and has to have run something.

use std::path::Path;
use std::process::Command;

/// Runs `cargo test` with these arguments and panics with what it printed if that was not good.
fn cargo_test(arguments: &[&str], flags: Option<&str>, target: &str) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(target);
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .arg("test")
        .args(arguments)
        .arg("--target-dir")
        .arg(target);
    cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(flags) = flags {
        cargo.env("RUSTFLAGS", flags);
    }
    let output = cargo.output().expect("cargo can be run");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    print!("{out}");
    assert!(output.status.success(), "{out}{err}");
    let ran = out
        .lines()
        .find_map(|line| line.strip_prefix("test result: ok. "));
    assert!(
        ran.is_some_and(|ran| !ran.starts_with("0 passed")),
        "nothing ran:\n{out}{err}"
    );
}

#[test]
fn loom_explores_the_engine() {
    let package = [
        "--profile",
        "loom",
        "--package",
        "realhpt-interleavings",
        "--test",
        "cases",
    ];
    cargo_test(&package, Some("--cfg loom"), "loom");
}

#[test]
fn the_board_reads_manifests_and_lays_memory_out() {
    cargo_test(&["--package", "realhpt-powernv", "--lib"], None, "board");
}
