//! The verdict on a round trip, from what was written, what was read back and what the client says it did.
//!
//! The agent restores a table, reads it, has the client run, reads what changed, pauses the client, reads until
//! nothing is left, and at last reads everything anew with a second reader ([`Kind`] names these passes). Then:
//!
//! 1. The first pass names each slot once and equals the sections applied one after the other.
//! 2. The pass after it has no record, and nothing is pending.
//! 3. The first pass with all later ones applied to it equals the reference pass bit for bit: no change was lost.
//! 4. What the client's journal says of a slot is so, its R and C included.
//! 5. What else changed between the first pass and the reference is the hypervisor's own: entries of the VRMA.
//! 6. The last pass over the paused client is clean: nothing is pending.
//!
//! Beside that no entry shows bits that belong to the hypervisor, and every pass says that it ended.
//!
//! Key types: [`verify`] is a pure function from [`PassRead`]s and [`JournalEntry`]s to a [`Report`].

use std::collections::BTreeMap;
use std::fmt;

use realhpt::hcall::abi::ReadFlags;
use realhpt_pseries::exchange::kind;

use super::formats::{self, Table};
use super::model::{
    Difference, Generation, Mask, Model, Pass, R_HYPERVISOR, R_RC, V_HYPERVISOR, is_vrma,
};
use super::record::{Entry, entries_of, for_each_record};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first pass over the restored table.
    First,
    /// The pass right after it: nothing has happened.
    Clean,
    /// A pass while the client runs.
    Live,
    /// A pass after the client was paused.
    Final,
    /// A first pass of another reader over the paused client.
    Reference,
}

impl Kind {
    /// The kind that a pass's description in the exchange names.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        Some(match word {
            kind::FIRST => Self::First,
            kind::CLEAN => Self::Clean,
            kind::LIVE => Self::Live,
            kind::FINAL => Self::Final,
            kind::REFERENCE => Self::Reference,
            _ => return None,
        })
    }

    /// Whether a pass of this kind may follow one of that kind; `None` stands for the beginning.
    fn may_follow(self, before: Option<Self>) -> bool {
        match self {
            Self::First => before.is_none(),
            Self::Clean => before == Some(Self::First),
            Self::Live => matches!(before, Some(Self::Clean | Self::Live)),
            Self::Final => matches!(before, Some(Self::Clean | Self::Live | Self::Final)),
            Self::Reference => before == Some(Self::Final),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::Clean => "clean",
            Self::Live => "live",
            Self::Final => "final",
            Self::Reference => "reference",
        })
    }
}

/// A pass as the agent handed it out.
#[derive(Clone, Copy, Debug)]
pub struct PassRead<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Its records, headers in big-endian.
    pub records: &'a [u8],
    /// Pending slots after its last call.
    pub pending: u64,
    /// Flags of its last call.
    pub flags: ReadFlags,
}

/// What the client says of a slot as it stands when the client has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// The slot.
    pub ptex: u64,
    /// Dword 0, 0 for an invalid slot.
    pub dw0: u64,
    /// Dword 1 with the R and C of the client's own accesses.
    pub dw1: u64,
}

/// One pass of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassLine {
    /// What the pass is for.
    pub kind: Kind,
    /// What it holds.
    pub pass: Pass,
    /// What was pending after it.
    pub pending: u64,
    /// Whether the hypervisor called it clean.
    pub clean: bool,
}

impl fmt::Display for PassLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pass {
            records,
            entries,
            invalid,
            bytes,
            ..
        } = self.pass;
        let Self { kind, pending, .. } = self;
        write!(
            f,
            "{kind:<9} {records:>8} records {entries:>8} entries {invalid:>8} invalid slots {bytes:>10} bytes \
             {pending:>6} pending{}",
            if self.clean { ", clean" } else { "" }
        )
    }
}

/// What is known of a table that came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Entries that were restored and read back.
    pub restored: u64,
    /// Slots that changed after that.
    pub changed: u64,
    /// Slots that the client's journal names, all as it says.
    pub journal: u64,
    /// Slots that the hypervisor changed: entries of the VRMA.
    pub vrma: u64,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            restored,
            changed,
            journal,
            vrma,
        } = self;
        if *journal == 0 {
            return write!(
                f,
                "{restored} entries as written; the client did not run: its table has no room for a VRMA"
            );
        }
        write!(
            f,
            "{restored} entries as written; {changed} slots changed since, all of them read in later passes; \
             {journal} slots as the client says, {vrma} of the VRMA"
        )
    }
}

/// The verdict, and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The passes that could be decoded, in order.
    pub passes: Vec<PassLine>,
    /// Or the first thing that is not as it must be, in one line.
    pub verdict: Result<Verified, String>,
}

/// What the client has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client<'a> {
    /// It ran and kept this journal.
    Ran(&'a [JournalEntry]),
    /// It could not be started: the table has no room for the entries of its VRMA.
    NoRoom,
}

