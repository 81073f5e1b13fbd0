//! Which job is to be done, and how one ends.

use core::fmt;

use realhpt_pseries::{
    abi,
    exchange::{self, MAGIC, VERSION, phase, word},
    hcall::Failure,
    println, report,
    runtime::Runtime,
    window::Window,
};

use crate::{bench, follow, replay, roundtrip, shell};

/// A job failed in one of its cases.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// A hypercall that had to succeed did not.
    Call(Failure),
    /// The window has no room for the output.
    NoRoom,
    /// The window says something that cannot be.
    BadJob,
    /// A stream said something it must not say now: the call's token, what it said.
    Stream(u64, u64),
    /// The target ended with this code.
    Code(u64),
    /// The target did not come to an end.
    Endless,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Call(failure)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(failure) => failure.fmt(f),
            Self::NoRoom => write!(f, "no room for the output"),
            Self::BadJob => write!(f, "the job's description is wrong"),
            Self::Stream(call, value) => {
                write!(f, "hypercall {call:#x}: unexpected answer {value:#x}")
            }
            Self::Code(code) => write!(f, "the target ended with code {code:#x}"),
            Self::Endless => write!(f, "the target does not end"),
        }
    }
}

impl Trouble {
    /// The words of a failure: token, status, detail. Where the window is at fault, the detail is the number of
    /// its doubleword that says what cannot be.
    const fn words(&self) -> (u64, u64, u64) {
        match *self {
            Self::Call(Failure {
                call,
                status,
                detail: [consumed, index],
            }) => (
                call,
                status,
                if call == abi::H_HPT_WRITE {
                    index
                } else {
                    consumed
                },
            ),
            Self::NoRoom => (abi::H_HPT_READ, 0, exchange::word::OUTPUT_SIZE as u64),
            Self::BadJob => (0, 0, exchange::word::SECTIONS as u64),
            Self::Stream(call, value) => (call, 0, value),
            Self::Code(code) => (abi::H_LPAR_EXIT, 0, code),
            Self::Endless => (abi::H_LPAR_QUERY, 0, 0),
        }
    }
}

/// The program.
pub(crate) fn main(runtime: &Runtime) -> u64 {
    let window = runtime
        .window
        .filter(|window| window.get(word::MAGIC) == MAGIC);
    let Some(window) = window else {
        return shell::run(runtime);
    };
    let job = window.get(word::JOB);
    match (window.get(word::VERSION), job) {
        (VERSION, exchange::job::CONSOLE) => shell::run(runtime),
        (VERSION, exchange::job::ROUNDTRIP) => run(
            window,
            &roundtrip::CASES,
            &mut roundtrip::Roundtrip::new(window),
        ),
        (VERSION, exchange::job::BENCH) => {
            run(window, &bench::CASES, &mut bench::Job::new(runtime, window))
        }
        (VERSION, exchange::job::REPLAY) => {
            run(window, &replay::CASES, &mut replay::Replay::new(window))
        }
        (VERSION, exchange::job::FOLLOW) => {
            run(window, &follow::CASES, &mut follow::Follow::new(window))
        }
        (version, _) => {
            println!("agent: job {job} of layout {version} is none of mine");
            let unknown: Case<()> = ("job", |()| Err(Trouble::BadJob));
            run(window, &[unknown], &mut ())
        }
    }
}

/// One case of a job: its name, and what it does.
pub(crate) type Case<J> = (&'static str, fn(&mut J) -> Result<(), Trouble>);

/// Runs the cases of a job in order. Each stands on those before it, so the first that fails is the last.
fn run<J>(window: Window, cases: &[Case<J>], job: &mut J) -> u64 {
    report::plan(cases.len() as u64);
    let result = cases.iter().try_for_each(|(name, case)| match case(job) {
        Ok(()) => {
            report::passed(name);
            Ok(())
        }
        Err(trouble) => {
            println!("agent: {name}: {trouble}");
            let (call, status, detail) = trouble.words();
            window.set(word::FAILED_CALL, call);
            window.set(word::FAILED_STATUS, status);
            window.set(word::FAILED_DETAIL, detail);
            report::failed(name, detail);
            Err(trouble)
        }
    });
    window.begin_phase(phase::END, 0);
    window.set(word::RESULT, if result.is_ok() { 1 } else { 2 });
    report::end();
    u64::from(result.is_err())
}
