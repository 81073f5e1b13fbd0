//! The interrupt calls: answers, and that no interrupt is lost or delivered twice, whatever the vCPUs do.

use proptest::prelude::{any, prop_oneof};
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::Config;

use crate::common::runner::runner;
use crate::common::world::{CLIENT, Store, World};
use crate::rtas;
use crate::{running, status};
use realhpt::arch::host::Event;
use realhpt::hcall::Next;
use realhpt::hcall::abi::rtas::{
    GET_XIVE, INT_OFF, INT_ON, PARAMETER_ERROR, SET_XIVE, STOP_SELF, SUCCESS,
};
use realhpt::hcall::abi::{
    H_CEDE, H_CPPR, H_EOI, H_GET_TERM_CHAR, H_IPI, H_IPOLL, H_XIRR, H_XIRR_X, Status, VTY_INTERRUPT,
};
use realhpt::lpar::schedule::Readiness;
use realhpt::lpar::vcpus::Left;

const IPI: u64 = 2;
const VTY: u64 = VTY_INTERRUPT as u64;

fn cppr(world: &World<'_>, vcpu: u32, cppr: u64) -> Next {
    let answer = world.call_of(CLIENT, vcpu, H_CPPR, &[cppr]);
    answer.ok();
    answer.next
}

fn xirr(world: &World<'_>, vcpu: u32) -> u64 {
    let answer = world.call_of(CLIENT, vcpu, H_XIRR, &[]);
    assert_eq!(answer.next, Next::Resume);
    answer.ok()[0]
}

fn eoi(world: &World<'_>, vcpu: u32, xirr: u64) -> Next {
    let answer = world.call_of(CLIENT, vcpu, H_EOI, &[xirr]);
    answer.ok();
    answer.next
}

fn ipi(world: &World<'_>, vcpu: u32, server: u64, mfrr: u64) -> Next {
    let answer = world.call_of(CLIENT, vcpu, H_IPI, &[server, mfrr]);
    answer.ok();
    answer.next
}

fn poll(world: &World<'_>, server: u64) -> (u64, u64) {
    let out = world.call(CLIENT, H_IPOLL, &[server]).ok();
    (out[0], out[1])
}

fn pending(world: &World<'_>) -> [bool; 2] {
    [0, 1].map(|vcpu| world.client().external_pending(vcpu))
}

/// What a device does when it has input.
fn raise(world: &World<'_>) {
    world.client().terminal_has_input(&world.system.machine);
}

#[test]
fn an_interprocessor_interrupt_comes_to_its_server() {
    let store = Store::pair(18);
    let world = running(&store, 2);
    // A vCPU that was started takes nothing.
    assert_eq!(ipi(&world, 0, 1, 4), Next::Resume);
    assert_eq!(pending(&world), [false, false]);
    assert_eq!(poll(&world, 1), (0, 4));
    assert_eq!(cppr(&world, 1, 0xff), Next::Interrupt);
    assert_eq!(pending(&world), [false, true]);
    assert_eq!(poll(&world, 1), (0xff << 24 | IPI, 4));
    let taken = xirr(&world, 1);
    assert_eq!(taken, 0xff << 24 | IPI);
    // Its own priority holds it back now.
    assert_eq!(
        (pending(&world), poll(&world, 1)),
        ([false; 2], (4 << 24, 4))
    );
    assert_eq!(xirr(&world, 1), 4 << 24);
    // One that is not taken back comes again.
    assert_eq!(eoi(&world, 1, taken), Next::Interrupt);
    let taken = xirr(&world, 1);
    assert_eq!(ipi(&world, 1, 1, 0xff), Next::Resume);
    assert_eq!(eoi(&world, 1, taken), Next::Resume);
    assert_eq!((xirr(&world, 1), pending(&world)), (0xff << 24, [false; 2]));
    // To oneself: it is looked for before the vCPU goes on.
    assert_eq!(ipi(&world, 1, 1, 0), Next::Interrupt);
    assert_eq!(xirr(&world, 1), 0xff << 24 | IPI);
}

