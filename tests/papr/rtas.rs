//! H_RTAS.

use std::time::Duration;

use crate::common::world::{CLIENT, CLIENT_HOST, CLIENT_MEMORY, Store, World};
use crate::{running, status};
use realhpt::addr::HostReal;
use realhpt::arch::Machine as _;
use realhpt::hcall::Next;
use realhpt::hcall::abi::rtas::{
    CPU_RUNNING, CPU_STOPPED, DISPLAY_CHARACTER, GET_TIME_OF_DAY, HARDWARE_ERROR, MAX_WORDS,
    PARAMETER_ERROR, POWER_OFF, QUERY_CPU_STOPPED_STATE, REBOOT, SET_TIME_OF_DAY, START_CPU,
    STOP_SELF, SUCCESS, SYSTEM_REBOOT,
};
use realhpt::hcall::abi::{self, State, Status};
use realhpt::lpar::control::Start;
use realhpt::lpar::vcpu::Endian;
use realhpt::lpar::vcpus::Left;

/// What stands where nothing was written.
const FILL: u32 = 0x5a5a_5a5a;

pub(crate) fn word(world: &World<'_>, guest: u64) -> u32 {
    let dword = world
        .system
        .machine
        .load(HostReal::new(CLIENT_HOST + (guest & !7)));
    (dword >> (32 - (guest & 4) * 8)) as u32
}

fn put_words(world: &World<'_>, guest: u64, words: &[u32]) {
    for (number, &word) in (0..).zip(words) {
        let at = HostReal::new(CLIENT_HOST + guest + 4 * number);
        world.system.machine.store_word(at, word);
    }
}

/// A call with its buffer at `at`: what the vCPU does next, and the results. Nothing beside them was written.
pub(crate) fn call_at(
    world: &World<'_>,
    vcpu: u32,
    at: u64,
    token: u32,
    arguments: &[u32],
    results: usize,
) -> (Next, Vec<i32>) {
    let (nargs, nret) = (arguments.len() as u32, results as u32);
    let before: Vec<u32> = [FILL, FILL, token, nargs, nret]
        .iter()
        .chain(arguments)
        .copied()
        .chain(std::iter::repeat_n(FILL, results + 2))
        .collect();
    put_words(world, at - 8, &before);
    let answer = world.call_of(CLIENT, vcpu, abi::H_RTAS, &[at]);
    assert_eq!(answer.status(), Status::Success);
    let after: Vec<u32> = (0..before.len() as u64)
        .map(|number| word(world, at - 8 + 4 * number))
        .collect();
    let first = 5 + arguments.len();
    assert_eq!(after[..first], before[..first]);
    assert_eq!(after[first + results..], [FILL; 2]);
    let results = after[first..first + results].iter();
    (
        answer.next,
        results.map(|word| word.cast_signed()).collect(),
    )
}

/// A call that the first vCPU goes on after.
pub(crate) fn call(world: &World<'_>, token: u32, arguments: &[u32], results: usize) -> Vec<i32> {
    let both = [0x1000, 0x2004].map(|at| call_at(world, 0, at, token, arguments, results));
    let [(next, results), _] = both;
    assert_eq!(next, Next::Resume);
    results
}

/// The same, made once.
fn once(world: &World<'_>, token: u32, arguments: &[u32], results: usize) -> (Next, Vec<i32>) {
    call_at(world, 0, 0x1004, token, arguments, results)
}

#[test]
fn characters_come_to_the_terminal() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    assert_eq!(call(&world, DISPLAY_CHARACTER, &[0x141], 1), [SUCCESS]);
    assert_eq!(*world.board.output.lock().unwrap(), b"AA");
}

#[test]
fn a_partition_ends_with_what_it_wants() {
    for (token, arguments, code) in [
        (POWER_OFF, &[u32::MAX; 2][..], 0),
        (SYSTEM_REBOOT, &[], REBOOT),
    ] {
        let store = Store::pair(18);
        let world = running(&store, 1);
        let (next, results) = once(&world, token, arguments, 1);
        assert_eq!((next, results), (Next::Exit, vec![SUCCESS]));
        world.system.leave(world.client(), 0, Left::Preempted);
        assert_eq!(world.client().state(), State::Halted);
        assert_eq!(world.client().control().exit_code(), code);
    }
}

