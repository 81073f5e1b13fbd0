//! The time base as time, and the time of day.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use realhpt::arch::powerpc64::time_base;

/// Ticks of the time base in a second: 512 MHz on every POWER8 and later, until the device tree says
/// otherwise.
static FREQUENCY: AtomicU64 = AtomicU64::new(512_000_000);

/// Microseconds from the beginning of 1970 to when the time base was zero; 0: not known.
static ORIGIN: AtomicU64 = AtomicU64::new(0);

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

/// Sets the time of day. From here on the time base counts it: to ask the machine's clock means to wait for its BMC, and
/// that is nothing to do in a guest's hypercall.
pub fn set_of_day(seconds: u64) {
    let now = Duration::from_secs(seconds).as_micros();
    let origin = u64::try_from(now).unwrap_or(0);
    ORIGIN.store(origin.saturating_sub(microseconds()), Ordering::Relaxed);
}

/// The time of day since the beginning of 1970, if it is known.
#[must_use]
pub fn of_day() -> Option<Duration> {
    let origin = ORIGIN.load(Ordering::Relaxed);
    (origin != 0).then(|| Duration::from_micros(origin.saturating_add(microseconds())))
}
