//! Hypercalls as such: what they leave alone, who may make them, what an unknown one says.

use realhpt_pseries::{
    abi::{
        H_BLOCK_REMOVE, H_BULK_REMOVE, H_CEDE, H_CLEAR_MOD, H_CLEAR_REF, H_CPPR, H_ENTER, H_EOI,
        H_GET_CPU_CHARACTERISTICS, H_GET_TERM_CHAR, H_HPT_CLOSE, H_HPT_OPEN, H_HPT_READ,
        H_HPT_STAT, H_HPT_WRITE, H_IPI, H_IPOLL, H_LPAR_PAUSE, H_LPAR_QUERY, H_LPAR_RESET,
        H_LPAR_RESUME, H_LPAR_START, H_PAGE_INIT, H_PROTECT, H_PUT_TERM_CHAR, H_READ,
        H_REGISTER_PROC_TBL, H_REGISTER_VPA, H_REMOVE, H_REPORT, H_RTAS, H_SET_MODE, H_SET_SPRG0,
        H_XIRR, H_XIRR_X, LPAR_SELF, OpenFlags, ReportKind, Status, mode,
        rtas::{CPU_RUNNING, QUERY_CPU_STOPPED_STATE},
    },
    cpu::Msr,
    guard,
    hcall::{self, hcall},
    mmu::pte::PP_READ_WRITE,
};
use realhpt_suite::partition;

use super::enter::{NOBODY, small};
use crate::{
    bench::{Bench, load_real, store_real},
    code::{self, HYPERCALL},
    registers::{self, Sprs, State, come_from},
    stream::{READ, Records, WRITE},
    trouble::{Must as _, Outcome, faulted, holds, same},
};

/// Tokens that nobody has given a meaning.
const UNKNOWN: [u64; 14] = [
    0,
    0x05,
    0x1c,
    0x3fc,
    0xf0fc,
    0xf101,
    0xf13e,
    0xf142,
    0xf148,
    0xf2fc,
    0xffff,
    H_READ | 1 << 32,
    1 << 63,
    u64::MAX,
];

pub(crate) fn unknown_tokens(_: &mut Bench<'_>) -> Outcome {
    for token in UNKNOWN {
        let mut registers = [token, 1, 2, 3, 4, 5, 6, 7, 8, 9];
        // SAFETY: there is no such call.
        unsafe { hcall(&mut registers) };
        let [status, arguments @ ..] = registers;
        same("status", Status::Function.raw(), status)?;
        for (expected, found) in (1..).zip(arguments) {
            same("argument", expected, found)?;
        }
    }
    Ok(())
}

pub(crate) fn terminal(_: &mut Bench<'_>) -> Outcome {
    let call = |token: u64, length: u64| {
        let mut registers = [
            token,
            0,
            length,
            0x2020_2020_2020_2020,
            0x2020_2020_2020_0d0a,
            0,
            0,
            0,
            0,
            0,
        ];
        // SAFETY: no memory is involved.
        unsafe { hcall(&mut registers) };
        registers
    };
    for (length, status) in [
        (0, Status::Success),
        (1, Status::Success),
        (16, Status::Success),
        (17, Status::Parameter),
        (1 << 32, Status::Parameter),
        (u64::MAX, Status::Parameter),
    ] {
        let [found, ..] = call(H_PUT_TERM_CHAR, length);
        same("status of a write", status.raw(), found)?;
    }
    let [status, length, ..] = call(H_GET_TERM_CHAR, 0);
    same("status of a read", 0, status)?;
    holds("bytes of a read", length, length <= 16)
}

