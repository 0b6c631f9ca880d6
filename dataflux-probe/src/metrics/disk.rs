//! `disk`: requests, bytes and time of each block device, from `/proc/diskstats`.
//!
//! Machines come with rows of loop and RAM devices that nobody uses. Their counters are read all the same, so that the window
//! of their first request has it, and cost nothing because they do not change; a gauge would travel in every envelope, so a
//! device has one from its first request on.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context as _, ensure};
use procfs::{DiskStat, DiskStats, FromBufRead};
use serde::Deserialize;

use super::MetricReader;
use crate::{
    host_file::{HostFile, parsed},
    model::{
        Born, Entity, EntityKey, EntityKind, Fall, Kind, MetricDef, NO_LABELS, Snapshot, Unit,
    },
    plugin::{Context, Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "disk",
    summary: "requests, bytes and time of each block device, as the block layer accounts them",
    needs: Needs {
        kernel: "/proc/diskstats of kernel 5.5, /sys/dev/block",
        ..Needs::NOTHING
    },
    example: "\
# partitions = false    # series for partitions too, whose requests are also their disk's; default false
",
    metrics: &[
        &REQUESTS,
        &MERGED,
        &BYTES,
        &TIME,
        &IN_FLIGHT,
        &BUSY,
        &WEIGHTED,
    ],
    build: |section, context| Ok(Box::new(Disks::new(&section.parse()?, context))),
};

static REQUESTS: MetricDef = counter(
    "disk.requests",
    Unit::Count,
    "Requests completed; a stacked device (dm, md, loop) and the devices below it each count theirs.",
    &["operation"],
);
static MERGED: MetricDef = counter(
    "disk.merged",
    Unit::Count,
    "Requests that were merged into another one before it was issued.",
    &["operation"],
);
static BYTES: MetricDef = counter(
    "disk.bytes",
    Unit::Bytes,
    "Bytes read, written and discarded.",
    &["operation"],
);
static TIME: MetricDef = counter(
    "disk.time",
    Unit::Nanoseconds,
    "Time from start to completion of all requests, added up; whole milliseconds.",
    &["operation"],
);
static IN_FLIGHT: MetricDef = MetricDef {
    name: "disk.in_flight",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Requests that are in flight.",
    labels: &[],
};
static BUSY: MetricDef = counter(
    "disk.busy",
    Unit::Nanoseconds,
    "Time in which at least one request was in flight; sampled by the kernel in ticks, whole milliseconds.",
    &[],
);
static WEIGHTED: MetricDef = counter(
    "disk.weighted_time",
    Unit::Nanoseconds,
    "Time of all requests, those in flight included, added up; whole milliseconds.",
    &[],
);

/// Restart: a smaller number is that of another device under the same number, or of a field that has 32 bits and ran over.
const fn counter(
    name: &'static str,
    unit: Unit,
    help: &'static str,
    labels: &'static [&'static str],
) -> MetricDef {
    MetricDef {
        name,
        kind: Kind::Counter {
            born: Born::Past,
            fall: Fall::Restart,
        },
        unit,
        help,
        labels,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    partitions: bool,
}

struct Disks {
    diskstats: HostFile,
    /// `/sys/dev/block`: a folder for each device number.
    devices: PathBuf,
    partitions: bool,
    /// The devices of the last read: by number, their names and whether they are whole disks.
    known: HashMap<u64, (String, bool)>,
}

impl Disks {
    fn new(config: &Config, context: &Context) -> Self {
        Self {
            diskstats: HostFile::new(context.roots.proc.join("diskstats")),
            devices: context.roots.sys.join("dev/block"),
            partitions: config.partitions,
            known: HashMap::new(),
        }
    }

    /// Whether a device is to have series; `None` if it is gone. Asks sysfs only about devices that are new.
    fn wants(&self, id: u64, name: &str) -> anyhow::Result<Option<bool>> {
        match self.known.get(&id) {
            Some((known, wanted)) if known == name => return Ok(Some(*wanted)),
            _ if self.partitions => return Ok(Some(true)),
            _ => {}
        }
        let device = self.devices.join(EntityKind::Device.format_id(id));
        if device.exists() {
            return Ok(Some(!device.join("partition").exists()));
        }
        ensure!(
            self.devices.is_dir(),
            "cannot tell disks from partitions without {}",
            self.devices.display()
        );
        Ok(None)
    }
}

impl MetricReader for Disks {
    fn has_entities(&self) -> bool {
        true
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let disks = self.diskstats.read(parse)?;
        let mut known = HashMap::with_capacity(disks.len());
        for disk in disks {
            let Some(wanted) = self.wants(disk.id, &disk.name)? else {
                continue;
            };
            if wanted {
                disk.push(out);
            }
            known.insert(disk.id, (disk.name, wanted));
        }
        self.known = known;
        Ok(())
    }
}

/// A line of `/proc/diskstats` in bytes and nanoseconds. The arrays are in the order of [`OPERATIONS`]; flushes have neither
/// bytes nor merges.
struct Disk {
    id: u64,
    name: String,
    requests: [u64; 4],
    merged: [u64; 3],
    bytes: [u64; 3],
    time: [u64; 4],
    in_flight: u64,
    busy: u64,
    weighted: u64,
}

const OPERATIONS: [&str; 4] = ["read", "write", "discard", "flush"];

fn parse(text: &str) -> anyhow::Result<Vec<Disk>> {
    let DiskStats(disks) = parsed(DiskStats::from_buf_read(text.as_bytes()))?;
    disks.into_iter().map(Disk::new).collect()
}

impl Disk {
    fn new(disk: DiskStat) -> anyhow::Result<Self> {
        const CUT: &str = "a line has fewer than 17 numbers, or one that is none";
        let bytes = |sectors: u64| sectors.checked_mul(512).context("too many sectors");
        let ns = |ms: u64| ms.checked_mul(1_000_000).context("too many milliseconds");
        let (major, minor) = (u64::try_from(disk.major)?, u64::try_from(disk.minor)?);
        ensure!(
            major < 1 << 12 && minor < 1 << 20,
            "{major}:{minor} is no device"
        );
        Ok(Self {
            id: major << 20 | minor,
            name: disk.name,
            requests: [
                disk.reads,
                disk.writes,
                disk.discards.context(CUT)?,
                disk.flushes.context(CUT)?,
            ],
            merged: [
                disk.merged,
                disk.writes_merged,
                disk.discards_merged.context(CUT)?,
            ],
            bytes: [
                bytes(disk.sectors_read)?,
                bytes(disk.sectors_written)?,
                bytes(disk.sectors_discarded.context(CUT)?)?,
            ],
            time: [
                ns(disk.time_reading)?,
                ns(disk.time_writing)?,
                ns(disk.time_discarding.context(CUT)?)?,
                ns(disk.time_flushing.context(CUT)?)?,
            ],
            in_flight: disk.in_progress,
            busy: ns(disk.time_in_progress)?,
            weighted: ns(disk.weighted_time_in_progress)?,
        })
    }

    /// Requests that are in flight count as well: one may never end.
    fn has_done_anything(&self) -> bool {
        self.in_flight > 0
            || self
                .requests
                .iter()
                .chain(&self.merged)
                .any(|&value| value > 0)
    }

    fn push(&self, out: &mut Snapshot) {
        let entity = || {
            Some(Entity {
                kind: EntityKind::Device,
                key: EntityKey::Id(self.id),
            })
        };
        let by_operation: [(&'static MetricDef, &[u64]); 4] = [
            (&REQUESTS, &self.requests),
            (&MERGED, &self.merged),
            (&BYTES, &self.bytes),
            (&TIME, &self.time),
        ];
        for (def, values) in by_operation {
            for (operation, &value) in OPERATIONS.into_iter().zip(values) {
                out.counter(def, entity(), [operation], value);
            }
        }
        if self.has_done_anything() {
            out.gauge(&IN_FLIGHT, entity(), NO_LABELS, self.in_flight as f64);
        }
        out.counter(&BUSY, entity(), NO_LABELS, self.busy);
        out.counter(&WEIGHTED, entity(), NO_LABELS, self.weighted);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::{
        host_file::testing::survives_damage,
        model::Total,
        plugin::testing::{context, fixtures},
    };

    fn read(config: &str, context: &Context) -> Snapshot {
        let mut snapshot = Snapshot::default();
        PLUGIN
            .build_from(config, context)
            .unwrap()
            .read(&mut snapshot)
            .unwrap();
        snapshot
    }

    /// Of one device, in the order of its series.
    fn values(snapshot: &Snapshot, id: u64) -> Vec<u64> {
        let key = EntityKey::Id(id);
        let own = snapshot
            .series
            .iter()
            .filter(|series| series.entity.as_ref().unwrap().key == key);
        let values = own.map(|series| match series.value {
            Total::Counter(value) => value,
            Total::Gauge(value) => value as u64,
            Total::Histogram(_) => panic!("{} is no histogram", series.def.name),
        });
        values.collect()
    }

    fn devices(snapshot: &Snapshot) -> Vec<String> {
        let keys = snapshot
            .series
            .iter()
            .map(|series| match series.entity.as_ref().unwrap().key {
                EntityKey::Id(id) => id,
                _ => panic!("by id"),
            });
        let ids: BTreeSet<u64> = keys.collect();
        ids.into_iter()
            .map(|id| EntityKind::Device.format_id(id))
            .collect()
    }

    #[test]
    fn sectors_become_bytes_and_milliseconds_nanoseconds() {
        let snapshot = read("", &context(fixtures()));
        let ms = 1_000_000;
        let vda = [
            [60_686, 21_868, 9447, 1267].as_slice(),
            &[11_992, 55_950, 12],
            &[7_976_362 * 512, 19_205_696 * 512, 1_931_904 * 512],
            &[20_613 * ms, 62_413 * ms, 788 * ms, 45 * ms],
            &[2, 14_868 * ms, 83_861 * ms],
        ];
        assert_eq!(values(&snapshot, 254 << 20), vda.concat());
    }

    #[test]
    fn partitions_are_left_out_unless_wanted() {
        let whole = devices(&read("", &context(fixtures())));
        let all = devices(&read("partitions = true", &context(fixtures())));
        let partitions: Vec<_> = all.iter().filter(|disk| !whole.contains(disk)).collect();
        assert_eq!(partitions, ["254:1"]);
    }

    #[test]
    fn a_device_that_never_did_anything_has_counters_at_0_and_no_gauge() {
        let snapshot = read("", &context(fixtures()));
        let idle = values(&snapshot, 7 << 20);
        assert_eq!(idle, [0; 16]);
    }

    #[test]
    fn without_sysfs_it_does_not_guess() {
        let mut context = context(fixtures());
        context.roots.sys = "/nowhere".into();
        let mut reader = PLUGIN.build_from("", &context).unwrap();
        let error = reader
            .read(&mut Snapshot::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nowhere/dev/block"), "{error}");
        assert_eq!(devices(&read("partitions = true", &context)).len(), 6);
    }

    #[test]
    fn this_machine_lies_between_two_looks_at_it() {
        let look = || -> Vec<Vec<u64>> {
            let text = fs::read_to_string("/proc/diskstats").unwrap();
            let numbers = |line: &str| {
                line.split_ascii_whitespace()
                    .filter_map(|word| word.parse().ok())
                    .collect()
            };
            text.lines().map(numbers).collect()
        };
        let mut context = context(fixtures());
        context.roots.proc = "/proc".into();
        let before = look();
        let snapshot = read("partitions = true", &context);
        for (before, after) in before.iter().zip(look()) {
            let id = before[0] << 20 | before[1];
            let values = values(&snapshot, id);
            for (column, at, scale) in [(2, 0, 1), (6, 1, 1), (17, 3, 1), (4, 7, 512), (8, 8, 512)]
            {
                let range = before[column] * scale..=after[column] * scale;
                assert!(range.contains(&values[at]), "{before:?} {values:?}");
            }
        }
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        survives_damage(&PLUGIN, &["diskstats"]);
    }
}
