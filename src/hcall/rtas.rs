//! H_RTAS: the run-time abstraction services (LoPAR chapter 7), which a guest's RTAS blob passes on.
//!
//! The buffer is read once, into the hypervisor's memory, and acted on there; results are written by words, so nothing of
//! what stands beside them is. A buffer that is none of the caller's, or that says it has more words than any call has, is
//! H_PARAMETER; else the status of H_RTAS is H_SUCCESS, and the call's own is its first result, if there is room for one. With
//! an error there are no others.
//!
//! A vCPU that is started begins in 64-bit mode, big-endian, with translation off, whatever the partition chose for its
//! interrupts (QEMU likewise; Linux looks first which endianness it is in).

use super::abi::Status;
use super::abi::rtas::{
    BUSY, CPU_RUNNING, CPU_STOPPED, DISPLAY_CHARACTER, GET_TIME_OF_DAY, GET_XIVE, HARDWARE_ERROR,
    INT_OFF, INT_ON, MAX_WORDS, PARAMETER_ERROR, POWER_OFF, QUERY_CPU_STOPPED_STATE, REBOOT,
    SET_TIME_OF_DAY, SET_XIVE, START_CPU, STOP_SELF, SUCCESS, SYSTEM_REBOOT,
};
use super::{Call, Next, Platform, xics};
use crate::addr::GuestReal;
use crate::arch::Machine;
use crate::calendar::{self, date};
use crate::lpar::control::Start;
use crate::lpar::vcpu::Endian;
use crate::lpar::xics::Set;
use crate::memory::GuestWords;
use crate::table::bitmap::index;

/// Words before the arguments: the token, and how many arguments and results there are.
const HEADER: u32 = 3;
/// Results that a call has beside its status, at most.
const RESULTS: usize = calendar::WORDS;

/// What a call comes to: the results beside the status, those that it has. An error is a status.
type Answer = Result<([u32; RESULTS], Next), i32>;

/// Done, without results.
const DONE: Answer = Ok(([0; RESULTS], Next::Resume));

#[inline(never)]
pub(super) fn rtas<M: Machine, P: Platform>(
    call: &Call<'_, '_, M>,
    platform: &P,
) -> (Status, Next) {
    let machine = &call.system.machine;
    let regions = &call.caller.description().regions;
    let at = GuestReal::new(call.argument(0));
    let Some(header) = regions.claim_words(at, HEADER) else {
        return (Status::Parameter, Next::Resume);
    };
    let [token, arguments, results] = read(machine, &header, 0);
    let words = arguments.saturating_add(results);
    let buffer = if words <= MAX_WORDS {
        regions.claim_words(at, HEADER + words)
    } else {
        None
    };
    let Some(buffer) = buffer else {
        return (Status::Parameter, Next::Resume);
    };
    let first_result = u64::from(HEADER + arguments);
    let answer = if shape(token) == Some((arguments, results)) {
        let arguments = read(machine, &buffer, u64::from(HEADER));
        carry_out(call, platform, token, arguments)
    } else {
        Err(PARAMETER_ERROR)
    };
    let (status, values, next) = match answer {
        Ok((values, next)) => (SUCCESS, Some(values), next),
        Err(status) => (status, None, Next::Resume),
    };
    let values = values.into_iter().flatten();
    let values = core::iter::once(status.cast_unsigned()).chain(values);
    // As many as there is room for: the last word of the buffer is the last result.
    for (number, value) in (first_result..).zip(values) {
        if let Some(at) = buffer.word(number) {
            machine.store_word(at, value);
        }
    }
    (Status::Success, next)
}

/// Words of a buffer from number `first` on, each doubleword read once; zero beyond the end.
fn read<M: Machine, const N: usize>(machine: &M, buffer: &GuestWords, first: u64) -> [u32; N] {
    let mut words = [0; N];
    let mut last = None;
    for (number, word) in (first..).zip(&mut words) {
        let Some((holder, shift)) = buffer.holder(number) else {
            break;
        };
        let dword = match last {
            Some((at, dword)) if at == holder => dword,
            _ => machine.load(holder),
        };
        last = Some((holder, dword));
        // The half that the shift has left.
        *word = u32::try_from(dword >> shift & 0xffff_ffff).unwrap_or(0);
    }
    words
}

