//! Which processor the image runs on.

#[cfg(target_os = "none")]
use realhpt::arch::powerpc64::spr;

/// A generation of the POWER server processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(target_os = "none", derive(defmt::Format))]
pub enum Generation {
    /// POWER8: ISA 2.07, SDR1.
    Power8,
    /// POWER9: ISA 3.0, partition table.
    Power9,
    /// POWER10: ISA 3.1, partition table.
    Power10,
}

impl Generation {
    /// The generation of the processor with this PVR, if it is one that this image knows.
    #[must_use]
    pub const fn from_pvr(pvr: u64) -> Option<Self> {
        match pvr >> 16 & 0xffff {
            0x004b..=0x004d => Some(Self::Power8),
            0x004e => Some(Self::Power9),
            0x0080 => Some(Self::Power10),
            _ => None,
        }
    }

    /// The generation of this processor. One that is not known, and so newer, is treated as the newest.
    #[cfg(target_os = "none")]
    #[must_use]
    pub fn detect() -> Self {
        Self::from_pvr(spr::PVR.read()).unwrap_or(Self::Power10)
    }
}
