//! The slot protocol: who enters, removes, changes and looks at one slot or group at a time.

use loom::thread;
use realhpt::addr::EffAddr;
use realhpt::hcall::abi::{self, Flags, H_BULK_REMOVE, H_CLEAR_HPT, Status};
use realhpt::lpar::fault::{Answer, Fault, Kind, NO_ENTRY};
use realhpt::table::hash::Segment;

use crate::world::{C, R, SLOT, SLOTS, World, absent, bolted, entry, explore, status};

#[test]
fn two_enter_into_the_last_slot_of_a_group() {
    explore(3, || {
        let world = World::new();
        for slot in 0..7 {
            let (v, r) = entry(slot + 1);
            world.make(slot, (v, r));
        }
        let enter = move |page| {
            let (v, r) = entry(page);
            world.enter(Flags::empty(), 0, (v, r))
        };
        let other = thread::spawn(move || enter(20));
        let here = enter(21);
        let there = other.join().unwrap();
        let statuses = [status(&here), status(&there)];
        assert!(statuses.contains(&Status::Success) && statuses.contains(&Status::PtegFull));
        let winner = if status(&here) == Status::Success {
            entry(21)
        } else {
            entry(20)
        };
        assert_eq!(world.table()[7], Some(winner));
    });
}

/// There is a slot for each: that one of them was quicker is no full group.
#[test]
fn two_enter_into_a_group_with_room() {
    explore(3, || {
        let world = World::new();
        let enter = move |page| {
            let (v, r) = entry(page);
            world.enter(Flags::empty(), 0, (v, r))
        };
        let other = thread::spawn(move || enter(20));
        let here = enter(21);
        let there = other.join().unwrap();
        assert_eq!([status(&here), status(&there)], [Status::Success; 2]);
        let mut slots = [here.argument(0), there.argument(0)];
        assert_eq!(world.table()[slots[0] as usize], Some(entry(21)));
        assert_eq!(world.table()[slots[1] as usize], Some(entry(20)));
        slots.sort();
        assert_eq!(slots, [0, 1]);
    });
}

#[test]
fn remove_of_a_slot_that_is_being_entered() {
    explore(3, || {
        let world = World::new();
        let (v, r) = entry(1);
        let other = thread::spawn(move || world.remove(3));
        world.make(3, (v, r));
        let removed = other.join().unwrap();
        match status(&removed) {
            Status::Success => {
                assert_eq!((removed.argument(0), removed.argument(1)), (v, r));
                assert_eq!(world.table()[3], None);
                world.make(3, (v, r));
            }
            status => {
                assert_eq!(status, Status::NotFound);
                assert_eq!(world.table()[3], Some((v, r)));
            }
        }
    });
}

#[test]
fn remove_against_protect_on_one_slot() {
    explore(3, || {
        let world = World::new();
        let (v, r) = entry(1);
        world.make(3, (v, r));
        let other = thread::spawn(move || world.protect(3, 3));
        let removed = world.remove(3);
        let protected = other.join().unwrap();
        assert_eq!(status(&removed), Status::Success);
        let expected = match status(&protected) {
            Status::Success => r | 3,
            _ => r,
        };
        assert_eq!((removed.argument(0), removed.argument(1)), (v, expected));
        assert_eq!(world.table()[3], None);
    });
}

/// H_READ beside the removal of an entry and the entry of another into its slot: it shows one, the other or
/// none, never a half of each.
#[test]
fn read_against_remove_and_enter() {
    explore(3, || {
        let world = World::new();
        world.make(SLOT, entry(1));
        let (old, new) = (entry(1), entry(2));
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            world.make(3, new);
        });
        let seen = world.call(abi::H_READ, &[0, 3]);
        let seen = (seen.argument(0), seen.argument(1));
        assert!([(0, 0), old, new].contains(&seen), "{seen:x?}");
        other.join().unwrap();
    });
}

/// The slot is free again when there is nothing left in it that the last entry's owner still has to take away.
#[test]
fn enter_into_a_slot_that_is_being_removed() {
    for old in [entry(1), absent()] {
        explore(3, move || {
            let world = World::new();
            world.make(SLOT, old);
            let other = thread::spawn(move || world.enter(Flags::EXACT, SLOT, entry(2)));
            let removed = world.remove(SLOT);
            let entered = other.join().unwrap();
            assert_eq!(status(&removed), Status::Success);
            assert_eq!((removed.argument(0), removed.argument(1)), old);
            let expected = match status(&entered) {
                Status::Success => Some(entry(2)),
                status => {
                    assert_eq!(status, Status::PtegFull);
                    None
                }
            };
            assert_eq!(world.table()[3], expected);
        });
    }
}

