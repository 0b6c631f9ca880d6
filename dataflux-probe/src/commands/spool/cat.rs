//! `spool cat`: the envelopes on disk, as a formatter writes them.

use std::{io::Write, path::Path, sync::Arc};

use anyhow::Context as _;
use serde::Serialize;

use super::{Format, Source, files};
use crate::{
    commands::start,
    config,
    formatters::{Formatter, rfc3339::Rfc3339},
    model::{Cause, Envelope, Numbered, Part, Stream, WallTime},
    pipeline::spool::reading::{self, File, HandedOver, Kind, Reader, Record},
};

/// The arguments of `spool cat`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// What is delivered already, too, as far as it is still on disk.
    #[arg(long)]
    all: bool,
    /// Only this stream.
    #[arg(long, value_name = "ID")]
    stream: Option<String>,
    /// Only from this number on.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    first: u64,
    /// Only up to this number.
    #[arg(long, value_name = "NUMBER", default_value_t = u64::MAX, hide_default_value = true)]
    last: u64,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

/// What stands before a rejected envelope in one line of JSON.
#[derive(Serialize)]
struct Letter<'a> {
    time: Rfc3339,
    cause: Cause,
    reason: &'a str,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let output = start::everything(arguments.format.name(), &[])?
        .outputs
        .pop();
    let formatter = output
        .context("the configuration of everything has an output")?
        .formatter;
    let mut unreadable = 0;
    for folder in arguments.source.folders()?.values() {
        unreadable += cat(folder, arguments, &*formatter, out)?;
    }
    Ok(u8::from(unreadable > 0))
}

/// Gives how many records, and files as a whole, could not be read.
fn cat(
    folder: &Path,
    arguments: &Arguments,
    formatter: &dyn Formatter,
    out: &mut impl Write,
) -> anyhow::Result<u64> {
    let kind = arguments.source.kind();
    let found = files(folder, kind)?;
    let journal = (kind == Kind::Envelopes).then(|| reading::journal(folder));
    let chosen: Vec<(&File, &Record)> = match &journal {
        Some(journal) if !arguments.all => reading::pending(&found, journal),
        _ => found
            .iter()
            .flat_map(|file| file.records.iter().map(move |record| (file, record)))
            .collect(),
    };
    let mut reader = Reader::new(kind);
    let mut unreadable = 0;
    for file in &found {
        if let Some(refused) = &file.refused {
            unreadable += 1;
            let path = folder.join(&file.name);
            tracing::warn!("{} cannot be read: {refused}", path.display());
        }
    }
    for (file, record) in chosen {
        let wanted = arguments.stream.as_deref();
        if wanted.is_some_and(|stream| stream != &*record.stream)
            || *record.range.end() < arguments.first
            || *record.range.start() > arguments.last
        {
            continue;
        }
        match reader.read(file, record) {
            Ok(content) => {
                let handed_over = journal
                    .as_ref()
                    .and_then(|journal| journal.handed_over(record));
                let numbered = numbered(record, content.envelope, handed_over);
                print(
                    &numbered,
                    record.time,
                    content.rejected,
                    arguments.format,
                    formatter,
                    out,
                )?;
            }
            Err(problem) => {
                unreadable += 1;
                tracing::warn!(
                    "{}: the record at {} cannot be read: {problem}",
                    folder.join(&file.name).display(),
                    record.offset
                );
            }
        }
    }
    Ok(unreadable)
}

/// As it would be handed over. What it announces is known once that was done.
fn numbered(record: &Record, envelope: Envelope, handed_over: Option<&HandedOver>) -> Numbered {
    Numbered {
        stream: Arc::new(Stream {
            id: Arc::clone(&record.stream),
            previous: handed_over.and_then(|handed| handed.previous.clone()),
        }),
        range: record.range.clone(),
        part: Part::WHOLE,
        gaps: handed_over.map_or_else(Vec::new, |handed| handed.gaps.clone()),
        envelope: Arc::new(envelope),
    }
}

fn print(
    numbered: &Numbered,
    written: WallTime,
    rejected: Option<(Cause, String)>,
    format: Format,
    formatter: &dyn Formatter,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    formatter.format(numbered, config::now(), &mut text)?;
    let time = Rfc3339(written);
    match (rejected, format) {
        (None, _) => out.write_all(&text)?,
        (Some((cause, reason)), Format::Json) => {
            let reason = &reason;
            let head = serde_json::to_string(&Letter {
                time,
                cause,
                reason,
            })?;
            // The envelope is an object already, and goes into this one as it is.
            write!(out, "{},\"envelope\":", head.trim_end_matches('}'))?;
            out.write_all(text.trim_ascii_end())?;
            writeln!(out, "}}")?;
        }
        (Some((cause, reason)), Format::Text) => {
            writeln!(out, "{} at {time}: {}", cause.name(), reason.escape_debug())?;
            out.write_all(&text)?;
        }
    }
    Ok(())
}
