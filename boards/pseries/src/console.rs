//! The partition's terminal: [`print!`](crate::print), [`println!`](crate::println) and [`read`].
//!
//! H_PUT_TERM_CHAR takes 16 bytes a call, so a [`Console`] gathers what the formatter brings in pieces. Lines
//! end with CR LF, as a terminal wants.

use core::fmt;

use crate::{abi::Status, hcall};

/// Bytes of one H_PUT_TERM_CHAR.
const CALL: usize = 16;

/// A writer to the terminal. What it has gathered goes out at the end of a line and when it is dropped.
#[derive(Debug, Default)]
pub struct Console {
    gathered: heapless::Vec<u8, CALL>,
}

impl Console {
    /// A console with nothing gathered.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gathered: heapless::Vec::new(),
        }
    }

    fn byte(&mut self, byte: u8) {
        // There is room: a full buffer goes out below.
        let _ = self.gathered.push(byte);
        if self.gathered.is_full() || byte == b'\n' {
            self.flush();
        }
    }

    /// Brings out what is gathered.
    pub fn flush(&mut self) {
        let mut bytes = [0; CALL];
        for (to, from) in bytes.iter_mut().zip(&self.gathered) {
            *to = *from;
        }
        let doublewords = halves(u128::from_be_bytes(bytes));
        let length = self.gathered.len() as u64;
        // A full terminal takes bytes later; any other answer means that there is none.
        while length > 0
            && hcall::put_term_char(length, doublewords)
                .is_err_and(|failure| failure.is(Status::Busy))
        {}
        self.gathered.clear();
    }
}

/// The two doublewords of sixteen bytes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the halves are cut out on purpose"
)]
const fn halves(value: u128) -> [u64; 2] {
    [(value >> 64) as u64, value as u64]
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The bytes that were typed, up to 16 of them; empty if there are none or there is no terminal.
#[must_use]
pub fn read() -> heapless::Vec<u8, CALL> {
    let mut bytes = heapless::Vec::new();
    if let Ok((length, [first, second])) = hcall::get_term_char() {
        let all = first.to_be_bytes().into_iter().chain(second.to_be_bytes());
        bytes.extend(all.zip(0..length).map(|(byte, _)| byte));
    }
    bytes
}

/// Prints to the partition's terminal.
#[macro_export]
macro_rules! print {
    ($($text:tt)*) => {{
        use ::core::fmt::Write as _;
        // Writing to a Console does not fail.
        let _ = ::core::write!($crate::console::Console::new(), $($text)*);
    }};
}

/// Prints a line to the partition's terminal.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {{
        use ::core::fmt::Write as _;
        // Writing to a Console does not fail.
        let _ = ::core::writeln!($crate::console::Console::new(), $($text)*);
    }};
}
