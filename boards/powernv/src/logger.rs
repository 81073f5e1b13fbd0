//! defmt's global logger, on the UART of its own.
//!
//! One frame at a time: the lock is held from `acquire` to `release`. A CPU that panics or takes an
//! unexpected interrupt may hold it itself, in the middle of a frame: it calls [`seize`], which ends that
//! frame with a separator and makes the lock free. The decoder then drops one frame and goes on.

use core::cell::UnsafeCell;
use core::mem;

use realhpt::sync::Mutex;
use spin::Once;

use crate::machine::Generation;
use crate::uart::Uart;

static UART: Once<Uart> = Once::new();

/// Serialises frames. What it guards is [`ENCODER`], which cannot be inside: defmt takes and gives up the
/// lock in two calls.
static FRAME: Mutex<()> = Mutex::new(());

struct Encoder(UnsafeCell<defmt::Encoder>);

// SAFETY: used only between `acquire` and `release`, by the CPU that holds `FRAME`.
unsafe impl Sync for Encoder {}

static ENCODER: Encoder = Encoder(UnsafeCell::new(defmt::Encoder::new()));

/// Opens the port. Frames logged before are lost.
pub fn init(generation: Generation) {
    UART.call_once(|| Uart::init(generation));
}

/// Makes the log usable for a CPU that will not go back to what it did.
///
/// # Safety
/// The caller never returns, and no other CPU logs.
pub unsafe fn seize() {
    if FRAME.is_locked() {
        // SAFETY: the holder is this CPU, which does not go on, or none.
        unsafe { FRAME.force_unlock() };
    }
    // SAFETY: nobody else uses the encoder.
    unsafe { *ENCODER.0.get() = defmt::Encoder::new() };
}

/// Waits until all that was logged is on the line.
pub fn flush() {
    if let Some(uart) = UART.get() {
        uart.flush();
    }
}

fn send(bytes: &[u8]) {
    if let Some(uart) = UART.get() {
        uart.send(bytes);
    }
}

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` returns with `FRAME` held and `release` gives it up; between them only the holder is in
// here. Interrupts are off in hypervisor state, and a machine check does not return to the frame it broke.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        mem::forget(FRAME.lock());
        // SAFETY: the lock is held.
        unsafe { (*ENCODER.0.get()).start_frame(send) };
    }

    unsafe fn flush() {
        flush();
    }

    unsafe fn release() {
        // SAFETY: the lock is held.
        unsafe { (*ENCODER.0.get()).end_frame(send) };
        // SAFETY: by the lock that `acquire` took and forgot.
        unsafe { FRAME.force_unlock() };
    }

    unsafe fn write(bytes: &[u8]) {
        // SAFETY: the lock is held.
        unsafe { (*ENCODER.0.get()).write(bytes, send) };
    }
}

// Both of defmt's own defaults are linker aliases of functions, which rust-lld makes without the local entry
// point that ELFv2 needs: a call through them loses the TOC. So both are always defined here.
defmt::timestamp!("{=u64:us}", crate::time::microseconds());

#[defmt::panic_handler]
fn panic() -> ! {
    core::panic!("defmt panic")
}
