//! Several vCPUs at once, on threads: what one may not do to another by the moment it chooses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::world::{AGENT, BUFFER, CLIENT, Spec, Store, World};
use realhpt::addr::GuestReal;
use realhpt::hcall::abi::rtas::REBOOT;
use realhpt::hcall::abi::{self, State, Status};
use realhpt::hcall::{Frame, Seat, dispatch};
use realhpt::lpar::control::Start;
use realhpt::lpar::vcpu::Endian;
use realhpt::lpar::vcpus::Left;
use realhpt::table::Format;

/// How long two that wait for each other may take to come apart.
const PATIENCE: Duration = Duration::from_secs(20);

const START: Start = Start {
    entry: GuestReal::new(0x100),
    r3: 0,
    endian: Endian::Big,
};

/// An agent of two vCPUs and a client, both with tables that they may resize, in memory that is never given back,
/// on POWER8: each CPU forgets for itself.
fn power8() -> &'static World<'static> {
    let agent = Spec {
        vcpus: 2,
        ..Spec::agent().resizable(19)
    };
    let store = Store::new(&[agent, Spec::client(18).resizable(22)]);
    let store = Box::leak(Box::new(store));
    let machine = store.machine().forgetting_for_itself();
    Box::leak(Box::new(World::on(machine, store, Format::V2_07)))
}

/// A call of a vCPU on the CPU of the same number.
fn call(world: &World<'_>, lpid: u16, number: u32, token: u64, arguments: [u64; 2]) -> Status {
    let mut frame = Frame::default();
    frame.regs[0] = token;
    frame.regs[1..3].copy_from_slice(&arguments);
    let seat = Seat {
        vcpu: number,
        cpu: number,
    };
    let (system, board) = (&world.system, &world.board);
    let _ = dispatch(
        system,
        board,
        world.partition(lpid),
        seat,
        false,
        &mut frame,
    );
    Status::from_raw(frame.regs[0]).unwrap()
}

fn prepare(mut call: impl FnMut() -> Status) {
    for _ in 0..300 {
        match call() {
            Status::LongBusyOrder1Msec | Status::LongBusyOrder100Msec => {}
            status => return assert_eq!(status, Status::Success),
        }
    }
    panic!("the prepares do not end");
}

/// One vCPU commits for a partition that the other's CPU has still to forget; the other commits for its own
/// partition, so it waits for the first one to leave. Each waits for what the other has to do.
#[test]
fn who_waits_for_a_sibling_does_what_the_sibling_waits_for() {
    let world = power8();
    let (agent, client) = (world.partition(AGENT), world.client());
    let machine = &world.system.machine;
    // It needs no VRMA.
    agent.control().start(START, || Ok(())).unwrap();
    agent.control().start_vcpu(1, START).unwrap();
    for number in 0..2 {
        assert!(agent.control().dispatch(number, number).is_some());
    }
    client.start(machine, START).unwrap();
    assert!(client.control().dispatch(0, 1).is_some());
    client.control().leave(0, Left::Preempted);
    world.system.halt(client, 1);
    prepare(|| call(world, AGENT, 1, abi::H_RESIZE_HPT_PREPARE, [0, 19]));
    prepare(|| {
        let made = world.proxy(CLIENT, abi::H_RESIZE_HPT_PREPARE, &[0, 20]);
        made.unwrap().status()
    });

    let (done, ends) = mpsc::channel();
    let other = done.clone();
    // vCPU 1 holds the partition, and waits for vCPU 0.
    thread::spawn(move || {
        let status = call(world, AGENT, 1, abi::H_RESIZE_HPT_COMMIT, [0, 19]);
        world.partition(AGENT).control().leave(1, Left::Preempted);
        other.send(("its own", status)).unwrap();
    });
    thread::spawn(move || {
        while world.partition(AGENT).control().stays(0) {
            thread::yield_now();
        }
        let mut registers = [0; 10];
        registers[0] = abi::H_RESIZE_HPT_COMMIT;
        registers[2] = 20;
        world.put_registers(BUFFER, registers);
        let made = call(
            world,
            AGENT,
            0,
            abi::H_LPAR_HCALL,
            [u64::from(CLIENT), BUFFER],
        );
        assert_eq!(made, Status::Success);
        world.partition(AGENT).control().leave(0, Left::Preempted);
        let status = Status::from_raw(world.registers(BUFFER)[0]).unwrap();
        done.send(("the client's", status)).unwrap();
        // Its CPU goes on with its rounds.
        loop {
            world.system.pay(0);
            thread::yield_now();
        }
    });
    for _ in 0..2 {
        let ended = ends.recv_timeout(PATIENCE);
        assert!(
            matches!(ended, Ok((_, Status::Success))),
            "{ended:?}: each waits for the other"
        );
    }
}

/// A pause that is still at its work has looked at the partition as it was: resumed meanwhile, and paused again by
/// someone else, it would be called quiet though it ran since.
#[test]
fn a_partition_is_not_resumed_in_the_middle_of_a_pause() {
    let store = Box::leak(Box::new(Store::pair(18)));
    let world: &'static World<'static> = Box::leak(Box::new(World::new(store, Format::V3_0)));
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    let (tell, told) = mpsc::channel();
    world.system.machine.late(move || {
        let resumed = world.call(AGENT, abi::H_LPAR_RESUME, &[u64::from(CLIENT)]);
        tell.send(resumed.status()).unwrap();
    });
    assert_eq!(world.control(abi::H_LPAR_PAUSE, CLIENT), Status::Success);
    assert_eq!(told.try_recv(), Ok(Status::Busy));
    assert_eq!(world.control(abi::H_LPAR_RESUME, CLIENT), Status::Success);
}

/// An agent asks for pauses again and again while its client starts anew on another CPU: had the client a moment in which it
/// is stopped, a pause would have it first, and the start be refused for good.
#[test]
fn who_pauses_a_guest_that_starts_again_does_not_end_it() {
    let store = Store::pair(18);
    let world = World::new(&store, Format::V3_0);
    let (client, machine) = (world.client(), &world.system.machine);
    let restart = || client.restart(machine, 1, REBOOT, START);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let _ = world.control(abi::H_LPAR_PAUSE, CLIENT);
                let _ = world.control(abi::H_LPAR_RESUME, CLIENT);
            }
        });
        for _ in 0..200 {
            world.system.halt(client, REBOOT);
            let begin = Instant::now();
            while let Err(status) = restart() {
                assert!(matches!(status, Status::Continue | Status::Busy));
                assert!(begin.elapsed() < PATIENCE, "it does not start again");
            }
            assert!(matches!(client.state(), State::Running | State::Paused));
        }
        ended.store(true, Ordering::Relaxed);
    });
}
