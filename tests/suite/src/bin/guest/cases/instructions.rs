//! Instructions that a guest may not execute, or that its processor does not have. None of them may reach the
//! hypervisor's state or end anybody.

use core::arch::naked_asm;

use realhpt_pseries::{
    abi::Status,
    cpu::Msr,
    guard::{self, Fault},
};

use crate::{
    bench::Bench,
    code::{self, execute, mfspr, mtspr, word_of},
    registers::is_power8,
    trouble::{Must as _, Outcome, faulted, holds, same},
};

/// SRR1 of a program interrupt: illegal, privileged, trap.
const ILLEGAL: u64 = 0x8_0000;
const PRIVILEGED: u64 = 0x4_0000;
const TRAP: u64 = 0x2_0000;
/// All facilities that the MSR makes available.
const FACILITIES: Msr = Msr::FP.union(Msr::VEC).union(Msr::VSX);

/// Executes one word, which must end in a program interrupt at it; SRR1.
fn program(what: &'static str, word: u32, msr: Msr) -> Outcome<u64> {
    // SAFETY: an instruction that is not carried out.
    let fault = faulted(what, 0x700, unsafe { execute(&[word], [0, 0], msr) })?;
    same("word it stopped at", 0, word_of(&fault))?;
    Ok(fault.srr1)
}

pub(crate) fn privileged(_: &mut Bench<'_>) -> Outcome {
    // mfmsr; mtmsrd; mtmsr; slbmte; slbie; slbmfee; rfid; mfspr and mtspr of SRR0, SPRG1, DEC, AMR's privileged
    // name and the PVR.
    for word in [
        0x7c60_00a6,
        0x7c60_0164,
        0x7c60_0124,
        0x7c60_2324,
        0x7c00_1b64,
        0x7c60_2726,
        0x4c00_0024,
        mfspr(26),
        mtspr(26),
        mfspr(273),
        mtspr(273),
        mfspr(22),
        mtspr(22),
        mfspr(29),
        mfspr(287),
    ] {
        let srr1 = program("a privileged instruction", word, Msr::PROBLEM)?;
        holds("PRIVILEGED in SRR1", srr1, srr1 & PRIVILEGED != 0)?;
        holds("PR in SRR1", srr1, srr1 & Msr::PR.bits() != 0)?;
    }
    Ok(())
}

pub(crate) fn illegal(_: &mut Bench<'_>) -> Outcome {
    for msr in [Msr::TRANSLATED, Msr::PROBLEM, Msr::TRANSLATED | FACILITIES] {
        for word in [
            0x0000_0000,
            0x0000_0004,
            0x1400_0000,
            0x7c00_0002,
            0x4c00_0006,
        ] {
            let srr1 = program("an illegal instruction", word, msr)?;
            holds("ILLEGAL in SRR1", srr1, srr1 & ILLEGAL != 0)?;
            // EE is on in problem state, whatever rfid was given.
            let without_ee = 0x7fff;
            same("MSR in SRR1", msr.bits() & without_ee, srr1 & without_ee)?;
        }
    }
    Ok(())
}

/// Reading and writing the hypervisor's registers ends in the guest's own program interrupt.
pub(crate) fn hypervisor_registers(_: &mut Bench<'_>) -> Outcome {
    // HSPRG0/1, HDEC, HRMOR, HSRR0/1, LPCR, LPIDR, HMER, HMEER, PCR, AMOR, HFSCR, HDAR, HDSISR, HEIR.
    let common = [
        304, 305, 310, 313, 314, 315, 318, 319, 336, 337, 338, 349, 190, 307, 306, 339,
    ];
    // SDR1, and from ISA 3.0 on PTCR and ASDR.
    let own: &[u32] = if is_power8() { &[25] } else { &[464, 816] };
    for &number in common.iter().chain(own) {
        for word in [mfspr(number), mtspr(number)] {
            for msr in [Msr::TRANSLATED, Msr::REAL, Msr::PROBLEM] {
                program("a hypervisor register", word, msr)?;
            }
        }
    }
    Ok(())
}

pub(crate) fn hypervisor_instructions(_: &mut Bench<'_>) -> Outcome {
    // tlbie 3; tlbie 3, 4; tlbsync; hrfid; lbzcix, ldcix, stdcix of address 0; msgsnd and msgclr of 3; attn.
    let common = [
        0x7c00_1a64,
        0x7c80_1a64,
        0x7c00_046c,
        0x4c00_0224,
        0x7c60_26aa,
        0x7c60_26ea,
        0x7c60_27ea,
        0x7c00_199c,
        0x7c00_19dc,
        0x0000_0200,
    ];
    // doze, nap, sleep, rvwinkle; later stop.
    let own: &[u32] = if is_power8() {
        &[0x4c00_0324, 0x4c00_0364, 0x4c00_03a4, 0x4c00_03e4]
    } else {
        &[0x4c00_02e4]
    };
    for &word in common.iter().chain(own) {
        for msr in [Msr::TRANSLATED, Msr::PROBLEM] {
            program("a hypervisor instruction", word, msr)?;
        }
    }
    Ok(())
}

/// MSR[HV] is not a guest's to set, by whatever way.
pub(crate) fn hypervisor_state_is_out_of_reach(_: &mut Bench<'_>) -> Outcome {
    const HV: u64 = 1 << 60;
    for code in [rfid_with_hv as guard::Code, mtmsrd_with_hv] {
        // SAFETY: the code changes nothing but the MSR, and that in a bit that it cannot change.
        let msr =
            unsafe { guard::run(code, [HV, 0], Msr::TRANSLATED) }.must("the code comes back")?;
        same("HV", 0, msr & HV)?;
        // SAFETY: as before; HSRR0 is still out of reach.
        let read = unsafe { execute(&[mfspr(314)], [0, 0], Msr::TRANSLATED) };
        faulted("HSRR0", 0x700, read)?;
    }
    Ok(())
}

