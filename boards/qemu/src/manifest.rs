//! The boot manifest: which partitions there are, as a flattened device tree for the image.
//!
//! `PARTITIONS` is the one place that describes the default partitions. The image gets the tree as its
//! initrd; nothing about a partition is known to it otherwise.
//!
//! A partition may share a *window* of the machine's memory with the runner (`realhpt_pseries::exchange`).
//! Windows stand at the top of the machine's memory, which is made large enough for them; below them stands
//! the memory of partitions that want it at certain places, and below that what the hypervisor copies into
//! partitions before they start ([`Load`]): programs, RAM disks. [`Manifest::fill`] puts it there.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use vm_fdt::FdtWriter;

use crate::images::{Guest, Images};
use crate::replay::Region;
use crate::terminal::Terminal;

/// Guest real address at which a partition sees its window.
pub const WINDOW_GUEST_BASE: u64 = 0x1_0000_0000;
/// Windows and partitions stand on multiples of this: a guest may map them with the largest page.
const ALIGNMENT: u64 = 16 << 20;
/// What the firmware and the image themselves take: skiboot ends below this.
const FIRMWARE: u64 = 1 << 30;
/// The least memory a machine is given.
const LEAST_RAM: u64 = 2 << 30;

const MIB: u64 = 1 << 20;
/// What is loaded is in whole pages.
const PAGE: u64 = 1 << 16;

/// One row of [`PARTITIONS`].
#[derive(Debug)]
struct Row {
    lpid: u32,
    label: &'static str,
    memory: u64,
    order: u32,
    privileges: &'static [&'static str],
    /// The binary it runs, of package `realhpt-pseries`.
    binary: Option<&'static str>,
    start: bool,
    console: bool,
    window: Option<u64>,
}

/// The agent's LPID.
pub const AGENT: u32 = 1;
/// The client's LPID: the partition whose table the agent restores and reads.
pub const CLIENT: u32 = 2;
/// The LPID of the partition that stays empty.
pub const SPARE: u32 = 3;

/// The default partitions: the agent, the client it works on, and a third that stays empty.
const PARTITIONS: [Row; 3] = [
    Row {
        lpid: AGENT,
        label: "agent",
        memory: 64 * MIB,
        order: 18,
        privileges: &["control", "report"],
        binary: Some("agent"),
        start: true,
        console: true,
        window: Some(128 * MIB),
    },
    Row {
        lpid: CLIENT,
        label: "client",
        memory: 256 * MIB,
        order: 22,
        privileges: &[],
        binary: Some("client"),
        start: false,
        console: false,
        window: Some(MIB),
    },
    Row {
        lpid: SPARE,
        label: "spare",
        memory: 64 * MIB,
        order: 18,
        privileges: &[],
        binary: None,
        start: false,
        console: false,
        window: None,
    },
];

/// Bytes that are copied into a partition's memory before each of its starts.
#[derive(Clone, Debug)]
pub struct Load {
    /// The bytes. Partitions that share them have them once in the machine's memory.
    pub bytes: Arc<[u8]>,
    /// Guest real address of the first.
    pub guest: u64,
}

impl Load {
    /// What the bytes take of the machine's memory, the zeros behind them included.
    fn size(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(PAGE)
    }

    fn shares(&self, bytes: &Arc<[u8]>) -> bool {
        Arc::ptr_eq(&self.bytes, bytes)
    }
}

