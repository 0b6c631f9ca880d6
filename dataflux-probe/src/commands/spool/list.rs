//! `spool list`: files, streams and numbers of each output.

use std::{collections::BTreeMap, io::Write, ops::RangeInclusive, path::Path};

use serde::Serialize;

use super::{Source, files, folders, line};
use crate::{
    formatters::rfc3339::Rfc3339,
    pipeline::spool::reading::{self, Kind, Record},
};

#[derive(Serialize)]
struct Listed<'a> {
    output: &'a str,
    folder: String,
    bytes: u64,
    records: usize,
    /// How many of them are still to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<usize>,
    files: Vec<ListedFile<'a>>,
    streams: Vec<ListedStream<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<DeadLetters>,
}

#[derive(Serialize)]
struct ListedFile<'a> {
    name: &'a str,
    bytes: u64,
    records: usize,
    /// When its first and its last record were written.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_time: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_time: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

#[derive(Serialize)]
struct ListedStream<'a> {
    id: &'a str,
    /// The numbers of its records.
    on_disk: Vec<Range>,
    /// Those that are still to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<Vec<Range>>,
}

#[derive(Serialize)]
struct DeadLetters {
    files: usize,
    bytes: u64,
    records: usize,
}

/// Numbers, both ends included.
#[derive(Serialize)]
struct Range {
    first: u64,
    last: u64,
}

pub(super) fn run(source: &Source, out: &mut impl Write) -> anyhow::Result<u8> {
    let kind = source.kind();
    let dead_letters = match kind {
        Kind::Envelopes => folders(&source.state_dir()?, Kind::DeadLetters, None)?,
        Kind::DeadLetters => BTreeMap::new(),
    };
    for (output, folder) in source.folders()? {
        let letters = dead_letters.get(&output);
        list(&output, &folder, kind, letters.map(|path| &**path), out)?;
    }
    Ok(0)
}

fn list(
    output: &str,
    folder: &Path,
    kind: Kind,
    dead_letters: Option<&Path>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let found = files(folder, kind)?;
    let pending = (kind == Kind::Envelopes).then(|| reading::pending(&found));
    let mut streams: BTreeMap<&str, (Vec<&Record>, Vec<&Record>)> = BTreeMap::new();
    for record in found.iter().flat_map(|file| &file.records) {
        streams.entry(&record.stream).or_default().0.push(record);
    }
    for (_, record) in pending.iter().flatten() {
        streams.entry(&record.stream).or_default().1.push(record);
    }
    let stream = |(id, (on_disk, waiting))| ListedStream {
        id,
        on_disk: ranges(on_disk),
        waiting: pending.is_some().then(|| ranges(waiting)),
    };
    let listed = Listed {
        output,
        folder: folder.display().to_string(),
        bytes: found.iter().map(|file| file.bytes).sum(),
        records: found.iter().map(|file| file.records.len()).sum(),
        waiting: pending.as_ref().map(Vec::len),
        files: found.iter().map(listed_file).collect(),
        streams: streams.into_iter().map(stream).collect(),
        dead_letters: dead_letters.map(count).transpose()?,
    };
    line(out, &listed)
}

fn listed_file(file: &reading::File) -> ListedFile<'_> {
    let times = || file.records.iter().map(|record| record.time);
    ListedFile {
        name: &file.name,
        bytes: file.bytes,
        records: file.records.len(),
        first_time: times().min().map(Rfc3339),
        last_time: times().max().map(Rfc3339),
        problems: super::problems(file),
    }
}

fn count(folder: &Path) -> anyhow::Result<DeadLetters> {
    let found = files(folder, Kind::DeadLetters)?;
    Ok(DeadLetters {
        files: found.len(),
        bytes: found.iter().map(|file| file.bytes).sum(),
        records: found.iter().map(|file| file.records.len()).sum(),
    })
}

/// The numbers of records, joined where they touch.
fn ranges(records: Vec<&Record>) -> Vec<Range> {
    let mut sorted: Vec<&RangeInclusive<u64>> =
        records.iter().map(|record| &record.range).collect();
    sorted.sort_by_key(|range| *range.start());
    let mut joined: Vec<Range> = Vec::new();
    for range in sorted {
        let (first, last) = (*range.start(), *range.end());
        match joined.last_mut() {
            Some(before) if first <= before.last.saturating_add(1) => {
                before.last = before.last.max(last);
            }
            _ => joined.push(Range { first, last }),
        }
    }
    joined
}
