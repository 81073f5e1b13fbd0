//! Calls by proxy: who may make them, for whom, from which buffers, and that they are no more than the calls
//! themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::stream::said;
use crate::common::world::{
    AGENT, AGENT_MEMORY, BUFFER, BUFFER_SIZE, CLIENT, JUNK, Spec, Store, World,
};
use crate::{ENTRY, OTHER, store};
use realhpt::addr::Lpid;
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, LPAR_SELF, State, Status};
use realhpt::table::Format;

const EXACT: u64 = 1 << 39;

/// Enters [`ENTRY`] into a slot of the client's.
fn enter(world: &World<'_>, slot: u64) {
    let answer = world
        .proxy(CLIENT, abi::H_ENTER, &[EXACT, slot, ENTRY.0, ENTRY.1])
        .unwrap();
    assert_eq!((answer.status(), answer.out[0]), (Status::Success, slot));
}

#[test]
fn it_takes_the_privilege_a_partition_and_a_buffer() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    world.put_registers(
        0x1000,
        [abi::H_ENTER, EXACT, 8, ENTRY.0, ENTRY.1, 0, 0, 0, 0, 0],
    );
    let before = world.bytes(0, AGENT_MEMORY);
    let call = |caller, target, at| {
        let answer = world.call(caller, abi::H_LPAR_HCALL, &[target, at]);
        assert_eq!(answer.out[..3], [target, at, JUNK]);
        answer.status()
    };
    for target in [u64::from(AGENT), u64::from(OTHER), 0, 99, u64::MAX - 1] {
        for at in [0x1000, 1, 1 << 60] {
            assert_eq!(call(CLIENT, target, at), Status::Authority);
        }
    }
    for target in [0, 99, 1 << 16 | u64::from(CLIENT), u64::MAX - 1] {
        assert_eq!(call(AGENT, target, 0x1000), Status::Parameter);
    }
    let client = u64::from(CLIENT);
    let end = AGENT_MEMORY;
    for at in [
        0x1001,
        0x1004,
        end - 72,
        end - 8,
        end,
        1 << 32,
        1 << 60,
        u64::MAX - 7,
        u64::MAX - 79,
        u64::MAX,
    ] {
        assert_eq!(call(AGENT, client, at), Status::Parameter, "{at:#x}");
    }
    assert_eq!(world.bytes(0, AGENT_MEMORY), before);
    assert!(world.image(CLIENT).is_empty());
    world.put_registers(end - 80, world.registers(0x1000));
    assert_eq!(call(AGENT, client, end - 80), Status::Success);
    assert_eq!(world.registers(end - 80)[..2], [0, 8]);
    assert_eq!(world.image(CLIENT).len(), 1);
}

#[test]
fn a_buffer_lies_in_one_region() {
    // Two regions that touch as the guest sees them and lie apart on the host.
    let regions = [(0, 0, 1 << 16), (1 << 16, 1 << 17, 1 << 16)];
    let agent = Spec::agent().with_regions(&regions);
    let store = Store::new(&[agent, Spec::client(18)]);
    let world = World::new(&store, Format::V3_0);
    for at in [(1 << 16) - 72, (1 << 16) - 8] {
        let answer = world.call(AGENT, abi::H_LPAR_HCALL, &[u64::from(CLIENT), at]);
        assert_eq!(answer.status(), Status::Parameter);
    }
    for (at, host) in [((1 << 16) - 80, (1 << 16) - 80), (1 << 16, 1 << 17)] {
        world.put_registers(host, [abi::H_READ, 0, 1 << 14, 0, 0, 0, 0, 0, 0, 0]);
        world
            .call(AGENT, abi::H_LPAR_HCALL, &[u64::from(CLIENT), at])
            .ok();
        assert_eq!(world.registers(host)[0], Status::Parameter.raw());
    }
}

