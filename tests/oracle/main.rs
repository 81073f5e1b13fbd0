//! Holds the engine to what Linux's KVM-HV answered, case by case (`tests/data/kvm-oracle`, `kvm-streams`).
//!
//! The rule: our answer is Linux's. An errno is H_PARAMETER or H_BUSY here, a count of bytes a count of bytes,
//! and the table afterwards is the same in every slot, in the format of POWER8 and in that of POWER9, each
//! against the answers of its own host. Where it is another answer the case stands in [`OTHERWISE`] with the
//! reason and with what is right; a case that is in neither fails the test, and so does a row without a case.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod descriptor;
mod hcalls;
mod reads;
mod tables;

use common::corpus::{bytes, unhex};
use common::stream::{Header, Image, Said, apply, decode, said};
use realhpt::hcall::abi::{OpenFlags, Status};
use realhpt::table::Format;
use serde_json::Value;

const FORMATS: [(Format, &str); 2] = [(Format::V2_07, "p8hash"), (Format::V3_0, "p9hash")];

/// The lock bit of Linux, which shows in its stream.
const LEAKED_LOCK: u64 = 0x40;

const WRITE: u64 = OpenFlags::WRITE.bits();

const BOLTED_ONLY: u64 = OpenFlags::BOLTED_ONLY.bits();

/// What is done otherwise than by Linux: the case, why, and what the answer is.
const OTHERWISE: &[(&str, &str, Ours)] = {
    use Ours::{Elsewhere, Here, Image};
    const MANY: &str = "section 6: any number of records per write; Linux misparses the second";
    const LONGER: &str = "section 6: a record may be longer than the buffer; Linux stops before it";
    const OVERREAD: &str =
        "section 6: Linux forgets the header and reads 8 bytes beyond the buffer";
    const ORDER: &str = "the host had not the memory; which orders exist is the same";
    const ALWAYS: &str = "a partition has its table from the beginning";
    const TINY: &str = "section 6: a buffer under 24 bytes is H_PARAMETER, not clean";
    const EXACT: &str = "section 6: a buffer that fits exactly is filled";
    const START: &str =
        "section 6: a start index out of range is H_PARAMETER, not an empty first pass";
    const STOLEN: &str = "section 6: readers do not steal each other's changes";
    const RESET: &str = "section 6: a reader of a table that was reset gets H_CLOSED";
    &[
        ("A05", ORDER, Elsewhere),
        ("A06", ORDER, Elsewhere),
        ("A07", ORDER, Elsewhere),
        ("F06", "there is no file position", Elsewhere),
        ("N01", ALWAYS, Elsewhere),
        ("N02", ALWAYS, Elsewhere),
        ("N03", ALWAYS, Elsewhere),
        ("N04", ALWAYS, Elsewhere),
        (
            "W01",
            "the ABI: less than a header is H_PARAMETER",
            Here(Status::Parameter, 0),
        ),
        (
            "W13",
            LONGER,
            Image(
                56,
                "040000000300f93f400000456789008100000000000011924000004567890081000000000000219240000045678900810000000000003192",
            ),
        ),
        (
            "W15",
            OVERREAD,
            Image(
                56,
                "040000000300f93f400000456789008100000000000011924000004567890081000000000000219240000045678900810000000000003192",
            ),
        ),
        (
            "W18",
            MANY,
            Image(
                48,
                "04000000010000004000004567890081000000000000119210000000010000004000004567890081000000000000 2192",
            ),
        ),
        (
            "W20",
            "section 6: the second header is read, and refused",
            Here(Status::Parameter, 24),
        ),
        (
            "W22d",
            MANY,
            Image(
                48,
                "04000000010000000000010002000401000000000000119210000000010000004000004567890081000000000000 3192c80000000100000040000045678900810000000000002192",
            ),
        ),
        (
            "E14c",
            "section 4: Linux maps a 16M page whose host address is not aligned to it",
            Here(Status::Parameter, 8),
        ),
        ("R00", TINY, Elsewhere),
        ("R01", TINY, Elsewhere),
        ("R02", TINY, Elsewhere),
        ("R03", TINY, Elsewhere),
        ("R04", TINY, Elsewhere),
        ("R05", EXACT, Elsewhere),
        ("R44", START, Elsewhere),
        ("R45", START, Elsewhere),
        ("R53", STOLEN, Elsewhere),
        ("R54", RESET, Elsewhere),
        (
            "d03",
            "section 6: H_READ of a removed entry is zero, Linux leaks a real address",
            Elsewhere,
        ),
        (
            "c01",
            "Linux asks userspace about H_CLEAR_MOD until it is told to answer itself; we answer",
            Elsewhere,
        ),
        (
            "z01",
            "Linux asks userspace about an unknown call; we say H_FUNCTION",
            Elsewhere,
        ),
    ]
};

