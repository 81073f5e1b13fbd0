//! The verdict: what is right is verified, and each thing that is wrong is found.

use realhpt::hcall::abi::ReadFlags;
use realhpt_pseries::exchange::kind;

use super::super::formats::{Format, Table, load};
use super::super::model::{Generation, Model};
use super::super::record::Entry;
use super::super::verify::{Client, JournalEntry, Kind, PassRead, Report, verify};
use super::{data, record, update, whole_pass};

const ORDER: u32 = 18;
const SLOTS: u64 = 1 << 14;
const ENDED: ReadFlags = ReadFlags::END_OF_PASS;
const CLEAN: ReadFlags = ENDED.union(ReadFlags::CLEAN);

/// What the table is restored with, slots 0x10, 0x11, 0x2000.
const OLD: Entry = Entry {
    dw0: 0x0000_1234_5678_9a05,
    dw1: 0x0000_0000_0123_4196,
};
/// What the client enters.
const NEW: Entry = Entry {
    dw0: 0x4000_0000_0000_8011,
    dw1: 0x0000_0000_0002_0012,
};
const VRMA: Entry = Entry {
    dw0: 0x4001_ffff_ff00_0015,
    dw1: 0x0000_0000_0000_0196,
};

/// A round trip that can be spoiled before it is judged.
struct Trip {
    table: Table,
    generation: Generation,
    passes: Vec<(Kind, Vec<u8>, u64, ReadFlags)>,
    journal: Vec<JournalEntry>,
}

/// A journal entry: the slot is like this.
fn says(ptex: u64, slot: Option<Entry>) -> JournalEntry {
    let Entry { dw0, dw1 } = slot.unwrap_or_default();
    JournalEntry { ptex, dw0, dw1 }
}

impl Trip {
    /// The client enters a page and touches it, removes an entry that was restored, and the hypervisor makes a
    /// VRMA entry. A live pass sees the enter, a final pass the R and C and the rest.
    fn good() -> Self {
        let touched = Entry {
            dw1: NEW.dw1 | 0x180,
            ..NEW
        };
        let section = [record(0x10, &[OLD, OLD], 4), record(0x2000, &[OLD], 0)].concat();
        let table = Table {
            order: ORDER,
            sections: vec![section, vec![]],
            format: Format::Qemu,
            guessed: false,
        };
        Self::of(
            table,
            &[(0x30, Some(NEW)), (7, Some(VRMA))],
            &[(0x30, Some(touched)), (0x11, None)],
        )
    }

    /// A trip of this table: changes that a live pass reads, changes that a final pass reads. All but those of the
    /// VRMA are in the journal.
    fn of(table: Table, live: &[(u64, Option<Entry>)], last: &[(u64, Option<Entry>)]) -> Self {
        let mut model = Model::new(table.order);
        for section in &table.sections {
            model.apply(section).unwrap();
        }
        let bytes = |changes: &[(u64, Option<Entry>)]| -> Vec<u8> {
            changes
                .iter()
                .flat_map(|(ptex, slot)| update(*ptex, *slot))
                .collect()
        };
        let first = whole_pass(&model);
        model.apply(&bytes(live)).unwrap();
        model.apply(&bytes(last)).unwrap();
        let journal = live.iter().chain(last).filter(|(ptex, _)| *ptex != 7);
        Self {
            table,
            generation: Generation::Isa207,
            journal: journal.map(|(ptex, slot)| says(*ptex, *slot)).collect(),
            passes: vec![
                (Kind::First, first, 0, ENDED),
                (Kind::Clean, vec![], 0, CLEAN),
                (Kind::Live, bytes(live), 3, ENDED),
                (Kind::Final, bytes(last), 0, ENDED),
                (Kind::Final, vec![], 0, CLEAN),
                (Kind::Reference, whole_pass(&model), 0, ENDED),
            ],
        }
    }

    /// Changes the entry of a slot wherever the passes from `from` on name it in a record of its own or in a
    /// whole pass.
    fn change(
        &mut self,
        passes: &[usize],
        ptex: u64,
        change: impl Fn(Option<Entry>) -> Option<Entry>,
    ) {
        for &number in passes {
            let (kind, bytes, ..) = &mut self.passes[number];
            let mut model = Model::new(self.table.order);
            model.apply(bytes).unwrap();
            let slot = change(model.get(ptex));
            if matches!(kind, Kind::First | Kind::Reference) {
                model.apply(&update(ptex, slot)).unwrap();
                *bytes = whole_pass(&model);
            } else {
                bytes.extend(update(ptex, slot));
            }
        }
    }

    fn judge(&self) -> Report {
        self.judge_with(Client::Ran(&self.journal))
    }

