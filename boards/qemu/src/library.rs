//! The library as a machine on this host: the partitions that a replay and the host tests need.
//!
//! [`Spec`] says what a partition is, [`Store`] has the memory of their tables, and [`Store::system`] makes the
//! partitions in it, on a machine that is [`Store::machine`] as a rule. There is an [`AGENT`], which may control others and has
//! memory for buffers, and a [`CLIENT`], whose table it is about.

use anyhow::{Context as _, Result, anyhow};
use realhpt::addr::{GuestReal, HostReal, Lpid};
use realhpt::arch::Machine;
use realhpt::arch::host::Recording;
use realhpt::hcall::abi::Privileges;
use realhpt::lpar::{Description, Partition, System};
use realhpt::memory::{Region, Regions};
use realhpt::sync::Ordering;
use realhpt::table::{Format, Memory, Order};

use crate::zeroed::Zeroed;

/// The partition that streams.
pub const AGENT: u16 = 1;
/// The partition whose table it is about.
pub const CLIENT: u16 = 2;

/// Memory of the agent, from guest and host real 0.
pub const AGENT_MEMORY: u64 = 1 << 20;
/// Where the agent has its stream buffer.
pub const BUFFER: u64 = 0x1_0000;
/// The largest stream buffer.
pub const BUFFER_SIZE: u64 = AGENT_MEMORY - BUFFER;
/// Host real address of the client's memory where nothing else is said.
pub const CLIENT_HOST: u64 = 0x40_0000_0000;
/// Bytes of it.
pub const CLIENT_MEMORY: u64 = 256 << 20;
/// A piece of the client's memory with something behind it, for its own stream calls: where in its memory,
/// where on the host, and how much.
pub const CLIENT_WINDOW: (u64, u64, u64) = (1 << 32, AGENT_MEMORY, 1 << 16);

/// A partition to be made.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its number.
    pub lpid: u16,
    /// log2 of its table's size in bytes.
    pub order: u32,
    /// The same of the largest table that it may resize to.
    pub max_order: Option<u32>,
    /// What it may do to others.
    pub privileges: Privileges,
    /// How many vCPUs it has.
    pub vcpus: usize,
    /// Its memory: guest address, host address, bytes.
    pub regions: Vec<(u64, u64, u64)>,
}

impl Spec {
    /// The agent.
    #[must_use]
    pub fn agent() -> Self {
        Self {
            lpid: AGENT,
            order: 18,
            max_order: None,
            privileges: Privileges::CONTROL | Privileges::REPORT,
            vcpus: 1,
            regions: vec![(0, 0, AGENT_MEMORY)],
        }
    }

    /// The client, with a table of this order, and with two vCPUs: its translations may be on any CPU.
    #[must_use]
    pub fn client(order: u32) -> Self {
        let regions = vec![(0, CLIENT_HOST, CLIENT_MEMORY), CLIENT_WINDOW];
        Self {
            lpid: CLIENT,
            order,
            max_order: None,
            privileges: Privileges::empty(),
            vcpus: 2,
            regions,
        }
    }

    /// The same with a table that may be resized up to this order.
    #[must_use]
    pub fn resizable(self, max_order: u32) -> Self {
        Self {
            max_order: Some(max_order),
            ..self
        }
    }

    /// The same with this memory.
    #[must_use]
    pub fn with_regions(self, regions: &[(u64, u64, u64)]) -> Self {
        Self {
            regions: regions.to_vec(),
            ..self
        }
    }

    fn description(&self) -> Result<Description<'static>> {
        let mut regions = Regions::new();
        for &(guest, host, size) in &self.regions {
            let region = Region::new(GuestReal::new(guest), HostReal::new(host), size)
                .with_context(|| format!("{size:#x} bytes at {guest:#x} are no region"))?;
            regions
                .add(region)
                .map_err(|_| anyhow!("the region at {guest:#x} is one too many"))?;
        }
        Ok(Description {
            name: "library",
            lpid: Lpid::new(self.lpid),
            privileges: self.privileges,
            regions,
            shared: None,
            entry: GuestReal::new(0x100),
            vcpus: self.vcpus,
        })
    }
}

