//! A machine's two lines, read to their ends in an order that says something.
//!
//! Invariant: what was written to the log before something was written to the console is told before it. So a partition's
//! end, which the log tells, is known before the firmware's last words come on the console. The other way round there is
//! no such order.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// Bytes of the log.
    Log(Vec<u8>),
    /// Bytes of the console.
    Console(Vec<u8>),
    /// One of the two has ended.
    Closed,
}

/// Reads both lines until they have ended, or until `tell` says that nobody listens.
pub(crate) fn read(
    mut log: impl Read + AsFd,
    mut console: impl Read + AsFd,
    mut tell: impl FnMut(Said) -> bool,
) {
    let (mut log_open, mut console_open) = (true, true);
    let mut listened_to = true;
    while listened_to && (log_open || console_open) {
        wait(log_open.then_some(&log), console_open.then_some(&console));
        let said = (console_open && is_ready(&console)).then(|| take(&mut console));
        // The log is looked at after the console was read, and told first.
        while listened_to && log_open && is_ready(&log) {
            let bytes = take(&mut log);
            log_open = !bytes.is_empty();
            listened_to = tell(if log_open {
                Said::Log(bytes)
            } else {
                Said::Closed
            });
        }
        if let Some(bytes) = said {
            console_open = !bytes.is_empty();
            listened_to &= tell(if console_open {
                Said::Console(bytes)
            } else {
                Said::Closed
            });
        }
    }
}

/// What a line has now; nothing if it has ended.
fn take(line: &mut impl Read) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let length = line.read(&mut buffer).unwrap_or(0);
    buffer.get(..length).unwrap_or_default().to_vec()
}

/// Waits until one of the lines has something, or has ended.
fn wait(log: Option<&impl AsFd>, console: Option<&impl AsFd>) {
    let log = log.map(|line| PollFd::new(line, PollFlags::IN));
    let console = console.map(|line| PollFd::new(line, PollFlags::IN));
    let mut lines: Vec<PollFd<'_>> = log.into_iter().chain(console).collect();
    // A signal may end it early; then it is waited for again.
    let _ = poll(&mut lines, None);
}

/// Whether a line has something, or has ended.
fn is_ready(line: &impl AsFd) -> bool {
    let mut lines = [PollFd::new(line, PollFlags::IN)];
    poll(&mut lines, Some(&Timespec::default())).is_ok_and(|ready| ready != 0)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write as _, pipe};
    use std::sync::mpsc::channel;
    use std::thread;

    use super::*;

    fn write(line: &mut PipeWriter, bytes: &[u8]) {
        line.write_all(bytes).expect("written");
    }

    #[test]
    fn the_log_is_told_before_what_the_console_said_later() {
        let (log, mut log_in) = pipe().expect("a pipe");
        let (console, mut console_in) = pipe().expect("a pipe");
        let (sender, told) = channel();
        let reader = thread::spawn(move || read(log, console, |said| sender.send(said).is_ok()));
        for number in 0..2000_u32 {
            write(&mut log_in, &number.to_be_bytes());
            write(&mut console_in, &number.to_be_bytes());
        }
        drop((log_in, console_in));
        let (mut log_length, mut console_length, mut closed) = (0, 0, 0);
        for said in told {
            match said {
                Said::Log(bytes) => log_length += bytes.len(),
                Said::Console(bytes) => console_length += bytes.len(),
                Said::Closed => closed += 1,
            }
            assert!(log_length >= console_length);
        }
        reader.join().expect("it ends");
        assert_eq!((log_length, console_length, closed), (8000, 8000, 2));
    }

    #[test]
    fn a_line_goes_on_when_the_other_has_ended() {
        let (log, log_in) = pipe().expect("a pipe");
        let (console, mut console_in) = pipe().expect("a pipe");
        drop(log_in);
        let (sender, told) = channel();
        let reader = thread::spawn(move || read(log, console, |said| sender.send(said).is_ok()));
        assert_eq!(told.recv(), Ok(Said::Closed));
        write(&mut console_in, b"login: ");
        assert_eq!(told.recv(), Ok(Said::Console(b"login: ".to_vec())));
        drop(told);
        write(&mut console_in, b"nobody listens");
        reader.join().expect("it ends");
    }
}
