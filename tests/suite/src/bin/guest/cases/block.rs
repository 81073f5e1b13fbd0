//! H_BLOCK_REMOVE (LoPAR 14.5.4.1.8).

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall::{self, block_remove},
    mmu::pte::{PP_READ_WRITE, Page, R_C, R_M, R_R, Segment, SegmentSize, V_BOLTED, V_TAG},
};

use super::enter::{NOBODY, NOWHERE, outside};
use crate::{
    bench::{Bench, load, store, try_load},
    trouble::{Must as _, Outcome, faulted, refused, same},
};

/// A request, whatever the AVPN is, and one by AVPN.
const REQUEST: u64 = 0x40 << 56;
const REQUEST_AVPN: u64 = 0x41 << 56;
/// The end.
const END: u64 = 0xc0 << 56;
/// Responses.
const REMOVED: u64 = 0x80 << 56;
const NOT_FOUND: u64 = 0x88 << 56;
const PARAMETER: u64 = 0x90 << 56;
const OTHER_SIZE: u64 = 0x98 << 56;
const OTHER_BLOCK: u64 = 0xa8 << 56;
const BUSY: u64 = 0xa0 << 56;
/// What stands in a response beside its code.
const RESPONSE_R: u64 = 0x04 << 56;
const RESPONSE_C: u64 = 0x02 << 56;
const AVPN: u64 = 0x01 << 56;

/// Maps eight pages from base page `first` of a segment on; their slots.
fn eight(bench: &mut Bench<'_>, segment: &Segment, page: Page, first: u64) -> Outcome<[u64; 8]> {
    // One page of memory for all: entries of a page larger than the base page share one anyway.
    let ra = bench.memory(page.size())?;
    let mut slots = [0; 8];
    for (number, slot) in (first..).zip(&mut slots) {
        let ea = segment.base + (number << page.base().shift());
        *slot = bench.map(segment, ea, page, (ra, PP_READ_WRITE))?.ptex;
    }
    Ok(slots)
}

fn is_there(ptex: u64) -> Outcome<bool> {
    Ok(hcall::read(ptex).must("read")?.0 != 0)
}

/// All are removed, R and C of each come back, and then an access faults.
pub(crate) fn eight_pages_at_once(bench: &mut Bench<'_>) -> Outcome {
    for page in [
        Page::K4,
        Page::K64In4K,
        Page::M16In4K,
        Page::K64,
        Page::M16In64K,
        Page::M16,
    ] {
        for size in [SegmentSize::M256, SegmentSize::T1] {
            for flag in [REQUEST, REQUEST_AVPN] {
                let segment = bench.segment(size, page.base())?;
                let slots = eight(bench, &segment, page, 8)?;
                let address = |number: u64| segment.base + ((8 + number) << page.base().shift());
                for number in 0..8 {
                    match number & 3 {
                        1 => drop(load(address(number))),
                        2 => store(address(number), number),
                        _ => {}
                    }
                }
                let tag = segment.dword_0(address(5), page) & V_TAG;
                let mut specifiers = slots.map(|slot| flag | slot);
                block_remove(tag, &mut specifiers).must("block remove")?;
                for (number, (slot, answer)) in (0..).zip(slots.into_iter().zip(specifiers)) {
                    let rc = match number & 3 {
                        1 => RESPONSE_R,
                        2 => RESPONSE_R | RESPONSE_C,
                        _ => 0,
                    };
                    same("response", REMOVED | flag & AVPN | rc | slot, answer)?;
                }
                for number in 0..8 {
                    let fault = faulted("a load", 0x300, try_load(address(number)))?;
                    same("DSISR", 0x4000_0000, fault.dsisr)?;
                }
                bench.clear()?;
            }
        }
    }
    Ok(())
}

