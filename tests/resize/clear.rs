//! H_CLEAR_HPT.

use crate::common::stream::{Image, encode, records_of, said};
use crate::common::world::{BUFFER_SIZE, CLIENT, World};
use crate::page::Page;
use crate::{BOLTED, C, FORMATS, R, commit, enter, leaked, prepare, prepare_all};
use realhpt::arch::host::Event;
use realhpt::hcall::abi::{self, Status};
use realhpt::table::Format;

const SLOTS: u64 = 1 << 14;
/// Dword 0 of an entry of the VRMA.
const VRMA: u64 = 0x4001_ffff_ff00_0001;

fn clear(world: &World<'_>) -> Status {
    world.call(CLIENT, abi::H_CLEAR_HPT, &[]).status()
}

/// Clears as Linux does; how many calls it took.
fn clear_all(world: &World<'_>) -> usize {
    let mut calls = 1;
    loop {
        match clear(world) {
            Status::Continue => calls += 1,
            Status::Success => return calls,
            status => panic!("{status:?}"),
        }
        assert!(calls < 10_000, "the calls do not end");
    }
}

#[test]
fn all_goes_but_the_vrma() {
    for format in FORMATS {
        let world = leaked(18, format);
        let keep = [
            (10, (VRMA, 0x192)),
            (11, (VRMA | BOLTED, 0x192)),
            // The offset in the segment is in AVPN, too, and H is no part of what it is.
            (12, (VRMA | 0x7f_ff80 | 2, 0x1012)),
            (13, (VRMA | 4, 0x100_0012)),
        ];
        let goes = [
            // VSIDs next to the VRMA's, its number in a 256M segment, and what only begins like it.
            (VRMA + (1 << 24), 0x12),
            (VRMA - (1 << 24), 0x12),
            (VRMA & !(1 << 62), 0x12),
            (Page::in_segment(1, 0).v() | BOLTED, 0x12),
            // Without memory.
            (0x2001, 0x70_0000_0012),
        ];
        for (slot, entry) in keep.into_iter().chain((20..).zip(goes)) {
            assert_eq!(enter(&world, slot, entry), Status::Success);
        }
        world.late(20, R | C);
        assert_eq!(clear_all(&world), 1);
        assert_eq!(world.image(CLIENT), keep.into_iter().collect());
        for slot in 20..25 {
            assert_eq!(world.real(slot), (0, 0));
            assert!(!world.client().table().occupied().contains(slot));
        }
        assert_eq!(clear_all(&world), 1, "again, with nothing to do");
    }
}

#[test]
fn a_full_table_is_cleared_in_pieces_while_others_go_on() {
    let world = leaked(18, Format::V3_0);
    let entry = |slot: u64| match slot % 100 {
        // All in one place: more of them than a piece looks at.
        _ if (4096..4600).contains(&slot) => (VRMA | (slot & 0xff) << 7, 0x192),
        _ => (
            0x4000_0000_0000_0081 | slot << 12,
            (slot & 0xfff) << 12 | 0x12,
        ),
    };
    let image: Image = (0..SLOTS).map(|slot| (slot, entry(slot))).collect();
    world.restore(CLIENT, &encode(&records_of(&image, SLOTS)));
    let reader = world.open(CLIENT, 0, 0);
    world.pass(reader, BUFFER_SIZE);
    let mut calls = 0;
    loop {
        world.system.machine.record();
        let status = clear(&world);
        let events = world.system.machine.recorded();
        let removed = events
            .iter()
            .filter(|event| matches!(event, Event::Tlbie(..)))
            .count();
        assert!(removed <= 128, "{removed} entries in one call");
        // Each has its sequence: every processor has dropped the translation.
        assert_eq!(
            events
                .iter()
                .filter(|&&event| event == Event::Tlbsync)
                .count(),
            removed
        );
        calls += 1;
        assert!(calls < 1000);
        if status == Status::Success {
            break;
        }
        assert_eq!(status, Status::Continue);
        // Other calls are served as ever, on what is still there and on what is gone.
        let answer = world.call(CLIENT, abi::H_READ, &[0, SLOTS - 1]);
        assert_eq!(answer.status(), Status::Success);
    }
    let kept: Image = image
        .into_iter()
        .filter(|(_, (v, _))| v & !0xff_ffff == VRMA & !1)
        .collect();
    assert_eq!(world.image(CLIENT), kept);
    // The reader is told of each removal, once.
    let mut told: Vec<u64> = Vec::new();
    loop {
        let pass = world.pass(reader, BUFFER_SIZE);
        told.extend(said(&pass.records).map(|(slot, entry)| {
            assert_eq!(entry, None);
            slot
        }));
        if pass.clean {
            break;
        }
    }
    let expected = (0..SLOTS).filter(|slot| !kept.contains_key(slot));
    assert!(told.into_iter().eq(expected));
}

#[test]
fn a_second_caller_gets_on_and_what_it_clears_is_clear() {
    let world = leaked(18, Format::V2_07);
    let image: Image = (0..400)
        .map(|slot| (slot, (0x1001 | slot << 20, 0x12)))
        .collect();
    world.restore(CLIENT, &encode(&records_of(&image, SLOTS)));
    // One call each, in turn.
    let answers: Vec<_> = (0..4).map(|_| clear(&world)).collect();
    assert_eq!(answers[..3], [Status::Continue; 3]);
    assert_eq!(answers[3], Status::Success);
    assert!(world.image(CLIENT).is_empty());
    // The next one begins at the beginning again.
    assert_eq!(enter(&world, 0, (0x1001, 0x12)), Status::Success);
    assert_eq!(clear(&world), Status::Success);
    assert!(world.image(CLIENT).is_empty());
}

#[test]
fn real_mode_goes_on() {
    for format in FORMATS {
        let world = leaked(18, format);
        assert_eq!(world.control(abi::H_LPAR_START, CLIENT), Status::Success);
        let vrma = world.image(CLIENT);
        assert_eq!(enter(&world, 0, (0x1001, 0x12)), Status::Success);
        assert_eq!(clear_all(&world), 1);
        assert_eq!(world.image(CLIENT), vrma);
        assert_eq!(world.client().vrma_shift(), 24);
    }
}

#[test]
fn what_is_cleared_is_not_carried_over() {
    let world = leaked(18, Format::V3_0);
    for nth in 0..300 {
        let page = Page::in_segment(9, nth << 12);
        let slot = page.group(18) * 8 + nth % 8;
        assert_eq!(
            enter(&world, slot, (page.v() | BOLTED, 0x12)),
            Status::Success
        );
    }
    assert_eq!(enter(&world, 7, (VRMA, 0x192)), Status::Success);
    assert_eq!(prepare_all(&world, 22), Status::Success);
    assert_eq!(clear(&world), Status::Continue);
    let left = world.image(CLIENT);
    assert!((1..300).contains(&left.len()));
    assert_eq!(prepare(&world, 22), Status::Success);
    assert_eq!(commit(&world, 22), Status::Success);
    assert_eq!(world.image(CLIENT).len(), left.len());
    // The clearing begins anew with the new table.
    assert_eq!(enter(&world, 0, (0x1001, 0x12)), Status::Success);
    clear_all(&world);
    assert_eq!(world.image(CLIENT).len(), 1);
}
