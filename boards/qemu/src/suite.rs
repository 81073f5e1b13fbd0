//! Runs an image whose guests report test cases, and gives the cases back: what the on-target tests stand on.

use std::path::Path;

use anyhow::Result;

use crate::exchange::{Exchange, Job};
use crate::log::Frame;
use crate::machine::{Kind, Settings};
use crate::manifest::Manifest;
use crate::session::{Patience, Session, Watcher};
use crate::verdict::Case;

/// One run of a suite.
#[derive(Clone, Copy, Debug)]
pub struct Suite<'a> {
    /// On which machine.
    pub machine: Kind,
    /// The bootable image.
    pub image: &'a Path,
    /// Its partitions.
    pub manifest: &'a Manifest,
    /// How many CPUs.
    pub cpus: u32,
    /// What a partition finds in its window: its LPID and the job.
    pub job: Option<(u32, Job<'a>)>,
    /// How long it may take.
    pub patience: Patience,
}

/// How a suite went.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its cases, in the order they were reported in.
    pub cases: Vec<Case>,
    /// What is wrong with the run, failed cases included; nothing if it passed.
    pub complaints: Vec<String>,
    /// The ends of both logs.
    pub tails: String,
}

impl Report {
    /// Whether every planned case passed and nothing else went wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.complaints.is_empty()
    }
}

/// Boots the suite and waits for its end. `show` is given each frame, and the case if it reports one.
///
/// # Errors
/// If the machine cannot be run; what goes wrong on the machine is in the report.
pub fn run(suite: &Suite<'_>, show: &mut dyn FnMut(&Frame, Option<&Case>)) -> Result<Report> {
    struct Show<'a>(&'a mut dyn FnMut(&Frame, Option<&Case>));
    impl Watcher for Show<'_> {
        fn frame(&mut self, frame: &Frame, case: Option<&Case>) {
            (self.0)(frame, case);
        }
    }
    let settings = Settings {
        kind: suite.machine,
        image: suite.image,
        manifest: suite.manifest,
        cpus: suite.cpus,
        count_instructions: false,
    };
    let mut session = Session::start(&settings, |memory| match &suite.job {
        Some((lpid, job)) => Exchange::map(memory, suite.manifest.window(*lpid)?)?.write(job),
        None => Ok(()),
    })?;
    let ended = session.run(suite.patience, &mut Show(show))?;
    Ok(Report {
        cases: session.verdict().cases().to_vec(),
        complaints: session.complaints(ended),
        tails: session.tails(),
    })
}
