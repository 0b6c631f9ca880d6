//! `once`: measures one window, prints it, exits.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;

use super::start;
use crate::{
    config::{self, Config, Registries, Setting},
    formatters,
    health::Pulse,
    metadata::names::Names,
    pipeline::Pipeline,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo dataflux-probe once                                    all there is, after five seconds
  sudo dataflux-probe once --window 1s --format json | jq .header
  sudo dataflux-probe once --format csv > now.csv             in any format
  sudo dataflux-probe once --format template --set 'output.once.template.line=\"{metric} {value}\"'
  dataflux-probe once --config probe.toml                     the readers of a configuration; its outputs get nothing

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.";

/// The arguments of `once`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its readers instead of all there are.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key of the configuration, as in metrics.cpu.per_cpu=false; once for each.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// How to print it: a formatter, with its default options or those that are set for the output `once`.
    #[arg(long, value_name = "FORMATTER", default_value = "text", value_parser = names())]
    format: String,
}

fn names() -> PossibleValuesParser {
    let names = formatters::REGISTRY.iter().map(|plugin| plugin.name);
    names.collect::<Vec<_>>().into()
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let own = match &arguments.config {
        Some(_) => &[],
        None => &*arguments.set,
    };
    let mut everything = start::everything(&arguments.format, own)?;
    let output = everything.outputs.pop();
    let output = output.context("the configuration of everything has an output")?;
    let config = match &arguments.config {
        Some(path) => Config::load_with(path, &arguments.set, Registries::BUILT_IN)?,
        None => everything,
    };
    let mut readers = config.readers;
    start::attach(&mut readers, &config.context);
    let pipeline = Pipeline {
        place: 0,
        readers,
        metadata: config.metadata,
        outputs: Vec::new(),
        names: Names::new(config.context.roots.sys),
        counters: config.context.counters,
        state_dir: None,
        pulse: Pulse::default(),
        drain_limit: Duration::ZERO,
    };
    let numbered = pipeline.once(arguments.window)?;
    let mut text = output.formatter.file_header().to_vec();
    output
        .formatter
        .format(&numbered, config::now(), &mut text)?;
    out.write_all(&text)?;
    Ok(())
}
