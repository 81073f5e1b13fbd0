//! Hypercalls: [`hcall`] as it is, and typed calls over it.
//!
//! The ABI is [`crate::abi`]. A typed call gives its results or a [`Failure`] with everything the
//! hypervisor answered. Addresses given to the hypervisor are guest real addresses.

use core::{arch::asm, fmt};

use crate::abi::{self, Flags, OpenFlags, Privileges, ReadFlags, ReportKind, State, Status};

/// The registers r3 to r12.
pub type Registers = [u64; 10];

/// `sc 1` with r3 to r12 as given; they come back as the hypervisor left them.
///
/// Level 1 makes it a hypercall (ISA 3.0B Book II section 3.3.1). LoPAR 14.5.3 lets the hypervisor change r0,
/// r3 to r12, CTR, XER and CR; the rest is as before.
///
/// # Safety
/// What the call does to the partition's memory and translations must be sound: a buffer it fills must be
/// free to be written, and the program must stay mapped.
pub unsafe fn hcall(registers: &mut Registers) {
    let [r3, r4, r5, r6, r7, r8, r9, r10, r11, r12] = registers;
    // SAFETY: the clobbers are all that LoPAR lets change, and more; the caller vouches for the effect.
    unsafe {
        asm!(
            "sc 1",
            inout("r3") *r3, inout("r4") *r4, inout("r5") *r5, inout("r6") *r6, inout("r7") *r7,
            inout("r8") *r8, inout("r9") *r9, inout("r10") *r10, inout("r11") *r11, inout("r12") *r12,
            out("r0") _, out("ctr") _, out("xer") _,
            out("cr0") _, out("cr1") _, out("cr2") _, out("cr3") _,
            out("cr4") _, out("cr5") _, out("cr6") _, out("cr7") _,
        );
    }
}

/// A hypercall that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its token.
    pub call: u64,
    /// Its status, r3.
    pub status: u64,
    /// What it answered beside, r4 and r5.
    pub detail: [u64; 2],
}

