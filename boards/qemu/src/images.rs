//! Builds what runs on the machine, and makes flat guests of ELF files.
//!
//! The images are built by a cargo of their own, for the target, with `core` from source, into a target
//! directory of their own: the cargo that started this program may still hold the lock on its one. What Linux runs
//! in its partition is built the same way for another target, one that rustc knows.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use object::elf::PT_LOAD;
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use crate::terminal::Terminal;
use crate::workspace;

/// The file stem of the target's description in `linker/`.
///
/// Its arguments to LLVM are for loops that are gone through once or twice, as those over the entries of a record are: no
/// padding before them, which is executed each time, and no addresses that are moved on before a load, which takes copies of
/// them where a load is looked at twice.
const TARGET: &str = "powerpc64-hv-none";
/// The target of programs for Linux; the linker for it stands in `.cargo/config.toml`.
const LINUX_TARGET: &str = "powerpc64le-unknown-linux-gnu";
/// The most a flat guest may take: far above any of ours, far below what a wrong address asks for.
const LARGEST_GUEST: u64 = 64 << 20;

/// Package of the bootable image, and the name of its binary.
pub const HYPERVISOR: &str = "realhpt-powernv";
/// The binary of the same package that accounts for what exits cost.
pub const ACCOUNTING_HYPERVISOR: &str = "realhpt-account";
/// Package of the guests.
pub const GUESTS: &str = "realhpt-pseries";
/// Package of what Linux runs.
pub const LINUX_PROGRAMS: &str = "realhpt-linux";

/// Builds packages for the target; their binaries are then found by [`Images::path`].
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
}

impl Images {
    /// Builds `packages`. Nothing is printed unless it fails; a spinner shows if it takes long.
    ///
    /// # Errors
    /// If cargo fails; the message is what it printed.
    pub fn build(terminal: &Terminal, packages: &[&str]) -> Result<Self> {
        let description = workspace()
            .join("linker")
            .join(TARGET)
            .with_extension("json");
        let target = [
            "-Zjson-target-spec".into(),
            "--target".into(),
            description.into_os_string(),
        ];
        Self::build_for(terminal, packages, TARGET, &target)
    }

    /// The same for programs that Linux runs.
    ///
    /// # Errors
    /// As for [`Self::build`].
    pub fn build_for_linux(terminal: &Terminal, packages: &[&str]) -> Result<Self> {
        let target = ["--target".into(), LINUX_TARGET.into()];
        Self::build_for(terminal, packages, LINUX_TARGET, &target)
    }

