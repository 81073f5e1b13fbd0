//! The ends of a run: power off, and panic.

use crate::{logger, opal};

/// Switches the machine off with the log written out.
pub fn power_off() -> ! {
    logger::flush();
    opal::power_off()
}

/// Ends the run as a failure: no verdict is given, which the runner counts as one. The reason was logged.
pub fn fail() -> ! {
    defmt::error!("the run ends without a verdict");
    power_off()
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: this CPU goes nowhere from here.
    unsafe { logger::seize() };
    defmt::error!("panic: {}", defmt::Display2Format(info));
    fail()
}
