//! The device tree of a PAPR guest, made from its partition's description.
//!
//! [`build`] writes all that such a guest has: memory, a CPU for each vCPU, RTAS, its terminal and the interrupt
//! presentation, and under `/chosen` what its owner tells it (LoPAR appendices B and C; Devicetree Specification 0.4
//! for the format). What is announced is there: a hypercall that is not answered has no name in
//! `ibm,hypertas-functions`, a facility that guests do not have none in [`super::processor`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use realhpt::addr::{GuestReal, Lpid};
use realhpt::hcall::abi::{VTY, VTY_INTERRUPT};
use realhpt::lpar::vcpu::SLB_ENTRIES;
use realhpt::table::Order;
use vm_fdt::{FdtReserveEntry, FdtWriter, FdtWriterResult};

use super::place::Place;
use super::processor::{self, Processor};
use super::rtas;
use crate::manifest::Papr;

/// The unit address of the terminal, a cell: what H_PUT_TERM_CHAR knows it by.
const TERMINAL: u32 = (VTY & 0xffff_ffff) as u32;
const _: () = assert!(TERMINAL as u64 == VTY);
/// The terminal's node.
const TERMINAL_PATH: &str = "/vdevice/vty@71000000";
/// Real mode reaches this far: it is what the VRMA has at most.
const RMA: u64 = 4 << 30;
/// The handle of the interrupt presentation, for nodes that have interrupts.
const PRESENTATION: u32 = 0x1111;

/// Hypercalls that are answered, by their names in the tree (LoPAR 7.3.1 and chapter 14).
const FUNCTIONS: [&str; 9] = [
    "hcall-pft",
    "hcall-term",
    "hcall-dabr",
    "hcall-interrupt",
    "hcall-splpar",
    "hcall-bulk",
    "hcall-set-mode",
    "hcall-sprg0",
    "hcall-copy",
];
/// The same, of a partition that may resize its table.
const RESIZE: &str = "hcall-hpt-resize";

/// A partition, as its tree tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// Its number.
    pub lpid: Lpid,
    /// Its name.
    pub name: &'a str,
    /// How many vCPUs it has.
    pub vcpus: usize,
    /// Order of its table.
    pub order: Order,
    /// It may resize its table.
    pub resizable: bool,
    /// Its memory without windows: where each piece begins, and its bytes.
    pub memory: &'a [(GuestReal, u64)],
    /// Log2 of the largest page that may map it, whichever piece.
    pub largest_page: u32,
    /// What its owner tells it.
    pub papr: &'a Papr<'a>,
}

/// Why there is no tree.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The writer refuses something.
    Writer(vm_fdt::Error),
    /// It takes so many bytes, more than there is room for.
    TooLarge(usize),
}

impl From<vm_fdt::Error> for Error {
    fn from(error: vm_fdt::Error) -> Self {
        Self::Writer(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writer(error) => error.fmt(f),
            Self::TooLarge(bytes) => write!(f, "{bytes} bytes are too many"),
        }
    }
}

/// Makes the tree.
///
/// # Errors
/// If a name or a string of the description cannot be in a tree, or all is too large.
pub fn build(guest: &Guest<'_>, processor: &Processor) -> Result<Vec<u8>, Error> {
    let kept = FdtReserveEntry::new(guest.papr.place.rtas().raw(), Place::KEPT)?;
    let mut fdt = FdtWriter::new_with_mem_reserv(&[kept])?;
    let root = fdt.begin_node("")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    // What an operating system knows the platform by is the type. Test programs look for QEMU's name.
    fdt.property_string("device_type", "chrp")?;
    fdt.property_string_list("compatible", strings(&["realhpt,papr", "qemu,pseries"]))?;
    fdt.property_string("model", "realhpt")?;
    fdt.property_u32("ibm,partition-no", guest.lpid.raw().into())?;
    fdt.property_string("ibm,partition-name", guest.name)?;
    chosen(&mut fdt, guest.papr)?;
    memory(&mut fdt, guest.memory)?;
    cpus(&mut fdt, guest, processor)?;
    rtas(&mut fdt, guest)?;
    vdevice(&mut fdt)?;
    presentation(&mut fdt, guest)?;
    fdt.end_node(root)?;
    let tree = fdt.finish()?;
    if tree.len() as u64 > Place::TREE_SIZE {
        return Err(Error::TooLarge(tree.len()));
    }
    Ok(tree)
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&string| String::from(string)).collect()
}

