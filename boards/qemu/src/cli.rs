//! The command line.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use realhpt::lpar::{MAX_PARTITIONS, MAX_VCPUS};

use crate::guest::packages::Release;
use crate::machine::Kind;
use crate::tables::formats::Format;
use crate::workspace;

/// Guests of one machine: beside them there is room for the agent and the spare partition.
const MAX_GUESTS: i64 = MAX_PARTITIONS as i64 - 2;

/// realhpt: a real-mode hypervisor core for POWER that owns real hashed page tables and streams them.
///
/// Builds the hypervisor and its guests, boots them under QEMU and gives the verdict. What is missing for that
/// (core's source for rustc, QEMU) is fetched first. Without a command it is `roundtrip` on a real Linux
/// guest's table that comes with the project.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo run --", version, max_term_width = 110)]
pub struct Cli {
    /// What to do; roundtrip if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Shows the log's debug frames too.
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Restores a partition's table from a file, reads it back in passes, and checks that nothing was lost.
    ///
    /// A guest agent does it on the machine by hypercall: it restores the table into another partition, reads a
    /// first pass, a second one in which nothing may show, has the partition run and modify entries, and reads
    /// what changed. What came back is compared on the host. Exit status 0 means "verified".
    Roundtrip(Roundtrip),
    /// Boots the machine and leaves the agent's console to you; ctrl-C ends it.
    Boot(Boot),
    /// Boots Linux in a partition and gives you its shell; `poweroff` there ends it.
    ///
    /// Without a kernel of yours it is Debian's for ppc64el, unmodified; without a RAM disk of yours, one with busybox
    /// and with `hptstress SECONDS`, which works Linux's memory management hard and checks every byte. Both are
    /// fetched by apt into the cache of this project, once. All keys are the guest's, ctrl-C too; ctrl-A x leaves
    /// (ctrl-A twice is one ctrl-A). Input may be a pipe: printf 'uname -a\npoweroff\n' | cargo run -- linux
    ///
    /// Exit status 0 means that the guest has switched itself off.
    Linux(Linux),
    /// Boots a program for PAPR in a partition, with its console on this terminal.
    ///
    /// It starts in real mode with r3 = a device tree and r5 = 0, at guest real 0x400000, where the file's first byte
    /// or lowest segment is put: a position-independent ELF file of either endianness, one that moves itself as Linux
    /// does, or a plain file, which is big-endian. Its console is H_PUT_TERM_CHAR; keys and the way out are as for
    /// `linux`. Exit status 0 means that it has switched itself off.
    Guest(Guest),
    /// Measures what hypercalls and passes cost, in guest instructions, beside Linux KVM-HV's figures.
    ///
    /// QEMU counts instructions, so every run gives the same numbers. A ratio of 2 means that Linux takes twice as
    /// many instructions for the same work. What its exits cost a Linux that boots is counted too. All of it takes three to
    /// five minutes.
    Bench(Bench),
    /// Does the hypercalls of a recorded Linux run again, and compares every answer and the table they leave.
    ///
    /// Every call about hashed page tables is made for a partition whose table is empty at first, by proxy from a
    /// guest, and r3 to r12 are compared with the recorded ones. The table that is left is compared with the one
    /// that stands beside the trace (NAME.htab.xz for NAME.hcalls.txt.xz), if there is one. Exit status 0 means
    /// that all of it is the same.
    Replay(Replay),
    /// Does a sequence of hypercalls and stream calls again that Linux's KVM-HV answered, and compares.
    ///
    /// Every answer is Linux's, or otherwise for a reason that is listed, or a difference. Exit status 0 means that
    /// there is no such difference.
    Sequence(Sequence),
    /// Makes tables of orders that no machine here holds, by the library on this host, and shows how the stream grows.
    ///
    /// The memory of a table is reserved and only used where entries are. What is counted is the same on every run;
    /// times are for information.
    Scale(Scale),
    /// Fetches what the other commands and the tests need, if it is missing, and does no more.
    Setup,
}

/// What `roundtrip` takes.
#[derive(Debug, Args)]
pub struct Roundtrip {
    /// The table: a file in one of the formats below, `.xz` or plain; a Linux guest's table that comes with the
    /// project if not given.
    pub file: Option<PathBuf>,
    /// Its format; found out if not given.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// log2 of the table's size in bytes; kvm-le and kvm-be files do not say it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(18..=46))]
    pub order: Option<u32>,
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "powernv9")]
    pub machine: Kind,
    /// How many CPUs the machine has.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cpus: u32,
    /// Writes the first pass that was read back to this file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Its format; the same as the table's if not given.
    #[arg(long, value_enum, requires = "out")]
    pub out_format: Option<Format>,
    /// Gives up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub timeout: Duration,
}

