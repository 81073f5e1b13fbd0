//! Storage interrupts of guests: retried or given to the guest, and as what.
//!
//! With `LPCR[VPM1]` set, and always in guest real mode, hardware gives a guest's data and instruction
//! storage interrupts to the hypervisor (HDSI 0xE00, HISI 0xE20; ISA 3.0B Book III sections 6.5.16 and
//! 6.5.17). Here is no memory that could be brought in, so there are two answers ([`Answer`]):
//!
//! * **Retry** where the entry is there by now, or someone is changing one of its groups: H_PROTECT and its
//!   like clear VALID for a moment, and a fault on such an entry is one that no processor without a
//!   hypervisor would have shown the guest.
//! * **Interrupt**: the guest's own, with the status that hardware gave.
//!
//! # An absent entry
//! The guest has an entry and there is no memory behind it. To say "no entry found" would be a lie that
//! Linux believes for ever: it looks into its own tables, finds the page mapped, enters it again and goes
//! back to the instruction. So does a protection fault. Linux gives up (SIGBUS, or the kernel's own fix-up)
//! on the status bits that say the *kind* of access or of translation is wrong:
//! * for data, DSISR bit 37: the access is of a kind that the storage behind the page does not take. That is
//!   the truth, and the bit has that meaning in ISA 2.07 and 3.0 both;
//! * for fetches, SRR1 bit 44: a translation that is not supported. SRR1 has no bit 37. ISA 2.07 has no
//!   bit 44 either, yet Linux looks at it on every processor; an operating system that does not still
//!   has an ISI without bit 33, which is no invitation to enter the page.
//!
//! A machine check, the other thing real hardware does for an address with nothing behind it, would take the
//! whole guest down for one bad access of a process.

use super::vcpu::{Interrupt, msr, vector};
use crate::addr::EffAddr;
use crate::table::Table;
use crate::table::hash::Segment;
use crate::table::search::Found;

/// DSISR and SRR1: no entry translates the address.
pub const NO_ENTRY: u64 = 0x4000_0000;
/// SRR1: the page may not be executed (N, or G).
pub const NO_EXECUTE: u64 = 0x1000_0000;
/// DSISR and SRR1: the protection bits forbid the access.
pub const PROTECTION: u64 = 0x0800_0000;
/// DSISR: the storage does not take this kind of access.
pub const BAD_ACCESS: u64 = 0x0400_0000;
/// DSISR: the access was a store.
pub const STORE: u64 = 0x0200_0000;
/// DSISR and SRR1: the storage key forbids the access.
pub const KEY: u64 = 0x0020_0000;
/// SRR1: the translation is not supported.
pub const UNSUPPORTED: u64 = 0x0008_0000;

/// What was accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Data: HDSI.
    Data,
    /// An instruction: HISI.
    Fetch,
}

/// A storage interrupt that came to the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was accessed.
    pub kind: Kind,
    /// Where: HDAR, or HSRR0.
    pub at: EffAddr,
    /// HDSISR, or the status bits of HSRR1.
    pub status: u64,
    /// The segment: ASDR, or what the SLB says, or the VRMA's in guest real mode. None: no SLB entry
    /// translates the address.
    pub segment: Option<Segment>,
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The guest goes back to the instruction.
    Retry,
    /// The guest gets an interrupt.
    Interrupt(Interrupt),
}

impl Fault {
    /// The answer to the fault of a partition that has this table.
    #[must_use]
    pub fn answer(&self, table: &Table<'_>) -> Answer {
        let Some(segment) = self.segment else {
            return Answer::Interrupt(self.no_segment());
        };
        self.decide(table.find(segment, self.at))
    }

    fn decide(&self, found: Found) -> Answer {
        match found {
            Found::Locked => Answer::Retry,
            _ if self.status & NO_ENTRY == 0 => Answer::Interrupt(self.reflected(self.status)),
            Found::Entry { valid: true, .. } => Answer::Retry,
            Found::Entry { valid: false, .. } => {
                Answer::Interrupt(self.reflected(match self.kind {
                    Kind::Data => BAD_ACCESS | self.status & STORE,
                    Kind::Fetch => UNSUPPORTED,
                }))
            }
            Found::Nothing => Answer::Interrupt(self.reflected(self.status)),
        }
    }

