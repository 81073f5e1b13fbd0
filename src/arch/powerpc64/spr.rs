//! Special purpose registers, each by its name.
//!
//! Only the registers named here can be reached, so a number is never wrong at a place of use. Numbers and
//! roles: ISA 3.0B Book III section 4.4, with POWER8's and POWER10's own where the line says so. In
//! hypervisor state an `mfspr` of a register that the processor lacks does nothing, and so does `mtspr`:
//! the lists of [`super::context`] rely on that.

use core::arch::asm;

/// The special purpose register number `N`.
#[derive(Clone, Copy, Debug)]
pub struct Spr<const N: u16>(());

impl<const N: u16> Spr<N> {
    /// The register's content; 0 where the processor has no such register.
    #[inline]
    #[must_use]
    pub fn read(self) -> u64 {
        let value: u64;
        // SAFETY: reading any of the registers that this module names has no side effect.
        unsafe {
            asm!("li {value}, 0", "mfspr {value}, {n}", value = out(reg) value, n = const N,
                options(nomem, nostack, preserves_flags));
        }
        value
    }

    /// Sets the register.
    ///
    /// # Safety
    /// The caller answers for what the register does: many of them change translation, interrupts or what
    /// the interrupted guest will find.
    #[inline]
    pub unsafe fn write(self, value: u64) {
        // SAFETY: the caller's.
        unsafe {
            asm!("mtspr {n}, {value}", value = in(reg) value, n = const N, options(nostack, preserves_flags));
        }
    }
}

macro_rules! sprs {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: Spr<$number> = Spr(());)*
    };
}

