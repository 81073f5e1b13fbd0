//! H_PAGE_INIT, and H_ENTER's flags about the memory of the page.

use crate::common::world::{CLIENT, CLIENT_HOST, CLIENT_MEMORY, CLIENT_WINDOW, World};
use realhpt::addr::HostReal;
use realhpt::arch::Machine;
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, Status};
use realhpt::table::Format;

const ICACHE_INVALIDATE: u64 = 1 << 23;
const ICACHE_SYNCHRONIZE: u64 = 1 << 22;
const ZERO: u64 = 1 << 15;
const COPY: u64 = 1 << 14;
const EXACT: u64 = 1 << 39;
const LARGE: u64 = 4;

/// A world in whose client every doubleword from `guest` on, two pages around included, holds its own address.
fn filled(guest: u64, bytes: u64) -> World<'static> {
    let world = World::leaked(18, Format::V3_0);
    for at in (guest - 0x1000..guest + bytes + 0x1000).step_by(8) {
        world.system.machine.store(host(at), at);
    }
    world
}

fn host(guest: u64) -> HostReal {
    HostReal::new(CLIENT_HOST + guest)
}

/// Every doubleword around is its own address, and those between are what they must be.
fn holds(world: &World<'_>, guest: u64, bytes: u64, expected: impl Fn(u64) -> u64) {
    for at in (guest - 0x1000..guest + bytes + 0x1000).step_by(8) {
        let inside = (guest..guest + bytes).contains(&at);
        let expected = if inside { expected(at) } else { at };
        assert_eq!(world.system.machine.load(host(at)), expected, "at {at:#x}");
    }
}

fn synchronised(world: &World<'_>, act: impl FnOnce()) -> Vec<(HostReal, u64)> {
    world.system.machine.record();
    act();
    let events = world.system.machine.recorded();
    events
        .into_iter()
        .filter_map(|event| match event {
            Event::Synchronise(at, bytes) => Some((at, bytes)),
            _ => None,
        })
        .collect()
}

fn page_init(world: &World<'_>, arguments: [u64; 3]) -> Status {
    let answer = world.call(CLIENT, abi::H_PAGE_INIT, &arguments);
    assert_eq!(answer.out[..3], arguments, "it has no results");
    answer.status()
}

#[test]
fn a_page_is_zeroed_or_copied() {
    let (page, source) = (0x7000, 0x3000);
    // CMO's bits are taken and do nothing; copying wins over zeroing.
    for state in [0, 0xf << 32] {
        let copied = |at: u64| at - page + source;
        for (flags, expected) in [
            (0, None),
            (ZERO, Some(0)),
            (COPY, Some(1)),
            (ZERO | COPY, Some(1)),
        ] {
            let world = filled(source, 0x5000);
            assert_eq!(
                page_init(&world, [flags | state, page, source]),
                Status::Success
            );
            match expected {
                None => holds(&world, page, 0x1000, |at| at),
                Some(0) => holds(&world, page, 0x1000, |_| 0),
                Some(_) => holds(&world, page, 0x1000, copied),
            }
            holds(&world, source, 0x1000, |at| at);
        }
    }
    // Onto itself.
    let world = filled(source, 0x5000);
    assert_eq!(page_init(&world, [COPY, page, page]), Status::Success);
    holds(&world, page, 0x1000, |at| at);
}

#[test]
fn a_page_is_synchronised_when_it_is_asked_for() {
    let world = filled(0x7000, 0x1000);
    for (flags, expected) in [
        (0, false),
        (ZERO, false),
        (ICACHE_INVALIDATE, true),
        (ICACHE_SYNCHRONIZE, true),
        (COPY | ICACHE_SYNCHRONIZE, true),
        (ZERO | ICACHE_INVALIDATE | ICACHE_SYNCHRONIZE, true),
    ] {
        let done = synchronised(&world, || {
            assert_eq!(page_init(&world, [flags, 0x7000, 0x7000]), Status::Success);
        });
        let expected = if expected {
            vec![(host(0x7000), 0x1000)]
        } else {
            vec![]
        };
        assert_eq!(done, expected, "{flags:#x}");
    }
}

