//! What comes in on the console's port, kept for each terminal until its partition asks for it.
//!
//! The port has one order and the partitions ask in another, so each terminal has a ring of its own ([`Input`]). When the ring
//! that the next byte belongs to is full, nothing more is read: what comes waits in the firmware's buffer, in the port and in
//! what feeds it, and nothing is lost. A lone partition may take for that what time it wants. With several, the others would wait
//! with it: after [`PATIENCE`] without a read by its partition, or if that has ended, what comes for a full ring is dropped
//! until it is read.

use heapless::{Deque, Vec};
use realhpt::lpar::MAX_PARTITIONS;

use crate::mux::{Decoder, MAX_TERMINALS};

/// Bytes that are kept for a terminal.
const RING: usize = 1024;
/// Bytes that are read at once.
pub const CHUNK: usize = 16;
/// How often the port is read before something else is done: it may have more for ever.
const READS: usize = 4;
/// Microseconds that a full ring holds up the others.
pub const PATIENCE: u64 = 30_000_000;

const _: () = assert!(MAX_PARTITIONS <= MAX_TERMINALS);

/// The bytes of one terminal.
#[derive(Debug, Default)]
struct Ring {
    bytes: Deque<u8, RING>,
    /// When a byte found it full first, since it was last read.
    full: Option<u64>,
}

/// The bytes of all terminals.
#[derive(Debug)]
pub struct Input {
    rings: Vec<Ring, MAX_PARTITIONS>,
    /// What the port's bytes mean; none: all are those of the one terminal.
    line: Option<Decoder>,
    /// Read from the port, and not looked at yet.
    read: Deque<u8, CHUNK>,
    /// Looked at, and there was no room for it.
    held: Option<(usize, u8)>,
}

impl Input {
    /// For so many terminals, at most as many as there are partitions.
    #[must_use]
    pub fn new(terminals: usize) -> Self {
        let rings = (0..terminals.min(MAX_PARTITIONS)).map(|_| Ring::default());
        Self {
            rings: rings.collect(),
            line: (terminals > 1).then(Decoder::default),
            read: Deque::new(),
            held: None,
        }
    }

    /// Takes what is kept for a terminal; how many bytes that are.
    pub fn take(&mut self, terminal: usize, bytes: &mut [u8]) -> usize {
        let Some(ring) = self.rings.get_mut(terminal) else {
            return 0;
        };
        ring.full = None;
        let mut count = 0;
        for place in bytes {
            let Some(byte) = ring.bytes.pop_front() else {
                break;
            };
            *place = byte;
            count += 1;
        }
        count
    }

    /// Whether there is something for a terminal.
    #[must_use]
    pub fn has(&self, terminal: usize) -> bool {
        let ring = self.rings.get(terminal);
        ring.is_some_and(|ring| !ring.bytes.is_empty())
    }

    /// Whether a byte waits for room.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Puts away what `read` has, which answers how many bytes it gave, as long as there is room. `now` is the time in
    /// microseconds; `ended` says that a terminal's partition does not run any more.
    pub fn fill(
        &mut self,
        now: u64,
        ended: impl Fn(usize) -> bool,
        mut read: impl FnMut(&mut [u8; CHUNK]) -> usize,
    ) {
        for _ in 0..READS {
            if !self.put_away(now, &ended) {
                return;
            }
            let mut bytes = [0; CHUNK];
            let count = read(&mut bytes);
            if count == 0 {
                return;
            }
            // Empty, and as long as what was read.
            self.read.extend(bytes.into_iter().take(count));
        }
        self.put_away(now, &ended);
    }

    /// Puts away what was read; whether that was possible with all of it.
    fn put_away(&mut self, now: u64, ended: &impl Fn(usize) -> bool) -> bool {
        loop {
            if let Some((terminal, byte)) = self.held {
                if !self.put(terminal, byte, now, ended) {
                    return false;
                }
                self.held = None;
            }
            let Some(byte) = self.read.pop_front() else {
                return true;
            };
            self.held = match &mut self.line {
                Some(line) => line.decode(byte),
                None => Some((0, byte)),
            };
        }
    }

