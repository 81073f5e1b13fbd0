//! The bits of an HPTE: both real formats, and the types that keep guest and real apart.
//!
//! A guest, PAPR and the stream know one format of an entry, that of ISA 2.07 (Book III-S section 5.7.7.1):
//! [`GuestV`] and [`GuestR`]. What hardware walks is [`RealV`] and [`RealR`]: on POWER8 the same layout, from
//! ISA 3.0 on ([`Format::V3_0`], ISA 3.0B Book III section 5.7.9.1) with B moved into dword 1 and eight bits
//! less of AVPN. `GuestR` holds a guest real page, `RealR` a host real one: same bits, different types, so
//! neither can be stored in the other's place.
//!
//! Two software bits of a real dword 0 are ours: [`ABSENT`] (the entry counts as valid for the guest, hardware
//! must not use it) and [`HVLOCK`]. No guest ever sees them.

use super::page_size::PageSize;
use crate::addr::{GuestReal, HostReal};

/// Dword 0: the entry is valid.
pub const VALID: u64 = 0x1;
/// Dword 0, H: the entry is in its secondary group.
pub const SECONDARY: u64 = 0x2;
/// Dword 0, L: the page size is encoded in dword 1.
pub const LARGE: u64 = 0x4;
/// Dword 0: a software bit of the guest's, set on what must stay in the table.
pub const BOLTED: u64 = 0x10;
/// Dword 0, ours: valid for the guest, not for hardware.
pub const ABSENT: u64 = 0x20;
/// Dword 0, ours: someone is changing the entry.
pub const HVLOCK: u64 = 0x40;
/// Dword 0: B and AVPN, what H_AVPN compares.
pub const COMPARED: u64 = !0x7f;
/// Dword 0: the segment size B, two bits.
pub const B_SHIFT: u32 = 62;
/// Dword 0: the bit of B that is set in its reserved values alone.
pub const B_RESERVED: u64 = 1 << 63;

/// Dword 1: the high bit of the three protection bits.
pub const PP0: u64 = 1 << 63;
/// Dword 1: a bit without meaning that no entry keeps.
pub const TS: u64 = 1 << 62;
/// Dword 1: the upper two bits of the storage key.
pub const KEY_HI: u64 = 3 << 60;
/// Dword 1: the real page number and, where the page is large, the LP bits.
pub const RPN: u64 = 0x0fff_ffff_ffff_f000;
/// Dword 1: the lower three bits of the storage key.
pub const KEY_LO: u64 = 0xe00;
/// Dword 1: referenced.
pub const R: u64 = 0x100;
/// Dword 1: changed.
pub const C: u64 = 0x80;
/// Dword 1: referenced and changed.
pub const RC: u64 = R | C;
/// Dword 1: the storage attributes.
pub const WIMG: u64 = 0x78;
/// Dword 1: M, memory coherence required: the only attribute that memory has here.
pub const M: u64 = 0x10;
/// Dword 1: no execute.
pub const N: u64 = 0x4;
/// Dword 1: the lower two protection bits.
pub const PP: u64 = 0x3;
/// Dword 1: what H_PROTECT replaces.
pub const PROTECTION: u64 = PP0 | KEY_HI | KEY_LO | N | PP;

/// ISA 3.0 dword 0: what is left without B.
const V3_0_DWORD0: u64 = 0x000f_ffff_ffff_ffff;
/// B of an ISA 2.07 dword 0.
const B: u64 = 3 << B_SHIFT;
/// How much further up B stands there than in an ISA 3.0 dword 1, where it is bits 59:58.
const B_UP: u32 = B_SHIFT - 58;

/// The format of the real HPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// POWER8 and before.
    V2_07,
    /// POWER9 and after.
    V3_0,
}

/// The segment sizes that B encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentSize {
    /// 256 MiB, B = 0.
    M256,
    /// 1 TiB, B = 1.
    T1,
}

/// Dword 0 as guests and the stream know it: the ISA 2.07 format, none of our bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestV(u64);

