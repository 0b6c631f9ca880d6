//! `prometheus`: totals since the start in Prometheus' text format 0.0.4 and in OpenMetrics 1.0, by the rules of
//! docs/prometheus.md.

mod exposition;
mod histogram;
mod names;
mod numbers;
#[cfg(test)]
mod tests;

use std::{ptr, sync::Arc};

use serde::Deserialize;
use serde_json::Value as Json;

use super::{Fields, Formatter, numbers::unsigned};
use crate::{
    model::{Born, Fall, Kind, Metric, MetricDef, Numbered, Source, Unit, Value, WallTime},
    plugin::{Needs, Plugin},
};
use exposition::{Exposition, Syntax};
use histogram::Bounds;

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "prometheus",
    summary: "totals since the start, as Prometheus text or OpenMetrics",
    needs: Needs::NOTHING,
    example: r#"# "text" is version 0.0.4, "openmetrics" is 1.0. Who scrapes the logger `prometheus` gets the one asked for; this is what
# everybody else gets. Default: "text".
syntax = "text"
# How many bounds (`le`) a histogram has for each power of two: 1, 2, 4, or 8, which are all there are. Default: 1.
buckets = 1"#,
    metrics: &[],
    build: |section, context| {
        section.build(|Config { syntax, buckets }, _| {
            if ![1, 2, 4, 8].contains(&buckets) {
                return Err(section.error(Some("buckets"), "must be 1, 2, 4 or 8"));
            }
            Ok(Box::new(Prometheus {
                syntax,
                bounds: Arc::new(Bounds::new(buckets)),
                fields: Arc::clone(&context.fields),
            }) as _)
        })
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    syntax: Syntax,
    #[serde(default = "default_buckets")]
    buckets: u16,
}

fn default_buckets() -> u16 {
    1
}

struct Prometheus {
    syntax: Syntax,
    bounds: Arc<Bounds>,
    fields: Arc<Fields>,
}

/// What a source says of itself. No metrics of a reader: their names begin with `source`, which none has.
const fn about_source(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef {
        name,
        kind,
        unit,
        help,
        labels,
    }
}

const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};

static STATUS: MetricDef = about_source(
    "source.status",
    Kind::Gauge,
    Unit::Count,
    "How far a reader's series can be trusted: 0 ok, 1 degraded, 2 suspect, 3 unsupported, 4 denied, 5 failed.",
    &["reader"],
);
static COVERED: MetricDef = about_source(
    "source.covered",
    COUNTER,
    Unit::Nanoseconds,
    "Time since the start that a reader's series cover.",
    &["reader"],
);
static LOST: MetricDef = about_source(
    "source.lost",
    COUNTER,
    Unit::Count,
    "Events since the start that the kernel side could not record.",
    &["reader"],
);
static UNSUPPORTED: MetricDef = about_source(
    "source.unsupported",
    Kind::Gauge,
    Unit::Count,
    "Always 1: a metric that this machine cannot give.",
    &["reader", "metric"],
);

impl Formatter for Prometheus {
    fn content_type(&self) -> &'static str {
        self.syntax.content_type()
    }

    fn writes_totals(&self) -> bool {
        true
    }

    fn alternatives(&self) -> Vec<Box<dyn Formatter>> {
        vec![Box::new(Self {
            syntax: self.syntax.other(),
            bounds: Arc::clone(&self.bounds),
            fields: Arc::clone(&self.fields),
        })]
    }

    fn format(
        &self,
        numbered: &Numbered,
        _trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let envelope = &*numbered.envelope;
        let mut exposition = Exposition::new(self.syntax, out);
        self.target(numbered, &mut exposition);
        about_sources(&envelope.sources, &mut exposition);
        for family in families(&envelope.sources) {
            self.family(&family, &mut exposition);
        }
        exposition.end();
        Ok(())
    }
}

impl Prometheus {
    /// Who the host is: the single values of the header's sections as labels, `os_kernel="6.1.0"`.
    fn target(&self, numbered: &Numbered, out: &mut Exposition<'_>) {
        for (section, fields) in self.fields.header(&numbered.envelope.metadata) {
            for (field, value) in fields {
                let name = [section, "_", field];
                match value {
                    Json::String(text) => out.label(&name, text),
                    Json::Number(number) => out.label(&name, &number.to_string()),
                    Json::Bool(yes) => out.label(&name, &yes.to_string()),
                    Json::Null | Json::Array(_) | Json::Object(_) => true,
                };
            }
        }
        out.target("The host, as the header of its envelopes has it.");
    }

