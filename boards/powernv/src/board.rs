//! The board as the engine's hypercalls see it: terminals, reports, and calls of an image's own.

use core::str;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use realhpt::addr::Lpid;
use realhpt::arch::powerpc64::Processor;
use realhpt::hcall::abi::{ReportKind, State, Status};
use realhpt::hcall::{Frame, Platform};
use realhpt::lpar::{MAX_PARTITIONS, System};
use realhpt::sync::Mutex;

use crate::account::Account;
use crate::console::Console;
use crate::{end, opal, rtc, time};

/// All partitions on this machine.
pub type Machine = System<'static, Processor>;

/// What an image adds to this one.
pub trait Extension: Sync {
    /// A hypercall that only this image has; none: H_FUNCTION.
    fn hypercall(&self, machine: &Machine, caller: Lpid, frame: &mut Frame) -> Option<Status> {
        let _ = (machine, caller, frame);
        None
    }

    /// The time of day at the boot, in seconds since the beginning of 1970; none: nobody knows.
    fn clock(&self) -> Option<u64> {
        opal::read_clock().and_then(|(date, time)| rtc::seconds(date, time))
    }

    /// Where this image counts what exits cost; none: it does not.
    #[inline(always)]
    fn account(&self) -> Option<&Account> {
        None
    }
}

/// Adds nothing.
#[derive(Debug)]
pub struct Plain;

impl Extension for Plain {}

/// Bytes of a line of output that are shown in one frame.
const LINE: usize = 160;

/// What a partition's output may take of the log's port: one part in so many of the time. POWER8's takes milliseconds
/// for a line.
const SHARE: u64 = 4;
/// Microseconds that a line stands for in the partition's account at least, however quick the port is; and how far the
/// account may be ahead of the time, so that some lines may come at once.
const LINE_COST: u64 = 2_000;
const AHEAD: u64 = 80 * LINE_COST;

/// A partition's terminal.
#[derive(Debug)]
struct Terminal {
    /// Its output since the last line end.
    line: heapless::Vec<u8, LINE>,
    /// Its account: the time, in microseconds, at which what it has written is paid for.
    paid: u64,
}

impl Terminal {
    const fn new() -> Self {
        Self {
            line: heapless::Vec::new(),
            paid: 0,
        }
    }
}

/// The board.
#[derive(Debug)]
pub struct Board<E> {
    /// The partitions.
    pub machine: Machine,
    extension: E,
    console: Option<Console>,
    terminals: [Mutex<Terminal>; MAX_PARTITIONS],
    planned: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
}

