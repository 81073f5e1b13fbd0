//! Files that are not what they claim, and files whose format is not given.

use std::path::Path;

use super::super::formats::{self, Format, Table, load, save};
use super::super::record::{ByteOrder, Entry, Source};
use super::record;

const ENTRY: Entry = Entry {
    dw0: 0x4000_1234_5678_9a05,
    dw1: 0x0000_0000_0123_4196,
};
const SLOTS: u64 = 1 << 14;

/// A qemu file of order 18 with these pieces after the order.
fn qemu(pieces: &[&[u8]]) -> Vec<u8> {
    [&18_u32.to_be_bytes()[..]]
        .into_iter()
        .chain(pieces.iter().copied())
        .flatten()
        .copied()
        .collect()
}

const HEAD: &[u8] = &[0; 4];
const END: &[u8] = &[0; 8];

/// Loads `bytes` from a file of this name and gives the table or the error's one line after the file's name.
fn load_bytes(
    name: &str,
    bytes: &[u8],
    format: Option<Format>,
    order: Option<u32>,
) -> Result<Table, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    load_path(&path, format, order)
}

fn load_path(path: &Path, format: Option<Format>, order: Option<u32>) -> Result<Table, String> {
    load(path, format, order).map_err(|error| {
        let line = error.to_string();
        assert_eq!(
            line,
            format!("{error:#}"),
            "the whole error is in its outermost line"
        );
        assert!(!line.contains('\n'), "{line:?} is one line");
        line.strip_prefix(&format!("{}: ", path.display()))
            .expect("the line names the file")
            .into()
    })
}

#[track_caller]
fn refused(bytes: &[u8], format: Format, order: Option<u32>, line: &str) {
    let expected = format!("no {format} table: {line}");
    assert_eq!(
        load_bytes("t.htab", bytes, Some(format), order),
        Err(expected)
    );
}

#[test]
fn a_qemu_file_with_a_flaw_is_refused_with_its_place() {
    let one = record(7, &[ENTRY], 0);
    let cases: &[(Vec<u8>, &str)] = &[
        (
            vec![],
            "at byte 0: the input ends, 4 bytes of the table's order are missing",
        ),
        (
            vec![0, 0],
            "at byte 2: the input ends, 2 bytes of the table's order are missing",
        ),
        (
            vec![0xff; 4],
            "at byte 0: the guest used radix translation, there is no hashed table",
        ),
        (vec![0, 0, 0, 17], "at byte 0: order 17: orders are 18..=46"),
        (vec![0, 0, 0, 47], "at byte 0: order 47: orders are 18..=46"),
        (
            vec![0x80, 0, 0, 18],
            "at byte 0: order 2147483666: orders are 18..=46",
        ),
        (qemu(&[]), "at byte 4: there is no section"),
        (
            qemu(&[&[0, 0]]),
            "at byte 6: the input ends, 2 bytes of a section's head are missing",
        ),
        (
            qemu(&[&[0, 0, 0, 22]]),
            "at byte 4: a section begins with 0x16, not with 0",
        ),
        (
            qemu(&[HEAD, END, &[0xff; 4]]),
            "at byte 16: the guest gave its hashed table up here, for radix translation",
        ),
        (
            qemu(&[HEAD]),
            "at byte 8: the input ends, the section has no end mark",
        ),
        (
            qemu(&[HEAD, &one]),
            "at byte 32: the input ends, the section has no end mark",
        ),
        (
            qemu(&[HEAD, &one[..5]]),
            "at byte 13: the input ends, 3 bytes of a record's header are missing",
        ),
        (
            qemu(&[HEAD, &one[..8]]),
            "at byte 16: the input ends, 16 bytes of a record's entries are missing",
        ),
        (
            qemu(&[HEAD, &one[..23]]),
            "at byte 31: the input ends, 1 bytes of a record's entries are missing",
        ),
        (
            qemu(&[HEAD, &one, END, b"x"]),
            "at byte 41: the input ends, 3 bytes of a section's head are missing",
        ),
        (
            qemu(&[HEAD, &one, END, b"tail"]),
            "at byte 40: a section begins with 0x7461696c, not with 0",
        ),
        (
            qemu(&[HEAD, &record(7, &[], 0), END]),
            "at byte 8: the record at slot 0x7 names no slot",
        ),
        (
            qemu(&[HEAD, &record(SLOTS - 1, &[ENTRY], 1), END]),
            "at byte 8: the record names 1 valid and 1 invalid slots from 0x3fff, the table has 0x4000",
        ),
        (
            qemu(&[HEAD, &[0xff; 8]]),
            "at byte 8: the record names 65535 valid and 65535 invalid slots from 0xffffffff, the table has 0x4000",
        ),
        (
            qemu(&[
                HEAD,
                &record(7, &[ENTRY, Entry { dw0: 0x20, dw1: 0 }], 0),
                END,
            ]),
            "at byte 32: the entry of slot 0x8 stands in a valid run and is not valid (dword 0 0000000000000020)",
        ),
    ];
    for (bytes, line) in cases {
        refused(bytes, Format::Qemu, None, line);
    }
    refused(
        &qemu(&[HEAD, END]),
        Format::Qemu,
        Some(22),
        "at byte 0: the table's order is 18, 22 was given",
    );
}

