//! A machine with partitions, and calls to it as guests make them.

use std::sync::Mutex;
use std::time::Duration;

use super::stream::{self, Header, Image, Record};
use realhpt::addr::{GuestReal, HostReal, Lpid};
use realhpt::arch::Machine;
use realhpt::arch::host::Recording;
use realhpt::hcall::abi::{self, ReadFlags, ReportKind, Status};
use realhpt::hcall::{Frame, Next, Platform, Seat, dispatch};
use realhpt::lpar::control::Start;
use realhpt::lpar::vcpu::Endian;
use realhpt::lpar::vcpus::Left;
use realhpt::lpar::{Partition, System};
use realhpt::sync::Ordering;
use realhpt::table::Format;
pub(crate) use realhpt_qemu::library::{
    AGENT, AGENT_MEMORY, BUFFER, BUFFER_SIZE, CLIENT, CLIENT_HOST, CLIENT_MEMORY, CLIENT_WINDOW,
    Spec, Store,
};

/// What a partition reported: kind, text, number.
pub(crate) type Report = (ReportKind, Vec<u8>, u64);

/// A board that keeps what is reported.
#[derive(Debug, Default)]
pub(crate) struct Board {
    pub(crate) reports: Mutex<Vec<Report>>,
    /// What all partitions wrote to their terminals.
    pub(crate) output: Mutex<Vec<u8>>,
    /// What the next read of a terminal brings.
    pub(crate) input: Mutex<Vec<u8>>,
    /// The time of day; none: there is no clock.
    pub(crate) clock: Mutex<Option<Duration>>,
}

impl Platform for Board {
    fn console_write(&self, _lpid: Lpid, bytes: &[u8]) -> bool {
        self.output.lock().unwrap().extend_from_slice(bytes);
        true
    }

    fn console_read(&self, _lpid: Lpid, bytes: &mut [u8; 16]) -> usize {
        let mut input = self.input.lock().unwrap();
        let count = input.len().min(bytes.len());
        bytes[..count].copy_from_slice(&input[..count]);
        input.drain(..count);
        count
    }

    fn time_of_day(&self) -> Option<Duration> {
        *self.clock.lock().unwrap()
    }

    fn report(&self, _lpid: Lpid, kind: ReportKind, text: &[u8], number: u64) {
        self.reports
            .lock()
            .unwrap()
            .push((kind, text.to_vec(), number));
    }
}

/// A machine with partitions.
#[derive(Debug)]
pub(crate) struct World<'s, M: Machine = Recording> {
    pub(crate) system: System<'s, M>,
    pub(crate) board: Board,
}

/// The answer to a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// r3.
    pub(crate) raw: u64,
    /// r4 to r12.
    pub(crate) out: [u64; 9],
    pub(crate) next: Next,
}

impl Answer {
    /// r3 as a status; it is one of those that exist.
    pub(crate) fn status(&self) -> Status {
        Status::from_raw(self.raw).unwrap_or_else(|| panic!("{:#x} is no status", self.raw))
    }

    /// The results of a call that went well.
    #[track_caller]
    pub(crate) fn ok(&self) -> [u64; 9] {
        assert_eq!(self.status(), Status::Success);
        self.out
    }
}

/// What registers hold that no argument is in, the first one of them: a call may neither use nor change them.
pub(crate) const JUNK: u64 = 0xa5a5_0000;

/// The answer to one H_HPT_READ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadAnswer {
    pub(crate) bytes: Vec<u8>,
    pub(crate) pass: u64,
    pub(crate) flags: ReadFlags,
    pub(crate) pending: u64,
}

/// A pass, or what was left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) records: Vec<Record>,
    pub(crate) clean: bool,
    /// Pending after the last read.
    pub(crate) pending: u64,
    /// Calls it took.
    pub(crate) calls: usize,
}

/// r3 to r12 of a call: junk where there is no argument.
fn registers(token: u64, arguments: &[u64]) -> [u64; 10] {
    let mut values = arguments.iter().copied().chain(JUNK..);
    std::array::from_fn(|number| {
        if number == 0 {
            token
        } else {
            values.next().unwrap()
        }
    })
}

