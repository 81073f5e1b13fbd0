//! `roundtrip`: a table into a partition, out again in passes, and the proof that nothing was lost.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use realhpt_pseries::exchange::{MAX_SECTIONS, job};

use crate::cli::Roundtrip;
use crate::exchange::{Exchange, Job, room};
use crate::images::{GUESTS, HYPERVISOR, Images};
use crate::machine::{Kind, Settings};
use crate::manifest::{AGENT, CLIENT, Manifest};
use crate::progress::Progress;
use crate::session::{Patience, Session};
use crate::setup;
use crate::tables::formats::{self, Table};
use crate::tables::model::{Generation, Model, Pass};
use crate::tables::verify::{Client, verify};
use crate::terminal::Terminal;
use crate::workspace;

/// Runs it. Returns whether the table was verified.
///
/// # Errors
/// If it cannot be run; what goes wrong on the machine is shown here.
pub fn run(terminal: &Terminal, arguments: &Roundtrip) -> Result<bool> {
    let path = arguments.path();
    let table = formats::load(&path, arguments.format, arguments.order)?;
    describe(terminal, &path, &table)?;
    setup::ensure(terminal)?;
    let images = Images::build(terminal, &[HYPERVISOR, GUESTS])?;
    let sections = sections(&table);
    let mut manifest = Manifest::standard(&images)?;
    manifest.partition_mut(CLIENT)?.order = table.order;
    let input: usize = sections.iter().map(|section| section.len() + 8).sum();
    manifest.partition_mut(AGENT)?.window = Some(room(table.order, u64::try_from(input)?));

    let settings = Settings {
        kind: arguments.machine,
        image: &images.path(HYPERVISOR),
        manifest: &manifest,
        cpus: arguments.cpus,
        count_instructions: false,
    };
    manifest.show(terminal);
    terminal.step(
        "Booting",
        &format!("{}, {} MiB", arguments.machine.name(), manifest.ram() >> 20),
    );
    let mut session = Session::start(&settings, |memory| prepare(memory, &manifest, &sections))?;
    let agent = Exchange::map(session.memory(), manifest.window(AGENT)?)?;
    let ended = session.run(
        Patience::of(arguments.timeout),
        &mut Progress::new(terminal, &agent),
    )?;

    let mut complaints = session.complaints(ended);
    complaints.extend(agent.complaint());
    let verified = judge(terminal, arguments, &table, &agent, &session, &manifest);
    complaints.extend(verified.err().map(|error| format!("{error:#}")));
    if complaints.is_empty() {
        return Ok(true);
    }
    session.show_failure(terminal, ended, &complaints);
    Ok(false)
}

/// What the file holds, in a line.
fn describe(terminal: &Terminal, path: &Path, table: &Table) -> Result<()> {
    let mut model = Model::new(table.order);
    let (mut records, mut bytes) = (0, 0);
    for section in &table.sections {
        let pass = model.apply(section)?;
        records += pass.records;
        bytes += pass.bytes;
    }
    let entries = model.entries().count();
    let sections = match table.sections.len() {
        1 => String::new(),
        number => format!("{number} sections, "),
    };
    terminal.step(
        "Table",
        &format!(
            "{}: {}{}, order {}, {sections}{records} records, {bytes} bytes, {entries} valid entries",
            path.strip_prefix(workspace()).unwrap_or(path).display(),
            table.format,
            if table.guessed { " by its looks" } else { "" },
            table.order,
        ),
    );
    Ok(())
}

/// The sections as the exchange takes them. It has places for a number of them only; those beyond it are
/// joined, which changes nothing: sections are applied one after the other.
fn sections(table: &Table) -> Vec<Vec<u8>> {
    let mut sections = table.sections.clone();
    let rest: Vec<u8> = sections
        .drain(sections.len().min(MAX_SECTIONS - 1)..)
        .flatten()
        .collect();
    if !rest.is_empty() {
        sections.push(rest);
    }
    sections
}

/// Writes the jobs: the agent's, and for the client one that gives it a window to keep its journal in.
fn prepare(memory: &File, manifest: &Manifest, sections: &[Vec<u8>]) -> Result<()> {
    let job = Job {
        job: job::ROUNDTRIP,
        target: CLIENT,
        argument: 0,
        sections,
    };
    Exchange::map(memory, manifest.window(AGENT)?)?.write(&job)?;
    Exchange::map(memory, manifest.window(CLIENT)?)?.write(&Job {
        sections: &[],
        ..job
    })
}

/// Reads the passes out, shows them, and holds them against the table. Shows what is proven.
fn judge(
    terminal: &Terminal,
    arguments: &Roundtrip,
    table: &Table,
    agent: &Exchange,
    session: &Session,
    manifest: &Manifest,
) -> Result<()> {
    let passes = agent.passes()?;
    if passes.is_empty() {
        anyhow::bail!("the agent read no pass");
    }
    let journal = Exchange::map(session.memory(), manifest.window(CLIENT)?)?.journal()?;
    let generation = match arguments.machine {
        Kind::Powernv8 => Generation::Isa207,
        Kind::Powernv9 | Kind::Powernv10 => Generation::Isa300,
    };
    let read: Vec<_> = passes.iter().map(crate::exchange::Pass::read).collect();
    let client = if agent.has_no_room() {
        Client::NoRoom
    } else {
        Client::Ran(&journal)
    };
    let report = verify(table, &read, client, generation);
    for (line, pass) in report.passes.iter().zip(&passes) {
        terminal.step("Pass", &format!("{line}, {} calls", pass.calls));
    }
    if let (Some(out), Some(first)) = (&arguments.out, passes.first()) {
        let format = arguments.out_format.unwrap_or(table.format);
        formats::save(
            out,
            format,
            table.order,
            std::slice::from_ref(&first.records),
        )?;
        let Pass { entries, bytes, .. } = Pass::measure(&first.records, table.order)?;
        terminal.step(
            "Wrote",
            &format!(
                "{}: {format}, {entries} entries in {bytes} bytes",
                out.display()
            ),
        );
    }
    let verified = report.verdict.map_err(anyhow::Error::msg)?;
    terminal.step("verified", &verified.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_beyond_what_the_exchange_takes_are_joined() {
        let table = |count: u8| Table {
            order: 18,
            sections: (0..count)
                .map(|number| vec![number; 8])
                .cycle()
                .take(usize::from(count) * 3)
                .collect(),
            format: formats::Format::Qemu,
            guessed: false,
        };
        assert_eq!(sections(&table(3)), table(3).sections);
        let many = table(255);
        let joined = sections(&many);
        assert_eq!(joined.len(), MAX_SECTIONS);
        assert_eq!(joined.concat(), many.sections.concat());
    }
}
