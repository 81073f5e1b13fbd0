//! Holds the engine to what Linux's KVM-HV answered, case by case (`tests/data/kvm-oracle`, `kvm-streams`).
//!
//! The rule: our answer is Linux's. An errno is H_PARAMETER or H_BUSY here, a count of bytes a count of bytes,
//! and the table afterwards is the same in every slot, in the format of POWER8 and in that of POWER9, each
//! against the answers of its own host. Where it is another answer the case stands in [`OTHERWISE`] with the
//! reason and with what is right; a case that is in neither fails the test, and so does a row without a case.
#![allow(clippy::cast_possible_truncation, reason = "a test fails by panicking")]

mod common;

use common::corpus::{bytes, number, unhex};
use common::stream::{Header, Image, Record, Said, apply, decode, differences, encode, records_of, said};
use common::world::{AGENT, BUFFER_SIZE, CLIENT, CLIENT_HOST, Spec, Store, World};
use realhpt::hcall::abi::{self, OpenFlags, Status};
use realhpt::table::{Format, Order};
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
    const OVERREAD: &str = "section 6: Linux forgets the header and reads 8 bytes beyond the buffer";
    const ORDER: &str = "the host had not the memory; which orders exist is the same";
    const ALWAYS: &str = "a partition has its table from the beginning";
    const TINY: &str = "section 6: a buffer under 24 bytes is H_PARAMETER, not clean";
    const EXACT: &str = "section 6: a buffer that fits exactly is filled";
    const START: &str = "section 6: a start index out of range is H_PARAMETER, not an empty first pass";
    const STOLEN: &str = "section 6: readers do not steal each other's changes";
    const RESET: &str = "section 6: a reader of a table that was reset gets H_CLOSED";
    const CALLS: &str = "issue 3: H_CLEAR_REF and H_CLEAR_MOD are not there yet";
    &[
        ("A05", ORDER, Elsewhere),
        ("A06", ORDER, Elsewhere),
        ("A07", ORDER, Elsewhere),
        ("F06", "there is no file position", Elsewhere),
        ("N01", ALWAYS, Elsewhere),
        ("N02", ALWAYS, Elsewhere),
        ("N03", ALWAYS, Elsewhere),
        ("N04", ALWAYS, Elsewhere),
        ("W01", "the ABI: less than a header is H_PARAMETER", Here(Status::Parameter, 0)),
        ("W13", LONGER, Image(56, "040000000300f93f400000456789008100000000000011924000004567890081000000000000219240000045678900810000000000003192")),
        ("W15", OVERREAD, Image(56, "040000000300f93f400000456789008100000000000011924000004567890081000000000000219240000045678900810000000000003192")),
        ("W18", MANY, Image(48, "04000000010000004000004567890081000000000000119210000000010000004000004567890081000000000000 2192")),
        ("W20", "section 6: the second header is read, and refused", Here(Status::Parameter, 24)),
        ("W22d", MANY, Image(48, "04000000010000000000010002000401000000000000119210000000010000004000004567890081000000000000 3192c80000000100000040000045678900810000000000002192")),
        ("E14c", "section 4: Linux maps a 16M page whose host address is not aligned to it", Here(Status::Parameter, 8)),
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
        ("d03", "section 6: H_READ of a removed entry is zero, Linux leaks a real address", Elsewhere),
        ("c01", CALLS, Elsewhere),
        ("c03", CALLS, Elsewhere),
        ("c04", CALLS, Elsewhere),
        ("c05", CALLS, Elsewhere),
        ("c06", CALLS, Elsewhere),
        ("c07", CALLS, Elsewhere),
        ("c08", CALLS, Elsewhere),
        ("z01", "Linux asks userspace about an unknown call; we say H_FUNCTION", Elsewhere),
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
    OTHERWISE.iter().find(|row| row.0 == case || row.0 == group).map(|row| row.2)
}

fn cases(file: &str) -> Vec<(String, Value)> {
    let parsed: Value = serde_json::from_slice(&bytes(file)).unwrap();
    let Value::Object(cases) = parsed else { panic!("{file} is not an object") };
    cases.into_iter().collect()
}

/// A case's answer on one host; the first host's where the others do not differ.
fn on<'c>(case: &'c Value, host: &str) -> &'c Value {
    case.get(host).or_else(|| case.get("p9hash")).unwrap_or_else(|| panic!("no answer: {case}"))
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

