//! What is answered, in LoPAR's order of checks.

use crate::common::world::{AGENT, CLIENT, Spec, Store, World};
use crate::page::Page;
use crate::{
    BOLTED, FORMATS, LARGEST, commit, enter, leaked, prepare, prepare_all, remove, resize, store,
};
use realhpt::hcall::Next;
use realhpt::hcall::abi::{self, Status};
use realhpt::lpar::control::Control;
use realhpt::table::{Format, Memory, Order};

fn call(world: &World<'_>, token: u64, flags: u64, shift: u64) -> Status {
    world.call(CLIENT, token, &[flags, shift]).status()
}

#[test]
fn of_a_prepare() {
    let world = leaked(18, Format::V3_0);
    let prepare = |flags, shift| call(&world, abi::H_RESIZE_HPT_PREPARE, flags, shift);
    // Flags come before the shift, the range before what the partition may have.
    for shift in [0, 17, 18, 47, u64::MAX] {
        assert_eq!(prepare(1, shift), Status::Parameter);
    }
    assert_eq!(prepare(0, 0), Status::Success);
    for shift in [1, 17, 47, 64, 1 << 32 | 18, u64::MAX] {
        assert_eq!(prepare(0, shift), Status::Parameter, "{shift}");
    }
    for shift in u64::from(LARGEST) + 1..47 {
        assert_eq!(prepare(0, shift), Status::Resource, "{shift}");
    }
    for shift in 18..=u64::from(LARGEST) {
        // A match is found before anything is checked; another one is discarded.
        assert_eq!(prepare(0, shift), Status::LongBusyOrder100Msec);
        assert_eq!(prepare(0, shift), Status::LongBusyOrder1Msec);
    }
}

#[test]
fn a_partition_without_a_spare_area_may_ask() {
    let world = World::leaked(20, Format::V2_07);
    for shift in 18..47 {
        assert_eq!(prepare(&world, shift), Status::Resource);
        assert_eq!(commit(&world, shift), Status::Closed);
    }
    assert_eq!(prepare(&world, 0), Status::Success);
    assert_eq!(prepare(&world, 47), Status::Parameter);
}

#[test]
fn of_a_commit() {
    let world = leaked(18, Format::V2_07);
    let commit_with = |flags, shift| call(&world, abi::H_RESIZE_HPT_COMMIT, flags, shift);
    assert_eq!(commit(&world, 19), Status::Closed, "nothing is pending");
    assert_eq!(prepare(&world, 19), Status::LongBusyOrder100Msec);
    assert_eq!(commit(&world, 19), Status::Busy, "it is not ready");
    for (flags, shift) in [(0, 0), (0, 20), (1, 19), (0, 1 << 32 | 19)] {
        assert_eq!(commit_with(flags, shift), Status::Closed);
    }
    while prepare(&world, 19) != Status::Success {}
    assert_eq!(prepare(&world, 19), Status::Success, "still");
    assert_eq!(commit_with(2, 19), Status::Closed);
    let answer = world.call(CLIENT, abi::H_RESIZE_HPT_COMMIT, &[0, 19]);
    assert_eq!(
        (answer.status(), answer.next),
        (Status::Success, Next::Reload)
    );
    assert_eq!(commit(&world, 19), Status::Closed, "it is over");
}

#[test]
fn a_pending_resize_is_discarded_by_any_other_prepare() {
    // T38.
    let world = leaked(18, Format::V3_0);
    for (flags, shift, status) in [
        (0, 0, Status::Success),
        (1, 19, Status::Parameter),
        (0, 17, Status::Parameter),
        (0, 23, Status::Resource),
        (0, 20, Status::LongBusyOrder100Msec),
    ] {
        assert_eq!(prepare_all(&world, 19), Status::Success);
        let answer = call(&world, abi::H_RESIZE_HPT_PREPARE, flags, shift);
        assert_eq!(answer, status);
        assert_eq!(commit(&world, 19), Status::Closed);
    }
    for order in (18..=LARGEST).chain((19..LARGEST).rev()).cycle().take(30) {
        assert_eq!(prepare_all(&world, order), Status::Success);
    }
    assert_eq!(commit(&world, 20), Status::Closed);
    assert_eq!(world.client().table().order().raw(), 18);
    resize(&world, 22);
}

