//! Every register that a guest can set, and the SLB: set to a pattern, and looked at after others had the processor.
//!
//! Which registers there are is found by trying all numbers: what a processor, or the next QEMU, has and nobody thought
//! of is among them.

use core::arch::{global_asm, naked_asm};

use realhpt_pseries::{
    cpu::{Msr, timebase},
    guard::{self, Code},
    mmu::{
        pte::{BasePage, Segment, SegmentSize},
        slb,
    },
    println,
    runtime::{FIRST_FREE_SLB, Runtime},
};

use crate::{
    cases::switches::ROUND,
    random::Random,
    registers::{self, State},
    trouble::{Must as _, Outcome, same},
};

// For each number of a special purpose register two instructions that read it and return, and two that write it:
// `mfspr 3, n; blr` and `mtspr n, 3; blr`. The number's halves are exchanged in the instruction.
global_asm!(
    ".text",
    ".balign 8",
    ".globl realhpt_suite_read_spr",
    "realhpt_suite_read_spr:",
    ".set number, 0",
    ".rept {count}",
    ".long {mfspr} + ((number & 31) << 16) + ((number >> 5) << 11)",
    "blr",
    ".set number, number + 1",
    ".endr",
    ".globl realhpt_suite_write_spr",
    "realhpt_suite_write_spr:",
    ".set number, 0",
    ".rept {count}",
    ".long {mtspr} + ((number & 31) << 16) + ((number >> 5) << 11)",
    "blr",
    ".set number, number + 1",
    ".endr",
    count = const SPRS,
    mfspr = const 0x7c60_02a6,
    mtspr = const 0x7c60_03a6,
);

unsafe extern "C" {
    static realhpt_suite_read_spr: u8;
    static realhpt_suite_write_spr: u8;
}

/// Numbers of special purpose registers.
const SPRS: usize = 1024;

/// Registers that are not the program's to keep: XER, LR and CTR, which code changes; DEC, SRR0, SRR1, CFAR, the
/// names of CTRL, FSCR; the timebase's names; SPRG0 and SPRG1, which the runtime's handlers use; MMCR0 under its
/// names, which would have counters count; the names of BESCR that set and reset bits; PIR and TIR, which are the
/// processor's.
const NOT_KEPT: [u64; 27] = [
    1, 8, 9, 22, 26, 27, 28, 136, 152, 153, 268, 269, 272, 273, 284, 285, 446, 779, 795, 800, 801,
    802, 803, 806, 526, 527, 1023,
];

/// Reads or writes special purpose register `number`: none if the program may not.
fn spr(table: *const u8, number: u64, value: u64) -> Option<u64> {
    let at = table.expose_provenance() as u64 + 8 * number;
    let at = usize::try_from(at).unwrap_or_default();
    // SAFETY: one of the pieces of the table; ELFv2's entry by address is the function's first instruction.
    let piece = unsafe {
        core::mem::transmute::<*const (), Code>(core::ptr::with_exposed_provenance::<()>(at))
    };
    // SAFETY: the program needs none of the registers that it is called for.
    unsafe { guard::run(piece, [value, 0], Msr::TRANSLATED) }.ok()
}

/// SLB entries from [`FIRST_FREE_SLB`] on.
const SLB: usize = 16;

/// All special purpose registers, and the SLB entries that the runtime leaves.
struct Kept {
    sprs: [u64; SPRS],
    /// Which of them the program can read, and do not count by themselves: a bit each.
    readable: [u64; SPRS / 64],
    slb: [[u64; 2]; SLB],
}

impl Kept {
    /// Sets what can be set to a pattern of its own.
    fn set(seed: u64) {
        registers::enable_facilities();
        let mut random = Random(seed << 16 | 1);
        for number in 0..SPRS as u64 {
            // Key 0 stays allowed; priorities are those that problem state may have too.
            let mask = match number {
                13 | 29 | 61 | 157 => 0x1555_5555_5555_5554,
                896 => 3 << 51,
                898 => 3 << 19,
                _ => !0,
            };
            let value = random.next() & mask;
            if !NOT_KEPT.contains(&number) {
                spr(&raw const realhpt_suite_write_spr, number, value);
            }
        }
        for slot in FIRST_FREE_SLB..FIRST_FREE_SLB + SLB as u64 {
            let segment = Segment {
                base: (0x1000 + (random.next() & 0xffff) * 16 + slot) << 28,
                vsid: random.next() & 0xff_ffff_ffff,
                size: SegmentSize::M256,
                page: BasePage::K4,
            };
            // SAFETY: nothing of the program is that far up.
            unsafe { slb::insert(slot, &segment) };
        }
    }

