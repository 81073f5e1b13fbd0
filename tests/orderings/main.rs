//! Holds the engine to the orderings of DESIGN section 5, as far as one processor shows them.
//!
//! * What is asked of hardware, in which order: `ptesync; tlbie ...; eieio; tlbsync; ptesync` around an
//!   invalidation, with the right RB; `eieio` between the doublewords of a publication and `ptesync` after it;
//!   one sequence for a bulk or block remove; a byte store and a `tlbie` where R goes; none for an entry that
//!   hardware never saw.
//! * What stands in the table at each of these moments ([`common::probe`]): dword 1 before dword 0, `unsettled` before
//!   VALID, VALID gone before the `tlbie`, nothing of a host address after.
//! * That R and C which hardware sets at the last moment are never lost: they come with the answer, the guest's
//!   view and the stream.
//! * That an entry someone holds the lock of holds up nobody but those who must wait.
//!
//! What two processors do to each other is loom's to show.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod block;
mod clear;
#[path = "../common/mod.rs"]
mod common;
mod locks;
mod moments;
mod sequences;

use common::world::{CLIENT, CLIENT_HOST, World};
use realhpt::addr::Lpid;
use realhpt::arch::Machine;
use realhpt::hcall::abi;
use realhpt::table::Format;

const FORMATS: [Format; 2] = [Format::V2_07, Format::V3_0];

const LPID: Lpid = Lpid::new(CLIENT);

const EXACT: u64 = 1 << 39;

const VALID: u64 = 1;

const ABSENT: u64 = 0x20;

const HVLOCK: u64 = 0x40;

const R: u64 = 0x100;

const C: u64 = 0x80;

const M: u64 = 0x10;

/// A guest address without memory.
const NOWHERE: u64 = 0x70_0000_0000;

/// Slot, dword 0, dword 1 without R and C, and RB of the tlbie: made from virtual addresses by the layout of RB
/// in the ISA alone.
const ENTRIES: [(u64, u64, u64, u64); 4] = [
    // 4K in a 256M segment, in the primary and in the secondary group.
    (0x2223, 0x1234_5678_9a81, 0x50_0012, 0x1234_5678_9abc_d000),
    (0x1ddb, 0x1234_5678_9a83, 0x50_1012, 0x1234_5678_9abc_d000),
    // 64K.
    (0x29ab, 0x1234_5678_9a85, 0xabc_1012, 0x1234_5678_9abc_10c1),
    // 16M in a 1T segment: the hash of VSID 1 and page 0 is 1 ^ 1 << 25.
    (
        0x000b,
        0x4000_0000_0100_0005,
        0x100_0012,
        0x0000_0100_0000_0101,
    ),
];

fn enter<M: Machine>(world: &World<'_, M>, slot: u64, v: u64, r: u64) {
    assert_eq!(
        world.call(CLIENT, abi::H_ENTER, &[EXACT, slot, v, r]).ok()[0],
        slot
    );
}

fn read_entry<M: Machine>(world: &World<'_, M>, slot: u64) -> (u64, u64) {
    let [v, r, ..] = world.call(CLIENT, abi::H_READ, &[0, slot]).ok();
    (v, r)
}

#[test]
fn the_real_entry_has_the_format_of_its_processor() {
    // 1T and 256M segments; the guest's own WIMG is shown to it and not given to hardware.
    let v = 0x4000_1234_5678_9085;
    let r = 0x0012_1000 | 0x2a | 1 << 63 | 0xa00 | 2;
    let host = (CLIENT_HOST + 0x12_0000) | 0x1000;
    let real = 1 << 63 | host | 0xa00 | M | 2;
    for (format, dword0, dword1) in [
        (Format::V2_07, v, real),
        (Format::V3_0, 0x0000_1234_5678_9085, real | 1 << 58),
    ] {
        let world = World::leaked(18, format);
        enter(&world, 0x123, v, r);
        assert_eq!(world.real(0x123), (dword0, dword1), "{format:?}");
        assert_eq!(read_entry(&world, 0x123), (v, r));
        enter(&world, 0x124, v & !(1 << 62), r);
        assert_eq!(
            world.real(0x124),
            (dword0 & !(1 << 62), dword1 & !(1 << 58)),
            "{format:?}: 256M"
        );
        // A page number that reaches where ISA 3.0 has B does not become one.
        enter(&world, 0x125, v, r | 3 << 58);
        assert_eq!(
            world.real(0x125).1 >> 58 & 3,
            u64::from(format == Format::V3_0),
            "{format:?}"
        );
        assert_eq!(read_entry(&world, 0x125), (v, r | 3 << 58));
    }
}
