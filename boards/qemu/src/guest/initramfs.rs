//! The initial RAM disk that Linux gets if no other is given: busybox, which is the first process too, our stress program,
//! and the scripts that leave the console to a shell. A cpio archive in the format `newc`, not compressed: it is never
//! stored.

use std::io::{Cursor, Write as _};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType, trailer};

/// What the first process does: this script, then a session on the console, which the leading `-` makes the terminal that
/// controls it.
const INITTAB: &[u8] = b"::sysinit:/etc/rc\nhvc0::respawn:-/etc/session\n";
/// Makes the system usable.
const RC: &[u8] = include_bytes!("../../../linux/rc");
/// A shell whose end is the system's.
const SESSION: &[u8] = b"#!/bin/sh\nHOME=/root PS1='# ' sh\npoweroff -f\n";

/// What is in the archive.
enum Node<'a> {
    Directory,
    /// A file, which may be run.
    Program(&'a [u8]),
    /// A link.
    Link(&'a str),
    /// A character device.
    Device(u32, u32),
}

/// The archive with these two programs.
///
/// # Errors
/// If a program is larger than an archive can hold.
pub fn build(busybox: &[u8], stress: &[u8]) -> Result<Vec<u8>> {
    // The kernel opens the console for the first process before that can make anything; busybox makes the other links.
    let nodes = [
        ("bin", Node::Directory),
        ("dev", Node::Directory),
        ("etc", Node::Directory),
        ("proc", Node::Directory),
        ("root", Node::Directory),
        ("sys", Node::Directory),
        ("tmp", Node::Directory),
        ("dev/console", Node::Device(5, 1)),
        ("bin/busybox", Node::Program(busybox)),
        ("bin/sh", Node::Link("busybox")),
        ("bin/hptstress", Node::Program(stress)),
        ("etc/inittab", Node::Program(INITTAB)),
        ("etc/rc", Node::Program(RC)),
        ("etc/session", Node::Program(SESSION)),
        ("init", Node::Link("bin/busybox")),
    ];
    let mut archive = Cursor::new(Vec::new());
    for (number, (name, node)) in (1..).zip(nodes) {
        let entry = Builder::new(name).ino(number).mode(0o755);
        let (entry, data) = match node {
            Node::Directory => (entry.set_mode_file_type(ModeFileType::Directory), &[][..]),
            Node::Program(data) => (entry.set_mode_file_type(ModeFileType::Regular), data),
            Node::Link(target) => (
                entry.set_mode_file_type(ModeFileType::Symlink),
                target.as_bytes(),
            ),
            Node::Device(major, minor) => (
                entry
                    .set_mode_file_type(ModeFileType::Char)
                    .rdev_major(major)
                    .rdev_minor(minor),
                &[][..],
            ),
        };
        let size = u32::try_from(data.len()).with_context(|| format!("{name} is too large"))?;
        let mut entry = entry.write(archive, size);
        entry.write_all(data)?;
        archive = entry.finish()?;
    }
    Ok(trailer(archive)?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Names, modes and contents, by a decoder that has nothing of the crate's: the format's fields are hexadecimal
    /// digits at fixed places, and names and contents are padded to four bytes.
    fn decode(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut nodes = Vec::new();
        let mut rest = archive;
        loop {
            assert_eq!(rest.get(..6), Some(b"070701".as_slice()));
            let field = |number: usize| {
                let digits = rest.get(6 + 8 * number..14 + 8 * number).expect("a field");
                u32::from_str_radix(str::from_utf8(digits).expect("text"), 16).expect("a number")
            };
            let (mode, size, length) = (field(1), field(6) as usize, field(11) as usize);
            let name = rest.get(110..110 + length - 1).expect("a name");
            let name = String::from_utf8(name.to_vec()).expect("text");
            let start = (110 + length).next_multiple_of(4);
            let data = rest.get(start..start + size).expect("contents").to_vec();
            if name == "TRAILER!!!" {
                return nodes;
            }
            nodes.push((name, mode, data));
            rest = rest
                .get((start + size).next_multiple_of(4)..)
                .expect("another");
        }
    }

    #[test]
    fn an_archive_reads_back() {
        let archive = build(b"busybox!!", b"stress").expect("an archive");
        let nodes = decode(&archive);
        let find = |name: &str| {
            let node = nodes.iter().find(|node| node.0 == name);
            node.map(|(_, mode, data)| (*mode, data.as_slice()))
        };
        assert_eq!(find("bin"), Some((0o040_755, [].as_slice())));
        assert_eq!(
            find("bin/busybox"),
            Some((0o100_755, b"busybox!!".as_slice()))
        );
        assert_eq!(
            find("bin/hptstress"),
            Some((0o100_755, b"stress".as_slice()))
        );
        assert_eq!(find("bin/sh"), Some((0o120_755, b"busybox".as_slice())));
        assert_eq!(find("dev/console"), Some((0o020_755, [].as_slice())));
        assert_eq!(find("init"), Some((0o120_755, b"bin/busybox".as_slice())));
        assert_eq!(find("etc/rc"), Some((0o100_755, RC)));
        assert_eq!(nodes.len(), 15);
    }

    #[test]
    fn the_scripts_are_scripts() {
        for script in [RC, SESSION] {
            let mut shell = Command::new("sh");
            let mut shell = shell
                .arg("-n")
                .stdin(Stdio::piped())
                .spawn()
                .expect("sh can be run");
            let mut input = shell.stdin.take().expect("a pipe");
            input.write_all(script).expect("sh reads");
            drop(input);
            assert!(shell.wait().expect("sh ends").success());
        }
    }
}