#[unsafe(naked)]
unsafe extern "C" fn rfid_with_hv(bits: u64, _: u64) -> u64 {
    naked_asm!(
        "mfmsr 4",
        "or 4, 4, 3",
        "mtsrr1 4",
        "mflr 5",
        "bcl 20, 31, 2f",
        "2: mflr 4",
        "mtlr 5",
        "addi 4, 4, 3f - 2b",
        "mtsrr0 4",
        "rfid",
        "3: mfmsr 3",
        "blr",
    )
}

#[unsafe(naked)]
unsafe extern "C" fn mtmsrd_with_hv(bits: u64, _: u64) -> u64 {
    naked_asm!(
        "mfmsr 4",
        "or 4, 4, 3",
        "mtmsrd 4",
        "isync",
        "mfmsr 3",
        "blr"
    )
}

/// One of these interrupts, at the word.
fn one_of(what: &'static str, vectors: &[u64], result: Result<u64, Fault>) -> Outcome {
    match result {
        Err(fault) if vectors.contains(&fault.vector) => {
            same("word it stopped at", 0, word_of(&fault))
        }
        Err(fault) => faulted(
            what,
            vectors.first().copied().unwrap_or(0),
            Err::<u64, _>(fault),
        )
        .map(drop),
        Ok(_) => faulted(what, 0x700, result).map(drop),
    }
}

/// What is not made available interrupts; transactions and messages are nobody's here.
pub(crate) fn facilities(_: &mut Bench<'_>) -> Outcome {
    // fmr 0, 0; vxor 0, 0, 0; xxlor 0, 0, 0: without their bit in the MSR.
    for (word, vector) in [
        (0xfc00_0090, 0x800),
        (0x1000_04c4, 0xf20),
        (0xf000_0490, 0xf40),
    ] {
        // SAFETY: an instruction that is not carried out.
        let result = unsafe { execute(&[word], [0, 0], Msr::TRANSLATED) };
        one_of("a facility", &[vector], result)?;
        let all = Msr::TRANSLATED | FACILITIES;
        // SAFETY: nothing of the program's is in these registers.
        unsafe { execute(&[word], [0, 0], all) }.must("the facility")?;
    }
    // tbegin; msgsndp; msgclrp; mfspr of TEXASR: no instruction, or no facility.
    for word in [0x7c00_051d, 0x7c00_191c, 0x7c00_195c, mfspr(130)] {
        // SAFETY: an instruction that is not carried out.
        let result = unsafe { execute(&[word], [0, 0], Msr::TRANSLATED) };
        one_of("a facility that no guest has", &[0x700, 0xf60], result)?;
    }
    // With MSR[TM] it is HFSCR that stops a tbegin; QEMU does not look there, and the transaction fails at once.
    let transactional = Msr::from_bits_retain(1 << 32) | Msr::TRANSLATED;
    // SAFETY: a transaction of nothing.
    match unsafe { execute(&[0x7c00_051d], [0, 0], transactional) } {
        Ok(_) => Ok(()),
        fault => one_of("tbegin", &[0x700, 0xf60], fault),
    }
}

pub(crate) fn traps_and_system_calls(_: &mut Bench<'_>) -> Outcome {
    let srr1 = program("trap", 0x7fe0_0008, Msr::TRANSLATED)?;
    holds("TRAP in SRR1", srr1, srr1 & TRAP != 0)?;
    for msr in [Msr::TRANSLATED, Msr::PROBLEM] {
        // SAFETY: the guest's own interrupt.
        let fault = faulted("sc", 0xc00, unsafe { execute(&[0x4400_0002], [0, 0], msr) })?;
        same("word behind it", 1, word_of(&fault))?;
        // SAFETY: from ISA 3.0 on a facility that is off, before no instruction.
        let result = unsafe { execute(&[0x4400_0001], [0, 0], msr) };
        one_of("scv", &[0x700, 0xf60, 0xc00], result)?;
    }
    // The code is placed anew each time: what was executed last is not what is executed now.
    for value in 0..8 {
        // li 3, value.
        // SAFETY: sets r3.
        let found = unsafe { execute(&[0x3860_0000 | value], [0, 0], Msr::TRANSLATED) };
        same("r3", value.into(), found.must("li")?)?;
    }
    code::place(&[]);
    Ok(())
}

/// `sc` with every level, and `scv` with every level that there is: a hypercall, the guest's own, or none. Levels
/// whose other bits are reserved may be taken for the level that their last one says.
pub(crate) fn every_level_of_a_system_call(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.runtime.program.ptex;
    for level in 0..128_u32 {
        for (msr, refusal) in [
            (Msr::TRANSLATED, Status::Function),
            (Msr::PROBLEM, Status::Privilege),
        ] {
            // A token that nobody has given a meaning.
            // SAFETY: a call that does nothing, or an interrupt.
            let result = unsafe { execute(&[0x4400_0002 | level << 5], [0x1c, ptex], msr) };
            match result {
                Ok(status) => same("status", refusal.raw(), status)?,
                Err(fault) => one_of("sc", &[0xc00, 0x700], Err(fault)).or_else(|_| {
                    same("vector", 0xc00, fault.vector)?;
                    same("word behind it", 1, word_of(&fault))
                })?,
            }
            if level == 1 {
                holds("a hypercall", level.into(), result.is_ok())?;
            }
            if level == 0 {
                holds("the guest's own", level.into(), result.is_err())?;
            }
        }
    }
    Ok(())
}
