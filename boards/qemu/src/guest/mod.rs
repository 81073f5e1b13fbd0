//! `linux` and `guest`: a PAPR guest in a partition, with the machine's console on this terminal.
//!
//! The way to a run: [`packages`] has Debian's kernel and busybox, [`initramfs`] makes a RAM disk, [`program`] reads
//! the kernel or whatever program it is, [`place`] says where things stand in the guest's memory and makes the partition,
//! [`watch`] shows its console, or several guests' by `consoles`, and knows how it ended; [`stream`] reads its table meanwhile.

mod consoles;
pub mod initramfs;
pub mod packages;
pub mod place;
pub mod program;
pub mod stream;
pub mod watch;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::agent::Agent;
use crate::cli::{Guest, GuestOptions, Kernel, Linux};
use crate::exchange::Exchange;
use crate::images::{GUESTS, HYPERVISOR, Images, LINUX_PROGRAMS};
use crate::machine::Settings;
use crate::manifest::{AGENT, CLIENT, Manifest, Partition, SPARE};
use crate::session::{Ended, Patience, Session};
use crate::setup;
use crate::terminal::Terminal;

use place::Software;
use program::Program;
use stream::Plan;
use watch::{Typed, Watch};

/// What Linux is told first: where its console is, and to use the hashed page table where it could use another.
const LINUX_ARGUMENTS: &str = "console=hvc0 disable_radix";

/// Runs `linux`. Returns whether it ended well.
///
/// # Errors
/// If it cannot be run, or ends otherwise than by its own power-off.
pub fn linux(terminal: &Terminal, arguments: &Linux) -> Result<bool> {
    setup::ensure(terminal)?;
    let software = linux_software(terminal, arguments)?;
    let options = &arguments.options;
    let typed = Typed::Stdin(first(options));
    run(
        terminal,
        "linux",
        &software,
        options,
        typed,
        Some(options.mem),
    )
}

/// What Linux's console has to show before something is typed there that does not come by hand: the shell's prompt, if
/// the shell is that of our RAM disk.
#[must_use]
pub fn first(options: &GuestOptions) -> Option<&'static str> {
    let ours = options.initrd.is_none() && !options.append.contains("init=");
    ours.then_some(initramfs::PROMPT)
}

/// Runs `guest`. Returns whether it ended well.
///
/// # Errors
/// If it cannot be run, or ends otherwise than with code 0.
pub fn guest(terminal: &Terminal, arguments: &Guest) -> Result<bool> {
    let program = Program::read(&arguments.kernel)?;
    let initrd = arguments.options.initrd.as_deref().map(read).transpose()?;
    setup::ensure(terminal)?;
    let software = Software::new(program, initrd, &arguments.options.append);
    let typed = Typed::Stdin(None);
    run(
        terminal,
        "guest",
        &software,
        &arguments.options,
        typed,
        None,
    )
}

/// Linux as the arguments want it, with Debian's kernel and a RAM disk of ours where they name none.
///
/// # Errors
/// If a file cannot be read, or fetched.
pub fn linux_software(terminal: &Terminal, arguments: &Linux) -> Result<Software> {
    let kernel = match &arguments.kernel {
        Kernel::File(path) => path.clone(),
        Kernel::Debian(release) => packages::kernel(terminal, *release)?,
    };
    let program = Program::read(&kernel)?;
    let options = &arguments.options;
    let initrd = match &options.initrd {
        Some(path) => read(path)?,
        None => {
            let busybox = read(&packages::busybox(terminal)?)?;
            let programs = Images::build_for_linux(terminal, &[LINUX_PROGRAMS])?;
            initramfs::build(&busybox, &read(&programs.path("hptstress"))?)?
        }
    };
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    terminal.step(
        "Kernel",
        &format!(
            "{name}, {} MiB; RAM disk of {} KiB",
            program.size.div_ceil(1 << 20),
            initrd.len().div_ceil(1 << 10)
        ),
    );
    let bootargs = format!("{LINUX_ARGUMENTS} {}", options.append);
    Ok(Software::new(program, Some(initrd), bootargs.trim_end()))
}