fn chosen(fdt: &mut FdtWriter, papr: &Papr<'_>) -> FdtWriterResult<()> {
    let node = fdt.begin_node("chosen")?;
    fdt.property_string("bootargs", papr.bootargs)?;
    if let Some((start, end)) = papr.initrd {
        fdt.property_u64("linux,initrd-start", start.raw())?;
        fdt.property_u64("linux,initrd-end", end.raw())?;
    }
    fdt.property_string("stdout-path", TERMINAL_PATH)?;
    fdt.end_node(node)
}

/// A node for each piece of memory; the first ends where real mode does.
fn memory(fdt: &mut FdtWriter, pieces: &[(GuestReal, u64)]) -> FdtWriterResult<()> {
    let halves = pieces.iter().flat_map(|&(start, size)| {
        let start = start.raw();
        let low = RMA.saturating_sub(start).min(size);
        [(start, low), (start + low, size - low)]
    });
    for (start, size) in halves.filter(|&(_, size)| size != 0) {
        let node = fdt.begin_node(&format!("memory@{start:x}"))?;
        fdt.property_string("device_type", "memory")?;
        fdt.property_array_u64("reg", &[start, size])?;
        fdt.end_node(node)?;
    }
    Ok(())
}

fn cpus(fdt: &mut FdtWriter, guest: &Guest<'_>, processor: &Processor) -> FdtWriterResult<()> {
    let node = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for number in (0..).take(guest.vcpus) {
        cpu(fdt, guest, processor, number)?;
    }
    fdt.end_node(node)
}

/// A vCPU: a core with one thread, whose number interrupts are sent to.
fn cpu(
    fdt: &mut FdtWriter,
    guest: &Guest<'_>,
    processor: &Processor,
    number: u32,
) -> FdtWriterResult<()> {
    let node = fdt.begin_node(&format!("{}@{number:x}", processor.name()))?;
    fdt.property_string("device_type", "cpu")?;
    fdt.property_u32("reg", number)?;
    fdt.property_string("status", "okay")?;
    fdt.property_u32("ibm,ppc-interrupt-server#s", number)?;
    fdt.property_array_u32("ibm,ppc-interrupt-gserver#s", &[number, 0])?;
    fdt.property_u32("cpu-version", processor.pvr)?;
    fdt.property_null("64-bit")?;
    fdt.property_array_u32("ibm,pft-size", &[0, guest.order.raw()])?;
    fdt.property_array_u32(
        "ibm,segment-page-sizes",
        &processor::segment_page_sizes(guest.largest_page),
    )?;
    // Segments of 256 MiB and of 1 TiB.
    fdt.property_array_u32("ibm,processor-segment-sizes", &[28, 40, u32::MAX, u32::MAX])?;
    fdt.property_u32("ibm,slb-size", u32::try_from(SLB_ENTRIES).unwrap_or(0))?;
    fdt.property_u32("slb-size", u32::try_from(SLB_ENTRIES).unwrap_or(0))?;
    // 2: vector and vector-scalar.
    fdt.property_u32("ibm,vmx", 2)?;
    fdt.property_u32("ibm,dfp", 1)?;
    fdt.property_u32("ibm,purr", 1)?;
    fdt.property_u32("ibm,spurr", 1)?;
    fdt.property("ibm,pa-features", &processor.pa_features())?;
    fdt.property("ibm,pi-features", &processor.pi_features())?;
    fdt.property_u32("timebase-frequency", processor.time_base)?;
    if let Some(clock) = processor.clock {
        fdt.property_u32("clock-frequency", clock)?;
    }
    fdt.property_u32("i-cache-size", processor.instructions.size)?;
    fdt.property_u32("i-cache-line-size", processor.instructions.line)?;
    fdt.property_u32("i-cache-block-size", processor.instructions.line)?;
    fdt.property_u32("d-cache-size", processor.data.size)?;
    fdt.property_u32("d-cache-line-size", processor.data.line)?;
    fdt.property_u32("d-cache-block-size", processor.data.line)?;
    fdt.end_node(node)
}

