//! What an entry is: its bits, the page that it maps, and what a guest is shown of it. From PAPR alone.

use crate::common::world::{CLIENT_MEMORY, CLIENT_WINDOW};
use realhpt::table::Format;

pub(crate) const FORMATS: [Format; 2] = [Format::V2_07, Format::V3_0];

pub(crate) const SLOTS: u64 = 1 << 14;

/// Slots whose changes are marked together.
pub(crate) const BLOCK: u64 = 4096;

pub(crate) const EXACT: u64 = 1 << 39;

pub(crate) const READ_4: u64 = 1 << 37;

pub(crate) const AVPN: u64 = 1 << 31;

pub(crate) const ANDCOND: u64 = 1 << 30;

pub(crate) const BOLTED: u64 = 0x10;

pub(crate) const R: u64 = 0x100;

pub(crate) const C: u64 = 0x80;

/// Where the memory of the entry's page is: all of it, none, or it does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Memory,
    Nothing,
    Misfit,
}

pub(crate) fn page(v: u64, r: u64) -> Option<Page> {
    let shift = match (v & 4 != 0, r >> 12 & 0xf, r >> 16 & 0xf) {
        (false, ..) => 12,
        (true, 0, 0) | (true, 8, 0 | 3) => 24,
        (true, 1 | 7, _) => 16,
        (true, 3, 0) => 34,
        _ => return None,
    };
    let (bytes, at) = (1 << shift, r & 0x0fff_ffff_ffff_f000 >> shift << shift);
    let regions = [(0, CLIENT_MEMORY), (CLIENT_WINDOW.0, CLIENT_WINDOW.2)];
    let within = |&&(start, size): &&(u64, u64)| start <= at && at - start < size;
    Some(match regions.iter().find(within) {
        None => Page::Nothing,
        Some((start, size)) if size - (at - start) >= bytes => Page::Memory,
        Some(_) => Page::Misfit,
    })
}

/// An entry as a guest gives it, if it can be one: as the guest is shown it, and whether hardware may use it.
pub(crate) fn entered(v: u64, r: u64, format: Format) -> Option<(u64, u64, bool)> {
    let usable = match page(v, r)? {
        Page::Memory => true,
        Page::Nothing => false,
        Page::Misfit => return None,
    };
    if v >> 62 > 1 {
        return None;
    }
    let kept = match format {
        Format::V2_07 => !0x60,
        Format::V3_0 => 0xc00f_ffff_ffff_ff9f,
    };
    Some((v & kept | 1, r & !(1 << 62), usable))
}

/// Dwords 1 of entries whose pages are in memory, outside it, at its ends, and where they do not fit.
pub(crate) const PLACES: [u64; 16] = [
    0x1000,
    0x2000,
    0x1_1000,
    0x2_7000,
    0xff_8000,
    0x100_0000,
    0x103_8000,
    0x0fff_1000,
    0x1000_0000,
    0x1_0000_0000,
    0x1_0000_1000,
    0x1_0001_0000,
    0x400_0000_3000,
    0x70_0000_0000,
    0x0800_0000_0000_0000,
    0x0fff_ffff_ffff_f000,
];
