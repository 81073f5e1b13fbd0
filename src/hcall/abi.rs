//! The hypercall ABI: tokens, status codes, flag bits and the layout of what our own calls return.
//!
//! Linkage (LoPAR 14.5.3): `sc 1` with the token in r3 and arguments from r4; on return the status is in r3
//! and results stand from r4. Guests written in Rust use this module as it is; it has no dependency on the
//! rest of the engine.
//!
//! # Calls of our own
//!
//! They live in the range that PAPR leaves to implementations. `lpar` is a partition's LPID, or
//! [`LPAR_SELF`]. A call for another partition needs [`Privileges::CONTROL`], else H_AUTHORITY.
//!
//! | call | r4.. in | r4.. out |
//! |---|---|---|
//! | [`H_HPT_OPEN`] | lpar, [`OpenFlags`], start index | handle, order, generation |
//! | [`H_HPT_READ`] | handle, buffer, length | bytes, pass << 32 \| [`ReadFlags`], pending slots |
//! | [`H_HPT_WRITE`] | handle, buffer, length | bytes consumed, index of the first bad entry or all ones |
//! | [`H_HPT_CLOSE`] | handle | |
//! | [`H_HPT_STAT`] | lpar | ABI version, order, generation, open readers, open writers, bytes beside the HPT, pending slots of all readers |
//! | [`H_LPAR_QUERY`] | lpar | lpid, [`State`], memory size, order, [`Privileges`], shared base, shared size, exit code |
//! | [`H_LPAR_PAUSE`] | lpar | |
//! | [`H_LPAR_RESUME`] | lpar | |
//! | [`H_LPAR_HCALL`] | lpar, buffer | |
//! | [`H_LPAR_RESET`] | lpar | |
//! | [`H_LPAR_START`] | lpar, entry address, r3 at entry | |
//! | [`H_LPAR_EXIT`] | code | does not return |
//! | [`H_VCPU_START`] | vCPU, entry address, r3 at entry | |
//! | [`H_VCPU_STOP`] | | does not return |
//! | [`H_REPORT`] | [`ReportKind`], buffer, length, number | |
//!
//! * Buffers are guest real addresses, 8-byte aligned, wholly inside one region of the caller's memory:
//!   else H_PARAMETER and nothing happens. A read buffer has at least [`MIN_READ_BUFFER`] bytes.
//! * `H_HPT_READ` ends at the end of a pass at the latest; the next call begins the next pass. It may return
//!   with room left in the buffer, even with 0 bytes, and without [`ReadFlags::END_OF_PASS`]: the work of one
//!   call is bounded. Call again.
//! * `H_HPT_WRITE` applies whole headers and whole entries; a record may be longer than the buffer, the
//!   handle remembers the place. `consumed < length` with H_SUCCESS means: call again with the rest (work is
//!   bounded). A call that stops inside an invalid run counts the doubleword before the run as not consumed,
//!   so that there is something to call again with; `consumed` may be 0 then. With H_PARAMETER everything
//!   before `consumed` is applied and nothing after it; a call that is refused as a whole (a handle or a
//!   buffer that is not good, H_BUSY, H_CLOSED) gives 0 and all ones.
//! * `H_LPAR_PAUSE` and `H_LPAR_RESET` answer H_CONTINUE until they are done: call again.
//! * `H_HPT_WRITE` on, and `H_LPAR_RESET` of, a running partition is H_BUSY; so is `H_LPAR_PAUSE` of one that is
//!   being reset, and `H_LPAR_RESUME` while another vCPU's `H_LPAR_PAUSE` of it is at work.
//! * A partition that has ended, to be started anew by its board (system-reboot), is Halted until then; a pause does not hold
//!   it: whoever reads its table learns of the start by H_CLOSED.
//! * `H_LPAR_HCALL` makes an HPT hypercall for a partition that does not run. The buffer has ten doublewords, r3
//!   to r12 as the guest would load them; the same ten come back, the guest's status in the first. A token that
//!   is no HPT hypercall is answered there too, with H_FUNCTION. The call's own status says only whether the proxy
//!   could be made, and unless it is H_SUCCESS the buffer is as it was: H_BUSY while the partition runs, as it
//!   does for [`LPAR_SELF`].

