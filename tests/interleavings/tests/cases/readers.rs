//! Readers beside changes, and beside each other.

use loom::thread;
use realhpt::hcall::abi::{H_CLEAR_MOD, H_CLEAR_REF, ReadFlags, Status};

use crate::world::{BUFFER, ONE_ENTRY, SLOTS, World, absent, entry, explore, status, unused};

/// A reader opens while a change is in flight: what it has read when nothing happens any more is the table.
fn open_against(change: impl Fn(World) + Send + Sync + Copy + 'static, before: fn(World)) {
    explore(2, move || {
        let world = World::new();
        before(world);
        let other = thread::spawn(move || change(world));
        let handle = world.open();
        let mut copy = [None; SLOTS];
        world.pass(handle, 1, &mut copy);
        other.join().unwrap();
        world.passes(handle, 1, &mut copy);
        assert_eq!(copy, world.table());
    });
}

fn one_entry(world: World) {
    world.make(3, entry(1));
}

fn one_absent_entry(world: World) {
    world.make(3, absent());
}

#[test]
fn reader_opens_against_enter() {
    open_against(one_entry, |_| {});
}

#[test]
fn reader_opens_against_enter_of_an_absent_entry() {
    open_against(one_absent_entry, |_| {});
}

#[test]
fn reader_opens_against_remove() {
    open_against(
        |world| {
            let _ = world.remove(3);
        },
        one_entry,
    );
}

#[test]
fn reader_opens_against_remove_of_an_absent_entry() {
    open_against(
        |world| {
            let _ = world.remove(3);
        },
        one_absent_entry,
    );
}

#[test]
fn reader_opens_against_protect() {
    open_against(
        |world| {
            let _ = world.protect(3, 3);
        },
        one_entry,
    );
}

#[test]
fn reader_opens_against_protect_of_an_absent_entry() {
    open_against(
        |world| {
            let _ = world.protect(3, 3);
        },
        one_absent_entry,
    );
}

#[test]
fn reader_opens_against_clear_ref() {
    for before in [one_entry, one_absent_entry] {
        open_against(
            |world| {
                let _ = world.call(H_CLEAR_REF, &[0, 3]);
            },
            before,
        );
    }
}

#[test]
fn reader_opens_against_clear_mod() {
    for before in [one_entry, one_absent_entry] {
        open_against(
            |world| {
                let _ = world.call(H_CLEAR_MOD, &[0, 3]);
            },
            before,
        );
    }
}

/// Two readers share out one change: whoever calls its lap clean has seen it.
#[test]
fn two_readers_both_see_a_change() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let handles = [world.open(), world.open()];
        let mut copies = [[None; SLOTS]; 2];
        world.pass(handles[0], 1, &mut copies[0]);
        world.pass(handles[1], 2, &mut copies[1]);
        assert_eq!(status(&world.remove(3)), Status::Success);
        let [mut first, mut second] = copies;
        let other = thread::spawn(move || {
            while !world.pass(handles[0], 1, &mut first) {}
            first
        });
        while !world.pass(handles[1], 2, &mut second) {}
        assert_eq!(second, world.table());
        assert_eq!(other.join().unwrap(), world.table());
    });
}

/// What a pass shows of a slot was true at some time.
#[test]
fn stream_against_remove_and_enter() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let (old, new) = (entry(1), entry(2));
        let handle = world.open();
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            world.make(3, new);
        });
        let mut copy = [None; SLOTS];
        world.pass(handle, 1, &mut copy);
        assert!(
            [None, Some(old), Some(new)].contains(&copy[3]),
            "{:x?}",
            copy[3]
        );
        other.join().unwrap();
        world.passes(handle, 1, &mut copy);
        assert_eq!(copy[3], Some(new));
    });
}