/// The memory of the virtual machine that was asked: 64K pages at 0, huge pages at 0x1000_0000, transparent
/// huge pages at 0x6000_0000, and at 0x7000_0000 such that are not aligned as the guest sees them. Where it
/// had no memory slot, no pages or read-only ones the guest sees the same as without memory here.
const STREAM_MEMORY: [(u64, u64, u64); 4] = [
    (0, CLIENT_HOST + 0x1_0000, 32 << 20),
    (0x1000_0000, CLIENT_HOST + 0x1000_0000, 32 << 20),
    (0x6000_0000, CLIENT_HOST + 0x6000_0000, 32 << 20),
    (0x7000_0000, CLIENT_HOST + 0x7051_0000, 32 << 20),
];

fn stream_store() -> Store {
    Store::new(&[Spec::agent(), Spec::client(18).with_regions(&STREAM_MEMORY)])
}

#[test]
fn every_row_of_the_table_of_reasons_is_about_a_case() {
    let mut known: Vec<String> = Vec::new();
    for file in ["kvm-oracle/stream-cases.json.xz", "kvm-oracle/hcall-cases.json.xz"] {
        known.extend(cases(file).into_iter().map(|(name, _)| name));
    }
    for (row, reason, _) in OTHERWISE {
        let about = |case: &String| case == row || case.split('.').next() == Some(row);
        assert!(known.iter().any(about), "no case {row}");
        assert!(!reason.is_empty());
    }
}

#[test]
fn opening_and_orders_are_as_linux_has_them() {
    let store = stream_store();
    let world = World::new(&store, Format::V3_0);
    let open = |flags, start| {
        let call = world.call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), flags, start]);
        if call.status() == Status::Success {
            assert_eq!(world.close(call.out[0]), Status::Success);
        }
        call.status()
    };
    let mut asked = 0;
    for (name, case) in cases("kvm-oracle/stream-cases.json.xz") {
        let answer = on(&case, "p9hash");
        let description = text(answer, "desc");
        let succeeded = !text(answer, "ret").starts_with("-1");
        let ours = match name.as_bytes()[0] {
            b'A' => {
                let order = description.rsplit(' ').next().unwrap().parse().unwrap();
                if otherwise(&name).is_some() {
                    assert!(Order::new(order).is_some(), "{name}: {description}");
                    continue;
                }
                Order::new(order).is_some()
            }
            b'F' if otherwise(&name).is_some() => continue,
            b'F' => {
                let status = match name.as_str() {
                    "F00" => open(WRITE, 0),
                    "F01" => open(4, 0),
                    "F02" => open(WRITE | BOLTED_ONLY, 0),
                    "F03" => open(1 << 63, 0),
                    // Registers that are no arguments stand for the reserved fields: they hold junk.
                    "F08" => open(0, 0),
                    "F04" => {
                        let handle = world.open(CLIENT, WRITE, 0);
                        let read = world.read(handle, BUFFER_SIZE).unwrap_err();
                        assert_eq!(world.close(handle), Status::Success);
                        read
                    }
                    _ => panic!("{name} is new: {description}"),
                };
                if status != Status::Success {
                    assert_eq!(status, Status::Parameter, "{name}");
                }
                status == Status::Success
            }
            _ => continue,
        };
        assert_eq!(ours, succeeded, "{name}: {description}");
        asked += 1;
    }
    assert_eq!(asked, 3 + 6);
}

