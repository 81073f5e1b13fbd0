//! Debian packages from suites that the machine's own apt does not list.
//!
//! The address of the archive is taken from the machine's own sources (same URI, same keys, another suite's
//! name), so it is right behind mirrors and proxies too. Lists are kept in the cache directory: the
//! machine's sources and lists stay as they are. Packages of another architecture are only downloaded, so apt is
//! then told that it is on a machine of that architecture with nothing installed.
//!
//! Key types: [`Source`], what the machine's sources say about one archive; [`Apt`], apt with private lists.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

/// Where apt keeps its sources.
const ETC: &str = "/etc/apt";

/// An archive as the machine's sources describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub uri: String,
    /// Suites the machine takes from it.
    pub suites: Vec<String>,
    /// Components the machine takes from it.
    pub components: Vec<String>,
    /// Its other fields, such as the keys that sign it, in deb822 form (continuation lines included).
    pub options: Vec<(String, String)>,
}

impl Source {
    /// The stanza that asks this archive for `suites`, in deb822 form.
    #[must_use]
    pub fn stanza(&self, suites: &[&str]) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n",
            self.uri,
            suites.join(" ")
        );
        for (field, value) in &self.options {
            let _ = writeln!(text, "{field}: {value}");
        }
        text
    }

    /// The same archive for another architecture.
    #[must_use]
    pub fn for_architecture(&self, architecture: &str) -> Self {
        let mut source = self.clone();
        let name = "Architectures";
        source
            .options
            .retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        source
            .options
            .push((name.to_owned(), architecture.to_owned()));
        source
    }

    /// The same for one suite in the one-line form, to show in a message.
    #[must_use]
    pub fn line(&self, suite: &str) -> String {
        format!("deb {} {suite} main", self.uri)
    }
}

/// The sources of the machine that offer the Debian release `codename`, the likeliest archive first.
#[must_use]
pub fn sources(codename: &str) -> Vec<Source> {
    let mut files = vec![PathBuf::from(ETC).join("sources.list")];
    if let Ok(entries) = fs::read_dir(Path::new(ETC).join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(parse_lines(&text)),
            Some("sources") => found.extend(parse_stanzas(&text)),
            _ => {}
        }
    }
    select(found, codename)
}

/// Those of `sources` that offer `codename` with component main. An archive that has the release's updates
/// too is Debian's own; others that happen to use the release's name come after it.
fn select(sources: Vec<Source>, codename: &str) -> Vec<Source> {
    let updates = format!("{codename}-updates");
    let has_updates = |uri: &str| {
        sources
            .iter()
            .any(|other| other.uri == uri && other.suites.contains(&updates))
    };
    let mut selected: Vec<Source> = sources
        .iter()
        .filter(|source| source.suites.iter().any(|suite| suite == codename))
        .filter(|source| {
            source
                .components
                .iter()
                .any(|component| component == "main")
        })
        .cloned()
        .collect();
    selected.sort_by_key(|source| !has_updates(&source.uri));
    selected
}

/// Parses the one-line form: `deb [option=value ...] uri suite component...`.
fn parse_lines(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line
            .strip_prefix("deb")
            .filter(|rest| rest.starts_with([' ', '\t', '[']))
        else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace().map(str::to_owned);
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        let options = options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .map(|(name, value)| (field(name).to_owned(), value.replace(',', " ")))
            .collect();
        sources.push(Source {
            uri,
            suites: vec![suite],
            components: words.collect(),
            options,
        });
    }
    sources
}

/// The deb822 field of a one-line option; the names differ for three only, and case does not matter.
fn field(option: &str) -> &str {
    match option {
        "arch" => "Architectures",
        "lang" => "Languages",
        "target" => "Targets",
        other => other,
    }
}

