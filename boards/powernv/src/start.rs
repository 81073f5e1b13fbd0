//! From skiboot's handover to the first partition.

use dtoolkit::fdt::Fdt;
use realhpt::arch::MAX_CPUS;
use realhpt::arch::powerpc64::{enable_machine_check, spr};
use realhpt::lpar::MAX_PARTITIONS;

use crate::board::{Board, Extension};
use crate::boot::Handover;
use crate::console::Console;
use crate::cpu::Cpu;
use crate::guests::{self, Guests};
use crate::layout::{self, Layout, Range};
use crate::machine::Generation;
use crate::manifest::Manifest;
use crate::run::Run;
use crate::seats::Seats;
use crate::uart::Uart;
use crate::{cpu, end, external, logger, opal, partitions, place, smp, time, tree, vectors};

unsafe extern "C" {
    static __image_start: u8;
    static __image_end: u8;
}

/// Boots the machine and runs its partitions, with what the image adds.
pub fn boot(handover: Handover, extension: impl Extension + 'static) -> ! {
    let generation = Generation::detect();
    opal::init(handover.opal_base, handover.opal_entry);
    logger::init(generation);
    let cpu = cpu::init_boot_cpu();
    // SAFETY: HSPRG0 points to the area, and the layout gives nothing out down there.
    unsafe { vectors::install() };
    enable_machine_check();
    defmt::info!(
        "realhpt {=str} on {}",
        env!("CARGO_PKG_VERSION"),
        generation
    );

    // Not checked against the specification: names that skiboot gives nodes are longer than it allows.
    // SAFETY: skiboot's device tree, which lies in memory that it reserved and nobody writes to.
    let tree = unsafe { Fdt::from_raw_unchecked(place::pointer::<u8>(handover.device_tree)) };
    if let Some(frequency) = tree::time_base_frequency(tree) {
        time::set_frequency(frequency);
    }
    match extension.clock() {
        Some(seconds) => time::set_of_day(seconds),
        None => defmt::warn!("the machine has no clock that says what time it is"),
    }
    let Ok(mut layout) = free_memory(tree) else {
        refuse("the machine's memory is in too many pieces");
    };
    let initrd = tree::initrd(tree).map(|range| {
        // SAFETY: the initrd that skiboot found; the layout gives nothing out there.
        unsafe {
            core::slice::from_raw_parts(
                place::pointer::<u8>(range.start),
                place::count(range.size()),
            )
        }
    });
    let Some(Ok(manifest)) = initrd.map(Fdt::new) else {
        refuse("there is no manifest in the initrd");
    };
    let manifest = match Manifest::parse(manifest) {
        Ok(manifest) => manifest,
        Err(error) => {
            defmt::error!("manifest: {=str}: {=str}", error.node, error.reason);
            end::fail()
        }
    };
    defmt::info!(
        "{=u64} MiB free, {=usize} partitions",
        layout.free_bytes() >> 20,
        manifest.partitions.len()
    );
    let machine = match partitions::make(&manifest, generation, &mut layout) {
        Ok(machine) => machine,
        Err(failure) => {
            complain(failure.name, failure.error);
            end::fail()
        }
    };
    let pvr = u32::try_from(spr::PVR.read()).unwrap_or(0);
    let processor = tree::processor(tree, pvr, generation);
    let guests = match Guests::make(&manifest, &machine, &processor, &mut layout) {
        Ok(guests) => guests,
        Err((name, guests::Error::Layout(error))) => {
            complain(name, error);
            end::fail()
        }
        Err((name, guests::Error::Tree(error))) => {
            defmt::error!(
                "{=str} has no device tree: {}",
                name,
                defmt::Display2Format(&error)
            );
            end::fail()
        }
    };
    let console = console(&manifest, generation);
    let pirs = cpus(tree, generation);
    let placed =
        place::value(&mut layout, Board::new(machine, extension, console)).and_then(|board| {
            let seats = Seats::new(&manifest, pirs.len(), &mut layout)?;
            let seats = &*place::value(&mut layout, seats)?;
            let guests = &*place::value(&mut layout, guests)?;
            Ok((&*board, seats, guests))
        });
    let (board, seats, guests) = match placed {
        Ok(placed) => placed,
        Err(error) => {
            complain("the board", error);
            end::fail()
        }
    };
    for (number, &pir) in pirs.iter().enumerate() {
        external::find(tree, &board.machine.machine, generation, number, pir);
    }
    // SAFETY: the boot CPU's area, and the vectors are installed.
    let run = unsafe { Run::new(board, seats, guests, generation, cpu) };
    let common = Common {
        board,
        seats,
        guests,
        generation,
    };
    if let Err(error) = start_others(&mut layout, &pirs, common) {
        complain("a CPU", error);
        end::fail()
    }
    let starts = board.machine.partitions().iter().zip(&manifest.partitions);
    for (number, (partition, entry)) in starts.enumerate() {
        let Some(start) = guests.start(number).filter(|_| entry.start) else {
            continue;
        };
        if let Err(status) = partition.start(&board.machine.machine, start) {
            defmt::error!(
                "partition {=str} cannot start: {=i64}",
                entry.name,
                status as i64
            );
            end::fail()
        }
    }
    run.forever()
}