#[test]
fn a_server_in_guest_state_is_kicked_and_one_that_ceded_wakes() {
    let store = Store::pair(18);
    let world = running(&store, 2);
    let control = world.client().control();
    cppr(&world, 1, 0xff);
    world.system.machine.record();
    ipi(&world, 0, 1, 4);
    assert_eq!(world.system.machine.recorded(), [Event::Kick(1)]);
    // Asked for again, nothing is new.
    world.system.machine.record();
    ipi(&world, 0, 1, 3);
    assert_eq!(world.system.machine.recorded(), []);
    ipi(&world, 0, 1, 0xff);
    let cede = |vcpu| {
        let answer = world.call_of(CLIENT, vcpu, H_CEDE, &[]);
        assert_eq!(
            (answer.status(), answer.next),
            (Status::Success, Next::Cede)
        );
        control.leave(1, Left::Ceded);
    };
    // The kick's prod is used up by the first cede.
    cede(1);
    assert_eq!(control.readiness(1), Readiness::Ready);
    assert!(control.dispatch(1, 1).is_some());
    cede(1);
    assert_eq!(control.readiness(1), Readiness::Ceded);
    world.system.machine.record();
    ipi(&world, 0, 1, 4);
    assert_eq!(control.readiness(1), Readiness::Ready);
    assert_eq!(world.system.machine.recorded(), [], "it is on no CPU");
    // One that waits is not slept over, however often.
    for _ in 0..3 {
        assert!(control.dispatch(1, 1).is_some());
        cede(1);
        assert_eq!(control.readiness(1), Readiness::Ready);
    }
}

#[test]
fn a_source_goes_where_it_is_routed_while_it_is_on() {
    let store = Store::pair(18);
    let world = running(&store, 2);
    let call = |token, arguments: &[u32], results| rtas::call(&world, token, arguments, results);
    let number = VTY_INTERRUPT;
    assert_eq!(call(GET_XIVE, &[number], 3), [SUCCESS, 0, 0xff]);
    for vcpu in [0, 1] {
        cppr(&world, vcpu, 0xff);
    }
    raise(&world);
    assert_eq!(pending(&world), [false; 2], "it has no priority yet");
    assert_eq!(call(SET_XIVE, &[number, 1, 5], 1), [SUCCESS]);
    assert_eq!(call(GET_XIVE, &[number], 3), [SUCCESS, 1, 5]);
    assert_eq!(pending(&world), [false, true]);
    assert_eq!(call(INT_OFF, &[number], 1), [SUCCESS]);
    assert_eq!(call(GET_XIVE, &[number], 3), [SUCCESS, 1, 0xff]);
    assert_eq!(pending(&world), [false; 2]);
    assert_eq!(call(INT_ON, &[number], 1), [SUCCESS]);
    assert_eq!(call(GET_XIVE, &[number], 3), [SUCCESS, 1, 5]);
    assert_eq!(pending(&world), [false, true]);
    // An interprocessor interrupt is more favoured, and the source waits.
    ipi(&world, 0, 1, 4);
    let outer = xirr(&world, 1);
    assert_eq!((outer, pending(&world)), (0xff << 24 | IPI, [false; 2]));
    ipi(&world, 1, 1, 0xff);
    assert_eq!(eoi(&world, 1, outer), Next::Interrupt);
    let taken = xirr(&world, 1);
    assert_eq!(taken, 0xff << 24 | VTY);
    // Nobody else gets it meanwhile, wherever it goes.
    assert_eq!(call(SET_XIVE, &[number, 0, 3], 1), [SUCCESS]);
    assert_eq!(pending(&world), [false; 2]);
    world.system.machine.record();
    assert_eq!(eoi(&world, 1, taken), Next::Resume, "it is the other's now");
    assert_eq!(pending(&world), [true, false], "there is still input");
    assert_eq!(world.system.machine.recorded(), [Event::Kick(0)]);
    let taken = xirr(&world, 0);
    world.call(CLIENT, H_GET_TERM_CHAR, &[0]).ok();
    assert_eq!(eoi(&world, 0, taken), Next::Resume);
    assert_eq!(pending(&world), [false; 2], "it was read");
    for arguments in [[number + 1, 0, 5], [2, 0, 5], [0, 0, 5], [number, 2, 5]] {
        assert_eq!(call(SET_XIVE, &arguments, 1), [PARAMETER_ERROR]);
    }
    assert_eq!(call(SET_XIVE, &[number, 0, 0x100], 1), [PARAMETER_ERROR]);
    assert_eq!(call(GET_XIVE, &[number], 3), [SUCCESS, 0, 3]);
    for token in [INT_OFF, INT_ON] {
        assert_eq!(call(token, &[0], 1), [PARAMETER_ERROR]);
    }
    assert_eq!(call(GET_XIVE, &[2], 3)[0], PARAMETER_ERROR);
}

