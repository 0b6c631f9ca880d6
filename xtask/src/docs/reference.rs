//! The pages of docs/reference/ that are generated: from the plugins' declarations, the command line, the default configuration
//! and the golden files.

use std::{fmt::Write as _, fs};

use anyhow::{Context as _, bail};
use dataflux_probe::{
    commands, config, formatters, loggers, metadata, metrics,
    model::{Born, Fall, Kind, MetricDef},
    plugin::{Needs, Plugin},
};

use super::{has_options, section, sentence};
use crate::workspace;

/// Names of golden files end in the formatter's name, but for these.
const ENDINGS: [(&str, &str); 4] = [
    ("influx", "lp"),
    ("prometheus", "prom"),
    ("template", "template.txt"),
    ("text", "txt"),
];

/// How wide help is printed.
const WIDTH: usize = 110;

/// Every page, from the workspace's folder, and what it must hold. `configuration` is the text of deploy/probe.toml.
pub(super) fn pages(configuration: &str) -> anyhow::Result<[(&'static str, String); 6]> {
    Ok([
        ("docs/reference/commands.md", commands_page()),
        ("docs/reference/config.md", config_page(configuration)?),
        ("docs/reference/formatters.md", formatters_page()?),
        ("docs/reference/loggers.md", loggers_page()),
        ("docs/reference/metrics.md", metrics_page()),
        ("docs/reference/readers.md", readers_page()),
    ])
}

/// A page's first lines.
fn page(title: &str, introduction: &str) -> String {
    format!(
        "# {title}\n\n<!-- Written by `cargo xtask docs` from the program's own declarations; change those. -->\n\n{introduction}\n"
    )
}

/// Writing to a string cannot fail.
macro_rules! add {
    ($text:expr, $($arguments:tt)*) => {
        let _infallible = writeln!($text, $($arguments)*);
    };
}

fn readers_page() -> String {
    let mut text = page(
        "Readers",
        "What is measured and who the machine is. A reader runs if its section is in the configuration and `enabled = false` is not; keys \
         that every reader has stand in [config.md](config.md), what the metrics mean in [metrics.md](metrics.md). An option \
         that is a comment below shows its default or an example; the others stand as in the default configuration.",
    );
    text += "\n## Metric readers\n";
    for plugin in metrics::REGISTRY {
        describe(&mut text, "metrics", plugin);
        let count = plugin.metrics.len();
        add!(text, "\n[{count} metrics](metrics.md#{}).", plugin.name);
    }
    text += "\n## Metadata readers\n\nEach gives one section of the envelope's header, and is read again every 60 s unless its `interval` says \
             otherwise.\n";
    for plugin in metadata::REGISTRY {
        describe(&mut text, "metadata", plugin);
    }
    text
}

/// Name, summary, needs and options.
fn describe<T: ?Sized>(text: &mut String, group: &str, plugin: &Plugin<T>) {
    add!(
        text,
        "\n### {}\n\n{}.",
        plugin.name,
        sentence(plugin.summary)
    );
    needs(text, &plugin.needs);
    let section = section(group, plugin);
    // Its first lines are a blank one and the summary.
    let section = section
        .trim_start()
        .split_once('\n')
        .map_or("", |(_, rest)| rest);
    add!(text, "\n```toml\n{}\n```", section.trim_end());
}

fn needs(text: &mut String, needs: &Needs) {
    let list = |names: Vec<&str>| names.join(", ");
    let attach = needs.attach.iter().map(|capability| capability.name());
    let keep = needs.keep.iter().map(|keep| keep.name());
    let all = [
        ("Needs", needs.kernel.to_owned()),
        ("To attach", list(attach.collect())),
        ("To go on", list(keep.collect())),
    ];
    let known: Vec<_> = all
        .iter()
        .filter(|(_, what)| !what.is_empty())
        .map(|(when, what)| format!("{when}: {what}."))
        .collect();
    if !known.is_empty() {
        add!(text, "\n{}", known.join(" "));
    }
}

fn metrics_page() -> String {
    let mut text = page(
        "Metrics",
        "Every metric of every reader; `dataflux-probe metrics` prints the same, also as JSON. Units are those of the envelope; formatters \
         with conventions of their own convert. The kinds:\n\n\
         | kind | |\n|---|---|\n\
         | counter | what happened in the window, and the running total |\n\
         | counter, past | as a counter; a series that is seen for the first time brings a past with it: its total, and no value yet |\n\
         | counter, jitter | as the one above; the kernel lets it fall a little now and then, which counts as 0 |\n\
         | gauge | a value at the end of the window |\n\
         | histogram | how many values fell into which bucket, and their sum |",
    );
    for plugin in metrics::REGISTRY {
        add!(
            text,
            "\n## {}\n\n{}.\n",
            plugin.name,
            sentence(plugin.summary)
        );
        text += "| metric | kind | unit | labels | |\n|---|---|---|---|---|\n";
        for metric in plugin.metrics {
            let labels: Vec<_> = metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect();
            add!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                metric.name,
                kind(metric),
                metric.unit.name(),
                labels.join(", "),
                cell(metric.help)
            );
        }
    }
    text
}

