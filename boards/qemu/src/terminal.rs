//! What the user sees: one line for each step with its verb set off, log lines dimmed, bars on standard error.
//!
//! Everything goes through one [`Terminal`], so that a bar never tears a line apart.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::time::Duration;

use console::{Style, style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::log::{Frame, Level};

/// Width of the column of verbs.
const VERB: usize = 12;

/// Standard output with bars under it.
#[derive(Clone, Debug, Default)]
pub struct Terminal {
    bars: MultiProgress,
    verbose: bool,
    /// The last byte shown did not end a line.
    within_line: Cell<bool>,
    /// Nobody looks: what would be shown is kept here.
    kept: Option<RefCell<Vec<u8>>>,
}

impl Terminal {
    /// A terminal; a verbose one shows what is for the developer too.
    #[must_use]
    pub fn new(verbose: bool) -> Self {
        Self {
            bars: MultiProgress::new(),
            verbose,
            within_line: Cell::new(false),
            kept: None,
        }
    }

    /// A terminal that shows nothing and keeps what it would show: a test's, which tells it if it fails.
    #[must_use]
    pub fn keeping() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
            kept: Some(RefCell::default()),
            ..Self::new(false)
        }
    }

    /// What a keeping terminal kept.
    #[must_use]
    pub fn kept(&self) -> String {
        self.kept.as_ref().map_or_else(String::new, |kept| {
            String::from_utf8_lossy(&kept.borrow()).into_owned()
        })
    }

    /// Prints `text` as a line of its own.
    pub fn line(&self, text: &str) {
        let before = if self.within_line.get() { "\n" } else { "" };
        self.raw(format!("{before}{text}\n").as_bytes());
    }

    /// Prints `bytes` as they are.
    pub fn raw(&self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.within_line.set(*last != b'\n');
        }
        if let Some(kept) = &self.kept {
            kept.borrow_mut().extend_from_slice(bytes);
            return;
        }
        // Not MultiProgress::println: it prints nothing where there is no terminal to draw bars on. A reader
        // that has gone away does not change how the run ends.
        self.bars.suspend(|| {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(bytes).and_then(|()| out.flush());
        });
    }

    /// Whether what was shown last did not end a line.
    pub(crate) fn is_within_line(&self) -> bool {
        self.within_line.get()
    }

    /// Prints a frame of the image's log.
    pub fn frame(&self, frame: &Frame) {
        if self.verbose || frame.level >= Level::Info {
            self.line(&frame.line());
        }
    }

    /// Prints a frame that only a developer wants to see.
    pub fn detail(&self, frame: &Frame) {
        if self.verbose {
            self.line(&frame.line());
        }
    }

    /// Prints a step: what is being done, and to what.
    pub fn step(&self, verb: &str, text: &str) {
        self.verb(&Style::new().green().bold(), verb, text);
    }

    /// Prints a step that went wrong.
    pub fn bad(&self, verb: &str, text: &str) {
        self.verb(&Style::new().red().bold(), verb, text);
    }

    fn verb(&self, how: &Style, verb: &str, text: &str) {
        self.line(&format!(
            "{} {text}",
            how.apply_to(format!("{verb:>VERB$}"))
        ));
    }

    /// A spinner for something that has no measure. It shows only if it takes longer than a moment.
    #[must_use]
    pub fn spinner(&self, verb: &str, text: &str) -> Bar {
        let bar = ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{prefix:>12.cyan.bold} {msg} {spinner}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        self.show(bar, verb, text)
    }

    /// A bar that measures bytes.
    #[must_use]
    pub fn bytes(&self, verb: &str, total: u64) -> Bar {
        self.bar(verb, total, "{bytes}/{total_bytes}")
    }

    /// A bar that counts.
    #[must_use]
    pub fn count(&self, verb: &str, total: u64) -> Bar {
        self.bar(verb, total, "{pos}/{len}")
    }

    fn bar(&self, verb: &str, total: u64, measure: &str) -> Bar {
        let template = format!("{{prefix:>12.cyan.bold}} [{{bar:30}}] {measure} {{msg}}");
        let bar = ProgressBar::new(total).with_style(
            ProgressStyle::with_template(&template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        self.show(bar, verb, "")
    }

    fn show(&self, bar: ProgressBar, verb: &str, text: &str) -> Bar {
        let bar = self.bars.add(bar);
        bar.set_prefix(verb.to_owned());
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        Bar(bar)
    }
}

/// A bar that is gone when this value is.
#[derive(Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    /// Shows `done` of `total`; a total of 0 is one that is not known.
    pub fn at(&self, done: u64, total: u64) {
        self.0.set_length(total.max(done));
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Makes lines of bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// Takes bytes and gives the lines that they complete.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match byte {
                b'\r' => {}
                b'\n' => {
                    lines.push(self.unfinished());
                    self.unfinished.clear();
                }
                _ => self.unfinished.push(byte),
            }
        }
        lines
    }

    /// What has no end yet.
    #[must_use]
    pub fn unfinished(&self) -> String {
        String::from_utf8_lossy(&self.unfinished).into_owned()
    }
}

/// `text` in the style of what is only there to look back at.
#[must_use]
pub fn dim(text: &str) -> String {
    style(text).dim().to_string()
}
