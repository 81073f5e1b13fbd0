//! Hypercalls of a guest, and what a reader was told of each.

use crate::common::corpus::number;
use crate::common::stream::{Said, said};
use crate::common::world::{BUFFER_SIZE, CLIENT, CLIENT_HOST, Spec, Store, World};
use crate::{FORMATS, LEAKED_LOCK, cases, on, otherwise};
use realhpt::hcall::abi::{self, Status};

/// The memory of the virtual machine whose guest made the hypercalls: 64 MiB of 64K pages.
const HCALL_MEMORY: [(u64, u64, u64); 1] = [(0, CLIENT_HOST + 0x1_0000, 64 << 20)];

/// Calls that were made between the cases that are kept.
const BETWEEN: &[(&str, u64, &[u64])] = &[
    (
        "h03.5",
        abi::H_ENTER,
        &[0, 0x1000, 0x4000_0001_0000_0201, 0x12112],
    ),
    (
        "h05",
        abi::H_ENTER,
        &[0, 0x1000, 0x4000_0001_0000_0301, 0x12112],
    ),
    (
        "h05",
        abi::H_ENTER,
        &[0, 0x1000, 0x4000_0001_0000_0381, 0x12112],
    ),
    (
        "h13",
        abi::H_ENTER,
        &[1 << 39, 0x1010, 0x4000_0001_0000_0001, 0x13112],
    ),
    (
        "h20",
        abi::H_ENTER,
        &[1 << 39, 0x1040, 0x4000_0001_0000_001b, 0x16112],
    ),
    // A key of all ones came between p05 and p07, and went.
];

fn token(name: &str) -> Option<(u64, usize)> {
    // The token, and how many of the registers from r4 on the call answers in.
    Some(match name {
        "H_ENTER" => (abi::H_ENTER, 1),
        "H_REMOVE" => (abi::H_REMOVE, 2),
        "H_READ" => (abi::H_READ, 8),
        "H_PROTECT" => (abi::H_PROTECT, 0),
        "H_BULK_REMOVE" => (abi::H_BULK_REMOVE, 8),
        "H_CLEAR_REF" => (abi::H_CLEAR_REF, 1),
        "H_CLEAR_MOD" => (abi::H_CLEAR_MOD, 1),
        _ => return None,
    })
}

/// `[1000 nv1 ni0 v/r]`...: what a reader was told.
pub(crate) fn told(text: &str) -> Vec<Said> {
    let mut said = Vec::new();
    for record in text
        .split(']')
        .filter_map(|record| record.strip_prefix('['))
    {
        let mut words = record.split(' ');
        let mut slot = number(words.next().unwrap());
        let valid: u64 = words
            .next()
            .unwrap()
            .strip_prefix("nv")
            .unwrap()
            .parse()
            .unwrap();
        let invalid: u64 = words
            .next()
            .unwrap()
            .strip_prefix("ni")
            .unwrap()
            .parse()
            .unwrap();
        for _ in 0..valid {
            let (v, r) = words.next().unwrap().split_once('/').unwrap();
            said.push((slot, Some((number(v) & !LEAKED_LOCK, number(r)))));
            slot += 1;
        }
        said.extend((slot..slot + invalid).map(|slot| (slot, None)));
    }
    said
}

#[test]
fn each_hypercall_is_answered_as_linux_does() {
    for (format, host) in FORMATS {
        let store = Store::new(&[Spec::agent(), Spec::client(18).with_regions(&HCALL_MEMORY)]);
        let world = World::new(&store, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, BUFFER_SIZE);
        // They were asked in this order: enter, read, protect, remove, bulk remove, the rest.
        let mut all = cases("kvm-oracle/hcall-cases.json.xz");
        all.sort_by_key(|(name, _)| "hrpdbcz".find(name.as_bytes()[0] as char).unwrap());
        let mut asked = 0;
        for (name, case) in all {
            let case = on(&case, host).as_array().unwrap();
            let [what, call, arguments, status, out, delta] =
                std::array::from_fn(|at| case[at].as_str().unwrap());
            for (_, token, arguments) in BETWEEN.iter().filter(|(before, ..)| *before == name) {
                assert_eq!(
                    world.call(CLIENT, *token, arguments).status(),
                    Status::Success
                );
                let _ = world.pass(reader, BUFFER_SIZE);
            }
            let arguments: Vec<u64> = arguments.split(',').map(number).collect();
            let Some((token, results)) = token(call) else {
                assert!(otherwise(&name).is_some(), "{name} is new");
                if call == "?" {
                    let answer = world.call(CLIENT, 0x3c0, &arguments);
                    assert_eq!(answer.status(), Status::Function, "{name}");
                    assert_eq!(answer.out[..3], arguments, "{name}: registers stay");
                }
                continue;
            };
            if otherwise(&name).is_some() && !["d03", "c01"].contains(&name.as_str()) {
                continue;
            }
            asked += 1;
            let before = world.call(CLIENT, abi::H_READ, &[0, arguments[1]]).out[1];
            let answer = world.call(CLIENT, token, &arguments);
            let expected = if name == "c01" {
                Status::Success.raw()
            } else {
                status.parse::<i64>().unwrap().cast_unsigned()
            };
            assert_eq!(answer.raw, expected, "{name}: {what}");
            if call.starts_with("H_CLEAR") {
                // Which Linux's answer was, too; the case does not show it.
                let dword1 = if expected == 0 { before } else { arguments[0] };
                assert_eq!(answer.out[0], dword1, "{name}: {what}");
            }
            let mut expected: Vec<u64> = out
                .split(',')
                .filter(|word| !word.is_empty())
                .map(number)
                .collect();
            if name == "d03" {
                expected = vec![0, 0];
            }
            // What is not shown has stayed as it was.
            assert!(expected.len() <= results.max(2), "{name}");
            assert_eq!(answer.out[..expected.len()], expected, "{name}: {what}");
            // Linux's own VRMA entries came with the first case.
            let told = if name == "h00" { vec![] } else { told(delta) };
            let pass: Vec<Said> = said(&world.pass(reader, BUFFER_SIZE).records).collect();
            assert_eq!(pass, told, "{name}: {what}");
        }
        assert_eq!(asked, 61);
    }
}
