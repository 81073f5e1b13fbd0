//! What the machine must have before anything is built or run: core's source, and QEMU.
//!
//! [`ensure`] fetches what is missing and says so in one line each; when all is there it does and says
//! nothing. Where it may not fetch (no root, no apt), its error is the exact command to run.
//!
//! * `core` for the target is built from source, which must be of exactly rustc's version. On most machines
//!   `rustup component add rust-src` fetches it. Where rustup's server cannot be reached, Debian's package of
//!   the same version has the same source: it is unpacked into the cache and linked into the sysroot, where
//!   cargo looks for it.
//! * QEMU must be 10 or later: before that `-icount` did not work for this machine, and the manual of this
//!   project speaks of 10 only.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Apt, Source, output};
use crate::terminal::Terminal;
use crate::workspace;

/// The emulator.
pub const QEMU: &str = "qemu-system-ppc64";
/// The oldest version of it that will do.
const QEMU_MAJOR: u32 = 10;
/// The Debian package that has it.
const QEMU_PACKAGE: &str = "qemu-system-ppc";
/// Debian suites that may have the source of a current rustc, those that cost least to ask first.
const RUST_SUITES: [&str; 3] = ["trixie-backports", "forky", "sid"];

/// Makes sure that the images can be built and run.
///
/// # Errors
/// If something is missing and cannot be fetched; the message is what to do.
pub fn ensure(terminal: &Terminal) -> Result<()> {
    core_source(terminal)?;
    qemu(terminal)
}

/// Where this project keeps what it fetched.
///
/// # Errors
/// If the environment names no place for it.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|path| Path::new(path).is_absolute()) {
        Some(path) => PathBuf::from(path),
        None => {
            PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
                .join(".cache")
        }
    };
    Ok(base.join("realhpt"))
}

/// apt can be used: it is there and may install.
fn may_use_apt() -> bool {
    rustix::process::geteuid().is_root()
        && Command::new("apt-get")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success())
}

/// A rustc: its version and where its libraries are.
#[derive(Debug)]
struct Compiler {
    version: String,
    sysroot: PathBuf,
}

impl Compiler {
    fn current() -> Result<Self> {
        let ask = |arguments: &[&str]| {
            output(
                Command::new("rustc")
                    .args(arguments)
                    .current_dir(workspace()),
            )
            .context("rustc is needed: https://rustup.rs")
        };
        let version = ask(&["--version", "--verbose"])?;
        let release = version
            .lines()
            .find_map(|line| line.strip_prefix("release: "));
        Ok(Self {
            version: release
                .context("rustc does not tell its release")?
                .to_owned(),
            sysroot: PathBuf::from(ask(&["--print", "sysroot"])?.trim()),
        })
    }