    fn no_segment(&self) -> Interrupt {
        match self.kind {
            Kind::Data => Interrupt {
                vector: vector::DATA_SEGMENT,
                status: 0,
                dar: Some(self.at.raw()),
                dsisr: None,
            },
            Kind::Fetch => Interrupt {
                vector: vector::INSTRUCTION_SEGMENT,
                status: 0,
                dar: None,
                dsisr: None,
            },
        }
    }

    fn reflected(&self, status: u64) -> Interrupt {
        match self.kind {
            Kind::Data => Interrupt {
                vector: vector::DATA_STORAGE,
                status: 0,
                dar: Some(self.at.raw()),
                dsisr: Some(status),
            },
            Kind::Fetch => Interrupt {
                vector: vector::INSTRUCTION_STORAGE,
                status: status & msr::STATUS,
                dar: None,
                dsisr: None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Order;
    use crate::table::hpte::{GuestR, GuestV};

    fn data(status: u64) -> Fault {
        let segment = Some(Segment::one_terabyte(1, 12));
        Fault {
            kind: Kind::Data,
            at: EffAddr::new(0x5008),
            status,
            segment,
        }
    }

    fn fetch(status: u64) -> Fault {
        Fault {
            kind: Kind::Fetch,
            ..data(status)
        }
    }

    fn entry(valid: bool) -> Found {
        let ptex = Order::new(18).unwrap().ptex(3).unwrap();
        Found::Entry {
            ptex,
            v: GuestV::entered(0),
            r: GuestR::entered(0),
            valid,
        }
    }

    fn dsi(dsisr: u64) -> Answer {
        let (dar, dsisr) = (Some(0x5008), Some(dsisr));
        Answer::Interrupt(Interrupt {
            vector: 0x300,
            status: 0,
            dar,
            dsisr,
        })
    }

    fn isi(status: u64) -> Answer {
        Answer::Interrupt(Interrupt {
            vector: 0x400,
            status,
            dar: None,
            dsisr: None,
        })
    }

    #[test]
    fn an_entry_that_is_there_or_being_changed_is_tried_again() {
        for found in [entry(true), Found::Locked] {
            assert_eq!(data(NO_ENTRY | STORE).decide(found), Answer::Retry);
            assert_eq!(fetch(NO_ENTRY).decide(found), Answer::Retry);
        }
        assert_eq!(
            data(PROTECTION | STORE).decide(Found::Locked),
            Answer::Retry
        );
    }

    #[test]
    fn what_hardware_said_is_what_the_guest_is_told() {
        assert_eq!(data(NO_ENTRY).decide(Found::Nothing), dsi(NO_ENTRY));
        assert_eq!(
            data(NO_ENTRY | STORE).decide(Found::Nothing),
            dsi(NO_ENTRY | STORE)
        );
        assert_eq!(
            data(PROTECTION | STORE).decide(entry(true)),
            dsi(PROTECTION | STORE)
        );
        assert_eq!(data(KEY).decide(entry(true)), dsi(KEY));
        assert_eq!(fetch(NO_ENTRY).decide(Found::Nothing), isi(NO_ENTRY));
        assert_eq!(fetch(NO_EXECUTE).decide(entry(true)), isi(NO_EXECUTE));
    }

    #[test]
    fn an_absent_entry_is_not_called_a_missing_one() {
        assert_eq!(data(NO_ENTRY).decide(entry(false)), dsi(BAD_ACCESS));
        assert_eq!(
            data(NO_ENTRY | STORE).decide(entry(false)),
            dsi(BAD_ACCESS | STORE)
        );
        assert_eq!(fetch(NO_ENTRY).decide(entry(false)), isi(UNSUPPORTED));
    }

    #[test]
    fn an_address_without_a_segment_is_a_segment_interrupt() {
        let data = Fault {
            segment: None,
            ..data(NO_ENTRY)
        }
        .no_segment();
        assert_eq!(
            (data.vector, data.dar, data.dsisr),
            (0x380, Some(0x5008), None)
        );
        assert_eq!(
            Fault {
                segment: None,
                ..fetch(NO_ENTRY)
            }
            .no_segment()
            .vector,
            0x480
        );
    }
}
