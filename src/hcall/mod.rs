//! The PAPR face of the engine: from a guest's registers to a status.
//!
//! [`dispatch`] chooses by token. Each family of calls has a file; a handler takes the caller's partition and
//! arguments as they stand in the registers, and answers with a [`Status`] and, through [`Frame`], results.
//! Every value a guest gives is checked here or turned into a type that can only hold a checked one; whatever
//! it holds, the answer is a status.
//!
//! A board that knows the token before it calls, from a table of its own, calls [`dispatch_to`]: the call is chosen when
//! the engine is compiled, and the way of each is one piece of code that saves and restores only what it needs itself.
//! Other handlers are kept out of line.

pub mod abi;
mod block_remove;
mod clear;
mod clear_hpt;
mod console;
mod enter;
mod mode;
mod page_init;
mod partition;
mod protect;
mod proxy;
mod read;
mod remove;
mod resize;
mod rtas;
mod stream;
mod vcpu;
mod vpa;
mod xics;

use core::time::Duration;

use abi::{ReportKind, Status};

use crate::addr::Lpid;
use crate::arch::Machine;
use crate::lpar::{Partition, System};
use crate::table::slot::{Changed, Locked};
use crate::table::tlb::Scope;

/// r3 to r12 of the calling guest: token and arguments in, status and results out. A register that no result
/// is put in stays as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// The registers; `regs[0]` is r3.
    pub regs: [u64; 10],
}

impl Frame {
    /// Argument `number`: 0 is r4.
    #[inline]
    #[must_use]
    pub fn argument(&self, number: usize) -> u64 {
        self.regs.get(number + 1).copied().unwrap_or(0)
    }

    /// Puts result `number`: 0 is r4.
    #[inline]
    pub fn put(&mut self, number: usize, value: u64) {
        if let Some(register) = self.regs.get_mut(number + 1) {
            *register = value;
        }
    }

    /// What a caller in 32-bit mode means by its registers: their low halves.
    #[must_use]
    pub fn low_halves(&self) -> Self {
        Self {
            regs: self.regs.map(|register| register & LOW_HALF),
        }
    }

    /// Gives the registers that a call on [`Self::low_halves`] has left alone the upper halves again that they had `before`:
    /// who calls in 32-bit mode may have 64-bit values in them.
    pub fn restore_upper_halves(&mut self, before: &Self) {
        let [_status, registers @ ..] = &mut self.regs;
        let [_token, before @ ..] = &before.regs;
        for (register, before) in registers.iter_mut().zip(before) {
            if *register == before & LOW_HALF {
                *register = *before;
            }
        }
    }
}

/// The low half of a register.
const LOW_HALF: u64 = 0xffff_ffff;

/// What the board does with the calling vCPU after a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Next {
    /// It goes on. Zero, the quickest to test for.
    Resume = 0,
    /// It goes on, on another table or with another LPCR: the board loads those first.
    Reload,
    /// It goes on, and an external interrupt waits for it: the board asks [`Partition::external_pending`] as before each
    /// entry.
    Interrupt,
    /// It gives up the rest of its slice, and goes on when it is prodded, or earlier.
    Cede,
    /// It gives up the rest of its slice.
    Yield,
    /// It goes offline.
    Stop,
    /// Its partition has ended.
    Exit,
    /// The machine is to be powered off: the verdict is given.
    PowerOff,
}

/// What hypercalls need of the board.
pub trait Platform {
    /// Shows what a partition wrote to its terminal, at most 16 bytes; false: not now, it has written too much.
    fn console_write(&self, lpid: Lpid, bytes: &[u8]) -> bool;

    /// Input for a partition's terminal; how many bytes there were.
    fn console_read(&self, lpid: Lpid, bytes: &mut [u8; 16]) -> usize;

    /// Reports a test case or a verdict.
    fn report(&self, lpid: Lpid, kind: ReportKind, text: &[u8], number: u64);

    /// The time of day of the machine, since the beginning of 1970; none: there is no clock.
    fn time_of_day(&self) -> Option<Duration> {
        None
    }

    /// What is known of the processors' behaviour under speculation, as H_GET_CPU_CHARACTERISTICS gives it:
    /// characteristics, which name the instructions that help, and behaviour, which says what needs help. Where nothing is
    /// known no instruction is named and everything needs help: a guest then does with plain instructions what it thinks right
    /// (Linux displaces the L1 data cache on each return to problem state).
    fn cpu_characteristics(&self) -> (u64, u64) {
        use abi::behaviour::{BOUNDS_BARRIER, FAVOUR_SECURITY, L1D_FLUSH};
        (0, FAVOUR_SECURITY | L1D_FLUSH | BOUNDS_BARRIER)
    }

    /// A call that only this board has; none: H_FUNCTION.
    fn extra(&self, lpid: Lpid, frame: &mut Frame) -> Option<Status> {
        let _ = (lpid, frame);
        None
    }
}

/// Which vCPU makes a hypercall, and on which CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat {
    /// The vCPU's number in its partition.
    pub vcpu: u32,
    /// The CPU's number in the machine.
    pub cpu: u32,
}

