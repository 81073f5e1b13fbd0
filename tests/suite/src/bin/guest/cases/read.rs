//! H_READ.

use realhpt_pseries::{
    abi::{Flags, H_READ, Status},
    hcall::{self, hcall},
    mmu::pte::PP_READ_WRITE,
};

use super::enter::{NOBODY, outside, small};
use crate::{
    bench::Bench,
    trouble::{Must as _, Outcome, refused, same},
};

pub(crate) fn a_free_slot_reads_as_zero(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    // Used and freed: the real entry's address must be gone.
    let ptex = bench
        .enter(Flags::empty(), group, (NOBODY, small(PP_READ_WRITE)))
        .must("enter")?;
    hcall::remove(Flags::empty(), ptex, 0).must("remove")?;
    let (dw0, dw1) = hcall::read(ptex).must("read")?;
    same("dword 0", 0, dw0)?;
    same("dword 1", 0, dw1)?;
    for (dw0, dw1) in hcall::read_4(group).must("read four")? {
        same("dword 0 of four", 0, dw0)?;
        same("dword 1 of four", 0, dw1)?;
    }
    Ok(())
}

pub(crate) fn four_entries_at_once(bench: &mut Bench<'_>) -> Outcome {
    let group = bench.free_group()?;
    let entry = |number: u64| (NOBODY + (number << 12), small(PP_READ_WRITE));
    for number in [4, 6, 7] {
        bench
            .enter(Flags::EXACT, group + number, entry(number))
            .must("enter")?;
    }
    // The low two bits of the index do not count.
    for ptex in group + 4..group + 8 {
        let four = hcall::read_4(ptex).must("read four")?;
        for (number, (dw0, dw1)) in (4..).zip(four) {
            let expected = if number == 5 { (0, 0) } else { entry(number) };
            same("dword 0", expected.0, dw0)?;
            same("dword 1", expected.1, dw1)?;
        }
    }
    // One entry goes to two registers and to no more.
    let mut registers = [H_READ, 0, group + 6, 66, 77, 88, 99, 110, 121, 132];
    // SAFETY: reads the table.
    unsafe { hcall(&mut registers) };
    let (dw0, dw1) = entry(6);
    let expected = [0, dw0, dw1, 66, 77, 88, 99, 110, 121, 132];
    for (expected, found) in expected.into_iter().zip(registers) {
        same("register after a read of one", expected, found)?;
    }
    // R_XLATE is what every read does.
    let translate = 1 << 38;
    let mut registers = [H_READ, translate, group + 6, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: reads the table.
    unsafe { hcall(&mut registers) };
    let [status, found, ..] = registers;
    same("status with R_XLATE", 0, status)?;
    same("dword 0 with R_XLATE", dw0, found)
}

pub(crate) fn slots_outside_the_table(bench: &mut Bench<'_>) -> Outcome {
    for ptex in outside(bench.slots()) {
        refused("one", Status::Parameter, hcall::read(ptex))?;
        refused("four", Status::Parameter, hcall::read_4(ptex))?;
    }
    let last = bench.slots() - 1;
    hcall::read(last).must("the last slot")?;
    hcall::read_4(last).must("the last half group").map(drop)
}
