//! The client: what a partition without privileges is started for.
//!
//! It ends with 0, or with the line of the source where something was not as it must be.

use core::arch::asm;

use realhpt_pseries::{
    abi::{
        H_BLOCK_REMOVE, H_BULK_REMOVE, H_CLEAR_HPT, H_CLEAR_MOD, H_CLEAR_REF, H_CPPR, H_ENTER,
        H_EOI, H_LPAR_EXIT, H_LPAR_PAUSE, H_LPAR_RESET, H_LPAR_RESUME, H_LPAR_START, H_PAGE_INIT,
        H_PROTECT, H_READ, H_REMOVE, H_REPORT, H_VCPU_STOP, LPAR_SELF, OpenFlags, Status,
    },
    cpu::Msr,
    hcall::{self, hcall, hpt_read, hpt_write},
    mmu::{
        pte::{BasePage, PP_READ_WRITE, Page, Segment, SegmentSize, V_TAG, V_VALID},
        slb,
    },
    println,
    runtime::{FIRST_FREE_SLB, Runtime},
};
use realhpt_suite::{job, partition, raw};

use crate::{
    attack,
    bench::{Bench, POOL, load, store, store_real, try_load},
    cases::{enter::outside, faults, resize, switches},
    code, crowd,
    random::Random,
    registers::{self, Sprs, State},
    stream::{READ, WRITE, first_pass, read_piece},
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// The segment of [`job::USE_PAGES`].
const PAGES: Segment = Segment {
    base: 0x60_0000_0000,
    vsid: 0x6c_0000_0000,
    size: SegmentSize::M256,
    page: BasePage::K4,
};

/// The cases of [`job::FAULTS`]. They need no privilege.
const FAULTS: [fn(&mut Bench<'_>) -> Outcome; 12] = [
    faults::no_entry,
    faults::no_segment,
    faults::read_only,
    faults::no_access,
    faults::no_execute,
    faults::storage_key,
    faults::no_memory,
    faults::problem_state,
    faults::outside_real_mode,
    faults::unaligned,
    faults::a_removed_entry,
    faults::a_storm,
];

/// Distance of its pages: far enough for an AVPN of its own.
const DISTANCE: u64 = 1 << 24;

/// B and AVPN of the entry of page `number` of [`job::USE_PAGES`]: 0 is not used, 1 is loaded from, 2 stored to,
/// 3 both.
pub(crate) const fn page_tag(number: u64) -> u64 {
    PAGES.tag(PAGES.base + number * DISTANCE)
}

/// The program in a partition without privileges.
pub(crate) fn main(runtime: &Runtime) -> u64 {
    let mut bench = Bench::new(runtime);
    match run(&mut bench) {
        Ok(code) => code,
        Err(trouble) => {
            println!("job {}: {trouble} ({})", runtime.argument, trouble.place());
            trouble.line()
        }
    }
}

fn run(bench: &mut Bench<'_>) -> Outcome<u64> {
    match bench.runtime.argument {
        job::END => Ok(()),
        job::END_WITH_CODE => return Ok(0x1234),
        job::CRASH => {
            load(0x7_1234_5678);
            Ok(())
        }
        job::PANIC => panic!("as it was told"),
        job::USE_PAGES => use_pages(bench),
        job::WATCH_PAGE => watch_page(bench),
        job::KEEP_REGISTERS => {
            (0..switches::ROUNDS).try_for_each(|round| switches::keep_registers(0xc111 + round))
        }
        job::KEEP_SEGMENTS => switches::map_segment(bench).and_then(|()| {
            (0..switches::ROUNDS).try_for_each(|round| switches::keep_segment(0xc222_0000 + round))
        }),
        job::SET_EVERYTHING => set_everything(),
        job::FAULTS => FAULTS.iter().try_for_each(|case| {
            case(bench)?;
            bench.clear()
        }),
        job::OTHERS => others(),
        job::WILD_HANDLES => wild_handles(),
        job::WILD_BUFFERS => wild_buffers(bench),
        job::WILD_SLOTS => wild_slots(bench),
        job::OWN_TABLE => own_table(),
        job::HOLD_READERS => hold_readers(),
        job::EVERY_TOKEN => every_token(bench),
        job::NO_REAL_MODE => no_real_mode(bench),
        job::NO_VECTORS => no_vectors(),
        job::RANDOM => random(),
        job::RESIZE => resize::resize_own_table(bench),
        job::CLEAR => resize::clear_own_table(bench),
        job::CROWD_WORK..=job::CROWD_KEEP => crowd::main(bench.runtime),
        job::MOVE => crowd::move_about(bench),
        job::REACH => attack::reach::run(bench),
        argument if job::PARAMETRIC.contains(&(argument & job::NUMBER)) => {
            crowd::main(bench.runtime)
        }
        unknown => same("job", 0, unknown),
    }?;
    Ok(0)
}

/// Uses the processor for ever.
fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

fn use_pages(bench: &mut Bench<'_>) -> Outcome {
    // SAFETY: nothing of the program is there.
    unsafe { slb::insert(FIRST_FREE_SLB, &PAGES) };
    let at = |number: u64| PAGES.base + number * DISTANCE;
    for number in 0..4 {
        let ra = POOL + number * Page::K4.size();
        bench.map(&PAGES, at(number), Page::K4, (ra, PP_READ_WRITE))?;
    }
    load(at(1));
    store(at(2), 1);
    load(at(3));
    store(at(3), 1);
    spin()
}

/// Page 1 of [`job::USE_PAGES`], until a load finds no entry.
fn watch_page(bench: &mut Bench<'_>) -> Outcome {
    // SAFETY: nothing of the program is there.
    unsafe { slb::insert(FIRST_FREE_SLB, &PAGES) };
    let at = PAGES.base + DISTANCE;
    bench.map(&PAGES, at, Page::K4, (POOL, PP_READ_WRITE))?;
    loop {
        if let Err(fault) = try_load(at) {
            same("vector", 0x300, fault.vector)?;
            return same("DSISR", 0x4000_0000, fault.dsisr);
        }
    }
}

/// All registers all ones, as far as that lets the program go on.
fn set_everything() -> Outcome {
    registers::enable_facilities();
    for seed in 0.. {
        // SAFETY: nothing needs them.
        unsafe { Sprs::pattern(!seed).set() };
        State::pattern(!seed).hcall().map(drop)?;
    }
    Ok(())
}

/// Whatever it asks for another partition: H_AUTHORITY, whether there is one or not.
fn others() -> Outcome {
    for lpar in [
        0,
        partition::SUITE,
        partition::VICTIM,
        partition::EMPTY,
        99,
        0x1_0002,
        1 << 63,
        u64::MAX - 1,
    ] {
        for flags in [OpenFlags::empty(), OpenFlags::BOLTED_ONLY, OpenFlags::WRITE] {
            refused("open", Status::Authority, hcall::hpt_open(lpar, flags, 0))?;
        }
        refused("statistics", Status::Authority, hcall::hpt_stat(lpar))?;
        refused("query", Status::Authority, hcall::lpar_query(lpar))?;
        // SAFETY: READ is there to be written.
        let proxy = unsafe { hcall::lpar_hcall(lpar, READ.address()) };
        refused("a call by proxy", Status::Authority, proxy)?;
    }
    for lpar in (0..=partition::LAST).chain([99, LPAR_SELF]) {
        for token in [H_LPAR_PAUSE, H_LPAR_RESUME, H_LPAR_RESET, H_LPAR_START] {
            let mut registers = [token, lpar, 0x100, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: refused.
            unsafe { hcall(&mut registers) };
            let [status, ..] = registers;
            same("control", Status::Authority.raw(), status)?;
        }
    }
    for kind in 0..6 {
        let mut registers = [H_REPORT, kind, READ.address(), 8, 1, 0, 0, 0, 0, 0];
        // SAFETY: the text is only read.
        unsafe { hcall(&mut registers) };
        let [status, ..] = registers;
        same("report", Status::Authority.raw(), status)?;
    }
    // What only the suite's image has is not for it either.
    for token in [raw::PEEK, raw::POKE, raw::FLUSH] {
        let mut registers = [token, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: refused.
        unsafe { hcall(&mut registers) };
        let [status, ..] = registers;
        same("an image's own call", Status::Function.raw(), status)?;
    }
    Ok(())
}

/// Handles of every serial number, partition and slot that there could be, and others.
fn wild_handles() -> Outcome {
    let attempt = |handle: u64| -> Outcome {
        refused("read", Status::Parameter, read_piece(handle, 4096))?;
        let written = hpt_write(handle, WRITE.address(), 8);
        refused("write", Status::Parameter, written)?;
        refused("close", Status::Parameter, hcall::hpt_close(handle))
    };
    for low in 0..0x1000 {
        attempt(low)?;
    }
    for serial in 0..1200 {
        for lpid in 0..=partition::LAST {
            for slot in [0, 1, 2, 3, 4, 0xff] {
                attempt(serial << 24 | lpid << 8 | slot)?;
            }
        }
    }
    let mut random = Random(0x4a4d);
    for _ in 0..2000 {
        attempt(random.next())?;
    }
    [1 << 63, u64::MAX, u64::MAX - 0xff, 0x7fff_ffff_ffff_ffff]
        .into_iter()
        .try_for_each(attempt)
}

/// With a handle that is good, buffers that are not: others' memory, the hypervisor's, none.
fn wild_buffers(bench: &Bench<'_>) -> Outcome {
    let handle = hcall::hpt_open(LPAR_SELF, OpenFlags::empty(), 0)
        .must("open")?
        .handle;
    let memory = bench.runtime.partition.memory;
    let mut random = Random(0xb0ff);
    for round in 0..4000 {
        let far = memory + random.next() % (1 << 40);
        let (address, length) = match round % 5 {
            0 => (random.next() | 1, 64),
            1 => (far & !7, random.next() % 8192 + 24),
            2 => ((u64::MAX - random.next() % 4096) & !7, 8192),
            3 => (READ.address(), u64::MAX - random.next() % (1 << 32)),
            _ => (memory - 64, 65 + random.next() % 64),
        };
        // SAFETY: refused.
        let result = unsafe { hpt_read(handle, address, length) };
        refused("a buffer", Status::Parameter, result)?;
    }
    // Nothing was taken.
    let pass = crate::stream::read_pass(handle, READ.bytes())?;
    holds("coverage", pass.slots, pass.covers(1 << 14))
}

/// Slots outside the table, by every call that takes one.
fn wild_slots(bench: &mut Bench<'_>) -> Outcome {
    let slots = bench.slots();
    let mut random = Random(0x5107);
    for round in 0..2000 {
        let wild = outside(slots);
        let chosen = wild.get(round).copied();
        let ptex = chosen.unwrap_or_else(|| slots + random.next() % (u64::MAX - slots));
        for token in [
            H_ENTER,
            H_REMOVE,
            H_READ,
            H_PROTECT,
            H_CLEAR_REF,
            H_CLEAR_MOD,
        ] {
            for flags in [0, 1 << 39, 1 << 37, 1 << 31, 1 << 30, random.next()] {
                let mut registers = [token, flags, ptex, V_VALID, 0x12, 0, 0, 0, 0, 0];
                // SAFETY: refused.
                unsafe { hcall(&mut registers) };
                let [status, ..] = registers;
                same("status", Status::Parameter.raw(), status)?;
            }
        }
        let low = ptex & ((1 << 56) - 1);
        if low >= slots {
            let mut registers = [H_BULK_REMOVE, 1 << 62 | low, 0, 0, 0, 0, 0, 0, 0, 0];
            // SAFETY: refused.
            unsafe { hcall(&mut registers) };
            let [status, ..] = registers;
            same("status in bulk", Status::Parameter.raw(), status)?;
            let mut specifiers = [1 << 62 | low; 8];
            let result = hcall::block_remove(0, &mut specifiers);
            refused("a block", Status::Partial, result)?;
            for answer in specifiers {
                same("response", 0x90 << 56 | low, answer)?;
            }
        }
    }
    Ok(())
}

/// Readers of its own table, as many as it may have.
fn own_readers() -> Outcome<[u64; 3]> {
    let mut handles = [0; 3];
    for handle in &mut handles {
        *handle = hcall::hpt_open(LPAR_SELF, OpenFlags::empty(), 0)
            .must("open")?
            .handle;
    }
    let last = hcall::hpt_open(LPAR_SELF, OpenFlags::empty(), 0);
    refused("the last reader", Status::Resource, last)?;
    Ok(handles)
}

fn hold_readers() -> Outcome {
    own_readers()?;
    spin()
}

/// Readers of its own table but the last, and no writer.
fn own_table() -> Outcome {
    let writer = hcall::hpt_open(LPAR_SELF, OpenFlags::WRITE, 0);
    refused("a writer", Status::Busy, writer)?;
    for handle in own_readers()? {
        hcall::hpt_close(handle).must("close")?;
    }
    let pass = first_pass(LPAR_SELF)?;
    holds("entries", pass.valid, pass.valid >= 3)
}

/// Every token there could be, with arguments that are something to some call. Left out are the calls whose good
/// arguments would end the program, those that let interrupts through that it has no use for, and the image's own.
fn every_token(bench: &Bench<'_>) -> Outcome {
    let interesting = [
        0,
        1,
        7,
        8,
        bench.slots() - 1,
        bench.slots(),
        bench.runtime.partition.memory,
        READ.address(),
        1 << 31,
        1 << 56,
        1 << 62,
        1 << 63,
        u64::MAX,
    ];
    let ends = [
        H_ENTER,
        H_REMOVE,
        H_PROTECT,
        H_BULK_REMOVE,
        H_CLEAR_HPT,
        H_LPAR_EXIT,
        H_VCPU_STOP,
        H_BLOCK_REMOVE,
        H_PAGE_INIT,
        H_CPPR,
        H_EOI,
    ];
    let mut random = Random(0x70cc);
    for token in (0..0x400)
        .chain(0xf000..0xf200)
        .chain([u64::MAX, 1 << 32 | H_READ])
    {
        if ends.contains(&token) {
            continue;
        }
        for _ in 0..8 {
            let mut registers = [0; 10].map(|_: u64| {
                let number = usize::try_from(random.next() % 13).unwrap_or_default();
                interesting.get(number).copied().unwrap_or_default()
            });
            let [first, ..] = &mut registers;
            *first = token;
            // A stream that a lucky call opened has READ as the only buffer among the arguments.
            // SAFETY: READ is there to be written.
            unsafe { hcall(&mut registers) };
            let [status, ..] = registers;
            holds("status", status, Status::from_raw(status).is_some())?;
        }
    }
    Ok(())
}

/// Removes the VRMA's entries and then interrupts itself.
fn no_real_mode(bench: &Bench<'_>) -> Outcome {
    let vrma = Segment {
        base: 0,
        vsid: 0x1ff_ffff,
        size: SegmentSize::T1,
        page: BasePage::M16,
    };
    let tag = vrma.tag(0) & !0xff_ffff;
    let mut removed = 0;
    for ptex in 0..bench.slots() {
        let (dw0, _) = hcall::read(ptex).must("read")?;
        if dw0 & V_VALID != 0 && dw0 & V_TAG & !0xff_ffff == tag {
            hcall::remove(realhpt_pseries::abi::Flags::empty(), ptex, 0).must("remove")?;
            removed += 1;
        }
    }
    holds("entries of real mode", removed, removed > 0)?;
    load(0x7_1234_5678);
    holds("life after it", removed, false)
}

/// Puts zeros, which are no instruction, where its interrupts go.
fn no_vectors() -> Outcome {
    for vector in [0x300, 0x380, 0x400, 0x700] {
        store_real(vector, 0);
        store_real(vector + 8, 0);
    }
    // SAFETY: the vectors were executed by nobody yet in this form; instructions are fetched anew.
    unsafe { asm!("sync", "isync", options(nostack)) };
    load(0x7_1234_5678);
    holds("life after it", 0, false)
}

/// Executes random words, in problem and in supervisor state, until somebody ends it or it ends itself.
fn random() -> Outcome {
    let mut random = Random(0x1234_5678);
    for round in 0_u64.. {
        let mut words = [0_u32; 12];
        for word in &mut words {
            let bits = random.word();
            // Most of the interesting instructions have opcodes 31 and 19; the program's own end is of no interest.
            *word = match random.next() % 4 {
                0 => bits,
                1 => bits & 0x03ff_ffff | 19 << 26,
                _ => bits & 0x03ff_ffff | 31 << 26,
            };
        }
        let facilities = Msr::FP | Msr::VEC | Msr::VSX;
        let msr = if round.is_multiple_of(2) {
            Msr::PROBLEM
        } else {
            Msr::TRANSLATED | facilities
        };
        let arguments = [random.next(), random.next()];
        // SAFETY: none: this program has nothing left to lose.
        let _ = unsafe { code::execute(&words, arguments, msr) };
    }
    Ok(())
}
