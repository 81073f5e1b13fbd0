//! What the machine's own device tree tells: memory, reservations, initrd, time base, processor.

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

use crate::layout::{Error, Layout, Range};
use crate::machine::Generation;
use crate::papr::processor::{Cache, Processor};

/// The machine's free memory: all `/memory` nodes without what the reservation block and `/reserved-memory`
/// name.
///
/// # Errors
/// What [`Layout`] cannot note.
pub fn memory(tree: Fdt<'_>) -> Result<Layout, Error> {
    let mut layout = Layout::new();
    for node in tree.root().children() {
        let is_memory = node.name_without_address() == "memory";
        if is_memory && let Ok(Some(reg)) = node.reg() {
            for reg in reg {
                layout.add(range(reg.address(), reg.size()))?;
            }
        }
    }
    for reservation in tree.memory_reservations() {
        layout.reserve(Range::new(reservation.address(), reservation.size()))?;
    }
    for node in tree.reserved_memory().into_iter().flatten() {
        if let Ok(Some(reg)) = node.reg() {
            for reg in reg {
                layout.reserve(range(reg.address(), reg.size()))?;
            }
        }
    }
    Ok(layout)
}

/// The range of a `reg` entry; empty if it is not one of 64 bits.
fn range<E>(address: Result<u64, E>, size: Result<u64, E>) -> Range {
    match (address, size) {
        (Ok(address), Ok(size)) => Range::new(address, size),
        _ => Range::new(0, 0),
    }
}

/// Where the initrd is, if there is one.
#[must_use]
pub fn initrd(tree: Fdt<'_>) -> Option<Range> {
    let chosen = tree.find_node("/chosen")?;
    let number = |name| {
        let property = chosen.property(name)?;
        property
            .value_as::<u64>()
            .or_else(|_| property.value_as::<u32>().map(u64::from))
            .ok()
    };
    let (start, end) = (number("linux,initrd-start")?, number("linux,initrd-end")?);
    (start < end).then_some(Range { start, end })
}

/// The nodes of CPUs. They are called by their processor's name, not `cpu`.
fn cpu_nodes<'t>(tree: Fdt<'t>) -> impl Iterator<Item = FdtNode<'t>> {
    let cpus = tree.find_node("/cpus");
    cpus.into_iter()
        .flat_map(|cpus| cpus.children())
        .filter(|node| {
            let kind = node.property("device_type");
            kind.is_some_and(|kind| kind.value_as::<&str>() == Ok("cpu"))
        })
}

/// Threads of a core, at most.
const THREADS: usize = 8;

/// The CPUs that can be used, by their PIR, in the order of the tree: every hardware thread, or with
/// `one_per_core` the first one of each core alone.
pub fn cpus<'t>(tree: Fdt<'t>, one_per_core: bool) -> impl Iterator<Item = u32> {
    let threads = if one_per_core { 1 } else { THREADS };
    cpu_nodes(tree).flat_map(move |cpu| {
        let all = cpu.property("ibm,ppc-interrupt-server#s");
        let all = all.and_then(|all| all.value_as::<&[u8]>().ok());
        let (all, _) = all.unwrap_or_default().as_chunks::<4>();
        all.iter()
            .take(threads)
            .map(|thread| u32::from_be_bytes(*thread))
    })
}

/// The processor with this version, as its first node tells of it.
#[must_use]
pub fn processor(tree: Fdt<'_>, pvr: u32, generation: Generation) -> Processor {
    let unknown = Processor::new(pvr, generation);
    let Some(cpu) = cpu_nodes(tree).next() else {
        return unknown;
    };
    let word = |name| {
        let property = cpu.property(name)?;
        property.value_as::<u32>().ok().filter(|&word| word != 0)
    };
    let cache = |size, line, unknown: Cache| Cache {
        size: word(size).unwrap_or(unknown.size),
        line: word(line).unwrap_or(unknown.line),
    };
    Processor {
        time_base: word("timebase-frequency").unwrap_or(unknown.time_base),
        clock: word("clock-frequency").or(unknown.clock),
        instructions: cache("i-cache-size", "i-cache-line-size", unknown.instructions),
        data: cache("d-cache-size", "d-cache-line-size", unknown.data),
        ..unknown
    }
}

/// Ticks of the time base in a second.
#[must_use]
pub fn time_base_frequency(tree: Fdt<'_>) -> Option<u64> {
    cpu_nodes(tree).find_map(|cpu| {
        let frequency = cpu.property("timebase-frequency")?;
        frequency.value_as::<u32>().map(u64::from).ok()
    })
}