#[test]
fn each_write_is_answered_and_done_as_linux_does() {
    let mut asked = 0;
    for (format, host) in FORMATS {
        let store = stream_store();
        let world = World::new(&store, format);
        let mut fresh = true;
        for (name, case) in cases("kvm-oracle/stream-cases.json.xz") {
            if !matches!(name.as_bytes()[0], b'W' | b'E') {
                continue;
            }
            let answer = on(&case, host);
            let description = text(answer, "desc");
            if !fresh {
                assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
            }
            let mut buffer = turned(&stream_bytes(text(answer, "in_hex")));
            buffer.truncate(text(answer, "in_len").parse().unwrap());
            let handle = world.open(CLIENT, WRITE, 0);
            let (status, consumed, bad) = world.write(handle, &buffer);
            let _ = world.close(handle);
            let linux = image_of(&linux_said(&stream_bytes(text(answer, "out"))));
            let ours = world.image(CLIENT);
            let count = text(answer, "ret").parse::<i64>().unwrap();
            match otherwise(&name) {
                None if count < 0 => {
                    assert_eq!(status, Status::Parameter, "{name}: {description}");
                    assert_ne!(bad, u64::MAX, "{name}: the index of what is bad");
                    assert_eq!(differences(&ours, &linux), [""; 0], "{name}: {description}");
                }
                None => {
                    let count = u64::try_from(count).unwrap();
                    assert_eq!((status, consumed, bad), (Status::Success, count, u64::MAX), "{name}");
                    assert_eq!(differences(&ours, &linux), [""; 0], "{name}: {description}");
                }
                Some(Ours::Here(expected, bytes)) => {
                    assert_eq!(status, expected, "{name}: {description}");
                    if bad != u64::MAX && status == Status::Parameter && !buffer.is_empty() {
                        assert_eq!(consumed, bytes, "{name}");
                    }
                    let expected = if count > bytes as i64 { Image::new() } else { linux };
                    assert_eq!(differences(&ours, &expected), [""; 0], "{name}: {description}");
                }
                Some(Ours::Image(bytes, expected)) => {
                    assert_eq!((status, consumed, bad), (Status::Success, bytes, u64::MAX), "{name}");
                    let records = decode(&stream_bytes(expected), Header::Little).unwrap();
                    let mut expected = Image::new();
                    apply(&mut expected, said(&records));
                    assert_eq!(differences(&ours, &expected), [""; 0], "{name}: {description}");
                }
                Some(Ours::Elsewhere) => panic!("{name} has to be said here"),
            }
            asked += 1;
            fresh = description.starts_with("(setup)");
        }
    }
    assert_eq!(asked, 2 * 64);
}

/// The table of five entries that Linux was read from, as the first pass shows it.
fn five_entries(world: &World<'_>) {
    let entry = |v: u64, r: u64| (0x4000_0045_6789_0000 | v, r);
    let image = Image::from([
        (0, entry(0x81, 0x1192)),
        (1, entry(0x91, 0x2192)),
        (2, entry(0x83, 0x3192)),
        (8, entry(0x85, 0x21192)),
        (0x3fff, entry(0x91, 0x5192)),
    ]);
    world.restore(CLIENT, &encode(&records_of(&image, 0x4000)));
}

/// Writes one slot of the client's: an entry, or nothing there.
fn rewrite(world: &World<'_>, slot: u32, entry: Option<(u64, u64)>) {
    let record = Record {
        index: slot,
        valid: entry.into_iter().collect(),
        invalid: u16::from(entry.is_none()),
    };
    world.restore(CLIENT, &encode(&[record]));
}

