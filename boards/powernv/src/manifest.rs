//! The boot manifest: the one description of the partitions, a flattened device tree in the initrd.
//!
//! [`Manifest::parse`] reads it; what does not make sense is an [`Error`] with the partition's name in it,
//! never a panic. Whether it fits the machine's memory is for [`crate::layout`] to say.
//!
//! ```text
//! / {
//!   compatible = "realhpt,manifest-1";
//!   partitions {
//!     partition@1 {
//!       reg = <1>;                           LPID
//!       label = "agent";
//!       memory-size = /bits/ 64 <...>;       guest real 0 on; a multiple of 16 MiB
//!       memory = /bits/ 64 <host size guest ...>;  instead: pieces of memory at places of the owner's choice
//!       hpt-order = <18>;
//!       hpt-max-order = <20>;                optional: what the partition may resize its table to
//!       privileges = "control", "report";    optional
//!       image = [...]; entry = /bits/ 64 <...>;   optional: what stands at guest real 0, and where it begins
//!       start;                               optional: runs at boot
//!       shared = /bits/ 64 <host size guest>;     optional: a window that the machine's owner sees too
//!       console;                             optional: its terminal is the machine's console, or one of several there (`mux`)
//!       vcpus = <2>;                         optional: how many; 1 without
//!       pin = <0>;                           optional: vCPU n runs on CPU pin + n alone; any CPU without
//!       load = /bits/ 64 <host size guest ...>;   optional: what is copied into its memory before it starts
//!       essential;                           optional: the machine runs until all of these have ended
//!       papr;                                optional: a PAPR guest, with a device tree made for it
//!       bootargs = "...";                    of a PAPR guest: its command line
//!       initrd = /bits/ 64 <start end>;      of a PAPR guest: guest real addresses of its initial RAM disk
//!       little-endian;                       of a PAPR guest: it is entered little-endian
//!     };
//!   };
//! };
//! ```

use core::fmt;
use core::ops::RangeInclusive;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use realhpt::addr::{GuestReal, HostReal, Lpid};
use realhpt::arch::MAX_CPUS;
use realhpt::hcall::abi::Privileges;
use realhpt::lpar::vcpu::Endian;
use realhpt::lpar::{MAX_PARTITIONS, MAX_VCPUS};
use realhpt::memory::{MAX_REGIONS, Region};
use realhpt::table::Order;

use crate::layout::Range;
use crate::papr::place::Place;

/// What the root node is compatible with.
const COMPATIBLE: &str = "realhpt,manifest-1";
/// Host memory of a partition is aligned to the largest page that maps it, and so is its size.
pub const ALIGNMENT: u64 = 16 << 20;

/// Bound on the pieces that are loaded into a partition.
pub const MAX_LOADS: usize = 8;

/// A partition's memory.
#[derive(Clone, Debug)]
pub enum Memory {
    /// So many bytes at guest real 0, where there is room.
    Bytes(u64),
    /// At these places.
    Regions(heapless::Vec<Region, MAX_REGIONS>),
}

impl Memory {
    /// Bytes of it from guest real 0 on, in one piece.
    #[must_use]
    pub fn first(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => *bytes,
            Self::Regions(regions) => regions
                .iter()
                .find(|region| region.guest().raw() == 0)
                .map_or(0, Region::size),
        }
    }

    /// Whether `size` bytes from `guest` on are memory, in one piece.
    fn has(&self, guest: GuestReal, size: u64) -> bool {
        let within = |first: GuestReal, bytes: u64| {
            let offset = guest.raw().checked_sub(first.raw());
            offset.is_some_and(|offset| offset <= bytes && bytes - offset >= size)
        };
        match self {
            Self::Bytes(bytes) => within(GuestReal::new(0), *bytes),
            Self::Regions(regions) => regions
                .iter()
                .any(|region| within(region.guest(), region.size())),
        }
    }
}

