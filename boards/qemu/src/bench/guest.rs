//! What the hypervisor costs Linux: the instructions of its exits, by kind, over those of its own, from its first one to its
//! shell.
//!
//! The image that is booted for this counts itself and says in its log what it counted (`realhpt_powernv::account`):
//! nobody has to ask for it, so nothing that happens on the host is part of the run. Idle is in neither sum: a CPU that
//! rests is on nobody's account. Once without a reader, once with the agent reading the guest's table in passes without a
//! pause (`exchange::job::FOLLOW`), whose own calls are shown apart.

use std::io::Write as _;
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use realhpt_pseries::exchange::job;

use super::figures::{Row, round};
use super::report;
use crate::cli::{GuestOptions, Kernel, Linux};
use crate::exchange::{Exchange, Job};
use crate::guest::initramfs::PROMPT;
use crate::guest::packages::Release;
use crate::guest::place::Software;
use crate::guest::{linux_software, stream};
use crate::images::{ACCOUNTING_HYPERVISOR, Images};
use crate::log::{Frame, Level};
use crate::machine::{Kind, PER_TICK, Settings};
use crate::manifest::{AGENT, CLIENT, Manifest, Partition};
use crate::session::{Ended, Patience, Session, Watcher};
use crate::terminal::Terminal;
use crate::verdict::Case;

/// The guest's memory, as `linux` has it if nothing else is said.
const MEMORY: u64 = 512 << 20;
/// Its label, and the agent's.
const LABEL: &str = "linux";
const READER: &str = "agent";
/// What the shell of our RAM disk is told at its prompt.
const FAREWELL: &[u8] = b"poweroff\n";
/// What the account calls the guest's own instructions, and the reader's call.
const OWN: &str = "guest";
const READ: &str = "H_HPT_READ";
/// Percent that exits may take without a reader, and with one.
const BUDGETS: [f64; 2] = [5.0, 6.0];
/// How long a boot may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// What one source of instructions has cost.
#[derive(Clone, Debug, PartialEq)]
struct Cost {
    partition: String,
    name: String,
    times: u64,
    insns: f64,
}

impl Cost {
    /// `account of PARTITION: NAME: N times, N ticks, N instructions`.
    fn parse(text: &str) -> Option<Self> {
        let (partition, rest) = text.strip_prefix("account of ")?.split_once(": ")?;
        let (name, rest) = rest.split_once(": ")?;
        let mut numbers = rest.split(", ").map(|part| part.split_once(' '));
        let mut next = |unit| match numbers.next()? {
            Some((number, of)) if of == unit => number.parse::<i64>().ok(),
            _ => None,
        };
        let times = next("times")?.try_into().ok()?;
        let (ticks, beside) = (next("ticks")?, next("instructions")?);
        Some(Self {
            partition: partition.to_owned(),
            name: name.to_owned(),
            times,
            insns: ticks as f64 * PER_TICK + beside as f64,
        })
    }
}

/// Boots Linux on each of the machines, without a reader and with one, and shows what was counted.
///
/// # Errors
/// If it does not boot, or nothing was counted.
pub fn measure(terminal: &Terminal, images: &Images, machines: &[Kind]) -> Result<Vec<Row>> {
    let linux = Linux {
        kernel: Kernel::Debian(Release::Stable),
        options: GuestOptions {
            initrd: None,
            append: String::new(),
            machine: Kind::Powernv9,
            smp: 1,
            guests: 1,
            mem: MEMORY,
            stream: None,
            stream_passes: 0,
            timeout: None,
        },
    };
    let software = linux_software(terminal, &linux)?;
    let mut rows = Vec::new();
    for &machine in machines {
        for (with_reader, budget) in [false, true].into_iter().zip(BUDGETS) {
            let costs = boot(terminal, images, &software, machine, with_reader)?;
            let order = software.partition(CLIENT, LABEL, MEMORY, 1)?.order;
            let boot = Boot {
                machine,
                order,
                with_reader,
                budget,
            };
            let measured = boot.rows(&costs)?;
            report::show_boot(terminal, boot.title(), &measured);
            rows.extend(measured);
        }
    }
    Ok(rows)
}

