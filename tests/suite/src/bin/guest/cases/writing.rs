//! H_HPT_WRITE: tables restored from records, good and bad.

use realhpt_pseries::{
    abi::{ABI_VERSION, LPAR_SELF, OpenFlags, RECORD_HEADER, Status},
    hcall::{self, Failure, hpt_write},
    mmu::pte::V_LARGE,
};
use realhpt_suite::{job, order, partition, table};

use crate::{
    bench::Bench,
    stream::{
        RUNS, Records, Samples, WRITE, first_pass, is_sample_table, read_piece, restore_samples,
        sample, sample_table,
    },
    trouble::{Must as _, Outcome, holds, refused, same},
};

/// The table that is written: its partition never runs.
const TABLE: u64 = partition::EMPTY;
/// Slots it has.
const SLOTS: u64 = 1 << 14;

fn open(bench: &mut Bench<'_>) -> Outcome<u64> {
    Ok(bench
        .open(TABLE, OpenFlags::WRITE, 0)
        .must("open to write")?
        .handle)
}

/// From 0 to 200: too small, too small for an entry, or the whole table in pieces.
pub(crate) fn every_buffer_size(bench: &mut Bench<'_>) -> Outcome {
    let records = sample_table();
    for size in 0..=200 {
        hcall::lpar_reset(TABLE).must("reset")?;
        let handle = open(bench)?;
        if size < RECORD_HEADER {
            let written = hpt_write(handle, WRITE.address(), size);
            refused("a small buffer", Status::Parameter, written)?;
            bench.close(handle).must("close")?;
            same("entries", 0, first_pass(TABLE)?.valid)?;
        } else if size < 16 {
            same("bytes", RECORD_HEADER, records.write(handle, size)?)?;
            refused("close", Status::Partial, bench.close(handle))?;
            same("entries", 0, first_pass(TABLE)?.valid)?;
        } else {
            same("bytes", records.bytes(), records.write(handle, size)?)?;
            bench.close(handle).must("close")?;
            is_sample_table(&first_pass(TABLE)?)?;
        }
    }
    Ok(())
}

pub(crate) fn bad_buffers(bench: &mut Bench<'_>) -> Outcome {
    let records = sample_table();
    let handle = open(bench)?;
    let memory = bench.runtime.partition.memory;
    let good = WRITE.address();
    for (address, length) in [
        (good + 1, 64),
        (good + 4, 64),
        (good | 1 << 63, 64),
        (memory, 64),
        (memory - 8, 16),
        (0x2000_0000, 4096),
        (0x3000_0000, 4096),
        (1 << 59, 64),
        (u64::MAX - 7, 8),
        (u64::MAX - 7, 64),
        (u64::MAX, 64),
        (good, u64::MAX),
        (good, u64::MAX - good + 1),
        (good, memory - good + 1),
    ] {
        let result = hpt_write(handle, address, length);
        refused("a buffer", Status::Parameter, result)?;
    }
    same("entries", 0, first_pass(TABLE)?.valid)?;
    same(
        "bytes",
        records.bytes(),
        records.write(handle, WRITE.bytes())?,
    )?;
    is_sample_table(&first_pass(TABLE)?)
}

/// One for a table, and none for a table that is in use.
pub(crate) fn one_writer(bench: &mut Bench<'_>) -> Outcome {
    let first = open(bench)?;
    let second = bench.open(TABLE, OpenFlags::WRITE, 0);
    refused("a second writer", Status::Resource, second)?;
    bench.close(first).must("close")?;
    let third = open(bench)?;
    holds("another handle", third, third != first)?;
    let stale = hpt_write(first, WRITE.address(), 8);
    refused("a closed handle", Status::Parameter, stale)?;
    refused(
        "read from a writer",
        Status::Parameter,
        read_piece(third, 4096),
    )?;

    let own = bench.open(LPAR_SELF, OpenFlags::WRITE, 0);
    refused("one's own table", Status::Busy, own)?;
    bench.start(partition::CLIENT, job::USE_PAGES)?;
    let running = bench.open(partition::CLIENT, OpenFlags::WRITE, 0);
    refused("a running partition's", Status::Busy, running)?;
    hcall::lpar_pause(partition::CLIENT).must("pause")?;
    let writer = bench
        .open(partition::CLIENT, OpenFlags::WRITE, 0)
        .must("a paused partition's")?
        .handle;
    hcall::lpar_resume(partition::CLIENT).must("resume")?;
    let mut records = Records::new();
    records.header(0, 0, 1);
    let written = hpt_write(writer, WRITE.address(), records.bytes());
    refused("while it runs", Status::Busy, written)
}

