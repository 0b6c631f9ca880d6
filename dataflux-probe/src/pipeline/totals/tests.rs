//! Totals against the plain sum of the windows.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    model::{Buckets, Health, LabelValue, MetricDef, Value},
    pipeline::fakes::{EVENTS, LEVEL, SIZES},
};

fn metric(def: &'static MetricDef, label: u8, value: Value) -> Metric {
    Metric {
        def,
        entity: None,
        entity_id: None,
        entity_name: None,
        labels: [LabelValue::from(label.to_string())].into(),
        value,
    }
}

fn source(reader: &'static str, status: Status, metrics: Vec<Metric>) -> Source {
    let covered = Duration::from_secs(u64::from(status == Status::Ok));
    Source {
        reader,
        labels: Arc::default(),
        health: Health::new(status, ""),
        window: Window {
            duration: Duration::from_secs(1),
            ..Window::default()
        },
        covered,
        lost: 2,
        unsupported: Vec::new(),
        metrics,
    }
}

fn envelope(sources: Vec<Source>) -> Envelope {
    Envelope {
        window: Window {
            duration: Duration::from_secs(1),
            ..Window::default()
        },
        metadata: Arc::default(),
        sources,
    }
}

/// What one series did in one window.
#[derive(Debug, Clone)]
struct Growth {
    label: u8,
    events: u64,
    level: f64,
    sizes: BTreeMap<u16, u64>,
}

/// What one window of one reader had: a failed read, or series.
fn read() -> impl Strategy<Value = Option<BTreeMap<u8, Growth>>> {
    let sizes = proptest::collection::btree_map(0..496_u16, 1..1_000_u64, 0..8);
    let growth =
        (0..6_u8, 0..1_000_u64, -1e9..1e9, sizes).prop_map(|(label, events, level, sizes)| {
            Growth {
                label,
                events,
                level,
                sizes,
            }
        });
    let series = vec(growth, 0..8).prop_map(|all| {
        let by_label = all.into_iter().map(|growth| (growth.label, growth));
        by_label.collect()
    });
    proptest::option::weighted(0.8, series)
}

/// The sum of what a series did since it was there last without a break.
#[derive(Debug, Default, Clone, PartialEq)]
struct Sum {
    events: u64,
    level: f64,
    sizes: BTreeMap<u16, u64>,
}

impl Sum {
    fn add(&mut self, growth: &Growth) {
        self.events += growth.events;
        self.level = growth.level;
        for (&size, &count) in &growth.sizes {
            *self.sizes.entry(size).or_default() += count;
        }
    }
}

/// A window's series, with the running totals that its reader gives.
fn series(read: &BTreeMap<u8, Growth>, sums: &BTreeMap<u8, Sum>) -> Vec<Metric> {
    let of_one = |(label, growth): (&u8, &Growth)| {
        let counter = Value::Counter {
            value: Some(growth.events),
            total: sums[label].events,
        };
        let gauge = Value::Gauge {
            value: growth.level,
            min: growth.level,
            max: growth.level,
        };
        let histogram = Value::Histogram(Buckets {
            sum: growth.sizes.values().sum(),
            counts: growth.sizes.clone().into_iter().collect(),
        });
        [
            metric(&EVENTS, *label, counter),
            metric(&LEVEL, *label, gauge),
            metric(&SIZES, *label, histogram),
        ]
    };
    read.iter().flat_map(of_one).collect()
}

/// What the totals say of a reader, as sums.
fn told(totals: &Totals, reader: &str) -> BTreeMap<u8, Sum> {
    let mut sums: BTreeMap<u8, Sum> = BTreeMap::new();
    let told = totals.told();
    let own = told.sources.iter().filter(|source| source.reader == reader);
    for metric in own.flat_map(|source| &source.metrics) {
        let sum = sums.entry(metric.labels[0].parse().unwrap()).or_default();
        match &metric.value {
            Value::Counter { value, total } => {
                assert_eq!(*value, Some(*total), "both count from the same start");
                sum.events = *total;
            }
            Value::Gauge { value, .. } => sum.level = *value,
            Value::Histogram(buckets) => {
                sum.sizes = buckets.counts.iter().copied().collect();
                assert_eq!(buckets.sum, buckets.count());
            }
        }
    }
    sums
}

