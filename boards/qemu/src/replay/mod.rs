//! Recorded hypercalls and stream calls, done again on our engine and compared answer by answer.
//!
//! Two kinds of recordings are taken: [`trace`]s, every hypercall of a Linux guest ([`calls`] does them again), and
//! sequences of hypercalls, accesses and stream calls that Linux's KVM-HV answered ([`file`](mod@file), [`sequence`],
//! with [`memory`] for the guest's memory and [`outcome`] for what may be otherwise). [`command`] is what the user
//! sees of both.
//!
//! Key types: [`Backend`] is what a replay drives, [`Layout`] what the client partition must look like for it;
//! [`host::Host`] is the library as such.
//!
//! Invariant: nothing of a file is trusted. It is read and checked whole before anything is done, and what is wrong
//! with it is said in one line, with the place.

pub mod access;
pub mod calls;
pub mod command;
pub mod file;
pub mod host;
pub mod machine;
pub mod memory;
pub mod outcome;
pub mod sequence;
mod streams;
pub mod trace;
mod writes;

#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};

use crate::tables::formats;

/// The most bytes of a recording that are taken, decompressed.
const LIMIT: u64 = 512 << 20;
/// The most bytes of one line of it: parsed, a line takes up to some forty times as much memory.
const MAX_LINE: usize = 1 << 20;
/// The most lines of it: one of a few bytes takes hundreds in memory.
const MAX_LINES: usize = 2 << 20;

/// The text of a recording, plain or compressed. It is read to its end before a line of it is looked at: xz finds
/// wrong bytes only after they have come out.
fn text(path: &Path) -> Result<String> {
    let name = path.display();
    let (input, _) =
        formats::open(path).map_err(|error| anyhow!("{name}: cannot be opened: {error}"))?;
    let mut bytes = Vec::new();
    let length = input
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| anyhow!("{name}: {error}"))?;
    ensure!(
        u64::try_from(length)? <= LIMIT,
        "{name}: more than the {LIMIT} bytes that are taken"
    );
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow!("{name}: no text: byte {at} is none of UTF-8")
    })?;
    let mut lines = 0;
    for line in text.lines() {
        lines += 1;
        ensure!(
            line.len() <= MAX_LINE,
            "{name}: line {lines}: more than the {MAX_LINE} bytes that are taken"
        );
        ensure!(
            lines <= MAX_LINES,
            "{name}: more than the {MAX_LINES} lines that are taken"
        );
    }
    Ok(text)
}

/// What stands in a file, for a line that says it is wrong: quoted, and not more of it than can be read.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 32;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
    }
}

/// The number that hexadecimal digits stand for.
fn hex(digits: &str) -> Result<u64> {
    u64::from_str_radix(digits, 16)
        .map_err(|_| anyhow!("{} is no hexadecimal number", quoted(digits)))
}

pub use crate::agent::Frame;

/// What a replay drives: the client partition, whose table starts empty, through an agent.
pub trait Backend {
    /// HPT hypercalls of the client's, in order: in each frame r3 to r12 as a guest would load them, replaced by
    /// what they hold afterwards. Many at once, since a machine takes them in batches.
    ///
    /// # Errors
    /// The machine failed. Whatever a call is answered with is no error.
    fn hcalls(&mut self, frames: &mut [Frame]) -> Result<()>;

    /// One load or store of 4 bytes by the client itself at `ea` through the one SLB entry given (RS and RB of
    /// slbmte), with MSR\[DR\] = 1. A store stores what is there.
    ///
    /// # Errors
    /// The machine failed.
    fn access(&mut self, store: bool, ea: u64, slb_rs: u64, slb_rb: u64) -> Result<Access>;

    /// H_HPT_OPEN of the client's table: status and handle.
    ///
    /// # Errors
    /// The machine failed.
    fn open(&mut self, flags: u64, start: u64) -> Result<(i64, u64)>;

    /// H_HPT_READ into a buffer of `length` bytes.
    ///
    /// # Errors
    /// The machine failed.
    fn read(&mut self, handle: u64, length: u64) -> Result<Answer>;

    /// H_HPT_WRITE of these bytes: status, bytes consumed, index of the first bad entry (`u64::MAX`: none). The
    /// client is paused for it where it runs.
    ///
    /// # Errors
    /// The machine failed.
    fn write(&mut self, handle: u64, bytes: &[u8]) -> Result<(i64, u64, u64)>;

    /// H_HPT_CLOSE: status.
    ///
    /// # Errors
    /// The machine failed.
    fn close(&mut self, handle: u64) -> Result<i64>;

    /// H_LPAR_RESET of the client, stopped before if it runs and made again until it is done: status.
    ///
    /// # Errors
    /// The machine failed.
    fn reset(&mut self) -> Result<i64>;
}

/// How an access went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It was done.
    Done,
    /// It was interrupted, with this DSISR.
    Interrupted(u64),
}

/// The answer to an H_HPT_READ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// r3.
    pub status: i64,
    /// What was read.
    pub bytes: Vec<u8>,
    /// The pass in the upper half, flags in the lower.
    pub state: u64,
    /// Entries pending.
    pub pending: u64,
}

/// A piece of the client's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where the client sees it, guest real.
    pub guest: u64,
    /// Its length.
    pub bytes: u64,
    /// The largest page that memory and guest addresses allow: they must differ by a multiple of it, and by no
    /// multiple of twice as much.
    pub page: u64,
}

/// What the client's partition must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// log2 of its table's size in bytes.
    pub order: u32,
    /// Its memory.
    pub regions: Vec<Region>,
}
