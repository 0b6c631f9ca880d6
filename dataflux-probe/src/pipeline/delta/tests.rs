//! Every rule of subtraction, and that windows add up.

use proptest::prelude::*;

use super::{
    super::fakes::{EVENTS, JITTER, LEVEL, PAST, SIZES},
    *,
};
use crate::model::{Entity, EntityKey, EntityKind};

fn at(second: u64) -> Moment {
    Moment {
        wall: second as i64 * 1_000_000_000,
        monotonic: Duration::from_secs(second),
        boot: Duration::from_secs(second),
    }
}

fn snapshot(series: &[(&'static MetricDef, &'static str, Total)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (def, label, total) in series {
        match total.clone() {
            Total::Counter(value) => snapshot.counter(def, None, [*label], value),
            Total::Gauge(value) => snapshot.gauge(def, None, [*label], value),
            Total::Histogram(value) => snapshot.histogram(def, None, [*label], value),
        }
    }
    snapshot
}

fn count(def: &'static MetricDef, value: u64) -> (&'static MetricDef, &'static str, Total) {
    (def, "a", Total::Counter(value))
}

fn sizes(sum: u64, counts: &[(u16, u64)]) -> (&'static MetricDef, &'static str, Total) {
    let counts = counts.to_vec();
    (&SIZES, "a", Total::Histogram(Buckets { sum, counts }))
}

/// A reader whose first snapshot had these series, at second 0.
fn begun(series: &[(&'static MetricDef, &'static str, Total)]) -> Delta {
    let mut delta = Delta::new("fake", true);
    delta.start(at(0));
    delta.baseline(at(0), Ok(snapshot(series)));
    delta
}

/// What a next snapshot with these series gives.
fn values(delta: &mut Delta, series: &[(&'static MetricDef, &'static str, Total)]) -> Vec<Value> {
    let source = delta.source(at(1), Ok(snapshot(series)));
    source
        .metrics
        .into_iter()
        .map(|metric| metric.value)
        .collect()
}

fn counted(value: impl Into<Option<u64>>, total: u64) -> Value {
    Value::Counter {
        value: value.into(),
        total,
    }
}

#[test]
fn a_counter_is_its_growth_and_its_total() {
    let mut delta = begun(&[count(&PAST, 100)]);
    assert_eq!(values(&mut delta, &[count(&PAST, 130)]), [counted(30, 130)]);
    assert_eq!(values(&mut delta, &[count(&PAST, 130)]), [counted(0, 130)]);
}

#[test]
fn a_new_series_counts_from_zero_or_begins_with_a_baseline() {
    let mut delta = begun(&[]);
    assert_eq!(
        values(
            &mut delta,
            &[count(&EVENTS, 7), count(&PAST, 7), sizes(9, &[(3, 3)])]
        ),
        [
            counted(7, 7),
            counted(None, 7),
            Value::Histogram(Buckets {
                sum: 9,
                counts: vec![(3, 3)]
            })
        ]
    );
}

#[test]
fn a_fall_is_a_new_series_or_jitter() {
    let mut delta = begun(&[count(&EVENTS, 100), count(&PAST, 100), count(&JITTER, 100)]);
    let fallen = [count(&EVENTS, 40), count(&PAST, 40), count(&JITTER, 40)];
    assert_eq!(
        values(&mut delta, &fallen),
        [counted(40, 40), counted(None, 40), counted(0, 100)]
    );
    let risen = [count(&EVENTS, 50), count(&PAST, 50), count(&JITTER, 103)];
    assert_eq!(
        values(&mut delta, &risen),
        [counted(10, 50), counted(10, 50), counted(3, 103)]
    );
}

#[test]
fn what_was_cleared_counts_from_zero_even_if_it_is_higher_by_then() {
    let counted = |events: u64| {
        let entity = |index| {
            Some(Entity {
                kind: EntityKind::Interface,
                key: EntityKey::Id(index),
            })
        };
        let mut snapshot = Snapshot::default();
        let histogram = || Buckets {
            sum: events,
            counts: vec![(1, events)],
        };
        for index in [7, 8] {
            snapshot.counter(&EVENTS, entity(index), ["a"], events);
            snapshot.histogram(&SIZES, entity(index), ["a"], histogram());
        }
        snapshot.ended.extend(entity(7));
        snapshot
    };
    let values = |source: Source| -> Vec<u64> {
        let value = |metric: Metric| match metric.value {
            Value::Counter { value, .. } => value.expect("no baseline"),
            Value::Histogram(buckets) => buckets.count(),
            other @ Value::Gauge { .. } => panic!("{other:?}"),
        };
        source.metrics.into_iter().map(value).collect()
    };
    let mut delta = Delta::new("fake", true);
    delta.start(at(0));
    delta.baseline(at(0), Ok(counted(100)));
    assert_eq!(
        values(delta.source(at(1), Ok(counted(150)))),
        [150, 150, 50, 50]
    );
    assert_eq!(
        values(delta.source(at(2), Ok(counted(170)))),
        [170, 170, 20, 20]
    );
}

#[test]
fn what_the_last_snapshot_left_out_is_compared_with_what_the_reader_knows_of_it() {
    let mut delta = Delta::new("fake", true);
    delta.start(at(0));
    let mut next = |now: &[(&'static str, u64)], earlier: &[(&'static str, u64)]| {
        let past = |&(label, total): &_| -> (&'static MetricDef, _, _) {
            (&PAST, label, Total::Counter(total))
        };
        let of = |totals: Vec<_>| snapshot(&totals);
        let mut read = of(now.iter().map(past).collect());
        read.earlier = of(earlier.iter().map(past).collect()).series;
        if delta.before.is_none() {
            delta.baseline(at(0), Ok(read));
            return Vec::new();
        }
        let metrics = delta.source(at(1), Ok(read)).metrics;
        metrics.into_iter().map(|metric| metric.value).collect()
    };
    assert_eq!(next(&[("a", 10)], &[]), []);
    assert_eq!(
        next(&[("a", 12), ("b", 50), ("c", 9)], &[("b", 44)]),
        [counted(2, 12), counted(6, 50), counted(None, 9)]
    );
    // Another one with the labels of the first, which has counted more than that by now.
    assert_eq!(
        next(&[("a", 99), ("b", 51)], &[("a", 0)]),
        [counted(99, 99), counted(1, 51)]
    );
}

#[test]
fn a_histogram_is_the_growth_of_its_buckets() {
    let mut delta = begun(&[sizes(50, &[(1, 5), (7, 2)])]);
    assert_eq!(
        values(&mut delta, &[sizes(75, &[(1, 5), (3, 1), (7, 4)])]),
        [Value::Histogram(Buckets {
            sum: 25,
            counts: vec![(3, 1), (7, 2)]
        })]
    );
    assert!(values(&mut delta, &[sizes(75, &[(1, 5), (3, 1), (7, 4)])])[0].is_zero());
}

#[test]
fn a_histogram_with_a_fallen_or_missing_bucket_began_anew() {
    for fallen in [
        sizes(9, &[(1, 4), (7, 9)]),
        sizes(9, &[(7, 9)]),
        sizes(9, &[(1, 9)]),
    ] {
        let mut delta = begun(&[sizes(50, &[(1, 5), (7, 2)])]);
        let Total::Histogram(expected) = fallen.2.clone() else {
            unreachable!("it is a histogram");
        };
        assert_eq!(values(&mut delta, &[fallen]), [Value::Histogram(expected)]);
    }
}

#[test]
fn a_torn_sum_is_made_good_by_the_next_window() {
    let mut delta = begun(&[sizes(50, &[(1, 5)])]);
    let torn = [sizes(45, &[(1, 6)])];
    assert_eq!(
        values(&mut delta, &torn),
        [Value::Histogram(Buckets {
            sum: 0,
            counts: vec![(1, 1)]
        })]
    );
    assert_eq!(
        values(&mut delta, &[sizes(60, &[(1, 6)])]),
        [Value::Histogram(Buckets {
            sum: 10,
            counts: vec![]
        })]
    );
}

#[test]
fn series_are_told_apart_by_metric_entity_and_labels_in_any_order() {
    let device = |id| Entity {
        kind: EntityKind::Device,
        key: EntityKey::Id(id),
    };
    let read = |order: &[(u64, &'static str, u64)]| {
        let mut snapshot = Snapshot::default();
        for &(id, label, value) in order {
            snapshot.counter(&PAST, Some(device(id)), [label], value);
        }
        snapshot
    };
    let mut delta = Delta::new("fake", true);
    delta.start(at(0));
    delta.baseline(at(0), Ok(read(&[(1, "a", 10), (1, "b", 20), (2, "a", 30)])));
    let source = delta.source(
        at(1),
        Ok(read(&[
            (2, "a", 33),
            (3, "a", 1),
            (1, "a", 11),
            (1, "b", 22),
        ])),
    );
    let values: Vec<_> = source
        .metrics
        .into_iter()
        .map(|metric| metric.value)
        .collect();
    assert_eq!(
        values,
        [
            counted(3, 33),
            counted(None, 1),
            counted(1, 11),
            counted(2, 22)
        ]
    );
}

#[test]
fn a_series_that_comes_back_is_a_new_one() {
    let mut delta = begun(&[count(&PAST, 100)]);
    assert_eq!(values(&mut delta, &[]), []);
    assert_eq!(
        values(&mut delta, &[count(&PAST, 110)]),
        [counted(None, 110)]
    );
}

#[test]
fn a_failed_read_has_no_values_and_the_next_success_covers_its_time() {
    let mut delta = begun(&[count(&EVENTS, 5)]);
    let failed = delta.source(at(2), Err(anyhow::anyhow!("gone").context("reading")));
    assert_eq!(failed.health, Health::new(Status::Failed, "reading: gone"));
    assert_eq!((failed.covered, failed.metrics.len()), (Duration::ZERO, 0));
    assert_eq!(failed.window, at(0).window_to(&at(2)));
    let healed = delta.source(at(3), Ok(snapshot(&[count(&EVENTS, 9)])));
    assert_eq!(healed.health, Health::default());
    assert_eq!(healed.covered, Duration::from_secs(3));
    assert_eq!(healed.window, at(0).window_to(&at(3)));
    assert_eq!(healed.metrics[0].value, counted(4, 9));
}

#[test]
fn a_baseline_that_failed_is_made_good_by_the_first_success() {
    let mut delta = Delta::new("fake", false);
    delta.start(at(0));
    delta.baseline(at(0), Err(anyhow::anyhow!("not yet")));
    let all = [
        count(&EVENTS, 5),
        count(&PAST, 6),
        (&LEVEL, "a", Total::Gauge(1.5)),
        sizes(1, &[(1, 1)]),
    ];
    let first = delta.source(at(1), Ok(snapshot(&all)));
    assert_eq!(first.health.status, Status::Degraded);
    assert_eq!(first.covered, Duration::ZERO);
    let values: Vec<_> = first.metrics.iter().map(|metric| &metric.value).collect();
    assert_eq!(values, [&counted(None, 5), &counted(None, 6), &gauge(1.5)]);
    let second = delta.source(at(2), Ok(snapshot(&[count(&EVENTS, 8)])));
    assert_eq!(second.window, at(1).window_to(&at(2)));
    assert_eq!(second.metrics[0].value, counted(3, 8));
}

#[test]
fn lost_events_are_counted_by_window() {
    let mut delta = begun(&[]);
    let mut lost = |total| {
        let snapshot = Snapshot {
            lost: total,
            ..Snapshot::default()
        };
        delta.source(at(1), Ok(snapshot)).lost
    };
    assert_eq!([lost(5), lost(5), lost(8), lost(2)], [5, 0, 3, 2]);
}

#[test]
fn series_without_change_are_left_out_unless_somebody_wants_them() {
    let mut delta = Delta::new("fake", false);
    delta.start(at(0));
    let series = [
        count(&PAST, 100),
        sizes(1, &[(1, 1)]),
        (&LEVEL, "a", Total::Gauge(0.0)),
    ];
    delta.baseline(at(0), Ok(snapshot(&series)));
    assert_eq!(values(&mut delta, &series), [gauge(0.0)]);
    assert_eq!(values(&mut delta, &[count(&PAST, 101)]), [counted(1, 101)]);
}

proptest! {
    /// Whatever is read, and whichever reads fail: the values of a counter that only grows or jitters add up to the difference
    /// of its totals, and the covered times to the time between the first and the last success.
    #[test]
    fn windows_add_up(steps in prop::collection::vec((-20_i64..200, prop::bool::weighted(0.8)), 1..40)) {
        let mut delta = begun(&[count(&JITTER, 1_000)]);
        let (mut now, mut highest, mut sum, mut total) = (1_000_u64, 1_000, 0, 1_000);
        let (mut covered, mut last) = (Duration::ZERO, 0);
        for (second, (step, succeeds)) in (1..).zip(steps) {
            now = now.saturating_add_signed(step);
            let read = if succeeds {
                (highest, last) = (now.max(highest), second);
                Ok(snapshot(&[count(&JITTER, now)]))
            } else {
                Err(anyhow::anyhow!("fails"))
            };
            let source = delta.source(at(second), read);
            covered += source.covered;
            for metric in source.metrics {
                if let Value::Counter { value: Some(value), total: new } = metric.value {
                    sum += value;
                    total = new;
                }
            }
        }
        prop_assert_eq!(sum, highest - 1_000);
        prop_assert_eq!(total, highest);
        prop_assert_eq!(covered, Duration::from_secs(last));
    }
}
