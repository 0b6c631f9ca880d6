//! `doctor`: what works on this machine, and the way out where it does not.

mod machine;
mod outputs;
mod readers;

use std::{
    collections::BTreeSet,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, getrlimit};

use super::start;
use crate::{
    config::{Config, Registries, Setting},
    kernel::{cost, objects, possible_cpus},
    metadata, metrics,
    plugin::Context,
    privileges::{self, Capabilities},
};
use machine::{Machine, Wanted};

pub(super) const EXAMPLES: &str = "\
Examples:
  sudo dataflux-probe doctor                                    every reader there is
  sudo dataflux-probe doctor --config probe.toml                those of a configuration, and whether its outputs can be reached
  sudo -u dataflux-probe dataflux-probe doctor --config probe.toml    as the service sees it

It attaches the readers, reads each of them once and lets them go again, connects to brokers, and sends nothing.
Exit codes: 0 told, whatever it says; 1 it could not look; 2 wrong command line or configuration.";

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Its readers and its view of the host instead of all readers there are; and whether its outputs could deliver.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key of the configuration, as in probe.proc=/host/proc; once for each.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<Setting>,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let mut config = match &arguments.config {
        Some(path) => Config::load_with(path, &arguments.set, Registries::BUILT_IN)?,
        None => start::everything("json", &arguments.set)?,
    };
    let roots = &config.context.roots;
    let capabilities = Capabilities::effective()?;
    let machine = Machine {
        roots,
        capabilities,
        memlock: getrlimit(Resource::Memlock).current,
        maps: possible_cpus(&roots.sys).map_or(0, |cpus| cost::budget(cpus as usize) as u64),
    };
    writeln!(out, "kernel      {}", kernel())?;
    writeln!(out, "types       {}", types(&roots.sys))?;
    let user = rustix::process::geteuid().as_raw();
    writeln!(out, "privileges  user {user}, {capabilities}")?;
    writeln!(out, "gives up    {}", privileges::available())?;
    for (number, setting) in machine.settings().iter().enumerate() {
        let title = if number == 0 { "settings" } else { "" };
        writeln!(out, "{title:<12}{setting}")?;
    }
    writeln!(out, "objects     {}", embedded())?;
    let wanted = wanted(&config);
    let mut readers = std::mem::take(&mut config.readers);
    let programs = start::attach_all(readers.iter_mut(), &config.context);
    writeln!(out, "memory      {}", memory(&config.context))?;
    let obstacles = machine.obstacles(&wanted);
    let concerned: BTreeSet<_> = obstacles
        .iter()
        .flat_map(|obstacle| obstacle.concerns.iter().copied())
        .collect();
    if !obstacles.is_empty() {
        writeln!(out, "\nobstacles")?;
    }
    for obstacle in obstacles {
        writeln!(out, "{obstacle}")?;
    }
    readers::print(out, readers, &programs, &concerned)?;
    readers::print_metadata(out, config.metadata)?;
    if arguments.config.is_some() {
        let state_dir = config.state_dir.as_deref();
        outputs::print(out, &mut config.outputs, state_dir)?;
        outputs::print_health(out, &config.health)?;
    }
    Ok(())
}

/// The readers of a configuration, with what they say they need.
fn wanted(config: &Config) -> Vec<Wanted> {
    let metadata = config.metadata.iter().filter_map(|reader| {
        let mut registry = metadata::REGISTRY.iter();
        let plugin = registry.find(|plugin| plugin.name == reader.name)?;
        Some((plugin.name, &plugin.needs))
    });
    let metrics = config.readers.iter().filter_map(|reader| {
        let mut registry = metrics::REGISTRY.iter();
        let plugin = registry.find(|plugin| plugin.name == reader.name)?;
        Some((plugin.name, &plugin.needs))
    });
    metadata
        .chain(metrics)
        .map(|(name, needs)| Wanted { name, needs })
        .collect()
}

/// What the kernel holds for the probe.
fn memory(context: &Context) -> String {
    let size = |bytes: u64| bytesize::ByteSize(bytes).display().iec();
    let counters = &context.counters;
    let used = format!(
        "maps {}, programs {}",
        size(counters.kernel_map_bytes.get()),
        size(counters.kernel_program_bytes.get())
    );
    match possible_cpus(&context.roots.sys) {
        Ok(cpus) => {
            let most = cost::budget(cpus as usize) as u64;
            format!(
                "{used}; at most {} for maps, with {cpus} possible CPUs",
                size(most)
            )
        }
        Err(error) => format!("{used}; {error:#}"),
    }
}

fn kernel() -> String {
    let name = rustix::system::uname();
    [name.sysname(), name.release(), name.machine()]
        .map(|part| part.to_string_lossy().into_owned())
        .join(" ")
}

/// The kernel's own types, which programs find their way by.
fn types(sys: &Path) -> String {
    let path = sys.join("kernel/btf/vmlinux");
    match File::open(&path).and_then(|file| file.metadata()) {
        Ok(types) => {
            let size = bytesize::ByteSize(types.len()).display().iec();
            format!("{}, {size}", path.display())
        }
        Err(error) => format!("{}: {error}", path.display()),
    }
}

fn embedded() -> String {
    let names: Vec<_> = objects::OBJECTS.iter().map(|&(name, _)| name).collect();
    match names.as_slice() {
        [] => "none: `cargo xtask build-ebpf`, then build the probe again".to_owned(),
        names => names.join(", "),
    }
}
