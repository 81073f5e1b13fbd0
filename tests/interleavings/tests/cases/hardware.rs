//! R and C: hardware sets them beside the calls that read, clear and carry them.

use loom::thread;
use realhpt::hcall::Frame;
use realhpt::hcall::abi::{self, H_BULK_REMOVE, H_CLEAR_MOD, H_CLEAR_REF, H_HPT_STAT, Status};

use crate::world::{C, R, SLOT, SLOTS, Spec, World, entry, explore, status, unused};

/// Hardware sets C in an entry whose R is being cleared: the store of R's byte does not put C's back.
#[test]
fn c_set_while_r_is_cleared_is_not_lost() {
    explore(2, || {
        let world = World::new();
        let table = world.partition().table();
        let (v, r) = entry(1);
        let referenced = r & !0x80;
        world.make(3, (v, referenced));
        let handle = world.open();
        let mut copy = [None; SLOTS];
        world.pass(handle, 1, &mut copy);
        let other = thread::spawn(move || {
            assert_eq!(status(&world.call(H_CLEAR_REF, &[0, 3])), Status::Success);
        });
        table.hpt()[7].set_bits(0x80);
        other.join().unwrap();
        world.passes(handle, 1, &mut copy);
        assert_eq!(copy[3], Some((v, r & !0x100)));
    });
}

/// A settled entry's R or C is cleared beside a reader, and comes back when everything has been said: the reader
/// looks at the entry again.
#[test]
fn a_bit_that_was_cleared_and_comes_back_is_seen() {
    for (token, bit) in [(H_CLEAR_REF, 0x100), (H_CLEAR_MOD, 0x80)] {
        explore(2, move || {
            let world = World::new();
            let table = world.partition().table();
            world.make(SLOT, entry(1));
            let handle = world.open();
            let mut copy = [None; SLOTS];
            world.pass(handle, 1, &mut copy);
            let other = thread::spawn(move || {
                assert_eq!(status(&world.call(token, &[0, 3])), Status::Success);
            });
            world.pass(handle, 1, &mut copy);
            other.join().unwrap();
            world.passes(handle, 1, &mut copy);
            let (v, r) = entry(1);
            assert_eq!(copy[3], Some((v, r & !bit)));
            table.hpt()[7].set_bits(bit);
            world.passes(handle, 1, &mut copy);
            assert_eq!(copy[3], Some((v, r)));
        });
    }
}

/// The slot is removed and entered again while a reader merges R and C that hardware has set: the new entry's
/// R and C, set later, are not lost.
#[test]
fn unsettled_is_not_lost_when_a_slot_is_used_again() {
    explore(2, || {
        let world = World::new();
        let table = world.partition().table();
        let (v, r) = entry(1);
        let bare = r & !0x180;
        world.make(3, (v, bare));
        let handle = world.open();
        let mut copy = [None; SLOTS];
        world.pass(handle, 1, &mut copy);
        table.hpt()[7].set_bits(0x180);
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            world.make(3, (v, bare));
        });
        world.pass(handle, 1, &mut copy);
        other.join().unwrap();
        table.hpt()[7].set_bits(0x180);
        world.passes(handle, 1, &mut copy);
        assert_eq!(copy[3], Some((v, r)));
    });
}

/// The last unsettled slot of a word goes while another one of the word comes: the summary says that there is one.
#[test]
fn unsettled_comes_beside_the_last_one_that_goes() {
    explore(2, || {
        let world = World::new();
        world.make(3, unused(1));
        let other = thread::spawn(move || world.make(4, unused(2)));
        assert_eq!(status(&world.remove(3)), Status::Success);
        other.join().unwrap();
        let table = world.partition().table();
        assert!(table.unsettled().contains(4));
        assert_eq!(table.unsettled().block(0), 1, "the word is found");
        assert!(!table.is_quiet(), "and the block is counted");
    });
}

/// A guest stores to a page while a vCPU calls about its entry. `check` is given what the call gave, whether the
/// store was made (else there was a fault), and dword 1 as the guest has it when all is flushed.
fn store_against(
    call: impl Fn(World) -> Frame + Send + Sync + Copy + 'static,
    check: impl Fn(&Frame, bool, Option<u64>) + Send + Sync + Copy + 'static,
) {
    explore(3, move || {
        let world = World::made(Spec {
            tlb: true,
            ..Spec::default()
        });
        world.make(SLOT, unused(1));
        let other = thread::spawn(move || world.guest_stores());
        let frame = call(world);
        let stored = other.join().unwrap();
        while world.partition().pause(&world.0.machine, 0).is_err() {}
        let after = world.table()[3].map(|(_, r)| r);
        check(&frame, stored, after);
    });
}

fn rc(stored: bool) -> u64 {
    if stored { R | C } else { 0 }
}

#[test]
fn r_and_c_set_between_invalidate_and_flush_are_given_back() {
    store_against(
        |world| world.remove(SLOT),
        |frame, stored, after| {
            assert_eq!(frame.argument(1) & (R | C), rc(stored));
            assert_eq!(after, None);
        },
    );
    store_against(
        |world| world.call(H_BULK_REMOVE, &[1 << 62 | SLOT, 0, 3 << 62]),
        |frame, stored, after| {
            assert_eq!(frame.argument(0) >> 51 & (R | C), rc(stored));
            assert_eq!(after, None);
        },
    );
}

#[test]
fn r_and_c_set_beside_a_change_stay() {
    store_against(
        |world| world.protect(SLOT, 3),
        |_, stored, after| assert_eq!(after, Some(unused(1).1 | 3 | rc(stored))),
    );
    // What the call gave was cleared; what came later is there.
    store_against(
        |world| world.call(H_CLEAR_MOD, &[0, SLOT]),
        |frame, stored, after| {
            let both = frame.argument(0) & C | after.unwrap();
            assert_eq!(both & (R | C), rc(stored));
        },
    );
    store_against(
        |world| world.call(H_CLEAR_REF, &[0, SLOT]),
        |frame, stored, after| {
            let both = frame.argument(0) & R | after.unwrap();
            assert_eq!(both & (R | C), rc(stored));
        },
    );
}

/// Which of the results of H_HPT_STAT says how many slots are pending.
const PENDING: usize = 6;

/// A partition is paused while one of its vCPUs is in guest state, and stores: every pass begun after the pause is
/// exact, so a clean one says all there is to say.
#[test]
fn a_pass_after_a_pause_is_exact() {
    explore(2, || {
        let world = World::made(Spec {
            tlb: true,
            ..Spec::default()
        });
        world.make(SLOT, unused(1));
        let handle = world.open();
        let mut copy = [None; SLOTS];
        world.passes(handle, 1, &mut copy);
        let control = world.partition().control();
        control.start(crate::control::START, || Ok(())).unwrap();
        let other = thread::spawn(move || {
            let runs = control.dispatch(0, 1).is_some();
            let stored = runs && world.guest_stores();
            if runs {
                control.leave(0, realhpt::lpar::vcpus::Left::Preempted);
            }
            stored
        });
        while world.partition().pause(&world.0.machine, 0).is_err() {
            thread::yield_now();
        }
        let pending = world.call(H_HPT_STAT, &[abi::LPAR_SELF]).argument(PENDING);
        let clean = world.pass(handle, 1, &mut copy);
        let stored = other.join().unwrap();
        assert_eq!(pending, u64::from(stored), "the count is exact, too");
        assert_eq!(clean, !stored);
        assert_eq!(copy[3], Some((unused(1).0, unused(1).1 | rc(stored))));
        assert!(world.pass(handle, 1, &mut copy));
    });
}
