//! What a replay found: how many steps agreed, what is otherwise for a reason that is known, and every other
//! difference.

use std::collections::BTreeMap;

/// What may be otherwise than in Linux, and why: a name, and DESIGN section 6 unless something else is said.
pub const REASONS: [(&str, &str); 16] = [
    (
        "read_invalid",
        "H_READ of a slot without an entry is zero; Linux shows what stood there",
    ),
    (
        "stale_rc",
        "R and C that Linux keeps of an absent entry after H_CLEAR_*; its stream does not show them either",
    ),
    (
        "modified_bit",
        "bit 62 of what H_CLEAR_* returns: Linux's own mark of a changed entry",
    ),
    (
        "unseen_rc",
        "R or C that hardware set and H_CLEAR_* took away between two reads: no change to Linux, told here",
    ),
    (
        "andcond",
        "H_ANDCOND tests the guest's dword 0: VALID is set in it, the hypervisor's bits are not",
    ),
    (
        "host_page",
        "the host page is smaller than the page, or the memory slot no multiple of it; there are no host pages here",
    ),
    (
        "page_in",
        "two entries for one address, and Linux has the page of one of them only; here both are there",
    ),
    (
        "read_only_page",
        "a reserved protection: Linux gives hardware one that allows loads where the page is read-only in the host",
    ),
    (
        "small_buffer",
        "a buffer without room for an entry, or for a header to write, is H_PARAMETER, not 0 bytes",
    ),
    (
        "start_index",
        "a start index beyond the table is H_PARAMETER, not 0 bytes",
    ),
    (
        "reset",
        "a reader of a table that was reset gets H_CLOSED; Linux's hears only of entries that were marked before",
    ),
    (
        "errno",
        "EINVAL and EIO are H_PARAMETER, with the index of the bad entry",
    ),
    (
        "partial",
        "of a piece with a bad entry nothing is done; Linux does what precedes it and may lose the old entry",
    ),
    (
        "count",
        "Linux reads up to 8 bytes beyond the count that it was given",
    ),
    (
        "truncated",
        "a record may be longer than the buffer; Linux does nothing of it",
    ),
    (
        "misparse",
        "any number of records per write; Linux takes the entries of the first one for the next header",
    ),
];

/// How a step went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    #[default]
    Agreed,
    Listed,
    Other,
}

/// A difference that has no listed reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// The line of the file.
    pub line: usize,
    /// What was expected and what came.
    pub what: String,
}

/// What a replay found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Steps that were compared.
    pub steps: u64,
    /// Steps in which every answer was the same.
    pub agreed: u64,
    /// Steps in which something was otherwise for the reasons below, and nothing for another one.
    pub listed: u64,
    /// How often which reason was one.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Steps with other differences.
    pub others: u64,
    /// The first of these differences.
    pub shown: Vec<Other>,
    line: usize,
    step: Step,
}

impl Outcome {
    /// Differences that are kept to be shown.
    pub const SHOWN: usize = 20;

    /// Begins a step.
    pub(super) fn begin(&mut self, line: usize) {
        (self.line, self.step) = (line, Step::Agreed);
    }

    /// Something in this step is otherwise for a listed reason.
    pub(super) fn because(&mut self, reason: &str) {
        match REASONS.iter().find(|row| row.0 == reason) {
            Some((name, _)) => {
                *self.reasons.entry(name).or_default() += 1;
                self.step = self.step.max(Step::Listed);
            }
            None => self.other(format!("{reason} is no listed reason")),
        }
    }

    /// Something in this step is otherwise.
    pub(super) fn other(&mut self, what: impl Into<String>) {
        self.step = Step::Other;
        if self.shown.len() < Self::SHOWN {
            self.shown.push(Other {
                line: self.line,
                what: what.into(),
            });
        }
    }

    /// Something in this step is otherwise unless `same`.
    pub(super) fn expect(&mut self, same: bool, what: impl FnOnce() -> String) {
        if !same {
            self.other(what());
        }
    }

    /// Ends a step.
    pub(super) fn end(&mut self) {
        self.steps += 1;
        let count = match self.step {
            Step::Agreed => &mut self.agreed,
            Step::Listed => &mut self.listed,
            Step::Other => &mut self.others,
        };
        *count += 1;
    }
}
