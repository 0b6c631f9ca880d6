//! The values that travel through the probe: metric definitions, snapshots, envelopes.

#[cfg(test)]
pub(crate) mod arbitrary;
mod definition;
mod naming;
mod stream;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use definition::{Born, Fall, Kind, MetricDef, Unit};
pub use stream::{Cause, Gap, Numbered, Part, Previous, SCHEMA, Stream};

/// Something that metadata can put a name to. A reader gives what its source gives: an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entity {
    /// What it is.
    pub kind: EntityKind,
    /// Which one.
    pub key: EntityKey,
}

/// Kinds of entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntityKind {
    /// A block device; its id is its device number.
    Device,
    /// A network interface of process 1's namespace; its id is its index.
    Interface,
    /// A control group; its id is the inode number of its folder in the v2 hierarchy, its name its path below the root.
    Cgroup,
}

/// How a reader tells one entity from the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EntityKey {
    /// Device: major << 20 | minor. Interface: index. Cgroup: inode number of its folder.
    Id(u64),
    /// For sources that have only a name.
    Name(Arc<str>),
    /// All that are not reported by themselves, together.
    Other,
}

impl EntityKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Device, Self::Interface, Self::Cgroup];

    /// As it stands in an envelope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Interface => "interface",
            Self::Cgroup => "cgroup",
        }
    }

    /// An id as people write it: `254:0` for a device, `2` for all others.
    #[must_use]
    pub fn format_id(self, id: u64) -> String {
        match self.parts_of_id(id) {
            (Some(major), minor) => format!("{major}:{minor}"),
            (None, id) => id.to_string(),
        }
    }

    /// The numbers of an id: major, if it is that of a device, and minor or all of it.
    #[must_use]
    pub const fn parts_of_id(self, id: u64) -> (Option<u64>, u64) {
        match self {
            Self::Device => (Some(id >> 20), id & 0xf_ffff),
            Self::Interface | Self::Cgroup => (None, id),
        }
    }
}

/// A label's value. Borrowed where the set is fixed.
pub type LabelValue = std::borrow::Cow<'static, str>;

/// One series of a snapshot: cumulative values, as read.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its metric.
    pub def: &'static MetricDef,
    /// What it belongs to.
    pub entity: Option<Entity>,
    /// One value for each label of the metric.
    pub labels: Box<[LabelValue]>,
    /// The value since the series began (counters, histograms) or of now (gauges).
    pub value: Total,
}

/// A cumulative value.
#[derive(Debug, Clone, PartialEq)]
pub enum Total {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(f64),
    /// Of a histogram.
    Histogram(Buckets),
}

/// A histogram with only the buckets that hold something, sorted by bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// Sum of the values.
    pub sum: u64,
    /// Bucket of `log_linear/3` and how many values are in it; never 0.
    pub counts: Vec<(u16, u64)>,
}

impl Buckets {
    /// From the buckets 0, 1, 2, ... of a kernel map, which may hold only the first part of them.
    #[must_use]
    pub fn from_dense(sum: u64, counts: impl IntoIterator<Item = u64>) -> Self {
        let counts = (0u16..)
            .zip(counts)
            .filter(|&(_, count)| count > 0)
            .collect();
        Self { sum, counts }
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|&(_, count)| count).sum()
    }
}

/// The cumulative values of one reader at one instant. All or nothing: that of a failed read is thrown away. A series that
/// is missing from a snapshot has ended; if it comes back, it is a new one.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// All series, in the reader's order.
    pub series: Vec<Series>,
    /// What some of these series were at the last read, where the last snapshot did not have them, or had what another thing
    /// counted under the same labels. They are compared with these instead. For readers that tell a few of many.
    pub earlier: Vec<Series>,
    /// Events since attaching that the kernel side could not record.
    pub lost: u64,
    /// Entities that are gone and whose kernel values were cleared after this read: one that comes again counts from 0.
    pub ended: Vec<Entity>,
    /// Metrics that this machine cannot give.
    pub unsupported: Vec<&'static MetricDef>,
    /// Set by a reader whose values are incomplete or in doubt, with the reason. `Ok` otherwise.
    pub health: Health,
}

impl Snapshot {
    /// Adds a counter's total.
    pub fn counter<L: Into<LabelValue>>(
        &mut self,
        def: &'static MetricDef,
        entity: Option<Entity>,
        labels: impl IntoIterator<Item = L>,
        value: u64,
    ) {
        self.push(def, entity, labels, Total::Counter(value));
    }

    /// Adds a gauge.
    pub fn gauge<L: Into<LabelValue>>(
        &mut self,
        def: &'static MetricDef,
        entity: Option<Entity>,
        labels: impl IntoIterator<Item = L>,
        value: f64,
    ) {
        self.push(def, entity, labels, Total::Gauge(value));
    }

