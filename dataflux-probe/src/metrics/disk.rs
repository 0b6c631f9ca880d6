//! `disk`: requests, bytes and time of each block device, from `/proc/diskstats`, and the room of file systems.
//!
//! Machines come with rows of loop and RAM devices that nobody uses. Their counters are read all the same, so that the window
//! of their first request has it, and cost nothing because they do not change; a gauge would travel in every envelope, so a
//! device has one from its first request on.
//!
//! A smaller number than before is that of another device under the same number. Times have 32 bits and run over.

mod file_systems;
mod times;

use std::{collections::HashMap, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use procfs::{DiskStat, DiskStats, FromBufRead};
use serde::Deserialize;

use super::MetricReader;
use crate::{
    config::values::Time,
    host_file::{HostFile, parsed},
    model::{Entity, EntityKey, EntityKind, Kind, MetricDef, NO_LABELS, Snapshot, Unit},
    plugin::{Context, Needs, Plugin},
};
use file_systems::{
    FileSystems,
    select::{COMING_AND_GOING, WITHOUT_ROOM},
};
use times::{TIMES, Times};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "disk",
    summary: "requests, bytes and time of each block device, as the block layer accounts them; space and inodes of each file system",
    needs: Needs {
        kernel: "/proc/diskstats of kernel 5.5, /sys/dev/block, /proc/1/mountinfo, statx(2) of kernel 5.8",
        ..Needs::NOTHING
    },
    example: "\
# partitions = false    # series for partitions too, whose requests are also their disk's; default false
# file_systems = true    # also the room of file systems; default true
# Types of file systems that are left out, in the place of the default: what has no room of its own or none that anything can
# fill (proc, devtmpfs, overlay, squashfs, iso9660 and the like). tmpfs is told: /run, /tmp and /dev/shm can be full.
# exclude_types = [\"tmpfs\", \"overlay\", \"squashfs\"]
# Mount points that are left out, * is any text, in the place of the default: those that come and go with containers and
# sessions (/run/user/*), and below /sys.
# exclude_mounts = [\"/var/lib/docker/*\", \"/var/lib/kubelet/pods/*\"]
# max_file_systems = 100    # more are left out, which the source's status says; default 100
# Also file systems that may be elsewhere: NFS, SMB, FUSE, and all other types without a device that are not known to be local.
# Each is asked on a thread of its own, and one that does not answer in time is left out until it does. Default false.
# remote = false
# remote_timeout = \"200ms\"    # how long they are waited for, all together; at most 10s; default 200ms
",
    metrics: &[
        &REQUESTS,
        &MERGED,
        &BYTES,
        &TIME,
        &IN_FLIGHT,
        &BUSY,
        &WEIGHTED,
        &file_systems::SPACE,
        &file_systems::INODES,
        &file_systems::READ_ONLY,
    ],
    build: |section, context| {
        section.build(|config: Config, _| {
            if config.remote_timeout.0 > LONGEST_TIMEOUT {
                return Err(section.error(Some("remote_timeout"), "is longer than 10s"));
            }
            Ok(Box::new(Disks::new(&config, context)) as _)
        })
    },
};

static REQUESTS: MetricDef = MetricDef::running_counter(
    "disk.requests",
    Unit::Count,
    "Requests completed; a stacked device (dm, md, loop) and the devices below it each count theirs.",
    &["operation"],
);
static MERGED: MetricDef = MetricDef::running_counter(
    "disk.merged",
    Unit::Count,
    "Requests that were merged into another one before it was issued.",
    &["operation"],
);
static BYTES: MetricDef = MetricDef::running_counter(
    "disk.bytes",
    Unit::Bytes,
    "Bytes read, written and discarded.",
    &["operation"],
);
static TIME: MetricDef = MetricDef::running_counter(
    "disk.time",
    Unit::Nanoseconds,
    "Time from start to completion of all requests, added up; whole milliseconds, of which the kernel has 32 bits: from 5.15 the probe counts on where they run over, before that the window has no value, and never of partitions.",
    &["operation"],
);
static IN_FLIGHT: MetricDef = MetricDef {
    name: "disk.in_flight",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Requests that are in flight.",
    labels: &[],
};
static BUSY: MetricDef = MetricDef::running_counter(
    "disk.busy",
    Unit::Nanoseconds,
    "Time in which at least one request was in flight; sampled by the kernel in ticks, whole milliseconds; runs over as disk.time does.",
    &[],
);
static WEIGHTED: MetricDef = MetricDef::running_counter(
    "disk.weighted_time",
    Unit::Nanoseconds,
    "Time of all requests, those in flight included, added up; whole milliseconds; runs over as disk.time does.",
    &[],
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    partitions: bool,
    file_systems: bool,
    exclude_types: Vec<String>,
    exclude_mounts: Vec<String>,
    max_file_systems: usize,
    remote: bool,
    remote_timeout: Time,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            partitions: false,
            file_systems: true,
            exclude_types: WITHOUT_ROOM.map(str::to_owned).to_vec(),
            exclude_mounts: COMING_AND_GOING.map(str::to_owned).to_vec(),
            max_file_systems: 100,
            remote: false,
            remote_timeout: Time(Duration::from_millis(200)),
        }
    }
}

