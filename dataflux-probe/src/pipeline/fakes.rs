//! What the pipeline's tests put in the place of time, readers, formatters, loggers and consumers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::clock::{Clock, Moment, nanoseconds};
use crate::{
    formatters::Formatter,
    loggers::{Acknowledgement, Limits, Logger, Payload, SendError},
    metrics::MetricReader,
    model::{
        Born, Fall, Health, Kind, Metric, MetricDef, Numbered, Snapshot, Source, Unit, Value,
        WallTime, Window,
    },
};

const fn counter(name: &'static str, born: Born, fall: Fall) -> MetricDef {
    MetricDef {
        name,
        kind: Kind::Counter { born, fall },
        unit: Unit::Count,
        help: "For tests.",
        labels: &["label"],
    }
}

pub(super) static EVENTS: MetricDef = counter("fake.events", Born::Zero, Fall::Restart);
pub(super) static PAST: MetricDef = counter("fake.past", Born::Past, Fall::Restart);
pub(super) static JITTER: MetricDef = counter("fake.jitter", Born::Past, Fall::Jitter);
pub(super) static LEVEL: MetricDef = MetricDef {
    name: "fake.level",
    kind: Kind::Gauge,
    unit: Unit::Bytes,
    help: "For tests.",
    labels: &["label"],
};
pub(super) static SIZES: MetricDef = MetricDef {
    name: "fake.sizes",
    kind: Kind::Histogram,
    unit: Unit::Bytes,
    help: "For tests.",
    labels: &["label"],
};

/// The time of tokio, which tests pause, as three clocks that tests can set.
#[derive(Clone)]
pub(super) struct Script {
    origin: Instant,
    wall: Arc<AtomicI64>,
    suspended: Arc<AtomicU64>,
}

impl Script {
    /// Starts 30 ms after a full minute.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            wall: Arc::new(AtomicI64::new(1_800_000_000_030_000_000)),
            suspended: Arc::default(),
        }
    }

    pub(super) fn clock(&self) -> Clock {
        let script = self.clone();
        Arc::new(move || script.now())
    }

    pub(super) fn now(&self) -> Moment {
        let monotonic = self.origin.elapsed();
        let boot = monotonic + Duration::from_nanos(self.suspended.load(Ordering::Relaxed));
        Moment {
            wall: self.wall.load(Ordering::Relaxed) + nanoseconds(boot),
            monotonic,
            boot,
        }
    }

    /// Sets the wall clock.
    pub(super) fn step(&self, by: i64) {
        self.wall.fetch_add(by, Ordering::Relaxed);
    }

    /// Suspends the machine for a while.
    pub(super) fn suspend(&self, time: Duration) {
        let time = u64::try_from(nanoseconds(time)).unwrap();
        self.suspended.fetch_add(time, Ordering::Relaxed);
    }
}

/// A reader made of a closure.
pub(super) struct FakeReader<F>(pub(super) F);

impl<F: FnMut(&mut Snapshot) -> anyhow::Result<()> + Send> MetricReader for FakeReader<F> {
    fn read(&mut self, out: &mut Snapshot) -> anyhow::Result<()> {
        (self.0)(out)
    }
}

/// A source with one counter for each of the values, named by its place.
pub(super) fn source(reader: &'static str, window: Window, values: &[u64]) -> Source {
    let metric = |(place, &value): (usize, &u64)| Metric {
        def: &EVENTS,
        entity: None,
        entity_id: None,
        entity_name: None,
        labels: [place.to_string().into()].into(),
        value: Value::Counter {
            value: Some(value),
            total: value,
        },
    };
    Source {
        reader,
        labels: Arc::default(),
        health: Health::default(),
        window,
        covered: window.duration,
        lost: 0,
        unsupported: Vec::new(),
        metrics: values.iter().enumerate().map(metric).collect(),
    }
}

/// Writes what the [`Consumer`] checks.
pub(super) struct FakeFormatter {
    /// Numbers that cannot be formatted.
    pub(super) fails: fn(u64) -> bool,
}

impl Formatter for FakeFormatter {
    fn content_type(&self) -> &'static str {
        "application/json"
    }

    fn file_header(&self) -> &[u8] {
        b"head"
    }

    fn format(
        &self,
        record: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        anyhow::ensure!(!record.range.clone().any(self.fails), "no format for it");
        let metrics = record
            .envelope
            .sources
            .iter()
            .flat_map(|source| &source.metrics);
        let sum: u64 = metrics
            .map(|metric| match metric.value {
                Value::Counter { value, .. } => value.unwrap_or(0),
                _ => 0,
            })
            .sum();
        let series: usize = record
            .envelope
            .sources
            .iter()
            .map(|source| source.metrics.len())
            .sum();
        serde_json::to_writer(
            out,
            &json!({
                "id": record.stream.id,
                "first": record.range.start(), "last": record.range.end(),
                "part": record.part.part, "parts": record.part.parts,
                "gaps": record.gaps, "previous": record.stream.previous,
                "trans_time": trans_time, "sum": sum, "window": record.envelope.window.duration.as_nanos() as u64,
                "series": "x".repeat(100 * series),
            }),
        )?;
        Ok(())
    }
}

