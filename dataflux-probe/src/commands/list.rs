//! `list`: the plugins, what they are for and what they need.

use std::io::{self, Write};

use super::names;
use crate::{formatters, loggers, metadata, metrics, plugin::Plugin};

pub(super) const EXAMPLES: &str = "\
Example:
  dataflux-probe list | less    what can stand in a configuration";

pub(super) fn run(out: &mut impl Write) -> anyhow::Result<()> {
    print("[metadata.NAME]", metadata::REGISTRY, out)?;
    print("[metrics.NAME]", metrics::REGISTRY, out)?;
    print("formatter = \"NAME\"", formatters::REGISTRY, out)?;
    print("logger = \"NAME\"", loggers::REGISTRY, out)?;
    Ok(())
}

fn print<T: ?Sized>(title: &str, registry: &[&Plugin<T>], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{title}")?;
    for plugin in registry {
        writeln!(out, "  {:<12}{}", plugin.name, plugin.summary)?;
        let needs = &plugin.needs;
        for (what, needed) in [
            ("needs", needs.kernel.to_owned()),
            (
                "to attach",
                names(needs.attach.iter().map(|needed| needed.name())),
            ),
            ("to go on", names(needs.keep.iter().map(|kept| kept.name()))),
        ] {
            if !needed.is_empty() {
                writeln!(out, "  {:<12}{what}: {needed}", "")?;
            }
        }
    }
    writeln!(out)
}
