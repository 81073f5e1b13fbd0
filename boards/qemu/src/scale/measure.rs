//! What is done with one table, and what is counted of it.
//!
//! All of it goes by hypercall, as an agent does it, and all of it is checked: each pass must say every slot that it is
//! about once, in order, and no other.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use realhpt::hcall::abi::{self, Flags, ReadFlags, Status};
use realhpt::table::{Format, Order};
use serde::Serialize;

use super::memory;
use super::population::{Populated, Population};
use crate::library::{BUFFER_SIZE, CLIENT, CLIENT_MEMORY, Spec, Store};
use crate::replay::Backend as _;
use crate::replay::host::Host;
use crate::tables::record::{ByteOrder, Header, V_VALID, entries_of, for_each_record};

/// Entries that are changed at once.
pub const CHANGES: u64 = 100;
/// Calls that something may take. More is a call that does not get on.
const AGAIN: u64 = 1 << 24;
/// Dword 1 of a page that may be written, with R and C: hardware has nothing to set.
const SETTLED: u64 = 0x192;
/// The same without C.
const UNSETTLED: u64 = 0x112;
/// Entries that are changed one beside the other.
pub const TOGETHER: usize = 4096;
/// The longest run of a record.
const MAX_RUN: u64 = 0xffff;
/// Bytes of a stream that are put into the agent's memory for a call: more than a call gets through, where all are headers,
/// and not so many that the time is this.
const PART: usize = 512;

/// What something took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is.
    pub row: &'static str,
    /// Hypercalls.
    pub calls: u64,
    /// Passes, where it is made of such.
    pub passes: u64,
    /// Bytes of records, of all calls.
    pub bytes: u64,
    /// Bytes of the call that had most.
    pub most_bytes: u64,
    /// Records.
    pub records: u64,
    /// Entries in them.
    pub entries: u64,
    /// Invalid slots in them.
    pub invalid: u64,
    /// For information: how long it took. It depends on this host, and on what it does beside.
    pub microseconds: u64,
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.passes += other.passes;
        self.bytes += other.bytes;
        self.most_bytes = self.most_bytes.max(other.most_bytes);
        self.records += other.records;
        self.entries += other.entries;
        self.invalid += other.invalid;
        self.microseconds += other.microseconds;
    }

    fn took(&mut self, since: Instant) {
        self.microseconds = micros(since.elapsed());
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What is said of one table.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// log2 of its size in bytes.
    pub order: u32,
    /// What it was filled with.
    pub population: String,
    /// Entries of that.
    pub entries: u64,
    /// What H_HPT_STAT says of the memory beside the HPT, over the slots.
    pub bytes_beside_per_slot: f64,
    /// For information: what this process had more of memory in the end.
    pub used_bytes: u64,
    /// What was done.
    pub rows: Vec<Row>,
}

/// Makes a table, and reads and writes it in all ways.
///
/// # Errors
/// If there are no addresses for it, or an answer is not what it has to be.
pub fn measure(order: Order, population: Population, populated: Populated) -> Result<Measured> {
    let before = memory::used()?;
    let store = store(order);
    let mut subject = Subject::new(&store, order, populated)?;
    let bytes_beside = subject.bytes_beside()?;
    let mut rows = Vec::new();
    if population == Population::Empty {
        rows.push(subject.restore_nothing()?);
    }
    subject.fill()?;
    rows.extend(subject.read()?);
    rows.extend(subject.control()?);
    let used = memory::used()?.saturating_sub(before);
    Ok(Measured {
        order: order.raw(),
        population: population.to_string(),
        entries: populated.entries(),
        bytes_beside_per_slot: bytes_beside as f64 / order.slots() as f64,
        used_bytes: used,
        rows,
    })
}

/// What H_HPT_OPEN says of a table of this order, for reading and for writing.
///
/// # Errors
/// If there are no addresses for it.
pub fn opens(order: Order) -> Result<[Option<Status>; 2]> {
    let store = store(order);
    let mut host = Host::new(&store, Format::V3_0)?;
    let mut open = |flags| -> Result<_> {
        let (status, _) = host.open(flags, 0)?;
        Ok(Status::from_raw(status.cast_unsigned()))
    };
    Ok([open(0)?, open(abi::OpenFlags::WRITE.bits())?])
}

fn store(order: Order) -> Store {
    Store::new(&[Spec::agent(), Spec::client(order.raw())])
}

/// A table and who works on it.
struct Subject<'s> {
    host: Host<'s>,
    order: Order,
    populated: Populated,
}

