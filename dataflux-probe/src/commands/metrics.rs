//! `metrics`: the definition of every metric.

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use serde_json::json;

use super::names;
use crate::{
    metrics,
    model::{Born, Kind, MetricDef},
};

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe metrics                            all of them, for people
  dataflux-probe metrics scheduler block_io         those of two readers
  dataflux-probe metrics --format json | jq '.[].name'

Exit codes: 0 done, 2 unknown reader.";

/// The arguments of `metrics`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only those of these readers.
    #[arg(value_name = "READER", value_parser = readers(), hide_possible_values = true)]
    readers: Vec<String>,
    /// How to print them.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// An array of JSON objects.
    Json,
}

fn readers() -> PossibleValuesParser {
    PossibleValuesParser::new(metrics::REGISTRY.iter().map(|plugin| plugin.name))
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let wanted = |name: &str| {
        let mut readers = arguments.readers.iter();
        arguments.readers.is_empty() || readers.any(|reader| reader == name)
    };
    let plugins = metrics::REGISTRY.iter();
    let plugins = plugins.filter(|plugin| wanted(plugin.name));
    let all = plugins.flat_map(|plugin| plugin.metrics.iter().map(|metric| (plugin.name, *metric)));
    match arguments.format {
        Format::Text => {
            for (_, metric) in all {
                text(metric, out)?;
            }
        }
        Format::Json => {
            let all: Vec<_> = all.map(|(reader, metric)| object(reader, metric)).collect();
            serde_json::to_writer_pretty(&mut *out, &all).map_err(io::Error::from)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

fn text(metric: &MetricDef, out: &mut impl Write) -> anyhow::Result<()> {
    let labels = match metric.labels {
        [] => String::new(),
        labels => format!(" by {}", names(labels.iter().copied())),
    };
    let (kind, unit) = (metric.kind.name(), metric.unit.name());
    writeln!(out, "{}: {kind}, {unit}{labels}", metric.name)?;
    writeln!(out, "    {}", metric.help)?;
    Ok(())
}

fn object(reader: &str, metric: &MetricDef) -> serde_json::Value {
    let mut object = json!({
        "name": metric.name,
        "reader": reader,
        "kind": metric.kind.name(),
        "unit": metric.unit.name(),
        "labels": metric.labels,
        "help": metric.help,
    });
    if let Kind::Counter { born, .. } = metric.kind {
        // Whether a series that is seen for the first time has counted in that window, or brings a past with it.
        object["counts_from_zero"] = (born == Born::Zero).into();
    }
    object
}
