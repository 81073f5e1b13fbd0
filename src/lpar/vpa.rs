//! What a vCPU's operating system and the hypervisor tell each other in memory (LoPAR 14.11.3, Virtual Processor
//! Areas): the virtual processor area, the SLB shadow buffer, the dispatch trace log.
//!
//! [`Areas`] are the registrations of one vCPU, and what is counted for it. The guest owns the memory: what is counted is
//! kept here and only written there, so a guest that writes there, too, deceives nobody but itself. What the
//! hypervisor does read, the lengths and the mask of the log, is read once.
//!
//! It is written by its real address: C of no entry is set by that, as by H_PAGE_INIT.
//!
//! # Invariants
//! * An area lies wholly in the partition's memory, as [`GuestBuffer`] has it. A log and a shadow are there only
//!   beside a VPA.
//! * The yield count is even while the vCPU has a processor, odd while it has none, and a VPA shows it, whatever it was
//!   before the registration. One that is deregistered is left with an odd one.
//! * A log entry is in memory before the index that counts it.
//!
//! The shadow is registered and not used: a vCPU's SLB is kept whole wherever it goes.

use super::partition::Partition;
use super::vcpu::Registers;
use super::vcpus::Left;
use crate::addr::GuestReal;
use crate::arch::Machine;
use crate::hcall::Seat;
use crate::hcall::abi::Status;
use crate::memory::{GuestBuffer, Regions};
use crate::sync::{Ordering, fence};

/// Which of a vCPU's areas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Area {
    /// The virtual processor area.
    Vpa,
    /// The SLB shadow buffer.
    SlbShadow,
    /// The dispatch trace log.
    TraceLog,
}

/// Each area begins with a cache line of POWER's.
const LINE: u64 = 128;
/// VPA and SLB shadow lie in one page of this size.
const PAGE: u64 = 4096;
/// The least bytes of a VPA, all of the fields below among them.
const MIN_VPA: u64 = 640;
/// The least bytes of a shadow: nothing but its head.
const MIN_SHADOW: u64 = 8;
/// Bytes of a log entry.
const LOG_ENTRY: u64 = 48;

/// Doublewords of a VPA, by their offset.
mod field {
    /// The second byte: what kind of processor it is.
    pub(super) const STATUS: u64 = 0x8;
    /// The first byte: what is logged.
    pub(super) const LOG_MASK: u64 = 0xb8;
    /// Yield count, and how often the processor was another one than before.
    pub(super) const COUNTS: u64 = 0x100;
    /// Time base ticks that it was ready and had no processor.
    pub(super) const READY_TIME: u64 = 0x158;
    /// Time base ticks that it had nothing to do.
    pub(super) const WAIT_TIME: u64 = 0x168;
    /// Entries that were ever put into the log.
    pub(super) const LOG_INDEX: u64 = 0x218;

    /// In `STATUS`: its processors are shared with others.
    pub(super) const SHARED: u64 = 2 << 48;
}

/// Bits of the mask: dispatches after a cede, and after a slice was over.
const LOG_CEDED: u64 = 1;
const LOG_PREEMPTED: u64 = 2;

/// Why a vCPU lost its processor, in a log entry.
const PREEMPT_CEDE: u64 = 2;
const PREEMPT_SLICE: u64 = 4;
/// Why it got one: an external interrupt, or it was its turn.
const DISPATCH_EXTERNAL: u64 = 0;
const DISPATCH_SLICE: u64 = 7;

/// A log.
#[derive(Clone, Copy, Debug)]
struct Log {
    buffer: GuestBuffer,
    /// Entries that were put into it.
    index: u64,
}

/// The areas of one vCPU.
#[derive(Debug)]
pub(crate) struct Areas {
    vpa: Option<GuestBuffer>,
    shadow: Option<GuestBuffer>,
    log: Option<Log>,
    yield_count: u32,
    /// How often its processor was another one than before.
    dispersion_count: u32,
    cpu: Option<u32>,
    /// When and why it lost its processor.
    left: Option<(u64, Left)>,
    ready_time: u64,
    wait_time: u64,
}

