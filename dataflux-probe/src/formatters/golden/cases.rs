//! The envelopes that the golden files are of, built by hand.

use std::{sync::Arc, time::Duration};

use serde_json::Value as Json;

use crate::model::{
    Born, Buckets, Cause, Entity, EntityKey, EntityKind, Envelope, Fall, Gap, Health, Kind,
    LabelValue, Metadata, Metric, MetricDef, Numbered, Part, Previous, Source, Status, Stream,
    Unit, Value, WallTime, Window,
};

const SECOND: i64 = 1_000_000_000;
/// 2026-03-01T12:00:00Z.
const NOON: WallTime = 1_772_366_400 * SECOND;
/// When they are handed to the transport.
pub(super) const TRANS_TIME: WallTime = NOON + 9 * SECOND + 204_410_552;

macro_rules! def {
    ($name:ident, $text:literal, $kind:expr, $unit:ident, $labels:expr) => {
        static $name: MetricDef = MetricDef {
            name: $text,
            kind: $kind,
            unit: Unit::$unit,
            help: "For the test.",
            labels: $labels,
        };
    };
}

const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};
def!(
    REQUESTS,
    "block_io.requests",
    COUNTER,
    Count,
    &["operation"]
);
def!(BYTES, "block_io.bytes", COUNTER, Bytes, &["operation"]);
def!(IN_FLIGHT, "block_io.in_flight", Kind::Gauge, Count, &[]);
def!(
    LATENCY,
    "block_io.latency",
    Kind::Histogram,
    Nanoseconds,
    &["operation"]
);
def!(
    SIZE,
    "block_io.size",
    Kind::Histogram,
    Bytes,
    &["operation"]
);
def!(
    TIME,
    "cpu.time_per_cpu",
    COUNTER,
    Nanoseconds,
    &["cpu", "mode"]
);
def!(RECEIVED, "interface.received", COUNTER, Bytes, &[]);
def!(TEMPERATURE, "statsd.gauge", Kind::Gauge, Count, &["place"]);
def!(SWITCHES, "scheduler.switches", COUNTER, Count, &["kind"]);
def!(TASKS, "cgroup.tasks", Kind::Gauge, Count, &[]);

fn device(id: u64, name: &str) -> (Option<Entity>, Option<u64>, Option<Arc<str>>) {
    let key = EntityKey::Id(id);
    let kind = EntityKind::Device;
    (Some(Entity { kind, key }), Some(id), Some(name.into()))
}

fn interface(key: EntityKey) -> (Option<Entity>, Option<u64>, Option<Arc<str>>) {
    let kind = EntityKind::Interface;
    (Some(Entity { kind, key }), None, None)
}

fn cgroup(id: u64, name: &str) -> (Option<Entity>, Option<u64>, Option<Arc<str>>) {
    let key = EntityKey::Id(id);
    let kind = EntityKind::Cgroup;
    (Some(Entity { kind, key }), Some(id), Some(name.into()))
}

const NO_ENTITY: (Option<Entity>, Option<u64>, Option<Arc<str>>) = (None, None, None);

