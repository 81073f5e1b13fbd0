//! What partitions start with, and start with again: their contents, and the restart of PAPR guests.
//!
//! [`Guests::make`] puts a partition's image, what its manifest loads and, for a PAPR guest, device tree and RTAS into its
//! memory, and remembers where each came from. A PAPR guest that ends with [`REBOOT`] is started again by the
//! CPUs as they come by ([`Guests::look_after`]), one of them at a time, a piece each time, so that no other partition waits for
//! long: its memory is zeroed, what it starts with put there, its table emptied.
//!
//! A control partition may reset and start such a guest itself meanwhile. Then the memory is as the guest has left it or as far
//! as it is restored, and the restart is given up.

use core::ptr;

use alloc::vec::Vec;
use realhpt::addr::{GuestReal, HostReal};
use realhpt::arch::powerpc64::{cache, time_base};
use realhpt::hcall::abi::{State, Status};
use realhpt::lpar::control::Start;
use realhpt::lpar::vcpu::Endian;
use realhpt::lpar::{MAX_PARTITIONS, Partition};
use realhpt::memory::Region;
use realhpt::sync::Mutex;

use crate::board::Machine;
use crate::layout::{self, Layout, Range};
use crate::manifest::{Entry, Load, MAX_LOADS, Manifest, Papr};
use crate::papr::processor::Processor;
use crate::papr::rtas::token::REBOOT;
use crate::papr::{heap, rtas, tree};
use crate::{place, time};

/// Bound on what is put into a partition's memory: image, device tree and RTAS beside what is loaded.
const CONTENTS: usize = MAX_LOADS + 3;
/// Bytes that are zeroed, or copied, in a piece of a restart.
const PIECE: u64 = 1 << 20;
/// Microseconds between the end of a run and the first piece of the restart: a guest that does nothing else than to start
/// again is not to fill the log, whose port is slow.
const PAUSE: u64 = 100_000;

/// How far a restart is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Memory is zero below this offset in the region with that number.
    Zero { region: usize, offset: u64 },
    /// Of what is put there, what comes before that number is, and this one up to this offset.
    Fill { number: usize, offset: u64 },
    /// The table is to be emptied.
    Reset,
}

impl Step {
    const FIRST: Self = Self::Zero {
        region: 0,
        offset: 0,
    };
}

/// A restart, and the run of the partition that it follows: another run has another restart.
#[derive(Debug)]
struct Restart {
    after: u64,
    /// When the time base says so, it begins.
    at: u64,
    step: Step,
}

/// What is kept of one partition.
#[derive(Debug)]
struct Guest {
    start: Start,
    contents: heapless::Vec<Load, CONTENTS>,
    is_papr: bool,
    is_essential: bool,
    /// Held by the CPU that is at it.
    restart: Mutex<Restart>,
}

/// All of the machine, by their places in it.
#[derive(Debug)]
pub struct Guests(heapless::Vec<Guest, MAX_PARTITIONS>);

/// Why a partition has not got what it starts with.
#[derive(Debug)]
pub enum Error {
    /// There is no memory.
    Layout(layout::Error),
    /// There is no tree.
    Tree(tree::Error),
}

impl From<layout::Error> for Error {
    fn from(error: layout::Error) -> Self {
        Self::Layout(error)
    }
}

impl Guests {
    /// Puts into each partition's memory, which is zeroed, what it starts with.
    ///
    /// # Errors
    /// The name of the first one for which that is not possible, and why.
    pub fn make(
        manifest: &Manifest<'static>,
        machine: &Machine,
        processor: &Processor,
        layout: &mut Layout,
    ) -> Result<Self, (&'static str, Error)> {
        if let Some(first) = manifest
            .partitions
            .iter()
            .find(|entry| entry.papr.is_some())
        {
            heap::init(layout).map_err(|error| (first.name, error.into()))?;
        }
        let mut guests = heapless::Vec::new();
        for (entry, partition) in manifest.partitions.iter().zip(machine.partitions()) {
            let guest = Guest::make(entry, partition, processor, layout);
            let guest = guest.map_err(|error| (entry.name, error))?;
            for load in &guest.contents {
                copy(partition, load, 0, load.source.size());
            }
            // As many as partitions.
            let _ = guests.push(guest);
        }
        Ok(Self(guests))
    }

