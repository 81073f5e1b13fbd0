//! The serial ports: the 16550s at LPC I/O port 0x3f8, which is the log's own, and at 0x2f8, the console, which the
//! firmware has too: it reads what comes in there, and what a guest prints is sent past it.
//!
//! POWER9 and POWER10 map the LPC bus's I/O space into real memory. POWER8 reaches it through a window of
//! registers behind XSCOM (the ECCB): a command word that says direction, size and address, a status word that
//! says when it is done. OPAL uses the same window for its console, so no CPU may be in OPAL meanwhile. Addresses are those of chip 0, the one that has the bus.

use realhpt::arch::powerpc64::{ci, relax};

use crate::machine::Generation;
use crate::opal;

/// First I/O port of the log's 16550.
const LOG: u64 = 0x3f8;
/// The same of the console's.
const CONSOLE: u64 = 0x2f8;
/// Bytes that a 16550 takes when it has nothing left to send.
pub(crate) const FIFO: usize = 16;
/// LPC I/O space on the OPB bus behind the bridge.
const OPB_IO: u64 = 0xd001_0000;
/// Where POWER9 and POWER10 map the OPB bus.
const MMIO: u64 = 0x0006_0300_0000_0000;
/// POWER8: XSCOM address of the ECCB's control register; status and data follow at 0x10 and 0x18.
const ECCB: u64 = 0x0003_fc00_00b0_0200;

/// Registers of a 16550 and their bits.
mod register {
    pub(super) const DATA: u64 = 0;
    pub(super) const INTERRUPT_ENABLE: u64 = 1;
    pub(super) const FIFO_CONTROL: u64 = 2;
    pub(super) const LINE_CONTROL: u64 = 3;
    pub(super) const LINE_STATUS: u64 = 5;

    pub(super) const FIFO_ON: u8 = 0x01;
    pub(super) const EIGHT_BITS: u8 = 0x03;
    pub(super) const DIVISOR_ACCESS: u8 = 0x80;
    pub(super) const TRANSMIT_EMPTY: u8 = 0x20;
    pub(super) const ALL_SENT: u8 = 0x40;
}

/// A port.
#[derive(Clone, Copy, Debug)]
pub struct Uart {
    generation: Generation,
    /// Its first I/O port.
    port: u64,
}

/// How often the line status is looked at: at least the time of thousands of bytes on the slowest machine.
const PATIENCE: u32 = 10_000_000;
/// The same where the bytes may be offered again: enough for a port whose other end takes them.
const SHORT_PATIENCE: u32 = 100;

impl Uart {
    /// The log's port of this machine, set to 115200 baud, eight bits, FIFO on, no interrupts.
    #[must_use]
    pub fn init(generation: Generation) -> Self {
        let uart = Self {
            generation,
            port: LOG,
        };
        uart.write(register::INTERRUPT_ENABLE, 0);
        uart.write(
            register::LINE_CONTROL,
            register::DIVISOR_ACCESS | register::EIGHT_BITS,
        );
        uart.write(register::DATA, 1);
        uart.write(register::INTERRUPT_ENABLE, 0);
        uart.write(register::LINE_CONTROL, register::EIGHT_BITS);
        uart.write(register::FIFO_CONTROL, register::FIFO_ON);
        uart
    }

    /// The console's port, as the firmware has set it, with the FIFO on.
    #[must_use]
    pub fn console(generation: Generation) -> Self {
        let uart = Self {
            generation,
            port: CONSOLE,
        };
        // Turning on what is on already loses nothing.
        uart.write(register::FIFO_CONTROL, register::FIFO_ON);
        uart
    }

    /// Sends the bytes.
    pub fn send(self, bytes: &[u8]) {
        for burst in bytes.chunks(FIFO) {
            // A port whose other end takes nothing loses what is sent.
            self.wait(register::TRANSMIT_EMPTY, PATIENCE);
            self.burst(burst);
        }
    }

    /// Sends at most 16 bytes, which the FIFO holds, if the port can take them now.
    #[must_use]
    pub fn offer(self, bytes: &[u8]) -> bool {
        let free = self.wait(register::TRANSMIT_EMPTY, SHORT_PATIENCE);
        if free {
            self.burst(bytes);
        }
        free
    }

    /// Waits until the last bit is on the line.
    pub fn flush(self) {
        self.wait(register::ALL_SENT, PATIENCE);
    }

    /// Waits for a bit of the line status, but not for ever. Whether it is there. (A port that does not exist reads as
    /// all ones.)
    fn wait(self, bit: u8, patience: u32) -> bool {
        for _ in 0..patience {
            if self.read(register::LINE_STATUS) & bit != 0 {
                return true;
            }
            relax();
        }
        false
    }

    /// Writes bytes into the FIFO, which has room for them.
    fn burst(self, bytes: &[u8]) {
        for &byte in bytes {
            self.write(register::DATA, byte);
        }
    }

    fn read(self, register: u64) -> u8 {
        if self.generation == Generation::Power8 {
            opal::alone(|| eccb(EccbCommand::Read, self.port + register, 0))
        } else {
            // SAFETY: a register of the 16550.
            unsafe { ci::load_u8(MMIO + OPB_IO + self.port + register) }
        }
    }

    fn write(self, register: u64, value: u8) {
        if self.generation == Generation::Power8 {
            opal::alone(|| eccb(EccbCommand::Write, self.port + register, value));
        } else {
            // SAFETY: a register of the 16550.
            unsafe { ci::store_u8(MMIO + OPB_IO + self.port + register, value) }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EccbCommand {
    Read,
    Write,
}

/// One access of POWER8's ECCB. A write puts its byte into the data register's first byte lane before the
/// command; a read finds it in the status register, whose upper bits are the data. The command is a magic
/// number, the direction, the length (1) and the OPB address.
fn eccb(command: EccbCommand, port: u64, value: u8) -> u8 {
    const MAGIC: u64 = 0xd000_0000_0000_0000;
    const READ: u64 = 1 << 48;
    const ONE_BYTE: u64 = 1 << 56;
    const DONE: u64 = 1 << 11;

    let direction = if command == EccbCommand::Read {
        READ
    } else {
        0
    };
    if command == EccbCommand::Write {
        // SAFETY: the ECCB's data register.
        unsafe { ci::store_u64(ECCB + 0x18, u64::from(value) << 56) };
    }
    // SAFETY: the ECCB's control register, with a whole command.
    unsafe { ci::store_u64(ECCB, MAGIC | ONE_BYTE | direction | (OPB_IO + port)) };
    loop {
        // SAFETY: the ECCB's status register.
        let status = unsafe { ci::load_u64(ECCB + 0x10) };
        if status & DONE != 0 {
            // Bits 6 to 37 are the data's four byte lanes; the byte is in the first.
            let [.., byte] = ((status >> 26 & 0xffff_ffff) >> 24).to_be_bytes();
            return byte;
        }
        relax();
    }
}
