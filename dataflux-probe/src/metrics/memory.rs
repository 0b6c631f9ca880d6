//! `memory`: what memory is used for, and what its shortage costs, from `/proc/meminfo` and `/proc/vmstat`.

use std::path::Path;

use anyhow::{Context as _, ensure};
use procfs::{FromBufRead, Meminfo, VmStat};
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::{HostFile, parsed},
    model::{Born, Fall, Kind, MetricDef, NO_LABELS, Snapshot, Unit},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "memory",
    summary: "memory and swap by use, page faults, reclaim and out-of-memory kills",
    needs: Needs {
        kernel: "/proc/meminfo, /proc/vmstat",
        ..Needs::NOTHING
    },
    example: "",
    metrics: &METRICS,
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(Memory::new(&context.roots.proc)))
    },
};

/// A line of `/proc/meminfo`; `None` where the kernel has none.
struct Level {
    def: MetricDef,
    read: fn(&Meminfo) -> Option<u64>,
}

const fn bytes(name: &'static str, help: &'static str, read: fn(&Meminfo) -> Option<u64>) -> Level {
    Level {
        def: def(name, Kind::Gauge, Unit::Bytes, help),
        read,
    }
}

const fn pages(name: &'static str, help: &'static str, read: fn(&Meminfo) -> Option<u64>) -> Level {
    Level {
        def: def(name, Kind::Gauge, Unit::Count, help),
        read,
    }
}

const fn def(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> MetricDef {
    MetricDef {
        name,
        kind,
        unit,
        help,
        labels: &[],
    }
}

static LEVELS: [Level; 26] = [
    bytes("memory.total", "Memory that the kernel can use.", |m| {
        Some(m.mem_total)
    }),
    bytes("memory.free", "Memory that nothing uses.", |m| {
        Some(m.mem_free)
    }),
    bytes(
        "memory.available",
        "Memory that could be had without swapping, by the kernel's estimate.",
        |m| m.mem_available,
    ),
    bytes(
        "memory.buffers",
        "Page cache of block devices themselves.",
        |m| Some(m.buffers),
    ),
    bytes(
        "memory.cached",
        "Page cache of files, shared memory included, swap cache not.",
        |m| Some(m.cached),
    ),
    bytes("memory.swap_total", "Swap space.", |m| Some(m.swap_total)),
    bytes("memory.swap_free", "Swap space that nothing uses.", |m| {
        Some(m.swap_free)
    }),
    bytes(
        "memory.swap_cached",
        "Memory that is in the swap space as well.",
        |m| Some(m.swap_cached),
    ),
    bytes(
        "memory.dirty",
        "Memory that waits to be written to its file.",
        |m| Some(m.dirty),
    ),
    bytes(
        "memory.writeback",
        "Memory that is being written to its file.",
        |m| Some(m.writeback),
    ),
    bytes(
        "memory.anonymous",
        "Memory without a file that processes have mapped.",
        |m| m.anon_pages,
    ),
    bytes(
        "memory.mapped",
        "Page cache that processes have mapped.",
        |m| Some(m.mapped),
    ),
    bytes("memory.shared", "Shared memory and tmpfs.", |m| m.shmem),
    bytes(
        "memory.slab_reclaimable",
        "Kernel objects that can be given up under pressure.",
        |m| m.s_reclaimable,
    ),
    bytes(
        "memory.slab_unreclaimable",
        "Kernel objects that cannot be given up.",
        |m| m.s_unreclaim,
    ),
    bytes("memory.kernel_stack", "Kernel stacks of all tasks.", |m| {
        m.kernel_stack
    }),
    bytes("memory.page_tables", "Page tables of processes.", |m| {
        m.page_tables
    }),
    bytes(
        "memory.per_cpu",
        "Memory that the kernel keeps for each CPU, without its bookkeeping.",
        |m| m.per_cpu,
    ),
    bytes(
        "memory.committed",
        "Memory that processes were promised, used or not.",
        |m| Some(m.committed_as),
    ),
    bytes(
        "memory.commit_limit",
        "What may be promised at most while vm.overcommit_memory is 2.",
        |m| m.commit_limit,
    ),
    bytes(
        "memory.transparent_huge_pages",
        "Memory without a file that is in transparent huge pages.",
        |m| m.anon_hugepages,
    ),
    bytes(
        "memory.huge_tlb",
        "Memory set aside for huge pages of all sizes, used or not.",
        |m| m.hugetlb,
    ),
    pages(
        "memory.huge_pages",
        "Huge pages of the default size in the pool.",
        |m| m.hugepages_total,
    ),
    pages(
        "memory.huge_pages_free",
        "Huge pages of the default size in the pool that nothing has allocated.",
        |m| m.hugepages_free,
    ),
    pages(
        "memory.huge_pages_reserved",
        "Huge pages of the default size that are promised and not allocated yet.",
        |m| m.hugepages_rsvd,
    ),
    pages(
        "memory.huge_pages_surplus",
        "Huge pages of the default size in the pool above its set size.",
        |m| m.hugepages_surp,
    ),
];

/// Lines of `/proc/vmstat` that add up to one metric; those that the kernel lacks count for nothing if it has one of them.
struct Event {
    def: MetricDef,
    keys: &'static [&'static str],
}

