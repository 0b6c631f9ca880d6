//! `bench`: what the probe costs, under loads that the bench makes.
//!
//! Whatever it starts or attaches ends with it, however it ends: loads and the probe die with their parent, links with their
//! descriptors, namespaces with their processes, and the loop device with its last user.

mod configuration;
mod crowd;
mod delivery;
mod formatters;
mod kernel_objects;
pub(crate) mod load;
mod process;
mod programs;
mod readers;
mod report;
mod running_probe;
mod slowdown;
mod statistics;
mod totals;

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    thread::available_parallelism,
    time::Instant,
};

use anyhow::{Context as _, bail};
use dataflux_probe::kernel::objects::OBJECTS;

use crate::{
    build_ebpf,
    command::{self, say},
    probe_binary::{self, Profile},
    setup, workspace,
};
use delivery::Scenario;
use report::{Machine, Report};
use running_probe::Installation;

/// Measure what the programs and the probe cost (root; some minutes)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Measure one part only
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Of the delivery, measure one part only
    #[arg(long, value_enum, value_name = "PART")]
    delivery: Option<Scenario>,
    /// Rounds of each comparison of programs; whole loads are compared twice as often
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Where the results go as JSON [default: target/bench.json]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Fail when a bar is missed
    #[arg(long)]
    strict: bool,
}

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// ns per run of every program
    Programs,
    /// What loads lose to the running probe
    Slowdown,
    /// CPU, memory and start of the probe itself
    Process,
    /// Envelopes, spool and Kafka
    Delivery,
    /// Readers of /proc and /sys, with many processes and cgroups
    Readers,
    /// MB/s of formatters
    Formatters,
    /// A tick of an output that is scraped
    Totals,
}

/// Set for the second run of this command, after it was rebuilt with new kernel objects.
const REBUILT: &str = "DATAFLUX_BENCH_REBUILT";

pub(crate) fn main(args: &Args) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the bench attaches kernel programs: run it as root");
    }
    build_ebpf::build(&setup::kernel_tools()?)?;
    rebuild_if_outdated()?;
    let folder = workspace::root().join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let probe = match args.only {
        Some(Part::Programs | Part::Formatters | Part::Totals) => None,
        _ => Some(Installation::new(
            probe_binary::build(Profile::Release)?,
            &folder,
        )?),
    };

    let start = Instant::now();
    let machine = machine()?;
    for warning in machine.warnings() {
        say(warning);
    }
    let rounds = usize::from(args.rounds);
    let only = args.delivery.map_or(args.only, |_| Some(Part::Delivery));
    let wants = |part: Part| only.is_none_or(|only| only == part);
    let programs = wants(Part::Programs).then(|| programs::measure(rounds, &folder));
    let slowdown = probe
        .as_ref()
        .filter(|_| wants(Part::Slowdown))
        .map(|probe| slowdown::measure(rounds, probe, &folder));
    let process = probe
        .as_ref()
        .filter(|_| wants(Part::Process))
        .map(process::measure);
    let delivery = Scenario::ALL
        .into_iter()
        .filter(|&scenario| {
            wants(Part::Delivery) && args.delivery.is_none_or(|only| only == scenario)
        })
        .filter_map(|scenario| {
            let program = &probe.as_ref()?.program;
            Some(scenario.measure(rounds, program, &folder))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let readers = probe
        .as_ref()
        .filter(|_| wants(Part::Readers))
        .map(|probe| readers::measure(rounds, &probe.program, &folder));
    let formatters = wants(Part::Formatters).then(|| formatters::measure(rounds));
    let totals = wants(Part::Totals).then(|| totals::measure(rounds));
    let more = [
        readers.transpose()?,
        formatters.transpose()?,
        totals.transpose()?,
    ];
    let delivery = delivery
        .into_iter()
        .chain(more.into_iter().flatten())
        .collect();
    let report = Report {
        delivery,
        machine,
        rounds,
        programs: programs.transpose()?.unwrap_or_default(),
        slowdown: slowdown.transpose()?.unwrap_or_default(),
        process: process.transpose()?.unwrap_or_default(),
        seconds: start.elapsed().as_secs_f64(),
    };
    publish(&report, args.json.as_deref())?;
    match report.missed().len() {
        missed if missed > 0 && args.strict => bail!("{missed} bars missed"),
        _ => Ok(()),
    }
}

/// Prints the table and writes the JSON.
fn publish(report: &Report, path: Option<&Path>) -> anyhow::Result<()> {
    let default = workspace::root().join("target/bench.json");
    let path = path.unwrap_or(&default);
    let mut json = serde_json::to_vec_pretty(report).context("writing the results as JSON")?;
    json.push(b'\n');
    fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report.table()).context("printing the table")?;
    writeln!(out, "as JSON: {}", path.display()).context("printing the table")
}

/// This program carries the kernel objects that were there when it was built. If they have changed since, or if it is not
/// built for release, cargo builds it again and this process becomes the new one.
fn rebuild_if_outdated() -> anyhow::Result<()> {
    let folder = workspace::objects();
    let current = OBJECTS.iter().all(|(name, embedded)| {
        fs::read(folder.join(format!("{name}.o"))).is_ok_and(|built| built == *embedded)
    });
    // What runs within this process is to be as fast as in the probe.
    if current && !OBJECTS.is_empty() && !cfg!(debug_assertions) {
        return Ok(());
    }
    if std::env::var_os(REBUILT).is_some() {
        bail!(
            "cargo does not build this command with the kernel objects in {}",
            folder.display()
        );
    }
    say("building this command again, for release and with the kernel objects");
    let error = command::cargo("run")
        .args(["--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .env(REBUILT, "1")
        .exec();
    Err(error).context("running cargo")
}

fn machine() -> anyhow::Result<Machine> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    let load = read("/proc/loadavg")?;
    let processors = read("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or(std::env::consts::ARCH, |(_, model)| model);
    Ok(Machine {
        kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        processor: model.to_owned(),
        cpus: available_parallelism()?.get(),
        load_average: load
            .split(' ')
            .next()
            .and_then(|first| first.parse().ok())
            .context("/proc/loadavg")?,
        other_programs: kernel_objects::count_attached(),
    })
}
