//! `cpu`: what the processors spend their time on, from `/proc/stat`.
//!
//! The kernel's own numbers, as it gives them: `user` includes `guest`, `nice` includes `guest_nice`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use procfs::{CpuTime, FromBufReadSI, KernelStats};
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::{HostFile, parsed},
    model::{Born, Fall, Health, Kind, LabelValue, MetricDef, NO_LABELS, Snapshot, Status, Unit},
    plugin::{Context, Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "cpu",
    summary: "processor time by mode, in total and of each CPU, context switches, forks and interrupts",
    needs: Needs {
        kernel: "/proc/stat",
        ..Needs::NOTHING
    },
    example: "\
# per_cpu = true    # ten series for each CPU beside the totals; default true; false for machines with very many CPUs
",
    metrics: &[
        &TIME,
        &IDLE,
        &TIME_PER_CPU,
        &IDLE_PER_CPU,
        &ONLINE,
        &CONTEXT_SWITCHES,
        &FORKS,
        &INTERRUPTS,
        &SOFTIRQS,
        &RUNNING,
        &BLOCKED,
    ],
    build: |section, context| Ok(Box::new(Cpu::new(section.parse()?, context))),
};

/// Restart: apart from idle and iowait the kernel adds to these times and never takes back, and keeps them while a CPU is
/// offline. If one falls all the same (steal, after a virtual machine moved), what came before cannot be compared.
const GROWS: Kind = Kind::Counter {
    born: Born::Past,
    fall: Fall::Restart,
};

/// Jitter: while a CPU sleeps, the kernel works its idle and iowait out at each read, and moves what is pending from the one
/// to the other when a task that waited for I/O is woken elsewhere.
const JITTERS: Kind = Kind::Counter {
    born: Born::Past,
    fall: Fall::Jitter,
};

static TIME: MetricDef = time(
    "cpu.time",
    GROWS,
    "Time that all CPUs together were busy, by mode; as the kernel counts, user includes guest and nice includes guest_nice.",
    &["mode"],
);
static IDLE: MetricDef = time(
    "cpu.idle",
    JITTERS,
    "Time that all CPUs together had nothing to run, by whether a task of theirs waited for I/O (iowait) or none did (idle).",
    &["mode"],
);
static TIME_PER_CPU: MetricDef = time(
    "cpu.time_per_cpu",
    GROWS,
    "Time that a CPU was busy, by mode; as the kernel counts, user includes guest and nice includes guest_nice.",
    &["cpu", "mode"],
);
static IDLE_PER_CPU: MetricDef = time(
    "cpu.idle_per_cpu",
    JITTERS,
    "Time that a CPU had nothing to run, by whether a task of its own waited for I/O (iowait) or none did (idle).",
    &["cpu", "mode"],
);
static ONLINE: MetricDef = count("cpu.online", Kind::Gauge, "CPUs that are online.");
static CONTEXT_SWITCHES: MetricDef = count(
    "cpu.context_switches",
    GROWS,
    "Context switches of all CPUs, those from and to the idle task included.",
);
static FORKS: MetricDef = count("cpu.forks", GROWS, "Tasks created, threads included.");
static INTERRUPTS: MetricDef = count(
    "cpu.interrupts",
    GROWS,
    "Hardware interrupts served, those of the architecture itself included.",
);
static SOFTIRQS: MetricDef = count("cpu.softirqs", GROWS, "Soft interrupts served.");
static RUNNING: MetricDef = count(
    "cpu.running",
    Kind::Gauge,
    "Tasks that run or are ready to run, the probe's own included.",
);
static BLOCKED: MetricDef = count(
    "cpu.blocked",
    Kind::Gauge,
    "Tasks that wait for I/O to complete.",
);

const fn time(
    name: &'static str,
    kind: Kind,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef {
        name,
        kind,
        unit: Unit::Nanoseconds,
        help,
        labels,
    }
}

