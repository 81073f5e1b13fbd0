//! Holds the engine to long sequences of hypercalls and stream calls that Linux's KVM-HV executed.
//!
//! `tests/data/kvm-sequences`: thousands of random but structured calls each, with every register and every
//! byte of every stream read recorded, on POWER8 (our ISA 2.07 format is held to it) and POWER9 (ISA 3.0). Every
//! file there is done again on the library, as `cargo run -- sequence FILE --host` does it
//! (`realhpt_qemu::replay`). Every answer is Linux's, or otherwise for a reason that is listed there.

use std::path::PathBuf;

use libtest_mimic::{Arguments, Failed, Trial};
use realhpt_qemu::replay;
use realhpt_qemu::replay::file::{Recorded, Sequence};
use realhpt_qemu::replay::host::{self, Host};
use realhpt_qemu::replay::memory::Memory;

/// Every sequence is at least as long as this.
const STEPS: u64 = 1000;

fn main() {
    let arguments = Arguments::from_args();
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kvm-sequences");
    let files =
        std::fs::read_dir(&folder).map(|files| files.map(|file| file.map(|file| file.path())));
    let files: Result<Vec<PathBuf>, _> = files.and_then(Iterator::collect);
    let trials = match files {
        Ok(mut files) => {
            files.sort();
            files.iter().flat_map(|file| both(file)).collect()
        }
        Err(error) => vec![Trial::test("files", move || Err(error.into()))],
    };
    libtest_mimic::run(&arguments, trials).exit();
}

/// A file, as either host answered.
fn both(file: &std::path::Path) -> [Trial; 2] {
    [("power8", Recorded::Power8), ("power9", Recorded::Power9)].map(|(name, recorded)| {
        let stem = file.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.trim_end_matches(".jsonl.xz");
        let file = file.to_owned();
        Trial::test(format!("{stem} {name}"), move || again(&file, recorded))
    })
}

fn again(file: &std::path::Path, recorded: Recorded) -> Result<(), Failed> {
    let sequence = Sequence::load(file, recorded).map_err(|error| format!("{error:#}"))?;
    let layout = Memory::new(&sequence.slots).layout(sequence.order);
    let store = host::store(&layout).map_err(|error| format!("{error:#}"))?;
    let outcome = Host::new(&store, recorded.format())
        .and_then(|mut host| replay::sequence::run(&mut host, &sequence, |_| {}))
        .map_err(|error| format!("{error:#}"))?;
    if outcome.others != 0 || outcome.steps < STEPS {
        return Err(format!("{outcome:#?}").into());
    }
    Ok(())
}
