//! Merging is associative and keeps every sum.

use std::time::Duration;

use proptest::prelude::*;

use super::{
    super::fakes::{EVENTS, LEVEL, PAST, SIZES},
    *,
};
use crate::model::{Cause, Entity, EntityKey, EntityKind, Gap, Health, MetricDef, Status, Stream};

/// Few names, so that series meet.
fn label() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn value() -> impl Strategy<Value = (&'static MetricDef, Value)> {
    prop_oneof![
        (any::<Option<u32>>(), any::<u32>()).prop_map(|(value, total)| {
            let value = value.map(u64::from);
            (
                &EVENTS,
                Value::Counter {
                    value,
                    total: total.into(),
                },
            )
        }),
        (any::<Option<u32>>(), any::<u32>()).prop_map(|(value, total)| {
            let value = value.map(u64::from);
            (
                &PAST,
                Value::Counter {
                    value,
                    total: total.into(),
                },
            )
        }),
        (-1e6..1e6).prop_map(|value: f64| (
            &LEVEL,
            Value::Gauge {
                value,
                min: value,
                max: value
            }
        )),
        (
            any::<u32>(),
            prop::collection::btree_map(0..496_u16, 1..1000_u64, 0..8)
        )
            .prop_map(|(sum, counts)| {
                let counts = counts.into_iter().collect();
                (
                    &SIZES,
                    Value::Histogram(Buckets {
                        sum: sum.into(),
                        counts,
                    }),
                )
            }),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    let entity = prop::option::of(0..2_u64);
    let name = prop::option::of(prop::sample::select(vec!["x", "y"]));
    (value(), entity, name, label()).prop_map(|((def, value), entity, name, label)| Metric {
        def,
        entity: entity.map(|id| Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id(id),
        }),
        entity_id: entity,
        entity_name: name.map(Into::into),
        labels: [label.into()].into(),
        value,
    })
}

