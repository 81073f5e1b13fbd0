//! What is typed, for a machine's console.
//!
//! Key types: [`Keys`], the terminal while its keys are the machine's; [`Escape`], the way out where ctrl-C is the
//! machine's too.

use std::io::{self, IsTerminal as _, Read as _, Stdin, Write as _};
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

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

/// Sends what is typed to the machine until either side ends, from a thread of its own. With an escape that is looked
/// for, and the flag is set when it was typed.
pub fn forward(mut input: ChildStdin, escape: Option<(Escape, Arc<AtomicBool>)>) {
    thread::spawn(move || {
        let mut escape = escape;
        let mut buffer = [0; 256];
        while let Ok(length @ 1..) = io::stdin().read(&mut buffer) {
            let mut typed = buffer.get(..length).unwrap_or_default().to_vec();
            if let Some((escape, left)) = &mut escape
                && escape.take(&mut typed)
            {
                left.store(true, Ordering::Relaxed);
            }
            if input
                .write_all(&typed)
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

/// Looks for ctrl-A x among what is typed. Ctrl-A twice is one ctrl-A; before any other key it is itself.
#[derive(Debug, Default)]
pub struct Escape {
    /// The last key was ctrl-A.
    pending: bool,
}

impl Escape {
    /// Leaves in `typed` what is the machine's. Whether the user wants to leave.
    fn take(&mut self, typed: &mut Vec<u8>) -> bool {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        let mut leave = false;
        for &key in typed.iter() {
            match (std::mem::take(&mut self.pending), key) {
                (false, PREFIX) => self.pending = true,
                (true, PREFIX) => passed.push(PREFIX),
                (true, b'x' | b'X') => leave = true,
                (true, _) => passed.extend([PREFIX, key]),
                (false, _) => passed.push(key),
            }
        }
        *typed = passed;
        leave
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_is_found_wherever_it_is_cut() {
        type Case<'a> = (&'a [&'a [u8]], &'a [u8], bool);
        let cases: [Case<'_>; 7] = [
            (&[b"ls\r"], b"ls\r", false),
            (&[b"\x03\x04"], b"\x03\x04", false),
            (&[b"a\x01x"], b"a", true),
            (&[b"\x01", b"x"], b"", true),
            (&[b"\x01", b"\x01", b"x"], b"\x01x", false),
            (&[b"\x01b"], b"\x01b", false),
            (&[b"x", b"\x01\x01\x01X"], b"x\x01", true),
        ];
        for (pieces, expected, expected_leave) in cases {
            let mut escape = Escape::default();
            let (mut passed, mut leave) = (Vec::new(), false);
            for piece in pieces {
                let mut typed = piece.to_vec();
                leave |= escape.take(&mut typed);
                passed.extend(typed);
            }
            assert_eq!(
                (passed.as_slice(), leave),
                (expected, expected_leave),
                "{pieces:?}"
            );
        }
    }
}
