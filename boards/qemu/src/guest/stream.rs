//! `--stream`: the agent reads a guest's table in passes while the guest runs, then exactly, while it is paused.
//!
//! What happens, in order: a first pass and passes of what has changed, as fast as the agent is asked for them, while the guest
//! goes on; then the guest is paused, and what is read then is exact. Held against one another while it is paused: all passes
//! applied one after the other, a fresh first pass, and that pass restored into a partition that stays empty
//! otherwise and read back. The guest goes on as if nothing had happened.
//!
//! A thread of its own drives the agent, beside the one that shows the guest's console; lines to be shown and a few signs,
//! that a guest has ended or the machine is off, are all that they exchange.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use realhpt::hcall::abi::{self, OpenFlags, ReadFlags, Status};
use realhpt_pseries::exchange::bench::CHUNK;

use crate::agent::{self, Agent, BUFFER};
use crate::images::Images;
use crate::log::Frame;
use crate::machine::PER_TICK;
use crate::manifest::{AGENT, Manifest, Partition};
use crate::session::Watcher;
use crate::tables::formats::{self, Format};
use crate::tables::hash;
use crate::tables::linux::linear_map;
use crate::tables::model::{Mask, Model};
use crate::tables::record::{Entry, entries_of, for_each_record};
use crate::verdict::Case;

use super::watch::Watch;

/// Host time between two passes: the guest is to get somewhere meanwhile.
const PACE: Duration = Duration::from_millis(20);
/// Host time without a change after which the guest is taken to rest.
const QUIET: Duration = Duration::from_secs(10);
/// Passes after which a table that nobody changes must be clean: one for the changes, one that has none.
const SETTLING: usize = 2;

/// What is streamed, and where to.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The guest's LPID.
    pub guest: u32,
    /// LPID of the partition that its table is restored into.
    pub spare: u32,
    /// log2 of the bytes of both tables.
    pub order: u32,
    /// Bytes of memory, if the guest is a Linux whose linear map is to be looked for.
    pub linux: Option<u64>,
    /// Passes with changes that are read while the guest runs: so many at least, and until it is ready.
    pub passes: usize,
    /// The file for all passes.
    pub out: PathBuf,
}

/// What the two threads tell each other.
#[derive(Debug, Default)]
struct Signs {
    /// The guest has ended.
    ended: AtomicBool,
    /// It has shown that it is up.
    ready: AtomicBool,
    /// All guests have: with the agent the machine ends too.
    all_ended: AtomicBool,
    /// The machine is off: nobody answers any more.
    off: AtomicBool,
}

impl Signs {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Gives up when the machine is off.
    fn look(&self) -> Result<()> {
        ensure!(
            !self.off.load(Ordering::Relaxed),
            "the machine has ended while the agent was at work"
        );
        Ok(())
    }
}

/// A line to be shown: a verb, and what there is to it.
type Line = (&'static str, String);

/// The agent, to read a table of this order while its own console is the log.
///
/// # Errors
/// If its image cannot be read.
pub fn agent(images: &Images, order: u32) -> Result<Partition> {
    let mut standard = Manifest::standard(images)?;
    let agent = standard.partition_mut(AGENT)?;
    (agent.console, agent.window) = (false, Some(window(order)));
    Ok(agent.clone())
}

/// Bytes of the agent's window for this: two tables as streams, at most, beside the commands.
#[must_use]
fn window(order: u32) -> u64 {
    (BUFFER + room(order)).next_multiple_of(16 << 20)
}

/// Bytes of the longest pass: every other slot an entry, each with a header.
fn room(order: u32) -> u64 {
    3 << (order - 1)
}

/// What a pass says of the table as it was before.
#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    /// Entries in it.
    entries: u64,
    /// Those of them in whose slot there was one.
    changed: u64,
    /// Slots that had an entry and have none.
    invalidated: u64,
}

/// A reader's passes, applied to a table one after the other.
struct Reader<'a> {
    driver: &'a Driver<'a>,
    handle: u64,
    table: Model,
}

struct Driver<'a> {
    plan: &'a Plan,
    signs: &'a Signs,
    lines: &'a Sender<Line>,
}

/// Streams the guest's table as planned, and lets the agent end when all guests have.
///
/// # Errors
/// What could not be done, or does not agree.
fn drive(agent: &mut Agent, plan: &Plan, signs: &Signs, lines: &Sender<Line>) -> Result<()> {
    let driver = Driver { plan, signs, lines };
    let result = driver.stream(agent);
    if let Err(error) = &result {
        driver.say("Streaming", format!("failed: {error:#}"));
    }
    while !signs.all_ended.load(Ordering::Relaxed) && signs.look().is_ok() {
        thread::sleep(PACE);
    }
    agent.end();
    result
}

