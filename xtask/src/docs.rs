//! `docs`: writes docs/reference/, and the parts of other documents that the plugins' own declarations determine.
//!
//! Such a part stands between two lines that name it; what is around them is written by hand.

mod reference;

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, bail};
use dataflux_probe::{formatters, loggers, metadata, metrics, plugin::Plugin};

use crate::{command::say, workspace};

/// Write what the plugins declare into deploy/probe.toml, README.md and docs/reference
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only compare, and fail if something is out of date
    #[arg(long)]
    pub(crate) check: bool,
}

/// Documents with generated parts, from the workspace's folder.
const DOCUMENTS: [&str; 2] = ["deploy/probe.toml", "README.md"];

const BEGIN: &str = ": written by `cargo xtask docs` ---";

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    let mut outdated = Vec::new();
    for name in DOCUMENTS {
        let old = read(name)?;
        let new = regenerate(&old).with_context(|| name.to_owned())?;
        outdated.extend(settle(name, &old, &new, args.check)?);
    }
    // Of the configuration as it has just been written.
    let configuration = regenerate(&read(DOCUMENTS[0])?)?;
    for (name, new) in reference::pages(&configuration)? {
        let old = read(name).unwrap_or_default();
        outdated.extend(settle(name, &old, &new, args.check)?);
    }
    if !outdated.is_empty() {
        bail!(
            "out of date: {}; run `cargo xtask docs`",
            outdated.join(", ")
        );
    }
    Ok(())
}

fn read(name: &str) -> anyhow::Result<String> {
    let path = workspace::root().join(name);
    fs::read_to_string(path).with_context(|| format!("cannot read {name}"))
}

/// Writes a document that is not as it must be, or gives its name if it is only to be checked.
fn settle<'a>(name: &'a str, old: &str, new: &str, check: bool) -> anyhow::Result<Option<&'a str>> {
    if new == old {
        return Ok(None);
    }
    if check {
        return Ok(Some(name));
    }
    say(format_args!("writing {name}"));
    let path = workspace::root().join(name);
    fs::write(&path, new).with_context(|| format!("cannot write {name}"))?;
    Ok(None)
}

/// The document with its generated parts as they must be.
fn regenerate(text: &str) -> anyhow::Result<String> {
    let by_hand = replace_parts(text, |_| Ok(String::new()))?;
    replace_parts(text, |part| content(part, &by_hand))
}

/// What a part must hold; `by_hand` is the document around the generated parts.
fn content(part: &str, by_hand: &str) -> anyhow::Result<String> {
    Ok(match part {
        "metadata" => sections("metadata", metadata::REGISTRY),
        "metrics" => sections("metrics", metrics::REGISTRY),
        "table of metric readers" => table(metrics::REGISTRY),
        "table of metadata readers" => table(metadata::REGISTRY),
        "table of formatters" => table(formatters::REGISTRY),
        "table of loggers" => table(loggers::REGISTRY),
        _ => match part.strip_prefix("output.") {
            Some(output) => output_sections(output, by_hand)?,
            None => bail!("`{part}` is no part that can be generated"),
        },
    })
}

/// The config sections of a registry's plugins, in its order.
fn sections<T: ?Sized>(group: &str, registry: &[&Plugin<T>]) -> String {
    registry
        .iter()
        .map(|plugin| section(group, plugin))
        .collect()
}

/// The sections of an output's formatter and logger, which `by_hand` names. One without options has none.
fn output_sections(output: &str, by_hand: &str) -> anyhow::Result<String> {
    let document: toml::Table = by_hand
        .parse()
        .context("what is written by hand is not TOML")?;
    let plugin = |role: &str| {
        document
            .get("output")
            .and_then(|outputs| outputs.get(output)?.get(role)?.as_str())
            .with_context(|| format!("[output.{output}] names no {role}"))
    };
    let group = format!("output.{output}");
    let formatter = named(formatters::REGISTRY, plugin("formatter")?)?;
    let logger = named(loggers::REGISTRY, plugin("logger")?)?;
    let mut text = String::new();
    if has_options(formatter.example) {
        text += &section(&group, formatter);
    }
    if has_options(logger.example) {
        text += &section(&group, logger);
    }
    Ok(text)
}