sprs! {
    /// Data storage interrupt status.
    DSISR = 18;
    /// Data address.
    DAR = 19;
    /// Decrementer.
    DEC = 22;
    /// HPT origin and size (POWER8).
    SDR1 = 25;
    /// Save/restore register 0.
    SRR0 = 26;
    /// Save/restore register 1.
    SRR1 = 27;
    /// Come-from address.
    CFAR = 28;
    /// Authority mask.
    AMR = 29;
    /// Process id.
    PIDR = 48;
    /// Instruction authority mask.
    IAMR = 61;
    /// Control (run latch), to read.
    CTRL_READ = 136;
    /// Thread id (POWER9).
    TIDR = 144;
    /// Control (run latch), to write.
    CTRL_WRITE = 152;
    /// Facility status and control.
    FSCR = 153;
    /// User authority mask override.
    UAMOR = 157;
    /// Problem state priority boost.
    PSPB = 159;
    /// Data watch point.
    DAWR0 = 180;
    /// Data watch point (POWER10).
    DAWR1 = 181;
    /// Data watch point extension.
    DAWRX0 = 188;
    /// Data watch point extension (POWER10).
    DAWRX1 = 189;
    /// Completed instruction breakpoint.
    CIABR = 187;
    /// Hypervisor facility status and control.
    HFSCR = 190;
    /// Vector save.
    VRSAVE = 256;
    /// Time base.
    TB = 268;
    /// Software use.
    SPRG0 = 272;
    /// Software use.
    SPRG1 = 273;
    /// Software use.
    SPRG2 = 274;
    /// Software use; problem state reads it.
    SPRG3 = 275;
    /// Processor version.
    PVR = 287;
    /// Hypervisor software use: the CPU's area.
    HSPRG0 = 304;
    /// Hypervisor software use: scratch of the vectors.
    HSPRG1 = 305;
    /// Hypervisor data storage interrupt status.
    HDSISR = 306;
    /// Hypervisor data address.
    HDAR = 307;
    /// Scaled processor utilisation.
    SPURR = 308;
    /// Processor utilisation.
    PURR = 309;
    /// Hypervisor decrementer.
    HDEC = 310;
    /// Hypervisor real mode offset.
    HRMOR = 313;
    /// Hypervisor save/restore register 0.
    HSRR0 = 314;
    /// Hypervisor save/restore register 1.
    HSRR1 = 315;
    /// Logical partitioning control.
    LPCR = 318;
    /// Logical partition id.
    LPIDR = 319;
    /// Hypervisor maintenance interrupt causes; a write ANDs.
    HMER = 336;
    /// Hypervisor maintenance interrupt enables.
    HMEER = 337;
    /// Processor compatibility.
    PCR = 338;
    /// Hypervisor emulation instruction.
    HEIR = 339;
    /// Which bits of the authority masks a guest may set.
    AMOR = 349;
    /// Partition table control (POWER9 on).
    PTCR = 464;
    /// Key of the privileged hash instructions (POWER10).
    HASHKEYR = 468;
    /// Key of the problem state's hash instructions (POWER10).
    HASHPKEYR = 469;
    /// Sampled instruction event (POWER10).
    SIER2 = 752;
    /// Sampled instruction event (POWER10).
    SIER3 = 753;
    /// Performance monitor control (POWER10).
    MMCR3 = 754;
    /// Sampled instruction event.
    SIER = 784;
    /// Performance monitor control.
    MMCR2 = 785;
    /// Performance monitor control.
    MMCRA = 786;
    /// Performance monitor counter.
    PMC1 = 787;
    /// Performance monitor counter.
    PMC2 = 788;
    /// Performance monitor counter.
    PMC3 = 789;
    /// Performance monitor counter.
    PMC4 = 790;
    /// Performance monitor counter.
    PMC5 = 791;
    /// Performance monitor counter.
    PMC6 = 792;
    /// Performance monitor control.
    MMCR0 = 795;
    /// Sampled instruction address.
    SIAR = 796;
    /// Sampled data address.
    SDAR = 797;
    /// Performance monitor control.
    MMCR1 = 798;
    /// Authority mask of coprocessors (POWER8).
    ACOP = 31;
    /// External access.
    EAR = 282;
    /// Sampled instruction event, its problem-state name (POWER10).
    USIER2 = 736;
    /// Sampled instruction event, its problem-state name (POWER10).
    USIER3 = 737;
    /// Performance monitor control, its problem-state name (POWER10).
    UMMCR3 = 738;
    /// Sampled instruction event, its problem-state name.
    USIER = 768;
    /// Branch event status: sets bits of BESCR.
    BESCRS = 800;
    /// Branch event status: sets bits of the upper half of BESCR.
    BESCRSU = 801;
    /// Branch event status: resets bits of BESCR.
    BESCRR = 802;
    /// Branch event status: resets bits of the upper half of BESCR.
    BESCRRU = 803;
    /// Dynamic execution control (POWER10).
    DEXCR = 828;
    /// A register that QEMU's POWER9 and POWER10 let a guest write, and the ISA has no name for.
    SPR885 = 885;
    /// Transaction abort control (POWER8).
    TACR = 888;
    /// Thread control (POWER8).
    TCSCR = 889;
    /// Coprocessor signature (POWER8).
    CSIGR = 890;
    /// Event-based branch handler.
    EBBHR = 804;
    /// Event-based branch return.
    EBBRR = 805;
    /// Branch event status and control.
    BESCR = 806;
    /// Target address.
    TAR = 815;
    /// Access segment descriptor: the SLB VSID doubleword of a storage fault (POWER9 on).
    ASDR = 816;
    /// Virtual time base.
    VTB = 849;
    /// Supervisor performance monitor control (POWER8).
    MMCRS = 894;
    /// Supervisor performance monitor counter (POWER8).
    SPMC1 = 892;
    /// Supervisor performance monitor counter (POWER8).
    SPMC2 = 893;
    /// Workload optimisation (POWER8).
    WORT = 895;
    /// Data stream control.
    DSCR = 17;
    /// Program priority.
    PPR = 896;
    /// Processor id.
    PIR = 1023;
}
