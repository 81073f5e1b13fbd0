//! Running the partitions: whose turn it is, in and out of the guest, and what moves on a switch.

use realhpt::arch::powerpc64::{context, isync, relax, set_lpidr, spr, time_base};
use realhpt::hcall::abi::State;
use realhpt::hcall::{self, Next};
use realhpt::lpar::MAX_PARTITIONS;
use realhpt::lpar::Partition;
use realhpt::lpar::control::Start;
use realhpt::lpar::schedule::{self, Readiness, Turn};
use realhpt::lpar::vcpu::{Context, Registers, msr};

use crate::board::{Board, Extension};
use crate::cpu::Cpu;
use crate::exits::{self, Outcome};
use crate::machine::Generation;
use crate::translation::Translation;
use crate::vectors;
use crate::{end, opal, time};

/// A vCPU: what is kept of it while it does not have the CPU.
#[derive(Debug)]
pub struct Vcpu {
    registers: Registers,
    context: Context,
    ceded: bool,
}

/// Microseconds of a slice.
const SLICE: u64 = 10_000;
/// Microseconds of rest when everybody has ceded.
const REST: u64 = 500;

/// What the hypercall entry answers when the guest does not go on at once. Smaller than any vector.
pub(crate) mod answer {
    pub(crate) const RESUME: u64 = 0;
    pub(crate) const CEDE: u64 = 1;
    pub(crate) const EXIT: u64 = 2;
    pub(crate) const POWER_OFF: u64 = 3;
    pub(crate) const RELOAD: u64 = 4;
}

/// The way of a hypercall: from the vector's registers to the engine.
///
/// # Safety
/// Called by the vectors; the area's `board` is a [`Board<E>`], `partition` one of its partitions.
unsafe extern "C" fn hypercall<E: Extension>(cpu: *mut Cpu, srr1: u64) -> u64 {
    // SAFETY: the area of this CPU; nobody else uses it.
    let cpu = unsafe { &mut *cpu };
    // SAFETY: set by `Run::new` to a board of this type, which is never given up.
    let board = unsafe { &*cpu.board.cast::<Board<E>>() };
    // SAFETY: set by `Run::switch_to` to one of the board's partitions, before any guest ran.
    let partition = unsafe { &*cpu.partition };
    let frame = &mut cpu.registers.frame;
    // One test for the usual caller.
    let next = if srr1 & (msr::SF | msr::PR) == msr::SF {
        hcall::dispatch(&board.machine, board, partition, false, frame)
    } else {
        odd_hypercall(board, partition, srr1, frame)
    };
    match next {
        Next::Resume => answer::RESUME,
        Next::Cede => answer::CEDE,
        Next::Exit => answer::EXIT,
        Next::Reload => answer::RELOAD,
        Next::PowerOff => answer::POWER_OFF,
    }
}

/// A hypercall from problem state or from 32-bit mode. In the latter the low halves of the registers are the
/// arguments: what the upper halves hold is nothing the caller knows of.
#[cold]
fn odd_hypercall<E: Extension>(
    board: &Board<E>,
    partition: &Partition<'static>,
    srr1: u64,
    frame: &mut hcall::Frame,
) -> Next {
    let problem_state = srr1 & msr::PR != 0;
    if srr1 & msr::SF == 0 && !problem_state {
        for register in &mut frame.regs {
            *register &= 0xffff_ffff;
        }
    }
    hcall::dispatch(&board.machine, board, partition, problem_state, frame)
}

/// Makes room for the vCPUs.
#[must_use]
pub fn vcpus() -> [Vcpu; MAX_PARTITIONS] {
    core::array::from_fn(|_| Vcpu {
        registers: Registers::new(),
        context: Context::new(0),
        ceded: false,
    })
}

/// The CPU's way through the partitions.
pub struct Run<'r, E> {
    board: &'r Board<E>,
    generation: Generation,
    translation: Translation,
    vcpus: &'r mut [Vcpu; MAX_PARTITIONS],
    cpu: *mut Cpu,
    /// Whose context the processor has.
    loaded: Option<usize>,
}

impl<E> core::fmt::Debug for Run<'_, E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Run")
            .field("loaded", &self.loaded)
            .finish_non_exhaustive()
    }
}

