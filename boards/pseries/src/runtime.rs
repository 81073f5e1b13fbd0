//! What the runtime sets up before main, and what main is given.

use core::fmt;

use heapless::Vec;

use crate::{
    abi::LPAR_SELF,
    cpu::{self, Msr},
    exit,
    hcall::{self, Failure, Partition},
    mmu::{
        Entry, MapError, Table,
        pte::{BasePage, PP_READ_WRITE, Page, Segment, SegmentSize, V_BOLTED},
        slb,
    },
    println,
    window::Window,
};

/// The most HPTEs the runtime needs: the program's and the window's.
const ENTRIES: usize = 512;
/// Bytes of a segment of the runtime.
const SEGMENT: u64 = 256 << 20;
/// The first SLB entry that the runtime leaves to the program.
pub const FIRST_FREE_SLB: u64 = 16;
/// VSIDs of the runtime: from here, by attempt and by segment.
const VSIDS: u64 = 0x5a_0000_0000;
/// How many sets of VSIDs are tried on a table that holds somebody's entries.
const ATTEMPTS: u64 = 4;

/// What main gets.
#[derive(Debug)]
pub struct Runtime {
    /// r3 at the start.
    pub argument: u64,
    /// What the hypervisor says of this partition.
    pub partition: Partition,
    /// This partition's table.
    pub table: Table,
    /// The window shared with the host, if there is one.
    pub window: Option<Window>,
    /// The entry the program runs by.
    pub program: Entry,
    /// The entries the window is reached by, in the order of addresses, each for as many bytes.
    pub window_entries: Vec<Entry, ENTRIES>,
}

/// Why the runtime cannot be set up.
#[derive(Debug)]
enum Error {
    Query(Failure),
    Program(MapError),
    Window(MapError),
    WindowPlace,
}

impl Error {
    /// Number of the step, for the exit code.
    const fn step(&self) -> u64 {
        match self {
            Self::Query(_) => 1,
            Self::Program(_) => 2,
            Self::Window(_) => 3,
            Self::WindowPlace => 4,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(failure) => write!(f, "what am I? {failure}"),
            Self::Program(error) => write!(f, "mapping the program: {error}"),
            Self::Window(error) => write!(f, "mapping the window: {error}"),
            Self::WindowPlace => write!(f, "the window is not where it could be mapped"),
        }
    }
}

/// Sets the runtime up and runs the program on it; the exit code.
pub fn run(argument: u64, main: fn(&Runtime) -> u64) -> u64 {
    match Runtime::set_up(argument) {
        Ok(runtime) => main(&runtime),
        Err(error) => {
            println!("set-up failed: {error}");
            exit::SET_UP | error.step()
        }
    }
}

impl Runtime {
    /// Enters HPTEs for the program and the window, fills the SLB and turns translation on.
    fn set_up(argument: u64) -> Result<Self, Error> {
        cpu::quiet_decrementer();
        // SAFETY: the program runs in real mode until the end of this function.
        unsafe { slb::clear() };
        let partition = hcall::lpar_query(LPAR_SELF).map_err(Error::Query)?;
        let table = Table::new(partition.order);

        let mut program = Vec::<Entry, 1>::new();
        map(&table, 0, Page::M16.size(), &[Page::M16], &mut program).map_err(Error::Program)?;
        let [program] = program
            .into_array()
            .map_err(|_| Error::Program(MapError::Full))?;

        let (base, size) = (partition.shared_base, partition.shared_size);
        let mut window_entries = Vec::new();
        let mut window = None;
        if size > 0 {
            // Segment 0 is the program's, and the SLB has room for so many.
            if base < SEGMENT || (base % SEGMENT + size).div_ceil(SEGMENT) >= FIRST_FREE_SLB {
                return Err(Error::WindowPlace);
            }
            let pages = [Page::M16, Page::K64, Page::K4];
            map(&table, base, size, &pages, &mut window_entries).map_err(Error::Window)?;
        }
        // SAFETY: program and stack are mapped 1:1, EE is off.
        unsafe { cpu::set_msr(Msr::TRANSLATED) };
        if size > 0 {
            // SAFETY: mapped above, and the program's memory is elsewhere.
            window = unsafe { Window::new(base, size) };
        }
        Ok(Self {
            argument,
            partition,
            table,
            window,
            program,
            window_entries,
        })
    }
}

/// Maps `size` bytes at `base` to themselves, with the first of `pages` that fits and that the hypervisor
/// allows there, under VSIDs that are nobody's; and puts the segments in the SLB.
fn map<const N: usize>(
    table: &Table,
    base: u64,
    size: u64,
    pages: &[Page],
    entries: &mut Vec<Entry, N>,
) -> Result<(), MapError> {
    let mut last = MapError::Full;
    for &page in pages
        .iter()
        .filter(|page| (base | size).is_multiple_of(page.size()))
    {
        for attempt in 0..ATTEMPTS {
            match map_with(table, base, size, page, attempt, entries) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            for entry in entries.drain(..) {
                entry.remove()?;
            }
        }
    }
    Err(last)
}

/// One attempt of [`map`]. On an error, `entries` has what was entered.
fn map_with<const N: usize>(
    table: &Table,
    base: u64,
    size: u64,
    page: Page,
    attempt: u64,
    entries: &mut Vec<Entry, N>,
) -> Result<(), MapError> {
    let mut ea = base;
    let mut slot = if base == 0 { 0 } else { 1 };
    while ea < base + size {
        let segment = segment(ea, page.base(), attempt);
        let end = (base + size).min(segment.base + SEGMENT);
        while ea < end {
            // SAFETY: an address is mapped to the same real address: nothing changes its meaning.
            let entry = unsafe { table.map(&segment, ea, page, (ea, PP_READ_WRITE), V_BOLTED) }?;
            entries.push(entry).map_err(|_| MapError::Full)?;
            ea += page.size();
        }
        // SAFETY: 1:1 again, and no segment is there yet: the SLB is filled upwards from empty. An
        // attempt that failed leaves segments which the next one overwrites, and nothing has used them.
        unsafe { slb::insert(slot, &segment) };
        slot += 1;
    }
    Ok(())
}

/// The runtime's segment that an effective address is in.
const fn segment(ea: u64, page: BasePage, attempt: u64) -> Segment {
    let base = ea & !(SEGMENT - 1);
    // The low bits of a VSID spread segments over the groups; 16M pages of one segment are next to each
    // other in the table anyway.
    let vsid = VSIDS + (attempt << 20) + (base / SEGMENT) * 0x101;
    Segment {
        base,
        vsid,
        size: SegmentSize::M256,
        page,
    }
}
