//! Passes each program the link script of what it runs on.

use std::{env, path::PathBuf};

fn main() {
    let suite = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let target = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    for (program, script) in [("suite-image", "powernv.ld"), ("suite-guest", "pseries.ld")] {
        let script = suite.join("../../linker").join(script);
        println!("cargo:rerun-if-changed={}", script.display());
        if target {
            println!("cargo:rustc-link-arg-bin={program}=-T{}", script.display());
        }
    }
    if target {
        println!("cargo:rustc-link-arg-bin=suite-image=-Tdefmt.x");
    }
}
