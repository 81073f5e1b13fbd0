//! The run of a guest as its user sees it: its console as it is, and how it ended.

use std::io::{self, Cursor};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};

use crate::keys::{self, Escape, Keys};
use crate::log::{Frame, Level};
use crate::manifest::Manifest;
use crate::session::{Ended, Watcher};
use crate::terminal::Terminal;
use crate::verdict::Case;

/// What is typed on a guest's console, and from when on.
#[derive(Clone, Debug)]
pub enum Typed {
    /// This program's input. From a terminal all keys are the guest's but the way out; else every byte is, once the
    /// console has shown the text, if there is one: before, Linux would show them among its own lines.
    Stdin(Option<&'static str>),
    /// Bytes, in the same way.
    Bytes(Vec<u8>, Option<&'static str>),
}

/// Shows a guest's console on the terminal and sends it what is typed.
#[derive(Debug)]
pub struct Watch<'a> {
    terminal: &'a Terminal,
    /// The partitions that the machine waits for, and the code that each has ended with.
    guests: Vec<(String, Option<u64>)>,
    keys: Option<Keys>,
    /// The machine's input, until something is sent there.
    input: Option<ChildStdin>,
    /// What is sent there; none: this program's input.
    bytes: Option<Vec<u8>>,
    /// The image has spoken: what is sent before that is the firmware's.
    begun: bool,
    /// What the console still has to show first, and the end of what it has shown.
    awaited: Option<(&'static str, Vec<u8>)>,
    left: Arc<AtomicBool>,
    firmware: Firmware,
    /// Nothing came from the console since the last tick.
    quiet: bool,
}

impl<'a> Watch<'a> {
    /// Watches the essential partitions of a machine, and has `typed` typed for the one with the console, whose end of
    /// the line is `input`. A terminal's keys are taken until this value is gone.
    #[must_use]
    pub fn new(
        terminal: &'a Terminal,
        manifest: &Manifest,
        input: Option<ChildStdin>,
        typed: Typed,
    ) -> Self {
        let (keys, bytes, awaited) = match typed {
            Typed::Stdin(after) => (Keys::take_all(), None, after),
            Typed::Bytes(bytes, after) => (None, Some(bytes), after),
        };
        let awaited = awaited.filter(|_| keys.is_none());
        let essential = manifest
            .partitions()
            .iter()
            .filter(|partition| partition.essential && partition.papr.is_some());
        Self {
            terminal,
            guests: essential
                .map(|partition| (partition.label.clone(), None))
                .collect(),
            keys,
            input,
            bytes,
            begun: false,
            awaited: awaited.map(|text| (text, Vec::new())),
            left: Arc::default(),
            firmware: Firmware::default(),
            quiet: true,
        }
    }

    /// How the user leaves, to be said after what is begun.
    #[must_use]
    pub fn way_out(&self) -> &'static str {
        if self.keys.is_some() {
            "; ctrl-A x ends it"
        } else {
            ""
        }
    }

    /// The user has left.
    #[must_use]
    pub fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Where it shows what it shows.
    pub(super) const fn terminal(&self) -> &'a Terminal {
        self.terminal
    }

    /// Shows what was held back of the console. Also to be called when the machine has ended.
    pub fn show_held(&mut self) {
        let held = self.firmware.give_up();
        if !held.is_empty() {
            self.terminal.raw(&held);
        }
    }

    /// Sends what is typed from now on, if nothing has to come first.
    fn type_on(&mut self) {
        if !self.begun || self.awaited.is_some() {
            return;
        }
        let Some(input) = self.input.take() else {
            return;
        };
        if let Some(bytes) = self.bytes.take() {
            keys::forward(Cursor::new(bytes), input, None);
        } else {
            let escape = self.keys.as_ref().map(|_| Escape::default());
            let escape = escape.map(|escape| (escape, Arc::clone(&self.left)));
            keys::forward(io::stdin(), input, escape);
        }
    }

    /// Looks for what is awaited in what the console shows.
    fn look_for(&mut self, bytes: &[u8]) {
        if let Some((text, shown)) = &mut self.awaited {
            shown.extend_from_slice(bytes);
            if shown
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                self.awaited = None;
            } else {
                shown.drain(..shown.len().saturating_sub(text.len()));
            }
        }
    }

    /// Whether the machine waits for none of the guests any more.
    pub(super) fn all_have_ended(&self) -> bool {
        self.guests.iter().all(|(_, code)| code.is_some())
    }

    /// Whether the guests ended well, now that the machine did as `ended` says.
    ///
    /// # Errors
    /// What was not well.
    pub fn verdict(&self, ended: Ended) -> Result<()> {
        for (name, code) in &self.guests {
            match code {
                Some(0) => {}
                Some(code) => bail!("partition {name} has ended with code {code:#x}"),
                None if ended == Ended::Off => {
                    bail!("the machine has ended, and partition {name} had not")
                }
                None => bail!("{ended}; partition {name} has not ended"),
            }
        }
        if ended != Ended::Off {
            bail!("{ended}");
        }
        Ok(())
    }
}

impl Watcher for Watch<'_> {
    fn frame(&mut self, frame: &Frame, _case: Option<&Case>) {
        self.begun = true;
        self.type_on();
        if let Some((name, code)) = end(&frame.text)
            && let Some(guest) = self.guests.iter_mut().find(|guest| guest.0 == name)
        {
            guest.1 = Some(code);
        }
        // What only tells what happens would stand between the guest's lines.
        if frame.level >= Level::Warn {
            self.terminal.frame(frame);
        } else {
            self.terminal.detail(frame);
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        self.terminal.raw(&self.firmware.take(bytes));
        self.quiet = false;
        self.look_for(bytes);
        self.type_on();
    }

    fn tick(&mut self) -> bool {
        // What may have begun a line of the firmware's and did not go on is the guest's.
        if std::mem::replace(&mut self.quiet, true) {
            self.show_held();
        }
        false
    }

    fn wants_to_end(&self) -> bool {
        self.left()
    }
}

