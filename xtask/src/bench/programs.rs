//! ns per run of every program, beside an empty program on the same hook and beside one clock read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use anyhow::Context as _;
use aya::{
    Btf, Ebpf,
    programs::BtfTracePoint,
    sys::{Stats, enable_stats},
};
use dataflux_probe::metrics::MetricReader;
use serde::Serialize;

use super::{
    configuration,
    kernel_objects::{self, Link},
    load::{Kind, Load},
    statistics::{Bar, Spread, Verdict},
};
use crate::{command::say, workspace};

/// One reader under one load.
struct Comparison {
    load: Kind,
    reader: &'static str,
    /// Of its section in the configuration.
    options: &'static str,
    /// Whose figures count; none = all that run often enough.
    hooks: &'static [&'static str],
}

/// A reader of packets takes the network of the load's first process for that of the host, so that packets take the way
/// of those that are reported by interface. The issue hook is measured by itself because it is only attached where the
/// kernel does not stamp requests, or on demand.
const COMPARISONS: [Comparison; 7] = [
    Comparison::new(Kind::PingPong, "scheduler", "", &[]),
    Comparison::new(Kind::Hackbench, "scheduler", "", &[]),
    Comparison::new(Kind::Spawn, "scheduler", "", &[]),
    Comparison::new(Kind::DirectIo, "block_io", "", &[]),
    Comparison::new(
        Kind::DirectIo,
        "block_io",
        "issue_stamps = \"always\"",
        &["block_rq_issue"],
    ),
    Comparison::new(Kind::PacketsSent, "network", "", &["net_dev_xmit"]),
    Comparison::new(
        Kind::PacketsReceived,
        "network",
        "",
        &["netif_receive_skb", "kfree_skb"],
    ),
];

/// ns above the empty program, by load and hook.
const BARS: &[(Kind, &str, f64)] = &[
    (Kind::PingPong, "sched_switch", 90.0),
    (Kind::PingPong, "sched_wakeup", 70.0),
    (Kind::Hackbench, "sched_switch", 180.0),
    (Kind::Hackbench, "sched_wakeup", 140.0),
    (Kind::DirectIo, "block_rq_complete", 110.0),
    (Kind::PacketsReceived, "netif_receive_skb", 20.0),
    (Kind::PacketsSent, "net_dev_xmit", 10.0),
    (Kind::PacketsReceived, "kfree_skb", 10.0),
];

/// How long a variant runs before it is measured: caches and the load settle.
const WARM_UP: Duration = Duration::from_millis(150);
/// How long a variant is measured in a round.
const WINDOW: Duration = Duration::from_millis(600);
/// Runs in a window below which ns per run says nothing.
const ENOUGH_RUNS: u64 = 200;

/// One program under one load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) load: Kind,
    pub(super) reader: &'static str,
    pub(super) hook: String,
    pub(super) program: String,
    /// Runs in all rounds.
    pub(super) runs: u64,
    /// ns per run.
    pub(super) program_ns: Spread,
    pub(super) empty_ns: Spread,
    pub(super) clock_read_ns: Spread,
    /// Differences of ns per run within each round.
    pub(super) above_empty_ns: Spread,
    pub(super) above_clock_read_ns: Spread,
    pub(super) bar_ns: Option<f64>,
    pub(super) verdict: Option<Verdict>,
}

/// What is attached alone for a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Variant {
    Empty,
    ClockRead,
    Probe,
}

/// In this order in the first round; the order rotates.
const VARIANTS: [Variant; 3] = [Variant::Empty, Variant::ClockRead, Variant::Probe];

/// ns per run and runs in one window, by hook and program.
type Window = BTreeMap<(String, String), (f64, u64)>;