/// A reader of the cases: what Linux's reader was told at each read, and what ours is in each pass.
#[test]
fn each_read_tells_what_linux_tells() {
    const ENTRY: (u64, u64) = (0x4000_0045_6789_0081, 0x1192);
    let all: std::collections::BTreeMap<String, Value> =
        cases("kvm-oracle/stream-cases.json.xz").into_iter().collect();
    let reads = |group: &str| -> Vec<(usize, Vec<Said>)> {
        all.iter()
            .filter(|(name, _)| name.split('.').next() == Some(group))
            .map(|(name, case)| {
                let number = name.split('.').nth(1).unwrap().parse().unwrap();
                (number, linux_said(&stream_bytes(text(on(case, "p9hash"), "out"))))
            })
            .collect()
    };
    let length = |group: &str| -> u64 {
        let (_, case) = all.iter().find(|(name, _)| name.split('.').next() == Some(group)).unwrap();
        text(on(case, "p9hash"), "in_len").parse().unwrap()
    };
    let mut groups: Vec<&str> = all
        .keys()
        .filter(|name| matches!(name.as_bytes()[0], b'R' | b'M'))
        .map(|name| name.split('.').next().unwrap())
        .collect();
    groups.dedup();
    for (format, _) in FORMATS {
        let store = stream_store();
        let world = World::new(&store, format);
        five_entries(&world);
        let whole = world.image(CLIENT);
        let open = |flags, start| world.open(CLIENT, flags, start);
        // The passes of R21 to R26 are one reader's, as are those of R30 and R31, and of R50 to R54.
        let main = open(0, 0);
        let bolted = open(BOLTED_ONLY, 0);
        let mut later = world.open(CLIENT, 0, 0);
        let check = |group: &str, number: usize, said: &[Said]| {
            for (read, linux) in reads(group) {
                if read == number {
                    assert_eq!(said, linux, "{group}.{read}, {format:?}");
                }
            }
        };
        let said_by = |handle: u64| -> (Vec<Said>, bool) {
            let pass = world.pass(handle, BUFFER_SIZE);
            (said(&pass.records).collect(), pass.clean)
        };
        for &group in &groups {
            let linux = reads(group);
            match group {
                "R00" | "R01" | "R02" | "R03" | "R04" => {
                    assert!(linux.iter().all(|(_, said)| said.is_empty()));
                    let handle = open(0, 0);
                    assert_eq!(world.read(handle, length(group)), Err(Status::Parameter), "{group}");
                    assert_eq!(said_by(handle).0.len(), 0x4000, "nothing was lost by it");
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R05" => {
                    let handle = open(0, 0);
                    assert_eq!(world.read(handle, 24).unwrap().bytes.len(), 24);
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R06" | "R07" | "R08" | "R09" | "R10" | "R11" | "R12" | "R13" | "R20" => {
                    // Where Linux's buffer ends a record, ours may hold one entry more: the pass as a whole
                    // is compared.
                    let handle = open(0, 0);
                    let pass = world.pass(handle, length(group));
                    let ours: Vec<Said> = said(&pass.records).collect();
                    assert_eq!(image_of(&ours), whole, "{group}");
                    assert_eq!(ours.len(), 0x4000, "{group}");
                    for (slot, entry) in linux.into_iter().flat_map(|(_, said)| said) {
                        assert_eq!(ours[slot as usize], (slot, entry), "{group}");
                    }
                    assert_eq!(said_by(handle), (vec![], true), "{group}");
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R21" => {
                    for number in 1..=3 {
                        let (ours, clean) = said_by(main);
                        assert_eq!(clean, number > 1);
                        check(group, number, &ours);
                    }
                }
                "R22" | "R23" | "R24" | "R25" | "R26" => {
                    match group {
                        "R22" => rewrite(&world, 0, None),
                        "R23" => rewrite(&world, 1, Some((0x4000_0045_6789_0091, 0x2192))),
                        "R24" => {
                            let run = Record { index: 100, valid: vec![], invalid: 50 };
                            world.restore(CLIENT, &encode(&[run]));
                        }
                        "R25" => {
                            rewrite(&world, 5, Some(ENTRY));
                            rewrite(&world, 5, None);
                        }
                        _ => {
                            rewrite(&world, 1, None);
                            rewrite(&world, 2, Some(ENTRY));
                            rewrite(&world, 3, Some(ENTRY));
                        }
                    }
                    for number in 1..=2 {
                        check(group, number, &said_by(main).0);
                    }
                }
                "R30" => {
                    // The table is the one of five entries again.
                    for slot in 0..16 {
                        rewrite(&world, slot, None);
                    }
                    five_entries(&world);
                    for number in 1..=3 {
                        check(group, number, &said_by(bolted).0);
                    }
                }
                "R31" => {
                    rewrite(&world, 0, Some(ENTRY));
                    assert_eq!(said_by(bolted).0, [(0, None)], "not bolted: shown as invalid");
                    check(group, 2, &said_by(bolted).0);
                }
                "R40" | "R41" | "R42" | "R43" => {
                    let start = match group {
                        "R40" => 1,
                        "R41" => 3,
                        "R42" => 8,
                        _ => 16383,
                    };
                    let handle = open(0, start);
                    for number in 1..=3 {
                        check(group, number, &said_by(handle).0);
                    }
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R44" | "R45" => {
                    for start in [16384, 20000] {
                        let call = world.call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), 0, start]);
                        assert_eq!(call.status(), Status::Parameter);
                    }
                }
                "R50" | "R51" => {
                    let handle = if group == "R50" { main } else { later };
                    let _ = (group == "R50").then(|| said_by(main));
                    if group == "R51" {
                        assert_eq!(image_of(&said_by(handle).0), whole, "its own first pass");
                    }
                    check(group, 2, &said_by(handle).0);
                }
                "R52" => {
                    rewrite(&world, 1, Some((0x4000_0045_6789_0091, 0xa192)));
                    check(group, 1, &said_by(main).0);
                }
                "R53" => {
                    let changed = (1, Some((0x4000_0045_6789_0091, 0xa192)));
                    assert_eq!(said_by(later).0, [changed], "the second reader sees it too");
                }
                "R54" => {
                    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
                    assert_eq!(world.read(later, BUFFER_SIZE), Err(Status::Closed));
                    assert_eq!(world.close(later), Status::Success);
                    later = open(0, 0);
                    assert_eq!(image_of(&said_by(later).0), Image::new());
                }
                "M01" => {
                    five_entries(&world);
                    let handle = open(0, 0);
                    check(group, 1, &said_by(handle).0);
                    assert_eq!(world.close(handle), Status::Success);
                }
                _ => panic!("{group} is new"),
            }
        }
    }
}

