//! `metrics`: the definition of every metric.

use std::io::Write;

use crate::{metrics, model::Kind};

pub(super) fn run(out: &mut impl Write) -> anyhow::Result<()> {
    for reader in metrics::REGISTRY {
        for metric in reader.metrics {
            let kind = match metric.kind {
                Kind::Counter { .. } => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let labels = match metric.labels {
                [] => String::new(),
                labels => format!(" by {}", labels.join(", ")),
            };
            writeln!(
                out,
                "{}: {kind}, {}{labels}",
                metric.name,
                metric.unit.name()
            )?;
            writeln!(out, "    {}", metric.help)?;
        }
    }
    Ok(())
}
