//! The envelope as docs/envelope.md describes it field by field, in any encoding that has objects and arrays.

use std::ptr;

use super::{
    Fields, by_metric,
    writer::{Encoding, Object, Writer},
};
use crate::{
    histogram::SCHEME,
    model::{
        Buckets, Entity, EntityKey, Gap, Kind, Metric, MetricDef, Numbered, Previous, SCHEMA,
        Source, Stream, Value, WallTime,
    },
};

/// What an output's documents have of the fields that they can do without.
pub(super) struct Document<'a>(pub(super) &'a Fields);

impl Document<'_> {
    pub(super) fn write<E: Encoding>(
        &self,
        numbered: &Numbered,
        trans_time: WallTime,
        out: Writer<'_, E>,
    ) {
        let envelope = &*numbered.envelope;
        let window = envelope.window;
        let mut object = out.object();
        object.plain("schema", SCHEMA);
        stream(numbered, object.key("stream"));
        self.header(numbered, object.key("header"));
        object.time("start_time", window.start);
        object.time("stop_time", window.stop);
        object.time("trans_time", trans_time);
        object.nanoseconds("duration_ns", window.duration);
        object.nanoseconds("suspended_ns", window.suspended);
        object.signed("clock_step_ns", window.clock_step);
        let mut sources = object.array("sources");
        for one in &envelope.sources {
            self.source(one, sources.item());
        }
        sources.end();
        object.end();
    }

    fn header<E: Encoding>(&self, numbered: &Numbered, out: Writer<'_, E>) {
        let mut header = out.object();
        for (name, section) in self.0.header(&numbered.envelope.metadata) {
            let mut object = header.object(name);
            for (field, value) in section {
                object.json(field, value);
            }
            object.end();
        }
        header.end();
    }

    fn source<E: Encoding>(&self, source: &Source, out: Writer<'_, E>) {
        let mut object = out.object();
        object.plain("reader", source.reader);
        let labels = source.labels.iter();
        self.labels(labels.map(|(name, value)| (&**name, &**value)), &mut object);
        account(source, &mut object);
        let mut metrics = object.array("metrics");
        let series = by_metric(&source.metrics);
        for series in series.chunk_by(|one, next| ptr::eq(one.def, next.def)) {
            self.metric(series[0].def, series, metrics.item());
        }
        metrics.end();
        object.end();
    }

    fn metric<E: Encoding>(&self, def: &MetricDef, series: &[&Metric], out: Writer<'_, E>) {
        let mut object = out.object();
        object.plain("name", def.name);
        object.plain("kind", def.kind.name());
        object.plain("unit", def.unit.name());
        if def.kind == Kind::Histogram {
            object.plain("scheme", SCHEME);
        }
        let mut list = object.array("series");
        for one in series {
            self.series(one, list.item());
        }
        list.end();
        object.end();
    }

    /// Its entity under the name of the entity's kind, its labels, its value.
    fn series<E: Encoding>(&self, metric: &Metric, out: Writer<'_, E>) {
        let mut object = out.object();
        if let Some(of) = &metric.entity {
            entity(of, metric, object.key(of.kind.name()));
        }
        let labels = metric.def.labels.iter().zip(&metric.labels);
        self.labels(labels.map(|(name, value)| (*name, &**value)), &mut object);
        value(self.0, &metric.value, &mut object);
        if let Value::Histogram(buckets) = &metric.value {
            object.number("sum", buckets.sum);
            counts(buckets, &mut object);
        }
        object.end();
    }

    /// Those that are wanted; nothing if there are none.
    fn labels<'a, E: Encoding>(
        &self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        out: &mut Object<'_, E>,
    ) {
        let wanted = |(_, value): &(&str, &str)| self.0.empty_labels || !value.is_empty();
        let mut labels = labels.filter(wanted).peekable();
        if labels.peek().is_none() {
            return;
        }
        let mut object = out.object("labels");
        for (name, value) in labels {
            object.text(name, value);
        }
        object.end();
    }
}

/// What a source says of itself, but for its name and its labels.
pub(super) fn account<E: Encoding>(source: &Source, object: &mut Object<'_, E>) {
    let window = source.window;
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
}

/// The value of a counter or a gauge.
pub(super) fn value<E: Encoding>(fields: &Fields, value: &Value, object: &mut Object<'_, E>) {
    match value {
        Value::Counter { value, total } => {
            match value {
                Some(value) => object.number("value", *value),
                None => object.null("value"),
            }
            if fields.total {
                object.number("total", *total);
            }
        }
        Value::Gauge { value, min, max } => {
            object.float("value", *value);
            let bounds = [min, max].map(|bound| bound.to_bits());
            if bounds != [value.to_bits(); 2] {
                if fields.min {
                    object.float("min", *min);
                }
                if fields.max {
                    object.float("max", *max);
                }
            }
        }
        Value::Histogram(_) => {}
    }
}

/// The buckets in use and how many values each has.
pub(super) fn counts<E: Encoding>(buckets: &Buckets, object: &mut Object<'_, E>) {
    let index = buckets.counts.iter().map(|&(bucket, _)| bucket.into());
    object.numbers("index", index);
    let counts = buckets.counts.iter().map(|&(_, count)| count);
    object.numbers("counts", counts);
}

fn entity<E: Encoding>(entity: &Entity, metric: &Metric, out: Writer<'_, E>) {
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

fn stream<E: Encoding>(numbered: &Numbered, out: Writer<'_, E>) {
    let Stream {
        id,
        previous: before,
    } = &*numbered.stream;
    let mut object = out.object();
    object.text("id", id);
    numbers(numbered, &mut object);
    gaps(&numbered.gaps, &mut object);
    if let Some(before) = before {
        previous(before, object.key("previous"));
    }
    object.end();
}

/// Which numbers of its stream a record covers, and which part of them it is.
pub(super) fn numbers<E: Encoding>(numbered: &Numbered, object: &mut Object<'_, E>) {
    object.number("first", *numbered.range.start());
    object.number("last", *numbered.range.end());
    object.number("part", numbered.part.part.into());
    object.number("parts", numbered.part.parts.into());
}

fn previous<E: Encoding>(stream: &Previous, out: Writer<'_, E>) {
    let mut object = out.object();
    object.text("id", &stream.id);
    object.number("last", stream.last);
    object.time("stop_time", stream.stop_time);
    gaps(&stream.gaps, &mut object);
    if let Some(before) = &stream.previous {
        previous(before, object.key("previous"));
    }
    object.end();
}

fn gaps<E: Encoding>(gaps: &[Gap], object: &mut Object<'_, E>) {
    let mut list = object.array("gaps");
    for gap in gaps {
        let mut object = list.item().object();
        object.number("first", gap.first);
        object.number("last", gap.last);
        object.plain("cause", gap.cause.name());
        object.end();
    }
    list.end();
}
