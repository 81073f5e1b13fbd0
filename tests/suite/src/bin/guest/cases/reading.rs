//! H_HPT_OPEN, READ and CLOSE: tables as a reader sees them.

use realhpt_pseries::{
    abi::{LPAR_SELF, MIN_READ_BUFFER, OpenFlags, Status},
    cpu::{self, TICKS_PER_MS, timebase},
    hcall::{self, Hpte, hpt_read},
    mmu::pte::{R_C, R_R, V_BOLTED},
};
use realhpt_suite::{job, partition};

use crate::{
    bench::{Bench, PATIENCE},
    stream::{
        self, READ, Records, Samples, WRITE, first_pass, is_sample_table, read_pass,
        read_pass_from, read_piece, restore_samples, sample,
    },
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// The table that is read: its partition never runs.
const TABLE: u64 = partition::EMPTY;
/// Slots it has.
const SLOTS: u64 = 1 << 14;

fn open(bench: &mut Bench<'_>) -> Outcome<u64> {
    Ok(bench
        .open(TABLE, OpenFlags::empty(), 0)
        .must("open")?
        .handle)
}

/// A reader that has had its first pass.
fn open_and_read(bench: &mut Bench<'_>) -> Outcome<u64> {
    let handle = open(bench)?;
    let pass = read_pass(handle, READ.bytes())?;
    same("number of the first pass", 1, pass.number)?;
    Ok(handle)
}

/// The slots that [`change`] changes: 5 and 200 get an entry made from the salt; the three others are emptied by
/// an even salt and filled by an odd one.
const CHANGES: [u64; 5] = [5, 62, 63, 64, 200];

fn change(bench: &mut Bench<'_>, salt: u64) -> Outcome {
    let writer = bench
        .open(TABLE, OpenFlags::WRITE, 0)
        .must("open to write")?
        .handle;
    let mut records = Records::new();
    records.record(5, changed(salt, 5).into_iter(), 0);
    if salt.is_multiple_of(2) {
        records.header(62, 0, 3);
    } else {
        records.record(62, Samples(62..65), 0);
    }
    records.record(200, changed(salt, 200).into_iter(), 0);
    records.write(writer, WRITE.bytes())?;
    bench.close(writer).must("close")
}

/// What a slot holds after [`change`].
fn changed(salt: u64, slot: u64) -> Option<Hpte> {
    match slot {
        5 | 200 => Some((
            0x9_9999 << 12 | salt << 20 | V_BOLTED | 1,
            0x3_0012 | salt << 12,
        )),
        _ => (!salt.is_multiple_of(2)).then(|| sample(slot)),
    }
}

/// A pass that says just this of the changes.
fn shows_changes(pass: &stream::Pass, salt: u64) -> Outcome {
    same("slots", CHANGES.len() as u64, pass.slots)?;
    for slot in CHANGES {
        let (dw0, dw1) = pass.of(slot).must("the slot")?.unwrap_or_default();
        let expected = changed(salt, slot).unwrap_or_default();
        same("dword 0", expected.0, dw0)?;
        same("dword 1", expected.1, dw1)?;
    }
    same("pending after it", 0, pass.pending)
}

fn is_clean(handle: u64, size: u64) -> Outcome {
    let pass = read_pass(handle, size)?;
    holds("a clean pass", pass.slots, pass.clean && pass.slots == 0)?;
    same("bytes", 0, pass.bytes)?;
    same("pending", 0, pass.pending)
}

/// From 0 to 200: too small, or a whole pass in pieces, with every change after it, and never a byte behind the
/// buffer.
pub(crate) fn every_buffer_size(bench: &mut Bench<'_>) -> Outcome {
    for size in 0..=200 {
        hcall::lpar_reset(TABLE).must("reset")?;
        restore_samples(TABLE)?;
        let handle = open(bench)?;
        if size < MIN_READ_BUFFER {
            for _ in 0..3 {
                refused(
                    "a small buffer",
                    Status::Parameter,
                    read_piece(handle, size),
                )?;
            }
            bench.close(handle).must("close")?;
            continue;
        }
        let pass = read_pass(handle, size)?;
        holds("coverage", pass.slots, pass.covers(SLOTS))?;
        is_sample_table(&pass)?;
        is_clean(handle, size)?;
        change(bench, size)?;
        shows_changes(&read_pass(handle, size)?, size)?;
        is_clean(handle, size)?;
        bench.close(handle).must("close")?;
    }
    Ok(())
}

/// Buffers that the caller does not have. Nothing is taken by any of them.
pub(crate) fn bad_buffers(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(TABLE)?;
    let handle = open(bench)?;
    let runtime = bench.runtime;
    let memory = runtime.partition.memory;
    let (window, window_size) = (runtime.partition.shared_base, runtime.partition.shared_size);
    let good = READ.address();
    for (address, length) in [
        (good + 1, 64),
        (good + 2, 64),
        (good + 4, 64),
        (good | 1 << 63, 64),
        (memory, 64),
        (memory - 16, 24),
        (memory - 8, 64),
        (0x2000_0000, 64),
        (0x3000_0000, 4096),
        (0x6000_0000, 4096),
        (window - 8, 64),
        (window + window_size - 16, 24),
        (window + window_size, 64),
        (1 << 40, 64),
        (1 << 59, 64),
        (u64::MAX, 64),
        (u64::MAX - 7, 64),
        (u64::MAX - 7, 8),
        (good, u64::MAX),
        (good, 1 << 63),
        (good, u64::MAX - good + 1),
        (good, memory - good + 1),
        (good, memory + 1),
    ] {
        // SAFETY: the call is refused.
        let result = unsafe { hpt_read(handle, address, length) };
        refused("a buffer", Status::Parameter, result)?;
    }
    is_sample_table(&read_pass(handle, 4096)?)?;
    // Nor of a later pass's changes.
    change(bench, 1)?;
    for (address, length) in [(memory - 16, 24), (good + 1, 64), (good, memory - good + 1)] {
        // SAFETY: the call is refused.
        let result = unsafe { hpt_read(handle, address, length) };
        refused("a buffer", Status::Parameter, result)?;
    }
    refused("a small one", Status::Parameter, read_piece(handle, 23))?;
    shows_changes(&read_pass(handle, 64)?, 1)?;
    // The window is the partition's memory too.
    let reader = open(bench)?;
    // SAFETY: the window is there to be written.
    let piece = unsafe { hpt_read(reader, window, window_size) }.must("read into the window")?;
    holds("bytes", piece.bytes, piece.bytes > 0)
}

pub(crate) fn bad_arguments_of_open(bench: &mut Bench<'_>) -> Outcome {
    let empty = OpenFlags::empty();
    for lpar in [0, 99, 0x1_0005, 1 << 32 | TABLE, u64::MAX - 1] {
        refused("a partition", Status::Parameter, bench.open(lpar, empty, 0))?;
    }
    for flags in [4, 8, 0x102, 1 << 31, 1 << 63, u64::MAX] {
        let flags = OpenFlags::from_bits_retain(flags);
        refused("flags", Status::Parameter, bench.open(TABLE, flags, 0))?;
    }
    for start in [SLOTS, SLOTS + 1, 1 << 32, 1 << 63, u64::MAX] {
        refused(
            "a start",
            Status::Parameter,
            bench.open(TABLE, empty, start),
        )?;
    }
    let to_write = bench.open(TABLE, OpenFlags::WRITE, 1);
    refused("a start to write at", Status::Parameter, to_write)
}

pub(crate) fn every_change_once(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(TABLE)?;
    let handle = open_and_read(bench)?;
    for salt in 0..20 {
        change(bench, salt)?;
        let stat = hcall::hpt_stat(TABLE).must("statistics")?;
        same(
            "pending before the pass",
            CHANGES.len() as u64,
            stat.pending,
        )?;
        let pass = read_pass(handle, 24 + salt * 8)?;
        same("number of the pass", 2 + 2 * salt, pass.number)?;
        shows_changes(&pass, salt)?;
        is_clean(handle, READ.bytes())?;
    }
    Ok(())
}

/// More blocks of the table than one call looks at: what is pending is all of it, at once.
pub(crate) fn what_a_write_changes_is_pending(bench: &mut Bench<'_>) -> Outcome {
    let reader = open_and_read(bench)?;
    let writer = bench
        .open(TABLE, OpenFlags::WRITE, 0)
        .must("open to write")?
        .handle;
    let mut records = Records::new();
    for block in (0..SLOTS).step_by(4096) {
        for slot in [block, block + 100, block + 4000] {
            records.record(slot, Samples(slot..slot + 1), 0);
        }
    }
    records.write(writer, WRITE.bytes())?;
    for left in (0..12).rev() {
        let piece = read_piece(reader, MIN_READ_BUFFER).must("read")?;
        same("pending", left, piece.pending)?;
    }
    Ok(())
}

pub(crate) fn readers_do_not_share(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(TABLE)?;
    let quick = open_and_read(bench)?;
    let slow = open(bench)?;
    // One piece of the first pass: the changes are behind it and before it.
    let piece = read_piece(slow, 24).must("read")?;
    holds("a piece", piece.bytes, piece.bytes > 0)?;
    change(bench, 1)?;
    shows_changes(&read_pass(quick, READ.bytes())?, 1)?;
    let late = open_and_read(bench)?;
    change(bench, 2)?;
    shows_changes(&read_pass(quick, 40)?, 2)?;
    shows_changes(&read_pass(late, 48)?, 2)?;
    // The rest of its first pass has what is before it; what is behind it comes in the next one.
    let rest = read_pass_from(slow, READ.bytes(), 0)?;
    let next = read_pass(slow, READ.bytes())?;
    for slot in CHANGES {
        let seen = next.of(slot).or(rest.of(slot)).must("the slot")?;
        same("as it is now", 1, u64::from(seen == changed(2, slot)))?;
    }
    for handle in [quick, late, slow] {
        is_clean(handle, READ.bytes())?;
    }
    Ok(())
}

pub(crate) fn bolted_only(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(TABLE)?;
    let handle = bench
        .open(TABLE, OpenFlags::BOLTED_ONLY, 0)
        .must("open")?
        .handle;
    let pass = read_pass(handle, READ.bytes())?;
    holds("coverage", pass.slots, pass.covers(SLOTS))?;
    let bolted = |slot: &u64| sample(*slot).0 & V_BOLTED != 0;
    let expected = stream::RUNS
        .iter()
        .flat_map(|&(start, count)| start..start + count)
        .filter(bolted)
        .count();
    same("bolted entries", expected as u64, pass.valid)?;
    for (slot, entry) in &pass.entries {
        same("an entry", 1, u64::from(*entry == sample(*slot)))?;
    }
    // The others' readers lose nothing by it.
    is_sample_table(&first_pass(TABLE)?)
}

pub(crate) fn start_index(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(TABLE)?;
    let handle = bench
        .open(TABLE, OpenFlags::empty(), 100)
        .must("open")?
        .handle;
    let pass = read_pass_from(handle, READ.bytes(), 100)?;
    same("slots", SLOTS - 100, pass.slots)?;
    holds("coverage", pass.slots, pass.covers(SLOTS))?;
    is_clean(handle, READ.bytes())?;
    change(bench, 3)?;
    shows_changes(&read_pass(handle, READ.bytes())?, 3)?;
    // The last slot there is.
    let handle = bench
        .open(TABLE, OpenFlags::empty(), SLOTS - 1)
        .must("open")?
        .handle;
    let pass = read_pass_from(handle, READ.bytes(), SLOTS - 1)?;
    same("slots", 1, pass.slots)?;
    same("entries", 1, pass.valid)
}

pub(crate) fn readers_run_out(bench: &mut Bench<'_>) -> Outcome {
    let mut handles = [0; 4];
    for handle in &mut handles {
        *handle = open(bench)?;
    }
    let fifth = bench.open(TABLE, OpenFlags::empty(), 0);
    refused("a fifth reader", Status::Resource, fifth)?;
    let [_, second, ..] = handles;
    bench.close(second).must("close")?;
    open(bench).map(drop)
}

pub(crate) fn handles_end(bench: &mut Bench<'_>) -> Outcome {
    let closed = open(bench)?;
    bench.close(closed).must("close")?;
    refused("read", Status::Parameter, read_piece(closed, 4096))?;
    refused("close", Status::Parameter, hcall::hpt_close(closed))?;
    let next = open(bench)?;
    holds("another handle", next, next != closed)?;
    refused("read", Status::Parameter, read_piece(closed, 4096))?;
    let written = hcall::hpt_write(next, WRITE.address(), 8);
    refused("write to a reader", Status::Parameter, written)?;
    hcall::lpar_reset(TABLE).must("reset")?;
    refused("read after a reset", Status::Closed, read_piece(next, 4096))?;
    bench.close(next).must("close after a reset")?;
    let writer = bench
        .open(TABLE, OpenFlags::WRITE, 0)
        .must("open to write")?
        .handle;
    refused(
        "read from a writer",
        Status::Parameter,
        read_piece(writer, 4096),
    )?;
    hcall::lpar_reset(TABLE).must("reset")?;
    let written = hcall::hpt_write(writer, WRITE.address(), 8);
    refused("write after a reset", Status::Closed, written)
}

/// A client holds every slot of its own table that it may: they are its until it is reset.
pub(crate) fn streams_end_with_who_opened_them(bench: &mut Bench<'_>) -> Outcome {
    let client = partition::CLIENT;
    let readers = || -> Outcome<u64> { Ok(hcall::hpt_stat(client).must("statistics")?.readers) };
    bench.start(client, job::HOLD_READERS)?;
    let begin = timebase();
    while readers()? < 3 {
        holds("time it takes", begin, timebase() - begin < PATIENCE)?;
        cpu::cede(TICKS_PER_MS);
    }
    hcall::lpar_pause(client).must("pause")?;
    same("readers while it is paused", 3, readers()?)?;
    let last = bench
        .open(client, OpenFlags::empty(), 0)
        .must("the last one")?;
    let fifth = bench.open(client, OpenFlags::empty(), 0);
    refused("a fifth reader", Status::Resource, fifth)?;
    hcall::lpar_reset(client).must("reset")?;
    same("readers after a reset", 0, readers()?)?;
    bench.close(last.handle).must("close")?;
    for _ in 0..4 {
        bench
            .open(client, OpenFlags::empty(), 0)
            .must("a slot of the client's")?;
    }
    same("readers", 4, readers()?)
}

/// The table that the suite runs by: its own page was executed and stored to.
pub(crate) fn ones_own_table(bench: &mut Bench<'_>) -> Outcome {
    let program = bench.runtime.program;
    for lpar in [LPAR_SELF, partition::SUITE] {
        let pass = first_pass(lpar)?;
        let (dw0, dw1) = pass
            .of(program.ptex)
            .flatten()
            .must("the program's entry")?;
        same("dword 0", program.dw0, dw0)?;
        same("dword 1", program.dw1 | R_R | R_C, dw1)?;
    }
    Ok(())
}