const fn count(name: &'static str, kind: Kind, help: &'static str) -> MetricDef {
    MetricDef {
        name,
        kind,
        unit: Unit::Count,
        help,
        labels: &[],
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_per_cpu")]
    per_cpu: bool,
}

const fn default_per_cpu() -> bool {
    true
}

/// A fall of idle or iowait by more than this is no jitter: the CPU was offline, and the kernel began anew.
const JITTER_NS: u64 = 60_000_000_000;

struct Cpu {
    stat: HostFile,
    per_cpu: bool,
    /// Idle and iowait of each CPU at the last read, ns.
    idle: BTreeMap<u32, [u64; 2]>,
}

impl Cpu {
    fn new(config: Config, context: &Context) -> Self {
        Self {
            stat: HostFile::new(context.roots.proc.join("stat")),
            per_cpu: config.per_cpu,
            idle: BTreeMap::new(),
        }
    }
}

impl MetricReader for Cpu {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let stat = self.stat.read(Stat::parse)?;
        let idle = stat
            .cpus
            .iter()
            .map(|(cpu, time)| (*cpu, time.idle.map(|(_, ns)| ns)));
        let before = std::mem::replace(&mut self.idle, idle.collect());
        let replugged = replugged(&before, &self.idle);

        for (mode, ns) in stat.total.busy {
            out.counter(&TIME, None, [mode], ns);
        }
        if replugged.is_empty() {
            for (mode, ns) in stat.total.idle {
                out.counter(&IDLE, None, [mode], ns);
            }
        } else {
            out.health = Health::new(
                Status::Degraded,
                "CPUs came online or went offline: idle times begin anew",
            );
        }
        if self.per_cpu {
            for (cpu, time) in &stat.cpus {
                per_cpu(out, *cpu, time, replugged.contains(cpu));
            }
        }
        out.gauge(&ONLINE, None, NO_LABELS, stat.cpus.len() as f64);
        out.counter(&CONTEXT_SWITCHES, None, NO_LABELS, stat.context_switches);
        out.counter(&FORKS, None, NO_LABELS, stat.forks);
        out.counter(&INTERRUPTS, None, NO_LABELS, stat.interrupts);
        out.counter(&SOFTIRQS, None, NO_LABELS, stat.softirqs);
        out.gauge(&RUNNING, None, NO_LABELS, f64::from(stat.running));
        out.gauge(&BLOCKED, None, NO_LABELS, f64::from(stat.blocked));
        Ok(())
    }
}

fn per_cpu(out: &mut Snapshot, cpu: u32, time: &Times, replugged: bool) {
    let labels = |mode: &'static str| [LabelValue::from(cpu.to_string()), mode.into()];
    for (mode, ns) in time.busy {
        out.counter(&TIME_PER_CPU, None, labels(mode), ns);
    }
    if !replugged {
        for (mode, ns) in time.idle {
            out.counter(&IDLE_PER_CPU, None, labels(mode), ns);
        }
    }
}

/// The CPUs that came, went, or were away between two reads. The kernel works idle and iowait out from other clocks while a
/// CPU is offline, and before Linux 6.8 they begin at 0 when it is back: what they were before cannot be compared. A series
/// that is left out of one snapshot begins anew.
fn replugged(before: &BTreeMap<u32, [u64; 2]>, now: &BTreeMap<u32, [u64; 2]>) -> BTreeSet<u32> {
    if before.is_empty() {
        return BTreeSet::new();
    }
    let fell = |cpu: &u32| match (before.get(cpu), now.get(cpu)) {
        (Some(before), Some(now)) => before
            .iter()
            .zip(now)
            .any(|(before, now)| now.saturating_add(JITTER_NS) < *before),
        _ => true,
    };
    before
        .keys()
        .chain(now.keys())
        .copied()
        .filter(fell)
        .collect()
}

