//! What is typed, for a machine's console.
//!
//! Key types: [`Keys`], the terminal while its keys are the machine's; [`Sender`], what is made of them where ctrl-C is the
//! machine's too, and where there are several guests; [`Chosen`], what they choose.

use std::io::{self, IsTerminal as _, Read, Stdin, Write as _};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use realhpt_powernv::mux::Encoder;
use rustix::termios::{InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The key that the escape begins with: ctrl-A.
const PREFIX: u8 = 1;

/// The terminal's keys go to the machine as they are pressed and are not echoed. The terminal is as before when
/// this value is gone.
#[derive(Debug)]
pub struct Keys {
    stdin: Stdin,
    before: Termios,
}

impl Keys {
    /// Takes the keys but those that interrupt, which still do. None if there is no terminal.
    #[must_use]
    pub fn take() -> Option<Self> {
        Self::with(|mode| {
            mode.local_modes
                .remove(LocalModes::ICANON | LocalModes::ECHO);
        })
    }

    /// Takes all keys, ctrl-C too. None if there is no terminal.
    #[must_use]
    pub fn take_all() -> Option<Self> {
        Self::with(|mode| {
            let local =
                LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
            mode.local_modes.remove(local);
            mode.input_modes
                .remove(InputModes::ICRNL | InputModes::IXON);
        })
    }

    fn with(change: impl FnOnce(&mut Termios)) -> Option<Self> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return None;
        }
        let before = tcgetattr(&stdin).ok()?;
        let mut mode = before.clone();
        change(&mut mode);
        tcsetattr(&stdin, OptionalActions::Now, &mode).ok()?;
        Some(Self { stdin, before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.stdin, OptionalActions::Now, &self.before);
    }
}

/// Sends what is typed to the machine until either side ends, from a thread of its own. `sent` makes of it what goes there.
pub fn forward(
    mut typed: impl Read + Send + 'static,
    mut input: ChildStdin,
    mut sent: impl FnMut(&[u8]) -> Vec<u8> + Send + 'static,
) {
    thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(length @ 1..) = typed.read(&mut buffer) {
            let bytes = sent(buffer.get(..length).unwrap_or_default());
            if input
                .write_all(&bytes)
                .and_then(|()| input.flush())
                .is_err()
            {
                return;
            }
        }
        // The end of the input is not the end of the machine: QEMU keeps its side open.
        std::mem::forget(input);
    });
}

/// What the user has chosen by keys.
#[derive(Debug, Default)]
pub struct Chosen {
    left: AtomicBool,
    guest: AtomicUsize,
}

impl Chosen {
    /// The user has left.
    #[must_use]
    pub fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// The number of the guest that has the keys, from 0.
    #[must_use]
    pub fn guest(&self) -> usize {
        self.guest.load(Ordering::Relaxed)
    }

    /// Gives the keys to a guest.
    pub(crate) fn choose(&self, guest: usize) {
        self.guest.store(guest, Ordering::Relaxed);
    }
}

/// Makes of what is typed what goes to a machine whose console is that of so many guests.
#[derive(Debug)]
pub struct Sender {
    guests: usize,
    /// How the machine is told whose they are, if there are several.
    line: Encoder,
    keys: Option<(Escape, Arc<Chosen>)>,
}

impl Sender {
    /// What is typed by hand, for the guest that is chosen; without that every guest gets all of it.
    #[must_use]
    pub fn new(guests: usize, keys: Option<Arc<Chosen>>) -> Self {
        Self {
            guests,
            line: Encoder::default(),
            keys: keys.map(|chosen| (Escape::new(guests), chosen)),
        }
    }

    /// What goes to the machine.
    pub fn send(&mut self, typed: &[u8]) -> Vec<u8> {
        let mut sent = Vec::with_capacity(typed.len());
        let Some((escape, chosen)) = &mut self.keys else {
            for guest in 0..self.guests {
                encode(&mut self.line, self.guests, guest, typed, &mut sent);
            }
            return sent;
        };
        for key in escape.take(typed) {
            match key {
                Key::Byte(byte) => {
                    encode(
                        &mut self.line,
                        self.guests,
                        chosen.guest(),
                        &[byte],
                        &mut sent,
                    );
                }
                Key::Guest(guest) => chosen.choose(guest),
                Key::Leave => chosen.left.store(true, Ordering::Relaxed),
            }
        }
        sent
    }
}

