//! What each reader can tell here: attached as at a start, and read once.

use std::io::{self, Write};

use crate::{
    kernel::{ProgramOutcome, objects},
    model::{self, Health, MetricDef, Snapshot, Status},
    pipeline::{Metadata, Reader},
};

/// The metric readers, with their programs and the metrics that this machine does not have.
pub(super) fn print(
    out: &mut impl Write,
    readers: &mut [Reader],
    programs: &[ProgramOutcome],
) -> io::Result<()> {
    for reader in readers {
        writeln!(out)?;
        let (read, unsupported) = read(reader);
        // Of a file that could not be read, the reason says all.
        let is_explained = read.status == Status::Failed && read != reader.attached;
        let way = way_out(read.status).filter(|_| !is_explained);
        line(out, reader.name, &read, way)?;
        let own = programs
            .iter()
            .filter(|program| program.reader == reader.name);
        for program in own {
            let name = format!("  {}", program.program);
            let mut health = program.outcome.health();
            if health == reader.attached {
                // Said of the reader already.
                health.reason = "".into();
            }
            line(out, &name, &health, way_out(health.status))?;
        }
        // All of them go without saying.
        if !unsupported.is_empty() && unsupported.len() < reader.metrics.len() {
            let names: Vec<_> = unsupported.iter().map(|def| def.name).collect();
            writeln!(out, "    not here            {}", names.join(", "))?;
        }
    }
    Ok(())
}

/// The readers of metadata.
pub(super) fn print_metadata(out: &mut impl Write, readers: &mut [Metadata]) -> io::Result<()> {
    if !readers.is_empty() {
        writeln!(out, "\nmetadata")?;
    }
    for reader in readers {
        let read = reader.reader.read(&mut model::Metadata::default());
        line(out, reader.name, &health(read), None)?;
    }
    Ok(())
}

/// How the first read of a reader goes, if it is attached, and what it says this machine cannot give.
fn read(reader: &mut Reader) -> (Health, Vec<&'static MetricDef>) {
    if reader.attached.status != Status::Ok {
        return (reader.attached.clone(), Vec::new());
    }
    let mut snapshot = Snapshot::default();
    match reader.reader.read(&mut snapshot) {
        Ok(()) => (snapshot.health, snapshot.unsupported),
        Err(error) => (health(Err(error)), Vec::new()),
    }
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

fn way_out(status: Status) -> Option<&'static str> {
    match status {
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