/// Runs the software in as many partitions of a machine as the options say until they end. Returns whether that was well;
/// their consoles are shown on the terminal.
///
/// # Errors
/// If it cannot be run, or ends otherwise than by its own power-off.
pub fn run(
    terminal: &Terminal,
    label: &str,
    software: &Software,
    options: &GuestOptions,
    typed: Typed,
    linux: Option<u64>,
) -> Result<bool> {
    let mut partitions = guests(label, software, options)?;
    let order = partitions.first().map_or(0, |partition| partition.order);
    let plan = options.stream.as_ref().map(|out| Plan {
        guest: CLIENT,
        spare: SPARE,
        order,
        linux,
        passes: options.stream_passes,
        out: out.clone(),
    });
    let images = if plan.is_some() {
        let images = Images::build(terminal, &[HYPERVISOR, GUESTS])?;
        partitions.extend(beside(&images, order)?);
        images
    } else {
        Images::build(terminal, &[HYPERVISOR])?
    };
    let manifest = Manifest::new(partitions);
    let settings = Settings {
        kind: options.machine,
        image: &images.path(HYPERVISOR),
        manifest: &manifest,
        cpus: options.smp,
        count_instructions: plan.is_some(),
    };
    manifest.show(terminal);
    let patience = Patience {
        silence: None,
        total: options.timeout,
    };
    let mut session = Session::start(&settings, |memory| match plan {
        Some(_) => Exchange::map(memory, manifest.window(AGENT)?)?.write(&Agent::job(CLIENT)),
        None => Ok(()),
    })?;
    let input = session.take_input();
    let mut watch = Watch::new(terminal, &manifest, input, typed);
    terminal.step(
        "Booting",
        &format!("{}{}", options.machine.name(), watch.way_out()),
    );
    let (ended, streamed) = match &plan {
        Some(plan) => {
            let window = Exchange::map(session.memory(), manifest.window(AGENT)?)?;
            let agent = Agent::new(window);
            stream::beside(plan, agent, &mut watch, |watcher| {
                session.run(patience, watcher)
            })
        }
        None => (session.run(patience, &mut watch), Ok(())),
    };
    let ended = ended?;
    let left = watch.left();
    let verdict = watch.verdict(ended);
    watch.finish();
    // The terminal is as it was before something is said about the end.
    drop(watch);
    if left {
        terminal.step("Ended", "by you");
        return Ok(true);
    }
    if ended == Ended::Interrupted {
        bail!("interrupted");
    }
    let complaints = session.verdict().errors();
    let verdict = match complaints.first() {
        Some(first) => Err(anyhow::anyhow!("the hypervisor reports: {first}")),
        None => verdict,
    };
    let verdict = verdict.and(streamed);
    if verdict.is_err() {
        terminal.line(session.log_tail().trim_end());
    }
    verdict.map(|()| true)
}

/// The guests' partitions. Their LPIDs are those that the agent and the spare partition, which may be beside them, have not; the
/// first is the one whose table is streamed.
fn guests(label: &str, software: &Software, options: &GuestOptions) -> Result<Vec<Partition>> {
    let lpids = (CLIENT..).filter(|&lpid| lpid != SPARE);
    let guest = |(number, lpid)| {
        let label = match options.guests {
            1 => label.to_owned(),
            _ => format!("{label}{number}"),
        };
        let partition = software.partition(lpid, &label, options.mem, options.smp)?;
        Ok(Partition {
            console: true,
            ..partition
        })
    };
    (1..=options.guests).zip(lpids).map(guest).collect()
}

/// The agent, without which the machine does not end, and a partition with a table of this order that stays empty.
fn beside(images: &Images, order: u32) -> Result<Vec<Partition>> {
    let agent = Partition {
        essential: true,
        ..stream::agent(images, order)?
    };
    let mut standard = Manifest::standard(images)?;
    let spare = standard.partition_mut(SPARE)?;
    spare.order = order;
    Ok(vec![agent, spare.clone()])
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
