//! Passes of a target's table without a pause and without end: what a reader costs its partition is counted beside it.
//!
//! Nothing comes from outside meanwhile, so under `-icount` every run is the same.

use realhpt_pseries::{
    abi::OpenFlags,
    exchange::{phase, word},
    hcall,
    window::Window,
};

use crate::{
    job::{Case, Trouble},
    stream::{self, CHUNK},
};

/// The cases.
pub(crate) const CASES: [Case<Follow>; 1] = [("follow::passes", Follow::passes)];

/// The job's state.
#[derive(Debug)]
pub(crate) struct Follow {
    window: Window,
    target: u64,
}

impl Follow {
    /// The job as the window describes it.
    pub(crate) fn new(window: Window) -> Self {
        let target = window.get(word::TARGET);
        Self { window, target }
    }

    /// Reads passes, each over the last one in the window. The machine ends when its other partitions have.
    fn passes(&mut self) -> Result<(), Trouble> {
        let stream = hcall::hpt_open(self.target, OpenFlags::empty(), 0)?;
        let place = (
            self.window.get(word::OUTPUT),
            self.window.get(word::OUTPUT_SIZE),
        );
        self.window.begin_phase(phase::READ, 0);
        loop {
            stream::read(&self.window, stream.handle, place, CHUNK, |_| {})?;
        }
    }
}
