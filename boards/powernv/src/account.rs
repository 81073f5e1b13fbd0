//! What a partition's exits cost, by kind: counted where an image asks for it ([`Extension::account`]), compiled out
//! where none does.
//!
//! Key types: [`Account`], the figures of all partitions; [`Meter`], one CPU's readings on its way through turns and exits;
//! [`Source`], where instructions go.
//!
//! # How it is counted
//!
//! Under QEMU's `-icount` the time base counts instructions, so the time is taken wherever one source ends and another
//! begins. A stretch goes from the last reading of one place to the first of the next: what the account does between the two
//! readings of a place is in no figure. On the long way the places are the ends of a guest's stay ([`Meter::enters`],
//! [`Meter::left`]) and of a turn; on the short way the two ends of the function that the vector calls, which is called
//! through a pointer as the vector does. The function itself is the plain image's.
//!
//! Readings cannot stand in the vectors, so their instructions are counted with the guest's: as constants of
//! [`vectors::length`] they are moved to the exit. What the readings themselves put into a stretch (a call, a few saves) is
//! measured first, by many readings in a row ([`Account::calibrate`]), and taken out. What is left wrong is some
//! twenty instructions for each hypercall, which the guest has too many.
//!
//! What is done to find the next vCPU is on the account of the one that is found, unless the CPU rests first: then nobody
//! has work, and it is on nobody's.
//!
//! # Invariants
//!
//! The machine has one CPU. With several the time base counts the instructions of all, and there would be one account of
//! the readings where each needs its own.
//!
//! The account is logged once, when the guest has booted: when a line of its console begins with the prompt of the shell
//! in the runner's RAM disk. Everything before is the boot, to the instruction; what comes later depends on when somebody
//! types.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use realhpt::arch::powerpc64::time_base;
use realhpt::hcall::abi::{self, Status};
use realhpt::lpar::{MAX_PARTITIONS, Partition};

use crate::board::Machine;
use crate::cpu::{Cpu, HypercallEntry};
use crate::vectors::{length, vector};

/// Where instructions go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The guest itself.
    Guest,
    /// Finding the next vCPU, and what a CPU looks after between two turns.
    Schedule,
    /// A vCPU's state into the processor and out of it.
    Switch,
    /// A hypercall, by token.
    Call(u64),
    /// Any other.
    OtherCall,
    /// Another exit, by vector.
    Exit(u64),
    /// Any other.
    OtherExit,
}

/// All sources, with the names that the log has for them.
const SOURCES: [(Source, &str); 31] = [
    (Source::Guest, "guest"),
    (Source::Schedule, "schedule"),
    (Source::Switch, "world switch"),
    (Source::Call(abi::H_REMOVE), "H_REMOVE"),
    (Source::Call(abi::H_ENTER), "H_ENTER"),
    (Source::Call(abi::H_READ), "H_READ"),
    (Source::Call(abi::H_CLEAR_MOD), "H_CLEAR_MOD"),
    (Source::Call(abi::H_CLEAR_REF), "H_CLEAR_REF"),
    (Source::Call(abi::H_PROTECT), "H_PROTECT"),
    (Source::Call(abi::H_BULK_REMOVE), "H_BULK_REMOVE"),
    (Source::Call(abi::H_BLOCK_REMOVE), "H_BLOCK_REMOVE"),
    (Source::Call(abi::H_HPT_READ), "H_HPT_READ"),
    (Source::Call(abi::H_PUT_TERM_CHAR), "H_PUT_TERM_CHAR"),
    (Source::Call(abi::H_GET_TERM_CHAR), "H_GET_TERM_CHAR"),
    (Source::Call(abi::H_CEDE), "H_CEDE"),
    (Source::Call(abi::H_CONFER), "H_CONFER"),
    (Source::Call(abi::H_PROD), "H_PROD"),
    (Source::Call(abi::H_REGISTER_VPA), "H_REGISTER_VPA"),
    (Source::Call(abi::H_SET_MODE), "H_SET_MODE"),
    (Source::Call(abi::H_XIRR), "H_XIRR"),
    (Source::Call(abi::H_CPPR), "H_CPPR"),
    (Source::Call(abi::H_EOI), "H_EOI"),
    (Source::Call(abi::H_IPI), "H_IPI"),
    (Source::Call(abi::H_RTAS), "RTAS"),
    (Source::OtherCall, "other hypercalls"),
    (Source::Exit(vector::HDSI), "HDSI"),
    (Source::Exit(vector::HISI), "HISI"),
    (Source::Exit(vector::HDEC), "HDEC"),
    (Source::Exit(vector::EXTERNAL), "external"),
    (Source::Exit(vector::DOORBELL), "doorbell"),
    (Source::OtherExit, "other exits"),
];

