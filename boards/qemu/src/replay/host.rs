//! The library on this host as what a replay drives: no instructions of POWER, but the same engine.
//!
//! Hypercalls go through `hcall::dispatch` as a guest's do, stream calls are the agent's. Hardware is played: an
//! access sets R and C in the real entry that translates its address.

use anyhow::{Context as _, Result, ensure};
use realhpt::addr::{HostReal, Lpid};
use realhpt::arch::Machine as _;
use realhpt::arch::host::Recording;
use realhpt::hcall::abi::{self, ReportKind, Status};
use realhpt::hcall::{self, Platform, Seat, dispatch};
use realhpt::lpar::{Partition, System};
use realhpt::sync::Ordering;
use realhpt::table::Format;

use super::access::{Address, C, R};
use super::{Access, Answer, Backend, Frame, Layout, Region};
use crate::library::{AGENT, BUFFER, BUFFER_SIZE, CLIENT, CLIENT_HOST, Spec, Store};

/// DSISR of an access that no entry translates.
const DSISR_NO_ENTRY: u64 = 0x4000_0000;
/// How often a call is made again that asks for it.
const AGAIN: usize = 100_000;

/// A board without anything.
#[derive(Debug)]
struct Nothing;

impl Platform for Nothing {
    fn console_write(&self, _lpid: Lpid, _bytes: &[u8]) -> bool {
        true
    }

    fn console_read(&self, _lpid: Lpid, _bytes: &mut [u8; 16]) -> usize {
        0
    }

    fn report(&self, _lpid: Lpid, _kind: ReportKind, _text: &[u8], _number: u64) {}
}

/// The largest table that is taken: its memory and what stands beside it are some 2 GiB.
const MAX_ORDER: u32 = 30;

/// Memory for an agent, and for a client as a layout says.
///
/// # Errors
/// A table that is too large for this host.
pub fn store(layout: &Layout) -> Result<Store> {
    ensure!(
        layout.order <= MAX_ORDER,
        "a table of order {} is more than the library is given memory for here",
        layout.order
    );
    let region = |&Region { guest, bytes, page }: &Region| {
        let host = guest.checked_add(CLIENT_HOST + page);
        let host = host.with_context(|| format!("memory at {guest:#x}"))?;
        Ok((guest, host, bytes))
    };
    let regions: Vec<_> = layout.regions.iter().map(region).collect::<Result<_>>()?;
    Ok(Store::new(&[
        Spec::agent(),
        Spec::client(layout.order)
            .resizable(layout.order)
            .with_regions(&regions),
    ]))
}

/// The library on this host.
#[derive(Debug)]
pub struct Host<'s> {
    system: System<'s, Recording>,
}

impl<'s> Host<'s> {
    /// The partitions of a store, in whose memory nothing was done yet.
    ///
    /// # Errors
    /// Partitions that cannot be.
    pub fn new(store: &'s Store, format: Format) -> Result<Self> {
        let system = store.system(store.machine(), format)?;
        Ok(Self { system })
    }

