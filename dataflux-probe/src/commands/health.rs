//! `health`: what a health file says now, as an exit code, for probes in a container without a shell.

use std::{io::Write, path::PathBuf};

use crate::health::judge;

pub(super) const EXAMPLES: &str = "\
Examples:
  dataflux-probe health --file /run/dataflux-probe/health            whether its pipeline moves
  dataflux-probe health --file /run/dataflux-probe/health --ready    whether it has measured a window

Exit codes: 0 as asked for, 1 not, and one line says why.";

/// The arguments of `health`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file that `[health]` of the running probe's configuration names.
    #[arg(long)]
    file: PathBuf,
    /// Ask whether a window has been measured, not only whether the pipeline moves.
    #[arg(long)]
    ready: bool,
}

/// Gives the exit code: 0, or 1 if the probe is not as asked for.
pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    let judgement = judge(&arguments.file);
    let (trouble, word) = if arguments.ready {
        (judgement.not_ready, "ready")
    } else {
        (judgement.not_live, "live")
    };
    match trouble {
        Some(reason) => {
            writeln!(out, "not {word}: {reason}")?;
            Ok(1)
        }
        None => {
            writeln!(out, "{word}")?;
            Ok(0)
        }
    }
}
