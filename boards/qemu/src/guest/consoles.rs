//! The consoles of several guests on one terminal.
//!
//! A guest's lines are shown when they are whole, with its name in front. Of the guest that has the keys the line that is not
//! finished yet, a prompt, stands on the terminal as it is, with the name in front too; when another's line comes it
//! makes room and is shown again behind it.
//!
//! A program may ask the terminal something, where the cursor is for instance, and the answer comes as keys. So what asks goes
//! to the terminal once, while the guest has the keys, and is left out of what is shown otherwise.
//!
//! Invariant: whatever is shown between, each line of a guest is shown once and in one piece as soon as it is finished.

use std::sync::Arc;

use realhpt_powernv::mux::Decoder;

use crate::keys::Chosen;
use crate::terminal::Terminal;

/// Bytes after which a line is shown, finished or not: a program may write for ever without an end of line.
const LONGEST: usize = 1 << 14;
/// Erases the terminal's line, as ECMA-48 terminals do.
const ERASE: &[u8] = b"\r\x1b[K";

/// A guest's console.
#[derive(Debug)]
struct Console {
    label: String,
    unfinished: Vec<u8>,
    /// How many bytes of that have been shown as they are.
    told: usize,
}

impl Console {
    /// What is shown of it, from its name on, with what asks left out of the first `told` bytes.
    fn shown(&self, told: usize) -> Vec<u8> {
        let name = format!("{} | ", self.label);
        let (old, new) = self.unfinished.split_at(told.min(self.unfinished.len()));
        [name.as_bytes(), &without_questions(old), new].concat()
    }

    /// The bytes behind the first `shown` ones.
    fn rest(&self, shown: usize) -> &[u8] {
        self.unfinished.get(shown..).unwrap_or_default()
    }
}

/// The bytes without control sequences that a terminal answers: those that end with n or c (ECMA-48, DSR and DA).
fn without_questions(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let parameters = after.strip_prefix(b"[").filter(|_| byte == 0x1b);
        let end = parameters.and_then(|bytes| {
            let length = bytes
                .iter()
                .take_while(|byte| (0x20..=0x3f).contains(*byte))
                .count();
            let (last, after) = bytes.get(length..)?.split_first()?;
            matches!(last, b'n' | b'c').then_some(after)
        });
        rest = end.unwrap_or_else(|| {
            kept.push(byte);
            after
        });
    }
    kept
}

/// All of them.
#[derive(Debug)]
pub(super) struct Consoles<'a> {
    terminal: &'a Terminal,
    line: Decoder,
    consoles: Vec<Console>,
    /// Who has the keys; none: nobody.
    keys: Option<Arc<Chosen>>,
    /// Whose unfinished line stands on the terminal, and how many bytes of it, if nothing was shown since.
    standing: Option<(usize, usize)>,
    /// Who had the keys when that was looked at last.
    had_keys: usize,
}

impl<'a> Consoles<'a> {
    /// The consoles of guests with these names.
    pub(super) fn new(
        terminal: &'a Terminal,
        labels: impl Iterator<Item = String>,
        keys: Option<Arc<Chosen>>,
    ) -> Self {
        let consoles = labels.map(|label| Console {
            label,
            unfinished: Vec::new(),
            told: 0,
        });
        Self {
            terminal,
            line: Decoder::default(),
            consoles: consoles.collect(),
            keys,
            standing: None,
            had_keys: 0,
        }
    }

