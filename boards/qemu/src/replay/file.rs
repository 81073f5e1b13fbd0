//! Files of recorded sequences: an object of JSON a line, the first one a header (`kvm-sequences` in `tests/data`).
//!
//! What POWER8 answered stands in the line itself, what POWER9 answered where it differs under `p9`. A file is
//! read whole for one of the two hosts, and checked, before anything is done: what is wrong with it is said in one
//! line, with the number of its line.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use realhpt::hcall::abi;
use realhpt::table::Format;
use serde_json::Value;

use super::access::Address;
use super::memory::{MemorySlot, Pages};
use super::{hex, quoted};
use crate::tables::formats::{ORDERS, slots};
use crate::tables::record::{ByteOrder, Entry, Next, Source, read_record};

/// The registers that a call's arguments and results are in: r4 to r11.
const REGISTERS: usize = 8;
/// The most bytes that a write goes beyond its buffer.
const MAX_BEYOND: u64 = 1 << 16;

/// The host whose answers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// POWER8.
    Power8,
    /// POWER9.
    Power9,
}

impl Recorded {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Power8 => "POWER8",
            Self::Power9 => "POWER9",
        }
    }

    /// The format of its entries.
    #[must_use]
    pub const fn format(self) -> Format {
        match self {
            Self::Power8 => Format::V2_07,
            Self::Power9 => Format::V3_0,
        }
    }
}

/// A file.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// log2 of the table's size in bytes.
    pub order: u32,
    /// The guest's memory.
    pub slots: Vec<MemorySlot>,
    /// What was done, in order.
    pub lines: Vec<Line>,
}

/// A step and where it stands.
#[derive(Clone, Debug)]
pub struct Line {
    /// Number of the line, from 1.
    pub number: usize,
    /// The step.
    pub step: Step,
}

/// A step.
#[derive(Clone, Debug)]
pub enum Step {
    /// A hypercall.
    Call(Call),
    /// A load or store of the guest's.
    Access(Access),
    /// Entries that KVM made itself: slot and entry.
    Vrma(Vec<(u64, Entry)>),
    /// Reads of a stream.
    Read(StreamRead),
    /// A write of a stream.
    Write(StreamWrite),
    /// The table was emptied.
    Reset,
}

/// A hypercall.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// Its token.
    pub token: u64,
    /// Arguments, from r4.
    pub input: Vec<u64>,
    /// r3.
    pub ret: i64,
    /// Results, from r4; where it failed, what stands there.
    pub out: Vec<u64>,
    /// H_READ: which entries were not valid.
    pub invalid: u64,
    /// What Linux did otherwise than it should.
    pub tags: Vec<String>,
}

impl Call {
    /// Whether a tag begins so.
    #[must_use]
    pub fn is_tagged(&self, start: &str) -> bool {
        self.tags.iter().any(|tag| tag.starts_with(start))
    }
}

/// A load or store.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// It stores.
    pub store: bool,
    /// The effective address.
    pub ea: u64,
    /// The SLB entry, as slbmte takes it.
    pub slb_rs: u64,
    /// The same.
    pub slb_rb: u64,
}

/// Reads of a stream.
#[derive(Clone, Debug)]
pub struct StreamRead {
    /// It is the reader that stays open, not one for these reads alone.
    pub persistent: bool,
    /// It is opened before.
    pub open: bool,
    /// It is closed after.
    pub close: bool,
    /// Flags it is opened with.
    pub flags: u64,
    /// The slot that its first pass starts at.
    pub start: u64,
    /// Bytes of the buffer.
    pub count: u64,
    /// How many reads; 0: to the end of the pass.
    pub reads: u64,
    /// What each of them said: records with big-endian headers.
    pub data: Vec<Vec<u8>>,
}

/// A write of a stream.
#[derive(Clone, Debug)]
pub struct StreamWrite {
    /// The bytes that were there, headers in the host's (little-endian) order.
    pub buffer: Vec<u8>,
    /// How many were to be written; what is beyond the buffer is 0xee.
    pub count: u64,
    /// What was returned.
    pub ret: i64,
    /// The error, where that is negative.
    pub errno: u64,
}

