//! The JSON Schema (2020-12) of both shapes, from the model and the definitions of all metrics.

mod envelope;
mod rows;

use dataflux_common::histogram::BUCKETS;
use serde_json::{Map, Value as Json, json};

use super::Shape;
use crate::{
    metrics,
    model::{Born, Cause, Fall, Kind, MetricDef, Status, Unit},
};

/// The schema of a shape. A strict one refuses fields that this version does not write; others may be added within one
/// version of the envelope.
pub(crate) fn of(shape: Shape, strict: bool) -> Json {
    let generator = Generator { strict };
    match shape {
        Shape::Envelope => generator.envelope(),
        Shape::Rows => generator.rows(),
    }
}

/// Any counter: how they are born is not in an envelope.
const COUNTER: Kind = Kind::Counter {
    born: Born::Zero,
    fall: Fall::Restart,
};

#[derive(Clone, Copy)]
struct Generator {
    strict: bool,
}

/// A field of an object.
struct Field {
    name: &'static str,
    schema: Json,
    required: bool,
}

/// One that is always there.
fn always(name: &'static str, schema: Json) -> Field {
    Field {
        name,
        schema,
        required: true,
    }
}

/// One that is absent if it has nothing to say.
fn sometimes(name: &'static str, schema: Json) -> Field {
    Field {
        required: false,
        ..always(name, schema)
    }
}

impl Generator {
    /// The whole document around a schema: what it is of, and what it refers to.
    fn document(self, schema: &str, what: &str, top: Json, definitions: Json) -> Json {
        let mut document = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": format!("urn:{}", schema.replace(['.', '/'], ":")),
            "title": schema,
            "description": format!(
                "{what}, as dataflux-probe {} writes it. Integers have 64 bits.",
                env!("CARGO_PKG_VERSION")
            ),
            "$defs": definitions,
        });
        merge(&mut document, top);
        document
    }

    /// An object with these fields. `also` are keywords that add fields, too.
    fn object(self, fields: impl IntoIterator<Item = Field>, also: Json) -> Json {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            if field.required {
                required.push(field.name);
            }
            properties.insert(field.name.to_owned(), field.schema);
        }
        let mut object = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            object["required"] = json!(required);
        }
        if self.strict {
            object["unevaluatedProperties"] = json!(false);
        }
        merge(&mut object, also);
        object
    }
}

/// Adds the keywords of one schema to another.
fn merge(schema: &mut Json, more: Json) {
    if let (Json::Object(schema), Json::Object(more)) = (schema, more) {
        schema.extend(more);
    }
}

fn with(mut schema: Json, description: &str) -> Json {
    schema["description"] = json!(description);
    schema
}

fn text() -> Json {
    json!({"type": "string"})
}

/// Unsigned.
fn integer() -> Json {
    json!({"type": "integer", "minimum": 0, "maximum": u64::MAX})
}

fn signed() -> Json {
    json!({"type": "integer", "minimum": i64::MIN, "maximum": i64::MAX})
}

fn number_or_null() -> Json {
    json!({"type": ["number", "null"]})
}

fn time() -> Json {
    json!({
        "type": "string",
        "format": "date-time",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$",
    })
}

fn array(items: Json) -> Json {
    json!({"type": "array", "items": items})
}

fn one_of(names: impl IntoIterator<Item = &'static str>) -> Json {
    let names: Vec<_> = names.into_iter().collect();
    json!({"enum": names})
}

fn reference(definition: &str) -> Json {
    json!({"$ref": format!("#/$defs/{definition}")})
}

fn causes() -> Json {
    one_of(Cause::ALL.map(Cause::name))
}

fn statuses() -> Json {
    one_of(Status::ALL.map(Status::name))
}

/// Of which numbers a record is.
fn numbers() -> [Field; 4] {
    ["first", "last", "part", "parts"].map(|name| always(name, integer()))
}

fn labels() -> Json {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

/// What a source says of itself, but for its name and its labels.
fn account() -> [Field; 9] {
    [
        always("status", statuses()),
        sometimes("reason", text()),
        always("start_time", time()),
        always("stop_time", time()),
        always("duration_ns", integer()),
        sometimes("suspended_ns", integer()),
        sometimes("clock_step_ns", signed()),
        always("covered_ns", integer()),
        always("lost", integer()),
    ]
}

/// Metrics that a machine cannot give.
fn unsupported() -> Field {
    always("unsupported", array(text()))
}

/// What a metric's kind adds to a series.
fn of_kind(kind: Kind) -> Vec<Field> {
    match kind {
        Kind::Counter { .. } => vec![
            always(
                "value",
                json!({"type": ["integer", "null"], "minimum": 0, "maximum": u64::MAX}),
            ),
            sometimes("total", integer()),
        ],
        Kind::Gauge => vec![
            always("value", number_or_null()),
            sometimes("min", number_or_null()),
            sometimes("max", number_or_null()),
        ],
        Kind::Histogram => {
            let index = json!({"type": "integer", "minimum": 0, "maximum": BUCKETS - 1});
            let index = with(array(index), "Ascending; as long as counts.");
            let counts = json!({"type": "integer", "minimum": 1, "maximum": u64::MAX});
            vec![
                always("sum", integer()),
                always("index", index),
                always("counts", array(counts)),
            ]
        }
    }
}

fn units() -> Json {
    one_of(Unit::ALL.map(Unit::name))
}

/// All that the probe can measure.
fn definitions() -> impl Iterator<Item = &'static MetricDef> {
    let plugins = metrics::REGISTRY.iter();
    plugins.flat_map(|plugin| plugin.metrics).copied()
}

/// A condition on a field and what holds then.
fn when(field: &str, is: &str, then: Json) -> Json {
    json!({
        "if": {"properties": {field: {"const": is}}, "required": [field]},
        "then": then,
    })
}

#[cfg(test)]
mod tests;
