//! What stands in the table at the moment of each barrier.

use std::sync::Mutex;

use crate::common::probe::{Deed, Probe, probed};
use crate::common::stream::{Record, encode};
use crate::common::world::{CLIENT, CLIENT_HOST, CLIENT_WINDOW, World};
use crate::{ABSENT, C, ENTRIES, FORMATS, HVLOCK, LPID, M, NOWHERE, R, VALID, enter};
use realhpt::addr::HostReal;
use realhpt::arch::Machine;
use realhpt::arch::host::Event;
use realhpt::hcall::abi;
use realhpt::table::Format;

/// What stood in a slot at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    event: Event,
    dword0: u64,
    dword1: u64,
    unsettled: bool,
    occupied: bool,
}

/// What stands in `slot` at each event of `act`.
fn moments(world: &'static World<'static, Probe>, slot: u64, act: impl FnOnce()) -> Vec<Moment> {
    static SEEN: Mutex<Vec<Moment>> = Mutex::new(Vec::new());
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    SEEN.lock().unwrap().clear();
    let look = move |deed| {
        let Deed::Asks(event) = deed else { return };
        let table = world.client().table();
        let (dword0, dword1) = world.real(slot);
        let (unsettled, occupied) = (
            table.unsettled().contains(slot),
            table.occupied().contains(slot),
        );
        SEEN.lock().unwrap().push(Moment {
            event,
            dword0,
            dword1,
            unsettled,
            occupied,
        });
    };
    world.system.machine.watch(look, act);
    SEEN.lock().unwrap().clone()
}

#[test]
fn an_entry_shows_itself_last() {
    for format in FORMATS {
        let world = probed(format);
        for (rc, unsettled) in [(0, true), (R, true), (C, true), (R | C, false)] {
            let slot = 0x100 + rc;
            let v = 0x1234_5678_9a85;
            let seen = moments(world, slot, || enter(world, slot, v, 0xabc_1012 | rc));
            let dword1 = CLIENT_HOST + 0xabc_1012 + rc;
            let before = Moment {
                event: Event::Eieio,
                dword0: 0,
                dword1,
                unsettled,
                occupied: true,
            };
            let after = Moment {
                event: Event::Ptesync,
                dword0: v,
                ..before
            };
            assert_eq!(seen, [before, after], "{format:?}: {seen:x?}");
        }
        // Read-only: C cannot come.
        let seen = moments(world, 8, || {
            enter(world, 8, 0x1234_5678_9a85, 0xabc_1013 | R)
        });
        assert!(seen.iter().all(|moment| !moment.unsettled));
        // Absent: the same order, and nothing hardware could set.
        let seen = moments(world, 9, || {
            enter(world, 9, 0x1234_5678_9a81, NOWHERE | M | 2)
        });
        let state: Vec<_> = seen
            .iter()
            .map(|moment| (moment.event, moment.dword0, moment.unsettled))
            .collect();
        let absent = 0x1234_5678_9a80 | ABSENT;
        assert_eq!(
            state,
            [(Event::Eieio, 0, false), (Event::Ptesync, absent, false)]
        );
    }
}

