//! The run of a guest as its user sees it: its console as it is, and how it ended. With several guests their consoles are
//! shown by lines.

use std::io::{self, Cursor};
use std::process::ChildStdin;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::keys::{self, Chosen, Keys, Sender};
use crate::log::{Frame, Level};
use crate::manifest::Manifest;
use crate::session::{Ended, Watcher};
use crate::terminal::Terminal;
use crate::verdict::Case;

use super::consoles::Consoles;

/// What is typed on a guest's console, and from when on.
#[derive(Clone, Debug)]
pub enum Typed {
    /// This program's input. From a terminal all keys are the guest's but the way out; else every byte is, once the
    /// consoles have shown the text, if there is one: before, Linux would show them among its own lines.
    Stdin(Option<&'static str>),
    /// Bytes, in the same way.
    Bytes(Vec<u8>, Option<&'static str>),
}

/// What is known of a guest.
#[derive(Debug)]
struct Guest {
    lpid: u32,
    label: String,
    /// The code that it has ended with.
    code: Option<u64>,
    /// What its console still has to show first, and the end of what it has shown.
    awaited: Option<(&'static str, Vec<u8>)>,
}

impl Guest {
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
}

/// Shows the guests' consoles on the terminal and sends them what is typed.
#[derive(Debug)]
pub struct Watch<'a> {
    terminal: &'a Terminal,
    /// The partitions with a console, in the manifest's order.
    guests: Vec<Guest>,
    /// Their consoles, if there are several.
    consoles: Option<Consoles<'a>>,
    keys: Option<Keys>,
    /// The machine's input, until something is sent there.
    input: Option<ChildStdin>,
    /// What is sent there; none: this program's input.
    bytes: Option<Vec<u8>>,
    /// The image has spoken: what is sent before that is the firmware's.
    begun: bool,
    chosen: Arc<Chosen>,
    firmware: Firmware,
    /// Nothing came from the console since the last tick.
    quiet: bool,
}

impl<'a> Watch<'a> {
    /// Watches the partitions of a machine that have a console, and has `typed` typed there: what comes from a terminal
    /// for the one that is chosen, all else for each of them. The machine's end of the line is `input`. A terminal's keys
    /// are taken until this value is gone.
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
        let partitions = manifest.partitions().iter();
        let guests: Vec<_> = partitions
            .filter(|partition| partition.console)
            .map(|partition| Guest {
                lpid: partition.lpid,
                label: partition.label.clone(),
                code: None,
                awaited: awaited.map(|text| (text, Vec::new())),
            })
            .collect();
        let chosen = Arc::new(Chosen::default());
        let labels = guests.iter().map(|guest| guest.label.clone());
        let has_keys = keys.as_ref().map(|_| Arc::clone(&chosen));
        let consoles = (guests.len() > 1).then(|| Consoles::new(terminal, labels, has_keys));
        Self {
            terminal,
            consoles,
            guests,
            keys,
            input,
            bytes,
            begun: false,
            chosen,
            firmware: Firmware::default(),
            quiet: true,
        }
    }

    /// How the user leaves, to be said after what is begun.
    #[must_use]
    pub fn way_out(&self) -> String {
        match (&self.keys, self.guests.len()) {
            (None, _) => String::new(),
            (Some(_), 0..=1) => "; ctrl-A x ends it".to_owned(),
            (Some(_), guests) => {
                format!("; ctrl-A 1 to {guests} gives a guest the keys, ctrl-A x ends it")
            }
        }
    }

    /// The user has left.
    #[must_use]
    pub fn left(&self) -> bool {
        self.chosen.left()
    }

    /// Where it shows what it shows.
    pub(super) const fn terminal(&self) -> &'a Terminal {
        self.terminal
    }

    /// Sends what is typed from now on, if nothing has to come first. Who has ended will show nothing any more.
    fn type_on(&mut self) {
        let awaits = |guest: &Guest| guest.code.is_none() && guest.awaited.is_some();
        // Whoever types by hand sees when it is time.
        let waits = self.keys.is_none() && self.guests.iter().any(awaits);
        if !self.begun || waits {
            return;
        }
        let Some(input) = self.input.take() else {
            return;
        };
        let keys = self.keys.as_ref().map(|_| Arc::clone(&self.chosen));
        let mut sender = Sender::new(self.guests.len(), keys);
        let sent = move |typed: &[u8]| sender.send(typed);
        if let Some(bytes) = self.bytes.take() {
            keys::forward(Cursor::new(bytes), input, sent);
        } else {
            keys::forward(io::stdin(), input, sent);
        }
    }

    /// Whether the guest with this LPID has shown what its console has to show before something is typed.
    pub(super) fn is_ready(&self, lpid: u32) -> bool {
        let mut guests = self.guests.iter();
        guests.any(|guest| guest.lpid == lpid && guest.awaited.is_none())
    }

    /// Whether the guest with this LPID has ended.
    pub(super) fn has_ended(&self, lpid: u32) -> bool {
        let mut guests = self.guests.iter();
        guests.any(|guest| guest.lpid == lpid && guest.code.is_some())
    }