/// A boot that was counted.
#[derive(Clone, Copy, Debug)]
struct Boot {
    machine: Kind,
    order: u32,
    with_reader: bool,
    /// Percent.
    budget: f64,
}

impl Boot {
    const fn title(&self) -> &'static str {
        if self.with_reader {
            "Linux boot, one reader"
        } else {
            "Linux boot"
        }
    }

    /// The rows: the guest's own instructions, each kind of exit, all of them, their share of the guest's, and the reader's calls.
    fn rows(&self, costs: &[Cost]) -> Result<Vec<Row>> {
        let of = |partition| {
            let costs = costs.iter();
            costs.filter(move |cost: &&Cost| cost.partition == partition)
        };
        let own = of(LABEL).find(|cost| cost.name == OWN);
        let own = own.context("the guest's own instructions were not counted")?;
        ensure!(own.insns > 0.0, "the guest has no instructions of its own");
        let mut exits: Vec<&Cost> = of(LABEL).filter(|cost| cost.name != OWN).collect();
        exits.sort_by(|left, right| right.insns.total_cmp(&left.insns));
        let all: f64 = exits.iter().map(|cost| cost.insns).sum();
        let mut rows = vec![self.row("its own instructions", "boot", own.insns, 1)];
        rows.extend(
            exits
                .iter()
                .map(|cost| self.row(&cost.name, "time", cost.insns, cost.times)),
        );
        rows.push(self.row("all exits", "boot", all, 1));
        rows.push(Row {
            insns: None,
            budget: Some(self.budget),
            ..self.row("all exits, share", "%", 100.0 * all / own.insns, 1)
        });
        if self.with_reader {
            let read = of(READER).find(|cost| cost.name == READ);
            let read = read.context("the reader has read nothing")?;
            rows.push(self.row("the reader's H_HPT_READ", "time", read.insns, read.times));
        }
        Ok(rows)
    }

    fn row(&self, what: &str, unit: &'static str, insns: f64, units: u64) -> Row {
        Row {
            machine: self.machine.name(),
            row: format!("{}: {what}", self.title()),
            order: self.order,
            permille: None,
            insns: Some(round(insns, 1)),
            unit,
            per_unit: round(insns / units.max(1) as f64, 2),
            linux: None,
            ratio: None,
            budget: None,
            grows: false,
        }
    }
}

/// Boots it to its shell and has it switch itself off; what the image has counted until the shell was there.
fn boot(
    terminal: &Terminal,
    images: &Images,
    software: &Software,
    kind: Kind,
    with_reader: bool,
) -> Result<Vec<Cost>> {
    let partition = Partition {
        console: true,
        ..software.partition(CLIENT, LABEL, MEMORY, 1)?
    };
    let order = partition.order;
    let mut partitions = vec![partition];
    if with_reader {
        partitions.push(stream::agent(images, order)?);
    }
    let manifest = Manifest::new(partitions);
    let settings = Settings {
        kind,
        image: &images.path(ACCOUNTING_HYPERVISOR),
        manifest: &manifest,
        cpus: 1,
        count_instructions: true,
    };
    let readers = if with_reader {
        "one reader"
    } else {
        "no reader"
    };
    let bar = terminal.spinner(
        "Measuring",
        &format!("{}, Linux's boot, {readers}", kind.name()),
    );
    let mut session = Session::start(&settings, |memory| {
        if with_reader {
            let window = manifest.window(AGENT)?;
            Exchange::map(memory, window)?.write(&Job {
                job: job::FOLLOW,
                target: CLIENT,
                argument: 0,
                sections: &[],
            })?;
        }
        Ok(())
    })?;
    let mut watch = Watch {
        terminal,
        input: session.take_input(),
        last: Vec::new(),
        costs: Vec::new(),
        is_complete: false,
    };
    let ended = session.run(Patience::of(PATIENCE), &mut watch)?;
    drop(bar);
    let complaint = match session.verdict().errors().first() {
        Some(error) => Some((*error).to_string()),
        None if ended != Ended::Off => Some(ended.to_string()),
        None if !watch.is_complete => Some("Linux did not come to its shell".to_owned()),
        None => None,
    };
    if let Some(complaint) = complaint {
        terminal.line(session.tails().trim_end());
        bail!("Linux's boot was not measured: {complaint}");
    }
    Ok(watch.costs)
}

