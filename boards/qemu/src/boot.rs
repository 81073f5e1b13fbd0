//! `boot`: the machine with its default partitions, and the agent's console on this terminal.

use std::io::{self, IsTerminal as _, Read as _, Stdin, Write as _};
use std::process::ChildStdin;
use std::thread;

use anyhow::Result;
use realhpt_pseries::exchange::job;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::Boot;
use crate::exchange::{Exchange, Job};
use crate::images::{GUESTS, HYPERVISOR, Images};
use crate::log::Frame;
use crate::machine::Settings;
use crate::manifest::{AGENT, CLIENT, Manifest};
use crate::session::{Ended, Patience, Session, Watcher};
use crate::setup;
use crate::terminal::Terminal;
use crate::verdict::Case;

/// Runs it until the user ends it. Returns whether it ended well.
///
/// # Errors
/// If it cannot be run.
pub fn run(terminal: &Terminal, arguments: &Boot) -> Result<bool> {
    setup::ensure(terminal)?;
    let images = Images::build(terminal, &[HYPERVISOR, GUESTS])?;
    let manifest = Manifest::standard(&images)?;
    let settings = Settings {
        kind: arguments.machine,
        image: &images.path(HYPERVISOR),
        manifest: &manifest,
        cpus: arguments.cpus,
        count_instructions: false,
    };
    manifest.show(terminal);
    terminal.step(
        "Booting",
        &format!("{}; ctrl-C ends it", arguments.machine.name()),
    );
    let mut session = Session::start(&settings, |memory| {
        let window = Exchange::map(memory, manifest.window(AGENT)?)?;
        window.write(&Job {
            job: job::CONSOLE,
            target: CLIENT,
            argument: 0,
            sections: &[],
        })
    })?;
    let keys = Keys::take();
    if let Some(input) = session.take_input() {
        thread::spawn(|| forward(input));
    }
    let ended = session.run(Patience::ENDLESS, &mut Show::new(terminal, &manifest))?;
    drop(keys);
    match ended {
        Ended::Interrupted => {
            terminal.step("Ended", "by you");
            Ok(true)
        }
        _ if session.verdict().has_errors() => {
            terminal.line(session.tails().trim_end());
            terminal.bad("Failed", "the image reported an error");
            Ok(false)
        }
        _ => {
            terminal.step("Ended", &ended.to_string());
            Ok(ended == Ended::Off)
        }
    }
}

/// Shows the log and the console as they come.
struct Show<'a> {
    terminal: &'a Terminal,
    /// What a frame begins with that repeats a line of the console's partition.
    echo: Option<String>,
}

impl<'a> Show<'a> {
    fn new(terminal: &'a Terminal, manifest: &Manifest) -> Self {
        let mut partitions = manifest.partitions().iter();
        let console = partitions.find(|partition| partition.console);
        let echo = console.map(|partition| format!("[{}] ", partition.label));
        Self { terminal, echo }
    }
}

impl Watcher for Show<'_> {
    fn frame(&mut self, frame: &Frame, _case: Option<&Case>) {
        let is_echo = |start: &String| frame.text.starts_with(start.as_str());
        if !self.echo.as_ref().is_some_and(is_echo) {
            self.terminal.frame(frame);
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        self.terminal.raw(bytes);
    }
}

/// Sends what is typed to the machine until either side ends.
fn forward(mut input: ChildStdin) {
    let mut buffer = [0; 256];
    while let Ok(length @ 1..) = io::stdin().read(&mut buffer) {
        let typed = buffer.get(..length).unwrap_or_default();
        if input.write_all(typed).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
    // The end of the input is not the end of the machine: QEMU keeps its side open.
    std::mem::forget(input);
}

/// The terminal's keys go to the machine as they are pressed and are not echoed; ctrl-C still interrupts.
/// The terminal is as before when this value is gone.
struct Keys {
    stdin: Stdin,
    before: Termios,
}

impl Keys {
    fn take() -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        raw.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { stdin, before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}
