//! H_REGISTER_VPA, and what is told in the areas; H_CONFER, which goes by it.

use crate::common::world::{CLIENT, CLIENT_HOST, CLIENT_MEMORY, CLIENT_WINDOW, Store, World};
use crate::rtas::word;
use crate::{running, status};
use realhpt::addr::HostReal;
use realhpt::arch::Machine as _;
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{H_CONFER, H_CPPR, H_IPI, H_PROD, H_REGISTER_VPA, Status, vpa};
use realhpt::hcall::{Next, Seat};
use realhpt::lpar::vcpu::Registers;
use realhpt::lpar::vcpus::Left;

const VPA: u64 = 0x1_0000;
const SHADOW: u64 = 0x2_0080;
const LOG: u64 = 0x3_0000;
const YIELD_COUNT: u64 = 0x100;
const DISPERSION_COUNT: u64 = 0x104;
const LOG_INDEX: u64 = 0x218;

fn store(world: &World<'_>, guest: u64, dword: u64) {
    let at = HostReal::new(CLIENT_HOST + guest);
    world.system.machine.store(at, dword);
}

fn load(world: &World<'_>, guest: u64) -> u64 {
    u64::from(word(world, guest)) << 32 | u64::from(word(world, guest + 4))
}

fn register(world: &World<'_>, what: u64, vcpu: u64, at: u64) -> Status {
    status(world, H_REGISTER_VPA, &[what, vcpu, at])
}

/// Areas with these lengths in their heads.
fn heads(world: &World<'_>, vpa: u64, shadow: u64, log: u64) {
    store(world, VPA, 0xd397_d781 << 32 | vpa << 16);
    store(world, SHADOW, shadow);
    store(world, LOG, log);
}

fn seat(vcpu: u32, cpu: u32) -> Seat {
    Seat { vcpu, cpu }
}

/// A vCPU gets a CPU, as a board does it.
fn dispatch(world: &World<'_>, seat: Seat, registers: &Registers) {
    let partition = world.client();
    let duty = partition
        .control()
        .dispatch(seat.vcpu as usize, seat.cpu as usize);
    assert!(duty.is_some());
    partition.vcpu_dispatched(&world.system.machine, seat, registers);
}

fn leave(world: &World<'_>, vcpu: usize, left: Left) {
    world.system.leave(world.client(), vcpu, left);
}

/// A world whose vCPUs are on CPUs of their own, and have been told so.
fn told(store: &Store) -> World<'_> {
    let world = running(store, 2);
    for vcpu in [0, 1] {
        let seat = seat(vcpu, vcpu);
        world
            .client()
            .vcpu_dispatched(&world.system.machine, seat, &Registers::new());
    }
    world
}

