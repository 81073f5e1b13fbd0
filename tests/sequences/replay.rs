//! The replay: each step done and compared; the guest's calls here, streams in [`streams`].

mod streams;

use std::collections::{BTreeMap, BTreeSet};

use crate::common::corpus::number;
use crate::common::world::{CLIENT, World};
use crate::memory::{Backing, MemorySlots};
use crate::step::Step;
use crate::{C, EXACT, R, REASONS, SLOTS};
use realhpt::hcall::abi::{self};
use realhpt::sync::Ordering;

/// Our side of the persistent reader.
struct Persistent {
    handle: Option<u64>,
    /// The table as it knows it.
    copy: Vec<Option<(u64, u64)>>,
    /// Slots that it has been told of and Linux's reader has not yet.
    told: Vec<bool>,
    /// What only it will be told: calls of ours that Linux did not have.
    ours_alone: BTreeSet<u64>,
    /// Where Linux's reader stands.
    cursor: u64,
    /// The table was reset under it: Linux's reader may hear of entries that went then.
    reset: bool,
}

impl Persistent {
    fn new(handle: Option<u64>) -> Self {
        let (copy, told) = (vec![None; SLOTS as usize], vec![false; SLOTS as usize]);
        Self {
            handle,
            copy,
            told,
            ours_alone: BTreeSet::new(),
            cursor: 0,
            reset: false,
        }
    }
}

pub(crate) struct Replay<'s, 'w> {
    world: &'w World<'s>,
    slots: MemorySlots,
    persistent: Persistent,
    reasons: BTreeMap<&'static str, u64>,
    compared: u64,
}

impl<'s, 'w> Replay<'s, 'w> {
    pub(crate) fn new(world: &'w World<'s>, slots: MemorySlots) -> Self {
        let persistent = Persistent::new(None);
        Self {
            world,
            slots,
            persistent,
            reasons: BTreeMap::new(),
            compared: 0,
        }
    }

    /// How many steps were compared, and how often which reason was one.
    pub(crate) fn outcome(self) -> (u64, BTreeMap<&'static str, u64>) {
        (self.compared, self.reasons)
    }

    fn because(&mut self, reason: &str) {
        let row = REASONS.iter().find(|row| row.0 == reason);
        let (name, _) = row.unwrap_or_else(|| panic!("{reason} is no reason"));
        *self.reasons.entry(name).or_default() += 1;
    }

    fn hcall(&self, token: u64, arguments: &[u64]) -> (i64, [u64; 9]) {
        let answer = self.world.call(CLIENT, token, arguments);
        (answer.raw.cast_signed(), answer.out)
    }

    /// The entry of a slot as H_READ shows it.
    fn entry(&self, slot: u64) -> Option<(u64, u64)> {
        let (status, [v, r, ..]) = self.hcall(abi::H_READ, &[0, slot]);
        (status == 0 && v & 1 != 0).then_some((v, r))
    }

    /// Makes the entry of a slot another one, by calls that Linux did not have.
    fn set(&mut self, slot: u64, entry: Option<(u64, u64)>) {
        if self.entry(slot).is_some() {
            assert_eq!(self.hcall(abi::H_REMOVE, &[0, slot, 0]).0, 0);
        }
        if let Some((v, r)) = entry {
            assert_eq!(self.hcall(abi::H_ENTER, &[EXACT, slot, v, r]).0, 0);
        }
    }

    pub(crate) fn op(&mut self, step: Step<'_>) {
        let input = step.numbers("in");
        match step.text("op") {
            "LOAD" => self.access(&input, R),
            "STORE" => self.access(&input, R | C),
            "H_CLEAR_REF" => self.clear(step, R),
            "H_CLEAR_MOD" => self.clear(step, C),
            "H_ENTER" => self.enter(step, &input),
            "H_REMOVE" => self.remove(step, &input),
            "H_READ" => self.read_entries(step, &input),
            "H_PROTECT" => {
                let (ret, out) = self.hcall(abi::H_PROTECT, &input);
                assert_eq!(ret, step.ret());
                assert_eq!(out[..input.len()], input, "it has no results");
            }
            "H_BULK_REMOVE" => self.bulk_remove(step, &input),
            other => panic!("{other} is new"),
        }
        self.compared += 1;
    }

    /// A load or store through the entry that translates its address: found as hardware found it, which saw no
    /// entry of a page that was not there, unless there was no other: then Linux made the page first.
    fn access(&mut self, input: &[u64], bits: u64) {
        const COMPARED: u64 = !0x7f | SECONDARY;
        const SECONDARY: u64 = 2;
        let [ea, slb] = [input[0], input[1]];
        assert_eq!(
            slb & 0xc000_0000_0000_0ffe,
            0,
            "a segment of 256M and 4K pages"
        );
        let vsid = slb >> 12;
        let hash = vsid ^ (ea & 0x0fff_ffff) >> 12;
        let avpn = vsid << 12 | (ea & 0x0fff_ffff) >> 16 & !0x7f;
        let mut found = Vec::new();
        for (hash, h) in [(hash, 0), (!hash, SECONDARY)] {
            let group = 8 * (hash & (SLOTS / 8 - 1));
            for slot in group..group + 8 {
                let Some((v, r)) = self.entry(slot) else {
                    continue;
                };
                let base_4k = v & 4 == 0 || matches!(r >> 12 & 0xff, 0x38) || r >> 12 & 0xf == 7;
                if v & COMPARED == avpn | h && base_4k && self.slots.backing(r) != Backing::None {
                    found.push((slot, v, r));
                }
            }
        }
        if found.len() > 1 {
            found.retain(|&(_, _, r)| self.slots.backing(r) == Backing::Present);
        }
        let [(slot, v, r)] = found[..] else {
            panic!("exactly one entry translates: {found:x?}")
        };
        let real = &self.world.client().table().hpt()[2 * slot as usize..][..2];
        if real[0].load(Ordering::Relaxed) & 1 != 0 {
            real[1].set_bits(bits);
        } else if bits & !r != 0 {
            self.set(slot, Some((v, r | bits)));
        }
    }