impl Failure {
    /// Whether the status is this one.
    #[must_use]
    pub fn is(&self, status: Status) -> bool {
        self.status == status.raw()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hypercall {:#x}: ", self.call)?;
        match Status::from_raw(self.status) {
            Some(status) => write!(f, "{status:?}"),
            None => write!(f, "status {}", self.status.cast_signed()),
        }?;
        let [r4, r5] = self.detail;
        write!(f, " (r4 {r4:#x}, r5 {r5:#x})")
    }
}

/// A call with up to nine arguments; what it left in r4 to r12 if it succeeded.
///
/// # Safety
/// As [`hcall`].
unsafe fn call<const N: usize>(token: u64, arguments: [u64; N]) -> Result<[u64; 9], Failure> {
    let mut registers = [0; 10];
    let [status, values @ ..] = &mut registers;
    *status = token;
    for (register, argument) in values.iter_mut().zip(arguments) {
        *register = argument;
    }
    // SAFETY: the caller's.
    unsafe { hcall(&mut registers) };
    let [status, values @ ..] = registers;
    if status == Status::Success.raw() {
        return Ok(values);
    }
    let [r4, r5, ..] = values;
    Err(Failure {
        call: token,
        status,
        detail: [r4, r5],
    })
}

/// The two doublewords of an HPTE.
pub type Hpte = (u64, u64);

/// H_ENTER: gives the index the entry has got.
///
/// # Errors
/// H_PTEG_FULL, H_PARAMETER.
///
/// # Safety
/// The entry must not translate an address at which the program has references to other memory.
pub unsafe fn enter(flags: Flags, ptex: u64, (dw0, dw1): Hpte) -> Result<u64, Failure> {
    // SAFETY: the caller's.
    let [r4, ..] = unsafe { call(abi::H_ENTER, [flags.bits(), ptex, dw0, dw1]) }?;
    Ok(r4)
}

/// H_REMOVE: gives the entry as it was at last.
///
/// # Errors
/// H_NOT_FOUND, H_PARAMETER.
pub fn remove(flags: Flags, ptex: u64, avpn: u64) -> Result<Hpte, Failure> {
    // SAFETY: a translation less can end in a fault, which ends the program, and in nothing else.
    let [r4, r5, ..] = unsafe { call(abi::H_REMOVE, [flags.bits(), ptex, avpn]) }?;
    Ok((r4, r5))
}

/// H_PROTECT: pp0, pp, N and keys as `flags` has them.
///
/// # Errors
/// H_NOT_FOUND, H_PARAMETER.
pub fn protect(flags: Flags, ptex: u64, avpn: u64) -> Result<(), Failure> {
    // SAFETY: a translation that allows less can end in a fault and in nothing else; one that allows more
    // does what no reference of the program asks for.
    unsafe { call(abi::H_PROTECT, [flags.bits(), ptex, avpn]) }.map(drop)
}

/// H_READ of one entry.
///
/// # Errors
/// H_PARAMETER.
pub fn read(ptex: u64) -> Result<Hpte, Failure> {
    // SAFETY: only reads the table.
    let [r4, r5, ..] = unsafe { call(abi::H_READ, [0, ptex]) }?;
    Ok((r4, r5))
}

/// H_READ of the four entries of the half group that `ptex` is in.
///
/// # Errors
/// H_PARAMETER.
pub fn read_4(ptex: u64) -> Result<[Hpte; 4], Failure> {
    // SAFETY: only reads the table.
    let [a, b, c, d, e, f, g, h, _] = unsafe { call(abi::H_READ, [Flags::READ_4.bits(), ptex]) }?;
    Ok([(a, b), (c, d), (e, f), (g, h)])
}

/// H_BULK_REMOVE of up to four specifiers {tsh, tsl}, which come back with the hypervisor's answers.
///
/// # Errors
/// H_PARAMETER. The specifiers have the answers up to there.
pub fn bulk_remove(specifiers: &mut [(u64, u64); 4]) -> Result<(), Failure> {
    let [(a, b), (c, d), (e, f), (g, h)] = *specifiers;
    let mut registers = [abi::H_BULK_REMOVE, a, b, c, d, e, f, g, h, 0];
    // SAFETY: as H_REMOVE.
    unsafe { hcall(&mut registers) };
    let [status, a, b, c, d, e, f, g, h, _] = registers;
    *specifiers = [(a, b), (c, d), (e, f), (g, h)];
    if status == Status::Success.raw() {
        return Ok(());
    }
    Err(Failure {
        call: abi::H_BULK_REMOVE,
        status,
        detail: [a, b],
    })
}

/// H_BLOCK_REMOVE of up to eight specifiers, which come back with the hypervisor's answers; `avpn` is for those that
/// ask for it.
///
/// # Errors
/// H_PARTIAL: not all were removed. H_PARAMETER: none was, the specifiers are as they were.
pub fn block_remove(avpn: u64, specifiers: &mut [u64; 8]) -> Result<(), Failure> {
    let [a, b, c, d, e, f, g, h] = *specifiers;
    let mut registers = [abi::H_BLOCK_REMOVE, avpn, a, b, c, d, e, f, g, h];
    // SAFETY: as H_REMOVE.
    unsafe { hcall(&mut registers) };
    let [status, answers @ .., _] = registers;
    if status != Status::Parameter.raw() {
        *specifiers = answers;
    }
    if status == Status::Success.raw() {
        return Ok(());
    }
    let [a, b, ..] = answers;
    Err(Failure {
        call: abi::H_BLOCK_REMOVE,
        status,
        detail: [a, b],
    })
}

/// H_CLEAR_REF: gives dword 1 as it was before.
///
/// # Errors
/// H_NOT_FOUND, H_PARAMETER.
pub fn clear_ref(ptex: u64) -> Result<u64, Failure> {
    // SAFETY: changes R of an entry and nothing else.
    let [r4, ..] = unsafe { call(abi::H_CLEAR_REF, [0, ptex]) }?;
    Ok(r4)
}

/// H_CLEAR_MOD: gives dword 1 as it was before.
///
/// # Errors
/// H_NOT_FOUND, H_PARAMETER.
pub fn clear_mod(ptex: u64) -> Result<u64, Failure> {
    // SAFETY: changes C of an entry and nothing else.
    let [r4, ..] = unsafe { call(abi::H_CLEAR_MOD, [0, ptex]) }?;
    Ok(r4)
}

/// H_PAGE_INIT of the 4K page at guest real `destination`.
///
/// # Errors
/// H_PARAMETER.
///
/// # Safety
/// The page must be free to be written.
pub unsafe fn page_init(flags: Flags, destination: u64, source: u64) -> Result<(), Failure> {
    let arguments = [flags.bits(), destination, source];
    // SAFETY: the caller's.
    unsafe { call(abi::H_PAGE_INIT, arguments) }.map(drop)
}

/// H_CLEAR_HPT, until it is done.
///
/// # Errors
/// None that a hypervisor that has the call would answer with.
///
/// # Safety
/// The program must go on without its translations: in real mode.
pub unsafe fn clear_hpt() -> Result<(), Failure> {
    // SAFETY: the caller's.
    until_done(|| unsafe { call(abi::H_CLEAR_HPT, []) })
}

/// H_RESIZE_HPT_PREPARE for a table of 2^`order` bytes; 0 cancels. It may have to be made again.
///
/// # Errors
/// H_LONG_BUSY: there is more to do. H_PARAMETER, H_RESOURCE, H_PTEG_FULL.
pub fn resize_hpt_prepare(order: u64) -> Result<(), Failure> {
    // SAFETY: the table is as it was.
    unsafe { call(abi::H_RESIZE_HPT_PREPARE, [0, order]) }.map(drop)
}

/// H_RESIZE_HPT_COMMIT of what was prepared: the table has this order, and its bolted entries.
///
/// # Errors
/// H_CLOSED, H_BUSY, H_PTEG_FULL.
///
/// # Safety
/// What the program is translated by must be bolted.
pub unsafe fn resize_hpt_commit(order: u64) -> Result<(), Failure> {
    // SAFETY: the caller's.
    unsafe { call(abi::H_RESIZE_HPT_COMMIT, [0, order]) }.map(drop)
}

/// H_CEDE alone. [`crate::cpu::cede`] makes sure that it comes back.
pub(crate) fn cede() {
    // A hypervisor that has nothing else to run answers at once; that is no failure.
    // SAFETY: no memory is involved.
    let _ = unsafe { call(abi::H_CEDE, []) };
}

/// H_PUT_TERM_CHAR: up to 16 bytes, as two doublewords. Whether they were taken.
pub(crate) fn put_term_char(length: u64, [first, second]: [u64; 2]) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(abi::H_PUT_TERM_CHAR, [0, length, first, second]) }.map(drop)
}