/// A restore beside a reader's first pass: each slot is shown as it was or as it is made, and in the end as it is made.
fn restored_beside(preemptions: usize, made: &'static [(u64, u64)], before: Option<(u64, u64)>) {
    explore(preemptions, move || {
        let world = World::new();
        if let Some(before) = before {
            world.make(3, before);
        }
        let handle = world.open();
        let writer = world.open_to_write();
        let other = thread::spawn(move || world.write(writer, 3, made));
        let mut copy = [None; SLOTS];
        world.pass(handle, 1, &mut copy);
        assert!(
            [None, before, Some(made[0])].contains(&copy[3]),
            "{copy:x?}"
        );
        other.join().unwrap();
        world.passes(handle, 1, &mut copy);
        assert_eq!(copy, world.table());
        assert!(
            made.iter()
                .zip(&copy[3..])
                .all(|(&made, &shown)| shown == Some(made))
        );
    });
}

#[test]
fn an_entry_is_restored_beside_a_reader() {
    static MADE: [(u64, u64); 1] = [entry(1)];
    restored_beside(2, &MADE, None);
    restored_beside(2, &MADE, Some(entry(2)));
}

#[test]
fn a_run_is_restored_beside_a_reader() {
    static MADE: [(u64, u64); 2] = [entry(1), unused(2)];
    restored_beside(2, &MADE, None);
    restored_beside(1, &MADE, Some(unused(3)));
}

#[test]
fn reader_opens_against_a_restore() {
    static MADE: [(u64, u64); 2] = [entry(1), entry(2)];
    open_against(|world| world.write(world.open_to_write(), 3, &MADE), |_| {});
}

/// Nothing is flushed for an absent entry, so nothing but a fence of its own stands before the look for readers.
#[test]
fn reader_opens_against_a_restore_over_an_absent_entry() {
    open_against(
        |world| world.invalidate(world.open_to_write(), 3),
        one_absent_entry,
    );
}

/// A reader is in its first pass while another one shares changes out, and an entry is changed.
#[test]
fn first_pass_beside_another_reader() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let other_reader = world.open();
        let mut others = [None; SLOTS];
        world.pass(other_reader, 2, &mut others);
        let handle = world.open();
        let other = thread::spawn(move || {
            assert_eq!(status(&world.remove(3)), Status::Success);
            world.pass(other_reader, 2, &mut others);
        });
        let mut copy = [None; SLOTS];
        world.pass(handle, 1, &mut copy);
        other.join().unwrap();
        world.passes(handle, 1, &mut copy);
        assert_eq!(copy, world.table());
    });
}

/// The same, where one of them begins its lap while the other is in the middle of sharing out: whoever is told that
/// a pass was clean, of a table that nobody changes, has what is in the table.
#[test]
fn a_clean_pass_beside_a_reader_that_shares_out() {
    explore(2, || {
        let world = World::new();
        one_entry(world);
        let handles = [world.open(), world.open()];
        let mut copies = [[None; SLOTS]; 2];
        for (reader, copy) in copies.iter_mut().enumerate() {
            world.passes(handles[reader], 1 + reader as u64, copy);
        }
        assert_eq!(status(&world.remove(3)), Status::Success);
        let [mut first, mut second] = copies;
        let other = thread::spawn(move || {
            world.pass(handles[0], 1, &mut first);
            first
        });
        if world.pass(handles[1], 2, &mut second) {
            assert_eq!(second, world.table());
        }
        // The one that shared it out was given it, too.
        assert_eq!(other.join().unwrap(), world.table());
        world.passes(handles[1], 2, &mut second);
        assert_eq!(second, world.table());
    });
}

fn three_entries(world: World) {
    for slot in 3..6 {
        world.make(slot, entry(slot));
    }
}

/// The buffer is full in the middle of a word of changes: what is left of the word is still to come, beside another
/// change in it and another reader that shares changes out.
#[test]
fn a_full_buffer_in_the_middle_of_a_word() {
    explore(2, || {
        let world = World::new();
        three_entries(world);
        let handles = [world.open(), world.open()];
        let mut copies = [[None; SLOTS]; 2];
        for (reader, copy) in copies.iter_mut().enumerate() {
            world.passes(handles[reader], 1 + reader as u64, copy);
        }
        let [mut copy, mut others] = copies;
        for slot in 3..6 {
            assert_eq!(status(&world.protect(slot, 1)), Status::Success);
        }
        let other = thread::spawn(move || {
            assert_eq!(status(&world.protect(4, 3)), Status::Success);
            world.pass(handles[1], 2, &mut others);
            others
        });
        world.read(handles[0], 1, ONE_ENTRY, &mut copy);
        world.read(handles[0], 1, ONE_ENTRY, &mut copy);
        let mut others = other.join().unwrap();
        assert_eq!(others, world.table());
        while !world.pass_of(handles[0], 1, ONE_ENTRY, &mut copy) {}
        assert_eq!(copy, world.table());
        world.passes(handles[1], 2, &mut others);
        assert_eq!(others, world.table());
    });
}