/// A read that waits for longer is no use to anybody.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(10);

struct Disks {
    file_systems: Option<FileSystems>,
    diskstats: HostFile,
    /// `/sys/dev/block`: a folder for each device number.
    devices: PathBuf,
    partitions: bool,
    /// The devices of the last read, by number.
    known: HashMap<u64, Known>,
}

/// A device that was read before.
struct Known {
    name: String,
    /// Of one that has series.
    times: Option<Times>,
}

impl Disks {
    fn new(config: &Config, context: &Context) -> Self {
        Self {
            file_systems: config
                .file_systems
                .then(|| FileSystems::new(config, context)),
            diskstats: HostFile::new(context.roots.proc.join("diskstats")),
            devices: context.roots.sys.join("dev/block"),
            partitions: config.partitions,
            known: HashMap::new(),
        }
    }

    /// A device that is new, if it is not gone already; whether it is a partition, sysfs knows.
    fn meet(&self, disk: &Disk) -> anyhow::Result<Option<Known>> {
        let device = self.device(disk.id);
        let is_there = device.exists();
        if !is_there && !self.partitions {
            ensure!(
                self.devices.is_dir(),
                "cannot tell disks from partitions without {}",
                self.devices.display()
            );
            return Ok(None);
        }
        let is_wanted = self.partitions || !device.join("partition").exists();
        Ok(Some(Known {
            name: disk.name.clone(),
            times: is_wanted.then(|| Times::new(&device, disk.times)),
        }))
    }

    fn device(&self, id: u64) -> PathBuf {
        self.devices.join(EntityKind::Device.format_id(id))
    }
}

impl MetricReader for Disks {
    fn has_entities(&self) -> bool {
        true
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let disks = self.diskstats.read(parse)?;
        let mut known = HashMap::with_capacity(disks.len());
        for mut disk in disks {
            let before = self.known.remove(&disk.id);
            let now = match before.filter(|known| known.name == disk.name) {
                Some(mut now) => {
                    if let Some(times) = &mut now.times {
                        disk.times = times.advance(&self.device(disk.id), disk.times);
                    }
                    now
                }
                None => match self.meet(&disk)? {
                    Some(now) => now,
                    None => continue,
                },
            };
            if now.times.is_some() {
                disk.push(out);
            }
            known.insert(disk.id, now);
        }
        self.known = known;
        if let Some(file_systems) = &mut self.file_systems {
            file_systems.read(out);
        }
        Ok(())
    }
}

/// A line of `/proc/diskstats` in bytes and milliseconds. The arrays are in the order of [`OPERATIONS`]; flushes have neither
/// bytes nor merges.
struct Disk {
    id: u64,
    name: String,
    requests: [u64; 4],
    merged: [u64; 3],
    bytes: [u64; 3],
    in_flight: u64,
    /// Of each operation, busy, and weighted.
    times: [u64; TIMES],
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
            in_flight: disk.in_progress,
            times: [
                disk.time_reading,
                disk.time_writing,
                disk.time_discarding.context(CUT)?,
                disk.time_flushing.context(CUT)?,
                disk.time_in_progress,
                disk.weighted_time_in_progress,
            ],
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
        let ns = self.times.map(|ms| ms.saturating_mul(1_000_000));
        let [reads, writes, discards, flushes, busy, weighted] = ns;
        let time = [reads, writes, discards, flushes];
        let by_operation: [(&'static MetricDef, &[u64]); 4] = [
            (&REQUESTS, &self.requests),
            (&MERGED, &self.merged),
            (&BYTES, &self.bytes),
            (&TIME, &time),
        ];
        for (def, values) in by_operation {
            for (operation, &value) in OPERATIONS.into_iter().zip(values) {
                out.counter(def, entity(), [operation], value);
            }
        }
        if self.has_done_anything() {
            out.gauge(&IN_FLIGHT, entity(), NO_LABELS, self.in_flight as f64);
        }
        out.counter(&BUSY, entity(), NO_LABELS, busy);
        out.counter(&WEIGHTED, entity(), NO_LABELS, weighted);
    }
}

#[cfg(test)]
mod tests;