#[test]
fn a_partition_that_runs_is_left_alone() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let control = |token| world.control(token, CLIENT);
    let read = || {
        world
            .proxy(CLIENT, abi::H_READ, &[0, 8])
            .map(|answer| answer.status())
    };
    assert_eq!(read(), Ok(Status::Success), "it never ran");
    enter(&world, 8);
    assert_eq!(control(abi::H_LPAR_START), Status::Success);
    let before = world.image(CLIENT);
    for token in [abi::H_READ, abi::H_ENTER, abi::H_REMOVE, abi::H_CEDE, 1] {
        assert_eq!(world.proxy(CLIENT, token, &[0, 8, 0]), Err(Status::Busy));
    }
    // By itself, by either name: whoever makes a call runs.
    for target in [LPAR_SELF, u64::from(CLIENT)] {
        let own = world.call(CLIENT, abi::H_LPAR_HCALL, &[target, 1 << 32]);
        assert_eq!(own.status(), Status::Busy);
    }
    assert_eq!(world.image(CLIENT), before);
    assert_eq!(control(abi::H_LPAR_PAUSE), Status::Success);
    assert_eq!(read(), Ok(Status::Success));
    assert_eq!(control(abi::H_LPAR_RESUME), Status::Success);
    assert_eq!(read(), Err(Status::Busy));
    let _ = world.call(CLIENT, abi::H_LPAR_EXIT, &[0]);
    assert_eq!(read(), Ok(Status::Success), "it halted");
    let piece = world.call(AGENT, abi::H_LPAR_RESET, &[u64::from(CLIENT)]);
    if piece.status() == Status::Continue {
        assert_eq!(read(), Err(Status::Busy), "it is being reset");
    }
    assert_eq!(control(abi::H_LPAR_RESET), Status::Success);
    assert_eq!(read(), Ok(Status::Success));
}

/// What hardware does last is done inside the proxied call: there the client cannot be resumed.
#[test]
fn a_partition_does_not_run_beside_it() {
    let world: &'static World<'static> = Box::leak(Box::new(World::leaked(18, Format::V3_0)));
    let resume = || {
        world
            .call(AGENT, abi::H_LPAR_RESUME, &[u64::from(CLIENT)])
            .status()
    };
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    assert_eq!(world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
    enter(world, 8);
    let said = Arc::new(AtomicU64::new(u64::MAX));
    let during = Arc::clone(&said);
    world.system.machine.late(move || {
        during.store(resume().raw(), Ordering::Relaxed);
    });
    let removed = world.proxy(CLIENT, abi::H_REMOVE, &[0, 8, 0]).unwrap();
    assert_eq!(removed.status(), Status::Success);
    assert_eq!(said.load(Ordering::Relaxed), Status::Busy.raw());
    assert_eq!(world.client().state(), State::Paused);
    assert_eq!(resume(), Status::Success);
}

/// Another vCPU of the agent's writes the buffer while the call is made: what was there before is done, and what
/// came of it is what stands there afterwards.
#[test]
fn the_frame_is_read_once() {
    let world: &'static World<'static> = Box::leak(Box::new(World::leaked(18, Format::V3_0)));
    enter(world, 8);
    enter(world, 16);
    world.system.machine.late(|| {
        world.put_registers(BUFFER, [abi::H_REMOVE, 0, 16, 0, 0, 0, 0, 0, 0, 0]);
    });
    let specifier = |slot: u64| 1 << 62 | slot;
    let arguments = [specifier(8), 0, 3 << 62, 0, 0, 0, 0, 0];
    let removed = world.proxy(CLIENT, abi::H_BULK_REMOVE, &arguments).unwrap();
    assert_eq!(removed.status(), Status::Success);
    assert_eq!(removed.out[0], 2 << 62 | 8 | (ENTRY.1 & 0x180) << 51);
    assert_eq!(removed.out[2], 3 << 62);
    assert_eq!(removed.out[8], JUNK);
    let slots: Vec<u64> = world.image(CLIENT).into_keys().collect();
    assert_eq!(slots, [16]);
}

#[test]
fn only_calls_on_a_table_are_made() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let others = [
        abi::H_CEDE,
        abi::H_PUT_TERM_CHAR,
        abi::H_GET_TERM_CHAR,
        abi::H_HPT_OPEN,
        abi::H_HPT_READ,
        abi::H_HPT_WRITE,
        abi::H_HPT_CLOSE,
        abi::H_HPT_STAT,
        abi::H_LPAR_QUERY,
        abi::H_LPAR_PAUSE,
        abi::H_LPAR_RESUME,
        abi::H_LPAR_HCALL,
        abi::H_LPAR_RESET,
        abi::H_LPAR_START,
        abi::H_LPAR_EXIT,
        abi::H_REPORT,
        0,
        1,
        1 << 32 | abi::H_ENTER,
        u64::MAX,
    ];
    for token in others {
        let arguments = [u64::from(CLIENT), LPAR_SELF, 3, 4, 5, 6, 7, 8, 9];
        let answer = world.proxy(CLIENT, token, &arguments).unwrap();
        assert_eq!(answer.status(), Status::Function, "{token:#x}");
        assert_eq!(answer.out, arguments);
    }
    assert_eq!(world.client().state(), State::Stopped);
    assert_eq!(*world.board.reports.lock().unwrap(), []);
}

