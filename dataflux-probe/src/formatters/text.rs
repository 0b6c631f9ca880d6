//! `text`: an envelope for people in a terminal: aligned, units scaled, histograms as small bars.
//!
//! What did not happen is left out. Rates are over the time that a source covers.

mod bars;
mod head;
pub(super) mod scale;

use std::{
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use dataflux_common::histogram::highest;
use serde::Deserialize;

use super::{
    Fields, Formatter, by_metric,
    naming::{EntityNames, visible},
};
use crate::{
    histogram::quantile,
    model::{
        Buckets, Envelope, Metric, MetricDef, Numbered, Source, Status, Unit, Value, WallTime,
    },
    plugin::{Needs, Plugin},
};
use scale::{amount, rate, time};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "text",
    summary: "for people in a terminal: aligned, units scaled, histograms as small bars",
    needs: Needs::NOTHING,
    example: r#"histograms = "line"  # "bars" = a row for each power of two as well, "off" = none; default: "line""#,
    metrics: &[],
    build: |section, context| {
        let Config { histograms } = section.parse()?;
        Ok(Box::new(Text {
            histograms,
            fields: Arc::clone(&context.fields),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    histograms: Histograms,
}

/// How much is shown of histograms.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Histograms {
    /// Count, rate, quantiles and a bar on one line.
    #[default]
    Line,
    /// A row for each power of two as well.
    Bars,
    /// Nothing.
    Off,
}

struct Text {
    histograms: Histograms,
    fields: Arc<Fields>,
}

impl Formatter for Text {
    fn content_type(&self) -> &'static str {
        "text/plain; charset=utf-8"
    }

    fn format(
        &self,
        numbered: &Numbered,
        _trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        head::write(numbered, &self.fields, out)?;
        for source in &numbered.envelope.sources {
            self.write_source(source, &numbered.envelope, out)?;
        }
        writeln!(out)?;
        Ok(())
    }
}

/// One line of a table: a series.
struct Row<'a> {
    def: &'static MetricDef,
    /// The metric's name without its reader.
    name: &'static str,
    /// Entity and labels.
    series: String,
    value: &'a Value,
}

impl Text {
    /// A table of a source's series, below a line of titles and what is out of the ordinary.
    fn write_source(
        &self,
        source: &Source,
        envelope: &Envelope,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let rows = self.rows(source);
        let longest = |cell: fn(&Row<'_>) -> usize| rows.iter().map(cell).max().unwrap_or(0);
        let name = longest(|row| row.name.chars().count());
        let series = longest(|row| row.series.chars().count());

        let width = 2 + name + 2 + series;
        write!(out, "\n{:<width$}", source.reader)?;
        if !rows.is_empty() {
            write!(out, " {:>9} {:>10}", "value", "rate")?;
        }
        if rows
            .iter()
            .any(|row| matches!(row.value, Value::Histogram(_)))
        {
            write!(out, " {:>8} {:>8} {:>8} {:>8}", "p50", "p90", "p99", "max")?;
        }
        end_line(out)?;
        write_notes(source, envelope, out)?;
        for row in rows {
            write!(out, "  {:<name$}  {:<series$}", row.name, row.series)?;
            write_value(row.def.unit, row.value, source.covered.as_secs_f64(), out)?;
            end_line(out)?;
            if let (Value::Histogram(buckets), Histograms::Bars) = (row.value, self.histograms) {
                bars::write_rows(row.def.unit, buckets, out)?;
            }
        }
        Ok(())
    }

    /// What happened, metric by metric.
    fn rows<'a>(&self, source: &'a Source) -> Vec<Row<'a>> {
        let shown = |metric: &&Metric| {
            let shown = match metric.value {
                Value::Histogram(_) => self.histograms != Histograms::Off,
                Value::Counter { .. } | Value::Gauge { .. } => true,
            };
            shown && !metric.value.is_zero()
        };
        let row = |metric: &'a Metric| Row {
            def: metric.def,
            name: metric
                .def
                .name
                .strip_prefix(source.reader)
                .and_then(|name| name.strip_prefix('.'))
                .unwrap_or(metric.def.name),
            series: series(metric),
            value: &metric.value,
        };
        by_metric(&source.metrics)
            .into_iter()
            .filter(shown)
            .map(row)
            .collect()
    }
}

