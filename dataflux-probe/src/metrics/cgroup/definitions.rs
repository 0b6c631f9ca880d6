//! What `cgroup` measures.
//!
//! A cgroup may have been there before it was looked at: of one that was made since the last read, the reader says so.

use crate::model::{MetricDef, Unit};

pub(super) static CGROUPS: MetricDef = MetricDef::gauge(
    "cgroup.cgroups",
    Unit::Count,
    "Cgroups of a hierarchy below its root, by whether they are reported (reported) or why not (excluded, too_deep, too_many).",
    &["hierarchy", "state"],
);
pub(super) static CPU_USAGE: MetricDef = MetricDef::running_counter(
    "cgroup.cpu_usage",
    Unit::Nanoseconds,
    "Processor time of all that is in a cgroup.",
    &[],
);
pub(super) static CPU_TIME: MetricDef = MetricDef::running_counter(
    "cgroup.cpu_time",
    Unit::Nanoseconds,
    "Processor time of all that is in a cgroup, by mode, as the kernel divides it up.",
    &["mode"],
);
pub(super) static CPU_PERIODS: MetricDef = MetricDef::running_counter(
    "cgroup.cpu_periods",
    Unit::Count,
    "Periods in which a cgroup with a limit of processor time had something to run.",
    &[],
);
pub(super) static CPU_THROTTLED_PERIODS: MetricDef = MetricDef::running_counter(
    "cgroup.cpu_throttled_periods",
    Unit::Count,
    "Periods in which a cgroup had used up its processor time.",
    &[],
);
pub(super) static CPU_THROTTLED: MetricDef = MetricDef::running_counter(
    "cgroup.cpu_throttled",
    Unit::Nanoseconds,
    "Time in which a cgroup was kept from running, added up over processors.",
    &[],
);
pub(super) static CPU_LIMIT: MetricDef = MetricDef::gauge(
    "cgroup.cpu_limit",
    Unit::Count,
    "Processors whose time a cgroup may use up, looked up every ten seconds; absent without a limit of its own.",
    &[],
);
pub(super) static MEMORY_USED: MetricDef = MetricDef::gauge(
    "cgroup.memory_used",
    Unit::Bytes,
    "Memory of all that is in a cgroup, page cache included, swap not.",
    &[],
);
pub(super) static MEMORY_PEAK: MetricDef = MetricDef::gauge(
    "cgroup.memory_peak",
    Unit::Bytes,
    "The highest that cgroup.memory_used has been since the cgroup was made, or the value reset.",
    &[],
);
pub(super) static MEMORY_BY_USE: MetricDef = MetricDef::gauge(
    "cgroup.memory_by_use",
    Unit::Bytes,
    "Memory of all that is in a cgroup: of programs (anon), page cache and shared memory (file), of the kernel (kernel).",
    &["use"],
);
pub(super) static MEMORY_EVENTS: MetricDef = MetricDef::running_counter(
    "cgroup.memory_events",
    Unit::Count,
    "How often a cgroup came to a limit (high, max), was reclaimed from below its protection (low), was out of memory (oom), and processes of it killed for that (oom_kill).",
    &["event"],
);
pub(super) static MEMORY_LIMIT: MetricDef = MetricDef::gauge(
    "cgroup.memory_limit",
    Unit::Bytes,
    "The limits of a cgroup: of memory (max), where it is slowed down (high), of swap (swap), looked up every ten seconds; absent where there is none.",
    &["limit"],
);
pub(super) static SWAP_USED: MetricDef = MetricDef::gauge(
    "cgroup.swap_used",
    Unit::Bytes,
    "Swap of all that is in a cgroup.",
    &[],
);
pub(super) static IO_TRANSFERRED: MetricDef = MetricDef::running_counter(
    "cgroup.io_transferred",
    Unit::Bytes,
    "Bytes that all that is in a cgroup read from, wrote to and discarded on a block device, by its number; page cache is not I/O before it is written.",
    &["device", "operation"],
);
pub(super) static IO_OPERATIONS: MetricDef = MetricDef::running_counter(
    "cgroup.io_operations",
    Unit::Count,
    "Requests of all that is in a cgroup to a block device, by its number.",
    &["device", "operation"],
);
pub(super) static TASKS: MetricDef = MetricDef::gauge(
    "cgroup.tasks",
    Unit::Count,
    "Processes and threads in a cgroup and below.",
    &[],
);
pub(super) static TASKS_LIMIT: MetricDef = MetricDef::gauge(
    "cgroup.tasks_limit",
    Unit::Count,
    "How many processes and threads a cgroup may have, looked up every ten seconds; absent without a limit.",
    &[],
);
pub(super) static TASKS_REFUSED: MetricDef = MetricDef::running_counter(
    "cgroup.tasks_refused",
    Unit::Count,
    "Processes and threads that were not begun because of the limit.",
    &[],
);
pub(super) static CPU_PRESSURE: MetricDef = pressure(
    "cgroup.cpu_pressure",
    "Time in which some, or all tasks of a cgroup that were not idle (full), waited for a processor; full is part of some.",
);
pub(super) static IO_PRESSURE: MetricDef = pressure(
    "cgroup.io_pressure",
    "Time in which some, or all tasks of a cgroup that were not idle (full), waited for I/O; full is part of some.",
);
pub(super) static MEMORY_PRESSURE: MetricDef = pressure(
    "cgroup.memory_pressure",
    "Time in which some, or all tasks of a cgroup that were not idle (full), waited for memory; full is part of some.",
);

pub(super) static ALL: [&MetricDef; 21] = [
    &CGROUPS,
    &CPU_USAGE,
    &CPU_TIME,
    &CPU_PERIODS,
    &CPU_THROTTLED_PERIODS,
    &CPU_THROTTLED,
    &CPU_LIMIT,
    &MEMORY_USED,
    &MEMORY_PEAK,
    &MEMORY_BY_USE,
    &MEMORY_EVENTS,
    &MEMORY_LIMIT,
    &SWAP_USED,
    &IO_TRANSFERRED,
    &IO_OPERATIONS,
    &TASKS,
    &TASKS_LIMIT,
    &TASKS_REFUSED,
    &CPU_PRESSURE,
    &IO_PRESSURE,
    &MEMORY_PRESSURE,
];

const fn pressure(name: &'static str, help: &'static str) -> MetricDef {
    MetricDef::running_counter(name, Unit::Nanoseconds, help, &["extent"])
}
