//! Test cases and verdicts, by H_REPORT. The partition needs the privilege.

use crate::{abi::ReportKind, hcall};

/// The longest name or note, as the hypervisor keeps it; longer ones are cut.
pub const TEXT: usize = 96;

/// A text where the hypervisor can read it: 8-byte aligned, in the program's memory.
#[repr(C, align(8))]
struct Buffer([u8; TEXT]);

fn send(kind: ReportKind, text: &str, number: u64) {
    let mut buffer = Buffer([0; TEXT]);
    let mut length = 0;
    for (to, from) in buffer.0.iter_mut().zip(text.bytes()) {
        *to = from;
        length += 1;
    }
    let address = (&raw const buffer).addr() as u64;
    if let Err(failure) = hcall::report(kind, address, length, number) {
        crate::println!("cannot report {kind:?} {text}: {failure}");
    }
}

/// Says how many cases will be reported.
pub fn plan(cases: u64) {
    send(ReportKind::Plan, "", cases);
}

/// The case passed.
pub fn passed(name: &str) {
    send(ReportKind::Passed, name, 0);
}

/// The case failed; `detail` is a number of the case's choice.
pub fn failed(name: &str, detail: u64) {
    send(ReportKind::Failed, name, detail);
}

/// A line for the log.
pub fn note(text: &str) {
    send(ReportKind::Note, text, 0);
}

/// All is reported: the hypervisor gives its verdict and ends the run.
pub fn end() {
    send(ReportKind::End, "", 0);
}
