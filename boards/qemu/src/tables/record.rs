//! One record of an HPT stream at a time, from any source of bytes.
//!
//! A record is a [`Header`] `{u32 index, u16 n_valid, u16 n_invalid}` and then `n_valid` entries of 16 bytes: the
//! valid run begins at slot `index`, the invalid run follows it and takes no bytes. Entries are big-endian
//! everywhere; headers are big-endian in QEMU's migration stream and in the host's order on KVM's file descriptor.
//! A header of zeros is QEMU's end mark; a record that names no slot is otherwise never made.
//!
//! Key types: [`Source`] counts bytes and bounds them, [`read_record`] checks one record against a table's size,
//! [`Malformed`] says what is wrong and where.
//!
//! Sources: Linux `Documentation/virt/kvm/api.rst` section 4.78 (KVM_PPC_GET_HTAB_FD); QEMU's `spapr/htab` section.

use std::fmt;
use std::io::{self, Read};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 8;
/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 16;
/// Dword 0: the entry is valid.
pub const V_VALID: u64 = 0x1;

/// Byte order of record headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Most significant byte first.
    Big,
    /// Least significant byte first.
    Little,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Slot number of the first entry.
    pub index: u32,
    /// Entries that follow the header.
    pub n_valid: u16,
    /// Slots behind them that are invalid.
    pub n_invalid: u16,
}

impl Header {
    /// Decodes a header.
    #[must_use]
    pub fn decode(bytes: [u8; HEADER_BYTES], order: ByteOrder) -> Self {
        let [i0, i1, i2, i3, v0, v1, n0, n1] = bytes;
        let (index, n_valid, n_invalid) = ([i0, i1, i2, i3], [v0, v1], [n0, n1]);
        match order {
            ByteOrder::Big => Self {
                index: u32::from_be_bytes(index),
                n_valid: u16::from_be_bytes(n_valid),
                n_invalid: u16::from_be_bytes(n_invalid),
            },
            ByteOrder::Little => Self {
                index: u32::from_le_bytes(index),
                n_valid: u16::from_le_bytes(n_valid),
                n_invalid: u16::from_le_bytes(n_invalid),
            },
        }
    }

    /// Encodes the header.
    #[must_use]
    pub fn encode(self, order: ByteOrder) -> [u8; HEADER_BYTES] {
        let (index, n_valid, n_invalid) = match order {
            ByteOrder::Big => (
                self.index.to_be_bytes(),
                self.n_valid.to_be_bytes(),
                self.n_invalid.to_be_bytes(),
            ),
            ByteOrder::Little => (
                self.index.to_le_bytes(),
                self.n_valid.to_le_bytes(),
                self.n_invalid.to_le_bytes(),
            ),
        };
        let ([i0, i1, i2, i3], [v0, v1], [n0, n1]) = (index, n_valid, n_invalid);
        [i0, i1, i2, i3, v0, v1, n0, n1]
    }

    /// The slot behind the last one that the record names. At most 2^32 + 2^17: no overflow in 64 bits.
    #[must_use]
    pub fn end(self) -> u64 {
        u64::from(self.index) + u64::from(self.n_valid) + u64::from(self.n_invalid)
    }
}

/// One entry, in the form of ISA 2.07, dword 1 as the guest knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Dword 0.
    pub dw0: u64,
    /// Dword 1.
    pub dw1: u64,
}

impl Entry {
    /// Decodes an entry.
    #[must_use]
    pub fn decode(bytes: [u8; ENTRY_BYTES]) -> Self {
        let both = u128::from_be_bytes(bytes);
        Self {
            dw0: (both >> 64) as u64,
            dw1: ((both << 64) >> 64) as u64,
        }
    }

    /// Encodes the entry.
    #[must_use]
    pub fn encode(self) -> [u8; ENTRY_BYTES] {
        (u128::from(self.dw0) << 64 | u128::from(self.dw1)).to_be_bytes()
    }

    /// Whether dword 0 has VALID.
    #[must_use]
    pub fn is_valid(self) -> bool {
        self.dw0 & V_VALID != 0
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} {:016x}", self.dw0, self.dw1)
    }
}

/// What is wrong with a stream, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset in bytes from the beginning of the (decompressed) stream.
    pub at: u64,
    /// What is wrong there, in one line.
    pub what: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.what)
    }
}

impl std::error::Error for Malformed {}

/// A byte source that knows its place and ends, with an error, at a limit.
#[derive(Debug)]
pub struct Source<R> {
    inner: R,
    at: u64,
    limit: u64,
}

