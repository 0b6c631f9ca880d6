//! `json`: one envelope per line, as docs/envelope.md describes it field by field.

mod writer;

use std::{ptr, sync::Arc};

use serde::Deserialize;

use super::{Fields, Formatter, by_metric};
use crate::{
    histogram::SCHEME,
    model::{
        Buckets, Entity, EntityKey, Gap, Kind, Labels, Metric, MetricDef, Numbered, Previous,
        SCHEMA, Source, Stream, Value, WallTime,
    },
    plugin::{Needs, Plugin},
};
use writer::{Object, Writer};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "json",
    summary: "one envelope per line, for programs; docs/envelope.md describes every field",
    needs: Needs::NOTHING,
    example: "# No options.",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Json {
            fields: Arc::clone(&context.fields),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Json {
    fields: Arc<Fields>,
}

impl Formatter for Json {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn format(
        &self,
        numbered: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        self.write(numbered, trans_time, &mut Writer::new(out));
        out.push(b'\n');
        Ok(())
    }
}

impl Json {
    fn write(&self, numbered: &Numbered, trans_time: WallTime, out: &mut Writer<'_>) {
        let envelope = &*numbered.envelope;
        let window = envelope.window;
        let mut object = out.object();
        object.plain("schema", SCHEMA);
        stream(numbered, &mut object.key("stream"));
        self.header(numbered, &mut object.key("header"));
        object.time("start_time", window.start);
        object.time("stop_time", window.stop);
        object.time("trans_time", trans_time);
        object.nanoseconds("duration_ns", window.duration);
        object.nanoseconds("suspended_ns", window.suspended);
        object.signed("clock_step_ns", window.clock_step);
        let mut sources = object.array("sources");
        for one in &envelope.sources {
            self.source(one, &mut sources.item());
        }
        sources.end();
        object.end();
    }

    fn header(&self, numbered: &Numbered, out: &mut Writer<'_>) {
        let mut header = out.object();
        for (name, section) in self.fields.header(&numbered.envelope.metadata) {
            let mut object = header.object(name);
            for (field, value) in section {
                object.json(field, value);
            }
            object.end();
        }
        header.end();
    }

    fn source(&self, source: &Source, out: &mut Writer<'_>) {
        let window = source.window;
        let mut object = out.object();
        object.plain("reader", source.reader);
        self.labels(&source.labels, &mut object);
        object.plain("status", source.health.status.name());
        if !source.health.reason.is_empty() {
            object.text("reason", &source.health.reason);
        }
        object.time("start_time", window.start);
        object.time("stop_time", window.stop);
        object.nanoseconds("duration_ns", window.duration);
        if !window.suspended.is_zero() {
            object.nanoseconds("suspended_ns", window.suspended);
        }
        if window.clock_step != 0 {
            object.signed("clock_step_ns", window.clock_step);
        }
        object.nanoseconds("covered_ns", source.covered);
        object.number("lost", source.lost);
        let mut unsupported = object.array("unsupported");
        for def in &source.unsupported {
            unsupported.item().plain(def.name);
        }
        unsupported.end();
        let mut metrics = object.array("metrics");
        let series = by_metric(&source.metrics);
        for series in series.chunk_by(|one, next| ptr::eq(one.def, next.def)) {
            self.metric(series[0].def, series, &mut metrics.item());
        }
        metrics.end();
        object.end();
    }

    /// What the configuration says about a source.
    fn labels(&self, labels: &Labels, out: &mut Object<'_>) {
        let wanted =
            |(_, value): &(&String, &String)| self.fields.empty_labels || !value.is_empty();
        let mut labels = labels.iter().filter(wanted).peekable();
        if labels.peek().is_none() {
            return;
        }
        let mut object = out.object("labels");
        for (name, value) in labels {
            object.text(name, value);
        }
        object.end();
    }

    fn metric(&self, def: &MetricDef, series: &[&Metric], out: &mut Writer<'_>) {
        let mut object = out.object();
        object.plain("name", def.name);
        object.plain("kind", def.kind.name());
        object.plain("unit", def.unit.name());
        if def.kind == Kind::Histogram {
            object.plain("scheme", SCHEME);
        }
        let mut list = object.array("series");
        for one in series {
            self.series(one, &mut list.item());
        }
        list.end();
        object.end();
    }

    /// Its entity under the name of the entity's kind, its labels, its value.
    fn series(&self, metric: &Metric, out: &mut Writer<'_>) {
        let mut object = out.object();
        if let Some(of) = &metric.entity {
            entity(of, metric, &mut object.key(of.kind.name()));
        }
        let wanted = |value: &str| self.fields.empty_labels || !value.is_empty();
        if metric.labels.iter().any(|value| wanted(value)) {
            let mut labels = object.object("labels");
            for (name, value) in metric.def.labels.iter().zip(&metric.labels) {
                if wanted(value) {
                    labels.text(name, value);
                }
            }
            labels.end();
        }
        match &metric.value {
            Value::Counter { value, total } => {
                match value {
                    Some(value) => object.number("value", *value),
                    None => object.null("value"),
                }
                if self.fields.total {
                    object.number("total", *total);
                }
            }
            Value::Gauge { value, min, max } => {
                object.float("value", *value);
                let bounds = [min, max].map(|bound| bound.to_bits());
                if bounds != [value.to_bits(); 2] {
                    if self.fields.min {
                        object.float("min", *min);
                    }
                    if self.fields.max {
                        object.float("max", *max);
                    }
                }
            }
            Value::Histogram(buckets) => histogram(buckets, &mut object),
        }
        object.end();
    }
}

fn histogram(buckets: &Buckets, object: &mut Object<'_>) {
    object.number("sum", buckets.sum);
    let index = buckets.counts.iter().map(|&(bucket, _)| bucket.into());
    object.numbers("index", index);
    let counts = buckets.counts.iter().map(|&(_, count)| count);
    object.numbers("counts", counts);
}

fn entity(entity: &Entity, metric: &Metric, out: &mut Writer<'_>) {
    let (id, name) = metric.id_and_name();
    let mut object = out.object();
    if let Some(id) = id {
        object.id("id", entity.kind.parts_of_id(id));
    }
    if let Some(name) = name {
        object.text("name", name);
    }
    if entity.key == EntityKey::Other {
        object.yes("other");
    }
    object.end();
}

fn stream(numbered: &Numbered, out: &mut Writer<'_>) {
    let Stream {
        id,
        previous: before,
    } = &*numbered.stream;
    let mut object = out.object();
    object.text("id", id);
    object.number("first", *numbered.range.start());
    object.number("last", *numbered.range.end());
    object.number("part", numbered.part.part.into());
    object.number("parts", numbered.part.parts.into());
    gaps(&numbered.gaps, &mut object);
    if let Some(before) = before {
        previous(before, &mut object.key("previous"));
    }
    object.end();
}

fn previous(stream: &Previous, out: &mut Writer<'_>) {
    let mut object = out.object();
    object.text("id", &stream.id);
    object.number("last", stream.last);
    object.time("stop_time", stream.stop_time);
    gaps(&stream.gaps, &mut object);
    if let Some(before) = &stream.previous {
        previous(before, &mut object.key("previous"));
    }
    object.end();
}

fn gaps(gaps: &[Gap], object: &mut Object<'_>) {
    let mut list = object.array("gaps");
    for gap in gaps {
        let mut item = list.item();
        let mut object = item.object();
        object.number("first", gap.first);
        object.number("last", gap.last);
        object.plain("cause", gap.cause.name());
        object.end();
    }
    list.end();
}