    fn clear(&mut self, step: Step<'_>, bit: u64) {
        self.because("clear");
        let input = step.numbers("in");
        let slot = input[1];
        let entry = self.entry(slot);
        match step.ret() {
            0 => {
                let (v, r) = entry.expect("Linux has an entry there");
                let stale = if step.is_tagged("clear_rc_leaves") || step.is_tagged("read_stale") {
                    R | C
                } else {
                    0
                };
                let linux = step.numbers("out")[0] & !(1 << 62);
                assert_eq!(r & !stale, linux & !stale, "dword 1 before");
                if r & bit != 0 {
                    self.set(slot, Some((v, r & !bit)));
                }
            }
            -4 => assert!(slot >= SLOTS),
            -7 => assert_eq!(entry, None),
            other => panic!("{other} is new"),
        }
    }

    fn enter(&mut self, step: Step<'_>, input: &[u64]) {
        let (ret, out) = self.hcall(abi::H_ENTER, input);
        if ret != step.ret() && self.slots.refuses(input[2], input[3]) {
            // KVM looks at the memory before the slot.
            self.because("why_");
            assert_eq!(step.ret(), -4);
            assert!(matches!(ret, 0 | -6));
            if ret == 0 {
                self.set(out[0], None);
                self.persistent.ours_alone.insert(out[0]);
            }
            return;
        }
        assert_eq!(ret, step.ret());
        assert_eq!(out[0], step.numbers("out")[0]);
        assert_eq!(out[1..input.len()], input[1..], "only r4 has a result");
    }

    fn remove(&mut self, step: Step<'_>, input: &[u64]) {
        let before = self.entry(input[1]);
        let (ret, out) = self.hcall(abi::H_REMOVE, input);
        if step.is_tagged("andcond") {
            self.because("andcond");
            let (v, _) = before.expect("there is an entry that the condition is about");
            assert_eq!(
                ret,
                if v & input[2] == 0 { 0 } else { -7 },
                "the guest's bits decide"
            );
            self.set(input[1], if step.ret() == 0 { None } else { before });
            self.persistent.ours_alone.insert(input[1]);
            return;
        }
        assert_eq!(ret, step.ret());
        let linux = step.numbers("out");
        assert_eq!(out[..linux.len()], linux);
        assert_eq!(out[2], input[2], "r6 has no result");
    }

    fn read_entries(&mut self, step: Step<'_>, input: &[u64]) {
        let (ret, out) = self.hcall(abi::H_READ, input);
        assert_eq!(ret, step.ret());
        let linux = step.numbers("out");
        let invalid = step.either("inv", "inv9").map_or(0, |mask| {
            mask.as_u64()
                .unwrap_or_else(|| number(mask.as_str().unwrap()))
        });
        let stale = if step.is_tagged("read_stale_RC_of_absent") {
            R | C
        } else {
            0
        };
        for (number, (ours, linux)) in out.chunks(2).zip(linux.chunks(2)).enumerate() {
            if invalid >> number & 1 != 0 {
                assert_eq!(ours, [0, 0], "no entry: nothing shown");
                self.because("read_invalid_leaks");
            } else if ours != linux {
                assert_eq!(
                    (ours[0], ours[1] & !stale),
                    (linux[0], linux[1] & !stale),
                    "entry {number}"
                );
                self.because("read_stale_RC_of_absent");
            }
        }
    }

    fn bulk_remove(&mut self, step: Step<'_>, input: &[u64]) {
        let slots: Vec<u64> = input
            .chunks(2)
            .map(|pair| pair[0] & ((1 << 56) - 1))
            .collect();
        let before: Vec<_> = slots.iter().map(|&slot| self.entry(slot)).collect();
        let (ret, out) = self.hcall(abi::H_BULK_REMOVE, input);
        assert_eq!(ret, step.ret());
        let linux = step.numbers("out");
        if !step.is_tagged("andcond") {
            assert_eq!(out[..8], linux);
            return;
        }
        self.because("andcond");
        for (number, slot) in slots.iter().enumerate() {
            let (ours, linux) = (out[2 * number], linux[2 * number]);
            if ours == linux {
                continue;
            }
            // The condition of this request, or of one before it for the same slot.
            let conditional = |at: usize| slots[at] == *slot && input[2 * at] >> 56 & 3 == 1;
            assert!(
                (0..=number).any(conditional),
                "only what asks for H_ANDCOND may differ"
            );
            // Removed has 0x8 in the upper half of the answer's first byte, not found 0x9.
            let removed = |answer: u64| answer >> 60 == 8;
            assert_ne!(removed(ours), removed(linux));
            self.set(*slot, if removed(linux) { None } else { before[number] });
            self.persistent.ours_alone.insert(*slot);
        }
    }
}