#[test]
fn what_is_no_page_of_the_callers_is_refused() {
    let world = filled(0x7000, 0x1000);
    let good = 0x7000;
    for flag in (0..64).map(|bit| 1 << bit) {
        let known = flag & (ZERO | COPY | ICACHE_INVALIDATE | ICACHE_SYNCHRONIZE | 0xf << 32) != 0;
        let expected = if known {
            Status::Success
        } else {
            Status::Parameter
        };
        assert_eq!(page_init(&world, [flag, good, good]), expected, "{flag:#x}");
        assert_eq!(page_init(&world, [flag, good + 8, good]), Status::Parameter);
        if !known {
            let with_zero = page_init(&world, [flag | ZERO, good, 0]);
            assert_eq!(with_zero, Status::Parameter);
        }
    }
    let outside = [
        CLIENT_MEMORY,
        CLIENT_WINDOW.0 - 0x1000,
        CLIENT_WINDOW.0 + CLIENT_WINDOW.2,
        CLIENT_HOST,
        1 << 63,
        !0xfff,
    ];
    let bad = outside.into_iter().chain([0x7001, 0x7008, 0x7800, !0]);
    for bad in bad {
        let world = filled(0x7000, 0x1000);
        for flags in [ZERO, COPY, ZERO | COPY, ICACHE_SYNCHRONIZE] {
            let done = page_init(&world, [flags, bad, good]);
            assert_eq!(done, Status::Parameter, "to {bad:#x}");
        }
        assert_eq!(page_init(&world, [COPY, good, bad]), Status::Parameter);
        holds(&world, good, 0x1000, |at| at);
        // The source counts only where it is copied from.
        assert_eq!(page_init(&world, [ZERO, good, bad]), Status::Success);
    }
    // Nothing is asked for: only what can be seen in the address counts.
    assert_eq!(page_init(&world, [0, CLIENT_MEMORY, 1]), Status::Success);
    assert_eq!(page_init(&world, [0, good + 1, 0]), Status::Parameter);
}

#[test]
fn h_enter_prepares_pages_up_to_64k() {
    let flags = ZERO | ICACHE_INVALIDATE | EXACT;
    // 4K; 64K in 4K; 64K; 16M three ways: base page, LP bits, bytes that are zeroed.
    for (number, (large, lp, prepared)) in [
        (0, 0, 0x1000),
        (LARGE, 0x7000, 0x1_0000),
        (LARGE, 0x1000, 0x1_0000),
        (LARGE, 0, 0),
        (LARGE, 0x8000, 0),
        (LARGE, 0x3_8000, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let page = 0x300_0000;
        let world = filled(page, 0x1_0000);
        let slot = 8 * number as u64;
        let arguments = [flags, slot, 0x1_2345_6781 | large, page | lp | 0x12];
        let done = synchronised(&world, || {
            assert_eq!(world.call(CLIENT, abi::H_ENTER, &arguments).ok()[0], slot);
        });
        let expected = Vec::from_iter((prepared != 0).then_some((host(page), prepared)));
        assert_eq!(done, expected, "LP {lp:#x}");
        let value = |at: u64| if at - page < prepared { 0 } else { at };
        holds(&world, page, 0x1_0000, value);
    }
}

#[test]
fn h_enter_prepares_nothing_where_it_makes_no_entry_or_there_is_no_memory() {
    let (v, r) = (0x1_2345_6781, 0x7012);
    let world = filled(0x7000, 0x1000);
    let enter = |slot, v, r| {
        let answer = world.call(CLIENT, abi::H_ENTER, &[ZERO | EXACT, slot, v, r]);
        answer.status()
    };
    assert_eq!(enter(0x4000, v, r), Status::Parameter);
    assert_eq!(enter(1, v | 1 << 63, r), Status::Parameter);
    assert_eq!(
        world.call(CLIENT, abi::H_ENTER, &[EXACT, 1, v, r]).ok()[0],
        1
    );
    assert_eq!(enter(1, v, r), Status::PtegFull);
    // No memory, memory of the hypervisor's: nothing that could be zeroed.
    assert_eq!(enter(2, v, CLIENT_MEMORY | 0x12), Status::Success);
    assert_eq!(enter(3, v, CLIENT_HOST | 0x12), Status::Success);
    holds(&world, 0x7000, 0x1000, |at| at);
    // Without the flag nothing is done.
    let done = synchronised(&world, || {
        world
            .call(
                CLIENT,
                abi::H_ENTER,
                &[
                    !(ZERO | ICACHE_INVALIDATE | ICACHE_SYNCHRONIZE | EXACT),
                    8,
                    v,
                    r,
                ],
            )
            .ok();
    });
    assert_eq!(done, []);
    holds(&world, 0x7000, 0x1000, |at| at);
    assert_eq!(enter(4, v, r), Status::Success);
    holds(&world, 0x7000, 0x1000, |_| 0);
}
