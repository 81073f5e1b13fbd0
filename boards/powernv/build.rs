//! Hands the linker the image's script and defmt's.

fn main() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rerun-if-changed=../../linker/powernv.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-T{manifest}/../../linker/powernv.ld");
        println!("cargo:rustc-link-arg-bins=-Tdefmt.x");
    }
}