/// `partition NAME has ended with CODE`.
fn end(text: &str) -> Option<(&str, u64)> {
    let (name, code) = text
        .strip_prefix("partition ")?
        .split_once(" has ended with ")?;
    let code = u64::from_str_radix(code.strip_prefix("0x").unwrap_or(code), 16).ok()?;
    Some((name, code))
}

/// Leaves out the firmware's lines, which it prints on the console that the guest has: `[    6.137144307,4] text`. They
/// come anywhere, within the guest's lines too. All else is passed on, byte for byte.
#[derive(Debug, Default)]
struct Firmware {
    /// What may be the beginning of such a line.
    held: Vec<u8>,
    /// In such a line.
    within: bool,
}

impl Firmware {
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.within {
                self.within = byte != b'\n';
                continue;
            }
            self.held.push(byte);
            while let Some(is_firmwares) = is_firmwares(&self.held) {
                if is_firmwares {
                    self.within = true;
                    self.held.clear();
                } else {
                    shown.push(self.held.remove(0));
                }
            }
        }
        shown
    }

    /// What is held after all.
    fn give_up(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

/// Whether this is the beginning of a line of the firmware's; none if more is needed to tell.
fn is_firmwares(bytes: &[u8]) -> Option<bool> {
    /// What follows the seconds; 0 is any digit.
    const REST: &[u8] = b".000000000,0] ";
    /// The most places that the seconds have.
    const SECONDS: usize = 8;

    let (&first, rest) = bytes.split_first()?;
    let blanks = rest.iter().take_while(|&&byte| byte == b' ').count();
    let rest = rest.get(blanks..).unwrap_or_default();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = rest.get(digits..).unwrap_or_default();
    if first != b'[' || blanks + digits > SECONDS || (digits == 0 && !rest.is_empty()) {
        return Some(false);
    }
    let fits = |(&byte, &form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    if !rest.iter().zip(REST).all(fits) {
        return Some(false);
    }
    (rest.len() >= REST.len()).then_some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_read() {
        assert_eq!(
            end("partition linux has ended with 0x0"),
            Some(("linux", 0))
        );
        assert_eq!(
            end("partition a b has ended with 0x1f"),
            Some(("a b", 0x1f))
        );
        assert_eq!(end("partition linux has ended"), None);
        assert_eq!(end("partition linux has ended with it"), None);
    }

    #[test]
    fn the_firmwares_lines_are_left_out() {
        let mut firmware = Firmware::default();
        let text = "[   21.078479] reboot: Power down\r\n[[    6.137144307,4] SBE: slow\r\na]\r\n\
            li[   22.085023112,5] OPAL: Shutdown\r\nne [1,2] [ 3.25, [   22.0850231,5] \
            [ x [12345] [123456789.000000000,1] [   22.085023112,55] last\n[  ";
        let expected = "[   21.078479] reboot: Power down\r\n[a]\r\nline [1,2] [ 3.25, [   22.0850231,5] \
            [ x [12345] [123456789.000000000,1] [   22.085023112,55] last\n";
        for cut in 1..text.len() {
            let mut shown = Vec::new();
            for piece in text.as_bytes().chunks(cut) {
                shown.extend(firmware.take(piece));
            }
            assert_eq!(String::from_utf8(shown).expect("text"), expected);
            assert_eq!(firmware.give_up(), b"[  ");
        }
    }

    #[test]
    fn what_did_not_go_on_is_the_guests() {
        let terminal = Terminal::keeping();
        let none = Manifest::new(Vec::new());
        let typed = Typed::Bytes(Vec::new(), None);
        let mut watch = Watch::new(&terminal, &none, None, typed);
        watch.console(b"choose [");
        watch.tick();
        assert_eq!(terminal.kept(), "choose ");
        watch.tick();
        assert_eq!(terminal.kept(), "choose [");
        watch.console(b"1] ");
        assert_eq!(terminal.kept(), "choose [1] ");
    }

    #[test]
    fn what_is_awaited_is_found_wherever_it_is_cut() {
        let terminal = Terminal::keeping();
        let none = Manifest::new(Vec::new());
        let typed = Typed::Bytes(Vec::new(), Some("\n# "));
        let mut watch = Watch::new(&terminal, &none, None, typed);
        for piece in ["#\r", "\n", "#", "\n#", "\n"] {
            watch.console(piece.as_bytes());
            assert!(watch.awaited.is_some(), "{piece:?}");
        }
        watch.console(b"# ls");
        assert!(watch.awaited.is_none());
    }

    #[test]
    fn only_an_end_with_code_0_is_a_good_one() {
        let terminal = Terminal::keeping();
        let watch = |code| Watch {
            guests: vec![("one".to_owned(), Some(0)), ("two".to_owned(), code)],
            ..Watch::new(
                &terminal,
                &Manifest::new(Vec::new()),
                None,
                Typed::Bytes(Vec::new(), None),
            )
        };
        let told = |code, ended| {
            watch(code)
                .verdict(ended)
                .map_err(|error| error.to_string())
        };
        assert_eq!(told(Some(0), Ended::Off), Ok(()));
        assert_eq!(
            told(Some(16), Ended::Off),
            Err("partition two has ended with code 0x10".to_owned())
        );
        assert_eq!(
            told(None, Ended::Off),
            Err("the machine has ended, and partition two had not".to_owned())
        );
        assert!(told(Some(0), Ended::StillOn).is_err());
        assert!(told(None, Ended::StillOn).is_err());
    }
}