/// H_GET_TERM_CHAR: how many bytes, and up to 16 of them as two doublewords.
pub(crate) fn get_term_char() -> Result<(u64, [u64; 2]), Failure> {
    // SAFETY: no memory is involved.
    let [r4, r5, r6, ..] = unsafe { call(abi::H_GET_TERM_CHAR, [0]) }?;
    Ok((r4, [r5, r6]))
}

/// An open stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The handle.
    pub handle: u64,
    /// Order of the table.
    pub order: u64,
    /// Generation of the table.
    pub generation: u64,
}

/// H_HPT_OPEN.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER, H_RESOURCE, H_BUSY, H_TOO_BIG.
pub fn hpt_open(lpar: u64, flags: OpenFlags, start: u64) -> Result<Stream, Failure> {
    // SAFETY: no memory is involved.
    let [handle, order, generation, ..] =
        unsafe { call(abi::H_HPT_OPEN, [lpar, flags.bits(), start]) }?;
    Ok(Stream {
        handle,
        order,
        generation,
    })
}

/// A piece of a stream that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes.
    pub bytes: u64,
    /// The pass they belong to, from 1.
    pub pass: u64,
    /// What else was said.
    pub flags: ReadFlags,
    /// Slots with a change that this reader has not seen.
    pub pending: u64,
}

