//! What a vCPU sets of its processor by hypercall (LoPAR 14.5.4.3, Processor Register Hypervisor Resource Access):
//! H_SET_MODE, H_REGISTER_PROC_TBL, H_SET_SPRG0, H_SET_DABR and H_SET_XDABR; and what it has to know of it,
//! H_GET_CPU_CHARACTERISTICS.
//!
//! # H_SET_MODE
//! The endianness of interrupts and their place are the partition's, as Linux expects: each vCPU has them from its next
//! entry on, those that are in guest state are kicked for it. A flag that does not exist is H_UNSUPPORTED_FLAG as QEMU
//! and KVM answer it, without the number of the bit; a resource that does not exist, or that the processor lacks, is H_P2; a
//! value that is reserved, or would watch the hypervisor, is H_P3 or H_P4. Of the places 0 and 3 can be had: 2 went with
//! ISA 3.1, and KVM refuses it everywhere, too.
//!
//! # H_REGISTER_PROC_TBL
//! A guest on an HPT that loads its SLB itself has no table that hardware reads: to register one, or none, changes
//! nothing, and is a success. What asks for a radix tree, for segment tables or for `tlbie` is H_PARAMETER.
//!
//! # DABR
//! No processor here has one; a watchpoint does the same for one doubleword. Where guests have none of those either
//! (POWER9) it is H_HARDWARE.

use super::abi::{Status, mode, process_table};
use super::{Call, Next, Platform};
use crate::arch::{GuestRegister, Machine};
use crate::lpar::vcpu::lpcr;

/// CIABR\[PRIV\]: in which state it breaks; all ones: in the hypervisor's.
const CIABR_HYPERVISOR: u64 = 3;
/// DAWRX\[HYP\]: watches hypervisor state.
const DAWRX_HYPERVISOR: u64 = 4;

/// DABR: store, and load; DAWRX has them five bits further up.
const DABR_ACCESSES: u64 = 3;
/// DABR: translation is on; DAWRX has it two bits further up.
const DABR_TRANSLATION: u64 = 4;
/// DABR: what is not the address.
const DABR_FLAGS: u64 = DABR_ACCESSES | DABR_TRANSLATION;
/// DABRX: problem state, and privileged state. At least one of them is asked for.
const DABRX_STATES: u64 = 3;
/// DABRX: translation does not matter.
const DABRX_ANY_TRANSLATION: u64 = 8;

/// H_SET_MODE.
#[inline(never)]
pub(super) fn set_mode<M: Machine>(call: &Call<'_, '_, M>) -> (Status, Next) {
    let (flags, resource) = (call.argument(0), call.argument(1));
    let values = (call.argument(2), call.argument(3));
    let result = match resource {
        mode::INTERRUPT_LOCATION => {
            location(flags, values).map(|ail| set_lpcr(call, lpcr::AIL, ail))
        }
        mode::ENDIAN => endian(flags, values).map(|ile| set_lpcr(call, lpcr::ILE, ile)),
        mode::CIABR => breakpoint(call, flags, values),
        mode::DAWR0 => watchpoint(call, flags, values, WATCHPOINTS[0]),
        mode::DAWR1 => watchpoint(call, flags, values, WATCHPOINTS[1]),
        _ => Err(Status::P2),
    };
    match result {
        Ok(next) => (Status::Success, next),
        Err(status) => (status, Next::Resume),
    }
}

/// The two registers of each watchpoint.
const WATCHPOINTS: [[GuestRegister; 2]; 2] = [
    [GuestRegister::Dawr0, GuestRegister::Dawrx0],
    [GuestRegister::Dawr1, GuestRegister::Dawrx1],
];

/// The bits of the LPCR that `flags` of a resource without values ask for.
fn location(flags: u64, values: (u64, u64)) -> Result<u64, Status> {
    no_values(values)?;
    match flags {
        0 | 3 => Ok(flags << lpcr::AIL_SHIFT),
        _ => Err(Status::UnsupportedFlag),
    }
}

