//! The register values that put a partition's HPT under the processor: pure encodings.
//!
//! POWER8 has the HPT's place in SDR1 and says with VPM0 and VRMASD of the LPCR how guest real mode is
//! translated (ISA 2.07 Book III-S sections 2.2, 5.7.7.2). From ISA 3.0 on both are in the partition's entry of
//! the partition table (ISA 3.0B Book III section 5.7.6), and real mode always goes through the VRMA.

use realhpt::table::Order;

/// Bits of the LPCR (ISA 2.07 Book III-S section 2.2; ISA 3.0B Book III section 2.2).
pub mod lpcr {
    use realhpt::lpar::vcpu::lpcr as guest;

    /// Guest real mode is translated by the VRMA (POWER8).
    pub const VPM0: u64 = 1 << 63;
    /// The hypervisor gets the guest's storage interrupts.
    pub const VPM1: u64 = 1 << 62;
    /// Where L || LP of the VRMA stands (POWER8).
    pub const VRMASD_SHIFT: u32 = 47;
    /// The whole VRMASD field.
    pub const VRMASD: u64 = 0x1f << VRMASD_SHIFT;
    /// Interrupts are taken with translation on, two bits.
    pub const AIL: u64 = guest::AIL;
    /// Process table in use (ISA 3.0).
    pub const UPRT: u64 = 1 << 22;
    /// Interrupts little-endian.
    pub const ILE: u64 = guest::ILE;
    /// The host uses a radix tree (ISA 3.0).
    pub const HR: u64 = 1 << 20;
    /// Mediated external interrupt request: clear here, set while an interrupt waits for a guest that takes none.
    pub const MER: u64 = 1 << 11;
    /// Guests may use tlbie (ISA 3.0).
    pub const GTSE: u64 = 1 << 10;
    /// External interrupts do not come while in hypervisor state (ISA 3.0).
    pub const HEIC: u64 = 1 << 4;
    /// External interrupts go to the guest.
    pub const LPES0: u64 = 1 << 3;
    /// Hypervisor virtualisation interrupts come (ISA 3.0).
    pub const HVICE: u64 = 1 << 1;
    /// Hypervisor decrementer interrupts come.
    pub const HDICE: u64 = 1;
}

/// HFSCR: floating point, VSX, DSCR, PMU, BHRB, event-based branches, TAR. TM and msgsndp are not among
/// them.
pub const HFSCR: u64 = 0x19f;
/// HFSCR, ISA 3.0: system call vectored.
pub const HFSCR_SCV: u64 = 1 << 12;
/// HFSCR, ISA 3.1: prefixed instructions.
pub const HFSCR_PREFIX: u64 = 1 << 13;

/// L || LP of the VRMA's segment for pages of `1 << shift` bytes.
const fn llp(shift: u32) -> u64 {
    match shift {
        16 => 0b101,
        24 => 0b100,
        _ => 0,
    }
}

/// LPCR of a guest on POWER8, from the one that skiboot left.
#[must_use]
pub const fn lpcr_power8(left: u64, vrma_shift: u32) -> u64 {
    // VRMASD has L in its upper and LP in its lower bits with two reserved ones between.
    let vrmasd = (llp(vrma_shift) & 4) << 2 | llp(vrma_shift) & 3;
    let clear = lpcr::VRMASD | lpcr::AIL | lpcr::ILE | lpcr::MER | lpcr::LPES0;
    left & !clear | lpcr::VPM0 | lpcr::VPM1 | lpcr::HDICE | vrmasd << lpcr::VRMASD_SHIFT
}

/// LPCR of a guest on POWER9 and later, from the one that skiboot left.
#[must_use]
pub const fn lpcr_power9(left: u64) -> u64 {
    let clear = lpcr::AIL
        | lpcr::ILE
        | lpcr::UPRT
        | lpcr::HR
        | lpcr::MER
        | lpcr::GTSE
        | lpcr::LPES0
        | lpcr::HVICE;
    left & !clear | lpcr::VPM1 | lpcr::HEIC | lpcr::HDICE
}

/// The same LPCR for a guest that takes its interrupts as the bits ILE and AIL of `interrupts` say: what it may choose
/// itself, by H_SET_MODE. Other bits of `interrupts` have no effect.
#[must_use]
pub const fn with_interrupts(lpcr: u64, interrupts: u64) -> u64 {
    const CHOSEN: u64 = lpcr::AIL | lpcr::ILE;
    lpcr & !CHOSEN | interrupts & CHOSEN
}

/// SDR1: HTABORG and HTABSIZE.
#[must_use]
pub const fn sdr1(hpt: u64, order: Order) -> u64 {
    hpt | (order.raw() - Order::MIN) as u64
}

/// First doubleword of a partition table entry: HTABORG, PS, HTABSIZE; HR is zero. The second is zero.
#[must_use]
pub const fn partition_entry(hpt: u64, order: Order, vrma_shift: u32) -> u64 {
    hpt | llp(vrma_shift) << 5 | (order.raw() - Order::MIN) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_those_that_were_seen_to_work() {
        // skiboot's own LPCR, and 4K pages in the VRMA.
        assert_eq!(
            lpcr_power8(0x0040_0000_0000_6000, 12),
            0xc040_0000_0000_6001
        );
        assert_eq!(lpcr_power9(0x0040_0000_0000_a000), 0x4040_0000_0000_a011);
    }

    #[test]
    fn a_guest_chooses_how_it_takes_interrupts_and_nothing_else() {
        let lpcr = lpcr_power9(0x0040_0000_0000_a000);
        assert_eq!(with_interrupts(lpcr, 0), lpcr);
        let linux = lpcr | 0x0380_0000;
        assert_eq!(with_interrupts(lpcr, u64::MAX), linux);
        assert_eq!(with_interrupts(linux, lpcr::ILE), lpcr | lpcr::ILE);
    }

    #[test]
    fn vrma_page_sizes_are_encoded_as_the_segment_would() {
        let vrmasd = |shift| (lpcr_power8(0, shift) & lpcr::VRMASD) >> lpcr::VRMASD_SHIFT;
        assert_eq!([12, 16, 24].map(vrmasd), [0, 0x11, 0x10]);
        let order = Order::new(24).unwrap();
        let entry = |shift| partition_entry(0x4000_0000, order, shift);
        assert_eq!(
            [12, 16, 24].map(entry),
            [0x4000_0006, 0x4000_00a6, 0x4000_0086]
        );
        assert_eq!(sdr1(0x4000_0000, order), 0x4000_0006);
    }
}