/// How a program for PAPR is started, which is given a device tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Papr {
    /// Guest real address of the first instruction.
    pub entry: u64,
    /// It is entered in little-endian mode.
    pub little_endian: bool,
    /// Its command line.
    pub bootargs: String,
    /// Guest real addresses of its RAM disk's first byte and of what is behind the last.
    pub initrd: Option<(u64, u64)>,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Its LPID, from 1.
    pub lpid: u32,
    /// Its name in the log.
    pub label: String,
    /// Bytes of memory, a multiple of 16 MiB, if it has no regions.
    pub memory: u64,
    /// Its memory, where it matters where that is.
    pub regions: Vec<Region>,
    /// log2 of its HPT's bytes.
    pub order: u32,
    /// The same of the largest HPT that it may resize to; none: it may not.
    pub max_order: Option<u32>,
    /// What it may do: `control`, `report`.
    pub privileges: Vec<String>,
    /// What it runs: an image from guest real 0 on.
    pub guest: Option<Guest>,
    /// What is copied into its memory.
    pub loads: Vec<Load>,
    /// What it runs: a program for PAPR, which is among the loads.
    pub papr: Option<Papr>,
    /// It runs at boot; others wait to be started.
    pub start: bool,
    /// The machine is powered off when all partitions that say so have ended.
    pub essential: bool,
    /// Its terminal is the machine's console.
    pub console: bool,
    /// Bytes of its window, if it has one.
    pub window: Option<u64>,
    /// How many vCPUs it has.
    pub vcpus: u32,
    /// The CPU that its first vCPU runs on, the next one on the next; any if not said.
    pub pin: Option<u32>,
}

/// Where in the machine's memory a window stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Host real address of its first byte, which is its offset in the memory file too.
    pub host: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// The partitions of one run.
#[derive(Clone, Debug)]
pub struct Manifest {
    partitions: Vec<Partition>,
    /// Partitions that see another one's window, and whose.
    guests: Vec<(u32, u32)>,
}

impl Manifest {
    /// The partitions given.
    #[must_use]
    pub fn new(partitions: Vec<Partition>) -> Self {
        Self {
            partitions,
            guests: Vec::new(),
        }
    }

    /// The default partitions, with their guests out of `images`.
    ///
    /// # Errors
    /// If a guest's image cannot be read.
    pub fn standard(images: &Images) -> Result<Self> {
        let partition = |row: &Row| -> Result<Partition> {
            Ok(Partition {
                lpid: row.lpid,
                label: row.label.to_owned(),
                memory: row.memory,
                regions: Vec::new(),
                order: row.order,
                max_order: None,
                privileges: row.privileges.iter().map(|&name| name.to_owned()).collect(),
                guest: row.binary.map(|binary| images.guest(binary)).transpose()?,
                loads: Vec::new(),
                papr: None,
                start: row.start,
                essential: false,
                console: row.console,
                window: row.window,
                vcpus: 1,
                pin: None,
            })
        };
        let partitions = PARTITIONS.iter().map(partition).collect::<Result<_>>()?;
        Ok(Self::new(partitions))
    }

    /// Lets partition `lpid`, which has no window of its own, see that of `owner`.
    pub fn share_window(&mut self, lpid: u32, owner: u32) {
        self.guests.push((lpid, owner));
    }

    /// The partitions, in the order they are described in.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The partition with this LPID.
    ///
    /// # Errors
    /// If there is none.
    pub fn partition_mut(&mut self, lpid: u32) -> Result<&mut Partition> {
        self.partitions
            .iter_mut()
            .find(|partition| partition.lpid == lpid)
            .with_context(|| format!("no partition {lpid}"))
    }

    /// The memory the machine needs: the firmware's, every partition's with its table and what goes with it,
    /// what is loaded, and the windows.
    #[must_use]
    pub fn ram(&self) -> u64 {
        let partitions: u64 = self
            .partitions
            .iter()
            .map(|partition| partition.memory + partition.tables_room())
            .sum();
        let all =
            FIRMWARE + partitions + self.sources_size() + self.regions_size() + self.windows_size();
        all.next_multiple_of(256 * MIB).max(LEAST_RAM)
    }

    fn windows_size(&self) -> u64 {
        self.partitions
            .iter()
            .filter_map(|partition| partition.window)
            .map(|size| size.next_multiple_of(ALIGNMENT))
            .sum()
    }

    /// Memory for all regions: each may have to begin almost twice its page above what is before it.
    fn regions_size(&self) -> u64 {
        let regions = self
            .partitions
            .iter()
            .flat_map(|partition| &partition.regions);
        let room: u64 = regions.map(|region| region.bytes + 2 * region.page).sum();
        room.next_multiple_of(ALIGNMENT)
    }

