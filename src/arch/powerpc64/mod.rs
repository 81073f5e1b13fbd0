//! POWER itself: the instructions behind [`Machine`], and what only a hypervisor in real mode does.
//!
//! [`Processor`] is the engine's machine; [`spr`] names the special purpose registers; [`slb`] and
//! [`context`] move what a guest leaves in the processor; [`ci`] reaches devices past the caches; [`cache`]
//! does what is done by cache blocks. One instruction sequence is one function, and all of them keep
//! `asm!`'s default clobber of memory unless they touch none: the order of loads and stores around them is
//! what they are for.

pub mod cache;
pub mod ci;
pub mod context;
pub mod slb;
pub mod spr;

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{GuestRegister, MAX_CPUS, Machine};
use crate::addr::{HostReal, Lpid};
use crate::sync::BeDword;

/// The time base.
#[inline]
#[must_use]
pub fn time_base() -> u64 {
    spr::TB.read()
}

/// One turn of a spin loop: low SMT priority while the core has others to run, then what it was. (What
/// `core::hint::spin_loop` does on POWER is nothing.)
///
/// What it was is the guest's own in a hypercall, which goes back to it without another look: PPR is a register
/// that no call is to change. `or 1,1,1` sets the priority in it to low, `mtspr` puts all of it back.
#[inline]
pub fn relax() {
    // SAFETY: changes the thread's priority, and puts it back.
    unsafe {
        asm!("mfspr {ppr}, 896", "or 1, 1, 1", "mtspr 896, {ppr}", ppr = out(reg) _,
            options(nomem, nostack, preserves_flags));
    }
}

/// Waits until the time base has come to `until`, at low SMT priority. The priority is set once, before and
/// after: an emulator may take each hint as a reason to stop and look around.
pub fn wait_until(until: u64) {
    // SAFETY: only hints at the thread's priority.
    unsafe { asm!("or 1, 1, 1", options(nomem, nostack, preserves_flags)) };
    while time_base() < until {}
    // SAFETY: as above.
    unsafe { asm!("or 2, 2, 2", options(nomem, nostack, preserves_flags)) };
}

/// Which form of `tlbie` the processor has for a whole partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// ISA 2.07: none. Each core forgets for itself, a congruence class at a time.
    V2_07,
    /// ISA 3.0 and later: RIC = 2.
    V3_0,
}

/// The processors under the engine.
#[derive(Debug)]
pub struct Processor {
    isa: Isa,
    /// How each CPU is kicked: 0 until it is known, and then what [`Processor::set_kick`] was given.
    kicks: [AtomicU64; MAX_CPUS],
}

/// RB of a `tlbie` or `tlbiel` that means every entry of one LPID (IS = 0b10).
const WHOLE_LPID: u64 = 0x800;
/// Version in the PVR: POWER9.
const PVR_POWER9: u64 = 0x4e;
/// Version in the PVR: POWER10, the first with ISA 3.1.
const PVR_POWER10: u64 = 0x80;
/// Congruence classes of POWER8's TLB.
const POWER8_TLB_SETS: u64 = 512;

impl Processor {
    /// A processor of that ISA.
    #[must_use]
    pub const fn new(isa: Isa) -> Self {
        Self {
            isa,
            kicks: [const { AtomicU64::new(0) }; MAX_CPUS],
        }
    }

    /// Says how a CPU is kicked. POWER8: host real address of the register that brings it an interprocessor
    /// interrupt (MFRR of its ICP). From POWER9 on: the message that `msgsnd` takes.
    pub fn set_kick(&self, cpu: usize, kick: u64) {
        if let Some(known) = self.kicks.get(cpu) {
            known.store(kick, Ordering::Relaxed);
        }
    }
}

/// Priority of the interprocessor interrupt that a kick is on POWER8. Less favoured ones are held back.
pub const KICK_PRIORITY: u8 = 4;
/// Type of the message that a kick is from POWER9 on: directed hypervisor doorbell; the thread's PIR is added.
pub const KICK_MESSAGE: u64 = 5 << 27;

impl Machine for Processor {
    #[inline]
    fn ptesync(&self) {
        // SAFETY: a barrier.
        unsafe { asm!("ptesync", options(nostack, preserves_flags)) };
    }

    // RB and RS go in as they are; the two-operand form has RIC, PRS and R zero in ISA 3.0, which is
    // also ISA 2.07's encoding: one entry of a partition that uses an HPT.
    #[inline]
    fn tlbie(&self, rb: u64, lpid: Lpid) {
        // SAFETY: forgets translations; the table they came from is still there to be walked.
        unsafe {
            asm!("tlbie {rb}, {rs}", rb = in(reg) rb, rs = in(reg) u64::from(lpid.raw()),
                options(nostack, preserves_flags));
        }
    }

