//! `scheduler`: how long tasks wait, run and stay away from the CPU, and how often they switch, wake, move, begin and end.
//!
//! Kernel side: dataflux-ebpf/src/bin/scheduler.rs. Shared types: dataflux-common/src/scheduler.rs.

use std::mem::offset_of;

use dataflux_common::{
    histogram::{BUCKETS, Histogram},
    scheduler::{
        Cpu, EXIT_GROUP_DEAD, EXIT_TASK, FORK_CHILD, KERNEL_FIELDS, SWITCH_NEXT, SWITCH_PREEMPT,
        SWITCH_PREVIOUS, SWITCH_STATE, TASK_PID, TASK_STATE, TASK_TGID, WAKEUP_NEW_TASK,
        WAKEUP_TASK,
    },
};
use serde::Deserialize;

use super::{AttachError, MetricReader};
use crate::{
    kernel::{
        Kernel,
        drain::MappedArray,
        load::{Loaded, Object, Program},
        possible_cpus,
    },
    model::{Born, Buckets, Fall, Kind, MetricDef, NO_LABELS, Snapshot, Unit},
    plugin::{Capability, Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "scheduler",
    summary: "run-queue latency, time slices, off-CPU time, switches, wake-ups, migrations, tasks begun and ended",
    needs: Needs {
        kernel: "BTF and the scheduler's tracepoints (Linux 5.10)",
        attach: &[Capability::Bpf, Capability::Perfmon],
        keep: &[],
    },
    example: "",
    metrics: &[
        &RUN_QUEUE_LATENCY,
        &SLICE,
        &OFF_CPU,
        &CONTEXT_SWITCHES,
        &WAKEUPS,
        &MIGRATIONS,
        &FORKS,
        &EXECS,
        &EXITS,
        &DISORDERED,
    ],
    build: |section, _| {
        section.parse::<Config>()?;
        Ok(Box::new(Scheduler { attached: None }))
    },
};

const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};

static RUN_QUEUE_LATENCY: MetricDef = MetricDef {
    name: "scheduler.run_queue_latency",
    kind: Kind::Histogram,
    unit: Unit::Nanoseconds,
    help: "Time a task waited for a CPU, from runnable to running; the idle task has none.",
    labels: &[],
};
static SLICE: MetricDef = MetricDef {
    name: "scheduler.slice",
    kind: Kind::Histogram,
    unit: Unit::Nanoseconds,
    help: "Time a task ran before it was switched out, counted when it is; the idle task has none.",
    labels: &[],
};
static OFF_CPU: MetricDef = MetricDef {
    name: "scheduler.off_cpu",
    kind: Kind::Histogram,
    unit: Unit::Nanoseconds,
    help: "Time from switching a task out, blocked or preempted, to switching it in again, counted when it is.",
    labels: &[],
};
static CONTEXT_SWITCHES: MetricDef = MetricDef {
    name: "scheduler.context_switches",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Switches by why the previous task left: voluntary (it blocked), involuntary (preempted or yielded), idle (it was the idle task); together the kernel's ctxt.",
    labels: &["kind"],
};
static WAKEUPS: MetricDef = MetricDef {
    name: "scheduler.wakeups",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Wake-ups of blocked tasks (known) and first wake-ups of new ones (new).",
    labels: &["task"],
};
static MIGRATIONS: MetricDef = MetricDef {
    name: "scheduler.migrations",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Moves of a task to another CPU.",
    labels: &[],
};
static FORKS: MetricDef = MetricDef {
    name: "scheduler.forks",
    kind: COUNTER,
    unit: Unit::Count,
    help: "New tasks: the first of a process, or a further thread; together the kernel's processes.",
    labels: &["task"],
};
static EXECS: MetricDef = MetricDef {
    name: "scheduler.execs",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Programs started by execve.",
    labels: &[],
};
static EXITS: MetricDef = MetricDef {
    name: "scheduler.exits",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Ended tasks: the one that ends its process (before Linux 6.16: the first thread of one), or another thread.",
    labels: &["task"],
};
static DISORDERED: MetricDef = MetricDef {
    name: "scheduler.disordered",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Intervals not recorded because the stamp of their start, from another CPU, was later than their end.",
    labels: &[],
};