impl Areas {
    /// Those of a vCPU that never ran.
    pub(super) const fn new() -> Self {
        Self {
            vpa: None,
            shadow: None,
            log: None,
            yield_count: 1,
            dispersion_count: 0,
            cpu: None,
            left: None,
            ready_time: 0,
            wait_time: 0,
        }
    }

    /// The yield count, if the vCPU shows it.
    pub(super) fn yield_count(&self) -> Option<u32> {
        self.vpa.map(|_| self.yield_count)
    }

    /// Registers an area, in the place of another one that may be registered.
    ///
    /// # Errors
    /// [`Status::Parameter`] if it is none, [`Status::Resource`] without a VPA for the others.
    pub(crate) fn register<M: Machine>(
        &mut self,
        machine: &M,
        regions: &Regions,
        area: Area,
        at: GuestReal,
    ) -> Result<(), Status> {
        let buffer = claim(machine, regions, area, at).ok_or(Status::Parameter)?;
        if area == Area::Vpa {
            let status = load(machine, &buffer, field::STATUS);
            store(machine, &buffer, field::STATUS, status | field::SHARED);
            self.vpa = Some(buffer);
            self.show(machine);
            return Ok(());
        }
        if self.vpa.is_none() {
            return Err(Status::Resource);
        }
        if area == Area::SlbShadow {
            self.shadow = Some(buffer);
        } else {
            self.log = Some(Log { buffer, index: 0 });
        }
        Ok(())
    }

    /// Ends the registration of an area, if there is one.
    ///
    /// # Errors
    /// [`Status::Resource`] for a VPA that another area stands beside.
    pub(crate) fn deregister<M: Machine>(&mut self, machine: &M, area: Area) -> Result<(), Status> {
        match area {
            Area::SlbShadow => self.shadow = None,
            Area::TraceLog => self.log = None,
            Area::Vpa => {
                if self.shadow.is_some() || self.log.is_some() {
                    return Err(Status::Resource);
                }
                if let Some(vpa) = self.vpa.take() {
                    store(machine, &vpa, field::COUNTS, self.counts() | 1 << 32);
                }
            }
        }
        Ok(())
    }

    /// The vCPU got a processor, to go on with these registers; whether it is for an interrupt.
    fn dispatched<M: Machine>(
        &mut self,
        machine: &M,
        cpu: u32,
        registers: &Registers,
        external: bool,
    ) {
        let now = machine.time_base();
        self.yield_count = (self.yield_count | 1).wrapping_add(1);
        if self.cpu.replace(cpu).is_some_and(|last| last != cpu) {
            self.dispersion_count = self.dispersion_count.wrapping_add(1);
        }
        if let Some((then, left)) = self.left.take() {
            let time = now.saturating_sub(then);
            if left == Left::Ceded {
                self.wait_time = self.wait_time.wrapping_add(time);
            } else {
                self.ready_time = self.ready_time.wrapping_add(time);
            }
            self.log(machine, left, external, [now, time], cpu, registers);
        }
        self.show(machine);
    }

    /// The vCPU lost its processor.
    fn left<M: Machine>(&mut self, machine: &M, left: Left) {
        self.left = Some((machine.time_base(), left));
        self.yield_count |= 1;
        self.show(machine);
    }

    /// Yield and dispersion count, as they stand in a VPA.
    fn counts(&self) -> u64 {
        u64::from(self.yield_count) << 32 | u64::from(self.dispersion_count)
    }

    /// Puts what is counted into the VPA.
    fn show<M: Machine>(&self, machine: &M) {
        if let Some(vpa) = &self.vpa {
            store(machine, vpa, field::READY_TIME, self.ready_time);
            store(machine, vpa, field::WAIT_TIME, self.wait_time);
            store(machine, vpa, field::COUNTS, self.counts());
        }
    }

