//! Reading: what Linux's readers were told, read by read.

use crate::common::stream::{Image, Record, Said, encode, records_of, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT, World};
use crate::descriptor::stream_store;
use crate::{BOLTED_ONLY, FORMATS, cases, image_of, linux_said, on, stream_bytes, text};
use realhpt::hcall::abi::{self, Status};
use serde_json::Value;

/// The table of five entries that Linux was read from, as the first pass shows it.
fn five_entries(world: &World<'_>) {
    let entry = |v: u64, r: u64| (0x4000_0045_6789_0000 | v, r);
    let image = Image::from([
        (0, entry(0x81, 0x1192)),
        (1, entry(0x91, 0x2192)),
        (2, entry(0x83, 0x3192)),
        (8, entry(0x85, 0x21192)),
        (0x3fff, entry(0x91, 0x5192)),
    ]);
    world.restore(CLIENT, &encode(&records_of(&image, 0x4000)));
}

/// Writes one slot of the client's: an entry, or nothing there.
fn rewrite(world: &World<'_>, slot: u32, entry: Option<(u64, u64)>) {
    let record = Record {
        index: slot,
        valid: entry.into_iter().collect(),
        invalid: u16::from(entry.is_none()),
    };
    world.restore(CLIENT, &encode(&[record]));
}

