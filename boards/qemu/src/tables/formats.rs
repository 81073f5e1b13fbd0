//! Table files: QEMU's `spapr/htab` payload and the bytes of KVM's file descriptor, plain or compressed by xz.
//!
//! * `qemu`: be32 order; then per section be32 0, records with big-endian headers, a header of zeros as end mark.
//!   The sections are the passes of a migration: applied one after the other, they make the table.
//! * `kvm-le`, `kvm-be`: bare records with headers in the byte order of the host that made them. The order of the
//!   table is not in the file.
//!
//! A file is parsed while it is read, so that a small file which decompresses without end is given up at the first
//! bytes that are no table; what is a table may be [`LIMIT`] bytes long.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail, ensure};
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use liblzma::write::XzEncoder;

use super::record::{ByteOrder, Malformed, Next, Source, for_each_record, read_record};

/// The most bytes of a table that are taken, decompressed.
pub const LIMIT: u64 = 8 << 30;
/// The most sections that are taken: an empty one is 12 bytes in the file and more than that in memory.
pub const MAX_SECTIONS: usize = 1 << 16;
/// Table orders (log2 of the size in bytes) that PAPR and KVM know.
pub const ORDERS: std::ops::RangeInclusive<u32> = 18..=46;

/// What an xz file begins with.
const XZ_MAGIC: [u8; 6] = *b"\xfd7zXZ\0";
/// Memory the xz decoder may take: dictionaries of up to 64 MiB, which is what `xz -9` uses.
const XZ_MEMORY: u64 = 80 << 20;
/// How far a compressed file that holds no table is searched for damage, bytes.
const XZ_SEARCH: u64 = 256 << 20;
/// Compression level: on tables level 0 is as small as level 2 and takes a third of its time, level 6 makes them
/// nearly a third smaller and takes ten times as long.
const XZ_LEVEL: u32 = 0;
/// In place of the order: the guest uses radix translation and has no table.
const RADIX: u32 = u32::MAX;

/// Format of a table file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Payload of QEMU's `spapr/htab` migration section.
    Qemu,
    /// Bare records with little-endian headers.
    KvmLe,
    /// Bare records with big-endian headers.
    KvmBe,
}

