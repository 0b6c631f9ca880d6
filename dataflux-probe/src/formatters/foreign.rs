//! What parsers that are not ours read of any envelope, and of its parts.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use influxdb_line_protocol::{FieldValue, ParsedLine, parse_lines};
use proptest::prelude::*;
use serde_json::Value as Json;

use super::{
    arbitrary::{bytes, format},
    json::{Shape, schema},
    naming::{influx_tag, visible},
    rfc3339,
};
use crate::{
    histogram::{QUANTILES, highest_at},
    model::{Buckets, Metric, Numbered, Source, Value, arbitrary::numbered},
};

/// The strict schema of a shape.
fn validator(shape: Shape) -> &'static jsonschema::Validator {
    static ENVELOPE: OnceLock<jsonschema::Validator> = OnceLock::new();
    static ROWS: OnceLock<jsonschema::Validator> = OnceLock::new();
    let place = match shape {
        Shape::Envelope => &ENVELOPE,
        Shape::Rows => &ROWS,
    };
    place.get_or_init(|| {
        jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema::of(shape, true))
            .unwrap()
    })
}

pub(super) fn assert_valid(shape: Shape, json: &Json) {
    let errors: Vec<_> = validator(shape)
        .iter_errors(json)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{json}\n{}", errors.join("\n"));
}

/// Every series and its source, in the order of the model.
fn series(numbered: &Numbered) -> Vec<(&Source, &Metric)> {
    let sources = numbered.envelope.sources.iter();
    sources
        .flat_map(|source| source.metrics.iter().map(move |metric| (source, metric)))
        .collect()
}

/// The labels of a series and, where it has no such, of its source.
fn labels(source: &Source, metric: &Metric) -> BTreeMap<String, String> {
    let names = metric.def.labels.iter().map(|&name| name.to_owned());
    let values = metric.labels.iter().map(|value| value.clone().into_owned());
    let mut labels = source.labels.as_ref().clone();
    labels.extend(names.zip(values));
    labels
}

/// Count, sum and quantiles by their names.
fn summary(buckets: &Buckets) -> BTreeMap<&'static str, u64> {
    let quantiles = QUANTILES.iter();
    let quantiles =
        quantiles.filter_map(|&(name, share)| Some((name, highest_at(buckets, share)?)));
    let mut summary: BTreeMap<_, _> = quantiles.collect();
    summary.extend([("count", buckets.count()), ("sum", buckets.sum)]);
    summary
}

fn same(one: f64, other: f64) -> bool {
    one.to_bits() == other.to_bits() || one.is_nan() && other.is_nan()
}

/// A row of CSV by its columns.
fn check_csv(
    row: &BTreeMap<String, String>,
    numbered: &Numbered,
    source: &Source,
    metric: &Metric,
) {
    let cell = |name: &str| row[name].as_str();
    let number = |name: &str| cell(name).parse::<u64>().ok();
    assert_eq!(cell("stream"), visible(&numbered.stream.id));
    assert_eq!(number("first"), Some(*numbered.range.start()));
    assert_eq!(number("last"), Some(*numbered.range.end()));
    assert_eq!(number("lost"), Some(source.lost));
    let stop = rfc3339::Rfc3339(source.window.stop).to_string();
    assert_eq!(cell("stop_time"), stop);
    assert_eq!(cell("metric"), metric.def.name);
    assert_eq!(cell("unit"), metric.def.unit.name());
    let (_, name) = metric.id_and_name();
    assert_eq!(cell("entity_name"), visible(name.unwrap_or_default()));
    let written: BTreeMap<String, String> = serde_json::from_str(cell("labels")).unwrap();
    assert_eq!(written, labels(source, metric));
    let mut expected = BTreeMap::new();
    match &metric.value {
        Value::Counter { value, total } => {
            expected.extend(value.map(|value| ("value", value)));
            expected.insert("total", *total);
        }
        Value::Gauge { value, min, max } => {
            for (name, value) in [("value", value), ("min", min), ("max", max)] {
                assert!(same(cell(name).parse().unwrap(), *value), "{row:?}");
            }
            return;
        }
        Value::Histogram(buckets) => expected = summary(buckets),
    }
    for name in ["value", "total", "min", "max", "count", "sum"] {
        assert_eq!(number(name), expected.get(name).copied(), "{row:?}");
    }
    for (name, _) in QUANTILES {
        assert_eq!(number(name), expected.get(name).copied(), "{row:?}");
    }
}

/// The text as the line protocol can say it; `None` where it cannot.
fn sayable(text: &str) -> Option<String> {
    let text = visible(text);
    (!text.contains('\\')).then(|| text.into_owned())
}