/// What `replay` takes.
#[derive(Debug, Args)]
pub struct Replay {
    /// The trace: a line a call, `.xz` or plain.
    pub trace: PathBuf,
    /// log2 of the size in bytes of the table that the recorded guest began with.
    #[arg(long, value_name = "N", default_value = "22", value_parser = clap::value_parser!(u32).range(18..=46))]
    pub order: u32,
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "powernv9")]
    pub machine: Kind,
    /// Runs the library on this host instead, once for each format of entries.
    #[arg(long, conflicts_with = "machine")]
    pub host: bool,
    /// Gives a machine up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub timeout: Duration,
    /// Writes the table that is left to this file, as a qemu file.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What `sequence` takes.
#[derive(Debug, Args)]
pub struct Sequence {
    /// The sequence: an object of JSON a line, `.xz` or plain.
    pub file: PathBuf,
    /// The machine to run on; powernv10 is held to what POWER9 answered.
    #[arg(long, value_enum, default_value = "powernv9")]
    pub machine: Kind,
    /// Runs the library on this host instead, once as either host answered.
    #[arg(long, conflicts_with = "machine")]
    pub host: bool,
    /// Gives the machine up after this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub timeout: Duration,
}

/// What `boot` takes.
#[derive(Debug, Args)]
pub struct Boot {
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "powernv9")]
    pub machine: Kind,
    /// How many CPUs the machine has.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub cpus: u32,
}

/// What `linux` takes.
#[derive(Debug, Args)]
pub struct Linux {
    /// The kernel: an ELF file; or `debian`, which is Linux 6.1 with pages of 64 KiB, of bookworm; or
    /// `debian-backports`, a later one with pages of 4 KiB, of bookworm-backports. (A file of such a name is ./debian.)
    #[arg(long, value_name = "VMLINUX", default_value = "debian")]
    pub kernel: Kernel,
    /// All else.
    #[command(flatten)]
    pub options: GuestOptions,
}

/// What `guest` takes.
#[derive(Debug, Args)]
pub struct Guest {
    /// The program.
    #[arg(long, value_name = "ELF|RAW")]
    pub kernel: PathBuf,
    /// All else.
    #[command(flatten)]
    pub options: GuestOptions,
}

/// What both take.
#[derive(Clone, Debug, Args)]
pub struct GuestOptions {
    /// The initial RAM disk.
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// The command line; Linux's has `console=hvc0 disable_radix` before it. With our RAM disk,
    /// `realhpt.stress=SECONDS` has hptstress run, instead of a shell, and then looks for errors in the kernel's log.
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub append: String,
    /// The machine to run on.
    #[arg(long, value_enum, default_value = "powernv9")]
    pub machine: Kind,
    /// How many CPUs the machine has, and vCPUs each guest.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=MAX_VCPUS as i64))]
    pub smp: u32,
    /// How many guests run it, each in a partition of its own with so many vCPUs and so much memory.
    ///
    /// Their lines are shown with their names in front. Keys are the first guest's; ctrl-A and its number gives them to
    /// another. Input from a pipe is every guest's. The exit status is 0 if all have switched themselves off.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=MAX_GUESTS))]
    pub guests: u32,
    /// The guest's memory, a multiple of 16M; its table has 1/128 of that.
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = memory)]
    pub mem: u64,
    /// Has the agent, in another partition, read the (first) guest's table in passes while the guest runs, then pause it, read what is
    /// left exactly, and write all passes to this file (a qemu file, a section each). The guest then goes on.
    ///
    /// QEMU counts instructions meanwhile, and the machine is slower for it. When it is paused, what was read is checked: the
    /// passes against a fresh one, every entry against its hash, Linux's linear map, and all of it restored into a third
    /// partition.
    #[arg(long, value_name = "FILE")]
    pub stream: Option<PathBuf>,
    /// Passes with changes that are read while the guest runs, at least: it is not paused before Linux is at its shell. Fewer if
    /// it ends, or rests for ten seconds.
    #[arg(long, value_name = "N", default_value = "100", requires = "stream")]
    pub stream_passes: usize,
    /// Gives up after this many seconds; never if not given.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

/// Which kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// One of Debian's.
    Debian(Release),
    /// A file.
    File(PathBuf),
}

impl FromStr for Kernel {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "debian" => Self::Debian(Release::Stable),
            "debian-backports" => Self::Debian(Release::Backports),
            path => Self::File(path.into()),
        })
    }
}