fn rtas(fdt: &mut FdtWriter, guest: &Guest<'_>) -> FdtWriterResult<()> {
    let node = fdt.begin_node("rtas")?;
    // Below 512 MiB: 32 bits.
    let base = u32::try_from(guest.papr.place.rtas().raw()).unwrap_or(0);
    fdt.property_u32("linux,rtas-base", base)?;
    fdt.property_u32("linux,rtas-entry", base)?;
    fdt.property_u32("rtas-size", Place::RTAS_SIZE)?;
    for (name, token) in rtas::TOKENS {
        fdt.property_u32(name, token)?;
    }
    let mut functions = strings(&FUNCTIONS);
    if guest.resizable {
        functions.push(String::from(RESIZE));
    }
    fdt.property_string_list("ibm,hypertas-functions", functions)?;
    fdt.end_node(node)
}

fn vdevice(fdt: &mut FdtWriter) -> FdtWriterResult<()> {
    let node = fdt.begin_node("vdevice")?;
    fdt.property_string("compatible", "IBM,vdevice")?;
    fdt.property_string("device_type", "vdevice")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    let vty = fdt.begin_node(&format!("vty@{TERMINAL:x}"))?;
    fdt.property_string("compatible", "hvterm1")?;
    fdt.property_string("device_type", "serial")?;
    fdt.property_u32("reg", TERMINAL)?;
    fdt.property_u32("interrupt-parent", PRESENTATION)?;
    // 0: edge-triggered, as other platforms have it. Ours comes again until all is read, which hurts nobody.
    fdt.property_array_u32("interrupts", &[VTY_INTERRUPT, 0])?;
    fdt.end_node(vty)?;
    fdt.end_node(node)
}