    /// What is loaded, each of it once.
    fn sources(&self) -> Vec<&Load> {
        let mut sources = Vec::<&Load>::new();
        for load in self
            .partitions
            .iter()
            .flat_map(|partition| &partition.loads)
        {
            if !sources.iter().any(|source| source.shares(&load.bytes)) {
                sources.push(load);
            }
        }
        sources
    }

    fn sources_size(&self) -> u64 {
        let size: u64 = self.sources().into_iter().map(Load::size).sum();
        size.next_multiple_of(ALIGNMENT)
    }

    /// Where in the machine's memory, and so in the memory file, each source stands.
    fn places(&self) -> Vec<(u64, &Load)> {
        let mut free = self.ram() - self.windows_size() - self.regions_size() - self.sources_size();
        let place = |source: &'_ Load| {
            let host = free;
            free += source.size();
            host
        };
        let sources = self.sources();
        let hosts: Vec<u64> = sources.iter().copied().map(place).collect();
        hosts.into_iter().zip(sources).collect()
    }

    /// What is copied into partition `lpid`: host real address, bytes, guest real address of each.
    #[must_use]
    pub fn loads(&self, lpid: u32) -> Vec<[u64; 3]> {
        let places = self.places();
        let partition = self.partitions.iter().find(|other| other.lpid == lpid);
        let loads = partition.into_iter().flat_map(|partition| &partition.loads);
        loads
            .filter_map(|load| {
                let place = places.iter().find(|(_, source)| source.shares(&load.bytes));
                place.map(|&(host, source)| [host, source.size(), load.guest])
            })
            .collect()
    }

    /// Writes what is loaded into the machine's memory, which is zero.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn fill(&self, memory: &File) -> Result<()> {
        for (host, source) in self.places() {
            memory
                .write_all_at(&source.bytes, host)
                .context("cannot write into the machine's memory")?;
        }
        Ok(())
    }

    /// The regions of partition `lpid`, each with the host real address of its first byte, which is its offset in
    /// the memory file too.
    #[must_use]
    pub fn regions(&self, lpid: u32) -> Vec<(u64, Region)> {
        let mut free = self.ram() - self.windows_size() - self.regions_size();
        let mut places = Vec::new();
        for partition in &self.partitions {
            for &region in &partition.regions {
                let skew = region.guest + region.page;
                let host = free + skew.wrapping_sub(free) % (2 * region.page);
                if partition.lpid == lpid {
                    places.push((host, region));
                }
                free = host + region.bytes;
            }
        }
        places
    }

    /// Where the window of partition `lpid` stands, its own or another's that it sees.
    ///
    /// # Errors
    /// If it has none.
    pub fn window(&self, lpid: u32) -> Result<Window> {
        let shared = self.guests.iter().find(|(guest, _)| *guest == lpid);
        let lpid = shared.map_or(lpid, |&(_, owner)| owner);
        let mut host = self.ram() - self.windows_size();
        for partition in &self.partitions {
            let Some(size) = partition.window else {
                continue;
            };
            if partition.lpid == lpid {
                return Ok(Window { host, size });
            }
            host += size.next_multiple_of(ALIGNMENT);
        }
        anyhow::bail!("partition {lpid} has no window")
    }

    /// Shows the partitions, a line for each.
    pub fn show(&self, terminal: &Terminal) {
        for partition in &self.partitions {
            let Partition {
                lpid,
                label,
                memory,
                order,
                privileges,
                guest,
                papr,
                start,
                vcpus,
                ..
            } = partition;
            let runs = match (guest.is_some() || papr.is_some(), start) {
                (true, true) => "runs at boot",
                (true, false) => "waits to be started",
                (false, _) => "empty",
            };
            let vcpus = match vcpus {
                1 => String::new(),
                number => format!("{number} vCPUs, "),
            };
            let may = if privileges.is_empty() {
                String::new()
            } else {
                format!(", may {}", privileges.join(" and "))
            };
            let memory = memory >> 20;
            terminal.step(
                "Partition",
                &format!(
                    "{lpid} {label:8} {memory:4} MiB, {vcpus}table of order {order}, {runs}{may}"
                ),
            );
        }
    }

    /// The flattened device tree.
    ///
    /// # Errors
    /// If a partition's description cannot be right.
    pub fn to_fdt(&self) -> Result<Vec<u8>> {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_string("compatible", "realhpt,manifest-1")?;
        let partitions = fdt.begin_node("partitions")?;
        for partition in &self.partitions {
            let node = fdt.begin_node(&format!("partition@{:x}", partition.lpid))?;
            self.describe(&mut fdt, partition)
                .with_context(|| format!("partition {}", partition.label))?;
            fdt.end_node(node)?;
        }
        fdt.end_node(partitions)?;
        fdt.end_node(root)?;
        Ok(fdt.finish()?)
    }

    fn describe(&self, fdt: &mut FdtWriter, partition: &Partition) -> Result<()> {
        ensure!(
            partition.memory.is_multiple_of(ALIGNMENT),
            "memory is no multiple of 16 MiB"
        );
        fdt.property_u32("reg", partition.lpid)?;
        fdt.property_string("label", &partition.label)?;
        if partition.regions.is_empty() {
            fdt.property_u64("memory-size", partition.memory)?;
        } else {
            let regions = self.regions(partition.lpid);
            let places = regions
                .iter()
                .flat_map(|&(host, region)| [host, region.bytes, region.guest]);
            fdt.property_array_u64("memory", &places.collect::<Vec<_>>())?;
        }
        fdt.property_u32("hpt-order", partition.order)?;
        if let Some(max_order) = partition.max_order {
            fdt.property_u32("hpt-max-order", max_order)?;
        }
        if !partition.privileges.is_empty() {
            fdt.property_string_list("privileges", partition.privileges.clone())?;
        }
        if let Some(guest) = &partition.guest {
            fdt.property("image", &guest.flat)?;
            fdt.property_u64("entry", guest.entry)?;
        }
        let loads = self.loads(partition.lpid);
        if !loads.is_empty() {
            fdt.property_array_u64("load", loads.as_flattened())?;
        }
        if let Some(papr) = &partition.papr {
            papr.describe(fdt)?;
        }
        if partition.start {
            fdt.property_null("start")?;
        }
        if partition.essential {
            fdt.property_null("essential")?;
        }
        if let Ok(window) = self.window(partition.lpid) {
            fdt.property_array_u64("shared", &[window.host, window.size, WINDOW_GUEST_BASE])?;
        }
        if partition.console {
            fdt.property_null("console")?;
        }
        fdt.property_u32("vcpus", partition.vcpus)?;
        if let Some(pin) = partition.pin {
            fdt.property_u32("pin", pin)?;
        }
        Ok(())
    }
}

