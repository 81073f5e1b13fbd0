//! H_SET_MODE and its like.

use crate::common::world::{CLIENT, Store, World, recording};
use crate::{running, status};
use realhpt::arch::GuestRegister;
use realhpt::arch::host::Event;
use realhpt::hcall::Next;
use realhpt::hcall::abi::{self, Status, behaviour, mode, process_table};
use realhpt::lpar::vcpu::lpcr;
use realhpt::table::Format;

fn set_mode(world: &World<'_>, arguments: [u64; 4]) -> Status {
    status(world, abi::H_SET_MODE, &arguments)
}

/// What the call had set in the processor.
fn recorded(world: &World<'_>, act: impl FnOnce() -> Status) -> (Status, Vec<Event>) {
    world.system.machine.record();
    let status = act();
    (status, world.system.machine.recorded())
}

#[test]
fn interrupts_are_where_and_as_the_partition_wants_them() {
    let store = Store::pair(18);
    let world = running(&store, 2);
    assert_eq!(world.client().lpcr(), 0);
    for (flags, resource, lpcr) in [
        (1, mode::ENDIAN, lpcr::ILE),
        (3, mode::INTERRUPT_LOCATION, lpcr::ILE | lpcr::AIL),
        (0, mode::ENDIAN, lpcr::AIL),
        (0, mode::INTERRUPT_LOCATION, 0),
    ] {
        world.system.machine.record();
        let answer = world.call(CLIENT, abi::H_SET_MODE, &[flags, resource, 0, 0]);
        assert_eq!(
            (answer.status(), answer.next),
            (Status::Success, Next::Reload)
        );
        assert_eq!(world.client().lpcr(), lpcr);
        // The other vCPU loads it, too.
        assert_eq!(world.system.machine.recorded(), [Event::Kick(1)]);
    }
}

#[test]
fn a_mode_that_does_not_exist_is_refused() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    for (arguments, expected) in [
        ([0, 0, 0, 0], Status::P2),
        ([0, 6, 0, 0], Status::P2),
        ([0, u64::MAX, 0, 0], Status::P2),
        ([0, 1 << 32 | mode::ENDIAN, 0, 0], Status::P2),
        ([2, mode::ENDIAN, 0, 0], Status::UnsupportedFlag),
        ([u64::MAX, mode::ENDIAN, 0, 0], Status::UnsupportedFlag),
        ([1, mode::ENDIAN, 1, 0], Status::P3),
        ([1, mode::ENDIAN, 0, 1], Status::P4),
        ([1, mode::INTERRUPT_LOCATION, 0, 0], Status::UnsupportedFlag),
        ([2, mode::INTERRUPT_LOCATION, 0, 0], Status::UnsupportedFlag),
        ([4, mode::INTERRUPT_LOCATION, 0, 0], Status::UnsupportedFlag),
        ([3, mode::INTERRUPT_LOCATION, 1, 1], Status::P3),
        ([3, mode::INTERRUPT_LOCATION, 0, 1], Status::P4),
        ([1, mode::CIABR, 0, 0], Status::UnsupportedFlag),
        ([0, mode::CIABR, 3, 0], Status::P3),
        ([0, mode::CIABR, 0, 1], Status::P4),
        ([1, mode::DAWR0, 0, 0], Status::UnsupportedFlag),
        ([0, mode::DAWR0, 0x1000, 0x65], Status::P4),
        ([0, mode::DAWR1, 0x1000, 4], Status::P4),
    ] {
        let (status, done) = recorded(&world, || set_mode(&world, arguments));
        assert_eq!((status, done), (expected, Vec::new()), "{arguments:x?}");
    }
    assert_eq!(world.client().lpcr(), 0);
}

