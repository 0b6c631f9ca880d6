//! Properties of what formatters write of any envelope.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use proptest::{collection::vec, prelude::*};
use serde_json::Value as Json;

use super::REGISTRY;
use crate::{
    model::{
        Born, Buckets, Cause, Entity, EntityKey, EntityKind, Envelope, Fall, Gap, Health, Kind,
        Metadata, Metric, MetricDef, Numbered, Part, Previous, Source, Status, Stream, Unit, Value,
        Window,
    },
    plugin::testing,
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
static GAUGE: MetricDef = def("reader.gauge", Kind::Gauge, Unit::Bytes);
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
    let kind = prop_oneof![Just(EntityKind::Device), Just(EntityKind::Interface)];
    let key = prop_oneof![
        any::<u32>().prop_map(EntityKey::Id),
        text().prop_map(|name| EntityKey::Name(name.into())),
        Just(EntityKey::Other),
    ];
    proptest::option::of((kind, key).prop_map(|(kind, key)| Entity { kind, key }))
}

fn value() -> impl Strategy<Value = (&'static MetricDef, Value)> {
    let counter = any::<(Option<u64>, u64)>()
        .prop_map(|(value, total)| (&COUNTER, Value::Counter { value, total }));
    let gauge =
        any::<[f64; 3]>().prop_map(|[value, min, max]| (&GAUGE, Value::Gauge { value, min, max }));
    // The buckets of a histogram add up within 64 bits.
    let counts = proptest::collection::btree_map(0u16..496, 1..u64::MAX / 496, 0..40);
    let histogram = (any::<u64>(), counts).prop_map(|(sum, counts)| {
        let counts = counts.into_iter().collect();
        (&HISTOGRAM, Value::Histogram(Buckets { sum, counts }))
    });
    prop_oneof![counter, gauge, histogram]
}

fn metric() -> impl Strategy<Value = Metric> {
    let names = (any::<Option<u32>>(), proptest::option::of(text()));
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
    (
        status,
        text(),
        window(),
        any::<(Duration, u64)>(),
        vec(metric(), 0..12),
    )
        .prop_map(
            |(status, reason, window, (covered, lost), metrics)| Source {
                reader: "reader",
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

fn numbered() -> impl Strategy<Value = Numbered> {
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

fn format(name: &str, config: &str, numbered: &Numbered, trans_time: i64) -> String {
    let plugin = REGISTRY.iter().find(|plugin| plugin.name == name).unwrap();
    let context = testing::context(Path::new("/nowhere"));
    let formatter = plugin.build_from(config, &context).unwrap();
    let mut bytes = Vec::new();
    formatter.format(numbered, trans_time, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The series of a source in the order of the model: metric by metric in JSON, so by metric here.
fn check_series(source: &Source, json: &Json) {
    let mut series = 0;
    for metric in json["metrics"].as_array().unwrap() {
        let name = metric["name"].as_str().unwrap();
        let expected: Vec<_> = source
            .metrics
            .iter()
            .filter(|metric| metric.def.name == name)
            .collect();
        let written = metric["series"].as_array().unwrap();
        assert_eq!(written.len(), expected.len());
        series += written.len();
        for (written, expected) in written.iter().zip(expected) {
            check_value(&expected.value, written);
            let [one, two] = &*expected.labels else {
                panic!("two labels")
            };
            assert_eq!(
                written["labels"],
                serde_json::json!({"one": one, "two": two})
            );
        }
    }
    assert_eq!(series, source.metrics.len());
}

fn check_value(expected: &Value, written: &Json) {
    match expected {
        Value::Counter { value, total } => {
            assert_eq!(written["value"].as_u64(), *value);
            assert_eq!(written["total"].as_u64(), Some(*total));
        }
        Value::Gauge { value, min, max } => {
            assert_number(&written["value"], *value);
            if written.get("min").is_some() {
                assert_number(&written["min"], *min);
                assert_number(&written["max"], *max);
            } else {
                assert!(
                    [min, max]
                        .iter()
                        .all(|bound| bound.to_bits() == value.to_bits())
                );
            }
        }
        Value::Histogram(Buckets { sum, counts }) => {
            let (index, count): (Vec<u16>, Vec<u64>) = counts.iter().copied().unzip();
            assert_eq!(written["sum"].as_u64(), Some(*sum));
            assert_eq!(written["index"], Json::from(index));
            assert_eq!(written["counts"], Json::from(count));
        }
    }
}

/// The parser here rounds the last bits; what is written is exact.
fn assert_number(written: &Json, expected: f64) {
    match written.as_f64() {
        Some(written) => {
            assert!((written - expected).abs() <= expected.abs() * 1e-12 + f64::MIN_POSITIVE);
        }
        None => assert!(written.is_null() && !expected.is_finite()),
    }
}

proptest! {
    #[test]
    fn json_parses_and_holds_every_integer(numbered in numbered(), trans_time: i64) {
        let text = format("json", "", &numbered, trans_time);
        assert_eq!(text.find('\n'), Some(text.len() - 1), "one line");
        let json: Json = serde_json::from_str(&text).unwrap();
        let stream = &json["stream"];
        assert_eq!(stream["id"].as_str(), Some(&*numbered.stream.id));
        assert_eq!(stream["first"].as_u64(), Some(*numbered.range.start()));
        assert_eq!(stream["last"].as_u64(), Some(*numbered.range.end()));
        assert_eq!(stream["gaps"], serde_json::to_value(&numbered.gaps).unwrap());
        assert_eq!(json["clock_step_ns"].as_i64(), Some(numbered.envelope.window.clock_step));
        let sources = json["sources"].as_array().unwrap();
        assert_eq!(sources.len(), numbered.envelope.sources.len());
        for (source, json) in numbered.envelope.sources.iter().zip(sources) {
            assert_eq!(json["lost"].as_u64(), Some(source.lost));
            check_series(source, json);
        }
    }

    #[test]
    fn text_shows_anything_without_control_characters(numbered in numbered(), trans_time: i64) {
        for config in ["", "histograms = 'bars'", "histograms = 'off'"] {
            let text = format("text", config, &numbered, trans_time);
            assert!(text.ends_with("\n\n") || numbered.envelope.sources.is_empty());
            let control = text.chars().find(|&character| character.is_control() && character != '\n');
            assert_eq!(control, None);
        }
    }
}
