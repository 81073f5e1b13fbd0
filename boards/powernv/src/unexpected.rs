//! The end of a run that the hypervisor's own code brought about: an interrupt out of hypervisor state.

use core::sync::atomic::{AtomicU64, Ordering};

use realhpt::arch::powerpc64::spr;

use crate::cpu::Cpu;
use crate::{end, logger};

/// PIR + 1 of the CPU that had the first one: another that comes to it while the first is being logged can only
/// switch off. (One of another CPU's is stopped by the log.)
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Logs all registers and ends the run as a failure.
///
/// # Safety
/// Called by the vectors, with the registers saved in the CPU's area.
pub(crate) unsafe extern "C" fn interrupt(cpu: *mut Cpu) -> ! {
    let own = spr::PIR.read() + 1;
    if BEGUN.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst) == Err(own) {
        end::power_off();
    }
    // SAFETY: this CPU does not go on.
    unsafe { logger::seize() };
    // SAFETY: the area of this CPU, which runs nothing else.
    let cpu = unsafe { &*cpu };
    let registers = &cpu.registers;
    defmt::error!(
        "unexpected interrupt {=u64:#x} in hypervisor state at {=u64:#x}",
        cpu.vector,
        registers.pc
    );
    for (row, four) in gprs(registers).as_chunks::<4>().0.iter().enumerate() {
        let [a, b, c, d] = *four;
        defmt::error!(
            "r{=usize}.. {=u64:#018x} {=u64:#018x} {=u64:#018x} {=u64:#018x}",
            row * 4,
            a,
            b,
            c,
            d
        );
    }
    defmt::error!(
        "LR {=u64:#018x} CTR {=u64:#018x} CR {=u64:#010x} XER {=u64:#010x} CFAR {=u64:#018x}",
        registers.lr,
        registers.ctr,
        registers.cr,
        registers.xer,
        registers.cfar
    );
    defmt::error!(
        "SRR0 {=u64:#018x} SRR1 {=u64:#018x} HSRR0 {=u64:#018x} HSRR1 {=u64:#018x}",
        spr::SRR0.read(),
        spr::SRR1.read(),
        spr::HSRR0.read(),
        spr::HSRR1.read()
    );
    defmt::error!(
        "DAR {=u64:#018x} DSISR {=u64:#010x} HDAR {=u64:#018x} HDSISR {=u64:#010x}",
        spr::DAR.read(),
        spr::DSISR.read(),
        spr::HDAR.read(),
        spr::HDSISR.read()
    );
    defmt::error!(
        "MSR {=u64:#018x} LPCR {=u64:#018x} LPIDR {=u64}",
        registers.msr,
        spr::LPCR.read(),
        spr::LPIDR.read()
    );
    end::fail()
}

/// r0 to r31 in a row.
fn gprs(registers: &realhpt::lpar::vcpu::Registers) -> [u64; 32] {
    let mut gprs = [0; 32];
    let all = registers
        .low
        .iter()
        .chain(&registers.frame.regs)
        .chain(&registers.high);
    for (gpr, value) in gprs.iter_mut().zip(all) {
        *gpr = *value;
    }
    gprs
}
