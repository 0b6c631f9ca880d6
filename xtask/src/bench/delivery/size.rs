//! How large the default configuration's envelope is, and how fast it becomes JSON.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    formatters::Formatter,
    model::{EntityKind, Envelope, Metadata, Numbered, Part, Source, Stream},
};

use super::{
    super::{
        load::{Kind, Load},
        process::Row,
        readers::cpu_time,
        statistics::{Bar, Spread},
    },
    Section, envelopes,
};
use crate::command::say;

/// The default interval.
const WINDOW: Duration = Duration::from_secs(10);
const JSON_BAR: f64 = 24.0;
const PACKED_BAR: f64 = 4.0;
/// Of zstd, Kafka's and librdkafka's default.
const LEVEL: i32 = 3;
const KIB: f64 = 1024.0;
/// How long each measurement of formatting takes.
const WHILE: Duration = Duration::from_millis(200);

pub(super) fn measure(rounds: usize, folder: &Path) -> anyhow::Result<Section> {
    say("envelope: the default configuration's readers, 10 s idle and 10 s with loads");
    let json = formatter()?;
    let idle = envelopes::read(WINDOW)?;
    let busy = {
        let _loads = [Kind::Hackbench, Kind::DirectIo, Kind::Spawn]
            .into_iter()
            .map(|kind| Load::start(kind, folder))
            .collect::<anyhow::Result<Vec<_>>>()?;
        envelopes::read(WINDOW)?
    };
    let mut rows = Vec::new();
    for (what, envelope) in [("idle", &idle), ("under load", &busy)] {
        rows.extend(sizes(what, envelope, &*json)?);
    }
    rows.extend(shares(&busy, &*json)?);
    rows.push(zeros(&idle));
    rows.extend(speed(rounds, &busy, &*json)?);
    Ok(Section {
        title: "The envelope of the default configuration, 10 s".to_owned(),
        rows,
    })
}

/// The JSON formatter as the configuration makes it.
pub(super) fn formatter() -> anyhow::Result<Box<dyn Formatter>> {
    let text = "[metrics.cpu]\n[output.bench]\nformatter = \"json\"\nlogger = \"stdout\"\n";
    let config = Config::parse(Path::new("bench"), text.to_owned(), Registries::BUILT_IN)?;
    let output = config.outputs.into_iter().next();
    Ok(output.context("one output was configured")?.formatter)
}

/// As a stream's envelope with this number.
pub(in super::super) fn numbered(envelope: &Arc<Envelope>, number: u64) -> Numbered {
    Numbered {
        stream: Arc::new(Stream {
            id: "bench-5d41f0c29b7a6e38".into(),
            previous: None,
        }),
        range: number..=number,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::clone(envelope),
    }
}

pub(in super::super) fn format(json: &dyn Formatter, record: &Numbered) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    json.format(record, record.envelope.window.stop, &mut bytes)?;
    Ok(bytes)
}

fn sizes(what: &str, envelope: &Envelope, json: &dyn Formatter) -> anyhow::Result<Vec<Row>> {
    let entities = |kind| {
        let metrics = envelope.sources.iter().flat_map(|source| &source.metrics);
        let found = metrics.filter_map(|metric| metric.entity.as_ref());
        let found = found.filter(|entity| entity.kind == kind);
        found.collect::<std::collections::BTreeSet<_>>().len()
    };
    let (disks, interfaces) = (
        entities(EntityKind::Device),
        entities(EntityKind::Interface),
    );
    let here = format(json, &numbered(&Arc::new(envelope.clone()), 1))?;
    let here_as = format!("as here: disks {disks}, interfaces {interfaces} (lo is one)");
    let mut rows = vec![Row::new(
        format!("JSON {what}, {here_as}"),
        "KiB",
        here.len() as f64 / KIB,
        None,
    )];
    let all = envelopes::scaled(envelope);
    let most = envelopes::of_most_ticks(&all)?;
    for (which, envelope) in [("all readers due", all), ("at most ticks", most)] {
        let bytes = format(json, &numbered(&Arc::new(envelope), 1))?;
        let packed = zstd::bulk::compress(&bytes, LEVEL)?;
        rows.push(Row::new(
            format!("JSON {what}, 2 disks and 3 interfaces, {which}"),
            "KiB",
            bytes.len() as f64 / KIB,
            Some(Bar::AtMost(JSON_BAR)),
        ));
        rows.push(Row::new(
            format!("the same after zstd, level {LEVEL}, alone"),
            "KiB",
            packed.len() as f64 / KIB,
            Some(Bar::AtMost(PACKED_BAR)),
        ));
    }
    Ok(rows)
}

