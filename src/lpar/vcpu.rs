//! What is kept of a guest's processor, and how an interrupt is put into it.
//!
//! It comes in two parts, for two distances. [`Registers`] is what every exit to Rust moves, by the
//! vectors' assembly: its layout is fixed and the board takes the offsets from here. [`Context`] is all the
//! rest; it stays in the processor while the same vCPU goes in and out, and is moved only when another
//! partition gets the CPU. What guests share through either would be a leak between partitions, so a
//! register that a guest can set is in one of them or is cleared.
//!
//! [`Registers::deliver`] is the interrupt mechanism of ISA 3.0B Book III section 6.5, for interrupts that
//! hardware gave to the hypervisor and the guest has to see.

use crate::hcall::Frame;

/// Bits of the MSR (ISA 3.0B Book III section 3.2.1).
pub mod msr {
    /// 64-bit mode.
    pub const SF: u64 = 1 << 63;
    /// Hypervisor state.
    pub const HV: u64 = 1 << 60;
    /// Transactional memory: state and availability.
    pub const TS: u64 = 6 << 32;
    /// Vector instructions available.
    pub const VEC: u64 = 1 << 25;
    /// VSX instructions available.
    pub const VSX: u64 = 1 << 23;
    /// External interrupts and decrementer enabled.
    pub const EE: u64 = 1 << 15;
    /// Problem state.
    pub const PR: u64 = 1 << 14;
    /// Floating-point instructions available.
    pub const FP: u64 = 1 << 13;
    /// Machine check enabled.
    pub const ME: u64 = 1 << 12;
    /// Instruction relocation.
    pub const IR: u64 = 1 << 5;
    /// Data relocation.
    pub const DR: u64 = 1 << 4;
    /// Recoverable interrupt: SRR0 and SRR1 hold nothing that is needed.
    pub const RI: u64 = 1 << 1;
    /// Little-endian.
    pub const LE: u64 = 1;
    /// The bits of SRR1 and HSRR1 that are not the MSR's but tell of the interrupt: 33 to 36, 42 to 47.
    pub const STATUS: u64 = 0x783f_0000;
}

/// Bits of the LPCR that say how a guest takes its interrupts.
pub mod lpcr {
    /// Interrupts are taken little-endian.
    pub const ILE: u64 = 1 << 25;
    /// Where interrupts are taken when relocation is on, two bits.
    pub const AIL_SHIFT: u32 = 23;
    /// The whole field.
    pub const AIL: u64 = 3 << AIL_SHIFT;
}

/// Interrupt vectors that the hypervisor delivers to guests.
pub mod vector {
    /// Machine check.
    pub const MACHINE_CHECK: u64 = 0x200;
    /// Data storage.
    pub const DATA_STORAGE: u64 = 0x300;
    /// Data segment.
    pub const DATA_SEGMENT: u64 = 0x380;
    /// Instruction storage.
    pub const INSTRUCTION_STORAGE: u64 = 0x400;
    /// Instruction segment.
    pub const INSTRUCTION_SEGMENT: u64 = 0x480;
    /// External.
    pub const EXTERNAL: u64 = 0x500;
    /// Program.
    pub const PROGRAM: u64 = 0x700;
}

/// SRR1 of a program interrupt: the instruction is illegal.
pub const ILLEGAL_INSTRUCTION: u64 = 0x8_0000;

/// PPR of a thread that has medium priority, the usual one.
pub const PPR_MEDIUM: u64 = 4 << 50;

/// The byte order of a vCPU's first instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Endian {
    /// The most significant byte first: what POWER has without being told.
    #[default]
    Big,
    /// The least significant byte first.
    Little,
}

/// What every exit from a guest saves and every entry loads.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Registers {
    /// r0 to r2.
    pub low: [u64; 3],
    /// r3 to r12.
    pub frame: Frame,
    /// r13 to r31.
    pub high: [u64; 19],
    /// Link register.
    pub lr: u64,
    /// Count register.
    pub ctr: u64,
    /// Fixed-point exception register.
    pub xer: u64,
    /// Condition register.
    pub cr: u64,
    /// Come-from address: else it would show where the hypervisor last branched.
    pub cfar: u64,
    /// Program priority: the hypervisor's loops change it.
    pub ppr: u64,
    /// Address of the next instruction.
    pub pc: u64,
    /// The MSR. After an exit it is SRR1 or HSRR1 as hardware left it, until [`Registers::take_status`].
    pub msr: u64,
}

