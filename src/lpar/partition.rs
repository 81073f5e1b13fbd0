//! A partition: its description, its table, the streams over it and its control.

use super::control::{Control, Quiet, Start};
use super::papr::Papr;
use super::resize::Resize;
use super::vrma;
use crate::addr::{GuestReal, Lpid};
use crate::arch::Machine;
use crate::hcall::abi::{Privileges, State, Status};
use crate::memory::{Region, Regions};
use crate::stream::{Budget, Readers, Writer};
use crate::sync::Mutex;
use crate::table::bitmap::{BLOCK, WORD, ones};
use crate::table::hpte::Format;
use crate::table::tlb::Scope;
use crate::table::{Memory, Table, Tables};

/// What a partition is, as its board's manifest says.
#[derive(Clone, Debug)]
pub struct Description<'a> {
    /// For people.
    pub name: &'a str,
    /// Its number; not 0.
    pub lpid: Lpid,
    /// What it may do to others.
    pub privileges: Privileges,
    /// All its memory. The region at guest real 0 is the one it runs in.
    pub regions: Regions,
    /// The region, one of `regions`, that it shares with the machine's owner.
    pub shared: Option<Region>,
    /// Where it starts.
    pub entry: GuestReal,
    /// How many vCPUs it has, from 1 to [`super::MAX_VCPUS`].
    pub vcpus: usize,
}

/// The one writer a table can have: whose it is.
#[derive(Debug)]
pub(crate) struct WriterSlot {
    pub(crate) owner: Option<Lpid>,
    pub(crate) serial: u64,
    pub(crate) generation: u64,
}

impl WriterSlot {
    /// Whether this use of the slot is the owner's.
    pub(crate) fn is_of(&self, owner: Lpid, serial: u64) -> bool {
        self.owner == Some(owner) && self.serial == serial
    }
}

/// A partition.
#[derive(Debug)]
pub struct Partition<'m> {
    description: Description<'m>,
    tables: Tables<'m>,
    readers: Readers<'m>,
    /// Held for a moment, by whoever wants to know or changes whose the writer is.
    writer_slot: Mutex<WriterSlot>,
    /// Held by the one call that uses the writer, for all its time. Nobody waits for it while it holds the slot.
    writer: Mutex<Writer>,
    control: Control,
    resize: Resize,
    /// Where H_CLEAR_HPT goes on.
    clearing: Mutex<u64>,
    papr: Papr,
}

/// Work of a pause, in about instructions: to pass a block or a word, to look at an entry, to merge its R and C.
const BLOCK_WORK: u64 = 12;
const LOOK_WORK: u64 = 40;
const MERGE_WORK: u64 = 160;

impl<'m> Partition<'m> {
    /// A stopped partition with an empty table in `memory`, which is zeroed.
    #[must_use]
    pub fn new(description: Description<'m>, format: Format, memory: Memory<'m>) -> Self {
        let (tables, marks) = Tables::new(description.lpid, format, memory);
        Self {
            tables,
            readers: Readers::new(marks),
            writer_slot: Mutex::new(WriterSlot {
                owner: None,
                serial: 0,
                generation: 0,
            }),
            writer: Mutex::new(Writer::new()),
            control: Control::new(description.vcpus),
            resize: Resize::new(),
            clearing: Mutex::new(0),
            papr: Papr::new(description.vcpus),
            description,
        }
    }