/// The write fails after `consumed` bytes, at slot `index`.
#[track_caller]
fn fails_at(result: Result<u64, Failure>, consumed: u64, index: u64) -> Outcome {
    let detail = match result {
        Err(failure) => failure.detail,
        Ok(_) => [0, 0],
    };
    refused("bad records", Status::Parameter, result)?;
    same("bytes consumed", consumed, detail[0])?;
    same("index of the bad entry", index, detail[1])
}

pub(crate) fn bad_records(bench: &mut Bench<'_>) -> Outcome {
    // Records that leave the table.
    for (index, valid, invalid) in [
        (SLOTS, 0, 1),
        (SLOTS, 1, 0),
        (SLOTS - 1, 1, 1),
        (SLOTS - 1, 2, 0),
        (0, 0, 0xffff),
        (1, 0xffff, 0xffff),
        (0xffff_ffff, 1, 0),
        (0xffff_ffff, 0xffff, 0xffff),
    ] {
        let handle = open(bench)?;
        let mut records = Records::new();
        records.header(index, valid, invalid);
        let written = hpt_write(handle, WRITE.address(), records.bytes());
        fails_at(written, 0, index)?;
        bench.close(handle).must("close")?;
    }
    // Entries that cannot be entered: not VALID; B reserved; a page size that does not exist; a page of 16G in
    // a memory that begins there and is smaller.
    let (dw0, dw1) = sample(1);
    for bad in [
        (dw0 & !1, dw1),
        (dw0 | 2 << 62, dw1),
        (dw0 | V_LARGE, 0x2012),
        (dw0 | V_LARGE, 0x3012),
    ] {
        let handle = open(bench)?;
        let mut records = Records::new();
        records.record(40, [(dw0, dw1), bad, (dw0, dw1)].into_iter(), 0);
        let written = hpt_write(handle, WRITE.address(), records.bytes());
        fails_at(written, RECORD_HEADER, 41)?;
        same("entries", 0, first_pass(TABLE)?.valid)?;
        refused("close", Status::Partial, bench.close(handle))?;
    }
    Ok(())
}

/// Entries are taken in pieces of at most 256, each whole or not at all: what is before the bytes consumed is in
/// the table, what is behind them is not.
pub(crate) fn a_bad_piece_is_not_applied(bench: &mut Bench<'_>) -> Outcome {
    let handle = open(bench)?;
    let mut records = Records::new();
    records.record(3, Samples(3..6), 0);
    records.header(1000, 300, 2);
    for slot in 1000..1300 {
        let (dw0, dw1) = sample(slot);
        records.word(if slot == 1298 { dw0 & !1 } else { dw0 });
        records.word(dw1);
    }
    let mut done = 0;
    let failure = loop {
        let left = records.bytes() - done;
        match hpt_write(handle, WRITE.address() + done, left) {
            Ok(0) => return holds("progress", done, false),
            Ok(consumed) => done += consumed,
            Err(failure) => break failure,
        }
    };
    let [consumed, index] = failure.detail;
    refused("the bad entry", Status::Parameter, Err::<(), _>(failure))?;
    same("index of the bad entry", 1298, index)?;
    done += consumed;
    let before = RECORD_HEADER + 3 * 16 + RECORD_HEADER;
    let applied = (done - before) / 16;
    holds("entries before it", applied, (43..=298).contains(&applied))?;
    let pass = first_pass(TABLE)?;
    same("entries in the table", 3 + applied, pass.valid)?;
    // The handle waits for the right entry, and goes on with it.
    let mut rest = Records::new();
    for slot in 1000 + applied..1300 {
        let (dw0, dw1) = sample(slot);
        rest.word(dw0);
        rest.word(dw1);
    }
    same("bytes", rest.bytes(), rest.write(handle, WRITE.bytes())?)?;
    bench.close(handle).must("close")?;
    same("entries in the table", 303, first_pass(TABLE)?.valid)
}

