//! The bootable image.
#![no_std]
#![no_main]

use realhpt_powernv::board::Plain;
use realhpt_powernv::boot::Handover;
use realhpt_powernv::start;

fn main(handover: Handover) -> ! {
    start::boot(handover, Plain)
}

realhpt_powernv::entry!(main);
