//! Nothing is lost by a bound, and who is in stays in.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    super::fakes::{EVENTS, LEVEL, PAST, SIZES},
    *,
};
use crate::model::{Buckets, MetricDef};

/// One window of an entity: a counter, one with a past, a histogram's sum and buckets; whether it goes on after it.
type Lived = (Option<u16>, Option<u16>, (u16, BTreeMap<u16, u64>), bool);

/// One window: entities by number, and what the reader itself does not tell apart.
type Lives = (BTreeMap<u8, Lived>, Option<u16>);

fn lives() -> impl Strategy<Value = Vec<Lives>> {
    let buckets = prop::collection::btree_map(0..9_u16, 1..100_u64, 0..4);
    let lived = (
        any::<Option<u16>>(),
        any::<Option<u16>>(),
        (any::<u16>(), buckets),
        prop::bool::weighted(0.8),
    );
    let window = (
        prop::collection::btree_map(0..9_u8, lived, 0..9),
        any::<Option<u16>>(),
    );
    prop::collection::vec(window, 1..12)
}

fn rules() -> impl Strategy<Value = Rules> {
    let patterns = |of: &[&'static str]| {
        let pattern = prop::sample::select(of.to_vec()).prop_map(str::to_owned);
        prop::collection::vec(pattern, 0..2)
    };
    (
        patterns(&["e*", "?[0-4]", "e1", "*2"]),
        patterns(&["*3", "e4"]),
        0..6_usize,
    )
        .prop_map(|(include, exclude, max_entities)| Rules {
            include,
            exclude,
            max_entities,
        })
}

fn named(name: &str) -> Entity {
    Entity {
        kind: EntityKind::Device,
        key: EntityKey::Name(name.into()),
    }
}

fn other() -> Entity {
    Entity {
        kind: EntityKind::Device,
        key: EntityKey::Other,
    }
}

fn metric(def: &'static MetricDef, entity: Entity, label: &str, value: Value) -> Metric {
    let name = match &entity.key {
        EntityKey::Name(name) => Some(Arc::clone(name)),
        _ => None,
    };
    Metric {
        def,
        entity: Some(entity),
        entity_id: None,
        entity_name: name,
        labels: [label.to_owned().into()].into(),
        value,
    }
}

fn counter(value: Option<u64>, total: u64) -> Value {
    Value::Counter { value, total }
}

/// The series of a window, with totals as deltas give them.
fn series(
    window: &Lives,
    totals: &mut BTreeMap<(u8, bool), u64>,
    unknown: &mut u64,
) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for (number, (events, past, (sum, buckets), _)) in &window.0 {
        let entity = named(&format!("e{number}"));
        for (def, value, is_past) in [(&EVENTS, events, false), (&PAST, past, true)] {
            let value = value.map(u64::from);
            let total = totals.entry((*number, is_past)).or_insert(1_000_000);
            *total += value.unwrap_or(0);
            let value = if is_past { value } else { value.or(Some(0)) };
            metrics.push(metric(def, entity.clone(), "a", counter(value, *total)));
        }
        let counts = buckets.iter().map(|(&bucket, &count)| (bucket, count));
        let histogram = Value::Histogram(Buckets {
            sum: (*sum).into(),
            counts: counts.collect(),
        });
        metrics.push(metric(&SIZES, entity.clone(), "b", histogram));
        let level = Value::Gauge {
            value: 1.0,
            min: 1.0,
            max: 1.0,
        };
        metrics.push(metric(&LEVEL, entity, "", level));
    }
    if let Some(value) = window.1 {
        *unknown += u64::from(value);
        let value = counter(Some(value.into()), *unknown);
        metrics.push(metric(&EVENTS, other(), "a", value));
    }
    metrics
}

/// What every metric comes to: a counter's values, a histogram's sum and buckets.
fn sums<'a>(metrics: impl IntoIterator<Item = &'a Metric>) -> BTreeMap<(&'static str, u16), u64> {
    let mut sums = BTreeMap::new();
    for metric in metrics {
        let mut add = |place, value| *sums.entry((metric.def.name, place)).or_insert(0) += value;
        match &metric.value {
            Value::Counter { value, .. } => add(0, value.unwrap_or(0)),
            Value::Gauge { .. } => {}
            Value::Histogram(Buckets { sum, counts }) => {
                add(u16::MAX, *sum);
                counts
                    .iter()
                    .for_each(|&(bucket, count)| add(bucket, count));
            }
        }
    }
    sums.retain(|_, sum| *sum > 0);
    sums
}

fn names(metrics: &[Metric]) -> BTreeSet<Arc<str>> {
    metrics
        .iter()
        .filter_map(|metric| metric.entity_name.clone())
        .collect()
}