proptest! {
    #[test]
    fn totals_are_the_sum_of_the_windows(windows in vec((read(), proptest::option::weighted(0.3, read())), 1..24)) {
        let mut totals = Totals::new(u64::MAX);
        let mut sums = [BTreeMap::<u8, Sum>::new(), BTreeMap::new()];
        let (mut silent, mut absent) = ([0, 0], [0, 0]);
        let count = windows.len() as u64;
        for (one, other) in windows {
            let mut sources = Vec::new();
            for (place, reader, read) in [(0, "one", Some(one)), (1, "other", other)] {
                absent[place] = if read.is_none() { absent[place] + 1 } else { 0 };
                match read {
                    // Not due.
                    None => {}
                    Some(None) => {
                        silent[place] += 1;
                        sources.push(source(reader, Status::Degraded, Vec::new()));
                    }
                    Some(Some(read)) => {
                        silent[place] = 0;
                        sums[place].retain(|label, _| read.contains_key(label));
                        for (label, growth) in &read {
                            sums[place].entry(*label).or_default().add(growth);
                        }
                        let metrics = series(&read, &sums[place]);
                        sources.push(source(reader, Status::Ok, metrics));
                    }
                }
            }
            totals.add(&envelope(sources));
            for (place, reader) in ["one", "other"].into_iter().enumerate() {
                if absent[place] > 10 {
                    sums[place].clear();
                }
                let expected = if silent[place] < PATIENCE { sums[place].clone() } else { BTreeMap::new() };
                prop_assert_eq!(told(&totals, reader), expected);
            }
        }
        prop_assert_eq!(totals.windows(), count);
        prop_assert_eq!(totals.told().window.duration, Duration::from_secs(count));
        prop_assert_eq!(totals.left_out(), 0);
    }
}

fn counters(labels: impl IntoIterator<Item = u8>) -> Vec<Metric> {
    let counter = |label| {
        let value = Value::Counter {
            value: Some(1),
            total: 1,
        };
        metric(&EVENTS, label, value)
    };
    labels.into_iter().map(counter).collect()
}

#[test]
fn a_failed_reader_has_no_series_until_it_is_read_again_and_goes_on_from_there() {
    let mut totals = Totals::new(u64::MAX);
    let sizes = |count| {
        let counts = vec![(7, count)];
        let value = Value::Histogram(Buckets { sum: count, counts });
        vec![metric(&SIZES, 0, value)]
    };
    totals.add(&envelope(vec![source("one", Status::Ok, sizes(3))]));
    totals.add(&envelope(vec![source("one", Status::Failed, Vec::new())]));
    let told = totals.told();
    assert_eq!(told.sources[0].metrics, []);
    assert_eq!(told.sources[0].health.status, Status::Failed);
    totals.add(&envelope(vec![source("one", Status::Ok, sizes(4))]));
    let told = totals.told();
    assert_eq!(told.sources[0].metrics, sizes(7));
    assert_eq!(told.sources[0].health.status, Status::Ok, "as it is now");
    assert_eq!(told.sources[0].lost, 6);
    assert_eq!(told.sources[0].covered, Duration::from_secs(2));
}

#[test]
fn a_reader_that_is_not_read_any_more_goes_and_a_slow_one_stays() {
    let mut totals = Totals::new(u64::MAX);
    let mut slow = source("slow", Status::Ok, counters([0]));
    slow.window.duration = Duration::from_secs(30);
    let other = source("other", Status::Ok, counters([0]));
    totals.add(&envelope(vec![slow, other]));
    let readers = |totals: &Totals| {
        let told = totals.told();
        let readers = told.sources.iter().map(|source| source.reader);
        readers.collect::<Vec<_>>()
    };
    let one = || envelope(vec![source("one", Status::Ok, counters([0]))]);
    for _ in 0..10 {
        totals.add(&one());
        assert_eq!(readers(&totals), ["slow", "other", "one"]);
    }
    for _ in 0..80 {
        totals.add(&one());
        assert_eq!(readers(&totals), ["slow", "one"]);
    }
    totals.add(&one());
    assert_eq!(readers(&totals), ["one"]);
    assert_eq!(totals.told().sources[0].metrics.len(), 1);
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let mut totals = Totals::new(u64::MAX);
    totals.add(&envelope(vec![source("one", Status::Ok, counters(0..4))]));
    let weight = totals.weight();
    for round in 0..1_000_u32 {
        let first = (round % 60) as u8 * 4;
        let read = counters(first..first + 4);
        totals.add(&envelope(vec![source("one", Status::Ok, read)]));
        assert_eq!(totals.told().sources[0].metrics.len(), 4);
    }
    assert!(
        totals.weight() <= weight + 64,
        "{} {weight}",
        totals.weight()
    );
}

#[test]
fn what_finds_no_room_is_counted_and_those_before_it_stay() {
    let one = metric_weight(&counters([0])[0]) as u64;
    let mut totals = Totals::new(10 * one + one / 2);
    totals.add(&envelope(vec![source("one", Status::Ok, counters(0..6))]));
    assert_eq!(totals.left_out(), 0);
    totals.add(&envelope(vec![
        source("one", Status::Ok, counters(0..6)),
        source("other", Status::Ok, counters(0..9)),
    ]));
    assert_eq!(totals.left_out(), 5);
    assert_eq!(totals.weight(), 10 * one);
    let told = totals.told();
    assert_eq!(told.sources[0].metrics.len(), 6);
    assert_eq!(told.sources[1].metrics, counters(0..4));
    // Room that others leave is for them.
    totals.add(&envelope(vec![source("one", Status::Ok, counters(0..1))]));
    totals.add(&envelope(vec![source("other", Status::Ok, counters(0..9))]));
    assert_eq!(totals.left_out(), 0);
    assert_eq!(totals.told().sources[1].metrics.len(), 9);
}