/// Bytes that stand in the machine's memory and are copied into a partition's before it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where they stand. Several partitions may be loaded from there.
    pub source: Range,
    /// Where they go, all of it the partition's memory.
    pub guest: GuestReal,
}

/// What a PAPR guest is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Papr<'a> {
    /// Its command line.
    pub bootargs: &'a str,
    /// Its initial RAM disk: guest real addresses of its first byte and of the byte after its last.
    pub initrd: Option<(GuestReal, GuestReal)>,
    /// How it is entered.
    pub endian: Endian,
    /// Where its device tree and RTAS stand.
    pub place: Place,
}

/// One partition.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its number.
    pub lpid: Lpid,
    /// Its name.
    pub name: &'a str,
    /// Its memory.
    pub memory: Memory,
    /// Order of its HPT.
    pub order: Order,
    /// The largest order it may resize its HPT to; none: it may not.
    pub max_order: Option<Order>,
    /// What it may do to others.
    pub privileges: Privileges,
    /// What is put at guest real 0.
    pub image: &'a [u8],
    /// Where it starts.
    pub entry: GuestReal,
    /// It runs at boot.
    pub start: bool,
    /// The window it shares with the machine's owner.
    pub shared: Option<Region>,
    /// Its terminal is the machine's console, or one of several there.
    pub console: bool,
    /// How many vCPUs it has.
    pub vcpus: usize,
    /// The CPU that its first vCPU runs on, the next one on the next; none: any.
    pub pin: Option<usize>,
    /// What is copied into its memory before it starts, in this order.
    pub load: heapless::Vec<Load, MAX_LOADS>,
    /// The machine is switched off when all partitions of which this is true have ended.
    pub essential: bool,
    /// It is a PAPR guest.
    pub papr: Option<Papr<'a>>,
}

/// What is wrong with a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error<'a> {
    /// The node it is wrong in.
    pub node: &'a str,
    /// What is wrong.
    pub reason: &'static str,
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.reason)
    }
}

/// The partitions of a machine.
#[derive(Clone, Debug, Default)]
pub struct Manifest<'a> {
    /// In the order of the manifest.
    pub partitions: heapless::Vec<Entry<'a>, MAX_PARTITIONS>,
}

impl<'a> Manifest<'a> {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(tree: Fdt<'a>) -> Result<Self, Error<'a>> {
        let root = tree.root();
        let compatible = root
            .property("compatible")
            .and_then(|property| property.value_as::<&str>().ok());
        if compatible != Some(COMPATIBLE) {
            return Err(Error {
                node: "/",
                reason: "is not a manifest of this version",
            });
        }
        let mut manifest = Self::default();
        let partitions = root.child("partitions").ok_or(Error {
            node: "/",
            reason: "has no partitions",
        })?;
        for node in partitions.children() {
            let entry = Reader(node).entry()?;
            let wrong = |reason| Error {
                node: node.name(),
                reason,
            };
            if manifest
                .partitions
                .iter()
                .any(|other| other.lpid == entry.lpid)
            {
                return Err(wrong("has another's LPID"));
            }
            manifest
                .partitions
                .push(entry)
                .map_err(|_| wrong("is one partition too many"))?;
        }
        Ok(manifest)
    }
}

/// The properties of one partition's node.
struct Reader<'a>(FdtNode<'a>);