impl Source {
    fn of_call(token: u64) -> Self {
        let call = Self::Call(token);
        let known = SOURCES.iter().any(|&(source, _)| source == call);
        if known { call } else { Self::OtherCall }
    }

    fn of_exit(vector: u64) -> Self {
        let exit = Self::Exit(vector);
        let known = SOURCES.iter().any(|&(source, _)| source == exit);
        if known { exit } else { Self::OtherExit }
    }
}

/// What one source has cost.
#[derive(Debug)]
struct Cost {
    /// How often there was work for it.
    times: AtomicU64,
    /// Ticks of the time base in its stretches.
    ticks: AtomicU64,
    /// Instructions beside: those of the vectors, less those of the readings. In two's complement.
    beside: AtomicU64,
}

impl Cost {
    const fn new() -> Self {
        Self {
            times: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            beside: AtomicU64::new(0),
        }
    }
}

/// What the partitions' exits have cost.
#[derive(Debug)]
pub struct Account {
    costs: [[Cost; SOURCES.len()]; MAX_PARTITIONS],
    /// Whose turn it is: the partition's place among them.
    running: AtomicUsize,
    /// The last reading.
    since: AtomicU64,
    /// What is done since then, between a guest's stays: its place among the sources. Within a stay: the last hypercall.
    doing: AtomicUsize,
    /// Instructions that a reading puts into the stretch before it; that the readings around a hypercall put between
    /// them, and before and after.
    of_reading: AtomicU64,
    of_call: AtomicU64,
    around_call: AtomicU64,
    prompt: Prompt,
}

/// How often each reading is made to learn what it costs: a tick is 1000/512 instructions, so ticks of a thousand are
/// 512 times the instructions of one.
const READINGS: u64 = 1000;
/// Ticks of so many readings that stand for an instruction of each.
const TICKS_OF_ONE: u64 = 512;
/// Instructions of a hypercall entry that does nothing: a result and the return.
const NOTHING: u64 = 2;

unsafe extern "C" fn nothing(_cpu: *mut Cpu, _srr1: u64) -> u64 {
    0
}

