//! Registers as a whole: filled with patterns, and looked at after a hypercall or after other partitions had
//! the processor.
//!
//! Key types: [`State`], every register that a program in supervisor state has and that nothing sets by itself;
//! [`Sprs`], the special purpose registers among them that can be set one by one.

use core::arch::{asm, naked_asm};

use realhpt_pseries::{
    cpu::{Msr, timebase},
    guard,
};

use crate::trouble::{Must as _, Outcome, Trouble, same};

/// General, floating-point and vector registers, and what goes with them. The assembly below knows the layout.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub(crate) struct State {
    /// r0 to r31.
    pub(crate) gprs: [u64; 32],
    pub(crate) lr: u64,
    pub(crate) ctr: u64,
    pub(crate) cr: u64,
    pub(crate) xer: u64,
    /// VSX registers: the floating-point registers in the first halves of the lower 32, the vector registers
    /// in the upper 32.
    pub(crate) vsrs: [[u64; 2]; 64],
    /// Keeps the link register of the code that fills and looks.
    link: u64,
    /// What the spinning code waits for.
    limit: u64,
}

/// Offsets in [`State`] beyond the general registers.
const LR: usize = 8 * 32;
const CTR: usize = LR + 8;
const CR: usize = LR + 16;
const XER: usize = LR + 24;
const VSRS: usize = LR + 32;
const LINK: usize = VSRS + 16 * 64;
const LIMIT: usize = LINK + 8;

/// The register that the spinning code uses: it does not keep its pattern.
const SPINNER: usize = 4;

impl State {
    /// Another pattern in every register, made from `seed`.
    pub(crate) fn pattern(seed: u64) -> Self {
        let mut next = seed;
        let mut word = || {
            // Knuth's generator: all that matters is that no two registers are alike.
            next = next
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            next
        };
        Self {
            gprs: [(); 32].map(|()| word()),
            lr: word() & !3,
            ctr: word(),
            cr: word() & 0xffff_ffff,
            // SO, OV, CA; from ISA 3.0 on OV32 and CA32 follow, which older processors do not have.
            xer: 0xa000_0000,
            vsrs: [(); 64].map(|()| [word(), word()]),
            link: 0,
            limit: 0,
        }
    }

    /// Everything but r3 to r12 is as a hypercall leaves it that was made with the registers as in `before`: r0, CTR and
    /// XER are zero, the rest has not changed.
    pub(crate) fn as_a_hypercall_leaves(&self, before: &Self) -> Outcome {
        let mut left = before.clone();
        let [r0, ..] = &mut left.gprs;
        (*r0, left.ctr, left.xer) = (0, 0, 0);
        self.same_beside_results(&left)
    }

    /// Everything but r3 to r12 is as in `before`.
    fn same_beside_results(&self, before: &Self) -> Outcome {
        for number in (0..3).chain(13..32) {
            self.same_gpr(before, number)?;
        }
        same("LR", before.lr, self.lr)?;
        same("CTR", before.ctr, self.ctr)?;
        same("CR", before.cr, self.cr)?;
        same("XER", before.xer, self.xer)
    }

    /// A general register is as in `before`.
    pub(crate) fn same_gpr(&self, before: &Self, number: usize) -> Outcome {
        let of = |state: &Self| state.gprs.get(number).copied().unwrap_or_default();
        same(
            GPR_NAMES.get(number).copied().unwrap_or("GPR"),
            of(before),
            of(self),
        )
    }

    /// The floating-point and vector registers are as in `before`.
    pub(crate) fn same_vectors(&self, before: &Self) -> Outcome {
        for (found, expected) in self.vsrs.iter().zip(&before.vsrs) {
            for (&found, &expected) in found.iter().zip(expected) {
                same("half of a VSX register", expected, found)?;
            }
        }
        Ok(())
    }

    /// Fills the registers, makes a hypercall with r3 to r12 as they are, and looks at the registers.
    pub(crate) fn hcall(&self) -> Outcome<Self> {
        self.fill_and(fill_call_look)
    }

