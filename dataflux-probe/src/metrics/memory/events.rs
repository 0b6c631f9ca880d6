//! Which lines of `/proc/vmstat` are metrics of `memory`; the others are those of `vm`.

use crate::model::{Born, Fall, Kind, MetricDef, Unit};

/// Lines that add up to one metric; those that the kernel lacks count for nothing if it has one of them.
pub(super) struct Event {
    pub(super) def: MetricDef,
    pub(super) lines: &'static [&'static str],
}

/// The kernel never sets these counters back: a smaller number would be that of another kernel.
const fn event(name: &'static str, lines: &'static [&'static str], help: &'static str) -> Event {
    Event {
        def: MetricDef {
            name,
            kind: Kind::Counter {
                born: Born::Past,
                fall: Fall::Restart,
            },
            unit: Unit::Count,
            help,
            labels: &[],
        },
        lines,
    }
}

pub(super) static EVENTS: [Event; 7] = [
    event(
        "memory.page_faults",
        &["pgfault"],
        "Page faults, major ones included.",
    ),
    event(
        "memory.page_faults_major",
        &["pgmajfault"],
        "Page faults that had to wait for a read.",
    ),
    event("memory.swap_in", &["pswpin"], "Pages read from swap space."),
    event(
        "memory.swap_out",
        &["pswpout"],
        "Pages written to swap space.",
    ),
    event(
        "memory.pages_scanned",
        &[
            "pgscan_kswapd",
            "pgscan_direct",
            "pgscan_khugepaged",
            "pgscan_proactive",
        ],
        "Pages that the reclaim of the whole machine looked at; that of a memory cgroup at its limit is not in it.",
    ),
    event(
        "memory.pages_reclaimed",
        &[
            "pgsteal_kswapd",
            "pgsteal_direct",
            "pgsteal_khugepaged",
            "pgsteal_proactive",
        ],
        "Pages that the reclaim of the whole machine freed; that of a memory cgroup at its limit is not in it.",
    ),
    event(
        "memory.oom_kills",
        &["oom_kill"],
        "Processes that were killed for want of memory, at the limit of a memory cgroup too.",
    ),
];
