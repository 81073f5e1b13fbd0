//! The on-target tests: boots the suite on every machine and shows each of its cases as a test.
//!
//! The cases are known by name before anything is built (`realhpt_suite::CASES`), so `--list` and filters work
//! as ever; a machine is booted once, by the first of its tests that is wanted, and only then. What a case of
//! the suite did not say counts as failed: a missing tool, a build that fails, a machine that does not boot, a
//! run that breaks off, a case that never came.
//!
//! `--nocapture` shows the machines' logs as they come.

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use libtest_mimic::{Arguments, Failed, Trial};
use realhpt_qemu::cli::{Replay, Roundtrip, Sequence};
use realhpt_qemu::exchange::Job;
use realhpt_qemu::images::{GUESTS, HYPERVISOR, Images};
use realhpt_qemu::log::Frame;
use realhpt_qemu::machine::Kind;
use realhpt_qemu::manifest::{Manifest, Partition};
use realhpt_qemu::replay::calls::ORDER;
use realhpt_qemu::replay::{Region, command};
use realhpt_qemu::session::Patience;
use realhpt_qemu::suite::{self, Suite};
use realhpt_qemu::tables::formats::Format;
use realhpt_qemu::terminal::Terminal;
use realhpt_qemu::verdict::Case;
use realhpt_qemu::{roundtrip, setup, workspace};
use realhpt_suite::{CASES, order, partition, region, stress as stressing, table};

/// Package of the suite.
const PACKAGE: &str = "realhpt-suite";
/// Its image and its guest.
const IMAGE: &str = "suite-image";
const GUEST: &str = "suite-guest";
/// CPUs of the machine that the suite runs on.
const CPUS: u32 = 2;
/// What a machine may take for the whole suite.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a case may log, partitions' terminals included: whatever a guest does is no reason to fill the log.
const MOST_LINES: usize = 500;

/// Tables of `tests/data` that make the round trip, and the order of those that do not say it.
const TABLES: [(&str, Option<u32>); 9] = [
    ("qemu-htab/idle512", None),
    ("qemu-htab/p8_idle512", None),
    ("qemu-htab/load512", None),
    ("qemu-htab/tinyhalf512", None),
    ("qemu-htab/hugetlb1g", None),
    ("qemu-htab/k4_load512", None),
    ("kvm-streams/in_o22_0010_mixed_present", Some(22)),
    ("kvm-streams/in_o22_0125_mixed_absent", Some(22)),
    ("kvm-streams/in_o22_0125_mixed_present", Some(22)),
];

/// Sequences and traces of `tests/data` that are done again on POWER8 and POWER9.
const SEQUENCES: [&str; 2] = ["c01", "r01"];
const TRACES: [&str; 2] = ["t_p8_idle", "t_tiny"];

