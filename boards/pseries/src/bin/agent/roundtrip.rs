//! The round trip of a table: restore it, read it, have its partition change it, read the changes.
//!
//! The cases read in order what happens. The host has the verdict over the data: the first pass must be the
//! table that was restored, and first pass and changes together must be the reference.

use realhpt_pseries::{
    abi::{self, OpenFlags, State, Status},
    cpu,
    exchange::{kind, phase, word},
    hcall::{self, MANIFEST_ENTRY, Stream},
    println,
    window::Window,
};

use crate::{
    job::{Case, Trouble},
    stream::{self, Output},
};

/// The cases.
pub(crate) const CASES: [Case<Roundtrip>; 7] = [
    ("roundtrip::restore", Roundtrip::restore),
    ("roundtrip::first_pass", Roundtrip::first_pass),
    ("roundtrip::clean_pass", Roundtrip::clean_pass),
    ("roundtrip::pause", Roundtrip::pause),
    ("roundtrip::client", Roundtrip::client),
    ("roundtrip::final_pass", Roundtrip::final_pass),
    ("roundtrip::reference", Roundtrip::reference),
];

/// How long the client has the processor before the next pass.
const BREATH: u64 = cpu::TICKS_PER_MS;
/// How long the client may take.
const PATIENCE: u64 = 120_000 * cpu::TICKS_PER_MS;
/// Passes after which a table that nobody changes must be clean: one for the changes, one that has none.
const SETTLING: u64 = 2;
/// Passes that are read while the client runs on after the pause. Fewer than the client takes breaths, so that
/// the final pass has something.
const LIVE_PASSES: u64 = 3;

/// The job's state.
#[derive(Debug)]
pub(crate) struct Roundtrip {
    window: Window,
    target: u64,
    output: Output,
    reader: Option<Stream>,
    /// The table has no room for the entries that the client would run through: it stays as it was restored.
    no_room: bool,
}

impl Roundtrip {
    /// The job as the window describes it.
    pub(crate) fn new(window: Window) -> Self {
        let target = window.get(word::TARGET);
        Self {
            window,
            target,
            output: Output::new(window),
            reader: None,
            no_room: false,
        }
    }

    /// The reader that was opened for the first pass. Cases run in order, so it is there.
    fn reader(&self) -> Result<Stream, Trouble> {
        self.reader.ok_or(Trouble::BadJob)
    }

    fn restore(&mut self) -> Result<(), Trouble> {
        let stream = hcall::hpt_open(self.target, OpenFlags::WRITE, 0)?;
        stream::restore(&self.window, &stream)?;
        Ok(hcall::hpt_close(stream.handle)?)
    }

    fn first_pass(&mut self) -> Result<(), Trouble> {
        let reader = hcall::hpt_open(self.target, OpenFlags::empty(), 0)?;
        self.reader = Some(reader);
        let pass = self.output.read(&reader, kind::FIRST)?;
        if pass.number == 1 {
            Ok(())
        } else {
            Err(Trouble::Stream(abi::H_HPT_READ, pass.number))
        }
    }

    fn clean_pass(&mut self) -> Result<(), Trouble> {
        let pass = self.output.read(&self.reader()?, kind::CLEAN)?;
        if pass.is_clean() {
            Ok(())
        } else {
            Err(Trouble::Stream(abi::H_HPT_READ, pass.length))
        }
    }

    /// Starts the client, reads while it runs, stops it for a moment: what is read then is exact.
    fn pause(&mut self) -> Result<(), Trouble> {
        match hcall::lpar_start(self.target, MANIFEST_ENTRY, 0) {
            Err(refused) if refused.status == Status::PtegFull.raw() => {
                return self.stays_as_it_is();
            }
            started => started?,
        }
        let reader = self.reader()?;
        for _ in 0..2 {
            self.breathe();
            self.output.read(&reader, kind::LIVE)?;
        }
        if self.stop()? == State::Halted as u64 {
            println!("the client has ended before it could be paused");
            return Ok(());
        }
        self.settle(kind::LIVE)?;
        Ok(hcall::lpar_resume(self.target)?)
    }

    /// A table without a free slot for the VRMA: its partition cannot run, whoever asks, and the attempt has left
    /// no trace.
    fn stays_as_it_is(&mut self) -> Result<(), Trouble> {
        self.no_room = true;
        self.window.set(word::NO_ROOM, 1);
        println!("the client's table has no room for a VRMA: it does not run");
        let again = hcall::lpar_start(self.target, MANIFEST_ENTRY, 0);
        if !again.is_err_and(|refused| refused.status == Status::PtegFull.raw()) {
            return Err(Trouble::Stream(abi::H_LPAR_START, 0));
        }
        let client = hcall::lpar_query(self.target)?;
        if !client.is(State::Stopped) {
            return Err(Trouble::Stream(abi::H_LPAR_QUERY, client.state));
        }
        self.output.read(&self.reader()?, kind::LIVE)?;
        Ok(())
    }

    /// Reads some passes more, and waits until the client has ended itself, with code 0. What it did last is left
    /// to the final pass.
    fn client(&mut self) -> Result<(), Trouble> {
        if self.no_room {
            return self.stays_as_it_is();
        }
        let reader = self.reader()?;
        let start = cpu::timebase();
        let mut live = 0;
        while cpu::timebase() - start < PATIENCE {
            self.breathe();
            let client = hcall::lpar_query(self.target)?;
            if client.is(State::Halted) {
                return match client.exit_code {
                    0 => Ok(()),
                    code => Err(Trouble::Code(code)),
                };
            }
            if live < LIVE_PASSES {
                self.output.read(&reader, kind::LIVE)?;
                live += 1;
            }
        }
        Err(Trouble::Endless)
    }

    /// What the client did last, and then nothing.
    fn final_pass(&mut self) -> Result<(), Trouble> {
        self.settle(kind::FINAL)?;
        Ok(hcall::hpt_close(self.reader()?.handle)?)
    }

    /// A first pass of a new reader.
    fn reference(&mut self) -> Result<(), Trouble> {
        let reader = hcall::hpt_open(self.target, OpenFlags::empty(), 0)?;
        self.output.read(&reader, kind::REFERENCE)?;
        Ok(hcall::hpt_close(reader.handle)?)
    }

    /// Lets the client run.
    fn breathe(&self) {
        self.window.begin_phase(phase::CLIENT, 0);
        cpu::cede(BREATH);
    }

    /// Pauses the client, which may end itself at any time: gives the state it is in then.
    fn stop(&self) -> Result<u64, Trouble> {
        let refused = hcall::lpar_pause(self.target).err();
        let client = hcall::lpar_query(self.target)?;
        match refused {
            Some(failure) if !client.is(State::Halted) => Err(failure.into()),
            None if !client.is(State::Paused) && !client.is(State::Halted) => {
                Err(Trouble::Stream(abi::H_LPAR_PAUSE, client.state))
            }
            _ => Ok(client.state),
        }
    }

    /// Reads passes of a table that nobody changes now, until one is clean.
    fn settle(&mut self, kind: u64) -> Result<(), Trouble> {
        let reader = self.reader()?;
        for _ in 0..SETTLING {
            if self.output.read(&reader, kind)?.is_clean() {
                return Ok(());
            }
        }
        Err(Trouble::Stream(abi::H_HPT_READ, SETTLING))
    }
}
