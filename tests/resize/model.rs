//! Random tables, resized in pieces with changes between, beside a rehash from scratch.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::common::runner::runner;
use crate::common::stream::Image;
use crate::common::world::{CLIENT, CLIENT_HOST, CLIENT_MEMORY, Spec, Store, World};
use crate::page::{Page, page};
use crate::{BOLTED, C, FORMATS, R, commit, enter, prepare, remove};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::Config;
use realhpt::hcall::abi::{self, Status};
use realhpt::table::Format;

/// What happens, one thing after the other.
#[derive(Clone, Debug)]
enum Op {
    /// A page is entered where its hash leads to, or, as a stray, so many groups from there.
    Enter {
        page: Page,
        number: u64,
        astray: u64,
        bolted: bool,
        at: u64,
    },
    /// The nth entry is removed.
    Remove(usize),
    /// The nth entry is given another protection.
    Protect(usize, u64),
    /// Hardware sets R or C in the nth entry.
    Touch(usize, u64),
    /// A piece of a prepare.
    Prepare,
    /// Prepares to the end, then a commit.
    Commit,
    /// It is prepared for another order from now on.
    Turn(u32),
    /// The entries are looked at.
    Look,
    /// The partition's R and C are merged.
    Pause,
}

/// Large ones take their time to be looked at.
fn order() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 18..21u32, 1 => 21..23u32]
}

fn op() -> impl Strategy<Value = Op> {
    let enter = (page(), 0..8u64, 0..16u64, 0..3u8, 0..CLIENT_MEMORY / 4 * 5).prop_map(
        |(page, number, astray, bolted, at)| Op::Enter {
            page,
            number,
            astray: astray.saturating_sub(12),
            bolted: bolted != 0,
            at,
        },
    );
    let rc = prop_oneof![Just(R), Just(R | C)];
    prop_oneof![
        30 => enter,
        8 => any::<usize>().prop_map(Op::Remove),
        3 => (any::<usize>(), 0..3u64).prop_map(|(nth, pp)| Op::Protect(nth, pp)),
        5 => (any::<usize>(), rc).prop_map(|(nth, bits)| Op::Touch(nth, bits)),
        12 => Just(Op::Prepare),
        4 => Just(Op::Commit),
        1 => order().prop_map(Op::Turn),
        2 => Just(Op::Look),
        1 => Just(Op::Pause),
    ]
}

/// An entry of the model.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The page that a rehash takes it for.
    page: Page,
    v: u64,
    /// With every R and C that hardware has set.
    r: u64,
    usable: bool,
}

struct Model<'s> {
    world: World<'s>,
    format: Format,
    order: u32,
    /// What is prepared for, or will be.
    next: u32,
    entries: BTreeMap<u64, Entry>,
    commits: usize,
    collisions: usize,
}