fn metrics() -> impl Strategy<Value = Vec<Metric>> {
    prop::collection::vec(metric(), 0..8).prop_map(|mut metrics| {
        let mut seen = Vec::new();
        metrics.retain(|metric| {
            let key = (
                metric.def.name,
                metric.entity.clone(),
                metric.labels.clone(),
            );
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
        metrics
    })
}

fn health() -> impl Strategy<Value = Health> {
    let status = [
        Status::Ok,
        Status::Degraded,
        Status::Suspect,
        Status::Failed,
    ];
    (prop::sample::select(status.to_vec()), label())
        .prop_map(|(status, reason)| Health::new(status, reason))
}

fn source(reader: &'static str) -> impl Strategy<Value = Source> {
    let window = (
        any::<i32>(),
        any::<i32>(),
        1..1000_u32,
        0..100_u32,
        -100..100_i64,
    );
    let rest = (any::<bool>(), any::<u16>(), prop::bool::ANY);
    (health(), window, rest, metrics()).prop_map(
        move |(
            health,
            (start, stop, duration, suspended, clock_step),
            (covered, lost, lacks),
            metrics,
        )| {
            let window = Window {
                start: start.into(),
                stop: stop.into(),
                duration: Duration::from_millis(duration.into()),
                suspended: Duration::from_millis(suspended.into()),
                clock_step,
            };
            Source {
                reader,
                labels: Arc::new([("team".to_owned(), health.reason.to_string())].into()),
                health,
                window,
                covered: if covered {
                    window.duration
                } else {
                    Duration::ZERO
                },
                lost: lost.into(),
                unsupported: if lacks {
                    vec![&LEVEL]
                } else {
                    vec![&SIZES, &PAST]
                },
                metrics,
            }
        },
    )
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let sources = ["one", "two", "three"].map(|reader| prop::option::of(source(reader)));
    (
        sources,
        any::<i32>(),
        0..1000_u64,
        0..100_u64,
        -100..100_i64,
    )
        .prop_map(
            |(sources, start, duration, suspended, clock_step)| Envelope {
                window: Window {
                    start: start.into(),
                    stop: i64::from(start) + 7,
                    duration: Duration::from_millis(duration),
                    suspended: Duration::from_millis(suspended),
                    clock_step,
                },
                metadata: Arc::default(),
                sources: sources.into_iter().flatten().collect(),
            },
        )
}

fn records_of(envelopes: [Envelope; 3]) -> [Numbered; 3] {
    let stream = Arc::new(Stream {
        id: "out-1".into(),
        previous: None,
    });
    let mut number = 4;
    envelopes.map(|envelope| {
        number += 1;
        Numbered {
            stream: Arc::clone(&stream),
            range: number..=number,
            part: Part::WHOLE,
            gaps: if number == 5 {
                vec![Gap {
                    first: 2,
                    last: 4,
                    cause: Cause::Rejected,
                }]
            } else {
                Vec::new()
            },
            envelope: Arc::new(envelope),
        }
    })
}

/// Everything that must not change by merging.
#[derive(Debug, PartialEq, Default)]
struct Sums {
    duration: Duration,
    suspended: Duration,
    clock_step: i64,
    covered: Duration,
    lost: u64,
    counters: u64,
    histogram_sums: u64,
    histogram_counts: u64,
}

impl Sums {
    fn add(&mut self, envelope: &Envelope) {
        self.duration += envelope.window.duration;
        self.suspended += envelope.window.suspended;
        self.clock_step += envelope.window.clock_step;
        for source in &envelope.sources {
            self.covered += source.covered;
            self.lost += source.lost;
            for metric in &source.metrics {
                match &metric.value {
                    Value::Counter { value, .. } => self.counters += value.unwrap_or(0),
                    Value::Gauge { .. } => {}
                    Value::Histogram(buckets) => {
                        self.histogram_sums += buckets.sum;
                        self.histogram_counts += buckets.count();
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn merging_is_associative_and_keeps_sums(envelopes in [envelope(), envelope(), envelope()]) {
        let mut before = Sums::default();
        envelopes.iter().for_each(|envelope| before.add(envelope));
        let [a, b, c] = records_of(envelopes);
        let left = records(records(a.clone(), b.clone()), c.clone());
        let right = records(a, records(b, c));
        prop_assert_eq!(&left.range, &(5..=7));
        prop_assert_eq!(&left.range, &right.range);
        prop_assert_eq!(&left.gaps, &right.gaps);
        prop_assert_eq!(left.gaps.len(), 1);
        prop_assert_eq!(&left.envelope, &right.envelope);
        let mut after = Sums::default();
        after.add(&left.envelope);
        prop_assert_eq!(before, after);
    }
}

fn second(n: i64) -> i64 {
    n * 1_000_000_000
}

/// A source of a window between two seconds, `ok` or failed.
fn plain(start: i64, stop: i64, ok: bool) -> Source {
    let duration = Duration::from_nanos(second(stop - start) as u64);
    Source {
        reader: "one",
        labels: Arc::default(),
        health: if ok {
            Health::default()
        } else {
            Health::new(Status::Failed, "away")
        },
        window: Window {
            start: second(start),
            stop: second(stop),
            duration,
            ..Window::default()
        },
        covered: if ok { duration } else { Duration::ZERO },
        lost: 0,
        unsupported: Vec::new(),
        metrics: Vec::new(),
    }
}

fn merged(sources: &[Source]) -> Source {
    let mut sources = sources.iter().cloned();
    let mut first = sources.next().unwrap();
    sources.for_each(|later| absorb_source(&mut first, later));
    first
}

#[test]
fn the_time_of_a_failed_read_is_not_counted_twice() {
    // Read at 1, failed at 2 and 3, read at 4: the last window starts where the last success was.
    let all = [
        plain(0, 1, true),
        plain(1, 2, false),
        plain(1, 3, false),
        plain(1, 4, true),
    ];
    let whole = merged(&all);
    let expected = plain(0, 4, true);
    assert_eq!(
        (whole.window, whole.covered),
        (expected.window, expected.covered)
    );
    assert_eq!(whole.health, Health::new(Status::Failed, "away"));
    // As long as it has not healed, the uncovered time is at the end.
    let open = merged(&all[..3]);
    assert_eq!(open.window, plain(0, 3, true).window);
    assert_eq!(open.covered, Duration::from_secs(1));
}

#[test]
fn gauges_keep_the_later_value_and_the_extremes() {
    let with = |value, min, max| {
        let metric = Metric {
            def: &LEVEL,
            entity: None,
            entity_id: None,
            entity_name: None,
            labels: ["a".into()].into(),
            value: Value::Gauge { value, min, max },
        };
        Source {
            metrics: vec![metric],
            ..plain(0, 1, true)
        }
    };
    let whole = merged(&[
        with(5.0, 5.0, 5.0),
        with(9.0, 9.0, 9.0),
        with(7.0, 7.0, 7.0),
    ]);
    assert_eq!(
        whole.metrics[0].value,
        Value::Gauge {
            value: 7.0,
            min: 5.0,
            max: 9.0
        }
    );
}

#[test]
fn a_baseline_leaves_what_is_known() {
    let with = |value, total| {
        let metric = Metric {
            def: &PAST,
            entity: None,
            entity_id: None,
            entity_name: None,
            labels: ["a".into()].into(),
            value: Value::Counter { value, total },
        };
        Source {
            metrics: vec![metric],
            ..plain(0, 1, true)
        }
    };
    let value = |sources: &[Source]| merged(sources).metrics[0].value.clone();
    assert_eq!(
        value(&[with(None, 100), with(Some(5), 105)]),
        Value::Counter {
            value: Some(5),
            total: 105
        }
    );
    assert_eq!(
        value(&[with(Some(5), 105), with(None, 3)]),
        Value::Counter {
            value: Some(5),
            total: 3
        }
    );
    assert_eq!(
        value(&[with(None, 105), with(None, 3)]),
        Value::Counter {
            value: None,
            total: 3
        }
    );
}
