//! The stream calls: H_HPT_OPEN, READ, WRITE, CLOSE and STAT.
//!
//! A handle names the partition, the slot and the use of the slot it was made for; it is good only for the
//! partition that opened it. What it holds is looked up, never trusted.

use super::Call;
use super::abi::{ABI_VERSION, MIN_READ_BUFFER, OpenFlags, RECORD_HEADER, Status};
use crate::addr::{GuestReal, Lpid};
use crate::arch::Machine;
use crate::lpar::Partition;
use crate::stream::reader;
use crate::stream::readers::Refused;
use crate::stream::record::MAX_SLOTS;
use crate::table::bitmap::index;

/// The slot number that says: the writer.
const WRITER: u64 = 0xff;

/// A handle, taken apart: serial, LPID, slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Handle {
    serial: u64,
    lpid: Lpid,
    slot: u64,
}

impl Handle {
    const fn raw(self) -> u64 {
        self.serial << 24 | (self.lpid.raw() as u64) << 8 | self.slot
    }

    #[expect(clippy::cast_possible_truncation, reason = "the LPID is cut out")]
    const fn from_raw(raw: u64) -> Self {
        Self {
            serial: raw >> 24,
            lpid: Lpid::new((raw >> 8) as u16),
            slot: raw & 0xff,
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown | Refused::Outside => Self::Parameter,
            Refused::Busy => Self::Busy,
            Refused::Closed => Self::Closed,
            Refused::Full => Self::Resource,
            Refused::TooBig => Self::TooBig,
        }
    }
}

impl<'c, 'm, M: Machine> Call<'c, 'm, M> {
    /// The handle in argument 0 and the partition that it is about.
    fn handle(&self) -> Result<(Handle, &'c Partition<'m>), Status> {
        let handle = Handle::from_raw(self.argument(0));
        let target = self
            .system
            .partition(handle.lpid)
            .ok_or(Status::Parameter)?;
        Ok((handle, target))
    }

    fn own_lpid(&self) -> Lpid {
        self.caller.description().lpid
    }

    /// The buffer in arguments 1 and 2.
    fn buffer(&self) -> Result<crate::memory::GuestBuffer, Status> {
        self.caller
            .description()
            .regions
            .claim(GuestReal::new(self.argument(1)), self.argument(2))
            .ok_or(Status::Parameter)
    }
}

#[inline(never)]
pub(super) fn open<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    try_open(call).into()
}

fn try_open<M: Machine>(call: &mut Call<'_, '_, M>) -> Result<(), Status> {
    let target = call.target(0)?;
    let flags = OpenFlags::from_bits(call.argument(1)).ok_or(Status::Parameter)?;
    let start = call.argument(2);
    let table = target.table();
    let generation = target.control().generation();
    let lpid = target.description().lpid;
    let handle = if flags.contains(OpenFlags::WRITE) {
        if table.order().slots() > MAX_SLOTS {
            return Err(Status::TooBig);
        }
        if start != 0 {
            return Err(Status::Parameter);
        }
        // Refused at once while the partition runs, and again at each write.
        drop(target.control().begin_write()?);
        let serial = {
            let mut slot = target.writer_slot().lock();
            if slot.owner.is_some() && slot.generation == generation {
                return Err(Status::Resource);
            }
            slot.owner = Some(call.own_lpid());
            slot.serial += 1;
            slot.generation = generation;
            slot.serial
        };
        // A call by the handle before may still be under way.
        target.writer().lock().restart();
        Handle {
            serial,
            lpid,
            slot: WRITER,
        }
    } else {
        let own = call.caller.description();
        let spare = Partition::reserved_readers(own.privileges);
        let (slot, serial) =
            target
                .readers()
                .open(target.tables(), own.lpid, generation, flags, start, spare)?;
        Handle {
            serial,
            lpid,
            slot: slot as u64,
        }
    };
    call.put(0, handle.raw());
    call.put(1, u64::from(table.order().raw()));
    call.put(2, generation);
    Ok(())
}