fn named<'a, T: ?Sized>(registry: &[&'a Plugin<T>], name: &str) -> anyhow::Result<&'a Plugin<T>> {
    registry
        .iter()
        .copied()
        .find(|plugin| plugin.name == name)
        .with_context(|| format!("no plugin is called `{name}`"))
}

fn has_options(example: &str) -> bool {
    example
        .lines()
        .any(|line| !line.is_empty() && !line.starts_with("# "))
}

fn section<T: ?Sized>(group: &str, plugin: &Plugin<T>) -> String {
    let mut text = format!(
        "\n# {}.\n[{group}.{}]\n",
        sentence(plugin.summary),
        plugin.name
    );
    for line in plugin.example.trim().lines() {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Name and summary of a registry's plugins as a Markdown table.
fn table<T: ?Sized>(registry: &[&Plugin<T>]) -> String {
    let mut text = String::from("\n| name | |\n|---|---|\n");
    for plugin in registry {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "| `{}` | {} |",
            plugin.name,
            plugin.summary.replace('|', r"\|")
        );
    }
    text.push('\n');
    text
}

/// A summary as the beginning of a sentence, without its period.
fn sentence(summary: &str) -> String {
    let mut characters = summary.trim_end_matches('.').chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// Replaces what stands between the two lines of every generated part. A part is named `NAME` by a line that has
/// "--- NAME: written by `cargo xtask docs` ---" and ends at one that has "--- end of NAME ---".
fn replace_parts(
    text: &str,
    content: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut new = String::new();
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        new.push_str(line);
        let Some(part) = part_begun_by(line) else {
            continue;
        };
        new.push_str(&content(part)?);
        let end = format!("--- end of {part} ---");
        let last = lines
            .find(|line| line.contains(&end))
            .with_context(|| format!("no line ends the part: {end}"))?;
        new.push_str(last);
    }
    Ok(new)
}

fn part_begun_by(line: &str) -> Option<&str> {
    let (before, _) = line.split_once(BEGIN)?;
    before.split_once("--- ").map(|(_, part)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "by hand\n# --- a: written by `cargo xtask docs` ---\nold\n# --- end of a ---\nby hand too\n";

    #[test]
    fn only_what_is_between_the_lines_of_a_part_is_replaced() {
        let new = replace_parts(TEXT, |part| Ok(format!("new {part}\n"))).unwrap();
        assert_eq!(new, TEXT.replace("old\n", "new a\n"));
    }

    #[test]
    fn a_part_without_an_end_is_an_error() {
        let error = replace_parts(&TEXT.replace("end of a", "end of b"), |_| Ok(String::new()));
        assert!(error.is_err());
    }

    #[test]
    fn a_section_without_options_is_told_from_one_with_a_default_only() {
        assert!(!has_options("# No options."));
        assert!(has_options("# How large.\nsize = 1"));
        assert!(has_options("#size = 1"));
    }

    #[test]
    fn every_hook_stands_in_the_architecture_with_its_one_reader() {
        let text = fs::read_to_string(workspace::root().join("ARCHITECTURE.md")).unwrap();
        let mut hooks = 0;
        for entry in
            fs::read_dir(workspace::kernel_crate(workspace::root()).join("src/bin")).unwrap()
        {
            let path = entry.unwrap().path();
            let reader = path.file_stem().unwrap().to_str().unwrap();
            let code = fs::read_to_string(&path).unwrap();
            for found in code.split("btf_tracepoint(function = \"").skip(1) {
                let hook = found.split('"').next().unwrap();
                let row = text
                    .lines()
                    .filter(|line| line.starts_with("| `") && line.contains(&format!("`{hook}`")))
                    .collect::<Vec<_>>();
                assert!(
                    matches!(row[..], [row] if row.contains(&format!("| `{reader}` |"))),
                    "{hook} belongs to {reader}, ARCHITECTURE.md has {row:?}"
                );
                hooks += 1;
            }
        }
        assert!(hooks > 0);
    }

    #[test]
    fn every_output_of_the_default_configuration_has_its_plugins_sections() {
        let text = "[output.main]\nformatter = \"json\"\nlogger = \"file\"\n";
        let sections = output_sections("main", text).unwrap();
        assert!(
            sections.contains("\n[output.main.file]\npath = "),
            "{sections}"
        );
    }
}
