//! `influx`: the line protocol of InfluxDB, one line for each series; docs/formatters.md says what becomes what.

mod line;

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Fields, Formatter,
    naming::{self, EntityNames},
    writer::nanoseconds,
};
use crate::{
    histogram::quantiles,
    model::{Buckets, Gap, Metric, Numbered, Source, Value, WallTime},
    plugin::{Needs, Plugin},
};
use line::{Integers, Line};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "influx",
    summary: "InfluxDB line protocol, one line for each series, with nanoseconds",
    needs: Needs::NOTHING,
    example: r#"integers = "unsigned"  # 120u; "signed" = 120i, for receivers that know no u, without what is above 2^63 - 1; default: "unsigned"
buckets = false        # true = a field bucket_N for each bucket N of a histogram that has values; default: false"#,
    metrics: &[],
    build: |section, context| {
        let Config { integers, buckets } = section.parse()?;
        Ok(Box::new(Influx {
            integers,
            buckets,
            output: context.output.clone(),
            fields: Arc::clone(&context.fields),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    integers: Integers,
    #[serde(default)]
    buckets: bool,
}

struct Influx {
    integers: Integers,
    buckets: bool,
    output: String,
    fields: Arc<Fields>,
}

impl Formatter for Influx {
    fn content_type(&self) -> &'static str {
        "text/plain; charset=utf-8"
    }

    fn format(
        &self,
        numbered: &Numbered,
        _trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let envelope = &*numbered.envelope;
        let host = naming::host(&self.fields, &envelope.metadata).unwrap_or_default();
        self.envelope(numbered, host, out);
        for source in &envelope.sources {
            let shared = naming::shared_labels(&self.fields, &envelope.metadata, source);
            self.source(source, host, out);
            for metric in &source.metrics {
                self.series(metric, source.window.stop, host, &shared, out);
            }
        }
        Ok(())
    }
}

impl Influx {
    /// A line that has its measurement.
    fn line<'a>(&self, measurement: &str, out: &'a mut Vec<u8>) -> Line<'a> {
        Line::new(measurement, self.integers, out)
    }

    /// The numbers that the record covers, and which are lost.
    fn envelope(&self, numbered: &Numbered, host: &str, out: &mut Vec<u8>) {
        let window = numbered.envelope.window;
        let mut line = self.line("dataflux_envelope", out);
        line.tag("host", host);
        line.tag("output", &self.output);
        line.text("stream", &numbered.stream.id);
        line.unsigned("first", *numbered.range.start());
        line.unsigned("last", *numbered.range.end());
        line.unsigned("parts", numbered.part.parts.into());
        line.unsigned("duration_ns", nanoseconds(window.duration));
        line.unsigned("suspended_ns", nanoseconds(window.suspended));
        line.signed("clock_step_ns", window.clock_step);
        line.text("gaps", &gaps(&numbered.gaps));
        if let Some(previous) = &numbered.stream.previous {
            line.text("previous_stream", &previous.id);
            line.unsigned("previous_last", previous.last);
            line.text("previous_gaps", &gaps(&previous.gaps));
        }
        line.end(window.stop);
    }

    /// What the source says of itself.
    fn source(&self, source: &Source, host: &str, out: &mut Vec<u8>) {
        let mut line = self.line("dataflux_source", out);
        line.tag("host", host);
        line.tag("output", &self.output);
        line.tag("reader", source.reader);
        line.text("status", source.health.status.name());
        line.text("reason", &source.health.reason);
        line.unsigned("covered_ns", nanoseconds(source.covered));
        line.unsigned("lost", source.lost);
        let names = source.unsupported.iter().map(|def| def.name);
        line.text("unsupported", &names.collect::<Vec<_>>().join(","));
        line.end(source.window.stop);
    }

    fn series(
        &self,
        metric: &Metric,
        stop: WallTime,
        host: &str,
        shared: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) {
        let mut line = self.line(&naming::underscored(metric.def.name), out);
        line.tag("host", host);
        line.tag("unit", metric.def.unit.name());
        if let Some(entity) = EntityNames::of(metric) {
            line.tag(entity.kind, entity.name.unwrap_or_default());
            let id = entity.id.as_deref().unwrap_or_default();
            line.tag(&format!("{}_id", entity.kind), id);
            if entity.other {
                line.tag("entity_other", "true");
            }
        }
        for (name, value) in naming::labels(&self.fields, shared, metric) {
            line.tag(&naming::influx_tag(name), value);
        }
        match &metric.value {
            Value::Counter { value, total } => {
                if let Some(value) = value {
                    line.unsigned("value", *value);
                }
                if self.fields.total {
                    line.unsigned("total", *total);
                }
            }
            Value::Gauge { value, min, max } => {
                line.float("value", *value);
                let bounds = [min, max].map(|bound| bound.to_bits());
                if bounds != [value.to_bits(); 2] {
                    if self.fields.min {
                        line.float("min", *min);
                    }
                    if self.fields.max {
                        line.float("max", *max);
                    }
                }
            }
            Value::Histogram(buckets) => self.histogram(buckets, &mut line),
        }
        line.end(stop);
    }

    fn histogram(&self, buckets: &Buckets, line: &mut Line<'_>) {
        line.unsigned("count", buckets.count());
        line.unsigned("sum", buckets.sum);
        for (name, value) in quantiles(buckets) {
            line.unsigned(name, value);
        }
        if self.buckets {
            for &(index, count) in &buckets.counts {
                line.unsigned(&format!("{}{index}", naming::BUCKET), count);
            }
        }
    }
}

/// `3..3 rejected, 4..7 stopped`.
fn gaps(gaps: &[Gap]) -> String {
    let gap = |gap: &Gap| format!("{}..{} {}", gap.first, gap.last, gap.cause.name());
    gaps.iter().map(gap).collect::<Vec<_>>().join(", ")
}