fn check_line(line: &ParsedLine<'_>, source: &Source, metric: &Metric) {
    assert_eq!(
        line.series.measurement.as_str(),
        metric.def.name.replace('.', "_")
    );
    assert_eq!(line.timestamp, Some(source.window.stop));
    for (name, value) in &labels(source, metric) {
        let tag = influx_tag(name);
        let written = line.tag_value(&tag).map(|value| value.as_str().to_owned());
        assert_eq!(written.is_some(), !value.is_empty());
        if let (Some(written), Some(value)) = (written, sayable(value)) {
            assert_eq!(written, value);
        }
    }
    let unsigned = |name: &str| match line.field_value(name) {
        Some(FieldValue::U64(value)) => Some(*value),
        None => None,
        other => panic!("{name} is {other:?}"),
    };
    match &metric.value {
        Value::Counter { value, total } => {
            assert_eq!(unsigned("value"), *value);
            assert_eq!(unsigned("total"), Some(*total));
        }
        Value::Gauge { value, .. } => match line.field_value("value") {
            Some(FieldValue::F64(written)) => assert!(same(*written, *value)),
            other => assert!(other.is_none() && !value.is_finite(), "{other:?}"),
        },
        Value::Histogram(buckets) => {
            for (name, value) in summary(buckets) {
                assert_eq!(unsigned(name), Some(value));
            }
            for (index, count) in &buckets.counts {
                let name = format!("bucket_{index}");
                assert_eq!(unsigned(&name), Some(*count));
            }
        }
    }
}

/// Whether there is anything in it that the line protocol can say.
fn has_a_field(metric: &Metric) -> bool {
    match metric.value {
        Value::Gauge { value, min, max } => [value, min, max].iter().any(|value| value.is_finite()),
        Value::Counter { .. } | Value::Histogram(_) => true,
    }
}

fn check_row(row: &Json, source: &Source, metric: &Metric) {
    assert_eq!(row["reader"], source.reader);
    assert_eq!(row["metric"], metric.def.name);
    for (name, value) in &labels(source, metric) {
        assert_eq!(row[format!("label_{name}")], **value);
    }
    let (id, name) = metric.id_and_name();
    assert_eq!(row["entity_name"].as_str(), name);
    assert_eq!(row.get("entity_id").is_some(), id.is_some());
    match &metric.value {
        Value::Counter { value, total } => {
            assert_eq!(row["value"].as_u64(), *value);
            assert_eq!(row["total"].as_u64(), Some(*total));
        }
        Value::Gauge { value, .. } => match row["value"].as_f64() {
            Some(written) => assert!(same(written, *value)),
            None => assert!(row["value"].is_null() && !value.is_finite()),
        },
        Value::Histogram(buckets) => {
            for (name, value) in summary(buckets) {
                assert_eq!(row[name].as_u64(), Some(value), "{name}");
            }
            let counts: Vec<_> = buckets.counts.iter().map(|&(_, count)| count).collect();
            assert_eq!(row["counts"], Json::from(counts));
        }
    }
}

/// A tree of MessagePack as one of JSON.
fn as_json(value: &rmpv::Value) -> Json {
    match value {
        rmpv::Value::Nil => Json::Null,
        rmpv::Value::Boolean(value) => Json::from(*value),
        rmpv::Value::Integer(value) => match (value.as_u64(), value.as_i64()) {
            (Some(value), _) => value.into(),
            (None, value) => value.unwrap().into(),
        },
        rmpv::Value::F64(value) => Json::from(*value),
        rmpv::Value::String(text) => Json::from(text.as_str().unwrap()),
        rmpv::Value::Array(items) => items.iter().map(as_json).collect(),
        rmpv::Value::Map(entries) => {
            let entry = |(key, value): &(rmpv::Value, rmpv::Value)| {
                (key.as_str().unwrap().to_owned(), as_json(value))
            };
            let map: serde_json::Map<_, _> = entries.iter().map(entry).collect();
            assert_eq!(map.len(), entries.len(), "each key once");
            Json::Object(map)
        }
        other => panic!("{other} is nothing that JSON has"),
    }
}

fn unpacked(mut bytes: &[u8]) -> Json {
    let value = rmpv::decode::read_value(&mut bytes).unwrap();
    assert!(bytes.is_empty(), "one value");
    as_json(&value)
}