#[inline(never)]
pub(super) fn read<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    try_read(call).into()
}

fn try_read<M: Machine>(call: &mut Call<'_, '_, M>) -> Result<(), Status> {
    let (handle, target) = call.handle()?;
    let generation = target.control().generation();
    let reader = target.readers().enter(
        index(handle.slot),
        handle.serial,
        call.own_lpid(),
        generation,
    )?;
    if call.argument(2) < MIN_READ_BUFFER {
        return Err(Status::Parameter);
    }
    let buffer = call.buffer()?;
    let read = reader::read(&call.system.machine, target.table(), &reader, buffer);
    drop(reader);
    call.put(0, read.bytes);
    call.put(1, read.pass << 32 | read.flags.bits());
    call.put(2, read.pending);
    Ok(())
}

#[inline(never)]
pub(super) fn write<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    try_write(call).into()
}

fn try_write<M: Machine>(call: &mut Call<'_, '_, M>) -> Result<(), Status> {
    let (handle, buffer, length) = (call.handle(), call.buffer(), call.argument(2));
    // A call that is refused as a whole says so in the same registers: nothing consumed, no bad entry.
    call.put(0, 0);
    call.put(1, u64::MAX);
    let (handle, target) = handle?;
    if handle.slot != WRITER {
        return Err(Status::Parameter);
    }
    let slot = target.writer_slot().lock();
    if !slot.is_of(call.own_lpid(), handle.serial) {
        return Err(Status::Parameter);
    }
    let generation = slot.generation;
    let mut writer = target.writer().try_lock().ok_or(Status::Busy)?;
    drop(slot);
    if generation != target.control().generation() {
        return Err(Status::Closed);
    }
    if length < RECORD_HEADER {
        return Err(Status::Parameter);
    }
    let buffer = buffer?;
    let writing = target.control().begin_write()?;
    if generation != target.control().generation() {
        // A reset or a resize came in between. From here on none can begin.
        return Err(Status::Closed);
    }
    let regions = &target.description().regions;
    let written = writer.write(
        &call.system.machine,
        target.table(),
        target.readers(),
        regions,
        buffer,
    );
    drop(writing);
    drop(writer);
    call.put(0, written.consumed);
    call.put(1, written.refused.map_or(u64::MAX, |bad| bad.index()));
    if written.refused.is_some() {
        Err(Status::Parameter)
    } else {
        Ok(())
    }
}

#[inline(never)]
pub(super) fn close<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    try_close(call).into()
}

fn try_close<M: Machine>(call: &Call<'_, '_, M>) -> Result<(), Status> {
    let (handle, target) = call.handle()?;
    if handle.slot != WRITER {
        let slot = index(handle.slot);
        return Ok(target.readers().close(
            target.tables(),
            slot,
            handle.serial,
            call.own_lpid(),
        )?);
    }
    let mut slot = target.writer_slot().lock();
    if !slot.is_of(call.own_lpid(), handle.serial) {
        return Err(Status::Parameter);
    }
    let writer = target.writer().try_lock().ok_or(Status::Busy)?;
    slot.owner = None;
    if writer.is_inside_record() {
        Err(Status::Partial)
    } else {
        Ok(())
    }
}

#[inline(never)]
pub(super) fn stat<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    try_stat(call).into()
}

fn try_stat<M: Machine>(call: &mut Call<'_, '_, M>) -> Result<(), Status> {
    let target = call.target(0)?;
    let generation = target.control().generation();
    let (readers, pending) = target
        .readers()
        .open_and_pending(target.tables(), generation);
    let slot = target.writer_slot().lock();
    let writers = u64::from(slot.owner.is_some() && slot.generation == generation);
    drop(slot);
    let results = [
        ABI_VERSION,
        u64::from(target.table().order().raw()),
        generation,
        readers,
        writers,
        target.bytes_beside(),
        pending,
    ];
    for (number, result) in results.into_iter().enumerate() {
        call.put(number, result);
    }
    Ok(())
}