/// H_HPT_READ into guest real `buffer`.
///
/// # Errors
/// H_PARAMETER, H_CLOSED, H_BUSY.
///
/// # Safety
/// The buffer must be free to be written.
pub unsafe fn hpt_read(handle: u64, buffer: u64, length: u64) -> Result<Piece, Failure> {
    // SAFETY: the caller's.
    let [bytes, what, pending, ..] = unsafe { call(abi::H_HPT_READ, [handle, buffer, length]) }?;
    let flags = ReadFlags::from_bits_retain(what & 0xffff_ffff);
    Ok(Piece {
        bytes,
        pass: what >> 32,
        flags,
        pending,
    })
}

/// H_HPT_WRITE from guest real `buffer`: how many bytes were consumed.
///
/// # Errors
/// H_PARAMETER with the bytes consumed and the index of the first bad entry in `detail`; H_CLOSED, H_BUSY.
pub fn hpt_write(handle: u64, buffer: u64, length: u64) -> Result<u64, Failure> {
    // SAFETY: the buffer is only read. A partition cannot write its own table this way: it would have to
    // be stopped.
    let [consumed, ..] = unsafe { call(abi::H_HPT_WRITE, [handle, buffer, length]) }?;
    Ok(consumed)
}

/// H_HPT_CLOSE.
///
/// # Errors
/// H_PARTIAL: closed, but the stream that was written ended inside a record. H_PARAMETER.
pub fn hpt_close(handle: u64) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(abi::H_HPT_CLOSE, [handle]) }.map(drop)
}

/// What H_HPT_STAT says of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Version of the ABI.
    pub abi: u64,
    /// Order: the table has 2^order bytes.
    pub order: u64,
    /// Generation.
    pub generation: u64,
    /// Open readers.
    pub readers: u64,
    /// Open writers.
    pub writers: u64,
    /// Bytes the hypervisor keeps beside the HPT.
    pub beside: u64,
    /// Pending slots of all readers.
    pub pending: u64,
}

/// H_HPT_STAT.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER.
pub fn hpt_stat(lpar: u64) -> Result<Stat, Failure> {
    // SAFETY: no memory is involved.
    let [
        abi,
        order,
        generation,
        readers,
        writers,
        beside,
        pending,
        ..,
    ] = unsafe { call(abi::H_HPT_STAT, [lpar]) }?;
    Ok(Stat {
        abi,
        order,
        generation,
        readers,
        writers,
        beside,
        pending,
    })
}

/// What H_LPAR_QUERY says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its LPID.
    pub lpid: u64,
    /// Its state, a [`State`].
    pub state: u64,
    /// Bytes of its memory, from guest real 0.
    pub memory: u64,
    /// Order of its HPT.
    pub order: u64,
    /// What it may do.
    pub privileges: Privileges,
    /// Guest real address of the window it shares with the host.
    pub shared_base: u64,
    /// Bytes of the window; 0 if it has none.
    pub shared_size: u64,
    /// Code it ended with.
    pub exit_code: u64,
}

impl Partition {
    /// Whether the state is this one.
    #[must_use]
    pub fn is(&self, state: State) -> bool {
        self.state == state as u64
    }
}

/// H_VCPU_START: a vCPU of one's own partition.
///
/// # Errors
/// H_PARAMETER, H_BUSY.
///
/// # Safety
/// What stands at `entry` must be sound on a vCPU of its own.
pub unsafe fn vcpu_start(vcpu: u64, entry: u64, argument: u64) -> Result<(), Failure> {
    // SAFETY: the caller's.
    unsafe { call(abi::H_VCPU_START, [vcpu, entry, argument]) }.map(drop)
}

/// H_VCPU_STOP: does not return.
pub fn vcpu_stop() {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(abi::H_VCPU_STOP, []) };
}

