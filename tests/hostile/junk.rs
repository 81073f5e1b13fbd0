//! Any register values whatever.

use crate::common::runner::runner;
use crate::common::world::{AGENT, BUFFER, CLIENT, World};
use crate::{OTHER, store};
use proptest::prelude::{any, prop_oneof};
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::Config;
use realhpt::hcall::abi::{self, LPAR_SELF};
use realhpt::table::Format;

/// Values that calls are likely to trip over.
fn nasty() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => prop_oneof![Just(0), Just(1), Just(2), Just(3), Just(u64::MAX), Just(LPAR_SELF - 1)],
        2 => (0..64u32).prop_map(|bit| 1 << bit),
        2 => (0..64u32).prop_map(|bit| (1 << bit) - 1),
        2 => 0..0x4100u64,
        2 => Just(BUFFER),
        2 => (0..0x1_0000u64).prop_map(|at| at * 8),
        1 => (0..0x10u64, 0..0x4100u64).prop_map(|(kind, slot)| (0x40 | kind) << 56 | slot),
        1 => Just(1 << 24 | 2 << 8),
        1 => Just(1 << 24 | 2 << 8 | 0xff),
        1 => 17..20u64,
        1 => (1..8u64).prop_map(|what| what << 45),
        1 => any::<u64>(),
    ]
}

/// Any register values whatever, from all partitions: every call is answered, nothing panics, and the agent's
/// reader ends with the table as it is.
#[test]
fn junk_in_every_register_is_answered() {
    let tokens = [
        abi::H_REMOVE,
        abi::H_ENTER,
        abi::H_READ,
        abi::H_PROTECT,
        abi::H_BULK_REMOVE,
        abi::H_BLOCK_REMOVE,
        abi::H_CLEAR_REF,
        abi::H_CLEAR_MOD,
        abi::H_PAGE_INIT,
        abi::H_CLEAR_HPT,
        abi::H_RESIZE_HPT_PREPARE,
        abi::H_RESIZE_HPT_COMMIT,
        abi::H_HPT_OPEN,
        abi::H_HPT_READ,
        abi::H_HPT_WRITE,
        abi::H_HPT_CLOSE,
        abi::H_HPT_STAT,
        abi::H_LPAR_QUERY,
        abi::H_LPAR_PAUSE,
        abi::H_LPAR_RESUME,
        abi::H_LPAR_RESET,
        abi::H_LPAR_START,
        abi::H_LPAR_HCALL,
        abi::H_REPORT,
        abi::H_PUT_TERM_CHAR,
        abi::H_GET_TERM_CHAR,
        abi::H_SET_SPRG0,
        abi::H_SET_DABR,
        abi::H_SET_XDABR,
        abi::H_SET_MODE,
        abi::H_REGISTER_PROC_TBL,
        abi::H_GET_CPU_CHARACTERISTICS,
        abi::H_REGISTER_VPA,
        abi::H_EOI,
        abi::H_CPPR,
        abi::H_IPI,
        abi::H_IPOLL,
        abi::H_XIRR,
        abi::H_XIRR_X,
        abi::H_RTAS,
        abi::H_CONFER,
        abi::H_PROD,
        abi::H_VCPU_START,
        abi::H_CEDE,
        abi::H_LPAR_EXIT,
    ];
    let call = (
        0..tokens.len(),
        1..4u16,
        proptest::collection::vec(nasty(), 9),
    );
    let mut runner = runner(Config::with_cases(24));
    runner
        .run(&proptest::collection::vec(call, 1..600), |calls| {
            let store = store();
            let world = World::new(&store, Format::V3_0);
            for (token, caller, arguments) in calls {
                let answer = world.call(caller, tokens[token], &arguments);
                let _ = answer.status();
                if tokens[token] != abi::H_LPAR_HCALL {
                    // The frame of the next call that is made by proxy.
                    let [frame @ .., _] = answer.out;
                    world.put_registers(
                        BUFFER,
                        [&[tokens[token]], &frame[..], &[0]]
                            .concat()
                            .try_into()
                            .unwrap(),
                    );
                }
            }
            for target in [CLIENT, OTHER] {
                for handle in 0..4 {
                    for serial in 1..64 {
                        let _ = world.close(serial << 24 | u64::from(target) << 8 | handle);
                    }
                }
                let stat = world
                    .call(AGENT, abi::H_HPT_STAT, &[u64::from(target)])
                    .ok();
                if stat[3] < 4 {
                    let first = world.image(target);
                    assert_eq!(world.image(target), first);
                }
            }
            Ok(())
        })
        .unwrap();
}