use bitflags::bitflags;

/// Version of the calls of our own, in r4 of [`H_HPT_STAT`].
pub const ABI_VERSION: u64 = 1;

/// H_REMOVE (LoPAR 14.5.4.1.1).
pub const H_REMOVE: u64 = 0x04;
/// H_ENTER.
pub const H_ENTER: u64 = 0x08;
/// H_READ.
pub const H_READ: u64 = 0x0c;
/// H_CLEAR_MOD.
pub const H_CLEAR_MOD: u64 = 0x10;
/// H_CLEAR_REF.
pub const H_CLEAR_REF: u64 = 0x14;
/// H_PROTECT.
pub const H_PROTECT: u64 = 0x18;
/// H_BULK_REMOVE.
pub const H_BULK_REMOVE: u64 = 0x124;
/// H_BLOCK_REMOVE.
pub const H_BLOCK_REMOVE: u64 = 0x328;
/// H_PAGE_INIT.
pub const H_PAGE_INIT: u64 = 0x2c;
/// H_CLEAR_HPT: removes all entries but the VRMA's. H_CONTINUE: call again.
pub const H_CLEAR_HPT: u64 = 0x358;
/// H_RESIZE_HPT_PREPARE.
pub const H_RESIZE_HPT_PREPARE: u64 = 0x36c;
/// H_RESIZE_HPT_COMMIT.
pub const H_RESIZE_HPT_COMMIT: u64 = 0x370;
/// H_SET_SPRG0 (LoPAR 14.5.4.3): sets SPRG0 of the calling vCPU.
pub const H_SET_SPRG0: u64 = 0x24;
/// H_SET_DABR: a data breakpoint, as processors had it before DAWR.
pub const H_SET_DABR: u64 = 0x28;
/// H_SET_XDABR: the same with an extension that says for whom.
pub const H_SET_XDABR: u64 = 0x134;
/// H_SET_MODE: endianness and place of interrupts, break and watch points. See [`mode`].
pub const H_SET_MODE: u64 = 0x31c;
/// H_REGISTER_PROC_TBL: how the partition translates (ISA 3.0). See [`process_table`].
pub const H_REGISTER_PROC_TBL: u64 = 0x37c;
/// H_GET_CPU_CHARACTERISTICS: what is to be done against speculation. r4: characteristics, r5: behaviour.
pub const H_GET_CPU_CHARACTERISTICS: u64 = 0x1c8;
/// H_GET_TERM_CHAR.
pub const H_GET_TERM_CHAR: u64 = 0x54;
/// H_PUT_TERM_CHAR. H_BUSY: nothing was taken, the partition has written too much lately; call again.
pub const H_PUT_TERM_CHAR: u64 = 0x58;
/// H_CEDE: gives up the processor until there is something to do. May return early.
pub const H_CEDE: u64 = 0xe0;
/// H_CONFER: gives the rest of the slice to another vCPU, or to all.
pub const H_CONFER: u64 = 0xe4;
/// H_PROD: wakes a vCPU that ceded.
pub const H_PROD: u64 = 0xe8;

/// Opens a partition's HPT as a stream.
pub const H_HPT_OPEN: u64 = 0xf100;
/// Reads the next piece of the stream.
pub const H_HPT_READ: u64 = 0xf104;
/// Writes the next piece of the stream.
pub const H_HPT_WRITE: u64 = 0xf108;
/// Closes a stream. H_PARTIAL: closed, but a written stream ended inside a record.
pub const H_HPT_CLOSE: u64 = 0xf10c;
/// Says what a table is and what it costs.
pub const H_HPT_STAT: u64 = 0xf110;
/// Says what a partition is.
pub const H_LPAR_QUERY: u64 = 0xf120;
/// Takes every vCPU of a partition out of guest state and makes its R and C final.
pub const H_LPAR_PAUSE: u64 = 0xf124;
/// Lets a paused partition go on.
pub const H_LPAR_RESUME: u64 = 0xf128;
/// Makes an HPT hypercall for a partition that does not run.
pub const H_LPAR_HCALL: u64 = 0xf12c;
/// Empties a stopped, paused or halted partition's table; its vCPU starts anew.
pub const H_LPAR_RESET: u64 = 0xf130;
/// Starts a stopped partition.
pub const H_LPAR_START: u64 = 0xf134;
/// Ends the calling partition.
pub const H_LPAR_EXIT: u64 = 0xf138;
/// Reports a test case or a verdict to the hypervisor's log. Needs [`Privileges::REPORT`].
pub const H_REPORT: u64 = 0xf13c;

