//! Properties that hold for every table and for every string of bytes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::super::formats::{self, Format, load, parse_bare, parse_qemu, save};
use super::super::model::{Mask, Model, Pass};
use super::super::record::{ByteOrder, Entry, Source};
use super::{data, record};

const ORDER: u32 = 18;
const SLOTS: u64 = 1 << 14;

fn entry() -> impl Strategy<Value = Entry> {
    (any::<u64>(), any::<u64>()).prop_map(|(dw0, dw1)| Entry { dw0: dw0 | 1, dw1 })
}

/// Slots that one record names: where it begins, its entries, how many invalid slots follow.
fn run() -> impl Strategy<Value = (u64, Vec<Entry>, u64)> {
    (
        0..SLOTS,
        vec(entry(), 0..12),
        prop_oneof![Just(0), 1_u64..9, 1_u64..SLOTS],
    )
        .prop_map(|(index, mut entries, invalid)| {
            entries.truncate((SLOTS - index) as usize);
            let invalid = invalid.min(SLOTS - index - entries.len() as u64);
            (index, entries, invalid)
        })
        .prop_filter("a record names a slot", |(_, entries, invalid)| {
            !entries.is_empty() || *invalid != 0
        })
}

fn section() -> impl Strategy<Value = Vec<u8>> {
    vec(run(), 0..8).prop_map(|runs| {
        runs.iter()
            .flat_map(|(index, entries, invalid)| record(*index, entries, *invalid))
            .collect()
    })
}

/// A real file, decompressed.
static REAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let compressed = std::fs::File::open(data("qemu-htab/hugetlb1g.htab.xz")).unwrap();
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(compressed)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
});

#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Cut(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Half of the places are near the beginning, where a real file has its sparse structure.
    let place = || prop_oneof![any::<usize>(), 0_usize..64];
    prop_oneof![
        4 => (place(), 1_u8..).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        1 => (place(), vec(any::<u8>(), 1..24)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (place(), 1_usize..24).prop_map(|(at, len)| Mutation::Remove(at, len)),
        1 => place().prop_map(Mutation::Cut),
    ]
}

fn mutated(bytes: &[u8], mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for mutation in mutations {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        match mutation {
            Mutation::Flip(at, bits) => bytes[at % len] ^= bits,
            Mutation::Insert(at, new) => {
                drop(bytes.splice(at % len..at % len, new.iter().copied()))
            }
            Mutation::Remove(at, n) => drop(bytes.drain(at % len..(at % len + n).min(len))),
            Mutation::Cut(at) => bytes.truncate(at % len),
        }
    }
    bytes
}

/// Parses bytes as everything they could be. What parses must apply to a model; what does not has its place
/// within the bytes.
fn parse_all_ways(bytes: &[u8]) {
    let check = |parsed: Result<(u32, Vec<Vec<u8>>), _>| match parsed {
        Ok((order, sections)) => {
            let mut model = Model::new(order);
            for section in &sections {
                model.apply(section).unwrap();
            }
        }
        Err(super::super::record::Malformed { at, what }) => {
            assert!(at <= bytes.len() as u64);
            assert!(!what.is_empty() && !what.contains('\n'));
        }
    };
    let source = || Source::new(bytes, formats::LIMIT);
    check(parse_qemu(&mut source(), None));
    for order in [18, 23, 46] {
        for headers in [ByteOrder::Little, ByteOrder::Big] {
            check(parse_bare(&mut source(), headers, order).map(|records| (order, vec![records])));
        }
    }
}