/// The buffer is full in the middle of the first pass: a change behind the place where it goes on is kept, and what
/// changes ahead of it is seen when it comes there. (One preemption where the other does two things.)
#[test]
fn a_first_pass_in_pieces_beside_changes() {
    fn beside(preemptions: usize, change: impl Fn(World) + Send + Sync + Copy + 'static) {
        explore(preemptions, move || {
            let world = World::new();
            three_entries(world);
            let handle = world.open();
            let mut copy = [None; SLOTS];
            let other = thread::spawn(move || change(world));
            // An invalid run and the first entry; then each by itself.
            world.read(handle, 1, ONE_ENTRY + 8, &mut copy);
            world.pass_of(handle, 1, ONE_ENTRY, &mut copy);
            other.join().unwrap();
            world.passes(handle, 1, &mut copy);
            assert_eq!(copy, world.table());
        });
    }
    beside(2, |world| world.make(1, entry(1)));
    beside(2, |world| {
        let _ = world.remove(3);
    });
    beside(2, |world| {
        let _ = world.remove(5);
    });
    beside(1, |world| {
        let _ = world.remove(4);
        world.make(4, entry(9));
    });
}

/// Two calls on one handle: one of them is refused, or comes after the other, and nothing is lost or given twice.
#[test]
fn a_handle_is_used_by_one_call_at_a_time() {
    explore(2, || {
        let world = World::new();
        three_entries(world);
        let handle = world.open();
        let mut copy = [None; SLOTS];
        world.passes(handle, 1, &mut copy);
        for slot in 3..6 {
            assert_eq!(status(&world.protect(slot, 1)), Status::Success);
        }
        let read = move |thread| {
            let mut seen = [None; SLOTS];
            let frame = world.read(handle, thread, ONE_ENTRY, &mut seen);
            if status(&frame) == Status::Success {
                let flags = ReadFlags::from_bits_truncate(frame.argument(1));
                assert!(!flags.contains(ReadFlags::CLEAN), "two are still to come");
            } else {
                assert_eq!(status(&frame), Status::Busy);
            }
            seen
        };
        let other = thread::spawn(move || read(2));
        let here = read(1);
        for (slot, there) in other.join().unwrap().into_iter().enumerate() {
            assert!(here[slot].is_none() || there.is_none(), "given twice");
            copy[slot] = here[slot].or(there).or(copy[slot]);
        }
        let frame = world.read(handle, 1, BUFFER, &mut copy);
        let flags = ReadFlags::from_bits_truncate(frame.argument(1));
        assert!(flags.contains(ReadFlags::END_OF_PASS));
        assert_eq!(copy, world.table());
    });
}

/// Slots are changed while a reader takes the marks of their word, which has some or none: each change is seen, or
/// marked again.
#[test]
fn a_change_while_marks_are_taken() {
    fn beside(marked: bool, change: impl Fn(World) + Send + Sync + Copy + 'static) {
        explore(2, move || {
            let world = World::new();
            world.make(3, entry(1));
            world.make(4, absent());
            let handle = world.open();
            let mut copy = [None; SLOTS];
            world.passes(handle, 1, &mut copy);
            if marked {
                assert_eq!(status(&world.protect(3, 1)), Status::Success);
            }
            let other = thread::spawn(move || change(world));
            world.pass(handle, 1, &mut copy);
            other.join().unwrap();
            world.passes(handle, 1, &mut copy);
            assert_eq!(copy, world.table());
        });
    }
    for marked in [false, true] {
        beside(marked, |world| {
            let _ = world.protect(3, 3);
        });
        beside(marked, |world| {
            let _ = world.protect(4, 3);
        });
        beside(marked, |world| world.make(5, entry(5)));
    }
}