/// A machine with the memory that partitions need behind theirs.
pub(crate) fn recording() -> Recording {
    Store::new(&[]).machine()
}

impl<'s> World<'s> {
    /// A machine with the store's partitions, none of them started.
    pub(crate) fn new(store: &'s Store, format: Format) -> Self {
        Self::on(store.machine(), store, format)
    }
}

impl World<'static> {
    /// The same with an agent and a client with a table of this order, in memory that is never given back: what
    /// hardware does late outlives every borrow.
    pub(crate) fn leaked(order: u32, format: Format) -> Self {
        Self::new(Box::leak(Box::new(Store::pair(order))), format)
    }

    /// Has hardware set R or C in an entry of the client's at the last moment: when the next invalidation or
    /// flush of a partition ends.
    pub(crate) fn late(&self, slot: u64, bits: u64) {
        let dword1 = &self.client().table().hpt()[2 * slot as usize + 1];
        self.system.machine.late(move || dword1.set_bits(bits));
    }
}

impl<'s, M: Machine> World<'s, M> {
    /// `machine` with the store's partitions, none of them started.
    pub(crate) fn on(machine: M, store: &'s Store, format: Format) -> Self {
        let system = store.system(machine, format).unwrap();
        Self {
            system,
            board: Board::default(),
        }
    }