impl Format {
    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::KvmLe => "kvm-le",
            Self::KvmBe => "kvm-be",
        }
    }

    fn headers(self) -> ByteOrder {
        match self {
            Self::Qemu | Self::KvmBe => ByteOrder::Big,
            Self::KvmLe => ByteOrder::Little,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A table as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// log2 of the table's size in bytes.
    pub order: u32,
    /// Records with big-endian headers, section by section; a section may be empty.
    pub sections: Vec<Vec<u8>>,
    /// The format it was read from.
    pub format: Format,
    /// Whether that format was found out, not given.
    pub guessed: bool,
}

/// Slots of a table of this order, one of [`ORDERS`].
#[must_use]
pub fn slots(order: u32) -> u64 {
    1 << (order - 4)
}

/// Reads a table.
///
/// Without a format: `qemu` if the whole file parses as such; else, if an order is given, the one of `kvm-le` and
/// `kvm-be` that fits. An order given beside a file that names its own must be the same.
///
/// # Errors
///
/// One line: the file, what is wrong with it and at which byte (of the decompressed bytes).
pub fn load(path: &Path, format: Option<Format>, order: Option<u32>) -> anyhow::Result<Table> {
    if let Some(order) = order {
        ensure!(
            ORDERS.contains(&order),
            "a table of order {order}: orders are {ORDERS:?}"
        );
    }
    match format {
        Some(format) => load_as(path, format, order, false)?
            .map_err(|malformed| anyhow!("{}: no {format} table: {malformed}", path.display())),
        None => guess(path, order),
    }
}

/// Tries the formats that can be meant.
fn guess(path: &Path, order: Option<u32>) -> anyhow::Result<Table> {
    let no_qemu = match load_as(path, Format::Qemu, order, true)? {
        Ok(table) => return Ok(table),
        Err(malformed) => malformed,
    };
    let name = path.display();
    if order.is_none() {
        bail!("{name}: no qemu table: {no_qemu} (for kvm-le and kvm-be the order must be given)");
    }
    let little = load_as(path, Format::KvmLe, order, true)?;
    let big = load_as(path, Format::KvmBe, order, true)?;
    match (little, big) {
        (Ok(table), Err(_)) | (Err(_), Ok(table)) => Ok(table),
        (Ok(_), Ok(_)) => bail!("{name}: fits kvm-le and kvm-be alike: the format must be given"),
        (Err(no_little), Err(no_big)) => bail!(
            "{name}: no table of any format: qemu: {no_qemu}; kvm-le: {no_little}; kvm-be: {no_big}"
        ),
    }
}

/// Reads `path` as one format. The outer error is about the file, the inner about what it holds.
fn load_as(
    path: &Path,
    format: Format,
    order: Option<u32>,
    guessed: bool,
) -> anyhow::Result<Result<Table, Malformed>> {
    let (input, compressed) =
        open(path).map_err(|error| anyhow!("{}: cannot be opened: {error}", path.display()))?;
    let mut source = Source::new(input, LIMIT);
    let parsed = match format {
        Format::Qemu => parse_qemu(&mut source, order),
        Format::KvmLe | Format::KvmBe => {
            let order = order.with_context(|| {
                format!(
                    "{}: a {format} file does not name its order: it must be given",
                    path.display()
                )
            })?;
            parse_bare(&mut source, format.headers(), order).map(|records| (order, vec![records]))
        }
    };
    // xz checks a block's CRC at its end, after wrong bytes have come out: then they are not to blame.
    let parsed = parsed.map_err(|malformed| {
        if !compressed {
            return malformed;
        }
        source.drain(XZ_SEARCH).err().unwrap_or(malformed)
    });
    Ok(parsed.map(|(order, sections)| Table {
        order,
        sections,
        format,
        guessed,
    }))
}

/// Opens a file, decompressing what is named or begins as xz, and says whether it does.
pub(crate) fn open(path: &Path) -> io::Result<(Box<dyn Read>, bool)> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut head = Vec::new();
    file.by_ref()
        .take(XZ_MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    let compressed = head == XZ_MAGIC || named_xz(path);
    let whole = io::Cursor::new(head).chain(file);
    if compressed {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
        Ok((Box::new(Unxz(XzDecoder::new_stream(whole, stream))), true))
    } else {
        Ok((Box::new(whole), false))
    }
}

fn named_xz(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("xz"))
}

/// Says that it was the compression when decompressing fails; liblzma's own words leave that open.
struct Unxz<R>(R);

impl<R: Read> Read for Unxz<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes).map_err(|error| {
            // The operating system's errors, and a call to be made again, are not about the file's bytes.
            if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted {
                error
            } else {
                io::Error::new(
                    error.kind(),
                    format!("damaged, cut short or not xz ({error})"),
                )
            }
        })
    }
}

