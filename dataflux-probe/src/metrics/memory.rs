//! `memory`: what memory is used for, and what its shortage costs, from `/proc/meminfo`, `/proc/vmstat` and sysfs.

mod events;
mod huge_pages;
mod levels;
mod nodes;

use anyhow::ensure;
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::Sums,
    model::{MetricDef, NO_LABELS, Snapshot, Unit},
    plugin::{Context, Needs, Plugin},
};
use events::EVENTS;
use huge_pages::HugePages;
use levels::{DETAILS, LEVELS, Level};
use nodes::Nodes;

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "memory",
    summary: "memory and swap by use, by NUMA node where there are several, page faults, reclaim and out-of-memory kills",
    needs: Needs {
        kernel: "/proc/meminfo, /proc/vmstat, /sys/devices/system/node, /sys/kernel/mm/hugepages",
        ..Needs::NOTHING
    },
    example: "\
# details = false    # the rarer lines of /proc/meminfo and the pools of huge pages by size: some 30 gauges; default false
# nodes = true       # series for each NUMA node, where there is more than one with memory; default true
",
    metrics: &METRICS,
    build: |section, context| Ok(Box::new(Memory::new(&section.parse()?, context))),
};

/// How the kernel has mapped all memory for itself; some architectures tell.
static DIRECT_MAP: MetricDef = MetricDef::gauge(
    "memory.direct_map",
    Unit::Bytes,
    "Memory that the kernel has mapped for itself by pages of this size; the larger they are, the less there is to look up.",
    &["page"],
);

/// The label of each line of [`DIRECT_MAP`].
const DIRECT_MAP_LINES: [(&str, &str); 4] = [
    ("4k", "DirectMap4k"),
    ("2M", "DirectMap2M"),
    ("4M", "DirectMap4M"),
    ("1G", "DirectMap1G"),
];

/// Where the parts of [`METRICS`] begin.
const AFTER_LEVELS: usize = LEVELS.len();
const AFTER_DETAILS: usize = AFTER_LEVELS + DETAILS.len();
const AFTER_EVENTS: usize = AFTER_DETAILS + EVENTS.len();
const AFTER_NODES: usize = AFTER_EVENTS + nodes::METRICS.len();

static METRICS: [&MetricDef; AFTER_NODES + 2] = {
    let mut metrics = [&DIRECT_MAP; AFTER_NODES + 2];
    metrics[AFTER_NODES] = &huge_pages::POOL;
    let mut at = 0;
    while at < AFTER_NODES {
        metrics[at] = if at < AFTER_LEVELS {
            &LEVELS[at].def
        } else if at < AFTER_DETAILS {
            &DETAILS[at - AFTER_LEVELS].def
        } else if at < AFTER_EVENTS {
            &EVENTS[at - AFTER_DETAILS].def
        } else {
            nodes::METRICS[at - AFTER_EVENTS]
        };
        at += 1;
    }
    metrics
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    details: bool,
    #[serde(default = "default_nodes")]
    nodes: bool,
}

const fn default_nodes() -> bool {
    true
}

struct Memory {
    meminfo: Sums,
    levels: Vec<&'static Level>,
    /// Where the lines of [`DIRECT_MAP`] are, behind those of the levels; only with details.
    direct_map: &'static [(&'static str, &'static str)],
    vmstat: Sums,
    nodes: Option<Nodes>,
    huge_pages: Option<HugePages>,
}

impl Memory {
    fn new(config: &Config, context: &Context) -> Self {
        let proc = &context.roots.proc;
        let sys = &context.roots.sys;
        let details = DETAILS.iter().filter(|_| config.details);
        let levels: Vec<_> = LEVELS.iter().chain(details).collect();
        let direct_map: &[_] = if config.details {
            &DIRECT_MAP_LINES
        } else {
            &[]
        };
        let lines = levels.iter().map(|level| level.line);
        let lines = lines.chain(direct_map.iter().map(|(_, line)| *line));
        let meminfo = Sums::new(proc.join("meminfo"), lines.zip(0..));
        let events = EVENTS.iter().zip(0..);
        let events =
            events.flat_map(|(event, place)| event.lines.iter().map(move |&line| (line, place)));
        Self {
            meminfo,
            levels,
            direct_map,
            vmstat: Sums::new(proc.join("vmstat"), events),
            nodes: config.nodes.then(|| Nodes::new(sys)),
            huge_pages: config.details.then(|| HugePages::new(sys)),
        }
    }
}

