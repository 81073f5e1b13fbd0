//! Bytes written as a stream to a table that has entries or not, in pieces of any length. Each answer is what
//! [`Stream`] expects, and so is the whole table; a reader that was there before is told of every change.

use crate::bytes::{Bytes, empty_store};
use crate::common::stream::{Image, apply, differences, encode, records_of, said};
use crate::common::world::{BUFFER_SIZE, CLIENT, World};
use crate::entry::{FORMATS, SLOTS};
use crate::written::Stream;
use realhpt::hcall::abi::{self, OpenFlags, Status};

/// The most calls for one input.
const MOST: usize = 32;
/// Entries of a table that has many: more than one call removes.
const MANY: u64 = 700;

/// Runs an input: what is there before, where the stream is cut, and the stream.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes(data);
    let choices = bytes.u8();
    let format = FORMATS[usize::from(choices & 1)];
    let world = World::new(empty_store(), format);
    let before = table(choices >> 1 & 3);
    world.restore(CLIENT, &encode(&records_of(&before, SLOTS)));
    let reader = world.open(CLIENT, 0, 0);
    // What its first pass says is what `World::image` looks at.
    let _ = world.pass(reader, BUFFER_SIZE);
    let mut copy = world.image(CLIENT);
    assert_eq!(differences(&copy, &before), [""; 0]);

    let cuts: Vec<usize> = (0..bytes.u8() % 8)
        .map(|_| usize::from(bytes.u16()))
        .collect();
    let mut cuts = cuts.into_iter().cycle();
    let mut rest = bytes.0;
    let mut expected = Stream::new(format, before);
    let handle = world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
    // How much more than its cut a piece has to be, for what stands next to be whole.
    let mut longer = 0;
    for number in 0..MOST {
        let cut = cuts.next().unwrap_or(usize::MAX).saturating_add(longer);
        let piece = &rest[..rest.len().min(cut).min(BUFFER_SIZE as usize)];
        let answer @ (status, consumed, _) = world.write(handle, piece);
        let got_on = expected.follow(piece, answer, |slot| shown(&world, slot));
        let is_bad = piece.len() >= 8 && status != Status::Success;
        // The end of the stream is looked at in any case.
        if is_bad || number % 4 == 0 {
            assert_eq!(differences(&world.image(CLIENT), &expected.image), [""; 0]);
        }
        // What is bad is left out, so that the stream goes on with other bytes.
        let left_out = match is_bad {
            true if expected.is_inside_record() => 16,
            true => 8,
            false => 0,
        };
        if !got_on && !is_bad && piece.len() == rest.len() {
            break;
        }
        longer = if got_on || is_bad { 0 } else { longer + 8 };
        rest = rest.get(consumed as usize + left_out..).unwrap_or_default();
    }
    assert_eq!(differences(&world.image(CLIENT), &expected.image), [""; 0]);
    let closed = world.close(handle);
    if expected.is_inside_record() {
        assert_eq!(closed, Status::Partial);
    } else {
        assert!(matches!(closed, Status::Success | Status::Partial));
    }
    for (slot, entry) in said(&world.pass(reader, BUFFER_SIZE).records) {
        let is_changed = expected.changed.remove(&slot);
        assert!(is_changed, "slot {slot:#x} was not written");
        apply(&mut copy, [(slot, entry)]);
    }
    assert!(expected.changed.is_empty(), "changed and not said");
    assert_eq!(differences(&copy, &expected.image), [""; 0]);
    assert!(world.pass(reader, BUFFER_SIZE).clean);
}

/// A table of one of four kinds.
fn table(kind: u8) -> Image {
    let entry = |slot: u64| (0x4000_0000_0000_0091 | slot << 12, slot << 12 | 0x192);
    let slots =
        |slots: &mut dyn Iterator<Item = u64>| slots.map(|slot| (slot, entry(slot))).collect();
    match kind {
        0 => Image::new(),
        1 => slots(&mut (0..SLOTS).step_by(64)),
        2 => slots(&mut (0..MANY)),
        _ => slots(&mut (0..64).chain(4090..4100).chain(SLOTS - 20..SLOTS)),
    }
}

/// What H_READ shows of a slot.
fn shown(world: &World<'_>, slot: u64) -> Option<(u64, u64)> {
    let [v, r, ..] = world.call(CLIENT, abi::H_READ, &[0, slot]).ok();
    (v != 0).then_some((v, r))
}