/// Starts another vCPU of the calling partition: what the RTAS call start-cpu is for.
pub const H_VCPU_START: u64 = 0xf140;
/// Takes the calling vCPU offline until it is started anew: what the RTAS call stop-self is for.
pub const H_VCPU_STOP: u64 = 0xf144;

/// Resources of [`H_SET_MODE`], r5, and what r4 may be for them.
pub mod mode {
    /// CIABR: r6 is its value.
    pub const CIABR: u64 = 1;
    /// DAWR0: r6 is its value, r7 that of DAWRX0.
    pub const DAWR0: u64 = 2;
    /// Where interrupts are taken while translation is on: r4 is the value of `LPCR[AIL]`, 0 or 3.
    pub const INTERRUPT_LOCATION: u64 = 3;
    /// Whether interrupts are taken little-endian: r4 is 0 or 1.
    pub const ENDIAN: u64 = 4;
    /// DAWR1 (ISA 3.1): as DAWR0.
    pub const DAWR1: u64 = 5;
}

/// Flags of [`H_REGISTER_PROC_TBL`], r4.
pub mod process_table {
    /// The registration changes.
    pub const MODIFY: u64 = 0x10;
    /// With `MODIFY`: there is a table; else there is none any more.
    pub const REGISTER: u64 = 0x08;
    /// A radix tree translates.
    pub const RADIX: u64 = 0x04;
    /// Segments are found in a table.
    pub const SEGMENT_TABLE: u64 = 0x02;
    /// The guest invalidates translations itself.
    pub const GTSE: u64 = 0x01;
}

/// What [`H_GET_CPU_CHARACTERISTICS`] says of what software has to do, r5.
pub mod behaviour {
    /// Security before speed.
    pub const FAVOUR_SECURITY: u64 = 1 << 63;
    /// The L1 data cache is to be flushed on the way to less privileged code.
    pub const L1D_FLUSH: u64 = 1 << 62;
    /// Checks of bounds need a barrier against speculation.
    pub const BOUNDS_BARRIER: u64 = 1 << 61;
}

/// H_REGISTER_VPA: what is shared with the hypervisor in memory. See [`vpa`].
pub const H_REGISTER_VPA: u64 = 0xdc;
/// H_EOI (LoPAR 14.5.4, Interrupt Support): ends the interrupt that r4, the XIRR of H_XIRR, names.
pub const H_EOI: u64 = 0x64;
/// H_CPPR: interrupts that are less favoured than r4 wait.
pub const H_CPPR: u64 = 0x68;
/// H_IPI: asks for an interprocessor interrupt of server r4 with priority r5.
pub const H_IPI: u64 = 0x6c;
/// H_IPOLL: XIRR and MFRR of server r4, in r4 and r5.
pub const H_IPOLL: u64 = 0x70;
/// H_XIRR: accepts an interrupt. r4: the CPPR that was, and the source.
pub const H_XIRR: u64 = 0x74;
/// H_XIRR_X: the same; r5: the time base.
pub const H_XIRR_X: u64 = 0x2fc;
/// H_RTAS: r4 is the guest real address of an argument buffer, 4-byte aligned. See [`rtas`].
pub const H_RTAS: u64 = 0xf000;

/// The unit address of a partition's one terminal. Programs that know of no device tree may name it 0.
pub const VTY: u64 = 0x7100_0000;
/// The number of its interrupt.
pub const VTY_INTERRUPT: u32 = 0x1001;

