//! One run of a machine from start to end: reads its lines, feeds the verdict, and knows when to give up.
//!
//! Key types: [`Session`], a machine with what it has said; [`Watcher`], what a command does meanwhile;
//! [`Ended`], why a run is over.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::interrupt;
use crate::lines::{self, Said};
use crate::log::{Catalogue, Frame};
use crate::machine::{Ends, Machine, Settings};
use crate::terminal::{Lines, Terminal};
use crate::verdict::{Case, Verdict};

/// Lines of each log that a failure shows.
const TAIL: usize = 40;
/// How often a watcher is asked.
const TICK: Duration = Duration::from_millis(50);
/// What is taken of what a machine says before something else is looked at: it may talk for ever.
const EVENTS: usize = 1000;
/// What a machine that gave its verdict, or reported an error, has left to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long to wait for a machine.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Without a sign of life from it.
    pub silence: Option<Duration>,
    /// In all.
    pub total: Option<Duration>,
}

impl Patience {
    /// For ever: somebody sits before it.
    pub const ENDLESS: Self = Self {
        silence: None,
        total: None,
    };

    /// A minute of silence, and `total` in all.
    #[must_use]
    pub fn of(total: Duration) -> Self {
        Self {
            silence: Some(Duration::from_secs(60)),
            total: Some(total),
        }
    }
}

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The machine is off.
    Off,
    /// It showed no sign of life for this long.
    Silent(Duration),
    /// It took longer than this.
    Late(Duration),
    /// It gave its verdict, or reported an error, and then did not end.
    StillOn,
    /// The user ended it.
    Interrupted,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("the machine is off"),
            Self::Silent(time) => write!(
                f,
                "no sign of life from the machine for {} s",
                time.as_secs()
            ),
            Self::Late(time) => write!(f, "the machine was not done after {} s", time.as_secs()),
            Self::StillOn => f.write_str("the machine did not power itself off"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

/// What a command does while the machine runs.
pub trait Watcher {
    /// A frame of the log, and the case if it reports one.
    fn frame(&mut self, frame: &Frame, case: Option<&Case>);

    /// Bytes from the console. None come before the image's first frame: those are the firmware's.
    fn console(&mut self, _bytes: &[u8]) {}

    /// The user wants the run to be over.
    fn wants_to_end(&self) -> bool {
        false
    }

    /// Looks after its own things. Returns whether it saw a sign of life.
    fn tick(&mut self) -> bool {
        false
    }
}

/// What comes from the lines.
enum Event {
    Frame(Frame),
    Console(Vec<u8>),
    /// A line has ended.
    Closed,
}

/// The last lines of a log.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    pieces: Lines,
}

impl Tail {
    fn line(&mut self, line: String) {
        if self.lines.len() == TAIL {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for line in self.pieces.take(bytes) {
            self.line(line);
        }
    }

    fn show(&self, title: &str, into: &mut String) {
        let unfinished = self.pieces.unfinished();
        let rest = (!unfinished.is_empty()).then_some(unfinished.as_str());
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).chain(rest).collect();
        if lines.is_empty() {
            into.push_str(&format!("--- {title}: nothing\n"));
            return;
        }
        into.push_str(&format!("--- {title}, last {} lines\n", lines.len()));
        for line in lines {
            into.push_str(line);
            into.push('\n');
        }
    }
}

/// A machine and what it has said so far.
#[derive(Debug)]
pub struct Session {
    machine: Machine,
    events: Receiver<Event>,
    input: Option<ChildStdin>,
    verdict: Verdict,
    log: Tail,
    console: Tail,
    complaints: Option<thread::JoinHandle<String>>,
    qemu_said: String,
    /// Since when the machine is watched, when it last showed a sign of life, and how many lines are open.
    begin: Instant,
    sign: Instant,
    lines: u32,
}

