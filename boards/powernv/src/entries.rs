//! Which function the vector of a hypercall calls: a table by token.
//!
//! LoPAR's tokens are multiples of four, so the token's quarter is the index. What [`hcall::dispatch_to`] is for gets a
//! function made for it alone: the token is compared with nothing, and neither the choice of a call nor a frame for it stands
//! between the vector and the engine. Everything else, and every token that is no index of the table, gets one that looks
//! at the token.

use core::marker::PhantomData;

use realhpt::hcall::{self, Direct, Frame, Next, Seat, abi};
use realhpt::lpar::Partition;
use realhpt::lpar::vcpu::msr;
use realhpt::table::slot::Changed;

use crate::board::{Board, Extension};
use crate::cpu::{Cpu, HypercallEntry};

/// What the hypercall entry answers, to be matched beside vectors: each is smaller than any of them. The entry tests
/// for zero.
pub(crate) mod answer {
    use realhpt::hcall::Next;

    pub(crate) const CEDE: u64 = Next::Cede as u64;
    pub(crate) const EXIT: u64 = Next::Exit as u64;
    pub(crate) const POWER_OFF: u64 = Next::PowerOff as u64;
    pub(crate) const YIELD: u64 = Next::Yield as u64;
    pub(crate) const STOP: u64 = Next::Stop as u64;
    pub(crate) const RELOAD: u64 = Next::Reload as u64;
    pub(crate) const INTERRUPT: u64 = Next::Interrupt as u64;
    const _: () = assert!(Next::Resume as u64 == 0);
}

/// Tokens from 0 on, in fours, that have an entry of the table each: LoPAR's on page tables are among them. One more entry
/// is for all others.
pub(crate) const TOKENS: usize = 74;

/// The table of a board with this extension.
#[derive(Debug)]
pub(crate) struct Entries<E>(PhantomData<E>);

impl<E: Extension> Entries<E> {
    #[expect(
        clippy::indexing_slicing,
        reason = "a token that the table has no entry for does not compile"
    )]
    const TABLE: [HypercallEntry; TOKENS + 1] = {
        let mut table: [HypercallEntry; TOKENS + 1] = [any::<E>; TOKENS + 1];
        const fn index(token: u64) -> usize {
            (token / 4) as usize
        }
        table[index(abi::H_REMOVE)] = one::<E, { abi::H_REMOVE }>;
        table[index(abi::H_ENTER)] = one::<E, { abi::H_ENTER }>;
        table[index(abi::H_READ)] = one::<E, { abi::H_READ }>;
        table[index(abi::H_CLEAR_MOD)] = one::<E, { abi::H_CLEAR_MOD }>;
        table[index(abi::H_CLEAR_REF)] = one::<E, { abi::H_CLEAR_REF }>;
        table[index(abi::H_PROTECT)] = one::<E, { abi::H_PROTECT }>;
        table[index(abi::H_BULK_REMOVE)] = one::<E, { abi::H_BULK_REMOVE }>;
        table
    };

    /// The table, for the vectors of a board that accounts for hypercalls or does not.
    pub(crate) fn table(is_counted: bool) -> &'static [HypercallEntry; TOKENS + 1] {
        if is_counted {
            &[counted::<E>; TOKENS + 1]
        } else {
            &Self::TABLE
        }
    }
}

/// The way of any hypercall of a board that accounts for it: through that to the function that others call.
///
/// # Safety
/// As [`one`].
unsafe extern "C" fn counted<E: Extension>(cpu: *mut Cpu, srr1: u64) -> u64 {
    // SAFETY: the vectors'.
    let (board, _, _, frame) = unsafe { caller::<E>(cpu) };
    let [token, ..] = frame.regs;
    // As the vectors find it.
    let index = usize::try_from(token.rotate_right(2)).ok();
    let entry = index.and_then(|index| Entries::<E>::TABLE.get(index));
    let entry = entry.copied().unwrap_or(any::<E>);
    match board.account() {
        // SAFETY: the vectors'.
        Some(account) => unsafe { account.hypercall(&board.machine, entry, cpu, srr1) },
        // SAFETY: the vectors'.
        None => unsafe { entry(cpu, srr1) },
    }
}