/// Takes down what the image has counted, and ends the guest when its shell is there.
struct Watch<'a> {
    terminal: &'a Terminal,
    input: Option<ChildStdin>,
    /// The console's last bytes: as many as the prompt has, at most.
    last: Vec<u8>,
    costs: Vec<Cost>,
    /// The image has said all of it.
    is_complete: bool,
}

impl Watcher for Watch<'_> {
    fn frame(&mut self, frame: &Frame, _case: Option<&Case>) {
        self.costs.extend(Cost::parse(&frame.text));
        self.is_complete |= frame.text == "account: complete";
        if frame.level >= Level::Warn {
            self.terminal.frame(frame);
        } else {
            self.terminal.detail(frame);
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.last.len() == PROMPT.len() {
                self.last.remove(0);
            }
            self.last.push(byte);
            if self.last == PROMPT.as_bytes()
                && let Some(mut input) = self.input.take()
            {
                // If it cannot be told, it does not end, and that is said.
                let _ = input.write_all(FAREWELL);
                self.input = Some(input);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(partition: &str, name: &str, times: u64, ticks: i64, beside: i64) -> Cost {
        let text = format!(
            "account of {partition}: {name}: {times} times, {ticks} ticks, {beside} instructions"
        );
        Cost::parse(&text).expect("an account")
    }

    #[test]
    fn an_account_is_read() {
        let read = cost("linux", "world switch", 3, 512, -100);
        let expected = Cost {
            partition: "linux".to_owned(),
            name: "world switch".to_owned(),
            times: 3,
            insns: 900.0,
        };
        assert_eq!(read, expected);
        for text in [
            "account: complete",
            "account of linux: H_ENTER",
            "account of linux: H_ENTER: 1 times, 2 ticks",
            "account of linux: H_ENTER: 1 times, 2 words, 3 instructions",
        ] {
            assert_eq!(Cost::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_share_is_of_the_guests_own_and_has_the_budget() {
        let costs = [
            cost("linux", "guest", 10, 51_200, 0),
            cost("linux", "H_ENTER", 10, 512, 0),
            cost("linux", "HDEC", 1, 1024, 500),
            cost("agent", "guest", 1, 512, 0),
            cost("agent", "H_HPT_READ", 2, 5120, 0),
        ];
        let boot = Boot {
            machine: Kind::Powernv9,
            order: 22,
            with_reader: true,
            budget: 3.0,
        };
        let rows = boot.rows(&costs).expect("rows");
        let row = |what: &str| {
            let name = format!("Linux boot, one reader: {what}");
            let row = rows.iter().find(|row| row.row == name);
            row.unwrap_or_else(|| panic!("{what}"))
        };
        assert_eq!(row("its own instructions").insns, Some(100_000.0));
        assert_eq!(row("H_ENTER").per_unit, 100.0);
        assert_eq!(row("all exits").insns, Some(3500.0));
        assert_eq!(row("the reader's H_HPT_READ").per_unit, 5000.0);
        let share = row("all exits, share");
        assert_eq!((share.per_unit, share.insns), (3.5, None));
        assert!(share.is_over());
        assert!(boot.rows(&costs[3..]).is_err());
    }
}
