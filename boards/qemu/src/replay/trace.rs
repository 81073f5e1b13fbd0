//! Traces of hypercalls: a line a call, as a Linux guest of QEMU's pseries made it.
//!
//! `SEQ NIP MSR OPCODE | r4..r12 | r3 | r4..r12`, the first in decimal, the others in hexadecimal digits; MSR is that
//! after the call. A call whose return was not seen has `-` for MSR and `NORET` for what follows the arguments. A
//! file is read whole and checked before anything is done.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use realhpt::hcall::abi;

use super::{hex, quoted};

/// Registers on either side: r4 to r12.
const REGISTERS: usize = 9;
/// In place of a return.
const NO_RETURN: &str = "NORET";
/// Dword 1 in H_ENTER: the page's address, and that it is not memory (I of WIMG).
const RPN: u64 = 0x0fff_ffff_ffff_f000;
const CACHE_INHIBITED: u64 = 0x20;

/// The hypercalls about hashed page tables: token and name.
pub const HPT_CALLS: [(u64, &str); 12] = [
    (abi::H_REMOVE, "H_REMOVE"),
    (abi::H_ENTER, "H_ENTER"),
    (abi::H_READ, "H_READ"),
    (abi::H_CLEAR_MOD, "H_CLEAR_MOD"),
    (abi::H_CLEAR_REF, "H_CLEAR_REF"),
    (abi::H_PROTECT, "H_PROTECT"),
    (abi::H_PAGE_INIT, "H_PAGE_INIT"),
    (abi::H_BULK_REMOVE, "H_BULK_REMOVE"),
    (abi::H_BLOCK_REMOVE, "H_BLOCK_REMOVE"),
    (0x358, "H_CLEAR_HPT"),
    (H_RESIZE_HPT_PREPARE, "H_RESIZE_HPT_PREPARE"),
    (H_RESIZE_HPT_COMMIT, "H_RESIZE_HPT_COMMIT"),
];

/// H_RESIZE_HPT_PREPARE.
pub(super) const H_RESIZE_HPT_PREPARE: u64 = 0x36c;
/// H_RESIZE_HPT_COMMIT.
pub(super) const H_RESIZE_HPT_COMMIT: u64 = 0x370;

/// The name of a call about hashed page tables.
#[must_use]
pub fn name(token: u64) -> Option<&'static str> {
    let row = HPT_CALLS.iter().find(|row| row.0 == token);
    row.map(|row| row.1)
}

/// A recorded call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Number of the line, from 1.
    pub line: usize,
    /// r3 to r12 as the guest loaded them.
    pub before: super::Frame,
    /// The same after the call, if its return was seen.
    pub after: Option<super::Frame>,
}

impl Recorded {
    /// Its token.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.before[0]
    }
}

/// A trace.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The calls about hashed page tables, in order.
    pub calls: Vec<Recorded>,
    /// Others.
    pub skipped: u64,
}

impl Trace {
    /// Reads a trace, plain or compressed.
    ///
    /// # Errors
    /// One line: the file, the line in it, and what is wrong.
    pub fn load(path: &Path) -> Result<Self> {
        let name_of_file = path.display();
        let mut trace = Self::default();
        for (line, number) in super::text(path)?.lines().zip(1..) {
            let call = parse(line, number)
                .map_err(|error| anyhow!("{name_of_file}: line {number}: {error:#}"))?;
            if name(call.token()).is_some() {
                trace.calls.push(call);
            } else {
                trace.skipped += 1;
            }
        }
        ensure!(
            !trace.calls.is_empty(),
            "{name_of_file}: no call about hashed page tables in {} lines",
            trace.skipped
        );
        Ok(trace)
    }

    /// The end of the memory that entries map, if any do.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        let entered = self.calls.iter().filter_map(|call| {
            let [token, _, _, _, dword1, ..] = call.before;
            let memory = token == abi::H_ENTER && dword1 & CACHE_INHIBITED == 0;
            memory.then_some((dword1 & RPN) + 0x1000)
        });
        entered.max()
    }
}

fn parse(line: &str, number: usize) -> Result<Recorded> {
    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
    let (head, arguments, results) = match columns[..] {
        [head, arguments, no_return] if no_return == NO_RETURN => (head, arguments, None),
        [head, arguments, ret, registers] => (head, arguments, Some((ret, registers))),
        _ => anyhow::bail!("{} columns, not 4, nor 3 with {NO_RETURN}", columns.len()),
    };
    let [sequence, nip, msr, token] = head.split_whitespace().collect::<Vec<_>>()[..] else {
        anyhow::bail!("the first column is not SEQ NIP MSR OPCODE");
    };
    let _: u64 = sequence
        .parse()
        .map_err(|_| anyhow!("{} is no number of a call", quoted(sequence)))?;
    hex(nip)?;
    if results.is_some() {
        hex(msr)?;
    }
    let after = match results {
        None => None,
        Some((ret, registers)) => Some(frame(hex(ret)?, registers).context("after the call")?),
    };
    Ok(Recorded {
        line: number,
        before: frame(hex(token)?, arguments).context("before the call")?,
        after,
    })
}

/// r3 and the nine registers in a column.
fn frame(first: u64, column: &str) -> Result<super::Frame> {
    let mut frame = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let words = column.split_whitespace();
    ensure!(
        words.clone().count() == REGISTERS,
        "{} registers, not {REGISTERS}",
        words.count()
    );
    for (register, word) in frame.iter_mut().skip(1).zip(words) {
        *register = hex(word)?;
    }
    Ok(frame)
}