    /// Whether the machine waits for none of the guests any more.
    pub(super) fn all_have_ended(&self) -> bool {
        self.guests.iter().all(|guest| guest.code.is_some())
    }

    /// Shows bytes of the consoles.
    fn show(&mut self, bytes: &[u8]) {
        if let Some(consoles) = &mut self.consoles {
            for (number, piece) in consoles.decode(bytes) {
                consoles.show(number, &piece);
                if let Some(guest) = self.guests.get_mut(number) {
                    guest.look_for(&piece);
                }
            }
        } else {
            self.terminal.raw(bytes);
            if let Some(guest) = self.guests.first_mut() {
                guest.look_for(bytes);
            }
        }
    }

    /// Shows what is left to be shown, now that the machine has ended.
    pub fn finish(&mut self) {
        let held = self.firmware.give_up();
        self.show(&held);
        if let Some(consoles) = &mut self.consoles {
            consoles.end();
        }
    }

    /// Whether the guests ended well, now that the machine did as `ended` says.
    ///
    /// # Errors
    /// What was not well.
    pub fn verdict(&self, ended: Ended) -> Result<()> {
        for Guest {
            label: name, code, ..
        } in &self.guests
        {
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
            && let Some(guest) = self.guests.iter_mut().find(|guest| guest.label == name)
        {
            guest.code = Some(code);
            self.type_on();
        }
        // What only tells what happens would stand between the guest's lines.
        if frame.level >= Level::Warn {
            self.terminal.frame(frame);
        } else {
            self.terminal.detail(frame);
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        let bytes = self.firmware.take(bytes);
        self.show(&bytes);
        self.quiet = false;
        self.type_on();
    }

    fn wants_to_end(&self) -> bool {
        self.left()
    }

    fn tick(&mut self) -> bool {
        // What may have begun a line of the firmware's and did not go on is the guest's.
        if std::mem::replace(&mut self.quiet, true) {
            let held = self.firmware.give_up();
            self.show(&held);
        }
        if let Some(consoles) = &mut self.consoles {
            consoles.look();
        }
        false
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
    use crate::guest::place::Software;
    use crate::guest::program::{LOAD_ADDRESS, Program};
    use crate::manifest::Partition;

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

    fn watch<'a>(terminal: &'a Terminal, labels: &[&str], typed: Typed) -> Watch<'a> {
        let program = Program {
            bytes: vec![0; 4],
            size: 4,
            entry: LOAD_ADDRESS,
            little_endian: true,
        };
        let software = Software::new(program, None, "");
        let guests = (1..).zip(labels).map(|(lpid, label)| Partition {
            console: true,
            ..software
                .partition(lpid, label, 64 << 20, 1)
                .expect("it fits")
        });
        Watch::new(terminal, &Manifest::new(guests.collect()), None, typed)
    }

    fn awaiting(watch: &Watch<'_>) -> Vec<bool> {
        let guests = watch.guests.iter();
        guests.map(|guest| guest.awaited.is_some()).collect()
    }

    #[test]
    fn what_did_not_go_on_is_the_guests() {
        let terminal = Terminal::keeping();
        let typed = Typed::Bytes(Vec::new(), None);
        let mut watch = watch(&terminal, &["linux"], typed);
        watch.console(b"choose [");
        watch.tick();
        assert_eq!(terminal.kept(), "choose ");
        watch.tick();
        assert_eq!(terminal.kept(), "choose [");
        watch.console(b"1] ");
        assert_eq!(terminal.kept(), "choose [1] ");
    }

    #[test]
    fn each_guest_of_several_is_awaited_and_shown() {
        let terminal = Terminal::keeping();
        let typed = Typed::Bytes(Vec::new(), Some("\n# "));
        let mut watch = watch(&terminal, &["one", "two"], typed);
        watch.console(b"\x011Linux\n\x012Linux\n#\x011# \x01");
        assert_eq!(awaiting(&watch), [false, true]);
        watch.console(b"2 ");
        assert_eq!(awaiting(&watch), [false, false]);
        assert_eq!(terminal.kept(), "one | Linux\ntwo | Linux\n");
        watch.finish();
        assert!(terminal.kept().ends_with("one | # \ntwo | # \n"));
    }

    #[test]
    fn what_is_awaited_is_found_wherever_it_is_cut() {
        let terminal = Terminal::keeping();
        let typed = Typed::Bytes(Vec::new(), Some("\n# "));
        let mut watch = watch(&terminal, &["linux"], typed);
        for piece in ["#\r", "\n", "#", "\n#", "\n"] {
            watch.console(piece.as_bytes());
            assert!(awaiting(&watch) == [true], "{piece:?}");
        }
        watch.console(b"# ls");
        assert!(awaiting(&watch) == [false]);
    }

    #[test]
    fn only_an_end_with_code_0_is_a_good_one() {
        let terminal = Terminal::keeping();
        let none = || Typed::Bytes(Vec::new(), None);
        let watch = |code| {
            let mut watch = watch(&terminal, &["one", "two"], none());
            for (guest, code) in watch.guests.iter_mut().zip([Some(0), code]) {
                guest.code = code;
            }
            watch
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