impl Account {
    /// An account on which nothing is.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            costs: [const { [const { Cost::new() }; SOURCES.len()] }; MAX_PARTITIONS],
            running: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            doing: AtomicUsize::new(0),
            of_reading: AtomicU64::new(0),
            of_call: AtomicU64::new(0),
            around_call: AtomicU64::new(0),
            prompt: Prompt::new(),
        }
    }

    fn cost(&self, partition: usize, source: Source) -> Option<&Cost> {
        let place = SOURCES.iter().position(|&(other, _)| other == source)?;
        self.costs.get(partition)?.get(place)
    }

    fn running(&self, source: Source) -> Option<&Cost> {
        self.cost(self.running.load(Relaxed), source)
    }

    /// Ends a stretch, which began with the last reading, and begins the next one.
    #[inline(never)]
    fn read(&self, source: Source) {
        let ticks = time_base() - self.since.load(Relaxed);
        if let Some(cost) = self.running(source) {
            cost.ticks.fetch_add(ticks, Relaxed);
            let less = self.of_reading.load(Relaxed);
            cost.beside.fetch_sub(less, Relaxed);
        }
        self.begin();
    }

    /// Begins a stretch.
    fn begin(&self) {
        self.since.store(time_base(), Relaxed);
    }

    fn does(&self, source: Source) {
        let place = SOURCES.iter().position(|&(other, _)| other == source);
        self.doing.store(place.unwrap_or(0), Relaxed);
    }

    fn doing(&self) -> Source {
        let source = SOURCES.get(self.doing.load(Relaxed));
        source.map_or(Source::OtherExit, |&(source, _)| source)
    }

    /// Notes by what the guest has left: a vector, or an answer of its last hypercall, which is smaller than any.
    fn left(&self, exit: u64) {
        self.note(Source::Guest);
        if exit < vector::SYSTEM_RESET {
            // The short way back, which it did not take, is in its account.
            self.move_to(self.doing(), length::HYPERCALL_OUT - length::SHORT_WAY);
        } else {
            self.does(Source::of_exit(exit));
            self.note(self.doing());
            self.move_to(self.doing(), length::OUT);
        }
        self.move_to(self.doing(), length::IN);
        self.begin();
    }

    /// Notes that there was work for a source.
    fn note(&self, source: Source) {
        if let Some(cost) = self.running(source) {
            cost.times.fetch_add(1, Relaxed);
        }
    }

    /// Moves instructions of a vector from the guest, whose stretch they are in, to what they were for.
    fn move_to(&self, source: Source, instructions: u64) {
        if let Some(cost) = self.running(source) {
            cost.beside.fetch_add(instructions, Relaxed);
        }
        if let Some(guest) = self.running(Source::Guest) {
            guest.beside.fetch_sub(instructions, Relaxed);
        }
    }

    /// Makes a hypercall whose function is `entry`: a stretch of its own within the guest's. What call it is is only looked up
    /// between the readings.
    ///
    /// # Safety
    /// As for the entry.
    #[inline(never)]
    unsafe fn around(&self, token: u64, entry: HypercallEntry, cpu: *mut Cpu, srr1: u64) -> u64 {
        let begin = time_base();
        // SAFETY: the caller's.
        let next = unsafe { entry(cpu, srr1) };
        let end = time_base();
        let source = Source::of_call(token);
        if let Some(guest) = self.running(Source::Guest) {
            let ticks = begin - self.since.load(Relaxed);
            guest.ticks.fetch_add(ticks, Relaxed);
            let less = self.around_call.load(Relaxed);
            guest.beside.fetch_sub(less, Relaxed);
        }
        if let Some(cost) = self.running(source) {
            cost.times.fetch_add(1, Relaxed);
            cost.ticks.fetch_add(end - begin, Relaxed);
            let less = self.of_call.load(Relaxed);
            cost.beside.fetch_sub(less, Relaxed);
        }
        self.move_to(source, length::SHORT_WAY);
        self.does(source);
        self.begin();
        next
    }

    /// Makes a hypercall of the partition whose turn it is, by its function, and looks at what it shows on its console.
    ///
    /// # Safety
    /// As for the entry: the area is this CPU's.
    #[inline(never)]
    pub(crate) unsafe fn hypercall(
        &self,
        machine: &Machine,
        entry: HypercallEntry,
        cpu: *mut Cpu,
        srr1: u64,
    ) -> u64 {
        // SAFETY: the caller's; the reference ends here.
        let [token, ..] = unsafe { &*cpu }.registers.frame.regs;
        // SAFETY: the caller's.
        let next = unsafe { self.around(token, entry, cpu, srr1) };
        if token == abi::H_PUT_TERM_CHAR {
            // SAFETY: the caller's; the entry is done with it.
            let [status, _, count, first, second, ..] = unsafe { &*cpu }.registers.frame.regs;
            if status == Status::Success.raw() && self.prompt.shows(count, [first, second]) {
                self.log(machine);
            }
            // Neither the look nor the log is the guest's time.
            self.begin();
        }
        next
    }

    /// Learns what the readings cost.
    ///
    /// # Safety
    /// The area is this CPU's, and nothing runs yet.
    unsafe fn calibrate(&self, machine: &Machine, cpu: *mut Cpu) {
        let each = |source| {
            let ticks = self.running(source).map(|cost| cost.ticks.swap(0, Relaxed));
            (ticks.unwrap_or(0) + TICKS_OF_ONE / 2) / TICKS_OF_ONE
        };
        self.begin();
        for _ in 0..READINGS {
            self.read(Source::OtherExit);
        }
        let of_reading = each(Source::OtherExit);
        self.begin();
        for _ in 0..READINGS {
            // SAFETY: the caller's, with an entry that looks at nothing.
            unsafe { self.hypercall(machine, nothing, cpu, 0) };
        }
        self.of_call
            .store(each(Source::OtherCall) - NOTHING, Relaxed);
        self.around_call.store(each(Source::Guest), Relaxed);
        self.of_reading.store(of_reading, Relaxed);
        if let Some(all) = self.costs.first() {
            for cost in all {
                cost.times.store(0, Relaxed);
                cost.beside.store(0, Relaxed);
            }
        }
        defmt::info!(
            "account: a reading is {=u64} instructions, those of a hypercall {=u64} and {=u64}",
            of_reading,
            self.of_call.load(Relaxed),
            self.around_call.load(Relaxed)
        );
    }

    /// Logs what is on the account.
    fn log(&self, machine: &Machine) {
        for (partition, costs) in machine.partitions().iter().zip(&self.costs) {
            for (cost, (_, name)) in costs.iter().zip(SOURCES) {
                let [times, ticks, beside] =
                    [&cost.times, &cost.ticks, &cost.beside].map(|value| value.load(Relaxed));
                if ticks != 0 {
                    defmt::info!(
                        "account of {=str}: {=str}: {=u64} times, {=u64} ticks, {=i64} instructions",
                        partition.description().name,
                        name,
                        times,
                        ticks,
                        beside.cast_signed()
                    );
                }
            }
        }
        defmt::info!("account: complete");
    }
}