/// An interrupt to be delivered to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its vector: the effective address that is entered, before `LPCR[AIL]` moves it.
    pub vector: u64,
    /// SRR1 bits 33-36 and 42-47.
    pub status: u64,
    /// DAR, where the interrupt sets it.
    pub dar: Option<u64>,
    /// DSISR, where the interrupt sets it.
    pub dsisr: Option<u64>,
}

/// What an interrupt leaves in SRR0 and SRR1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveRestore {
    /// Where the guest was.
    pub srr0: u64,
    /// Its MSR, and the interrupt's status.
    pub srr1: u64,
}

impl Registers {
    /// Registers of a vCPU that never ran: all zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            low: [0; 3],
            frame: Frame { regs: [0; 10] },
            high: [0; 19],
            lr: 0,
            ctr: 0,
            xer: 0,
            cr: 0,
            cfar: 0,
            ppr: 0,
            pc: 0,
            msr: 0,
        }
    }

    /// Registers at a partition's first instruction: 64-bit, translation off, `r3` set, the rest zero.
    #[must_use]
    pub const fn at_start(entry: u64, r3: u64, endian: Endian) -> Self {
        let mut registers = Self::new();
        registers.pc = entry;
        registers.ppr = PPR_MEDIUM;
        registers.msr = match endian {
            Endian::Big => msr::SF | msr::ME,
            Endian::Little => msr::SF | msr::ME | msr::LE,
        };
        registers.frame.regs[0] = r3;
        registers
    }

    /// Takes the interrupt's status out of what hardware left in SRR1 or HSRR1; what stays is an MSR that can
    /// be entered with. Hypervisor state is never one a guest was in, and machine checks stay enabled
    /// whatever the guest did.
    #[must_use]
    pub const fn take_status(&mut self) -> u64 {
        let status = self.msr & msr::STATUS;
        self.msr = self.msr & !(msr::STATUS | msr::HV | msr::TS) | msr::ME;
        status
    }

    /// Puts the guest at its own interrupt vector, as hardware would have, and says what its SRR0 and SRR1
    /// now are. DAR and DSISR are left to who can write them.
    #[must_use]
    pub const fn deliver(&mut self, interrupt: Interrupt, lpcr: u64) -> SaveRestore {
        let saved = SaveRestore {
            srr0: self.pc,
            srr1: self.msr & !msr::STATUS | interrupt.status & msr::STATUS,
        };
        let relocated = msr::IR | msr::DR;
        // AIL moves interrupts only when translation was on both ways, and never a machine check.
        let ail = if self.msr & relocated == relocated && interrupt.vector != vector::MACHINE_CHECK
        {
            lpcr >> lpcr::AIL_SHIFT & 3
        } else {
            0
        };
        let (base, translation) = match ail {
            2 => (0x1_8000, relocated),
            3 => (0xc000_0000_0000_4000, relocated),
            _ => (0, 0),
        };
        let endian = if lpcr & lpcr::ILE != 0 { msr::LE } else { 0 };
        self.pc = base + interrupt.vector;
        self.msr = msr::SF | msr::ME | translation | endian;
        saved
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls a macro with every SPR of a guest that has no other place: a field of [`Sprs`] and the register's
/// name in the architecture module. SRR0, SRR1, DAR and DSISR stay in the processor while the vCPU does,
/// and interrupts are delivered into them. Registers with several names come under all of them, since an
/// emulator may keep a register for each; the name that sets all of it comes last, so that on hardware it has
/// the last word.
macro_rules! guest_sprs {
    ($with:ident) => {
        $with! {
            srr0 = SRR0, srr1 = SRR1, dar = DAR, dsisr = DSISR,
            sprg0 = SPRG0, sprg1 = SPRG1, sprg2 = SPRG2, sprg3 = SPRG3,
            acop = ACOP, ear = EAR, dexcr = DEXCR, spr885 = SPR885,
            tacr = TACR, tcscr = TCSCR, csigr = CSIGR,
            usier = USIER, usier2 = USIER2, usier3 = USIER3, ummcr3 = UMMCR3,
            bescrs = BESCRS, bescrsu = BESCRSU, bescrr = BESCRR, bescrru = BESCRRU,
            pidr = PIDR, tidr = TIDR, dscr = DSCR, fscr = FSCR, tar = TAR, vrsave = VRSAVE, pspb = PSPB,
            amr = AMR, iamr = IAMR, uamor = UAMOR,
            ebbhr = EBBHR, ebbrr = EBBRR, bescr = BESCR,
            ciabr = CIABR, dawr0 = DAWR0, dawrx0 = DAWRX0, dawr1 = DAWR1, dawrx1 = DAWRX1,
            vtb = VTB, purr = PURR, spurr = SPURR, wort = WORT,
            hashkeyr = HASHKEYR, hashpkeyr = HASHPKEYR,
            mmcr1 = MMCR1, mmcr2 = MMCR2, mmcr3 = MMCR3, mmcra = MMCRA, mmcrs = MMCRS,
            pmc1 = PMC1, pmc2 = PMC2, pmc3 = PMC3, pmc4 = PMC4, pmc5 = PMC5, pmc6 = PMC6,
            spmc1 = SPMC1, spmc2 = SPMC2,
            siar = SIAR, sdar = SDAR, sier = SIER, sier2 = SIER2, sier3 = SIER3,
        }
    };
}

#[cfg(target_os = "none")]
pub(crate) use guest_sprs;

macro_rules! define_sprs {
    ($($field:ident = $name:ident,)*) => {
        /// SPRs that are moved by nothing but a read and a write, each under its own name.
        #[derive(Clone, Debug, Default)]
        #[allow(missing_docs, reason = "the names are the ISA's")]
        pub struct Sprs {
            $(pub $field: u64,)*
        }
    };
}

guest_sprs!(define_sprs);

/// One entry of the SLB: the operands of the `slbmte` that makes it; `esid` carries V and the index. Zero:
/// not valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlbEntry {
    /// RB: ESID, V, index.
    pub esid: u64,
    /// RS: B, VSID, keys, N, L, C, LP.
    pub vsid: u64,
}

