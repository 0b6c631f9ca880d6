//! `shape = "rows"`: flat objects, one a line; docs/formatters.md describes every field.

use super::Compact;
use crate::{
    formatters::{
        Fields, document,
        naming::{self, EntityNames},
        writer::{Object, Writer},
    },
    histogram::{SCHEME, quantiles},
    model::{Gap, Metric, Numbered, Previous, Source, Value, WallTime},
};

/// What a row is, for those who receive it.
pub(super) const SCHEMA: &str = "dataflux.row/1";

type Row<'a> = Object<'a, Compact>;

/// Appends the rows of a record: its window, what is lost, each source and its series.
pub(super) fn write(fields: &Fields, numbered: &Numbered, trans_time: WallTime, out: &mut Vec<u8>) {
    let envelope = &*numbered.envelope;
    let mut common = Vec::with_capacity(512);
    begin(fields, numbered, &mut common);
    line(&common, out, |row| window(numbered, trans_time, row));
    for gap in &numbered.gaps {
        line(&common, out, |row| lost(&numbered.stream.id, gap, row));
    }
    let mut before = numbered.stream.previous.as_ref();
    while let Some(stream) = before {
        line(&common, out, |row| previous(stream, row));
        for gap in &stream.gaps {
            line(&common, out, |row| lost(&stream.id, gap, row));
        }
        before = stream.previous.as_deref();
    }
    let begun = common.len();
    for source in &envelope.sources {
        line(&common, out, |row| {
            row.plain("row", "source");
            row.plain("reader", source.reader);
            document::account(source, row);
        });
        of_source(source, &mut Row::resumed(&mut common));
        let shared = naming::shared_labels(fields, &envelope.metadata, source);
        for metric in &source.metrics {
            line(&common, out, |row| {
                identity(fields, &shared, metric, row);
                value(fields, metric, row);
            });
        }
        common.truncate(begun);
    }
}

/// What every row has; the object is left open.
fn begin(fields: &Fields, numbered: &Numbered, out: &mut Vec<u8>) {
    let mut row = Writer::<Compact>::new(out).object();
    row.plain("schema", SCHEMA);
    row.text("stream", &numbered.stream.id);
    document::numbers(numbered, &mut row);
    if let Some(host) = naming::host(fields, &numbered.envelope.metadata) {
        row.text("host", host);
    }
}

/// A row that goes on from what others have, too.
fn line(begun: &[u8], out: &mut Vec<u8>, write: impl FnOnce(&mut Row<'_>)) {
    out.extend_from_slice(begun);
    let mut row = Row::resumed(out);
    write(&mut row);
    row.end();
    out.push(b'\n');
}

fn window(numbered: &Numbered, trans_time: WallTime, row: &mut Row<'_>) {
    let window = numbered.envelope.window;
    let sources = &numbered.envelope.sources;
    row.plain("row", "window");
    row.time("start_time", window.start);
    row.time("stop_time", window.stop);
    row.time("trans_time", trans_time);
    row.nanoseconds("duration_ns", window.duration);
    row.nanoseconds("suspended_ns", window.suspended);
    row.signed("clock_step_ns", window.clock_step);
    row.number("sources", sources.len() as u64);
    let series: usize = sources.iter().map(|source| source.metrics.len()).sum();
    row.number("series", series as u64);
}

fn lost(stream: &str, gap: &Gap, row: &mut Row<'_>) {
    row.plain("row", "lost");
    row.text("lost_stream", stream);
    row.number("lost_first", gap.first);
    row.number("lost_last", gap.last);
    row.plain("cause", gap.cause.name());
}

fn previous(stream: &Previous, row: &mut Row<'_>) {
    row.plain("row", "previous");
    row.text("previous_stream", &stream.id);
    row.number("previous_last", stream.last);
    row.time("previous_stop_time", stream.stop_time);
}

/// What every series of a source has.
fn of_source(source: &Source, row: &mut Row<'_>) {
    row.plain("row", "series");
    row.plain("reader", source.reader);
    row.plain("status", source.health.status.name());
    row.time("start_time", source.window.start);
    row.time("stop_time", source.window.stop);
    row.nanoseconds("covered_ns", source.covered);
}

/// Which series it is.
fn identity(fields: &Fields, shared: &[(&str, &str)], metric: &Metric, row: &mut Row<'_>) {
    let def = metric.def;
    row.plain("metric", def.name);
    row.plain("kind", def.kind.name());
    row.plain("unit", def.unit.name());
    if let Some(entity) = EntityNames::of(metric) {
        row.plain("entity", entity.kind);
        if let Some(id) = &entity.id {
            row.text("entity_id", id);
        }
        if let Some(name) = entity.name {
            row.text("entity_name", name);
        }
        if entity.other {
            row.yes("entity_other");
        }
    }
    let mut key = naming::LABEL.to_owned();
    for (name, value) in naming::labels(fields, shared, metric) {
        key.truncate(naming::LABEL.len());
        key.push_str(name);
        row.any_text(&key, value);
    }
}

fn value(fields: &Fields, metric: &Metric, row: &mut Row<'_>) {
    document::value(fields, &metric.value, row);
    if let Value::Histogram(buckets) = &metric.value {
        row.number("count", buckets.count());
        row.number("sum", buckets.sum);
        for (name, value) in quantiles(buckets) {
            row.number(name, value);
        }
        row.plain("scheme", SCHEME);
        document::counts(buckets, row);
    }
}
