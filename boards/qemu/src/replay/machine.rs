//! A machine as what a replay drives: its agent makes the calls, its client the accesses.
//!
//! The agent takes commands from its window one after the other (`realhpt_pseries::exchange::replay`), so that
//! what comes next may depend on the answers. Calls on the client's table are made by proxy while the client does
//! not run. For an access the client itself, the program `visitor`, is let run for a moment: its mailbox stands in
//! its own memory, whose place this side has chosen. Afterwards it is paused, so what hardware did to R and C is
//! in the table by then.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use realhpt::hcall::abi::{self, LPAR_SELF, Status};
use realhpt_pseries::exchange::{replay, visit};

use super::{Access, Answer, Backend, Frame, Layout};
use crate::agent::{self, Agent, BUFFER, FRAMES};
use crate::exchange::Exchange;
use crate::images::{GUESTS, HYPERVISOR, Images};
use crate::log;
use crate::machine::{Kind, Settings};
use crate::manifest::{AGENT, CLIENT, Manifest, Window};
use crate::session::{Ended, Patience, Session, Watcher};
use crate::setup;
use crate::terminal::Terminal;
use crate::verdict::Case;

/// The program that makes accesses.
const VISITOR: &str = "visitor";

/// Size of the buffer of stream calls.
const BUFFER_SIZE: u64 = 8 << 20;
/// The window's size.
const WINDOW: u64 = (BUFFER + BUFFER_SIZE).next_multiple_of(16 << 20);

/// How often the client is let run for one access.
const TURNS: usize = 1000;

/// Boots a machine whose client is as `layout` says, has `drive` drive it, and powers it off. An error of
/// `drive` comes back when the machine was sound; else what was wrong with that, shown already.
///
/// # Errors
/// What `drive` says, or the machine.
pub fn run<R>(
    terminal: &Terminal,
    kind: Kind,
    layout: &Layout,
    patience: Patience,
    drive: impl FnOnce(&mut Target<'_>) -> Result<R>,
) -> Result<R> {
    setup::ensure(terminal)?;
    let images = Images::build(terminal, &[HYPERVISOR, GUESTS])?;
    let mut target = Target::boot(terminal, &images, kind, layout, patience)?;
    let result = drive(&mut target);
    target.end()?;
    result
}

/// A machine that runs.
#[derive(Debug)]
pub struct Target<'t> {
    session: Session,
    patience: Patience,
    log: Log<'t>,
    agent: Agent,
    /// The client's mailbox, if it has memory for the visitor.
    mailbox: Option<Exchange>,
    /// Accesses that were asked for.
    accesses: u64,
    /// The client was started since its table was last reset.
    started: bool,
}

/// Shows what the machine says, and notices answers.
#[derive(Debug)]
struct Log<'t> {
    terminal: &'t Terminal,
    answered: bool,
}

impl Watcher for Log<'_> {
    fn frame(&mut self, frame: &log::Frame, _case: Option<&Case>) {
        self.terminal.frame(frame);
    }

    fn tick(&mut self) -> bool {
        std::mem::take(&mut self.answered)
    }
}

/// The partitions: the client has its memory where the layout wants it and runs the visitor if there is room.
fn manifest(images: &Images, layout: &Layout) -> Result<Manifest> {
    let mut manifest = Manifest::standard(images)?;
    manifest.partition_mut(AGENT)?.window = Some(WINDOW);
    let client = manifest.partition_mut(CLIENT)?;
    client.order = layout.order;
    client.max_order = Some(layout.order);
    client.memory = 0;
    client.regions.clone_from(&layout.regions);
    client.window = None;
    client.guest = layout
        .regions
        .iter()
        .any(|region| region.guest == 0 && region.bytes >= visit::MAILBOX + visit::SIZE)
        .then(|| images.guest(VISITOR))
        .transpose()?;
    if let Some(visitor) = &client.guest {
        ensure!(
            u64::try_from(visitor.flat.len())? <= visit::MAILBOX,
            "the visitor lies over its mailbox"
        );
    }
    Ok(manifest)
}

/// The client's mailbox in the machine's memory.
fn mailbox(memory: &File, manifest: &Manifest) -> Result<Option<Exchange>> {
    let regions = manifest.regions(CLIENT);
    let first = regions.iter().find(|(_, region)| region.guest == 0);
    let has_visitor =
        |&&(_, region): &&(u64, super::Region)| region.bytes >= visit::MAILBOX + visit::SIZE;
    first
        .filter(has_visitor)
        .map(|&(host, _)| {
            let window = Window {
                host: host + visit::MAILBOX,
                size: visit::SIZE,
            };
            Exchange::map(memory, window)
        })
        .transpose()
}

impl<'t> Target<'t> {
    fn boot(
        terminal: &'t Terminal,
        images: &Images,
        kind: Kind,
        layout: &Layout,
        patience: Patience,
    ) -> Result<Self> {
        let manifest = manifest(images, layout)?;
        let settings = Settings {
            kind,
            image: &images.path(HYPERVISOR),
            manifest: &manifest,
            cpus: 1,
            count_instructions: false,
        };
        terminal.step(
            "Booting",
            &format!("{}, {} MiB", kind.name(), manifest.ram() >> 20),
        );
        let window = manifest.window(AGENT)?;
        let session = Session::start(&settings, |memory| {
            Exchange::map(memory, window)?.write(&Agent::job(CLIENT))
        })?;
        Ok(Self {
            agent: Agent::new(Exchange::map(session.memory(), window)?),
            mailbox: mailbox(session.memory(), &manifest)?,
            session,
            patience,
            log: Log {
                terminal,
                answered: false,
            },
            accesses: 0,
            started: false,
        })
    }

