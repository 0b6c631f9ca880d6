//! `check`: finds every mistake in a configuration; starts nothing.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use crate::config::{Config, Invalid, Registries, Setting};

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe check /etc/dataflux-probe/probe.toml
  dataflux-probe check probe.toml && systemctl reload dataflux-probe

Exit codes: 0 nothing is wrong, 2 something is: every mistake with file, line and path.";

/// The arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    given: Given,
}

/// A configuration that has to be given, and what is set beside it.
#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// The configuration.
    #[arg(required_unless_present = "config", conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The configuration, as for running.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key beside the file, as in metrics.cpu.interval=1s; once for each.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
}

impl Given {
    /// Its file.
    pub(super) fn path(&self) -> &Path {
        let path = self.config.as_deref().or(self.file.as_deref());
        path.expect("clap asks for one of them")
    }

    /// Builds what it names.
    pub(super) fn load(&self) -> Result<Config, Invalid> {
        Config::load_with(self.path(), &self.set, Registries::BUILT_IN)
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let config = arguments.given.load()?;
    let names = |names: Vec<&str>| match names.as_slice() {
        [] => "none".to_owned(),
        names => super::names(names.iter().copied()),
    };
    let metadata = config.metadata.iter().map(|reader| reader.name);
    let readers = config.readers.iter().map(|reader| reader.name);
    let outputs = config.outputs.iter().map(|output| &*output.name);
    writeln!(out, "{}: ok", arguments.given.path().display())?;
    writeln!(out, "  metadata  {}", names(metadata.collect()))?;
    writeln!(out, "  metrics   {}", names(readers.collect()))?;
    writeln!(out, "  output    {}", names(outputs.collect()))?;
    Ok(())
}