/// Entries are removed by two at once: each is given to one of them.
#[test]
fn remove_against_remove() {
    for old in [entry(1), absent()] {
        explore(3, move || {
            let world = World::new();
            world.make(SLOT, old);
            let other = thread::spawn(move || world.remove(SLOT));
            let statuses = [status(&world.remove(SLOT)), status(&other.join().unwrap())];
            assert!(
                statuses.contains(&Status::Success) && statuses.contains(&Status::NotFound),
                "{statuses:?}"
            );
            assert_eq!(world.table(), [None; SLOTS]);
        });
    }
}

/// Removes two slots in this order; whether each was there.
fn remove_both(world: World, [first, second]: [u64; 2]) -> [bool; 2] {
    let request = |slot: u64| 1 << 62 | slot;
    let frame = world.call(
        H_BULK_REMOVE,
        &[request(first), 0, request(second), 0, 3 << 62, 0, 0, 0],
    );
    assert_eq!(status(&frame), Status::Success);
    [0, 2].map(|at| {
        let answer = frame.argument(at);
        assert_eq!(answer >> 62, 2, "it was answered");
        let gone = answer >> 60 & 3 == 0;
        // R and C of the entry, where there was one.
        assert_eq!(answer >> 51 & (R | C), if gone { R | C } else { 0 });
        gone
    })
}

/// Two bulk removals of the same two slots, the other way round: neither waits for the other while it holds a
/// slot, and each entry goes once. (Two preemptions: three take minutes.)
#[test]
fn bulk_removals_with_crossed_slots() {
    explore(2, || {
        let world = World::new();
        world.make(3, entry(1));
        world.make(4, entry(2));
        let other = thread::spawn(move || remove_both(world, [4, 3]));
        let [here3, here4] = remove_both(world, [3, 4]);
        let [there4, there3] = other.join().unwrap();
        assert!(here3 != there3 && here4 != there4);
        assert_eq!(world.table(), [None; SLOTS]);
    });
}

/// The same for one that waits for a slot whose holder waits for nothing, and one entry that is absent.
#[test]
fn bulk_removal_against_protect() {
    for second in [entry(2), absent()] {
        explore(2, move || {
            let world = World::new();
            world.make(3, entry(1));
            world.make(4, second);
            let other = thread::spawn(move || status(&world.protect(4, 3)));
            assert_eq!(remove_both(world, [3, 4]), [true; 2]);
            let _ = other.join().unwrap();
            assert_eq!(world.table(), [None; SLOTS]);
        });
    }
}

/// H_CLEAR_HPT beside an H_ENTER: what was there before it began is gone, what was entered is whole or gone.
#[test]
fn clear_against_enter() {
    explore(2, || {
        let world = World::new();
        world.make(SLOT, bolted(entry(1)));
        let other = thread::spawn(move || world.make(4, entry(2)));
        while status(&world.call(H_CLEAR_HPT, &[])) != Status::Success {
            thread::yield_now();
        }
        other.join().unwrap();
        let table = world.table();
        assert_eq!(table[3], None);
        assert!([None, Some(entry(2))].contains(&table[4]));
    });
}

/// A guest's access meets an entry whose VALID another vCPU has cleared for a moment: it is tried again, and the
/// guest is told of no fault.
#[test]
fn a_fault_beside_a_change_is_tried_again() {
    for clear in [None, Some(abi::H_CLEAR_MOD), Some(abi::H_CLEAR_REF)] {
        explore(3, move || {
            let world = World::new();
            let fault = Fault {
                kind: Kind::Data,
                at: EffAddr::new(1 << 12),
                status: NO_ENTRY,
                segment: Segment::from_slb(1 << 12),
            };
            world.make(SLOT, entry(1));
            let other = thread::spawn(move || match clear {
                None => world.protect(SLOT, 3),
                Some(token) => world.call(token, &[0, SLOT]),
            });
            assert_eq!(fault.answer(world.partition().table()), Answer::Retry);
            assert_eq!(status(&other.join().unwrap()), Status::Success);
        });
    }
}
