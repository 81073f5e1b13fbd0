//! The laws of growth, by counts. (That each pass says its slots, all of them and no other, is part of measuring.)

use realhpt::hcall::abi::Status;
use realhpt::table::Order;

use super::measure::{CHANGES, Measured, Row, TOGETHER, measure, opens};
use super::population::Population;

/// Slots of a summary word.
const BLOCK: u64 = 4096;
/// The most bytes of records that a call has, whatever the table.
const MOST_BYTES: u64 = 17 << 10;

fn measured(order: u32, population: Population) -> Measured {
    let order = Order::new(order).unwrap();
    measure(order, population, population.of(order.slots()).unwrap()).unwrap()
}

fn row<'m>(measured: &'m Measured, name: &str) -> &'m Row {
    let row = measured.rows.iter().find(|row| row.row == name);
    row.unwrap_or_else(|| panic!("{name} is missing"))
}

/// Order 36 is the largest that there is: nothing of this is projected.
const ORDERS: [u32; 6] = [18, 22, 26, 30, 34, 36];

#[test]
fn what_grows_with_the_table_grows_no_faster_than_its_blocks() {
    for order in ORDERS {
        let blocks = (1 << (order - 4)) / BLOCK;
        for population in [Population::Empty, Population::Single(1000)] {
            let measured = measured(order, population);
            let calls = |name| row(&measured, name).calls;
            let entries = measured.entries;
            let in_the_end = entries + 1 + CHANGES + TOGETHER as u64 + 1;

            // Work that is for each block, and for each entry: a call has room for 46 blocks at least, or for 60 entries that
            // stand alone.
            assert!(
                calls("first pass") <= blocks / 40 + entries / 60 + 2,
                "order {order}"
            );
            // A lap passes 4096 blocks that have nothing in a call, and takes up those that have something, two a call at
            // least; all that is marked is shared out in rounds of 1024 blocks a call.
            let lap = blocks / 4096 + 2;
            assert!(calls("1 changed: the pass") <= lap, "order {order}");
            assert!(
                calls("100 changed: the pass") <= lap + CHANGES / 2,
                "order {order}"
            );
            assert!(calls("clean pass, 1 unsettled") <= lap, "order {order}");
            for name in ["1 changed: until clean", "100 changed: until clean"] {
                assert!(
                    calls(name) <= blocks / 1024 + 3 + CHANGES / 2,
                    "order {order}: {name}"
                );
            }
            assert!(calls("pause") <= blocks / 900 + 2, "order {order}");
            assert!(
                calls("reset") <= blocks / 16 + in_the_end / 128 + 3,
                "order {order}"
            );
            if population == Population::Empty {
                let calls = calls("restore of invalid slots");
                assert!(calls <= blocks / 10 + 2, "order {order}");
            }
        }
    }
}

#[test]
fn what_does_not_grow_is_the_same_at_every_order() {
    for order in ORDERS {
        let measured = measured(order, Population::Single(1000));
        // The guest view, seven bits a slot, of six of them a bit for each 64, and of five for each 4096 slots; a root has a
        // word at least, and a reader's a serial beside each.
        let slots = f64::from(order - 4).exp2();
        let roots = (slots / (64.0 * 4096.0)).max(1.0) / slots;
        let expected = 8.0 + 7.0 / 8.0 + 6.0 / 512.0 + 9.0 * 8.0 * roots;
        let bytes = measured.bytes_beside_per_slot;
        assert!((bytes - expected).abs() < 1e-9, "order {order}: {bytes}");
        let clean = row(&measured, "clean pass");
        assert_eq!((clean.calls, clean.bytes), (1, 0), "order {order}");
        assert_eq!(row(&measured, "open").calls, 1);
        let changed = row(&measured, "100 changed: until clean");
        assert_eq!((changed.entries, changed.bytes), (CHANGES, CHANGES * 24));
        let together = row(&measured, "4096 together: the pass");
        assert_eq!(together.entries, TOGETHER as u64);
        for row in &measured.rows {
            assert!(row.most_bytes <= MOST_BYTES, "order {order}: {}", row.row);
        }
    }
}

#[test]
fn a_table_beyond_the_index_is_refused() {
    let opens = |order| opens(Order::new(order).unwrap()).unwrap();
    assert_eq!(opens(36), [Some(Status::Success); 2]);
    for order in 37..=44 {
        assert_eq!(opens(order), [Some(Status::TooBig); 2], "order {order}");
    }
}