    fn judge_with(&self, client: Client<'_>) -> Report {
        let passes: Vec<_> = self
            .passes
            .iter()
            .map(|(kind, records, pending, flags)| PassRead {
                kind: *kind,
                records,
                pending: *pending,
                flags: *flags,
            })
            .collect();
        verify(&self.table, &passes, client, self.generation)
    }

    #[track_caller]
    fn differs(&self, words: &str) {
        let verdict = self.judge().verdict;
        assert_eq!(verdict.expect_err("a difference"), words);
    }
}

fn with_rc(slot: Option<Entry>) -> Option<Entry> {
    slot.map(|entry| Entry {
        dw1: entry.dw1 | 0x180,
        ..entry
    })
}

const LIVE: usize = 2;
const FINAL: usize = 3;
const LAST: usize = 4;
const REFERENCE: usize = 5;

#[test]
fn a_good_trip_is_verified() {
    let report = Trip::good().judge();
    let verified = report.verdict.unwrap();
    assert_eq!(
        verified.to_string(),
        "3 entries as written; 3 slots changed since, all of them read in later passes; \
         2 slots as the client says, 1 of the VRMA"
    );
    let lines: Vec<_> = report.passes.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines[..3],
        [
            "first            3 records        3 entries    16381 invalid slots         72 bytes      0 pending",
            "clean            0 records        0 entries        0 invalid slots          0 bytes      0 pending, clean",
            "live             2 records        2 entries        0 invalid slots         48 bytes      3 pending",
        ]
    );
}

#[test]
fn a_client_may_only_stay_out_of_a_table_without_room() {
    let table = |sections| Table {
        order: ORDER,
        sections,
        format: Format::Qemu,
        guessed: false,
    };
    let full = vec![OLD; usize::try_from(SLOTS).unwrap()];
    let trip = Trip::of(table(vec![record(0, &full, 0)]), &[], &[]);
    let verified = trip.judge_with(Client::NoRoom).verdict.unwrap();
    assert_eq!(
        verified.to_string(),
        "16384 entries as written; the client did not run: its table has no room for a VRMA"
    );
    let roomy = Trip::of(table(vec![record(0, &[OLD], 0)]), &[], &[]).judge_with(Client::NoRoom);
    assert!(
        roomy
            .verdict
            .is_err_and(|wrong| wrong.contains("there is room"))
    );
    let mut changed = trip;
    changed.change(&[3, 5], 9, with_rc);
    assert!(changed.judge_with(Client::NoRoom).verdict.is_err());
}

#[test]
fn the_kinds_are_those_of_the_exchange() {
    let words = [
        kind::FIRST,
        kind::CLEAN,
        kind::LIVE,
        kind::FINAL,
        kind::REFERENCE,
    ];
    let names: Vec<_> = words
        .iter()
        .map(|word| Kind::from_word(*word).unwrap().to_string())
        .collect();
    assert_eq!(names, ["first", "clean", "live", "final", "reference"]);
    assert_eq!([0, 6, u64::MAX].map(Kind::from_word), [None; 3]);
}

#[test]
fn real_tables_are_verified() {
    for name in ["idle512", "load512", "k4_load512", "tinyhalf512"] {
        let table = load(&data(&format!("qemu-htab/{name}.htab.xz")), None, None).unwrap();
        let trip = Trip::of(
            table,
            &[(0x31, Some(NEW))],
            &[(0x32, Some(NEW)), (0x31, None)],
        );
        let report = trip.judge();
        assert!(report.verdict.is_ok(), "{name}: {:?}", report.verdict);
    }
}

#[test]
fn a_table_read_back_otherwise_is_found() {
    let mut trip = Trip::good();
    trip.change(&[0], 0x11, |_| None);
    trip.differs(
        "first pass: slot 0x11 (group 0x2, entry 1): written 0000123456789a05 0000000001234196, read back invalid",
    );
    let mut trip = Trip::good();
    trip.change(&[0], 0x12, |_| Some(OLD));
    trip.differs(
        "first pass: slot 0x12 (group 0x2, entry 2): written invalid, read back 0000123456789a05 0000000001234196",
    );
    let mut trip = Trip::good();
    trip.change(&[0], 0x2000, |_| {
        Some(Entry {
            dw0: OLD.dw0 ^ 0x2,
            dw1: OLD.dw1 ^ 0x100,
        })
    });
    trip.differs(
        "first pass: slot 0x2000 (group 0x400, entry 0): written 0000123456789a05 0000000001234196, \
         read back 0000123456789a07 0000000001234096; differ in H, R",
    );
}