/// Runs the machine by `run`, whose watcher shows the guest, and streams the guest's table beside it. What came of either.
pub fn beside<R>(
    plan: &Plan,
    mut agent: Agent,
    watch: &mut Watch<'_>,
    run: impl FnOnce(&mut dyn Watcher) -> R,
) -> (R, Result<()>) {
    let signs = Signs::default();
    let (lines, told) = channel();
    thread::scope(|scope| {
        let streaming = scope.spawn(|| drive(&mut agent, plan, &signs, &lines));
        let mut beside = Beside {
            watch,
            told,
            guest: plan.guest,
            signs: &signs,
        };
        let ran = run(&mut beside);
        signs.off.store(true, Ordering::Relaxed);
        let streamed = streaming.join();
        beside.tell();
        (
            ran,
            streamed.unwrap_or_else(|_| Err(anyhow!("the thread that streams has panicked"))),
        )
    })
}

/// Watches the guest, and shows what the other thread says.
struct Beside<'a, 'w> {
    watch: &'a mut Watch<'w>,
    told: Receiver<Line>,
    /// The guest whose table is streamed.
    guest: u32,
    signs: &'a Signs,
}

impl Beside<'_, '_> {
    /// Shows what there is to be shown; whether there was something.
    fn tell(&self) -> bool {
        let lines = self.told.try_iter();
        lines
            .map(|(verb, text)| self.watch.terminal().step(verb, &text))
            .count()
            != 0
    }
}

impl Watcher for Beside<'_, '_> {
    fn frame(&mut self, frame: &Frame, case: Option<&Case>) {
        self.watch.frame(frame, case);
        if self.watch.has_ended(self.guest) {
            self.signs.ended.store(true, Ordering::Relaxed);
        }
        if self.watch.all_have_ended() {
            self.signs.all_ended.store(true, Ordering::Relaxed);
        }
    }

    fn console(&mut self, bytes: &[u8]) {
        self.watch.console(bytes);
        if self.watch.is_ready(self.guest) {
            self.signs.ready.store(true, Ordering::Relaxed);
        }
    }

    fn tick(&mut self) -> bool {
        let said = self.tell();
        self.watch.tick() || said
    }

    fn wants_to_end(&self) -> bool {
        self.watch.wants_to_end()
    }
}

impl Driver<'_> {
    fn say(&self, verb: &'static str, text: String) {
        // Nobody listens any more when the machine is off.
        let _ = self.lines.send((verb, text));
    }

    /// A hypercall of the agent's that must succeed.
    fn call(&self, agent: &mut Agent, token: u64, arguments: [u64; 3]) -> Result<[u64; 3]> {
        let (status, results) = agent.call(token, arguments, || self.signs.look())?;
        ensure!(status == 0, "hypercall {token:#x} answers {status}");
        Ok(results)
    }

    fn open<'a>(&'a self, agent: &mut Agent, lpid: u32) -> Result<Reader<'a>> {
        let call = [lpid.into(), OpenFlags::empty().bits(), 0];
        let [handle, order, _] = self.call(agent, abi::H_HPT_OPEN, call)?;
        // The window, the file and all that is computed here are for the planned one.
        ensure!(
            order == u64::from(self.plan.order),
            "the table has order {order}, not {}",
            self.plan.order
        );
        let table = Model::new(self.plan.order);
        Ok(Reader {
            driver: self,
            handle,
            table,
        })
    }

    fn stream(&self, agent: &mut Agent) -> Result<()> {
        let plan = self.plan;
        let mut reader = self.open(agent, plan.guest)?;
        let mut sections = vec![reader.pass(agent, "first")?.0];
        let mut since = Instant::now();
        let enough = |passes, since: Instant| {
            let rests = since.elapsed() > QUIET;
            self.signs.is_ready() && (passes > plan.passes || rests)
        };
        while !enough(sections.len(), since) && !self.signs.has_ended() {
            thread::sleep(PACE);
            let (records, _) = reader.pass(agent, "live")?;
            if !records.is_empty() {
                sections.push(records);
                since = Instant::now();
            }
        }
        let paused = self.pause(agent)?;
        let clean = (0..SETTLING).try_fold(false, |clean, _| -> Result<bool> {
            if clean {
                return Ok(true);
            }
            let (records, flags) = reader.pass(agent, "exact")?;
            sections.extend((!records.is_empty()).then_some(records));
            Ok(flags.contains(ReadFlags::CLEAN))
        })?;
        ensure!(clean, "the table of a paused guest does not settle");
        let fresh = self.check(agent, &reader.table)?;
        reader.close(agent)?;
        formats::save(&plan.out, Format::Qemu, plan.order, &sections)?;
        self.say(
            "Wrote",
            format!("{}: {} sections", plan.out.display(), sections.len()),
        );
        self.restore(agent, &fresh)?;
        if paused {
            self.call(agent, abi::H_LPAR_RESUME, [plan.guest.into(), 0, 0])?;
            self.say("Resumed", "the guest goes on".to_owned());
        }
        Ok(())
    }

    /// Pauses the guest; whether it is paused: it may have ended.
    fn pause(&self, agent: &mut Agent) -> Result<bool> {
        let guest = [self.plan.guest.into(), 0, 0];
        let (status, _) = agent.call(abi::H_LPAR_PAUSE, guest, || self.signs.look())?;
        let [_, state, _] = self.call(agent, abi::H_LPAR_QUERY, guest)?;
        if state == abi::State::Halted as u64 {
            return Ok(false);
        }
        ensure!(status == 0, "a pause answers {status}");
        self.say("Paused", "the guest: what is read now is exact".to_owned());
        Ok(true)
    }

    /// Holds the table that the passes have made against a fresh first pass, which it gives, and looks at each entry.
    fn check(&self, agent: &mut Agent, table: &Model) -> Result<Vec<u8>> {
        let mut fresh = self.open(agent, self.plan.guest)?;
        let (records, _) = fresh.pass(agent, "fresh")?;
        fresh.close(agent)?;
        if let Some(difference) = table.first_difference(&fresh.table, Mask::NONE) {
            bail!("{}", difference.in_words("passes", "a fresh pass"));
        }
        let order = self.plan.order;
        let stray = table
            .entries()
            .find(|&(ptex, entry)| !hash::fits(ptex, entry, order));
        if let Some((ptex, entry)) = stray {
            bail!("slot {ptex:#x} is in no group of its entry's hash: {entry}");
        }
        let entries = table.entries().count();
        let mut proven = format!(
            "{entries} entries: the passes make the table of a fresh one, each entry fits its hash"
        );
        if let Some(memory) = self.plan.linux {
            let map = linear_map(table, memory)?;
            proven.push_str(&format!(
                ", {} map {} MiB in pages of {} KiB",
                map.entries,
                memory >> 20,
                (1_u64 << map.shift) >> 10
            ));
        }
        self.say("verified", proven);
        Ok(records)
    }

    /// Restores a table into the spare partition and reads it back.
    fn restore(&self, agent: &mut Agent, records: &[u8]) -> Result<()> {
        let spare = self.plan.spare;
        let call = [spare.into(), OpenFlags::WRITE.bits(), 0];
        let [handle, ..] = self.call(agent, abi::H_HPT_OPEN, call)?;
        let most = usize::try_from(CHUNK)?;
        let mut rest = records;
        while !rest.is_empty() {
            let piece = rest.get(..most.min(rest.len())).unwrap_or_default();
            agent.window().put(BUFFER, piece)?;
            let length = u64::try_from(piece.len())?;
            let call = [handle, agent::address(BUFFER), length];
            let [consumed, ..] = self.call(agent, abi::H_HPT_WRITE, call)?;
            rest = usize::try_from(consumed)
                .ok()
                .and_then(|consumed| rest.get(consumed..))
                .context("more was consumed than written")?;
        }
        self.call(agent, abi::H_HPT_CLOSE, [handle, 0, 0])?;
        let mut written = Model::new(self.plan.order);
        written.apply(records)?;
        let mut reader = self.open(agent, spare)?;
        reader.pass(agent, "spare")?;
        reader.close(agent)?;
        if let Some(difference) = written.first_difference(&reader.table, Mask::NONE) {
            bail!("{}", difference.in_words("restored", "read back"));
        }
        self.say(
            "verified",
            "restored into the spare partition it reads back equal".to_owned(),
        );
        Ok(())
    }
}

