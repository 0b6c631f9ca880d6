//! `spool`: what waits on disk for delivery, and what outputs rejected; reads beside a running probe and changes nothing.

mod cat;
mod list;
mod verify;

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use crate::{
    config::{Config, Registries, Setting},
    pipeline::spool::reading::{self, Kind},
};

/// The arguments of `spool`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "\
Examples:
  sudo dataflux-probe spool list --config probe.toml              what is there, one line of JSON per output
  sudo dataflux-probe spool cat --state-dir DIR main              what is still to be delivered
  sudo dataflux-probe spool cat --state-dir DIR main --dead-letters
  sudo dataflux-probe spool verify --state-dir DIR                reads everything; exit code 1 if any of it is damaged

All of them read while the probe runs, and never write.";

/// What to do with it.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Files, streams and numbers, as JSON: an object for each output.
    List(Source),
    /// The envelopes that are still to be delivered.
    Cat(cat::Arguments),
    /// Read everything and check it; JSON, and exit code 1 if there is damage.
    Verify(Source),
}

/// Where to look.
#[derive(Debug, clap::Args)]
struct Source {
    /// Only this output.
    output: Option<String>,
    #[command(flatten)]
    place: Place,
    /// What the outputs rejected, instead of what waits for delivery.
    #[arg(long)]
    dead_letters: bool,
}

/// The one or the other.
#[derive(Debug, clap::Args)]
struct Place {
    /// The configuration that names the state_dir.
    #[arg(long, value_name = "FILE", required_unless_present = "state_dir")]
    config: Option<PathBuf>,
    /// The state_dir itself.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    /// Set one key of the configuration, as in probe.state_dir=/mnt/state; once for each.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "state_dir")]
    set: Vec<Setting>,
}

impl Source {
    fn kind(&self) -> Kind {
        if self.dead_letters {
            Kind::DeadLetters
        } else {
            Kind::Envelopes
        }
    }

    fn state_dir(&self) -> anyhow::Result<PathBuf> {
        match (&self.place.state_dir, &self.place.config) {
            (Some(state_dir), _) => Ok(state_dir.clone()),
            (None, Some(path)) => Config::load_with(path, &self.place.set, Registries::BUILT_IN)?
                .state_dir
                .with_context(|| format!("{}: there is no state_dir in it", path.display())),
            (None, None) => bail!("either --config or --state-dir says where to look"),
        }
    }

    /// The folders to look at, by output.
    fn folders(&self) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let state_dir = self.state_dir()?;
        folders(&state_dir, self.kind(), self.output.as_deref())
    }
}

fn folders(
    state_dir: &Path,
    kind: Kind,
    only: Option<&str>,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let parent = state_dir.join(kind.folder());
    // Without this a mistyped path would look like a spool that is empty.
    if !state_dir.is_dir() {
        bail!("{} is no folder", state_dir.display());
    }
    let mut folders = reading::outputs(state_dir, kind)
        .with_context(|| format!("cannot read {}", parent.display()))?;
    if let Some(only) = only {
        folders.retain(|output, _| output == only);
        if folders.is_empty() {
            bail!(
                "there is nothing of an output {only:?} in {}",
                parent.display()
            );
        }
    }
    Ok(folders)
}

/// Gives the exit code.
/// The formatters that `cat` offers.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One line of JSON.
    Json,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<u8> {
    match &arguments.action {
        Action::List(source) => list::run(source, out),
        Action::Cat(arguments) => cat::run(arguments, out),
        Action::Verify(source) => verify::run(source, out),
    }
}

/// Files of one output.
fn files(folder: &Path, kind: Kind) -> anyhow::Result<Vec<reading::File>> {
    reading::files(folder, kind).with_context(|| format!("cannot read {}", folder.display()))
}

/// What is wrong with a file as a whole.
fn problems(file: &reading::File) -> Vec<String> {
    let mut problems: Vec<String> = file.refused.iter().cloned().collect();
    if file.header_is_damaged {
        problems.push("the header is damaged".to_owned());
    }
    if file.skipped_bytes > 0 {
        problems.push(format!(
            "{} bytes between records are none",
            file.skipped_bytes
        ));
    }
    if file.torn_bytes > 0 {
        problems.push(format!(
            "{} bytes at the end are no whole record",
            file.torn_bytes
        ));
    }
    problems
}

fn line(out: &mut impl Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    out.write_all(&text)?;
    Ok(())
}

#[cfg(test)]
mod tests;
