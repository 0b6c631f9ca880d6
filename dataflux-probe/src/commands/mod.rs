//! The commands of `dataflux-probe`, one file each.

mod attempt;
mod check;
mod completions;
mod config;
mod doctor;
mod health;
mod list;
mod man;
mod metrics;
mod once;
mod reload;
mod run;
mod schema;
mod spool;
mod start;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use crate::{config::Setting, diagnostics};

/// Kernel metrics of a Linux machine, as envelopes, without losing one.
#[derive(Debug, Parser)]
#[command(
    name = "dataflux-probe",
    version,
    arg_required_else_help = true,
    subcommand_negates_reqs = true,
    after_help = EXAMPLES
)]
pub struct Arguments {
    /// Run with this configuration until SIGTERM or SIGINT.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// How the probe speaks of itself.
    #[command(flatten)]
    pub diagnostics: diagnostics::Arguments,
    /// Set one key beside the file, as in metrics.cpu.interval=1s; once for each.
    #[arg(long, value_name = "KEY=VALUE", requires = "config")]
    set: Vec<Setting>,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  sudo dataflux-probe --config probe.toml    measure and deliver until stopped
  dataflux-probe check probe.toml            find every mistake in it, start nothing
  dataflux-probe config show probe.toml      what it comes to, with variables, included files and defaults
  sudo dataflux-probe once --window 2s       all that can be measured, once
  sudo dataflux-probe doctor                 what works here, and why the rest does not

Once its readers are attached and its outputs open, the probe gives up every capability and restricts itself to its own \
files, for good: what changes of kernel readers, state_dir or paths needs a restart. SIGHUP reopens its files and reloads the \
rest of the configuration; SIGTERM and SIGINT end it after a last read and delivery, a second one at once.

Exit codes: 0 done; 1 failed; 2 wrong command line or configuration; 128 and the number of the signal if a second one ended it.

Diagnostics go to standard error. A message that repeats is told five times a minute and then counted. RUST_LOG goes before \
--log-level, for developers. NO_COLOR takes the colours out, which only a terminal gets.";

/// What to do instead of running.
#[derive(Debug, Subcommand)]
enum Command {
    /// Find every mistake in a configuration; starts nothing and needs no privileges.
    #[command(after_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// The default configuration, and what a configuration comes to.
    #[command(after_help = config::EXAMPLES)]
    Config(config::Arguments),
    /// Measure one window, print it, exit.
    #[command(after_help = once::EXAMPLES)]
    Once(once::Arguments),
    /// The plugins: what they are for and what they need.
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Every metric: name, kind, unit, labels, meaning.
    #[command(after_help = metrics::EXAMPLES)]
    Metrics(metrics::Arguments),
    /// The JSON Schema (2020-12) of what formatter `json` writes.
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::Arguments),
    /// What works on this machine, what it may do, and the way out where something is in the way.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Arguments),
    /// Whether a running probe works, by its health file; the exit code says so.
    #[command(after_help = health::EXAMPLES)]
    Health(health::Arguments),
    /// What waits on disk for delivery, and what outputs rejected; beside a running probe, too.
    Spool(spool::Arguments),
    /// Completions of these commands for a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Arguments),
    /// The manual pages, in the language of man(1).
    #[command(after_help = man::EXAMPLES)]
    Man(man::Arguments),
}

/// The command line of this process; `None` if it asks for help or the version, which is printed. Ends the process, with 2, if
/// the command line is wrong.
///
/// # Errors
/// It cannot be printed.
pub fn arguments() -> io::Result<Option<Arguments>> {
    let arguments = match Arguments::try_parse() {
        Err(help) if !help.use_stderr() => {
            let printed = help.print().and_then(|()| io::stdout().flush());
            return printed.map(|()| None).map_err(not_printed);
        }
        arguments => arguments.unwrap_or_else(|wrong| wrong.exit()),
    };
    if arguments.config.is_some() && arguments.command.is_some() {
        let message = "--config before a command means to run; give it behind the command";
        Arguments::command()
            .error(ErrorKind::ArgumentConflict, message)
            .exit();
    }
    Ok(Some(arguments))
}

/// What the command line can be, for documents.
#[must_use]
pub fn command_line() -> clap::Command {
    let mut command = Arguments::command();
    command.build();
    command
}

/// Does what was asked for; what it prints goes to `out`. Gives the exit code.
///
/// # Errors
/// [`crate::config::Invalid`] for a wrong configuration; anything else is a failure at run time.
pub fn run(arguments: Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    match (arguments.command, arguments.config) {
        (Some(Command::Check(arguments)), _) => check::run(&arguments, out)?,
        (Some(Command::Config(arguments)), _) => config::run(&arguments, out)?,
        (Some(Command::Once(arguments)), _) => once::run(&arguments, out)?,
        (Some(Command::List), _) => list::run(out)?,
        (Some(Command::Metrics(arguments)), _) => metrics::run(&arguments, out)?,
        (Some(Command::Schema(arguments)), _) => schema::run(&arguments, out)?,
        (Some(Command::Doctor(arguments)), _) => doctor::run(&arguments, out)?,
        (Some(Command::Health(arguments)), _) => return health::run(&arguments, out),
        (Some(Command::Spool(arguments)), _) => return spool::run(&arguments, out),
        (Some(Command::Completions(arguments)), _) => completions::run(&arguments, out)?,
        (Some(Command::Man(arguments)), _) => man::run(&arguments, out)?,
        (None, Some(config)) => return run::run(&config, &arguments.set),
        (None, None) => unreachable!("clap asks for one of them"),
    }
    Ok(0)
}

/// Of what keeps standard output from taking something.
#[must_use]
pub fn not_printed(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("writing to standard output: {error}"))
}

/// Names in a line, for people.
fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