#[test]
fn bits_that_the_format_has_no_place_for_may_get_lost_on_isa300_only() {
    let mut trip = Trip::good();
    let high = Entry {
        dw0: OLD.dw0 | 0x3ff << 52,
        ..OLD
    };
    trip.table.sections.push(update(0x2000, Some(high)));
    trip.differs(
        "first pass: slot 0x2000 (group 0x400, entry 0): written 3ff0123456789a05 0000000001234196, \
         read back 0000123456789a05 0000000001234196; differ in AVPN",
    );
    trip.generation = Generation::Isa300;
    assert!(trip.judge().verdict.is_ok());
}

#[test]
fn hypervisor_bits_of_the_input_do_not_count_and_of_the_output_are_found() {
    let mut trip = Trip::good();
    let private = Entry {
        dw0: OLD.dw0 | 0x60,
        dw1: OLD.dw1 | 1 << 62,
    };
    trip.table.sections.push(update(0x2000, Some(private)));
    assert!(trip.judge().verdict.is_ok());
    for shown in [
        Entry {
            dw0: OLD.dw0 | 0x40,
            ..OLD
        },
        Entry {
            dw0: OLD.dw0 | 0x20,
            ..OLD
        },
    ] {
        let mut trip = Trip::good();
        trip.change(&[0], 0x2000, |_| Some(shown));
        trip.differs(&format!(
            "pass 1 (first): slot 0x2000 shows bits of the hypervisor's own: {shown}"
        ));
    }
    let mut trip = Trip::good();
    trip.change(&[REFERENCE], 0x2000, |_| {
        Some(Entry {
            dw1: OLD.dw1 | 1 << 62,
            ..OLD
        })
    });
    trip.differs(
        "pass 6 (reference): slot 0x2000 shows bits of the hypervisor's own: 0000123456789a05 4000000001234196",
    );
}

#[test]
fn a_first_pass_with_a_gap_or_a_slot_twice_is_found() {
    for number in [0, REFERENCE] {
        let name = if number == 0 { "first" } else { "reference" };
        let mut trip = Trip::good();
        trip.passes[number].1 = vec![];
        trip.differs(&format!(
            "{name} pass: the records end with slot 0x0 of 0x4000"
        ));
        let mut trip = Trip::good();
        trip.passes[number].1.extend(record(SLOTS - 1, &[], 1));
        let len = trip.passes[number].1.len() - 8;
        trip.differs(&format!(
            "{name} pass: the record at byte {len} begins with slot 0x3fff, the next one was 0x4000"
        ));
    }
}

#[test]
fn every_bit_of_the_first_and_the_reference_pass_counts() {
    for number in [0, REFERENCE] {
        let good = Trip::good();
        for bit in 0..good.passes[number].1.len() * 8 {
            let mut trip = Trip::good();
            trip.passes[number].1[bit / 8] ^= 1 << (bit % 8);
            assert!(trip.judge().verdict.is_err(), "pass {number}, bit {bit}");
        }
    }
}

#[test]
fn malformed_records_are_found_in_every_pass() {
    for number in 0..6 {
        let mut trip = Trip::good();
        trip.passes[number].1.push(0);
        let at = trip.passes[number].1.len();
        let kind = trip.passes[number].0;
        let report = trip.judge();
        assert_eq!(report.passes.len(), number);
        assert_eq!(
            report.verdict.unwrap_err(),
            format!(
                "pass {} ({kind}): at byte {at}: the input ends, 7 bytes of a record's header are missing",
                number + 1
            )
        );
    }
}

#[test]
fn a_pass_that_should_be_clean_and_is_not_is_found() {
    for (number, name) in [(1, "clean"), (LAST, "final")] {
        let mut trip = Trip::good();
        trip.passes[number].1 = update(0x2000, Some(OLD));
        trip.passes[number].3 = ENDED;
        trip.differs(&format!(
            "the {name} pass should be clean and has 1 records"
        ));
        let mut trip = Trip::good();
        trip.passes[number].2 = 5;
        trip.passes[number].3 = ENDED;
        trip.differs(&format!(
            "after the {name} pass, which should be clean, 5 slots are pending"
        ));
        let mut trip = Trip::good();
        trip.passes[number].3 = ENDED;
        trip.differs(&format!(
            "the {name} pass has no record and the hypervisor did not call it clean"
        ));
    }
}

#[test]
fn flags_that_cannot_be_are_found() {
    let mut trip = Trip::good();
    trip.passes[LIVE].3 = ReadFlags::empty();
    trip.differs("pass 3 (live): the hypervisor did not say that the pass ended");
    let mut trip = Trip::good();
    trip.passes[LIVE].3 = CLEAN;
    trip.differs("pass 3 (live): called clean with 2 records and 3 slots pending");
    let mut trip = Trip::good();
    trip.passes[LAST].2 = 1;
    trip.differs("pass 5 (final): called clean with 0 records and 1 slots pending");
}