impl<'a> Reader<'a> {
    fn entry(&self) -> Result<Entry<'a>, Error<'a>> {
        let lpid = u16::try_from(self.u32("reg", "reg is not one LPID")?)
            .ok()
            .filter(|&lpid| lpid != 0 && lpid < 256)
            .ok_or_else(|| self.wrong("the LPID is not one from 1 to 255"))?;
        let memory = self.memory()?;
        let order = Order::new(self.u32("hpt-order", "hpt-order is not one word")?)
            .ok_or_else(|| self.wrong("hpt-order is not from 18 to 46"))?;
        let max_order = self.max_order(order)?;
        let image = self.bytes("image").unwrap_or_default();
        if image.len() as u64 > memory.first() {
            return Err(self.wrong("image is larger than the memory at guest real 0"));
        }
        let entry = match self.bytes("entry") {
            Some(_) => self.u64("entry", "entry is not one doubleword")?,
            None => 0,
        };
        let load = self.load(&memory)?;
        Ok(Entry {
            lpid: Lpid::new(lpid),
            name: self.string("label").unwrap_or(self.0.name()),
            order,
            max_order,
            privileges: self.privileges()?,
            image,
            entry: GuestReal::new(entry),
            start: self.bytes("start").is_some(),
            shared: self.shared(memory.first())?,
            papr: self.papr(&memory, &load)?,
            load,
            essential: self.bytes("essential").is_some(),
            memory,
            console: self.bytes("console").is_some(),
            vcpus: self
                .small("vcpus", 1..=MAX_VCPUS, "vcpus is not a number of vCPUs")?
                .unwrap_or(1),
            pin: self.small("pin", 0..=MAX_CPUS - 1, "pin is not the number of a CPU")?,
        })
    }