/// The same calls, made by the client and made for it, answer the same and leave the same table.
#[test]
fn it_is_the_call_itself() {
    let direct = Box::new(World::leaked(18, Format::V3_0));
    let proxied = Box::new(World::leaked(18, Format::V3_0));
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 16) % below
    };
    let tokens = [
        abi::H_ENTER,
        abi::H_ENTER,
        abi::H_ENTER,
        abi::H_READ,
        abi::H_PROTECT,
        abi::H_REMOVE,
        abi::H_BULK_REMOVE,
        abi::H_BLOCK_REMOVE,
        abi::H_CLEAR_REF,
        abi::H_CLEAR_MOD,
    ];
    let mut good = 0;
    for _ in 0..20_000 {
        let token = tokens[next(tokens.len() as u64) as usize];
        let slot = next(0x60);
        let slot = if slot == 0x5f { 1 << 14 } else { slot };
        let arguments = match token {
            abi::H_ENTER => [
                next(2) << 39,
                slot,
                ENTRY.0 ^ next(4) << 7,
                ENTRY.1 ^ next(4) << 7 ^ next(64) << 24,
            ],
            abi::H_BULK_REMOVE => [
                1 << 62 | slot,
                0,
                1 << 62 | next(4) << 56 | next(0x60),
                ENTRY.0 & !0x7f,
            ],
            abi::H_BLOCK_REMOVE => [
                ENTRY.0 & !0x7f,
                1 << 62 | slot,
                1 << 62 | next(0x60),
                3 << 62,
            ],
            abi::H_READ => [next(2) << 37, slot, 7, 7],
            _ => [next(4) << 30 | next(4), slot, ENTRY.0 & !0x7f, 7],
        };
        let ours = direct.call(CLIENT, token, &arguments);
        let theirs = proxied.proxy(CLIENT, token, &arguments).unwrap();
        assert_eq!(ours, theirs, "{token:#x} {arguments:x?}");
        good += u64::from(ours.status() == Status::Success);
    }
    assert!(good > 5000, "{good} calls went well");
    assert_eq!(direct.image(CLIENT), proxied.image(CLIENT));
    let real = |world: &World<'_>| (0..0x60).map(|slot| world.real(slot)).collect::<Vec<_>>();
    assert_eq!(real(&direct), real(&proxied));
}

/// The caller's LPIDR names the caller: whatever is flushed is flushed for the target, everywhere.
#[test]
fn it_flushes_the_target_on_every_thread() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let slots = [8, 16, 24, 32];
    for slot in slots {
        enter(&world, slot);
    }
    let specifiers = [1 << 62 | 16, 0, 1 << 62 | 24, 0, 3 << 62, 0, 0, 0];
    let calls: [(u64, &[u64], usize); 3] = [
        (abi::H_REMOVE, &[0, 8, 0], 1),
        (abi::H_BULK_REMOVE, &specifiers, 2),
        (abi::H_PROTECT, &[1, 32, 0], 1),
    ];
    for (token, arguments, flushed) in calls {
        world.system.machine.record();
        let answer = world.proxy(CLIENT, token, arguments).unwrap();
        assert_eq!(answer.status(), Status::Success);
        let events = world.system.machine.recorded();
        let everywhere = events
            .iter()
            .filter(|event| matches!(event, Event::Tlbie(_, lpid) if *lpid == Lpid::new(CLIENT)));
        assert_eq!(everywhere.count(), flushed, "{token:#x}: {events:?}");
        assert!(events.contains(&Event::Tlbsync));
    }
}

/// Of a paused partition the pending count is exact: after calls by proxy, too, one of which may change entries in
/// eight places.
#[test]
fn the_pending_count_stays_exact() {
    // 32 blocks of 4096 slots. In eight groups the same page may stand.
    let store = Store::pair(21);
    let world = World::new(&store, Format::V3_0);
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    let readers = [world.open(CLIENT, 0, 0), world.open(CLIENT, 0, 0)];
    let pending = || {
        world
            .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
            .ok()[6]
    };
    let read = || readers.map(|reader| said(&world.pass(reader, BUFFER_SIZE).records).count());
    assert_eq!(world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
    let _ = read();
    for round in 0..4 {
        let slots: Vec<u64> = (0..8).map(|number| (number * 4) << 12 | round).collect();
        for (number, &slot) in (1..).zip(&slots) {
            enter(&world, slot);
            assert_eq!(pending(), 2 * number, "each of them for each reader");
        }
        assert_eq!(read(), [8, 8]);
        assert_eq!(pending(), 0);
        let requests = slots.iter().map(|slot| 1 << 62 | slot);
        let arguments: Vec<u64> = std::iter::once(ENTRY.0 & !0x7f).chain(requests).collect();
        let removed = world
            .proxy(CLIENT, abi::H_BLOCK_REMOVE, &arguments)
            .unwrap();
        assert_eq!(removed.status(), Status::Success);
        assert_eq!(pending(), 16, "eight in one call");
        assert_eq!(read(), [8, 8]);
    }
}
