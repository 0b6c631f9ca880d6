//! Strategies for proptest: envelopes with everything in them that their types allow.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};
use serde_json::Value as Json;

use super::{
    Born, Buckets, Cause, Entity, EntityKey, EntityKind, Envelope, Fall, Gap, Health, Kind,
    Metadata, Metric, MetricDef, Numbered, Part, Previous, Source, Status, Stream, Unit, Value,
    Window,
};

const fn def(name: &'static str, kind: Kind, unit: Unit) -> MetricDef {
    let (help, labels) = ("For the test.", &["one", "two"] as &[&str]);
    MetricDef {
        name,
        kind,
        unit,
        help,
        labels,
    }
}

static COUNTER: MetricDef = def(
    "reader.counter",
    Kind::Counter {
        born: Born::Past,
        fall: Fall::Restart,
    },
    Unit::Nanoseconds,
);
static GAUGES: [MetricDef; Unit::ALL.len()] = [
    def("reader.gauge", Kind::Gauge, Unit::Bytes),
    def("reader.nanoseconds", Kind::Gauge, Unit::Nanoseconds),
    def("reader.count", Kind::Gauge, Unit::Count),
    def("reader.celsius", Kind::Gauge, Unit::Celsius),
    def("reader.ratio", Kind::Gauge, Unit::Ratio),
    def("reader.watts", Kind::Gauge, Unit::Watts),
    def("reader.microjoules", Kind::Gauge, Unit::Microjoules),
];
static HISTOGRAM: MetricDef = def("elsewhere", Kind::Histogram, Unit::Count);

/// Text with everything that could break a format.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        any::<String>(),
        Just("\"\\\n\r\u{0}\u{1b}\u{2028}".to_owned())
    ]
}

fn window() -> impl Strategy<Value = Window> {
    (any::<[i64; 3]>(), any::<[Duration; 2]>()).prop_map(
        |([start, stop, clock_step], [duration, suspended])| Window {
            start,
            stop,
            duration,
            suspended,
            clock_step,
        },
    )
}

fn entity() -> impl Strategy<Value = Option<Entity>> {
    let kind = prop_oneof![
        Just(EntityKind::Device),
        Just(EntityKind::Interface),
        Just(EntityKind::Cgroup)
    ];
    let key = prop_oneof![
        any::<u64>().prop_map(EntityKey::Id),
        text().prop_map(|name| EntityKey::Name(name.into())),
        Just(EntityKey::Other),
    ];
    proptest::option::of((kind, key).prop_map(|(kind, key)| Entity { kind, key }))
}

fn value() -> impl Strategy<Value = (&'static MetricDef, Value)> {
    let counter = any::<(Option<u64>, u64)>()
        .prop_map(|(value, total)| (&COUNTER, Value::Counter { value, total }));
    let gauge = (0..GAUGES.len(), any::<[f64; 3]>())
        .prop_map(|(unit, [value, min, max])| (&GAUGES[unit], Value::Gauge { value, min, max }));
    // The buckets of a histogram add up within 64 bits.
    let counts = proptest::collection::btree_map(0u16..496, 1..u64::MAX / 496, 0..40);
    let histogram = (any::<u64>(), counts).prop_map(|(sum, counts)| {
        let counts = counts.into_iter().collect();
        (&HISTOGRAM, Value::Histogram(Buckets { sum, counts }))
    });
    prop_oneof![counter, gauge, histogram]
}

fn metric() -> impl Strategy<Value = Metric> {
    let names = (any::<Option<u64>>(), proptest::option::of(text()));
    (value(), entity(), names, [text(), text()]).prop_map(
        |((def, value), entity, (entity_id, name), labels)| Metric {
            def,
            entity,
            entity_id,
            entity_name: name.map(Into::into),
            labels: labels.map(Into::into).into(),
            value,
        },
    )
}

fn source() -> impl Strategy<Value = Source> {
    let status = prop_oneof![
        Just(Status::Ok),
        Just(Status::Suspect),
        Just(Status::Failed)
    ];
    let labels = proptest::collection::btree_map("[a-z]{1,3}", text(), 0..3);
    (
        status,
        (text(), labels),
        window(),
        any::<(Duration, u64)>(),
        vec(metric(), 0..12),
    )
        .prop_map(
            |(status, (reason, labels), window, (covered, lost), metrics)| Source {
                reader: "reader",
                labels: labels.into(),
                health: Health::new(status, reason),
                window,
                covered,
                lost,
                unsupported: vec![&HISTOGRAM; usize::from(lost % 2 == 1)],
                metrics,
            },
        )
}

fn gaps() -> impl Strategy<Value = Vec<Gap>> {
    let gap = |(first, last)| Gap {
        first,
        last,
        cause: Cause::QueueFull,
    };
    vec(any::<(u64, u64)>().prop_map(gap), 0..3)
}

/// An envelope that an output has accepted.
pub(crate) fn numbered() -> impl Strategy<Value = Numbered> {
    let previous = || {
        (text(), any::<(u64, i64)>(), gaps()).prop_map(|(id, (last, stop_time), gaps)| Previous {
            id: id.into(),
            last,
            stop_time,
            gaps,
            previous: None,
        })
    };
    let previous =
        (previous(), proptest::option::of(previous())).prop_map(|(next, earlier)| Previous {
            previous: earlier.map(Box::new),
            ..next
        });
    let stream = (text(), proptest::option::of(previous)).prop_map(|(id, previous)| Stream {
        id: id.into(),
        previous,
    });
    let range = prop_oneof![
        Just(1..=1),
        any::<(u64, u64)>().prop_map(|(a, b)| a.min(b)..=a.max(b))
    ];
    let part = any::<(u32, u32)>().prop_map(|(part, parts)| Part { part, parts });
    let header = proptest::option::of((text(), text())).prop_map(|fact| Metadata {
        sections: fact
            .map(|(key, value)| ("host", [(key, Json::from(value))].into_iter().collect()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    });
    let envelope =
        (window(), header, vec(source(), 0..3)).prop_map(|(window, header, sources)| Envelope {
            window,
            metadata: Arc::new(header),
            sources,
        });
    (stream, range, part, gaps(), envelope).prop_map(|(stream, range, part, gaps, envelope)| {
        let (stream, envelope) = (Arc::new(stream), Arc::new(envelope));
        Numbered {
            stream,
            range,
            part,
            gaps,
            envelope,
        }
    })
}
