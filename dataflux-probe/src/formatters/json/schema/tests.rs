//! That the schemas are schemas, say what docs/envelope.md says, and refuse what is wrong.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::{super::Shape, of};
use crate::formatters::{arbitrary::format, golden};

const CONTRACT: &str = include_str!("../../../../../docs/envelope.md");

fn refuses(shape: Shape, strict: bool, json: &Json) -> bool {
    let schema = jsonschema::draft202012::new(&of(shape, strict)).unwrap();
    !schema.is_valid(json)
}

/// The golden case with every kind of value.
fn envelope() -> Json {
    serde_json::from_str(&format("json", "", &golden::first(), 0)).unwrap()
}

#[test]
fn schemas_are_schemas() {
    for shape in [Shape::Envelope, Shape::Rows] {
        for strict in [false, true] {
            jsonschema::draft202012::meta::validate(&of(shape, strict)).unwrap();
        }
    }
}

#[test]
fn fields_may_be_added_unless_it_is_strict() {
    let mut json = envelope();
    json["sources"][0]["added"] = json!(1);
    assert!(!refuses(Shape::Envelope, false, &json));
    assert!(refuses(Shape::Envelope, true, &json));
}

#[test]
fn what_is_wrong_is_refused() {
    type Change = fn(&mut Json);
    let changes: [(&str, Change); 9] = [
        ("another schema", |json| {
            json["schema"] = json!("dataflux.envelope/2")
        }),
        ("no window", |json| {
            drop(json.as_object_mut().unwrap().remove("duration_ns"))
        }),
        ("a negative number", |json| {
            json["stream"]["first"] = json!(-1)
        }),
        ("a number as text", |json| {
            json["stream"]["first"] = json!("1")
        }),
        ("no time", |json| {
            json["stop_time"] = json!("2026-03-01T12:00:10Z")
        }),
        ("an unknown status", |json| {
            json["sources"][0]["status"] = json!("fine")
        }),
        ("a counter's value in a histogram", |json| {
            json["sources"][0]["metrics"][1]["series"][0] = json!({"value": 1, "total": 2});
        }),
        ("another unit than that of the metric", |json| {
            json["sources"][0]["metrics"][0]["unit"] = json!("bytes");
        }),
        ("a label that the metric does not have", |json| {
            json["sources"][0]["metrics"][0]["series"][0]["labels"] = json!({"mode": "read"});
        }),
    ];
    assert!(!refuses(Shape::Envelope, true, &envelope()));
    for (what, change) in changes {
        let mut json = envelope();
        change(&mut json);
        assert!(refuses(Shape::Envelope, false, &json), "{what}");
    }
}

/// The names of fields in all objects of a schema.
fn fields(schema: &Json, found: &mut BTreeSet<String>) {
    match schema {
        Json::Object(keywords) => {
            for (keyword, value) in keywords {
                match (keyword.as_str(), value) {
                    // The header's sections and the definitions of metrics are no fields of the contract.
                    ("header" | "metrics", Json::Object(_)) if value.get("items").is_none() => {}
                    ("properties", Json::Object(properties)) => {
                        found.extend(properties.keys().cloned());
                        fields(value, found);
                    }
                    _ => fields(value, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

#[test]
fn the_schema_has_the_fields_of_the_contract() {
    let mut found = BTreeSet::new();
    fields(&of(Shape::Envelope, true), &mut found);
    let (contract, _) = CONTRACT
        .split_once("## The fields")
        .and_then(|(_, rest)| rest.split_once("\n## "))
        .unwrap();
    let word = |text: &'static str| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let quoted: BTreeSet<_> = contract
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(word)
        .collect();
    let unnamed: Vec<_> = found
        .iter()
        .filter(|field| !quoted.contains(&***field))
        .collect();
    assert!(unnamed.is_empty(), "not in docs/envelope.md: {unnamed:?}");
    let in_tables = contract
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next())
        .flat_map(word)
        .filter(|word| !word.is_empty());
    let missing: Vec<_> = in_tables.filter(|&field| !found.contains(field)).collect();
    assert!(missing.is_empty(), "not in the schema: {missing:?}");
}