#[test]
fn problem_state_may_not() {
    let world = leaked(18, Format::V3_0);
    for token in [
        abi::H_CLEAR_HPT,
        abi::H_RESIZE_HPT_PREPARE,
        abi::H_RESIZE_HPT_COMMIT,
    ] {
        let answer = world.call_from(CLIENT, true, token, &[0, 19]);
        assert_eq!(answer.status(), Status::Privilege);
    }
    assert_eq!(prepare(&world, 19), Status::LongBusyOrder100Msec);
}

#[test]
fn no_register_is_changed_but_the_status() {
    let world = leaked(18, Format::V3_0);
    let calls = [
        (abi::H_RESIZE_HPT_PREPARE, 19),
        (abi::H_RESIZE_HPT_PREPARE, 19),
        (abi::H_RESIZE_HPT_PREPARE, 19),
        (abi::H_RESIZE_HPT_COMMIT, 19),
        (abi::H_CLEAR_HPT, 0),
    ];
    for (token, shift) in calls {
        let answer = world.call(CLIENT, token, &[0, shift]);
        assert_eq!(answer.out[..2], [0, shift]);
        assert!(
            (0..)
                .zip(&answer.out[2..])
                .all(|(n, &out)| out == crate::common::world::JUNK + n)
        );
    }
}

#[test]
fn everybody_is_told_the_order_and_a_reset_begins_with_the_first_one() {
    // T39.
    for format in FORMATS {
        let world = leaked(19, format);
        let told = || {
            let query = world
                .call(AGENT, abi::H_LPAR_QUERY, &[u64::from(CLIENT)])
                .ok();
            let stat = world
                .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
                .ok();
            let own = world
                .call(CLIENT, abi::H_LPAR_QUERY, &[abi::LPAR_SELF])
                .ok();
            let open = world
                .call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), 0, 0])
                .ok();
            world.close(open[0]);
            assert_eq!([query[3], stat[1], own[3]], [open[1]; 3]);
            assert_eq!(stat[2], open[2], "generation");
            open[1]
        };
        for order in [22, 18, 20, 20] {
            resize(&world, order);
            assert_eq!(told(), u64::from(order));
        }
        // A slot of the larger table that it was is none of this one.
        let slots = 1 << 16;
        assert_eq!(enter(&world, slots, (0x1_0001, 2)), Status::Parameter);
        let beyond = Order::new(22).unwrap().ptex(slots).unwrap();
        assert!(world.client().table().slot(beyond).is_none());
        assert_eq!(prepare_all(&world, 22), Status::Success);
        assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
        assert_eq!(told(), 19);
        assert_eq!(commit(&world, 22), Status::Closed, "the reset drops it");
        assert!(world.image(CLIENT).is_empty());
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        resize(&world, 18);
    }
}

/// Two bolted entries of a table of order 19 that want one slot of order 18.
fn rivals() -> [(u64, (u64, u64)); 2] {
    let groups = Page::in_segment(5, 0).group(18);
    [0, 1].map(|high: u64| {
        // The twelfth bit of the hash, where order 18 has eleven.
        let page = Page::in_segment(5, high << 23);
        assert_eq!(page.group(19), groups | high << 11);
        (
            page.group(19) * 8 + 3,
            (page.v() | BOLTED, page.r(0) | 0x12),
        )
    })
}

#[test]
fn two_bolted_entries_cannot_have_one_slot() {
    for format in FORMATS {
        let world = leaked(19, format);
        let [(one, entry), (other, rival)] = rivals();
        for (slot, entry) in [(one, entry), (other, rival)] {
            assert_eq!(enter(&world, slot, entry), Status::Success);
        }
        let reader = world.open(CLIENT, 0, 0);
        let before = world.image(CLIENT);
        let generation = world.client().control().generation();
        // LoPAR: a prepare that ended so says so. It looks again each time.
        assert_eq!(prepare_all(&world, 18), Status::PtegFull);
        assert_eq!(prepare(&world, 18), Status::PtegFull);
        assert_eq!(commit(&world, 18), Status::PtegFull);
        assert_eq!(commit(&world, 18), Status::Closed);
        // The table goes on as it was, its readers and its generation too (T38).
        assert_eq!(world.client().control().generation(), generation);
        assert_eq!(world.client().table().order().raw(), 19);
        assert_eq!(world.image(CLIENT), before);
        assert!(world.read(reader, 64).is_ok());
        world.close(reader);
        // It grows all the same, and comes back.
        for order in [20, 19] {
            resize(&world, order);
        }
        assert_eq!(world.image(CLIENT), before);
        // Whichever goes, the other one gets the place; in the middle, too.
        assert_eq!(prepare_all(&world, 18), Status::PtegFull);
        assert_eq!(remove(&world, one), Status::Success);
        assert_eq!(prepare(&world, 18), Status::Success);
        // What was in the way is found behind what it was in the way of.
        assert_eq!(enter(&world, one, entry), Status::Success);
        assert_eq!(prepare(&world, 18), Status::PtegFull);
        assert_eq!(remove(&world, other), Status::Success);
        assert_eq!(prepare(&world, 18), Status::LongBusyOrder1Msec);
        assert_eq!(prepare(&world, 18), Status::Success);
        assert_eq!(commit(&world, 18), Status::Success);
        let image = world.image(CLIENT);
        assert_eq!(image.into_iter().collect::<Vec<_>>(), [(one, entry)]);
    }
}