impl Default for Account {
    fn default() -> Self {
        Self::new()
    }
}

/// Looks for the shell's prompt in what a guest writes: at the beginning of a line, in however many pieces it comes.
#[derive(Debug)]
struct Prompt {
    /// How many bytes of it the console's last ones are; all: it was there.
    seen: AtomicUsize,
}

/// The end of a line, and the prompt of the shell in the runner's RAM disk.
const PROMPT: &[u8] = b"\n# ";

impl Prompt {
    const fn new() -> Self {
        Self {
            seen: AtomicUsize::new(0),
        }
    }

    /// Whether these bytes, as H_PUT_TERM_CHAR has them, complete the first prompt.
    fn shows(&self, count: u64, registers: [u64; 2]) -> bool {
        let mut seen = self.seen.load(Relaxed);
        if seen == PROMPT.len() {
            return false;
        }
        let bytes = registers.map(u64::to_be_bytes);
        for &byte in bytes
            .as_flattened()
            .iter()
            .take(usize::try_from(count).unwrap_or(0))
        {
            if seen == PROMPT.len() {
                break;
            }
            seen = match PROMPT.get(seen) {
                Some(&next) if next == byte => seen + 1,
                _ => usize::from(PROMPT.first() == Some(&byte)),
            };
        }
        self.seen.store(seen, Relaxed);
        seen == PROMPT.len()
    }
}

/// A CPU's readings on its way through turns and exits; of an image without an account, nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter<'a>(Option<&'a Account>);

impl<'a> Meter<'a> {
    #[inline(always)]
    pub(crate) const fn new(account: Option<&'a Account>) -> Self {
        Self(account)
    }

    /// Learns what the readings cost.
    ///
    /// # Safety
    /// The area is this CPU's, and nothing runs yet.
    #[inline(always)]
    pub(crate) unsafe fn calibrate(self, machine: &Machine, cpu: *mut Cpu) {
        if let Some(account) = self.0 {
            // SAFETY: the caller's.
            unsafe { account.calibrate(machine, cpu) };
        }
    }

    /// Begins a stretch: what was before is on nobody's account.
    #[inline(always)]
    pub(crate) fn begin(self) {
        if let Some(account) = self.0 {
            account.begin();
        }
    }

    /// A vCPU of this partition was found, and gets its turn.
    #[inline(always)]
    pub(crate) fn turn(self, machine: &Machine, partition: &Partition<'_>) {
        if let Some(account) = self.0 {
            let lpid = partition.description().lpid;
            let mut partitions = machine.partitions().iter();
            let place = partitions.position(|other| other.description().lpid == lpid);
            account.running.store(place.unwrap_or(0), Relaxed);
            account.read(Source::Schedule);
            account.note(Source::Schedule);
            account.note(Source::Switch);
            account.does(Source::Switch);
            account.begin();
        }
    }

    /// The guest is about to be entered.
    #[inline(always)]
    pub(crate) fn enters(self) {
        if let Some(account) = self.0 {
            account.read(account.doing());
        }
    }

    /// The guest has left by this vector, or by what a hypercall answered.
    #[inline(always)]
    pub(crate) fn left(self, exit: u64) {
        if let Some(account) = self.0 {
            account.read(Source::Guest);
            account.left(exit);
        }
    }

    /// The exit is the last of this turn.
    #[inline(always)]
    pub(crate) fn leaves(self) {
        if let Some(account) = self.0 {
            account.read(account.doing());
            account.does(Source::Switch);
        }
    }

    /// The turn is over.
    #[inline(always)]
    pub(crate) fn over(self) {
        if let Some(account) = self.0 {
            account.read(Source::Switch);
        }
    }
}