    /// Whose bytes those of the machine's line are, in their order.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
        let mut pieces: Vec<(usize, Vec<u8>)> = Vec::new();
        for (guest, byte) in bytes.iter().filter_map(|&byte| self.line.decode(byte)) {
            match pieces.last_mut() {
                Some((last, piece)) if *last == guest => piece.push(byte),
                _ => pieces.push((guest, vec![byte])),
            }
        }
        pieces
    }

    /// Shows a guest's bytes.
    pub(super) fn show(&mut self, guest: usize, bytes: &[u8]) {
        for &byte in bytes {
            let Some(console) = self.consoles.get_mut(guest) else {
                return;
            };
            if byte != b'\n' {
                console.unfinished.push(byte);
            }
            if byte == b'\n' || console.unfinished.len() >= LONGEST {
                self.finish(guest);
            }
        }
        self.look();
    }

    /// Shows the unfinished line of who has the keys, if that is not what stands on the terminal.
    pub(super) fn look(&mut self) {
        let Some(keys) = &self.keys else {
            return;
        };
        let guest = keys.guest();
        let standing = self.standing();
        let Some(console) = self.consoles.get_mut(guest) else {
            return;
        };
        let length = console.unfinished.len();
        match standing {
            Some((whose, shown)) if whose == guest => self.terminal.raw(console.rest(shown)),
            _ => {
                // Who has got the keys is shown even with nothing to show.
                if length == 0 && guest == self.had_keys {
                    return;
                }
                if standing.is_some() {
                    self.terminal.raw(ERASE);
                }
                self.terminal.raw(&console.shown(console.told));
            }
        }
        console.told = length;
        self.standing = Some((guest, length));
        self.had_keys = guest;
    }

    /// Shows what was not finished, at the end.
    pub(super) fn end(&mut self) {
        for guest in 0..self.consoles.len() {
            if self
                .consoles
                .get(guest)
                .is_some_and(|console| !console.unfinished.is_empty())
            {
                self.finish(guest);
            }
        }
    }

    /// What stands on the terminal now: nothing, if another line was shown since.
    fn standing(&self) -> Option<(usize, usize)> {
        self.standing.filter(|_| self.terminal.is_within_line())
    }

    /// Shows a guest's line, which is finished.
    fn finish(&mut self, guest: usize) {
        let standing = self.standing();
        let Some(console) = self.consoles.get_mut(guest) else {
            return;
        };
        while console.unfinished.last() == Some(&b'\r') {
            console.unfinished.pop();
        }
        let mut shown = match standing {
            Some((whose, shown)) if whose == guest => console.rest(shown).to_vec(),
            Some(_) => [ERASE, &console.shown(usize::MAX)].concat(),
            None => console.shown(usize::MAX),
        };
        shown.push(b'\n');
        self.terminal.raw(&shown);
        console.unfinished.clear();
        console.told = 0;
        self.standing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consoles(terminal: &Terminal, keys: Option<Arc<Chosen>>) -> Consoles<'_> {
        let labels = ["one", "two"].map(str::to_owned);
        Consoles::new(terminal, labels.into_iter(), keys)
    }

    #[test]
    fn lines_are_whole_whoever_writes_between() {
        let terminal = Terminal::keeping();
        let mut consoles = consoles(&terminal, None);
        for (guest, bytes) in [
            (0, "# una"),
            (1, "Linux\r\nboots"),
            (0, "me\r\nLinux\n"),
            (1, ""),
            (5, "nobody's\n"),
            (1, "\r\n\n"),
            (0, "# "),
        ] {
            consoles.show(guest, bytes.as_bytes());
        }
        assert_eq!(
            terminal.kept(),
            "two | Linux\none | # uname\none | Linux\ntwo | boots\ntwo | \n"
        );
        consoles.end();
        assert!(terminal.kept().ends_with("two | \none | # \n"));
    }

    #[test]
    fn a_prompt_stands_and_makes_room() {
        let terminal = Terminal::keeping();
        let keys = Arc::new(Chosen::default());
        let mut consoles = consoles(&terminal, Some(Arc::clone(&keys)));
        consoles.show(0, b"# ");
        consoles.show(0, b"l");
        assert_eq!(terminal.kept(), "one | # l");
        consoles.show(1, b"boot");
        consoles.show(1, b"s\r\n# ");
        let all = "one | # l\r\x1b[Ktwo | boots\none | # l";
        assert_eq!(terminal.kept(), all);
        // A line of the runner's own ends it.
        terminal.line("a step");
        consoles.show(0, b"s\r");
        let all = format!("{all}\na step\none | # ls\r");
        assert_eq!(terminal.kept(), all);
        consoles.show(0, b"\nbin\r\n# ");
        let all = format!("{all}\none | bin\none | # ");
        assert_eq!(terminal.kept(), all);
        keys.choose(1);
        consoles.look();
        let all = format!("{all}\r\x1b[Ktwo | # ");
        assert_eq!(terminal.kept(), all);
        consoles.look();
        assert_eq!(terminal.kept(), all);
    }

    #[test]
    fn who_gets_the_keys_is_named() {
        let terminal = Terminal::keeping();
        let keys = Arc::new(Chosen::default());
        let mut consoles = consoles(&terminal, Some(Arc::clone(&keys)));
        consoles.look();
        keys.choose(1);
        consoles.look();
        consoles.show(1, b"x\n");
        consoles.look();
        assert_eq!(terminal.kept(), "two | x\n");
    }

    #[test]
    fn a_question_is_asked_once_by_who_has_the_keys() {
        let terminal = Terminal::keeping();
        let keys = Arc::new(Chosen::default());
        let mut consoles = consoles(&terminal, Some(Arc::clone(&keys)));
        consoles.show(0, b"# \x1b[6n");
        consoles.show(1, b"# \x1b[6nls \x1b[1m\x1b[\n# \x1b[6n");
        let all = "one | # \x1b[6n\r\x1b[Ktwo | # ls \x1b[1m\x1b[\none | # ";
        assert_eq!(terminal.kept(), all);
        keys.choose(1);
        consoles.look();
        let all = format!("{all}\r\x1b[Ktwo | # \x1b[6n");
        assert_eq!(terminal.kept(), all);
    }

    #[test]
    fn a_line_without_end_is_shown() {
        let terminal = Terminal::keeping();
        let mut consoles = consoles(&terminal, None);
        consoles.show(0, &[b'x'; LONGEST + 1]);
        assert_eq!(terminal.kept().len(), "one | ".len() + LONGEST + 1);
    }

    #[test]
    fn the_line_says_whose_bytes_they_are() {
        let terminal = Terminal::keeping();
        let mut consoles = consoles(&terminal, None);
        assert_eq!(
            consoles.decode(b"\x011ab\x012c\x01"),
            [(0, b"ab".to_vec()), (1, b"c".to_vec())]
        );
        assert_eq!(consoles.decode(b"\x01d"), [(1, b"\x01d".to_vec())]);
    }
}