proptest! {
    #[test]
    fn nothing_is_lost_by_a_bound_and_who_is_in_stays_in(rules in rules(), windows in lives()) {
        let mut selection = Selection::new(rules.clone());
        let (mut totals, mut unknown) = (BTreeMap::new(), 0);
        let mut running: BTreeMap<&str, u64> = BTreeMap::new();
        let mut staying = BTreeSet::new();
        for window in &windows {
            let all = series(window, &mut totals, &mut unknown);
            let passes = |metric: &&Metric| {
                let entity = metric.entity.as_ref().unwrap();
                entity.key == EntityKey::Other || rules.pass(metric, entity)
            };
            let expected = sums(all.iter().filter(passes));
            let mut metrics = all.clone();
            selection.apply(&mut metrics);
            prop_assert_eq!(sums(&metrics), expected);

            let own = names(&metrics);
            prop_assert!(own.len() <= rules.max_entities);
            let passing = names(&all.iter().filter(passes).cloned().collect::<Vec<_>>());
            prop_assert!(own.is_subset(&passing));
            // Who was in, and has not ended, is there if anything is there of it.
            let gone: Vec<_> = staying.intersection(&passing).filter(|name| !own.contains(*name)).collect();
            prop_assert!(gone.is_empty(), "{gone:?}");
            prop_assert!(own.len() == passing.len() || own.union(&staying).count() >= rules.max_entities);

            let rest = metrics.iter().filter(|metric| metric.entity_name.is_none());
            for metric in rest {
                prop_assert_eq!(metric.entity.as_ref(), Some(&other()));
                if let Value::Counter { value, total } = metric.value {
                    let before = running.insert(metric.def.name, total);
                    let before = before.unwrap_or(total - value.unwrap_or(0));
                    prop_assert_eq!(before + value.unwrap_or(0), total);
                }
            }

            let living: Vec<_> = window.0.iter().filter(|(_, lived)| lived.3).map(|(number, _)| format!("e{number}")).collect();
            let living_entities: Vec<_> = living.iter().map(|name| named(name)).collect();
            let rest = selection.settle(living_entities.iter());
            staying = own.into_iter().filter(|name| living.iter().any(|living| **living == **name)).collect();
            let waiting = passing.iter().filter(|name| {
                !staying.contains(*name) && living.iter().any(|living| **living == ***name)
            });
            prop_assert_eq!(rest, waiting.count());
        }
    }
}

fn apply(selection: &mut Selection, metrics: &[Metric]) -> Vec<Metric> {
    let mut metrics = metrics.to_vec();
    selection.apply(&mut metrics);
    metrics
}

fn events(name: &str, value: u64) -> Metric {
    metric(&EVENTS, named(name), "a", counter(Some(value), 100 + value))
}

#[test]
fn the_rest_has_one_total_that_grows_by_its_values() {
    let mut selection = Selection::new(Rules {
        max_entities: 1,
        ..Rules::default()
    });
    let read = [events("a", 1), events("b", 2), events("c", 4)];
    let sum = |value, total| metric(&EVENTS, other(), "a", counter(value, total));
    assert_eq!(
        apply(&mut selection, &read),
        [events("a", 1), sum(Some(6), 6)]
    );
    // `a` is idle and keeps its place; then it ends, and `b` gets it.
    assert_eq!(selection.settle([named("a"), named("b")].iter()), 1);
    assert_eq!(apply(&mut selection, &[events("b", 3)]), [sum(Some(3), 9)]);
    assert_eq!(selection.settle([named("b")].iter()), 1);
    let baseline = metric(&EVENTS, named("c"), "a", counter(None, 70));
    assert_eq!(
        apply(&mut selection, &[events("b", 5), baseline]),
        [events("b", 5), sum(None, 9)]
    );
}

#[test]
fn what_the_reader_does_not_tell_apart_is_counted_on() {
    let mut selection = Selection::new(Rules {
        max_entities: 1,
        ..Rules::default()
    });
    let unknown = |value, total| metric(&EVENTS, other(), "a", counter(Some(value), total));
    let alone = [events("a", 1), unknown(5, 5_000)];
    assert_eq!(apply(&mut selection, &alone), alone);
    selection.settle([named("a")].iter());
    let read = [events("a", 1), events("b", 2), unknown(5, 5_005)];
    assert_eq!(
        apply(&mut selection, &read),
        [events("a", 1), unknown(7, 5_007)]
    );
    selection.settle([named("a")].iter());
    assert_eq!(
        apply(&mut selection, &[unknown(1, 5_006)]),
        [unknown(1, 5_008)]
    );
}

#[test]
fn a_name_decides_and_a_new_name_anew() {
    let mut selection = Selection::new(Rules {
        include: vec!["eth*".to_owned(), "7:0".to_owned()],
        exclude: vec!["*9".to_owned()],
        max_entities: 9,
    });
    let of = |key: u8, name: Option<&str>| Metric {
        entity: Some(Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id(key.into()),
        }),
        entity_name: name.map(Into::into),
        ..events("", 1)
    };
    let kept = |selection: &mut Selection, metric: Metric| apply(selection, &[metric]).len();
    for (metric, expected) in [
        (of(1, Some("eth0")), 1),
        (of(2, Some("eth9")), 0),
        (of(3, Some("lo")), 0),
        // It was asked for when it still had a name.
        (of(1, None), 1),
        (of(2, None), 0),
        (of(2, Some("eth1")), 1),
        (of(1, Some("lan9")), 0),
    ] {
        assert_eq!(kept(&mut selection, metric.clone()), expected, "{metric:?}");
    }
    let unnamed = Metric {
        entity_id: Some(7 << 20),
        entity_name: None,
        entity: Some(Entity {
            kind: EntityKind::Device,
            key: EntityKey::Id(7 << 20),
        }),
        ..events("", 1)
    };
    assert_eq!(kept(&mut selection, unnamed), 1);
}