    /// Has the agent end its job, and the machine power off.
    fn end(mut self) -> Result<()> {
        self.agent.end();
        let ended = self.session.run(self.patience, &mut self.log)?;
        let mut complaints = self.session.complaints(ended);
        complaints.extend(self.agent.window().complaint());
        if complaints.is_empty() {
            return Ok(());
        }
        self.session
            .show_failure(self.log.terminal, ended, &complaints);
        bail!("the machine did not get through the replay")
    }

    /// Has the agent do a command with these frames.
    fn command(&mut self, command: u64, frames: &mut [Frame]) -> Result<()> {
        let number = self.agent.commands() + 1;
        let look = || {
            let ended = self
                .session
                .look(self.patience, &mut self.log, Duration::ZERO)?;
            let given_up = self.session.verdict().is_complete().then_some(Ended::Off);
            match ended.or(given_up) {
                Some(ended) => bail!("command {number} was not answered: {ended}"),
                None => Ok(()),
            }
        };
        self.agent.command(command, frames, look)?;
        self.log.answered = true;
        Ok(())
    }

    /// A hypercall of the agent's: status and results.
    fn call(&mut self, token: u64, arguments: [u64; 3]) -> Result<(i64, [u64; 3])> {
        let [a, b, c] = arguments;
        let mut frames = [[token, a, b, c, 0, 0, 0, 0, 0, 0]];
        self.command(replay::command::CALL, &mut frames)?;
        let [[status, a, b, c, ..]] = frames;
        Ok((status.cast_signed(), [a, b, c]))
    }

    /// Lets the client run until it has made the access in its mailbox.
    fn visit(&mut self) -> Result<()> {
        let client = u64::from(CLIENT);
        for _ in 0..TURNS {
            let go = if self.started {
                [abi::H_LPAR_RESUME, client, 0, 0]
            } else {
                [abi::H_LPAR_START, client, LPAR_SELF, 0]
            };
            let cede = [abi::H_CEDE, 0, 0, 0];
            let pause = [abi::H_LPAR_PAUSE, client, 0, 0];
            let mut frames =
                [go, cede, pause].map(|[token, a, b, c]| [token, a, b, c, 0, 0, 0, 0, 0, 0]);
            self.command(replay::command::CALL, &mut frames)?;
            let [[go, ..], _, [pause, ..]] = frames;
            ensure!(
                [go, pause] == [Status::Success.raw(); 2],
                "the client does not run: {} and {}",
                go.cast_signed(),
                pause.cast_signed()
            );
            self.started = true;
            let mailbox = self.mailbox.as_ref();
            if mailbox.map(|mailbox| mailbox.get(visit::word::ANSWER)) == Some(self.accesses) {
                return Ok(());
            }
        }
        bail!("the client does not make its access")
    }
}

impl Backend for Target<'_> {
    fn hcalls(&mut self, frames: &mut [Frame]) -> Result<()> {
        frames
            .chunks_mut(FRAMES)
            .try_for_each(|frames| self.command(replay::command::PROXY, frames))
    }

    fn access(&mut self, store: bool, ea: u64, slb_rs: u64, slb_rb: u64) -> Result<Access> {
        use visit::word::{DSISR, EA, REQUEST, SLB_RB, SLB_RS, STORE, VECTOR};
        let no_memory = "the client has no memory for a program that makes accesses";
        self.accesses += 1;
        let mailbox = self.mailbox.as_ref().context(no_memory)?;
        mailbox.set(STORE, store.into());
        mailbox.set(EA, ea);
        mailbox.set(SLB_RS, slb_rs);
        mailbox.set(SLB_RB, slb_rb);
        mailbox.set(REQUEST, self.accesses);
        self.visit()?;
        let mailbox = self.mailbox.as_ref().context(no_memory)?;
        match mailbox.get(VECTOR) {
            0 => Ok(Access::Done),
            0x300 => Ok(Access::Interrupted(mailbox.get(DSISR))),
            vector => bail!("an access at {ea:#x} ended in interrupt {vector:#x}"),
        }
    }

    fn open(&mut self, flags: u64, start: u64) -> Result<(i64, u64)> {
        let (status, [handle, ..]) = self.call(abi::H_HPT_OPEN, [CLIENT.into(), flags, start])?;
        Ok((status, handle))
    }

    fn read(&mut self, handle: u64, length: u64) -> Result<Answer> {
        ensure!(length <= BUFFER_SIZE, "a read of {length} bytes");
        let buffer = agent::address(BUFFER);
        let (status, [count, state, pending]) =
            self.call(abi::H_HPT_READ, [handle, buffer, length])?;
        let count = if status == 0 { count } else { 0 };
        ensure!(count <= length, "{count} bytes in a buffer of {length}");
        Ok(Answer {
            status,
            bytes: self.agent.window().bytes(BUFFER, count)?,
            state,
            pending,
        })
    }

    fn write(&mut self, handle: u64, bytes: &[u8]) -> Result<(i64, u64, u64)> {
        let length = u64::try_from(bytes.len())?;
        ensure!(length <= BUFFER_SIZE, "a write of {length} bytes");
        self.agent.window().put(BUFFER, bytes)?;
        let buffer = agent::address(BUFFER);
        let (status, [consumed, bad, _]) = self.call(abi::H_HPT_WRITE, [handle, buffer, length])?;
        Ok((status, consumed, bad))
    }

    fn close(&mut self, handle: u64) -> Result<i64> {
        Ok(self.call(abi::H_HPT_CLOSE, [handle, 0, 0])?.0)
    }

    fn reset(&mut self) -> Result<i64> {
        self.started = false;
        Ok(self.call(abi::H_LPAR_RESET, [CLIENT.into(), 0, 0])?.0)
    }
}
