//! The time base as time.

use core::sync::atomic::{AtomicU64, Ordering};

use realhpt::arch::powerpc64::time_base;

/// Ticks of the time base in a second: 512 MHz on every POWER8 and later, until the device tree says
/// otherwise.
static FREQUENCY: AtomicU64 = AtomicU64::new(512_000_000);

/// Sets the frequency that the device tree gives, if it is one that makes sense.
pub fn set_frequency(hertz: u64) {
    if hertz >= 1_000_000 {
        FREQUENCY.store(hertz, Ordering::Relaxed);
    }
}

/// Microseconds since the time base was zero.
#[must_use]
pub fn microseconds() -> u64 {
    // At least 1, as `set_frequency` refuses less than a megahertz.
    time_base() / (FREQUENCY.load(Ordering::Relaxed) / 1_000_000)
}

/// Ticks of the time base in so many microseconds.
#[must_use]
pub fn ticks(microseconds: u64) -> u64 {
    FREQUENCY.load(Ordering::Relaxed) / 1_000_000 * microseconds
}