fn series(
    def: &'static MetricDef,
    (entity, entity_id, entity_name): (Option<Entity>, Option<u64>, Option<Arc<str>>),
    labels: &[&'static str],
    value: Value,
) -> Metric {
    assert_eq!(labels.len(), def.labels.len(), "{}", def.name);
    let labels = labels
        .iter()
        .map(|&label| LabelValue::Borrowed(label))
        .collect();
    Metric {
        def,
        entity,
        entity_id,
        entity_name,
        labels,
        value,
    }
}

fn counter(value: impl Into<Option<u64>>, total: u64) -> Value {
    let value = value.into();
    Value::Counter { value, total }
}

fn gauge(value: f64) -> Value {
    Value::Gauge {
        value,
        min: value,
        max: value,
    }
}

fn histogram(sum: u64, counts: &[(u16, u64)]) -> Value {
    let counts = counts.to_vec();
    Value::Histogram(Buckets { sum, counts })
}

/// A window whose ends are a few microseconds late, as in life.
fn window(start: i64, stop: i64) -> Window {
    Window {
        start: NOON + start * SECOND + 18_211,
        stop: NOON + stop * SECOND + 21_090,
        duration: Duration::from_nanos((stop - start).unsigned_abs() * 1_000_000_000 + 2_879),
        ..Window::default()
    }
}

fn source(reader: &'static str, window: Window, metrics: Vec<Metric>) -> Source {
    Source {
        reader,
        labels: Arc::default(),
        health: Health::default(),
        window,
        covered: window.duration,
        lost: 0,
        unsupported: Vec::new(),
        metrics,
    }
}

fn metadata(sections: &Json) -> Arc<Metadata> {
    let names = ["host", "labels", "os"];
    let section = |&name: &&'static str| Some((name, sections.get(name)?.as_object()?.clone()));
    let sections = names.iter().filter_map(section).collect();
    Arc::new(Metadata { sections })
}

fn stream(id: &str, previous: Option<Previous>) -> Arc<Stream> {
    let id = id.into();
    Arc::new(Stream { id, previous })
}

fn gap(first: u64, last: u64, cause: Cause) -> Gap {
    Gap { first, last, cause }
}

/// Every case, by the name of its files.
pub(in crate::formatters) fn all() -> [(&'static str, Numbered); 4] {
    [
        ("empty", empty()),
        ("example", example()),
        ("first", first()),
        ("part", part()),
    ]
}

/// The example of docs/envelope.md: windows 4 to 6 merged, after 3 was lost.
fn example() -> Numbered {
    let window = window(3, 6);
    let vda = || device(254 << 20, "vda");
    let in_flight = Value::Gauge {
        value: 1.0,
        min: 0.0,
        max: 7.0,
    };
    let latency = histogram(6_120_455, &[(107, 31), (108, 80), (109, 9)]);
    let metrics = vec![
        series(&REQUESTS, vda(), &["read"], counter(120, 48_211)),
        series(&REQUESTS, vda(), &["write"], counter(None, 17)),
        series(&IN_FLIGHT, vda(), &[], in_flight),
        series(&LATENCY, vda(), &["read"], latency),
    ];
    let header = serde_json::json!({
        "host": {"name": "web-1", "machine_id": "9f2c5d0f8f6d4b7fb0b8f1a3c0d5e6a7"},
        "os": {"name": "Debian GNU/Linux", "kernel": "6.1.0-28-amd64"},
    });
    Numbered {
        stream: stream("main-5d41f0c29b7a6e38", None),
        range: 4..=6,
        part: Part::WHOLE,
        gaps: vec![gap(3, 3, Cause::Rejected)],
        envelope: Arc::new(Envelope {
            window,
            metadata: metadata(&header),
            sources: vec![source("block_io", window, metrics)],
        }),
    }
}

/// A stream's first envelope, after a stream that lost its end, with every kind of value and of entity.
pub(in crate::formatters) fn first() -> Numbered {
    let window = window(9, 10);
    let (vda, sdb) = (|| device(254 << 20, "vda"), || device(8 << 20 | 16, "sdb"));
    let long: Vec<_> = (40..160)
        .step_by(3)
        .map(|index| (index, 1 + u64::from(index % 7) * 900))
        .collect();
    let block_io = vec![
        series(&REQUESTS, vda(), &["read"], counter(1_203, u64::MAX)),
        series(&LATENCY, vda(), &["read"], histogram(48_211_000_123, &long)),
        // The reader goes device by device; the envelope, metric by metric.
        series(&REQUESTS, sdb(), &["write"], counter(0, 12)),
        series(&LATENCY, sdb(), &["write"], histogram(0, &[])),
        series(&BYTES, sdb(), &["write"], counter(3 << 30, 9 << 40)),
        series(
            &SIZE,
            sdb(),
            &["write"],
            histogram(u64::MAX, &[(0, 1), (495, 2)]),
        ),
    ];
    let cpu = vec![
        series(
            &TIME,
            NO_ENTITY,
            &["0", "user"],
            counter(123_000_000, 5_000_000_000),
        ),
        series(
            &TIME,
            NO_ENTITY,
            &["all", "idle"],
            counter(1_877_000_000, 7_000_000_000),
        ),
    ];
    let interfaces = vec![
        series(&RECEIVED, interface(EntityKey::Id(2)), &[], counter(0, 0)),
        series(
            &RECEIVED,
            interface(EntityKey::Name("wg0".into())),
            &[],
            counter(88, 88),
        ),
        series(
            &RECEIVED,
            interface(EntityKey::Other),
            &[],
            counter(1_500_000, 1_500_000),
        ),
    ];
    let gauges = vec![
        series(
            &TEMPERATURE,
            NO_ENTITY,
            &["K\u{e4}ltekammer \u{2744} 3"],
            gauge(-18.25),
        ),
        series(
            &TEMPERATURE,
            NO_ENTITY,
            &["quote \" slash \\ escape \u{1b}[31m\n"],
            gauge(1e300),
        ),
        series(&TEMPERATURE, NO_ENTITY, &["nowhere"], gauge(f64::NAN)),
        series(
            &TEMPERATURE,
            NO_ENTITY,
            &["everywhere"],
            gauge(f64::INFINITY),
        ),
    ];
    let cgroups = vec![series(
        &TASKS,
        cgroup(7 << 32 | 4711, "/system.slice/cron.service"),
        &[],
        gauge(3.0),
    )];
    let sources = vec![
        Source {
            lost: 3,
            unsupported: vec![&IN_FLIGHT],
            ..source("block_io", window, block_io)
        },
        source("cgroup", window, cgroups),
        Source {
            labels: Arc::new([("team".to_owned(), "base \"1\"".to_owned())].into()),
            ..source("cpu", window, cpu)
        },
        Source {
            health: Health::new(Status::Degraded, "1 of 2 programs works"),
            ..source("interface", window, interfaces)
        },
        Source {
            health: Health::new(
                Status::Failed,
                "reading /proc/meminfo: \"permission denied\"",
            ),
            covered: Duration::ZERO,
            ..source("memory", window, Vec::new())
        },
        source("statsd", window, gauges),
    ];
    let previous = Previous {
        id: "main-11".into(),
        last: 7,
        stop_time: NOON + 7 * SECOND + 17_503,
        gaps: vec![gap(3, 3, Cause::Unformattable), gap(4, 7, Cause::Stopped)],
        previous: Some(Box::new(Previous {
            id: "main-10".into(),
            last: 900,
            stop_time: NOON - SECOND,
            gaps: vec![gap(899, 899, Cause::Damaged)],
            previous: None,
        })),
    };
    let header = serde_json::json!({
        "host": {"name": "b\u{fc}ro"},
        "labels": {"rack": "7"},
        "os": {"cores": 2},
    });
    Numbered {
        stream: stream("main-22", Some(previous)),
        range: 1..=1,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(Envelope {
            window,
            metadata: metadata(&header),
            sources,
        }),
    }
}

/// The second part of a merged envelope whose clock was set back over midnight while the machine slept, of a reader with a
/// longer interval; number 1 is lost, so `previous` stands here.
fn part() -> Numbered {
    let set_back = Window {
        start: NOON,
        stop: NOON - 13 * 3600 * SECOND,
        duration: Duration::from_millis(200),
        suspended: Duration::from_secs(5),
        clock_step: -46_805_200_000_000,
    };
    let reader = Window {
        duration: Duration::from_millis(1_200),
        ..set_back
    };
    let switches = vec![
        series(
            &SWITCHES,
            NO_ENTITY,
            &["voluntary"],
            counter(7, u64::from(u32::MAX)),
        ),
        series(
            &SWITCHES,
            NO_ENTITY,
            &["idle"],
            counter(12_345_678, 9_007_199_254_740_993),
        ),
    ];
    let previous = Previous {
        id: "out/scheduler-1".into(),
        last: 0,
        stop_time: -1,
        gaps: Vec::new(),
        previous: None,
    };
    Numbered {
        stream: stream("out/scheduler-2", Some(previous)),
        range: 12..=13,
        part: Part { part: 2, parts: 3 },
        gaps: vec![gap(1, 9, Cause::QueueFull), gap(10, 11, Cause::Rejected)],
        envelope: Arc::new(Envelope {
            window: set_back,
            metadata: Arc::default(),
            sources: vec![Source {
                covered: Duration::from_millis(1_100),
                ..source("scheduler", reader, switches)
            }],
        }),
    }
}

/// Nothing was due, nothing is known.
fn empty() -> Numbered {
    Numbered {
        stream: stream("empty-0", None),
        range: u64::MAX..=u64::MAX,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(Envelope {
            window: Window::default(),
            metadata: Arc::default(),
            sources: Vec::new(),
        }),
    }
}