/// What comes of a call that changes an entry.
#[derive(Clone, Copy, Debug)]
struct Answer<'c> {
    status: Status,
    /// What readers are still to be told, after all else: it needs nothing of the call any more.
    changed: Option<Changed<'c>>,
}

impl From<Status> for Answer<'_> {
    #[inline(always)]
    fn from(status: Status) -> Self {
        Self {
            status,
            changed: None,
        }
    }
}

impl<'c> From<Changed<'c>> for Answer<'c> {
    #[inline(always)]
    fn from(changed: Changed<'c>) -> Self {
        Self {
            status: Status::Success,
            changed: Some(changed),
        }
    }
}

impl Answer<'_> {
    /// Notes the change.
    #[inline(always)]
    fn note(self) -> Status {
        if let Some(changed) = self.changed {
            changed.note();
        }
        self.status
    }
}

/// What [`dispatch_to`] has done.
#[derive(Clone, Copy, Debug)]
#[must_use = "readers are to be told of a change"]
pub enum Direct<'c> {
    /// All of it.
    Done,
    /// All but to note this change.
    Changed(Changed<'c>),
    /// Nothing: it is for [`dispatch`].
    Odd,
}

/// A hypercall in progress.
#[derive(Debug)]
struct Call<'c, 'm, M: Machine> {
    system: &'c System<'m, M>,
    caller: &'c Partition<'m>,
    seat: Seat,
    /// Whether another partition makes it for the caller, none of whose vCPUs is at it.
    by_proxy: bool,
    frame: &'c mut Frame,
}

impl<'c, M: Machine> Call<'c, '_, M> {
    /// The calling vCPU's number; none, if the call is made for the partition by another.
    fn vcpu(&self) -> Option<usize> {
        (!self.by_proxy).then_some(self.seat.vcpu as usize)
    }

    /// The CPU's number.
    const fn cpu(&self) -> usize {
        self.seat.cpu as usize
    }

    /// Who may remember the translations of the caller's entries: anybody, if it is not the caller itself that
    /// calls.
    #[inline]
    fn scope(&self) -> Scope {
        if self.by_proxy {
            self.caller.table().lpid().into()
        } else {
            self.caller.scope()
        }
    }

    /// The caller's entry in the slot that argument 1 names, locked.
    #[inline]
    fn entry(&self) -> Result<Locked<'c>, Status> {
        self.caller
            .table()
            .slot_at(self.argument(1))
            .ok_or(Status::Parameter)?
            .lock()
            .ok_or(Status::NotFound)
    }

    #[inline]
    fn argument(&self, number: usize) -> u64 {
        self.frame.argument(number)
    }

    #[inline]
    fn put(&mut self, number: usize, value: u64) {
        self.frame.put(number, value);
    }
}

/// Carries out the hypercall whose token and arguments are in `frame`, for a vCPU of `caller`.
pub fn dispatch<'m, M: Machine, P: Platform>(
    system: &System<'m, M>,
    platform: &P,
    caller: &Partition<'m>,
    seat: Seat,
    problem_state: bool,
    frame: &mut Frame,
) -> Next {
    if problem_state {
        frame.regs[0] = Status::Privilege.raw();
        return Next::Resume;
    }
    let [token, ..] = frame.regs;
    let mut call = Call {
        system,
        caller,
        seat,
        by_proxy: false,
        frame,
    };
    let (status, next) = match hpt(&mut call, token) {
        Some(Status::Success) if token == abi::H_RESIZE_HPT_COMMIT => {
            (Status::Success, Next::Reload)
        }
        Some(status) => (status, Next::Resume),
        None => other(call, platform, token),
    };
    frame.regs[0] = status.raw();
    next
}

/// Carries out hypercall `TOKEN`, whose arguments are in `frame`, for a vCPU of `caller` that is not in problem state, and
/// that goes on afterwards. For the calls on a partition's table that are made all the time: H_REMOVE,
/// H_ENTER, H_READ, H_CLEAR_MOD, H_CLEAR_REF, H_PROTECT and H_BULK_REMOVE, where nothing unusual is wanted.
///
/// A change is given back to be noted, as the last thing of all and only where someone reads: so the board can do it in
/// a function that it leaves by, and the way of the call itself has no registers to save for it.
///
/// Always inlined: the caller is the function that the board's vector calls, and it is made for this token alone.
#[inline(always)]
pub fn dispatch_to<'c, 'm, const TOKEN: u64, M: Machine>(
    system: &'c System<'m, M>,
    caller: &'c Partition<'m>,
    seat: Seat,
    frame: &'c mut Frame,
) -> Direct<'c> {
    let mut call = Call {
        system,
        caller,
        seat,
        by_proxy: false,
        frame,
    };
    let Some(Answer { status, changed }) = direct(&mut call, TOKEN) else {
        return Direct::Odd;
    };
    call.frame.regs[0] = status.raw();
    match changed {
        Some(changed) if changed.is_due() => Direct::Changed(changed),
        _ => Direct::Done,
    }
}

