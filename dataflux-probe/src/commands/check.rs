//! `check`: finds every mistake in a configuration; starts nothing.

use std::{io::Write, path::PathBuf};

use crate::config::{Config, Registries};

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe check /etc/dataflux-probe/probe.toml
  dataflux-probe check probe.toml && systemctl reload dataflux-probe

Exit codes: 0 nothing is wrong, 2 something is: every mistake with file, line and path.";

/// The arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration.
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let config = Config::load(&arguments.file, Registries::BUILT_IN)?;
    let names = |names: Vec<&str>| match names.as_slice() {
        [] => "none".to_owned(),
        names => super::names(names.iter().copied()),
    };
    let metadata = config.metadata.iter().map(|reader| reader.name);
    let readers = config.readers.iter().map(|reader| reader.name);
    let outputs = config.outputs.iter().map(|output| &*output.name);
    writeln!(out, "{}: ok", arguments.file.display())?;
    writeln!(out, "  metadata  {}", names(metadata.collect()))?;
    writeln!(out, "  metrics   {}", names(readers.collect()))?;
    writeln!(out, "  output    {}", names(outputs.collect()))?;
    Ok(())
}
