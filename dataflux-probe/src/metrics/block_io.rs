//! `block_io`: requests, bytes, errors, times and sizes by device and operation.
//!
//! Kernel side: dataflux-ebpf/src/bin/block_io.rs. Shared types: dataflux-common/src/block_io.rs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    mem::offset_of,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use dataflux_common::{
    block_io::{
        COMPLETE_BYTES, COMPLETE_ERROR, COMPLETE_REQUEST, COMPLETE_STATUS, DISK_MAJOR, DISK_MINOR,
        Device, FLUSH_SEQUENCE_BIT, ISSUE_REQUEST, KERNEL_FIELDS, OPERATIONS, Operation,
        QUEUE_DISK, QUEUE_ID, REQUEST_COMMAND, REQUEST_DISK, REQUEST_FLAGS, REQUEST_ISSUE,
        REQUEST_LENGTH, REQUEST_QUEUE, REQUEST_SECTORS, REQUEST_START, SIZE_BUCKETS, STATUSES,
        Totals,
    },
    histogram::{BUCKETS, Histogram},
    limits::OTHER_DEVICE,
};
use serde::Deserialize;

use super::{AttachError, MetricReader};
use crate::{
    kernel::{
        Kernel,
        drain::MappedArray,
        load::{Loaded, Object, Program},
    },
    model::{Born, Buckets, Entity, EntityKey, EntityKind, Fall, Kind, MetricDef, Snapshot, Unit},
    plugin::{Capability, Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn MetricReader> = Plugin {
    name: "block_io",
    summary: "requests, bytes, errors, latency, device and queue time, sizes by block device and operation",
    needs: Needs {
        kernel: "BTF and the block tracepoints (Linux 5.10)",
        attach: &[Capability::Bpf, Capability::Perfmon],
        keep: &[],
    },
    example: "\
# Whether a program on the issue of requests stamps them as well. The kernel stamps them itself only while something on the
# queue keeps statistics, such as write-back throttling.
#   auto    if a device that exists at the start has no wbt_lat_usec in sysfs (default)
#   always  for devices that appear later without it; costs a clock read per request
#   never   requests without the kernel's stamp have no device and queue time, and are counted as unstamped
issue_stamps = \"auto\"
",
    metrics: &[
        &REQUESTS,
        &BYTES,
        &ERRORS,
        &LATENCY,
        &DEVICE_TIME,
        &QUEUE_TIME,
        &REQUEST_SIZE,
        &UNSTAMPED,
        &DISORDERED,
        &IN_FLIGHT,
    ],
    build: |section, _| {
        let config = section.parse::<Config>()?;
        Ok(Box::new(BlockIo { issue_stamps: config.issue_stamps, attached: None }))
    },
};

const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};

static REQUESTS: MetricDef = MetricDef {
    name: "block_io.requests",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Requests whose last byte completed; merged ones are one, split ones several, requeued ones count once.",
    labels: &["operation"],
};
static BYTES: MetricDef = MetricDef {
    name: "block_io.bytes",
    kind: COUNTER,
    unit: Unit::Bytes,
    help: "Completed bytes, of requests that completed in part as well.",
    labels: &["operation"],
};
static ERRORS: MetricDef = MetricDef {
    name: "block_io.errors",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Completions with an error, by the kernel's block status.",
    labels: &["operation", "status"],
};
static LATENCY: MetricDef = MetricDef {
    name: "block_io.latency",
    kind: Kind::Histogram,
    unit: Unit::Nanoseconds,
    help: "Time from the request's start to its completion; that of a write with flushes contains the flushes.",
    labels: &["operation"],
};
static DEVICE_TIME: MetricDef = MetricDef {
    name: "block_io.device_time",
    kind: Kind::Histogram,
    unit: Unit::Nanoseconds,
    help: "Time from the request's last issue to the driver to its completion.",
    labels: &["operation"],
};
static QUEUE_TIME: MetricDef = MetricDef {
    name: "block_io.queue_time",
    kind: Kind::Histogram,
    unit: Unit::Nanoseconds,
    help: "Time from the request's start to its last issue to the driver.",
    labels: &["operation"],
};
static REQUEST_SIZE: MetricDef = MetricDef {
    name: "block_io.size",
    kind: Kind::Histogram,
    unit: Unit::Bytes,
    help: "Sizes of requests that carry data.",
    labels: &["operation"],
};
static UNSTAMPED: MetricDef = MetricDef {
    name: "block_io.unstamped",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Requests whose time is not known: without a start stamp (in no time histogram), or only without an issue stamp (in latency).",
    labels: &["operation", "stamp"],
};
static DISORDERED: MetricDef = MetricDef {
    name: "block_io.disordered",
    kind: COUNTER,
    unit: Unit::Count,
    help: "Requests whose stamps contradict each other: at most in latency.",
    labels: &["operation"],
};
static IN_FLIGHT: MetricDef = MetricDef {
    name: "block_io.in_flight",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "Requests issued and not completed at the moment, from sysfs, of devices that completed any.",
    labels: &["direction"],
};

static PROGRAMS: [Program; 2] = [
    Program {
        name: "block_rq_complete",
        tracepoint: "block_rq_complete",
        fields: &[
            COMPLETE_REQUEST,
            REQUEST_QUEUE,
            QUEUE_ID,
            DISK_MAJOR,
            DISK_MINOR,
            REQUEST_COMMAND,
            REQUEST_FLAGS,
            REQUEST_START,
            REQUEST_ISSUE,
            REQUEST_LENGTH,
            REQUEST_SECTORS,
            FLUSH_SEQUENCE_BIT,
            COMPLETE_BYTES,
        ],
        either: &[
            &[QUEUE_DISK, REQUEST_DISK],
            &[COMPLETE_STATUS, COMPLETE_ERROR],
        ],
        metrics: &[
            &REQUESTS,
            &BYTES,
            &ERRORS,
            &LATENCY,
            &DEVICE_TIME,
            &QUEUE_TIME,
            &REQUEST_SIZE,
            &UNSTAMPED,
            &DISORDERED,
            &IN_FLIGHT,
        ],
    },
    Program {
        name: ISSUE,
        tracepoint: ISSUE,
        fields: &[ISSUE_REQUEST],
        either: &[],
        metrics: &[],
    },
];
const ISSUE: &str = "block_rq_issue";

/// By operation, as the kernel side numbers them.
const OPERATION_NAMES: [&str; OPERATIONS] = ["read", "write", "discard", "flush", "other"];

/// By block status (include/linux/blk_types.h), in the words of `blk_errors` in block/blk-core.c; empty = no name.
const STATUS_NAMES: [&str; STATUSES] = [
    "ok",
    "operation_not_supported",
    "timeout",
    "critical_space_allocation",
    "recoverable_transport",
    "critical_target",
    "reservation_conflict",
    "critical_medium",
    "protection",
    "kernel_resource",
    "io",
    "device_mapper_requeue",
    "nonblocking_retry",
    "device_resource",
    "zone_resource",
    "other",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    issue_stamps: IssueStamps,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IssueStamps {
    #[default]
    Auto,
    Always,
    Never,
}

struct BlockIo {
    issue_stamps: IssueStamps,
    attached: Option<Attached>,
}

struct Attached {
    loaded: Loaded,
    devices: MappedArray<Device>,
    totals: MappedArray<Totals>,
    /// `<sys>/dev/block`, where every device has an entry by its number.
    folder: PathBuf,
}

/// Words of an [`Operation`].
const WORDS: usize = size_of::<Operation>() / size_of::<u64>();

impl MetricReader for BlockIo {
    fn has_entities(&self) -> bool {
        true
    }

    fn attach(&mut self, kernel: &Kernel) -> Result<(), AttachError> {
        let stamps = match self.issue_stamps {
            IssueStamps::Auto => some_device_keeps_no_statistics(&kernel.roots.sys.join("block")),
            IssueStamps::Always => true,
            IssueStamps::Never => false,
        };
        let mut loaded = kernel.load(&Object {
            reader: "block_io",
            fields: &KERNEL_FIELDS,
            programs: &PROGRAMS,
            unwanted: if stamps { &[] } else { &[ISSUE] },
            constants: vec![("ISSUE_STAMPS", u32::from(stamps))],
            max_entries: Vec::new(),
        })?;
        self.attached = Some(Attached {
            devices: loaded.map("DEVICES_BY_QUEUE", &kernel.counters)?,
            totals: loaded.map("TOTALS", &kernel.counters)?,
            loaded,
            folder: kernel.roots.sys.join("dev/block"),
        });
        Ok(())
    }

    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        let Some(attached) = &mut self.attached else {
            anyhow::bail!("not attached")
        };
        attached.loaded.report(out);
        out.lost += attached.totals.word(0, offset_of!(Totals, overwritten));
        attached.devices(out)
    }
}

impl Attached {
    fn devices(&self, out: &mut Snapshot) -> anyhow::Result<()> {
        // The owners of the places before the devices that exist, so that none is taken for gone because it is new; those
        // before the counters, so that what has gone is counted to its end.
        let tags: Vec<_> = (0..self.devices.len())
            .map(|place| self.devices.word(place, offset_of!(Device, tag)))
            .collect();
        let live = self.live()?;
        let mut found: BTreeMap<EntityKey, Box<[[u64; WORDS]; OPERATIONS]>> = BTreeMap::new();
        let mut gone = Vec::new();
        for (place, tag) in tags.into_iter().enumerate() {
            let key = match tag {
                _ if place == OTHER_DEVICE => EntityKey::Other,
                0 => continue,
                tag => {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "a device number has 32 bits"
                    )]
                    let device = u64::from((tag - 1) as u32);
                    if !live.contains(&EntityKind::Device.format_id(device)) {
                        gone.push((place, device));
                    }
                    EntityKey::Id(device)
                }
            };
            // A device that came back with another queue has two places until the first is free.
            let sums = found
                .entry(key)
                .or_insert_with(|| Box::new([[0; WORDS]; OPERATIONS]));
            for (operation, sums) in sums.iter_mut().enumerate() {
                let at = offset_of!(Device, operations) + operation * size_of::<Operation>();
                self.devices.add_to(sums, place, at);
            }
        }
        for (key, sums) in found {
            let in_flight = match &key {
                EntityKey::Id(device) => self.in_flight(*device),
                _ => None,
            };
            let entity = Entity {
                kind: EntityKind::Device,
                key,
            };
            for (direction, requests) in ["read", "write"]
                .into_iter()
                .zip(in_flight.into_iter().flatten())
            {
                out.gauge(&IN_FLIGHT, Some(entity.clone()), [direction], requests);
            }
            for (operation, words) in OPERATION_NAMES.into_iter().zip(sums.iter()) {
                series(out, &entity, operation, words);
            }
        }
        for (place, device) in gone {
            self.devices.clear(place, 0, size_of::<Device>());
            out.ended.push(Entity {
                kind: EntityKind::Device,
                key: EntityKey::Id(device),
            });
        }
        Ok(())
    }

    /// The numbers of the devices that exist, as sysfs writes them.
    fn live(&self) -> anyhow::Result<BTreeSet<String>> {
        let entries =
            fs::read_dir(&self.folder).with_context(|| self.folder.display().to_string())?;
        Ok(entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect())
    }

    /// Reads and writes in flight; none if the device is going away.
    fn in_flight(&self, device: u64) -> Option<Vec<f64>> {
        let path = self
            .folder
            .join(EntityKind::Device.format_id(device))
            .join("inflight");
        let text = fs::read_to_string(path).ok()?;
        text.split_whitespace()
            .map(|number| number.parse().ok())
            .collect()
    }
}