/// H_PROD.
///
/// # Errors
/// H_PARAMETER if there is no such vCPU.
pub fn prod(vcpu: u64) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(abi::H_PROD, [vcpu]) }.map(drop)
}

/// H_CONFER: to a vCPU, or to all (all ones).
///
/// # Errors
/// H_PARAMETER if there is no such vCPU.
pub fn confer(vcpu: u64) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(abi::H_CONFER, [vcpu, 0]) }.map(drop)
}

/// H_LPAR_QUERY.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER.
pub fn lpar_query(lpar: u64) -> Result<Partition, Failure> {
    // SAFETY: no memory is involved.
    let [
        lpid,
        state,
        memory,
        order,
        privileges,
        shared_base,
        shared_size,
        exit_code,
        _,
    ] = unsafe { call(abi::H_LPAR_QUERY, [lpar]) }?;
    let privileges = Privileges::from_bits_retain(privileges);
    Ok(Partition {
        lpid,
        state,
        memory,
        order,
        privileges,
        shared_base,
        shared_size,
        exit_code,
    })
}

/// Makes a call again for as long as it answers H_CONTINUE.
fn until_done(mut attempt: impl FnMut() -> Result<[u64; 9], Failure>) -> Result<(), Failure> {
    loop {
        match attempt() {
            Err(failure) if failure.is(Status::Continue) => {}
            other => return other.map(drop),
        }
    }
}

/// H_LPAR_PAUSE, until it is done.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER, or the partition is in no state to be paused.
pub fn lpar_pause(lpar: u64) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    until_done(|| unsafe { call(abi::H_LPAR_PAUSE, [lpar]) })
}

/// H_LPAR_RESUME.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER, or the partition is not paused.
pub fn lpar_resume(lpar: u64) -> Result<(), Failure> {
    // SAFETY: no memory is involved.
    unsafe { call(abi::H_LPAR_RESUME, [lpar]) }.map(drop)
}

/// H_LPAR_RESET, until it is done.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER, H_BUSY.
pub fn lpar_reset(lpar: u64) -> Result<(), Failure> {
    // SAFETY: no memory of the caller's is involved: it runs, so it is not the one that is reset.
    until_done(|| unsafe { call(abi::H_LPAR_RESET, [lpar]) })
}

/// Where H_LPAR_START enters a partition if the boot manifest is to say.
pub const MANIFEST_ENTRY: u64 = u64::MAX;

/// H_LPAR_START at guest real `entry`, with `argument` in r3.
///
/// # Errors
/// H_AUTHORITY, H_PARAMETER, H_BUSY.
pub fn lpar_start(lpar: u64, entry: u64, argument: u64) -> Result<(), Failure> {
    // SAFETY: no memory of the caller's is involved.
    unsafe { call(abi::H_LPAR_START, [lpar, entry, argument]) }.map(drop)
}

/// H_LPAR_HCALL: an HPT hypercall for a partition that does not run. Ten doublewords at guest real `frame` are r3
/// to r12 as it would load them, and then as they come back.
///
/// # Errors
/// The call could not be made: H_AUTHORITY, H_PARAMETER, H_BUSY. How it went stands in the frame.
///
/// # Safety
/// The frame must be free to be written.
pub unsafe fn lpar_hcall(lpar: u64, frame: u64) -> Result<(), Failure> {
    // SAFETY: the caller's; the other partition's table is none of this program's translations.
    unsafe { call(abi::H_LPAR_HCALL, [lpar, frame]) }.map(drop)
}

/// H_LPAR_EXIT. Comes back only from a hypervisor that lacks it.
pub(crate) fn lpar_exit(code: u64) {
    // SAFETY: no memory is involved.
    let _ = unsafe { call(abi::H_LPAR_EXIT, [code]) };
}

/// H_REPORT of `length` bytes at guest real `text`.
pub(crate) fn report(kind: ReportKind, text: u64, length: u64, number: u64) -> Result<(), Failure> {
    // SAFETY: the text is only read.
    unsafe { call(abi::H_REPORT, [kind as u64, text, length, number]) }.map(drop)
}