/// A record longer than any buffer: the handle remembers its place.
pub(crate) fn inside_a_record(bench: &mut Bench<'_>) -> Outcome {
    let handle = open(bench)?;
    let mut records = Records::new();
    records.record(7, Samples(7..17), 0);
    same("bytes", records.bytes(), records.write(handle, 24)?)?;
    bench.close(handle).must("close")?;
    same("entries", 10, first_pass(TABLE)?.valid)?;
    for missing in [16, 32, 160] {
        let handle = open(bench)?;
        let part = records.bytes() - missing;
        let written = hpt_write(handle, WRITE.address(), part).must("write")?;
        same("bytes", part, written)?;
        refused("close", Status::Partial, bench.close(handle))?;
    }
    Ok(())
}

pub(crate) fn overwrites_and_invalidates(bench: &mut Bench<'_>) -> Outcome {
    restore_samples(TABLE)?;
    restore_samples(TABLE)?;
    is_sample_table(&first_pass(TABLE)?)?;
    let handle = open(bench)?;
    // Every run but the first entry of each, all by invalid runs.
    let mut records = Records::new();
    for (start, count) in RUNS {
        if count > 1 {
            records.header(start + 1, 0, count - 1);
        }
    }
    same("bytes", records.bytes(), records.write(handle, 64)?)?;
    let pass = first_pass(TABLE)?;
    same("entries", RUNS.len() as u64, pass.valid)?;
    for (start, _) in RUNS {
        let entry = pass.of(start).flatten().must("the first of a run")?;
        same("the first of a run", 1, u64::from(entry == sample(start)))?;
    }
    // All of the table, and an entry before its invalid run.
    let mut records = Records::new();
    records.record(0, Samples(9..10), SLOTS - 1);
    same(
        "bytes",
        records.bytes(),
        records.write(handle, WRITE.bytes())?,
    )?;
    bench.close(handle).must("close")?;
    let pass = first_pass(TABLE)?;
    same("entries", 1, pass.valid)?;
    let entry = pass.of(0).flatten().must("the entry")?;
    same("the entry", 1, u64::from(entry == sample(9)))
}

pub(crate) fn statistics(bench: &mut Bench<'_>) -> Outcome {
    let before = hcall::hpt_stat(TABLE).must("statistics")?;
    same("ABI version", ABI_VERSION, before.abi)?;
    same("order", 18, before.order)?;
    same("readers", 0, before.readers)?;
    same("writers", 0, before.writers)?;
    same("pending", 0, before.pending)?;
    let beside = table::bytes_beside(order::FIRST);
    same("bytes beside the table", beside, before.beside)?;
    holds("bytes beside it at most", beside, beside <= 9 * SLOTS)?;
    let resizable = hcall::hpt_stat(partition::VICTIM).must("statistics")?;
    same(
        "bytes beside a table that may be resized",
        table::bytes_beside_resizable(order::FIRST, order::LARGEST),
        resizable.beside,
    )?;
    let reader = bench.open(TABLE, OpenFlags::empty(), 0).must("open")?;
    same("order of the stream", 18, reader.order)?;
    same(
        "generation of the stream",
        before.generation,
        reader.generation,
    )?;
    open(bench)?;
    let during = hcall::hpt_stat(TABLE).must("statistics")?;
    same("readers", 1, during.readers)?;
    same("writers", 1, during.writers)?;
    bench.close(reader.handle).must("close")?;
    hcall::lpar_reset(TABLE).must("reset")?;
    let after = hcall::hpt_stat(TABLE).must("statistics")?;
    holds(
        "generation after a reset",
        after.generation,
        after.generation != before.generation,
    )?;
    let own = hcall::hpt_stat(LPAR_SELF).must("one's own")?;
    same("one's own order", bench.runtime.partition.order, own.order)?;
    refused("a partition", Status::Parameter, hcall::hpt_stat(99))
}