impl Sequence {
    /// Reads a file, plain or compressed.
    ///
    /// # Errors
    /// One line: the file, the line in it, and what is wrong.
    pub fn load(path: &Path, host: Recorded) -> Result<Self> {
        let name = path.display();
        let mut sequence: Option<Self> = None;
        for (line, number) in super::text(path)?.lines().zip(1..) {
            let value: Value = serde_json::from_str(line)
                .map_err(|error| anyhow!("{name}: line {number}: no JSON: {error}"))?;
            let fields = Fields {
                value: &value,
                host,
            };
            let parsed = match &mut sequence {
                None => header(fields).map(|header| sequence = Some(header)),
                Some(sequence) => step(fields, slots(sequence.order))
                    .map(|step| sequence.lines.push(Line { number, step })),
            };
            parsed.map_err(|error| anyhow!("{name}: line {number}: {error:#}"))?;
        }
        sequence.with_context(|| format!("{name}: the file is empty"))
    }
}

fn header(fields: Fields<'_>) -> Result<Sequence> {
    ensure!(fields.text("t")? == "hdr", "the first line is no header");
    let order = u32::try_from(fields.number("order")?)?;
    ensure!(
        ORDERS.contains(&order),
        "order {order}: orders are {ORDERS:?}"
    );
    let slot = |value: &Value| {
        let numbers: Vec<u64> = list(value)?.iter().map(decimal).collect::<Result<_>>()?;
        let [guest, bytes, pages] = numbers[..] else {
            bail!("a memory slot is not three numbers");
        };
        let pages = Pages::decode(pages).with_context(|| format!("memory of kind {pages}"))?;
        ensure!(
            bytes != 0 && (guest | bytes) & 0xfff == 0 && guest.checked_add(bytes).is_some(),
            "a memory slot of {bytes:#x} bytes at {guest:#x}"
        );
        Ok(MemorySlot {
            guest,
            bytes,
            pages,
        })
    };
    let slots = list(fields.get("slots")?)?
        .iter()
        .map(slot)
        .collect::<Result<_>>()?;
    Ok(Sequence {
        order,
        slots,
        lines: Vec::new(),
    })
}

fn step(fields: Fields<'_>, slots: u64) -> Result<Step> {
    Ok(match fields.text("t")? {
        "op" => match fields.text("op")? {
            "LOAD" => Step::Access(access(fields, false)?),
            "STORE" => Step::Access(access(fields, true)?),
            name => Step::Call(call(fields, name)?),
        },
        "vrma" => {
            let entries = list(fields.get("enter")?)?.iter().map(|entry| {
                let [slot, dw0, dw1] = hexes(entry)?[..] else {
                    bail!("an entry is not three numbers");
                };
                ensure!(slot < slots, "slot {slot:#x}: the table has {slots:#x}");
                Ok((slot, Entry { dw0: dw0 | 1, dw1 }))
            });
            Step::Vrma(entries.collect::<Result<_>>()?)
        }
        "read" => Step::Read(read(fields, slots)?),
        "write" => Step::Write(write(fields)?),
        "reset" => Step::Reset,
        other => bail!("{} is no step that is known", quoted(other)),
    })
}

fn call(fields: Fields<'_>, name: &str) -> Result<Call> {
    let (token, arguments) = match name {
        "H_ENTER" => (abi::H_ENTER, 4),
        "H_REMOVE" => (abi::H_REMOVE, 3),
        "H_READ" => (abi::H_READ, 2),
        "H_CLEAR_REF" => (abi::H_CLEAR_REF, 2),
        "H_CLEAR_MOD" => (abi::H_CLEAR_MOD, 2),
        "H_PROTECT" => (abi::H_PROTECT, 3),
        "H_BULK_REMOVE" => (abi::H_BULK_REMOVE, REGISTERS),
        other => bail!("{} is no call that is known", quoted(other)),
    };
    let (input, out) = (hexes(fields.get("in")?)?, hexes(fields.of_host("out")?)?);
    ensure!(
        input.len() == arguments,
        "{name} has {arguments} arguments, not {}",
        input.len()
    );
    ensure!(out.len() <= REGISTERS, "{} results", out.len());
    let invalid = match fields.of_either("inv", "inv9") {
        None => 0,
        Some(Value::String(digits)) => hex(digits)?,
        Some(mask) => decimal(mask)?,
    };
    let tags = match fields.of_either("q", "q9") {
        None => Vec::new(),
        Some(tags) => list(tags)?
            .iter()
            .map(|tag| Ok(tag.as_str().context("a tag is no text")?.to_owned()))
            .collect::<Result<_>>()?,
    };
    Ok(Call {
        name: name.to_owned(),
        token,
        input,
        ret: signed(fields.of_host("ret")?)?,
        out,
        invalid,
        tags,
    })
}

