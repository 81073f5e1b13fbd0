//! The system calls, each a thin function; what fails is a [`Trouble`] with the call's name.

use core::arch::asm;
use core::fmt::{self, Write as _};
use core::mem::MaybeUninit;
use core::ptr;

use linux_raw_sys::general as linux;
use linux_raw_sys::general::{__NR_clock_gettime, __NR_clone, __NR_close, __NR_exit_group};
use linux_raw_sys::general::{__NR_ftruncate, __NR_munmap, __NR_pipe2, __NR_read};
use linux_raw_sys::general::{__NR_memfd_create, __NR_mmap, __NR_mprotect, __NR_mremap};
use linux_raw_sys::general::{__NR_rt_sigaction, __NR_sched_yield, __NR_wait4, __NR_write};

use crate::trouble::{Result, Trouble};

/// Exit status of a process that a fault ended.
pub(crate) const FAULTED: i32 = 77;

/// What may be done with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing.
    None,
    /// Read only.
    Read,
    /// Read and written.
    Write,
}

impl Access {
    fn bits(self) -> usize {
        let bits = match self {
            Self::None => linux::PROT_NONE,
            Self::Read => linux::PROT_READ,
            Self::Write => linux::PROT_READ | linux::PROT_WRITE,
        };
        size(bits)
    }
}

/// What a new mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Zeros of its own.
    Zeros,
    /// Zeros that children have too.
    Shared,
    /// A file from an offset on.
    File(File, usize),
}

/// An open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct File(usize);

/// A child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child(usize);

/// The kernel's numbers and flags, as it takes them.
const fn size(bits: u32) -> usize {
    bits as usize
}

/// One system call: number in r0, arguments from r3; CR0[SO] tells an error, whose number is then in r3.
///
/// # Safety
/// What the call does to the program's memory must be what the caller wants.
unsafe fn call(name: &'static str, number: u32, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let (result, failed): (usize, usize);
    // SAFETY: the registers that Linux's ABI gives a system call are named; the rest is the caller's.
    unsafe {
        asm!(
            "sc",
            "mfcr 0",
            "rlwinm 0, 0, 4, 31, 31",
            inlateout("r0") size(number) => failed,
            inlateout("r3") a => result,
            inlateout("r4") b => _,
            inlateout("r5") c => _,
            inlateout("r6") d => _,
            inlateout("r7") e => _,
            inlateout("r8") f => _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
            lateout("r12") _,
            lateout("ctr") _,
            lateout("xer") _,
            lateout("cr0") _,
            lateout("cr1") _,
            lateout("cr5") _,
            lateout("cr6") _,
            lateout("cr7") _,
        );
    }
    if failed == 0 {
        Ok(result)
    } else {
        Err(Trouble::Call {
            name,
            error: result,
        })
    }
}

/// Ends the process.
pub(crate) fn exit(status: i32) -> ! {
    let status = status.cast_unsigned();
    loop {
        // SAFETY: nothing comes after it.
        let _ = unsafe { call("exit_group", __NR_exit_group, [size(status), 0, 0, 0, 0, 0]) };
    }
}

/// Prints a line.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    let mut line = Line(heapless::String::new());
    // A line that is too long is cut.
    let _ = write!(line.0, "hptstress: {text}");
    let _ = line.0.push('\n');
    // Who does not listen cannot be told so.
    let _ = write(File(1), line.0.as_bytes());
}

/// A line in one piece: several processes print.
struct Line(heapless::String<256>);

/// Writes all of it.
pub(crate) fn write(file: File, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let arguments = [
            file.0,
            rest.as_ptr().expose_provenance(),
            rest.len(),
            0,
            0,
            0,
        ];
        // SAFETY: reads these bytes.
        let taken = unsafe { call("write", __NR_write, arguments) }?;
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(())
}

/// Reads until `bytes` is full.
pub(crate) fn read(file: File, bytes: &mut [u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let arguments = [
            file.0,
            rest.as_mut_ptr().expose_provenance(),
            rest.len(),
            0,
            0,
            0,
        ];
        // SAFETY: writes these bytes.
        let given = unsafe { call("read", __NR_read, arguments) }?;
        if given == 0 {
            return Err(Trouble::Other("a pipe ended early"));
        }
        rest = rest.get_mut(given..).unwrap_or_default();
    }
    Ok(())
}

/// A pipe: the end that is read, and the one that is written.
pub(crate) fn pipe() -> Result<(File, File)> {
    let mut ends = [0_u32; 2];
    let arguments = [ends.as_mut_ptr().expose_provenance(), 0, 0, 0, 0, 0];
    // SAFETY: writes the two numbers.
    unsafe { call("pipe2", __NR_pipe2, arguments) }?;
    let [read, write] = ends;
    Ok((File(size(read)), File(size(write))))
}

/// A file in memory of this size.
pub(crate) fn memory_file(bytes: usize) -> Result<File> {
    let name = c"pool".as_ptr().expose_provenance();
    // SAFETY: reads the name.
    let file = unsafe { call("memfd_create", __NR_memfd_create, [name, 0, 0, 0, 0, 0]) }?;
    // SAFETY: touches no memory of this program.
    unsafe { call("ftruncate", __NR_ftruncate, [file, bytes, 0, 0, 0, 0]) }?;
    Ok(File(file))
}