impl Reader<'_> {
    /// Reads a pass, applies it, and says what was in it; its records, and what its last call said. One that has nothing is not
    /// spoken of.
    fn pass(&mut self, agent: &mut Agent, kind: &str) -> Result<(Vec<u8>, ReadFlags)> {
        let place = (BUFFER, room(self.table.order()));
        let pass = agent.pass(self.handle, place, || self.driver.signs.look())?;
        ensure!(
            pass.status == Status::Success as i64,
            "a pass ends with {}",
            pass.status
        );
        let records = agent.window().bytes(BUFFER, pass.length)?;
        let changes = self.changes(&records)?;
        self.table.apply(&records)?;
        if !records.is_empty() {
            let insns = pass.ticks as f64 * PER_TICK;
            self.driver.say(
                "Pass",
                format!(
                    "{kind:5} {:4} {:6} entries {:6} changed {:6} invalidated {:8} bytes {:3} calls {insns:9.0} instructions, {} pending",
                    pass.number,
                    changes.entries,
                    changes.changed,
                    changes.invalidated,
                    pass.length,
                    pass.calls,
                    pass.pending
                ),
            );
        }
        Ok((records, pass.flags))
    }

    /// What records say of the table as it is.
    fn changes(&self, records: &[u8]) -> Result<Changes> {
        let mut changes = Changes::default();
        let had = |ptex| u64::from(self.table.get(ptex).is_some_and(Entry::is_valid));
        for_each_record(
            records,
            formats::slots(self.table.order()),
            |_, header, entries| {
                let valid = (u64::from(header.index)..).zip(entries_of(entries));
                for (ptex, _) in valid {
                    changes.entries += 1;
                    changes.changed += had(ptex);
                }
                let first = u64::from(header.index) + u64::from(header.n_valid);
                changes.invalidated += (first..header.end()).map(had).sum::<u64>();
            },
        )?;
        Ok(changes)
    }

    fn close(&self, agent: &mut Agent) -> Result<()> {
        let call = [self.handle, 0, 0];
        self.driver.call(agent, abi::H_HPT_CLOSE, call).map(drop)
    }
}