/// What `bench` takes.
#[derive(Debug, Args)]
pub struct Bench {
    /// The machine to run on; powernv9 and then powernv8 if not given.
    #[arg(long, value_enum)]
    pub machine: Option<Kind>,
    /// log2 of the size in bytes of the tables that are restored and read. With several, how cost grows from one
    /// to the next is shown too.
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "18,20,22,24,26",
          value_parser = clap::value_parser!(u32).range(18..=28))]
    pub order: Vec<u32>,
    /// Measures this alone.
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// Writes the rows to this file too, as a JSON array of objects.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws cost against order and against occupancy, beside Linux's, into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// The parts of `bench`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Hypercalls, passes and writes, with tables of each order.
    Tables,
    /// What its exits cost a Linux from its first instruction to its shell, without a reader and with one.
    Linux,
}

/// What `scale` takes.
#[derive(Debug, Args)]
pub struct Scale {
    /// log2 of a table's size in bytes; may be given more than once.
    #[arg(long, value_name = "N", default_values = ["18", "24", "30", "32", "34", "36", "37"],
          value_parser = clap::value_parser!(u32).range(18..=46))]
    pub order: Vec<u32>,
    /// Writes the rows to this file too, as a JSON array of objects.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl Default for Roundtrip {
    fn default() -> Self {
        Self {
            file: None,
            format: None,
            order: None,
            machine: Kind::Powernv9,
            cpus: 1,
            out: None,
            out_format: None,
            timeout: Duration::from_secs(300),
        }
    }
}

impl Roundtrip {
    /// The table's file: the one given, or the one that comes with the project.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let own = || workspace().join("tests/data/qemu-htab/idle512.htab.xz");
        self.file.clone().unwrap_or_else(own)
    }
}

/// Bytes of memory, from a number with M or G behind it; MiB without.
fn memory(text: &str) -> Result<u64, String> {
    let (number, shift) = match text.strip_suffix(['G', 'g']) {
        Some(number) => (number, 30),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 20),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "not a number with M or G".to_owned())?;
    let bytes = number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes <= 1 << 40);
    let bytes = bytes.ok_or("more than 1024G")?;
    if bytes == 0 || !bytes.is_multiple_of(16 << 20) {
        return Err("not a multiple of 16M".to_owned());
    }
    Ok(bytes)
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn orders_are_given_apart_or_in_a_list() {
        for (arguments, orders) in [
            (vec![], vec![18, 20, 22, 24, 26]),
            (vec!["--order", "22"], vec![22]),
            (vec!["--order", "18,20", "--order=26"], vec![18, 20, 26]),
        ] {
            let line = ["realhpt", "bench"].into_iter().chain(arguments);
            let Some(Command::Bench(given)) = Cli::parse_from(line).command else {
                panic!("bench was not understood");
            };
            assert_eq!(given.order, orders);
        }
        for order in ["17", "29", "18,", "18,x"] {
            assert!(Cli::try_parse_from(["realhpt", "bench", "--order", order]).is_err());
        }
    }

    #[test]
    fn memory_is_given_in_units() {
        for (text, bytes) in [("512M", 512 << 20), ("1G", 1 << 30), ("64", 64 << 20)] {
            assert_eq!(memory(text), Ok(bytes));
        }
        for text in [
            "0",
            "8M",
            "17M",
            "1T",
            "",
            "M",
            "-16M",
            "2000G",
            "99999999999999G",
        ] {
            assert!(memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_kernel_is_debians_or_a_file() {
        for (arguments, kernel) in [
            (vec![], Kernel::Debian(Release::Stable)),
            (
                vec!["--kernel", "debian-backports"],
                Kernel::Debian(Release::Backports),
            ),
            (
                vec!["--kernel", "./debian"],
                Kernel::File("./debian".into()),
            ),
        ] {
            let line = ["realhpt", "linux"].into_iter().chain(arguments);
            let Some(Command::Linux(given)) = Cli::parse_from(line).command else {
                panic!("linux was not understood");
            };
            assert_eq!(given.kernel, kernel);
        }
        assert!(Cli::try_parse_from(["realhpt", "guest"]).is_err());
    }

    #[test]
    fn what_stands_in_no_command_is_what_roundtrip_defaults_to() {
        let Some(Command::Roundtrip(given)) = Cli::parse_from(["realhpt", "roundtrip"]).command
        else {
            panic!("roundtrip was not understood");
        };
        assert_eq!(format!("{given:?}"), format!("{:?}", Roundtrip::default()));
    }
}
