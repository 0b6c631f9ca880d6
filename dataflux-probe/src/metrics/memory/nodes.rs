//! What each NUMA node has, from `/sys/devices/system/node`, where more than one has memory.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::levels::Level;
use crate::{
    host_file::{Sums, ValueFile},
    model::{Born, Fall, Kind, LabelValue, MetricDef, Snapshot, Unit},
};

/// As many as a kernel can be built for.
const MOST_NODES: u32 = 1024;

static LEVELS: [Level; 8] = [
    level(
        "memory.node_total",
        Unit::Bytes,
        "MemTotal",
        "Memory of a NUMA node that the kernel can use.",
    ),
    level(
        "memory.node_free",
        Unit::Bytes,
        "MemFree",
        "Memory of a NUMA node that nothing uses.",
    ),
    level(
        "memory.node_file",
        Unit::Bytes,
        "FilePages",
        "Page cache on a NUMA node.",
    ),
    level(
        "memory.node_anonymous",
        Unit::Bytes,
        "AnonPages",
        "Memory without a file on a NUMA node that processes have mapped.",
    ),
    level(
        "memory.node_slab",
        Unit::Bytes,
        "Slab",
        "Kernel objects on a NUMA node.",
    ),
    level(
        "memory.node_dirty",
        Unit::Bytes,
        "Dirty",
        "Memory on a NUMA node that waits to be written to its file.",
    ),
    level(
        "memory.node_huge_pages",
        Unit::Count,
        "HugePages_Total",
        "Huge pages of the default size in the pool of a NUMA node.",
    ),
    level(
        "memory.node_huge_pages_free",
        Unit::Count,
        "HugePages_Free",
        "Huge pages of the default size in the pool of a NUMA node that nothing has allocated.",
    ),
];

/// Restart: they are set back when `vm.numa_stat` is switched off.
static ALLOCATIONS: MetricDef = MetricDef {
    name: "memory.node_allocations",
    kind: Kind::Counter {
        born: Born::Past,
        fall: Fall::Restart,
    },
    unit: Unit::Count,
    help: "Allocations of memory, each of one page or several at once, on a NUMA node as was wanted (hit), though another was \
           wanted (miss), on another though this one was wanted (foreign), as interleaving wanted, for a task on a processor of \
           the node (local) or of another (other).",
    labels: &["node", "outcome"],
};

/// The label of each line of a node's `numastat`.
const OUTCOMES: [(&str, &str); 6] = [
    ("hit", "numa_hit"),
    ("miss", "numa_miss"),
    ("foreign", "numa_foreign"),
    ("interleaved", "interleave_hit"),
    ("local", "local_node"),
    ("other", "other_node"),
];

pub(super) static METRICS: [&MetricDef; LEVELS.len() + 1] = {
    let mut metrics = [&ALLOCATIONS; LEVELS.len() + 1];
    let mut at = 0;
    while at < LEVELS.len() {
        metrics[at] = &LEVELS[at].def;
        at += 1;
    }
    metrics
};

const fn level(name: &'static str, unit: Unit, line: &'static str, help: &'static str) -> Level {
    Level {
        def: MetricDef::gauge(name, unit, help, &["node"]),
        line,
    }
}

pub(super) struct Nodes {
    folder: PathBuf,
    /// Which nodes have memory: `0-1,4`.
    with_memory: ValueFile,
    /// What it said.
    said: Option<String>,
    found: Vec<Node>,
}

struct Node {
    name: String,
    meminfo: Sums,
    numastat: Sums,
}

impl Nodes {
    pub(super) fn new(sys: &Path) -> Self {
        let folder = sys.join("devices/system/node");
        Self {
            with_memory: ValueFile::new(folder.join("has_memory")),
            folder,
            said: None,
            found: Vec::new(),
        }
    }

    /// Adds the series of each node; none on a machine with one, where they would repeat what there is.
    pub(super) fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let said = self.with_memory.read(|text| Some(text.trim().to_owned()));
        // Without the file, the kernel was built for one node.
        let said = self.with_memory.optional(said)?;
        if self.said != said {
            self.search(said.as_deref().unwrap_or_default())?;
            self.said = said;
        }
        for node in &mut self.found {
            let name = || LabelValue::from(node.name.clone());
            for (level, value) in LEVELS.iter().zip(node.meminfo.read()?) {
                if let Some(value) = value {
                    out.gauge(&level.def, None, [name()], *value as f64);
                }
            }
            for ((outcome, _), value) in OUTCOMES.iter().zip(node.numastat.read()?) {
                if let Some(value) = value {
                    out.counter(&ALLOCATIONS, None, [name(), (*outcome).into()], *value);
                }
            }
        }
        Ok(())
    }

    fn search(&mut self, said: &str) -> anyhow::Result<()> {
        let nodes = numbers(said).with_context(|| {
            let path = self.with_memory.path().display();
            format!("cannot make sense of {path}: `{said}` is no list of nodes")
        })?;
        let node = |number: &u32| {
            let folder = self.folder.join(format!("node{number}"));
            let levels = LEVELS.iter().map(|level| level.line).zip(0..);
            let outcomes = OUTCOMES.iter().map(|(_, line)| *line).zip(0..);
            Node {
                name: number.to_string(),
                meminfo: Sums::new(folder.join("meminfo"), levels),
                numastat: Sums::new(folder.join("numastat"), outcomes),
            }
        };
        self.found = match nodes.len() {
            0 | 1 => Vec::new(),
            _ => nodes.iter().map(node).collect(),
        };
        Ok(())
    }
}

/// The numbers of a list of ranges, `0-1,4`; `None` if it is none, or has numbers that no node can have.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let range = |range: &str| -> Option<RangeInclusive<u32>> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last < MOST_NODES).then_some(first..=last)
    };
    let ranges = list.split(',').filter(|range| !range.is_empty());
    let ranges: Vec<_> = ranges.map(range).collect::<Option<_>>()?;
    Some(ranges.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_ranges_and_numbers() {
        assert_eq!(numbers("0"), Some(vec![0]));
        assert_eq!(numbers("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(numbers(""), Some(vec![]));
        for bad in ["x", "2-1", "-1", "0-4294967295", "1-", "1024"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_list_that_is_none_is_an_error_that_names_the_file() {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("devices/system/node");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("has_memory"), "0-x\n").unwrap();
        let read = Nodes::new(sys.path()).read(&mut Snapshot::default());
        let error = format!("{:#}", read.unwrap_err());
        assert!(error.contains("has_memory"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_none(text in "[0-9,x-]{0,20}") {
            if let Some(numbers) = numbers(&text) {
                prop_assert!(numbers.iter().all(|number| *number < MOST_NODES));
            }
        }
    }
}
