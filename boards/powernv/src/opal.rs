//! OPAL: the firmware's calls. Console, power, events.
//!
//! Before [`init`] every call answers [`UNSUPPORTED`], so the log and the panic path may run at any time.

use core::arch::global_asm;

use realhpt::arch::powerpc64::{relax, time_base};
use realhpt::sync::Mutex;
use spin::Once;

use crate::time;

/// OPAL's token numbers.
mod token {
    pub(super) const CONSOLE_WRITE: u64 = 1;
    pub(super) const CONSOLE_READ: u64 = 2;
    pub(super) const RTC_READ: u64 = 3;
    pub(super) const CEC_POWER_DOWN: u64 = 5;
    pub(super) const POLL_EVENTS: u64 = 10;
    pub(super) const START_CPU: u64 = 41;
    pub(super) const HANDLE_HMI: u64 = 98;
}

/// The event that the console has input.
const CONSOLE_INPUT: u64 = 0x10;

/// OPAL's answer to a call it does not have.
pub const UNSUPPORTED: i64 = -7;
/// OPAL's answers to a call that is to be made again: after a while, or after events were polled.
const BUSY: i64 = -2;
const BUSY_EVENT: i64 = -12;

#[derive(Clone, Copy, Debug)]
struct Opal {
    base: u64,
    entry: u64,
}

static OPAL: Once<Opal> = Once::new();

/// One CPU at a time is in OPAL, or at a device that OPAL uses too: POWER8's way to the LPC bus, where the log's
/// port is, is one sequence of register accesses that must not be broken into.
static INSIDE: Mutex<()> = Mutex::new(());

/// Remembers where OPAL is.
pub fn init(base: u64, entry: u64) {
    OPAL.call_once(|| Opal { base, entry });
}

// OPAL's linkage: token in r0, arguments from r3, OPAL's own r2; branch to the entry; the answer in r3. OPAL
// runs with the caller's MSR on a stack of its own. It is C and keeps what C keeps, but it knows nothing of
// hypercalls: our caller may be one, whose return address still stands in SRR0 and SRR1, or a fault's, in
// HSRR0 and HSRR1. So these four, r2, r13, LR and CR are kept in our frame. (32 bytes of linkage area, then
// the saves.)
global_asm!(
    ".section .text.opal_call,\"ax\",@progbits",
    ".globl opal_call",
    ".type opal_call,@function",
    "opal_call:",
    "mflr 0",
    "std 0, 16(1)",
    "mfcr 0",
    "stw 0, 8(1)",
    "stdu 1, -112(1)",
    "std 2, 24(1)",
    "std 13, 32(1)",
    "mfspr 0, 26",
    "std 0, 40(1)",
    "mfspr 0, 27",
    "std 0, 48(1)",
    "mfspr 0, 314",
    "std 0, 56(1)",
    "mfspr 0, 315",
    "std 0, 64(1)",
    "mtctr 8",
    "mr 0, 6",
    "mr 2, 7",
    "bctrl",
    "ld 2, 24(1)",
    "ld 13, 32(1)",
    "ld 0, 40(1)",
    "mtspr 26, 0",
    "ld 0, 48(1)",
    "mtspr 27, 0",
    "ld 0, 56(1)",
    "mtspr 314, 0",
    "ld 0, 64(1)",
    "mtspr 315, 0",
    "addi 1, 1, 112",
    "lwz 0, 8(1)",
    "mtcr 0",
    "ld 0, 16(1)",
    "mtlr 0",
    "blr",
    ".size opal_call, . - opal_call",
    ".previous",
);

unsafe extern "C" {
    fn opal_call(a: u64, b: u64, c: u64, token: u64, base: u64, entry: u64) -> i64;
}

/// Microseconds that another CPU gets to come out of OPAL: it may be one that never will, or this one. The clock gets as
/// many to answer.
const PATIENCE: u64 = 1_000_000;

/// Does something while no CPU is in OPAL, or after a time as if none were: what the log and the end of a run
/// have to do.
pub fn alone<R>(act: impl FnOnce() -> R) -> R {
    let until = time_base() + time::ticks(PATIENCE);
    let mut inside = INSIDE.try_lock();
    while inside.is_none() && time_base() < until {
        relax();
        inside = INSIDE.try_lock();
    }
    act()
}