#[test]
fn vcpus_are_started_and_stop_themselves() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    let control = world.client().control();
    let query = |vcpu| call(&world, QUERY_CPU_STOPPED_STATE, &[vcpu], 2);
    assert_eq!(query(0), [SUCCESS, CPU_RUNNING as i32]);
    assert_eq!(query(1), [SUCCESS, CPU_STOPPED as i32]);
    for vcpu in [2, 64, u32::MAX] {
        assert_eq!(query(vcpu)[0], PARAMETER_ERROR);
        assert_eq!(call(&world, START_CPU, &[vcpu, 0, 0], 1), [PARAMETER_ERROR]);
    }
    assert_eq!(
        once(&world, START_CPU, &[1, 0x8000_0100, 7], 1).1,
        [SUCCESS]
    );
    assert_eq!(query(1), [SUCCESS, CPU_RUNNING as i32]);
    assert_eq!(call(&world, START_CPU, &[1, 0, 0], 1), [HARDWARE_ERROR]);
    let Start { entry, r3, endian } = control.dispatch(1, 1).unwrap().start.unwrap();
    assert_eq!((entry.raw(), r3, endian), (0x8000_0100, 7, Endian::Big));
    let (next, _) = call_at(&world, 1, 0x3000, STOP_SELF, &[], 1);
    assert_eq!(next, Next::Stop);
    world.system.leave(world.client(), 1, Left::Stopped);
    assert_eq!(query(1), [SUCCESS, CPU_STOPPED as i32]);
}

#[test]
fn the_partition_sets_its_own_clock() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    let time = || call(&world, GET_TIME_OF_DAY, &[], 8);
    let set = |words: [u32; 7]| call(&world, SET_TIME_OF_DAY, &words, 1)[0];
    let pass = |seconds| {
        let now = Duration::new(seconds, 250);
        *world.board.clock.lock().unwrap() = Some(now);
    };
    assert_eq!(time()[0], HARDWARE_ERROR, "there is no clock");
    assert_eq!(set([2024, 1, 1, 0, 0, 0, 0]), HARDWARE_ERROR);
    pass(951_782_399);
    assert_eq!(time(), [SUCCESS, 2000, 2, 28, 23, 59, 59, 250]);
    // Into the past, and it goes on from there.
    assert_eq!(set([1999, 12, 31, 23, 59, 58, 0]), SUCCESS);
    pass(951_782_401);
    assert_eq!(time(), [SUCCESS, 2000, 1, 1, 0, 0, 0, 250]);
    assert_eq!(set([1999, 2, 29, 0, 0, 0, 0]), PARAMETER_ERROR);
    world.restart(CLIENT);
    assert_eq!(time()[1], 2000, "it has a battery");
}

#[test]
fn a_call_that_does_not_exist_has_a_status() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    for (token, arguments, results) in [
        (0, 0, 1),
        (u32::MAX, 0, 1),
        (0x2002, 3, 3),
        (POWER_OFF, 1, 1),
        (POWER_OFF, 2, 2),
        (SYSTEM_REBOOT, 0, 0),
        (STOP_SELF, 0, 0),
        (GET_TIME_OF_DAY, 0, 7),
        (START_CPU, 3, MAX_WORDS as usize - 3),
        (QUERY_CPU_STOPPED_STATE, 0, 0),
    ] {
        let answer = call(&world, token, &vec![0; arguments], results);
        let mut expected = vec![FILL.cast_signed(); results];
        if let Some(status) = expected.first_mut() {
            *status = PARAMETER_ERROR;
        } else {
            assert!(answer.is_empty());
        }
        assert_eq!(answer, expected, "{token:#x}");
    }
    assert_eq!(world.client().state(), State::Running);
}

#[test]
fn a_buffer_that_is_none_is_refused() {
    let store = Store::pair(18);
    let world = running(&store, 1);
    let end = CLIENT_MEMORY;
    // All of it lies in memory; a word less does not.
    let all = end - 4 * 5;
    for at in [all, all + 4] {
        put_words(&world, at & !7, &[FILL; 4]);
        put_words(&world, at, &[DISPLAY_CHARACTER, 1, 1, u32::from(b'x')]);
        let expected = if at == all {
            Status::Success
        } else {
            Status::Parameter
        };
        assert_eq!(status(&world, abi::H_RTAS, &[at]), expected);
    }
    assert_eq!(*world.board.output.lock().unwrap(), b"x");
    for at in [
        1,
        2,
        0x1001,
        end - 8,
        end - 4,
        end,
        u64::MAX,
        u64::MAX - 3,
        u64::MAX - 7,
        1 << 63,
        1 << 32 | 1,
    ] {
        assert_eq!(
            status(&world, abi::H_RTAS, &[at]),
            Status::Parameter,
            "{at:#x}"
        );
    }
    for (arguments, results) in [
        (u32::MAX, 1),
        (1, u32::MAX),
        (u32::MAX, u32::MAX),
        (1 << 31, 1 << 31),
        (MAX_WORDS, 1),
        (0, MAX_WORDS + 1),
    ] {
        put_words(&world, 0x1000, &[POWER_OFF, arguments, results]);
        assert_eq!(status(&world, abi::H_RTAS, &[0x1000]), Status::Parameter);
    }
    assert_eq!(world.client().state(), State::Running);
}
