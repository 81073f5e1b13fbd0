//! A command line on the agent's console.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use heapless::{Deque, String, Vec};
use realhpt_pseries::{
    abi::{OpenFlags, ReadFlags, State},
    console, cpu,
    hcall::{self, Failure, MANIFEST_ENTRY},
    print, println,
    runtime::Runtime,
};

/// How often the agent looks for typed bytes.
const POLL: u64 = 10 * cpu::TICKS_PER_MS;
/// LPIDs that are looked at for the list.
const LPIDS: u64 = 64;
/// Doublewords of the buffer that `read` uses.
const BUFFER: usize = 8192;

/// Where `read` has a stream written to. Atomics, because the hypervisor writes it.
static STREAM: [AtomicU64; BUFFER] = [const { AtomicU64::new(0) }; BUFFER];

/// A command: its name, whether it wants an LPID, what it does, what is said of it.
struct Command {
    name: &'static str,
    wants_lpid: bool,
    run: fn(u64) -> Result<(), Failure>,
    help: &'static str,
}

const COMMANDS: [Command; 7] = [
    Command {
        name: "list",
        wants_lpid: false,
        run: list,
        help: "the partitions",
    },
    Command {
        name: "stat",
        wants_lpid: true,
        run: stat,
        help: "a partition's table",
    },
    Command {
        name: "read",
        wants_lpid: true,
        run: read,
        help: "one pass over a partition's table, counted",
    },
    Command {
        name: "start",
        wants_lpid: true,
        run: start,
        help: "start a partition at its image's entry",
    },
    Command {
        name: "pause",
        wants_lpid: true,
        run: hcall::lpar_pause,
        help: "pause a partition",
    },
    Command {
        name: "resume",
        wants_lpid: true,
        run: hcall::lpar_resume,
        help: "let a paused partition go on",
    },
    Command {
        name: "reset",
        wants_lpid: true,
        run: hcall::lpar_reset,
        help: "empty a partition's table",
    },
];

/// Reads and carries out commands until `quit`.
pub(crate) fn run(runtime: &Runtime) -> u64 {
    println!(
        "realhpt agent, partition {}. `help` lists the commands.",
        runtime.partition.lpid
    );
    let mut input = Input::default();
    loop {
        let line = input.line();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None => {}
            Some("quit") => return 0,
            Some("help") => help(),
            Some(name) => command(name, words.next()),
        }
    }
}

fn help() {
    for Command {
        name,
        wants_lpid,
        help,
        ..
    } in &COMMANDS
    {
        println!(
            "  {name:<6} {:<5} {help}",
            if *wants_lpid { "LPID" } else { "" }
        );
    }
    println!("  quit         end this partition");
}

/// Carries out one command.
fn command(name: &str, argument: Option<&str>) {
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        println!("{name}? `help` lists the commands.");
        return;
    };
    let lpid = argument.and_then(|argument| argument.parse().ok());
    if command.wants_lpid && lpid.is_none() {
        println!("{name} of which partition? `list` has their LPIDs.");
        return;
    }
    if let Err(failure) = (command.run)(lpid.unwrap_or(0)) {
        println!("{failure}");
    }
}

/// What was typed, byte by byte.
#[derive(Default)]
struct Input {
    typed: Deque<u8, 16>,
}

impl Input {
    /// The next byte. Cedes until there is one.
    fn next(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.typed.pop_front() {
                return byte;
            }
            self.typed.extend(console::read());
            if self.typed.is_empty() {
                cpu::cede(POLL);
            }
        }
    }

    /// A line as it is typed, with echo. Characters beyond the line's capacity are dropped.
    fn line(&mut self) -> String<80> {
        let mut line = String::new();
        print!("> ");
        loop {
            match self.next() {
                b'\r' | b'\n' => {
                    println!();
                    return line;
                }
                // Backspace and delete.
                0x08 | 0x7f if line.pop().is_some() => print!("\x08 \x08"),
                byte @ b' '..=b'~' if line.push(char::from(byte)).is_ok() => {
                    print!("{}", char::from(byte));
                }
                _ => {}
            }
        }
    }
}

fn list(_: u64) -> Result<(), Failure> {
    println!("  LPID  state      memory  HPT order  privileges");
    for lpid in 1..=LPIDS {
        // An LPID that is nobody's is passed over.
        let Ok(partition) = hcall::lpar_query(lpid) else {
            continue;
        };
        let states = [State::Stopped, State::Running, State::Paused, State::Halted];
        let mut state = String::<24>::new();
        if let Some(known) = states.into_iter().find(|state| partition.is(*state)) {
            // The names fit.
            let _ = core::fmt::write(&mut state, format_args!("{known:?}"));
        }
        let mebibytes = partition.memory >> 20;
        let mut privileges = Vec::<&str, 2>::new();
        privileges.extend(partition.privileges.iter_names().map(|(name, _)| name));
        println!(
            "  {lpid:>4}  {state:<8} {mebibytes:>4} MiB  {:>9}  {privileges:?}",
            partition.order
        );
        if partition.is(State::Halted) {
            println!("        ended with code {:#x}", partition.exit_code);
        }
    }
    Ok(())
}

fn stat(lpid: u64) -> Result<(), Failure> {
    let stat = hcall::hpt_stat(lpid)?;
    println!(
        "  ABI {}, order {}, generation {}",
        stat.abi, stat.order, stat.generation
    );
    println!(
        "  {} readers and {} writers open, {} slots pending",
        stat.readers, stat.writers, stat.pending
    );
    println!("  {} bytes beside the HPT", stat.beside);
    Ok(())
}

fn start(lpid: u64) -> Result<(), Failure> {
    hcall::lpar_start(lpid, MANIFEST_ENTRY, 0)
}

/// What a pass had.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    bytes: u64,
    records: u64,
    valid: u64,
    invalid: u64,
}

fn read(lpid: u64) -> Result<(), Failure> {
    let stream = hcall::hpt_open(lpid, OpenFlags::empty(), 0)?;
    let result = read_pass(stream.handle);
    let closed = hcall::hpt_close(stream.handle);
    let (
        Counts {
            bytes,
            records,
            valid,
            invalid,
        },
        pending,
    ) = result?;
    println!("  {bytes} bytes, {records} records: {valid} valid and {invalid} invalid entries");
    println!("  {pending} slots pending after it");
    closed
}

/// Reads to the end of the pass; what it had, and what is pending then.
fn read_pass(handle: u64) -> Result<(Counts, u64), Failure> {
    let mut counts = Counts::default();
    loop {
        let (address, length) = (STREAM.as_ptr().addr() as u64, size_of_val(&STREAM) as u64);
        // SAFETY: the buffer is all atomics.
        let piece = unsafe { hcall::hpt_read(handle, address, length) }?;
        counts.add(piece.bytes);
        if piece.flags.contains(ReadFlags::END_OF_PASS) {
            return Ok((counts, piece.pending));
        }
    }
}

impl Counts {
    /// Counts the records in the first `bytes` of the buffer. Each call brings whole records.
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        let mut words = STREAM
            .iter()
            .zip((0..bytes).step_by(8))
            .map(|(word, _)| word.load(Relaxed));
        while let Some(header) = words.next() {
            let (valid, invalid) = (header >> 16 & 0xffff, header & 0xffff);
            self.records += 1;
            self.valid += valid;
            self.invalid += invalid;
            // Two doublewords for each valid entry.
            let _ = words.by_ref().zip(0..2 * valid).count();
        }
    }
}
