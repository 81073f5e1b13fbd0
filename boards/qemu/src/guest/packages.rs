//! Debian's packages for the guests: a kernel and busybox for ppc64el.
//!
//! They are downloaded with lists of their own and never installed. What is needed of them is kept in the cache, and
//! what is there is used without asking anybody; to have newer ones, remove `debian` from the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::apt::{self, Apt};
use crate::setup;
use crate::terminal::Terminal;

/// Debian's name for little-endian POWER.
const ARCHITECTURE: &str = "ppc64el";
/// The package that stands for the newest kernel of a suite.
const KERNEL: &str = "linux-image-powerpc64le";
/// The package of a busybox that needs no library.
const BUSYBOX: &str = "busybox-static";
/// The release that all of it is from. Its index is whole for this architecture, that of some suites beside it is not.
const RELEASE: &str = "bookworm";

/// Where a kernel of Debian's is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// bookworm: Linux 6.1 with pages of 64 KiB.
    Stable,
    /// bookworm-backports: a later Linux, with pages of 4 KiB.
    Backports,
}

impl Release {
    fn suite(self) -> &'static str {
        match self {
            Self::Stable => RELEASE,
            Self::Backports => "bookworm-backports",
        }
    }
}

/// What of a package is kept.
struct Wanted {
    suite: &'static str,
    /// Its directory in the cache.
    directory: &'static str,
    /// What its name begins with, and where it stands in the package.
    name: &'static str,
    parent: &'static str,
    what: &'static str,
}

/// The kernel of `release`: where its file is.
///
/// # Errors
/// If it is not in the cache and cannot be fetched.
pub fn kernel(terminal: &Terminal, release: Release) -> Result<PathBuf> {
    let suite = release.suite();
    let wanted = Wanted {
        suite,
        directory: suite,
        name: "vmlinux-",
        parent: "boot",
        what: "kernel",
    };
    wanted.get(terminal, |apt| {
        let newest = apt
            .depends(KERNEL)?
            .into_iter()
            .find(|(name, _)| name.starts_with("linux-image-"));
        newest.with_context(|| format!("{suite} has no {KERNEL} for {ARCHITECTURE}"))
    })
}

/// The static busybox: where its file is.
///
/// # Errors
/// If it is not in the cache and cannot be fetched.
pub fn busybox(terminal: &Terminal) -> Result<PathBuf> {
    let wanted = Wanted {
        suite: RELEASE,
        directory: "busybox",
        name: "busybox",
        parent: "bin",
        what: "busybox",
    };
    wanted.get(terminal, |apt| {
        let version = apt.versions(BUSYBOX)?.into_iter().next();
        let version =
            version.with_context(|| format!("{RELEASE} has no {BUSYBOX} for {ARCHITECTURE}"))?;
        Ok((BUSYBOX.to_owned(), version))
    })
}

impl Wanted {
    /// The file in the cache, fetched if it is not there; `select` names the package and its version.
    fn get(
        &self,
        terminal: &Terminal,
        select: impl Fn(&Apt) -> Result<(String, String)>,
    ) -> Result<PathBuf> {
        let cache = setup::cache()?;
        let directory = cache.join("debian").join(self.directory);
        if let Some(found) = kept(&directory, self.name) {
            return Ok(found);
        }
        let what = format!("Debian's {} for {ARCHITECTURE}", self.what);
        let bar = terminal.spinner("Setting up", &what);
        let codename = apt::codename()
            .with_context(|| format!("{what} is fetched by apt; give --kernel and --initrd"))?;
        let mut failure = anyhow::anyhow!("no Debian archive among apt's sources");
        for archive in apt::sources(&codename) {
            let fetched = Apt::foreign(&cache, &archive, &[self.suite], ARCHITECTURE)
                .and_then(|apt| self.fetch(&apt, &select, &directory));
            match fetched {
                Ok((file, package)) => {
                    drop(bar);
                    let suite = self.suite;
                    terminal.step(
                        "Set up",
                        &format!("{what}: {package} from {suite}, kept in the cache"),
                    );
                    return Ok(file);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure.context(format!(
            "{what} could not be fetched; there is --kernel and --initrd too"
        )))
    }

    fn fetch(
        &self,
        apt: &Apt,
        select: impl Fn(&Apt) -> Result<(String, String)>,
        directory: &Path,
    ) -> Result<(PathBuf, String)> {
        let (package, version) = select(apt)?;
        let wanted = |path: &Path| {
            path.parent() == Some(Path::new(self.parent)) && is_named(path, self.name)
        };
        let (path, bytes) = apt.extract(&package, &version, wanted)?;
        let Some(name) = path.file_name() else {
            bail!("{package} has a file without a name");
        };
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        // A file that is there is whole: another run, or this one after an interruption, never sees half of it.
        let unfinished = directory.join(format!(".{}", std::process::id()));
        let file = directory.join(name);
        fs::write(&unfinished, bytes)
            .and_then(|()| fs::rename(&unfinished, &file))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok((file, format!("{package} {version}")))
    }
}

fn is_named(path: &Path, beginning: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(beginning))
}

/// The file of a directory whose name begins so, if there is one.
fn kept(directory: &Path, beginning: &str) -> Option<PathBuf> {
    let files = fs::read_dir(directory).ok()?;
    let paths = files.flatten().map(|entry| entry.path());
    paths.filter(|path| is_named(path, beginning)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_found_in_the_cache() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(kept(&directory.path().join("none"), "vmlinux-"), None);
        for name in [
            ".1234",
            "config-6.1",
            "vmlinux-6.1.0-49",
            "vmlinux-6.1.0-50",
        ] {
            fs::write(directory.path().join(name), name).expect("a file");
        }
        let newest = directory.path().join("vmlinux-6.1.0-50");
        assert_eq!(kept(directory.path(), "vmlinux-"), Some(newest));
        assert_eq!(kept(directory.path(), "busybox"), None);
    }
}
