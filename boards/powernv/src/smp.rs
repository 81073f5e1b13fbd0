//! The other CPUs: started by OPAL, one after the other.
//!
//! skiboot keeps all CPUs but one. OPAL_START_CPU sends one of those to an address, with its PIR in r3 and
//! nothing else. There is one door, [`DOOR`], which holds the area of the CPU that is to come: it takes the area,
//! and with it its stack and whom to call. The next one is started when the last has come through.
//!
//! On POWER8 one thread of each core is used: the threads of a core share LPIDR and SDR1, so they could only run
//! the same partition at a time. The others stay with OPAL.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use realhpt::arch::powerpc64::{relax, time_base};

use crate::cpu::{self, Cpu, SecondaryEntry};
use crate::layout::{Error, Layout};
use crate::{opal, place, time};

/// Bytes of the stack of a CPU that was started. The boot CPU has one of its own in the image.
const STACK: u64 = 64 << 10;
/// Microseconds that a CPU has to come through the door.
const PATIENCE: u64 = 1_000_000;

/// Address of the area of the CPU that is to come; 0: it has come.
#[unsafe(export_name = "realhpt_door")]
// SAFETY: the one symbol of this name.
static DOOR: AtomicU64 = AtomicU64::new(0);

// The first instructions of a CPU that was started. The TOC pointer comes from the image's address, which is
// below 2 GiB; the area from the door, which was stored before the CPU was started; the stack from the area. The
// first frame's back chain is zero. Whom to call stands in the area, since its type is known elsewhere; r12 is
// its address, as it begins with its global entry point.
global_asm!(
    ".section .text.realhpt_secondary,\"ax\",@progbits",
    ".globl realhpt_secondary",
    "realhpt_secondary:",
    "lis 2, .TOC.@ha",
    "addi 2, 2, .TOC.@l",
    "lis 4, realhpt_door@ha",
    "addi 4, 4, realhpt_door@l",
    "ld 3, 0(4)",
    "ld 1, {stack}(3)",
    "li 0, 0",
    "std 0, 0(1)",
    "ld 12, {secondary}(3)",
    "mtctr 12",
    "bctrl",
    "2: b 2b",
    ".previous",
    stack = const offset_of!(Cpu, stack),
    secondary = const offset_of!(Cpu, secondary),
);

unsafe extern "C" {
    static realhpt_secondary: u8;
}

/// Starts the CPU with this PIR as number `number`: it calls `entry` with its area, in which `board` stands for
/// it. Whether it came.
///
/// # Errors
/// If there is no memory for its area and stack.
pub fn start(
    layout: &mut Layout,
    number: u32,
    pir: u32,
    board: *const (),
    entry: SecondaryEntry,
) -> Result<bool, Error> {
    let area = place::value(layout, Cpu::new(number))?;
    let stack = place::zeroed(layout, STACK, place::BLOCK)?;
    area.stack = stack.end - cpu::TOP as u64;
    (area.secondary, area.board) = (entry, board);
    let area: *mut Cpu = area;
    DOOR.store(area.expose_provenance() as u64, Ordering::SeqCst);
    let at = (&raw const realhpt_secondary).expose_provenance() as u64;
    let status = opal::start_cpu(pir, at);
    if status != 0 {
        defmt::warn!(
            "CPU {=u32} cannot be started: OPAL says {=i64}",
            pir,
            status
        );
        return Ok(false);
    }
    let until = time_base() + time::ticks(PATIENCE);
    while DOOR.load(Ordering::Acquire) != 0 {
        if time_base() > until {
            // It may still come. So no other one is sent, and its area stays.
            defmt::warn!("CPU {=u32} was started and does not come", pir);
            return Ok(false);
        }
        relax();
    }
    Ok(true)
}

/// Said by a CPU that was started, when it has its area: the door is free.
pub fn came() {
    DOOR.store(0, Ordering::Release);
}
