//! What is done to a table: calls with arguments that are mostly good, and hardware in between.

use crate::common::world::BUFFER_SIZE;
use crate::{ANDCOND, AVPN, BOLTED, C, EXACT, R, READ_4, SLOTS};
use proptest::collection::vec;
use proptest::prelude::{any, prop_oneof};
use proptest::sample::select;
use proptest::strategy::{Just, Strategy};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Enter {
        flags: u64,
        slot: u64,
        v: u64,
        r: u64,
    },
    Remove {
        flags: u64,
        slot: u64,
        with: With,
        late: u64,
    },
    Protect {
        flags: u64,
        slot: u64,
        with: With,
        late: u64,
    },
    Read {
        flags: u64,
        slot: u64,
    },
    Bulk([(u64, u64, With); 4]),
    Block {
        /// Whose AVPN is given.
        of: u64,
        with: With,
        /// First byte and slot.
        requests: [(u64, u64); 8],
    },
    /// H_CLEAR_REF or H_CLEAR_MOD.
    Clear {
        bit: u64,
        flags: u64,
        slot: u64,
        late: u64,
    },
    Touch {
        slot: u64,
        bits: u64,
    },
    Open {
        flags: u64,
        start: u64,
    },
    Stream {
        reader: usize,
        length: u64,
    },
    Close {
        reader: usize,
    },
    Pause,
    Resume,
    Write {
        record: (u64, Vec<(u64, u64)>, u16),
    },
}

/// What is given where a call compares.
#[derive(Clone, Copy, Debug)]
pub(crate) enum With {
    /// The entry's own AVPN, with some bits turned over.
    Own(u64),
    Bits(u64),
}

/// Slots close together at both ends of the table and of the first block, so that calls meet.
pub(crate) fn slot() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => 0..16u64,
        3 => 4088..4104u64,
        3 => 0x3ff0..0x4000u64,
        1 => select(vec![0x4000, 0x4001, u64::MAX, 1 << 32, 1 << 56, 64, 5000]),
    ]
}

pub(crate) fn entry() -> impl Strategy<Value = (u64, u64)> {
    let avpn = select(vec![
        0,
        0x80,
        0x1234_5678_9a80,
        0x4000_0000_0000_0080,
        0x4fff_ffff_ffff_ff80 & !0xf << 52,
    ]);
    let low = select(vec![
        0x01, 0x01, 0x05, 0x05, 0x11, 0x13, 0x15, 0x00, 0x69, 0x7f,
    ]);
    let odd_v = select(
        vec![0u64; 20]
            .into_iter()
            .chain([1 << 63, 3 << 62, 1 << 56])
            .collect::<Vec<_>>(),
    );
    let place = select(vec![
        0x1000,
        0x2000,
        0x1_1000,
        0x2_7000,
        0xff_8000,
        0x100_0000,
        0x103_8000,
        0x0fff_1000,
        0x1000_0000,
        0x1_0000_0000,
        0x1_0000_1000,
        0x1_0001_0000,
        0x400_0000_3000,
        0x70_0000_0000,
        0x0800_0000_0000_0000,
        0x0fff_ffff_ffff_f000,
    ]);
    let low_r = any::<u64>().prop_map(|bits| bits & 0xf000_0000_0000_0fff);
    (avpn, low, odd_v, place, low_r)
        .prop_map(|(avpn, low, odd, place, low_r)| (avpn | low | odd, place | low_r))
}

pub(crate) fn with() -> impl Strategy<Value = With> {
    prop_oneof![
        3 => Just(With::Own(0)),
        1 => (0..64u32).prop_map(|bit| With::Own(1 << bit)),
        1 => select(vec![0, BOLTED, 1, 0x60, u64::MAX]).prop_map(With::Bits),
    ]
}

pub(crate) fn flags() -> impl Strategy<Value = u64> {
    (
        select(vec![0, 0, AVPN, ANDCOND, AVPN | ANDCOND]),
        any::<u64>(),
    )
        .prop_map(|(condition, junk)| condition | junk & !(AVPN | ANDCOND | EXACT | READ_4))
}

pub(crate) fn late() -> impl Strategy<Value = u64> {
    select(vec![0, 0, R, C, R | C])
}

pub(crate) fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 0..24u64, 6 => 24..=200u64, 2 => 24..=4096u64, 2 => Just(BUFFER_SIZE)]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let record = (0..SLOTS + 8, vec(entry(), 0..5), 0..70u16);
    prop_oneof![
        12 => (flags(), any::<bool>(), slot(), entry()).prop_map(|(flags, exact, slot, (v, r))| {
            Op::Enter { flags: flags | if exact { EXACT } else { 0 }, slot, v, r }
        }),
        6 => (flags(), slot(), with(), late())
            .prop_map(|(flags, slot, with, late)| Op::Remove { flags, slot, with, late }),
        6 => (flags(), slot(), with(), late())
            .prop_map(|(flags, slot, with, late)| Op::Protect { flags, slot, with, late }),
        4 => (flags(), any::<bool>(), slot())
            .prop_map(|(flags, four, slot)| Op::Read { flags: flags | if four { READ_4 } else { 0 }, slot }),
        3 => proptest::array::uniform4((0..256u64, slot(), with())).prop_map(Op::Bulk),
        3 => (slot(), with(), proptest::array::uniform8((0..256u64, slot())))
            .prop_map(|(of, with, requests)| Op::Block { of, with, requests }),
        6 => (select(vec![R, C]), any::<u64>(), slot(), late())
            .prop_map(|(bit, flags, slot, late)| Op::Clear { bit, flags, slot, late }),
        8 => (slot(), select(vec![R, R | C, C])).prop_map(|(slot, bits)| Op::Touch { slot, bits }),
        3 => (select(vec![0, 0, 0, 1]), select(vec![0, 0, 1, 8, 4096, 4100, SLOTS - 1, SLOTS]))
            .prop_map(|(flags, start)| Op::Open { flags, start }),
        12 => (0..4usize, length()).prop_map(|(reader, length)| Op::Stream { reader, length }),
        1 => (0..4usize).prop_map(|reader| Op::Close { reader }),
        2 => Just(Op::Pause),
        2 => Just(Op::Resume),
        3 => record.prop_map(|record| Op::Write { record }),
    ]
}
