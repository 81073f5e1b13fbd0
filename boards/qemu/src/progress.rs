//! What the user sees of a job: the image's log, which has what the guests say, and a bar for the phase it is in.

use realhpt_pseries::exchange::phase;

use crate::exchange::{self, Exchange};
use crate::log::Frame;
use crate::session::Watcher;
use crate::terminal::{Bar, Terminal};
use crate::verdict::Case;

/// Shows log and progress.
#[derive(Debug)]
pub struct Progress<'a> {
    terminal: &'a Terminal,
    agent: &'a Exchange,
    last: Option<exchange::Progress>,
    bar: Option<Bar>,
}

impl<'a> Progress<'a> {
    /// For a job of the agent in `agent`'s window.
    #[must_use]
    pub fn new(terminal: &'a Terminal, agent: &'a Exchange) -> Self {
        Self {
            terminal,
            agent,
            last: None,
            bar: None,
        }
    }

    /// The bar for a phase.
    fn bar(&self, progress: exchange::Progress) -> Option<Bar> {
        match progress.phase {
            phase::RESTORE => Some(self.terminal.bytes("Restoring", progress.total)),
            phase::READ => Some(self.terminal.bytes("Reading", progress.total)),
            phase::CLIENT => Some(self.terminal.spinner("Running", "the client")),
            _ => None,
        }
    }
}

impl Watcher for Progress<'_> {
    fn frame(&mut self, frame: &Frame, _case: Option<&Case>) {
        self.terminal.frame(frame);
    }

    fn tick(&mut self) -> bool {
        let progress = self.agent.progress();
        if self.last == Some(progress) {
            return false;
        }
        if self.last.is_none_or(|last| last.phase != progress.phase) {
            self.bar = None;
            self.bar = self.bar(progress);
        }
        if let Some(bar) = &self.bar {
            bar.at(progress.done, progress.total);
        }
        self.last = Some(progress);
        true
    }
}
