//! Guests that we did not write: Debian's Linux, unmodified, and what a program for PAPR finds.
//!
//! The machine is booted with a guest in a partition, its console is driven by bytes, and what it shows is looked at. In the usual
//! run: Linux on powernv9, to its shell, while its table is streamed, and to its end by itself. The others take some
//! minutes each and are run by `cargo test --test linux -- --include-ignored`.
//!
//! The kernel and busybox are fetched by apt when they are not in the cache; a machine that can do neither fails the tests.

use std::process::ExitCode;

use clap::Parser as _;
use libtest_mimic::{Arguments, Failed, Trial};
use realhpt_qemu::cli::{Cli, Command};
use realhpt_qemu::guest::watch::Typed;
use realhpt_qemu::guest::{self, initramfs, place::Software, program::Program};
use realhpt_qemu::setup;
use realhpt_qemu::tables::{formats, model::Model};
use realhpt_qemu::terminal::Terminal;

/// What a run of Linux may take, in seconds; and one that nobody ends.
const PATIENCE: &str = "900";
const ENDLESS: &str = "90";
/// Passes with changes before a guest that is at its shell is paused.
const PASSES: &str = "12";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("powernv9::shell_while_streamed", || {
        shell("powernv9", &[], true)
    })];
    for machine in ["powernv8", "powernv9", "powernv10"] {
        let name = format!("{machine}::program");
        trials.push(Trial::test(name, move || program(machine)));
        let long = |name: &str, test: fn(&str) -> Result<(), Failed>| {
            let trial = Trial::test(format!("{machine}::{name}"), move || test(machine));
            trial.with_ignored_flag(true)
        };
        trials.push(long("shell", |machine| shell(machine, &[], false)));
        trials.push(long("reboot", reboot));
        trials.push(long("stress", |machine| stress(machine, &[])));
        trials.push(long("stress_on_two_cpus", |machine| {
            stress(machine, &["--smp", "2"])
        }));
        trials.push(long("shell_while_streamed_on_two_cpus", |machine| {
            shell(machine, &["--smp", "2"], true)
        }));
        trials.push(long("several_on_two_cpus", several));
        trials.push(long("pages_of_4k", |machine| {
            shell(machine, &["--kernel", "debian-backports"], true)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A run of Linux with these arguments, in which this is typed; what it showed.
fn linux(patience: &str, arguments: &[&str], typed: &str) -> Result<String, Failed> {
    let line = ["realhpt", "linux", "--timeout", patience];
    let line = line.iter().chain(arguments);
    let Some(Command::Linux(linux)) = Cli::try_parse_from(line)?.command else {
        return Err("no run of Linux".into());
    };
    let terminal = Terminal::keeping();
    let result = setup::ensure(&terminal).and_then(|()| {
        let software = guest::linux_software(&terminal, &linux)?;
        let options = &linux.options;
        let typed = Typed::Bytes(typed.into(), guest::first(options));
        guest::run(
            &terminal,
            "linux",
            &software,
            options,
            typed,
            Some(options.mem),
        )
    });
    let shown = terminal.kept();
    match result {
        Ok(true) => Ok(shown),
        Ok(false) => Err(format!("it ended otherwise than well\n{shown}").into()),
        Err(error) => Err(format!("{error:#}\n{shown}").into()),
    }
}

/// Fails unless the text has every one of these, in order.
fn says(shown: &str, expected: &[&str]) -> Result<(), Failed> {
    let mut rest = shown;
    for text in expected {
        let Some((_, after)) = rest.split_once(text) else {
            return Err(format!("no {text:?} where it should be, in\n{shown}").into());
        };
        rest = after;
    }
    Ok(())
}

/// Fails if the text has one of what Linux says when something is wrong with it.
fn is_sound(shown: &str) -> Result<(), Failed> {
    let bad = [
        "BUG:",
        "Oops",
        "WARNING:",
        "Call Trace",
        "Kernel panic",
        "soft lockup",
    ];
    match bad.into_iter().find(|bad| shown.contains(bad)) {
        Some(bad) => Err(format!("{bad:?} in\n{shown}").into()),
        None => Ok(()),
    }
}

/// Linux to its shell, which does something and switches off; its table streamed meanwhile, if that is wanted.
fn shell(machine: &str, arguments: &[&str], streamed: bool) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("passes.htab");
    let mut line = vec!["--machine", machine];
    line.extend(arguments);
    let path = file.display().to_string();
    if streamed {
        line.extend(["--stream", path.as_str(), "--stream-passes", PASSES]);
    }
    let typed = "echo begin $((6*7)); grep MMU /proc/cpuinfo; echo end; poweroff\n";
    let shown = linux(PATIENCE, &line, typed)?;
    is_sound(&shown)?;
    says(&shown, &["begin 42", "Hash", "end", "Power down"])?;
    if !streamed {
        return Ok(());
    }
    says(
        &shown,
        &[
            "each entry fits its hash",
            "map 512 MiB",
            "reads back equal",
        ],
    )?;
    says(&shown, &["Paused", "Resumed", "Power down"])?;
    let table = formats::load(&file, None, None)?;
    let mut model = Model::new(table.order);
    for section in &table.sections {
        model.apply(section)?;
    }
    if table.sections.len() < 2 || model.entries().count() == 0 {
        return Err(format!("{} sections in the file", table.sections.len()).into());
    }
    Ok(())
}

/// Two of them beside the agent that streams the table of one, on two CPUs: both are at their shells, and neither sees
/// anything of the other.
fn several(machine: &str) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("passes.htab").display().to_string();
    let line = [
        "--machine",
        machine,
        "--guests",
        "2",
        "--smp",
        "2",
        "--stream",
        &path,
        "--stream-passes",
        PASSES,
    ];
    let typed = "echo begin $((6*7)); hptstress 5; echo end $?; poweroff\n";
    let shown = linux(PATIENCE, &line, typed)?;
    is_sound(&shown)?;
    for guest in ["linux1", "linux2"] {
        let lines = ["begin 42", "hptstress: ", "end 0"].map(|text| format!("{guest} | {text}"));
        says(&shown, &lines.each_ref().map(String::as_str))?;
    }
    says(&shown, &["each entry fits its hash", "reads back equal"])
}

/// Linux starts again, and is at its shell again.
fn reboot(machine: &str) -> Result<(), Failed> {
    let typed = "reboot -f\n";
    let arguments = ["--machine", machine];
    // Nobody types a second time: the run is given up at the second shell.
    match linux(ENDLESS, &arguments, typed) {
        Ok(shown) => Err(format!("it ended\n{shown}").into()),
        Err(failed) => {
            let shown = failed.message().unwrap_or_default().to_owned();
            is_sound(&shown)?;
            let prompt = initramfs::PROMPT;
            says(
                &shown,
                &[
                    "Linux version",
                    prompt,
                    "Restarting system",
                    "Linux version",
                    prompt,
                ],
            )
        }
    }
}

/// Linux under memory stress for some minutes.
fn stress(machine: &str, arguments: &[&str]) -> Result<(), Failed> {
    let mut line = vec!["--machine", machine, "--append", "realhpt.stress=180"];
    line.extend(arguments);
    let shown = linux(PATIENCE, &line, "")?;
    is_sound(&shown)?;
    says(
        &shown,
        &["no wrong byte", "hptstress: passed", "Power down"],
    )
}

/// A program for PAPR: finds its tree, says so on its console, and has RTAS switch it off.
///
/// In words, as an assembler writes them:
/// ```text
///     lwz   6, 0(3)            the tree's magic
///     lis   7, 0xd00d
///     ori   7, 7, 0xfeed
///     cmplw 6, 7
///     bne   .                  no tree: it never ends
///     li    3, 0x58            H_PUT_TERM_CHAR
///     li    4, 0
///     li    5, 3
///     lis   6, 0x6f6b          "ok\n"
///     ori   6, 6, 0x0a00
///     sldi  6, 6, 32
///     sc    1
///     bl    1f
/// 1:  mflr  4
///     addi  4, 4, 2f - 1b
///     lis   3, 0
///     ori   3, 3, 0xf000       H_RTAS
///     sc    1
///     b     .
/// 2:  .long 0x2003, 2, 1, 0, 0, 0   power-off
/// ```
const PROGRAM: [u32; 25] = [
    0x80c3_0000,
    0x3ce0_d00d,
    0x60e7_feed,
    0x7c06_3840,
    0x4082_0000,
    0x3860_0058,
    0x3880_0000,
    0x38a0_0003,
    0x3cc0_6f6b,
    0x60c6_0a00,
    0x78c6_07c6,
    0x4400_0022,
    0x4800_0005,
    0x7c88_02a6,
    0x3884_0018,
    0x3c60_0000,
    0x6063_f000,
    0x4400_0022,
    0x4800_0000,
    0x2003,
    2,
    1,
    0,
    0,
    0,
];

fn program(machine: &str) -> Result<(), Failed> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("program.raw");
    std::fs::write(&file, PROGRAM.map(u32::to_be_bytes).as_flattened())?;
    let path = file.display().to_string();
    let line = [
        "realhpt",
        "guest",
        "--kernel",
        &path,
        "--machine",
        machine,
        "--timeout",
        "60",
    ];
    let Some(Command::Guest(arguments)) = Cli::try_parse_from(line)?.command else {
        return Err("no run of a guest".into());
    };
    let terminal = Terminal::keeping();
    let result = setup::ensure(&terminal).and_then(|()| {
        let software = Software::new(Program::read(&file)?, None, "");
        let typed = Typed::Bytes(Vec::new(), None);
        guest::run(
            &terminal,
            "guest",
            &software,
            &arguments.options,
            typed,
            None,
        )
    });
    let shown = terminal.kept();
    match result {
        Ok(true) => says(&shown, &["ok\n"]),
        Ok(false) => Err(format!("it ended otherwise than well\n{shown}").into()),
        Err(error) => Err(format!("{error:#}\n{shown}").into()),
    }
}