/// The kernel never sets these counters back: a smaller number would be that of another kernel.
const fn event(name: &'static str, keys: &'static [&'static str], help: &'static str) -> Event {
    let kind = Kind::Counter {
        born: Born::Past,
        fall: Fall::Restart,
    };
    Event {
        def: def(name, kind, Unit::Count, help),
        keys,
    }
}

static EVENTS: [Event; 7] = [
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

static METRICS: [&MetricDef; LEVELS.len() + EVENTS.len()] = {
    let mut metrics = [&LEVELS[0].def; LEVELS.len() + EVENTS.len()];
    let mut at = 0;
    while at < metrics.len() {
        metrics[at] = if at < LEVELS.len() {
            &LEVELS[at].def
        } else {
            &EVENTS[at - LEVELS.len()].def
        };
        at += 1;
    }
    metrics
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Memory {
    meminfo: HostFile,
    vmstat: HostFile,
    /// The wanted lines of vmstat.
    wanted: String,
}

impl Memory {
    fn new(proc: &Path) -> Self {
        Self {
            meminfo: HostFile::new(proc.join("meminfo")),
            vmstat: HostFile::new(proc.join("vmstat")),
            wanted: String::new(),
        }
    }
}

impl MetricReader for Memory {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let meminfo = self.meminfo.read(meminfo)?;
        for level in &LEVELS {
            match (level.read)(&meminfo) {
                Some(value) => out.gauge(&level.def, None, NO_LABELS, value as f64),
                None => out.unsupported.push(&level.def),
            }
        }
        let wanted = &mut self.wanted;
        let vmstat = self.vmstat.read(|text| vmstat(text, wanted))?;
        for event in &EVENTS {
            match sum(&vmstat, event.keys)? {
                Some(value) => out.counter(&event.def, None, NO_LABELS, value),
                None => out.unsupported.push(&event.def),
            }
        }
        Ok(())
    }
}

/// The procfs crate takes any unit and any size, and overflows where the kernel's own numbers cannot.
fn meminfo(text: &str) -> anyhow::Result<Meminfo> {
    for line in text.lines() {
        let (name, value) = line
            .split_once(':')
            .with_context(|| format!("`{line}` has no colon"))?;
        let number = value.strip_suffix(" kB").unwrap_or(value).trim_start();
        ensure!(
            name.is_ascii()
                && number.len() <= 16
                && number.bytes().all(|byte| byte.is_ascii_digit()),
            "`{line}` is no number of kB"
        );
    }
    parsed(Meminfo::from_buf_read(text.as_bytes()))
}

/// Gives the crate only the lines that are wanted, a tenth of them: it makes a map of all it is given.
fn vmstat(text: &str, wanted: &mut String) -> anyhow::Result<VmStat> {
    wanted.clear();
    for line in text.lines() {
        let key = line.split(' ').next().unwrap_or_default();
        if EVENTS.iter().any(|event| event.keys.contains(&key)) {
            wanted.push_str(line);
            wanted.push('\n');
        }
    }
    parsed(VmStat::from_buf_read(wanted.as_bytes()))
}

fn sum(vmstat: &VmStat, keys: &[&str]) -> anyhow::Result<Option<u64>> {
    let mut sum = None;
    for key in keys {
        if let Some(&value) = vmstat.0.get(*key) {
            let value = u64::try_from(value).with_context(|| format!("`{key}` is negative"))?;
            sum = Some(sum.unwrap_or(0u64).saturating_add(value));
        }
    }
    Ok(sum)
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

    #[test]
    fn levels_are_bytes_and_events_are_counts() {
        let mut snapshot = Snapshot::default();
        let mut reader = PLUGIN.build_from("", &context(fixtures())).unwrap();
        reader.read(&mut snapshot).unwrap();
        let level = |name, value: f64| {
            assert_eq!(
                total(&snapshot, name, &[]),
                Some(Total::Gauge(value)),
                "{name}"
            )
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
            )
        };
        event("memory.page_faults", 27_584_645);
        event("memory.pages_scanned", 1230);
        event("memory.pages_reclaimed", 900);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unsupported_and_not_zero() {
        let mut snapshot = Snapshot::default();
        let mut reader = PLUGIN.build_from("", &context(fixtures())).unwrap();
        reader.read(&mut snapshot).unwrap();
        let names: Vec<_> = snapshot.unsupported.iter().map(|def| def.name).collect();
        assert_eq!(names, ["memory.commit_limit", "memory.oom_kills"]);
        assert_eq!(total(&snapshot, "memory.oom_kills", &[]), None);
        assert_eq!(snapshot.series.len() + names.len(), PLUGIN.metrics.len());
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
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        let mut snapshot = Snapshot::default();
        let before = look("vmstat", "pgfault");
        reader.read(&mut snapshot).unwrap();
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
            assert_eq!(
                total(&snapshot, name, &[]),
                Some(Total::Gauge(expected as f64))
            );
        }
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["meminfo", "vmstat"]);
    }
}
