//! The PAPR face of the engine: from a guest's registers to a status.
//!
//! [`dispatch`] chooses by token. Each family of calls has a file; a handler takes the caller's partition and
//! arguments as they stand in the registers, and answers with a [`Status`] and, through [`Frame`], results.
//! Every value a guest gives is checked here or turned into a type that can only hold a checked one; whatever
//! it holds, the answer is a status.
//!
//! Handlers are kept out of line, so that none saves and restores the registers that another one needs.

pub mod abi;
mod block_remove;
mod clear;
mod clear_hpt;
mod console;
mod enter;
mod page_init;
mod partition;
mod protect;
mod proxy;
mod read;
mod remove;
mod resize;
mod stream;
mod vcpu;

use abi::{ReportKind, Status};

use crate::addr::Lpid;
use crate::arch::Machine;
use crate::lpar::{Partition, System};
use crate::table::slot::Locked;
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
}

/// What the board does with the calling vCPU after a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Next {
    /// It goes on. Zero, the quickest to test for.
    Resume = 0,
    /// It goes on, on another table: the board has the processor walk that one first.
    Reload,
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

impl Seat {
    /// The number of no vCPU: a call is made for the partition by another.
    const NOBODY: u32 = u32::MAX;

    /// The same CPU, with no vCPU of the partition that the call is for.
    const fn proxy(self) -> Self {
        Self {
            vcpu: Self::NOBODY,
            ..self
        }
    }
}

/// A hypercall in progress.
#[derive(Debug)]
struct Call<'c, 'm, M: Machine> {
    system: &'c System<'m, M>,
    caller: &'c Partition<'m>,
    seat: Seat,
    frame: &'c mut Frame,
}

impl<'c, M: Machine> Call<'c, '_, M> {
    /// The calling vCPU's number; none, if the call is made for the partition by another.
    fn vcpu(&self) -> Option<usize> {
        (self.seat.vcpu != Seat::NOBODY).then_some(self.seat.vcpu as usize)
    }

    /// The CPU's number.
    const fn cpu(&self) -> usize {
        self.seat.cpu as usize
    }

    /// Who may remember the translations of the caller's entries: anybody, if it is not the caller itself that
    /// calls.
    #[inline]
    fn scope(&self) -> Scope {
        if self.seat.vcpu == Seat::NOBODY {
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
///
/// The calls that are made all the time are on its own way; the rest is in a function apart, whose registers these
/// need not save.
#[inline]
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
        frame,
    };
    let (status, next) = match hpt(&mut call, token) {
        Some(status) => (status, Next::Resume),
        None => other(call, platform, token),
    };
    frame.regs[0] = status.raw();
    next
}

/// The calls on a partition's table that are made all the time; none: the token is not one of theirs.
#[inline]
fn hpt<M: Machine>(call: &mut Call<'_, '_, M>, token: u64) -> Option<Status> {
    Some(match token {
        abi::H_REMOVE => remove::remove(call),
        abi::H_ENTER => enter::enter(call),
        abi::H_READ => read::read(call),
        abi::H_PROTECT => protect::protect(call),
        abi::H_BULK_REMOVE => remove::bulk_remove(call),
        _ => return None,
    })
}

/// The calls on a partition's table that are made too seldom to be compared with on the way to the others.
#[inline(never)]
fn hpt_seldom<M: Machine>(call: &mut Call<'_, '_, M>, token: u64) -> Option<Status> {
    Some(match token {
        abi::H_CLEAR_REF => clear::clear_ref(call),
        abi::H_CLEAR_MOD => clear::clear_mod(call),
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
        abi::H_CEDE => return (Status::Success, Next::Cede),
        abi::H_CONFER => return vcpu::confer(&call),
        abi::H_PROD => vcpu::prod(&call),
        abi::H_VCPU_START => vcpu::start(&call),
        abi::H_VCPU_STOP => return (Status::Success, Next::Stop),
        abi::H_LPAR_EXIT => {
            call.system.halt(call.caller, call.argument(0));
            return (Status::Success, Next::Exit);
        }
        abi::H_REPORT => return console::report(&call, platform),
        _ => match hpt_seldom(&mut call, token) {
            Some(Status::Success) if token == abi::H_RESIZE_HPT_COMMIT => {
                return (Status::Success, Next::Reload);
            }
            Some(status) => status,
            None => platform
                .extra(call.caller.description().lpid, call.frame)
                .unwrap_or(Status::Function),
        },
    };
    (status, Next::Resume)
}
