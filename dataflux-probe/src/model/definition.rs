//! What metrics mean: their definitions, kinds and units.

use serde::{Deserialize, Serialize};

/// What a metric means. Declared once as a `static` in its reader's file; documentation is generated from it.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricDef {
    /// Reader, dot, noun: `block_io.latency`. Never has a unit in it.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// What one is.
    pub unit: Unit,
    /// One sentence that ends with a period.
    pub help: &'static str,
    /// Label names, of closed and small sets. A series gives a value for each, in this order.
    pub labels: &'static [&'static str],
}

impl MetricDef {
    /// A value of the moment.
    #[must_use]
    pub const fn gauge(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            unit,
            help,
            labels,
        }
    }

    /// A counter of `/proc` or `/sys`, which ran before it was first read, and begins anew where it falls.
    #[must_use]
    pub const fn running_counter(
        name: &'static str,
        unit: Unit,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self {
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
}

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Only grows while its series lives.
    Counter {
        /// What a series stands for when it is seen for the first time.
        born: Born,
        /// What a smaller value than before means.
        fall: Fall,
    },
    /// A value of the moment.
    Gauge,
    /// A log-linear histogram whose buckets only grow; series are born at 0 and a fall is a restart.
    Histogram,
}

/// What a series that is seen for the first time, after its reader's first snapshot, has counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Born {
    /// It began in this window: all of its total belongs to it. Kernel maps.
    Zero,
    /// It has a past: the first value is a baseline, and the window has no value yet. `/proc`.
    Past,
}

/// What a counter that is smaller than before means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fall {
    /// It began anew, like a replaced interface: a new series.
    Restart,
    /// The kernel's own inexactness (idle, iowait): the window counts 0 and the highest value stays the baseline.
    Jitter,
}

/// The unit of a metric's values. Formatters convert; readers never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Bytes.
    Bytes,
    /// Things: packets, requests, switches.
    Count,
    /// Degrees Celsius.
    Celsius,
    /// A number without a unit that need not be whole: a share from 0 to 1, or a load.
    Ratio,
    /// Watts.
    Watts,
    /// Millionths of a joule; so many in a second are millionths of a watt.
    Microjoules,
}

impl Unit {
    /// All of them. A spool has their places: new ones are added at the end.
    pub const ALL: [Self; 7] = [
        Self::Nanoseconds,
        Self::Bytes,
        Self::Count,
        Self::Celsius,
        Self::Ratio,
        Self::Watts,
        Self::Microjoules,
    ];

    /// As it stands in an envelope: `ns`, `bytes`, `count`, `celsius`, `ratio`, `watts`, `uJ`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Bytes => "bytes",
            Self::Count => "count",
            Self::Celsius => "celsius",
            Self::Ratio => "ratio",
            Self::Watts => "watts",
            Self::Microjoules => "uJ",
        }
    }
}
