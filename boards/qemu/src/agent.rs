//! The agent as the runner drives it: commands through its window, one after the other, while the machine runs
//! (`realhpt_pseries::exchange::replay`).
//!
//! What comes next may depend on the answers. Nothing waits for long, so an answer is looked for again and again rather than
//! slept for; meanwhile the caller looks after its machine.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use realhpt::hcall::abi::ReadFlags;
use realhpt_pseries::exchange::{HEADER, job, replay, word};

use crate::exchange::{Exchange, Job};
use crate::manifest::WINDOW_GUEST_BASE;

/// r3 to r12 of a hypercall.
pub type Frame = [u64; replay::FRAME_WORDS];

/// Frames of one command, at most, and bytes that they take.
pub const FRAMES: usize = 1 << 14;
const FRAMES_SIZE: u64 = (FRAMES * replay::FRAME_WORDS * 8) as u64;
/// Where in the window buffers may stand: behind the frames.
pub const BUFFER: u64 = HEADER + FRAMES_SIZE;

/// For how long an answer is waited for without rest, and how long a rest is.
const EAGER: Duration = Duration::from_micros(500);
const REST: Duration = Duration::from_micros(50);
/// How often the caller looks after its machine meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Guest real address of what stands at an offset in the agent's window.
#[must_use]
pub const fn address(offset: u64) -> u64 {
    WINDOW_GUEST_BASE + offset
}

/// A pass that the agent has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Status of its last call.
    pub status: i64,
    /// Bytes of its records.
    pub length: u64,
    /// Its number.
    pub number: u64,
    /// What its last call said.
    pub flags: ReadFlags,
    /// Slots that were pending after it.
    pub pending: u64,
    /// H_HPT_READ calls.
    pub calls: u64,
    /// Timebase ticks that they took.
    pub ticks: u64,
}

/// An agent that takes commands.
#[derive(Debug)]
pub struct Agent {
    window: Exchange,
    commands: u64,
}

impl Agent {
    /// The job of an agent that takes commands, those by proxy for partition `target`.
    #[must_use]
    pub const fn job(target: u32) -> Job<'static> {
        Job {
            job: job::REPLAY,
            target,
            argument: 0,
            sections: &[],
        }
    }

    /// The agent behind a window, in which its job stands.
    #[must_use]
    pub const fn new(window: Exchange) -> Self {
        Self {
            window,
            commands: 0,
        }
    }

    /// Its window.
    #[must_use]
    pub const fn window(&self) -> &Exchange {
        &self.window
    }

    /// How many commands it was given.
    #[must_use]
    pub const fn commands(&self) -> u64 {
        self.commands
    }

    /// Puts a command, whose frames are there, into the window.
    fn request(&mut self, command: u64, frames: u64) {
        self.commands += 1;
        self.window.set(word::COMMAND, command);
        self.window.set(word::FRAMES, frames);
        self.window.set(word::REQUEST, self.commands);
    }

    /// Has it end its job. Nobody waits for that.
    pub fn end(&mut self) {
        self.request(replay::command::END, 0);
    }

    /// Has it do a command with these frames; in the end they are as it left them. `look` looks after the machine while
    /// the answer is waited for, and may give up.
    ///
    /// # Errors
    /// What `look` says.
    pub fn command(
        &mut self,
        command: u64,
        frames: &mut [Frame],
        mut look: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        ensure!(frames.len() <= FRAMES, "{} frames at once", frames.len());
        let numbers = || {
            usize::try_from(HEADER / 8)
                .into_iter()
                .flat_map(|first| first..)
        };
        for (number, register) in numbers().zip(frames.as_flattened()) {
            self.window.set(number, *register);
        }
        self.request(command, u64::try_from(frames.len())?);
        let begin = Instant::now();
        let mut looked = begin;
        while self.window.get(word::ANSWER) != self.commands {
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                look()?;
            }
            if begin.elapsed() < EAGER {
                thread::yield_now();
            } else {
                thread::sleep(REST);
            }
        }
        for (number, register) in numbers().zip(frames.as_flattened_mut()) {
            *register = self.window.get(number);
        }
        Ok(())
    }

    /// A hypercall of the agent's: status and results.
    ///
    /// # Errors
    /// As for [`Self::command`].
    pub fn call(
        &mut self,
        token: u64,
        arguments: [u64; 3],
        look: impl FnMut() -> Result<()>,
    ) -> Result<(i64, [u64; 3])> {
        let [a, b, c] = arguments;
        let mut frames = [[token, a, b, c, 0, 0, 0, 0, 0, 0]];
        self.command(replay::command::CALL, &mut frames, look)?;
        let [[status, a, b, c, ..]] = frames;
        Ok((status.cast_signed(), [a, b, c]))
    }

    /// A pass of one of its readers, into the `room` bytes at `offset` of its window.
    ///
    /// # Errors
    /// As for [`Self::command`].
    pub fn pass(
        &mut self,
        handle: u64,
        (offset, room): (u64, u64),
        look: impl FnMut() -> Result<()>,
    ) -> Result<Pass> {
        use replay::pass::{CALLS, HANDLE, LENGTH, OFFSET, PENDING, ROOM, SAID, STATUS, TICKS};
        const { assert!(HANDLE == 0 && OFFSET == 1 && ROOM == 2) };
        let mut frames = [[handle, offset, room, 0, 0, 0, 0, 0, 0, 0]];
        self.command(replay::command::PASS, &mut frames, look)?;
        let [frame] = frames;
        let word = |which: usize| frame.get(which).copied().unwrap_or(0);
        Ok(Pass {
            status: word(STATUS).cast_signed(),
            length: word(LENGTH),
            number: word(SAID) >> 32,
            flags: ReadFlags::from_bits_retain(word(SAID) & 0xffff_ffff),
            pending: word(PENDING),
            calls: word(CALLS),
            ticks: word(TICKS),
        })
    }
}