/// How many arguments and results a call has; none: there is no such call.
const fn shape(token: u32) -> Option<(u32, u32)> {
    Some(match token {
        DISPLAY_CHARACTER => (1, 1),
        POWER_OFF => (2, 1),
        SYSTEM_REBOOT | STOP_SELF => (0, 1),
        QUERY_CPU_STOPPED_STATE => (1, 2),
        START_CPU => (3, 1),
        GET_TIME_OF_DAY => (0, 8),
        SET_XIVE => (3, 1),
        GET_XIVE => (1, 3),
        INT_OFF | INT_ON => (1, 1),
        SET_TIME_OF_DAY => (7, 1),
        _ => return None,
    })
}

fn carry_out<M: Machine, P: Platform>(
    call: &Call<'_, '_, M>,
    platform: &P,
    token: u32,
    arguments: [u32; RESULTS],
) -> Answer {
    let [first, second, third, ..] = arguments;
    match token {
        DISPLAY_CHARACTER => {
            let [.., character] = first.to_be_bytes();
            if !platform.console_write(call.caller.description().lpid, &[character]) {
                return Err(BUSY);
            }
            DONE
        }
        POWER_OFF => Ok(end(call, 0)),
        SYSTEM_REBOOT => Ok(end(call, REBOOT)),
        QUERY_CPU_STOPPED_STATE => {
            let state = match call.caller.control().is_offline(number(first)) {
                Some(true) => CPU_STOPPED,
                Some(false) => CPU_RUNNING,
                None => return Err(PARAMETER_ERROR),
            };
            Ok(([state, 0, 0, 0, 0, 0, 0], Next::Resume))
        }
        START_CPU => {
            let start = Start {
                entry: GuestReal::new(second.into()),
                r3: third.into(),
                endian: Endian::Big,
            };
            let started = call.caller.control().start_vcpu(number(first), start);
            started.map_err(|status| match status {
                Status::Busy => HARDWARE_ERROR,
                _ => PARAMETER_ERROR,
            })?;
            DONE
        }
        STOP_SELF => Ok(([0; RESULTS], Next::Stop)),
        GET_TIME_OF_DAY => {
            let now = platform.time_of_day().ok_or(HARDWARE_ERROR)?;
            let seconds = now.as_secs().wrapping_add(call.caller.papr().clock());
            Ok((date(seconds, now.subsec_nanos()), Next::Resume))
        }
        SET_TIME_OF_DAY => {
            let wanted = calendar::seconds(arguments).ok_or(PARAMETER_ERROR)?;
            let now = platform.time_of_day().ok_or(HARDWARE_ERROR)?;
            call.caller
                .papr()
                .set_clock(wanted.wrapping_sub(now.as_secs()));
            DONE
        }
        SET_XIVE => {
            let priority = u8::try_from(third).map_err(|_| PARAMETER_ERROR)?;
            let sources = call.caller.papr().xics();
            changed(call, sources.route(first, number(second), priority))
        }
        GET_XIVE => {
            let routed = call.caller.papr().xics().routed(first);
            let (server, priority) = routed.ok_or(PARAMETER_ERROR)?;
            let server = u32::try_from(server).unwrap_or(0);
            Ok(([server, priority.into(), 0, 0, 0, 0, 0], Next::Resume))
        }
        INT_OFF | INT_ON => {
            let sources = call.caller.papr().xics();
            changed(call, sources.switch(first, token == INT_ON))
        }
        _ => Err(PARAMETER_ERROR),
    }
}

/// What comes of a change of an interrupt's source; none: there is no such source, or no such server.
fn changed<M: Machine>(call: &Call<'_, '_, M>, risen: Option<Set>) -> Answer {
    let next = xics::signal(call, risen.ok_or(PARAMETER_ERROR)?);
    Ok(([0; RESULTS], next))
}

/// The number of a vCPU.
fn number(word: u32) -> usize {
    index(word.into())
}

/// Ends the caller's partition.
fn end<M: Machine>(call: &Call<'_, '_, M>, code: u64) -> ([u32; RESULTS], Next) {
    call.system.halt(call.caller, code);
    ([0; RESULTS], Next::Exit)
}