#[test]
fn a_kvm_file_with_a_flaw_is_refused_with_its_place() {
    let one = record(7, &[ENTRY], 0);
    let order = Some(18);
    for format in [Format::KvmBe, Format::KvmLe] {
        refused(&[], format, order, "at byte 0: there is no record");
        refused(
            END,
            format,
            order,
            "at byte 0: a header of zeros, as in qemu files only",
        );
        refused(
            &[1],
            format,
            order,
            "at byte 1: the input ends, 7 bytes of a record's header are missing",
        );
    }
    refused(
        &[&one[..], END].concat(),
        Format::KvmBe,
        order,
        "at byte 24: a header of zeros, as in qemu files only",
    );
    refused(
        &one,
        Format::KvmLe,
        order,
        "at byte 0: the record names 256 valid and 0 invalid slots from 0x7000000, the table has 0x4000",
    );
}

#[test]
fn an_order_that_is_missing_or_absurd_is_said() {
    let one = record(7, &[ENTRY], 0);
    assert_eq!(
        load_bytes("t", &one, Some(Format::KvmBe), None).unwrap_err(),
        "a kvm-be file does not name its order: it must be given"
    );
    for order in [0, 17, 47, u32::MAX] {
        let error = load(Path::new("t"), Some(Format::KvmBe), Some(order)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a table of order {order}: orders are 18..=46")
        );
        let error = save(
            Path::new("t"),
            Format::KvmBe,
            order,
            std::slice::from_ref(&one),
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a table of order {order}: orders are 18..=46")
        );
    }
}

#[test]
fn the_largest_order_is_taken_up_to_the_last_slot_an_index_can_name() {
    let last = record(u64::from(u32::MAX), &[ENTRY], 0);
    let table = load_bytes("t", &last, Some(Format::KvmBe), Some(46)).unwrap();
    assert_eq!((table.order, table.sections), (46, vec![last]));
}

#[test]
fn a_file_that_cannot_be_opened_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let missing = load_path(&directory.path().join("missing"), None, None).unwrap_err();
    assert_eq!(
        missing,
        "cannot be opened: No such file or directory (os error 2)"
    );
    let itself = load_path(directory.path(), None, None).unwrap_err();
    assert_eq!(itself, "cannot be opened: Is a directory (os error 21)");
    let nowhere = directory.path().join("no/where");
    let line = save(&nowhere, Format::Qemu, 18, &[vec![]])
        .unwrap_err()
        .to_string();
    assert_eq!(
        line,
        format!(
            "{}: cannot be written: No such file or directory (os error 2)",
            nowhere.display()
        )
    );
}

#[test]
fn damaged_compression_is_said() {
    let good = std::fs::read(super::data("qemu-htab/hugetlb1g.htab.xz")).unwrap();
    let table = load_bytes("by-magic", &good, None, None).unwrap();
    assert_eq!(table.order, 23);
    let twice = load_bytes("t.xz", &[&good[..], &good[..]].concat(), None, None).unwrap_err();
    assert!(
        twice.contains("a section begins with 0x17, not with 0"),
        "{twice}"
    );

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (name, bytes) in [
        ("flipped.xz", &flipped[..]),
        ("cut.xz", &good[..good.len() - 1]),
        ("cut-early.xz", &good[..20]),
        ("tail.xz", &[&good[..], b"tail"].concat()),
        ("named.xz", &qemu(&[HEAD, END])),
        ("empty.xz", &[]),
    ] {
        let line = load_bytes(name, bytes, Some(Format::Qemu), None).unwrap_err();
        assert!(
            line.contains("cannot be read: damaged, cut short or not xz ("),
            "{name}: {line}"
        );
    }
}