#[test]
fn an_empty_table_and_a_running_partition_are_as_with_linux() {
    let store = Store::pair(22);
    let world = World::new(&store, Format::V3_0);
    for (name, case) in cases("kvm-oracle/stream-cases.json.xz") {
        let answer = on(&case, "p9hash");
        if name == "C01" {
            let handle = world.open(CLIENT, 0, 0);
            let ours = world.pass(handle, 65536).records;
            let linux = decode(&unhex(text(answer, "out")), Header::Little).unwrap();
            assert!(said(&ours).eq(said(&linux)), "{ours:?}");
            assert!(ours.iter().chain(&linux).all(|record| record.valid.is_empty()));
            assert_eq!(world.close(handle), Status::Success);
        }
        if name.starts_with('B') {
            assert!(format!("{answer}").contains("EBUSY"), "{answer}");
        }
    }
    let handle = world.open(CLIENT, WRITE, 0);
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    assert_eq!(world.write(handle, &[0; 8]).0, Status::Busy);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Busy);
}

/// The memory of the virtual machine whose guest made the hypercalls: 64 MiB of 64K pages.
const HCALL_MEMORY: [(u64, u64, u64); 1] = [(0, CLIENT_HOST + 0x1_0000, 64 << 20)];

/// Calls that were made between the cases that are kept.
const BETWEEN: &[(&str, u64, &[u64])] = &[
    ("h03.5", abi::H_ENTER, &[0, 0x1000, 0x4000_0001_0000_0201, 0x12112]),
    ("h05", abi::H_ENTER, &[0, 0x1000, 0x4000_0001_0000_0301, 0x12112]),
    ("h05", abi::H_ENTER, &[0, 0x1000, 0x4000_0001_0000_0381, 0x12112]),
    ("h13", abi::H_ENTER, &[1 << 39, 0x1010, 0x4000_0001_0000_0001, 0x13112]),
    ("h20", abi::H_ENTER, &[1 << 39, 0x1040, 0x4000_0001_0000_001b, 0x16112]),
    // A key of all ones came between p05 and p07, and went.
];

fn token(name: &str) -> Option<(u64, usize)> {
    // The token, and how many of the registers from r4 on the call answers in.
    Some(match name {
        "H_ENTER" => (abi::H_ENTER, 1),
        "H_REMOVE" => (abi::H_REMOVE, 2),
        "H_READ" => (abi::H_READ, 8),
        "H_PROTECT" => (abi::H_PROTECT, 0),
        "H_BULK_REMOVE" => (abi::H_BULK_REMOVE, 8),
        _ => return None,
    })
}

/// `[1000 nv1 ni0 v/r]`...: what a reader was told.
fn told(text: &str) -> Vec<Said> {
    let mut said = Vec::new();
    for record in text.split(']').filter_map(|record| record.strip_prefix('[')) {
        let mut words = record.split(' ');
        let mut slot = number(words.next().unwrap());
        let valid: u64 = words.next().unwrap().strip_prefix("nv").unwrap().parse().unwrap();
        let invalid: u64 = words.next().unwrap().strip_prefix("ni").unwrap().parse().unwrap();
        for _ in 0..valid {
            let (v, r) = words.next().unwrap().split_once('/').unwrap();
            said.push((slot, Some((number(v) & !LEAKED_LOCK, number(r)))));
            slot += 1;
        }
        said.extend((slot..slot + invalid).map(|slot| (slot, None)));
    }
    said
}

