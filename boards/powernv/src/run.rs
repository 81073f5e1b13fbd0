//! Running the partitions on one CPU: whose turn it is, in and out of the guest, and what moves on a switch.
//!
//! Every CPU goes through all vCPUs and takes the next one that waits for a processor. It saves all of its state
//! before it gives it back, so that any CPU can go on with it.

use realhpt::arch::Machine as _;
use realhpt::arch::powerpc64::{context, isync, set_lpidr, spr, time_base, wait_until};
use realhpt::lpar::Partition;
use realhpt::lpar::control::Start;
use realhpt::lpar::schedule::{self, Turn};
use realhpt::lpar::vcpu::{Context, Registers};
use realhpt::lpar::vcpus::{Duty, Left};
use realhpt::table::tlb::Scope;

use crate::board::{Board, Extension};
use crate::cpu::Cpu;
use crate::entries::Entries;
use crate::exits::{self, Outcome};
use crate::guests::Guests;
use crate::machine::Generation;
use crate::seats::Seats;
use crate::translation::Translation;
use crate::vectors;
use crate::{end, external, mode, opal, time};

/// Microseconds of a slice.
const SLICE: u64 = 10_000;
/// Microseconds after which a guest is looked at again that an interrupt waits for.
const LOOK: u64 = 20;
/// Microseconds of rest when there is nobody with work.
const REST: u64 = 500;
/// The CPU that polls the firmware, and gives up when nobody can run.
const BOOT_CPU: usize = 0;

/// One CPU's way through the vCPUs.
pub struct Run<'r, E> {
    board: &'r Board<E>,
    seats: &'r Seats,
    guests: &'r Guests,
    generation: Generation,
    translation: Translation,
    cpu: *mut Cpu,
    number: usize,
}

impl<E> core::fmt::Debug for Run<'_, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Run")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl<'r, E: Extension> Run<'r, E> {
    /// A CPU that has not run anything yet; it is made ready for guests.
    ///
    /// # Safety
    /// `cpu` is the area that HSPRG0 points to on the calling CPU, and the vectors are installed.
    pub unsafe fn new(
        board: &'r Board<E>,
        seats: &'r Seats,
        guests: &'r Guests,
        generation: Generation,
        cpu: *mut Cpu,
    ) -> Self {
        // SAFETY: the area of this CPU.
        let area = unsafe { &mut *cpu };
        area.board = (&raw const *board).cast();
        area.hypercalls = Entries::<E>::table();
        let number = area.number();
        external::hold_back(generation, number);
        Self {
            board,
            seats,
            guests,
            generation,
            translation: Translation::init(generation),
            cpu,
            number,
        }
    }

    /// Runs vCPUs, round robin, until the machine is switched off.
    pub fn forever(self) -> ! {
        let machine = &self.board.machine;
        let mut last = usize::MAX;
        loop {
            machine.pay(self.number);
            let restarting = self.guests.look_after(machine, self.number);
            if self.number == BOOT_CPU {
                opal::poll_events();
                if self.guests.have_ended(machine) {
                    end::power_off();
                }
            }
            let starts = machine.starts();
            let readiness = |seat| self.seats.readiness(machine, seat, self.number);
            match schedule::next(last, self.seats.count(), readiness) {
                Turn::Run(seat) => last = seat,
                Turn::Rest(seat) => {
                    rest();
                    last = seat;
                }
                // Who is started by another that then stops may have been looked at before, and the other after. One that is
                // started again may have been neither: it counts as a start before it is no longer under way.
                Turn::Nobody
                    if self.number == BOOT_CPU
                        && !self.guests.are_restarting(machine)
                        && machine.starts() == starts
                        && !self.guests.have_ended(machine) =>
                {
                    defmt::error!("no partition can run");
                    end::fail()
                }
                Turn::Idle | Turn::Nobody => {
                    if !restarting {
                        rest();
                    }
                    continue;
                }
            }
            self.turn(last);
        }
    }

    /// Makes the vCPU's state that of the processor.
    fn load(&self, seat: usize, duty: Duty, partition: &'r Partition<'static>, number: usize) {
        // SAFETY: the vCPU was given to this CPU, and this is the only reference here.
        let Some(vcpu) = (unsafe { self.seats.vcpu(seat) }) else {
            return;
        };
        if let Some(Start { entry, r3, endian }) = duty.start {
            vcpu.registers = Registers::at_start(entry.raw(), r3, endian);
            vcpu.context = Context::new(time_base());
        }
        set_lpidr(partition.description().lpid);
        context::load(&vcpu.context);
        // SAFETY: the area of this CPU.
        let area = unsafe { &mut *self.cpu };
        area.registers = vcpu.registers.clone();
        area.partition = &raw const *partition;
        // At most `MAX_VCPUS`.
        area.seat.vcpu = u32::try_from(number).unwrap_or(0);
    }

    /// Keeps the vCPU's state. What hardware noted of its accesses (R, C) is in the table from here on, whichever
    /// CPU it goes to next: `ptesync` waits for that.
    fn save(&self, seat: usize) {
        // SAFETY: the vCPU was given to this CPU, and this is the only reference here.
        if let Some(vcpu) = unsafe { self.seats.vcpu(seat) } {
            // SAFETY: the area of this CPU.
            vcpu.registers = unsafe { &*self.cpu }.registers.clone();
            context::save(&mut vcpu.context);
        }
        self.board.machine.machine.ptesync();
    }

    /// One slice of a vCPU, if it can be had.
    fn turn(&self, seat: usize) {
        let machine = &self.board.machine;
        let Some((partition, number)) = self.seats.of(machine, seat) else {
            return;
        };
        let control = partition.control();
        let Some(duty) = control.dispatch(number, self.number) else {
            return;
        };
        self.load(seat, duty, partition, number);
        let lpid = partition.description().lpid;
        if duty.moved && partition.scope() == Scope::Here {
            // What this CPU remembers of an earlier time is not flushed by what the vCPU did elsewhere since.
            machine.machine.flush_lpid(lpid);
        }
        control.pay(&machine.machine, lpid, self.number);
        let lpcr = self.translation.load(
            &machine.machine,
            self.generation,
            partition,
            partition.lpcr(),
        );
        // SAFETY: the area of this CPU.
        let area = unsafe { &mut *self.cpu };
        partition.vcpu_dispatched(&machine.machine, area.seat, &area.registers);
        let mut watch = Watch::new(time_base() + time::ticks(SLICE), lpcr);
        let left = loop {
            if !control.stays(number) {
                break Left::Preempted;
            }
            // SAFETY: the area of this CPU; the guest is out.
            let area = unsafe { &mut *self.cpu };
            let waits = partition.external_pending(number);
            if waits {
                // It goes on waiting until the guest has asked which it is.
                exits::interrupt(area, lpcr);
            }
            if !watch.set(waits) {
                break Left::Preempted;
            }
            // SAFETY: this CPU's area; everything of the vCPU is loaded, and every exit is followed by
            // `take_status`, which leaves HV clear.
            let vector = unsafe { vectors::enter(self.cpu) };
            // SAFETY: the area of this CPU; the guest is out.
            let area = unsafe { &mut *self.cpu };
            match exits::handle(machine, partition, self.generation, area, vector, lpcr) {
                Outcome::Enter => {}
                Outcome::Tick => watch.ticked(),
                Outcome::Kicked => {
                    machine.pay(self.number);
                    // Another vCPU may have chosen how the partition takes its interrupts.
                    if mode::with_interrupts(lpcr, partition.lpcr()) != lpcr {
                        break Left::Preempted;
                    }
                }
                Outcome::Leave(left) => break left,
                Outcome::PowerOff => end::power_off(),
            }
        };
        self.save(seat);
        machine.leave(partition, number, left);
    }
}