/// What our answer is where it is not Linux's.
#[derive(Clone, Copy, Debug)]
enum Ours {
    /// A write: the status and the bytes consumed; the table is as Linux left it or, if that is not what we
    /// refused, without it.
    Here(Status, u64),
    /// A write that succeeds: bytes consumed, and the table afterwards as records.
    Image(u64, &'static str),
    /// Asserted where the group of cases is.
    Elsewhere,
}

fn otherwise(case: &str) -> Option<Ours> {
    let group = case.split('.').next().unwrap();
    OTHERWISE
        .iter()
        .find(|row| row.0 == case || row.0 == group)
        .map(|row| row.2)
}

fn cases(file: &str) -> Vec<(String, Value)> {
    let parsed: Value = serde_json::from_slice(&bytes(file)).unwrap();
    let Value::Object(cases) = parsed else {
        panic!("{file} is not an object")
    };
    cases.into_iter().collect()
}

/// A case's answer on one host; the first host's where the others do not differ.
fn on<'c>(case: &'c Value, host: &str) -> &'c Value {
    case.get(host)
        .or_else(|| case.get("p9hash"))
        .unwrap_or_else(|| panic!("no answer: {case}"))
}

fn text<'c>(answer: &'c Value, key: &str) -> &'c str {
    answer[key].as_str().unwrap()
}

/// Bytes of a stream given in hex; `-` stands for none.
fn stream_bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
    unhex(&digits)
}

/// What Linux's stream says, without its lock bit.
fn linux_said(bytes: &[u8]) -> Vec<Said> {
    let records = decode(bytes, Header::Little).unwrap();
    said(&records)
        .map(|(slot, entry)| (slot, entry.map(|(v, r)| (v & !LEAKED_LOCK, r))))
        .collect()
}

fn image_of(said: &[Said]) -> Image {
    let mut image = Image::new();
    apply(&mut image, said.iter().copied());
    image
}

/// The headers of a stream turned from Linux's byte order into ours; what is not a whole record is taken along
/// as it is.
fn turned(linux: &[u8]) -> Vec<u8> {
    let mut ours = linux.to_vec();
    let mut at = 0;
    while let Some(header) = ours.get_mut(at..at + 8) {
        header[..4].reverse();
        header[4..6].reverse();
        header[6..].reverse();
        at += 8 + 16 * usize::from(u16::from_be_bytes([header[4], header[5]]));
    }
    ours
}

#[test]
fn every_row_of_the_table_of_reasons_is_about_a_case() {
    let mut known: Vec<String> = Vec::new();
    for file in [
        "kvm-oracle/stream-cases.json.xz",
        "kvm-oracle/hcall-cases.json.xz",
    ] {
        known.extend(cases(file).into_iter().map(|(name, _)| name));
    }
    for (row, reason, _) in OTHERWISE {
        let about = |case: &String| case == row || case.split('.').next() == Some(row);
        assert!(known.iter().any(about), "no case {row}");
        assert!(!reason.is_empty());
    }
}