#[test]
fn each_hypercall_is_answered_as_linux_does() {
    for (format, host) in FORMATS {
        let store = Store::new(&[Spec::agent(), Spec::client(18).with_regions(&HCALL_MEMORY)]);
        let world = World::new(&store, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        // They were asked in this order: enter, read, protect, remove, bulk remove, the rest.
        let mut all = cases("kvm-oracle/hcall-cases.json.xz");
        all.sort_by_key(|(name, _)| "hrpdbcz".find(name.as_bytes()[0] as char).unwrap());
        let mut asked = 0;
        for (name, case) in all {
            let case = on(&case, host).as_array().unwrap();
            let [what, call, arguments, status, out, delta] =
                std::array::from_fn(|at| case[at].as_str().unwrap());
            for (_, token, arguments) in BETWEEN.iter().filter(|(before, ..)| *before == name) {
                assert_eq!(world.call(CLIENT, *token, arguments).status(), Status::Success);
                let _ = world.pass(reader, BUFFER_SIZE);
            }
            let arguments: Vec<u64> = arguments.split(',').map(number).collect();
            let Some((token, results)) = token(call) else {
                assert!(otherwise(&name).is_some(), "{name} is new");
                if call == "?" {
                    let answer = world.call(CLIENT, 0x3c0, &arguments);
                    assert_eq!(answer.status(), Status::Function, "{name}");
                    assert_eq!(answer.out[..3], arguments, "{name}: registers stay");
                }
                continue;
            };
            if otherwise(&name).is_some() && name != "d03" {
                continue;
            }
            asked += 1;
            let answer = world.call(CLIENT, token, &arguments);
            let expected = status.parse::<i64>().unwrap().cast_unsigned();
            assert_eq!(answer.raw, expected, "{name}: {what}");
            let mut expected: Vec<u64> =
                out.split(',').filter(|word| !word.is_empty()).map(number).collect();
            if name == "d03" {
                expected = vec![0, 0];
            }
            // What is not shown has stayed as it was.
            assert!(expected.len() <= results.max(2), "{name}");
            assert_eq!(answer.out[..expected.len()], expected, "{name}: {what}");
            // Linux's own VRMA entries came with the first case.
            let told = if name == "h00" { vec![] } else { told(delta) };
            let pass: Vec<Said> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
            assert_eq!(pass, told, "{name}: {what}");
        }
        assert_eq!(asked, 54);
    }
}

fn linux_stream(name: &str) -> Vec<Said> {
    linux_said(&bytes(&format!("kvm-streams/{name}.htab.xz")))
}

/// A whole table written, pass 1 read back, some entries rewritten, the next pass: as Linux has them.
#[test]
fn tables_written_and_rewritten_come_back_as_from_linux() {
    for (format, _) in FORMATS {
        for (name, backed) in [
            ("o22_0010_mixed_present", true),
            ("o22_0125_mixed_present", true),
            ("o22_0125_mixed_absent", false),
        ] {
            let memory = [(0, 1 << 40, 1 << 36)];
            let regions = if backed { &memory[..] } else { &[] };
            let store = Store::new(&[Spec::agent(), Spec::client(22).with_regions(regions)]);
            let world = World::new(&store, format);
            let write = |kind: &str| {
                let linux = bytes(&format!("kvm-streams/{kind}_{name}.htab.xz"));
                world.restore(CLIENT, &turned(&linux));
            };
            write("in");
            let reader = world.open(CLIENT, 0, 0);
            let first: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
            assert!(first == linux_stream(&format!("out1_{name}")), "{name}: the first pass");
            write("rew4");
            let later: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
            assert!(later == linux_stream(&format!("out4_{name}")), "{name}: the pass after");
            assert!(!later.is_empty());
            let clean = world.pass(reader, 65536);
            assert_eq!((clean.records.len(), clean.clean, clean.pending), (0, true, 0));
        }
    }
}

/// A guest entered pages (phase 1), then loaded from half of them and stored to the others (phase 2): the
/// reader is told of the entries, then of the R and C that hardware set.
#[test]
fn what_a_guest_entered_and_touched_comes_as_from_linux() {
    for (format, _) in FORMATS {
        let store = Store::pair(22);
        let world = World::new(&store, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, 65536);
        let entered = linux_stream("hc_phase1_B_read0");
        let touched = linux_stream("hc_phase2_C_read0");
        for &(slot, entry) in &entered {
            let (v, r) = entry.unwrap();
            world.call(CLIENT, abi::H_ENTER, &[1 << 39, slot, v, r]).ok();
        }
        let pass: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
        assert!(pass == entered, "phase 1");
        for &(slot, entry) in &touched {
            let (_, r) = entry.unwrap();
            world.client().table().hpt()[2 * slot as usize + 1].set_bits(r & 0x180);
        }
        let pass: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
        assert!(pass == touched, "phase 2");
        assert!(world.pass(reader, 65536).clean);
    }
}