/// Parses a `qemu` file whole.
pub(super) fn parse_qemu<R: Read>(
    source: &mut Source<R>,
    expected: Option<u32>,
) -> Result<(u32, Vec<Vec<u8>>), Malformed> {
    let mut head = [0; 4];
    source.take_all(&mut head, "the table's order")?;
    let order = u32::from_be_bytes(head);
    let at_head = |what| Err(Malformed { at: 0, what });
    if order == RADIX {
        return at_head("the guest used radix translation, there is no hashed table".into());
    }
    if !ORDERS.contains(&order) {
        return at_head(format!("order {order}: orders are {ORDERS:?}"));
    }
    if let Some(expected) = expected.filter(|expected| *expected != order) {
        return at_head(format!(
            "the table's order is {order}, {expected} was given"
        ));
    }

    let mut sections = Vec::new();
    loop {
        let start = source.at();
        let Some(head) = source.take("a section's head")? else {
            break;
        };
        let wrong = |what| Err(Malformed { at: start, what });
        match u32::from_be_bytes(head) {
            0 => {}
            RADIX => {
                return wrong(
                    "the guest gave its hashed table up here, for radix translation".into(),
                );
            }
            other => return wrong(format!("a section begins with {other:#x}, not with 0")),
        }
        if sections.len() == MAX_SECTIONS {
            return wrong(format!(
                "more than the {MAX_SECTIONS} sections that are taken"
            ));
        }
        let mut records = Vec::new();
        loop {
            match read_record(source, ByteOrder::Big, slots(order), &mut records)? {
                Next::Record(_) => {}
                Next::EndMark => break,
                Next::End => {
                    return Err(source.malformed("the input ends, the section has no end mark"));
                }
            }
        }
        records.shrink_to_fit();
        sections.push(records);
    }
    if sections.is_empty() {
        return Err(source.malformed("there is no section"));
    }
    Ok((order, sections))
}

/// Parses bare records to the end.
pub(super) fn parse_bare<R: Read>(
    source: &mut Source<R>,
    headers: ByteOrder,
    order: u32,
) -> Result<Vec<u8>, Malformed> {
    let mut records = Vec::new();
    loop {
        let at = source.at();
        match read_record(source, headers, slots(order), &mut records)? {
            Next::Record(_) => {}
            Next::EndMark => {
                return Err(Malformed {
                    at,
                    what: "a header of zeros, as in qemu files only".into(),
                });
            }
            Next::End if records.is_empty() => return Err(source.malformed("there is no record")),
            Next::End => return Ok(records),
        }
    }
}

/// Writes a table; compressed if the file's name ends in `.xz`. The formats without sections join them.
///
/// # Errors
///
/// The file cannot be written, or [`load`] would not take it back: no section, no record where the format has
/// nothing else, malformed records. Nothing is written then.
pub fn save(path: &Path, format: Format, order: u32, sections: &[Vec<u8>]) -> anyhow::Result<()> {
    ensure!(
        ORDERS.contains(&order),
        "a table of order {order}: orders are {ORDERS:?}"
    );
    for (number, records) in sections.iter().enumerate() {
        for_each_record(records, slots(order), |_, _, _| {}).map_err(|malformed| {
            anyhow!("section {number} of the table to be written: {malformed}")
        })?;
    }
    match format {
        Format::Qemu => ensure!(!sections.is_empty(), "no section to write"),
        Format::KvmLe | Format::KvmBe => {
            ensure!(
                sections.iter().any(|records| !records.is_empty()),
                "no record to write"
            );
        }
    }
    let write = || -> io::Result<()> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        if named_xz(path) {
            let mut encoder = XzEncoder::new(file, XZ_LEVEL);
            encode(&mut encoder, format, order, sections)?;
            encoder.finish()?.flush()
        } else {
            let mut file = file;
            encode(&mut file, format, order, sections)?;
            file.flush()
        }
    };
    write().map_err(|error| anyhow!("{}: cannot be written: {error}", path.display()))
}

/// Writes sections of records that have been checked.
fn encode(
    out: &mut impl Write,
    format: Format,
    order: u32,
    sections: &[Vec<u8>],
) -> io::Result<()> {
    if format == Format::Qemu {
        out.write_all(&order.to_be_bytes())?;
    }
    for records in sections {
        match format {
            Format::Qemu => {
                out.write_all(&0_u32.to_be_bytes())?;
                out.write_all(records)?;
                out.write_all(&[0; 8])?;
            }
            Format::KvmBe => out.write_all(records)?,
            Format::KvmLe => {
                let mut result = Ok(());
                for_each_record(records, slots(order), |_, header, entries| {
                    if result.is_ok() {
                        result = out
                            .write_all(&header.encode(ByteOrder::Little))
                            .and_then(|()| out.write_all(entries));
                    }
                })
                .map_err(io::Error::other)?;
                result?;
            }
        }
    }
    Ok(())
}