impl GuestV {
    /// What a guest gave as dword 0 of an entry to be made: our bits are dropped, VALID is set.
    #[inline]
    #[must_use]
    pub const fn entered(raw: u64) -> Self {
        Self(raw & !(HVLOCK | ABSENT) | VALID)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The segment size; none for the reserved values of B.
    #[inline]
    #[must_use]
    pub const fn segment_size(self) -> Option<SegmentSize> {
        match self.0 >> B_SHIFT {
            0 => Some(SegmentSize::M256),
            1 => Some(SegmentSize::T1),
            _ => None,
        }
    }

    /// Whether the guest marked the entry as bolted.
    #[inline]
    #[must_use]
    pub const fn is_bolted(self) -> bool {
        self.0 & BOLTED != 0
    }
}

/// Dword 1 as guests and the stream know it: the real page is a guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestR(u64);

/// Dword 1 of an entry that hardware has nothing to add to ([`GuestR::is_settled`]).
#[derive(Clone, Copy, Debug)]
pub struct SettledR(GuestR);

impl SettledR {
    /// What it is.
    #[inline]
    #[must_use]
    pub const fn guest(self) -> GuestR {
        self.0
    }
}

impl GuestR {
    /// What a guest gave as dword 1.
    #[inline]
    #[must_use]
    pub const fn entered(raw: u64) -> Self {
        Self(raw & !TS)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The first address of the page.
    #[inline]
    #[must_use]
    pub const fn page(self, size: PageSize) -> GuestReal {
        GuestReal::new(self.0 & RPN & !(size.bytes() - 1))
    }

    /// The same with R and C of `rc` merged in.
    #[inline]
    #[must_use]
    pub const fn with(self, rc: Rc) -> Self {
        Self(self.0 | rc.0)
    }

    /// The same without R.
    #[inline]
    #[must_use]
    pub const fn unreferenced(self) -> Self {
        Self(self.0 & !R)
    }

    /// The same without C.
    #[inline]
    #[must_use]
    pub const fn unchanged(self) -> Self {
        Self(self.0 & !C)
    }

    /// Whether R is set.
    #[inline]
    #[must_use]
    pub const fn is_referenced(self) -> bool {
        self.0 & R != 0
    }

    /// Whether C is set.
    #[inline]
    #[must_use]
    pub const fn is_changed(self) -> bool {
        self.0 & C != 0
    }

    /// The same with the protection that H_PROTECT's flags say.
    #[inline]
    #[must_use]
    pub const fn protected(self, flags: u64) -> Self {
        let pp0 = (flags << 55) & PP0;
        let key_hi = (flags << 48) & KEY_HI;
        Self(self.0 & !PROTECTION | pp0 | key_hi | flags & (KEY_LO | N | PP))
    }

    /// Whether hardware has nothing more to tell: R and C are both here, or R is and no key may write to the
    /// page (pp0, pp = 011, 110, 111), so C cannot come.
    #[inline]
    #[must_use]
    pub const fn is_settled(self) -> bool {
        const READ_ONLY: u32 = 1 << 0b011 | 1 << 0b110 | 1 << 0b111;
        if self.0 & RC == RC {
            return true;
        }
        let pp = (self.0 & PP0) >> 61 | self.0 & PP;
        self.0 & R != 0 && READ_ONLY >> pp & 1 != 0
    }

    /// The same as what says so; none if hardware may have more to tell.
    #[inline]
    #[must_use]
    pub const fn settled(self) -> Option<SettledR> {
        if self.is_settled() {
            Some(SettledR(self))
        } else {
            None
        }
    }

    /// The dword that hardware shall walk for memory at `page`: the guest's protection and key, R and C, the
    /// host's real page, and M as its only attribute whatever the guest wanted (there is no other memory).
    #[inline]
    #[must_use]
    pub const fn real(self, v: GuestV, size: PageSize, page: HostReal, layout: Layout) -> RealR {
        // The LP bits of a large page lie below its RPN and are the guest's.
        let address = RPN & !(size.bytes() - 1);
        let r = self.0 & !address & !WIMG | page.raw() & address | M;
        RealR(layout.with_b(v, r))
    }
}

/// A guest view as it stands in its array: dword 1 as the guest knows it, and in the bit of it that no guest has whether the
/// slot is in `unsettled`. So whoever holds the slot knows that without a look at the bitmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View(u64);

impl View {
    /// What was read from the array.
    #[inline(always)]
    pub(super) const fn read(raw: u64) -> Self {
        Self(raw)
    }

    /// The view `r` of a slot that is in `unsettled` or not.
    #[inline(always)]
    pub(super) const fn new(r: GuestR, unsettled: bool) -> Self {
        Self(r.0 | if unsettled { TS } else { 0 })
    }

    /// The number.
    #[inline(always)]
    pub(super) const fn raw(self) -> u64 {
        self.0
    }

    /// Dword 1 as the guest knows it.
    #[inline(always)]
    pub(super) const fn guest(self) -> GuestR {
        GuestR::entered(self.0)
    }

    /// Whether the slot is in `unsettled`.
    #[inline(always)]
    pub(super) const fn is_unsettled(self) -> bool {
        self.0 & TS != 0
    }
}

/// Dword 0 as it stands in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealV(u64);

impl RealV {
    /// What was read from the table.
    #[inline]
    #[must_use]
    pub const fn read(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Whether there is an entry: VALID or ABSENT.
    #[inline]
    #[must_use]
    pub const fn is_entry(self) -> bool {
        self.0 & (VALID | ABSENT) != 0
    }

    /// Whether hardware may use the entry.
    #[inline]
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & VALID != 0
    }