/// Times of one line by mode, ns.
struct Times {
    busy: [(&'static str, u64); 8],
    idle: [(&'static str, u64); 2],
}

impl Times {
    fn of(time: &CpuTime) -> anyhow::Result<Self> {
        const CUT: &str = "a line has fewer than ten times";
        let busy = [
            ("user", time.user),
            ("nice", time.nice),
            ("system", time.system),
            ("irq", time.irq.context(CUT)?),
            ("softirq", time.softirq.context(CUT)?),
            ("steal", time.steal.context(CUT)?),
            ("guest", time.guest.context(CUT)?),
            ("guest_nice", time.guest_nice.context(CUT)?),
        ];
        let idle = [("idle", time.idle), ("iowait", time.iowait.context(CUT)?)];
        Ok(Self {
            busy: busy.map(nanoseconds),
            idle: idle.map(nanoseconds),
        })
    }
}

fn nanoseconds((mode, ticks): (&'static str, u64)) -> (&'static str, u64) {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(procfs::ticks_per_second());
    (mode, u64::try_from(ns).unwrap_or(u64::MAX))
}

/// `/proc/stat`.
struct Stat {
    total: Times,
    /// By their numbers: those that are offline are missing.
    cpus: Vec<(u32, Times)>,
    context_switches: u64,
    forks: u64,
    interrupts: u64,
    softirqs: u64,
    running: u32,
    blocked: u32,
}

impl Stat {
    /// The procfs crate gives neither the numbers of the CPUs nor the sums of interrupts.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let stats = parsed(KernelStats::from_buf_read(
            text.as_bytes(),
            procfs::current_system_info(),
        ))?;
        let mut numbers = Vec::with_capacity(stats.cpu_time.len());
        let (mut interrupts, mut softirqs) = (None, None);
        for line in text.lines() {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            let first = || rest.split(' ').next().unwrap_or_default().parse();
            match name {
                "cpu" => {}
                "intr" => interrupts = Some(first().context("intr")?),
                "softirq" => softirqs = Some(first().context("softirq")?),
                _ => {
                    if let Some(number) = name.strip_prefix("cpu") {
                        numbers.push(number.parse().context("number of a cpu")?);
                    }
                }
            }
        }
        let times = stats.cpu_time.iter().map(Times::of);
        let cpus: Vec<_> = numbers
            .into_iter()
            .zip(times)
            .map(|(n, t)| Ok((n, t?)))
            .collect::<anyhow::Result<_>>()?;
        ensure!(!cpus.is_empty(), "no line of a single cpu");
        Ok(Self {
            total: Times::of(&stats.total)?,
            cpus,
            context_switches: stats.ctxt,
            forks: stats.processes,
            interrupts: interrupts.context("no line `intr`")?,
            softirqs: softirqs.context("no line `softirq`")?,
            running: stats.procs_running.context("no line `procs_running`")?,
            blocked: stats.procs_blocked.context("no line `procs_blocked`")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        host_file::testing::{survives_damage, total},
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn fixture() -> String {
        fs::read_to_string(fixtures().join("proc/stat")).unwrap()
    }

    /// Reads one after the other texts of `/proc/stat` with the same reader.
    fn read_all(config: &str, texts: &[&str]) -> Vec<Snapshot> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("proc")).unwrap();
        let mut reader = PLUGIN.build_from(config, &context(folder.path())).unwrap();
        let read = |text: &&str| {
            fs::write(folder.path().join("proc/stat"), text).unwrap();
            let mut snapshot = Snapshot::default();
            reader.read(&mut snapshot).unwrap();
            snapshot
        };
        texts.iter().map(read).collect()
    }

    fn counter(snapshot: &Snapshot, name: &str, labels: &[&str]) -> u64 {
        match total(snapshot, name, labels) {
            Some(Total::Counter(value)) => value,
            other => panic!("{name} {labels:?}: {other:?}"),
        }
    }

    #[test]
    fn ticks_become_nanoseconds_under_the_numbers_of_their_cpus() {
        let snapshot = &read_all("", &[&fixture()])[0];
        let second = 1_000_000_000 / procfs::ticks_per_second();
        let counter = |name, labels: &[&str]| counter(snapshot, name, labels);
        assert_eq!(counter("cpu.time", &["user"]), 10_132_153 * second);
        assert_eq!(counter("cpu.time", &["guest_nice"]), 50 * second);
        assert_eq!(counter("cpu.idle", &["iowait"]), 16_683 * second);
        assert_eq!(counter("cpu.time_per_cpu", &["2", "nice"]), 32_784 * second);
        assert_eq!(
            counter("cpu.idle_per_cpu", &["0", "idle"]),
            13_343_292 * second
        );
        assert_eq!(total(snapshot, "cpu.time_per_cpu", &["1", "nice"]), None);
        assert_eq!(counter("cpu.context_switches", &[]), 5_005_043);
        assert_eq!(counter("cpu.forks", &[]), 26_442);
        assert_eq!(counter("cpu.interrupts", &[]), 199_292);
        assert_eq!(counter("cpu.softirqs", &[]), 8_479_364);
        assert_eq!(total(snapshot, "cpu.online", &[]), Some(Total::Gauge(2.0)));
        assert_eq!(total(snapshot, "cpu.running", &[]), Some(Total::Gauge(3.0)));
        assert_eq!(total(snapshot, "cpu.blocked", &[]), Some(Total::Gauge(1.0)));
        assert_eq!(snapshot.series.len(), 10 + 2 * 10 + 7);
        let totals = &read_all("per_cpu = false", &[&fixture()])[0];
        assert_eq!(totals.series.len(), 10 + 7);
    }

    #[test]
    fn idle_begins_anew_when_a_cpu_comes_or_was_away() {
        let stat = fixture();
        let back = stat.replace("cpu2 1335498", "cpu1 1 1 1 1 1 1 1 1 1 1\ncpu2 1335498");
        let jitter = back.replace(" 2864 0 2900", " 2863 0 2900");
        let away = jitter.replace(" 13356474 ", " 77 ");
        let snapshots = read_all("", &[&stat, &back, &jitter, &away, &away]);
        let there = |name, labels: &[&str]| {
            let there = snapshots.iter().map(|it| total(it, name, labels).is_some());
            there.collect::<Vec<_>>()
        };
        let ok: Vec<_> = snapshots
            .iter()
            .map(|it| it.health.status == Status::Ok)
            .collect();
        assert_eq!(ok, [true, false, true, false, true]);
        assert_eq!(there("cpu.idle", &["idle"]), ok, "what is left out is said");
        let own = there("cpu.idle_per_cpu", &["2", "iowait"]);
        assert_eq!(own, [true, true, true, false, true]);
    }

    #[test]
    fn this_machine_lies_between_two_looks_at_it() {
        let look = |line: &str, column: usize| -> u64 {
            let text = fs::read_to_string("/proc/stat").unwrap();
            let mut lines = text.lines().map(|line| line.split_ascii_whitespace());
            let mut words = lines
                .find(|words| words.clone().next() == Some(line))
                .unwrap();
            words.nth(column).unwrap().parse().unwrap()
        };
        let mut context = context(fixtures());
        context.roots.proc = "/proc".into();
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        let mut expect = |name, labels: &[&str], line: &str, column: usize, scale: u64| {
            let mut snapshot = Snapshot::default();
            let before = look(line, column) * scale;
            reader.read(&mut snapshot).unwrap();
            let after = look(line, column) * scale;
            let value = counter(&snapshot, name, labels);
            assert!(
                (before..=after).contains(&value),
                "{name} {labels:?}: {value}"
            );
        };
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        for (mode, column) in [
            ("user", 1),
            ("system", 3),
            ("softirq", 7),
            ("guest_nice", 10),
        ] {
            expect("cpu.time", &[mode], "cpu", column, tick);
            expect("cpu.time_per_cpu", &["0", mode], "cpu0", column, tick);
        }
        expect("cpu.context_switches", &[], "ctxt", 1, 1);
        expect("cpu.forks", &[], "processes", 1, 1);
        expect("cpu.interrupts", &[], "intr", 1, 1);
        expect("cpu.softirqs", &[], "softirq", 1, 1);
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["stat"]);
    }
}