    /// Puts a dispatch into the log, if there is one that wants it: now, so many ticks after the vCPU had left.
    fn log<M: Machine>(
        &mut self,
        machine: &M,
        left: Left,
        external: bool,
        [now, time]: [u64; 2],
        cpu: u32,
        registers: &Registers,
    ) {
        let (Some(vpa), Some(log)) = (&self.vpa, &mut self.log) else {
            return;
        };
        let ceded = left == Left::Ceded;
        let wanted = if ceded { LOG_CEDED } else { LOG_PREEMPTED };
        if load(machine, vpa, field::LOG_MASK) >> 56 & wanted == 0 {
            return;
        }
        let dispatch = if external {
            DISPATCH_EXTERNAL
        } else {
            DISPATCH_SLICE
        };
        let preempt = if ceded { PREEMPT_CEDE } else { PREEMPT_SLICE };
        let time = time.min(u32::MAX.into());
        // From being ready to the processor, and from waiting to being ready: one of the two.
        let (enqueued, waited) = if ceded { (0, time) } else { (time, 0) };
        let entry = [
            dispatch << 56 | preempt << 48 | u64::from(cpu & 0xffff) << 32 | enqueued,
            waited,
            now,
            0,
            registers.pc,
            registers.msr,
        ];
        let place = log.index % (log.buffer.bytes() / LOG_ENTRY) * LOG_ENTRY;
        for (offset, dword) in (place..).step_by(8).zip(entry) {
            store(machine, &log.buffer, offset, dword);
        }
        log.index += 1;
        fence(Ordering::Release);
        store(machine, vpa, field::LOG_INDEX, log.index);
    }
}

/// The area at an address, if there can be one: its length stands in its second word, a VPA's in the first half of it.
fn claim<M: Machine>(
    machine: &M,
    regions: &Regions,
    area: Area,
    at: GuestReal,
) -> Option<GuestBuffer> {
    if at.raw() == 0 || !at.is_aligned(LINE) {
        return None;
    }
    let head = regions.claim(at, 8)?;
    let head = load(machine, &head, 0);
    let (bytes, least) = match area {
        Area::Vpa => (head >> 16 & 0xffff, MIN_VPA),
        Area::SlbShadow => (head & 0xffff_ffff, MIN_SHADOW),
        Area::TraceLog => (head & 0xffff_ffff, LOG_ENTRY),
    };
    let room = PAGE - at.raw() % PAGE;
    if bytes < least || (area != Area::TraceLog && bytes > room) {
        return None;
    }
    regions.claim(at, bytes)
}

fn load<M: Machine>(machine: &M, buffer: &GuestBuffer, offset: u64) -> u64 {
    buffer.dword(offset).map_or(0, |at| machine.load(at))
}

fn store<M: Machine>(machine: &M, buffer: &GuestBuffer, offset: u64, value: u64) {
    if let Some(at) = buffer.dword(offset) {
        machine.store(at, value);
    }
}

impl Partition<'_> {
    /// A vCPU got a processor, and goes on with these registers: to be told by the board after each
    /// [`Control::dispatch`](super::control::Control::dispatch). (That it left is told by
    /// [`System::leave`](super::System::leave).)
    pub fn vcpu_dispatched<M: Machine>(&self, machine: &M, seat: Seat, registers: &Registers) {
        let vcpu = seat.vcpu as usize;
        let external = self.external_pending(vcpu);
        let _ = self.papr().with_areas(vcpu, |areas| {
            areas.dispatched(machine, seat.cpu, registers, external);
        });
    }

    /// A vCPU lost its processor.
    pub(super) fn vcpu_left<M: Machine>(&self, machine: &M, vcpu: usize, left: Left) {
        let _ = self
            .papr()
            .with_areas(vcpu, |areas| areas.left(machine, left));
    }
}