#[test]
fn a_lost_change_is_found() {
    let mut trip = Trip::good();
    trip.passes[FINAL].1 = update(0x11, None);
    trip.differs(
        "a change was lost or made up: slot 0x30 (group 0x6, entry 0): \
         all passes together 4000000000008011 0000000000020012, \
         the reference pass 4000000000008011 0000000000020192; differ in R, C",
    );
    let mut trip = Trip::good();
    trip.passes[LIVE].1.extend(update(0x44, Some(NEW)));
    trip.differs(
        "a change was lost or made up: slot 0x44 (group 0x8, entry 4): \
         all passes together 4000000000008011 0000000000020012, the reference pass invalid",
    );
}

#[test]
fn a_change_that_is_not_the_clients_is_found() {
    let mut trip = Trip::good();
    trip.change(&[FINAL, REFERENCE], 0x2000, |_| {
        Some(Entry {
            dw1: OLD.dw1 ^ 0x100,
            ..OLD
        })
    });
    trip.differs(
        "changed, and not by the client: slot 0x2000 (group 0x400, entry 0): \
         the first pass 0000123456789a05 0000000001234196, \
         the reference pass 0000123456789a05 0000000001234096; differ in R",
    );
    let mut trip = Trip::good();
    trip.change(&[FINAL, REFERENCE], 0x2000, |_| None);
    trip.differs(
        "changed, and not by the client: slot 0x2000 (group 0x400, entry 0): \
         the first pass 0000123456789a05 0000000001234196, the reference pass invalid",
    );
    // An entry that only resembles the VRMA's: a segment of 256M.
    let mut trip = Trip::good();
    trip.change(&[FINAL, REFERENCE], 0x57, |_| {
        Some(Entry {
            dw0: 0x0001_ffff_ff00_0015,
            ..VRMA
        })
    });
    assert!(
        trip.judge()
            .verdict
            .unwrap_err()
            .starts_with("changed, and not by the client: slot 0x57 ")
    );
}

#[test]
fn a_restored_vrma_entry_may_gain_r_and_c_and_nothing_else() {
    let restored = Entry {
        dw1: VRMA.dw1 & !0x180,
        ..VRMA
    };
    let trip = |end: Option<Entry>| {
        let table = Table {
            order: ORDER,
            sections: vec![update(7, Some(restored))],
            format: Format::Qemu,
            guessed: false,
        };
        Trip::of(table, &[(0x30, Some(NEW))], &[(7, end)])
    };
    assert!(trip(with_rc(Some(restored))).judge().verdict.is_ok());
    for end in [
        None,
        Some(Entry {
            dw1: restored.dw1 ^ 0x1000,
            ..restored
        }),
        Some(NEW),
    ] {
        let line = trip(end).judge().verdict.unwrap_err();
        assert!(
            line.starts_with("changed, and not by the client: slot 0x7 "),
            "{line}"
        );
    }
}

#[test]
fn what_the_client_says_must_be_so() {
    let mut trip = Trip::good();
    trip.journal.push(says(0x30, Some(NEW)));
    trip.differs(
        "slot 0x30 (group 0x6, entry 0): as the client left it 4000000000008011 0000000000020012, \
         the reference pass 4000000000008011 0000000000020192; differ in R, C",
    );
    let mut trip = Trip::good();
    trip.journal.push(says(0x2000, None));
    trip.differs(
        "slot 0x2000 (group 0x400, entry 0): as the client left it invalid, \
         the reference pass 0000123456789a05 0000000001234196",
    );
    let mut trip = Trip::good();
    trip.journal.push(says(SLOTS, None));
    trip.differs("the client's journal names slot 0x4000, which is not in the table");
    let mut trip = Trip::good();
    trip.journal.push(JournalEntry {
        ptex: 0x2001,
        dw0: 2,
        dw1: 0,
    });
    trip.differs(
        "the client's journal: the entry of slot 0x2001 is not valid: 0000000000000002 0000000000000000",
    );
    let mut trip = Trip::good();
    trip.journal.clear();
    trip.differs("the client's journal is empty: it did nothing that could be verified");
}

#[test]
fn passes_out_of_turn_are_found() {
    let mut trip = Trip::good();
    trip.passes.clear();
    trip.differs("there is no pass");
    for (gone, words) in [
        (0, "pass 1 is a clean pass, out of turn"),
        (1, "pass 2 is a live pass, out of turn"),
        (
            REFERENCE,
            "the passes end with a final pass, there is no reference",
        ),
    ] {
        let mut trip = Trip::good();
        trip.passes.remove(gone);
        trip.differs(words);
    }
    let mut trip = Trip::good();
    trip.passes.drain(FINAL..=LAST);
    trip.differs("pass 4 is a reference pass, out of turn");
    let mut trip = Trip::good();
    trip.passes.swap(LIVE, FINAL);
    trip.differs("pass 4 is a live pass, out of turn");
}
