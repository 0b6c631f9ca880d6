//! `process`: how many processes there are and what they do, and those that take most, from `/proc/PID`.
//!
//! All processes are looked at in every read, so that a process that comes among those that are told has the value of the
//! window in which it did. What the scheduler counts of all tasks is in `scheduler` and `cpu`.

mod choice;
mod stat;
mod table;
mod users;

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};

use serde::Deserialize;

use super::{AttachError, MetricReader};
use crate::{
    cgroups,
    config::Section,
    host_file::{raise_open_files, text},
    kernel::Kernel,
    model::{
        Born, Fall, Health, Kind, LabelValue, MetricDef, NO_LABELS, Series, Snapshot, Status, Unit,
    },
    plugin::{Context, Needs, Plugin},
};
use choice::{Choice, Limits};
use stat::State;
use table::{Counted, Pass, Process, Table};
use users::Users;

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "process",
    summary: "processes by state, threads, and the processes that take most processor time and memory",
    needs: Needs {
        kernel: "/proc/PID/stat, statm and cgroup, of all processes: no hidepid; /etc/passwd",
        ..Needs::NOTHING
    },
    example: "\
enabled = false     # every process that is told has four gauges and counters more in each envelope
# top_cpu = 10      # how many that used most processor time since the last read are told; default 10, at most 1000, 0: none
# top_memory = 10   # how many that have most memory; default 10, at most 1000, 0: none
# commands = []     # programs whose processes are always told, by the name that `ps -o comm` shows: \"postgres\", \"java*\"; default none
# max_commands = 100  # how many processes of `commands` are told at most; process.left_out has the rest; default 100, at most 10000
",
    metrics: &[
        &PROCESSES,
        &TASKS,
        &CPU_TIME,
        &RESIDENT,
        &THREADS,
        &MAJOR_FAULTS,
        &LEFT_OUT,
    ],
    build: |section, context| Ok(Box::new(Processes::new(&Config::parse(section)?, context))),
};

static PROCESSES: MetricDef = MetricDef {
    name: "process.processes",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Processes by the state of their first thread, threads of the kernel included.",
    labels: &["state"],
};
static TASKS: MetricDef = MetricDef {
    name: "process.tasks",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Threads of all processes.",
    labels: &[],
};
static CPU_TIME: MetricDef = MetricDef {
    name: "process.cpu_time",
    kind: GROWS,
    unit: Unit::Nanoseconds,
    help: "Processor time of a process and its threads, in the kernel's ticks of mostly 10 ms.",
    labels: &["pid", "command", "user", "cgroup", "mode"],
};
static RESIDENT: MetricDef = MetricDef {
    name: "process.resident",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    help: "Memory of a process that is in RAM, what it shares with others included, as `ps` shows it; kernels differ in how exact that is.",
    labels: LABELS,
};
static THREADS: MetricDef = MetricDef {
    name: "process.threads",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Threads of a process.",
    labels: LABELS,
};
static MAJOR_FAULTS: MetricDef = MetricDef {
    name: "process.major_faults",
    kind: GROWS,
    unit: Unit::Count,
    help: "Page faults of a process that had to wait for a disk.",
    labels: LABELS,
};
static LEFT_OUT: MetricDef = MetricDef {
    name: "process.left_out",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Processes that `commands` names and `max_commands` leaves out.",
    labels: &[],
};

const LABELS: &[&str] = &["pid", "command", "user", "cgroup"];

/// Past: a process that is told for the first time has run before, unless `earlier` of the snapshot says what it was then.
const GROWS: Kind = Kind::Counter {
    born: Born::Past,
    fall: Fall::Restart,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "default_top")]
    top_cpu: usize,
    #[serde(default = "default_top")]
    top_memory: usize,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default = "default_max_commands")]
    max_commands: usize,
}

const fn default_top() -> usize {
    10
}

const fn default_max_commands() -> usize {
    100
}

impl Config {
    fn parse(section: &Section<'_>) -> anyhow::Result<Self> {
        section.build(|config: Self, problems| {
            let limits = [
                ("top_cpu", config.top_cpu, 1000),
                ("top_memory", config.top_memory, 1000),
                ("max_commands", config.max_commands, 10_000),
            ];
            for (key, value, most) in limits {
                if value > most {
                    problems.push(section.error(Some(key), format!("{value} is more than {most}")));
                }
            }
            if config.commands.iter().any(String::is_empty) {
                return Err(section.error(Some("commands"), "no program has an empty name"));
            }
            Ok(config)
        })
    }
}

struct Processes {
    table: Table,
    users: Users,
    own_root: cgroups::OwnRoot,
    limits: Limits,
    /// Of the last successful read: when it began, in ticks since boot, and what it found.
    before: Option<(u64, Pass)>,
    /// By pid, the processes that it told: when they started, and their labels.
    told: HashMap<u32, (u64, Labels)>,
}

/// Values of [`LABELS`].
type Labels = [Arc<str>; 4];

impl Processes {
    fn new(config: &Config, context: &Context) -> Self {
        Self {
            table: Table::new(context.roots.proc.clone()),
            users: Users::new(&context.roots.root),
            own_root: cgroups::OwnRoot::new(&context.roots.sys),
            limits: Limits {
                top_cpu: config.top_cpu,
                top_memory: config.top_memory,
                commands: config.commands.clone(),
                max_commands: config.max_commands,
            },
            before: None,
            told: HashMap::new(),
        }
    }

