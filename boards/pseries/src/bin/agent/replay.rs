//! Commands: hypercalls and passes that the runner names one batch after the other, made as they come.
//!
//! The agent knows nothing of what it is for, a replay or a partition whose table is streamed while it runs; the runner has the
//! file and the verdict over the answers. What the runner waits for most is the way here and back: the agent looks for the
//! next command for a while before it gives the processor up.

use realhpt_pseries::{
    abi::{H_CEDE, Status},
    cpu,
    exchange::{
        replay::{FRAME_WORDS, command, pass},
        word,
    },
    hcall::{self, Registers, hcall},
    window::Window,
};

use crate::{
    job::{Case, Trouble},
    stream::{self, CHUNK},
};

/// The cases.
pub(crate) const CASES: [Case<Replay>; 1] = [("replay::commands", Replay::commands)];

/// How long the agent looks for a command before it cedes, and how long it then does.
const LOOK: u64 = cpu::TICKS_PER_MS;
const BREATH: u64 = cpu::TICKS_PER_MS / 10;
/// How long it leaves the processor to the others when it is told to.
const CEDE: u64 = cpu::TICKS_PER_MS / 10;

/// The job's state.
#[derive(Debug)]
pub(crate) struct Replay {
    window: Window,
    target: u64,
}

impl Replay {
    /// The job as the window describes it.
    pub(crate) fn new(window: Window) -> Self {
        let target = window.get(word::TARGET);
        Self { window, target }
    }

    /// Does commands until there are no more.
    fn commands(&mut self) -> Result<(), Trouble> {
        let mut done = 0;
        loop {
            done = self.next(done);
            match self.window.get(word::COMMAND) {
                command::CALL => self.each(|number| {
                    self.call(number);
                    Ok(())
                })?,
                command::PASS => self.each(|number| self.pass(number))?,
                command::PROXY => self.each(|number| self.proxy(number))?,
                command::END => return Ok(()),
                _ => return Err(Trouble::BadJob),
            }
            self.window.release(word::ANSWER, done);
        }
    }

    /// Waits for the command after number `done`; its number.
    fn next(&self, done: u64) -> u64 {
        loop {
            let start = cpu::timebase();
            while cpu::timebase() - start < LOOK {
                let request = self.window.acquire(word::REQUEST);
                if request != done {
                    return request;
                }
            }
            cpu::cede(BREATH);
        }
    }

    /// Goes through the command's frames, each by the number of its first doubleword.
    fn each(&self, act: impl Fn(usize) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let room = self.window.get(word::OUTPUT_SIZE) / 8;
        let frames = self.window.get(word::FRAMES);
        let words = frames.checked_mul(FRAME_WORDS as u64);
        let place = |words: u64| usize::try_from(words).map_err(|_| Trouble::BadJob);
        let words = place(
            words
                .filter(|&words| words <= room)
                .ok_or(Trouble::BadJob)?,
        )?;
        let first = place(self.window.get(word::OUTPUT) / 8)?;
        (0..words)
            .step_by(FRAME_WORDS)
            .try_for_each(|number| act(first + number))
    }

    /// A hypercall of the agent's own.
    fn call(&self, first: usize) {
        let frame: Registers = core::array::from_fn(|number| self.window.get(first + number));
        let [token, ..] = frame;
        if token == H_CEDE {
            cpu::cede(CEDE);
            return;
        }
        let mut registers;
        loop {
            registers = frame;
            // SAFETY: the runner names no buffers but such as are in the window.
            unsafe { hcall(&mut registers) };
            let [status, ..] = registers;
            if status != Status::Continue.raw() {
                break;
            }
        }
        for (number, register) in (first..).zip(registers) {
            self.window.set(number, register);
        }
    }

    /// A pass of one of the agent's readers. That it did not come to its end is for the runner to judge.
    fn pass(&self, first: usize) -> Result<(), Trouble> {
        let word = |which| self.window.get(first + which);
        let place = (word(pass::OFFSET), word(pass::ROOM));
        let read = stream::read(&self.window, word(pass::HANDLE), place, CHUNK, |_| {});
        let (status, read) = match read {
            Ok(read) => (Status::Success.raw(), Some(read)),
            Err(Trouble::Call(failure)) => (failure.status, None),
            Err(Trouble::NoRoom) => (Status::NoMem.raw(), None),
            Err(trouble) => return Err(trouble),
        };
        self.window.set(first + pass::STATUS, status);
        if let Some(read) = read {
            let said = read.last.pass << 32 | read.last.flags.bits();
            for (which, value) in [
                (pass::LENGTH, read.length),
                (pass::SAID, said),
                (pass::PENDING, read.last.pending),
                (pass::CALLS, read.count),
                (pass::TICKS, read.ticks),
            ] {
                self.window.set(first + which, value);
            }
        }
        Ok(())
    }

    /// A hypercall of the target's, done in the window as it is.
    fn proxy(&self, first: usize) -> Result<(), Trouble> {
        let frame = self.window.base() + 8 * first as u64;
        // SAFETY: in the window, of which no one holds anything.
        Ok(unsafe { hcall::lpar_hcall(self.target, frame) }?)
    }
}