static PROGRAMS: [Program; 7] = [
    Program {
        name: "sched_switch",
        tracepoint: "sched_switch",
        fields: &[TASK_PID, SWITCH_PREEMPT, SWITCH_PREVIOUS, SWITCH_NEXT],
        either: &[&[SWITCH_STATE, TASK_STATE]],
        metrics: &[&RUN_QUEUE_LATENCY, &SLICE, &OFF_CPU, &CONTEXT_SWITCHES],
    },
    Program {
        name: "sched_wakeup",
        tracepoint: "sched_wakeup",
        fields: &[TASK_PID, WAKEUP_TASK],
        either: &[],
        metrics: &[&RUN_QUEUE_LATENCY, &WAKEUPS],
    },
    Program {
        name: "sched_wakeup_new",
        tracepoint: "sched_wakeup_new",
        fields: &[TASK_PID, WAKEUP_NEW_TASK],
        either: &[],
        metrics: &[&RUN_QUEUE_LATENCY, &OFF_CPU, &WAKEUPS],
    },
    Program {
        name: "sched_migrate_task",
        tracepoint: "sched_migrate_task",
        fields: &[],
        either: &[],
        metrics: &[&MIGRATIONS],
    },
    Program {
        name: "sched_process_fork",
        tracepoint: "sched_process_fork",
        fields: &[TASK_PID, TASK_TGID, FORK_CHILD],
        either: &[],
        metrics: &[&FORKS],
    },
    Program {
        name: "sched_process_exec",
        tracepoint: "sched_process_exec",
        fields: &[],
        either: &[],
        metrics: &[&EXECS],
    },
    Program {
        name: "sched_process_exit",
        tracepoint: "sched_process_exit",
        fields: &[EXIT_TASK, TASK_PID],
        either: &[&[EXIT_GROUP_DEAD, TASK_TGID]],
        metrics: &[&EXITS],
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Scheduler {
    attached: Option<Attached>,
}

struct Attached {
    loaded: Loaded,
    cpus: MappedArray<Cpu>,
}

impl MetricReader for Scheduler {
    fn attach(&mut self, kernel: &Kernel) -> Result<(), AttachError> {
        let cpus = possible_cpus(&kernel.roots.sys).map_err(AttachError::Failed)?;
        let mut loaded = kernel.load(&Object {
            reader: "scheduler",
            fields: &KERNEL_FIELDS,
            programs: &PROGRAMS,
            unwanted: &[],
            constants: Vec::new(),
            max_entries: vec![("CPUS", cpus)],
        })?;
        let cpus = loaded.map("CPUS", &kernel.counters)?;
        self.attached = Some(Attached { loaded, cpus });
        Ok(())
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let Some(Attached { loaded, cpus }) = &mut self.attached else {
            anyhow::bail!("not attached")
        };
        loaded.report(out);
        let gives = |metric| loaded.gives(metric);
        let counters =
            |offset, metric: &'static MetricDef, labels: &[&'static str], out: &mut Snapshot| {
                if !gives(metric) {
                    return;
                }
                let mut totals = [0; 3];
                let totals = &mut totals[..labels.len().max(1)];
                (0..cpus.len()).for_each(|cpu| cpus.add_to(totals, cpu, offset));
                for (index, &total) in totals.iter().enumerate() {
                    out.counter(metric, None, labels.get(index).copied(), total);
                }
            };
        counters(
            offset_of!(Cpu, context_switches),
            &CONTEXT_SWITCHES,
            &["voluntary", "involuntary", "idle"],
            out,
        );
        counters(offset_of!(Cpu, wakeups), &WAKEUPS, &["known", "new"], out);
        counters(offset_of!(Cpu, migrations), &MIGRATIONS, &[], out);
        counters(offset_of!(Cpu, forks), &FORKS, &["process", "thread"], out);
        counters(offset_of!(Cpu, execs), &EXECS, &[], out);
        counters(offset_of!(Cpu, exits), &EXITS, &["process", "thread"], out);
        counters(offset_of!(Cpu, disordered), &DISORDERED, &[], out);
        for (metric, offset) in [
            (&RUN_QUEUE_LATENCY, offset_of!(Cpu, run_queue_latency)),
            (&SLICE, offset_of!(Cpu, slice)),
            (&OFF_CPU, offset_of!(Cpu, off_cpu)),
        ] {
            if gives(metric) {
                let mut sum = [0];
                let mut counts = [0; BUCKETS];
                for cpu in 0..cpus.len() {
                    cpus.add_to(&mut sum, cpu, offset + offset_of!(Histogram, sum));
                    cpus.add_to(&mut counts, cpu, offset + offset_of!(Histogram, counts));
                }
                out.histogram(metric, None, NO_LABELS, Buckets::from_dense(sum[0], counts));
            }
        }
        out.lost += (0..cpus.len())
            .map(|cpu| {
                cpus.word(cpu, offset_of!(Cpu, lost)) + cpus.word(cpu, offset_of!(Cpu, outside))
            })
            .sum::<u64>();
        Ok(())
    }
}
