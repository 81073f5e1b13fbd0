//! The real tables in `tests/data`.

use super::super::formats::{Format, Table, load, save};
use super::super::model::{Generation, Mask, Model, Pass};
use super::{data, whole_pass};

/// A file, its order, records and entries and invalid slots of each section, entries of the table they make.
type Known = (&'static str, u32, &'static [(u64, u64, u64)], usize);

const QEMU: &[Known] = &[
    ("hugetlb1g", 23, &[(2184, 2190, 0), (0, 0, 0)], 2190),
    ("idle512", 22, &[(8236, 8242, 0), (0, 0, 0)], 8242),
    (
        "k4_load512",
        22,
        &[(16210, 67351, 0), (18872, 68089, 1793)],
        135_009,
    ),
    (
        "load512",
        22,
        &[
            (189, 189, 0),
            (8710, 8814, 0),
            (4056, 1306, 2760),
            (3764, 1120, 2652),
            (3972, 1032, 2950),
            (4026, 786, 3248),
            (3251, 985, 2272),
            (0, 0, 0),
            (0, 0, 0),
        ],
        9262,
    ),
    ("p8_idle512", 22, &[(8236, 8236, 0), (0, 0, 0)], 8236),
    (
        "tinyhalf512",
        18,
        &[
            (2040, 10132, 0),
            (0, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
        ],
        10132,
    ),
];

const KVM: &[(&str, u64, u64)] = &[
    ("o22_0010_mixed_present", 2621, 26),
    ("o22_0125_mixed_absent", 32768, 327),
    ("o22_0125_mixed_present", 32768, 327),
];

fn kvm(kind: &str, name: &str) -> Table {
    let path = data(&format!("kvm-streams/{kind}_{name}.htab.xz"));
    load(&path, Some(Format::KvmLe), Some(22)).unwrap()
}

fn by_hand(table: &Table) -> (Model, Vec<Pass>) {
    let mut model = Model::new(table.order);
    let passes = table
        .sections
        .iter()
        .map(|section| model.apply(section).unwrap())
        .collect();
    (model, passes)
}

#[test]
fn qemu_tables_hold_what_is_known_of_them() {
    for (name, order, sections, entries) in QEMU {
        let table = load(&data(&format!("qemu-htab/{name}.htab.xz")), None, None).unwrap();
        assert_eq!(
            (table.order, table.format, table.guessed),
            (*order, Format::Qemu, true),
            "{name}"
        );
        let (model, passes) = by_hand(&table);
        let counts: Vec<_> = passes
            .iter()
            .map(|pass| (pass.records, pass.entries, pass.invalid))
            .collect();
        assert_eq!(counts, *sections, "{name}");
        assert_eq!(model.entries().count(), *entries, "{name}");
        assert!(
            passes.iter().all(|pass| pass.covers_once(*order).is_err()),
            "{name}: QEMU skips invalid runs"
        );
    }
}

#[test]
fn every_table_goes_through_every_format() {
    let directory = tempfile::tempdir().unwrap();
    for (name, order, ..) in QEMU {
        let table = load(&data(&format!("qemu-htab/{name}.htab.xz")), None, None).unwrap();
        let (model, _) = by_hand(&table);
        for format in [Format::Qemu, Format::KvmLe, Format::KvmBe] {
            for suffix in ["", ".xz"] {
                let path = directory.path().join(format!("{name}.{format}{suffix}"));
                save(&path, format, *order, &table.sections).unwrap();
                let back = load(&path, None, Some(*order)).unwrap();
                assert_eq!(back.format, format, "{name}");
                assert_eq!(
                    by_hand(&back).0.first_difference(&model, Mask::NONE),
                    None,
                    "{name}"
                );
                if format == Format::Qemu {
                    assert_eq!(back.sections, table.sections, "{name}");
                }
            }
        }
    }
}

#[test]
fn a_whole_pass_over_a_table_covers_it_once() {
    for (name, order, ..) in QEMU {
        let table = load(&data(&format!("qemu-htab/{name}.htab.xz")), None, None).unwrap();
        let (model, _) = by_hand(&table);
        let mut again = Model::new(*order);
        let pass = again.apply(&whole_pass(&model)).unwrap();
        pass.covers_once(*order).unwrap();
        assert_eq!(again.first_difference(&model, Mask::NONE), None, "{name}");
    }
}

/// KVM gives a table back as it was written but for its lock bit, which every valid entry shows.
#[test]
fn kvm_shows_its_lock_bit_and_keeps_the_rest() {
    for (name, entries, _) in KVM {
        let (written, _) = by_hand(&kvm("in", name));
        let (back, passes) = by_hand(&kvm("out1", name));
        passes[0].covers_once(22).unwrap();
        assert_eq!(passes[0].entries, *entries, "{name}");
        assert_eq!(
            written.first_difference(&back, Mask::through(Generation::Isa207)),
            None,
            "{name}"
        );
        assert_eq!(
            written.differences(&back, Mask::NONE).count() as u64,
            *entries,
            "{name}"
        );
        assert!(
            back.entries().all(|(_, entry)| entry.dw0 & 0x60 == 0x40),
            "{name}"
        );
    }
}

/// Entries that are written again with the contents they have are modified: the next pass has them, and only them.
#[test]
fn kvm_reports_a_rewrite_with_equal_contents() {
    for (name, _, rewritten) in KVM {
        let mask = Mask::through(Generation::Isa207);
        let (before, _) = by_hand(&kvm("in", name));
        let (written, _) = by_hand(&kvm("rew4", name));
        let (reported, passes) = by_hand(&kvm("out4", name));
        assert_eq!(
            (passes[0].entries, passes[0].invalid),
            (*rewritten, 0),
            "{name}"
        );
        assert_eq!(written.first_difference(&reported, mask), None, "{name}");
        assert!(
            written
                .entries()
                .all(|(ptex, entry)| before.get(ptex) == Some(entry)),
            "{name}"
        );
    }
}