impl<'s> Subject<'s> {
    fn new(store: &'s Store, order: Order, populated: Populated) -> Result<Self> {
        let host = Host::new(store, Format::V3_0)?;
        Ok(Self {
            host,
            order,
            populated,
        })
    }

    fn bytes_beside(&self) -> Result<u64> {
        let lpid = u64::from(CLIENT);
        let frame = [abi::H_HPT_STAT, lpid, 0, 0, 0, 0, 0, 0, 0, 0];
        let [status, _, order, _, _, _, bytes, ..] =
            self.host.call(crate::library::AGENT, frame)?;
        ensure!(
            (status, order) == (0, u64::from(self.order.raw())),
            "H_HPT_STAT answers {status:#x}, order {order}"
        );
        Ok(bytes)
    }

    /// Makes an entry.
    fn enter(&self, slot: u64, low: u64) -> Result<()> {
        let page = (slot << 12) % CLIENT_MEMORY;
        let entry = dword0(slot);
        let exact = Flags::EXACT.bits();
        let frame = [abi::H_ENTER, exact, slot, entry, page | low, 0, 0, 0, 0, 0];
        let [status, made, ..] = self.host.call(CLIENT, frame)?;
        ensure!(
            (status, made) == (0, slot),
            "H_ENTER of slot {slot:#x} answers {status:#x}, {made:#x}"
        );
        Ok(())
    }

    fn fill(&self) -> Result<()> {
        self.populated
            .slots()
            .try_for_each(|slot| self.enter(slot, SETTLED))
    }

    /// One reader, from its opening to its end.
    fn read(&mut self) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let populated = self.populated;
        let slots = self.order.slots();
        let (open, handle) = self.open("open", 0)?;
        rows.push(open);

        let (first, _) = self.pass("first pass", handle, populated.slots())?;
        ensure!(
            first.entries + first.invalid == slots,
            "the first pass said {} slots of {slots}",
            first.entries + first.invalid
        );
        rows.push(first);
        rows.push(self.clean("clean pass", handle)?);

        let one: Vec<u64> = populated.free(1).collect();
        let apart: Vec<u64> = populated.free(CHANGES).collect();
        let together: Vec<u64> = populated
            .free_behind()
            .filter(|slot| !one.contains(slot) && !apart.contains(slot))
            .take(TOGETHER)
            .collect();
        for (pass, settled, slots) in [
            ("1 changed: the pass", "1 changed: until clean", one),
            ("100 changed: the pass", "100 changed: until clean", apart),
            (
                "4096 together: the pass",
                "4096 together: until clean",
                together,
            ),
        ] {
            for &slot in &slots {
                self.enter(slot, SETTLED)?;
            }
            let (mut until_clean, clean) = self.pass(pass, handle, slots.into_iter())?;
            ensure!(!clean, "a pass with records was clean");
            rows.push(until_clean.clone());
            until_clean.row = settled;
            loop {
                let (more, clean) = self.pass("", handle, [].into_iter())?;
                until_clean.add(&more);
                if clean {
                    break;
                }
            }
            rows.push(until_clean);
        }

        // One entry where hardware could still set C: of those that are in no population, at an end of the table.
        let slot = slots - 1;
        self.enter(slot, UNSETTLED)?;
        let (_, _) = self.pass("", handle, [slot].into_iter())?;
        while !self.pass("", handle, [].into_iter())?.1 {}
        rows.push(self.clean("clean pass, 1 unsettled", handle)?);