    /// How the partition at a place in the machine starts.
    #[must_use]
    pub fn start(&self, number: usize) -> Option<Start> {
        self.0.get(number).map(|guest| guest.start)
    }

    /// Does a piece of each restart that is due and no other CPU is at; whether there was any. `cpu` is the caller's number.
    pub fn look_after(&self, machine: &Machine, cpu: usize) -> bool {
        let mut busy = false;
        for (guest, partition) in self.0.iter().zip(machine.partitions()) {
            if guest.is_due(partition) {
                busy |= guest.advance(machine, partition, cpu);
            }
        }
        busy
    }

    /// Whether a restart is due or under way.
    #[must_use]
    pub fn are_restarting(&self, machine: &Machine) -> bool {
        let mut guests = self.0.iter().zip(machine.partitions());
        guests.any(|(guest, partition)| {
            guest.is_due(partition) || guest.is_papr && guest.restart.try_lock().is_none()
        })
    }

    /// Whether there are partitions that the machine runs for, and all of them have ended.
    #[must_use]
    pub fn have_ended(&self, machine: &Machine) -> bool {
        let mut essential = self.0.iter().zip(machine.partitions());
        let mut any = false;
        essential.all(|(guest, partition)| {
            any |= guest.is_essential;
            !guest.is_essential || partition.state() == State::Halted && !guest.is_due(partition)
        }) && any
    }
}

impl Guest {
    fn make(
        entry: &Entry<'static>,
        partition: &Partition<'_>,
        processor: &Processor,
        layout: &mut Layout,
    ) -> Result<Self, Error> {
        let mut contents = heapless::Vec::new();
        let mut put = |source: Range, guest: GuestReal| {
            if source.size() != 0 {
                // There is room for all.
                let _ = contents.push(Load { source, guest });
            }
        };
        put(range_of(entry.image), GuestReal::new(0));
        for load in &entry.load {
            put(load.source, load.guest);
        }
        let (mut r3, mut endian) = (0, Endian::Big);
        if let Some(papr) = &entry.papr {
            let tree = device_tree(entry, papr, partition, processor)?;
            let kept = place::zeroed(layout, tree.len() as u64, place::BLOCK)?;
            // SAFETY: as large as the tree, and nobody else's.
            unsafe { place::copy(&tree, kept) };
            put(Range::new(kept.start, tree.len() as u64), papr.place.tree());
            put(range_of(rtas::BLOB), papr.place.rtas());
            (r3, endian) = (papr.place.tree().raw(), papr.endian);
        }
        Ok(Self {
            start: Start {
                entry: entry.entry,
                r3,
                endian,
            },
            contents,
            is_papr: entry.papr.is_some(),
            is_essential: entry.essential,
            restart: Mutex::new(Restart {
                after: 0,
                at: 0,
                step: Step::FIRST,
            }),
        })
    }

    /// Whether the partition has ended and wants to be started again.
    fn is_due(&self, partition: &Partition<'_>) -> bool {
        self.is_papr
            && partition.state() == State::Halted
            && partition.control().exit_code() == REBOOT
    }

    /// Does a piece of the restart, unless another CPU is at it, or it is too early; whether it did.
    fn advance(&self, machine: &Machine, partition: &Partition<'static>, cpu: usize) -> bool {
        let Some(mut restart) = self.restart.try_lock() else {
            return false;
        };
        // It may have been brought to its end between the look and the lock.
        if !self.is_due(partition) {
            return false;
        }
        let run = partition.control().starts();
        if restart.after != run {
            *restart = Restart {
                after: run,
                at: time_base() + time::ticks(PAUSE),
                step: Step::FIRST,
            };
        }
        if time_base() < restart.at {
            return false;
        }
        match restart.step {
            Step::Zero { region, offset } => {
                restart.step = self.zero(partition, region, offset);
            }
            Step::Fill { number, offset } => {
                restart.step = self.fill(partition, number, offset);
            }
            Step::Reset => {
                match partition.restart(&machine.machine, cpu, REBOOT, self.start) {
                    // There may be more to do, or someone else is at it.
                    Ok(()) | Err(Status::Continue | Status::Busy) => {}
                    Err(status) => defmt::error!(
                        "partition {=str} cannot start again: {=i64}",
                        partition.description().name,
                        status as i64
                    ),
                }
            }
        }
        true
    }

