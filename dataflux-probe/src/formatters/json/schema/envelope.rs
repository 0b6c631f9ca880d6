//! The schema of `shape = "envelope"`.

use serde_json::{Map, Value as Json, json};

use super::{
    Field, Generator, account, always, array, causes, definitions, integer, labels, numbers,
    of_kind, one_of, reference, signed, sometimes, text, time, units, unsupported, when, with,
};
use crate::{
    histogram::SCHEME,
    metadata,
    model::{EntityKind, Kind, MetricDef, SCHEMA},
};

impl Generator {
    pub(super) fn envelope(self) -> Json {
        let top = self.object(
            [
                always("schema", json!({"const": SCHEMA})),
                always("stream", reference("stream")),
                always("header", header()),
                always("start_time", time()),
                always("stop_time", time()),
                always("trans_time", time()),
                always("duration_ns", integer()),
                always("suspended_ns", integer()),
                always("clock_step_ns", signed()),
                always("sources", array(reference("source"))),
            ],
            json!({}),
        );
        let definitions = json!({
            "stream": self.stream(),
            "previous": self.previous(),
            "gap": self.gap(),
            "source": self.source(),
            "metric": self.metric(),
            "entity": self.entity(),
            "counter": self.series(super::COUNTER),
            "gauge": self.series(Kind::Gauge),
            "histogram": self.series(Kind::Histogram),
            "metrics": metrics(),
        });
        self.document(SCHEMA, "An envelope", top, definitions)
    }

    fn stream(self) -> Json {
        let fields = [
            always("id", text()),
            always("gaps", array(reference("gap"))),
            sometimes("previous", reference("previous")),
        ];
        self.object(fields.into_iter().chain(numbers()), json!({}))
    }

    fn previous(self) -> Json {
        let fields = [
            always("id", text()),
            always("last", integer()),
            always("stop_time", time()),
            always("gaps", array(reference("gap"))),
            sometimes("previous", reference("previous")),
        ];
        self.object(fields, json!({}))
    }

    fn gap(self) -> Json {
        let fields = [
            always("first", integer()),
            always("last", integer()),
            always("cause", causes()),
        ];
        self.object(fields, json!({}))
    }

    fn source(self) -> Json {
        let fields = [
            always("reader", text()),
            sometimes("labels", labels()),
            unsupported(),
            always("metrics", array(reference("metric"))),
        ];
        self.object(fields.into_iter().chain(account()), json!({}))
    }

    /// Its series are as its kind says; a metric that is defined is as its definition says.
    fn metric(self) -> Json {
        let by_kind = [
            (super::COUNTER, "counter"),
            (Kind::Gauge, "gauge"),
            (Kind::Histogram, "histogram"),
        ];
        let by_kind = by_kind.map(|(kind, definition)| {
            let scheme = (kind == Kind::Histogram).then_some("scheme");
            let then = json!({
                "properties": {"series": {"items": reference(definition)}},
                "required": scheme.into_iter().collect::<Vec<_>>(),
            });
            when("kind", kind.name(), then)
        });
        let by_name = definitions().map(|def| {
            let then = reference(&format!("metrics/{}", def.name));
            when("name", def.name, then)
        });
        let conditions: Vec<_> = by_kind.into_iter().chain(by_name).collect();
        let series = json!({"type": "array", "minItems": 1});
        self.object(
            [
                always("name", text()),
                always("kind", one_of(Kind::NAMES)),
                always("unit", units()),
                sometimes("scheme", json!({"const": SCHEME})),
                always("series", series),
            ],
            json!({"allOf": conditions}),
        )
    }

    fn entity(self) -> Json {
        let fields = [
            sometimes("id", text()),
            sometimes("name", text()),
            sometimes("other", json!({"const": true})),
        ];
        self.object(fields, json!({"minProperties": 1}))
    }

    fn series(self, kind: Kind) -> Json {
        let entities = EntityKind::ALL.map(|kind| sometimes(kind.name(), reference("entity")));
        let fields: Vec<Field> = entities
            .into_iter()
            .chain([sometimes("labels", labels())])
            .chain(of_kind(kind))
            .collect();
        self.object(fields, json!({}))
    }
}

/// A section for each metadata reader; labels are texts.
fn header() -> Json {
    let section = |plugin: &&crate::plugin::Plugin<dyn metadata::MetadataReader>| {
        let mut section = with(json!({"type": "object"}), plugin.summary);
        if plugin.name == "labels" {
            section["additionalProperties"] = text();
        }
        (plugin.name.to_owned(), section)
    };
    let sections: Map<_, _> = metadata::REGISTRY.iter().map(section).collect();
    json!({
        "type": "object",
        "properties": sections,
        "additionalProperties": {"type": "object"},
    })
}

/// What is fixed of each metric.
fn metrics() -> Json {
    let metrics: Map<_, _> = definitions()
        .map(|def| (def.name.to_owned(), metric(def)))
        .collect();
    Json::Object(metrics)
}

fn metric(def: &MetricDef) -> Json {
    let labels = match def.labels {
        [] => json!(false),
        labels => json!({"propertyNames": one_of(labels.iter().copied())}),
    };
    json!({
        "description": def.help,
        "properties": {
            "kind": {"const": def.kind.name()},
            "unit": {"const": def.unit.name()},
            "series": {"items": {"properties": {"labels": labels}}},
        },
    })
}