proptest! {
    // Schemas of hundreds of metrics take their time.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn envelopes_are_valid(numbered in numbered(), trans_time: i64) {
        let json = format("json", "", &numbered, trans_time);
        assert_valid(Shape::Envelope, &serde_json::from_str(&json).unwrap());
    }

    #[test]
    fn rows_are_valid_and_hold_every_series(numbered in numbered(), trans_time: i64) {
        let text = format("json", "shape = 'rows'", &numbered, trans_time);
        let rows: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for row in &rows {
            assert_valid(Shape::Rows, row);
            assert_eq!(row["stream"].as_str(), Some(&*numbered.stream.id));
            let flat = |value: &Json| !value.is_object();
            assert!(row.as_object().unwrap().values().all(flat));
        }
        let of = |kind: &str| rows.iter().filter(|row| row["row"] == kind).collect::<Vec<_>>();
        assert_eq!(of("window").len(), 1);
        assert_eq!(of("source").len(), numbered.envelope.sources.len());
        let mut gaps = numbered.gaps.len();
        let mut before = numbered.stream.previous.as_ref();
        while let Some(stream) = before {
            gaps += stream.gaps.len();
            before = stream.previous.as_deref();
        }
        assert_eq!(of("lost").len(), gaps);
        let series = series(&numbered);
        assert_eq!(of("series").len(), series.len());
        for (row, (source, metric)) in of("series").into_iter().zip(series) {
            check_row(row, source, metric);
        }
    }

    #[test]
    fn csv_holds_every_series(numbered in numbered(), trans_time: i64, spreadsheet: bool) {
        let header = super::REGISTRY[0].build_from("", &crate::plugin::testing::context("/".as_ref()));
        let mut text = String::from_utf8(header.unwrap().file_header().to_vec()).unwrap();
        text += &format("csv", &format!("spreadsheet = {spreadsheet}"), &numbered, trans_time);
        assert_eq!(text.matches('\n').count(), series(&numbered).len() + 1, "a row is a line");
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<BTreeMap<String, String>> = rows.deserialize().collect::<Result<_, _>>().unwrap();
        assert_eq!(rows.len(), series(&numbered).len());
        for (row, (source, metric)) in rows.iter().zip(series(&numbered)) {
            if spreadsheet {
                for cell in ["stream", "host", "entity_id", "entity_name"] {
                    assert!(!row[cell].starts_with(['=', '+', '-', '@']));
                }
            } else {
                check_csv(row, &numbered, source, metric);
            }
        }
    }

    #[test]
    fn line_protocol_holds_every_series(numbered in numbered(), trans_time: i64) {
        let text = format("influx", "buckets = true", &numbered, trans_time);
        let lines: Vec<_> = parse_lines(&text).collect::<Result<_, _>>().unwrap();
        assert_eq!(lines.len(), text.lines().count());
        let own = |line: &&ParsedLine<'_>| !line.series.measurement.starts_with("dataflux_");
        let mut written = lines.iter().filter(own);
        for (source, metric) in series(&numbered) {
            if has_a_field(metric) {
                check_line(written.next().unwrap(), source, metric);
            }
        }
        assert_eq!(written.count(), 0);
        let sources = lines.iter().filter(|line| line.series.measurement == "dataflux_source");
        for (line, source) in sources.zip(&numbered.envelope.sources) {
            assert_eq!(line.field_value("lost"), Some(&FieldValue::U64(source.lost)));
            if let Some(FieldValue::String(reason)) = line.field_value("reason") {
                assert_eq!(reason.as_str(), visible(&source.health.reason));
            } else {
                assert_eq!(&*source.health.reason, "");
            }
        }
    }

    #[test]
    fn messagepack_holds_what_json_does(numbered in numbered(), trans_time: i64) {
        let json: Json = serde_json::from_str(&format("json", "", &numbered, trans_time)).unwrap();
        assert_eq!(unpacked(&bytes("msgpack", "", &numbered, trans_time)), json);
    }

    #[test]
    fn a_template_makes_a_line_for_each_series(numbered in numbered(), trans_time: i64) {
        let config = r#"line = '{{"m":{metric|json},"l":{labels.operation|json},"e":{entity|json},"s":{stop_time|json},"t":{total}}}'
            missing = "null""#;
        let text = format("template", config, &numbered, trans_time);
        let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), series(&numbered).len());
        for (line, (_, metric)) in lines.iter().zip(series(&numbered)) {
            assert_eq!(line["m"], metric.def.name);
            let total = match metric.value {
                Value::Counter { total, .. } => Some(total),
                _ => None,
            };
            assert_eq!(line["t"].as_u64(), total);
            assert_eq!(line["e"].is_null(), metric.entity.is_none());
        }
    }
}

#[test]
fn long_lists_have_their_length() {
    let first = super::golden::first();
    for series in [15, 16, 70_000] {
        let mut numbered = first.clone();
        let envelope = Arc::make_mut(&mut numbered.envelope);
        let metrics = &mut envelope.sources[0].metrics;
        *metrics = vec![metrics[0].clone(); series];
        let json: Json = serde_json::from_str(&format("json", "", &numbered, 0)).unwrap();
        assert_eq!(unpacked(&bytes("msgpack", "", &numbered, 0)), json);
    }
}

#[test]
fn golden_cases_are_valid() {
    for (_, numbered) in super::golden::all() {
        let json = format("json", "", &numbered, 0);
        assert_valid(Shape::Envelope, &serde_json::from_str(&json).unwrap());
        for row in format("json", "shape = 'rows'", &numbered, 0).lines() {
            assert_valid(Shape::Rows, &serde_json::from_str(row).unwrap());
        }
    }
}
