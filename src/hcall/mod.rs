//! The PAPR face of the engine: from a guest's registers to a status.
//!
//! [`dispatch`] chooses by token. Each family of calls has a file; a handler takes the caller's partition and
//! arguments as they stand in the registers, and answers with a [`Status`] and, through [`Frame`], results.
//! Every value a guest gives is checked here or turned into a type that can only hold a checked one; whatever
//! it holds, the answer is a status.
//!
//! Handlers are kept out of line, so that none saves and restores the registers that another one needs.

pub mod abi;
mod clear_hpt;
mod console;
mod enter;
mod partition;
mod protect;
mod read;
mod remove;
mod resize;
mod stream;

use abi::{ReportKind, Status};

use crate::addr::Lpid;
use crate::arch::Machine;
use crate::lpar::{Partition, System};

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
pub enum Next {
    /// It goes on.
    Resume,
    /// It goes on, on another table: the board has the processor walk that one first.
    Reload,
    /// It gives up the rest of its slice, and goes on later.
    Cede,
    /// Its partition has ended.
    Exit,
    /// The machine is to be powered off: the verdict is given.
    PowerOff,
}

/// What hypercalls need of the board.
pub trait Platform {
    /// Shows what a partition wrote to its terminal, at most 16 bytes.
    fn console_write(&self, lpid: Lpid, bytes: &[u8]);

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

/// A hypercall in progress.
#[derive(Debug)]
struct Call<'c, 'm, M: Machine> {
    system: &'c System<'m, M>,
    caller: &'c Partition<'m>,
    frame: &'c mut Frame,
}

impl<M: Machine> Call<'_, '_, M> {
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
    problem_state: bool,
    frame: &mut Frame,
) -> Next {
    let [token, ..] = frame.regs;
    let (status, next) = if problem_state {
        (Status::Privilege, Next::Resume)
    } else {
        route(system, platform, caller, token, frame)
    };
    frame.regs[0] = status.raw();
    next
}

fn route<'m, M: Machine, P: Platform>(
    system: &System<'m, M>,
    platform: &P,
    caller: &Partition<'m>,
    token: u64,
    frame: &mut Frame,
) -> (Status, Next) {
    let mut call = Call {
        system,
        caller,
        frame,
    };
    let status = match token {
        abi::H_REMOVE => remove::remove(&mut call),
        abi::H_ENTER => enter::enter(&mut call),
        abi::H_READ => read::read(&mut call),
        abi::H_PROTECT => protect::protect(&call),
        abi::H_BULK_REMOVE => remove::bulk_remove(&mut call),
        abi::H_CLEAR_HPT => clear_hpt::clear_hpt(&call),
        abi::H_RESIZE_HPT_PREPARE => resize::prepare(&call),
        abi::H_RESIZE_HPT_COMMIT => return resize::commit(&call),
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
        abi::H_PUT_TERM_CHAR => console::put(&call, platform),
        abi::H_GET_TERM_CHAR => console::get(&mut call, platform),
        abi::H_CEDE => return (Status::Success, Next::Cede),
        abi::H_LPAR_EXIT => {
            system.halt(caller, call.argument(0));
            return (Status::Success, Next::Exit);
        }
        abi::H_REPORT => return console::report(&call, platform),
        _ => platform
            .extra(caller.description().lpid, frame)
            .unwrap_or(Status::Function),
    };
    (status, Next::Resume)
}