    /// Whether the guest marked the entry as bolted.
    #[inline]
    #[must_use]
    pub const fn is_bolted(self) -> bool {
        self.0 & BOLTED != 0
    }

    /// Whether someone is changing the entry.
    #[inline]
    #[must_use]
    pub const fn is_locked(self) -> bool {
        self.0 & HVLOCK != 0
    }
}

/// Dword 1 as it stands in the table: the real page is the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealR(u64);

impl RealR {
    /// What was read from the table.
    #[inline]
    #[must_use]
    pub const fn read(raw: u64) -> Self {
        Self(raw)
    }

    /// The number.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The R and C that hardware has set.
    #[inline]
    #[must_use]
    pub const fn rc(self) -> Rc {
        Rc(self.0 & RC)
    }

    /// The bits that a guest view lacks, R and C among them.
    #[inline(always)]
    #[must_use]
    pub(super) const fn beyond(self, view: View) -> u64 {
        self.0 & !view.0
    }

    /// Byte 6 of the doubleword in memory, which R is a bit of, without R.
    #[inline]
    #[must_use]
    pub const fn unreferenced_byte(self) -> u8 {
        let [.., byte, _] = (self.0 & !R).to_be_bytes();
        byte
    }

    /// The same without C.
    #[inline]
    #[must_use]
    pub const fn unchanged(self) -> Self {
        Self(self.0 & !C)
    }

    /// The same with the protection and key of `view`.
    #[inline]
    #[must_use]
    pub const fn protected_as(self, view: GuestR) -> Self {
        Self(self.0 & !PROTECTION | view.0 & PROTECTION)
    }
}

/// R and C, as hardware has set them in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rc(u64);

impl Rc {
    /// Whether there is a bit here that `view` lacks.
    #[inline]
    #[must_use]
    pub const fn is_news_to(self, view: GuestR) -> bool {
        self.0 & !view.0 != 0
    }

    /// The bits, R 0x100 and C 0x80.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl Format {
    /// The format as masks.
    #[must_use]
    pub const fn layout(self) -> Layout {
        match self {
            Self::V2_07 => Layout {
                dword0: !0,
                b: 0,
                view: !TS,
                usual_v: !(HVLOCK | ABSENT),
                usual_r: !(WIMG | TS),
            },
            Self::V3_0 => Layout {
                dword0: V3_0_DWORD0,
                b: B,
                view: !TS,
                usual_v: V3_0_DWORD0 & !(HVLOCK | ABSENT),
                usual_r: !(WIMG | TS | B >> B_UP),
            },
        }
    }
}

/// A format as the masks that the bits of an entry go through on their way into the table and out of it: no branch
/// depends on the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What dword 0 of the table has of a guest's.
    dword0: u64,
    /// B as it stands in a guest's dword 0, if it stands in the table's dword 1.
    b: u64,
    /// What a guest knows of its view. The same in all formats; a mask that is at hand takes one instruction.
    view: u64,
    /// What the table has of a dword 0 that a guest gives with VALID, and of a dword 1 with the host's real page, if the
    /// entry is made for hardware to use.
    usual_v: u64,
    usual_r: u64,
}

impl Layout {
    /// The dword 0 that stands for `v` in the table, with `state` ([`VALID`] or [`ABSENT`]).
    #[inline(always)]
    #[must_use]
    pub const fn real_v(self, v: GuestV, state: u64) -> RealV {
        RealV((v.0 & !VALID | state) & self.dword0)
    }

    /// The dword 1 of an entry that hardware never walks: B where this format keeps it there, nothing else.
    #[inline(always)]
    #[must_use]
    pub const fn absent_r(self, v: GuestV) -> RealR {
        RealR(self.with_b(v, 0))
    }

    /// What the guest knows as dword 0 of an entry that stands in the table.
    #[inline(always)]
    #[must_use]
    pub const fn guest_v(self, v: RealV, r: RealR) -> GuestV {
        let entry = GuestV::entered(v.0 & self.dword0);
        GuestV(entry.0 | r.0 << B_UP & self.b)
    }

    /// The same for an entry that hardware may use and nobody has locked.
    #[inline(always)]
    #[must_use]
    pub(super) const fn valid_v(self, v: RealV, r: RealR) -> GuestV {
        GuestV(v.0 | r.0 << B_UP & self.b)
    }

    /// Dword 1 as the guest knows it.
    #[inline(always)]
    #[must_use]
    pub(super) const fn guest_r(self, view: View) -> GuestR {
        GuestR(view.0 & self.view)
    }