/// The console of the partitions that want it.
fn console(manifest: &Manifest<'_>, generation: Generation) -> Option<Console> {
    let entries = || manifest.partitions.iter().filter(|entry| entry.console);
    let lpids: heapless::Vec<_, MAX_PARTITIONS> = entries().map(|entry| entry.lpid).collect();
    let first = entries().next()?;
    // Our own programs, which come as an image, speak to the log too; but where several speak at once each is heard as it is.
    let port = (first.image.is_empty() || lpids.len() > 1).then(|| Uart::console(generation));
    Some(Console::new(lpids, port))
}

/// The PIRs of the CPUs that run guests; the boot CPU is the first.
fn cpus(tree: Fdt<'_>, generation: Generation) -> heapless::Vec<u32, MAX_CPUS> {
    let own = u32::try_from(spr::PIR.read()).unwrap_or(0);
    let others = tree::cpus(tree, generation == Generation::Power8).filter(|&pir| pir != own);
    core::iter::once(own).chain(others).take(MAX_CPUS).collect()
}

/// What all CPUs have in common.
struct Common<E: 'static> {
    board: &'static Board<E>,
    seats: &'static Seats,
    guests: &'static Guests,
    generation: Generation,
}

/// Starts the CPUs but the first. One that does not come is the last that is tried.
fn start_others<E: Extension + 'static>(
    layout: &mut Layout,
    pirs: &[u32],
    common: Common<E>,
) -> Result<(), layout::Error> {
    let common: *mut Common<E> = place::value(layout, common)?;
    let mut started = 1_usize;
    for (number, &pir) in (0..).zip(pirs).skip(1) {
        // A hypercall's entry finds the board there; before the first one it holds what a new CPU needs.
        if !smp::start(
            layout,
            number,
            pir,
            common.cast_const().cast(),
            secondary::<E>,
        )? {
            break;
        }
        started += 1;
    }
    defmt::info!("{=usize} of {=usize} CPUs run guests", started, pirs.len());
    Ok(())
}

/// The beginning of a CPU that was started.
///
/// # Safety
/// Called by the entry code with the area that [`start_others`] made for this CPU.
unsafe extern "C" fn secondary<E: Extension + 'static>(cpu: *mut Cpu) -> ! {
    // SAFETY: this CPU's own area, which stays.
    unsafe { cpu::init(cpu) };
    // SAFETY: as above.
    let common = unsafe { &*cpu }.board.cast::<Common<E>>();
    // SAFETY: `start_others` put it there, for good.
    let common = unsafe { &*common };
    enable_machine_check();
    // SAFETY: the area that HSPRG0 points to; the boot CPU installed the vectors.
    let run = unsafe {
        Run::new(
            common.board,
            common.seats,
            common.guests,
            common.generation,
            cpu,
        )
    };
    smp::came();
    run.forever()
}

/// The memory that is left beside what firmware, vectors, image and initrd have.
fn free_memory(tree: Fdt<'_>) -> Result<Layout, layout::Error> {
    let mut layout = tree::memory(tree)?;
    let image = Range {
        start: (&raw const __image_start).expose_provenance() as u64,
        end: (&raw const __image_end).expose_provenance() as u64,
    };
    layout.reserve(Range::new(0, vectors::END))?;
    layout.reserve(image)?;
    if let Some(initrd) = tree::initrd(tree) {
        layout.reserve(initrd)?;
    }
    Ok(layout)
}

fn complain(name: &str, error: layout::Error) {
    match error {
        layout::Error::NoRoom { size, alignment } => defmt::error!(
            "{=str} does not fit: no {=u64:#x} bytes free at a multiple of {=u64:#x}",
            name,
            size,
            alignment
        ),
        layout::Error::NotFree(range) => defmt::error!(
            "{=str} does not fit: {=u64:#x} to {=u64:#x} is not free memory",
            name,
            range.start,
            range.end
        ),
        layout::Error::TooManyPieces => {
            defmt::error!("{=str} does not fit: memory is in too many pieces", name);
        }
    }
}

fn refuse(reason: &'static str) -> ! {
    defmt::error!("{=str}", reason);
    end::fail()
}