    /// Builds for the target that is named so, and that `target` tells cargo.
    fn build_for(
        terminal: &Terminal,
        packages: &[&str],
        name: &str,
        target: &[OsString],
    ) -> Result<Self> {
        let base = match env::var_os("CARGO_TARGET_DIR") {
            Some(path) => workspace().join(path),
            None => workspace().join("target"),
        };
        let target_directory = base.join("hv");
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command
            .args(["build", "--quiet", "--release"])
            .args([
                "-Zbuild-std=core,alloc",
                "-Zbuild-std-features=compiler-builtins-mem",
            ])
            .args(target)
            .arg("--target-dir")
            .arg(&target_directory)
            .args(packages.iter().flat_map(|package| ["--package", package]))
            .current_dir(workspace());
        for name in env::vars_os()
            .map(|(name, _)| name)
            .filter(|name| is_of_the_outer_build(&name.to_string_lossy()))
        {
            command.env_remove(name);
        }
        // Building core, and targets described by a file, are not stable yet; stable rustc does them when told.
        command.env("RUSTC_BOOTSTRAP", "1");
        let bar = terminal.spinner("Building", &packages.join(", "));
        let output = command.output().context("cannot run cargo")?;
        drop(bar);
        if !output.status.success() {
            bail!(
                "cannot build {}:\n{}",
                packages.join(", "),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(Self {
            directory: target_directory.join(name).join("release"),
        })
    }

    /// The ELF file of a binary.
    #[must_use]
    pub fn path(&self, binary: &str) -> PathBuf {
        self.directory.join(binary)
    }

    /// A guest, ready to be put into a partition's memory.
    ///
    /// # Errors
    /// If the file is not an ELF file that can be flattened.
    pub fn guest(&self, binary: &str) -> Result<Guest> {
        Guest::read(&self.path(binary))
    }
}

/// Settings of the cargo that runs this program, or of a test run, that must not reach the target's build:
/// flags and tools for the host, and what cargo tells the programs that it starts.
fn is_of_the_outer_build(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_INCREMENTAL",
        "MAKEFLAGS",
        "LD_LIBRARY_PATH",
    ];
    const PREFIXES: [&str; 6] = [
        "CARGO_ENCODED_",
        "CARGO_BUILD_",
        "CARGO_PKG_",
        "CARGO_MANIFEST_",
        "CARGO_PROFILE_",
        "CARGO_MAKE",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// A guest's memory from guest real address 0, and where it begins.
#[derive(Clone, Debug)]
pub struct Guest {
    /// The bytes from address 0; what is above is zero.
    pub flat: Vec<u8>,
    /// Guest real address of the first instruction.
    pub entry: u64,
}

impl Guest {
    /// Flattens the ELF file at `path`: its loaded segments at their physical addresses.
    ///
    /// # Errors
    /// If it is no big-endian 64-bit ELF file, or asks for memory far from address 0.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::flatten(&bytes).with_context(|| format!("{} is no image of a guest", path.display()))
    }

    fn flatten(elf: &[u8]) -> Result<Self> {
        let header = object::elf::FileHeader64::<object::BigEndian>::parse(elf)?;
        let endian = header.endian()?;
        let mut flat = Vec::new();
        for segment in header
            .program_headers(endian, elf)?
            .iter()
            .filter(|segment| segment.p_type(endian) == PT_LOAD)
        {
            let end = segment.p_paddr(endian).checked_add(segment.p_memsz(endian));
            let end = end
                .filter(|&end| end <= LARGEST_GUEST)
                .context("a segment lies outside the guest's memory")?;
            let data = segment
                .data(endian, elf)
                .ok()
                .context("a segment lies outside the file")?;
            // Only what the file has is carried: a partition's memory is zero elsewhere.
            if data.is_empty() {
                continue;
            }
            let start = usize::try_from(segment.p_paddr(endian))?;
            let filled = start + data.len();
            ensure!(
                u64::try_from(filled)? <= end,
                "a segment is larger in the file than in memory"
            );
            if flat.len() < filled {
                flat.resize(filled, 0);
            }
            if let Some(place) = flat.get_mut(start..filled) {
                place.copy_from_slice(data);
            }
        }
        ensure!(!flat.is_empty(), "it has nothing to load");
        Ok(Self {
            flat,
            entry: header.e_entry(endian),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_settings_do_not_reach_the_target() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_PKG_NAME",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            assert!(is_of_the_outer_build(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "PATH",
            "RUSTUP_TOOLCHAIN",
            "CARGO_NET_OFFLINE",
            "CARGO_HTTP_PROXY",
            "DEFMT_LOG",
        ] {
            assert!(!is_of_the_outer_build(name), "{name}");
        }
    }

    /// A big-endian ELF file with one segment, `data` at physical address `at`.
    fn elf(at: u64, data: &[u8]) -> Vec<u8> {
        let size = u64::try_from(data.len()).expect("a small segment");
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 2, 1, 0];
        file.extend([0; 8]);
        for half in [2_u16, 21] {
            file.extend(half.to_be_bytes());
        }
        file.extend(1_u32.to_be_bytes());
        for dword in [0x100_u64, 64, 0] {
            file.extend(dword.to_be_bytes());
        }
        file.extend(2_u32.to_be_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            file.extend(half.to_be_bytes());
        }
        for word in [PT_LOAD, 7] {
            file.extend(word.to_be_bytes());
        }
        for dword in [120, at, at, size, size + 0x1000, 16] {
            file.extend(dword.to_be_bytes());
        }
        file.extend(data);
        file
    }

    #[test]
    fn a_guest_is_flat_from_address_0() {
        let guest = Guest::flatten(&elf(0x100, b"code")).expect("a guest");
        assert_eq!(guest.entry, 0x100);
        assert_eq!(guest.flat.len(), 0x104);
        assert_eq!(guest.flat.get(0x100..), Some(b"code".as_slice()));
    }

    #[test]
    fn what_is_no_guest_is_refused() {
        assert!(Guest::flatten(b"#!/bin/sh").is_err());
        assert!(Guest::flatten(&elf(u64::MAX - 1, b"code")).is_err());
        assert!(Guest::flatten(&elf(1 << 40, b"code")).is_err());
        let mut cut = elf(0, b"code");
        cut.truncate(cut.len() - 1);
        assert!(Guest::flatten(&cut).is_err());
    }
}
