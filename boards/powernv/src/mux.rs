//! Several terminals on one serial line: which bytes are whose.
//!
//! When more than one partition has `console` in the manifest they share the machine's second serial port. In either
//! direction it then carries, where [`MARK`] is 0x01 and terminals are numbered from '1' in the manifest's order:
//!
//! ```text
//! MARK '1'..   the bytes from here on are this terminal's
//! MARK MARK    one byte 0x01 of the terminal that is chosen
//! MARK other   nothing
//! other        a byte of the terminal that is chosen; of the first, until one is
//! ```
//!
//! What the firmware prints there meanwhile is taken for the chosen terminal's. With one console the port carries what it
//! prints and is sent as it is.
//!
//! Hypervisor and runner are built from this text, which so stands with the board that owns the port: the runner is the
//! other end of its lines, and the guests know nothing of it.

/// What a choice begins with.
pub const MARK: u8 = 0x01;
/// The first terminal's number.
const FIRST: u8 = b'1';
/// Terminals that can be told apart: one digit each.
pub const MAX_TERMINALS: usize = 9;

/// Writes a line.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    chosen: Option<usize>,
}

impl Encoder {
    /// Bytes that a number of bytes of one terminal become, at most.
    #[must_use]
    pub const fn most(bytes: usize) -> usize {
        2 + 2 * bytes
    }

    /// Gives to `put`, one after the other, what stands on the line for bytes of this terminal.
    pub fn encode(&mut self, terminal: usize, bytes: &[u8], mut put: impl FnMut(u8)) {
        let Some(number) = u8::try_from(terminal)
            .ok()
            .filter(|_| terminal < MAX_TERMINALS)
        else {
            return;
        };
        if self.chosen != Some(terminal) {
            self.chosen = Some(terminal);
            put(MARK);
            put(FIRST + number);
        }
        for &byte in bytes {
            if byte == MARK {
                put(MARK);
            }
            put(byte);
        }
    }
}

/// Reads a line.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    chosen: usize,
    /// The last byte was a [`MARK`] that says what the next one is.
    marked: bool,
}

impl Decoder {
    /// The terminal's byte that a byte of the line is, if it is one.
    pub fn decode(&mut self, byte: u8) -> Option<(usize, u8)> {
        if core::mem::take(&mut self.marked) {
            let number = byte.wrapping_sub(FIRST).into();
            match byte {
                MARK => return Some((self.chosen, MARK)),
                _ if number < MAX_TERMINALS => self.chosen = number,
                _ => {}
            }
            return None;
        }
        self.marked = byte == MARK;
        (!self.marked).then_some((self.chosen, byte))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use alloc::vec::Vec;

    use super::*;

    fn line(pieces: &[(usize, &[u8])]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut line = Vec::new();
        for (terminal, bytes) in pieces {
            let before = line.len();
            encoder.encode(*terminal, bytes, |byte| line.push(byte));
            assert!(line.len() - before <= Encoder::most(bytes.len()));
        }
        line
    }

    fn decoded(line: &[u8]) -> Vec<(usize, u8)> {
        let mut decoder = Decoder::default();
        line.iter()
            .filter_map(|&byte| decoder.decode(byte))
            .collect()
    }

    #[test]
    fn a_terminal_is_chosen_when_it_is_another() {
        assert_eq!(
            line(&[(0, b"ab"), (0, b"c"), (1, b"d"), (0, b""), (8, b"\x01")]),
            b"\x011abc\x012d\x011\x019\x01\x01"
        );
        assert_eq!(line(&[(9, b"nobody's"), (usize::MAX, b"")]), b"");
    }

    #[test]
    fn what_is_written_is_read() {
        let every: Vec<u8> = (0..=255).collect();
        let pieces = [
            (3, &every[..]),
            (0, b"1\x01\x01\x012"),
            (8, &every),
            (8, b"\x01"),
        ];
        let expected: Vec<_> = pieces
            .iter()
            .flat_map(|(terminal, bytes)| bytes.iter().map(|&byte| (*terminal, byte)))
            .collect();
        assert_eq!(decoded(&line(&pieces)), expected);
    }

    #[test]
    fn what_says_nothing_is_nothing() {
        assert_eq!(decoded(b"a\x012b\x01"), [(0, b'a'), (1, b'b')]);
        assert_eq!(
            decoded(b"\x010\x01:\x01x\x01\xffa\x012\x01\x01"),
            [(0, b'a'), (1, 1)]
        );
    }
}