    /// Where cargo looks for the source.
    fn source(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    fn has_core(&self) -> bool {
        self.source().join("library/core/Cargo.toml").is_file()
    }
}

fn core_source(terminal: &Terminal) -> Result<()> {
    let compiler = Compiler::current()?;
    if compiler.has_core() {
        return Ok(());
    }
    let link = compiler.source();
    if link.is_symlink() {
        // Left by an earlier set-up whose cache is gone; rustup would stumble over it.
        fs::remove_file(&link)
            .with_context(|| format!("cannot remove the dead link {}", link.display()))?;
    }
    let what = format!("core's source for rustc {}", compiler.version);
    let by_rustup = add_component(terminal, &what);
    if by_rustup.is_ok() && compiler.has_core() {
        terminal.step("Set up", &format!("{what}: rustup component add rust-src"));
        return Ok(());
    }
    let by_rustup = by_rustup.err().map_or_else(
        || "it is still missing".to_owned(),
        |error| format!("{error:#}"),
    );
    if !may_use_apt() {
        bail!(
            "{what} is missing, and rustup could not add it ({by_rustup}).\nRun: rustup component add rust-src"
        );
    }
    let suite = link_debian_source(terminal, &compiler, &what).with_context(|| {
        format!("{what} is missing; rustup could not add it ({by_rustup}), and Debian's package could not take its place")
    })?;
    terminal.step(
        "Set up",
        &format!("{what}: Debian's rust-src from {suite}, linked into the sysroot"),
    );
    Ok(())
}

fn add_component(terminal: &Terminal, what: &str) -> Result<()> {
    let _bar = terminal.spinner("Setting up", what);
    output(
        Command::new("rustup")
            .args(["component", "add", "rust-src"])
            // Where the server cannot be reached there is another way: do not wait for it again and again.
            .env("RUSTUP_MAX_RETRIES", "1")
            .env_remove("RUST_BACKTRACE")
            .current_dir(workspace()),
    )
    .map(drop)
}

/// Unpacks Debian's package of the source and links it into the sysroot. Returns the suite it is from.
fn link_debian_source(
    terminal: &Terminal,
    compiler: &Compiler,
    what: &str,
) -> Result<&'static str> {
    let cache = cache()?;
    let unpacked = cache.join(format!("rust-src-{}", compiler.version));
    let source = unpacked.join(format!("usr/src/rustc-{}", compiler.version));
    let _bar = terminal.spinner("Setting up", what);
    let archives = apt::sources(&apt::codename()?);
    let mut failure = anyhow::anyhow!("no Debian archive among apt's sources");
    for (archive, suite) in archives
        .iter()
        .flat_map(|archive| RUST_SUITES.map(|suite| (archive, suite)))
    {
        match unpack_source(&cache, archive, suite, &compiler.version, &unpacked) {
            Ok(()) => {
                let link = compiler.source();
                fs::create_dir_all(
                    link.parent()
                        .context("the sysroot has no parent directory")?,
                )?;
                symlink(&source, &link)
                    .with_context(|| format!("cannot make the link {}", link.display()))?;
                if compiler.has_core() {
                    return Ok(suite);
                }
                fs::remove_file(&link)?;
                failure = anyhow::anyhow!(
                    "the package of {suite} has no library/core in {}",
                    source.display()
                );
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn unpack_source(
    cache: &Path,
    archive: &Source,
    suite: &str,
    version: &str,
    into: &Path,
) -> Result<()> {
    let apt = Apt::with_suites(cache, archive, &[suite])?;
    // Debian's version begins with upstream's: 1.95.0+dfsg1-2~bpo13+1.
    let same = format!("{version}+");
    let versions = apt.versions("rust-src")?;
    let Some(version) = versions
        .iter()
        .find(|candidate| candidate.starts_with(&same))
    else {
        bail!(
            "{suite} has rust-src {}, not {version}",
            versions.join(", ")
        );
    };
    apt.unpack("rust-src", version, into)
}

/// The major version in what `--version` prints.
fn major_version(text: &str) -> Option<u32> {
    text.split_once("version ")?
        .1
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// The version of the QEMU that would be run, if there is one.
fn qemu_version() -> Option<u32> {
    let output = Command::new(QEMU).arg("--version").output().ok()?;
    major_version(&String::from_utf8_lossy(&output.stdout))
}

fn qemu(terminal: &Terminal) -> Result<()> {
    let found = qemu_version();
    if found.is_some_and(|major| major >= QEMU_MAJOR) {
        return Ok(());
    }
    let found = found.map_or_else(|| "none found".to_owned(), |major| format!("found {major}"));
    let need = format!("QEMU {QEMU_MAJOR} or later for ppc64 ({found})");
    let Ok(codename) = apt::codename() else {
        bail!("{need}: install {QEMU} with this system's package manager and run this again");
    };
    let archives = apt::sources(&codename);
    let backports = format!("{codename}-backports");
    if !may_use_apt() {
        let line = archives.first().map(|archive| archive.line(&backports));
        bail!(
            "{need}. Run as root:\n  echo '{}' > /etc/apt/sources.list.d/{backports}.list\n  \
             apt-get update && apt-get install --no-install-recommends -t {backports} {QEMU_PACKAGE}",
            line.unwrap_or_else(|| format!("deb <a Debian mirror> {backports} main")),
        );
    }
    let _bar = terminal.spinner("Setting up", &need);
    let cache = cache()?;
    let mut failure = anyhow::anyhow!("no Debian archive among apt's sources");
    for archive in &archives {
        let updates = format!("{codename}-updates");
        let suites = [codename.as_str(), updates.as_str(), backports.as_str()];
        let installed = Apt::with_suites(&cache, archive, &suites)
            .and_then(|apt| apt.install(QEMU_PACKAGE, &backports));
        match installed {
            Ok(()) if qemu_version().is_some_and(|major| major >= QEMU_MAJOR) => {
                terminal.step(
                    "Set up",
                    &format!("{need}: {QEMU_PACKAGE} from {backports}"),
                );
                return Ok(());
            }
            Ok(()) => failure = anyhow::anyhow!("{backports} has an older one"),
            Err(error) => failure = error,
        }
    }
    Err(failure.context(format!("{need} could not be installed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_qemu() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\nCopyright\n";
        assert_eq!(major_version(debian), Some(10));
        assert_eq!(major_version("QEMU emulator version 7.2.19\n"), Some(7));
        assert_eq!(major_version("something else"), None);
    }
}
