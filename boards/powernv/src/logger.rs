//! defmt's global logger, on the UART of its own.
//!
//! One frame at a time: the lock is held from `acquire` to `release`. A CPU that panics or takes an
//! unexpected interrupt may hold it itself, in the middle of a frame: it calls [`seize`], which gives another
//! CPU's frame the time to end, begins with a separator and leaves the lock aside: whoever else logs from
//! then on waits for ever. The decoder drops at most one frame and goes on.

use core::cell::UnsafeCell;
use core::mem;
use core::sync::atomic::{AtomicU64, Ordering};

use realhpt::arch::powerpc64::{relax, spr, time_base};
use realhpt::sync::Mutex;
use spin::Once;

use crate::machine::Generation;
use crate::uart::Uart;

static UART: Once<Uart> = Once::new();

/// Serialises frames. What it guards is [`ENCODER`], which cannot be inside: defmt takes and gives up the
/// lock in two calls.
static FRAME: Mutex<()> = Mutex::new(());

/// PIR + 1 of the CPU that has seized the log; 0: none.
static SEIZED: AtomicU64 = AtomicU64::new(0);
/// PIR + 1 of the CPU whose frame is on its way; 0: none.
static HOLDER: AtomicU64 = AtomicU64::new(0);
/// Microseconds that another CPU's frame gets to end.
const PATIENCE: u64 = 100_000;

fn own() -> u64 {
    spr::PIR.read() + 1
}

/// Waits for ever.
fn stop() -> ! {
    loop {
        relax();
    }
}

struct Encoder(UnsafeCell<defmt::Encoder>);

// SAFETY: used only between `acquire` and `release`, by the CPU that holds `FRAME`.
unsafe impl Sync for Encoder {}

static ENCODER: Encoder = Encoder(UnsafeCell::new(defmt::Encoder::new()));

/// Opens the port. Frames logged before are lost.
pub fn init(generation: Generation) {
    UART.call_once(|| Uart::init(generation));
}

/// Makes the log usable for a CPU that will not go back to what it did, and for it alone.
///
/// # Safety
/// The caller never returns.
pub unsafe fn seize() {
    let before = SEIZED.compare_exchange(0, own(), Ordering::SeqCst, Ordering::SeqCst);
    if before.is_err_and(|other| other != own()) {
        // Another CPU is at its end, and will switch off.
        stop();
    }
    let until = time_base() + crate::time::ticks(PATIENCE);
    loop {
        let holder = HOLDER.load(Ordering::SeqCst);
        if holder == 0 || holder == own() || time_base() > until {
            break;
        }
        relax();
    }
    // SAFETY: whoever else comes to use it waits for ever.
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
// here, or the one that seized the log, which nobody gets past. Interrupts are off in hypervisor state, and a
// machine check does not return to the frame it broke.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        if SEIZED.load(Ordering::SeqCst) != own() {
            mem::forget(FRAME.lock());
            HOLDER.store(own(), Ordering::SeqCst);
            if SEIZED.load(Ordering::SeqCst) != 0 {
                HOLDER.store(0, Ordering::SeqCst);
                stop();
            }
        }
        // SAFETY: the lock is held, or the log is seized.
        unsafe { (*ENCODER.0.get()).start_frame(send) };
    }

    unsafe fn flush() {
        flush();
    }

    unsafe fn release() {
        // SAFETY: the lock is held.
        unsafe { (*ENCODER.0.get()).end_frame(send) };
        HOLDER.store(0, Ordering::SeqCst);
        if SEIZED.load(Ordering::SeqCst) != own() {
            // SAFETY: by the lock that `acquire` took and forgot.
            unsafe { FRAME.force_unlock() };
        }
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