/// Measures every program under its loads.
///
/// # Errors
/// A load does not run, or the kernel refuses what the bench needs.
pub(super) fn measure(rounds: usize, folder: &Path) -> anyhow::Result<Vec<Row>> {
    let machine = Machine {
        btf: Btf::from_sys_fs().context("reading the kernel's types")?,
        folder,
    };
    let mut rows = Vec::new();
    for comparison in &COMPARISONS {
        let (reader, load) = (comparison.reader, comparison.load.name());
        say(format_args!(
            "programs: {reader} under {load} ({}), {rounds} rounds",
            comparison.load.summary()
        ));
        rows.extend(
            machine
                .compare(comparison, rounds)
                .with_context(|| format!("measuring {reader} under {load}"))?,
        );
    }
    Ok(rows)
}

impl Comparison {
    const fn new(
        load: Kind,
        reader: &'static str,
        options: &'static str,
        hooks: &'static [&'static str],
    ) -> Self {
        Self {
            load,
            reader,
            options,
            hooks,
        }
    }

    /// Puts the rounds together. A program that ran too seldom in any of them has no row.
    fn rows(&self, measured: &BTreeMap<Variant, Vec<Window>>) -> Vec<Row> {
        let probe = &measured[&Variant::Probe];
        let names: BTreeSet<_> = probe.iter().flat_map(|window| window.keys()).collect();
        names
            .into_iter()
            .filter(|(hook, _)| self.hooks.is_empty() || self.hooks.contains(&hook.as_str()))
            .filter_map(|(hook, program)| row(self.load, self.reader, hook, program, measured))
            .collect()
    }
}

/// What attaching needs.
struct Machine<'a> {
    btf: Btf,
    folder: &'a Path,
}

impl Machine<'_> {
    fn compare(&self, comparison: &Comparison, rounds: usize) -> anyhow::Result<Vec<Row>> {
        let load = Load::start(comparison.load, self.folder)?;
        let hooks: BTreeSet<String> = {
            let _attached = self.attach(comparison, &load)?;
            own_links()?.into_iter().map(|link| link.hook).collect()
        };
        let mut empty = self.rivals("empty", &hooks)?;
        let mut clock_read = self.rivals("clock_read", &hooks)?;
        let mut measured: BTreeMap<Variant, Vec<Window>> = BTreeMap::new();
        for round in 0..rounds {
            for place in 0..VARIANTS.len() {
                let variant = VARIANTS[(round + place) % VARIANTS.len()];
                let window = match variant {
                    Variant::Empty => alone(&mut empty, &load)?,
                    Variant::ClockRead => alone(&mut clock_read, &load)?,
                    Variant::Probe => {
                        let _attached = self.attach(comparison, &load)?;
                        watch(&load)?
                    }
                };
                measured.entry(variant).or_default().push(window);
            }
        }
        Ok(comparison.rows(&measured))
    }

    /// A reader with fresh maps, attached until it is dropped.
    fn attach(
        &self,
        comparison: &Comparison,
        load: &Load,
    ) -> anyhow::Result<Box<dyn MetricReader>> {
        let proc = proc_with_network(self.folder, &load.network_namespace())?;
        let (mut built, kernel) =
            configuration::build(comparison.reader, comparison.options, self.folder, &proc)?;
        built
            .attach(&kernel)
            .with_context(|| format!("attaching {}", comparison.reader))?;
        Ok(built)
    }

    /// One of the bench's own programs for each hook, loaded but not attached.
    fn rivals(
        &self,
        program: &'static str,
        hooks: &BTreeSet<String>,
    ) -> anyhow::Result<Vec<Rival>> {
        let path = workspace::objects().join("bench.o");
        hooks
            .iter()
            .map(|hook| {
                let mut object = Ebpf::load_file(&path)
                    .with_context(|| format!("loading {}", path.display()))?;
                tracepoint(&mut object, program)?
                    .load(hook, &self.btf)
                    .with_context(|| format!("loading the program `{program}` for {hook}"))?;
                Ok(Rival { object, program })
            })
            .collect()
    }
}