impl<R: Read> Source<R> {
    /// A source of at most `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Self {
            inner,
            at: 0,
            limit,
        }
    }

    /// Bytes taken so far.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// An error at this place.
    pub fn malformed(&self, what: impl Into<String>) -> Malformed {
        Malformed {
            at: self.at,
            what: what.into(),
        }
    }

    /// The next `N` bytes, or none if the input ends right here. `what` names them.
    pub fn take<const N: usize>(&mut self, what: &str) -> Result<Option<[u8; N]>, Malformed> {
        let mut bytes = [0; N];
        match self.fill(&mut bytes)? {
            0 => Ok(None),
            got if got == N => Ok(Some(bytes)),
            got => Err(self.cut(what, N - got)),
        }
    }

    /// Fills `bytes` wholly. `what` names them.
    pub fn take_all(&mut self, bytes: &mut [u8], what: &str) -> Result<(), Malformed> {
        let got = self.fill(bytes)?;
        if got == bytes.len() {
            Ok(())
        } else {
            Err(self.cut(what, bytes.len() - got))
        }
    }

    /// Goes through what is left, `most` bytes of it at most, and gives the error that ends it, if any.
    pub fn drain(&mut self, most: u64) -> Result<(), Malformed> {
        let mut bytes = vec![0; 1 << 16];
        let end = self.at.saturating_add(most);
        while self.at < end && self.fill(&mut bytes)? > 0 {}
        Ok(())
    }

    fn cut(&self, what: &str, missing: usize) -> Malformed {
        self.malformed(format!(
            "the input ends, {missing} bytes of {what} are missing"
        ))
    }

    /// Fills `bytes` as far as there is input and says how far.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        let mut got = 0;
        while let Some(rest) = bytes.get_mut(got..)
            && !rest.is_empty()
        {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(n) => {
                    got += n;
                    self.at += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.malformed(format!("cannot be read: {error}"))),
            }
            if self.at > self.limit {
                return Err(self.malformed(format!(
                    "longer than the {} bytes that are taken",
                    self.limit
                )));
            }
        }
        Ok(got)
    }
}

/// What stands next in a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record; its bytes have been appended.
    Record(Header),
    /// A header of zeros.
    EndMark,
    /// Nothing: the input ends.
    End,
}

/// Reads one record of a table of `slots` slots and appends it to `records`, its header in big-endian.
///
/// The record must name slots, all of them in the table, and each of its entries must be valid. After an error
/// `records` may end in a part of a record.
pub fn read_record<R: Read>(
    source: &mut Source<R>,
    order: ByteOrder,
    slots: u64,
    records: &mut Vec<u8>,
) -> Result<Next, Malformed> {
    let start = source.at();
    let Some(bytes) = source.take("a record's header")? else {
        return Ok(Next::End);
    };
    let header = Header::decode(bytes, order);
    let Header {
        index,
        n_valid,
        n_invalid,
    } = header;
    if (index, n_valid, n_invalid) == (0, 0, 0) {
        return Ok(Next::EndMark);
    }
    let wrong = |what| Err(Malformed { at: start, what });
    if n_valid == 0 && n_invalid == 0 {
        return wrong(format!("the record at slot {index:#x} names no slot"));
    }
    if header.end() > slots {
        return wrong(format!(
            "the record names {n_valid} valid and {n_invalid} invalid slots from {index:#x}, the table has {slots:#x}"
        ));
    }
    let wanted = usize::from(n_valid) * ENTRY_BYTES;
    if records.try_reserve(HEADER_BYTES + wanted).is_err() {
        return wrong(format!(
            "not enough memory for more than {} bytes of records",
            records.len()
        ));
    }
    records.extend_from_slice(&header.encode(ByteOrder::Big));
    let body = records.len();
    records.resize(body + wanted, 0);
    let entries = records.get_mut(body..).unwrap_or_default();
    source.take_all(entries, "a record's entries")?;
    for (number, entry) in entries_of(entries).enumerate() {
        if !entry.is_valid() {
            return Err(Malformed {
                at: start + (HEADER_BYTES + number * ENTRY_BYTES) as u64,
                what: format!(
                    "the entry of slot {:#x} stands in a valid run and is not valid (dword 0 {:016x})",
                    u64::from(index) + number as u64,
                    entry.dw0
                ),
            });
        }
    }
    Ok(Next::Record(header))
}

/// The entries that a run of bytes holds.
pub fn entries_of(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.as_chunks().0.iter().copied().map(Entry::decode)
}

/// Checks every record in `records`, with big-endian headers, and shows each to `show`: its offset, its header and
/// its entries.
pub fn for_each_record(
    records: &[u8],
    slots: u64,
    mut show: impl FnMut(u64, Header, &[u8]),
) -> Result<(), Malformed> {
    let mut source = Source::new(records, u64::MAX);
    let mut record = Vec::new();
    loop {
        let at = source.at();
        record.clear();
        match read_record(&mut source, ByteOrder::Big, slots, &mut record)? {
            Next::Record(header) => {
                show(at, header, record.get(HEADER_BYTES..).unwrap_or_default())
            }
            Next::EndMark => {
                return Err(Malformed {
                    at,
                    what: "a header of zeros among the records".into(),
                });
            }
            Next::End => return Ok(()),
        }
    }
}
