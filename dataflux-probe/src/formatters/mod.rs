//! Formatters: envelope to bytes, nothing else.

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod golden;
mod csv;
mod document;
mod fields;
mod influx;
pub(crate) mod json;
mod msgpack;
mod naming;
mod numbers;
mod prometheus;
pub(crate) mod rfc3339;
mod template;
mod text;
mod writer;

use std::ptr;

pub use fields::Fields;

use crate::{
    model::{Metric, MetricDef, Numbered, WallTime},
    plugin::Plugin,
};

/// Turns envelopes into bytes. Pure: no clock, no I/O, no state.
pub trait Formatter: Send + Sync {
    /// The media type of what it writes.
    fn content_type(&self) -> &'static str;

    /// What a new file starts with, such as a CSV header row; travels with the payload.
    fn file_header(&self) -> &[u8] {
        &[]
    }

    /// Whether it writes what has added up since the start, so that each record stands for all before it.
    fn writes_totals(&self) -> bool {
        false
    }

    /// The same in other media types, for receivers that choose.
    fn alternatives(&self) -> Vec<Box<dyn Formatter>> {
        Vec::new()
    }

    /// Appends one complete record to `out`, stamped with the time of its hand-over to the transport.
    fn format(
        &self,
        envelope: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()>;
}

/// Every formatter, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn Formatter>] = &[
    &csv::PLUGIN,
    &influx::PLUGIN,
    &json::PLUGIN,
    &msgpack::PLUGIN,
    &prometheus::PLUGIN,
    &template::PLUGIN,
    &text::PLUGIN,
];

/// The series, those of a metric one after the other, metrics in the order of their first series.
fn by_metric(metrics: &[Metric]) -> Vec<&Metric> {
    let mut known: Vec<&MetricDef> = Vec::with_capacity(32);
    let mut in_order = true;
    for series in metrics.chunk_by(|one, next| ptr::eq(one.def, next.def)) {
        let def = series[0].def;
        if known.iter().any(|known| ptr::eq(*known, def)) {
            in_order = false;
        } else {
            known.push(def);
        }
    }
    let mut series: Vec<_> = metrics.iter().collect();
    // Most readers give the series of a metric one after the other.
    if !in_order {
        series.sort_by_cached_key(|one| known.iter().position(|def| ptr::eq(*def, one.def)));
    }
    series
}