    // tlbsync waits for the tlbie of this thread on all others, eieio orders it after them, and the
    // ptesync makes what comes later wait for it (ISA 3.0B Book III section 5.9.3.3).
    #[inline]
    fn tlbsync(&self) {
        // SAFETY: barriers.
        unsafe {
            asm!(
                "eieio",
                "tlbsync",
                "ptesync",
                options(nostack, preserves_flags)
            )
        };
    }

    // The one-operand form has RS = r0, RIC, PRS and R zero: r0 is zero, so it says the same on every
    // processor: one entry, from an HPT, of the partition that LPIDR names.
    #[inline]
    fn tlbiel(&self, rb: u64) {
        // SAFETY: forgets translations.
        unsafe {
            asm!("tlbiel {rb}", rb = in(reg_nonzero) rb, in("r0") 0_u64,
                options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn tlbiel_sync(&self) {
        self.ptesync();
    }

    fn forgets_everywhere(&self) -> bool {
        self.isa == Isa::V3_0
    }

    // The barrier comes first: what was stored before the kick is seen by whoever it makes look. A message
    // (`msgsnd`, ISA 3.0B Book III section 10.3) waits for a thread that is in the hypervisor until it
    // enters a guest. POWER8's reach the threads of the same core alone, so there it is an interrupt. (The
    // assembler has no `msgsnd` for this target: the word is that of `msgsnd 4`.)
    fn kick(&self, cpu: usize) {
        let kick = self
            .kicks
            .get(cpu)
            .map_or(0, |kick| kick.load(Ordering::Relaxed));
        if kick == 0 {
            return;
        }
        // SAFETY: a barrier.
        unsafe { asm!("sync", options(nostack, preserves_flags)) };
        match self.isa {
            // SAFETY: the register that the board named, which takes a priority.
            Isa::V2_07 => unsafe { ci::store_u8(kick, KICK_PRIORITY) },
            // SAFETY: sends a message.
            Isa::V3_0 => unsafe {
                asm!(".long 0x7c00219c", in("r4") kick, options(nostack, preserves_flags));
            },
        }
    }

    fn flush_lpid(&self, lpid: Lpid) {
        match self.isa {
            // RIC = 2 drops the TLB's entries and the caches of the partition table with them; PRS = 0, R = 0
            // say that the partition's own translations are meant and that they come from an HPT.
            Isa::V3_0 => {
                // SAFETY: forgets translations.
                unsafe {
                    asm!("ptesync", "tlbie {rb}, {rs}, 2, 0, 0", "eieio", "tlbsync", "ptesync",
                        rb = in(reg) WHOLE_LPID, rs = in(reg) u64::from(lpid.raw()),
                        options(nostack, preserves_flags));
                }
            }
            // POWER8's tlbie has no such form. tlbiel has, for the LPID that LPIDR holds, on this core, one
            // congruence class at a time. The hypervisor's own accesses do not translate, so LPIDR may hold
            // another partition's number meanwhile.
            Isa::V2_07 => {
                let current = spr::LPIDR.read();
                set_lpidr(lpid);
                self.ptesync();
                for set in 0..POWER8_TLB_SETS {
                    // SAFETY: forgets translations.
                    unsafe {
                        asm!("tlbiel {rb}", rb = in(reg) WHOLE_LPID | set << 12,
                            options(nostack, preserves_flags));
                    }
                }
                self.ptesync();
                // SAFETY: what it was.
                unsafe { spr::LPIDR.write(current) };
                isync();
            }
        }
    }

    #[inline]
    fn eieio(&self) {
        // SAFETY: a barrier.
        unsafe { asm!("eieio", options(nostack, preserves_flags)) };
    }

    // The one store that changes a byte and nothing beside it. Hardware stores R and C the same way, so each
    // of the two is written by whoever means it and never by who means the other (ISA 3.0B Book III section
    // 5.10.1.2, "Resetting the Reference Bit").
    #[inline]
    fn store_byte(&self, dword: &BeDword, number: usize, value: u8) {
        // SAFETY: inside the doubleword.
        let at = unsafe { (&raw const *dword).cast::<u8>().add(number & 7) };
        // SAFETY: a store to memory that the compiler takes for shared and changing: it is an atomic's.
        unsafe {
            asm!("stb {value}, 0({at})", value = in(reg) u64::from(value),
                at = in(reg_nonzero) at, options(nostack, preserves_flags));
        }
    }

    #[inline]
    fn load(&self, at: HostReal) -> u64 {
        // SAFETY: `at` came from a partition's region, which is memory that the board set aside for it and of
        // which no Rust reference exists; it is 8-byte aligned. With translation off the address is the
        // pointer.
        unsafe { ptr::with_exposed_provenance::<u64>(address(at)).read_volatile() }
    }

    #[inline]
    fn store(&self, at: HostReal, value: u64) {
        // SAFETY: as in `load`.
        unsafe { ptr::with_exposed_provenance_mut::<u64>(address(at)).write_volatile(value) };
    }

    fn store_word(&self, at: HostReal, value: u32) {
        // SAFETY: as in `load`; it is 4-byte aligned.
        unsafe { ptr::with_exposed_provenance_mut::<u32>(address(at)).write_volatile(value) };
    }

    // POWER9's watchpoints stop the machine where one meets memory that is not cached (an erratum), so no guest gets
    // one there.
    fn has(&self, register: GuestRegister) -> bool {
        let version = spr::PVR.read() >> 16 & 0xffff;
        match register {
            GuestRegister::Sprg0 | GuestRegister::Ciabr => true,
            GuestRegister::Dawr0 | GuestRegister::Dawrx0 => version != PVR_POWER9,
            GuestRegister::Dawr1 | GuestRegister::Dawrx1 => version >= PVR_POWER10,
        }
    }

    fn set(&self, register: GuestRegister, value: u64) {
        match register {
            // SAFETY: in each case a register of the guest's own, that this processor has and that the hypervisor does
            // not use; the hypercall has checked that it watches no hypervisor state.
            GuestRegister::Sprg0 => unsafe { spr::SPRG0.write(value) },
            // SAFETY: as above.
            GuestRegister::Ciabr => unsafe { spr::CIABR.write(value) },
            // SAFETY: as above.
            GuestRegister::Dawr0 => unsafe { spr::DAWR0.write(value) },
            // SAFETY: as above.
            GuestRegister::Dawrx0 => unsafe { spr::DAWRX0.write(value) },
            // SAFETY: as above.
            GuestRegister::Dawr1 => unsafe { spr::DAWR1.write(value) },
            // SAFETY: as above.
            GuestRegister::Dawrx1 => unsafe { spr::DAWRX1.write(value) },
        }
    }

    fn time_base(&self) -> u64 {
        time_base()
    }

    fn zero(&self, at: HostReal, bytes: u64) {
        // SAFETY: as in `load`; the caller keeps to whole blocks.
        unsafe { cache::zero(at, bytes) };
    }

    fn synchronise_instructions(&self, at: HostReal, bytes: u64) {
        cache::synchronise_instructions(at, bytes);
    }
}

/// The address as a pointer has it: `usize` has 64 bits here.
#[expect(
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits on this architecture"
)]
const fn address(at: HostReal) -> usize {
    at.raw() as usize
}

/// Waits until all instructions before it are done with their context: after changes to SPRs that take part
/// in translation, and to the SLB.
#[inline]
pub fn isync() {
    // SAFETY: a barrier.
    unsafe { asm!("isync", options(nostack, preserves_flags)) };
}

/// Sets LPIDR: the partition that guest state, `tlbiel` and the SLB are for from now on.
#[inline]
pub fn set_lpidr(lpid: Lpid) {
    // SAFETY: nothing that the hypervisor itself does is translated.
    unsafe { spr::LPIDR.write(u64::from(lpid.raw())) };
    isync();
}

/// Gives up a reservation that a guest or the hypervisor may hold: a conditional store to a place of no
/// other use. Else the next guest's `stdcx.` could succeed on it.
#[inline]
pub fn drop_reservation() {
    let mut scratch = 0_u64;
    // SAFETY: stores to `scratch` or not.
    unsafe {
        asm!("stdcx. {zero}, 0, {at}", zero = in(reg) 0_u64, at = in(reg) &raw mut scratch,
            out("cr0") _, options(nostack));
    }
}

/// Lets machine checks come as interrupts, where skiboot left them to stop the processor. Only an `rfid`
/// can change `MSR[ME]`: this one goes to the instruction after it, whose distance from where `bl` left
/// the address the assembler knows, with an MSR that differs in ME alone.
pub fn enable_machine_check() {
    // SAFETY: SRR0 and SRR1 hold nothing yet: no guest has run.
    unsafe {
        asm!(
            "mfmsr {msr}",
            "ori {msr}, {msr}, 0x1000",
            "bl 2f",
            "2:",
            "mflr {here}",
            "addi {here}, {here}, 3f - 2b",
            "mtspr 26, {here}",
            "mtspr 27, {msr}",
            "rfid",
            "3:",
            msr = out(reg) _, here = out(reg) _, out("lr") _, options(nostack),
        );
    }
}
