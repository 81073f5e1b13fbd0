//! External interrupts: none is wanted but, on POWER8, the one that a kick is.
//!
//! No device is told to interrupt, and no interrupt source is routed to a CPU. Should one come all the same
//! (firmware's leftovers), it would come again at once, as nobody serves it. So each CPU holds back what is
//! less favoured than a priority that it sets at boot: in the presentation controller of POWER8 (ICP: CPPR is the
//! first byte of XIRR), or in the thread interrupt management area of POWER9 and later (XIVE: CPPR of the
//! physical thread's ring, in the hypervisor's page).
//!
//! From POWER9 on kicks are doorbells, so everything is held back: 0 is the most favoured priority. POWER8's
//! doorbells do not leave the core; there a kick is an interprocessor interrupt of the ICP (writing MFRR asks
//! for one), and only what is less favoured than that is held back.

use core::sync::atomic::{AtomicU64, Ordering};

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use realhpt::arch::MAX_CPUS;
use realhpt::arch::powerpc64::{KICK_MESSAGE, KICK_PRIORITY, Processor, ci};

use crate::machine::Generation;

/// Host real address of each CPU's ICP, on POWER8; of the one page that shows every thread its own ring, from
/// POWER9 on. 0: the device tree shows none.
static CONTROLLERS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// XIRR in an ICP: reading it accepts an interrupt, writing it ends one. CPPR is its first byte, the number of
/// the source the rest.
const ICP_XIRR: u64 = 4;
/// MFRR in an ICP: the priority of the interprocessor interrupt that is asked for; all ones: none.
const ICP_MFRR: u64 = 12;
/// The number of the source that interprocessor interrupts have.
const ICP_IPI: u32 = 2;
/// The hypervisor's page among those of the thread interrupt management area.
const TIMA_HV_PAGE: usize = 1;
/// CPPR of the physical thread's ring in that page.
const TIMA_CPPR: u64 = 0x31;

/// Finds the controller of a CPU, and says how it is kicked. Done by the boot CPU, for all.
pub fn find(tree: Fdt<'_>, processor: &Processor, generation: Generation, cpu: usize, pir: u32) {
    let controller = tree
        .root()
        .children()
        .find_map(|node| controller(node, pir));
    let address = controller.unwrap_or(0);
    if let Some(known) = CONTROLLERS.get(cpu) {
        known.store(address, Ordering::Relaxed);
    }
    let kick = match generation {
        Generation::Power8 if address == 0 => 0,
        Generation::Power8 => address + ICP_MFRR,
        Generation::Power9 | Generation::Power10 => KICK_MESSAGE | u64::from(pir),
    };
    processor.set_kick(cpu, kick);
}

/// Has the calling CPU hold back all that is not wanted.
pub fn hold_back(generation: Generation, cpu: usize) {
    let Some(controller) = controller_of(cpu) else {
        return;
    };
    let (register, priority) = match generation {
        Generation::Power8 => (ICP_XIRR, KICK_PRIORITY + 1),
        Generation::Power9 | Generation::Power10 => (TIMA_CPPR, 0),
    };
    // SAFETY: the priority register of this CPU.
    unsafe { ci::store_u8(controller + register, priority) };
}

/// Takes an external interrupt; whether it was a kick. One that nobody asked for is accepted and never ended, so
/// its source does not bring it again.
pub fn take(generation: Generation, cpu: usize) -> bool {
    let kicked = generation == Generation::Power8 && controller_of(cpu).is_some_and(take_kick);
    if !kicked {
        hold_back(generation, cpu);
    }
    kicked
}

fn take_kick(icp: u64) -> bool {
    // SAFETY: this CPU's controller has an interrupt for it.
    let xirr = unsafe { ci::load_u32(icp + ICP_XIRR) };
    if xirr & 0xff_ffff != ICP_IPI {
        return false;
    }
    // A kick from here on is a new one.
    // SAFETY: this CPU's own register.
    unsafe { ci::store_u8(icp + ICP_MFRR, 0xff) };
    // SAFETY: ends what was accepted; its upper byte is the priority that held before.
    unsafe { ci::store_u32(icp + ICP_XIRR, xirr) };
    true
}

fn controller_of(cpu: usize) -> Option<u64> {
    let known = CONTROLLERS.get(cpu)?.load(Ordering::Relaxed);
    (known != 0).then_some(known)
}

/// The controller that a node describes, if it is the one of the thread with this PIR.
fn controller(node: FdtNode<'_>, pir: u32) -> Option<u64> {
    let compatible = node.property("compatible")?;
    let compatible = compatible.value_as::<&[u8]>().ok()?;
    let is = |name: &[u8]| compatible.split(|&byte| byte == 0).any(|each| each == name);
    let page = |number| {
        let mut reg = node.reg().ok()??;
        reg.nth(number)?.address::<u64>().ok()
    };
    if is(b"IBM,ppc-xicp") {
        let range = node.property("ibm,interrupt-server-ranges")?;
        let range = range.value_as::<[u8; 8]>().ok()?;
        let [first, count] = [
            u64::from_be_bytes(range) >> 32,
            u64::from_be_bytes(range) & 0xffff_ffff,
        ];
        let thread = u64::from(pir)
            .checked_sub(first)
            .filter(|&thread| thread < count)?;
        return page(usize::try_from(thread).ok()?);
    }
    is(b"ibm,opal-xive-pe").then(|| page(TIMA_HV_PAGE))?
}
