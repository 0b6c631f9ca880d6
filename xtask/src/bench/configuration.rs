//! The configurations that the bench runs the probe with.

use std::{fmt::Write as _, path::Path};

use anyhow::Context as _;
use dataflux_probe::{
    config::{Config, Registries},
    kernel::Kernel,
    metadata::{self, MetadataReader},
    metrics::{self, MetricReader},
    plugin::Plugin,
};

/// Every reader, once a second, one combined envelope of JSON into a file.
pub(super) fn everything(folder: &Path) -> String {
    let mut sections = String::new();
    readers(&mut sections);
    with_output("", &sections, folder)
}

/// Every reader that attaches nothing, once a second, into a file.
pub(super) fn without_kernel(folder: &Path) -> String {
    let mut sections = String::new();
    for plugin in metrics::REGISTRY {
        if plugin.needs.attach.is_empty() {
            line(&mut sections, &format!("[metrics.{}]", plugin.name));
        }
    }
    metadata_readers(&mut sections);
    with_output("", &sections, folder)
}

/// A section for each reader, as `deploy/probe.toml` has them.
fn readers(sections: &mut String) {
    for plugin in metrics::REGISTRY {
        line(sections, &format!("[metrics.{}]", plugin.name));
    }
    metadata_readers(sections);
}

fn metadata_readers(sections: &mut String) {
    for plugin in local_metadata() {
        line(sections, &format!("[metadata.{}]", plugin.name));
    }
}

/// Those that ask nobody outside of this machine.
pub(super) fn local_metadata() -> impl Iterator<Item = &'static &'static Plugin<dyn MetadataReader>>
{
    let readers = metadata::REGISTRY.iter();
    readers.filter(|plugin| plugin.name != "cloud")
}

/// Every reader, with an output `main` to a topic and a spool in this state folder.
pub(super) fn to_kafka(state: &Path, brokers: &str, topic: &str, interval: &str) -> String {
    let mut text = String::from("[probe]\n");
    line(&mut text, &format!("interval = {interval:?}"));
    line(
        &mut text,
        &format!("state_dir = {:?}", state.display().to_string()),
    );
    readers(&mut text);
    line(&mut text, "[output.main]");
    line(&mut text, "formatter = \"json\"");
    line(&mut text, "logger = \"kafka\"");
    line(&mut text, "spool_bytes = \"4GiB\"");
    line(&mut text, "[output.main.kafka]");
    line(&mut text, &format!("brokers = [{brokers:?}]"));
    line(&mut text, &format!("topic = {topic:?}"));
    text
}

fn with_output(probe: &str, sections: &str, folder: &Path) -> String {
    let mut text = String::from("[probe]\ninterval = \"1s\"\n");
    text.push_str(probe);
    text.push_str(sections);
    line(&mut text, "[output.bench]");
    line(&mut text, "formatter = \"json\"");
    line(&mut text, "logger = \"file\"");
    line(&mut text, "[output.bench.file]");
    line(
        &mut text,
        &format!(
            "path = {:?}",
            folder.join("envelopes.jsonl").display().to_string()
        ),
    );
    line(&mut text, "keep = 0");
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes any text");
}

/// A metadata reader as it is without options.
///
/// # Errors
/// There is no such reader.
pub(super) fn build_metadata(
    reader: &str,
    folder: &Path,
) -> anyhow::Result<Box<dyn MetadataReader>> {
    let sections = format!("[metrics.cpu]\n[metadata.{reader}]\n");
    let text = with_output("", &sections, folder);
    let config = Config::parse(Path::new("bench"), text, Registries::BUILT_IN)?;
    let found = config
        .metadata
        .into_iter()
        .find(|built| built.name == reader);
    Ok(found
        .with_context(|| format!("there is no {reader}"))?
        .reader)
}

/// A metric reader with these options, as the probe itself would build it for a host with this `/proc`, and what it attaches
/// with.
///
/// # Errors
/// There is no such reader.
pub(super) fn build(
    reader: &str,
    options: &str,
    folder: &Path,
    proc: &Path,
) -> anyhow::Result<(Box<dyn MetricReader>, Kernel)> {
    let config = Config::parse(
        Path::new("bench"),
        with_output(
            &format!("proc = {:?}\n", proc.display().to_string()),
            &format!("[metrics.{reader}]\n{options}\n"),
            folder,
        ),
        Registries::BUILT_IN,
    )?;
    let kernel = Kernel::new(config.context.roots, config.context.counters);
    let mut readers = config.readers;
    anyhow::ensure!(
        readers.len() == 1,
        "one reader asked for, {} built",
        readers.len()
    );
    Ok((readers.remove(0).reader, kernel))
}
