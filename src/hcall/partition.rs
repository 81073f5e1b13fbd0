//! Partition control: query, pause, resume, reset, start.

use super::Call;
use super::abi::{LPAR_SELF, Privileges, Status};
use crate::addr::{GuestReal, Lpid};
use crate::arch::Machine;
use crate::lpar::Partition;
use crate::lpar::control::Start;
use crate::lpar::vcpu::Endian;

impl<'c, 'm, M: Machine> Call<'c, 'm, M> {
    /// The partition that argument `number` names: the caller itself, or any if the caller may control others.
    pub(super) fn target(&self, number: usize) -> Result<&'c Partition<'m>, Status> {
        let lpid = self.argument(number);
        let own = self.caller.description();
        if lpid == LPAR_SELF || lpid == u64::from(own.lpid.raw()) {
            return Ok(self.caller);
        }
        if !own.privileges.contains(Privileges::CONTROL) {
            return Err(Status::Authority);
        }
        let lpid = u16::try_from(lpid).map_err(|_| Status::Parameter)?;
        self.system
            .partition(Lpid::new(lpid))
            .ok_or(Status::Parameter)
    }

    /// A partition that the caller may control and that is not the caller: nobody could take it further.
    fn other(&self, number: usize) -> Result<&'c Partition<'m>, Status> {
        if !self
            .caller
            .description()
            .privileges
            .contains(Privileges::CONTROL)
        {
            return Err(Status::Authority);
        }
        let target = self.target(number)?;
        if core::ptr::eq(target, self.caller) {
            Err(Status::Parameter)
        } else {
            Ok(target)
        }
    }
}

#[inline(never)]
pub(super) fn query<M: Machine>(call: &mut Call<'_, '_, M>) -> Status {
    let target = match call.target(0) {
        Ok(target) => target,
        Err(status) => return status,
    };
    let description = target.description();
    let own = |at: GuestReal| {
        description
            .regions
            .iter()
            .find(|region| region.guest() == at)
    };
    let memory = own(GuestReal::new(0)).map_or(0, crate::memory::Region::size);
    let shared = description
        .shared
        .map_or((0, 0), |region| (region.guest().raw(), region.size()));
    let results = [
        u64::from(description.lpid.raw()),
        target.state() as u64,
        memory,
        u64::from(target.table().order().raw()),
        description.privileges.bits(),
        shared.0,
        shared.1,
        target.control().exit_code(),
    ];
    for (number, result) in results.into_iter().enumerate() {
        call.put(number, result);
    }
    Status::Success
}

#[inline(never)]
pub(super) fn pause<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    Status::from(
        call.other(0)
            .and_then(|target| target.pause(&call.system.machine, call.cpu())),
    )
}

#[inline(never)]
pub(super) fn resume<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    Status::from(call.other(0).and_then(|target| target.control().resume()))
}

#[inline(never)]
pub(super) fn reset<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    Status::from(call.other(0).and_then(|target| {
        let result = target.reset(&call.system.machine, call.cpu());
        // One that is refused has changed nothing, the target's own streams included.
        if result != Err(Status::Busy) {
            call.system.close_streams_of(target.description().lpid);
        }
        result
    }))
}

#[inline(never)]
pub(super) fn start<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    Status::from(call.other(0).and_then(|target| {
        let entry = match call.argument(1) {
            LPAR_SELF => target.description().entry,
            entry => GuestReal::new(entry),
        };
        target.start(
            &call.system.machine,
            Start {
                entry,
                r3: call.argument(2),
                endian: Endian::Big,
            },
        )
    }))
}
