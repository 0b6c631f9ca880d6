//! The commands of `dataflux-probe`, one file each.

mod check;
mod doctor;
mod health;
mod list;
mod metrics;
mod once;
mod run;
mod spool;
mod start;

use std::{io::Write, path::PathBuf};

use clap::{Parser, Subcommand};

/// Kernel metrics of a Linux machine, as envelopes, without losing one.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES
)]
pub struct Arguments {
    /// Run with this configuration until SIGTERM or SIGINT.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  sudo dataflux-probe --config probe.toml    measure and deliver until stopped
  dataflux-probe check probe.toml            find every mistake in it, start nothing
  sudo dataflux-probe once --window 2s       all that can be measured, once
  sudo dataflux-probe doctor                 what works here, and why the rest does not

Once its readers are attached and its outputs open, the probe gives up every capability and restricts itself to its own
files, for good: what changes of readers, state_dir or paths needs a restart.

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.
Diagnostics go to standard error; RUST_LOG=debug has more of them.";

/// What to do instead of running.
#[derive(Debug, Subcommand)]
enum Command {
    /// Find every mistake in a configuration; starts nothing and needs no privileges.
    Check(check::Arguments),
    /// Measure one window, print it, exit.
    Once(once::Arguments),
    /// The plugins: what they are for and what they need.
    List,
    /// Every metric: name, kind, unit, labels, meaning.
    Metrics,
    /// What works on this machine, what it may do, and the way out where something is in the way.
    Doctor(doctor::Arguments),
    /// Whether a running probe works, by its health file; the exit code says so.
    Health(health::Arguments),
    /// What waits on disk for delivery, and what outputs rejected; beside a running probe, too.
    Spool(spool::Arguments),
}

/// Does what was asked for; what it prints goes to `out`. Gives the exit code.
///
/// # Errors
/// [`crate::config::Invalid`] for a wrong configuration; anything else is a failure at run time.
pub fn run(arguments: Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    match (arguments.command, arguments.config) {
        (Some(Command::Check(arguments)), _) => check::run(&arguments, out)?,
        (Some(Command::Once(arguments)), _) => once::run(&arguments, out)?,
        (Some(Command::List), _) => list::run(out)?,
        (Some(Command::Metrics), _) => metrics::run(out)?,
        (Some(Command::Doctor(arguments)), _) => doctor::run(&arguments, out)?,
        (Some(Command::Health(arguments)), _) => return health::run(&arguments, out),
        (Some(Command::Spool(arguments)), _) => return spool::run(&arguments, out),
        (None, Some(config)) => return run::run(&config),
        (None, None) => unreachable!("clap asks for one of them"),
    }
    Ok(0)
}