    /// Fills the registers, does nothing for so many ticks of the timebase, and compares the registers.
    pub(crate) fn keep_for(&self, ticks: u64) -> Outcome {
        let mut filled = self.clone();
        filled.limit = timebase().wrapping_add(ticks);
        // The spinning code has its limit in r3.
        let [_, _, _, limit, ..] = &mut filled.gprs;
        *limit = filled.limit;
        // The comparison is in field 0 of CR.
        filled.cr &= 0x0fff_ffff;
        let mut after = filled.fill_and(fill_spin_look)?;
        after.cr &= 0x0fff_ffff;
        for number in (0..32).filter(|&number| number != SPINNER) {
            after.same_gpr(&filled, number)?;
        }
        after.same_beside_results(&filled)?;
        after.same_vectors(&filled)
    }

    fn fill_and(&self, code: guard::Code) -> Outcome<Self> {
        let mut state = self.clone();
        let at = (&raw mut state).expose_provenance() as u64;
        let msr = Msr::TRANSLATED | Msr::FP | Msr::VEC | Msr::VSX;
        // SAFETY: the code changes the registers, which the guard puts back, and `state`. The calls it is used
        // with fill no memory.
        unsafe { guard::run(code, [at, 0], msr) }.must("filling the registers")?;
        Ok(state)
    }
}

const GPR_NAMES: [&str; 32] = [
    "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", "r26", "r27",
    "r28", "r29", "r30", "r31",
];