/// What a fake logger does with a payload.
pub(super) struct Answer {
    /// Whether the other end gets it, whatever the result says.
    pub(super) arrives: bool,
    pub(super) after: Duration,
    pub(super) result: Result<(), SendError>,
}

impl Answer {
    pub(super) const OK: Self = Self {
        arrives: true,
        after: Duration::ZERO,
        result: Ok(()),
    };

    pub(super) fn retry() -> Self {
        Self {
            arrives: false,
            after: Duration::ZERO,
            result: Err(SendError::Retry(anyhow::anyhow!("away"))),
        }
    }

    pub(super) fn reject() -> Self {
        Self {
            arrives: false,
            after: Duration::ZERO,
            result: Err(SendError::Reject(anyhow::anyhow!("unwanted"))),
        }
    }
}

/// What the other end has, and what the tests count of the transport.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) consumer: Mutex<Consumer>,
    /// Every payload handed over, whether it arrived or not.
    pub(super) attempts: Mutex<Vec<(Instant, Json)>>,
    pub(super) in_flight: AtomicUsize,
    pub(super) most_in_flight: AtomicUsize,
    pub(super) closed: AtomicUsize,
}

/// A logger that answers as it is told.
pub(super) struct FakeLogger<F> {
    pub(super) wire: Arc<Wire>,
    pub(super) limits: Limits,
    pub(super) answer: F,
}

impl<F: FnMut(&Json) -> Answer + Send> Logger for FakeLogger<F> {
    fn send(&mut self, payload: Payload) -> Acknowledgement {
        let text: Json = serde_json::from_slice(&payload.bytes).unwrap();
        self.wire
            .attempts
            .lock()
            .unwrap()
            .push((Instant::now(), text.clone()));
        let answer = (self.answer)(&text);
        let wire = Arc::clone(&self.wire);
        let now = wire.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        wire.most_in_flight.fetch_max(now, Ordering::Relaxed);
        Box::pin(async move {
            tokio::time::sleep(answer.after).await;
            wire.in_flight.fetch_sub(1, Ordering::Relaxed);
            if answer.arrives {
                wire.consumer.lock().unwrap().receive(&text);
            }
            answer.result
        })
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn close(&mut self) -> std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>> {
        self.wire.closed.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

/// A consumer as the contract of the envelope describes it: drops repeats, joins parts, sees losses.
#[derive(Default)]
pub(super) struct Consumer {
    pub(super) streams: BTreeMap<String, Received>,
    /// Parts of sets that are not complete.
    parts: HashMap<(String, u64, u64, u64), BTreeMap<u64, u64>>,
}

/// What a consumer knows of one stream.
#[derive(Default)]
pub(super) struct Received {
    /// First and last number of each envelope, its sum and its length in ns.
    pub(super) ranges: BTreeMap<(u64, u64), (u64, u64)>,
    pub(super) lost: BTreeSet<u64>,
    pub(super) previous: Option<Json>,
}

impl Consumer {
    fn receive(&mut self, text: &Json) {
        let number = |name: &str| text[name].as_u64().unwrap();
        let id = text["id"].as_str().unwrap().to_owned();
        let (first, last, part, parts) = (
            number("first"),
            number("last"),
            number("part"),
            number("parts"),
        );
        let stream = self.streams.entry(id.clone()).or_default();
        stream.lost.extend(numbers(&text["gaps"]));
        if !text["previous"].is_null() {
            stream.previous = Some(text["previous"].clone());
        }
        for &(a, b) in stream.ranges.keys() {
            assert!(
                (a, b) == (first, last) || b < first || last < a,
                "{first}..{last} overlaps {a}..{b}"
            );
        }
        let set = self.parts.entry((id, first, last, parts)).or_default();
        set.insert(part, number("sum"));
        if set.len() as u64 == parts {
            let sum = set.values().sum();
            stream
                .ranges
                .entry((first, last))
                .or_insert((sum, number("window")));
        }
    }
}

impl Received {
    /// The numbers up to `last` that are neither here nor known to be lost.
    pub(super) fn missing(&self, last: u64, also_lost: &BTreeSet<u64>) -> Vec<u64> {
        let covered: BTreeSet<u64> = self.ranges.keys().flat_map(|&(a, b)| a..=b).collect();
        (1..=last)
            .filter(|number| {
                !covered.contains(number)
                    && !self.lost.contains(number)
                    && !also_lost.contains(number)
            })
            .collect()
    }
}

/// The numbers that gaps name.
pub(super) fn numbers(gaps: &Json) -> impl Iterator<Item = u64> {
    let range = |gap: &Json| -> RangeInclusive<u64> {
        gap["first"].as_u64().unwrap()..=gap["last"].as_u64().unwrap()
    };
    gaps.as_array()
        .unwrap()
        .iter()
        .flat_map(range)
        .collect::<Vec<_>>()
        .into_iter()
}

/// A small generator of repeatable random numbers (xorshift).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// With this probability.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
