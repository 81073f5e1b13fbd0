//! Runs the engine under loom: the package `realhpt-interleavings`, in a build of its own with `--cfg loom`.

use std::path::Path;
use std::process::Command;

#[test]
fn loom_explores_the_engine() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("loom");
    let output = Command::new(env!("CARGO"))
        .args([
            "test",
            "--profile",
            "loom",
            "--package",
            "realhpt-interleavings",
            "--test",
            "cases",
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", "--cfg loom")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo can be run");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    print!("{out}");
    assert!(output.status.success(), "{err}");
    let ran = out
        .lines()
        .find_map(|line| line.strip_prefix("test result: ok. "));
    assert!(
        ran.is_some_and(|ran| !ran.starts_with("0 passed")),
        "loom ran nothing:\n{out}{err}"
    );
}
