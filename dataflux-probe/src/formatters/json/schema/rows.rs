//! The schema of `shape = "rows"`.

use serde_json::{Value as Json, json};

use super::{
    super::rows::SCHEMA, Field, Generator, account, always, causes, definitions, integer, numbers,
    of_kind, one_of, reference, signed, sometimes, statuses, text, time, units, unsupported, when,
};
use crate::{
    formatters::naming::LABEL,
    histogram::{QUANTILES, SCHEME},
    model::{EntityKind, Kind},
};

impl Generator {
    pub(super) fn rows(self) -> Json {
        let kinds = ["window", "lost", "previous", "source", "series"];
        let conditions = kinds.map(|kind| when("row", kind, reference(kind)));
        let common = [
            always("schema", json!({"const": SCHEMA})),
            always("row", one_of(kinds)),
            always("stream", text()),
            sometimes("host", text()),
        ];
        let top = self.object(
            common.into_iter().chain(numbers()),
            json!({"allOf": conditions}),
        );
        let definitions = json!({
            "window": part(window()),
            "lost": part(lost()),
            "previous": part(previous()),
            "source": part(source()),
            "series": series(),
            "counter": part(of_kind(super::COUNTER)),
            "gauge": part(of_kind(Kind::Gauge)),
            "histogram": part(histogram()),
        });
        self.document(SCHEMA, "A row", top, definitions)
    }
}

/// Some of a row's fields; that there are no others is said of the whole.
fn part(fields: impl IntoIterator<Item = Field>) -> Json {
    Generator { strict: false }.object(fields, json!({}))
}

fn window() -> [Field; 8] {
    [
        always("start_time", time()),
        always("stop_time", time()),
        always("trans_time", time()),
        always("duration_ns", integer()),
        always("suspended_ns", integer()),
        always("clock_step_ns", signed()),
        always("sources", integer()),
        always("series", integer()),
    ]
}

fn lost() -> [Field; 4] {
    [
        always("lost_stream", text()),
        always("lost_first", integer()),
        always("lost_last", integer()),
        always("cause", causes()),
    ]
}

fn previous() -> [Field; 3] {
    [
        always("previous_stream", text()),
        always("previous_last", integer()),
        always("previous_stop_time", time()),
    ]
}

fn source() -> impl Iterator<Item = Field> {
    [always("reader", text()), unsupported()]
        .into_iter()
        .chain(account())
}

/// A text under a key for each label.
fn with_labels(mut fields: Json) -> Json {
    fields["patternProperties"] = json!({format!("^{LABEL}"): {"type": "string"}});
    fields
}

fn series() -> Json {
    let fields = [
        always("reader", text()),
        always("status", statuses()),
        always("start_time", time()),
        always("stop_time", time()),
        always("covered_ns", integer()),
        always("metric", text()),
        always("kind", one_of(Kind::NAMES)),
        always("unit", units()),
        sometimes("entity", one_of(EntityKind::ALL.map(EntityKind::name))),
        sometimes("entity_id", text()),
        sometimes("entity_name", text()),
        sometimes("entity_other", json!({"const": true})),
    ];
    let mut series = with_labels(part(fields));
    let by_kind = Kind::NAMES.map(|kind| when("kind", kind, reference(kind)));
    let by_name = definitions().map(|def| {
        let fixed = json!({
            "description": def.help,
            "properties": {
                "kind": {"const": def.kind.name()},
                "unit": {"const": def.unit.name()},
            },
        });
        when("metric", def.name, fixed)
    });
    let conditions: Vec<_> = by_kind.into_iter().chain(by_name).collect();
    series["allOf"] = json!(conditions);
    series
}

/// With what its buckets come to, which is absent if there are none.
fn histogram() -> impl Iterator<Item = Field> {
    let quantiles = QUANTILES.map(|(name, _)| sometimes(name, integer()));
    of_kind(Kind::Histogram)
        .into_iter()
        .chain([
            always("count", integer()),
            always("scheme", json!({"const": SCHEME})),
        ])
        .chain(quantiles)
}
