//! `json`: one envelope per line, as docs/envelope.md describes it field by field.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};

use super::{Formatter, by_metric, rfc3339::Rfc3339};
use crate::{
    histogram::SCHEME,
    model::{
        Buckets, Entity, EntityKey, Gap, Kind, Metric, MetricDef, Numbered, Previous, SCHEMA,
        Source, Value, WallTime, Window,
    },
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "json",
    summary: "one envelope per line, for programs; docs/envelope.md describes every field",
    needs: Needs::NOTHING,
    example: "# No options.",
    metrics: &[],
    build: |section, _context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Json))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Json;

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
        let start = out.len();
        if let Err(error) = serde_json::to_writer(&mut *out, &Record::new(numbered, trans_time)) {
            out.truncate(start);
            return Err(error).context("writing an envelope as JSON");
        }
        out.push(b'\n');
        Ok(())
    }
}

/// The line. The structs below lie over the model and borrow everything.
#[derive(Serialize)]
struct Record<'a> {
    schema: &'static str,
    stream: StreamView<'a>,
    header: &'a BTreeMap<&'static str, serde_json::Map<String, serde_json::Value>>,
    start_time: Rfc3339,
    stop_time: Rfc3339,
    trans_time: Rfc3339,
    duration_ns: u64,
    suspended_ns: u64,
    clock_step_ns: i64,
    #[serde(serialize_with = "sources")]
    sources: &'a [Source],
}

#[derive(Serialize)]
struct StreamView<'a> {
    id: &'a str,
    first: u64,
    last: u64,
    part: u32,
    parts: u32,
    gaps: &'a [Gap],
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousView<'a>>,
}

#[derive(Serialize)]
struct PreviousView<'a> {
    id: &'a str,
    last: u64,
    stop_time: Rfc3339,
    gaps: &'a [Gap],
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Box<Self>>,
}

impl<'a> PreviousView<'a> {
    fn new(previous: &'a Previous) -> Self {
        Self {
            id: &previous.id,
            last: previous.last,
            stop_time: Rfc3339(previous.stop_time),
            gaps: &previous.gaps,
            previous: previous
                .previous
                .as_deref()
                .map(|earlier| Box::new(Self::new(earlier))),
        }
    }
}

impl<'a> Record<'a> {
    fn new(numbered: &'a Numbered, trans_time: WallTime) -> Self {
        let envelope = &*numbered.envelope;
        let Window {
            start,
            stop,
            duration,
            suspended,
            clock_step,
        } = envelope.window;
        Self {
            schema: SCHEMA,
            stream: StreamView {
                id: &numbered.stream.id,
                first: *numbered.range.start(),
                last: *numbered.range.end(),
                part: numbered.part.part,
                parts: numbered.part.parts,
                gaps: &numbered.gaps,
                previous: numbered.stream.previous.as_ref().map(PreviousView::new),
            },
            header: &envelope.metadata.sections,
            start_time: Rfc3339(start),
            stop_time: Rfc3339(stop),
            trans_time: Rfc3339(trans_time),
            duration_ns: nanoseconds(duration),
            suspended_ns: nanoseconds(suspended),
            clock_step_ns: clock_step,
            sources: &envelope.sources,
        }
    }
}

#[derive(Serialize)]
struct SourceView<'a> {
    reader: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    start_time: Rfc3339,
    stop_time: Rfc3339,
    duration_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_step_ns: Option<i64>,
    covered_ns: u64,
    lost: u64,
    #[serde(serialize_with = "names")]
    unsupported: &'a [&'static MetricDef],
    #[serde(serialize_with = "metrics")]
    metrics: &'a [Metric],
}

impl<'a> SourceView<'a> {
    fn new(source: &'a Source) -> Self {
        let Window {
            start,
            stop,
            duration,
            suspended,
            clock_step,
        } = source.window;
        Self {
            reader: source.reader,
            status: source.health.status.name(),
            reason: &source.health.reason,
            start_time: Rfc3339(start),
            stop_time: Rfc3339(stop),
            duration_ns: nanoseconds(duration),
            suspended_ns: Some(nanoseconds(suspended)).filter(|&suspended| suspended != 0),
            clock_step_ns: Some(clock_step).filter(|&step| step != 0),
            covered_ns: nanoseconds(source.covered),
            lost: source.lost,
            unsupported: &source.unsupported,
            metrics: &source.metrics,
        }
    }
}

#[derive(Serialize)]
struct MetricView<'a> {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<&'static str>,
    series: Vec<SeriesView<'a>>,
}

impl<'a> MetricView<'a> {
    fn new(def: &'static MetricDef, series: Vec<&'a Metric>) -> Self {
        let (kind, scheme) = match def.kind {
            Kind::Counter { .. } => ("counter", None),
            Kind::Gauge => ("gauge", None),
            Kind::Histogram => ("histogram", Some(SCHEME)),
        };
        Self {
            name: def.name,
            kind,
            unit: def.unit.name(),
            scheme,
            series: series.into_iter().map(SeriesView).collect(),
        }
    }
}

/// One series: its entity under the name of the entity's kind, its labels, its value.
struct SeriesView<'a>(&'a Metric);

impl Serialize for SeriesView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(metric) = self;
        let mut map = serializer.serialize_map(None)?;
        if let Some(entity) = &metric.entity {
            map.serialize_entry(entity.kind.name(), &EntityView::new(entity, metric))?;
        }
        if !metric.labels.is_empty() {
            map.serialize_entry("labels", &Labels(metric))?;
        }
        match &metric.value {
            Value::Counter { value, total } => {
                map.serialize_entry("value", value)?;
                map.serialize_entry("total", total)?;
            }
            Value::Gauge { value, min, max } => {
                map.serialize_entry("value", value)?;
                if [min, max]
                    .iter()
                    .any(|bound| bound.to_bits() != value.to_bits())
                {
                    map.serialize_entry("min", min)?;
                    map.serialize_entry("max", max)?;
                }
            }
            Value::Histogram(buckets) => {
                map.serialize_entry("sum", &buckets.sum)?;
                map.serialize_entry("index", &Indices(buckets))?;
                map.serialize_entry("counts", &Counts(buckets))?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct EntityView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<bool>,
}

impl<'a> EntityView<'a> {
    fn new(entity: &'a Entity, metric: &'a Metric) -> Self {
        let (id, name) = metric.id_and_name();
        Self {
            id: id.map(|id| entity.kind.format_id(id)),
            name,
            other: (entity.key == EntityKey::Other).then_some(true),
        }
    }
}

struct Labels<'a>(&'a Metric);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.def.labels.iter().zip(&self.0.labels))
    }
}

struct Indices<'a>(&'a Buckets);

impl Serialize for Indices<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.counts.iter().map(|(index, _)| index))
    }
}

struct Counts<'a>(&'a Buckets);

impl Serialize for Counts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.counts.iter().map(|(_, count)| count))
    }
}

fn sources<S: Serializer>(sources: &[Source], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sources.iter().map(SourceView::new))
}

fn names<S: Serializer>(defs: &[&'static MetricDef], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(defs.iter().map(|def| def.name))
}

fn metrics<S: Serializer>(metrics: &[Metric], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(
        by_metric(metrics)
            .into_iter()
            .map(|(def, series)| MetricView::new(def, series)),
    )
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