    /// The labels of a process and its resident pages, of which `stat` has a rougher count; `None` if it ended.
    fn look(&mut self, process: &Process) -> Option<(Labels, u64)> {
        let folder = self.table.proc().join(process.pid.to_string());
        let cgroup = text(&folder.join("cgroup")).unwrap_or_default();
        let statm = text(&folder.join("statm")).unwrap_or_default();
        let resident = statm.split(' ').nth(1).and_then(|it| it.parse().ok());
        // Of one that has ended, v1 says the root.
        let known = self.told.get(&process.pid);
        if process.state == State::Zombie
            && let Some((_, labels)) = known.filter(|(started, _)| *started == process.started)
        {
            return Some((labels.clone(), resident.unwrap_or(process.resident)));
        }
        // The folder belongs to whom the process acts as. While it is there, so was what was read of it.
        let user = fs::metadata(&folder).ok()?.uid();
        let labels = [
            process.pid.to_string().into(),
            Arc::clone(&process.command),
            self.users.name(user),
            self.own_root
                .absolute(cgroups::telling(&cgroup).unwrap_or_default()),
        ];
        Some((labels, resident.unwrap_or(process.resident)))
    }

    /// What a process had counted at the last read; `None` if that is not known.
    fn earlier(&self, process: &Process) -> Option<Counted> {
        let (then, before) = self.before.as_ref()?;
        match before.find(process.pid, process.started) {
            Some(known) => Some(known.counted),
            // It was not there, unless it was hidden or just not seen.
            None if process.started >= *then => Some(Counted::default()),
            None => None,
        }
    }

    /// Adds the series of the processes that are told. Gives what is to be remembered of them.
    fn tell(
        &mut self,
        choice: &Choice,
        pass: &Pass,
        out: &mut Snapshot,
    ) -> HashMap<u32, (u64, Labels)> {
        let mut told = HashMap::with_capacity(choice.places.len());
        for &place in &choice.places {
            let process = &pass.processes[place];
            let Some((labels, resident)) = self.look(process) else {
                continue;
            };
            let same = |(started, before): &(u64, Labels)| {
                *started == process.started && *before == labels
            };
            if !self.told.get(&process.pid).is_some_and(same)
                && let Some(counted) = self.earlier(process)
            {
                push_counted(&mut out.earlier, &labels, counted);
            }
            push_counted(&mut out.series, &labels, process.counted);
            let resident = resident as f64 * rustix::param::page_size() as f64;
            out.gauge(&RESIDENT, None, owned(&labels), resident);
            out.gauge(&THREADS, None, owned(&labels), process.threads as f64);
            told.insert(process.pid, (process.started, labels));
        }
        told
    }
}

impl MetricReader for Processes {
    fn attach(&mut self, _kernel: &Kernel) -> Result<(), AttachError> {
        self.table.room = raise_open_files() / 8;
        Ok(())
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let began = ticks_since_boot();
        let nothing = Pass::default();
        let before = self.before.as_ref().map_or(&nothing, |(_, pass)| pass);
        let pass = self.table.pass(before)?;
        self.users.refresh();
        match doubt(&pass) {
            None => totals(&pass, out),
            Some(reason) => {
                out.unsupported.extend([&PROCESSES, &TASKS]);
                out.health = Health::new(Status::Degraded, reason);
            }
        }
        let used = |process: &Process| {
            let counted = self.earlier(process)?;
            process.counted.ticks().checked_sub(counted.ticks())
        };
        let choice = self.limits.choose(&pass, used);
        let told = self.tell(&choice, &pass, out);
        if !self.limits.commands.is_empty() {
            out.gauge(&LEFT_OUT, None, NO_LABELS, choice.left_out as f64);
        }
        self.told = told;
        self.before = Some((began, pass));
        Ok(())
    }
}

/// Why the processes that were found are not those of the host, if they are not.
fn doubt(pass: &Pass) -> Option<&'static str> {
    if pass.hidden > 0 || !pass.has_first() {
        return Some(
            "/proc hides processes of other users (hidepid): only those that the probe may see are told",
        );
    }
    // Every kernel has threads of its own, and only its first PID namespace shows them.
    let has_kernel_thread = pass.processes.iter().any(|it| it.is_kernel_thread);
    (!has_kernel_thread).then_some(
        "/proc is that of a container, whose processes these are: mount the host's and name it as `proc` in [probe]",
    )
}

fn totals(pass: &Pass, out: &mut Snapshot) {
    let mut states = [0_u32; State::NAMES.len()];
    for process in &pass.processes {
        states[process.state as usize] += 1;
    }
    for (name, count) in State::NAMES.into_iter().zip(states) {
        out.gauge(&PROCESSES, None, [name], count.into());
    }
    let tasks: u64 = pass.processes.iter().map(|it| it.threads).sum();
    out.gauge(&TASKS, None, NO_LABELS, tasks as f64);
}

fn push_counted(out: &mut Vec<Series>, labels: &Labels, counted: Counted) {
    let mut push = |def, mode: Option<&'static str>, value| {
        let mode = mode.map(LabelValue::Borrowed);
        out.push(Series {
            def,
            entity: None,
            labels: owned(labels).chain(mode).collect(),
            value: crate::model::Total::Counter(value),
        });
    };
    push(&CPU_TIME, Some("user"), nanoseconds(counted.user));
    push(&CPU_TIME, Some("system"), nanoseconds(counted.system));
    push(&MAJOR_FAULTS, None, counted.major_faults);
}

fn owned(labels: &Labels) -> impl Iterator<Item = LabelValue> {
    labels
        .iter()
        .map(|label| LabelValue::Owned((**label).to_owned()))
}

fn nanoseconds(ticks: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(procfs::ticks_per_second());
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// As `/proc` tells when a process started.
fn ticks_since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = Duration::new(
        now.tv_sec.try_into().unwrap_or_default(),
        now.tv_nsec.try_into().unwrap_or_default(),
    );
    let ticks = seconds.as_nanos() * u128::from(procfs::ticks_per_second()) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