fn call(token: u64, a: u64, b: u64, c: u64) -> i64 {
    let _inside = INSIDE.lock();
    call_unlocked(token, a, b, c)
}

fn call_unlocked(token: u64, a: u64, b: u64, c: u64) -> i64 {
    let Some(opal) = OPAL.get() else {
        return UNSUPPORTED;
    };
    // SAFETY: base and entry are those skiboot handed over, the MSR is as it was then but for ME and RI, and
    // each caller below passes addresses of memory that outlives the call.
    unsafe { opal_call(a, b, c, token, opal.base, opal.entry) }
}

/// How often a write to the console that takes nothing is tried again. The firmware's buffer empties into a
/// UART that always takes, unless whoever reads at its other end has stopped: then output is dropped.
const TRIES: u32 = 1000;

/// Writes to the firmware's console, all of it. Gives up if the console takes nothing for long.
pub fn console_write(bytes: &[u8]) {
    let mut rest = bytes;
    let mut patience = TRIES;
    while !rest.is_empty() && patience > 0 {
        let mut length = (rest.len() as u64).to_be();
        let status = call(
            token::CONSOLE_WRITE,
            0,
            &raw mut length as u64,
            rest.as_ptr() as u64,
        );
        let taken = usize::try_from(u64::from_be(length)).unwrap_or(0);
        match status {
            0 if taken > 0 => rest = rest.get(taken..).unwrap_or_default(),
            UNSUPPORTED => return,
            _ => patience -= 1,
        }
        poll_events();
    }
}

/// Reads what the firmware's console has, and says how many bytes that were.
pub fn console_read(bytes: &mut [u8]) -> usize {
    poll_events();
    let mut length = (bytes.len() as u64).to_be();
    match call(
        token::CONSOLE_READ,
        0,
        &raw mut length as u64,
        bytes.as_mut_ptr() as u64,
    ) {
        0 => usize::try_from(u64::from_be(length))
            .unwrap_or(0)
            .min(bytes.len()),
        _ => 0,
    }
}

/// Lets OPAL do its chores: console buffers, the BMC. Nothing, if another CPU is there. Whether the console has input.
pub fn poll_events() -> bool {
    let Some(_inside) = INSIDE.try_lock() else {
        return false;
    };
    let mut events = 0_u64;
    call_unlocked(token::POLL_EVENTS, &raw mut events as u64, 0, 0);
    u64::from_be(events) & CONSOLE_INPUT != 0
}

/// The date and the time of the machine's clock, as [`crate::rtc`] reads them; none: there is no clock, or it does not
/// answer.
pub fn read_clock() -> Option<(u32, u64)> {
    let until = time_base() + time::ticks(PATIENCE);
    loop {
        let (mut date, mut day_time) = (0_u32, 0_u64);
        let status = call(
            token::RTC_READ,
            &raw mut date as u64,
            &raw mut day_time as u64,
            0,
        );
        match status {
            0 => return Some((u32::from_be(date), u64::from_be(day_time))),
            // The BMC was asked, and its answer is one of the events.
            BUSY | BUSY_EVENT if time_base() < until => {
                poll_events();
            }
            _ => return None,
        }
    }
}

/// Sends the CPU with this PIR, which waits in OPAL, to an address.
pub fn start_cpu(pir: u32, at: u64) -> i64 {
    call(token::START_CPU, u64::from(pir), at, 0)
}

/// Lets OPAL find and clear the cause of a hypervisor maintenance interrupt.
pub fn handle_maintenance() -> i64 {
    call(token::HANDLE_HMI, 0, 0, 0)
}

/// Switches the machine off. Without a BMC nothing happens; the CPU then waits here for ever.
pub fn power_off() -> ! {
    alone(|| call_unlocked(token::CEC_POWER_DOWN, 0, 0, 0));
    let mut events = 0_u64;
    loop {
        call_unlocked(token::POLL_EVENTS, &raw mut events as u64, 0, 0);
        relax();
    }
}
