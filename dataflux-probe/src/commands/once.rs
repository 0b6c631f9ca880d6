//! `once`: measures one window, prints it, exits.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::start;
use crate::{
    config::{self, Config, Registries},
    health::Pulse,
    metadata::names::Names,
    pipeline::Pipeline,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo dataflux-probe once                                    all there is, after five seconds
  sudo dataflux-probe once --window 1s --format json | jq .header
  dataflux-probe once --config probe.toml                     the readers of a configuration; its outputs get nothing

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.";

/// The arguments of `once`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its readers instead of all there are.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long to measure.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    window: Duration,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The formatters that commands offer.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One line of JSON.
    Json,
}

impl Format {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let mut everything = start::everything(arguments.format.name())?;
    let output = everything.outputs.pop();
    let output = output.context("the configuration of everything has an output")?;
    let config = match &arguments.config {
        Some(path) => Config::load(path, Registries::BUILT_IN)?,
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
    let mut text = Vec::new();
    output
        .formatter
        .format(&numbered, config::now(), &mut text)?;
    out.write_all(&text)?;
    Ok(())
}