/// What [`H_REGISTER_VPA`] does, r4. r5: the vCPU; r6: the address of the area, for those that register one.
pub mod vpa {
    /// Registers the virtual processor area.
    pub const REGISTER: u64 = 1 << 45;
    /// Registers the dispatch trace log.
    pub const REGISTER_LOG: u64 = 2 << 45;
    /// Registers the SLB shadow buffer.
    pub const REGISTER_SHADOW: u64 = 3 << 45;
    /// The virtual processor area is not used any more.
    pub const DEREGISTER: u64 = 5 << 45;
    /// The dispatch trace log is not used any more.
    pub const DEREGISTER_LOG: u64 = 6 << 45;
    /// The SLB shadow buffer is not used any more.
    pub const DEREGISTER_SHADOW: u64 = 7 << 45;
}

/// RTAS (LoPAR chapter 7): its calls, which a partition's device tree names, and what they answer.
///
/// The argument buffer is of big-endian words, whatever the caller's endianness: the token, how many arguments there are and
/// how many results, the arguments, the results. The first result is the status.
pub mod rtas {
    /// Words of arguments and results together that a call may have.
    pub const MAX_WORDS: u32 = 16;

    /// Writes a character to the terminal: its code.
    pub const DISPLAY_CHARACTER: u32 = 0x2001;
    /// Ends the partition: two words about what may switch it on again.
    pub const POWER_OFF: u32 = 0x2003;
    /// Starts the partition anew.
    pub const SYSTEM_REBOOT: u32 = 0x2004;
    /// Whether a vCPU is stopped: its number. Results: [`CPU_STOPPED`] or [`CPU_RUNNING`].
    pub const QUERY_CPU_STOPPED_STATE: u32 = 0x2005;
    /// Starts a vCPU: its number, the address of its first instruction, r3 there.
    pub const START_CPU: u32 = 0x2006;
    /// Takes the calling vCPU offline. Does not return.
    pub const STOP_SELF: u32 = 0x2007;
    /// Results: year, month, day, hour, minute, second, nanosecond.
    pub const GET_TIME_OF_DAY: u32 = 0x2008;
    /// The same as arguments.
    pub const SET_TIME_OF_DAY: u32 = 0x2009;
    /// Routes an interrupt: its number, a server, a priority.
    pub const SET_XIVE: u32 = 0x200a;
    /// Where an interrupt goes: its number. Results: server, priority.
    pub const GET_XIVE: u32 = 0x200b;
    /// Switches an interrupt off: its number.
    pub const INT_OFF: u32 = 0x200c;
    /// Switches it on again, with the priority that it had.
    pub const INT_ON: u32 = 0x200d;

    /// Status: it is done.
    pub const SUCCESS: i32 = 0;
    /// Status: it cannot be done.
    pub const HARDWARE_ERROR: i32 = -1;
    /// Status: not now, call again.
    pub const BUSY: i32 = -2;
    /// Status: there is no such call, or not with such arguments.
    pub const PARAMETER_ERROR: i32 = -3;

    /// A vCPU is stopped.
    pub const CPU_STOPPED: u32 = 0;
    /// A vCPU runs.
    pub const CPU_RUNNING: u32 = 2;

    /// What a partition has ended with that wants to be started anew: "Reboot".
    pub const REBOOT: u64 = 0x5265_626f_6f74;
}

/// The calling partition itself, where a call takes an LPID.
pub const LPAR_SELF: u64 = u64::MAX;
/// The smallest buffer [`H_HPT_READ`] takes: a header and one entry.
pub const MIN_READ_BUFFER: u64 = 24;
/// Bytes of a record's header.
pub const RECORD_HEADER: u64 = 8;
/// Bytes of an entry.
pub const ENTRY: u64 = 16;

/// Status of a hypercall, as r3 holds it (LoPAR table of return codes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
#[allow(missing_docs, reason = "the names are LoPAR's")]
pub enum Status {
    Success = 0,
    Busy = 1,
    Closed = 2,
    NotAvailable = 3,
    Partial = 5,
    Continue = 18,
    LongBusyOrder1Msec = 9900,
    LongBusyOrder100Msec = 9902,
    Hardware = -1,
    Function = -2,
    Privilege = -3,
    Parameter = -4,
    PtegFull = -6,
    NotFound = -7,
    NoMem = -9,
    Authority = -10,
    Resource = -16,
    P2 = -55,
    P3 = -56,
    P4 = -57,
    TooBig = -64,
    UnsupportedFlag = -256,
}

