//! H_REGISTER_VPA (LoPAR 14.11.3, Virtual Processor Areas): where a vCPU shares memory with the hypervisor.
//!
//! Any vCPU registers areas for any of its partition. Checked in this order: what is to be done, the vCPU, address and length
//! of the area, then what else is registered: H_RESOURCE for a log or a shadow without a VPA, and for the end of a
//! VPA beside one of them. All else is H_PARAMETER, address 0 included, as by KVM. The end of what is not registered is a
//! success.

use super::Call;
use super::abi::{Status, vpa};
use crate::addr::GuestReal;
use crate::arch::Machine;
use crate::lpar::vpa::Area;
use crate::table::bitmap::index;

#[inline(never)]
pub(super) fn register<M: Machine>(call: &Call<'_, '_, M>) -> Status {
    let (area, registers) = match call.argument(0) {
        vpa::REGISTER => (Area::Vpa, true),
        vpa::REGISTER_LOG => (Area::TraceLog, true),
        vpa::REGISTER_SHADOW => (Area::SlbShadow, true),
        vpa::DEREGISTER => (Area::Vpa, false),
        vpa::DEREGISTER_LOG => (Area::TraceLog, false),
        vpa::DEREGISTER_SHADOW => (Area::SlbShadow, false),
        _ => return Status::Parameter,
    };
    let vcpu = index(call.argument(1));
    if !call.caller.control().has(vcpu) {
        return Status::Parameter;
    }
    let machine = &call.system.machine;
    let result = call.caller.papr().with_areas(vcpu, |areas| {
        if registers {
            let regions = &call.caller.description().regions;
            areas.register(machine, regions, area, GuestReal::new(call.argument(2)))
        } else {
            areas.deregister(machine, area)
        }
    });
    result.map_or(Status::Parameter, Status::from)
}
