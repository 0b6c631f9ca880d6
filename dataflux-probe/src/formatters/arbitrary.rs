//! Properties of what formatters write of any envelope.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value as Json;

use super::REGISTRY;
use crate::{
    model::{Buckets, Numbered, Source, Value, arbitrary::numbered},
    plugin::testing,
};

/// What a formatter with this configuration writes.
pub(super) fn bytes(name: &str, config: &str, numbered: &Numbered, trans_time: i64) -> Vec<u8> {
    let plugin = REGISTRY.iter().find(|plugin| plugin.name == name).unwrap();
    let context = testing::context(Path::new("/nowhere"));
    let formatter = plugin.build_from(config, &context).unwrap();
    let mut bytes = b"left alone".to_vec();
    formatter.format(numbered, trans_time, &mut bytes).unwrap();
    bytes.split_off(b"left alone".len())
}

/// The same as text.
pub(super) fn format(name: &str, config: &str, numbered: &Numbered, trans_time: i64) -> String {
    String::from_utf8(bytes(name, config, numbered, trans_time)).unwrap()
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
