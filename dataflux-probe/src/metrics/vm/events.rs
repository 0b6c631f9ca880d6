//! Which lines of `/proc/vmstat` are which metric.

use crate::model::{Born, Fall, Kind, MetricDef, Unit};

/// A metric and the lines that it is made of.
pub(super) struct Event {
    pub(super) def: MetricDef,
    /// For each series its label, empty if the metric has none, and the lines that add up to it.
    pub(super) series: &'static [(&'static str, &'static [&'static str])],
    /// What one in the file stands for.
    pub(super) scale: u64,
}

/// Restart: the kernel never sets these counters back, except those of NUMA when `vm.numa_stat` is switched off.
const GROWS: Kind = Kind::Counter {
    born: Born::Past,
    fall: Fall::Restart,
};

pub(super) const fn event(
    name: &'static str,
    labels: &'static [&'static str],
    series: &'static [(&'static str, &'static [&'static str])],
    help: &'static str,
) -> Event {
    Event {
        def: MetricDef {
            name,
            kind: GROWS,
            unit: Unit::Count,
            help,
            labels,
        },
        series,
        scale: 1,
    }
}

/// What is sent unless it is filtered: paging, and signs that memory is short.
pub(super) static EVENTS: [Event; 11] = [
    Event {
        def: MetricDef {
            name: "vm.paged",
            kind: GROWS,
            unit: Unit::Bytes,
            help: "Bytes of requests to block devices, for reads (in) and writes (out), whether or not the page cache is involved; \
                   whole KiB.",
            labels: &["direction"],
        },
        series: &[("in", &["pgpgin"]), ("out", &["pgpgout"])],
        scale: 1024,
    },
    event(
        "vm.pages_dirtied",
        &[],
        &[("", &["nr_dirtied"])],
        "Pages of files that were changed and must be written.",
    ),
    event(
        "vm.pages_written",
        &[],
        &[("", &["nr_written"])],
        "Pages that were written to their files or to swap space.",
    ),
    event(
        "vm.pages_allocated",
        &[],
        &[(
            "",
            &[
                "pgalloc_dma",
                "pgalloc_dma32",
                "pgalloc_normal",
                "pgalloc_high",
                "pgalloc_movable",
                "pgalloc_device",
            ],
        )],
        "Pages allocated, in all zones.",
    ),
    event(
        "vm.pages_freed",
        &[],
        &[("", &["pgfree"])],
        "Pages freed, in all zones.",
    ),
    event(
        "vm.allocation_stalls",
        &[],
        &[(
            "",
            &[
                "allocstall_dma",
                "allocstall_dma32",
                "allocstall_normal",
                "allocstall_high",
                "allocstall_movable",
                "allocstall_device",
            ],
        )],
        "Times that somebody who needed memory had to reclaim some first, in all zones.",
    ),
    event(
        "vm.scanned",
        &["reclaimer"],
        &[
            ("kswapd", &["pgscan_kswapd"]),
            ("direct", &["pgscan_direct"]),
            ("khugepaged", &["pgscan_khugepaged"]),
            ("proactive", &["pgscan_proactive"]),
        ],
        "Pages that reclaim looked at, by who reclaims; direct is who needed the memory.",
    ),
    event(
        "vm.reclaimed",
        &["reclaimer"],
        &[
            ("kswapd", &["pgsteal_kswapd"]),
            ("direct", &["pgsteal_direct"]),
            ("khugepaged", &["pgsteal_khugepaged"]),
            ("proactive", &["pgsteal_proactive"]),
        ],
        "Pages that reclaim freed, by who reclaims; direct is who needed the memory.",
    ),
    event(
        "vm.refaults",
        &["pages"],
        &[
            ("anonymous", &["workingset_refault_anon"]),
            ("file", &["workingset_refault_file"]),
        ],
        "Pages that were reclaimed and needed again.",
    ),
    event(
        "vm.compaction_stalls",
        &[],
        &[("", &["compact_stall"])],
        "Times that somebody who needed contiguous memory had to compact first.",
    ),
    event(
        "vm.huge_page_faults",
        &["outcome"],
        &[
            ("allocated", &["thp_fault_alloc"]),
            ("fallback", &["thp_fault_fallback"]),
        ],
        "Page faults that got a transparent huge page, or small pages for want of one.",
    ),
];
