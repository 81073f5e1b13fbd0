//! What Linux takes for the same work.
//!
//! 6.1 KVM-HV on the same machine under the same QEMU, `-icount shift=0`, mitigations off, with tables of order
//! [`ORDER`] made as ours are and as unsettled as ours that are not settled, one record for each write and 64 KiB for
//! each read. Those for a whole table grow with its slots. No figure: nothing was measured.

use realhpt_pseries::exchange::bench::what;

use crate::machine::Kind as Machine;

/// The order of the tables that Linux was measured with.
pub const ORDER: u32 = 24;
/// Of their entries, so many per mille had changed where a pass over changes was measured.
pub const CHANGED_PERMILLE: u64 = 100;

/// Linux's figures on one machine. Of a table: at 1 %, 12.5 % and 50 %.
#[derive(Debug)]
pub struct Linux {
    /// A clean pass, for each slot.
    clean: [f64; 3],
    /// A first pass of order 24, in millions.
    first: [f64; 3],
    changed: [f64; 3],
    restore: [f64; 3],
    overwrite: [f64; 3],
    invalidate: [f64; 3],
    /// For each entry of a table without a free slot, which was one of order 20: first pass, and restore by 512
    /// entries.
    dense: [f64; 2],
    null: f64,
    enter: f64,
    read: f64,
    protect: f64,
    remove: f64,
    bulk_remove: f64,
    /// Bytes beside the table for each slot, without those for each page of the guest.
    pub beside: f64,
}

const POWER8: Linux = Linux {
    clean: [11.06, 11.65, 13.52],
    first: [51.2, 76.9, 125.9],
    changed: [290.0, 294.0, 298.0],
    restore: [2602.0, 1388.0, 893.0],
    overwrite: [3614.0, 2421.0, 1927.0],
    invalidate: [1936.0, 1106.0, 1052.0],
    dense: [159.0, 622.0],
    null: 313.0,
    enter: 1384.0,
    read: 435.0,
    protect: 608.0,
    remove: 1229.0,
    bulk_remove: 4121.0,
    beside: 16.0,
};

const POWER9: Linux = Linux {
    clean: [11.07, 11.65, 13.53],
    first: [51.3, 77.7, 128.7],
    changed: [294.0, 299.0, 304.0],
    restore: [2550.0, 1354.0, 883.0],
    overwrite: [3573.0, 2410.0, 1929.0],
    invalidate: [1948.0, 1117.0, 1063.0],
    null: 2635.0,
    enter: 3735.0,
    read: 2815.0,
    protect: 2941.0,
    remove: 3566.0,
    bulk_remove: 6452.0,
    ..POWER8
};

/// The figure for an occupancy.
fn at(figures: &[f64; 3], permille: u32) -> Option<f64> {
    let column = [10, 125, 500].iter().position(|&had| had == permille)?;
    figures.get(column).copied()
}

/// Slots of a table.
fn slots(order: u32) -> f64 {
    f64::exp2(f64::from(order) - 4.0)
}

impl Linux {
    /// The figures on a machine, if there are any.
    #[must_use]
    pub const fn on(machine: Machine) -> Option<&'static Self> {
        match machine {
            Machine::Powernv8 => Some(&POWER8),
            Machine::Powernv9 => Some(&POWER9),
            Machine::Powernv10 => None,
        }
    }

    /// Whether a figure for a whole table was measured with one like this, and not computed from others.
    #[must_use]
    pub fn is_measured(order: u32, permille: u32) -> bool {
        order == ORDER && permille != 1000
    }

    /// A pass over a table in which nothing has changed.
    #[must_use]
    pub fn clean_pass(&self, order: u32, permille: u32) -> Option<f64> {
        Some(at(&self.clean, permille)? * slots(order))
    }

    /// A first pass.
    #[must_use]
    pub fn first_pass(&self, order: u32, permille: u32) -> Option<f64> {
        let [dense, _] = self.dense;
        if permille == 1000 {
            return Some(dense * slots(order));
        }
        Some(at(&self.first, permille)? * 1e6 * slots(order) / slots(ORDER))
    }

    /// An entry of a pass over changes.
    #[must_use]
    pub fn changed(&self, permille: u32) -> Option<f64> {
        at(&self.changed, permille)
    }

    /// An entry of a table that is restored into an empty one.
    #[must_use]
    pub fn restore(&self, permille: u32) -> Option<f64> {
        let [_, dense] = self.dense;
        if permille == 1000 {
            return Some(dense);
        }
        at(&self.restore, permille)
    }

    /// An entry of a table that is restored over itself.
    #[must_use]
    pub fn overwrite(&self, permille: u32) -> Option<f64> {
        at(&self.overwrite, permille)
    }

    /// An entry of a table that is made invalid.
    #[must_use]
    pub fn invalidate(&self, permille: u32) -> Option<f64> {
        at(&self.invalidate, permille)
    }

    /// A hypercall, by the number of what was measured.
    #[must_use]
    pub const fn call(&self, call: u64) -> Option<f64> {
        match call {
            what::NULL => Some(self.null),
            what::READ => Some(self.read),
            what::PROTECT => Some(self.protect),
            what::ENTER => Some(self.enter),
            what::REMOVE => Some(self.remove),
            what::BULK_REMOVE => Some(self.bulk_remove),
            _ => None,
        }
    }
}