impl Model<'_> {
    fn nth(&self, nth: usize) -> Option<(u64, Entry)> {
        let nth = nth.checked_rem(self.entries.len())?;
        self.entries
            .iter()
            .nth(nth)
            .map(|(&slot, &entry)| (slot, entry))
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Enter {
                page,
                number,
                astray,
                bolted,
                at,
            } => self.enter(page, number, astray, bolted, at),
            Op::Remove(nth) => {
                if let Some((slot, _)) = self.nth(nth) {
                    assert_eq!(remove(&self.world, slot), Status::Success);
                    self.entries.remove(&slot);
                }
            }
            Op::Protect(nth, pp) => {
                if let Some((slot, entry)) = self.nth(nth) {
                    let answer = self.world.call(CLIENT, abi::H_PROTECT, &[pp, slot, 0]);
                    assert_eq!(answer.status(), Status::Success);
                    let protection = 3 << 60 | 0xe00 | 7 | 1 << 63;
                    let r = entry.r & !protection | pp;
                    self.entries.insert(slot, Entry { r, ..entry });
                }
            }
            Op::Touch(nth, bits) => {
                if let Some((slot, entry)) = self.nth(nth).filter(|(_, entry)| entry.usable) {
                    self.world.touch(slot, bits);
                    let r = entry.r | bits;
                    self.entries.insert(slot, Entry { r, ..entry });
                }
            }
            Op::Prepare => drop(prepare(&self.world, self.next)),
            Op::Commit => self.commit(),
            Op::Turn(order) => self.next = order,
            Op::Look => self.check_entries(),
            Op::Pause => {
                let status = self.world.control(abi::H_LPAR_PAUSE, CLIENT);
                assert_eq!(status, Status::Success);
            }
        }
    }

    fn enter(&mut self, page: Page, number: u64, astray: u64, bolted: bool, at: u64) {
        let groups = 1 << (self.order - 7);
        let group = (page.group(self.order) + astray) % groups;
        let slot = group * 8 + number;
        let v = page.v() | if bolted { BOLTED } else { 0 };
        let (r, usable) = (page.r(at) | 0x12, at < CLIENT_MEMORY);
        let status = enter(&self.world, slot, (v, r));
        if self.entries.contains_key(&slot) {
            assert_eq!(status, Status::PtegFull);
            return;
        }
        assert_eq!(status, Status::Success);
        let page = page.as_standing_in(group);
        let entry = Entry { page, v, r, usable };
        self.entries.insert(slot, entry);
    }

    /// What the table is when it is rehashed for the next order; none if two entries want one slot.
    fn rehashed(&self) -> Option<BTreeMap<u64, Entry>> {
        let is_vrma = |v: u64| v & !0xff_ffff == 0x4001_ffff_ff00_0000;
        let mut next = BTreeMap::new();
        for (slot, entry) in &self.entries {
            if entry.v & BOLTED == 0 && !is_vrma(entry.v) {
                continue;
            }
            let place = entry.page.group(self.next) * 8 + slot % 8;
            // The new place is where it stands from now on.
            let page = entry.page.as_standing_in(place / 8);
            if next.insert(place, Entry { page, ..*entry }).is_some() {
                return None;
            }
        }
        Some(next)
    }

    fn commit(&mut self) {
        let mut calls = 0;
        loop {
            match prepare(&self.world, self.next) {
                Status::LongBusyOrder100Msec => assert_eq!(calls, 0, "it began twice"),
                Status::LongBusyOrder1Msec => {}
                Status::Success => break,
                Status::PtegFull => {
                    assert!(self.rehashed().is_none(), "there is no collision");
                    break;
                }
                status => panic!("{status:?}"),
            }
            calls += 1;
            assert!(calls < 300, "the prepares do not end");
        }
        let reader = self.world.open(CLIENT, 0, 0);
        let generation = self.world.client().control().generation();
        let status = commit(&self.world, self.next);
        match self.rehashed() {
            Some(next) => {
                assert_eq!(status, Status::Success);
                (self.order, self.entries) = (self.next, next);
                assert_eq!(self.world.client().control().generation(), generation + 1);
                assert_eq!(self.world.read(reader, 64), Err(Status::Closed));
                self.commits += 1;
            }
            None => {
                assert_eq!(status, Status::PtegFull);
                assert_eq!(self.world.client().control().generation(), generation);
                assert!(self.world.read(reader, 64).is_ok());
                self.collisions += 1;
            }
        }
        assert_eq!(self.world.close(reader), Status::Success);
        assert_eq!(commit(&self.world, self.next), Status::Closed);
        self.check();
    }

    /// The table is the model's: as the guest is shown it, and as hardware sees it.
    fn check(&self) {
        let table = self.world.client().table();
        assert_eq!(table.order().raw(), self.order);
        let slots = table.hpt().len() / 2;
        assert_eq!(slots as u64, table.order().slots());
        let image: Image = self
            .entries
            .iter()
            .map(|(&slot, entry)| (slot, (entry.v, entry.r)))
            .collect();
        let found = self.world.image(CLIENT);
        assert_eq!(crate::common::stream::differences(&found, &image), [""; 0]);
        self.check_entries();
    }

    /// Every entry is where it should be, as hardware sees it, and there are no others.
    fn check_entries(&self) {
        for (&slot, entry) in &self.entries {
            let (dword0, dword1) = self.world.real(slot);
            let state = if entry.usable { 1 } else { 0x20 };
            let (v, b) = match self.format {
                Format::V2_07 => (entry.v, 0),
                Format::V3_0 => (entry.v & 0xf_ffff_ffff_ffff, entry.v >> 62),
            };
            assert_eq!(dword0, v & !1 | state);
            if entry.usable {
                assert_eq!(dword1, b << 58 | (entry.r + CLIENT_HOST));
            }
        }
        let table = self.world.client().table();
        let occupied: u32 = (0..table.order().slots() / 64)
            .map(|word| {
                let occupied = table.occupied().word(word);
                assert_eq!(table.unsettled().word(word) & !occupied, 0);
                occupied.count_ones()
            })
            .sum();
        assert_eq!(occupied as usize, self.entries.len());
    }
}

#[test]
fn a_resize_in_pieces_is_a_rehash_from_scratch() {
    let config = Config {
        cases: 16,
        max_shrink_iters: 300,
        ..Config::default()
    };
    let (commits, collisions) = (Cell::new(0), Cell::new(0));
    let ops = (order(), order(), vec(op(), 1..400));
    let outcome = runner(config).run(&ops, |(order, next, ops)| {
        for format in FORMATS {
            let turns = ops.iter().map(|op| match op {
                Op::Turn(order) => *order,
                _ => next,
            });
            let largest = turns.chain([order, next]).max().unwrap();
            let client = Spec::client(order).resizable(largest);
            let store = Store::new(&[Spec::agent(), client]);
            let mut model = Model {
                world: World::new(&store, format),
                format,
                order,
                next,
                entries: BTreeMap::new(),
                commits: 0,
                collisions: 0,
            };
            for op in ops.clone() {
                model.step(op);
            }
            model.commit();
            commits.set(commits.get() + model.commits);
            collisions.set(collisions.get() + model.collisions);
        }
        Ok(())
    });
    outcome.unwrap();
    // Both ends were come to, often.
    let ends = (commits.get(), collisions.get());
    assert!(ends.0 > 60 && ends.1 > 6, "{ends:?}");
}