    /// Adds a histogram's totals.
    pub fn histogram<L: Into<LabelValue>>(
        &mut self,
        def: &'static MetricDef,
        entity: Option<Entity>,
        labels: impl IntoIterator<Item = L>,
        value: Buckets,
    ) {
        self.push(def, entity, labels, Total::Histogram(value));
    }

    fn push<L: Into<LabelValue>>(
        &mut self,
        def: &'static MetricDef,
        entity: Option<Entity>,
        labels: impl IntoIterator<Item = L>,
        value: Total,
    ) {
        let labels: Box<[LabelValue]> = labels.into_iter().map(Into::into).collect();
        debug_assert_eq!(
            labels.len(),
            def.labels.len(),
            "{}: a value for each label",
            def.name
        );
        self.series.push(Series {
            def,
            entity,
            labels,
            value,
        });
    }
}

/// No labels, for the methods of [`Snapshot`].
pub const NO_LABELS: [&str; 0] = [];

/// How far a source can be trusted, from best to worst; merging keeps the worse one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Everything works.
    #[default]
    Ok,
    /// Some of it works.
    Degraded,
    /// It works, but its values are in doubt.
    Suspect,
    /// This machine cannot give it.
    Unsupported,
    /// A privilege is missing.
    Denied,
    /// It should work and does not.
    Failed,
}

impl Status {
    /// All of them, from best to worst.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Degraded,
        Self::Suspect,
        Self::Unsupported,
        Self::Denied,
        Self::Failed,
    ];

    /// As it stands in an envelope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Suspect => "suspect",
            Self::Unsupported => "unsupported",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// A status and, unless it is `ok`, why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// How far to trust it.
    pub status: Status,
    /// Why; empty when ok.
    pub reason: Arc<str>,
}

impl Health {
    /// A status with its reason.
    pub fn new(status: Status, reason: impl Into<Arc<str>>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    /// The worse of two, with its reason; `later` if they are equally bad.
    #[must_use]
    pub fn worse(self, later: Self) -> Self {
        if self.status > later.status {
            self
        } else {
            later
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.reason {
            "" => out.write_str(self.status.name()),
            reason => write!(out, "{} ({reason})", self.status.name()),
        }
    }
}

/// Wall-clock time: nanoseconds since 1970-01-01 UTC.
pub type WallTime = i64;

/// A stretch of time on two clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Wall clock at its start.
    pub start: WallTime,
    /// Wall clock at its stop; before `start` when the clock was set back.
    pub stop: WallTime,
    /// Its length by CLOCK_MONOTONIC: what to divide by. Excludes suspension.
    pub duration: Duration,
    /// How long the machine was suspended in it.
    pub suspended: Duration,
    /// How far the wall clock jumped in it, ns.
    pub clock_step: i64,
}

/// What metadata readers know: the header of an envelope.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    /// One section per metadata reader, by its name; each is a JSON object.
    pub sections: BTreeMap<&'static str, serde_json::Map<String, serde_json::Value>>,
}

/// Everything read at one tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// From the stream's previous tick to this one.
    pub window: Window,
    /// Who this host is.
    pub metadata: Arc<Metadata>,
    /// One per reader.
    pub sources: Vec<Source>,
}

/// Names and values from a reader's section of the configuration.
pub type Labels = Arc<BTreeMap<String, String>>;

/// One reader's part of an envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The reader's name.
    pub reader: &'static str,
    /// What the configuration says about it.
    pub labels: Labels,
    /// How far to trust it.
    pub health: Health,
    /// From its last successful read to this one, or up to now if there is none in this envelope.
    pub window: Window,
    /// How much of the window its values cover, which is what to divide them by; 0 when the read failed.
    pub covered: Duration,
    /// Events in the window that the kernel side could not record.
    pub lost: u64,
    /// Metrics that this machine cannot give.
    pub unsupported: Vec<&'static MetricDef>,
    /// Its series.
    pub metrics: Vec<Metric>,
}

/// One series in one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its metric.
    pub def: &'static MetricDef,
    /// What it belongs to, as its reader keys it.
    pub entity: Option<Entity>,
    /// The entity's id, if known.
    pub entity_id: Option<u64>,
    /// The entity's name, if known.
    pub entity_name: Option<Arc<str>>,
    /// One value for each label of the metric.
    pub labels: Box<[LabelValue]>,
    /// What happened in the window.
    pub value: Value,
}

/// The value of a series in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Of a counter.
    Counter {
        /// How much it grew; `None` when the window holds its baseline.
        value: Option<u64>,
        /// Its running total, comparable within one stream.
        total: u64,
    },
    /// Of a gauge. All three are equal until windows are merged.
    Gauge {
        /// The latest value.
        value: f64,
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// Of a histogram: what was added in the window.
    Histogram(Buckets),
}

impl Value {
    /// Whether nothing happened: a counter or histogram without change. Gauges and baselines always tell something.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        match self {
            Self::Counter { value, .. } => *value == Some(0),
            Self::Gauge { .. } => false,
            Self::Histogram(buckets) => buckets.counts.is_empty() && buckets.sum == 0,
        }
    }
}
