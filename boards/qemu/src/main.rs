//! The host runner; everything is in the library.

use std::process::ExitCode;

use clap::Parser as _;
use realhpt_qemu::cli::{Cli, Command, Roundtrip};
use realhpt_qemu::terminal::Terminal;
use realhpt_qemu::{bench, boot, guest, interrupt, replay, roundtrip, scale, setup};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let terminal = Terminal::new(cli.verbose);
    let run = || {
        interrupt::install()?;
        match cli
            .command
            .unwrap_or_else(|| Command::Roundtrip(Roundtrip::default()))
        {
            Command::Roundtrip(arguments) => roundtrip::run(&terminal, &arguments),
            Command::Boot(arguments) => boot::run(&terminal, &arguments),
            Command::Linux(arguments) => guest::linux(&terminal, &arguments),
            Command::Guest(arguments) => guest::guest(&terminal, &arguments),
            Command::Bench(arguments) => bench::run(&terminal, &arguments),
            Command::Replay(arguments) => replay::command::replay(&terminal, &arguments),
            Command::Sequence(arguments) => replay::command::sequence(&terminal, &arguments),
            Command::Scale(arguments) => scale::run(&terminal, &arguments),
            Command::Setup => setup::ensure(&terminal).map(|()| true),
        }
    };
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whatever it stopped says so in its own way; the user knows.
        Err(_) if interrupt::came() => {
            eprintln!("interrupted");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