proptest! {
    // Each run is the same; what fails is shown shrunk.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x4e1a),
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_saved_table_loads_as_it_was(
        sections in vec(section(), 1..4),
        format in prop_oneof![Just(Format::Qemu), Just(Format::KvmLe), Just(Format::KvmBe)],
        name in prop_oneof![Just("t.htab"), Just("t.htab.xz"), Just("T.XZ")],
    ) {
        let joined = sections.concat();
        prop_assume!(format == Format::Qemu || !joined.is_empty());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        save(&path, format, ORDER, &sections).unwrap();
        let xz = std::fs::read(&path).unwrap().starts_with(b"\xfd7zXZ\0");
        prop_assert_eq!(xz, name.to_lowercase().ends_with(".xz"));
        let table = load(&path, Some(format), Some(ORDER)).unwrap();
        prop_assert_eq!(table.order, ORDER);
        let expected = if format == Format::Qemu { sections } else { vec![joined] };
        prop_assert_eq!(&table.sections, &expected);
        if format == Format::Qemu {
            prop_assert_eq!(load(&path, None, None).unwrap().sections, expected);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..400), name in prop_oneof![Just("t"), Just("t.xz")]) {
        parse_all_ways(&bytes);
        let with_order = [&ORDER.to_be_bytes()[..], &[0; 4], &bytes].concat();
        parse_all_ways(&with_order);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, &bytes).unwrap();
        for order in [None, Some(ORDER)] {
            if let Err(error) = load(&path, None, order) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }

    #[test]
    fn sparse_bytes_make_it_panic_no_more_than_dense_ones(
        words in vec(prop_oneof![4 => Just(0_u8), 1 => 0_u8..4, 1 => any::<u8>()], 0..400),
    ) {
        parse_all_ways(&words);
        parse_all_ways(&[&ORDER.to_be_bytes()[..], &[0; 4], &words].concat());
    }

    #[test]
    fn a_real_file_with_mutations_loads_or_is_refused(mutations in vec(mutation(), 1..5)) {
        parse_all_ways(&mutated(&REAL, &mutations));
    }

    #[test]
    fn a_compressed_file_with_mutations_loads_or_is_refused(mutations in vec(mutation(), 1..3)) {
        let compressed = std::fs::read(data("qemu-htab/hugetlb1g.htab.xz")).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.xz");
        std::fs::write(&path, mutated(&compressed, &mutations)).unwrap();
        // xz guards its contents with a CRC: what decompresses at all is the table that went in.
        match load(&path, Some(Format::Qemu), None) {
            Ok(table) => prop_assert_eq!(table.order, 23),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn the_model_is_a_map(runs in vec(run(), 0..12), others in vec(run(), 0..3)) {
        let mut naive = BTreeMap::new();
        let mut model = Model::new(ORDER);
        let (mut entries, mut invalid, mut bytes) = (0, 0, Vec::new());
        for (index, valid, gone) in &runs {
            naive.extend((*index..).zip(valid.iter().copied()));
            let end = index + valid.len() as u64;
            naive.retain(|ptex, _| !(end..end + gone).contains(ptex));
            entries += valid.len() as u64;
            invalid += gone;
            bytes.extend(record(*index, valid, *gone));
        }
        let pass = model.apply(&bytes).unwrap();
        prop_assert_eq!(pass, Pass::measure(&bytes, ORDER).unwrap());
        prop_assert_eq!(
            (pass.records, pass.entries, pass.invalid, pass.bytes, pass.covered()),
            (runs.len() as u64, entries, invalid, bytes.len() as u64, entries + invalid)
        );
        prop_assert!(model.entries().eq(naive.iter().map(|(ptex, entry)| (*ptex, *entry))));
        for ptex in [0, 1, 511, 512, SLOTS - 1, SLOTS, u64::MAX] {
            prop_assert_eq!(model.get(ptex), naive.get(&ptex).copied());
        }

        let mut changed = model.clone();
        for (index, valid, gone) in &others {
            changed.apply(&record(*index, valid, *gone)).unwrap();
        }
        let differing: Vec<_> = (0..SLOTS).filter(|ptex| model.get(*ptex) != changed.get(*ptex)).collect();
        prop_assert!(model.differences(&changed, Mask::NONE).map(|difference| difference.ptex).eq(differing));
        prop_assert_eq!(model.first_difference(&model.clone(), Mask::NONE), None);
    }

    #[test]
    fn a_pass_covers_once_if_it_is_consecutive(
        ends in proptest::collection::btree_set(1..SLOTS, 0..8),
        fault in proptest::option::of((any::<prop::sample::Index>(), any::<bool>())),
    ) {
        let bounds: Vec<_> = [0].into_iter().chain(ends).chain([SLOTS]).collect();
        let mut records: Vec<_> =
            bounds.windows(2).map(|pair| record(pair[0], &[], pair[1] - pair[0])).collect();
        if let Some((at, twice)) = fault {
            let at = at.index(records.len());
            let taken = records.remove(at);
            if twice {
                records.insert(at, [taken.clone(), taken].concat());
            }
        }
        let pass = Pass::measure(&records.concat(), ORDER).unwrap();
        prop_assert_eq!(pass.covers_once(ORDER).is_ok(), fault.is_none());
    }
}
