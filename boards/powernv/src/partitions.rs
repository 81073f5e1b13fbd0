//! The partitions of the manifest, made real in the machine's memory.

use realhpt::addr::{GuestReal, HostReal};
use realhpt::arch::powerpc64::{Isa, Processor, cache};
use realhpt::hcall::abi::Privileges;
use realhpt::lpar::{Description, Partition};
use realhpt::memory::{Region, Regions};
use realhpt::sync::{AtomicU64, BeDword};
use realhpt::table::{Format, Memory, Order};

use crate::board::Machine;
use crate::layout::{Error, Layout, Range};
use crate::machine::Generation;
use crate::manifest::{self, ALIGNMENT, Entry, Manifest};
use crate::place;

/// Why the partitions could not be made.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Which one.
    pub name: &'a str,
    /// Why.
    pub error: Error,
}

/// Makes all partitions of a manifest.
///
/// What has a place already is taken out of the free memory first, so that nothing else is put there: windows and
/// what is loaded, which several partitions may share, and memory, which they may not.
///
/// # Errors
/// The first that does not fit.
pub fn make(
    manifest: &Manifest<'static>,
    generation: Generation,
    layout: &mut Layout,
) -> Result<Machine, Failure<'static>> {
    let isa = match generation {
        Generation::Power8 => Isa::V2_07,
        Generation::Power9 | Generation::Power10 => Isa::V3_0,
    };
    let mut machine = Machine::new(Processor::new(isa));
    let windows = manifest
        .partitions
        .iter()
        .filter_map(|entry| Some((entry.name, entry.shared?)))
        .map(|(name, shared)| (name, Range::new(shared.host().raw(), shared.size())));
    reserve_shared(windows, layout)?;
    let loads = manifest.partitions.iter().flat_map(|entry| {
        let sources = entry.load.iter().map(|load| load.source);
        sources.map(|source| (entry.name, source))
    });
    reserve_shared(loads, layout)?;
    for entry in &manifest.partitions {
        let name = entry.name;
        reserve(&entry.memory, layout).map_err(|error| Failure { name, error })?;
    }
    for entry in &manifest.partitions {
        let failure = |error| Failure {
            name: entry.name,
            error,
        };
        let partition = one(entry, isa, layout).map_err(failure)?;
        // The manifest has no LPID twice and no more partitions than there is room for.
        if machine.add(partition).is_err() {
            return Err(failure(Error::TooManyPieces));
        }
    }
    Ok(machine)
}

/// Takes ranges that partitions may share with each other out of the free memory, where all of them have to be.
fn reserve_shared<'a>(
    ranges: impl Iterator<Item = (&'a str, Range)> + Clone,
    layout: &mut Layout,
) -> Result<(), Failure<'a>> {
    for (name, range) in ranges.clone() {
        if !layout.is_free(range) {
            let error = Error::NotFree(range);
            return Err(Failure { name, error });
        }
    }
    for (name, range) in ranges {
        layout
            .reserve(range)
            .map_err(|error| Failure { name, error })?;
    }
    Ok(())
}

/// Takes memory that has a place out of the free memory.
fn reserve(memory: &manifest::Memory, layout: &mut Layout) -> Result<(), Error> {
    let manifest::Memory::Regions(regions) = memory else {
        return Ok(());
    };
    for region in regions {
        let range = Range::new(region.host().raw(), region.size());
        if !layout.is_free(range) {
            return Err(Error::NotFree(range));
        }
        layout.reserve(range)?;
    }
    Ok(())
}

/// The regions of a partition, zeroed.
fn memory(entry: &Entry<'static>, layout: &mut Layout) -> Result<Regions, Error> {
    let mut regions = Regions::new();
    let mut add = |region: Region| {
        let range = Range::new(region.host().raw(), region.size());
        regions.add(region).map_err(|_| Error::NotFree(range))
    };
    match &entry.memory {
        manifest::Memory::Bytes(bytes) => {
            let own = place::zeroed(layout, *bytes, ALIGNMENT)?;
            let region = Region::new(GuestReal::new(0), HostReal::new(own.start), own.size());
            add(region.ok_or(Error::NotFree(own))?)?;
        }
        manifest::Memory::Regions(places) => {
            for region in places {
                // SAFETY: reserved for this region alone, in whole pages.
                unsafe { cache::zero(region.host(), region.size()) };
                add(*region)?;
            }
        }
    }
    if let Some(shared) = entry.shared {
        regions
            .add(shared)
            .map_err(|_| Error::NotFree(Range::new(shared.host().raw(), shared.size())))?;
    }
    Ok(regions)
}

fn one(entry: &Entry<'static>, isa: Isa, layout: &mut Layout) -> Result<Partition<'static>, Error> {
    let order = entry.max_order.unwrap_or(entry.order);
    let (hpt, beside) = area(layout, order, Memory::words_beside(order))?;
    let spare = entry
        .max_order
        .map(|order| area(layout, order, Memory::words_beside_spare(order)))
        .transpose()?;
    let regions = memory(entry, layout)?;
    let unfit = || Error::NotFree(Range::new(hpt.as_ptr().addr() as u64, order.bytes()));
    let mut memory = Memory::new(order, hpt, beside).ok_or_else(unfit)?;
    if let Some((hpt, beside)) = spare {
        memory = memory
            .with_spare(hpt, beside)
            .and_then(|memory| memory.holding(entry.order))
            .ok_or_else(unfit)?;
    }
    let description = Description {
        name: entry.name,
        lpid: entry.lpid,
        privileges: entry.privileges,
        regions,
        shared: entry.shared,
        entry: entry.entry,
        vcpus: entry.vcpus,
    };
    let format = match isa {
        Isa::V2_07 => Format::V2_07,
        Isa::V3_0 => Format::V3_0,
    };
    let partition = Partition::new(description, format, memory);
    show(entry, &partition, hpt);
    Ok(partition)
}

/// Zeroed memory for a table of this order, and for `words` doublewords beside it.
fn area(
    layout: &mut Layout,
    order: Order,
    words: u64,
) -> Result<(&'static [BeDword], &'static [AtomicU64]), Error> {
    // SAFETY: transparent over an atomic u64, which zero is one of.
    let hpt = unsafe { place::doublewords(layout, order.slots() * 2, order.bytes())? };
    // SAFETY: zero is an atomic u64.
    let beside = unsafe { place::doublewords(layout, words, place::BLOCK)? };
    Ok((hpt, beside))
}

fn show(entry: &Entry<'_>, partition: &Partition<'_>, hpt: &[BeDword]) {
    let mut regions = partition.description().regions.iter();
    let first = regions
        .next()
        .map_or((0, 0), |region| (region.size(), region.host().raw()));
    defmt::info!(
        "partition {=u16} {=str}: {=usize} vCPU(s), {=u64} MiB at {=u64:#x}, HPT of order {=u32} (at most {=u32}) at {=u64:#x} and {=u64} bytes beside it, privileges: {=str}",
        entry.lpid.raw(),
        entry.name,
        entry.vcpus,
        first.0 >> 20,
        first.1,
        entry.order.raw(),
        entry.max_order.unwrap_or(entry.order).raw(),
        hpt.as_ptr().addr() as u64,
        partition.bytes_beside(),
        match (
            entry.privileges.contains(Privileges::CONTROL),
            entry.privileges.contains(Privileges::REPORT)
        ) {
            (false, false) => "none",
            (true, false) => "control",
            (false, true) => "report",
            (true, true) => "control and report",
        }
    );
}
