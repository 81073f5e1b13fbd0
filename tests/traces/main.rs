//! Does the hypercalls of recorded Linux runs again on the library: every answer is the recorded one, and so is
//! the table that is left, wherever one was recorded.
//!
//! `tests/data/hcall-traces`: every hypercall of a Linux guest of QEMU's pseries machine, as
//! `cargo run -- replay TRACE --host` does them again (`realhpt_qemu::replay::calls` says what may be otherwise).

use std::path::PathBuf;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Trial};
use realhpt::table::Format;
use realhpt_qemu::replay::calls::{self, ORDER};
use realhpt_qemu::replay::host::{self, Host};
use realhpt_qemu::replay::trace::Trace;
use realhpt_qemu::tables::formats;

/// A trace and what is known of it: calls about hashed page tables, and whether its final table was recorded.
const TRACES: [(&str, u64, bool); 3] = [
    ("t_direct", 77956, false),
    ("t_p8_idle", 77904, true),
    ("t_tiny", 99906, true),
];

fn main() {
    let arguments = Arguments::from_args();
    let trials = TRACES.into_iter().flat_map(|trace| {
        [Format::V2_07, Format::V3_0].map(|format| {
            let name = format!("{} {format:?}", trace.0);
            Trial::test(name, move || {
                again(trace, format).map_err(|error| format!("{error:#}").into())
            })
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn again((name, number, has_table): (&str, u64, bool), format: Format) -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/hcall-traces");
    let trace = Trace::load(&folder.join(format!("{name}.hcalls.txt.xz")))?;
    let store = host::store(&calls::layout(&trace, ORDER))?;
    let mut host = Host::new(&store, format)?;
    let mut outcome = calls::run(&mut host, &trace, ORDER, |_| {})?;
    if has_table {
        let table = folder.join(format!("{name}.htab.xz"));
        outcome.hold_to(&formats::load(&table, None, None)?)?;
    }
    let agreed: u64 = outcome.counts.values().map(|count| count.agreed).sum();
    ensure!(
        outcome.differences == 0 && agreed == number,
        "{agreed} of {number} calls agree: {:#?}",
        outcome.shown
    );
    Ok(())
}
