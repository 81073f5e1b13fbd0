//! Interrupts between vCPUs: who cedes beside one is not left asleep, and who opens up beside one is told.

use loom::thread;
use realhpt::hcall::abi::{H_CEDE, H_CPPR, H_EOI, H_IPI, H_XIRR, Status};
use realhpt::lpar::schedule::Readiness;
use realhpt::lpar::vcpus::Left;

use crate::control::START;
use crate::world::{World, explore, status};

/// Two vCPUs on CPUs of their own.
fn running() -> World {
    let world = World::new();
    let control = world.partition().control();
    control.start(START, || Ok(())).unwrap();
    control.start_vcpu(1, START).unwrap();
    for vcpu in [0, 1] {
        assert!(control.dispatch(vcpu, vcpu).is_some());
    }
    world
}

fn call(world: World, vcpu: u32, token: u64, arguments: &[u64]) -> u64 {
    let frame = world.call_from(vcpu, token, arguments);
    assert_eq!(status(&frame), Status::Success);
    frame.argument(0)
}

#[test]
fn ipi_against_cede() {
    explore(3, || {
        let world = running();
        call(world, 1, H_CPPR, &[0xff]);
        let other = thread::spawn(move || {
            call(world, 1, H_CEDE, &[]);
            world.partition().control().leave(1, Left::Ceded);
        });
        call(world, 0, H_IPI, &[1, 4]);
        other.join().unwrap();
        assert!(world.partition().external_pending(1));
        let readiness = world.partition().control().readiness(1);
        assert_eq!(readiness, Readiness::Ready, "it sleeps over an interrupt");
    });
}

/// One asks for an interrupt while the other takes what there is: it is taken once, or still waits.
#[test]
fn ipi_against_accept() {
    explore(3, || {
        let world = running();
        call(world, 1, H_CPPR, &[0xff]);
        let other = thread::spawn(move || {
            let xirr = call(world, 1, H_XIRR, &[]);
            let taken = xirr & 0xff_ffff != 0;
            if taken {
                // As a handler does: what is asked for after that is new.
                call(world, 1, H_IPI, &[1, 0xff]);
                call(world, 1, H_EOI, &[xirr]);
            }
            taken
        });
        call(world, 0, H_IPI, &[1, 4]);
        let taken = other.join().unwrap();
        assert_eq!(world.partition().external_pending(1), !taken);
    });
}
