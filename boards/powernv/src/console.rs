//! The machine's console, the second serial port, which is the terminal of one partition or of several.
//!
//! Key types: [`Console`], which partitions' terminal it is; behind it what has come in ([`Input`]) and the port that output is
//! sent on. With several partitions both directions are as [`crate::mux`] says.

use heapless::{Deque, Vec};
use realhpt::addr::Lpid;
use realhpt::lpar::MAX_PARTITIONS;
use realhpt::sync::Mutex;

use crate::input::Input;
use crate::mux::Encoder;
use crate::uart::{FIFO, Uart};
use crate::{opal, time};

/// Bytes that a hypercall brings, at most.
const OUTPUT: usize = 16;

/// A port that several partitions share.
#[derive(Debug)]
struct Shared {
    uart: Uart,
    line: Encoder,
    /// Taken from a partition and not sent yet: with what says whose they are, the bytes of a hypercall may be more than the
    /// FIFO holds.
    unsent: Deque<u8, { Encoder::most(OUTPUT) }>,
}

impl Shared {
    /// Sends what a terminal's partition wrote; false: not now. What the port does not take at once is sent before anything
    /// else.
    fn send(&mut self, terminal: usize, bytes: &[u8]) -> bool {
        if !self.flush() {
            return false;
        }
        let Self { line, unsent, .. } = self;
        // Empty, and as large as that can be.
        line.encode(terminal, bytes, |byte| {
            let _ = unsent.push_back(byte);
        });
        self.flush();
        true
    }

    /// Sends what was not sent yet; whether all of it is now.
    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            let burst: Vec<u8, FIFO> = self.unsent.iter().copied().take(FIFO).collect();
            if !self.uart.offer(&burst) {
                return false;
            }
            for _ in burst {
                self.unsent.pop_front();
            }
        }
        true
    }
}

/// Where output goes.
#[derive(Debug)]
enum Output {
    /// To the firmware's console, and by lines to the log.
    Firmware,
    /// To a port that somebody reads as it comes, as it is. For the calls of several CPUs in turn.
    Own(Mutex<Uart>),
    /// To a port that is shared.
    Shared(Mutex<Shared>),
}

/// The machine's console.
#[derive(Debug)]
pub struct Console {
    /// The partitions whose terminal it is, in the manifest's order.
    lpids: Vec<Lpid, MAX_PARTITIONS>,
    output: Output,
    input: Mutex<Input>,
}

impl Console {
    /// The console of these partitions: with a port for output that somebody reads as it comes, without for what is also to be
    /// found in the log. Several need a port.
    #[must_use]
    pub fn new(lpids: Vec<Lpid, MAX_PARTITIONS>, port: Option<Uart>) -> Self {
        let output = match port {
            None => Output::Firmware,
            Some(uart) if lpids.len() < 2 => Output::Own(Mutex::new(uart)),
            Some(uart) => Output::Shared(Mutex::new(Shared {
                uart,
                line: Encoder::default(),
                unsent: Deque::new(),
            })),
        };
        Self {
            input: Mutex::new(Input::new(lpids.len())),
            lpids,
            output,
        }
    }

    /// The number of a partition's terminal, if the console is that.
    pub(crate) fn terminal(&self, lpid: Lpid) -> Option<usize> {
        self.lpids.iter().position(|&own| own == lpid)
    }

    /// Sends output; false: not now. None: it goes to the firmware's console and the log.
    pub(crate) fn write(&self, terminal: usize, bytes: &[u8]) -> Option<bool> {
        match &self.output {
            Output::Firmware => None,
            // What a hypercall brings fits in the FIFO; if that is not empty yet, the guest tries again.
            Output::Own(uart) => Some(uart.lock().offer(bytes)),
            Output::Shared(shared) => Some(shared.lock().send(terminal, bytes)),
        }
    }

    /// Takes what has come in for a terminal; how many bytes that are. `ended` says that a partition does not run any more.
    pub(crate) fn read(
        &self,
        terminal: usize,
        bytes: &mut [u8],
        ended: impl Fn(Lpid) -> bool,
    ) -> usize {
        let mut input = self.input.lock();
        if !input.has(terminal) {
            self.fill(&mut input, ended);
        }
        input.take(terminal, bytes)
    }

    /// Reads what the firmware says has come in, or what there was no room for, and sends what was not sent yet. To be done
    /// from time to time.
    pub(crate) fn poll(&self, has_input: bool, ended: impl Fn(Lpid) -> bool) {
        if let Output::Shared(shared) = &self.output {
            shared.lock().flush();
        }
        let mut input = self.input.lock();
        if has_input || input.is_held() {
            self.fill(&mut input, ended);
        }
    }

    /// Sends what was not sent yet, to whoever still reads it: the machine is about to be switched off.
    pub(crate) fn finish(&self) {
        if let Output::Shared(shared) = &self.output {
            let mut shared = shared.lock();
            let rest: Vec<u8, { Encoder::most(OUTPUT) }> = shared.unsent.iter().copied().collect();
            shared.uart.send(&rest);
            shared.unsent.clear();
        }
    }

    fn fill(&self, input: &mut Input, ended: impl Fn(Lpid) -> bool) {
        let ended = |terminal: usize| self.lpids.get(terminal).is_some_and(|&lpid| ended(lpid));
        input.fill(time::microseconds(), ended, |bytes| {
            opal::console_read(bytes)
        });
    }

    /// The partitions that something has come in for.
    pub(crate) fn waiting(&self) -> Vec<Lpid, MAX_PARTITIONS> {
        let input = self.input.lock();
        let lpids = self.lpids.iter().enumerate();
        let waiting = lpids.filter(|(terminal, _)| input.has(*terminal));
        waiting.map(|(_, &lpid)| lpid).collect()
    }

    /// Whether several partitions share it.
    pub(crate) fn is_shared(&self) -> bool {
        self.lpids.len() > 1
    }
}
