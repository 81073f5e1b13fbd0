//! Files that are damaged are refused in one line; answers that are not the recorded ones are found.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use liblzma::read::XzDecoder;
use realhpt::table::Format;

use super::calls::{self, ORDER};
use super::file::{Recorded, Sequence};
use super::host::{self, Host};
use super::memory::Memory;
use super::outcome::Outcome;
use super::trace::Trace;
use super::{command, sequence};
use crate::cli::{Cli, Command};
use crate::tables::formats;
use crate::terminal::Terminal;
use crate::workspace;

fn data(name: &str) -> PathBuf {
    workspace().join("tests/data").join(name)
}

fn text(name: &str) -> String {
    let mut text = String::new();
    XzDecoder::new(std::fs::read(data(name)).unwrap().as_slice())
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// Puts bytes into a file of that name and shows it to `act`.
fn with_file<R>(name: &str, bytes: &[u8], act: impl FnOnce(&Path) -> R) -> R {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    act(&path)
}

/// What is said of a file, without its path.
fn said<T>(loaded: anyhow::Result<T>, path: &Path) -> String {
    let Err(error) = loaded else {
        panic!("{} was taken", path.display());
    };
    let line = format!("{error:#}");
    assert!(!line.contains('\n'), "{line}");
    line.replace(&format!("{}: ", path.display()), "")
}

fn sequence_error(name: &str, bytes: &[u8]) -> String {
    with_file(name, bytes, |path| {
        said(Sequence::load(path, Recorded::Power9), path)
    })
}

fn trace_error(name: &str, bytes: &[u8]) -> String {
    with_file(name, bytes, |path| said(Trace::load(path), path))
}

/// A sequence done again on the library.
fn again(text: &str, recorded: Recorded) -> Outcome {
    with_file("copy.jsonl", text.as_bytes(), |path| {
        let sequence = Sequence::load(path, recorded).unwrap();
        let layout = Memory::new(&sequence.slots).layout(sequence.order);
        let store = host::store(&layout).unwrap();
        let mut host = Host::new(&store, recorded.format()).unwrap();
        sequence::run(&mut host, &sequence, |_| {}).unwrap()
    })
}

/// The first lines of a text.
fn head(text: &str, lines: usize) -> String {
    text.lines()
        .take(lines)
        .flat_map(|line| [line, "\n"])
        .collect()
}

const HEADER: &str = r#"{"t":"hdr","order":18,"slots":[[0,8388608,1]]}"#;

#[test]
fn a_damaged_sequence_is_one_line() {
    let whole = std::fs::read(data("kvm-sequences/c01.jsonl.xz")).unwrap();
    let half = whole.get(..whole.len() / 2).unwrap();
    let line = sequence_error("half.jsonl.xz", half);
    assert!(
        line.ends_with("damaged, cut short or not xz (premature eof)"),
        "{line}"
    );
    let mut flipped = whole.clone();
    *flipped.get_mut(whole.len() / 2).unwrap() ^= 0x10;
    let line = sequence_error("flipped.jsonl.xz", &flipped);
    assert!(line.contains("damaged, cut short or not xz"), "{line}");

    let step = |step: &str| sequence_error("a.jsonl", format!("{HEADER}\n{step}\n").as_bytes());
    assert_eq!(sequence_error("a.jsonl", b""), "the file is empty");
    assert_eq!(
        sequence_error("a.jsonl", br#"{"t":"reset"}"#),
        "line 1: the first line is no header"
    );
    assert_eq!(
        sequence_error("a.jsonl", HEADER.replace("18", "17").as_bytes()),
        "line 1: order 17: orders are 18..=46"
    );
    assert!(step("{\"t\":").starts_with("line 2: no JSON: EOF while parsing"));
    assert_eq!(
        sequence_error("a.jsonl", b"\xff\xfe"),
        "no text: byte 0 is none of UTF-8"
    );
    assert_eq!(
        step(r#"{"t":"dance"}"#),
        r#"line 2: "dance" is no step that is known"#
    );
    assert_eq!(
        step(r#"{"t":"op","op":"H_DANCE","in":[],"ret":0,"out":[]}"#),
        r#"line 2: "H_DANCE" is no call that is known"#
    );
    assert_eq!(
        step(r#"{"t":"op","op":"H_READ","in":["0"],"ret":0,"out":[]}"#),
        "line 2: H_READ has 2 arguments, not 1"
    );
    assert_eq!(
        step(r#"{"t":"op","op":"H_READ","in":["0","x"],"ret":0,"out":[]}"#),
        r#"line 2: "x" is no hexadecimal number"#
    );
    assert_eq!(
        step(r#"{"t":"op","op":"H_READ","in":["0","1"],"out":[]}"#),
        r#"line 2: "ret" is missing"#
    );
    assert_eq!(
        step(r#"{"t":"write","buf":"123","count":1,"ret":0,"errno":0}"#),
        "line 2: bytes that are no hexadecimal digits"
    );
    assert_eq!(
        step(r#"{"t":"write","buf":"1234","count":9223372036854775807,"ret":0,"errno":0}"#),
        "line 2: a write of 9223372036854775807 bytes, of which 2 are there"
    );
    assert_eq!(
        step(&format!(
            r#"{{"t":"op","op":"H_READ","in":["{}"]}}"#,
            "\\n".repeat(500)
        )),
        format!(
            r#"line 2: "{}"... is no hexadecimal number"#,
            "\\n".repeat(32)
        )
    );
}

/// A small file that is long when it is unpacked takes no more memory than it should: what a line becomes, and a
/// step, is many times as long as the line.
#[test]
fn lines_without_end_are_refused() {
    let list = format!("[{}0]", "0,".repeat(1 << 19));
    assert_eq!(
        sequence_error("a.jsonl", format!("{HEADER}\n{list}\n").as_bytes()),
        "line 2: more than the 1048576 bytes that are taken"
    );
    let resets = "{}\n".repeat((2 << 20) + 1);
    assert_eq!(
        sequence_error("a.jsonl", resets.as_bytes()),
        "more than the 2097152 lines that are taken"
    );
    assert_eq!(
        trace_error("a.txt", "|".repeat(2 << 20).as_bytes()),
        "line 1: more than the 1048576 bytes that are taken"
    );
}

/// Memory whose real addresses would not be there: the file is good, and cannot be done again.
#[test]
fn memory_at_the_end_of_the_addresses_is_refused() {
    let header = HEADER.replace("[0,8388608,1]", "[18446744073701163008,8384512,1]");
    with_file("a.jsonl", header.as_bytes(), |path| {
        let sequence = Sequence::load(path, Recorded::Power8).unwrap();
        let layout = Memory::new(&sequence.slots).layout(sequence.order);
        let line = said(host::store(&layout), path);
        assert_eq!(line, "memory at 0xffffffffff800000");
    });
}

#[test]
fn a_damaged_trace_is_one_line() {
    let name = "hcall-traces/t_direct.hcalls.txt.xz";
    let whole = std::fs::read(data(name)).unwrap();
    let line = trace_error("half.txt.xz", whole.get(..whole.len() / 2).unwrap());
    assert!(
        line.ends_with("damaged, cut short or not xz (premature eof)"),
        "{line}"
    );
    assert_eq!(
        trace_error("a.txt", b""),
        "no call about hashed page tables in 0 lines"
    );
    let good = "1 0 0 8 | 0 8 1 190 0 0 0 0 0 | 0 | 8 8 1 190 0 0 0 0 0";
    assert_eq!(
        trace_error("a.txt", format!("{good}\ngarbage\n").as_bytes()),
        "line 2: 1 columns, not 4, nor 3 with NORET"
    );
    assert_eq!(
        trace_error(
            "a.txt",
            good.replace("190 0 0 0 0 0 |", "190 0 0 0 0 |").as_bytes()
        ),
        "line 1: before the call: 8 registers, not 9"
    );
    assert_eq!(
        trace_error("a.txt", good.replace("| 0 |", "| zero |").as_bytes()),
        r#"line 1: "zero" is no hexadecimal number"#
    );
    assert_eq!(
        trace_error("a.txt", good.replace("1 0 0 8", "1 0 8").as_bytes()),
        "line 1: the first column is not SEQ NIP MSR OPCODE"
    );
    let unseen = "2 0 - 4 | 0 8 0 0 0 0 0 0 0 | NORET";
    with_file("a.txt", format!("{good}\n{unseen}\n").as_bytes(), |path| {
        let trace = Trace::load(path).unwrap();
        assert_eq!(trace.calls.len(), 2);
        assert_eq!(trace.memory(), Some(0x1000));
    });
}

/// Every kind of answer, broken in one place, is found in that place.
#[test]
fn an_answer_that_is_not_the_recorded_one_is_found() {
    let whole = head(&text("kvm-sequences/c01.jsonl.xz"), 300);
    assert_eq!(again(&whole, Recorded::Power8).others, 0);
    let broken = |call: &str, from: &str, to: &str| {
        let mut done = false;
        let lines = whole.lines().map(|line| {
            let here = !done && line.contains(call) && line.contains(from);
            done |= here;
            if here {
                line.replacen(from, to, 1)
            } else {
                line.to_owned()
            }
        });
        let copy: Vec<String> = lines.collect();
        let number = copy.iter().zip(whole.lines()).position(|(a, b)| a != b);
        let outcome = again(&copy.join("\n"), Recorded::Power8);
        let first = outcome.shown.first().map(|other| other.line);
        assert_eq!(
            first,
            number.map(|number| number + 1),
            "{call}: {:?}",
            outcome.shown
        );
        assert!(number.is_some(), "{call}");
    };
    broken("H_ENTER", r#""ret":0"#, r#""ret":-6"#);
    broken("H_READ", r#""out":[""#, r#""out":["1"#);
    broken("H_REMOVE", r#""ret":-7"#, r#""ret":-4"#);
    broken("H_PROTECT", r#""ret":0"#, r#""ret":-7"#);
    broken("H_BULK_REMOVE", r#""out":["8"#, r#""out":["9"#);
    broken("H_CLEAR_REF", r#""ret":-7"#, r#""ret":0"#);
    broken(r#""fd":"F""#, "9", "8");
    broken(r#""fd":"P""#, "9", "8");
}

/// Two slots of memory: pages that are there, pages that are not.
const MEMORY: &str = r#"{"t":"hdr","order":18,"slots":[[0,8388608,1],[67108864,16777216,0]]}"#;

/// A call, its answer and what else stands in its line.
fn op(name: &str, input: &[&str], ret: i64, out: &[&str], rest: &str) -> String {
    format!(r#"{{"t":"op","op":"{name}","in":{input:?},"ret":{ret},"out":{out:?}{rest}}}"#)
}

/// H_ENTER of exactly that slot, which succeeds.
fn enter(slot: &str, dw0: &str, dw1: &str) -> String {
    op("H_ENTER", &["8000000000", slot, dw0, dw1], 0, &[slot], "")
}

/// A read of the persistent reader to the end of its pass.
fn told(open: u8, data: &str) -> String {
    format!(
        r#"{{"t":"read","fd":"P","open":{open},"close":0,"flags":0,"start":0,"count":65536,"nreads":0,"data":["{data}"]}}"#
    )
}

/// A first pass over a table of order 18 without an entry.
const EMPTY: &str = "0000000000000040";

/// Does lines again, and expects so many differences, and the reasons.
fn expect(lines: &[String], others: u64, reasons: &[(&str, u64)]) {
    let lines = format!("{MEMORY}\n{}\n", lines.join("\n"));
    for recorded in [Recorded::Power8, Recorded::Power9] {
        let outcome = again(&lines, recorded);
        assert_eq!(outcome.others, others, "{:?}", outcome.shown);
        let found: Vec<_> = outcome.reasons.into_iter().collect();
        assert_eq!(found, reasons);
    }
}

/// Linux does not see V in an entry without a page: it removes that for the first request, we for the second.
#[test]
fn a_bulk_removal_leaves_what_it_leaves_in_linux() {
    let bulk = |answers: [&str; 2]| {
        let [first, second] = answers;
        let rest = r#","q":["andcond_V_not_seen_when_absent"]"#;
        let end = ["c000000000000000", "0", "8100000000000008", "0"];
        let requests = ["4100000000000008", "1", "4000000000000008", "0"];
        let answers = [first, "1", second, "0"];
        op(
            "H_BULK_REMOVE",
            &[requests, end].concat(),
            0,
            &[answers, end].concat(),
            rest,
        )
    };
    let entered = enter("8", "1001", "4000190");
    let gone = op("H_READ", &["0", "8"], 0, &["0", "0"], r#","inv":1"#);
    let good = bulk(["8d00000000000008", "9000000000000008"]);
    expect(&[entered.clone(), good, gone.clone()], 0, &[("andcond", 2)]);
    // R and C of the answers are compared where both removed the entry.
    let stays = op("H_READ", &["0", "8"], 0, &["1001", "4000190"], "");
    let bad = bulk(["9100000000000008", "8400000000000008"]);
    expect(&[entered, bad, gone], 1, &[]);
    expect(&[enter("8", "1001", "4000190"), stays], 0, &[]);
}

/// A page that was only loaded from is replaced by the first store, and then no entry of it is usable.
#[test]
fn an_access_goes_through_the_entry_that_linux_has_usable() {
    let access = |name: &str, ea: &str| op(name, &[ea, "12345000", "18000001"], 0, &[], "");
    let shows = |slot: &str, dw1: &str| op("H_READ", &["0", slot], 0, &["12345001", dw1], "");
    let mut lines = vec![
        enter("1a00", "12345001", "4000012"),
        access("LOAD", "10005000"),
        enter("1a18", "12345001", "4001012"),
        access("STORE", "10006000"),
        enter("1a01", "12345001", "12"),
        access("LOAD", "10005004"),
        shows("1a00", "4000112"),
        shows("1a18", "4001192"),
        shows("1a01", "112"),
    ];
    expect(&lines, 0, &[("page_in", 1)]);
    // Without the store both are.
    lines.remove(3);
    lines.remove(6);
    let outcome = again(
        &format!("{MEMORY}\n{}\n", lines.join("\n")),
        Recorded::Power8,
    );
    assert!(outcome.others > 0, "{:?}", outcome.shown);
}

#[test]
fn what_hardware_set_and_a_call_cleared_is_no_news_to_linux() {
    let access = op("LOAD", &["10005000", "12345000", "18000001"], 0, &[], "");
    let clear = |dw1: &str| op("H_CLEAR_REF", &["0", "1a00"], 0, &[dw1], "");
    let entered = enter("1a00", "12345001", "12");
    let word = "001a00000100000000000000123450410000000000000012";
    let mut lines = vec![
        told(1, EMPTY),
        entered,
        told(0, word),
        access,
        clear("112"),
        told(0, ""),
    ];
    expect(&lines, 0, &[("unseen_rc", 1)]);
    // Linux's reader knows of it: then it must hear that it is gone.
    let seen = "001a00000100000000000000123450410000000000000112";
    lines.insert(4, told(0, seen));
    expect(&lines, 1, &[]);
    lines.pop();
    lines.push(told(0, word));
    expect(&lines, 0, &[]);
}

#[test]
fn after_a_reset_linux_tells_of_what_was_marked() {
    let reset = r#"{"t":"reset"}"#.to_owned();
    let lines = |word: &str| {
        let known = enter("10", "1001", "12");
        let word_of_it = "100000000100000000000000000010410000000000000012";
        [
            told(1, EMPTY),
            known,
            told(0, word_of_it),
            enter("8", "1001", "12"),
            reset.clone(),
            told(0, word),
        ]
    };
    expect(&lines("0800000000000100"), 0, &[("reset", 1)]);
    expect(&lines(""), 1, &[("reset", 1)]);
    expect(
        &lines("08000000000001001000000000000100"),
        1,
        &[("reset", 1)],
    );
}

/// The marks of a reader that was closed stay, for the next one.
#[test]
fn a_closed_reader_leaves_its_marks() {
    let closed = told(0, "").replace(r#""close":0"#, r#""close":1"#);
    let small = closed
        .replace("65536", "8")
        .replace(r#""nreads":0"#, r#""nreads":1"#);
    let from_9 = told(1, "090000000000f73f").replace(r#""start":0"#, r#""start":9"#);
    let word = "080000000100000000000000000010410000000000000012";
    let mut lines = vec![
        told(1, EMPTY),
        enter("8", "1001", "12"),
        small,
        from_9,
        told(0, word),
    ];
    expect(&lines, 0, &[("small_buffer", 1)]);
    lines.pop();
    lines.push(told(0, ""));
    expect(&lines, 1, &[("small_buffer", 1)]);
}

#[test]
fn a_trace_with_another_answer_or_table_is_found() {
    let name = "hcall-traces/t_p8_idle.hcalls.txt.xz";
    let whole = text(name);
    let calls = whole.lines().filter(|line| line.contains(" 8 | 0 "));
    let copy = calls.take(100).map(|line| format!("{line}\n"));
    let copy: String = copy.collect();
    let run = |copy: &str| {
        with_file("copy.txt", copy.as_bytes(), |path| {
            let trace = Trace::load(path).unwrap();
            let store = host::store(&calls::layout(&trace, ORDER)).unwrap();
            let mut host = Host::new(&store, Format::V3_0).unwrap();
            calls::run(&mut host, &trace, ORDER, |_| {}).unwrap()
        })
    };
    let mut outcome = run(&copy);
    assert_eq!(outcome.differences, 0, "{:?}", outcome.shown);
    let table = data("hcall-traces/t_p8_idle.htab.xz");
    outcome
        .hold_to(&formats::load(&table, None, None).unwrap())
        .unwrap();
    assert!(outcome.differences > 8000, "100 entries are not 8236");
    let broken = copy.replacen("| 0 | ", "| fffffffffffffffa | ", 3);
    assert_eq!(run(&broken).differences, 3);
}

/// What the user gets: the exit status and, for a file that is damaged, the line.
#[test]
fn the_commands_say_how_it_went() {
    let terminal = Terminal::keeping();
    let whole = head(&text("kvm-sequences/c01.jsonl.xz"), 40);
    let run = |text: &str| {
        with_file("copy.jsonl", text.as_bytes(), |path| {
            let line = [
                Path::new("realhpt"),
                Path::new("sequence"),
                path,
                Path::new("--host"),
            ];
            let Some(Command::Sequence(arguments)) = Cli::parse_from(line).command else {
                panic!("sequence was not understood");
            };
            command::sequence(&terminal, &arguments).unwrap()
        })
    };
    assert!(run(&whole));
    assert!(!run(&whole.replacen(r#""ret":0"#, r#""ret":-9"#, 1)));
    let kept = terminal.kept();
    assert!(
        kept.contains("differ otherwise") && kept.contains("Differs"),
        "{kept}"
    );
}