/// A reader of the cases: what Linux's reader was told at each read, and what ours is in each pass.
#[test]
fn each_read_tells_what_linux_tells() {
    const ENTRY: (u64, u64) = (0x4000_0045_6789_0081, 0x1192);
    let all: std::collections::BTreeMap<String, Value> = cases("kvm-oracle/stream-cases.json.xz")
        .into_iter()
        .collect();
    let reads = |group: &str| -> Vec<(usize, Vec<Said>)> {
        all.iter()
            .filter(|(name, _)| name.split('.').next() == Some(group))
            .map(|(name, case)| {
                let number = name.split('.').nth(1).unwrap().parse().unwrap();
                (
                    number,
                    linux_said(&stream_bytes(text(on(case, "p9hash"), "out"))),
                )
            })
            .collect()
    };
    let length = |group: &str| -> u64 {
        let (_, case) = all
            .iter()
            .find(|(name, _)| name.split('.').next() == Some(group))
            .unwrap();
        text(on(case, "p9hash"), "in_len").parse().unwrap()
    };
    let mut groups: Vec<&str> = all
        .keys()
        .filter(|name| matches!(name.as_bytes()[0], b'R' | b'M'))
        .map(|name| name.split('.').next().unwrap())
        .collect();
    groups.dedup();
    for (format, _) in FORMATS {
        let store = stream_store();
        let world = World::new(&store, format);
        five_entries(&world);
        let whole = world.image(CLIENT);
        let open = |flags, start| world.open(CLIENT, flags, start);
        // The passes of R21 to R26 are one reader's, as are those of R30 and R31, and of R50 to R54.
        let main = open(0, 0);
        let bolted = open(BOLTED_ONLY, 0);
        let mut later = world.open(CLIENT, 0, 0);
        let check = |group: &str, number: usize, said: &[Said]| {
            for (read, linux) in reads(group) {
                if read == number {
                    assert_eq!(said, linux, "{group}.{read}, {format:?}");
                }
            }
        };
        let said_by = |handle: u64| -> (Vec<Said>, bool) {
            let pass = world.pass(handle, BUFFER_SIZE);
            (said(&pass.records).collect(), pass.clean)
        };
        for &group in &groups {
            let linux = reads(group);
            match group {
                "R00" | "R01" | "R02" | "R03" | "R04" => {
                    assert!(linux.iter().all(|(_, said)| said.is_empty()));
                    let handle = open(0, 0);
                    assert_eq!(
                        world.read(handle, length(group)),
                        Err(Status::Parameter),
                        "{group}"
                    );
                    assert_eq!(said_by(handle).0.len(), 0x4000, "nothing was lost by it");
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R05" => {
                    let handle = open(0, 0);
                    assert_eq!(world.read(handle, 24).unwrap().bytes.len(), 24);
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R06" | "R07" | "R08" | "R09" | "R10" | "R11" | "R12" | "R13" | "R20" => {
                    // Where Linux's buffer ends a record, ours may hold one entry more: the pass as a whole
                    // is compared.
                    let handle = open(0, 0);
                    let pass = world.pass(handle, length(group));
                    let ours: Vec<Said> = said(&pass.records).collect();
                    assert_eq!(image_of(&ours), whole, "{group}");
                    assert_eq!(ours.len(), 0x4000, "{group}");
                    for (slot, entry) in linux.into_iter().flat_map(|(_, said)| said) {
                        assert_eq!(ours[slot as usize], (slot, entry), "{group}");
                    }
                    assert_eq!(said_by(handle), (vec![], true), "{group}");
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R21" => {
                    for number in 1..=3 {
                        let (ours, clean) = said_by(main);
                        assert_eq!(clean, number > 1);
                        check(group, number, &ours);
                    }
                }
                "R22" | "R23" | "R24" | "R25" | "R26" => {
                    match group {
                        "R22" => rewrite(&world, 0, None),
                        "R23" => rewrite(&world, 1, Some((0x4000_0045_6789_0091, 0x2192))),
                        "R24" => {
                            let run = Record {
                                index: 100,
                                valid: vec![],
                                invalid: 50,
                            };
                            world.restore(CLIENT, &encode(&[run]));
                        }
                        "R25" => {
                            rewrite(&world, 5, Some(ENTRY));
                            rewrite(&world, 5, None);
                        }
                        _ => {
                            rewrite(&world, 1, None);
                            rewrite(&world, 2, Some(ENTRY));
                            rewrite(&world, 3, Some(ENTRY));
                        }
                    }
                    for number in 1..=2 {
                        check(group, number, &said_by(main).0);
                    }
                }
                "R30" => {
                    // The table is the one of five entries again.
                    for slot in 0..16 {
                        rewrite(&world, slot, None);
                    }
                    five_entries(&world);
                    for number in 1..=3 {
                        check(group, number, &said_by(bolted).0);
                    }
                }
                "R31" => {
                    rewrite(&world, 0, Some(ENTRY));
                    assert_eq!(
                        said_by(bolted).0,
                        [(0, None)],
                        "not bolted: shown as invalid"
                    );
                    check(group, 2, &said_by(bolted).0);
                }
                "R40" | "R41" | "R42" | "R43" => {
                    let start = match group {
                        "R40" => 1,
                        "R41" => 3,
                        "R42" => 8,
                        _ => 16383,
                    };
                    let handle = open(0, start);
                    for number in 1..=3 {
                        check(group, number, &said_by(handle).0);
                    }
                    assert_eq!(world.close(handle), Status::Success);
                }
                "R44" | "R45" => {
                    for start in [16384, 20000] {
                        let call =
                            world.call(AGENT, abi::H_HPT_OPEN, &[u64::from(CLIENT), 0, start]);
                        assert_eq!(call.status(), Status::Parameter);
                    }
                }
                "R50" | "R51" => {
                    let handle = if group == "R50" { main } else { later };
                    let _ = (group == "R50").then(|| said_by(main));
                    if group == "R51" {
                        assert_eq!(image_of(&said_by(handle).0), whole, "its own first pass");
                    }
                    check(group, 2, &said_by(handle).0);
                }
                "R52" => {
                    rewrite(&world, 1, Some((0x4000_0045_6789_0091, 0xa192)));
                    check(group, 1, &said_by(main).0);
                }
                "R53" => {
                    let changed = (1, Some((0x4000_0045_6789_0091, 0xa192)));
                    assert_eq!(said_by(later).0, [changed], "the second reader sees it too");
                }
                "R54" => {
                    assert_eq!(world.control(abi::H_LPAR_RESET, CLIENT), Status::Success);
                    assert_eq!(world.read(later, BUFFER_SIZE), Err(Status::Closed));
                    assert_eq!(world.close(later), Status::Success);
                    later = open(0, 0);
                    assert_eq!(image_of(&said_by(later).0), Image::new());
                }
                "M01" => {
                    five_entries(&world);
                    let handle = open(0, 0);
                    check(group, 1, &said_by(handle).0);
                    assert_eq!(world.close(handle), Status::Success);
                }
                _ => panic!("{group} is new"),
            }
        }
    }
}
