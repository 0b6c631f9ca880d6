//! `vm`: what the kernel does to have memory where it is needed, from `/proc/vmstat`.
//!
//! Page faults, swapping, the sums of reclaim and out-of-memory kills are metrics of `memory`.

mod details;
mod events;

use std::path::Path;

use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::Sums,
    model::{MetricDef, Snapshot},
    plugin::{Needs, Plugin},
};
use details::DETAILS;
use events::{EVENTS, Event};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "vm",
    summary: "paging, allocation, reclaim, compaction, huge pages and NUMA, as the kernel counts them",
    needs: Needs {
        kernel: "/proc/vmstat",
        ..Needs::NOTHING
    },
    example: "\
# details = false    # the rarer half too: working set, migration, compaction, splits of huge pages, NUMA, zswap; default false
",
    metrics: &METRICS,
    build: |section, context| {
        let Config { details } = section.parse()?;
        Ok(Box::new(Vm::new(&context.roots.proc, details)))
    },
};

static METRICS: [&MetricDef; EVENTS.len() + DETAILS.len()] = {
    let mut metrics = [&EVENTS[0].def; EVENTS.len() + DETAILS.len()];
    let mut at = 0;
    while at < metrics.len() {
        metrics[at] = if at < EVENTS.len() {
            &EVENTS[at].def
        } else {
            &DETAILS[at - EVENTS.len()].def
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
}

struct Vm {
    /// A sum for each series of each event, in their order.
    vmstat: Sums,
    events: Vec<&'static Event>,
}

impl Vm {
    fn new(proc: &Path, details: bool) -> Self {
        let details = DETAILS.iter().filter(|_| details);
        let events: Vec<_> = EVENTS.iter().chain(details).collect();
        let series = events.iter().flat_map(|event| event.series).zip(0..);
        let places =
            series.flat_map(|((_, lines), place)| lines.iter().map(move |&line| (line, place)));
        Self {
            vmstat: Sums::new(proc.join("vmstat"), places),
            events,
        }
    }
}

impl MetricReader for Vm {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let mut sums = self.vmstat.read()?.iter();
        for event in &self.events {
            let mut is_there = false;
            for ((label, _), sum) in event.series.iter().zip(&mut sums) {
                if let Some(sum) = sum {
                    is_there = true;
                    let label = (!event.def.labels.is_empty()).then_some(*label);
                    out.counter(&event.def, None, label, sum.saturating_mul(event.scale));
                }
            }
            if !is_there {
                out.unsupported.push(&event.def);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::{
        host_file::testing::{survives_damage, total},
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn read(config: &str, proc: &Path) -> anyhow::Result<Snapshot> {
        let mut context = context(fixtures());
        context.roots.proc = proc.into();
        let mut snapshot = Snapshot::default();
        PLUGIN
            .build_from(config, &context)?
            .read(&mut snapshot)
            .map(|()| snapshot)
    }

    fn counter(snapshot: &Snapshot, name: &str, labels: &[&str]) -> Option<u64> {
        total(snapshot, name, labels).map(|total| match total {
            Total::Counter(value) => value,
            other => panic!("{name}: {other:?}"),
        })
    }

    #[test]
    fn lines_become_metrics_and_zones_are_added_up() {
        let folder = tempfile::tempdir().unwrap();
        let text = "pgpgin 7\npgpgout 5\npgalloc_dma 1\npgalloc_normal 30\npgalloc_device 4\nallocstall_movable 9\n\
                    thp_fault_fallback 3\nnr_free_pages 1\ncompact_stall 0\n";
        fs::write(folder.path().join("vmstat"), text).unwrap();
        let snapshot = read("", folder.path()).unwrap();
        let counter = |name, labels: &[&str]| counter(&snapshot, name, labels);
        assert_eq!(counter("vm.paged", &["in"]), Some(7 * 1024));
        assert_eq!(counter("vm.paged", &["out"]), Some(5 * 1024));
        assert_eq!(counter("vm.pages_allocated", &[]), Some(35));
        assert_eq!(counter("vm.allocation_stalls", &[]), Some(9));
        assert_eq!(counter("vm.compaction_stalls", &[]), Some(0));
        assert_eq!(counter("vm.huge_page_faults", &["fallback"]), Some(3));
        assert_eq!(counter("vm.huge_page_faults", &["allocated"]), None);
        let unsupported: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
        assert!(unsupported.contains(&"vm.pages_freed"));
        assert!(!unsupported.contains(&"vm.huge_page_faults"));
    }

    #[test]
    fn no_line_counts_twice() {
        let all = EVENTS.iter().chain(&DETAILS);
        let lines: Vec<_> = all
            .flat_map(|event| event.series)
            .flat_map(|(_, lines)| *lines)
            .collect();
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
        for event in EVENTS.iter().chain(&DETAILS) {
            let labelled = event.series.iter().filter(|(label, _)| !label.is_empty());
            let expected = event.series.len() * event.def.labels.len();
            assert_eq!(labelled.count(), expected, "{}", event.def.name);
        }
    }

    #[test]
    fn this_machine_lies_between_two_looks_at_it() {
        let look = |key: &str| -> Option<u64> {
            let text = fs::read_to_string("/proc/vmstat").unwrap();
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(name, _)| *name == key)?.1.parse().ok()
        };
        for (name, labels, key, scale) in [
            ("vm.paged", ["out"].as_slice(), "pgpgout", 1024),
            ("vm.pages_freed", &[], "pgfree", 1),
            ("vm.pages_dirtied", &[], "nr_dirtied", 1),
        ] {
            let before = look(key).unwrap() * scale;
            let snapshot = read("details = true", Path::new("/proc")).unwrap();
            let after = look(key).unwrap() * scale;
            let value = counter(&snapshot, name, labels).unwrap();
            assert!(
                (before..=after).contains(&value),
                "{name}: {before} {value} {after}"
            );
        }
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for bad in [
            "pgpgin -1\n",
            "pgpgin\n",
            "pgpgin 1 2\n",
            "pgpgin 99999999999999999999\n",
        ] {
            fs::write(folder.path().join("vmstat"), bad).unwrap();
            let error = format!("{:#}", read("", folder.path()).unwrap_err());
            assert!(
                error.contains("/vmstat") && error.contains("pgpgin"),
                "{error}"
            );
        }
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["vmstat"]);
    }
}