#[test]
fn input_that_is_not_read_interrupts_again() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    assert_eq!(
        rtas::call(&world, SET_XIVE, &[VTY_INTERRUPT, 0, 5], 1),
        [SUCCESS]
    );
    cppr(&world, 0, 0xff);
    world.board.input.lock().unwrap().extend([b'x'; 20]);
    raise(&world);
    let taken = xirr(&world, 0);
    assert_eq!(world.call(CLIENT, H_GET_TERM_CHAR, &[0]).ok()[0], 16);
    assert_eq!(eoi(&world, 0, taken), Next::Interrupt);
    let taken = xirr(&world, 0);
    assert_eq!(world.call(CLIENT, H_GET_TERM_CHAR, &[0]).ok()[0], 4);
    assert_eq!(eoi(&world, 0, taken), Next::Resume);
}

#[test]
fn what_is_out_of_range_is_refused_or_cut() {
    let store = Store::pair(18);
    let world = running(&store, 2);
    for server in [2, 8, 64, 1 << 32, 1 << 32 | 1, u64::MAX] {
        assert_eq!(status(&world, H_IPI, &[server, 0]), Status::Parameter);
        assert_eq!(status(&world, H_IPOLL, &[server]), Status::Parameter);
    }
    cppr(&world, 0, 0x1ff);
    assert_eq!(poll(&world, 0), (0xff << 24, 0xff));
    cppr(&world, 0, u64::MAX << 8 | 7);
    assert_eq!(poll(&world, 0).0, 7 << 24);
    ipi(&world, 0, 0, 0xffff_ff09);
    assert_eq!(poll(&world, 0), (7 << 24, 9));
    for number in [1, 3, 0x1000, 0x1002, 0xff_ffff] {
        assert_eq!(
            status(&world, H_EOI, &[0xff << 24 | number]),
            Status::Parameter
        );
    }
    assert_eq!(poll(&world, 0).0, 7 << 24, "a refused end changes nothing");
    // The end of one that nobody accepted is an end.
    for number in [0, IPI, VTY] {
        eoi(&world, 0, 1 << 32 | 5 << 24 | number);
        assert_eq!(poll(&world, 0).0, 5 << 24);
    }
    world.system.machine.pass(77);
    assert_eq!(world.call(CLIENT, H_XIRR_X, &[]).ok()[..2], [5 << 24, 77]);
}