/// From problem state every call, known or not, is H_PRIVILEGE and does nothing.
pub(crate) fn problem_state_may_not(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let known = [
        H_REMOVE,
        H_ENTER,
        H_READ,
        H_PROTECT,
        H_BULK_REMOVE,
        H_BLOCK_REMOVE,
        H_CLEAR_REF,
        H_CLEAR_MOD,
        H_PAGE_INIT,
        H_CEDE,
        H_HPT_OPEN,
        H_HPT_STAT,
        H_LPAR_QUERY,
        H_LPAR_RESET,
        H_REPORT,
    ];
    for token in known.into_iter().chain(UNKNOWN) {
        // SAFETY: a hypercall that is refused.
        let status = unsafe { code::execute(&[HYPERCALL], [token, group], Msr::PROBLEM) };
        same(
            "status",
            Status::Privilege.raw(),
            status.must("the call comes back")?,
        )?;
    }
    // H_ENTER with all its arguments: mr 5,4; mr 4,3; ...: r3 the slot, r4 dword 1.
    // li 3, 8; mr 5, 4 (slot); li 4, 0; li 6, 1 (dword 0: VALID); li 7, 0x12; sc 1
    let words = [
        0x7c85_2378,
        0x3880_0000,
        0x38c0_0001,
        0x38e0_0012,
        HYPERCALL,
    ];
    // SAFETY: a hypercall that is refused; were it not, the entry is nobody's.
    let status = unsafe { code::execute(&words, [H_ENTER, group], Msr::PROBLEM) };
    same(
        "status of H_ENTER",
        Status::Privilege.raw(),
        status.must("the call comes back")?,
    )?;
    same("slot", 0, hcall::read(group).must("read")?.0)
}

/// SPRG0 is what H_SET_SPRG0 was given. No interrupt comes between the two, whose handler would use it.
pub(crate) fn sprg0_is_set(_: &mut Bench<'_>) -> Outcome {
    // sc 1; mfsprg 3, 0.
    let words = [HYPERCALL, 0x7c70_42a6];
    for value in [0, 0x0123_4567_89ab_cdef, u64::MAX] {
        // SAFETY: a register that nobody needs meanwhile.
        let found = unsafe { code::execute(&words, [H_SET_SPRG0, value], Msr::TRANSLATED) };
        same("SPRG0", value, found.must("the call comes back")?)?;
    }
    Ok(())
}