/// Adds to `sent` what a guest's bytes are on the machine's line: themselves, if it is the only one.
fn encode(line: &mut Encoder, guests: usize, guest: usize, bytes: &[u8], sent: &mut Vec<u8>) {
    if guests > 1 {
        line.encode(guest, bytes, |byte| sent.push(byte));
    } else {
        sent.extend_from_slice(bytes);
    }
}

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// A guest's.
    Byte(u8),
    /// From here on keys are this guest's.
    Guest(usize),
    /// The user leaves.
    Leave,
}

/// Looks for ctrl-A x among what is typed, and with several guests for ctrl-A and a guest's number. Ctrl-A twice is one
/// ctrl-A; before any other key it is itself.
#[derive(Debug)]
struct Escape {
    guests: usize,
    /// The last key was ctrl-A.
    pending: bool,
}

impl Escape {
    const fn new(guests: usize) -> Self {
        Self {
            guests,
            pending: false,
        }
    }

    fn take(&mut self, typed: &[u8]) -> Vec<Key> {
        let mut keys = Vec::with_capacity(typed.len() + 1);
        for &key in typed {
            match (std::mem::take(&mut self.pending), key) {
                (false, PREFIX) => self.pending = true,
                (true, PREFIX) => keys.push(Key::Byte(PREFIX)),
                (true, b'x' | b'X') => keys.push(Key::Leave),
                (true, _) => match self.guest(key) {
                    Some(guest) => keys.push(Key::Guest(guest)),
                    None => keys.extend([PREFIX, key].map(Key::Byte)),
                },
                (false, _) => keys.push(Key::Byte(key)),
            }
        }
        keys
    }

    /// The guest whose number a key is, if there are several.
    fn guest(&self, key: u8) -> Option<usize> {
        let guest = usize::from(key.checked_sub(b'1')?);
        (self.guests > 1 && guest < self.guests).then_some(guest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent, who has the keys at the end, and whether the user has left.
    fn typed(guests: usize, pieces: &[&[u8]]) -> (Vec<u8>, usize, bool) {
        let chosen = Arc::new(Chosen::default());
        let mut sender = Sender::new(guests, Some(Arc::clone(&chosen)));
        let sent = pieces.iter().flat_map(|piece| sender.send(piece)).collect();
        (sent, chosen.guest(), chosen.left())
    }

    #[test]
    fn the_escape_is_found_wherever_it_is_cut() {
        type Case<'a> = (&'a [&'a [u8]], &'a [u8], bool);
        let cases: [Case<'_>; 8] = [
            (&[b"ls\r"], b"ls\r", false),
            (&[b"\x03\x04"], b"\x03\x04", false),
            (&[b"a\x01x"], b"a", true),
            (&[b"\x01", b"x"], b"", true),
            (&[b"\x01", b"\x01", b"x"], b"\x01x", false),
            (&[b"\x01b"], b"\x01b", false),
            (&[b"\x011"], b"\x011", false),
            (&[b"x", b"\x01\x01\x01X"], b"x\x01", true),
        ];
        for (pieces, expected, left) in cases {
            assert_eq!(typed(1, pieces), (expected.to_vec(), 0, left), "{pieces:?}");
        }
    }

    #[test]
    fn the_keys_are_given_to_another_guest() {
        type Case<'a> = (&'a [&'a [u8]], &'a [u8], usize);
        let cases: [Case<'_>; 4] = [
            (&[b"ab"], b"\x011ab", 0),
            (
                &[b"a\x01", b"2b\x01\x01", b"c"],
                b"\x011a\x012b\x01\x01c",
                1,
            ),
            (&[b"\x012\x011"], b"", 0),
            (&[b"\x013"], b"\x011\x01\x013", 0),
        ];
        for (pieces, expected, guest) in cases {
            assert_eq!(
                typed(2, pieces),
                (expected.to_vec(), guest, false),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn what_is_not_typed_by_hand_is_everybodys() {
        assert_eq!(Sender::new(1, None).send(b"a\x01x"), b"a\x01x");
        let mut sender = Sender::new(2, None);
        assert_eq!(sender.send(b"a\x01"), b"\x011a\x01\x01\x012a\x01\x01");
        assert_eq!(sender.send(b"b"), b"\x011b\x012b");
    }
}