impl MetricReader for Memory {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let path = self.meminfo.path().to_owned();
        let sums = self.meminfo.read()?;
        let total = LEVELS[0].line;
        ensure!(
            sums[0].is_some(),
            "cannot make sense of {}: no line `{total}`",
            path.display()
        );
        let (levels, direct_map) = sums.split_at(self.levels.len());
        for (level, value) in self.levels.iter().zip(levels) {
            match value {
                Some(value) => out.gauge(&level.def, None, NO_LABELS, *value as f64),
                None => out.unsupported.push(&level.def),
            }
        }
        for ((page, _), value) in self.direct_map.iter().zip(direct_map) {
            if let Some(value) = value {
                out.gauge(&DIRECT_MAP, None, [*page], *value as f64);
            }
        }
        if !direct_map.is_empty() && direct_map.iter().all(Option::is_none) {
            out.unsupported.push(&DIRECT_MAP);
        }
        for (event, value) in EVENTS.iter().zip(self.vmstat.read()?) {
            match value {
                Some(value) => out.counter(&event.def, None, NO_LABELS, *value),
                None => out.unsupported.push(&event.def),
            }
        }
        if let Some(nodes) = &mut self.nodes {
            nodes.read(out)?;
        }
        if let Some(huge_pages) = &mut self.huge_pages {
            huge_pages.read(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        host_file::testing::{survives_damage, total},
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn read(config: &str, context: &Context) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let mut reader = PLUGIN.build_from(config, context).unwrap();
        reader.read(&mut snapshot).unwrap();
        snapshot
    }

    fn gauge(snapshot: &Snapshot, name: &str, labels: &[&str]) -> Option<f64> {
        total(snapshot, name, labels).map(|total| match total {
            Total::Gauge(value) => value,
            other => panic!("{name}: {other:?}"),
        })
    }

    #[test]
    fn levels_are_bytes_and_events_are_counts() {
        let snapshot = read("", &context(fixtures()));
        let level = |name, value: f64| {
            assert_eq!(gauge(&snapshot, name, &[]), Some(value), "{name}");
        };
        level("memory.total", 24_684_092.0 * 1024.0);
        level("memory.swap_total", 1_048_572.0 * 1024.0);
        level("memory.swap_free", 1_000_000.0 * 1024.0);
        level("memory.huge_pages", 0.0);
        let event = |name, value| {
            assert_eq!(
                total(&snapshot, name, &[]),
                Some(Total::Counter(value)),
                "{name}"
            );
        };
        event("memory.page_faults", 27_584_645);
        event("memory.pages_scanned", 1230);
        event("memory.pages_reclaimed", 900);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unsupported_and_not_zero() {
        let snapshot = read("nodes = false", &context(fixtures()));
        let names: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
        assert_eq!(names, ["memory.commit_limit", "memory.oom_kills"]);
        assert_eq!(total(&snapshot, "memory.oom_kills", &[]), None);
        let asked_for = LEVELS.len() + EVENTS.len();
        assert_eq!(snapshot.series.len() + names.len(), asked_for);
    }

    #[test]
    fn details_are_the_rest_of_the_file_and_huge_pages_by_size() {
        let snapshot = read("details = true", &context(fixtures()));
        let gauge = |name, labels: &[&str]| gauge(&snapshot, name, labels);
        assert_eq!(gauge("memory.active_file", &[]), Some(1_081_168.0 * 1024.0));
        assert_eq!(
            gauge("memory.direct_map", &["1G"]),
            Some(25_165_824.0 * 1024.0)
        );
        assert_eq!(gauge("memory.direct_map", &["4M"]), None);
        assert_eq!(
            gauge("memory.huge_page_pool", &["2048kB", "total"]),
            Some(8.0)
        );
        let reserved = ["1048576kB", "reserved"];
        assert_eq!(gauge("memory.huge_page_pool", &reserved), Some(2.0));
        let lacks: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
        assert!(lacks.contains(&"memory.balloon") && !lacks.contains(&"memory.direct_map"));
    }

    #[test]
    fn nodes_have_their_own_where_there_are_several() {
        let snapshot = read("", &context(fixtures()));
        let node = |name, node: &str| gauge(&snapshot, name, &[node]);
        assert_eq!(node("memory.node_total", "1"), Some(12_342_091.0 * 1024.0));
        assert_eq!(node("memory.node_file", "0"), Some(212_740.0 * 1024.0));
        assert_eq!(node("memory.node_huge_pages", "1"), Some(1.0));
        let hits = total(&snapshot, "memory.node_allocations", &["1", "hit"]);
        assert_eq!(hits, Some(Total::Counter(1_428_896_971)));
        let folder = tempfile::tempdir().unwrap();
        let mut alone = context(fixtures());
        alone.roots.sys = folder.path().into();
        let without = read("", &alone);
        let nodes = 2 * (nodes::METRICS.len() - 1 + 6);
        assert_eq!(without.series.len() + nodes, snapshot.series.len());
    }

    #[test]
    fn this_machine_lies_between_two_looks_at_it() {
        let look = |name: &str, key: &str| -> u64 {
            let text = fs::read_to_string(Path::new("/proc").join(name)).unwrap();
            let line = text
                .lines()
                .find(|line| line.split([':', ' ']).next() == Some(key))
                .unwrap();
            line.split_ascii_whitespace()
                .nth(1)
                .unwrap()
                .parse()
                .unwrap()
        };
        let mut context = context(fixtures());
        context.roots.proc = "/proc".into();
        context.roots.sys = "/sys".into();
        let before = look("vmstat", "pgfault");
        let snapshot = read("details = true", &context);
        let after = look("vmstat", "pgfault");
        let Some(Total::Counter(faults)) = total(&snapshot, "memory.page_faults", &[]) else {
            panic!()
        };
        assert!(
            (before..=after).contains(&faults),
            "{before} {faults} {after}"
        );
        for (name, key) in [
            ("memory.total", "MemTotal"),
            ("memory.swap_total", "SwapTotal"),
        ] {
            let expected = look("meminfo", key) * 1024;
            assert_eq!(gauge(&snapshot, name, &[]), Some(expected as f64));
        }
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["meminfo", "vmstat"]);
    }
}