/// Adds the series of one operation of one device, if there was ever anything.
fn series(out: &mut Snapshot, entity: &Entity, operation: &'static str, words: &[u64; WORDS]) {
    let word = |offset: usize| words[offset / size_of::<u64>()];
    let part = |offset: usize, length: usize| {
        let words = &words[offset / size_of::<u64>()..][..length];
        words.iter().copied()
    };
    let times = |offset: usize| {
        let counts = part(offset + offset_of!(Histogram, counts), BUCKETS);
        Buckets::from_dense(word(offset + offset_of!(Histogram, sum)), counts)
    };
    let device_time = times(offset_of!(Operation, device_time));
    let queue_time = times(offset_of!(Operation, queue_time));
    let mut latency = times(offset_of!(Operation, latency));
    // What is in the other two is not added a third time by the kernel side.
    latency.sum += device_time.sum + queue_time.sum;
    let unstamped = word(offset_of!(Operation, unstamped_start));
    let disordered = word(offset_of!(Operation, disordered_start));
    let requests = latency.count() + unstamped + disordered;
    let bytes = word(offset_of!(Operation, bytes));
    if requests == 0 && bytes == 0 {
        return;
    }
    let whole = bytes.saturating_sub(word(offset_of!(Operation, bytes_in_part)));
    let sizes = Buckets::from_dense(
        whole + word(offset_of!(Operation, bytes_before)),
        part(offset_of!(Operation, sizes), SIZE_BUCKETS),
    );
    let entity = || Some(entity.clone());
    out.counter(&REQUESTS, entity(), [operation], requests);
    out.counter(&BYTES, entity(), [operation], bytes);
    let errors = part(offset_of!(Operation, errors), STATUSES).zip(STATUS_NAMES);
    for (count, status) in errors.filter(|&(count, _)| count > 0) {
        out.counter(&ERRORS, entity(), [operation, status], count);
    }
    out.counter(&UNSTAMPED, entity(), [operation, "start"], unstamped);
    let unstamped_issue = word(offset_of!(Operation, unstamped_issue));
    out.counter(&UNSTAMPED, entity(), [operation, "issue"], unstamped_issue);
    let disordered = disordered + word(offset_of!(Operation, disordered_issue));
    out.counter(&DISORDERED, entity(), [operation], disordered);
    out.histogram(&LATENCY, entity(), [operation], latency);
    out.histogram(&DEVICE_TIME, entity(), [operation], device_time);
    out.histogram(&QUEUE_TIME, entity(), [operation], queue_time);
    out.histogram(&REQUEST_SIZE, entity(), [operation], sizes);
}

/// Whether a device with request queues (those have `mq`) shows no sign that the kernel stamps the issue of its requests.
fn some_device_keeps_no_statistics(folder: &Path) -> bool {
    let devices = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut queues = devices
        .map(|device| device.path())
        .filter(|path| path.join("mq").exists());
    queues.any(|path| !path.join("queue/wbt_lat_usec").exists())
}