#[test]
fn a_collision_after_the_last_prepare_fails_the_commit() {
    let world = leaked(19, Format::V2_07);
    let [(one, entry), (other, rival)] = rivals();
    assert_eq!(enter(&world, one, entry), Status::Success);
    assert_eq!(prepare_all(&world, 18), Status::Success);
    assert_eq!(enter(&world, other, rival), Status::Success);
    assert_eq!(commit(&world, 18), Status::PtegFull);
    assert_eq!(world.image(CLIENT).len(), 2);
    // And one that is over by then does not.
    assert_eq!(prepare_all(&world, 18), Status::PtegFull);
    assert_eq!(remove(&world, other), Status::Success);
    assert_eq!(commit(&world, 18), Status::Success);
    assert_eq!(world.image(CLIENT).len(), 1);
}

#[test]
fn a_held_partition_is_not_committed() {
    let world = leaked(18, Format::V3_0);
    assert_eq!(prepare_all(&world, 19), Status::Success);
    let control: &Control = world.client().control();
    let held = control.hold(&world.system.machine, None, || {}).unwrap();
    assert_eq!(commit(&world, 19), Status::Busy);
    drop(held);
    let writes = [
        control.begin_write().unwrap(),
        control.begin_write().unwrap(),
    ];
    assert_eq!(commit(&world, 19), Status::Busy);
    drop(writes);
    assert_eq!(commit(&world, 19), Status::Success);
}

#[test]
fn memory_is_what_was_promised() {
    let slots = |order| Order::new(order).unwrap().slots() as f64;
    for order in 18..47 {
        let order = Order::new(order).unwrap();
        let bytes = (Memory::words_beside(order) * 8) as f64;
        assert!(bytes / order.slots() as f64 <= 9.0);
        // The spare area has no readers' marks.
        let spare = (Memory::words_beside_spare(order) * 8) as f64;
        assert!(spare / order.slots() as f64 <= 8.5);
    }
    let plain = World::leaked(20, Format::V2_07);
    assert!(plain.client().bytes_beside() as f64 / slots(20) <= 9.0);
    // All that is reserved is told: two areas of the largest order, but for the HPT in use.
    let store = Store::new(&[Spec::agent(), Spec::client(18).resizable(19)]);
    let world = World::new(&store, Format::V2_07);
    let order = Order::new(19).unwrap();
    let words = Memory::words_beside(order) + Memory::words_beside_spare(order);
    let all = 2 * order.bytes() + words * 8;
    for (order, hpt) in [(18, 1 << 18), (19, 1 << 19)] {
        if order != 18 {
            resize(&world, order);
        }
        assert_eq!(world.client().bytes_beside(), all - hpt);
    }
}

#[test]
fn areas_of_another_size_are_not_taken() {
    let world = store(18);
    drop(world);
    let order = Order::new(18).unwrap();
    let dwords = |count: u64| -> Vec<_> {
        (0..count)
            .map(|_| realhpt::sync::AtomicU64::new(0))
            .collect()
    };
    let hpt: Vec<_> = (0..2 * order.slots())
        .map(|_| realhpt::sync::BeDword::new(0))
        .collect();
    let beside = dwords(Memory::words_beside(order));
    let spare = dwords(Memory::words_beside_spare(order));
    let memory = || Memory::new(order, &hpt, &beside).unwrap();
    assert!(memory().with_spare(&hpt[1..], &spare).is_none());
    assert!(memory().with_spare(&hpt, &beside).is_none());
    assert!(memory().holding(Order::new(19).unwrap()).is_none());
    assert!(
        memory()
            .with_spare(&hpt, &spare)
            .unwrap()
            .holding(order)
            .is_some()
    );
}