fn access(fields: Fields<'_>, store: bool) -> Result<Access> {
    let [ea, slb_rs, slb_rb] = hexes(fields.get("in")?)?[..] else {
        bail!("an access has three arguments");
    };
    ensure!(
        Address::is_known(slb_rs),
        "an access through a segment that is not of 256M with 4K pages"
    );
    Ok(Access {
        store,
        ea,
        slb_rs,
        slb_rb,
    })
}

fn read(fields: Fields<'_>, slots: u64) -> Result<StreamRead> {
    let persistent = match fields.text("fd")? {
        "P" => true,
        "F" | "B" | "S" => false,
        other => bail!("{} is no reader that is known", quoted(other)),
    };
    let data = list(fields.of_host("data")?)?
        .iter()
        .map(|read| records(&bytes(read.as_str().context("a read is no text")?)?, slots))
        .collect::<Result<_>>()?;
    Ok(StreamRead {
        persistent,
        open: fields.number("open")? != 0,
        close: fields.number("close")? != 0,
        flags: fields.number("flags")?,
        start: fields.number("start")?,
        count: fields.number("count")?,
        reads: fields.number("nreads")?,
        data,
    })
}

fn write(fields: Fields<'_>) -> Result<StreamWrite> {
    let buffer = bytes(fields.text("buf")?)?;
    let count = fields.number("count")?;
    ensure!(
        count <= u64::try_from(buffer.len())? + MAX_BEYOND,
        "a write of {count} bytes, of which {} are there",
        buffer.len()
    );
    Ok(StreamWrite {
        buffer,
        count,
        ret: fields.signed("ret")?,
        errno: fields.number("errno")?,
    })
}

/// Records with little-endian headers as such with big-endian ones.
fn records(bytes: &[u8], slots: u64) -> Result<Vec<u8>> {
    let mut source = Source::new(bytes, u64::MAX);
    let mut records = Vec::new();
    loop {
        match read_record(&mut source, ByteOrder::Little, slots, &mut records)
            .map_err(|malformed| anyhow!("a read: {malformed}"))?
        {
            Next::Record(_) => {}
            Next::EndMark => bail!("a read: a header of zeros"),
            Next::End => return Ok(records),
        }
    }
}

/// An object, and whose answers are taken from it.
#[derive(Clone, Copy)]
struct Fields<'v> {
    value: &'v Value,
    host: Recorded,
}

impl<'v> Fields<'v> {
    fn get(self, name: &str) -> Result<&'v Value> {
        self.value
            .get(name)
            .with_context(|| format!("{name:?} is missing"))
    }

    /// A field of the host's, which stands apart where it differs.
    fn of_host(self, name: &str) -> Result<&'v Value> {
        let other = self.value.get("p9").and_then(|p9| p9.get(name));
        match (self.host, other) {
            (Recorded::Power9, Some(value)) => Ok(value),
            _ => self.get(name),
        }
    }

    /// A field that has a name of its own for POWER9.
    fn of_either(self, p8: &str, p9: &str) -> Option<&'v Value> {
        let other = match self.host {
            Recorded::Power8 => None,
            Recorded::Power9 => self.value.get(p9),
        };
        other.or_else(|| self.value.get(p8))
    }

    fn text(self, name: &str) -> Result<&'v str> {
        let value = self.get(name)?.as_str();
        value.with_context(|| format!("{name:?} is no text"))
    }

    fn number(self, name: &str) -> Result<u64> {
        decimal(self.get(name)?).with_context(|| format!("{name:?}"))
    }

    fn signed(self, name: &str) -> Result<i64> {
        signed(self.of_host(name)?).with_context(|| format!("{name:?}"))
    }
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("no list where one belongs")
}

fn decimal(value: &Value) -> Result<u64> {
    value.as_u64().context("no number where one belongs")
}

fn signed(value: &Value) -> Result<i64> {
    value.as_i64().context("no number where one belongs")
}

fn hexes(value: &Value) -> Result<Vec<u64>> {
    let one = |value: &Value| hex(value.as_str().context("no text where a number belongs")?);
    list(value)?.iter().map(one).collect()
}

fn bytes(digits: &str) -> Result<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.as_bytes().chunks(2).map(|pair| match *pair {
        [high, low] => u8::try_from(value(high)? << 4 | value(low)?).ok(),
        _ => None,
    });
    pairs
        .collect::<Option<_>>()
        .context("bytes that are no hexadecimal digits")
}
