//! The verdict on a run, made from decoded frames and nothing else.
//!
//! The image logs the plan, each case, and at the end its own count. A run has passed if all of them are
//! there and agree and no frame was an error; QEMU's exit status says nothing. So a crash, a hang or a log
//! that breaks off is a failure by the lack of what should be there.

use crate::log::{Frame, Level};

/// One reported case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Why it failed, as a number of the case's choice; none if it passed.
    pub failed: Option<u64>,
}

/// The image's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    planned: u64,
    passed: u64,
    failed: u64,
}

/// What the frames said.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    planned: Option<u64>,
    cases: Vec<Case>,
    count: Option<Count>,
    errors: Vec<String>,
}

impl Verdict {
    /// Takes a frame. Returns the case if it reported one.
    pub fn take(&mut self, frame: &Frame) -> Option<&Case> {
        if frame.level == Level::Error && !frame.text.starts_with("case ") {
            self.errors.push(frame.text.clone());
        }
        if let Some(planned) = plan(&frame.text) {
            // Several partitions may plan; what counts is the sum.
            self.planned = Some(self.planned.unwrap_or(0).saturating_add(planned));
        } else if let Some(count) = count(&frame.text) {
            self.count = Some(count);
        } else if let Some(case) = case(&frame.text) {
            self.cases.push(case);
            return self.cases.last();
        }
        None
    }

    /// The cases so far.
    #[must_use]
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// How many cases there should be, once the image has said.
    #[must_use]
    pub fn planned(&self) -> Option<u64> {
        self.planned
    }

    /// The image has counted: nothing more is to come.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.count.is_some()
    }

    /// The image reported something that must not happen.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// What it reported of that.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// What is wrong with the run; nothing if it passed.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints: Vec<String> = self
            .errors
            .iter()
            .map(|text| format!("the image reports: {text}"))
            .collect();
        for case in &self.cases {
            if let Some(detail) = case.failed {
                complaints.push(format!("case {} failed ({detail:#x})", case.name));
            }
        }
        let failed = self
            .cases
            .iter()
            .filter(|case| case.failed.is_some())
            .count() as u64;
        let passed = self.cases.len() as u64 - failed;
        match (self.planned, self.count) {
            (None, None) => {
                complaints.push("no plan and no verdict came from the image".to_owned())
            }
            (Some(planned), None) => {
                complaints.push(format!(
                    "no verdict came from the image: {passed} of {planned} cases passed"
                ));
            }
            (planned, Some(count)) => {
                let seen = Count {
                    planned: planned.unwrap_or(0),
                    passed,
                    failed,
                };
                if count != seen {
                    complaints.push(format!("the image counted {count}, its log shows {seen}"));
                }
                if count.planned == 0 {
                    complaints.push("no case was planned".to_owned());
                }
                if count.passed != count.planned {
                    complaints.push(format!(
                        "{} of {} cases passed",
                        count.passed, count.planned
                    ));
                }
            }
        }
        complaints
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} planned, {} passed, {} failed",
            self.planned, self.passed, self.failed
        )
    }
}

/// `plan: N cases`.
fn plan(text: &str) -> Option<u64> {
    text.strip_prefix("plan: ")?
        .strip_suffix(" cases")?
        .parse()
        .ok()
}

/// `verdict: planned N, passed N, failed N`.
fn count(text: &str) -> Option<Count> {
    let mut numbers = text.strip_prefix("verdict: ")?.split(", ");
    let mut number = |name: &str| numbers.next()?.strip_prefix(name)?.parse().ok();
    Some(Count {
        planned: number("planned ")?,
        passed: number("passed ")?,
        failed: number("failed ")?,
    })
}

/// `case NAME: passed` or `case NAME: FAILED (0xN)`.
fn case(text: &str) -> Option<Case> {
    let (name, outcome) = text.strip_prefix("case ")?.rsplit_once(": ")?;
    let failed = match outcome {
        "passed" => None,
        // A detail that cannot be read does not make a failure less of one.
        _ => Some(detail(outcome.strip_prefix("FAILED")?)),
    };
    Some(Case {
        name: name.to_owned(),
        failed,
    })
}

fn detail(text: &str) -> u64 {
    let digits = text.trim().trim_start_matches("(0x").trim_end_matches(')');
    u64::from_str_radix(digits, 16).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(lines: &[&str]) -> Verdict {
        let mut verdict = Verdict::default();
        for line in lines {
            let level = if line.contains("FAILED") || line.starts_with("panic") {
                Level::Error
            } else {
                Level::Info
            };
            verdict.take(&Frame {
                time: String::new(),
                level,
                text: (*line).to_owned(),
                place: None,
            });
        }
        verdict
    }

    #[test]
    fn a_run_that_keeps_its_plan_passes() {
        let good = verdict(&[
            "booting",
            "plan: 2 cases",
            "case a: passed",
            "case b: c: passed",
            "verdict: planned 2, passed 2, failed 0",
        ]);
        assert_eq!(good.complaints(), Vec::<String>::new());
        assert_eq!(
            good.cases()
                .iter()
                .map(|case| case.name.as_str())
                .collect::<Vec<_>>(),
            ["a", "b: c"]
        );
    }

    #[test]
    fn everything_else_fails() {
        let end = "verdict: planned 1, passed 1, failed 0";
        for lines in [
            vec![],
            vec!["plan: 1 cases", "case a: passed"],
            vec!["plan: 1 cases", end],
            vec!["case a: passed", end],
            vec!["plan: 2 cases", "case a: passed", end],
            vec!["plan: 1 cases", "case a: passed", "case b: passed", end],
            vec![
                "plan: 2 cases",
                "case a: passed",
                "verdict: planned 2, passed 1, failed 0",
            ],
            vec![
                "plan: 1 cases",
                "case a: FAILED (0x2a)",
                "verdict: planned 1, passed 0, failed 1",
            ],
            vec!["plan: 1 cases", "case a: FAILED (0x2a)", end],
            vec!["plan: 1 cases", "panicked", "case a: passed", end],
            vec!["plan: 0 cases", "verdict: planned 0, passed 0, failed 0"],
            vec!["verdict: nonsense"],
        ] {
            assert_ne!(
                verdict(&lines).complaints(),
                Vec::<String>::new(),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn a_failed_case_tells_its_detail() {
        let failed = verdict(&["case a: FAILED (0x2a)"]);
        assert_eq!(
            failed.cases(),
            [Case {
                name: "a".to_owned(),
                failed: Some(0x2a)
            }]
        );
    }
}