    /// What there is now.
    fn get() -> Self {
        let mut kept = Self {
            sprs: [0; SPRS],
            readable: [0; SPRS / 64],
            slb: [[0; 2]; SLB],
        };
        for (word, (bits, sprs)) in
            (0..).zip(kept.readable.iter_mut().zip(kept.sprs.chunks_mut(64)))
        {
            for (bit, place) in (0..64).zip(sprs) {
                let number = word * 64 + bit;
                if NOT_KEPT.contains(&number) {
                    continue;
                }
                let [first, second] =
                    [(); 2].map(|()| spr(&raw const realhpt_suite_read_spr, number, 0));
                if let Some(value) = first.filter(|_| first == second) {
                    *place = value;
                    *bits |= 1 << bit;
                }
            }
        }
        for (slot, place) in (FIRST_FREE_SLB..).zip(&mut kept.slb) {
            *place = slb::read(slot);
        }
        kept
    }

    /// All is as it was, but for what looking at the registers uses: SPRG2 and SPRG3, which has two names.
    fn is_kept(&self) -> Outcome {
        for (number, &before) in (0..).zip(&self.sprs) {
            let bits = self.readable.get(usize::try_from(number / 64).unwrap_or(0));
            if bits.is_none_or(|bits| bits >> (number % 64) & 1 == 0)
                || [274, 275, 259].contains(&number)
            {
                continue;
            }
            if let Some(now) = spr(&raw const realhpt_suite_read_spr, number, 0)
                && before != now
            {
                println!("register {number}: {before:#x}, now {now:#x}");
                return same("a register", before, now);
            }
        }
        for (slot, [esid, vsid]) in (FIRST_FREE_SLB..).zip(self.slb) {
            let [now_esid, now_vsid] = slb::read(slot);
            same("ESID in the SLB", esid, now_esid)?;
            same("VSID in the SLB", vsid, now_vsid)?;
        }
        Ok(())
    }
}

/// Sets every register that it can set, and finds them as they were after others had the processor.
pub(crate) fn everything(seed: u64) -> Outcome {
    Kept::set(seed);
    let before = Kept::get();
    State::pattern(seed).keep_for(ROUND)?;
    before.is_kept()?;
    let facilities = Msr::TRANSLATED | Msr::FP | Msr::VEC | Msr::VSX;
    // SAFETY: nothing of the program's is in these registers, but for the interrupt's own, which it needs when an
    // interrupt comes: there is none.
    let differs = unsafe { guard::run(keep_the_rest, [seed, timebase() + ROUND], facilities) };
    same(
        "SRR0, SRR1, FPSCR and VSCR",
        0,
        differs.must("keeping the rest")?,
    )
}

/// What is wrong with SRR0 (1), SRR1 (2), FPSCR (4) and VSCR (8) after the timebase has come to the second argument.
///
/// All four have a pattern of the first one's; FPSCR its rounding mode and non-IEEE mode, VSCR its two bits. The red
/// zone below r1 is the code's own: nothing interrupts it.
#[unsafe(naked)]
unsafe extern "C" fn keep_the_rest(_: u64, _: u64) -> u64 {
    naked_asm!(
        "mulli 5, 3, 0x1235",
        "rldicr 5, 5, 2, 61",
        "mulli 6, 3, 0x3577",
        "mtsrr0 5",
        "mtsrr1 6",
        "andi. 7, 3, 7",
        "std 7, -16(1)",
        "lfd 0, -16(1)",
        "mtfsf 255, 0, 1, 0",
        "li 8, 0",
        "std 8, -48(1)",
        "andi. 8, 3, 1",
        "sldi 9, 8, 16",
        "or 8, 8, 9",
        "std 8, -40(1)",
        "addi 10, 1, -48",
        "rldicr 10, 10, 0, 59",
        "lvx 0, 0, 10",
        "mtvscr 0",
        "mfvscr 0",
        "stvx 0, 0, 10",
        "ld 8, 8(10)",
        "mffs 0",
        "stfd 0, -16(1)",
        "ld 7, -16(1)",
        "2: mfspr 11, 268",
        "cmpld 11, 4",
        "blt 2b",
        "li 3, 0",
        "mfsrr0 11",
        "cmpd 11, 5",
        "beq 3f",
        "ori 3, 3, 1",
        "3: mfsrr1 11",
        "cmpd 11, 6",
        "beq 4f",
        "ori 3, 3, 2",
        "4: mffs 0",
        "stfd 0, -16(1)",
        "ld 11, -16(1)",
        "cmpd 11, 7",
        "beq 5f",
        "ori 3, 3, 4",
        "5: mfvscr 0",
        "stvx 0, 0, 10",
        "ld 11, 8(10)",
        "cmpd 11, 8",
        "beq 6f",
        "ori 3, 3, 8",
        "6: blr",
    )
}

/// Rounds of a vCPU that keeps everything.
const ROUNDS: u64 = 4;

pub(crate) fn run(runtime: &Runtime, number: u64) -> Outcome {
    let seed = runtime.argument >> 8 & 0xffff;
    (0..ROUNDS).try_for_each(|round| everything(0x1_0000 * (1 + number) + seed + round))
}