/// A run of a restore: one barrier stands for all of its entries, so each of them is looked at there.
#[test]
fn the_entries_of_a_restored_run_show_themselves_last() {
    let v = 0x1234_5678_9a85;
    for format in FORMATS {
        let world = probed(format);
        // The last one is absent. Runs of one and of several, over free slots, and over what they were before.
        for (count, first) in [(5, 0x100), (5, 0x100), (1, 0x142), (1, 0x142)] {
            let mut valid = vec![(v, 0xabc_1012 | R); count];
            if count > 1 {
                valid[count - 1] = (0x1234_5678_9a81, NOWHERE | M | 2);
            }
            let overwrites = world.client().table().occupied().contains(first);
            let record = Record {
                index: u32::try_from(first).unwrap(),
                valid,
                invalid: 1,
            };
            for slot in first..first + count as u64 {
                let is_absent = count > 1 && slot == first + 4;
                let seen = moments(world, slot, || {
                    world.restore(CLIENT, &encode(std::slice::from_ref(&record)));
                });
                let made = seen
                    .iter()
                    .position(|moment| moment.event == Event::Eieio)
                    .unwrap();
                let (removal, publication) = seen.split_at(made);
                let dword1 = if is_absent {
                    0
                } else {
                    CLIENT_HOST + 0xabc_1012 + R
                };
                let before = Moment {
                    event: Event::Eieio,
                    dword0: 0,
                    dword1,
                    unsettled: !is_absent,
                    occupied: true,
                };
                let after = Moment {
                    event: Event::Ptesync,
                    dword0: if is_absent {
                        0x1234_5678_9a80 | ABSENT
                    } else {
                        v
                    },
                    ..before
                };
                assert_eq!(publication, [before, after], "{format:?}, slot {slot:#x}");
                // What was there before: locked, and gone from hardware, at every step of the flush.
                let overwrites = overwrites || slot != first;
                assert_eq!(removal.is_empty(), !overwrites);
                let stale = if is_absent {
                    after.dword0 | HVLOCK
                } else {
                    v & !VALID | HVLOCK
                };
                for moment in removal {
                    assert_eq!(
                        (moment.dword0, moment.occupied),
                        (stale, true),
                        "{moment:x?}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_entry_is_invalid_and_locked_until_it_is_flushed() {
    for format in FORMATS {
        let world = probed(format);
        let [(slot, v, r, rb), ..] = ENTRIES;
        enter(world, slot, v, r);
        let [dword0, dword1] = <[u64; 2]>::from(world.real(slot));
        let held = |event| Moment {
            event,
            dword0: dword0 & !VALID | HVLOCK,
            dword1,
            unsettled: true,
            occupied: true,
        };
        let sequence = [Event::Ptesync, Event::Tlbie(rb, LPID), Event::Tlbsync].map(held);
        let seen = moments(world, slot, || {
            world.call(CLIENT, abi::H_REMOVE, &[0, slot, 0]).ok();
        });
        assert_eq!(seen, sequence, "{format:?}");
        assert!(!world.client().table().occupied().contains(slot));
        assert!(!world.client().table().unsettled().contains(slot));

        // H_PROTECT: from read-only with R (settled) to writable: unsettled before VALID comes back.
        enter(world, slot, v, r | R | 3);
        assert!(!world.client().table().unsettled().contains(slot));
        let seen = moments(world, slot, || {
            world.call(CLIENT, abi::H_PROTECT, &[2, slot, 0]).ok();
        });
        let [.., before, after] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert_eq!(
            (before.event, before.dword0),
            (Event::Eieio, dword0 & !VALID | HVLOCK)
        );
        assert_eq!(
            (before.dword1 & 3, before.unsettled),
            (2, true),
            "dword 1 and unsettled first"
        );
        assert_eq!((after.event, after.dword0), (Event::Ptesync, dword0));
    }
}

#[test]
fn unsettled_comes_before_r_or_c_goes() {
    for format in FORMATS {
        let world = probed(format);
        let [(slot, v, r, rb), ..] = ENTRIES;
        enter(world, slot, v, r | R | C);
        assert!(!world.client().table().unsettled().contains(slot));
        let [dword0, dword1] = <[u64; 2]>::from(world.real(slot));
        let seen = moments(world, slot, || {
            world.call(CLIENT, abi::H_CLEAR_REF, &[0, slot]).ok();
        });
        // Valid and locked from the first to the last; R goes between the byte store and the sequence.
        let live = |event, dword1| Moment {
            event,
            dword0: dword0 | HVLOCK,
            dword1,
            unsettled: true,
            occupied: true,
        };
        let byte = (dword1 >> 8) as u8 & !1;
        let expected = [
            live(Event::Eieio, dword1),
            live(Event::StoreByte(6, byte), dword1),
            live(Event::Ptesync, dword1 & !R),
            live(Event::Tlbie(rb, LPID), dword1 & !R),
            live(Event::Tlbsync, dword1 & !R),
        ];
        assert_eq!(seen, expected, "{format:?}");
        assert_eq!(world.real(slot).0, dword0);

        // Settled again, then C goes: from an entry that is invalid and locked all the while.
        enter(world, slot ^ 1, v, r | R | C);
        let seen = moments(world, slot ^ 1, || {
            world.call(CLIENT, abi::H_CLEAR_MOD, &[0, slot ^ 1]).ok();
        });
        let [stale @ .., before, after] = seen.as_slice() else {
            panic!("{seen:?}")
        };
        assert!(stale.iter().all(|moment| moment.dword1 == dword1));
        let away = dword0 & !VALID | HVLOCK;
        assert!(stale.iter().all(|moment| moment.dword0 == away));
        assert_eq!((before.event, before.dword0), (Event::Eieio, away));
        assert_eq!((before.dword1, before.unsettled), (dword1 & !C, true));
        assert_eq!((after.event, after.dword0), (Event::Ptesync, dword0));
    }
}

#[test]
fn a_page_is_zeroed_before_its_entry_shows_itself() {
    let world = probed(Format::V3_0);
    let flags = 1 << 15 | 1 << 22 | 1 << 39;
    let page = CLIENT_WINDOW.0 | 0x3000;
    let host = HostReal::new(CLIENT_WINDOW.1 + 0x3000);
    world.system.machine.store(host, 1);
    let seen = moments(world, 0x40, || {
        let arguments = [flags, 0x40, 0x81, page | M | 2];
        world.call(CLIENT, abi::H_ENTER, &arguments).ok();
    });
    let [zero, synchronise, publish @ ..] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    assert_eq!(zero.event, Event::Zero(host, 0x1000));
    assert_eq!(synchronise.event, Event::Synchronise(host, 0x1000));
    for moment in [zero, synchronise] {
        assert_eq!((moment.dword0, moment.occupied), (0, true));
    }
    assert_eq!(publish.len(), 2);
    assert_eq!(world.system.machine.load(host), 0);
}
