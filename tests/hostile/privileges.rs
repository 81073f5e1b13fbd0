//! Calls without the privilege, from problem state, at the wrong time.

use crate::common::stream::{Record, encode, said};
use crate::common::world::{
    AGENT, AGENT_MEMORY, BUFFER, BUFFER_SIZE, CLIENT, CLIENT_MEMORY, JUNK, World,
};
use crate::{ENTRY, OTHER, WRITE, open, store};
use realhpt::hcall::abi::{LPAR_SELF, Privileges, ReportKind, State, Status};
use realhpt::hcall::{Next, abi};
use realhpt::table::Format;

#[test]
fn without_the_privilege_there_is_only_ones_own_table() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let tokens = [abi::H_HPT_OPEN, abi::H_HPT_STAT, abi::H_LPAR_QUERY];
    for target in [
        u64::from(AGENT),
        u64::from(OTHER),
        0,
        99,
        1 << 16 | u64::from(CLIENT),
        u64::MAX - 1,
    ] {
        for token in tokens {
            let answer = world.call(CLIENT, token, &[target, 0, 0]);
            assert_eq!(
                answer.status(),
                Status::Authority,
                "{token:#x} on {target:#x}"
            );
            assert_eq!(
                answer.out[..4],
                [target, 0, 0, JUNK],
                "nothing is said of it"
            );
        }
    }
    for target in [
        u64::from(AGENT),
        u64::from(OTHER),
        u64::from(CLIENT),
        LPAR_SELF,
        0,
        99,
    ] {
        for token in [
            abi::H_LPAR_PAUSE,
            abi::H_LPAR_RESUME,
            abi::H_LPAR_RESET,
            abi::H_LPAR_START,
        ] {
            let answer = world.call(CLIENT, token, &[target, 0, 0]);
            assert_eq!(
                answer.status(),
                Status::Authority,
                "{token:#x} on {target:#x}"
            );
        }
    }
    // Its own, by name and by number.
    for target in [LPAR_SELF, u64::from(CLIENT)] {
        assert_eq!(open(&world, CLIENT, target, 0, 0).0, Status::Success);
        let stat = world.call(CLIENT, abi::H_HPT_STAT, &[target]).ok();
        assert_eq!(stat[..3], [abi::ABI_VERSION, 18, 1]);
        assert_eq!(
            world.call(CLIENT, abi::H_LPAR_QUERY, &[target]).ok()[0],
            u64::from(CLIENT)
        );
    }
    // With the privilege: what there is not is H_PARAMETER, and so is oneself where that makes no sense.
    for target in [0, 99, 1 << 16 | u64::from(CLIENT), u64::MAX - 1] {
        for token in tokens {
            assert_eq!(
                world.call(AGENT, token, &[target, 0, 0]).status(),
                Status::Parameter
            );
        }
    }
    for token in [
        abi::H_LPAR_PAUSE,
        abi::H_LPAR_RESUME,
        abi::H_LPAR_RESET,
        abi::H_LPAR_START,
    ] {
        for target in [LPAR_SELF, u64::from(AGENT)] {
            assert_eq!(
                world.call(AGENT, token, &[target, 0, 0]).status(),
                Status::Parameter
            );
        }
    }
}

#[test]
fn a_report_needs_the_privilege_and_a_buffer() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let passed = ReportKind::Passed as u64;
    let report = |caller, arguments: [u64; 4]| world.call(caller, abi::H_REPORT, &arguments);
    assert_eq!(
        report(CLIENT, [passed, 0, 0, 0]).status(),
        Status::Authority
    );
    let end = report(OTHER, [ReportKind::End as u64, 0, 0, 0]);
    assert_eq!(
        (end.status(), end.next),
        (Status::Authority, Next::Resume),
        "no one else ends the run"
    );
    for arguments in [
        [5, BUFFER, 4, 0],
        [u64::MAX, BUFFER, 4, 0],
        [passed, BUFFER + 1, 4, 0],
        [passed, AGENT_MEMORY, 4, 0],
        [passed, AGENT_MEMORY - 8, 12, 0],
        [passed, u64::MAX - 7, 16, 0],
    ] {
        let answer = report(AGENT, arguments);
        assert_eq!(
            (answer.status(), answer.next),
            (Status::Parameter, Next::Resume),
            "{arguments:x?}"
        );
    }
    assert_eq!(*world.board.reports.lock().unwrap(), []);
    world.put(BUFFER, b"a name of a case");
    assert_eq!(
        report(AGENT, [passed, BUFFER, 6, 7]).status(),
        Status::Success
    );
    // A name longer than is kept is cut off; one of no bytes needs no buffer.
    assert_eq!(
        report(AGENT, [passed, BUFFER, u64::MAX, 8]).status(),
        Status::Success
    );
    assert_eq!(
        report(AGENT, [ReportKind::End as u64, JUNK, 0, 9]).next,
        Next::PowerOff
    );
    let reports = world.board.reports.lock().unwrap();
    assert_eq!(reports[0], (ReportKind::Passed, b"a name".to_vec(), 7));
    assert_eq!(
        (&reports[1].1[..16], reports[1].1.len()),
        (&b"a name of a case"[..], 96)
    );
    assert_eq!(reports[2], (ReportKind::End, vec![], 9));
}

