//! Whole tables that Linux was given and gave back.

use crate::common::corpus::bytes;
use crate::common::stream::{Said, said};
use crate::common::world::{CLIENT, Spec, Store, World};
use crate::{FORMATS, linux_said, turned};
use realhpt::hcall::abi;

fn linux_stream(name: &str) -> Vec<Said> {
    linux_said(&bytes(&format!("kvm-streams/{name}.htab.xz")))
}

/// A whole table written, pass 1 read back, some entries rewritten, the next pass: as Linux has them.
#[test]
fn tables_written_and_rewritten_come_back_as_from_linux() {
    for (format, _) in FORMATS {
        for (name, backed) in [
            ("o22_0010_mixed_present", true),
            ("o22_0125_mixed_present", true),
            ("o22_0125_mixed_absent", false),
        ] {
            let memory = [(0, 1 << 40, 1 << 36)];
            let regions = if backed { &memory[..] } else { &[] };
            let store = Store::new(&[Spec::agent(), Spec::client(22).with_regions(regions)]);
            let world = World::new(&store, format);
            let write = |kind: &str| {
                let linux = bytes(&format!("kvm-streams/{kind}_{name}.htab.xz"));
                world.restore(CLIENT, &turned(&linux));
            };
            write("in");
            let reader = world.open(CLIENT, 0, 0);
            let first: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
            assert!(
                first == linux_stream(&format!("out1_{name}")),
                "{name}: the first pass"
            );
            write("rew4");
            let later: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
            assert!(
                later == linux_stream(&format!("out4_{name}")),
                "{name}: the pass after"
            );
            assert!(!later.is_empty());
            let clean = world.pass(reader, 65536);
            assert_eq!(
                (clean.records.len(), clean.clean, clean.pending),
                (0, true, 0)
            );
        }
    }
}

/// A guest entered pages (phase 1), then loaded from half of them and stored to the others (phase 2): the
/// reader is told of the entries, then of the R and C that hardware set.
#[test]
fn what_a_guest_entered_and_touched_comes_as_from_linux() {
    for (format, _) in FORMATS {
        let store = Store::pair(22);
        let world = World::new(&store, format);
        let reader = world.open(CLIENT, 0, 0);
        let _ = world.pass(reader, 65536);
        let entered = linux_stream("hc_phase1_B_read0");
        let touched = linux_stream("hc_phase2_C_read0");
        for &(slot, entry) in &entered {
            let (v, r) = entry.unwrap();
            world
                .call(CLIENT, abi::H_ENTER, &[1 << 39, slot, v, r])
                .ok();
        }
        let pass: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
        assert!(pass == entered, "phase 1");
        for &(slot, entry) in &touched {
            let (_, r) = entry.unwrap();
            world.client().table().hpt()[2 * slot as usize + 1].set_bits(r & 0x180);
        }
        let pass: Vec<Said> = said(&world.pass(reader, 65536).records).collect();
        assert!(pass == touched, "phase 2");
        assert!(world.pass(reader, 65536).clean);
    }
}