/// Entries of the SLB of every POWER server processor since POWER6.
pub const SLB_ENTRIES: usize = 32;

/// What another partition's turn would overwrite.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Context {
    /// VSX registers; the first halves of the lower 32 are the floating-point registers, the upper 32 are the
    /// vector registers.
    pub vsr: [[u64; 2]; 64],
    /// Vector status and control, in the last word.
    pub vscr: [u64; 2],
    /// Floating-point status and control.
    pub fpscr: u64,
    /// The SLB.
    pub slb: [SlbEntry; SLB_ENTRIES],
    /// The SPRs that are moved as they are.
    pub sprs: Sprs,
    /// TFHAR, TFIAR, TEXASR: reached with MSR\[TM\] set alone, and not at all where there are no transactions.
    pub transaction: [u64; 3],
    /// MMCR0: its freeze bit is set first and its own value comes last, so that no counter runs in between.
    pub mmcr0: u64,
    /// The run latch.
    pub ctrl: u64,
    /// Time base at which DEC passes from 0 to -1: it goes on counting while others run.
    pub decrementer: u64,
}

impl Context {
    /// A vCPU that never ran: all zero, and a DEC that has long to go.
    #[must_use]
    pub const fn new(now: u64) -> Self {
        Self {
            vsr: [[0; 2]; 64],
            vscr: [0; 2],
            fpscr: 0,
            slb: [SlbEntry { esid: 0, vsid: 0 }; SLB_ENTRIES],
            sprs: ZERO_SPRS,
            transaction: [0; 3],
            mmcr0: MMCR0_FROZEN,
            ctrl: 1,
            // The value of a 32-bit DEC furthest from an interrupt.
            decrementer: now.wrapping_add(0x7fff_ffff),
        }
    }
}

