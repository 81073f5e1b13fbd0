//! Bytes read as files: tables in each format, traces of hypercalls, recorded sequences; plain, compressed, or with a
//! name that says they are compressed. What is refused is refused in one short line; what is a table is the same
//! when it is written in any format and read again; what is a recording can be done again on the library, whatever
//! comes of it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::bytes::Bytes;
use liblzma::read::XzEncoder;
use realhpt_qemu::replay::file::{Recorded, Sequence};
use realhpt_qemu::replay::host::{self, Host};
use realhpt_qemu::replay::memory::Memory;
use realhpt_qemu::replay::trace::Trace;
use realhpt_qemu::replay::{Layout, calls, sequence};
use realhpt_qemu::tables::formats::{self, Format, Table};
use realhpt_qemu::tables::model::{Mask, Model, Pass};
use tempfile::TempDir;

/// The most that a line about what is wrong may have, in bytes.
const LINE: usize = 600;
/// The most that the process may grow by for one input, bytes: the memory of the xz decoder is most of it.
const GROWTH: u64 = 256 << 20;
/// The order of the tables that recordings are done again on.
const ORDER: u32 = 18;

thread_local! {
    static DIRECTORY: TempDir = TempDir::new().unwrap();
}

/// Runs an input: what it is read as, and the file.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (kind, packing, order) = (bytes.u8(), bytes.u8(), bytes.u8());
    let before = most_memory();
    let path = put(packing, bytes.0);
    match kind % 7 {
        0 => table(&path, Some(Format::Qemu), None),
        1 => table(&path, Some(Format::KvmLe), Some(u32::from(order))),
        2 => table(&path, Some(Format::KvmBe), Some(u32::from(order))),
        3 => table(&path, None, None),
        4 => table(&path, None, Some(u32::from(order))),
        5 => trace(&path),
        _ => recorded(&path),
    }
    // The system counts in batches: it may say a little less than before.
    let grown = most_memory().saturating_sub(before);
    assert!(
        grown < GROWTH,
        "{grown} bytes more for {} bytes",
        data.len()
    );
}

/// Puts bytes into a file: as they are, compressed, or as if they were.
fn put(packing: u8, bytes: &[u8]) -> PathBuf {
    let mut packed = Vec::new();
    let (name, bytes) = match packing % 4 {
        0 | 1 => ("file", bytes),
        2 => ("file.xz", bytes),
        _ => {
            XzEncoder::new(bytes, 0).read_to_end(&mut packed).unwrap();
            ("packed", &packed[..])
        }
    };
    let path = place(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A file of this name in a directory of this thread's.
fn place(name: &str) -> PathBuf {
    DIRECTORY.with(|directory| directory.path().join(name))
}

/// Something read, or one line about the file.
fn in_one_line<T>(read: anyhow::Result<T>) -> Option<T> {
    let error = match read {
        Ok(read) => return Some(read),
        Err(error) => error,
    };
    // As the runner shows it.
    let line = format!("{error:#}");
    assert!(!line.trim().is_empty() && line.len() <= LINE, "{line:?}");
    assert!(!line.contains(char::is_control), "{line:?}");
    None
}

fn table(path: &Path, format: Option<Format>, order: Option<u32>) {
    let Some(table) = in_one_line(formats::load(path, format, order)) else {
        return;
    };
    assert!(format.is_none_or(|format| format == table.format));
    assert!(order.is_none_or(|order| order == table.order));
    let model = made_of(&table);
    for format in [Format::Qemu, Format::KvmLe, Format::KvmBe] {
        let is_empty = table.sections.iter().all(Vec::is_empty);
        let name = if format == Format::KvmLe {
            "again.xz"
        } else {
            "again"
        };
        let again = place(name);
        let saved = formats::save(&again, format, table.order, &table.sections);
        if format != Format::Qemu && is_empty {
            assert!(saved.is_err(), "a file without a record");
            continue;
        }
        saved.unwrap();
        let read = formats::load(&again, Some(format), Some(table.order)).unwrap();
        let joined;
        let expected = if format == Format::Qemu {
            &table.sections
        } else {
            joined = vec![table.sections.concat()];
            &joined
        };
        assert_eq!(&read.sections, expected, "{format}");
        let difference = made_of(&read).first_difference(&model, Mask::NONE);
        assert_eq!(difference, None, "{format}");
    }
}

fn made_of(table: &Table) -> Model {
    let mut model = Model::new(table.order);
    for section in &table.sections {
        let pass = model.apply(section).unwrap();
        assert_eq!(Pass::measure(section, table.order).unwrap(), pass);
    }
    model
}

fn trace(path: &Path) {
    let Some(trace) = in_one_line(Trace::load(path)) else {
        return;
    };
    assert!(!trace.calls.is_empty());
    let layout = calls::layout(&trace, ORDER);
    on_the_library(&layout, Recorded::Power9, |host| {
        calls::run(host, &trace, ORDER, |_| {}).map(drop)
    });
}

fn recorded(path: &Path) {
    for host in [Recorded::Power8, Recorded::Power9] {
        let Some(recorded) = in_one_line(Sequence::load(path, host)) else {
            continue;
        };
        if recorded.order != ORDER {
            continue;
        }
        let layout = Memory::new(&recorded.slots).layout(recorded.order);
        on_the_library(&layout, host, |host| {
            sequence::run(host, &recorded, |_| {}).map(drop)
        });
    }
}

/// Does something to the library as `layout` says. It may fail, in one line.
fn on_the_library(
    layout: &Layout,
    recorded: Recorded,
    act: impl FnOnce(&mut Host<'_>) -> anyhow::Result<()>,
) {
    let Some(store) = in_one_line(host::store(layout)) else {
        return;
    };
    let host = Host::new(&store, recorded.format());
    let done = host.and_then(|mut host| act(&mut host));
    in_one_line(done);
}

/// The most memory that this process has had, bytes; 0 where the system does not say.
fn most_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.map_or(0, |kib| 1024 * kib.trim().parse::<u64>().unwrap())
}