    /// Puts a byte into a ring, or drops it if it has waited for long enough. False: it is to wait.
    fn put(&mut self, terminal: usize, byte: u8, now: u64, ended: &impl Fn(usize) -> bool) -> bool {
        let Some(ring) = self.rings.get_mut(terminal) else {
            return true;
        };
        if ring.bytes.push_back(byte).is_ok() {
            return true;
        }
        let since = *ring.full.get_or_insert(now);
        self.line.is_some() && (ended(terminal) || now.saturating_sub(since) >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use crate::mux::Encoder;

    /// A port with these bytes.
    fn port(bytes: &[u8]) -> impl FnMut(&mut [u8; CHUNK]) -> usize + use<> {
        let mut rest = Vec::from(bytes).into_iter();
        move |buffer| {
            let mut count = 0;
            for (place, byte) in buffer.iter_mut().zip(&mut rest) {
                *place = byte;
                count += 1;
            }
            count
        }
    }

    fn line(pieces: &[(usize, &[u8])]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let mut line = Vec::new();
        for (terminal, bytes) in pieces {
            encoder.encode(*terminal, bytes, |byte| line.push(byte));
        }
        line
    }

    fn all(input: &mut Input, terminal: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut bytes = [0; 16];
        loop {
            match input.take(terminal, &mut bytes) {
                0 => return all,
                count => all.extend(&bytes[..count]),
            }
        }
    }

    /// Fills as often as it takes bytes.
    fn fill(
        input: &mut Input,
        now: u64,
        ended: bool,
        read: &mut impl FnMut(&mut [u8; CHUNK]) -> usize,
    ) {
        for _ in 0..4 * RING / CHUNK {
            input.fill(now, |_| ended, &mut *read);
        }
    }

    #[test]
    fn a_lone_terminal_has_every_byte_and_loses_none() {
        let mut input = Input::new(1);
        let sent: Vec<u8> = (0..=255).cycle().take(3 * RING).collect();
        let mut port = port(&sent);
        let mut got = Vec::new();
        // Time, and the partition's end, change nothing.
        for now in [0, PATIENCE, 2 * PATIENCE, 3 * PATIENCE] {
            fill(&mut input, now, true, &mut port);
            assert_eq!(input.is_held(), input.has(0) && got.len() < 2 * RING);
            got.extend(all(&mut input, 0));
        }
        assert_eq!(got, sent);
        assert!(!input.has(0) && !input.has(1));
        assert_eq!(input.take(1, &mut [0; 16]), 0);
    }

    #[test]
    fn each_terminal_has_its_own() {
        let mut input = Input::new(3);
        let sent = line(&[
            (1, b"one\x01"),
            (0, b"zero"),
            (5, b"nobody's"),
            (2, b"two"),
            (1, b" more"),
        ]);
        let mut port = port(&sent);
        fill(&mut input, 0, false, &mut port);
        assert_eq!(all(&mut input, 0), b"zero");
        assert_eq!(all(&mut input, 1), b"one\x01 more");
        assert_eq!(all(&mut input, 2), b"two");
    }

    #[test]
    fn a_full_ring_holds_up_the_others_for_a_while_and_no_longer() {
        let mut input = Input::new(2);
        let many = [b'x'; RING + 1];
        let sent = line(&[(0, &many), (1, b"a"), (0, b"y"), (1, b"b")]);
        let mut port = port(&sent);
        fill(&mut input, 1000, false, &mut port);
        fill(&mut input, 999 + PATIENCE, false, &mut port);
        assert!(input.is_held() && !input.has(1));
        fill(&mut input, 1000 + PATIENCE, false, &mut port);
        // What came later for the full ring did not wait once more.
        assert_eq!(all(&mut input, 1), b"ab");
        assert_eq!(all(&mut input, 0), [b'x'; RING]);
    }

    #[test]
    fn who_reads_in_time_loses_nothing() {
        let mut input = Input::new(2);
        let many = [b'x'; RING + 16];
        let mut port = port(&line(&[(0, &many), (1, b"a")]));
        fill(&mut input, 0, false, &mut port);
        assert_eq!(input.take(0, &mut [0; 16]), 16);
        fill(&mut input, 2 * PATIENCE, false, &mut port);
        assert_eq!(all(&mut input, 0), [b'x'; RING]);
        assert_eq!(all(&mut input, 1), b"a");
    }

    #[test]
    fn who_has_ended_holds_up_nobody() {
        let mut input = Input::new(2);
        let mut port = port(&line(&[(0, &[b'x'; 2 * RING]), (1, b"a")]));
        fill(&mut input, 0, true, &mut port);
        assert_eq!(all(&mut input, 1), b"a");
    }
}