/// What of the envelope is its header, and what is each source, the largest first.
fn shares(envelope: &Envelope, json: &dyn Formatter) -> anyhow::Result<Vec<Row>> {
    let scaled = envelopes::scaled(envelope);
    let size = |metadata: &Arc<Metadata>, sources: &[Source]| {
        let envelope = Envelope {
            window: scaled.window,
            metadata: Arc::clone(metadata),
            sources: sources.to_vec(),
        };
        anyhow::Ok(format(json, &numbered(&Arc::new(envelope), 1))?.len())
    };
    let (nobody, header) = (Arc::default(), &scaled.metadata);
    let empty = size(&nobody, &[])?;
    let mut parts = vec![("the header".to_owned(), size(header, &[])? - empty)];
    for source in &scaled.sources {
        let what = format!("{}, {} series", source.reader, source.metrics.len());
        parts.push((what, size(&nobody, std::slice::from_ref(source))? - empty));
    }
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let row = |(what, bytes): (String, usize)| {
        let what = format!("of the JSON under load: {what}");
        Row::new(what, "KiB", bytes as f64 / KIB, None)
    };
    Ok(parts.into_iter().map(row).collect())
}

/// Counters and histograms in it of which nothing is to be told.
fn zeros(idle: &Envelope) -> Row {
    let metrics = idle.sources.iter().flat_map(|source| &source.metrics);
    let zeros = metrics.filter(|metric| metric.value.is_zero()).count();
    Row::new(
        "series without change in it, idle",
        "series",
        zeros as f64,
        Some(Bar::AtMost(0.0)),
    )
}

/// MB/s of the formatter, and of serde_json from a tree of the same.
fn speed(rounds: usize, envelope: &Envelope, json: &dyn Formatter) -> anyhow::Result<Vec<Row>> {
    let record = numbered(&Arc::new(envelopes::scaled(envelope)), 1);
    let tree: serde_json::Value = serde_json::from_slice(&format(json, &record)?)?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut buffer = Vec::new();
    for _ in 0..rounds {
        let own = rate(&mut buffer, |out| {
            json.format(&record, record.envelope.window.stop, out)
        })?;
        let peer = rate(&mut buffer, |out| Ok(serde_json::to_writer(out, &tree)?))?;
        ours.push(own);
        theirs.push(peer);
        ratios.push(own / peer);
    }
    let spread = |values| Spread::of(values).context("no round was measured");
    Ok(vec![
        Row::of_rounds("formatting: this formatter", "MB/s", spread(ours)?, None),
        Row::of_rounds(
            "formatting: serde_json, the same tree",
            "MB/s",
            spread(theirs)?,
            None,
        ),
        Row::of_rounds("formatting: ratio", "", spread(ratios)?, None),
    ])
}

/// Megabytes that `write` appends in a second of processor time.
pub(in super::super) fn rate(
    buffer: &mut Vec<u8>,
    mut write: impl FnMut(&mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let (begin, mut bytes) = (cpu_time(), 0);
    let elapsed = || cpu_time() - begin;
    while elapsed() < WHILE {
        for _ in 0..16 {
            buffer.clear();
            write(buffer)?;
            bytes += buffer.len();
        }
    }
    Ok(bytes as f64 / 1e6 / elapsed().as_secs_f64())
}