/// What is not removed says why, and the rest goes.
pub(crate) fn each_refusal_has_its_code(bench: &mut Bench<'_>) -> Outcome {
    let segment = bench.segment(SegmentSize::M256, Page::K4.base())?;
    let [first, bolted, gone, last, ..] = eight(bench, &segment, Page::K4, 0)?;
    let (dw0, dw1) = hcall::read(bolted).must("read")?;
    hcall::remove(Flags::empty(), bolted, 0).must("remove")?;
    bench
        .enter(Flags::EXACT, bolted, (dw0 | V_BOLTED, dw1))
        .must("enter")?;
    hcall::remove(Flags::empty(), gone, 0).must("remove")?;
    let [next_block, ..] = eight(bench, &segment, Page::K4, 8)?;
    let [other_size, ..] = eight(bench, &segment, Page::K64In4K, 16)?;
    let [outside, ..] = outside(bench.slots());
    let requests = [
        (bolted, NOT_FOUND),
        (outside, PARAMETER),
        (gone, NOT_FOUND),
        (first, REMOVED),
        (other_size, OTHER_SIZE),
        (next_block, OTHER_BLOCK),
        // Still held for the request before.
        (first, BUSY),
        (last, REMOVED),
    ];
    let mut specifiers = requests.map(|(slot, _)| REQUEST | slot);
    refused(
        "the call",
        Status::Partial,
        block_remove(0, &mut specifiers),
    )?;
    for (answer, (slot, response)) in specifiers.into_iter().zip(requests) {
        same("response", response | slot, answer)?;
    }
    for (slot, there) in [
        (bolted, 1),
        (first, 0),
        (other_size, 1),
        (next_block, 1),
        (last, 0),
    ] {
        same("entry", there, is_there(slot)?.into())?;
    }
    Ok(())
}

pub(crate) fn by_avpn(bench: &mut Bench<'_>) -> Outcome {
    let segment = bench.segment(SegmentSize::M256, Page::K64.base())?;
    let slots = eight(bench, &segment, Page::K64, 0)?;
    let tag = segment.dword_0(segment.base, Page::K64) & V_TAG;
    for other in [tag ^ 0x80, tag | 1, tag | 0x40, tag ^ 1 << 62, 0, !0] {
        let mut specifiers = slots.map(|slot| REQUEST_AVPN | slot);
        let result = block_remove(other, &mut specifiers);
        refused("another AVPN", Status::Partial, result)?;
        for (answer, slot) in specifiers.into_iter().zip(slots) {
            same("response", NOT_FOUND | AVPN | slot, answer)?;
            same("entry", 1, is_there(slot)?.into())?;
        }
    }
    let mut specifiers = slots.map(|slot| REQUEST_AVPN | slot);
    block_remove(tag, &mut specifiers).must("its own AVPN")
}

pub(crate) fn the_end_ends_it(bench: &mut Bench<'_>) -> Outcome {
    let segment = bench.segment(SegmentSize::M256, Page::K4.base())?;
    let slots = eight(bench, &segment, Page::K4, 0)?;
    let mut specifiers = slots.map(|slot| REQUEST | slot);
    let [_, _, end, .., bad] = &mut specifiers;
    *end = END | 0x55;
    *bad = 0x17;
    let before = specifiers;
    block_remove(0, &mut specifiers).must("block remove")?;
    for (number, ((slot, answer), given)) in
        (0..).zip(slots.into_iter().zip(specifiers).zip(before))
    {
        let removed = number < 2;
        let expected = if removed { REMOVED | slot } else { given };
        same("response", expected, answer)?;
        same("entry", (!removed).into(), is_there(slot)?.into())?;
    }
    // An end alone: nothing to do.
    block_remove(0, &mut [END; 8]).must("the end alone")
}

/// A specifier that is no request: nothing is done, not even what precedes it.
pub(crate) fn bad_types_are_refused(bench: &mut Bench<'_>) -> Outcome {
    let segment = bench.segment(SegmentSize::M256, Page::K4.base())?;
    let slots = eight(bench, &segment, Page::K4, 0)?;
    for bad in [0, 0x80 << 56] {
        for place in 0..8 {
            let mut specifiers = slots.map(|slot| REQUEST | slot);
            if let Some(specifier) = specifiers.get_mut(place) {
                *specifier = bad | *specifier & !(3 << 62);
            }
            let result = block_remove(0, &mut specifiers);
            refused("a bad type", Status::Parameter, result)?;
        }
    }
    for slot in slots {
        same("entry", 1, is_there(slot)?.into())?;
    }
    Ok(())
}

pub(crate) fn entries_without_memory(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let mut specifiers = [END; 8];
    for (ptex, specifier) in (group..group + 4).zip(&mut specifiers) {
        let entry = (NOBODY, NOWHERE | R_M | R_R | R_C | PP_READ_WRITE);
        bench.enter(Flags::EXACT, ptex, entry).must("enter")?;
        *specifier = REQUEST | ptex;
    }
    block_remove(0, &mut specifiers).must("block remove")?;
    for (ptex, answer) in (group..group + 4).zip(specifiers) {
        same("response", REMOVED | RESPONSE_R | RESPONSE_C | ptex, answer)?;
        same("entry", 0, is_there(ptex)?.into())?;
    }
    Ok(())
}
