//! ctrl-C, and being asked to end: a flag that the loops look at, so that everything is put in order first.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Turns SIGINT, SIGTERM and SIGHUP into the flag. Once per program.
///
/// # Errors
/// If the handler cannot be installed.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed))
        .context("cannot handle ctrl-C")
}

/// Whether one of them came.
#[must_use]
pub fn came() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