/// Parses the deb822 form: stanzas of `Field: value`, continuation lines begin with white space.
fn parse_stanzas(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(source(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sources
}

/// The source that a stanza's fields describe, if it is one of binary packages and in use.
fn source(fields: Vec<(String, String)>) -> Option<Source> {
    let words = |name: &str| -> Vec<String> {
        let value = fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name));
        value
            .map(|(_, value)| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let off = words("Enabled")
        .first()
        .is_some_and(|value| value.eq_ignore_ascii_case("no"));
    if off || !words("Types").iter().any(|kind| kind == "deb") {
        return None;
    }
    let own = ["Types", "URIs", "Suites", "Components", "Enabled"];
    Some(Source {
        uri: words("URIs").into_iter().next()?,
        suites: words("Suites"),
        components: words("Components"),
        options: fields
            .iter()
            .filter(|(field, _)| !own.iter().any(|name| field.eq_ignore_ascii_case(name)))
            .cloned()
            .collect(),
    })
}

/// apt with lists and sources of its own.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
    /// The architecture whose packages it downloads, where that is not this machine's.
    architecture: Option<String>,
}

impl Apt {
    /// Writes a private source for `suites` of `source` under `cache` and fetches its lists.
    ///
    /// # Errors
    /// If apt cannot fetch them.
    pub fn with_suites(cache: &Path, source: &Source, suites: &[&str]) -> Result<Self> {
        Self::new(cache.join("apt"), None, source, suites)
    }

    /// The same for packages of another architecture, which can be downloaded and not installed. Needs no rights.
    ///
    /// # Errors
    /// If apt cannot fetch the lists.
    pub fn foreign(
        cache: &Path,
        source: &Source,
        suites: &[&str],
        architecture: &str,
    ) -> Result<Self> {
        Self::new(
            cache.join(format!("apt-{architecture}")),
            Some(architecture.to_owned()),
            &source.for_architecture(architecture),
            suites,
        )
    }

    fn new(
        directory: PathBuf,
        architecture: Option<String>,
        source: &Source,
        suites: &[&str],
    ) -> Result<Self> {
        // apt wants the directory for half-fetched files to exist.
        let partial = directory.join("lists/partial");
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot make {}", partial.display()))?;
        fs::write(directory.join("private.sources"), source.stanza(suites))?;
        let apt = Self {
            directory,
            architecture,
        };
        apt.run("apt-get", &["update"])?;
        Ok(apt)
    }

    /// The versions of `package` that these suites have.
    ///
    /// # Errors
    /// If apt cannot be run.
    pub fn versions(&self, package: &str) -> Result<Vec<String>> {
        // One line for each version: `package | version | source`.
        let text = self.run("apt-cache", &["madison", package])?;
        Ok(text
            .lines()
            .filter_map(|line| line.split('|').nth(1))
            .map(|version| version.trim().to_owned())
            .collect())
    }

    /// What `package` depends on with an exact version: names and versions. That is how a metapackage names what it
    /// stands for.
    ///
    /// # Errors
    /// If apt cannot be run.
    pub fn depends(&self, package: &str) -> Result<Vec<(String, String)>> {
        self.run("apt-cache", &["show", package])
            .map(|text| exact_dependencies(&text))
    }

    /// Downloads one version of `package` and unpacks it into `into` without installing it.
    ///
    /// # Errors
    /// If it cannot be fetched or unpacked.
    pub fn unpack(&self, package: &str, version: &str, into: &Path) -> Result<()> {
        self.with_archive(package, version, |archive| {
            fs::create_dir_all(into)?;
            output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(into)).map(drop)
        })
    }

    /// Downloads one version of `package` and gives the first file in it, a path relative to the root, that is
    /// `wanted`, with its contents.
    ///
    /// # Errors
    /// If it cannot be fetched or read, or has no such file.
    pub fn extract(
        &self,
        package: &str,
        version: &str,
        wanted: impl Fn(&Path) -> bool,
    ) -> Result<(PathBuf, Vec<u8>)> {
        self.with_archive(package, version, |archive| {
            let mut command = Command::new("dpkg-deb");
            command.arg("--fsys-tarfile").arg(archive);
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot run {}", shown(&command)))?;
            let files = child.stdout.take().context("no standard output")?;
            let found = first_file(files, wanted);
            // It may still write what nobody reads; that it ends by that is no failure.
            let ended = child.wait()?;
            match found? {
                Some(file) => Ok(file),
                None if ended.success() => bail!("{package} {version} has no such file"),
                None => bail!("{} failed ({ended})", shown(&command)),
            }
        })
    }

    /// Downloads one version of `package` for as long as `act` uses it.
    fn with_archive<R>(
        &self,
        package: &str,
        version: &str,
        act: impl FnOnce(&Path) -> Result<R>,
    ) -> Result<R> {
        let downloads = self.directory.join("downloads");
        fs::create_dir_all(&downloads)?;
        self.run_in(
            &downloads,
            "apt-get",
            &["download", &format!("{package}={version}")],
        )?;
        let archive = fs::read_dir(&downloads)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .with_context(|| {
                format!(
                    "apt-get download left no package in {}",
                    downloads.display()
                )
            })?;
        let result = act(&archive);
        fs::remove_dir_all(&downloads)?;
        result
    }

    /// Installs `package` from `suite` with what it needs and nothing else.
    ///
    /// # Errors
    /// If apt fails.
    pub fn install(&self, package: &str, suite: &str) -> Result<()> {
        self.run(
            "apt-get",
            &[
                "install",
                "--yes",
                "--no-install-recommends",
                "--target-release",
                suite,
                package,
            ],
        )
        .map(drop)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(&self.directory, program, arguments)
    }

    fn run_in(&self, directory: &Path, program: &str, arguments: &[&str]) -> Result<String> {
        let option = |name: &str, value: &str| ["-o".to_owned(), format!("{name}={value}")];
        let own = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new(program);
        command
            .args(option("Dir::State::Lists", &own("lists")))
            .args(option("Dir::Etc::SourceList", &own("private.sources")))
            .args(option("Dir::Etc::SourceParts", "/dev/null"))
            // The caches in /var/cache/apt are made from the machine's own sources and must stay so.
            .args(option("Dir::Cache::pkgcache", ""))
            .args(option("Dir::Cache::srcpkgcache", ""))
            // The user apt would change to cannot see a cache under root's home.
            .args(option("APT::Sandbox::User", "root"));
        if let Some(architecture) = &self.architecture {
            command
                .args(option("APT::Architecture", architecture))
                .args(option("APT::Architectures", architecture))
                .args(option("Dir::State::status", "/dev/null"));
        }
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .current_dir(directory);
        output(&mut command)
    }
}