    fn partition(&self, lpid: u16) -> Result<&Partition<'s>> {
        let partition = self.system.partition(Lpid::new(lpid));
        partition.with_context(|| format!("there is no partition {lpid}"))
    }

    /// A hypercall of a partition's.
    pub(crate) fn call(&self, lpid: u16, regs: Frame) -> Result<Frame> {
        let mut frame = hcall::Frame { regs };
        let caller = self.partition(lpid)?;
        let seat = Seat::default();
        dispatch(&self.system, &Nothing, caller, seat, false, &mut frame);
        Ok(frame.regs)
    }

    /// A hypercall of the agent's: status and results.
    pub(crate) fn agent(&self, token: u64, arguments: [u64; 3]) -> Result<(i64, [u64; 3])> {
        let [a, b, c] = arguments;
        let [status, a, b, c, ..] = self.call(AGENT, [token, a, b, c, 0, 0, 0, 0, 0, 0])?;
        Ok((status.cast_signed(), [a, b, c]))
    }

    /// A call that controls the client, made until it is done.
    fn control(&self, token: u64) -> Result<i64> {
        for _ in 0..AGAIN {
            let (status, _) = self.agent(token, [u64::from(CLIENT), 0, 0])?;
            if status != Status::Continue as i64 {
                return Ok(status);
            }
        }
        anyhow::bail!("call {token:#x} does not get on");
    }

    /// Whether hardware finds a valid entry in this slot that translates the address.
    fn translates(&self, (slot, secondary): (u64, u64), address: Address) -> Result<bool> {
        let dword0 = self.client_dword(2 * slot)?;
        let [_, v, r, ..] = self.call(CLIENT, [abi::H_READ, 0, slot, 0, 0, 0, 0, 0, 0, 0])?;
        let valid = dword0.load(Ordering::Relaxed) & 1 != 0;
        Ok(valid && address.is_translated_by(secondary, v, r))
    }

    fn client_dword(&self, number: u64) -> Result<&realhpt::sync::BeDword> {
        let hpt = self.partition(CLIENT)?.table().hpt();
        hpt.get(usize::try_from(number)?)
            .context("a slot beyond the table")
    }
}

impl Backend for Host<'_> {
    fn hcalls(&mut self, frames: &mut [Frame]) -> Result<()> {
        for frame in frames {
            *frame = self.call(CLIENT, *frame)?;
        }
        Ok(())
    }

    fn access(&mut self, store: bool, ea: u64, slb_rs: u64, _slb_rb: u64) -> Result<Access> {
        let address = Address::new(ea, slb_rs);
        let slots = self.partition(CLIENT)?.table().order().slots();
        for place in address.slots(slots) {
            if self.translates(place, address)? {
                let bits = if store { R | C } else { R };
                self.client_dword(2 * place.0 + 1)?.set_bits(bits);
                return Ok(Access::Done);
            }
        }
        Ok(Access::Interrupted(DSISR_NO_ENTRY))
    }

    fn open(&mut self, flags: u64, start: u64) -> Result<(i64, u64)> {
        let (status, [handle, ..]) =
            self.agent(abi::H_HPT_OPEN, [u64::from(CLIENT), flags, start])?;
        Ok((status, handle))
    }

    fn read(&mut self, handle: u64, length: u64) -> Result<Answer> {
        ensure!(
            length <= BUFFER_SIZE,
            "a read into a buffer of {length} bytes"
        );
        let (status, [count, state, pending]) =
            self.agent(abi::H_HPT_READ, [handle, BUFFER, length])?;
        let count = if status == 0 { count } else { 0 };
        ensure!(count <= length, "{count} bytes in a buffer of {length}");
        let mut bytes: Vec<u8> = (0..count.next_multiple_of(8))
            .step_by(8)
            .flat_map(|offset| {
                let dword = self.system.machine.load(HostReal::new(BUFFER + offset));
                dword.to_be_bytes()
            })
            .collect();
        bytes.truncate(usize::try_from(count)?);
        Ok(Answer {
            status,
            bytes,
            state,
            pending,
        })
    }

    fn write(&mut self, handle: u64, bytes: &[u8]) -> Result<(i64, u64, u64)> {
        let length = u64::try_from(bytes.len())?;
        ensure!(length <= BUFFER_SIZE, "a write of {length} bytes");
        for (chunk, at) in bytes.chunks(8).zip((BUFFER..).step_by(8)) {
            let mut dword = [0; 8];
            for (to, from) in dword.iter_mut().zip(chunk) {
                *to = *from;
            }
            let value = u64::from_be_bytes(dword);
            self.system.machine.store(HostReal::new(at), value);
        }
        let (status, [consumed, bad, _]) =
            self.agent(abi::H_HPT_WRITE, [handle, BUFFER, length])?;
        Ok((status, consumed, bad))
    }

    fn close(&mut self, handle: u64) -> Result<i64> {
        Ok(self.agent(abi::H_HPT_CLOSE, [handle, 0, 0])?.0)
    }

    fn reset(&mut self) -> Result<i64> {
        self.control(abi::H_LPAR_RESET)
    }
}