impl Session {
    /// Starts a machine; `prepare` fills its memory first.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(
        settings: &Settings<'_>,
        prepare: impl FnOnce(&File) -> Result<()>,
    ) -> Result<Self> {
        let catalogue = Arc::new(Catalogue::read(settings.image)?);
        let (machine, ends) = Machine::start(settings, prepare)?;
        let Ends {
            log,
            console,
            input,
            mut complaints,
        } = ends;
        let (sender, events) = channel();
        thread::spawn(move || {
            let mut decoder = catalogue.decoder();
            lines::read(log, console, |said| match said {
                Said::Log(bytes) => {
                    let mut frames = decoder.decode(&bytes).into_iter();
                    frames.all(|frame| sender.send(Event::Frame(frame)).is_ok())
                }
                Said::Console(bytes) => sender.send(Event::Console(bytes)).is_ok(),
                Said::Closed => sender.send(Event::Closed).is_ok(),
            });
        });
        let complaints = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = complaints.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self {
            machine,
            events,
            input: Some(input),
            verdict: Verdict::default(),
            log: Tail::default(),
            console: Tail::default(),
            complaints: Some(complaints),
            qemu_said: String::new(),
            begin: Instant::now(),
            sign: Instant::now(),
            lines: 2,
        })
    }

    /// The machine's memory.
    #[must_use]
    pub fn memory(&self) -> &File {
        self.machine.memory()
    }

    /// The console's input; once.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// What the frames said.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Runs the machine until it ends or patience does. Afterwards QEMU has ended.
    ///
    /// # Errors
    /// If QEMU cannot be watched.
    pub fn run(&mut self, patience: Patience, watcher: &mut dyn Watcher) -> Result<Ended> {
        let ended = loop {
            if let Some(ended) = self.look(patience, watcher, TICK).transpose() {
                break ended;
            }
        };
        let quiet = matches!(ended, Ok(Ended::Off));
        self.machine.end();
        // What was said before the end is still in the pipes.
        while let Ok(event) = self.events.recv_timeout(LAST_WORDS) {
            self.take(event, watcher);
        }
        if let Some(complaints) = self.complaints.take() {
            let said = complaints.join().unwrap_or_default();
            // When it is told to end it says by whom: that is no news.
            self.qemu_said = if quiet { said } else { String::new() };
        }
        ended
    }

    /// Looks at the machine: takes what it says now, waiting for at most `tick` if that is nothing. Why the run is
    /// over, if it is.
    ///
    /// # Errors
    /// If QEMU cannot be watched.
    pub fn look(
        &mut self,
        patience: Patience,
        watcher: &mut dyn Watcher,
        tick: Duration,
    ) -> Result<Option<Ended>> {
        let mut wait = tick;
        for _ in 0..EVENTS {
            match self.events.recv_timeout(wait) {
                Ok(Event::Closed) => self.lines -= 1,
                Ok(event) => {
                    self.take(event, watcher);
                    self.sign = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    self.lines = 0;
                    thread::sleep(wait);
                    break;
                }
            }
            wait = Duration::ZERO;
        }
        if watcher.tick() {
            self.sign = Instant::now();
        }
        let off = self.machine.ended()?.is_some();
        if off && self.lines == 0 {
            return Ok(Some(Ended::Off));
        }
        if interrupt::came() || watcher.wants_to_end() {
            return Ok(Some(Ended::Interrupted));
        }
        if let Some(total) = patience.total.filter(|&total| self.begin.elapsed() > total) {
            return Ok(Some(Ended::Late(total)));
        }
        if let Some(silence) = patience.silence {
            if (self.verdict.is_complete() || self.verdict.has_errors())
                && self.sign.elapsed() > LAST_WORDS
            {
                return Ok(Some(Ended::StillOn));
            }
            if self.sign.elapsed() > silence {
                return Ok(Some(Ended::Silent(silence)));
            }
        }
        Ok(None)
    }

    fn take(&mut self, event: Event, watcher: &mut dyn Watcher) {
        match event {
            Event::Frame(frame) => {
                self.log
                    .line(console::strip_ansi_codes(&frame.line()).into_owned());
                let case = self.verdict.take(&frame);
                watcher.frame(&frame, case);
            }
            Event::Console(bytes) => {
                self.console.bytes(&bytes);
                if !self.log.lines.is_empty() {
                    watcher.console(&bytes);
                }
            }
            Event::Closed => {}
        }
    }

    /// What is wrong with the run that ended so; nothing if it passed.
    #[must_use]
    pub fn complaints(&self, ended: Ended) -> Vec<String> {
        let mut complaints = self.verdict.complaints();
        if ended != Ended::Off {
            complaints.push(ended.to_string());
        }
        complaints
    }

    /// Shows a run that failed: the ends of both logs and what is wrong, or that the user ended it.
    pub fn show_failure(&self, terminal: &Terminal, ended: Ended, complaints: &[String]) {
        if ended == Ended::Interrupted {
            terminal.bad("Failed", &ended.to_string());
            return;
        }
        terminal.line(self.tails().trim_end());
        for complaint in complaints {
            terminal.bad("Failed", complaint);
        }
    }

    /// The end of the image's log, and what QEMU had to say: where the console was shown as it came.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let mut text = String::new();
        self.log.show("the image's log", &mut text);
        self.show_qemu(&mut text);
        text
    }

    /// The ends of both logs, and what QEMU had to say.
    #[must_use]
    pub fn tails(&self) -> String {
        let mut text = String::new();
        self.log.show("the image's log", &mut text);
        self.console.show("the console", &mut text);
        self.show_qemu(&mut text);
        text
    }

    fn show_qemu(&self, into: &mut String) {
        if !self.qemu_said.is_empty() {
            into.push_str(&format!("--- QEMU\n{}", self.qemu_said));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_keeps_the_last_lines_and_the_unfinished_one() {
        let mut tail = Tail::default();
        for number in 0..2 * TAIL {
            tail.bytes(format!("line {number}\r\n").as_bytes());
        }
        tail.bytes(b"Fatal Exc");
        let mut text = String::new();
        tail.show("the console", &mut text);
        assert!(
            text.starts_with("--- the console, last 41 lines\nline 40\n"),
            "{text}"
        );
        assert!(text.ends_with("line 79\nFatal Exc\n"), "{text}");
    }

    #[test]
    fn silence_is_told_as_such() {
        let mut text = String::new();
        Tail::default().show("the image's log", &mut text);
        assert_eq!(text, "--- the image's log: nothing\n");
    }
}