// Fills every register from the State at r3, does `$middle`, and puts every register into it.
//
// The State's address waits in SPRG3 and LR in the State. r1 is filled too: nothing uses the stack meanwhile,
// interrupts are off, and the guard finds its own way back. After the middle r1 goes to SPRG2, so that r1 can
// take the address and all others are stored through it.
macro_rules! fill_and_look {
    ($(#[$doc:meta])* $name:ident, $($middle:literal),+) => {
        $(#[$doc])*
        #[unsafe(naked)]
        unsafe extern "C" fn $name(state: u64, _: u64) -> u64 {
            naked_asm!(
                "mflr 0",
                "std 0, {link}(3)",
                "mtspr 275, 3",
                "addi 4, 3, {vsrs}",
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,\
                    32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
                "lxvd2x \\n, 0, 4",
                "addi 4, 4, 16",
                ".endr",
                "ld 0, {lr}(3)",
                "mtlr 0",
                "ld 0, {ctr}(3)",
                "mtctr 0",
                "ld 0, {cr}(3)",
                "mtcr 0",
                "ld 0, {xer}(3)",
                "mtxer 0",
                ".irp n, 0,1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,3",
                "ld \\n, 8*\\n(3)",
                ".endr",
                $($middle,)+
                "mtspr 274, 1",
                "mfspr 1, 275",
                ".irp n, 0,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
                "std \\n, 8*\\n(1)",
                ".endr",
                "mfspr 0, 274",
                "std 0, 8(1)",
                "mflr 0",
                "std 0, {lr}(1)",
                "mfctr 0",
                "std 0, {ctr}(1)",
                "mfcr 0",
                "std 0, {cr}(1)",
                "mfxer 0",
                "std 0, {xer}(1)",
                "addi 4, 1, {vsrs}",
                ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,\
                    32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,54,55,56,57,58,59,60,61,62,63",
                "stxvd2x \\n, 0, 4",
                "addi 4, 4, 16",
                ".endr",
                "ld 0, {link}(1)",
                "mtlr 0",
                "li 3, 0",
                "blr",
                link = const LINK,
                vsrs = const VSRS,
                lr = const LR,
                ctr = const CTR,
                cr = const CR,
                xer = const XER,
            )
        }
    };
}

fill_and_look!(
    /// A hypercall.
    fill_call_look,
    "sc 1"
);
fill_and_look!(
    /// r3 is the timebase to wait for.
    fill_spin_look,
    "5: mfspr 4, 268",
    "cmpld 4, 3",
    "blt 5b"
);

const _: () = assert!(core::mem::offset_of!(State, limit) == LIMIT);

/// Fills every register but the vector ones from the State at r3, and goes to where CTR then says.
#[unsafe(naked)]
unsafe extern "C" fn fill_and_go(state: u64, _: u64) -> u64 {
    naked_asm!(
        "ld 0, {lr}(3)",
        "mtlr 0",
        "ld 0, {ctr}(3)",
        "mtctr 0",
        "ld 0, {cr}(3)",
        "mtcr 0",
        "ld 0, {xer}(3)",
        "mtxer 0",
        ".irp n, 0,1,2,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31,3",
        "ld \\n, 8*\\n(3)",
        ".endr",
        "bctr",
        lr = const LR,
        ctr = const CTR,
        cr = const CR,
        xer = const XER,
    )
}

/// What the runtime's handler keeps of an interrupt, on the vCPU's exception stack, from [`KEPT`] below its top: r0 to
/// r31, SRR0, SRR1, LR, CTR, CR, XER, DAR, DSISR. It stays there until the next interrupt.
const KEPT: u64 = 448 - 112;
const KEPT_WORDS: usize = 40;

impl State {
    /// Goes to `at` under an MSR, with DAR and DSISR as given: it ends in an interrupt, which shows every register as
    /// it was. DAR and DSISR are what the interrupt made of them.
    pub(crate) fn interrupt_at(
        &self,
        at: u64,
        msr: Msr,
        [dar, dsisr]: [u64; 2],
    ) -> Outcome<guard::Fault> {
        let mut state = self.clone();
        state.ctr = at;
        let from = (&raw mut state).expose_provenance() as u64;
        // SAFETY: the interrupt has them for itself.
        unsafe {
            asm!("mtspr 19, {}", "mtspr 18, {}", in(reg) dar, in(reg) dsisr, options(nostack))
        };
        // SAFETY: the code changes the registers, which the guard puts back.
        let ended = unsafe { guard::run(fill_and_go, [from, 0], msr) };
        let top: u64;
        // SAFETY: reads a register.
        unsafe { asm!("mfsprg {}, 1", out(reg) top, options(nomem, nostack)) };
        let kept = usize::try_from(top - KEPT).unwrap_or_default();
        let kept = core::ptr::with_exposed_provenance::<[u64; KEPT_WORDS]>(kept);
        // SAFETY: the frame on the exception stack, which nobody uses while there is no interrupt.
        let kept = unsafe { kept.read_volatile() };
        let Err(fault) = ended else {
            return Err(same("end of code that is interrupted", 1, 0)
                .err()
                .unwrap_or_else(Trouble::broken_off));
        };
        let [gprs @ .., _, _, lr, ctr, cr, xer, _, _] = kept;
        // The guard has put its own into the frame's r1.
        for number in (0..32).filter(|&number| number != 1) {
            let now = Self {
                gprs,
                ..state.clone()
            };
            now.same_gpr(&state, number)?;
        }
        same("LR", state.lr, lr)?;
        same("CTR", state.ctr, ctr)?;
        same("CR", state.cr, cr)?;
        same("XER", state.xer, xer)?;
        Ok(fault)
    }
}

macro_rules! sprs {
    ($($name:ident = $number:literal & $mask:literal,)*) => {
        /// Special purpose registers that a program can set, as far as it can set them.
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct Sprs([u64; [$($number),*].len()]);

        impl Sprs {
            /// Another pattern in every register, made from `seed`.
            pub(crate) fn pattern(seed: u64) -> Self {
                let mut next = seed;
                Self([$($mask),*].map(|mask: u64| {
                    next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (next ^ next >> 29) & mask
                }))
            }

            /// Sets the registers.
            ///
            /// # Safety
            /// The program needs none of them.
            pub(crate) unsafe fn set(&self) {
                let mut values = self.0.into_iter();
                $(
                    let value = values.next().unwrap_or_default();
                    // SAFETY: the caller's.
                    unsafe { asm!("mtspr {}, {}", const $number, in(reg) value, options(nostack)) };
                )*
            }

            /// The registers as they are.
            pub(crate) fn get() -> Self {
                let mut values = Self::default();
                let mut places = values.0.iter_mut();
                $(
                    let value: u64;
                    // SAFETY: reads a register.
                    unsafe { asm!("mfspr {}, {}", out(reg) value, const $number, options(nostack)) };
                    if let Some(place) = places.next() {
                        *place = value & $mask;
                    }
                )*
                values
            }

            /// SPRG2 and SPRG3, which looking at the registers uses, as in `before`.
            pub(crate) fn take_scratch(&mut self, before: &Self) {
                for (place, value) in self.0.iter_mut().zip(before.0).take(2) {
                    *place = value;
                }
            }

            /// They are as in `before`.
            pub(crate) fn same(&self, before: &Self) -> Outcome {
                let names = [$(stringify!($name)),*];
                for ((name, &expected), &found) in names.into_iter().zip(&before.0).zip(&self.0) {
                    same(name, expected, found)?;
                }
                Ok(())
            }
        }
    };
}

// Not among them: what counts by itself, SPRG0 and SPRG1 (the runtime's handlers use them), and the bits that
// would stop the program: key 0 of AMR and IAMR, the enables of BESCR and MMCR0.
sprs! {
    SPRG2 = 274 & 0xffff_ffff_ffff_ffff,
    SPRG3 = 275 & 0xffff_ffff_ffff_ffff,
    EAR = 282 & 0xffff_ffff,
    USIER = 768 & 0xffff_ffff,
    TACR = 888 & 0xffff_ffff,
    TCSCR = 889 & 0xffff_ffff,
    CSIGR = 890 & 0xffff_ffff,
    DSCR = 17 & 0x7,
    DSISR = 18 & 0xffff_ffff,
    DAR = 19 & 0xffff_ffff_ffff_ffff,
    AMR = 29 & 0x3fff_ffff_ffff_ffff,
    IAMR = 61 & 0x1555_5555_5555_5555,
    UAMOR = 157 & 0x3fff_ffff_ffff_ffff,
    VRSAVE = 256 & 0xffff_ffff,
    EBBHR = 804 & 0xffff_ffff_ffff_fffc,
    EBBRR = 805 & 0xffff_ffff_ffff_fffc,
    TAR = 815 & 0xffff_ffff_ffff_ffff,
    PMC1 = 787 & 0x7fff_ffff,
    PMC2 = 788 & 0x7fff_ffff,
    PMC3 = 789 & 0x7fff_ffff,
    PMC4 = 790 & 0x7fff_ffff,
    SIAR = 796 & 0xffff_ffff_ffff_fffc,
    SDAR = 797 & 0xffff_ffff_ffff_fffc,
}

/// Facilities that the FSCR can give a program: TAR, EBB and DSCR (ISA 3.0B Book III section 6.2.11).
const FSCR: u64 = 1 << 8 | 1 << 7 | 1 << 2;

/// Makes the facilities available that [`Sprs`] are about.
pub(crate) fn enable_facilities() {
    // SAFETY: gives the program registers that it does not use otherwise.
    unsafe { asm!("mtspr 153, {}", in(reg) FSCR, options(nostack)) };
}

/// Sets the AMR: two bits for each key, no store and no load. The `isync` keep earlier accesses before and
/// later ones behind.
///
/// # Safety
/// The program's own pages have key 0.
pub(crate) unsafe fn write_amr(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("isync", "mtspr 29, {}", "isync", in(reg) value, options(nostack)) };
}

/// The processor's version.
pub(crate) fn pvr() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 287", out(reg) value, options(nomem, nostack)) };
    value
}

/// Whether the processor is a POWER8: ISA 2.07, whose HPTE format and instructions differ.
pub(crate) fn is_power8() -> bool {
    matches!(pvr() >> 16, 0x4b..=0x4d)
}

/// The come-from address register: where the last branch was taken.
pub(crate) fn come_from() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 28", out(reg) value, options(nomem, nostack)) };
    value
}

/// The decrementer, with its sign.
pub(crate) fn decrementer() -> i64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mfspr {}, 22", out(reg) value, options(nomem, nostack)) };
    value.cast_signed()
}