/// The interrupt presentation of LoPAR, by hypercall.
fn presentation(fdt: &mut FdtWriter, guest: &Guest<'_>) -> FdtWriterResult<()> {
    let vcpus = u32::try_from(guest.vcpus).unwrap_or(u32::MAX);
    let node = fdt.begin_node("interrupt-controller")?;
    fdt.property_string("compatible", "IBM,ppc-xicp")?;
    fdt.property_string("device_type", "PowerPC-External-Interrupt-Presentation")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_u32("#interrupt-cells", 2)?;
    fdt.property_array_u32("ibm,interrupt-server-ranges", &[0, vcpus])?;
    fdt.property_phandle(PRESENTATION)?;
    fdt.end_node(node)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use dtoolkit::fdt::{Fdt, FdtNode};
    use dtoolkit::{Node, Property};
    use realhpt::lpar::vcpu::Endian;

    use super::*;
    use crate::machine::Generation;

    const MIB: u64 = 1 << 20;

    fn papr(bootargs: &str, initrd: Option<(u64, u64)>) -> Papr<'_> {
        Papr {
            bootargs,
            initrd: initrd.map(|(start, end)| (GuestReal::new(start), GuestReal::new(end))),
            endian: Endian::Little,
            place: Place::new(512 * MIB).unwrap(),
        }
    }

    fn guest<'a>(papr: &'a Papr<'a>) -> Guest<'a> {
        const MEMORY: [(GuestReal, u64); 1] = [(GuestReal::new(0), 512 * MIB)];
        Guest {
            lpid: Lpid::new(4),
            name: "linux",
            vcpus: 1,
            order: Order::new(22).unwrap(),
            resizable: false,
            memory: &MEMORY,
            largest_page: 24,
            papr,
        }
    }

    fn processor(generation: Generation) -> Processor {
        Processor {
            clock: Some(1_000_000_000),
            ..Processor::new(0x004e_1202, generation)
        }
    }

    fn built(guest: &Guest<'_>) -> Vec<u8> {
        build(guest, &processor(Generation::Power9)).unwrap()
    }

    fn node<'t>(tree: &'t [u8], path: &str) -> Option<FdtNode<'t>> {
        Fdt::new(tree).unwrap().find_node(path)
    }

    fn bytes<'t>(tree: &'t [u8], path: &str, name: &str) -> &'t [u8] {
        let node = node(tree, path).unwrap_or_else(|| panic!("{path} is there"));
        let property = node.property(name);
        property
            .unwrap_or_else(|| panic!("{path}/{name} is there"))
            .value_as()
            .unwrap()
    }

    fn words(tree: &[u8], path: &str, name: &str) -> Vec<u32> {
        let (words, rest) = bytes(tree, path, name).as_chunks::<4>();
        assert!(rest.is_empty(), "{path}/{name}");
        words.iter().map(|word| u32::from_be_bytes(*word)).collect()
    }

    fn texts(tree: &[u8], path: &str, name: &str) -> Vec<String> {
        let bytes = bytes(tree, path, name).strip_suffix(b"\0").unwrap();
        let texts = bytes.split(|&byte| byte == 0);
        texts
            .map(|text| core::str::from_utf8(text).unwrap().to_string())
            .collect()
    }

    #[test]
    fn it_has_what_linux_does_not_start_without() {
        let papr = papr("console=hvc0", None);
        for generation in [Generation::Power8, Generation::Power9, Generation::Power10] {
            let processor = processor(generation);
            let tree = build(&guest(&papr), &processor).unwrap();
            assert_eq!(texts(&tree, "/", "device_type"), ["chrp"]);
            assert!(texts(&tree, "/", "compatible").contains(&"qemu,pseries".to_string()));
            let cpu = format!("/cpus/{}@0", processor.name());
            assert_eq!(words(&tree, &cpu, "ibm,pft-size"), [0, 22]);
            assert_eq!(words(&tree, &cpu, "ibm,vmx"), [2]);
            let sizes = words(&tree, &cpu, "ibm,segment-page-sizes");
            assert_eq!(sizes, processor::segment_page_sizes(24));
            assert!(
                texts(&tree, "/rtas", "ibm,hypertas-functions")
                    .contains(&"hcall-set-mode".to_string())
            );
            assert_eq!(
                texts(&tree, "/interrupt-controller", "compatible"),
                ["IBM,ppc-xicp"]
            );
            assert!(node(&tree, "/hypervisor").is_none());
        }
    }

    /// The tree that Linux was seen to boot to a shell with: path, property, words.
    #[test]
    fn it_has_the_numbers_of_the_smallest_tree_that_boots() {
        let papr = papr("", Some((0x2c9_0000, 0x2e1_7aaa)));
        let tree = built(&guest(&papr));
        let cpu = "/cpus/PowerPC,POWER9@0";
        for (path, name, expected) in [
            ("/", "#size-cells", &[2_u32][..]),
            ("/", "#address-cells", &[2]),
            ("/chosen", "linux,initrd-start", &[0, 0x2c9_0000]),
            ("/chosen", "linux,initrd-end", &[0, 0x2e1_7aaa]),
            ("/memory@0", "reg", &[0, 0, 0, 0x2000_0000]),
            ("/cpus", "#size-cells", &[0]),
            ("/cpus", "#address-cells", &[1]),
            (cpu, "reg", &[0]),
            (cpu, "cpu-version", &[0x004e_1202]),
            (cpu, "ibm,ppc-interrupt-server#s", &[0]),
            (cpu, "ibm,ppc-interrupt-gserver#s", &[0, 0]),
            (
                cpu,
                "ibm,processor-segment-sizes",
                &[0x1c, 0x28, u32::MAX, u32::MAX],
            ),
            (cpu, "ibm,slb-size", &[32]),
            (cpu, "ibm,dfp", &[1]),
            (cpu, "64-bit", &[]),
            (cpu, "clock-frequency", &[1_000_000_000]),
            (cpu, "timebase-frequency", &[512_000_000]),
            (cpu, "i-cache-size", &[0x8000]),
            (cpu, "d-cache-size", &[0x8000]),
            (cpu, "i-cache-line-size", &[128]),
            (cpu, "i-cache-block-size", &[128]),
            (cpu, "d-cache-line-size", &[128]),
            (cpu, "d-cache-block-size", &[128]),
            ("/rtas", "linux,rtas-base", &[0x1fe0_0000]),
            ("/rtas", "linux,rtas-entry", &[0x1fe0_0000]),
            ("/rtas", "rtas-size", &[0x1000]),
            ("/rtas", "power-off", &[0x2003]),
            ("/rtas", "ibm,set-xive", &[0x200a]),
            ("/rtas", "ibm,get-xive", &[0x200b]),
            ("/rtas", "ibm,int-off", &[0x200c]),
            ("/rtas", "ibm,int-on", &[0x200d]),
            ("/vdevice", "#address-cells", &[1]),
            ("/vdevice", "#size-cells", &[0]),
            (TERMINAL_PATH, "reg", &[0x7100_0000]),
            (TERMINAL_PATH, "interrupt-parent", &[PRESENTATION]),
            (TERMINAL_PATH, "interrupts", &[0x1001, 0]),
            ("/interrupt-controller", "#interrupt-cells", &[2]),
            ("/interrupt-controller", "phandle", &[PRESENTATION]),
            ("/interrupt-controller", "interrupt-controller", &[]),
            (
                "/interrupt-controller",
                "ibm,interrupt-server-ranges",
                &[0, 1],
            ),
        ] {
            assert_eq!(words(&tree, path, name), expected, "{path}/{name}");
        }
        for (path, name, expected) in [
            ("/chosen", "stdout-path", TERMINAL_PATH),
            ("/memory@0", "device_type", "memory"),
            (cpu, "device_type", "cpu"),
            (cpu, "status", "okay"),
            ("/vdevice", "compatible", "IBM,vdevice"),
            ("/vdevice", "device_type", "vdevice"),
            (TERMINAL_PATH, "compatible", "hvterm1"),
            (TERMINAL_PATH, "device_type", "serial"),
            (
                "/interrupt-controller",
                "device_type",
                "PowerPC-External-Interrupt-Presentation",
            ),
        ] {
            assert_eq!(texts(&tree, path, name), [expected], "{path}/{name}");
        }
        let functions = texts(&tree, "/rtas", "ibm,hypertas-functions");
        for function in ["hcall-pft", "hcall-term", "hcall-set-mode"] {
            assert!(functions.iter().any(|name| name == function), "{function}");
        }
    }

    #[test]
    fn it_says_what_the_owner_tells() {
        let told = papr("root=/dev/ram0 quiet", Some((0x100_0000, 0x123_4567)));
        let tree = built(&guest(&told));
        assert_eq!(
            texts(&tree, "/chosen", "bootargs"),
            ["root=/dev/ram0 quiet"]
        );
        assert_eq!(words(&tree, "/chosen", "linux,initrd-end"), [0, 0x123_4567]);
        let silent = papr("", None);
        let tree = built(&guest(&silent));
        assert_eq!(bytes(&tree, "/chosen", "bootargs"), [0]);
        let chosen = node(&tree, "/chosen").unwrap();
        assert!(chosen.property("linux,initrd-start").is_none());
        assert!(chosen.property("linux,initrd-end").is_none());
    }

    #[test]
    fn each_vcpu_is_a_cpu() {
        let papr = papr("", None);
        let tree = built(&Guest {
            vcpus: 8,
            ..guest(&papr)
        });
        assert_eq!(node(&tree, "/cpus").unwrap().children().count(), 8);
        for number in 0..8 {
            let cpu = format!("/cpus/PowerPC,POWER9@{number}");
            assert_eq!(words(&tree, &cpu, "reg"), [number]);
            assert_eq!(words(&tree, &cpu, "ibm,ppc-interrupt-server#s"), [number]);
        }
        assert_eq!(
            words(
                &tree,
                "/interrupt-controller",
                "ibm,interrupt-server-ranges"
            ),
            [0, 8]
        );
    }

    #[test]
    fn memory_is_in_pieces_and_the_first_is_what_real_mode_reaches() {
        let papr = papr("", None);
        let memory = [
            (GuestReal::new(0), 6 << 30),
            (GuestReal::new(16 << 30), 16 * MIB),
        ];
        let tree = built(&Guest {
            memory: &memory,
            ..guest(&papr)
        });
        assert_eq!(words(&tree, "/memory@0", "reg"), [0, 0, 1, 0]);
        assert_eq!(
            words(&tree, "/memory@100000000", "reg"),
            [1, 0, 0, 0x8000_0000]
        );
        assert_eq!(
            words(&tree, "/memory@400000000", "reg"),
            [4, 0, 0, 0x100_0000]
        );
    }

    #[test]
    fn what_the_guest_must_keep_is_reserved() {
        let papr = papr("", None);
        let tree = built(&guest(&papr));
        let reserved: Vec<_> = Fdt::new(&tree)
            .unwrap()
            .memory_reservations()
            .map(|entry| (entry.address(), entry.size()))
            .collect();
        assert_eq!(reserved, [(510 * MIB, 128 << 10)]);
    }

    #[test]
    fn a_table_that_may_be_resized_is_announced() {
        let papr = papr("", None);
        let functions = |resizable| {
            let tree = built(&Guest {
                resizable,
                ..guest(&papr)
            });
            texts(&tree, "/rtas", "ibm,hypertas-functions")
        };
        assert!(functions(true).contains(&RESIZE.to_string()));
        assert!(!functions(false).contains(&RESIZE.to_string()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let bootargs = "x".repeat(70_000);
        let papr = papr(&bootargs, None);
        let processor = processor(Generation::Power8);
        assert!(matches!(
            build(&guest(&papr), &processor),
            Err(Error::TooLarge(70_000..))
        ));
    }
}
