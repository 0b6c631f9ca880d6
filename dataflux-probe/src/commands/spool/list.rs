//! `spool list`: files, streams and numbers of each output.

use std::{collections::BTreeMap, io::Write, ops::RangeInclusive, path::Path};

use serde::Serialize;

use super::{Source, files, folders, line};
use crate::{
    formatters::rfc3339::Rfc3339,
    model::Gap,
    pipeline::spool::reading::{self, Account, File, Journal, Kind, Record},
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
    #[serde(skip_serializing_if = "Option::is_none")]
    journal: Option<ListedJournal<'a>>,
    files: Vec<ListedFile<'a>>,
    streams: Vec<ListedStream<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters: Option<DeadLetters>,
}

#[derive(Serialize)]
struct ListedJournal<'a> {
    /// `whole`, `damaged` or `none`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

#[derive(Serialize)]
struct ListedFile<'a> {
    name: &'a str,
    bytes: u64,
    records: usize,
    /// The earliest and the latest time of its records.
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
    #[serde(flatten)]
    account: Option<ListedAccount<'a>>,
}

/// What the journal knows of a stream.
#[derive(Serialize)]
struct ListedAccount<'a> {
    /// Delivered or lost.
    done: Vec<Range>,
    /// Handed over at least once, and neither.
    handed_over: Vec<Range>,
    /// Lost, which no envelope that was handed over says.
    gaps: &'a [Gap],
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
    let journal = (kind == Kind::Envelopes).then(|| reading::journal(folder));
    let pending = journal
        .as_ref()
        .map(|journal| reading::pending(&found, journal));
    let listed = Listed {
        output,
        folder: folder.display().to_string(),
        bytes: found.iter().map(|file| file.bytes).sum(),
        records: found.iter().map(|file| file.records.len()).sum(),
        waiting: pending.as_ref().map(Vec::len),
        journal: journal.as_ref().map(listed_journal),
        files: found.iter().map(listed_file).collect(),
        streams: listed_streams(&found, pending.as_deref(), journal.as_ref()),
        dead_letters: dead_letters.map(count).transpose()?,
    };
    line(out, &listed)
}

fn listed_journal(journal: &Journal) -> ListedJournal<'_> {
    ListedJournal {
        state: match (&journal.problem, journal.is_there) {
            (Some(_), _) => "damaged",
            (None, true) => "whole",
            (None, false) => "none",
        },
        problem: journal.problem.as_deref(),
    }
}

/// Those on the disk, and those that the journal still has to account for.
fn listed_streams<'a>(
    found: &'a [File],
    pending: Option<&[(&'a File, &'a Record)]>,
    journal: Option<&'a Journal>,
) -> Vec<ListedStream<'a>> {
    let mut streams: BTreeMap<&str, (Vec<&Record>, Vec<&Record>)> = BTreeMap::new();
    for account in journal.iter().flat_map(|journal| &journal.accounts) {
        streams.entry(&account.stream).or_default();
    }
    for record in found.iter().flat_map(|file| &file.records) {
        streams.entry(&record.stream).or_default().0.push(record);
    }
    for (_, record) in pending.iter().copied().flatten() {
        streams.entry(&record.stream).or_default().1.push(record);
    }
    let stream = |(id, (on_disk, waiting))| ListedStream {
        id,
        on_disk: record_ranges(on_disk),
        waiting: pending.is_some().then(|| record_ranges(waiting)),
        account: journal
            .and_then(|journal| journal.account(id))
            .map(listed_account),
    };
    streams.into_iter().map(stream).collect()
}

fn listed_account(account: &Account) -> ListedAccount<'_> {
    let handed_over = account.handed_over.iter().map(|handed| &handed.range);
    ListedAccount {
        done: ranges(account.done.iter().collect()),
        handed_over: ranges(handed_over.collect()),
        gaps: &account.gaps,
    }
}

fn listed_file(file: &File) -> ListedFile<'_> {
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

fn record_ranges(records: Vec<&Record>) -> Vec<Range> {
    ranges(records.into_iter().map(|record| &record.range).collect())
}

/// Numbers in order, joined where they touch.
fn ranges(mut sorted: Vec<&RangeInclusive<u64>>) -> Vec<Range> {
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
