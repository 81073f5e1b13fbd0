//! A storm of calls: at random, by all vCPUs, to the same slots, frames and streams.
//!
//! The calls are chosen so that the program outlives them: what it runs by is never named. All else is as wild as it
//! comes.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use realhpt_pseries::{
    abi::{
        Flags, H_BLOCK_REMOVE, H_BULK_REMOVE, H_CEDE, H_CLEAR_HPT, H_CLEAR_MOD, H_CLEAR_REF,
        H_CONFER, H_ENTER, H_GET_TERM_CHAR, H_HPT_CLOSE, H_HPT_OPEN, H_HPT_READ, H_HPT_STAT,
        H_LPAR_HCALL, H_PAGE_INIT, H_PROD, H_PROTECT, H_PUT_TERM_CHAR, H_READ, H_REMOVE,
        H_RESIZE_HPT_COMMIT, H_RESIZE_HPT_PREPARE, H_VCPU_START, LPAR_SELF, Status,
    },
    cpu::{self, Msr, timebase},
    exit,
    hcall::hcall,
    mmu::pte::{
        PP_READ_WRITE, Page, R_KEY_HI, R_KEY_LO, R_M, R_N, R_PP, R_PP0, Segment, V_BOLTED, V_LARGE,
        V_SECONDARY,
    },
    runtime::Runtime,
};

use super::{ELSEWHERE, Parameters, SEGMENTS, SIZES, insert_segments, one_of};
use crate::{
    bench::{POOL, try_load, try_store},
    crowd::VCPUS,
    random::Random,
    trouble::{Outcome, holds, same},
};

/// Pages of a segment that are used.
const PAGES: u64 = 8;
/// What the vCPUs know of each other's doings: slots of entries and handles of streams.
static SLOTS: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static HANDLES: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// The order that most resizes are to: it goes round with each that was made.
static ORDER: AtomicU64 = AtomicU64::new(1);

/// vCPUs that are in real mode, in a wild storm.
static REAL: AtomicU64 = AtomicU64::new(0);

/// What a vCPU storms with.
struct Storm {
    random: Random,
    slots: u64,
    /// The program runs in real mode, by what no call here can name: all other entries may go.
    wild: bool,
}

/// r3 to r12 of a call.
fn registers<const N: usize>(token: u64, arguments: [u64; N]) -> [u64; 10] {
    let mut registers = [token; 10];
    for (register, argument) in registers.iter_mut().skip(1).zip(arguments) {
        *register = argument;
    }
    registers
}

impl Storm {
    /// A place in one of the pages that are used.
    fn place(&mut self) -> (Segment, u64) {
        let [first, ..] = &SEGMENTS;
        let number = self.random.below(SEGMENTS.len() as u64);
        let number = usize::try_from(number).unwrap_or_default();
        let segment = *SEGMENTS.get(number).unwrap_or(first);
        let step = 1 << segment.page.shift();
        let ea = segment.base + self.random.below(PAGES) * step;
        (segment, ea + (self.random.next() & (step - 1) & !7))
    }

    /// An address that a page or a buffer may be said to have: of the pool, or elsewhere.
    fn real(&mut self) -> u64 {
        if self.random.once_in(3) {
            one_of(&mut self.random, &ELSEWHERE).wrapping_add(self.random.below(3) * 0xff8)
        } else {
            POOL + self.random.below(0x2f0_0000)
        }
    }

