//! The terminal calls (LoPAR 16.2) and our H_REPORT.
//!
//! A partition has one terminal, with the unit address that its device tree names; 0 is the same, for programs that
//! look into none.

use super::abi::{Privileges, ReportKind, Status, VTY, VTY_INTERRUPT};
use super::{Call, Next, Platform};
use crate::addr::GuestReal;
use crate::arch::Machine;

/// Bytes that one terminal call carries.
const MAX: u64 = 16;
/// Bytes of a report's text that are kept.
const REPORT: usize = 96;

/// Whether there is a terminal with this unit address.
const fn is_terminal(unit: u64) -> bool {
    matches!(unit, VTY | 0)
}

#[inline(never)]
pub(super) fn put<M: Machine, P: Platform>(call: &Call<'_, '_, M>, platform: &P) -> Status {
    let (unit, length) = (call.argument(0), call.argument(1));
    if !is_terminal(unit) || length > MAX {
        return Status::Parameter;
    }
    let mut bytes = [0; 16];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&call.argument(2).to_be_bytes());
    high.copy_from_slice(&call.argument(3).to_be_bytes());
    let text = bytes
        .get(..crate::table::bitmap::index(length))
        .unwrap_or_default();
    if platform.console_write(call.caller.description().lpid, text) {
        Status::Success
    } else {
        Status::Busy
    }
}

#[inline(never)]
pub(super) fn get<M: Machine, P: Platform>(call: &mut Call<'_, '_, M>, platform: &P) -> Status {
    if !is_terminal(call.argument(0)) {
        return Status::Parameter;
    }
    let sources = call.caller.papr().xics();
    let mut bytes = [0; 16];
    // Input that comes after the interrupt is taken back raises it anew, so that none is forgotten.
    let _ = sources.raise(VTY_INTERRUPT, false);
    let count = platform.console_read(call.caller.description().lpid, &mut bytes);
    if count == bytes.len() {
        // There may be more.
        call.caller.terminal_has_input(&call.system.machine);
    }
    let (low, high) = bytes.split_at(8);
    let dword = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |dword, &byte| dword << 8 | u64::from(byte))
    };
    call.put(0, count as u64);
    call.put(1, dword(low));
    call.put(2, dword(high));
    Status::Success
}

#[inline(never)]
pub(super) fn report<M: Machine, P: Platform>(
    call: &Call<'_, '_, M>,
    platform: &P,
) -> (Status, Next) {
    let description = call.caller.description();
    if !description.privileges.contains(Privileges::REPORT) {
        return (Status::Authority, Next::Resume);
    }
    let kinds = [
        ReportKind::Plan,
        ReportKind::Passed,
        ReportKind::Failed,
        ReportKind::End,
        ReportKind::Note,
    ];
    let Some(kind) = kinds
        .into_iter()
        .find(|&kind| kind as u64 == call.argument(0))
    else {
        return (Status::Parameter, Next::Resume);
    };
    let mut text: heapless::Vec<u8, REPORT> = heapless::Vec::new();
    let length = call.argument(2).min(REPORT as u64);
    if length != 0 {
        let whole = length.next_multiple_of(8);
        let Some(buffer) = description
            .regions
            .claim(GuestReal::new(call.argument(1)), whole)
        else {
            return (Status::Parameter, Next::Resume);
        };
        for at in (0..whole)
            .step_by(8)
            .filter_map(|offset| buffer.dword(offset))
        {
            let _ = text.extend_from_slice(&call.system.machine.load(at).to_be_bytes());
        }
        text.truncate(crate::table::bitmap::index(length));
    }
    platform.report(description.lpid, kind, &text, call.argument(3));
    (
        Status::Success,
        if kind == ReportKind::End {
            Next::PowerOff
        } else {
            Next::Resume
        },
    )
}