impl Papr {
    fn describe(&self, fdt: &mut FdtWriter) -> Result<()> {
        fdt.property_null("papr")?;
        fdt.property_u64("entry", self.entry)?;
        if self.little_endian {
            fdt.property_null("little-endian")?;
        }
        fdt.property_string("bootargs", &self.bootargs)
            .context("the command line cannot be told")?;
        if let Some((start, end)) = self.initrd {
            fdt.property_array_u64("initrd", &[start, end])?;
        }
        Ok(())
    }
}

impl Partition {
    /// Memory for its table, or for two of the largest order: the table itself, as much again lost to its
    /// alignment, and the doublewords beside it.
    fn tables_room(&self) -> u64 {
        let table = |order| 3 * 1_u64.checked_shl(order).unwrap_or(1 << 46);
        self.max_order
            .map_or_else(|| table(self.order), |order| 2 * table(order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(lpid: u32, window: Option<u64>) -> Partition {
        Partition {
            lpid,
            label: format!("p{lpid}"),
            memory: 64 * MIB,
            regions: Vec::new(),
            order: 18,
            max_order: None,
            privileges: vec!["control".to_owned()],
            guest: Some(Guest {
                flat: vec![0x60, 0, 0, 0],
                entry: 0x100,
            }),
            loads: Vec::new(),
            papr: None,
            start: true,
            essential: false,
            console: lpid == 1,
            window,
            vcpus: 1,
            pin: None,
        }
    }

    #[test]
    fn windows_are_aligned_apart_and_at_the_top() {
        let manifest = Manifest::new(vec![
            partition(1, Some(33 * MIB)),
            partition(2, None),
            partition(3, Some(MIB)),
        ]);
        let first = manifest.window(1).expect("a window");
        let second = manifest.window(3).expect("a window");
        assert!(first.host.is_multiple_of(ALIGNMENT) && second.host.is_multiple_of(ALIGNMENT));
        assert!(first.host + first.size <= second.host);
        assert_eq!(second.host + ALIGNMENT, manifest.ram());
        assert!(manifest.window(2).is_err());
    }

    #[test]
    fn regions_allow_their_page_and_no_larger_one() {
        let region = |guest, bytes, page| Region { guest, bytes, page };
        let regions = vec![
            region(0, 8 * MIB, 0x1_0000),
            region(0x4001_0000, 0x141_0000, 0x1_0000),
            region(0x1000_0000, 32 * MIB, 16 * MIB),
            region(0x7000_1000, 0x3000, 0x1000),
        ];
        let client = Partition {
            memory: 0,
            regions: regions.clone(),
            ..partition(2, None)
        };
        let manifest = Manifest::new(vec![partition(1, Some(33 * MIB)), client]);
        let places = manifest.regions(2);
        assert!(manifest.regions(1).is_empty());
        assert_eq!(
            places.iter().map(|place| place.1).collect::<Vec<_>>(),
            regions
        );
        let mut end = 0;
        for (host, region) in places {
            let apart = host.wrapping_sub(region.guest);
            assert!(apart.is_multiple_of(region.page), "{region:x?}");
            assert!(!apart.is_multiple_of(2 * region.page), "{region:x?}");
            assert!(host >= end);
            end = host + region.bytes;
        }
        assert!(end <= manifest.window(1).expect("a window").host);
        let fdt = manifest.to_fdt().expect("a tree");
        assert!(fdt.windows(7).any(|bytes| bytes == b"memory\0"));
    }

    #[test]
    fn what_is_loaded_stands_once_below_windows_and_regions() {
        let kernel: Arc<[u8]> = vec![0x11; 0x1_0001].into();
        let disk: Arc<[u8]> = vec![0x22; 10].into();
        let load = |bytes: &Arc<[u8]>, guest| Load {
            bytes: Arc::clone(bytes),
            guest,
        };
        let guest = |lpid, window, loads| Partition {
            loads,
            ..partition(lpid, window)
        };
        let manifest = Manifest::new(vec![
            guest(1, Some(MIB), vec![load(&kernel, 0x40_0000)]),
            guest(
                2,
                None,
                vec![load(&kernel, 0x40_0000), load(&disk, 0x100_0000)],
            ),
            partition(3, None),
        ]);
        let [[host, size, at]] = manifest.loads(1)[..] else {
            panic!("one load");
        };
        assert_eq!((size, at), (0x2_0000, 0x40_0000));
        assert!(host.is_multiple_of(PAGE));
        let beside = [host + size, PAGE, 0x100_0000];
        assert_eq!(manifest.loads(2), [[host, size, at], beside]);
        assert!(host + size + PAGE <= manifest.window(1).expect("a window").host);
        assert!(manifest.loads(3).is_empty());

        let memory = tempfile::tempfile().expect("a file");
        memory.set_len(manifest.ram()).expect("a large file");
        manifest.fill(&memory).expect("filled");
        let mut bytes = [0xff; 0x2_0010];
        memory.read_exact_at(&mut bytes, host).expect("bytes");
        let (first, second) = bytes.split_at(0x2_0000);
        let (data, zeros) = first.split_at(kernel.len());
        assert!(data == &*kernel && zeros.iter().all(|&byte| byte == 0));
        assert_eq!(second, [[0x22; 10].as_slice(), &[0; 6]].concat());
    }

    /// The bytes of a property of the tree's only partition, by a walk over the tree's words.
    fn property(fdt: &[u8], wanted: &str) -> Option<Vec<u8>> {
        let word = |at: usize| {
            let bytes = fdt.get(at..at + 4)?;
            usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
        };
        let (mut at, strings) = (word(8)?, word(12)?);
        loop {
            match word(at)? {
                1 => {
                    let name = fdt.get(at + 4..)?.iter().position(|&byte| byte == 0)?;
                    at += 4 + (name + 1).next_multiple_of(4);
                }
                3 => {
                    let (length, name) = (word(at + 4)?, strings + word(at + 8)?);
                    let name = fdt.get(name..)?.split(|&byte| byte == 0).next()?;
                    if name == wanted.as_bytes() {
                        return Some(fdt.get(at + 12..at + 12 + length)?.to_vec());
                    }
                    at += 12 + length.next_multiple_of(4);
                }
                9 => return None,
                _ => at += 4,
            }
        }
    }

    #[test]
    fn a_program_for_papr_is_described() {
        let bytes = vec![1; 8].into();
        let plain = partition(1, None);
        let linux = Partition {
            guest: None,
            loads: vec![Load {
                bytes,
                guest: 0x40_0000,
            }],
            papr: Some(Papr {
                entry: 0x40_0010,
                little_endian: true,
                bootargs: "console=hvc0".to_owned(),
                initrd: Some((0x300_0000, 0x300_1234)),
            }),
            essential: true,
            ..plain.clone()
        };
        let manifest = Manifest::new(vec![linux]);
        let fdt = manifest.to_fdt().expect("a tree");
        let dwords = |values: &[u64]| Some(values.iter().flat_map(|v| v.to_be_bytes()).collect());
        assert_eq!(
            property(&fdt, "load"),
            dwords(manifest.loads(1).as_flattened())
        );
        assert_eq!(property(&fdt, "entry"), dwords(&[0x40_0010]));
        assert_eq!(property(&fdt, "initrd"), dwords(&[0x300_0000, 0x300_1234]));
        assert_eq!(property(&fdt, "bootargs"), Some(b"console=hvc0\0".to_vec()));
        let flags = ["papr", "little-endian", "essential", "start", "console"];
        for flag in flags {
            assert_eq!(property(&fdt, flag), Some(Vec::new()), "{flag}");
        }
        assert_eq!(property(&fdt, "image"), None);
        let fdt = Manifest::new(vec![plain]).to_fdt().expect("a tree");
        for name in [
            "papr",
            "little-endian",
            "essential",
            "load",
            "bootargs",
            "initrd",
        ] {
            assert_eq!(property(&fdt, name), None, "{name}");
        }
    }

    #[test]
    fn a_window_can_be_seen_by_two() {
        let mut manifest = Manifest::new(vec![partition(1, Some(MIB)), partition(2, None)]);
        let ram = manifest.ram();
        manifest.share_window(2, 1);
        assert_eq!(
            manifest.window(2).expect("a window"),
            manifest.window(1).expect("a window")
        );
        assert_eq!(manifest.ram(), ram);
    }

    #[test]
    fn memory_grows_with_what_is_asked_for() {
        let mut manifest = Manifest::new(vec![partition(1, Some(512 * MIB))]);
        assert_eq!(manifest.ram(), LEAST_RAM);
        manifest.partition_mut(1).expect("there").order = 30;
        assert!(manifest.ram() >= FIRMWARE + (3 << 30) + 576 * MIB);
        manifest.partition_mut(1).expect("there").max_order = Some(31);
        assert!(manifest.ram() >= FIRMWARE + (12 << 30) + 576 * MIB);
    }

    #[test]
    fn the_tree_is_a_tree() {
        let mut manifest = Manifest::new(vec![partition(1, Some(MIB))]);
        manifest.partition_mut(1).expect("there").max_order = Some(20);
        let fdt = manifest.to_fdt().expect("a tree");
        assert_eq!(fdt.get(..4), Some([0xd0, 0x0d, 0xfe, 0xed].as_slice()));
        for name in [
            "partition@1",
            "realhpt,manifest-1",
            "hpt-order",
            "hpt-max-order",
            "shared",
        ] {
            assert!(
                fdt.windows(name.len())
                    .any(|bytes| bytes == name.as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn odd_memory_is_refused() {
        let mut odd = partition(1, None);
        odd.memory += 4096;
        assert!(Manifest::new(vec![odd]).to_fdt().is_err());
    }
}