fn endian(flags: u64, values: (u64, u64)) -> Result<u64, Status> {
    no_values(values)?;
    match flags {
        0 => Ok(0),
        1 => Ok(lpcr::ILE),
        _ => Err(Status::UnsupportedFlag),
    }
}

const fn no_values(values: (u64, u64)) -> Result<(), Status> {
    match values {
        (0, 0) => Ok(()),
        (0, _) => Err(Status::P4),
        _ => Err(Status::P3),
    }
}

/// Sets a field of the partition's LPCR. The caller has it when its board loads the register anew, the other vCPUs
/// likewise.
fn set_lpcr<M: Machine>(call: &Call<'_, '_, M>, field: u64, value: u64) -> Next {
    call.caller.papr().set_lpcr(field, value);
    call.caller
        .control()
        .kick_others(&call.system.machine, call.vcpu());
    Next::Reload
}

fn breakpoint<M: Machine>(
    call: &Call<'_, '_, M>,
    flags: u64,
    (address, rest): (u64, u64),
) -> Result<Next, Status> {
    let machine = &call.system.machine;
    if flags != 0 {
        return Err(Status::UnsupportedFlag);
    }
    if !machine.has(GuestRegister::Ciabr) {
        return Err(Status::P2);
    }
    if address & CIABR_HYPERVISOR == CIABR_HYPERVISOR {
        return Err(Status::P3);
    }
    if rest != 0 {
        return Err(Status::P4);
    }
    machine.set(GuestRegister::Ciabr, address);
    Ok(Next::Resume)
}

fn watchpoint<M: Machine>(
    call: &Call<'_, '_, M>,
    flags: u64,
    (address, what): (u64, u64),
    [at, extension]: [GuestRegister; 2],
) -> Result<Next, Status> {
    let machine = &call.system.machine;
    if flags != 0 {
        return Err(Status::UnsupportedFlag);
    }
    if !machine.has(at) {
        return Err(Status::P2);
    }
    if what & DAWRX_HYPERVISOR != 0 {
        return Err(Status::P4);
    }
    machine.set(at, address);
    machine.set(extension, what);
    Ok(Next::Resume)
}

/// H_SET_SPRG0.
#[inline(never)]
pub(super) fn set_sprg0<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let machine = &call.system.machine;
    machine.set(GuestRegister::Sprg0, call.argument(0));
    Status::Success
}

/// H_SET_DABR: for privileged and problem state.
#[inline(never)]
pub(super) fn set_dabr<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    watch(&call.system.machine, call.argument(0), DABRX_STATES)
}

/// H_SET_XDABR.
#[inline(never)]
pub(super) fn set_xdabr<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    watch(&call.system.machine, call.argument(0), call.argument(1))
}

/// The watchpoint that does what a DABR and its extension say.
fn watch<M: Machine>(machine: &M, dabr: u64, extension: u64) -> Status {
    if extension & DABRX_STATES == 0 || extension & !(DABRX_STATES | DABRX_ANY_TRANSLATION) != 0 {
        return Status::Parameter;
    }
    if !machine.has(GuestRegister::Dawr0) {
        return Status::Hardware;
    }
    let what = (dabr & DABR_ACCESSES) << 5 | (dabr & DABR_TRANSLATION) << 2 | extension;
    machine.set(GuestRegister::Dawr0, dabr & !DABR_FLAGS);
    machine.set(GuestRegister::Dawrx0, what);
    Status::Success
}

/// H_REGISTER_PROC_TBL.
#[inline(never)]
pub(super) fn register_process_table<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    const HASH: u64 = process_table::MODIFY | process_table::REGISTER;
    if call.argument(0) & !HASH == 0 {
        Status::Success
    } else {
        Status::Parameter
    }
}

/// H_GET_CPU_CHARACTERISTICS.
#[inline(never)]
pub(super) fn characteristics<M: Machine, P: Platform>(
    call: &mut Call<'_, '_, M>,
    platform: &P,
) -> Status {
    let (characteristics, behaviour) = platform.cpu_characteristics();
    call.put(0, characteristics);
    call.put(1, behaviour);
    Status::Success
}
