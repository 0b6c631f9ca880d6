//! What each reader can tell here: attached as at a start, and read once.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    kernel::{ProgramOutcome, objects},
    model::{self, Health, MetricDef, Snapshot, Status},
    pipeline::{Metadata, Reader},
};

/// How long a reader may take. A file system that does not answer would hold `doctor` up for good.
const PATIENCE: Duration = Duration::from_secs(10);

/// The metric readers, with their programs and the metrics that this machine does not have. Of those that are `concerned` by an
/// obstacle, that is the way out.
pub(super) fn print(
    out: &mut impl Write,
    readers: Vec<Reader>,
    programs: &[ProgramOutcome],
    concerned: &BTreeSet<&str>,
) -> io::Result<()> {
    for reader in readers {
        writeln!(out)?;
        let (name, metrics) = (reader.name, reader.metrics);
        let attached = reader.attached.clone();
        let is_obstructed = concerned.contains(name);
        let (read, unsupported) = read(reader);
        // Of a file that could not be read, the reason says all.
        let is_explained = read.status == Status::Failed && read != attached;
        let way = way_out(read.status, is_obstructed).filter(|_| !is_explained);
        line(out, name, &read, way)?;
        for program in programs.iter().filter(|program| program.reader == name) {
            let mut health = program.outcome.health();
            if health == attached {
                // Said of the reader already.
                health.reason = "".into();
            }
            let way = way_out(health.status, is_obstructed);
            line(out, &format!("  {}", program.program), &health, way)?;
        }
        // All of them go without saying.
        if !unsupported.is_empty() && unsupported.len() < metrics.len() {
            let names: Vec<_> = unsupported.iter().map(|def| def.name).collect();
            writeln!(out, "    not here            {}", names.join(", "))?;
        }
    }
    Ok(())
}

/// The readers of metadata.
pub(super) fn print_metadata(out: &mut impl Write, readers: Vec<Metadata>) -> io::Result<()> {
    if !readers.is_empty() {
        writeln!(out, "\nmetadata")?;
    }
    for Metadata {
        name, mut reader, ..
    } in readers
    {
        let read = within(move || reader.read(&mut model::Metadata::default()));
        line(out, name, &health(read), None)?;
    }
    Ok(())
}

/// How the first read of a reader goes, if it is attached, and what it says this machine cannot give.
fn read(reader: Reader) -> (Health, Vec<&'static MetricDef>) {
    if reader.attached.status != Status::Ok {
        return (reader.attached, Vec::new());
    }
    let mut reader = reader.reader;
    let read = within(move || {
        let mut snapshot = Snapshot::default();
        reader.read(&mut snapshot)?;
        Ok(snapshot)
    });
    match read {
        Ok(snapshot) => (snapshot.health, snapshot.unsupported),
        Err(error) => (health(Err(error)), Vec::new()),
    }
}

/// What a read comes to on a thread of its own, which is left where it hangs.
fn within<T: Send + 'static>(
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (done, answer) = mpsc::channel();
    thread::spawn(move || drop(done.send(read())));
    let answered = answer.recv_timeout(PATIENCE).ok();
    answered.with_context(|| {
        let seconds = PATIENCE.as_secs();
        format!(
            "no answer within {seconds} s: a file system that hangs, or a pipe in a file's place"
        )
    })?
}

fn health(read: anyhow::Result<()>) -> Health {
    read.map_or_else(
        |error| Health::new(Status::Failed, format!("{error:#}")),
        |()| Health::default(),
    )
}

/// One line, and a second one with the way out if there is a reason to want one.
fn line(
    out: &mut impl Write,
    name: &str,
    health: &Health,
    way_out: Option<&str>,
) -> io::Result<()> {
    writeln!(out, "  {name:<22}{health}")?;
    match way_out {
        Some(way) if !health.reason.is_empty() => writeln!(out, "  {:<22}-> {way}", ""),
        _ => Ok(()),
    }
}

fn way_out(status: Status, is_obstructed: bool) -> Option<&'static str> {
    match status {
        Status::Unsupported | Status::Failed if is_obstructed => Some("see the obstacles"),
        Status::Denied => Some(
            "see the obstacles; where there is none, whoever started this filters bpf(2) out: let it through",
        ),
        // The reason names the command that builds them.
        Status::Unsupported if objects::OBJECTS.is_empty() => None,
        Status::Unsupported => Some("a machine or a kernel that has it; all else works without"),
        Status::Failed => Some("a defect of the probe: please report it with this text"),
        Status::Ok | Status::Degraded | Status::Suspect => None,
    }
}
