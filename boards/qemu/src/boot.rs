//! `boot`: the machine with its default partitions, and the agent's console on this terminal.

use std::io;

use anyhow::Result;
use realhpt_pseries::exchange::job;

use crate::cli::Boot;
use crate::exchange::{Exchange, Job};
use crate::images::{GUESTS, HYPERVISOR, Images};
use crate::keys::{self, Keys};
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
        keys::forward(io::stdin(), input, <[u8]>::to_vec);
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
