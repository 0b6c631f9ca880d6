//! `spool verify`: reads everything and checks it.

use std::{io::Write, path::Path};

use serde::Serialize;

use super::{Source, files, line, problems};
use crate::pipeline::spool::reading::{self, File, Kind, Reader};

#[derive(Serialize)]
struct Report<'a> {
    output: &'a str,
    folder: String,
    files: usize,
    bytes: u64,
    /// Records that are whole.
    records: u64,
    intact: bool,
    damage: Vec<Damage<'a>>,
}

#[derive(Serialize)]
struct Damage<'a> {
    file: &'a str,
    problem: String,
    /// The record that is damaged, if it is one.
    #[serde(flatten)]
    record: Option<DamagedRecord<'a>>,
}

#[derive(Serialize)]
struct DamagedRecord<'a> {
    offset: u64,
    bytes: u32,
    stream: &'a str,
    first: u64,
    last: u64,
}

pub(super) fn run(source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let mut intact = true;
    for (output, folder) in source.folders()? {
        intact &= verify(&output, &folder, source.kind(), out)?;
    }
    Ok(u8::from(!intact))
}

/// Whether there is no damage.
fn verify(output: &str, folder: &Path, kind: Kind, out: &mut impl Write) -> anyhow::Result<bool> {
    let found = files(folder, kind)?;
    let mut reader = Reader::new(kind);
    let (mut records, mut damage) = (0, Vec::new());
    for file in &found {
        let of_file = |problem| Damage {
            file: &file.name,
            problem,
            record: None,
        };
        damage.extend(problems(file).into_iter().map(of_file));
        let before = damage.len();
        damage.extend(damaged_records(file, &mut reader));
        records += (file.records.len() - (damage.len() - before)) as u64;
    }
    let journal = (kind == Kind::Envelopes).then(|| reading::journal(folder));
    if let Some(problem) = journal.and_then(|journal| journal.problem) {
        damage.push(Damage {
            file: "journal",
            problem,
            record: None,
        });
    }
    let intact = damage.is_empty();
    let report = Report {
        output,
        folder: folder.display().to_string(),
        files: found.len(),
        bytes: found.iter().map(|file| file.bytes).sum(),
        records,
        intact,
        damage,
    };
    line(out, &report)?;
    Ok(intact)
}

fn damaged_records<'a>(file: &'a File, reader: &mut Reader) -> Vec<Damage<'a>> {
    let damaged = file.records.iter().filter_map(|record| {
        Some(Damage {
            file: &file.name,
            problem: reader.read(file, record).err()?,
            record: Some(DamagedRecord {
                offset: record.offset,
                bytes: record.bytes,
                stream: &record.stream,
                first: *record.range.start(),
                last: *record.range.end(),
            }),
        })
    });
    damaged.collect()
}