/// `MMCR0[FC]`: no counter counts.
pub const MMCR0_FROZEN: u64 = 0x8000_0000;

macro_rules! zero_sprs {
    ($($field:ident = $name:ident,)*) => {
        const ZERO_SPRS: Sprs = Sprs { $($field: 0,)* };
    };
}

guest_sprs!(zero_sprs);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pc: u64, msr: u64) -> Registers {
        let mut registers = Registers::at_start(pc, 0, Endian::Big);
        registers.msr = msr;
        registers
    }

    const ILLEGAL: Interrupt = Interrupt {
        vector: vector::PROGRAM,
        status: ILLEGAL_INSTRUCTION,
        dar: None,
        dsisr: None,
    };

    #[test]
    fn the_layout_has_r0_to_r31_in_a_row() {
        assert_eq!(core::mem::offset_of!(Registers, frame), 3 * 8);
        assert_eq!(core::mem::offset_of!(Registers, high), 13 * 8);
        assert_eq!(core::mem::offset_of!(Registers, lr), 32 * 8);
    }

    #[test]
    fn a_guest_starts_in_its_byte_order() {
        let start = |endian| Registers::at_start(0x100, 7, endian);
        assert_eq!(start(Endian::Big).msr, msr::SF | msr::ME);
        assert_eq!(start(Endian::Little).msr, msr::SF | msr::ME | msr::LE);
        assert_eq!(start(Endian::Little).frame.regs[0], 7);
    }

    #[test]
    fn a_real_mode_guest_goes_to_its_low_vector() {
        let mut guest = at(0x1234, msr::SF | msr::ME | msr::EE | msr::RI);
        // AIL = 3 does not matter while translation is off.
        let saved = guest.deliver(ILLEGAL, 3 << lpcr::AIL_SHIFT);
        assert_eq!((guest.pc, guest.msr), (0x700, msr::SF | msr::ME));
        let before = msr::SF | msr::ME | msr::EE | msr::RI;
        assert_eq!(
            saved,
            SaveRestore {
                srr0: 0x1234,
                srr1: before | ILLEGAL_INSTRUCTION
            }
        );
    }

    #[test]
    fn the_lpcr_is_numbered_from_its_upper_end() {
        // ISA 2.07 Book III-S section 2.2: ILE is bit 38, AIL bits 39 and 40.
        assert_eq!(lpcr::ILE, 1 << (63 - 38));
        assert_eq!(3 << lpcr::AIL_SHIFT, 3_u64 << (63 - 40));
    }

    #[test]
    fn ail_and_ile_move_a_relocated_guest() {
        let user =
            msr::SF | msr::ME | msr::EE | msr::PR | msr::FP | msr::IR | msr::DR | msr::RI | msr::LE;
        let mut guest = at(0x1000, user);
        let saved = guest.deliver(ILLEGAL, 3 << lpcr::AIL_SHIFT | lpcr::ILE);
        assert_eq!(guest.pc, 0xc000_0000_0000_4700);
        assert_eq!(guest.msr, msr::SF | msr::ME | msr::IR | msr::DR | msr::LE);
        assert_eq!(saved.srr1, user | ILLEGAL_INSTRUCTION);

        let mut guest = at(0x1000, user);
        let _ = guest.deliver(ILLEGAL, 2 << lpcr::AIL_SHIFT);
        assert_eq!((guest.pc, guest.msr & msr::LE), (0x1_8700, 0));

        let mut guest = at(0x1000, user);
        let check = Interrupt {
            vector: vector::MACHINE_CHECK,
            status: 0,
            dar: None,
            dsisr: None,
        };
        let _ = guest.deliver(check, 3 << lpcr::AIL_SHIFT);
        assert_eq!((guest.pc, guest.msr), (0x200, msr::SF | msr::ME));
    }

    #[test]
    fn what_hardware_leaves_is_split_into_status_and_msr() {
        let mut guest = at(
            0,
            msr::SF | msr::HV | msr::IR | msr::DR | 0x4000_0000 | 0x0010_0000,
        );
        assert_eq!(guest.take_status(), 0x4010_0000);
        assert_eq!(guest.msr, msr::SF | msr::ME | msr::IR | msr::DR);
    }
}
