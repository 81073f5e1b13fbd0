//! External interrupts: nobody here wants any.
//!
//! No device is told to interrupt, and no interrupt source is routed to a CPU. Should one come all the same
//! (another processor's message, firmware's leftovers), it would come again at once, as nobody serves it. So
//! the priority of this CPU, below which interrupts are held back, is set to the most favoured, 0, at
//! boot and whenever an interrupt came through: in the presentation controller of POWER8 (ICP: the first byte of
//! XIRR), or in the thread interrupt management area of POWER9 and later (XIVE: CPPR of the physical thread's
//! ring, in the hypervisor's page).

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use realhpt::arch::powerpc64::{ci, spr};
use spin::Once;

/// Host real address of the boot CPU's priority register, if the device tree shows one.
static PRIORITY: Once<Option<u64>> = Once::new();

/// CPPR in an ICP.
const ICP_CPPR: u64 = 4;
/// The hypervisor's page among those of the thread interrupt management area.
const TIMA_HV_PAGE: usize = 1;
/// CPPR of the physical thread's ring in that page.
const TIMA_CPPR: u64 = 0x31;

/// Finds the boot CPU's presentation controller and holds everything back.
pub fn init(tree: Fdt<'_>) {
    PRIORITY.call_once(|| tree.root().children().find_map(priority_register));
    hold_back();
}

/// An external interrupt came: the caller says so in the log, a bounded number of times.
pub fn silence() {
    hold_back();
}

fn hold_back() {
    if let Some(&Some(priority)) = PRIORITY.get() {
        // SAFETY: the priority register of this CPU; 0 lets nothing through.
        unsafe { ci::store_u8(priority, 0) };
    }
}

/// The priority register in a controller's node, if it is this CPU's.
fn priority_register(node: FdtNode<'_>) -> Option<u64> {
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
        let thread = spr::PIR
            .read()
            .checked_sub(first)
            .filter(|&thread| thread < count)?;
        return Some(page(usize::try_from(thread).ok()?)? + ICP_CPPR);
    }
    is(b"ibm,opal-xive-pe")
        .then(|| page(TIMA_HV_PAGE))?
        .map(|page| page + TIMA_CPPR)
}
