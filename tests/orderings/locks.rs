//! Entries that someone holds the lock of, and slots that someone has claimed.

use crate::common::stream::{Header, decode, said};
use crate::common::world::{BUFFER_SIZE, CLIENT, World};
use crate::{ENTRIES, EXACT, FORMATS, HVLOCK, R, VALID, enter, read_entry};
use realhpt::addr::EffAddr;
use realhpt::hcall::abi::{self, Status};
use realhpt::sync::Ordering;
use realhpt::table::Format;
use realhpt::table::hash::Segment;
use realhpt::table::search::Found;

/// Someone holds the lock of an entry: a reader gives way and loses nothing.
#[test]
fn a_held_lock_does_not_hold_a_reader() {
    for format in FORMATS {
        let world = World::leaked(18, format);
        let reader = world.open(CLIENT, 0, 0);
        for (slot, v, r, _) in ENTRIES {
            enter(&world, slot, v, r);
        }
        let (slot, v, r, _) = ENTRIES[1];
        let dword0 = &world.client().table().hpt()[2 * slot as usize];
        let unlocked = world.real(slot).0;
        let lock = || dword0.set_bits(HVLOCK);
        let unlock = || dword0.store(unlocked, Ordering::Relaxed);

        lock();
        let mut before = Vec::new();
        for _ in 0..20 {
            let read = world.read(reader, BUFFER_SIZE).unwrap();
            assert!(read.flags.is_empty(), "it is not the end");
            let records = decode(&read.bytes, Header::Big).unwrap();
            before.extend(said(&records));
        }
        assert_eq!(
            before.last().map(|said| said.0),
            Some(slot - 1),
            "everything before it is there"
        );
        unlock();
        let rest: Vec<_> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
        assert_eq!(rest.first(), Some(&(slot, Some((v, r)))));
        assert_eq!(before.len() + rest.len(), 1 << 14);

        // A later pass: R and C are news, the entry is locked when it is looked at.
        world.touch(slot, R);
        lock();
        let read = world.read(reader, BUFFER_SIZE).unwrap();
        assert!(
            !read.flags.contains(abi::ReadFlags::CLEAN),
            "there is news that could not be had"
        );
        assert!(read.bytes.is_empty());
        unlock();
        let mut told = Vec::new();
        for _ in 0..3 {
            told.extend(said(&world.pass(reader, BUFFER_SIZE).records));
        }
        assert_eq!(told, [(slot, Some((v, r | R)))], "once");
        assert!(world.pass(reader, BUFFER_SIZE).clean);
    }
}

#[test]
fn a_locked_or_claimed_slot_is_taken_and_found_locked() {
    let world = World::leaked(18, Format::V3_0);
    let segment = Segment::one_terabyte(0x1234, 12);
    let at = EffAddr::new(0x5000);
    let slot = 8 * (segment.hash(at) & 0x7ff) + 3;
    let found = || world.client().table().find(segment, at);
    assert_eq!(found(), Found::Nothing);
    enter(&world, slot, segment.avpn(at) | VALID, 0x50_0012);
    assert!(matches!(found(), Found::Entry { ptex, valid: true, .. } if ptex.raw() == slot));
    let dword0 = &world.client().table().hpt()[2 * slot as usize];
    let unlocked = world.real(slot).0;
    // As it stands while H_PROTECT flushes it: whoever faults on it now tries again.
    dword0.store(unlocked & !VALID | HVLOCK, Ordering::Relaxed);
    assert_eq!(found(), Found::Locked);
    let again = world.call(CLIENT, abi::H_ENTER, &[EXACT, slot, 0x81, 0x50_0012]);
    assert_eq!(again.status(), Status::PtegFull);
    let beside = world
        .call(CLIENT, abi::H_ENTER, &[0, slot, 0x81, 0x50_0012])
        .ok()[0];
    assert_eq!(beside, slot & !7);
    dword0.store(unlocked, Ordering::Relaxed);
    assert!(matches!(found(), Found::Entry { .. }));

    // Claimed and not published yet: there is no entry for anyone, and the slot is not free.
    let table = world.client().table();
    let ptex = table.order().ptex(0x3000).unwrap();
    let _claimed = table.slot(ptex).unwrap().claim().unwrap();
    assert_eq!(
        world.call(CLIENT, abi::H_REMOVE, &[0, 0x3000, 0]).status(),
        Status::NotFound
    );
    assert_eq!(
        world.call(CLIENT, abi::H_PROTECT, &[0, 0x3000, 0]).status(),
        Status::NotFound
    );
    assert_eq!(read_entry(&world, 0x3000), (0, 0));
    let exact = world.call(CLIENT, abi::H_ENTER, &[EXACT, 0x3000, 0x81, 0x50_0012]);
    assert_eq!(exact.status(), Status::PtegFull);
    assert_eq!(world.real(0x3000), (0, 0), "nobody locked it");
}