/// Closes a file.
pub(crate) fn close(file: File) -> Result<()> {
    // SAFETY: touches no memory of this program.
    unsafe { call("close", __NR_close, [file.0, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Maps memory at an address where nothing is, or anywhere, and says where.
pub(crate) fn map(at: Option<usize>, bytes: usize, source: Source) -> Result<usize> {
    let (kind, file, offset) = match source {
        Source::Zeros => (linux::MAP_PRIVATE | linux::MAP_ANONYMOUS, usize::MAX, 0),
        Source::Shared => (linux::MAP_SHARED | linux::MAP_ANONYMOUS, usize::MAX, 0),
        Source::File(file, offset) => (linux::MAP_SHARED, file.0, offset),
    };
    let fixed = at.map_or(0, |_| linux::MAP_FIXED_NOREPLACE);
    let arguments = [
        at.unwrap_or(0),
        bytes,
        Access::Write.bits(),
        size(kind | fixed),
        file,
        offset,
    ];
    // SAFETY: it is put where nothing is.
    unsafe { call("mmap", __NR_mmap, arguments) }
}

/// Unmaps memory.
///
/// # Safety
/// Nobody uses it.
pub(crate) unsafe fn unmap(at: usize, bytes: usize) -> Result<()> {
    // SAFETY: the caller's.
    unsafe { call("munmap", __NR_munmap, [at, bytes, 0, 0, 0, 0]) }.map(drop)
}

/// Changes what may be done with memory.
///
/// # Safety
/// Nobody uses it otherwise.
pub(crate) unsafe fn protect(at: usize, bytes: usize, access: Access) -> Result<()> {
    let arguments = [at, bytes, access.bits(), 0, 0, 0];
    // SAFETY: the caller's.
    unsafe { call("mprotect", __NR_mprotect, arguments) }.map(drop)
}

/// Moves memory to where nothing is.
///
/// # Safety
/// Nobody uses it at the old address, and nothing is at the new one.
pub(crate) unsafe fn relocate(from: usize, bytes: usize, to: usize) -> Result<()> {
    let how = size(linux::MREMAP_MAYMOVE | linux::MREMAP_FIXED);
    // SAFETY: the caller's.
    unsafe { call("mremap", __NR_mremap, [from, bytes, bytes, how, to, 0]) }.map(drop)
}

/// Has a child run `act`, and end with what that gives.
pub(crate) fn fork(act: impl FnOnce() -> i32) -> Result<Child> {
    let arguments = [size(linux::SIGCHLD), 0, 0, 0, 0, 0];
    // SAFETY: the child has a copy of everything, and no other thread was about to change any of it.
    let child = unsafe { call("clone", __NR_clone, arguments) }?;
    if child == 0 {
        exit(act());
    }
    Ok(Child(child))
}

/// Waits for a child to end: its exit status, or none if a signal ended it.
pub(crate) fn wait(child: Child) -> Result<Option<i32>> {
    let mut status = 0_i32;
    let arguments = [child.0, (&raw mut status).expose_provenance(), 0, 0, 0, 0];
    // SAFETY: writes the status.
    unsafe { call("wait4", __NR_wait4, arguments) }?;
    Ok((status & 0x7f == 0).then_some(status >> 8 & 0xff))
}

/// Lets others run.
pub(crate) fn give_way() {
    // SAFETY: touches no memory of this program.
    let _ = unsafe { call("sched_yield", __NR_sched_yield, [0; 6]) };
}

/// Seconds of a clock that only goes on.
pub(crate) fn seconds() -> u64 {
    let mut time = MaybeUninit::<linux::__kernel_timespec>::zeroed();
    let arguments = [
        size(linux::CLOCK_MONOTONIC),
        time.as_mut_ptr().expose_provenance(),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: writes the time.
    let _ = unsafe { call("clock_gettime", __NR_clock_gettime, arguments) };
    // SAFETY: zeros are a time too.
    let time = unsafe { time.assume_init() };
    time.tv_sec.cast_unsigned()
}

/// Has a fault end this process with [`FAULTED`], which the kernel has nothing to say about in its log.
pub(crate) fn end_on_fault() -> Result<()> {
    unsafe extern "C" fn faulted(_signal: i32) {
        exit(FAULTED);
    }
    // SAFETY: no handler, no flags, nothing masked.
    let mut action: linux::kernel_sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_handler_kernel = Some(faulted);
    let set = size_of_val(&action.sa_mask);
    for signal in [linux::SIGSEGV, linux::SIGBUS] {
        let arguments = [
            size(signal),
            ptr::from_ref(&action).expose_provenance(),
            0,
            set,
            0,
            0,
        ];
        // SAFETY: reads the action; the handler never returns, so nothing has to restore anything.
        unsafe { call("rt_sigaction", __NR_rt_sigaction, arguments) }?;
    }
    Ok(())
}
