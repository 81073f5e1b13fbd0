//! Where an access looks for its entry (ISA 2.07 Book III-S section 5.7.7), and R and C.
//!
//! Only what recorded sequences have: segments of 256M with base pages of 4K.

/// Dword 1: referenced.
pub const R: u64 = 0x100;
/// Dword 1: changed.
pub const C: u64 = 0x80;

/// Dword 0: the hash that led to the entry was the secondary one.
const SECONDARY: u64 = 2;
/// Dword 0 as it is compared: AVPN and B, and which hash.
const COMPARED: u64 = !0x7f | SECONDARY;
/// RS of slbmte where it would say another segment or page size: B, L, LP.
const SLB_OTHER: u64 = 0xc000_0000_0000_0130;

/// An address under the one segment that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    vsid: u64,
    offset: u64,
}

impl Address {
    /// The address `ea` under the SLB entry with this RS.
    #[must_use]
    pub fn new(ea: u64, slb_rs: u64) -> Self {
        Self {
            vsid: slb_rs >> 12,
            offset: ea & 0x0fff_ffff,
        }
    }

    /// Whether a segment of RS is one that this module knows.
    #[must_use]
    pub fn is_known(slb_rs: u64) -> bool {
        slb_rs & SLB_OTHER == 0
    }

    /// The slots that are searched in a table with so many, and what dword 0 must show of the hash there.
    pub fn slots(self, slots: u64) -> impl Iterator<Item = (u64, u64)> {
        let hash = self.vsid ^ self.offset >> 12;
        [(hash, 0), (!hash, SECONDARY)]
            .into_iter()
            .flat_map(move |(hash, secondary)| {
                let first = 8 * (hash & (slots / 8 - 1));
                (first..first + 8).map(move |slot| (slot, secondary))
            })
    }

    /// Whether an entry, which stands in a slot with that `secondary`, translates the address.
    #[must_use]
    pub fn is_translated_by(self, secondary: u64, v: u64, r: u64) -> bool {
        let avpn = self.vsid << 12 | self.offset >> 16 & !0x7f;
        // Base pages of 4K: L = 0, or 4K in 64K, or 4K in 16M.
        let base_4k = v & 4 == 0 || r >> 12 & 0xf == 7 || r >> 12 & 0xff == 0x38;
        v & 1 != 0 && v & COMPARED == avpn | secondary && base_4k
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_either_hash() {
        let address = Address::new(0x1000_5000, 0x1234_5000);
        let slots: Vec<_> = address.slots(1 << 14).collect();
        assert_eq!(slots.len(), 16);
        assert_eq!(slots.first(), Some(&(8 * ((0x12345 ^ 5) & 0x7ff), 0)));
        assert_eq!(slots.get(8), Some(&(8 * (!(0x12345_u64 ^ 5) & 0x7ff), 2)));
        assert!(address.is_translated_by(0, 0x1234_5001, 0x4000));
        assert!(
            !address.is_translated_by(0, 0x1234_5000, 0x4000),
            "not valid"
        );
        assert!(
            !address.is_translated_by(0, 0x1234_5081, 0x4000),
            "another page"
        );
        assert!(
            !address.is_translated_by(0, 0x1234_5005, 0x1000),
            "64K base page"
        );
        assert!(address.is_translated_by(0, 0x1234_5005, 0x7000));
        assert!(!address.is_translated_by(2, 0x1234_5001, 0x4000), "hash");
    }
}
