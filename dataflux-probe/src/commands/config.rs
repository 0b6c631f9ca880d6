//! `config`: the default configuration, and what a configuration comes to.

use std::io::Write;

use clap::Subcommand;

use super::check::Given;

/// The default configuration.
const DEFAULT: &str = include_str!("../../../deploy/probe.toml");

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe config default > probe.toml
  dataflux-probe config show probe.toml
  dataflux-probe config show probe.toml --set metrics.scheduler.interval=1s

Exit codes: 0 printed, 2 the configuration is wrong: every mistake with file, line and path.";

/// The arguments of `config`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The default configuration, with every key explained; to begin one's own with.
    Default,
    /// What a configuration comes to: variables, included files and --set put in, defaults filled in, secrets masked.
    Show(Given),
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    match &arguments.what {
        What::Default => out.write_all(DEFAULT.as_bytes())?,
        What::Show(given) => {
            for (number, section) in given.load()?.sections.iter().enumerate() {
                if number > 0 {
                    writeln!(out)?;
                }
                write!(out, "{}", section.shown())?;
            }
        }
    }
    Ok(())
}