/// The calls that [`dispatch_to`] is for, each in its usual form; none: it is not one of them.
#[inline(always)]
fn direct<'c, M: Machine>(call: &mut Call<'c, '_, M>, token: u64) -> Option<Answer<'c>> {
    Some(match token {
        abi::H_REMOVE => remove::remove(call),
        abi::H_ENTER => return enter::enter(call),
        abi::H_READ => read::read(call)?.into(),
        abi::H_CLEAR_MOD => clear::clear_mod(call),
        abi::H_CLEAR_REF => clear::clear_ref(call),
        abi::H_PROTECT => protect::protect(call),
        abi::H_BULK_REMOVE => remove::bulk_remove(call).into(),
        _ => return None,
    })
}

/// The calls on a partition's table, for those who learn the token with the call; none: it is not one of theirs.
#[inline(never)]
fn hpt<M: Machine>(call: &mut Call<'_, '_, M>, token: u64) -> Option<Status> {
    match direct(call, token) {
        Some(answer) => Some(answer.note()),
        None => seldom(call, token),
    }
}

/// The calls on a partition's table that [`direct`] has not, or not in this form.
fn seldom<M: Machine>(call: &mut Call<'_, '_, M>, token: u64) -> Option<Status> {
    Some(match token {
        abi::H_ENTER => enter::enter_any(call),
        abi::H_READ => read::read_any(call),
        abi::H_PAGE_INIT => page_init::page_init(call),
        abi::H_BLOCK_REMOVE => block_remove::block_remove(call),
        abi::H_CLEAR_HPT => clear_hpt::clear_hpt(call),
        abi::H_RESIZE_HPT_PREPARE => resize::prepare(call),
        abi::H_RESIZE_HPT_COMMIT => resize::commit(call),
        _ => return None,
    })
}

/// All calls but those of [`hpt`].
#[inline(never)]
fn other<M: Machine, P: Platform>(
    mut call: Call<'_, '_, M>,
    platform: &P,
    token: u64,
) -> (Status, Next) {
    let status = match token {
        abi::H_HPT_OPEN => stream::open(&mut call),
        abi::H_HPT_READ => stream::read(&mut call),
        abi::H_HPT_WRITE => stream::write(&mut call),
        abi::H_HPT_CLOSE => stream::close(&call),
        abi::H_HPT_STAT => stream::stat(&mut call),
        abi::H_LPAR_QUERY => partition::query(&mut call),
        abi::H_LPAR_PAUSE => partition::pause(&call),
        abi::H_LPAR_RESUME => partition::resume(&call),
        abi::H_LPAR_RESET => partition::reset(&call),
        abi::H_LPAR_START => partition::start(&call),
        abi::H_LPAR_HCALL => proxy::hcall(&call),
        abi::H_PUT_TERM_CHAR => console::put(&call, platform),
        abi::H_GET_TERM_CHAR => console::get(&mut call, platform),
        abi::H_CEDE => return vcpu::cede(&call),
        abi::H_REGISTER_VPA => vpa::register(&call),
        abi::H_XIRR => xics::accept(&mut call, false),
        abi::H_XIRR_X => xics::accept(&mut call, true),
        abi::H_CPPR => return xics::set_cppr(&call),
        abi::H_EOI => return xics::end(&call),
        abi::H_IPI => return xics::ipi(&call),
        abi::H_IPOLL => xics::poll(&mut call),
        abi::H_RTAS => return rtas::rtas(&call, platform),
        abi::H_SET_MODE => return mode::set_mode(&call),
        abi::H_REGISTER_PROC_TBL => mode::register_process_table(&call),
        abi::H_GET_CPU_CHARACTERISTICS => mode::characteristics(&mut call, platform),
        abi::H_SET_SPRG0 => mode::set_sprg0(&call),
        abi::H_SET_DABR => mode::set_dabr(&call),
        abi::H_SET_XDABR => mode::set_xdabr(&call),
        abi::H_CONFER => return vcpu::confer(&call),
        abi::H_PROD => vcpu::prod(&call),
        abi::H_VCPU_START => vcpu::start(&call),
        abi::H_VCPU_STOP => return (Status::Success, Next::Stop),
        abi::H_LPAR_EXIT => {
            call.system.halt(call.caller, call.argument(0));
            return (Status::Success, Next::Exit);
        }
        abi::H_REPORT => return console::report(&call, platform),
        _ => platform
            .extra(call.caller.description().lpid, call.frame)
            .unwrap_or(Status::Function),
    };
    (status, Next::Resume)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_call_in_32_bit_mode_sees_low_halves_and_changes_results_alone() {
        let before = Frame {
            regs: core::array::from_fn(|number| 0x1234_5678_0000_0000 | number as u64),
        };
        let mut frame = before.low_halves();
        assert_eq!(frame.regs, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        frame.regs[0] = Status::Parameter.raw();
        frame.put(1, 1 << 40);
        frame.restore_upper_halves(&before);
        let mut expected = before;
        (expected.regs[0], expected.regs[2]) = (Status::Parameter.raw(), 1 << 40);
        assert_eq!(frame, expected);
    }
}
