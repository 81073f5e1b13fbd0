//! One machine: QEMU's command line, its life, and its two serial lines.
//!
//! * COM1 carries the defmt log and nothing else, out only. COM2 is the console of skiboot and OPAL: skiboot
//!   takes the second UART when there is one, so the log has the first to itself.
//! * The machine's memory is a shared mapping that the runner has too ([`Machine::memory`]).
//! * Memory and manifest are nameless files of this process that QEMU opens by way of `/proc`: nothing is
//!   left behind, however either of the two ends.
//! * QEMU is ended on every path: when the [`Machine`] is dropped, and by the kernel when this process dies.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{self, Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::manifest::Manifest;
use crate::setup::QEMU;

/// Instructions of a timebase tick, where QEMU counts them: a nanosecond each, at 512 MHz.
pub const PER_TICK: f64 = 1000.0 / 512.0;

/// The machines that the image runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub enum Kind {
    /// POWER8.
    Powernv8,
    /// POWER9.
    Powernv9,
    /// POWER10.
    Powernv10,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Powernv8, Self::Powernv9, Self::Powernv10];

    /// QEMU's name of it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Powernv8 => "powernv8",
            Self::Powernv9 => "powernv9",
            Self::Powernv10 => "powernv10",
        }
    }
}

/// How a machine is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Which machine.
    pub kind: Kind,
    /// The bootable image, an ELF file that skiboot runs in place.
    pub image: &'a Path,
    /// Its partitions.
    pub manifest: &'a Manifest,
    /// How many CPUs.
    pub cpus: u32,
    /// Virtual time counts instructions: slow, but what a program does takes the same time again and again.
    pub count_instructions: bool,
}

/// This side's ends of a machine's lines.
#[derive(Debug)]
pub struct Ends {
    /// COM1, the log.
    pub log: PipeReader,
    /// COM2, what the machine says.
    pub console: ChildStdout,
    /// COM2, what is said to the machine.
    pub input: ChildStdin,
    /// What QEMU itself has to say.
    pub complaints: ChildStderr,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    memory: File,
    ended: Option<ExitStatus>,
    /// Open until QEMU has ended: it opens the pipe itself, and the log must not end before it did.
    log: Option<PipeWriter>,
    _manifest: File,
}

impl Machine {
    /// Makes the machine's memory, lets `prepare` fill what the runner has to say into it, and starts QEMU.
    ///
    /// # Errors
    /// If there is not enough memory, or QEMU cannot be started.
    pub fn start(
        settings: &Settings<'_>,
        prepare: impl FnOnce(&File) -> Result<()>,
    ) -> Result<(Self, Ends)> {
        let ram = settings.manifest.ram();
        let host = rustix::system::sysinfo();
        let available = host.totalram.saturating_mul(host.mem_unit.into());
        ensure!(
            ram <= available,
            "the machine would need {} MiB of memory, this host has {}",
            ram >> 20,
            available >> 20
        );
        let memory = nameless("ram")?;
        memory.set_len(ram)?;
        settings.manifest.fill(&memory)?;
        prepare(&memory)?;
        let mut manifest = nameless("manifest")?;
        manifest.write_all(&settings.manifest.to_fdt()?)?;
        let (log_reader, log) = std::io::pipe()?;

        let mut command = Command::new(QEMU);
        command
            .args(arguments(
                settings,
                ram,
                &visible(&memory),
                &visible(&manifest),
                &visible(&log),
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // ctrl-C is for this program, which then ends QEMU.
            .process_group(0);
        // SAFETY: the closure runs in the child between fork and exec; it makes one prctl system call and
        // touches no memory that another thread could have held a lock on.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {QEMU}"))?;
        let ends = Ends {
            log: log_reader,
            console: child.stdout.take().context("no standard output")?,
            input: child.stdin.take().context("no standard input")?,
            complaints: child.stderr.take().context("no standard error")?,
        };
        Ok((
            Self {
                child,
                memory,
                ended: None,
                log: Some(log),
                _manifest: manifest,
            },
            ends,
        ))
    }

    /// The machine's memory, from real address 0.
    #[must_use]
    pub fn memory(&self) -> &File {
        &self.memory
    }

    /// QEMU's exit status if it has ended. It says nothing about the run: QEMU exits 0 after a crash too.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        if self.ended.is_some() {
            self.log = None;
        }
        Ok(self.ended)
    }

    /// Ends QEMU: asks first, then does it.
    pub fn end(&mut self) {
        let patience = Instant::now() + Duration::from_secs(2);
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && matches!(self.ended(), Ok(None))
        {
            let _ = kill_process(pid, Signal::TERM);
            while matches!(self.ended(), Ok(None)) && Instant::now() < patience {
                thread::sleep(Duration::from_millis(10));
            }
        }
        if self.ended.is_none() {
            // It may have ended just now; then there is nothing to kill, and waiting returns at once.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
        self.log = None;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// A file without a name, in memory.
fn nameless(what: &str) -> Result<File> {
    Ok(File::from(
        memfd_create(what, MemfdFlags::CLOEXEC).context("cannot make a file in memory")?,
    ))
}

/// The path by which another process of this user opens a file that this process has open.
fn visible(file: &impl AsFd) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_fd().as_raw_fd())
}

/// QEMU's arguments.
fn arguments(
    settings: &Settings<'_>,
    ram: u64,
    memory: &str,
    manifest: &str,
    log: &str,
) -> Vec<String> {
    let mut arguments = vec![
        "-machine".to_owned(),
        format!("{},memory-backend=ram", settings.kind.name()),
        "-object".to_owned(),
        format!("memory-backend-file,id=ram,size={ram},mem-path={memory},share=on"),
        "-m".to_owned(),
        format!("size={}M", ram >> 20),
        "-smp".to_owned(),
        settings.cpus.to_string(),
    ];
    let fixed = [
        // With the default devices skiboot trains PCI links for seconds. The BMC is what powers off.
        "-nodefaults -display none -monitor none -no-reboot",
        "-device ipmi-bmc-sim,id=bmc0 -device isa-ipmi-bt,bmc=bmc0,irq=10",
        "-serial chardev:log",
        "-chardev stdio,id=console,signal=off -device isa-serial,chardev=console,iobase=0x2f8,irq=3",
    ];
    arguments.extend(
        fixed
            .iter()
            .flat_map(|line| line.split(' '))
            .map(str::to_owned),
    );
    arguments.extend(["-chardev".to_owned(), format!("file,id=log,path={log}")]);
    arguments.extend(["-kernel".to_owned(), settings.image.display().to_string()]);
    arguments.extend(["-initrd".to_owned(), manifest.to_owned()]);
    if settings.count_instructions {
        // The clock of the day, too: what reads it would do something else on every run.
        arguments.extend(["-icount", "shift=0,sleep=off"].map(str::to_owned));
        arguments.extend(["-rtc", "base=2026-01-01,clock=vm"].map(str::to_owned));
    }
    arguments
}