    /// What it is.
    #[must_use]
    pub const fn description(&self) -> &Description<'m> {
        &self.description
    }

    /// Its table: the one in use. A resize replaces it, so no call keeps what this gives for another.
    #[inline]
    #[must_use]
    pub fn table(&self) -> &Table<'m> {
        self.tables.current()
    }

    /// Its table and the spare one.
    pub(crate) const fn tables(&self) -> &Tables<'m> {
        &self.tables
    }

    pub(super) const fn resize(&self) -> &Resize {
        &self.resize
    }

    pub(super) const fn clearing(&self) -> &Mutex<u64> {
        &self.clearing
    }

    /// The readers of its table.
    #[must_use]
    pub const fn readers(&self) -> &Readers<'m> {
        &self.readers
    }

    pub(crate) const fn writer_slot(&self) -> &Mutex<WriterSlot> {
        &self.writer_slot
    }

    pub(crate) const fn writer(&self) -> &Mutex<Writer> {
        &self.writer
    }

    /// What PAPR keeps of it.
    #[must_use]
    pub const fn papr(&self) -> &Papr {
        &self.papr
    }

    /// Its control.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Which CPUs may remember translations of its entries while one of its vCPUs makes a call: with one
    /// vCPU, the one that it is on. (A vCPU that comes to another CPU has its translations dropped there
    /// first.)
    #[inline]
    #[must_use]
    pub const fn scope(&self) -> Scope {
        if self.description.vcpus == 1 {
            Scope::Here
        } else {
            Scope::Everywhere(self.description.lpid)
        }
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.control.state()
    }

    /// Log2 of the page size that guest real mode is translated with: for LPCR\[VRMASD\] and for PS of the
    /// partition table. Before the first start it says 4K.
    #[must_use]
    pub fn vrma_shift(&self) -> u32 {
        self.table().vrma_shift().unwrap_or(12)
    }

    /// Bytes of memory that the table takes beside the HPT in use, the spare one with all that belongs to it.
    #[must_use]
    pub fn bytes_beside(&self) -> u64 {
        self.tables.bytes_beside()
    }

    /// Starts a stopped partition, with a VRMA if its table has none.
    ///
    /// # Errors
    /// [`Status::Busy`] if it is not stopped or its table is being written; what [`vrma::prepare`] says.
    pub fn start<M: Machine>(&self, machine: &M, start: Start) -> Result<(), Status> {
        self.control.start(start, || self.prepare(machine))?;
        self.log_start(start);
        Ok(())
    }

    /// Makes it ready to start: with a VRMA, and a platform that nobody has used.
    fn prepare<M: Machine>(&self, machine: &M) -> Result<(), Status> {
        vrma::prepare(machine, self.table(), &self.description.regions)?;
        self.papr.reset();
        Ok(())
    }

    fn log_start(&self, start: Start) {
        // Not where a vCPU comes to its CPU: a guest starts its vCPUs, the first one too, as often as it likes, and
        // the log's port is slow.
        crate::info!(
            "partition {=str} starts at {=u64:#x}",
            self.description.name,
            start.entry.raw()
        );
    }

    /// Takes the partition out of guest state and makes its R and C final, a piece at a time: drops every
    /// translation of it, so that no processor holds back an R or C, and merges them into the guest view.
    /// Every pass begun after this is done is exact, and so is the pending count. `cpu` is the caller's.
    ///
    /// # Errors
    /// [`Status::Continue`] when there is more to do, or to wait for; [`Status::Busy`] while it is being reset.
    pub fn pause<M: Machine>(&self, machine: &M, cpu: usize) -> Result<(), Status> {
        let lpid = self.description.lpid;
        let (quiet, _resumed_by_nobody) = self.control.pause(machine)?;
        let from = match quiet {
            Quiet::No if self.control.forget(machine, lpid, cpu) => 0,
            Quiet::Told if self.control.has_forgotten(machine) => 0,
            Quiet::No | Quiet::Told => {
                self.control.set_quiet(Quiet::Told);
                return Err(Status::Continue);
            }
            Quiet::Below(slot) => slot,
            Quiet::Yes => self.table().order().slots(),
        };
        if let Some(reached) = self.merge(from) {
            self.control.set_quiet(Quiet::Below(reached));
            return Err(Status::Continue);
        }
        self.control.set_quiet(Quiet::Yes);
        if self.readers.share_out(&self.tables) {
            Ok(())
        } else {
            Err(Status::Continue)
        }
    }

    /// Merges R and C into the guest view in the unsettled entries from slot `from` on; where it stopped.
    fn merge(&self, from: u64) -> Option<u64> {
        let table = self.table();
        // Nobody makes an entry, or changes one: the partition is out of guest state, and calls by proxy wait.
        if !table.has_unsettled() {
            return None;
        }
        let mut budget = Budget::of_a_call();
        let mut slot = from;
        while slot < table.order().slots() {
            if table.unsettled().block(slot / BLOCK) == 0 {
                let _ = budget.spend(BLOCK_WORK);
                slot = (slot / BLOCK + 1) * BLOCK;
            } else {
                for bit in ones(table.unsettled().word(slot / WORD)) {
                    let _ = budget.spend(LOOK_WORK);
                    let Some(place) = table.slot_at(slot / WORD * WORD + bit) else {
                        continue;
                    };
                    if table.harvest(place) == Some(true) {
                        place.changed().note();
                        let _ = budget.spend(MERGE_WORK);
                    }
                }
                slot = (slot / WORD + 1) * WORD;
            }
            if !budget.spend(BLOCK_WORK) {
                return Some(slot);
            }
        }
        None
    }

    /// Empties the table of a partition that does not run, a piece at a time. Readers and the writer of the old
    /// generation are at their end; the partition is stopped and may be started anew.
    ///
    /// Whatever resizes there were, the table has the order again that the partition is described with: what is
    /// started next knows nothing of them. (QEMU resets to its own size, too. What went wrong with that
    /// elsewhere was that not everybody was told: here H_LPAR_QUERY says the order, always.)
    ///
    /// # Errors
    /// [`Status::Busy`] while it runs or a write is in flight; [`Status::Continue`] when there is more to do.
    pub fn reset<M: Machine>(&self, machine: &M, cpu: usize) -> Result<(), Status> {
        self.control.reset(|from| self.empty(machine, cpu, from))
    }

    /// Empties the table of a partition that has halted with `code`, a piece at a time as [`Self::reset`], and starts it.
    ///
    /// # Errors
    /// As for [`Self::reset`]; [`Status::Busy`] also if it has not halted with that code; what [`vrma::prepare`] says, and
    /// then it stays halted.
    pub fn restart<M: Machine>(
        &self,
        machine: &M,
        cpu: usize,
        code: u64,
        start: Start,
    ) -> Result<(), Status> {
        let clear = |from| self.empty(machine, cpu, from);
        self.control
            .restart(code, start, clear, || self.prepare(machine))?;
        self.log_start(start);
        Ok(())
    }

    /// A piece of a reset, from a slot on; where it stopped.
    fn empty<M: Machine>(&self, machine: &M, cpu: usize, from: u64) -> Option<u64> {
        if from == 0 {
            self.cancel_resize();
        }
        let reached = self.remove_from(machine, from, |_| false);
        if reached.is_none() {
            *self.clearing.lock() = 0;
            self.readers.suspend(None).begin_anew(&self.tables);
            // Every entry was flushed when it went, on all CPUs; this is for what firmware or an earlier
            // use of the LPID may have left.
            self.table().set_vrma_shift(None);
            let _ = self.control.forget(machine, self.description.lpid, cpu);
        }
        reached
    }

    /// Closes the streams over this table that `owner` has open: it has stopped.
    pub(super) fn close_streams_of(&self, owner: Lpid) {
        self.readers.close_all_of(&self.tables, owner);
        let mut slot = self.writer_slot.lock();
        if slot.owner == Some(owner) {
            slot.owner = None;
        }
    }

    /// Reader slots that a partition without the control privilege cannot have on its own table.
    #[must_use]
    pub const fn reserved_readers(privileges: Privileges) -> usize {
        if privileges.contains(Privileges::CONTROL) {
            0
        } else {
            1
        }
    }
}
