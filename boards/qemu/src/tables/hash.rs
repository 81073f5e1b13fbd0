//! Whether an entry stands in a group that its virtual address hashes to.
//!
//! The hash is that of ISA 3.0B Book III section 5.7.7.3. An entry has its address without the last 23 bits of the offset in
//! its segment (the AVPN), so of the hash it determines what is above those: the rest is the group's own. This stands on the
//! format's description alone and shares no code with the engine.

use super::record::Entry;

/// Dword 0: the secondary hash.
const V_SECONDARY: u64 = 2;
/// Dword 0: a large page, whose sizes are in LP.
const V_LARGE: u64 = 4;
/// Bits of the offset in the segment that the AVPN lacks.
const AVPN_SHIFT: u32 = 23;
/// Where LP begins in dword 1.
const LP_SHIFT: u32 = 12;

/// Encodings of large pages: log2 of the base page and of the page, and LP with the bits of it that count.
const LARGE: [(u32, u32, u64, u64); 6] = [
    (16, 16, 1, 0xf),
    (12, 16, 7, 0xf),
    (24, 24, 0, 0xff),
    (16, 24, 8, 0xff),
    (12, 24, 0x38, 0xff),
    (34, 34, 3, 0xff),
];

/// What an entry says of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The segment's number.
    pub vsid: u64,
    /// The segment has 1 TiB, else 256 MiB.
    pub one_terabyte: bool,
    /// Its offset in the segment, without the last 23 bits.
    pub offset: u64,
    /// log2 of the base page.
    pub base_shift: u32,
    /// log2 of the page.
    pub shift: u32,
    /// Its guest real address.
    pub real: u64,
}

impl Page {
    /// The page of an entry; none if its encoding is not one.
    #[must_use]
    pub fn of(entry: Entry) -> Option<Self> {
        let one_terabyte = match entry.dw0 >> 62 {
            0 => false,
            1 => true,
            _ => return None,
        };
        let (base_shift, shift) = if entry.dw0 & V_LARGE == 0 {
            (12, 12)
        } else {
            let lp = entry.dw1 >> LP_SHIFT;
            let found = LARGE.iter().find(|(.., value, mask)| lp & mask == *value);
            found.map(|&(base, page, ..)| (base, page))?
        };
        // B, then the AVPN down to the seven flag bits: 55 bits of which the last five are bits of the offset, or 17.
        let avpn = (entry.dw0 & !(3 << 62)) >> 7;
        let segment = if one_terabyte { 40 } else { 28 };
        let offset_bits = segment - AVPN_SHIFT;
        let real = entry.dw1 & 0x0fff_ffff_ffff_f000;
        Some(Self {
            vsid: avpn >> offset_bits,
            one_terabyte,
            offset: (avpn & ((1 << offset_bits) - 1)) << AVPN_SHIFT,
            base_shift,
            shift,
            real: real >> shift << shift,
        })
    }

    /// The hash, and how many of its last bits the entry does not determine.
    #[must_use]
    pub const fn hash(&self) -> (u64, u32) {
        let page = self.offset >> self.base_shift;
        let hash = if self.one_terabyte {
            self.vsid ^ self.vsid << 25 ^ page
        } else {
            self.vsid ^ page
        };
        (hash, AVPN_SHIFT.saturating_sub(self.base_shift))
    }
}

/// Whether the slot is in a group that the entry's hash leads to, in a table of this order, in the bits that the entry
/// determines.
#[must_use]
pub fn fits(ptex: u64, entry: Entry, order: u32) -> bool {
    let Some(page) = Page::of(entry) else {
        return false;
    };
    let groups = 1_u64 << (order - 7);
    let (hash, unknown) = page.hash();
    let hash = if entry.dw0 & V_SECONDARY == 0 {
        hash
    } else {
        !hash
    };
    let known = |group: u64| (group & (groups - 1)) >> unknown;
    known(hash) == known(ptex / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first entries of Linux's linear map, as QEMU's pseries machine had them (`t_p8_idle`, calls 9396 and 9397).
    #[test]
    fn entries_of_linux_stand_where_linux_put_them() {
        let entry = |real: u64| Entry {
            dw0: 0x400e_a1b2_1700_0015,
            dw1: real | 0x1190,
        };
        let page = Page::of(entry(0x1_0000)).expect("a page");
        assert_eq!((page.vsid, page.offset), (0x0ea1_b217, 0));
        assert_eq!((page.base_shift, page.shift, page.real), (16, 16, 0x1_0000));
        assert!(fits(0x190b8, entry(0), 22));
        assert!(fits(0x190b0, entry(0x1_0000), 22));
        // 128 groups away: the entry determines that bit.
        assert!(!fits(0x194b8, entry(0), 22));
        let secondary = Entry {
            dw0: entry(0).dw0 | V_SECONDARY,
            ..entry(0)
        };
        assert!(fits(!0x190b8 & 0x3_fff8, secondary, 22));
        assert!(!fits(0x190b8, secondary, 22));
    }

    #[test]
    fn small_pages_leave_bits_open() {
        let entry = Entry {
            dw0: 0x1234_5600 << 7 | 1,
            dw1: 0x1000,
        };
        let page = Page::of(entry).expect("a page");
        assert_eq!((page.base_shift, page.hash().1), (12, 11));
        let (hash, _) = page.hash();
        for low in [0, 1, 0x7ff] {
            assert!(fits(((hash & !0x7ff | low) & 0x7fff) * 8, entry, 22));
        }
        assert!(!fits(((hash ^ 0x800) & 0x7fff) * 8, entry, 22));
    }

    #[test]
    fn what_is_no_page_fits_nowhere() {
        let reserved = Entry {
            dw0: 2 << 62 | 1,
            dw1: 0,
        };
        assert_eq!(Page::of(reserved), None);
        assert!(!fits(0, reserved, 22));
        let odd = Entry {
            dw0: V_LARGE | 1 << 62 | 1,
            dw1: 0x2000,
        };
        assert_eq!(Page::of(odd), None);
    }
}