/// What a hypercall finds in its CPU's area: the board, the partition, the vCPU, and its registers.
///
/// # Safety
/// `cpu` is the area of this CPU, which nobody else uses; its `board` is a [`Board<E>`], `partition` one of its
/// partitions.
#[inline(always)]
unsafe fn caller<'c, E>(
    cpu: *mut Cpu,
) -> (&'c Board<E>, &'c Partition<'static>, Seat, &'c mut Frame) {
    // SAFETY: the caller's.
    let cpu = unsafe { &mut *cpu };
    // SAFETY: set by `Run::new` to a board of this type, which is never given up.
    let board = unsafe { &*cpu.board.cast::<Board<E>>() };
    // SAFETY: set by `Run::load` to one of the board's partitions, before any guest ran.
    let partition = unsafe { &*cpu.partition };
    (board, partition, cpu.seat, &mut cpu.registers.frame)
}

/// The way of hypercall `TOKEN`: from the vector's registers to the engine.
///
/// # Safety
/// Called by the vectors; the area's `board` is a [`Board<E>`], `partition` one of its partitions.
unsafe extern "C" fn one<E: Extension, const TOKEN: u64>(cpu: *mut Cpu, srr1: u64) -> u64 {
    // SAFETY: the vectors'.
    let (board, partition, seat, frame) = unsafe { caller::<E>(cpu) };
    // The usual caller is neither in problem state nor in 32-bit mode: one test for both, of bits that a rotation brings
    // within reach of an immediate operand.
    const SF: u64 = msr::SF.rotate_left(1);
    const PR: u64 = msr::PR.rotate_left(1);
    if srr1.rotate_left(1) & (SF | PR) == SF {
        match hcall::dispatch_to::<TOKEN, _>(&board.machine, partition, seat, frame) {
            Direct::Done => return Next::Resume as u64,
            Direct::Changed(changed) => return note(changed),
            Direct::Odd => {}
        }
    }
    // SAFETY: the vectors'.
    unsafe { any::<E>(cpu, srr1) }
}

/// Notes the change that a hypercall made, and lets the guest go on. With the linkage of [`one`], which so leaves by it:
/// as long as the compiler does not see that all it gives back is a constant, which it would put behind a call.
#[inline(never)]
#[expect(
    improper_ctypes_definitions,
    reason = "called from here alone; its two registers are the change's two doublewords"
)]
extern "C" fn note(changed: Changed<'_>) -> u64 {
    changed.note();
    core::hint::black_box(Next::Resume as u64)
}

/// The way of any hypercall. Out of line: those that [`one`] is for have no room for what this way keeps.
///
/// # Safety
/// As [`one`].
#[inline(never)]
unsafe extern "C" fn any<E: Extension>(cpu: *mut Cpu, srr1: u64) -> u64 {
    let problem_state = srr1 & msr::PR != 0;
    if srr1 & msr::SF == 0 && !problem_state {
        // SAFETY: the vectors'.
        return unsafe { narrow::<E>(cpu, srr1) };
    }
    // SAFETY: the vectors'.
    let (board, partition, seat, frame) = unsafe { caller::<E>(cpu) };
    let machine = &board.machine;
    hcall::dispatch(machine, board, partition, seat, problem_state, frame) as u64
}

/// The way of a hypercall in 32-bit mode: the low halves of the registers are the arguments, and what the upper halves hold is
/// nothing the call knows of, and stays there. Apart: the other way needs no room for them.
///
/// # Safety
/// As [`one`].
#[cold]
#[inline(never)]
unsafe fn narrow<E: Extension>(cpu: *mut Cpu, srr1: u64) -> u64 {
    // SAFETY: the vectors'; given up before the call.
    let (_, _, _, frame) = unsafe { caller::<E>(cpu) };
    let before = *frame;
    *frame = before.low_halves();
    // SAFETY: the vectors'.
    let next = unsafe { any::<E>(cpu, srr1 | msr::SF) };
    // SAFETY: the vectors'; the call is done.
    let (_, _, _, frame) = unsafe { caller::<E>(cpu) };
    frame.restore_upper_halves(&before);
    next
}
