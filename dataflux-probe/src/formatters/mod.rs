//! Formatters: envelope to bytes, nothing else.

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod golden;
mod fields;
mod json;
pub(crate) mod rfc3339;
mod text;

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

    /// Appends one complete record to `out`, stamped with the time of its hand-over to the transport.
    fn format(
        &self,
        envelope: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()>;
}

/// Every formatter, alphabetical. Add yours here.
pub const REGISTRY: &[&Plugin<dyn Formatter>] = &[&json::PLUGIN, &text::PLUGIN];

/// The series, those of a metric one after the other, metrics in the order of their first series.
fn by_metric(metrics: &[Metric]) -> Vec<&Metric> {
    let mut known: Vec<&MetricDef> = Vec::new();
    let placed = metrics.iter().map(|metric| {
        // From the end, because most readers give the series of a metric one after the other.
        let place = known.iter().rposition(|def| ptr::eq(*def, metric.def));
        let place = place.unwrap_or_else(|| {
            known.push(metric.def);
            known.len() - 1
        });
        (place, metric)
    });
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|&(place, _)| place);
    placed.into_iter().map(|(_, metric)| metric).collect()
}