/// The hypervisor's decrementer in a slice, and what else brings the vCPU out of its guest.
///
/// While an external interrupt waits for a guest that takes none, `LPCR[MER]` has hardware deliver it as soon as the guest
/// does (ISA 3.0B Book III section 6.5.7.2). An emulator may not know that bit: so the guest is looked at again after a
/// while, too.
struct Watch {
    /// When the slice is over.
    end: u64,
    lpcr: u64,
    /// What HDEC and MER stand at: the slice's end, or a look because an interrupt waits; none: neither any more.
    set: Option<bool>,
}

impl Watch {
    const fn new(end: u64, lpcr: u64) -> Self {
        Self {
            end,
            lpcr,
            set: None,
        }
    }

    /// HDEC came.
    const fn ticked(&mut self) {
        self.set = None;
    }

    /// Makes HDEC and MER ready for an entry, where an interrupt `waits` or none does; false: the slice is over.
    fn set(&mut self, waits: bool) -> bool {
        if self.set == Some(waits) {
            return true;
        }
        let left = self.end.wrapping_sub(time_base()).cast_signed();
        if left <= 0 {
            return false;
        }
        let left = left.cast_unsigned();
        let (hdec, mer) = if waits {
            (left.min(time::ticks(LOOK)), mode::lpcr::MER)
        } else {
            (left, 0)
        };
        // SAFETY: a decrementer of the hypervisor's own.
        unsafe { spr::HDEC.write(hdec) };
        // SAFETY: as it was loaded for this guest, but for an interrupt of the guest's own.
        unsafe { spr::LPCR.write(self.lpcr | mer) };
        isync();
        self.set = Some(waits);
        true
    }
}

/// Waits for a while.
fn rest() {
    wait_until(time_base() + time::ticks(REST));
}