        let (row, last) = self.open("open at the last slot", slot)?;
        rows.push(row);
        for handle in [handle, last] {
            ensure!(self.host.close(handle)? == 0, "H_HPT_CLOSE failed");
        }
        Ok(rows)
    }

    fn open(&mut self, row: &'static str, start: u64) -> Result<(Row, u64)> {
        let since = Instant::now();
        let (status, handle) = self.host.open(0, start)?;
        let mut row = Row {
            row,
            calls: 1,
            ..Row::default()
        };
        row.took(since);
        ensure!(status == 0, "H_HPT_OPEN answers {status}");
        Ok((row, handle))
    }

    /// A pass to its end, which must say `slots` to be valid; what it took, and whether it was clean.
    fn pass(
        &mut self,
        row: &'static str,
        handle: u64,
        mut slots: impl Iterator<Item = u64>,
    ) -> Result<(Row, bool)> {
        let mut row = Row {
            row,
            passes: 1,
            ..Row::default()
        };
        loop {
            let since = Instant::now();
            let answer = self.host.read(handle, BUFFER_SIZE)?;
            row.microseconds += micros(since.elapsed());
            ensure!(answer.status == 0, "H_HPT_READ answers {}", answer.status);
            row.calls += 1;
            let bytes = u64::try_from(answer.bytes.len())?;
            row.bytes += bytes;
            row.most_bytes = row.most_bytes.max(bytes);
            let mut wrong = None;
            for_each_record(&answer.bytes, self.order.slots(), |_, header, entries| {
                row.records += 1;
                row.entries += u64::from(header.n_valid);
                row.invalid += u64::from(header.n_invalid);
                for (slot, entry) in (u64::from(header.index)..).zip(entries_of(entries)) {
                    let expected = slots.next();
                    if Some(slot) != expected || entry.dw0 != dword0(slot) {
                        wrong.get_or_insert((slot, entry, expected));
                    }
                }
            })?;
            if let Some((slot, entry, expected)) = wrong {
                anyhow::bail!("slot {slot:#x} came as {entry}, slot {expected:x?} should have");
            }
            let flags = ReadFlags::from_bits_retain(answer.state & 0xffff_ffff);
            if flags.contains(ReadFlags::END_OF_PASS) {
                let missed = slots.next();
                ensure!(missed.is_none(), "the pass did not say slot {missed:x?}");
                return Ok((row, flags.contains(ReadFlags::CLEAN)));
            }
            ensure!(row.calls < AGAIN, "the reader does not get on");
        }
    }

    fn clean(&mut self, row: &'static str, handle: u64) -> Result<Row> {
        let (row, clean) = self.pass(row, handle, [].into_iter())?;
        ensure!(clean, "{}: it was not clean", row.row);
        Ok(row)
    }

    /// Restores a stream that says of every slot that it is invalid, into a table that is empty.
    fn restore_nothing(&mut self) -> Result<Row> {
        let slots = self.order.slots();
        let mut stream = Vec::new();
        let mut row = Row {
            row: "restore of invalid slots",
            ..Row::default()
        };
        for index in (0..slots).step_by(usize::try_from(MAX_RUN)?) {
            let header = Header {
                index: u32::try_from(index)?,
                n_valid: 0,
                n_invalid: u16::try_from(MAX_RUN.min(slots - index))?,
            };
            stream.extend(header.encode(ByteOrder::Big));
            row.records += 1;
        }
        // A record without slots: what is before it is done when it is consumed.
        stream.extend([0; 8]);
        (row.bytes, row.invalid) = (u64::try_from(stream.len())?, slots);
        let (status, handle) = self.host.open(abi::OpenFlags::WRITE.bits(), 0)?;
        ensure!(status == 0, "H_HPT_OPEN answers {status}");
        let since = Instant::now();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let most = rest.len().min(PART);
            let part = rest.get(..most).context("a part of the stream")?;
            let (status, consumed, _) = self.host.write(handle, part)?;
            ensure!(status == 0, "H_HPT_WRITE answers {status}");
            row.calls += 1;
            ensure!(row.calls < AGAIN, "the writer does not get on");
            row.most_bytes = row.most_bytes.max(consumed);
            rest = rest
                .get(usize::try_from(consumed)?..)
                .context("more was consumed than there was")?;
        }
        row.took(since);
        ensure!(self.host.close(handle)? == 0, "H_HPT_CLOSE failed");
        Ok(row)
    }

    /// Runs the partition, pauses it and empties its table.
    fn control(&mut self) -> Result<Vec<Row>> {
        let (started, _) = self.repeat("", abi::H_LPAR_START, 0x100)?;
        ensure!(
            started == Status::Success as i64,
            "H_LPAR_START answers {started}"
        );
        [("pause", abi::H_LPAR_PAUSE), ("reset", abi::H_LPAR_RESET)]
            .into_iter()
            .map(|(row, token)| {
                let (status, row) = self.repeat(row, token, 0)?;
                ensure!(status == 0, "{}: {status}", row.row);
                Ok(row)
            })
            .collect()
    }

    /// A control call, made until it is done.
    fn repeat(&self, row: &'static str, token: u64, argument: u64) -> Result<(i64, Row)> {
        let mut row = Row {
            row,
            ..Row::default()
        };
        let since = Instant::now();
        loop {
            row.calls += 1;
            let (status, _) = self.host.agent(token, [u64::from(CLIENT), argument, 0])?;
            if status != Status::Continue as i64 || row.calls == AGAIN {
                row.took(since);
                return Ok((status, row));
            }
        }
    }
}

/// Dword 0 of the entry in a slot: each slot has another.
fn dword0(slot: u64) -> u64 {
    slot << 7 | V_VALID
}
