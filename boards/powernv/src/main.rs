//! The bootable image.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod image {
    use realhpt_powernv::board::Plain;
    use realhpt_powernv::boot::Handover;
    use realhpt_powernv::start;

    pub(super) fn main(handover: Handover) -> ! {
        start::boot(handover, Plain)
    }
}

#[cfg(target_os = "none")]
realhpt_powernv::entry!(image::main);

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "this program runs on a powernv machine: `cargo run` builds it for one and starts it"
    );
}
