//! Opening, writing, orders, a running partition: what Linux's file descriptor answered.

use crate::common::corpus::unhex;
use crate::common::stream::{Header, Image, apply, decode, differences, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, CLIENT_HOST, Spec, Store, World};
use crate::{
    BOLTED_ONLY, FORMATS, Ours, WRITE, cases, image_of, linux_said, on, otherwise, stream_bytes,
    text, turned,
};
use realhpt::hcall::abi::{self, Status};
use realhpt::table::{Format, Order};

/// The memory of the virtual machine that was asked: 64K pages at 0, huge pages at 0x1000_0000, transparent
/// huge pages at 0x6000_0000, and at 0x7000_0000 such that are not aligned as the guest sees them. Where it
/// had no memory slot, no pages or read-only ones the guest sees the same as without memory here.
const STREAM_MEMORY: [(u64, u64, u64); 4] = [
    (0, CLIENT_HOST + 0x1_0000, 32 << 20),
    (0x1000_0000, CLIENT_HOST + 0x1000_0000, 32 << 20),
    (0x6000_0000, CLIENT_HOST + 0x6000_0000, 32 << 20),
    (0x7000_0000, CLIENT_HOST + 0x7051_0000, 32 << 20),
];

pub(crate) fn stream_store() -> Store {
    Store::new(&[Spec::agent(), Spec::client(18).with_regions(&STREAM_MEMORY)])
}

#[test]
fn opening_and_orders_are_as_linux_has_them() {
    let store = stream_store();
    let world = World::new(&store, Format::V3_0);
    let open = |flags, start| {
        let call = world.call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), flags, start]);
        if call.status() == Status::Success {
            assert_eq!(world.close(call.out[0]), Status::Success);
        }
        call.status()
    };
    let mut asked = 0;
    for (name, case) in cases("kvm-oracle/stream-cases.json.xz") {
        let answer = on(&case, "p9hash");
        let description = text(answer, "desc");
        let succeeded = !text(answer, "ret").starts_with("-1");
        let ours = match name.as_bytes()[0] {
            b'A' => {
                let order = description.rsplit(' ').next().unwrap().parse().unwrap();
                if otherwise(&name).is_some() {
                    assert!(Order::new(order).is_some(), "{name}: {description}");
                    continue;
                }
                Order::new(order).is_some()
            }
            b'F' if otherwise(&name).is_some() => continue,
            b'F' => {
                let status = match name.as_str() {
                    "F00" => open(WRITE, 0),
                    "F01" => open(4, 0),
                    "F02" => open(WRITE | BOLTED_ONLY, 0),
                    "F03" => open(1 << 63, 0),
                    // Registers that are no arguments stand for the reserved fields: they hold junk.
                    "F08" => open(0, 0),
                    "F04" => {
                        let handle = world.open(CLIENT, WRITE, 0);
                        let read = world.read(handle, BUFFER_SIZE).unwrap_err();
                        assert_eq!(world.close(handle), Status::Success);
                        read
                    }
                    _ => panic!("{name} is new: {description}"),
                };
                if status != Status::Success {
                    assert_eq!(status, Status::Parameter, "{name}");
                }
                status == Status::Success
            }
            _ => continue,
        };
        assert_eq!(ours, succeeded, "{name}: {description}");
        asked += 1;
    }
    assert_eq!(asked, 3 + 6);
}

#[test]
fn each_write_is_answered_and_done_as_linux_does() {
    let mut asked = 0;
    for (format, host) in FORMATS {
        let store = stream_store();
        let world = World::new(&store, format);
        let mut fresh = true;
        for (name, case) in cases("kvm-oracle/stream-cases.json.xz") {
            if !matches!(name.as_bytes()[0], b'W' | b'E') {
                continue;
            }
            let answer = on(&case, host);
            let description = text(answer, "desc");
            if !fresh {
                assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
            }
            let mut buffer = turned(&stream_bytes(text(answer, "in_hex")));
            buffer.truncate(text(answer, "in_len").parse().unwrap());
            let handle = world.open(CLIENT, WRITE, 0);
            let (status, consumed, bad) = world.write(handle, &buffer);
            let _ = world.close(handle);
            let linux = image_of(&linux_said(&stream_bytes(text(answer, "out"))));
            let ours = world.image(CLIENT);
            let count = text(answer, "ret").parse::<i64>().unwrap();
            match otherwise(&name) {
                None if count < 0 => {
                    assert_eq!(status, Status::Parameter, "{name}: {description}");
                    assert_ne!(bad, u64::MAX, "{name}: the index of what is bad");
                    assert_eq!(differences(&ours, &linux), [""; 0], "{name}: {description}");
                }
                None => {
                    let count = u64::try_from(count).unwrap();
                    assert_eq!(
                        (status, consumed, bad),
                        (Status::Success, count, u64::MAX),
                        "{name}"
                    );
                    assert_eq!(differences(&ours, &linux), [""; 0], "{name}: {description}");
                }
                Some(Ours::Here(expected, bytes)) => {
                    assert_eq!(status, expected, "{name}: {description}");
                    if bad != u64::MAX && status == Status::Parameter && !buffer.is_empty() {
                        assert_eq!(consumed, bytes, "{name}");
                    }
                    let expected = if count > bytes as i64 {
                        Image::new()
                    } else {
                        linux
                    };
                    assert_eq!(
                        differences(&ours, &expected),
                        [""; 0],
                        "{name}: {description}"
                    );
                }
                Some(Ours::Image(bytes, expected)) => {
                    assert_eq!(
                        (status, consumed, bad),
                        (Status::Success, bytes, u64::MAX),
                        "{name}"
                    );
                    let records = decode(&stream_bytes(expected), Header::Little).unwrap();
                    let mut expected = Image::new();
                    apply(&mut expected, said(&records));
                    assert_eq!(
                        differences(&ours, &expected),
                        [""; 0],
                        "{name}: {description}"
                    );
                }
                Some(Ours::Elsewhere) => panic!("{name} has to be said here"),
            }
            asked += 1;
            fresh = description.starts_with("(setup)");
        }
    }
    assert_eq!(asked, 2 * 64);
}

#[test]
fn an_empty_table_and_a_running_partition_are_as_with_linux() {
    let store = Store::pair(22);
    let world = World::new(&store, Format::V3_0);
    for (name, case) in cases("kvm-oracle/stream-cases.json.xz") {
        let answer = on(&case, "p9hash");
        if name == "C01" {
            let handle = world.open(CLIENT, 0, 0);
            let ours = world.pass(handle, 65536).records;
            let linux = decode(&unhex(text(answer, "out")), Header::Little).unwrap();
            assert!(said(&ours).eq(said(&linux)), "{ours:?}");
            assert!(
                ours.iter()
                    .chain(&linux)
                    .all(|record| record.valid.is_empty())
            );
            assert_eq!(world.close(handle), Status::Success);
        }
        if name.starts_with('B') {
            assert!(format!("{answer}").contains("EBUSY"), "{answer}");
        }
    }
    let handle = world.open(CLIENT, WRITE, 0);
    assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
    assert_eq!(world.write(handle, &[0; 8]).0, Status::Busy);
    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Busy);
}