impl Status {
    /// The status that r3 shows, if it is one of those this hypervisor gives.
    #[must_use]
    pub fn from_raw(raw: u64) -> Option<Self> {
        use Status::{
            Authority, Busy, Closed, Continue, Function, Hardware, LongBusyOrder1Msec,
            LongBusyOrder100Msec, NoMem, NotAvailable, NotFound, P2, P3, P4, Parameter, Partial,
            Privilege, PtegFull, Resource, Success, TooBig, UnsupportedFlag,
        };
        [
            Success,
            Busy,
            Closed,
            NotAvailable,
            Partial,
            Continue,
            LongBusyOrder1Msec,
            LongBusyOrder100Msec,
            Hardware,
            Function,
            Privilege,
            Parameter,
            PtegFull,
            NotFound,
            NoMem,
            Authority,
            Resource,
            P2,
            P3,
            P4,
            TooBig,
            UnsupportedFlag,
        ]
        .into_iter()
        .find(|status| status.raw() == raw)
    }

    /// The value in r3.
    #[must_use]
    pub const fn raw(self) -> u64 {
        (self as i64).cast_unsigned()
    }
}

/// What comes of a call whose errors are statuses.
impl From<Result<(), Self>> for Status {
    #[inline]
    fn from(result: Result<(), Self>) -> Self {
        result.err().unwrap_or(Self::Success)
    }
}

bitflags! {
    /// Flags of the HPT hcalls, r4.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u64 {
        /// H_ENTER: this very slot.
        const EXACT = 1 << 39;
        /// H_PAGE_INIT: what becomes of the page's memory, for a platform that takes back what is not used.
        const PAGE_STATE = 0xf << 32;
        /// H_READ: the four entries of the half group.
        const READ_4 = 1 << 37;
        /// Act only if dword 0 without its low seven bits equals the argument.
        const AVPN = 1 << 31;
        /// Act only if dword 0 and the argument have no bit in common.
        const ANDCOND = 1 << 30;
        /// H_ENTER, H_PAGE_INIT: instructions were stored past the data cache.
        const ICACHE_INVALIDATE = 1 << 23;
        /// H_ENTER, H_PAGE_INIT: instructions were stored as data.
        const ICACHE_SYNCHRONIZE = 1 << 22;
        /// Either of the two.
        const ICACHE = Self::ICACHE_INVALIDATE.bits() | Self::ICACHE_SYNCHRONIZE.bits();
        /// H_ENTER, H_PAGE_INIT: zero the page.
        const ZERO_PAGE = 1 << 15;
        /// H_PAGE_INIT: copy a page to it.
        const COPY_PAGE = 1 << 14;
        const _ = !0;
    }
}

bitflags! {
    /// Flags of [`H_HPT_OPEN`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u64 {
        /// Entries that are not bolted are shown as invalid.
        const BOLTED_ONLY = 1;
        /// Open for writing.
        const WRITE = 2;
    }

    /// What [`H_HPT_READ`] says beside the bytes: the low half of r5. The upper half is the number of the
    /// pass that the bytes belong to, from 1.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReadFlags: u64 {
        /// The pass is over. The next call begins the next one.
        const END_OF_PASS = 1;
        /// With `END_OF_PASS`: the pass had no record and nothing is pending.
        const CLEAN = 2;
    }

    /// What a partition may do beyond its own affairs.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Privileges: u64 {
        /// Streams and controls other partitions.
        const CONTROL = 1;
        /// Reports test cases and verdicts.
        const REPORT = 2;
    }
}

/// State of a partition, r5 of [`H_LPAR_QUERY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Never started, or reset.
    Stopped = 0,
    /// Runs, or waits for its turn.
    Running = 1,
    /// Taken out of guest state; can be resumed.
    Paused = 2,
    /// Ended itself, or could not go on. r11 of the query has the code.
    Halted = 3,
}

/// What [`H_REPORT`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ReportKind {
    /// `number` cases will be reported.
    Plan = 0,
    /// The case named by the buffer passed.
    Passed = 1,
    /// The case named by the buffer failed; `number` is a detail of the case's choice.
    Failed = 2,
    /// All is reported: the hypervisor counts, gives its verdict and powers the machine off.
    End = 3,
    /// A line for the log.
    Note = 4,
}