fn kind(metric: &MetricDef) -> String {
    let qualifier = match metric.kind {
        Kind::Counter {
            fall: Fall::Jitter, ..
        } => ", jitter",
        Kind::Counter {
            born: Born::Past, ..
        } => ", past",
        _ => "",
    };
    metric.kind.name().to_owned() + qualifier
}

/// Text as it may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', r"\|").replace('<', "&lt;")
}

fn formatters_page() -> anyhow::Result<String> {
    let mut text = page(
        "Formatters",
        "How an output writes its envelopes: `formatter = \"NAME\"` in `[output.MAIN]`, and its options in `[output.MAIN.NAME]`. Each \
         example is the same envelope, made up for the tests, which hold it against `tests/golden/`.",
    );
    for plugin in formatters::REGISTRY {
        add!(
            text,
            "\n## {}\n\n{}.",
            plugin.name,
            sentence(plugin.summary)
        );
        options(&mut text, plugin);
        example(&mut text, plugin.name)?;
    }
    Ok(text)
}

fn options<T: ?Sized>(text: &mut String, plugin: &Plugin<T>) {
    needs(text, &plugin.needs);
    if has_options(plugin.example) {
        let options = format!("[output.MAIN.{}]\n{}", plugin.name, plugin.example.trim());
        add!(text, "\n```toml\n{options}\n```");
    } else {
        add!(text, "\nNo options.");
    }
}

/// What it makes of the example of the tests; of one that is no text only its size.
fn example(text: &mut String, formatter: &str) -> anyhow::Result<()> {
    let ending = ENDINGS.iter().find(|(name, _)| *name == formatter);
    let ending = ending.map_or(formatter, |(_, ending)| ending);
    let name = format!("tests/golden/example.{ending}");
    let bytes = fs::read(workspace::root().join(&name))
        .with_context(|| format!("the example of formatter {formatter}: cannot read {name}"))?;
    match String::from_utf8(bytes) {
        Ok(example) => {
            add!(text, "\n```\n{}\n```", example.trim_end());
        }
        Err(error) => {
            let length = error.as_bytes().len();
            add!(
                text,
                "\nThe example takes {length} bytes (`{name}`), which are no text."
            );
        }
    }
    Ok(())
}

fn loggers_page() -> String {
    let mut text = page(
        "Loggers",
        "Where an output delivers to: `logger = \"NAME\"` in `[output.MAIN]`, and its options in `[output.MAIN.NAME]`. Queueing, retry and \
         order are the same for all of them.",
    );
    for plugin in loggers::REGISTRY {
        add!(
            text,
            "\n## {}\n\n{}.",
            plugin.name,
            sentence(plugin.summary)
        );
        options(&mut text, plugin);
    }
    text
}

fn commands_page() -> String {
    let mut text = page(
        "Commands",
        "What `--help` says of each command.\n\n\
         | exit code | |\n|---|---|\n\
         | 0 | done; a closed pipe on standard output counts as done |\n\
         | 1 | failed at run time; of `health` and `spool verify`: no |\n\
         | 2 | wrong command line or configuration |\n\
         | 130, 143 | a second SIGINT or SIGTERM ended the probe before its outputs were drained |",
    );
    let command = commands::command_line().term_width(WIDTH);
    command_help(&mut text, command, "");
    text
}

/// The help of a command and of those below it.
fn command_help(text: &mut String, mut command: clap::Command, above: &str) {
    let name = format!("{above}{}", command.get_name());
    let help = command.render_long_help().to_string();
    let lines: Vec<_> = help.trim().lines().map(str::trim_end).collect();
    add!(text, "\n## {name}\n\n```\n{}\n```", lines.join("\n"));
    let below = command.get_subcommands().cloned();
    for next in below
        .filter(|next| next.get_name() != "help")
        .collect::<Vec<_>>()
    {
        command_help(text, next.term_width(WIDTH), &format!("{name} "));
    }
}

fn config_page(configuration: &str) -> anyhow::Result<String> {
    let by_hand = super::replace_parts(configuration, |part| {
        Ok(match part {
            "metadata" | "metrics" => "# ... one section each: docs/reference/readers.md\n".to_owned(),
            _ => "# ... the options of its formatter and its logger: docs/reference/formatters.md, loggers.md\n".to_owned(),
        })
    })?;
    for (section, keys) in config::keys() {
        // What switches any section off stands at the top.
        for key in keys.iter().filter(|&&key| key != "enabled") {
            let explained = by_hand.lines().any(|line| {
                let line = line.trim_start_matches(['#', ' ']);
                line.starts_with(&format!("{key} = "))
            });
            if !explained {
                bail!("deploy/probe.toml does not explain the key {key} of {section}");
            }
        }
    }
    let lines: Vec<_> = by_hand
        .lines()
        .filter(|line| !line.starts_with("# --- "))
        .collect();
    let mut text = page(
        "Configuration",
        "The sections that are not a plugin's, as they stand in `deploy/probe.toml`, the default configuration; what is a comment there \
         shows its default or an example. `dataflux-probe check FILE` finds every mistake with its line.",
    );
    add!(text, "\n```toml\n{}\n```", lines.join("\n").trim_end());
    Ok(text)
}
