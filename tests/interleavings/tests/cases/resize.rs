//! The resize of a table beside those who use it. (Each commit is long, so where another does more than one thing
//! there is one preemption.)

use loom::thread;
use realhpt::hcall::abi::{
    self, H_HPT_OPEN, H_RESIZE_HPT_COMMIT, H_RESIZE_HPT_PREPARE, ReadFlags, Status,
};
use realhpt::lpar::vcpus::Left;

use crate::control::START;
use crate::world::{
    BUFFER, Image, SLOT, SLOTS, Spec, World, bolted, entry, explore, status, unused,
};

const ORDER: u64 = 19;

fn world(tlb: bool) -> World {
    World::made(Spec {
        resizable: true,
        tlb,
    })
}

fn prepare(world: World) {
    loop {
        let frame = world.call(H_RESIZE_HPT_PREPARE, &[0, ORDER]);
        match status(&frame) {
            Status::Success => return,
            Status::LongBusyOrder1Msec | Status::LongBusyOrder100Msec => thread::yield_now(),
            status => panic!("{status:?}"),
        }
    }
}

fn commit(world: World) {
    let frame = world.call(H_RESIZE_HPT_COMMIT, &[0, ORDER]);
    assert_eq!(status(&frame), Status::Success);
    assert_eq!(u64::from(world.partition().table().order().raw()), ORDER);
}

/// Both vCPUs wait for a processor, and vCPU 0 has one.
fn run(world: World) {
    let control = world.partition().control();
    control.start(START, || Ok(())).unwrap();
    control.start_vcpu(1, START).unwrap();
    assert!(control.dispatch(0, 0).is_some());
}

/// A slice of vCPU 1, in which it makes calls.
fn slice(world: World, calls: impl Fn()) {
    let control = world.partition().control();
    while control.dispatch(1, 1).is_none() {
        thread::yield_now();
    }
    calls();
    control.leave(1, Left::Preempted);
}

/// Commits beside another vCPU that enters, removes or changes: what its call was answered is true of the new
/// table.
#[test]
fn commit_against_another_vcpu() {
    fn beside(
        change: impl Fn(World) + Send + Sync + Copy + 'static,
        expected: [Option<(u64, u64)>; 2],
    ) {
        explore(2, move || {
            let world = world(false);
            world.make(SLOT, bolted(entry(1)));
            prepare(world);
            run(world);
            let other = thread::spawn(move || slice(world, || change(world)));
            commit(world);
            other.join().unwrap();
            let mut table = [None; SLOTS];
            table[3..5].copy_from_slice(&expected);
            assert_eq!(world.table(), table);
        });
    }
    let old = bolted(entry(1));
    let new = bolted(entry(2));
    beside(move |world| world.make(4, new), [Some(old), Some(new)]);
    beside(
        move |world| assert_eq!(status(&world.remove(SLOT)), Status::Success),
        [None, None],
    );
    beside(
        move |world| assert_eq!(status(&world.protect(SLOT, 3)), Status::Success),
        [Some((old.0, old.1 | 3)), None],
    );
}

/// A guest enters and removes while the entries are carried over, a piece at a time: the new table has what the old
/// one had in the end.
#[test]
fn prepare_against_changes() {
    fn beside(preemptions: usize, change: impl Fn(World) + Send + Sync + Copy + 'static) {
        explore(preemptions, move || {
            let world = world(false);
            world.make(SLOT, bolted(entry(1)));
            let other = thread::spawn(move || change(world));
            prepare(world);
            other.join().unwrap();
            let before = world.table();
            commit(world);
            assert_eq!(world.table(), before);
        });
    }
    beside(2, |world| world.make(4, bolted(entry(2))));
    beside(2, |world| {
        assert_eq!(status(&world.remove(SLOT)), Status::Success)
    });
    beside(1, |world| {
        assert_eq!(status(&world.remove(SLOT)), Status::Success);
        world.make(SLOT, bolted(entry(2)));
    });
}

/// Opens a reader and has it read until a pass is clean or its table is gone; what it knows, if it was clean.
fn read_all(world: World) -> Option<Image> {
    let frame = world.call(H_HPT_OPEN, &[abi::LPAR_SELF, 0, 0]);
    if status(&frame) == Status::Resource {
        return None;
    }
    let handle = frame.argument(0);
    let mut copy = [None; SLOTS];
    loop {
        let frame = world.read(handle, 1, BUFFER, &mut copy);
        match status(&frame) {
            Status::Success => {
                if ReadFlags::from_bits_truncate(frame.argument(1)).contains(ReadFlags::CLEAN) {
                    return Some(copy);
                }
            }
            Status::Busy => {}
            Status::Closed => return None,
            status => panic!("{status:?}"),
        }
        thread::yield_now();
    }
}

/// Another partition reads, in its first pass perhaps, while the table is replaced: it is closed, or what it was
/// told was clean is the table, old or new.
#[test]
fn commit_against_a_reader() {
    explore(2, || {
        let world = world(false);
        world.make(SLOT, bolted(entry(1)));
        world.make(4, entry(2));
        let old = world.table();
        prepare(world);
        let other = thread::spawn(move || read_all(world));
        commit(world);
        // The next one begins at once, and empties the area that the reader may have been reading.
        let next = world.call(H_RESIZE_HPT_PREPARE, &[0, ORDER - 1]);
        assert_eq!(status(&next), Status::LongBusyOrder100Msec);
        let next = world.call(H_RESIZE_HPT_PREPARE, &[0, ORDER - 1]);
        assert_eq!(status(&next), Status::LongBusyOrder1Msec);
        let new = world.table();
        assert_eq!((new[3], new[4]), (old[3], None));
        if let Some(seen) = other.join().unwrap() {
            assert!(seen == old || seen == new, "{seen:x?}");
        }
        assert_eq!(read_all(world), Some(new));
        world.make(4, entry(2));
    });
}

/// A guest stores to a page whose entry is being carried over: R and C are in the new table.
#[test]
fn commit_against_a_store() {
    explore(2, || {
        let world = world(true);
        world.make(SLOT, bolted(unused(1)));
        prepare(world);
        run(world);
        let other = thread::spawn(move || {
            let control = world.partition().control();
            if control.dispatch(1, 1).is_none() {
                return false;
            }
            let stored = control.generation() == 1 && world.guest_stores();
            control.leave(1, Left::Preempted);
            stored
        });
        let frame = world.call(H_RESIZE_HPT_COMMIT, &[0, ORDER]);
        assert_eq!(status(&frame), Status::Success);
        // (After the commit a vCPU walks the new table: here it does nothing then.)
        let expected = if other.join().unwrap() {
            entry(1)
        } else {
            unused(1)
        };
        assert_eq!(world.table()[3], Some(bolted(expected)));
    });
}
