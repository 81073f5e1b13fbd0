//! H_BULK_REMOVE (LoPAR 14.5.4.1.7).

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall::{self, bulk_remove},
    mmu::pte::{PP_READ_WRITE, R_M},
};

use super::enter::{NOBODY, NOWHERE, outside, small};
use crate::{
    bench::{Bench, Mapped, load, store, try_load},
    trouble::{Must as _, Outcome, faulted, refused, same},
};

/// A request, whatever the entry is.
const REQUEST: u64 = 0x40 << 56;
/// A request under the condition that no bit is in common.
const REQUEST_ANDCOND: u64 = 0x41 << 56;
/// A request by AVPN.
const REQUEST_AVPN: u64 = 0x42 << 56;
/// The end.
const END: u64 = 0xc0 << 56;

/// The slot, freshly entered.
fn entered(bench: &mut Bench<'_>, ptex: u64) -> Outcome<u64> {
    let entry = (NOBODY + (ptex << 12), small(PP_READ_WRITE));
    bench.enter(Flags::EXACT, ptex, entry).must("enter")?;
    Ok(entry.0)
}

fn is_there(ptex: u64) -> Outcome<bool> {
    Ok(hcall::read(ptex).must("read")?.0 != 0)
}

pub(crate) fn four_at_once(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let mut specifiers = [(0, 0); 4];
    for (ptex, specifier) in (group..).zip(&mut specifiers) {
        let dw0 = entered(bench, ptex)?;
        *specifier = match ptex & 3 {
            0 => (REQUEST | ptex, 0x1234),
            1 => (REQUEST_AVPN | ptex, dw0 & !0x7f),
            2 => (REQUEST_ANDCOND | ptex, 0x10),
            _ => (REQUEST | ptex, 0),
        };
    }
    let before = specifiers;
    bulk_remove(&mut specifiers).must("bulk remove")?;
    for (ptex, ((high, low), (request, condition))) in
        (group..).zip(specifiers.into_iter().zip(before))
    {
        same("response", request ^ 0xc0 << 56, high)?;
        same("second dword", condition, low)?;
        same("slot", 0, is_there(ptex)?.into())?;
    }
    Ok(())
}

pub(crate) fn r_and_c_come_back(bench: &mut Bench<'_>) -> Outcome {
    let mut pages = heapless::Vec::<Mapped, 4>::new();
    for _ in 0..3 {
        let _ = pages.push(bench.small_page()?);
    }
    let [_, loaded, stored] = pages[..] else {
        return Ok(());
    };
    load(loaded.ea);
    store(stored.ea, 1);
    let ptex = bench.free_group()?;
    let absent = (NOBODY, NOWHERE | R_M | 0x180);
    bench.enter(Flags::EXACT, ptex, absent).must("enter")?;
    let mut specifiers = [(REQUEST | ptex, 0); 4];
    for (specifier, page) in specifiers.iter_mut().zip(&pages) {
        specifier.0 = REQUEST | page.entry.ptex;
    }
    bulk_remove(&mut specifiers).must("bulk remove")?;
    let responses = [0x80, 0x88, 0x8c, 0x8c];
    for ((high, _), response) in specifiers.into_iter().zip(responses) {
        same("response", response, high >> 56)?;
    }
    for page in &pages {
        faulted("a load after it", 0x300, try_load(page.ea))?;
    }
    Ok(())
}

pub(crate) fn what_is_not_there_does_not_end_it(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    entered(bench, group)?;
    let dw0 = entered(bench, group + 2)?;
    let mut specifiers = [
        (REQUEST_AVPN | group, 0x5000),
        (REQUEST | (group + 1), 0),
        (REQUEST_ANDCOND | (group + 2), 1),
        (REQUEST_AVPN | (group + 2), dw0 & !0x7f),
    ];
    bulk_remove(&mut specifiers).must("bulk remove")?;
    let expected = [
        0x92 << 56 | group,
        0x90 << 56 | (group + 1),
        0x91 << 56 | (group + 2),
        0x82 << 56 | (group + 2),
    ];
    for ((high, _), expected) in specifiers.into_iter().zip(expected) {
        same("response", expected, high)?;
    }
    same("the first", 1, is_there(group)?.into())?;
    same("the last", 0, is_there(group + 2)?.into())
}

pub(crate) fn the_end_ends_it(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    entered(bench, group)?;
    entered(bench, group + 1)?;
    let after = (REQUEST | (group + 1), 0);
    let mut specifiers = [
        (REQUEST | group, 0),
        (END | 0x77, 5),
        after,
        (0x80 << 56, 0),
    ];
    bulk_remove(&mut specifiers).must("bulk remove")?;
    let [first, end, second, bad] = specifiers;
    same("response", 0x80 << 56 | group, first.0)?;
    same("the end", END | 0x77, end.0)?;
    same("behind the end", after.0, second.0)?;
    same("bad, behind the end", 0x80 << 56, bad.0)?;
    same("the entry behind the end", 1, is_there(group + 1)?.into())
}

pub(crate) fn bad_specifiers_end_it(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let slots = bench.slots();
    let [first_outside, ..] = outside(slots);
    // Nothing or a response where a request should be; a reserved condition; a slot outside the table.
    for bad in [
        group + 1,
        0x80 << 56 | (group + 1),
        0x43 << 56 | (group + 1),
        REQUEST | first_outside,
        REQUEST | 0xff_ffff_ffff_ffff,
    ] {
        entered(bench, group)?;
        entered(bench, group + 1)?;
        let after = (REQUEST | (group + 1), 0);
        let mut specifiers = [(REQUEST | group, 0), (bad, 0), after, after];
        refused(
            "a bad specifier",
            Status::Parameter,
            bulk_remove(&mut specifiers),
        )?;
        let [first, second, third, _] = specifiers;
        same("before it", 0x80 << 56 | group, first.0)?;
        same("it", 0xa0, second.0 >> 56 & 0xfc)?;
        same("behind it", after.0, third.0)?;
        same("the entry before it", 0, is_there(group)?.into())?;
        same("the entry behind it", 1, is_there(group + 1)?.into())?;
        hcall::remove(Flags::empty(), group + 1, 0).must("remove")?;
    }
    Ok(())
}