#[test]
fn break_and_watch_points_are_set_in_the_processor() {
    use GuestRegister::{Ciabr, Dawr0, Dawr1, Dawrx0, Dawrx1, Sprg0};
    let store = Store::pair(18);
    let world = running(&store, 1);
    let set = |register, value| Event::Set(register, value);
    let success = |token, arguments: &[u64], expected: &[Event]| {
        let (status, done) = recorded(&world, || status(&world, token, arguments));
        assert_eq!((status, &*done), (Status::Success, expected), "{token:#x}");
    };
    let mode_of = |arguments: [u64; 4], expected: &[Event]| {
        success(abi::H_SET_MODE, &arguments, expected);
    };
    mode_of([0, mode::CIABR, 0x1002, 0], &[set(Ciabr, 0x1002)]);
    mode_of(
        [0, mode::DAWR0, 0x1000, 0x63],
        &[set(Dawr0, 0x1000), set(Dawrx0, 0x63)],
    );
    mode_of(
        [0, mode::DAWR1, 0x1000, 0],
        &[set(Dawr1, 0x1000), set(Dawrx1, 0)],
    );
    success(abi::H_SET_SPRG0, &[u64::MAX], &[set(Sprg0, u64::MAX)]);
    // Stores, with translation on, in both states.
    success(
        abi::H_SET_DABR,
        &[0x1006],
        &[set(Dawr0, 0x1000), set(Dawrx0, 0x53)],
    );
    // Loads, translation or not, in problem state.
    success(
        abi::H_SET_XDABR,
        &[0x1001, 9],
        &[set(Dawr0, 0x1000), set(Dawrx0, 0x29)],
    );
    for extension in [0, 4, 8, 0x10, 7, u64::MAX] {
        let call = || status(&world, abi::H_SET_XDABR, &[0x1001, extension]);
        assert_eq!(recorded(&world, call), (Status::Parameter, Vec::new()));
    }
}

#[test]
fn what_the_processor_lacks_is_refused() {
    let store = Store::pair(18);
    let world = World::on(recording().without_watchpoints(), &store, Format::V3_0);
    for resource in [mode::DAWR0, mode::DAWR1] {
        assert_eq!(set_mode(&world, [0, resource, 0, 0]), Status::P2);
    }
    assert_eq!(status(&world, abi::H_SET_DABR, &[0]), Status::Hardware);
    assert_eq!(status(&world, abi::H_SET_XDABR, &[0, 1]), Status::Hardware);
    assert_eq!(set_mode(&world, [0, mode::CIABR, 0, 0]), Status::Success);
}

#[test]
fn a_partition_without_a_process_table_may_say_so() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    let register = |flags| status(&world, abi::H_REGISTER_PROC_TBL, &[flags, 0, 0, 0]);
    let (modify, table) = (process_table::MODIFY, process_table::REGISTER);
    for flags in [0, modify, modify | table] {
        assert_eq!(register(flags), Status::Success, "{flags:#x}");
    }
    for flag in [
        process_table::RADIX,
        process_table::SEGMENT_TABLE,
        process_table::GTSE,
        0x20,
        1 << 63,
    ] {
        assert_eq!(register(modify | table | flag), Status::Parameter);
    }
}

#[test]
fn what_is_not_known_of_the_processor_is_feared() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    let out = world.call(CLIENT, abi::H_GET_CPU_CHARACTERISTICS, &[]).ok();
    let expected = behaviour::FAVOUR_SECURITY | behaviour::L1D_FLUSH | behaviour::BOUNDS_BARRIER;
    assert_eq!(out[..2], [0, expected]);
    // H_RANDOM, H_GET_TCE, H_PUT_TCE: there is no source of random numbers, and no device.
    for token in [0x300, 0x1c, 0x20] {
        assert_eq!(status(&world, token, &[0; 4]), Status::Function);
    }
}

#[test]
fn a_start_begins_with_the_modes_of_a_new_partition() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    assert_eq!(set_mode(&world, [1, mode::ENDIAN, 0, 0]), Status::Success);
    world.restart(CLIENT);
    assert_eq!(world.client().lpcr(), 0);
}

#[test]
fn the_terminal_has_two_names() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    for (unit, expected) in [
        (0, Status::Success),
        (abi::VTY, Status::Success),
        (abi::VTY + 1, Status::Parameter),
        (1, Status::Parameter),
        (u64::MAX, Status::Parameter),
    ] {
        assert_eq!(
            status(&world, abi::H_PUT_TERM_CHAR, &[unit, 0, 0, 0]),
            expected
        );
        assert_eq!(status(&world, abi::H_GET_TERM_CHAR, &[unit]), expected);
    }
}