    /// The dword 0 that stands for a guest's raw one, which has VALID, if hardware is to use the entry. As
    /// [`Self::real_v`], with all masks in one.
    #[inline(always)]
    #[must_use]
    pub(super) const fn usual_v(self, v: u64) -> RealV {
        RealV(v & self.usual_v)
    }

    /// The dword 1 of that entry, from the guest's raw one with the host's page in the place of the guest's. As
    /// [`GuestR::real`].
    #[inline(always)]
    #[must_use]
    pub(super) const fn usual_r(self, v: u64, r: u64) -> RealR {
        RealR(r & self.usual_r | M | (v & self.b) >> B_UP)
    }

    #[inline(always)]
    const fn with_b(self, v: GuestV, r: u64) -> u64 {
        r & !(self.b >> B_UP) | (v.0 & self.b) >> B_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of Linux's linear map, 1T segment, 64K page (corpus, idle512).
    const V: GuestV = GuestV(0x4000_1234_5678_9095);
    const VIEW: GuestR = GuestR(0x0000_0000_0123_1196);

    #[test]
    fn both_formats_give_back_what_was_entered() {
        let [old, new] = [Format::V2_07, Format::V3_0].map(Format::layout);
        for layout in [old, new] {
            let size = PageSize::decode(V.0, VIEW.0).unwrap();
            let real = VIEW.real(V, size, HostReal::new(0x4000_0000), layout);
            let dword0 = layout.real_v(V, VALID);
            assert_eq!(layout.guest_v(dword0, real), V);
            assert_eq!(
                layout.guest_v(layout.real_v(V, ABSENT), layout.absent_r(V)),
                V
            );
        }
        assert_eq!(new.real_v(V, VALID).raw(), 0x0000_1234_5678_9095);
        assert_eq!(new.absent_r(V).raw(), 1 << 58);
        assert_eq!(old.absent_r(V).raw(), 0);
    }

    #[test]
    fn a_real_dword_has_the_hosts_page_and_the_guests_rights() {
        let size = PageSize::decode(V.0, VIEW.0).unwrap();
        assert_eq!(size, PageSize::K64);
        assert_eq!(VIEW.page(size), GuestReal::new(0x0123_0000));
        let real = VIEW.real(
            V,
            size,
            HostReal::new(0x7_4000_0000),
            Format::V2_07.layout(),
        );
        assert_eq!(real.raw(), 0x7_4000_1196);
        // WIMG that memory does not have is not passed on; keys and protection are.
        let odd = GuestR(VIEW.0 | 0x28 | PP0 | KEY_HI | KEY_LO);
        let real = odd.real(
            V,
            size,
            HostReal::new(0x7_4000_0000),
            Format::V2_07.layout(),
        );
        assert_eq!(real.raw() & WIMG, M);
        assert_eq!(real.raw() & PROTECTION, odd.0 & PROTECTION);
    }

    #[test]
    fn an_entry_is_settled_when_hardware_has_nothing_to_add() {
        let pp = |pp0: u64, low: u64| GuestR(pp0 << 63 | low);
        for (pp0, low, read_only) in [
            (0, 0, false),
            (0, 1, false),
            (0, 2, false),
            (0, 3, true),
            (1, 2, true),
            (1, 3, true),
        ] {
            let none = pp(pp0, low);
            assert!(!none.is_settled());
            assert!(!none.with(Rc(C)).is_settled());
            assert_eq!(
                none.with(Rc(R)).is_settled(),
                read_only,
                "pp0 {pp0} pp {low}"
            );
            assert!(none.with(Rc(R | C)).is_settled());
        }
    }

    #[test]
    fn r_stands_in_byte_6_and_c_in_byte_7() {
        for raw in [0, !0, 0xfe00, 0x1ff80] {
            let real = RealR(raw);
            let mut bytes = raw.to_be_bytes();
            bytes[6] = real.unreferenced_byte();
            assert_eq!(
                u64::from_be_bytes(bytes),
                raw & !0x100,
                "byte 14 of the entry"
            );
            assert_eq!(real.unchanged().raw(), raw & !0x80);
            assert_eq!(
                (raw ^ real.unchanged().raw()) & !0xff,
                0,
                "byte 15 of the entry"
            );
        }
    }

    #[test]
    fn h_protect_moves_the_flags_to_their_bits() {
        // pp0 is bit 8 of the flags, the key bits 13:9.
        let all = GuestR(0).protected(0x3f07);
        assert_eq!(all.raw(), PROTECTION);
        assert_eq!(GuestR(!0).protected(0).raw(), !PROTECTION);
        assert_eq!(GuestR(0).protected(1 << 8).raw(), PP0);
        assert_eq!(GuestR(0).protected(1 << 13).raw(), 1 << 61);
        assert_eq!(GuestR(0).protected(1 << 9).raw(), 1 << 9);
    }
}