#[test]
fn a_vcpu_that_stops_and_a_partition_that_starts_begin_anew() {
    let store = Store::pair(18);
    let world = running(&store, 2);
    let control = world.client().control();
    assert_eq!(
        rtas::call(&world, SET_XIVE, &[VTY_INTERRUPT, 1, 5], 1),
        [SUCCESS]
    );
    cppr(&world, 0, 0xff);
    cppr(&world, 1, 0xff);
    raise(&world);
    assert_eq!(xirr(&world, 1), 0xff << 24 | VTY);
    assert_eq!(
        rtas::call(&world, SET_XIVE, &[VTY_INTERRUPT, 0, 5], 1),
        [SUCCESS]
    );
    let (next, _) = rtas::call_at(&world, 1, 0x3000, STOP_SELF, &[], 1);
    assert_eq!((next, pending(&world)), (Next::Stop, [false; 2]));
    // What it was serving goes to where it is routed.
    world.system.machine.record();
    world.system.leave(world.client(), 1, Left::Stopped);
    assert_eq!(world.system.machine.recorded(), [Event::Kick(0)]);
    assert_eq!(
        (poll(&world, 1), pending(&world)),
        ((0, 0xff), [true, false])
    );
    // What is asked for while it is offline is there when it starts.
    ipi(&world, 0, 1, 4);
    let start = realhpt::lpar::control::Start {
        entry: realhpt::addr::GuestReal::new(0x100),
        r3: 0,
        endian: realhpt::lpar::vcpu::Endian::Big,
    };
    control.start_vcpu(1, start).unwrap();
    assert!(control.dispatch(1, 1).is_some());
    assert_eq!(cppr(&world, 1, 5), Next::Interrupt);

    world.system.leave(world.client(), 1, Left::Preempted);
    world.restart(CLIENT);
    assert_eq!(pending(&world), [false; 2]);
    assert_eq!([0, 1].map(|vcpu| poll(&world, vcpu)), [(0, 0xff); 2]);
    assert_eq!(
        rtas::call(&world, GET_XIVE, &[VTY_INTERRUPT], 3),
        [SUCCESS, 0, 0xff]
    );
}

/// What the vCPUs and the device do.
#[derive(Clone, Copy, Debug)]
enum Op {
    Cppr(u8),
    Ipi(usize, u8),
    Accept,
    /// Ends the interrupt that was accepted last.
    End,
    Route(usize, u8),
    Switch(bool),
    Raise,
    /// The terminal is read, all of it.
    Read,
}

fn op() -> impl Strategy<Value = Op> {
    let priority = || prop_oneof![3 => 0..9u8, 2 => Just(0xff)];
    prop_oneof![
        2 => priority().prop_map(Op::Cppr),
        4 => (0..2usize, priority()).prop_map(|(server, mfrr)| Op::Ipi(server, mfrr)),
        5 => Just(Op::Accept),
        4 => Just(Op::End),
        2 => (0..2usize, priority()).prop_map(|(server, priority)| Op::Route(server, priority)),
        1 => any::<bool>().prop_map(Op::Switch),
        2 => Just(Op::Raise),
        1 => Just(Op::Read),
    ]
}

/// What holds, by LoPAR's words: all that asks to be presented, in a list.
#[derive(Debug)]
struct Model {
    cppr: [u8; 2],
    mfrr: [u8; 2],
    server: usize,
    priority: u8,
    on: bool,
    input: bool,
    /// XIRRs that each vCPU accepted and did not end.
    accepted: [Vec<u64>; 2],
}

impl Model {
    fn is_served(&self) -> bool {
        let mut all = self.accepted.iter().flatten();
        all.any(|xirr| xirr & 0xff_ffff == VTY)
    }

    fn asks(&self, vcpu: usize) -> Vec<(u8, u64)> {
        let mut asks = vec![(self.mfrr[vcpu], IPI)];
        if self.server == vcpu && self.on && self.input && !self.is_served() {
            asks.push((self.priority, VTY));
        }
        asks.retain(|&(priority, _)| priority < self.cppr[vcpu]);
        asks.sort_unstable();
        asks
    }