/// A source's status unless it is ok, its labels, its window unless it is the envelope's, and what it misses.
fn write_notes(source: &Source, envelope: &Envelope, out: &mut Vec<u8>) -> io::Result<()> {
    if source.health.status != Status::Ok {
        writeln!(out, "  {}", visible(&source.health.to_string()))?;
    }
    if !source.labels.is_empty() {
        let labels = source.labels.iter();
        let labels: Vec<_> = labels
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        writeln!(out, "  labels: {}", visible(&labels.join(", ")))?;
    }
    let length = source.window.duration;
    if differ(length, envelope.window.duration) {
        writeln!(out, "  window: {}", time(length))?;
    }
    if differ(source.covered, length) && !source.covered.is_zero() {
        writeln!(out, "  covered: {} of it", time(source.covered))?;
    }
    if source.lost > 0 {
        writeln!(out, "  lost: {} events", source.lost)?;
    }
    if !source.unsupported.is_empty() {
        let names: Vec<_> = source.unsupported.iter().map(|def| def.name).collect();
        writeln!(out, "  unsupported: {}", names.join(", "))?;
    }
    Ok(())
}

/// By more than 2 %: readers are read one after the other, so their windows are never quite the same.
fn differ(a: Duration, b: Duration) -> bool {
    a.abs_diff(b) > a.max(b) / 50
}

/// The columns after a row's name. `seconds` is the time that the value stands for.
fn write_value(unit: Unit, value: &Value, seconds: f64, out: &mut Vec<u8>) -> io::Result<()> {
    match value {
        Value::Counter {
            value: Some(value), ..
        } => write_counted(unit, *value, seconds, out),
        Value::Counter { value: None, total } => {
            let total = amount(unit, to_float(*total));
            write!(out, " {:>9} {:>10}  first seen at {total}", "-", "-")
        }
        Value::Gauge { value, min, max } => {
            write!(out, " {:>9}", amount(unit, *value))?;
            if min < max {
                let (min, max) = (amount(unit, *min), amount(unit, *max));
                write!(out, " {:>10}  {min} .. {max}", "")?;
            }
            Ok(())
        }
        Value::Histogram(buckets) => {
            write_counted(Unit::Count, buckets.count(), seconds, out)?;
            write_shape(unit, buckets, out)
        }
    }
}

/// A number of the window, and how much that is per second.
fn write_counted(unit: Unit, value: u64, seconds: f64, out: &mut Vec<u8>) -> io::Result<()> {
    let value = to_float(value);
    let rate = if seconds > 0.0 {
        rate(unit, value / seconds)
    } else {
        "-".to_owned()
    };
    write!(out, " {:>9} {rate:>10}", amount(unit, value))
}

/// Quantiles, the highest value that the last bucket can hold, and a bar.
fn write_shape(unit: Unit, buckets: &Buckets, out: &mut Vec<u8>) -> io::Result<()> {
    let Some(&(last, _)) = buckets.counts.last() else {
        return Ok(());
    };
    for q in [0.5, 0.9, 0.99] {
        if let Some(value) = quantile(buckets, q) {
            write!(out, " {:>8}", amount(unit, value))?;
        }
    }
    let max = amount(unit, to_float(highest(usize::from(last))));
    write!(out, " {max:>8}  {}", bars::line(buckets))
}

/// Entity and label values: `vda read`. A number says which label it is of: `cpu=0`.
fn series(metric: &Metric) -> String {
    let entity = EntityNames::of(metric).map(|entity| visible(entity.shown()).into_owned());
    let labels = metric.def.labels.iter().zip(&metric.labels);
    let labels = labels.map(|(name, value)| {
        if value.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("{name}={value}")
        } else {
            visible(value).into_owned()
        }
    });
    entity
        .into_iter()
        .chain(labels)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Ends a line without the spaces that its last column left.
fn end_line(out: &mut Vec<u8>) -> io::Result<()> {
    while out.last() == Some(&b' ') {
        out.pop();
    }
    writeln!(out)
}

#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
fn to_float(value: u64) -> f64 {
    value as f64
}