/// The zeroed memory of one table: the HPT, and what stands beside it.
type Area = (Zeroed, Zeroed);

/// The zeroed memory of a partition's table: the order it begins with, and what there is for it.
#[derive(Debug)]
struct TableMemory {
    order: Order,
    largest: Order,
    first: Area,
    spare: Option<Area>,
}

impl TableMemory {
    fn new(spec: &Spec) -> Result<Self, String> {
        let order = |order| Order::new(order).ok_or_else(|| format!("no table has order {order}"));
        let (first, largest) = (
            order(spec.order)?,
            order(spec.max_order.unwrap_or(spec.order))?,
        );
        let area = |words: u64| -> Result<Area, String> {
            let zeroed = |count| {
                Zeroed::new(count).map_err(|error| {
                    format!("no memory for a table of order {}: {error}", largest.raw())
                })
            };
            Ok((zeroed(2 * largest.slots())?, zeroed(words)?))
        };
        let spare = spec
            .max_order
            .map(|_| area(Memory::words_beside_spare(largest)));
        Ok(Self {
            order: first,
            largest,
            first: area(Memory::words_beside(largest))?,
            spare: spare.transpose()?,
        })
    }

    fn memory(&self) -> Option<Memory<'_>> {
        let (hpt, beside) = &self.first;
        let memory = Memory::new(self.largest, hpt.dwords(), beside.words())?;
        let memory = match &self.spare {
            Some((hpt, beside)) => memory.with_spare(hpt.dwords(), beside.words())?,
            None => memory,
        };
        memory.holding(self.order)
    }
}

/// The zeroed memory of the partitions' tables.
#[derive(Debug)]
pub struct Store {
    specs: Vec<Spec>,
    /// Why there is none, where there is none.
    memory: Vec<Result<TableMemory, String>>,
}

impl Store {
    /// Memory for these partitions.
    #[must_use]
    pub fn new(specs: &[Spec]) -> Self {
        Self {
            specs: specs.to_vec(),
            memory: specs.iter().map(TableMemory::new).collect(),
        }
    }

    /// Memory for an agent and a client with a table of this order.
    #[must_use]
    pub fn pair(order: u32) -> Self {
        Self::new(&[Spec::agent(), Spec::client(order)])
    }

    /// Empties the memory again, for other partitions in it.
    pub fn empty(&self) {
        for memory in self.memory.iter().flatten() {
            for (hpt, beside) in [Some(&memory.first), memory.spare.as_ref()]
                .into_iter()
                .flatten()
            {
                for word in hpt.words().iter().chain(beside.words()) {
                    word.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    /// A machine with memory behind everything that the partitions have.
    #[must_use]
    pub fn machine(&self) -> Recording {
        let vector = usize::try_from(AGENT_MEMORY + CLIENT_WINDOW.2).unwrap_or_default();
        let mut machine = Recording::new(vector);
        for &(_, host, size) in self.specs.iter().flat_map(|spec| &spec.regions) {
            machine.back(HostReal::new(host), size);
        }
        machine
    }

    /// `machine` with these partitions, none of them started, their tables empty. To be made once, and again
    /// after [`Self::empty`].
    ///
    /// # Errors
    /// Partitions that cannot be: an order that no table has, regions that overlap, an LPID twice.
    pub fn system<M: Machine>(&self, machine: M, format: Format) -> Result<System<'_, M>> {
        let mut system = System::new(machine);
        for (spec, memory) in self.specs.iter().zip(&self.memory) {
            let memory = memory.as_ref().map_err(|why| anyhow!("{why}"))?;
            let memory = memory.memory().context("its parts do not fit")?;
            system
                .add(Partition::new(spec.description()?, format, memory))
                .map_err(|_| anyhow!("partition {} is one too many", spec.lpid))?;
        }
        Ok(system)
    }
}