#[test]
fn an_area_is_aligned_long_enough_and_in_one_page() {
    let memory = Store::pair(18);
    let world = told(&memory);
    heads(&world, 640, 128, 4096);
    let vpa = |at| register(&world, vpa::REGISTER, 0, at);
    for at in [
        0,
        VPA + 8,
        VPA + 64,
        VPA + 1,
        CLIENT_MEMORY,
        CLIENT_MEMORY - 8,
        1 << 63,
        u64::MAX,
        u64::MAX - 127,
        CLIENT_WINDOW.0 - 128,
    ] {
        assert_eq!(vpa(at), Status::Parameter, "{at:#x}");
    }
    for length in [0, 1, 632, 639, 4097, 0xffff] {
        heads(&world, length, 128, 4096);
        assert_eq!(vpa(VPA), Status::Parameter, "{length}");
    }
    for length in [640, 1024, 4096] {
        heads(&world, length, 128, 4096);
        assert_eq!(vpa(VPA), Status::Success, "{length}");
    }
    // At the end of a page, and of memory: all of it, or nothing.
    for page in [VPA, CLIENT_MEMORY - 4096] {
        for (at, expected) in [
            (page + 4096 - 640, Status::Success),
            (page + 4096 - 512, Status::Parameter),
        ] {
            store(&world, at, 640 << 16);
            assert_eq!(vpa(at), expected, "{at:#x}");
        }
    }
    for (what, at) in [(vpa::REGISTER_SHADOW, SHADOW), (vpa::REGISTER_LOG, LOG)] {
        for at in [0, at + 8, CLIENT_MEMORY, u64::MAX - 127] {
            assert_eq!(register(&world, what, 0, at), Status::Parameter, "{at:#x}");
        }
    }
    for (length, expected) in [
        (0, Status::Parameter),
        (7, Status::Parameter),
        (8, Status::Success),
        (0xf80, Status::Success),
        (0xf81, Status::Parameter),
        (0xffff_ffff, Status::Parameter),
    ] {
        heads(&world, 640, length, 48);
        let shadow = register(&world, vpa::REGISTER_SHADOW, 0, SHADOW);
        assert_eq!(shadow, expected, "{length}");
    }
    for (length, expected) in [
        (0, Status::Parameter),
        (47, Status::Parameter),
        (48, Status::Success),
        (0x1_0000, Status::Success),
        (CLIENT_MEMORY - LOG, Status::Success),
        (CLIENT_MEMORY - LOG + 1, Status::Parameter),
        (0xffff_ffff, Status::Parameter),
    ] {
        heads(&world, 640, 8, length);
        let log = register(&world, vpa::REGISTER_LOG, 0, LOG);
        assert_eq!(log, expected, "{length}");
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    let memory = Store::pair(18);
    let world = told(&memory);
    heads(&world, 640, 128, 4096);
    for what in [0, 4 << 45, 1, 8 << 45, vpa::REGISTER | 1, 1 << 63, u64::MAX] {
        assert_eq!(register(&world, what, 0, VPA), Status::Parameter);
    }
    for vcpu in [2, 8, 0xbad_bad, 1 << 32, u64::MAX] {
        for what in 1..8 {
            let status = register(&world, what << 45, vcpu, VPA);
            assert_eq!(status, Status::Parameter, "{what} {vcpu:#x}");
        }
    }
}

#[test]
fn a_log_and_a_shadow_stand_beside_a_vpa() {
    let memory = Store::pair(18);
    let world = told(&memory);
    heads(&world, 640, 128, 4096);
    let call = |what, at| register(&world, what, 1, at);
    let others = [
        (vpa::REGISTER_SHADOW, vpa::DEREGISTER_SHADOW, SHADOW),
        (vpa::REGISTER_LOG, vpa::DEREGISTER_LOG, LOG),
    ];
    for what in [vpa::DEREGISTER, vpa::DEREGISTER_SHADOW, vpa::DEREGISTER_LOG] {
        assert_eq!(call(what, u64::MAX), Status::Success, "there was none");
    }
    for (begin, end, at) in others {
        assert_eq!(call(begin, at), Status::Resource);
        assert_eq!(register(&world, vpa::REGISTER, 0, VPA), Status::Success);
        assert_eq!(call(begin, at), Status::Resource, "that is another vCPU's");
        assert_eq!(call(vpa::REGISTER, VPA), Status::Success);
        assert_eq!(call(begin, at), Status::Success);
        assert_eq!(call(begin, at), Status::Success, "twice is once");
        assert_eq!(call(vpa::DEREGISTER, 0), Status::Resource);
        assert_eq!(call(end, 0), Status::Success);
        assert_eq!(call(vpa::DEREGISTER, 0), Status::Success);
        assert_eq!(call(begin, at), Status::Resource);
    }
}

#[test]
fn the_yield_count_is_even_while_the_vcpu_runs() {
    let memory = Store::pair(18);
    let world = told(&memory);
    let registers = Registers::new();
    heads(&world, 640, 128, 4096);
    store(&world, VPA + 8, 0x1200_3400_0000_0001);
    store(&world, VPA + YIELD_COUNT, u64::MAX);
    assert_eq!(register(&world, vpa::REGISTER, 0, VPA), Status::Success);
    assert_eq!(load(&world, VPA + 8), 0x1202_3400_0000_0001, "shared");
    let count = || word(&world, VPA + YIELD_COUNT);
    let dispersion = || word(&world, VPA + DISPERSION_COUNT);
    let first = count();
    assert_eq!((first % 2, dispersion()), (0, 0));
    leave(&world, 0, Left::Ceded);
    assert_eq!(count(), first + 1);
    world.system.machine.pass(30);
    dispatch(&world, seat(0, 0), &registers);
    assert_eq!((count(), dispersion()), (first + 2, 0));
    assert_eq!(
        (load(&world, VPA + 0x158), load(&world, VPA + 0x168)),
        (0, 30)
    );
    // Whatever the guest writes there.
    store(&world, VPA + YIELD_COUNT, u64::MAX);
    leave(&world, 0, Left::Preempted);
    world.system.machine.pass(12);
    dispatch(&world, seat(0, 3), &registers);
    assert_eq!((count(), dispersion()), (first + 4, 1));
    assert_eq!(
        (load(&world, VPA + 0x158), load(&world, VPA + 0x168)),
        (12, 30)
    );
    assert_eq!(register(&world, vpa::DEREGISTER, 0, 0), Status::Success);
    assert_eq!(count(), first + 5, "odd when it is shown no more");
    leave(&world, 0, Left::Preempted);
    dispatch(&world, seat(0, 0), &registers);
    assert_eq!(count(), first + 5);
    // Of one that has no processor it is odd.
    leave(&world, 1, Left::Preempted);
    assert_eq!(register(&world, vpa::REGISTER, 1, VPA), Status::Success);
    assert_eq!(count() % 2, 1);
}

#[test]
fn dispatches_are_logged_as_the_mask_says() {
    const ENTRIES: u64 = 3;
    let memory = Store::pair(18);
    let world = told(&memory);
    // Three entries and a half.
    heads(&world, 640, 128, ENTRIES * 48 + 24);
    assert_eq!(register(&world, vpa::REGISTER, 0, VPA), Status::Success);
    assert_eq!(register(&world, vpa::REGISTER_LOG, 0, LOG), Status::Success);
    world.call(CLIENT, H_CPPR, &[0xff]).ok();
    let mut registers = Registers::new();
    (registers.pc, registers.msr) = (0xc000_1234, 0x8000_0000_0000_9033);
    let mut turn = |mask: u64, left, cpu| {
        store(&world, VPA + 0xb8, mask << 56 | 0xff_ffff);
        leave(&world, 0, left);
        world.system.machine.pass(5);
        registers.pc += 4;
        dispatch(&world, seat(0, cpu), &registers);
        word(&world, VPA + LOG_INDEX + 4)
    };
    assert_eq!(turn(0, Left::Preempted, 0), 0);
    assert_eq!(turn(1, Left::Preempted, 0), 0);
    assert_eq!(turn(2, Left::Ceded, 0), 0);
    assert_eq!(turn(1, Left::Ceded, 0), 1);
    assert_eq!(turn(7, Left::Preempted, 2), 2);
    world.call_of(CLIENT, 1, H_IPI, &[0, 4]).ok();
    assert_eq!(turn(3, Left::Ceded, 0), 3);
    let entry = |number: u64| {
        let at = LOG + number * 48;
        [0, 8, 16, 24, 32, 40].map(|offset| load(&world, at + offset))
    };
    let (pc, msr) = (0xc000_1234, 0x8000_0000_0000_9033);
    // It ceded, and its turn came.
    assert_eq!(entry(0), [7 << 56 | 2 << 48, 5, 20, 0, pc + 16, msr]);
    // Its slice was over, and it got another one on CPU 2.
    let slice = 7 << 56 | 4 << 48 | 2 << 32 | 5;
    assert_eq!(entry(1), [slice, 0, 25, 0, pc + 20, msr]);
    // An interrupt woke it.
    assert_eq!(entry(2), [2 << 48, 5, 30, 0, pc + 24, msr]);
    assert_eq!(entry(3), [0; 6], "there is no room for a fourth");
    assert_eq!(turn(3, Left::Ceded, 0), 4);
    assert_eq!(entry(0)[2], 35, "it goes round");
}

#[test]
fn the_slice_goes_to_one_that_was_preempted() {
    let memory = Store::pair(18);
    let world = told(&memory);
    let confer = |target, count| {
        let answer = world.call(CLIENT, H_CONFER, &[target, count]);
        (answer.status(), answer.next)
    };
    let (goes_on, gives) = (
        (Status::Success, Next::Resume),
        (Status::Success, Next::Yield),
    );
    heads(&world, 640, 128, 4096);
    assert_eq!(confer(1, 0), gives, "it shows no count");
    assert_eq!(register(&world, vpa::REGISTER, 1, VPA), Status::Success);
    let count = || u64::from(word(&world, VPA + YIELD_COUNT));
    assert_eq!(confer(1, count()), goes_on, "it runs");
    let running = count();
    leave(&world, 1, Left::Preempted);
    assert_eq!(confer(1, running), goes_on, "it is not as it was");
    assert_eq!(confer(1, count()), gives);
    assert_eq!(confer(1, 0xffff_ffff << 32 | count()), gives);
    let preempted = count();
    dispatch(&world, seat(1, 1), &Registers::new());
    assert_eq!(confer(1, preempted), goes_on, "it has run since");
    assert_eq!(confer(u64::MAX, 0), gives);
    for target in [2, 1 << 32, u64::MAX - 1] {
        assert_eq!(confer(target, 0), (Status::Parameter, Next::Resume));
        assert_eq!(status(&world, H_PROD, &[target]), Status::Parameter);
    }
}

#[test]
fn nothing_is_told_of_a_vcpu_that_stopped_or_a_partition_that_starts() {
    let memory = Store::pair(18);
    let world = told(&memory);
    heads(&world, 640, 128, 4096);
    assert_eq!(register(&world, vpa::REGISTER, 1, VPA), Status::Success);
    leave(&world, 1, Left::Stopped);
    assert_eq!(word(&world, VPA + YIELD_COUNT) % 2, 1);
    let shadow = register(&world, vpa::REGISTER_SHADOW, 1, SHADOW);
    assert_eq!(shadow, Status::Resource, "there is no VPA");
    assert_eq!(register(&world, vpa::REGISTER, 0, VPA), Status::Success);
    world.restart(CLIENT);
    store(&world, VPA + YIELD_COUNT, 0x77);
    leave(&world, 0, Left::Preempted);
    world.system.machine.record();
    dispatch(&world, seat(0, 0), &Registers::new());
    assert_eq!(load(&world, VPA + YIELD_COUNT), 0x77);
    assert_eq!(world.system.machine.recorded(), Vec::<Event>::new());
}