    fn max_order(&self, order: Order) -> Result<Option<Order>, Error<'a>> {
        let name = "hpt-max-order";
        if self.bytes(name).is_none() {
            return Ok(None);
        }
        let max_order = Order::new(self.u32(name, "hpt-max-order is not one word")?)
            .ok_or_else(|| self.wrong("hpt-max-order is not from 18 to 46"))?;
        if max_order < order {
            return Err(self.wrong("hpt-max-order is smaller than hpt-order"));
        }
        Ok(Some(max_order))
    }

    fn privileges(&self) -> Result<Privileges, Error<'a>> {
        let list = self.bytes("privileges").unwrap_or_default();
        list.split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
            .try_fold(Privileges::empty(), |all, name| match name {
                b"control" => Ok(all | Privileges::CONTROL),
                b"report" => Ok(all | Privileges::REPORT),
                _ => Err(self.wrong("privileges has a word that is none")),
            })
    }

    fn memory(&self) -> Result<Memory, Error<'a>> {
        let Some(bytes) = self.bytes("memory") else {
            let memory = self.u64("memory-size", "memory-size is not one doubleword")?;
            return if memory == 0 || !memory.is_multiple_of(ALIGNMENT) {
                Err(self.wrong("memory-size is not a multiple of 16 MiB"))
            } else {
                Ok(Memory::Bytes(memory))
            };
        };
        let (pieces, rest) = bytes.as_chunks::<24>();
        if pieces.is_empty() || !rest.is_empty() {
            return Err(self.wrong("memory is not in threes of doublewords"));
        }
        let mut regions = heapless::Vec::new();
        for piece in pieces {
            let [host, size, guest] = doublewords(piece);
            let region = Region::new(GuestReal::new(guest), HostReal::new(host), size)
                .ok_or_else(|| self.wrong("memory has a range that is not of whole pages"))?;
            regions
                .push(region)
                .map_err(|_| self.wrong("memory is in too many pieces"))?;
        }
        Ok(Memory::Regions(regions))
    }

    fn shared(&self, memory: u64) -> Result<Option<Region>, Error<'a>> {
        let Some(bytes) = self.bytes("shared") else {
            return Ok(None);
        };
        let piece = bytes
            .as_array()
            .ok_or_else(|| self.wrong("shared is not three doublewords"))?;
        let [host, size, guest] = doublewords(piece);
        if guest < memory {
            return Err(self.wrong("shared lies over the partition's own memory"));
        }
        Region::new(GuestReal::new(guest), HostReal::new(host), size)
            .map(Some)
            .ok_or_else(|| self.wrong("shared is not a range of whole pages"))
    }

    fn load(&self, memory: &Memory) -> Result<heapless::Vec<Load, MAX_LOADS>, Error<'a>> {
        let bytes = self.bytes("load").unwrap_or_default();
        let (pieces, rest) = bytes.as_chunks::<24>();
        if !rest.is_empty() {
            return Err(self.wrong("load is not in threes of doublewords"));
        }
        let mut load = heapless::Vec::new();
        for piece in pieces {
            let [host, size, guest] = doublewords(piece);
            let guest = GuestReal::new(guest);
            if host.checked_add(size).is_none() || !memory.has(guest, size) {
                return Err(self.wrong("load has a piece that is not in the memory"));
            }
            let source = Range::new(host, size);
            load.push(Load { source, guest })
                .map_err(|_| self.wrong("load has too many pieces"))?;
        }
        Ok(load)
    }

    fn papr(&self, memory: &Memory, load: &[Load]) -> Result<Option<Papr<'a>>, Error<'a>> {
        let has = |name: &&str| self.bytes(name).is_some();
        if !has(&"papr") {
            return if ["bootargs", "initrd", "little-endian"].iter().any(has) {
                Err(self.wrong("bootargs, initrd and little-endian are a PAPR guest's"))
            } else {
                Ok(None)
            };
        }
        let place = Place::new(memory.first())
            .ok_or_else(|| self.wrong("there is no room for a device tree at guest real 0"))?;
        if load
            .iter()
            .any(|load| place.overlaps(load.guest, load.source.size()))
        {
            return Err(self.wrong("load lies over the device tree"));
        }
        let bootargs = if has(&"bootargs") {
            self.string("bootargs")
                .ok_or_else(|| self.wrong("bootargs is not a string"))?
        } else {
            ""
        };
        Ok(Some(Papr {
            bootargs,
            initrd: self.initrd(memory)?,
            endian: if has(&"little-endian") {
                Endian::Little
            } else {
                Endian::Big
            },
            place,
        }))
    }

    fn initrd(&self, memory: &Memory) -> Result<Option<(GuestReal, GuestReal)>, Error<'a>> {
        let Some(bytes) = self.bytes("initrd") else {
            return Ok(None);
        };
        let (dwords, rest) = bytes.as_chunks::<8>();
        let ([start, end], []) = (dwords, rest) else {
            return Err(self.wrong("initrd is not two doublewords"));
        };
        let [start, end] = [start, end].map(|dword| u64::from_be_bytes(*dword));
        if start >= end || !memory.has(GuestReal::new(start), end - start) {
            return Err(self.wrong("initrd is not in the memory"));
        }
        Ok(Some((GuestReal::new(start), GuestReal::new(end))))
    }

    fn bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.0.property(name)?.value_as().ok()
    }

    fn string(&self, name: &str) -> Option<&'a str> {
        self.0.property(name)?.value_as().ok()
    }

    fn u32(&self, name: &str, reason: &'static str) -> Result<u32, Error<'a>> {
        let property = self.0.property(name);
        property
            .and_then(|property| property.value_as().ok())
            .ok_or_else(|| self.wrong(reason))
    }

    fn u64(&self, name: &str, reason: &'static str) -> Result<u64, Error<'a>> {
        let property = self.0.property(name);
        property
            .and_then(|property| property.value_as().ok())
            .ok_or_else(|| self.wrong(reason))
    }

    /// An optional number within a range.
    fn small(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
        reason: &'static str,
    ) -> Result<Option<usize>, Error<'a>> {
        if self.bytes(name).is_none() {
            return Ok(None);
        }
        usize::try_from(self.u32(name, reason)?)
            .ok()
            .filter(|number| range.contains(number))
            .map(Some)
            .ok_or_else(|| self.wrong(reason))
    }

    fn wrong(&self, reason: &'static str) -> Error<'a> {
        Error {
            node: self.0.name(),
            reason,
        }
    }
}

/// Host address, size and guest address of a range.
fn doublewords(range: &[u8; 24]) -> [u64; 3] {
    let (dwords, _) = range.as_chunks::<8>();
    let mut dwords = dwords.iter().map(|dword| u64::from_be_bytes(*dword));
    core::array::from_fn(|_| dwords.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use vm_fdt::FdtWriter;

    use super::*;

    type Property = (&'static str, Vec<u8>);

    fn agent() -> Vec<Property> {
        let mut shared = Vec::new();
        for dword in [0x7000_0000_u64, 0x800_0000, 1 << 32] {
            shared.extend(dword.to_be_bytes());
        }
        Vec::from([
            ("reg", 1_u32.to_be_bytes().into()),
            ("label", b"agent\0".into()),
            ("memory-size", 0x400_0000_u64.to_be_bytes().into()),
            ("hpt-order", 18_u32.to_be_bytes().into()),
            ("hpt-max-order", 20_u32.to_be_bytes().into()),
            ("privileges", b"control\0report\0".into()),
            ("image", [0x60, 0, 0, 0].into()),
            ("entry", 0x100_u64.to_be_bytes().into()),
            ("start", [].into()),
            ("shared", shared),
        ])
    }

    fn tree(partitions: &[Vec<Property>]) -> Vec<u8> {
        let mut fdt = FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        fdt.property_string("compatible", COMPATIBLE).unwrap();
        let node = fdt.begin_node("partitions").unwrap();
        for (number, properties) in partitions.iter().enumerate() {
            let node = fdt
                .begin_node(&std::format!("partition@{}", number + 1))
                .unwrap();
            for (name, value) in properties {
                fdt.property(name, value).unwrap();
            }
            fdt.end_node(node).unwrap();
        }
        fdt.end_node(node).unwrap();
        fdt.end_node(root).unwrap();
        fdt.finish().unwrap()
    }

    fn refusal(change: impl FnOnce(&mut Vec<Property>)) -> &'static str {
        let mut properties = agent();
        change(&mut properties);
        let bytes = tree(&[properties]);
        Manifest::parse(Fdt::new(&bytes).unwrap())
            .unwrap_err()
            .reason
    }

    fn set(name: &'static str, value: &[u8]) -> impl FnOnce(&mut Vec<Property>) {
        let value = Vec::from(value);
        move |properties| {
            properties.retain(|(other, _)| *other != name);
            properties.push((name, value));
        }
    }

    #[test]
    fn a_manifest_says_what_it_says() {
        let bytes = tree(&[agent()]);
        let manifest = Manifest::parse(Fdt::new(&bytes).unwrap()).unwrap();
        let [agent] = manifest.partitions.as_slice() else {
            panic!("one partition");
        };
        assert_eq!((agent.lpid, agent.name), (Lpid::new(1), "agent"));
        assert_eq!((agent.memory.first(), agent.order.raw()), (64 << 20, 18));
        assert!(matches!(agent.memory, Memory::Bytes(_)));
        assert_eq!(agent.max_order, Order::new(20));
        assert_eq!(agent.privileges, Privileges::CONTROL | Privileges::REPORT);
        assert_eq!((agent.image.len(), agent.entry.raw()), (4, 0x100));
        assert_eq!((agent.start, agent.console), (true, false));
        assert_eq!((agent.vcpus, agent.pin), (1, None));
        let shared = agent.shared.unwrap();
        assert_eq!(
            (shared.host().raw(), shared.guest().raw(), shared.size()),
            (0x7000_0000, 1 << 32, 128 << 20)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(
            refusal(set("reg", &[0; 4])),
            "the LPID is not one from 1 to 255"
        );
        assert_eq!(
            refusal(set("reg", &[1, 0, 0, 0])),
            "the LPID is not one from 1 to 255"
        );
        assert_eq!(
            refusal(set("memory-size", &[0; 4])),
            "memory-size is not one doubleword"
        );
        assert_eq!(
            refusal(set("memory-size", &5_u64.to_be_bytes())),
            "memory-size is not a multiple of 16 MiB"
        );
        assert_eq!(
            refusal(set("hpt-order", &[0, 0, 0, 17])),
            "hpt-order is not from 18 to 46"
        );
        for (bytes, reason) in [
            ([0; 4].as_slice(), "hpt-max-order is not from 18 to 46"),
            (&[0; 3], "hpt-max-order is not one word"),
        ] {
            assert_eq!(refusal(set("hpt-max-order", bytes)), reason);
        }
        assert_eq!(
            refusal(set("hpt-order", &[0, 0, 0, 21])),
            "hpt-max-order is smaller than hpt-order"
        );
        assert_eq!(
            refusal(set("privileges", b"controll\0")),
            "privileges has a word that is none"
        );
        for vcpus in [0, 9] {
            assert_eq!(
                refusal(set("vcpus", &[0, 0, 0, vcpus])),
                "vcpus is not a number of vCPUs"
            );
        }
        assert_eq!(
            refusal(set("pin", &[0, 0, 0, 64])),
            "pin is not the number of a CPU"
        );
        assert_eq!(
            refusal(set("shared", &[0; 16])),
            "shared is not three doublewords"
        );
        assert_eq!(
            refusal(set("shared", &[0; 24])),
            "shared lies over the partition's own memory"
        );
    }

    fn places(places: &[[u64; 3]]) -> Vec<u8> {
        places
            .as_flattened()
            .iter()
            .flat_map(|dword| dword.to_be_bytes())
            .collect()
    }

    #[test]
    fn memory_may_be_where_the_owner_wants_it() {
        let mut properties = agent();
        properties.retain(|(name, _)| *name != "memory-size");
        let wanted = [
            [0x6001_0000, 0x80_0000, 0],
            [0x4000_0000, 0x1000, 0x1000_0000],
        ];
        properties.push(("memory", places(&wanted)));
        let bytes = tree(&[properties]);
        let manifest = Manifest::parse(Fdt::new(&bytes).unwrap()).unwrap();
        let [agent] = manifest.partitions.as_slice() else {
            panic!("one partition");
        };
        let Memory::Regions(regions) = &agent.memory else {
            panic!("pieces");
        };
        let found: Vec<_> = regions
            .iter()
            .map(|region| [region.host().raw(), region.size(), region.guest().raw()])
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(agent.memory.first(), 0x80_0000);
        let refused = |wanted: &[[u64; 3]]| refusal(set("memory", &places(wanted)));
        assert_eq!(refused(&[]), "memory is not in threes of doublewords");
        assert_eq!(
            refusal(set("memory", &[0; 16])),
            "memory is not in threes of doublewords"
        );
        assert_eq!(
            refused(&[[0x1000, 0x1800, 0]]),
            "memory has a range that is not of whole pages"
        );
        assert_eq!(
            refused(&[[0x1000, 0x1000, 0x1000]]),
            "image is larger than the memory at guest real 0"
        );
        assert_eq!(
            refused(&[[0, 0x1000, 0]; MAX_REGIONS + 1]),
            "memory is in too many pieces"
        );
    }

    /// A PAPR guest of 64 MiB, loaded at 4 MiB and at 16 MiB.
    fn linux() -> Vec<Property> {
        let load = [[0x7000_0000, 0x1234, 4 << 20], [0x7100_0000, 5, 16 << 20]];
        Vec::from([
            ("reg", 2_u32.to_be_bytes().into()),
            ("memory-size", 0x400_0000_u64.to_be_bytes().into()),
            ("hpt-order", 18_u32.to_be_bytes().into()),
            ("load", places(&load)),
            ("papr", [].into()),
            ("bootargs", b"console=hvc0 quiet\0".into()),
            ("initrd", dwords(&[16 << 20, (16 << 20) + 5])),
            ("little-endian", [].into()),
            ("essential", [].into()),
        ])
    }

    fn dwords(dwords: &[u64]) -> Vec<u8> {
        dwords
            .iter()
            .flat_map(|dword| dword.to_be_bytes())
            .collect()
    }

    #[test]
    fn a_papr_guest_says_what_it_is_loaded_with_and_told() {
        let bytes = tree(&[linux(), agent()]);
        let manifest = Manifest::parse(Fdt::new(&bytes).unwrap()).unwrap();
        let [linux, agent] = manifest.partitions.as_slice() else {
            panic!("two partitions");
        };
        let load: Vec<_> = linux
            .load
            .iter()
            .map(|load| (load.source.start, load.source.size(), load.guest.raw()))
            .collect();
        assert_eq!(
            load,
            [(0x7000_0000, 0x1234, 4 << 20), (0x7100_0000, 5, 16 << 20)]
        );
        assert!(linux.essential);
        let papr = linux.papr.as_ref().unwrap();
        assert_eq!(papr.bootargs, "console=hvc0 quiet");
        let initrd = papr.initrd.map(|(start, end)| (start.raw(), end.raw()));
        assert_eq!(initrd, Some((16 << 20, (16 << 20) + 5)));
        assert_eq!(papr.endian, Endian::Little);
        assert!(agent.load.is_empty() && !agent.essential && agent.papr.is_none());
    }

    #[test]
    fn a_papr_guest_that_makes_no_sense_is_refused() {
        let refusal = |change: &dyn Fn(&mut Vec<Property>)| {
            let mut properties = linux();
            change(&mut properties);
            let bytes = tree(&[properties]);
            let parsed = Manifest::parse(Fdt::new(&bytes).unwrap());
            parsed.unwrap_err().reason
        };
        let with = |name: &'static str, value: Vec<u8>| {
            refusal(&|properties: &mut Vec<Property>| {
                properties.retain(|(other, _)| *other != name);
                properties.push((name, value.clone()));
            })
        };
        let loaded = |piece: [u64; 3]| with("load", places(&[piece]));
        assert_eq!(
            with("load", [0; 25].into()),
            "load is not in threes of doublewords"
        );
        for piece in [
            [0x7000_0000, 0x1001, 0x3ff_f000],
            [0x7000_0000, 1, 1 << 32],
            [0x7000_0000, u64::MAX, 8],
            [u64::MAX, 2, 0],
        ] {
            assert_eq!(loaded(piece), "load has a piece that is not in the memory");
        }
        assert_eq!(
            loaded([0x7000_0000, 0x1000, 0x3ff_f000]),
            "load lies over the device tree"
        );
        assert_eq!(
            with("load", places(&[[0, 0, 0]; MAX_LOADS + 1])),
            "load has too many pieces"
        );
        assert_eq!(with("bootargs", [1].into()), "bootargs is not a string");
        assert_eq!(
            with("initrd", dwords(&[5])),
            "initrd is not two doublewords"
        );
        for [start, end] in [[5, 5], [6, 5], [0, 0x400_0001]] {
            assert_eq!(
                with("initrd", dwords(&[start, end])),
                "initrd is not in the memory"
            );
        }
        assert_eq!(
            refusal(&|properties| properties.retain(|(name, _)| *name != "papr")),
            "bootargs, initrd and little-endian are a PAPR guest's"
        );
        let small = refusal(&|properties| {
            properties.retain(|(name, _)| !matches!(*name, "memory-size" | "load" | "initrd"));
            properties.push(("memory", places(&[[0, 0x20_0000, 0]])));
        });
        assert_eq!(small, "there is no room for a device tree at guest real 0");
    }

    #[test]
    fn two_partitions_cannot_be_one() {
        let bytes = tree(&[agent(), agent()]);
        let error = Manifest::parse(Fdt::new(&bytes).unwrap()).unwrap_err();
        assert_eq!(
            (error.node, error.reason),
            ("partition@2", "has another's LPID")
        );
    }

    #[test]
    fn another_tree_is_not_a_manifest() {
        let mut fdt = FdtWriter::new().unwrap();
        let root = fdt.begin_node("").unwrap();
        fdt.property_string("compatible", "ibm,powernv").unwrap();
        fdt.end_node(root).unwrap();
        let bytes = fdt.finish().unwrap();
        let error = Manifest::parse(Fdt::new(&bytes).unwrap()).unwrap_err();
        assert_eq!(error.reason, "is not a manifest of this version");
    }
}
