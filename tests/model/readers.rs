//! Cases between readers that random sequences seldom meet.

use crate::common::stream::{Image, encode, records_of, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, World};
use crate::entry::{C, FORMATS, R, SLOTS};
use realhpt::hcall::abi::{self, ReadFlags, Status};

const ENTRY: (u64, u64) = (0x4000_0045_6789_0081, 0x1012);

/// A reader in its first pass comes upon an R or C that another, which was there before, has not been told of:
/// merged into the guest's view it can be seen no more, so the other has to be told.
#[test]
fn what_a_first_pass_merges_the_others_are_told() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        world
            .call(CLIENT, abi::H_ENTER, &[1 << 39, 77, ENTRY.0, ENTRY.1])
            .ok();
        let early = world.open(CLIENT, 0, 0);
        let _ = world.pass(early, BUFFER_SIZE);
        // Both bits at once: afterwards the entry is settled, and nobody looks at it again.
        world.touch(77, R | C);
        let first = world.pass(world.open(CLIENT, 0, 0), BUFFER_SIZE);
        let seen = Some((ENTRY.0, ENTRY.1 | R | C));
        assert_eq!(said(&first.records).nth(77), Some((77, seen)));
        let later = world.pass(early, BUFFER_SIZE);
        assert!(said(&later.records).eq([(77, seen)]));
        assert!(world.pass(early, BUFFER_SIZE).clean);
    }
}

/// A later pass takes several calls and finds nothing; meanwhile a slot changes that it has passed already. The
/// pass is over then and has had no record, and it is not clean (KVM says 0 bytes, QEMU takes that for clean).
#[test]
fn a_pass_that_found_nothing_is_not_clean_while_something_is_due() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        // So many entries to look at that no call does all.
        let image: Image = (0..SLOTS).map(|slot| (slot, ENTRY)).collect();
        world.restore(CLIENT, &encode(&records_of(&image, SLOTS)));
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        let first = world.read(reader, BUFFER_SIZE).unwrap();
        assert_eq!((first.bytes.len(), first.flags), (0, ReadFlags::empty()));
        world.call(CLIENT, abi::H_PROTECT, &[3, 0, 0]).ok();
        let rest = world.pass(reader, BUFFER_SIZE);
        assert_eq!(
            (rest.records.len(), rest.clean, rest.pending),
            (0, false, 1)
        );
        let next = world.pass(reader, BUFFER_SIZE);
        assert!(said(&next.records).eq([(0, Some((ENTRY.0, ENTRY.1 | 3)))]));
        assert!(world.pass(reader, BUFFER_SIZE).clean);
    }
}

/// A write that changes more blocks of the table than one read shares out: what is pending is all of it, at once.
#[test]
fn what_a_write_changes_is_pending_when_it_returns() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        let slots = (0..4).flat_map(|block| (0..3).map(move |slot| block * 4096 + slot * 100));
        let image: Image = slots.map(|slot| (slot, ENTRY)).collect();
        world.restore(CLIENT, &encode(&records_of(&image, SLOTS)));
        for left in (0..12).rev() {
            assert_eq!(world.read(reader, 24).unwrap().pending, left);
        }
    }
}

/// R and C that hardware has set and nobody has looked for: a pause does, so that all of them are pending when it returns.
#[test]
fn what_hardware_set_is_pending_when_a_pause_returns() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        let slots = (0..4).flat_map(|block| (0..3).map(move |slot| block * 4096 + slot * 100));
        for slot in slots.clone() {
            world
                .call(CLIENT, abi::H_ENTER, &[1 << 39, slot, ENTRY.0, ENTRY.1])
                .ok();
        }
        let readers = [world.open(CLIENT, 0, 0), world.open(CLIENT, 0, 0)];
        for reader in readers {
            let _ = world.pass(reader, BUFFER_SIZE);
        }
        for slot in slots {
            world.touch(slot, R);
        }
        assert_eq!(world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
        let stat = world.call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)]);
        assert_eq!(stat.ok()[6], 2 * 12);
        for reader in readers {
            for left in (0..12).rev() {
                assert_eq!(world.read(reader, 24).unwrap().pending, left);
            }
        }
    }
}