    pub(crate) fn partition(&self, lpid: u16) -> &Partition<'s> {
        self.system.partition(Lpid::new(lpid)).unwrap()
    }

    /// The two doublewords of a slot of the client's, as hardware sees them.
    pub(crate) fn real(&self, slot: u64) -> (u64, u64) {
        let dwords = &self.client().table().hpt()[2 * slot as usize..][..2];
        (
            dwords[0].load(Ordering::Relaxed),
            dwords[1].load(Ordering::Relaxed),
        )
    }

    /// Has hardware set R or C in an entry of the client's.
    pub(crate) fn touch(&self, slot: u64, bits: u64) {
        self.client().table().hpt()[2 * slot as usize + 1].set_bits(bits);
    }

    /// The client's partition.
    pub(crate) fn client(&self) -> &Partition<'s> {
        self.partition(CLIENT)
    }

    /// A hypercall of a partition's.
    pub(crate) fn call(&self, lpid: u16, token: u64, arguments: &[u64]) -> Answer {
        self.call_from(lpid, false, token, arguments)
    }

    /// Starts a partition; its first vCPUs are given to the CPUs of the same numbers.
    pub(crate) fn start(&self, lpid: u16, vcpus: usize) {
        let partition = self.partition(lpid);
        let start = Start {
            entry: GuestReal::new(0x100),
            r3: 0,
            endian: Endian::Big,
        };
        partition.start(&self.system.machine, start).unwrap();
        let control = partition.control();
        for vcpu in 0..vcpus {
            if vcpu != 0 {
                control.start_vcpu(vcpu, start).unwrap();
            }
            assert!(control.dispatch(vcpu, vcpu).is_some());
        }
    }

    /// Ends a partition whose first vCPU alone is on a CPU, and starts it again.
    pub(crate) fn restart(&self, lpid: u16) {
        let partition = self.partition(lpid);
        self.system.halt(partition, 0);
        self.system.leave(partition, 0, Left::Preempted);
        while partition.reset(&self.system.machine, 0) == Err(Status::Continue) {}
        self.start(lpid, 1);
    }

    /// A hypercall of the vCPU of that number, on the CPU of the same number.
    pub(crate) fn call_of(&self, lpid: u16, vcpu: u32, token: u64, arguments: &[u64]) -> Answer {
        self.call_at(lpid, Seat { vcpu, cpu: vcpu }, false, token, arguments)
    }

    /// A hypercall, from problem state or not. Registers that hold no argument hold junk, and whatever the
    /// call is answered with they keep it unless the call has a result for them.
    pub(crate) fn call_from(
        &self,
        lpid: u16,
        problem_state: bool,
        token: u64,
        arguments: &[u64],
    ) -> Answer {
        self.call_at(lpid, Seat::default(), problem_state, token, arguments)
    }

    fn call_at(
        &self,
        lpid: u16,
        seat: Seat,
        problem_state: bool,
        token: u64,
        arguments: &[u64],
    ) -> Answer {
        let mut frame = Frame {
            regs: registers(token, arguments),
        };
        let caller = self.partition(lpid);
        let next = dispatch(
            &self.system,
            &self.board,
            caller,
            seat,
            problem_state,
            &mut frame,
        );
        let [raw, out @ ..] = frame.regs;
        Answer { raw, out, next }
    }

    /// A hypercall that the agent makes for a partition: its answer, or why it was not made.
    pub(crate) fn proxy(
        &self,
        target: u16,
        token: u64,
        arguments: &[u64],
    ) -> Result<Answer, Status> {
        let before = registers(token, arguments);
        self.put_registers(BUFFER, before);
        let made = self.call(AGENT, abi::H_LPAR_HCALL, &[u64::from(target), BUFFER]);
        assert_eq!(made.out[..3], [u64::from(target), BUFFER, JUNK]);
        assert_eq!(made.next, Next::Resume);
        let [raw, out @ ..] = self.registers(BUFFER);
        let next = made.next;
        match made.status() {
            Status::Success => Ok(Answer { raw, out, next }),
            refused => {
                assert_eq!(self.registers(BUFFER), before, "refused, and written");
                Err(refused)
            }
        }
    }

    /// Ten doublewords of the machine's memory.
    pub(crate) fn registers(&self, at: u64) -> [u64; 10] {
        let machine = &self.system.machine;
        std::array::from_fn(|number| machine.load(HostReal::new(at + 8 * number as u64)))
    }

    /// Puts ten doublewords into the machine's memory.
    pub(crate) fn put_registers(&self, at: u64, registers: [u64; 10]) {
        self.put(at, &registers.map(u64::to_be_bytes).concat());
    }

    /// Bytes of the machine's memory.
    pub(crate) fn bytes(&self, at: u64, length: u64) -> Vec<u8> {
        let dwords = (0..length.next_multiple_of(8)).step_by(8);
        let mut bytes: Vec<u8> = dwords
            .flat_map(|offset| {
                self.system
                    .machine
                    .load(HostReal::new(at + offset))
                    .to_be_bytes()
            })
            .collect();
        bytes.truncate(length as usize);
        bytes
    }

    /// Puts bytes into the machine's memory; the last doubleword is filled up.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        for (number, chunk) in bytes.chunks(8).enumerate() {
            let mut dword = [0xee; 8];
            dword[..chunk.len()].copy_from_slice(chunk);
            let at = HostReal::new(at + 8 * number as u64);
            self.system.machine.store(at, u64::from_be_bytes(dword));
        }
    }

    /// Opens a partition's table for the agent.
    pub(crate) fn open(&self, target: u16, flags: u64, start: u64) -> u64 {
        self.call(AGENT, abi::H_HPT_OPEN, &[u64::from(target), flags, start])
            .ok()[0]
    }

    pub(crate) fn close(&self, handle: u64) -> Status {
        self.call(AGENT, abi::H_HPT_CLOSE, &[handle]).status()
    }

    /// One read of the agent's into a buffer of `length` bytes. Nothing has been written beyond what is said
    /// to be there: looked at where the buffer is small.
    pub(crate) fn read(&self, handle: u64, length: u64) -> Result<ReadAnswer, Status> {
        const FILL: u8 = 0x5a;
        let around = if length <= 4096 { length + 64 } else { 0 };
        self.put(BUFFER, &vec![FILL; around as usize]);
        let answer = self.call(AGENT, abi::H_HPT_READ, &[handle, BUFFER, length]);
        if answer.status() != Status::Success {
            return Err(answer.status());
        }
        let [count, state, pending, ..] = answer.out;
        assert!(count <= length, "{count} bytes in a buffer of {length}");
        let mut bytes = self.bytes(BUFFER, around.max(count));
        let beyond = bytes.split_off(count as usize);
        assert!(
            beyond.iter().all(|&byte| byte == FILL),
            "written beyond {count} bytes"
        );
        let flags = ReadFlags::from_bits(state & 0xffff_ffff).unwrap();
        Ok(ReadAnswer {
            bytes,
            pass: state >> 32,
            flags,
            pending,
        })
    }

    /// Reads to the end of the pass with a buffer of `length` bytes.
    pub(crate) fn pass(&self, handle: u64, length: u64) -> Pass {
        let mut pass = Pass {
            records: Vec::new(),
            clean: false,
            pending: 0,
            calls: 0,
        };
        let mut idle = 0;
        loop {
            let read = self.read(handle, length).unwrap();
            pass.calls += 1;
            idle = if read.bytes.is_empty() { idle + 1 } else { 0 };
            assert!(idle < 10_000, "the reader does not get on");
            pass.records
                .extend(stream::decode(&read.bytes, Header::Big).unwrap());
            pass.pending = read.pending;
            if read.flags.contains(ReadFlags::END_OF_PASS) {
                pass.clean = read.flags.contains(ReadFlags::CLEAN);
                return pass;
            }
            assert!(!read.flags.contains(ReadFlags::CLEAN));
        }
    }

    /// A partition's whole table, read by a reader of its own. Every slot is said exactly once.
    pub(crate) fn image(&self, target: u16) -> Image {
        let handle = self.open(target, 0, 0);
        let pass = self.pass(handle, BUFFER_SIZE);
        assert_eq!(self.close(handle), Status::Success);
        let slots = self.partition(target).table().order().slots();
        let mut image = Image::new();
        let mut next = 0;
        for (slot, entry) in stream::said(&pass.records) {
            assert_eq!(slot, next, "each slot once, in order");
            assert!(slot < slots);
            image.extend(entry.map(|entry| (slot, entry)));
            next += 1;
        }
        assert_eq!(next, slots);
        image
    }

    /// One write of the agent's: status, bytes consumed, index of the first bad entry.
    pub(crate) fn write(&self, handle: u64, bytes: &[u8]) -> (Status, u64, u64) {
        assert!(bytes.len() as u64 <= BUFFER_SIZE);
        self.put(BUFFER, bytes);
        let answer = self.call(
            AGENT,
            abi::H_HPT_WRITE,
            &[handle, BUFFER, bytes.len() as u64],
        );
        (answer.status(), answer.out[0], answer.out[1])
    }

    /// Writes a whole stream, in as many calls as it takes, and closes it.
    pub(crate) fn restore(&self, target: u16, bytes: &[u8]) {
        let handle = self.open(target, abi::OpenFlags::WRITE.bits(), 0);
        let mut rest = bytes;
        let mut idle = 0;
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(BUFFER_SIZE as usize & !7)];
            let (status, consumed, bad) = self.write(handle, part);
            assert_eq!(
                (status, bad),
                (Status::Success, u64::MAX),
                "at {consumed} of {}",
                part.len()
            );
            idle = if consumed == 0 { idle + 1 } else { 0 };
            assert!(idle < 1000, "the writer does not get on");
            rest = &rest[consumed as usize..];
        }
        self.finish(handle);
    }

    /// Closes a writer whose last invalid run may still be under way.
    pub(crate) fn finish(&self, handle: u64) {
        assert_eq!(self.close(handle), Status::Success);
    }

    /// A control call for the client that may have to be made again.
    pub(crate) fn control(&self, token: u64, target: u16) -> Status {
        for _ in 0..100_000 {
            match self
                .call(AGENT, token, &[u64::from(target), abi::LPAR_SELF, 0])
                .status()
            {
                Status::Continue => {}
                status => return status,
            }
        }
        panic!("the call does not get on");
    }
}