impl<E: Extension> Board<E> {
    /// The board of these partitions.
    pub fn new(machine: Machine, extension: E, console: Option<Console>) -> Self {
        Self {
            machine,
            extension,
            console,
            terminals: [const { Mutex::new(Terminal::new()) }; MAX_PARTITIONS],
            planned: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Where exits are accounted for, if the image does that.
    #[inline(always)]
    pub(crate) fn account(&self) -> Option<&Account> {
        self.extension.account()
    }

    /// Announces more cases.
    fn plan(&self, cases: u64) {
        self.planned.fetch_add(cases, Ordering::Relaxed);
        defmt::info!("plan: {=u64} cases", cases);
    }

    /// Notes how a case ended: with a detail if it failed.
    fn case(&self, name: &str, failed: Option<u64>) {
        if let Some(detail) = failed {
            self.failed.fetch_add(1, Ordering::Relaxed);
            defmt::error!("case {=str}: FAILED ({=u64:#x})", name, detail);
        } else {
            self.passed.fetch_add(1, Ordering::Relaxed);
            defmt::info!("case {=str}: passed", name);
        }
    }

    /// Logs the verdict. What is planned and never reported counts for the runner as a failure.
    fn verdict(&self) {
        defmt::info!(
            "verdict: planned {=u64}, passed {=u64}, failed {=u64}",
            self.planned.load(Ordering::Relaxed),
            self.passed.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed)
        );
    }

    /// The console and the number of this partition's terminal there, if it is on it.
    fn console_of(&self, lpid: Lpid) -> Option<(&Console, usize)> {
        let console = self.console.as_ref()?;
        Some((console, console.terminal(lpid)?))
    }

    /// Lets the firmware do its chores, and looks after the console. Done by one CPU, between its slices: a guest that waits
    /// for a key is told within one.
    pub fn poll(&self) {
        let has_input = opal::poll_events();
        if let Some(console) = &self.console {
            console.poll(has_input, |lpid| self.has_ended(lpid));
            self.announce(console);
        }
    }

    /// Switches the machine off.
    pub fn power_off(&self) -> ! {
        if let Some(console) = &self.console {
            console.finish();
        }
        end::power_off()
    }

    /// Raises the interrupt of each terminal that has input. Not only once for what has come: a partition that has started
    /// again meanwhile knows nothing of it.
    fn announce(&self, console: &Console) {
        for lpid in console.waiting() {
            if let Some(partition) = self.machine.partition(lpid) {
                partition.terminal_has_input(&self.machine.machine);
            }
        }
    }

    fn has_ended(&self, lpid: Lpid) -> bool {
        let partition = self.machine.partition(lpid);
        partition.is_none_or(|partition| partition.state() == State::Halted)
    }

    fn name(&self, lpid: Lpid) -> &str {
        self.machine
            .partition(lpid)
            .map_or("?", |partition| partition.description().name)
    }

    /// Adds output to a partition's line, and logs the line where it ends or is full. Empty lines are not
    /// logged: sixteen of them fit in one hypercall, and the log's port is slow. For the same reason a partition that
    /// has written too much is refused for a while: false, and nothing is added.
    fn log(&self, lpid: Lpid, bytes: &[u8]) -> bool {
        let partitions = self.machine.partitions().iter();
        let index = partitions
            .zip(&self.terminals)
            .find(|(partition, _)| partition.description().lpid == lpid);
        let Some((partition, terminal)) = index else {
            return true;
        };
        let mut terminal = terminal.lock();
        let Terminal { line, paid } = &mut *terminal;
        if *paid > time::microseconds() + AHEAD {
            return false;
        }
        for &byte in bytes {
            if (byte == b'\n' && !line.is_empty()) || line.is_full() {
                let text = str::from_utf8(line).unwrap_or_default();
                let begin = time::microseconds();
                defmt::info!("[{=str}] {=str}", partition.description().name, text);
                line.clear();
                let cost = LINE_COST.max(SHARE * (time::microseconds() - begin));
                *paid = begin.max(*paid) + cost;
            }
            match byte {
                b'\n' | b'\r' => {}
                b' '..=b'~' | b'\t' => drop(line.push(byte)),
                _ => drop(line.push(b'?')),
            }
        }
        true
    }
}

impl<E: Extension> Platform for Board<E> {
    fn console_write(&self, lpid: Lpid, bytes: &[u8]) -> bool {
        let console = self.console_of(lpid);
        if let Some(taken) = console.and_then(|(console, terminal)| console.write(terminal, bytes))
        {
            return taken;
        }
        let taken = self.log(lpid, bytes);
        if taken && console.is_some() {
            opal::console_write(bytes);
        }
        taken
    }

    fn console_read(&self, lpid: Lpid, bytes: &mut [u8; 16]) -> usize {
        let Some((console, terminal)) = self.console_of(lpid) else {
            return 0;
        };
        let count = console.read(terminal, bytes, |lpid| self.has_ended(lpid));
        if console.is_shared() {
            // What came in may be another's.
            self.announce(console);
        }
        count
    }

    fn report(&self, lpid: Lpid, kind: ReportKind, text: &[u8], number: u64) {
        let text = str::from_utf8(text).unwrap_or("(not text)");
        match kind {
            ReportKind::Plan => self.plan(number),
            ReportKind::Passed => self.case(text, None),
            ReportKind::Failed => self.case(text, Some(number)),
            ReportKind::End => self.verdict(),
            ReportKind::Note => defmt::info!("[{=str}] {=str}", self.name(lpid), text),
        }
    }

    fn time_of_day(&self) -> Option<Duration> {
        time::of_day()
    }

    fn extra(&self, lpid: Lpid, frame: &mut Frame) -> Option<Status> {
        self.extension.hypercall(&self.machine, lpid, frame)
    }
}
