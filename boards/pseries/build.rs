//! Passes the link script to the programs when they are built for a partition.

use std::{env, path::PathBuf};

fn main() {
    let board = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let script = board.join("../../linker/pseries.ld");
    println!("cargo:rerun-if-changed={}", script.display());
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        println!("cargo:rustc-link-arg-bins=-T{}", script.display());
    }
}
