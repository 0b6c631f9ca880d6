//! `docs`: writes the parts of documents that the plugins' own declarations determine.

use std::fs;

use anyhow::{Context as _, bail};
use dataflux_probe::{metadata, metrics, plugin::Plugin};

use crate::{command::say, workspace};

/// Write the sections of deploy/probe.toml from the plugins' examples
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare, and fail if something is out of date
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let path = workspace::root().join("deploy/probe.toml");
    let old =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new =
        replace_generated(&old, "#", "readers", &reader_sections()).context("deploy/probe.toml")?;
    if new == old {
        return Ok(());
    }
    if args.check {
        bail!("deploy/probe.toml is out of date: run `cargo xtask docs`");
    }
    say("writing deploy/probe.toml");
    fs::write(&path, new).with_context(|| format!("cannot write {}", path.display()))
}

/// The sections of every reader, metadata first.
fn reader_sections() -> String {
    let mut text = String::new();
    for plugin in metadata::REGISTRY {
        push_section(&mut text, "metadata", plugin);
    }
    for plugin in metrics::REGISTRY {
        push_section(&mut text, "metrics", plugin);
    }
    text
}

fn push_section<T: ?Sized>(text: &mut String, folder: &str, plugin: &Plugin<T>) {
    text.push_str(&format!(
        "\n# {}.\n[{folder}.{}]\n",
        capitalized(plugin.summary),
        plugin.name
    ));
    text.push_str(plugin.example.trim_end());
    if !plugin.example.is_empty() {
        text.push('\n');
    }
}

fn capitalized(sentence: &str) -> String {
    let mut characters = sentence.trim_end_matches('.').chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// Replaces what stands between the two marker lines of a part; they begin with `comment`.
fn replace_generated(text: &str, comment: &str, part: &str, new: &str) -> anyhow::Result<String> {
    let begin = format!("{comment} --- {part}: written by `cargo xtask docs` ---\n");
    let end = format!("{comment} --- end of {part} ---\n");
    let start = text
        .find(&begin)
        .with_context(|| format!("no line `{}`", begin.trim_end()))?
        + begin.len();
    let stop = text[start..]
        .find(&end)
        .with_context(|| format!("no line `{}` after it", end.trim_end()))?
        + start;
    Ok([&text[..start], new, &text[stop..]].concat())
}