    /// A slot: mostly one that somebody has entered something in.
    fn slot(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.random.next(),
            1 => self.slots + self.random.below(9) - 4,
            _ => self.known(&SLOTS),
        }
    }

    fn known(&mut self, all: &[AtomicU64]) -> u64 {
        let number = self.random.below(all.len() as u64);
        let known = usize::try_from(number)
            .ok()
            .and_then(|number| all.get(number));
        known.map_or(0, |known| known.load(Relaxed))
    }

    fn note(&mut self, all: &[AtomicU64], value: u64) {
        let number = self.random.below(all.len() as u64);
        let known = usize::try_from(number)
            .ok()
            .and_then(|number| all.get(number));
        if let Some(known) = known {
            known.store(value, Relaxed);
        }
    }

    /// A call that does the program no harm.
    fn call(&mut self) -> [u64; 10] {
        match self.random.below(28) {
            0..6 => self.enter(),
            6..14 => self.change(),
            14 => self.block_remove(),
            15 => self.page_init(),
            16..22 => self.stream(),
            22..24 => self.vcpu(),
            24..26 => self.resize(),
            26 => {
                let token = one_of(&mut self.random, &[H_PUT_TERM_CHAR, H_GET_TERM_CHAR]);
                registers(token, [0, self.random.below(2) * 17, 0, 0])
            }
            _ if self.wild => registers(H_CLEAR_HPT, []),
            _ => registers(
                H_LPAR_HCALL,
                [self.random.below(8), self.real() & !7, self.random.next()],
            ),
        }
    }

    /// H_ENTER of one of the pages, or of something like it.
    fn enter(&mut self) -> [u64; 10] {
        let (segment, ea) = self.place();
        let noise = self.random.next();
        let number = usize::try_from(noise >> 40 & 7).unwrap_or_default();
        let kind = SIZES.get(number).copied().unwrap_or(Page::K4);
        // An entry has 60 bits of an address; what would lead to the program by that does not.
        let ra = self.real() & 0x0fff_ffff_ffff_ffff;
        let ra = if ra < POOL { ra | POOL } else { ra };
        let group = segment.hash(ea) << 3 & (self.slots - 1);
        let mut dw0 = segment.dword_0(ea, kind) | noise & V_SECONDARY;
        // Some have a size that does not exist, and bits that are none of theirs.
        if noise >> 60 == 0 {
            dw0 ^= V_LARGE | noise & 0x68;
        }
        let bits = noise >> 8 & (R_N | R_KEY_LO | R_PP) | PP_READ_WRITE;
        let dw1 = kind.dword_1(ra, bits | R_M);
        let mut flags = noise & Flags::EXACT.bits();
        if kind.size() <= 1 << 16 {
            flags |= noise & (Flags::ZERO_PAGE | Flags::ICACHE).bits();
        }
        registers(H_ENTER, [flags, group + (noise >> 50 & 7), dw0, dw1])
    }

    /// What changes or removes entries: those of the storm alone, as they have its tags, or if it is wild all but those of
    /// real mode.
    fn change(&mut self) -> [u64; 10] {
        let (segment, ea) = self.place();
        let (slot, noise) = (self.slot(), self.random.next());
        let flags = Flags::AVPN.bits() | noise & (R_PP0 | R_KEY_HI | R_KEY_LO | R_N | R_PP);
        match self.random.below(8) {
            0 if self.wild => registers(H_REMOVE, [Flags::ANDCOND.bits(), slot, V_BOLTED]),
            0..2 => registers(H_REMOVE, [flags, slot, segment.tag(ea), noise]),
            2..4 => registers(H_PROTECT, [flags, slot, segment.tag(ea), noise]),
            4 => registers(H_CLEAR_REF, [noise & 1, slot, noise]),
            5 => registers(H_CLEAR_MOD, [noise & 1, slot, noise]),
            _ => {
                let mut all = [H_BULK_REMOVE; 10];
                let kinds = [0x42, 0x42, 0x42, 0x42, 0xc0, 0x80, 0x02];
                for pair in all.chunks_exact_mut(2).skip(1) {
                    let (segment, ea) = self.place();
                    let kind: u64 = one_of(&mut self.random, &kinds);
                    if let [specifier, avpn] = pair {
                        *specifier = kind << 56 | self.slot() & 0xff_ffff_ffff;
                        *avpn = segment.tag(ea);
                    }
                }
                // The specifiers stand from r4 on.
                all.rotate_left(1);
                let [first, ..] = &mut all;
                *first = H_BULK_REMOVE;
                all
            }
        }
    }

    fn block_remove(&mut self) -> [u64; 10] {
        let (segment, ea) = self.place();
        let mut all = registers(H_BLOCK_REMOVE, [segment.tag(ea)]);
        for register in all.iter_mut().skip(2) {
            *register = 0x41 << 56 | self.slot() & 0xff_ffff_ffff;
        }
        all
    }

    fn page_init(&mut self) -> [u64; 10] {
        let noise = self.random.next();
        let flags = [1 << 15, 1 << 14, 3 << 14, 3 << 22, 1 << 15 | 3 << 22, noise];
        let flags = one_of(&mut self.random, &flags);
        let aligned = if noise & 7 == 0 { 0 } else { 0xfff };
        let source = self.real() & !aligned;
        registers(H_PAGE_INIT, [flags, self.destination() & !aligned, source])
    }

    /// An address of what may be written to; where that would be the program's memory, it is none.
    fn destination(&mut self) -> u64 {
        let real = self.real();
        if real < POOL { !0xfff } else { real }
    }

    fn stream(&mut self) -> [u64; 10] {
        let noise = self.random.next();
        match self.random.below(6) {
            0 => registers(H_READ, [noise & 1 << 37, self.slot()]),
            1 => {
                let flags = if noise & 7 == 0 {
                    noise >> 3
                } else {
                    noise >> 3 & 1
                };
                registers(
                    H_HPT_OPEN,
                    [LPAR_SELF, flags, noise >> 8 & 0xff << (noise >> 60)],
                )
            }
            2..4 => {
                let lengths = [0, 23, 24, 40, 0x1000, 0xff8, 0x10000, noise, !noise >> 3];
                let length = one_of(&mut self.random, &lengths);
                registers(
                    H_HPT_READ,
                    [self.known(&HANDLES), self.destination() & !7, length],
                )
            }
            4 => registers(H_HPT_CLOSE, [self.known(&HANDLES)]),
            _ => registers(H_HPT_STAT, [LPAR_SELF]),
        }
    }

    fn vcpu(&mut self) -> [u64; 10] {
        let noise = self.random.next();
        let number = noise & 7;
        match self.random.below(8) {
            0..2 => registers(H_PROD, [number]),
            2 => registers(H_CONFER, [number]),
            3 => registers(H_CEDE, []),
            // The first one, which runs, or none of the partition's.
            4 => registers(H_VCPU_START, [0, noise & !3, noise]),
            _ => registers(H_VCPU_START, [number | 4, noise & !3, noise]),
        }
    }

    fn resize(&mut self) -> [u64; 10] {
        let wanted = 18 + ORDER.load(Relaxed) % 3;
        let other = one_of(&mut self.random, &[18, 20, 0, 17, 47, u64::MAX]);
        let order = one_of(&mut self.random, &[wanted, wanted, wanted, other]);
        let calls = [H_RESIZE_HPT_PREPARE, H_RESIZE_HPT_COMMIT];
        registers(one_of(&mut self.random, &calls), [0, order])
    }

    fn step(&mut self) -> Outcome {
        if !self.wild && self.random.once_in(3) {
            // No page is the program's own: what there is memory for is the pool's, which is nobody's.
            let (_, ea) = self.place();
            let accessed = if self.random.once_in(2) {
                try_load(ea).map(drop)
            } else {
                try_store(ea, ea)
            };
            return accessed.or_else(|fault| same("vector", 0x300, fault.vector));
        }
        let call = self.call();
        let mut registers = call;
        // SAFETY: the calls name nothing that the program runs by; the pool is nobody's.
        unsafe { hcall(&mut registers) };
        let ([token, ..], [status, result, ..]) = (call, registers);
        holds("status", status, Status::from_raw(status).is_some())?;
        match (token, status) {
            (H_ENTER, 0) => self.note(&SLOTS, result),
            (H_HPT_OPEN, 0) => self.note(&HANDLES, result),
            (H_RESIZE_HPT_COMMIT, 0) => drop(ORDER.fetch_add(1, Relaxed)),
            _ => {}
        }
        Ok(())
    }

    fn rage(&mut self, ticks: u64) -> Outcome {
        let begin = timebase();
        while timebase() - begin < ticks {
            self.step()?;
        }
        Ok(())
    }
}

/// Makes calls at random, beside the others, for as long as the job says.
pub(crate) fn run(runtime: &Runtime, number: u64, wild: bool) -> Outcome {
    let parameters = Parameters::of(runtime.argument);
    let mut storm = Storm {
        random: parameters.random(number),
        slots: runtime.table.slots(),
        wild,
    };
    insert_segments();
    if !wild {
        return storm.rage(parameters.ticks);
    }
    let in_real_mode = || {
        REAL.fetch_add(1, Relaxed);
        while REAL.load(Relaxed) < VCPUS as u64 {
            core::hint::spin_loop();
        }
        let went = storm.rage(parameters.ticks);
        // There is nothing to go back to.
        exit::exit(went.map_or_else(|trouble| trouble.line(), |()| 0))
    };
    // SAFETY: in real mode the program and its stack are where they are.
    unsafe { cpu::with_msr(Msr::REAL, in_real_mode) }
}
