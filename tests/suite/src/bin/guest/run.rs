//! Runs the cases and reports them.

use core::{
    fmt::Write as _,
    ptr::{from_mut, with_exposed_provenance_mut},
};

use realhpt_pseries::{abi::Privileges, cpu::Msr, guard, println, report, runtime::Runtime};

use crate::{
    bench::Bench,
    cases, client, stress,
    trouble::{Outcome, Trouble},
};

/// A case: its name and what it does.
pub(crate) type Case = (&'static str, fn(&mut Bench<'_>) -> Outcome);

macro_rules! table {
    ($($module:ident::$case:ident,)*) => {
        const TABLE: &[Case] = &[
            $((concat!(stringify!($module), "::", stringify!($case)), cases::$module::$case)),*
        ];
    };
}
realhpt_suite::cases!(table);

/// The program, in whatever partition.
pub(crate) fn main(runtime: &Runtime) -> u64 {
    if let Some(code) = stress::main(runtime) {
        return code;
    }
    if !runtime.partition.privileges.contains(Privileges::REPORT) {
        return client::main(runtime);
    }
    report::plan(TABLE.len() as u64);
    let mut bench = Bench::new(runtime);
    let mut failed = 0;
    for (number, (name, _)) in (0..).zip(TABLE) {
        // A case that does not come back is then known by name.
        println!("suite: {name}");
        match run(&mut bench, number) {
            Ok(()) => report::passed(name),
            Err(trouble) => {
                failed += 1;
                note(&trouble);
                report::failed(name, trouble.line());
            }
        }
        if let Err(trouble) = bench.clear() {
            println!("suite: after {name}: {trouble} ({})", trouble.place());
        }
    }
    report::end();
    failed
}

/// Says what was wrong: in short in the log, at length on the console.
fn note(trouble: &Trouble) {
    let mut line = heapless::String::<{ report::TEXT }>::new();
    // What does not fit is left out.
    let _ = write!(line, "{trouble}");
    report::note(&line);
    println!("suite: {trouble} ({})", trouble.place());
}

/// Runs a case under a guard.
fn run(bench: &mut Bench<'_>, number: u64) -> Outcome {
    let at = from_mut(bench).expose_provenance() as u64;
    // SAFETY: the case is sound; when it is given up, the bench is as some statement of the case left it, and
    // nothing in it needs more than that.
    let ended = unsafe { guard::run(enter, [at, number], Msr::TRANSLATED) };
    match ended {
        Ok(_) => bench.outcome(),
        Err(fault) => Err(Trouble::interrupt(fault)),
    }
}

/// The guarded code: calls case `number` of the table with the bench at `bench`.
unsafe extern "C" fn enter(bench: u64, number: u64) -> u64 {
    let address = usize::try_from(bench).unwrap_or_default();
    // SAFETY: `run` gives the address of its bench, which it does not use meanwhile.
    let bench: &mut Bench<'_> = unsafe { &mut *with_exposed_provenance_mut(address) };
    let case = usize::try_from(number)
        .ok()
        .and_then(|number| TABLE.get(number));
    if let Some((_, case)) = case {
        let outcome = case(bench);
        bench.set_outcome(outcome);
    }
    0
}