const MACHINES: [Kind; 3] = [Kind::Powernv8, Kind::Powernv9, Kind::Powernv10];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let images = Arc::new(Built::default());
    let mut trials = Vec::new();
    for machine in MACHINES {
        let run = Arc::new(Run::new(machine, arguments.nocapture, Arc::clone(&images)));
        for case in CASES {
            let run = Arc::clone(&run);
            let name = format!("{}::{case}", machine.name());
            trials.push(Trial::test(name, move || run.case(case)));
        }
        let logged = Arc::clone(&run);
        let name = format!("{}::boot_log_says_what_tables_cost", machine.name());
        trials.push(Trial::test(name, move || logged.costs()));
        let name = format!("{}::suite_keeps_its_plan", machine.name());
        trials.push(Trial::test(name, move || run.plan()));
        for (cpus, name) in STRESSES {
            let (show, built) = (arguments.nocapture, Arc::clone(&images));
            let name = format!("{}::{name}", machine.name());
            trials.push(Trial::test(name, move || {
                stress(machine, cpus, show, &built)
            }));
        }
        for (table, order) in TABLES {
            let images = Arc::clone(&images);
            let stem = table.rsplit('/').next().unwrap_or(table);
            let name = format!("{}::roundtrip::{stem}", machine.name());
            trials.push(Trial::test(name, move || {
                round_trip(machine, table, order, &images)
            }));
        }
        // What POWER10 answers nobody has recorded.
        if machine == Kind::Powernv10 {
            continue;
        }
        for stem in SEQUENCES {
            let images = Arc::clone(&images);
            let name = format!("{}::sequence::{stem}", machine.name());
            trials.push(Trial::test(name, move || sequence(machine, stem, &images)));
        }
        for stem in TRACES {
            let images = Arc::clone(&images);
            let name = format!("{}::replay::{stem}", machine.name());
            trials.push(Trial::test(name, move || replay(machine, stem, &images)));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What is built for the target, once for all machines.
#[derive(Default)]
struct Built(OnceLock<Result<Images, String>>);

impl Built {
    fn get(&self) -> Result<&Images, Failed> {
        let images = self.0.get_or_init(|| {
            let terminal = Terminal::new(false);
            setup::ensure(&terminal)
                .and_then(|()| Images::build(&terminal, &[HYPERVISOR, GUESTS, PACKAGE]))
                .map_err(|error| format!("{error:#}"))
        });
        images.as_ref().map_err(Failed::from)
    }
}

/// The suite on one machine.
struct Run {
    machine: Kind,
    show: bool,
    images: Arc<Built>,
    result: OnceLock<Result<Reported, Failed>>,
}

/// What the suite reported.
#[derive(Default)]
struct Reported {
    /// Each case that was reported, and if it failed why.
    cases: BTreeMap<String, Result<(), String>>,
    /// A case that was reported twice.
    twice: Option<String>,
    complaints: Vec<String>,
    tails: String,
    /// What was logged before the first case was.
    boot: String,
}

impl Run {
    fn new(machine: Kind, show: bool, images: Arc<Built>) -> Self {
        Self {
            machine,
            show,
            images,
            result: OnceLock::new(),
        }
    }

    /// How a case went.
    fn case(&self, name: &str) -> Result<(), Failed> {
        let reported = self.reported()?;
        match reported.cases.get(name) {
            Some(Ok(())) => Ok(()),
            Some(Err(why)) => Err(why.into()),
            None => Err(reported.missing(name).into()),
        }
    }

    /// Whether the suite as a whole was as it must be: what was planned was reported, once, and nothing else.
    /// Cases that failed are not its failures.
    fn plan(&self) -> Result<(), Failed> {
        let reported = self.reported()?;
        if let Some(name) = &reported.twice {
            return Err(format!("{name} was reported twice").into());
        }
        let unknown = reported
            .cases
            .keys()
            .find(|name| !CASES.contains(&name.as_str()));
        if let Some(name) = unknown {
            return Err(format!("{name} is no case").into());
        }
        let any_failed = reported.cases.values().any(Result::is_err);
        if reported.cases.len() == CASES.len() && (any_failed || reported.complaints.is_empty()) {
            return Ok(());
        }
        Err(reported.evidence().into())
    }

    /// Whether the log said of each partition how many bytes there are beside its HPT.
    fn costs(&self) -> Result<(), Failed> {
        let reported = self.reported()?;
        let manifest = manifest(self.images.get()?).map_err(|error| format!("{error:#}"))?;
        for partition in manifest.partitions() {
            let (order, largest) = (partition.order, partition.max_order);
            let bytes = largest.map_or_else(
                || table::bytes_beside(order),
                |largest| table::bytes_beside_resizable(order, largest),
            );
            let said = [
                format!("partition {} {}:", partition.lpid, partition.label),
                format!(
                    "HPT of order {order} (at most {}) at",
                    largest.unwrap_or(order)
                ),
                format!("and {bytes} bytes beside it"),
            ];
            let says = |line: &str| said.iter().all(|part| line.contains(part));
            if !reported.boot.lines().any(says) {
                return Err(format!("no line with {said:?} in\n{}", reported.boot).into());
            }
        }
        Ok(())
    }

    /// Boots the suite, the first time.
    fn reported(&self) -> Result<&Reported, Failed> {
        let result = self.result.get_or_init(|| {
            let images = self.images.get()?;
            self.boot(images)
                .map_err(|error| Failed::from(format!("{error:#}")))
        });
        result.as_ref().map_err(Clone::clone)
    }

    fn boot(&self, images: &Images) -> anyhow::Result<Reported> {
        let manifest = manifest(images)?;
        let suite = Suite {
            machine: self.machine,
            image: &images.path(IMAGE),
            manifest: &manifest,
            cpus: CPUS,
            job: None,
            patience: Patience::of(PATIENCE),
        };
        let mut reported = Reported::default();
        // What was logged since the last case: it belongs to the next.
        let mut notes = String::new();
        let mut show = |frame: &Frame, case: Option<&Case>| {
            if self.show {
                println!("{}: {}", self.machine.name(), frame.line());
            }
            let Some(case) = case else {
                notes.push_str(&frame.text);
                notes.push('\n');
                return;
            };
            let notes = std::mem::take(&mut notes);
            if reported.cases.is_empty() {
                reported.boot.clone_from(&notes);
            }
            let lines = notes.lines().count();
            let outcome = match case.failed {
                None if lines > MOST_LINES => Err(format!("it logged {lines} lines")),
                None => Ok(()),
                Some(line) => Err(format!("in line {line}\n{notes}")),
            };
            if reported.cases.insert(case.name.clone(), outcome).is_some() {
                reported.twice = Some(case.name.clone());
            }
        };
        let report = suite::run(&suite, &mut show)?;
        reported.complaints = report.complaints;
        reported.tails = report.tails;
        Ok(reported)
    }
}

impl Reported {
    /// Why a case is missing. The first one that is tells all; those after it were never come to.
    fn missing(&self, name: &str) -> String {
        let first = CASES.iter().find(|case| !self.cases.contains_key(**case));
        match first {
            Some(&first) if first != name => format!("the run broke off in {first}"),
            _ => format!("it was not reported\n{}", self.evidence()),
        }
    }

    fn evidence(&self) -> String {
        format!("{}\n{}", self.complaints.join("\n"), self.tails)
    }
}

/// The suite's partitions: the one that runs the cases, and those it does them to.
fn manifest(images: &Images) -> anyhow::Result<Manifest> {
    let guest = images.guest(GUEST)?;
    let client = |lpid: u64, label: &str| -> anyhow::Result<Partition> {
        Ok(Partition {
            lpid: u32::try_from(lpid)?,
            label: label.to_owned(),
            memory: 64 << 20,
            regions: Vec::new(),
            order: order::FIRST,
            max_order: None,
            privileges: Vec::new(),
            guest: Some(guest.clone()),
            loads: Vec::new(),
            papr: None,
            start: false,
            essential: false,
            console: false,
            window: None,
            vcpus: 1,
            pin: None,
        })
    };
    let suite = Partition {
        privileges: vec!["control".to_owned(), "report".to_owned()],
        start: true,
        console: true,
        window: Some(16 << 20),
        vcpus: 2,
        ..client(partition::SUITE, "suite")?
    };
    let empty = Partition {
        guest: None,
        ..client(partition::EMPTY, "empty")?
    };
    let victim = Partition {
        max_order: Some(order::LARGEST),
        ..client(partition::VICTIM, "victim")?
    };
    // The others run wherever there is room.
    let ruin = Partition {
        pin: Some(1),
        ..client(partition::RUIN, "ruin")?
    };
    let crowd = Partition {
        vcpus: 4,
        max_order: Some(20),
        regions: region::ALL
            .iter()
            .map(|&(guest, bytes, page)| Region { guest, bytes, page })
            .collect(),
        ..client(partition::CROWD, "crowd")?
    };
    Ok(Manifest::new(vec![
        suite,
        client(partition::CLIENT, "client")?,
        victim,
        ruin,
        empty,
        crowd,
    ]))
}

/// CPUs of the machines that the stress runs on: one for each vCPU of the workers, and fewer than work.
const STRESSES: [(u32, &str); 2] = [(4, "stress"), (2, "stress_on_two_cpus")];
/// What a run of the stress makes if nobody says otherwise, and what says otherwise: how many operations, and the
/// seed.
const STRESS_OPERATIONS: u64 = 40_000;
const STRESS_SEED: u64 = 1;
const OPERATIONS_VARIABLE: &str = "REALHPT_STRESS_OPERATIONS";
const SEED_VARIABLE: &str = "REALHPT_STRESS_SEED";
/// Operations that a busy host makes in a second, at least.
const SLOW: u64 = 200;

/// The stress on one machine, one at a time: its CPUs wait for each other, and where several machines share the
/// host's few CPUs that takes many times as long. The vCPUs' turns are not the same twice, even with one seed.
fn stress(machine: Kind, cpus: u32, show: bool, images: &Built) -> Result<(), Failed> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let images = images.get()?;
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let report = run_stress(machine, cpus, show, images).map_err(|error| format!("{error:#}"))?;
    let mut names: Vec<&str> = report.cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let mut planned = stressing::case::ALL.to_vec();
    planned.sort_unstable();
    if report.passed() && names == planned {
        return Ok(());
    }
    let complaints = report.complaints.join("\n");
    Err(format!("{complaints}\n{}", report.tails).into())
}

fn run_stress(
    machine: Kind,
    cpus: u32,
    show: bool,
    images: &Images,
) -> anyhow::Result<suite::Report> {
    let operations = number_in(OPERATIONS_VARIABLE)?.unwrap_or(STRESS_OPERATIONS);
    let seed = number_in(SEED_VARIABLE)?.unwrap_or(STRESS_SEED);
    println!(
        "{}::stress on {cpus} CPUs: {OPERATIONS_VARIABLE}={operations} {SEED_VARIABLE}={seed}",
        machine.name()
    );
    let (controller, workers) = (
        u32::try_from(stressing::partition::CONTROLLER)?,
        u32::try_from(stressing::partition::WORKERS)?,
    );
    let wanted = [
        stressing::partition::CONTROLLER,
        stressing::partition::WORKERS,
        stressing::partition::RESTORED,
    ];
    let mut partitions = manifest(images)?.partitions().to_vec();
    partitions.retain(|partition| wanted.contains(&partition.lpid.into()));
    let mut manifest = Manifest::new(partitions);
    manifest.partition_mut(workers)?.vcpus = u32::try_from(stressing::WORKERS)?;
    manifest.share_window(workers, controller);
    let parameters: Vec<u8> = [operations, seed]
        .into_iter()
        .flat_map(u64::to_be_bytes)
        .collect();
    let job = Job {
        job: stressing::JOB,
        target: workers,
        argument: 0,
        sections: &[parameters],
    };
    let patience = Patience {
        silence: Some(Duration::from_secs(300)),
        total: Some(PATIENCE + Duration::from_secs(operations / SLOW)),
    };
    let suite = Suite {
        machine,
        image: &images.path(IMAGE),
        manifest: &manifest,
        cpus,
        job: Some((controller, job)),
        patience,
    };
    suite::run(&suite, &mut |frame, _| {
        if show {
            println!("{}: {}", machine.name(), frame.line());
        }
    })
}

/// The number in an environment variable, if it is set.
fn number_in(variable: &str) -> anyhow::Result<Option<u64>> {
    match env::var(variable) {
        Ok(text) => Ok(Some(text.parse().with_context(|| {
            format!("{variable} is {text}, which is no number")
        })?)),
        Err(_) => Ok(None),
    }
}

/// The runner's `roundtrip` of a real table, on one machine.
fn round_trip(
    machine: Kind,
    table: &str,
    order: Option<u32>,
    images: &Built,
) -> Result<(), Failed> {
    images.get()?;
    let arguments = Roundtrip {
        file: Some(
            workspace()
                .join("tests/data")
                .join(format!("{table}.htab.xz")),
        ),
        format: order.map(|_| Format::KvmLe),
        order,
        machine,
        ..Roundtrip::default()
    };
    let terminal = Terminal::keeping();
    verified(roundtrip::run(&terminal, &arguments), &terminal)
}

/// The runner's `sequence`, on one machine.
fn sequence(machine: Kind, stem: &str, images: &Built) -> Result<(), Failed> {
    images.get()?;
    let arguments = Sequence {
        file: workspace().join(format!("tests/data/kvm-sequences/{stem}.jsonl.xz")),
        machine,
        host: false,
        timeout: PATIENCE,
    };
    let terminal = Terminal::keeping();
    verified(command::sequence(&terminal, &arguments), &terminal)
}

/// The runner's `replay`, on one machine.
fn replay(machine: Kind, stem: &str, images: &Built) -> Result<(), Failed> {
    images.get()?;
    let arguments = Replay {
        trace: workspace().join(format!("tests/data/hcall-traces/{stem}.hcalls.txt.xz")),
        order: ORDER,
        machine,
        host: false,
        timeout: PATIENCE,
        out: None,
    };
    let terminal = Terminal::keeping();
    verified(command::replay(&terminal, &arguments), &terminal)
}

/// How a command of the runner's went, which said the rest on its terminal.
fn verified(result: anyhow::Result<bool>, terminal: &Terminal) -> Result<(), Failed> {
    match result {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("not verified\n{}", terminal.kept()).into()),
        Err(error) => Err(format!("{error:#}\n{}", terminal.kept()).into()),
    }
}