/// Gives the verdict on a round trip of `table`.
#[must_use]
pub fn verify(
    table: &Table,
    passes: &[PassRead<'_>],
    client: Client<'_>,
    generation: Generation,
) -> Report {
    let mut lines = Vec::with_capacity(passes.len());
    let decoded = decode(table.order, passes, &mut lines);
    let verdict = decoded.and_then(|()| judge(table, passes, &lines, client, generation));
    Report {
        passes: lines,
        verdict,
    }
}

/// Checks each pass for itself: its records, its bits, its flags.
fn decode(order: u32, passes: &[PassRead<'_>], lines: &mut Vec<PassLine>) -> Result<(), String> {
    // The lines of all passes that can be decoded are of use, so the first thing wrong is kept until the end.
    let mut verdict = Ok(());
    for (number, read) in passes.iter().enumerate() {
        let name = format!("pass {} ({})", number + 1, read.kind);
        let mut own_bits = None;
        let pass = Pass::measure(read.records, order).map_err(|wrong| format!("{name}: {wrong}"));
        let pass = match pass {
            Ok(pass) => pass,
            Err(wrong) => return verdict.and(Err(wrong)),
        };
        let clean = read.flags.contains(ReadFlags::CLEAN);
        lines.push(PassLine {
            kind: read.kind,
            pass,
            pending: read.pending,
            clean,
        });
        for_each_record(read.records, formats::slots(order), |_, header, entries| {
            for (ptex, entry) in (u64::from(header.index)..).zip(entries_of(entries)) {
                if entry.dw0 & V_HYPERVISOR != 0 || entry.dw1 & R_HYPERVISOR != 0 {
                    own_bits.get_or_insert((ptex, entry));
                }
            }
        })
        .map_err(|wrong| format!("{name}: {wrong}"))?;

        let wrong = if let Some((ptex, entry)) = own_bits {
            format!("slot {ptex:#x} shows bits of the hypervisor's own: {entry}")
        } else if !read.flags.contains(ReadFlags::END_OF_PASS) {
            "the hypervisor did not say that the pass ended".into()
        } else if clean && (pass.records, read.pending) != (0, 0) {
            format!(
                "called clean with {} records and {} slots pending",
                pass.records, read.pending
            )
        } else {
            continue;
        };
        verdict = verdict.and(Err(format!("{name}: {wrong}")));
    }
    verdict
}

/// Holds the passes, each sound for itself, against each other, the table and the journal.
fn judge(
    table: &Table,
    passes: &[PassRead<'_>],
    lines: &[PassLine],
    client: Client<'_>,
    generation: Generation,
) -> Result<Verified, String> {
    check_sequence(passes)?;
    let mut written = Model::new(table.order);
    for (number, section) in table.sections.iter().enumerate() {
        written
            .apply(section)
            .map_err(|wrong| format!("section {number} of the table: {wrong}"))?;
    }

    let mut first = Model::new(table.order);
    let mut current = Model::new(table.order);
    let mut reference = Model::new(table.order);
    let mut last_final = None;
    for (read, line) in passes.iter().zip(lines) {
        let kind = read.kind;
        let sound = |wrong| format!("{kind} pass: {wrong}");
        match kind {
            Kind::First => {
                line.pass.covers_once(table.order).map_err(sound)?;
                first
                    .apply(read.records)
                    .map_err(|wrong| sound(wrong.to_string()))?;
                let mask = Mask::through(generation);
                if let Some(difference) = written.first_difference(&first, mask) {
                    return Err(sound(difference.in_words("written", "read back")));
                }
                current = first.clone();
            }
            Kind::Clean => check_clean(line)?,
            Kind::Live => {
                current
                    .apply(read.records)
                    .map_err(|wrong| sound(wrong.to_string()))?;
            }
            Kind::Final => {
                current
                    .apply(read.records)
                    .map_err(|wrong| sound(wrong.to_string()))?;
                last_final = Some(line);
            }
            Kind::Reference => {
                line.pass.covers_once(table.order).map_err(sound)?;
                reference
                    .apply(read.records)
                    .map_err(|wrong| sound(wrong.to_string()))?;
            }
        }
    }
    last_final.map_or_else(|| Err("there is no final pass".into()), check_clean)?;

    if let Some(difference) = current.first_difference(&reference, Mask::NONE) {
        return Err(format!(
            "a change was lost or made up: {}",
            difference.in_words("all passes together", "the reference pass")
        ));
    }
    let restored = first.entries().count() as u64;
    match client {
        Client::Ran(journal) => {
            let (changed, vrma) = explain(&first, &reference, journal, generation)?;
            let journal = by_slot(journal).len() as u64;
            Ok(Verified {
                restored,
                changed,
                journal,
                vrma,
            })
        }
        Client::NoRoom => {
            if !has_full_groups(&first) {
                return Err(
                    "the client was not started for want of room, and there is room".into(),
                );
            }
            match first.first_difference(&reference, Mask::NONE) {
                Some(difference) => Err(format!(
                    "changed though nothing ran: {}",
                    difference.in_words("the first pass", "the reference pass")
                )),
                None => Ok(Verified {
                    restored,
                    ..Verified::default()
                }),
            }
        }
    }
}

/// Whether the table has, for some 16M page of a VRMA, no free slot in either group.
fn has_full_groups(table: &Model) -> bool {
    const VSID: u64 = 0x1ff_ffff;
    /// Pages of the largest client there is.
    const PAGES: u64 = 1 << 16;
    let mask = formats::slots(table.order()) / 8 - 1;
    let full = |group: u64| (group * 8..group * 8 + 8).all(|slot| table.get(slot).is_some());
    (0..PAGES)
        .map(|page| VSID ^ VSID << 25 ^ page)
        .any(|hash| full(hash & mask) && full(!hash & mask))
}

/// The passes must be those of a round trip: first, clean, live ones if any, final ones, reference.
fn check_sequence(passes: &[PassRead<'_>]) -> Result<(), String> {
    let mut before = None;
    for (number, read) in passes.iter().enumerate() {
        if !read.kind.may_follow(before) {
            return Err(format!(
                "pass {} is a {} pass, out of turn",
                number + 1,
                read.kind
            ));
        }
        before = Some(read.kind);
    }
    match before {
        Some(Kind::Reference) => Ok(()),
        Some(last) => Err(format!(
            "the passes end with a {last} pass, there is no reference"
        )),
        None => Err("there is no pass".into()),
    }
}

/// The pass must have found nothing, and the hypervisor must have said so.
fn check_clean(line: &PassLine) -> Result<(), String> {
    let PassLine {
        kind,
        pass,
        pending,
        clean,
    } = line;
    if pass.records != 0 {
        Err(format!(
            "the {kind} pass should be clean and has {} records",
            pass.records
        ))
    } else if *pending != 0 {
        Err(format!(
            "after the {kind} pass, which should be clean, {pending} slots are pending"
        ))
    } else if !clean {
        Err(format!(
            "the {kind} pass has no record and the hypervisor did not call it clean"
        ))
    } else {
        Ok(())
    }
}

/// The journal by slot. The client appends as it goes on, so what it says last of a slot counts.
fn by_slot(journal: &[JournalEntry]) -> BTreeMap<u64, Option<Entry>> {
    let slot = |entry: &JournalEntry| {
        Some(Entry {
            dw0: entry.dw0,
            dw1: entry.dw1,
        })
        .filter(|_| entry.dw0 != 0)
    };
    journal
        .iter()
        .map(|entry| (entry.ptex, slot(entry)))
        .collect()
}

/// Checks the journal against the reference, and that nobody else changed anything but the VRMA. Says how many
/// slots changed, and how many of them are the VRMA's.
fn explain(
    first: &Model,
    reference: &Model,
    journal: &[JournalEntry],
    generation: Generation,
) -> Result<(u64, u64), String> {
    let said = by_slot(journal);
    if said.is_empty() {
        return Err("the client's journal is empty: it did nothing that could be verified".into());
    }
    let mask = Mask::through(generation);
    for (&ptex, &left) in &said {
        if ptex >= formats::slots(reference.order()) {
            return Err(format!(
                "the client's journal names slot {ptex:#x}, which is not in the table"
            ));
        }
        if let Some(entry) = left.filter(|entry| !entry.is_valid()) {
            return Err(format!(
                "the client's journal: the entry of slot {ptex:#x} is not valid: {entry}"
            ));
        }
        let right = reference.get(ptex);
        if !mask.same(left, right) {
            let difference = Difference { ptex, left, right };
            return Err(difference.in_words("as the client left it", "the reference pass"));
        }
    }

    let (mut changed, mut vrma) = (0, 0);
    for difference in first.differences(reference, Mask::NONE) {
        changed += 1;
        if said.contains_key(&difference.ptex) {
            continue;
        }
        if !is_vrma_at_work(difference) {
            return Err(format!(
                "changed, and not by the client: {}",
                difference.in_words("the first pass", "the reference pass")
            ));
        }
        vrma += 1;
    }
    Ok((changed, vrma))
}

/// Whether a change is one that a guest in real mode brings about: the hypervisor made an entry of the VRMA, or
/// such an entry that was restored gained R and C.
fn is_vrma_at_work(difference: Difference) -> bool {
    match (difference.left, difference.right) {
        (None, Some(made)) => is_vrma(made),
        (Some(old), Some(new)) => {
            let gained = Entry {
                dw1: old.dw1 | (new.dw1 & R_RC),
                ..old
            };
            is_vrma(old) && gained == new
        }
        (_, None) => false,
    }
}