/// The versions that a package's description asks for exactly: `Depends: name (= version), ...`.
fn exact_dependencies(description: &str) -> Vec<(String, String)> {
    let depends = description
        .lines()
        .filter_map(|line| line.strip_prefix("Depends:"));
    depends
        .flat_map(|list| list.split(','))
        .filter_map(|dependency| {
            let (name, version) = dependency.split_once("(=")?;
            let version = version.trim().strip_suffix(')')?;
            Some((name.trim().to_owned(), version.trim().to_owned()))
        })
        .collect()
}

/// The first file of a tar archive that is `wanted`.
fn first_file(
    archive: impl Read,
    wanted: impl Fn(&Path) -> bool,
) -> Result<Option<(PathBuf, Vec<u8>)>> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let path = path.strip_prefix(".").unwrap_or(&path).to_owned();
        if entry.header().entry_type().is_file() && wanted(&path) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            return Ok(Some((path, bytes)));
        }
    }
    Ok(None)
}

/// A command as one would type it.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+~".contains(&byte);
    words
        .map(|word| {
            let word = word.to_string_lossy();
            if !word.is_empty() && word.bytes().all(plain) {
                word.into_owned()
            } else {
                format!("'{word}'")
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command quietly; if it fails, its last words are the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = shown(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let tail: Vec<&str> = words.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("{program} failed ({}):\n{}", output.status, tail.join("\n"));
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{program} printed something that is not text"))
}

/// The machine's release name, if it is a Debian.
///
/// # Errors
/// If it is none.
pub fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot tell what system this is")?;
    codename_of(&text)
}

fn codename_of(os_release: &str) -> Result<String> {
    let value = |name: &str| {
        let line = os_release
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    ensure!(
        value("ID").as_deref() == Some("debian"),
        "this system is not Debian"
    );
    value("VERSION_CODENAME").context("/etc/os-release names no release")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources_keep_their_options() {
        let text = "# comment\ndeb-src http://a/debian bookworm main\n\
            deb [signed-by=/k.gpg arch=amd64,arm64] http://a/debian bookworm main contrib # tail\n\
            deb http://a/debian bookworm-updates main\n";
        let sources = parse_lines(text);
        assert_eq!(sources.len(), 2);
        let first = sources.first().expect("two sources");
        assert_eq!(first.uri, "http://a/debian");
        assert_eq!(first.components, ["main", "contrib"]);
        assert_eq!(
            first.stanza(&["bookworm-backports"]),
            "Types: deb\nURIs: http://a/debian\nSuites: bookworm-backports\nComponents: main\n\
             signed-by: /k.gpg\nArchitectures: amd64 arm64\n"
        );
    }

    #[test]
    fn stanzas_keep_embedded_keys_and_leave_out_what_is_off() {
        let text = "Types: deb deb-src\nURIs: http://a/debian\n# remark\nSuites: bookworm bookworm-updates\n\
            Components: main\nSigned-By:\n -----BEGIN-----\n .\n key\n\n\
            Types: deb\nEnabled: no\nURIs: http://b\nSuites: bookworm\nComponents: main\n";
        let sources = parse_stanzas(text);
        assert_eq!(sources.len(), 1);
        let only = sources.first().expect("one source");
        assert_eq!(only.suites, ["bookworm", "bookworm-updates"]);
        assert!(
            only.stanza(&["x"])
                .ends_with("Signed-By: \n -----BEGIN-----\n .\n key\n")
        );
    }

    #[test]
    fn the_archive_with_the_updates_comes_first() {
        let other = "deb http://vendor/apt bookworm main\n";
        let own = "deb http://a/debian bookworm main\ndeb http://a/debian bookworm-updates main\n";
        let security = "deb http://a/security bookworm-security main\n";
        let selected = select(parse_lines(&format!("{other}{own}{security}")), "bookworm");
        let uris: Vec<&str> = selected.iter().map(|source| source.uri.as_str()).collect();
        assert_eq!(uris, ["http://a/debian", "http://vendor/apt"]);
    }

    #[test]
    fn another_architecture_takes_the_place_of_the_machines() {
        let text = "deb [arch=amd64 signed-by=/k.gpg] http://a/debian bookworm main\n";
        let sources = parse_lines(text);
        let foreign = sources
            .first()
            .expect("a source")
            .for_architecture("ppc64el");
        assert_eq!(
            foreign.stanza(&["bookworm"]),
            "Types: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n\
             signed-by: /k.gpg\nArchitectures: ppc64el\n"
        );
    }

    #[test]
    fn a_metapackage_names_what_it_stands_for() {
        let text = "Package: linux-image-powerpc64le\nVersion: 6.1.176-1\n\
            Depends: linux-image-6.1.0-50-powerpc64le (= 6.1.176-1), linux-base (>= 4.3~), kmod\n\
            Description: Linux (= not this)\n\n";
        let found = exact_dependencies(text);
        let kernel = ("linux-image-6.1.0-50-powerpc64le", "6.1.176-1");
        assert_eq!(found, [(kernel.0.to_owned(), kernel.1.to_owned())]);
        assert!(exact_dependencies("Package: x\n").is_empty());
    }

    #[test]
    fn a_file_is_found_in_an_archive() {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, data) in [("./boot/config-6", "no"), ("./boot/vmlinux-6", "kernel")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            archive
                .append_data(&mut header, name, data.as_bytes())
                .expect("added");
        }
        let archive = archive.into_inner().expect("an archive");
        let kernel = |path: &Path| path.starts_with("boot") && path.ends_with("vmlinux-6");
        let found = first_file(archive.as_slice(), kernel).expect("read");
        let expected = (PathBuf::from("boot/vmlinux-6"), b"kernel".to_vec());
        assert_eq!(found, Some(expected));
        assert_eq!(
            first_file(archive.as_slice(), |_| false).expect("read"),
            None
        );
        let cut = archive.get(..700).expect("a part");
        assert!(first_file(cut, |_| false).is_err());
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("apt-get");
        command.args(["-o", "Dir::State=/x", "-o", "Dir::Cache=", "a b", ""]);
        assert_eq!(
            shown(&command),
            "apt-get -o Dir::State=/x -o Dir::Cache= 'a b' ''"
        );
    }

    #[test]
    fn only_debian_has_a_codename() {
        assert_eq!(
            codename_of("ID=debian\nVERSION_CODENAME=bookworm\n").expect("Debian"),
            "bookworm"
        );
        assert!(codename_of("ID=fedora\nVERSION_CODENAME=\"\"\n").is_err());
    }
}