    fn apply(&mut self, world: &World<'_>, vcpu: usize, op: Op) -> Next {
        let number = vcpu as u32;
        let rtas = |token, arguments: &[u32]| {
            let (next, results) = rtas::call_at(world, number, 0x1000, token, arguments, 1);
            assert_eq!(results, [SUCCESS]);
            next
        };
        match op {
            Op::Cppr(value) => {
                self.cppr[vcpu] = value;
                cppr(world, number, value.into())
            }
            Op::Ipi(server, mfrr) => {
                self.mfrr[server] = mfrr;
                ipi(world, number, server as u64, mfrr.into())
            }
            Op::Accept => {
                let before = u64::from(self.cppr[vcpu]) << 24;
                let taken = xirr(world, number);
                if let Some(&(priority, source)) = self.asks(vcpu).first() {
                    assert_eq!(taken, before | source, "the most favoured one");
                    self.cppr[vcpu] = priority;
                    self.accepted[vcpu].push(taken);
                } else {
                    assert_eq!(taken, before, "there is none");
                }
                Next::Resume
            }
            Op::End => match self.accepted[vcpu].pop() {
                Some(xirr) => {
                    self.cppr[vcpu] = (xirr >> 24) as u8;
                    eoi(world, number, xirr)
                }
                None => Next::Resume,
            },
            Op::Route(server, priority) => {
                (self.server, self.priority, self.on) = (server, priority, true);
                rtas(SET_XIVE, &[VTY_INTERRUPT, server as u32, priority.into()])
            }
            Op::Switch(on) => {
                self.on = on;
                rtas(if on { INT_ON } else { INT_OFF }, &[VTY_INTERRUPT])
            }
            Op::Raise => {
                self.input = true;
                raise(world);
                Next::Resume
            }
            Op::Read => {
                self.input = false;
                world.call_of(CLIENT, number, H_GET_TERM_CHAR, &[0]).ok();
                Next::Resume
            }
        }
    }
}

#[test]
fn no_interrupt_is_lost_or_comes_twice() {
    let mut runner = runner(Config::with_cases(200));
    let ops = proptest::collection::vec((0..2usize, op()), 1..120);
    let store = Store::pair(18);
    runner
        .run(&ops, |ops| {
            store.empty();
            let world = running(&store, 2);
            let mut model = Model {
                cppr: [0; 2],
                mfrr: [0xff; 2],
                server: 0,
                priority: 0xff,
                on: true,
                input: false,
                accepted: [const { Vec::new() }; 2],
            };
            for (vcpu, op) in ops {
                let before = pending(&world);
                world.system.machine.record();
                let next = model.apply(&world, vcpu, op);
                let kicks = world.system.machine.recorded();
                let after = pending(&world);
                assert_eq!(after, [0, 1].map(|vcpu| !model.asks(vcpu).is_empty()));
                for target in [0, 1] {
                    // Who has not heard of it yet is told, once.
                    let risen = after[target] && !before[target];
                    let by_itself = target == vcpu && !matches!(op, Op::Raise);
                    let told = kicks.contains(&Event::Kick(target));
                    assert_eq!(told, risen && !by_itself, "{op:?}");
                    if by_itself {
                        assert_eq!(next == Next::Interrupt, risen, "{op:?}");
                    }
                }
            }
            // Who ends and opens all gets all.
            for vcpu in [0, 1] {
                while !model.accepted[vcpu].is_empty() {
                    model.apply(&world, vcpu, Op::End);
                }
                model.apply(&world, vcpu, Op::Cppr(0xff));
            }
            let asked = [0, 1].map(|vcpu| model.asks(vcpu));
            for vcpu in [0, 1] {
                for (priority, number) in &asked[vcpu] {
                    let taken = xirr(&world, vcpu as u32);
                    assert_eq!(taken, 0xff << 24 | number);
                    // Its reason goes, its source may come again, and others may come.
                    if *number == IPI {
                        ipi(&world, 0, vcpu as u64, 0xff);
                    } else {
                        world.call(CLIENT, H_GET_TERM_CHAR, &[0]).ok();
                    }
                    assert_eq!(poll(&world, vcpu as u64).0 >> 24, u64::from(*priority));
                    eoi(&world, vcpu as u32, taken);
                }
            }
            assert_eq!(pending(&world), [false; 2]);
            Ok(())
        })
        .unwrap();
}