#[test]
fn problem_state_and_unknown_tokens_get_an_answer_and_nothing_else() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let arguments = [1 << 39, 8, ENTRY.0, ENTRY.1];
    for token in (0..0x400)
        .step_by(4)
        .chain((0xf000..0xf200).step_by(4))
        .chain([1, 2, u64::MAX])
    {
        let answer = world.call_from(CLIENT, true, token, &arguments);
        assert_eq!(
            (answer.status(), answer.next),
            (Status::Privilege, Next::Resume),
            "{token:#x}"
        );
        assert_eq!(answer.out[..5], [arguments[0], 8, ENTRY.0, ENTRY.1, JUNK]);
    }
    assert!(world.image(CLIENT).is_empty());
    for token in [
        0,
        1,
        5,
        0x3fc,
        0xf11c,
        0xf200,
        1 << 32 | abi::H_ENTER,
        u64::MAX,
    ] {
        let answer = world.call(CLIENT, token, &arguments);
        assert_eq!(
            (answer.status(), answer.next),
            (Status::Function, Next::Resume),
            "{token:#x}"
        );
        assert_eq!(answer.out[..5], [arguments[0], 8, ENTRY.0, ENTRY.1, JUNK]);
    }
}

#[test]
fn a_running_partition_is_not_written_and_a_written_one_does_not_run() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let control = |token| world.control(token, CLIENT);
    let record = encode(&[Record {
        index: 3,
        valid: vec![ENTRY],
        invalid: 0,
    }]);
    assert_eq!(control(abi::H_LPAR_RESUME), Status::Busy, "it never ran");
    let writer = world.open(CLIENT, WRITE, 0);
    assert_eq!(control(abi::H_LPAR_START), Status::Success);
    assert_eq!(control(abi::H_LPAR_START), Status::Busy, "it runs");
    let before = world.image(CLIENT);
    assert_eq!(world.write(writer, &record).0, Status::Busy);
    assert_eq!(
        open(&world, AGENT, u64::from(CLIENT), WRITE, 0).0,
        Status::Busy
    );
    assert_eq!(
        open(&world, CLIENT, LPAR_SELF, WRITE, 0).0,
        Status::Busy,
        "nor by itself"
    );
    assert_eq!(control(abi::H_LPAR_RESET), Status::Busy);
    assert_eq!(world.image(CLIENT), before);

    assert_eq!(control(abi::H_LPAR_PAUSE), Status::Success);
    assert_eq!(control(abi::H_LPAR_PAUSE), Status::Success, "twice is once");
    assert_eq!(
        world.write(writer, &record).0,
        Status::Success,
        "the handle outlived it"
    );
    assert_eq!(control(abi::H_LPAR_RESUME), Status::Success);
    assert_eq!(world.write(writer, &record).0, Status::Busy);
    assert_eq!(world.client().state(), State::Running);

    // It ends itself: whoever looks at it goes on.
    let reader = world.open(CLIENT, 0, 0);
    let exit = world.call(CLIENT, abi::H_LPAR_EXIT, &[42]);
    assert_eq!(exit.next, Next::Exit);
    let query = world
        .call(AGENT, abi::H_LPAR_QUERY, &[u64::from(CLIENT)])
        .ok();
    assert_eq!((query[1], query[7]), (State::Halted as u64, 42));
    assert_eq!(world.write(writer, &record).0, Status::Success);
    assert_eq!(
        said(&world.pass(reader, BUFFER_SIZE).records).count(),
        1 << 14
    );
    assert_eq!(
        control(abi::H_LPAR_START),
        Status::Busy,
        "a reset comes first"
    );
    assert_eq!(control(abi::H_LPAR_RESET), Status::Success);
    assert_eq!(world.client().state(), State::Stopped);
}

#[test]
fn privileges_are_what_the_description_says() {
    let store = store();
    let world = World::new(&store, Format::V3_0);
    let query = |target: u16| {
        world
            .call(AGENT, abi::H_LPAR_QUERY, &[u64::from(target)])
            .ok()
    };
    let control = Privileges::CONTROL | Privileges::REPORT;
    assert_eq!(query(AGENT)[4], control.bits());
    assert_eq!(query(CLIENT)[4], 0);
    assert_eq!(
        query(CLIENT)[..4],
        [2, State::Stopped as u64, CLIENT_MEMORY, 18]
    );
}