impl<'r, E: Extension> Run<'r, E> {
    /// A CPU that has not run anything yet.
    ///
    /// # Safety
    /// `cpu` is the area that HSPRG0 points to, and the vectors are installed.
    pub unsafe fn new(
        board: &'r Board<E>,
        generation: Generation,
        translation: Translation,
        vcpus: &'r mut [Vcpu; MAX_PARTITIONS],
        cpu: *mut Cpu,
    ) -> Self {
        // SAFETY: the area of this CPU.
        let area = unsafe { &mut *cpu };
        area.board = (&raw const *board).cast();
        area.hypercall = hypercall::<E>;
        Self {
            board,
            generation,
            translation,
            vcpus,
            cpu,
            loaded: None,
        }
    }

    /// Runs partitions, round robin, until the machine is switched off.
    pub fn forever(mut self) -> ! {
        let mut last = usize::MAX;
        loop {
            self.begin_starts();
            opal::poll_events();
            let partitions = self.board.machine.partitions();
            last = match schedule::next(last, partitions.len(), |index| self.readiness(index)) {
                Turn::Run(index) => index,
                Turn::Rest(index) => {
                    rest();
                    index
                }
                Turn::Nobody => {
                    defmt::error!("no partition can run");
                    end::fail()
                }
            };
            self.turn(last);
        }
    }

    fn partition(&self, index: usize) -> Option<&'r Partition<'static>> {
        self.board.machine.partitions().get(index)
    }

    fn readiness(&self, index: usize) -> Readiness {
        match (
            self.partition(index).map(Partition::state),
            self.vcpus.get(index),
        ) {
            (Some(State::Running), Some(vcpu)) if vcpu.ceded => Readiness::Ceded,
            (Some(State::Running), Some(_)) => Readiness::Ready,
            _ => Readiness::Out,
        }
    }

    /// Carries out the starts that were asked for: the vCPU is as new.
    fn begin_starts(&mut self) {
        let partitions = self
            .board
            .machine
            .partitions()
            .iter()
            .zip(self.vcpus.iter_mut());
        for (index, (partition, vcpu)) in partitions.enumerate() {
            if let Some(Start { entry, r3 }) = partition.control().take_start() {
                defmt::info!(
                    "partition {=str} starts at {=u64:#x}",
                    partition.description().name,
                    entry.raw()
                );
                vcpu.registers = Registers::at_start(entry.raw(), r3);
                vcpu.context = Context::new(time_base());
                vcpu.ceded = false;
                if self.loaded == Some(index) {
                    self.loaded = None;
                }
            }
        }
    }

    /// Gives a partition the processor: parks whose state it has, loads this one's.
    fn switch_to(&mut self, index: usize) {
        if self.loaded == Some(index) {
            return;
        }
        // SAFETY: the area of this CPU.
        let area = unsafe { &mut *self.cpu };
        if let Some(vcpu) = self.loaded.and_then(|loaded| self.vcpus.get_mut(loaded)) {
            vcpu.registers = area.registers.clone();
            context::save(&mut vcpu.context);
        }
        if let Some((partition, vcpu)) = self.partition(index).zip(self.vcpus.get(index)) {
            area.registers = vcpu.registers.clone();
            area.partition = &raw const *partition;
            set_lpidr(partition.description().lpid);
            context::load(&vcpu.context);
            self.loaded = Some(index);
        }
    }

    /// One slice of a partition.
    fn turn(&mut self, index: usize) {
        let Some(partition) = self.partition(index) else {
            return;
        };
        self.switch_to(index);
        if let Some(vcpu) = self.vcpus.get_mut(index) {
            vcpu.ceded = false;
        }
        let lpcr = self.translation.load(self.generation, partition);
        // SAFETY: a decrementer of the hypervisor's own.
        unsafe { spr::HDEC.write(time::ticks(SLICE)) };
        isync();
        while partition.state() == State::Running {
            // SAFETY: this CPU's area; everything of the vCPU is loaded, and every exit is followed by
            // `take_status`, which leaves HV clear.
            let vector = unsafe { vectors::enter(self.cpu) };
            // SAFETY: the area of this CPU; the guest is out.
            let area = unsafe { &mut *self.cpu };
            match exits::handle(
                &self.board.machine,
                partition,
                self.generation,
                area,
                vector,
                lpcr,
            ) {
                Outcome::Enter => {}
                Outcome::Cede => {
                    if let Some(vcpu) = self.vcpus.get_mut(index) {
                        vcpu.ceded = true;
                    }
                    return;
                }
                Outcome::SliceOver => return,
                Outcome::PowerOff => end::power_off(),
            }
        }
    }
}

/// Waits for a while, at low priority.
fn rest() {
    let until = time_base() + time::ticks(REST);
    while time_base() < until {
        relax();
    }
}