/// An interrupt that a vCPU asks of itself is there when it looks, and gone when it was served.
pub(crate) fn an_interrupt_for_oneself(_: &mut Bench<'_>) -> Outcome {
    let call = |token: u64, arguments: [u64; 2]| {
        let [first, second] = arguments;
        let mut registers = [token, first, second, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: no memory is involved, and external interrupts are off.
        unsafe { hcall(&mut registers) };
        let [status, result, ..] = registers;
        same("status", 0, status)?;
        Ok(result)
    };
    call(H_CPPR, [0xff, 0])?;
    call(H_IPI, [0, 4])?;
    let xirr = call(H_XIRR, [0, 0])?;
    same("XIRR", 0xff << 24 | 2, xirr)?;
    call(H_IPI, [0, 0xff])?;
    call(H_EOI, [xirr, 0])?;
    same("XIRR after it", 0xff << 24, call(H_XIRR, [0, 0])?)?;
    call(H_CPPR, [0, 0]).map(drop)
}

/// In 32-bit mode the low halves of token and arguments count, as RTAS needs it.
pub(crate) fn thirty_two_bit_mode(bench: &mut Bench<'_>) -> Outcome {
    let ptex = bench.runtime.program.ptex;
    // r3 = token with a high half; r4 = slot: mr 5, 4; li 4, 0; sc 1; mr 3, 4 after a success gives dword 0;
    // the status is added: 0.
    let words = [0x7c85_2378, 0x3880_0000, HYPERCALL, 0x7c63_2214];
    let high = 0xdead_beef << 32;
    let msr = Msr::TRANSLATED - Msr::SF;
    // SAFETY: H_READ of a slot; the program is below 4 GiB, where 32-bit mode reaches.
    let value = unsafe { code::execute(&words, [H_READ | high, ptex | high], msr) };
    let (dw0, _) = hcall::read(ptex).must("read")?;
    same("status + dword 0", dw0, value.must("the call comes back")?)
}

/// H_RTAS as the RTAS blob of a guest makes it: in 32-bit real mode, and whatever the upper halves hold.
pub(crate) fn rtas_in_32_bit_mode(bench: &mut Bench<'_>) -> Outcome {
    let buffer = bench.memory(4096)?;
    // One argument, the vCPU, and two results.
    let token = u64::from(QUERY_CPU_STOPPED_STATE);
    for (vcpu, results) in [
        (0, u64::from(CPU_RUNNING)),
        (99, 0xffff_fffd << 32 | 0xffff_ffff),
    ] {
        let words = [token << 32 | 1, 2 << 32 | vcpu, u64::MAX, u64::MAX];
        for (at, word) in (buffer..).step_by(8).zip(words) {
            store_real(at, word);
        }
        let high = 0xdead_beef << 32;
        let msr = Msr::REAL - Msr::SF;
        // SAFETY: the buffer is nobody's reference; the program is where 32-bit mode reaches.
        let status = unsafe { code::execute(&[HYPERCALL], [H_RTAS | high, buffer | high], msr) };
        same("status", 0, status.must("the call comes back")?)?;
        let [.., beside] = words;
        same("results", results, load_real(buffer + 16))?;
        same("what stands beside", beside, load_real(buffer + 24))?;
        // mr 3, 4: the argument is as it was, upper half too.
        let words = [HYPERCALL, 0x7c83_2378];
        // SAFETY: as above.
        let argument = unsafe { code::execute(&words, [H_RTAS | high, buffer | high], msr) };
        same("r4", buffer | high, argument.must("the call comes back")?)?;
    }
    Ok(())
}

/// A little-endian guest's registers are as good as any; it comes back little-endian, and its interrupts are taken
/// as its LPCR says, big-endian.
pub(crate) fn little_endian_mode(_: &mut Bench<'_>) -> Outcome {
    // sc 1; add 3, 3, 4; cmpldi 3, 1; bne .+8; sc; trap.
    let words = [
        HYPERCALL,
        0x7c63_2214,
        0x2823_0001,
        0x4082_0008,
        0x4400_0002,
        0x7fe0_0008,
    ];
    let arguments = [H_LPAR_QUERY, LPAR_SELF];
    let msr = Msr::TRANSLATED | Msr::LE;
    // SAFETY: a query; the system call or the trap behind it ends the code.
    let ended = unsafe { code::execute(&words.map(u32::swap_bytes), arguments, msr) };
    let fault = faulted("status + LPID", 0xc00, ended)?;
    holds("LE in SRR1", fault.srr1, fault.srr1 & Msr::LE.bits() != 0)
}

/// A call with arguments, its status, and how many registers it gives results in.
struct Probe {
    token: u64,
    arguments: [u64; 6],
    status: Status,
    results: usize,
}

fn probes(bench: &mut Bench<'_>) -> Outcome<[Probe; 68]> {
    let group = bench.free_group()?;
    let dw1 = small(PP_READ_WRITE);
    let outside = bench.slots();
    let reader = bench
        .open(partition::EMPTY, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    let writer = bench
        .open(partition::EMPTY, OpenFlags::WRITE, 0)
        .must("open")?
        .handle;
    let mut records = Records::new();
    records.header(3, 0, 5);
    records.header(1 << 20, 0, 5);
    let (read, write) = (READ.address(), WRITE.address());
    let probe = |token, arguments: &[u64], status, results| {
        let mut all = [0x5a5a; 6];
        for (place, &argument) in all.iter_mut().zip(arguments) {
            *place = argument;
        }
        Probe {
            token,
            arguments: all,
            status,
            results,
        }
    };
    let (good, bad) = (Status::Success, Status::Parameter);
    Ok([
        probe(H_ENTER, &[0, group, NOBODY, dw1], good, 1),
        probe(H_ENTER, &[1 << 39, group, NOBODY, dw1], Status::PtegFull, 0),
        probe(H_ENTER, &[0, outside, NOBODY, dw1], bad, 0),
        probe(H_READ, &[0, group], good, 2),
        probe(H_READ, &[1 << 37, group], good, 8),
        probe(H_READ, &[0, outside], bad, 0),
        probe(H_CLEAR_REF, &[0, group], good, 1),
        probe(H_CLEAR_REF, &[0, group + 1], Status::NotFound, 0),
        probe(H_CLEAR_REF, &[0, outside], bad, 0),
        probe(H_CLEAR_MOD, &[0, group], good, 1),
        probe(H_CLEAR_MOD, &[0, group + 1], Status::NotFound, 0),
        probe(H_CLEAR_MOD, &[0, outside], bad, 0),
        probe(H_PROTECT, &[3, group], good, 0),
        probe(H_PROTECT, &[3, outside], bad, 0),
        probe(H_PROTECT, &[3 | 1 << 31, group, 0], Status::NotFound, 0),
        probe(H_REMOVE, &[1 << 31, group, 0], Status::NotFound, 0),
        probe(H_REMOVE, &[0, group], good, 2),
        probe(H_REMOVE, &[0, group], Status::NotFound, 0),
        probe(H_REMOVE, &[0, outside], bad, 0),
        probe(H_BULK_REMOVE, &[0xc0 << 56], good, 0),
        probe(H_BULK_REMOVE, &[0x40 << 56 | group, 0, 0xc0 << 56], good, 1),
        probe(H_BULK_REMOVE, &[0x80 << 56], bad, 1),
        probe(H_BLOCK_REMOVE, &[0, 0xc0 << 56], good, 8),
        probe(
            H_BLOCK_REMOVE,
            &[0, 0x40 << 56 | group, 0xc0 << 56],
            Status::Partial,
            8,
        ),
        probe(H_BLOCK_REMOVE, &[0, 0x80 << 56], bad, 0),
        probe(H_PAGE_INIT, &[0, 0, 0], good, 0),
        probe(H_PAGE_INIT, &[1, 0, 0], bad, 0),
        probe(H_CEDE, &[], good, 0),
        probe(H_PUT_TERM_CHAR, &[0, 0, 0, 0], good, 0),
        probe(H_PUT_TERM_CHAR, &[0, 17, 0, 0], bad, 0),
        probe(H_GET_TERM_CHAR, &[0], good, 3),
        probe(H_HPT_STAT, &[LPAR_SELF], good, 7),
        probe(H_HPT_STAT, &[99], bad, 0),
        probe(H_HPT_OPEN, &[LPAR_SELF, 8, 0], bad, 0),
        probe(H_HPT_READ, &[reader, read, 4096], good, 3),
        probe(H_HPT_READ, &[reader, read, 23], bad, 0),
        probe(H_HPT_READ, &[!0, read, 4096], bad, 0),
        probe(H_HPT_WRITE, &[writer, write, 8], good, 2),
        probe(H_HPT_WRITE, &[writer, write + 8, 8], bad, 2),
        probe(H_HPT_WRITE, &[writer, write, 7], bad, 2),
        probe(H_HPT_WRITE, &[!0, write, 8], bad, 2),
        probe(H_HPT_CLOSE, &[!0], bad, 0),
        probe(H_HPT_CLOSE, &[writer], good, 0),
        probe(H_LPAR_QUERY, &[LPAR_SELF], good, 8),
        probe(H_LPAR_QUERY, &[99], bad, 0),
        probe(H_LPAR_RESUME, &[partition::EMPTY], Status::Busy, 0),
        probe(H_LPAR_RESET, &[partition::EMPTY], good, 0),
        probe(H_LPAR_PAUSE, &[99], bad, 0),
        probe(H_LPAR_START, &[99], bad, 0),
        probe(H_REPORT, &[ReportKind::Note as u64, write, 0, 0], good, 0),
        probe(H_REPORT, &[99, write, 8, 0], bad, 0),
        probe(H_REPORT, &[ReportKind::Note as u64, !7, 8, 0], bad, 0),
        probe(H_GET_CPU_CHARACTERISTICS, &[], good, 2),
        probe(H_REGISTER_PROC_TBL, &[0], good, 0),
        probe(H_REGISTER_PROC_TBL, &[4], bad, 0),
        probe(H_REGISTER_VPA, &[0, 0, 0], bad, 0),
        probe(H_RTAS, &[!0], bad, 0),
        probe(H_SET_MODE, &[0, 0, 0, 0], Status::P2, 0),
        probe(
            H_SET_MODE,
            &[2, mode::ENDIAN, 0, 0],
            Status::UnsupportedFlag,
            0,
        ),
        probe(H_SET_MODE, &[0, mode::INTERRUPT_LOCATION, 0, 0], good, 0),
        probe(H_CPPR, &[0], good, 0),
        probe(H_IPI, &[0, 0xff], good, 0),
        probe(H_IPI, &[99, 0], bad, 0),
        probe(H_IPOLL, &[0], good, 2),
        probe(H_XIRR, &[], good, 1),
        probe(H_XIRR_X, &[], good, 2),
        probe(H_EOI, &[0], good, 0),
        probe(0x1c, &[], Status::Function, 0),
    ])
}

/// Makes every call; `look` sees the registers before and after it.
fn every_call(
    bench: &mut Bench<'_>,
    mut look: impl FnMut(&Probe, &State, &State) -> Outcome,
) -> Outcome {
    for (seed, probe) in (0x1001..).zip(probes(bench)?) {
        let mut before = State::pattern(seed);
        let [_, _, _, token, arguments @ ..] = &mut before.gprs;
        *token = probe.token;
        for (place, argument) in arguments.iter_mut().zip(probe.arguments) {
            *place = argument;
        }
        let after = before.hcall()?;
        let [_, _, _, status, ..] = after.gprs;
        same("status", probe.status.raw(), status)?;
        look(&probe, &before, &after)?;
    }
    Ok(())
}

pub(crate) fn registers_survive(bench: &mut Bench<'_>) -> Outcome {
    let sprs = Sprs::pattern(0x5eed);
    registers::enable_facilities();
    // SAFETY: a case needs none of them but the AMR, which allows key 0 everything.
    unsafe { sprs.set() };
    let sprs = Sprs::get();
    every_call(bench, |probe, before, after| {
        after.as_a_hypercall_leaves(before)?;
        for number in 4 + probe.results..13 {
            after.same_gpr(before, number)?;
        }
        // SPRG2 and SPRG3 are used for looking.
        let mut now = Sprs::get();
        now.take_scratch(&sprs);
        now.same(&sprs)
    })
}

pub(crate) fn vectors_and_floats_survive(bench: &mut Bench<'_>) -> Outcome {
    every_call(bench, |_, before, after| after.same_vectors(before))
}

/// The machine's memory from where the image and the firmware are, above what a partition of the suite has.
const HOST: core::ops::Range<u64> = 0x2000_0000..0x8000_0000;

/// No address of the machine's memory is in a register that a call may change.
pub(crate) fn no_trace_of_the_hypervisor(bench: &mut Bench<'_>) -> Outcome {
    let end_of_program = 16 << 20;
    every_call(bench, |probe, before, after| {
        let results = 4..4 + probe.results;
        for (number, (&found, &given)) in (0..).zip(after.gprs.iter().zip(&before.gprs)) {
            // Entries have the partition's own addresses, and virtual ones beside; the time is any number.
            let other = [H_READ, H_REMOVE, H_BULK_REMOVE, H_XIRR_X].contains(&probe.token);
            if number != 3 && found != given && results.contains(&number) && !other {
                holds("result", found, !HOST.contains(&found))?;
            }
        }
        let from = come_from();
        holds("come-from address", from, from < end_of_program)
    })?;
    // The interrupt's own registers say where the guest was.
    // SAFETY: H_CEDE has no arguments, and the code comes back.
    unsafe { guard::run(cede_and_look, [0, 0], Msr::TRANSLATED) }
        .must("cede")
        .and_then(|from| holds("come-from address", from, from < end_of_program))
}

/// H_CEDE, then CFAR.
#[unsafe(naked)]
unsafe extern "C" fn cede_and_look(_: u64, _: u64) -> u64 {
    core::arch::naked_asm!("li 3, 0xe0", "sc 1", "mfspr 3, 28", "blr")
}