    /// Zeroes a piece of a region; what comes next.
    fn zero(&self, partition: &Partition<'_>, region: usize, offset: u64) -> Step {
        let Some(place) = own(partition).nth(region) else {
            return Step::Fill {
                number: 0,
                offset: 0,
            };
        };
        // The table is not written to, but who starts the partition is refused as if it were.
        let Ok(_stopped) = partition.control().begin_write() else {
            return Step::Zero { region, offset };
        };
        let (size, next) = piece(offset, place.size());
        // SAFETY: memory of the partition, whole pages of it, and no vCPU of it runs.
        unsafe { cache::zero(HostReal::new(place.host().raw() + offset), size) };
        next.map_or(
            Step::Zero {
                region: region + 1,
                offset: 0,
            },
            |offset| Step::Zero { region, offset },
        )
    }

    /// Copies a piece of what the partition starts with; what comes next.
    fn fill(&self, partition: &Partition<'_>, number: usize, offset: u64) -> Step {
        let Some(load) = self.contents.get(number) else {
            return Step::Reset;
        };
        let Ok(_stopped) = partition.control().begin_write() else {
            return Step::Fill { number, offset };
        };
        let (size, next) = piece(offset, load.source.size());
        copy(partition, load, offset, size);
        next.map_or(
            Step::Fill {
                number: number + 1,
                offset: 0,
            },
            |offset| Step::Fill { number, offset },
        )
    }
}

/// The size of the piece at `offset` of something with so many bytes, and where the next one begins, if there is one.
fn piece(offset: u64, bytes: u64) -> (u64, Option<u64>) {
    let size = bytes.saturating_sub(offset).min(PIECE);
    let next = offset + size;
    (size, (next < bytes).then_some(next))
}

/// The regions of a partition that are its alone.
fn own<'p>(partition: &'p Partition<'_>) -> impl Iterator<Item = &'p Region> {
    let description = partition.description();
    (description.regions.iter()).filter(|region| Some(**region) != description.shared)
}

/// The partition's device tree.
fn device_tree(
    entry: &Entry<'static>,
    papr: &Papr<'static>,
    partition: &Partition<'_>,
    processor: &Processor,
) -> Result<Vec<u8>, Error> {
    let memory: Vec<_> = own(partition)
        .map(|region| (region.guest(), region.size()))
        .collect();
    // A page maps whole pieces of memory if its size divides all that they are and that lies between guest and host.
    let bits = own(partition)
        .map(|region| region.guest().raw() | region.size() | region.skew())
        .fold(0, |all, bits| all | bits);
    let guest = tree::Guest {
        lpid: entry.lpid,
        name: entry.name,
        vcpus: entry.vcpus,
        order: entry.order,
        resizable: entry.max_order.is_some(),
        memory: &memory,
        largest_page: bits.trailing_zeros(),
        papr,
    };
    tree::build(&guest, processor).map_err(Error::Tree)
}

/// Where these bytes are.
fn range_of(bytes: &'static [u8]) -> Range {
    Range::new(
        bytes.as_ptr().expose_provenance() as u64,
        bytes.len() as u64,
    )
}

/// Copies `size` bytes from `offset` on of what is put into a partition's memory.
fn copy(partition: &Partition<'_>, load: &Load, offset: u64, size: u64) {
    let at = load.guest.raw() + offset;
    let host = own(partition).find_map(|region| {
        let inside = at.checked_sub(region.guest().raw())?;
        let room = region.size().checked_sub(inside)?;
        (room >= size).then(|| region.host().raw() + inside)
    });
    let Some(host) = host else {
        return;
    };
    let from: *const u8 = place::pointer(load.source.start + offset);
    // SAFETY: the source is reserved, or part of the image or the manifest, and `size` bytes from there on are; the target
    // lies inside a region of the partition, which does not run. Neither overlaps the other, as each was given out once.
    unsafe { ptr::copy_nonoverlapping(from, place::pointer(host), place::count(size)) };
    cache::synchronise_instructions(HostReal::new(host), size);
}