#[test]
fn the_format_is_found_out() {
    let one = record(7, &[ENTRY], 3);
    let qemu_file = qemu(&[HEAD, &one, END, HEAD, END]);
    let table = load_bytes("t", &qemu_file, None, None).unwrap();
    assert_eq!(
        table,
        Table {
            order: 18,
            sections: vec![one.clone(), vec![]],
            format: Format::Qemu,
            guessed: true
        }
    );
    assert_eq!(
        load_bytes("t", &qemu_file, None, Some(18)).unwrap().format,
        Format::Qemu
    );

    assert_eq!(
        load_bytes("t", &one, None, Some(18)).unwrap().format,
        Format::KvmBe
    );
    let little = [&[7, 0, 0, 0, 1, 0, 3, 0], &one[8..]].concat();
    let table = load_bytes("t", &little, None, Some(18)).unwrap();
    assert_eq!(
        (table.format, table.guessed, table.sections),
        (Format::KvmLe, true, vec![one.clone()])
    );
    assert!(
        !load_bytes("t", &little, Some(Format::KvmLe), Some(18))
            .unwrap()
            .guessed
    );

    assert_eq!(
        load_bytes("t", &one, None, None).unwrap_err(),
        "no qemu table: at byte 0: order 7: orders are 18..=46 (for kvm-le and kvm-be the order must be given)"
    );
    let alike = [0, 0, 0, 0, 0, 0, 1, 1];
    assert_eq!(
        load_bytes("t", &alike, None, Some(18)).unwrap_err(),
        "fits kvm-le and kvm-be alike: the format must be given"
    );
    let none = load_bytes("t", b"neither this nor that", None, Some(18)).unwrap_err();
    assert!(
        none.starts_with("no table of any format: qemu: at byte 0: order 1852139892"),
        "{none}"
    );
    assert!(
        none.contains("; kvm-le: at byte 0: ") && none.contains("; kvm-be: at byte 0: "),
        "{none}"
    );
}

#[test]
fn a_file_without_end_is_given_up() {
    let mut endless = Source::new(std::io::repeat(0), u64::MAX);
    assert_eq!(
        formats::parse_bare(&mut endless, ByteOrder::Big, 18)
            .unwrap_err()
            .at,
        0
    );

    let mut empty_sections = qemu(&[]);
    empty_sections.extend(vec![0; 12 * (formats::MAX_SECTIONS + 1)]);
    refused(
        &empty_sections,
        Format::Qemu,
        None,
        "at byte 786436: more than the 65536 sections that are taken",
    );

    let long = [
        record(7, &[ENTRY], 3),
        record(11, &[], 1),
        record(12, &[ENTRY], 0),
    ]
    .concat();
    for limit in 0..long.len() as u64 {
        let error = formats::parse_bare(&mut Source::new(&long[..], limit), ByteOrder::Big, 18)
            .unwrap_err();
        assert!(error.what.contains("longer than the "), "{error}");
    }
    let mut source = Source::new(&long[..], long.len() as u64);
    assert_eq!(
        formats::parse_bare(&mut source, ByteOrder::Big, 18),
        Ok(long.clone())
    );
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    let bad = [record(3, &[ENTRY], 0), vec![1]].concat();
    for (format, sections, line) in [
        (Format::Qemu, vec![], "no section to write"),
        (Format::KvmLe, vec![], "no record to write"),
        (Format::KvmBe, vec![vec![], vec![]], "no record to write"),
        (
            Format::Qemu,
            vec![vec![], bad],
            "section 1 of the table to be written: at byte 25: the input ends, 7 bytes of a record's header are missing",
        ),
        (
            Format::Qemu,
            vec![vec![0; 8]],
            "section 0 of the table to be written: at byte 0: a header of zeros among the records",
        ),
    ] {
        assert_eq!(
            save(&path, format, 18, &sections).unwrap_err().to_string(),
            line
        );
        assert!(!path.exists());
    }
}