/// A folder in which process 1 has this network namespace, and nothing else is known.
fn proc_with_network(folder: &Path, namespace: &Path) -> anyhow::Result<PathBuf> {
    let proc = folder.join("proc");
    let link = proc.join("1/ns/net");
    let create = || {
        fs::create_dir_all(proc.join("1/ns"))?;
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(namespace, &link)
    };
    create().with_context(|| format!("creating {}", link.display()))?;
    Ok(proc)
}

/// One of the bench's own programs.
struct Rival {
    object: Ebpf,
    program: &'static str,
}

fn tracepoint<'a>(object: &'a mut Ebpf, program: &str) -> anyhow::Result<&'a mut BtfTracePoint> {
    let found = object.program_mut(program);
    Ok(found
        .with_context(|| format!("bench.o has no program `{program}`"))?
        .try_into()?)
}

/// Attaches the rivals for one window.
fn alone(rivals: &mut [Rival], load: &Load) -> anyhow::Result<Window> {
    let mut attached = Vec::new();
    for rival in rivals.iter_mut() {
        attached.push(tracepoint(&mut rival.object, rival.program)?.attach()?);
    }
    let window = watch(load)?;
    for (rival, link) in rivals.iter_mut().zip(attached) {
        tracepoint(&mut rival.object, rival.program)?.detach(link)?;
    }
    Ok(window)
}

fn own_links() -> anyhow::Result<Vec<Link>> {
    kernel_objects::links(Path::new("/proc/self"))
}

/// Lets the load run and reads what every attached program took.
fn watch(load: &Load) -> anyhow::Result<Window> {
    let links = own_links()?;
    let numbers = links.iter().map(|link| link.program).collect();
    let _statistics = enable_stats(Stats::RunTime).context("having the kernel time programs")?;
    sleep(WARM_UP);
    let before = kernel_objects::programs(&numbers)?;
    load.rate(WINDOW)?;
    let after = kernel_objects::programs(&numbers)?;
    let mut window = Window::new();
    for link in links {
        let program = &after[&link.program];
        let (start, end) = (
            kernel_objects::runs(&before[&link.program])?,
            kernel_objects::runs(program)?,
        );
        let runs = end.count - start.count;
        if runs >= ENOUGH_RUNS {
            let name = program.name_as_str().context("a program has a name")?;
            let ns = (end.ns - start.ns) as f64 / runs as f64;
            window.insert((link.hook, name.to_owned()), (ns, runs));
        }
    }
    Ok(window)
}

fn row(
    load: Kind,
    reader: &'static str,
    hook: &str,
    program: &str,
    measured: &BTreeMap<Variant, Vec<Window>>,
) -> Option<Row> {
    let of = |variant: Variant, program: &str| -> Option<Vec<(f64, u64)>> {
        let key = (hook.to_owned(), program.to_owned());
        measured[&variant]
            .iter()
            .map(|window| window.get(&key).copied())
            .collect()
    };
    let probe = of(Variant::Probe, program)?;
    let empty = of(Variant::Empty, "empty")?;
    let clock_read = of(Variant::ClockRead, "clock_read")?;
    let above = |rival: &[(f64, u64)]| {
        Spread::of(
            probe
                .iter()
                .zip(rival)
                .map(|(probe, rival)| probe.0 - rival.0),
        )
    };
    let ns = |windows: &[(f64, u64)]| Spread::of(windows.iter().map(|window| window.0));
    let above_empty_ns = above(&empty)?;
    let bar_ns = BARS
        .iter()
        .find(|(kind, barred, _)| *kind == load && *barred == hook)
        .map(|&(_, _, bar)| bar);
    Some(Row {
        load,
        reader,
        hook: hook.to_owned(),
        program: program.to_owned(),
        runs: probe.iter().map(|window| window.1).sum(),
        program_ns: ns(&probe)?,
        empty_ns: ns(&empty)?,
        clock_read_ns: ns(&clock_read)?,
        above_empty_ns,
        above_clock_read_ns: above(&clock_read)?,
        bar_ns,
        verdict: bar_ns.map(|bar| Bar::AtMost(bar).judge_median(above_empty_ns)),
    })
}