    fn family(&self, family: &[(&Source, &Metric)], out: &mut Exposition<'_>) {
        let def = family[0].1.def;
        out.begin(def);
        for (source, metric) in family {
            labels(metric, out);
            labels_of_reader(source, out);
            out.end_of_labels();
        }
        for place in out.distinct() {
            match &family[place].1.value {
                Value::Counter { total, .. } => out.counter(place, *total),
                Value::Gauge { value, .. } => out.gauge(place, *value),
                Value::Histogram(buckets) => {
                    out.histogram(place, self.bounds.of(def.unit), buckets);
                }
            }
        }
    }
}

/// Labels of the metric, then its entity by name and by id.
fn labels(metric: &Metric, out: &mut Exposition<'_>) {
    if let Some(entity) = &metric.entity {
        let kind = entity.kind.name();
        let (id, name) = metric.id_and_name();
        if let Some(name) = name {
            out.label(&[kind], name);
        }
        if let Some(id) = id {
            let (major, minor) = entity.kind.parts_of_id(id);
            out.label_of(&[kind, "_id"], |out| {
                if let Some(major) = major {
                    unsigned(major, out);
                    out.push(b':');
                }
                unsigned(minor, out);
            });
        }
        if id.is_none() && name.is_none() {
            out.label(&[kind, "_other"], "true");
        }
    }
    for (name, value) in metric.def.labels.iter().zip(&metric.labels) {
        out.label(&[name], value);
    }
}

/// Those that the reader's section gives all its series. One that the series has already is called otherwise.
fn labels_of_reader(source: &Source, out: &mut Exposition<'_>) {
    for (name, value) in source.labels.iter() {
        if name == "le" || !out.label(&[name], value) {
            out.label(&["reader_", name], value);
        }
    }
}

/// One value of each source.
type About = (&'static MetricDef, fn(&Source) -> u64);

fn about_sources(sources: &[Source], out: &mut Exposition<'_>) {
    if sources.is_empty() {
        return;
    }
    let values: [About; 3] = [
        (&STATUS, |source| source.health.status as u64),
        (&COVERED, |source| {
            u64::try_from(source.covered.as_nanos()).unwrap_or(u64::MAX)
        }),
        (&LOST, |source| source.lost),
    ];
    for (def, value) in values {
        out.begin(def);
        for source in sources {
            out.label(&["reader"], source.reader);
            labels_of_reader(source, out);
            out.end_of_labels();
        }
        for place in out.distinct() {
            match def.kind {
                Kind::Gauge => out.whole(place, value(&sources[place])),
                Kind::Counter { .. } | Kind::Histogram => {
                    out.counter(place, value(&sources[place]))
                }
            }
        }
    }
    if sources.iter().all(|source| source.unsupported.is_empty()) {
        return;
    }
    out.begin(&UNSUPPORTED);
    for source in sources {
        for def in &source.unsupported {
            out.label(&["reader"], source.reader);
            out.label(&["metric"], def.name);
            labels_of_reader(source, out);
            out.end_of_labels();
        }
    }
    for place in out.distinct() {
        out.whole(place, 1);
    }
}

/// The series of each metric together, metrics in the order of their first series.
fn families(sources: &[Source]) -> Vec<Vec<(&Source, &Metric)>> {
    let mut families: Vec<Vec<(&Source, &Metric)>> = Vec::new();
    let mut last = 0;
    for source in sources {
        for metric in &source.metrics {
            let same = |family: &Vec<(&Source, &Metric)>| ptr::eq(family[0].1.def, metric.def);
            // Nearly always that of the series before.
            let place = match families.get(last) {
                Some(family) if same(family) => Some(last),
                _ => families.iter().position(same),
            };
            last = place.unwrap_or_else(|| {
                families.push(Vec::new());
                families.len() - 1
            });
            families[last].push((source, metric));
        }
    }
    families
}
