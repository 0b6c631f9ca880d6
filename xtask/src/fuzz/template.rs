//! The target `template`: a line of the `template` formatter that is anything, and what it makes of an envelope.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    path::Path,
    sync::{Arc, LazyLock},
    time::Duration,
};

use dataflux_probe::{
    config::{Config, Registries},
    model::{
        Buckets, Entity, EntityKey, EntityKind, Envelope, Health, Metadata, Metric, MetricDef,
        Numbered, Part, Source, Stream, Unit, Value, Window,
    },
};
use serde_json::json;

/// The folder of this target's corpus.
pub(super) const NAME: &str = "template";

static REQUESTS: MetricDef =
    MetricDef::running_counter("disk.requests", Unit::Count, "Any counter.", &["operation"]);
static TIME: MetricDef =
    MetricDef::running_counter("disk.time", Unit::Nanoseconds, "Any time.", &["operation"]);
static USED: MetricDef = MetricDef::gauge("memory.used", Unit::Bytes, "Any gauge.", &[]);
static LATENCY: MetricDef = MetricDef {
    kind: dataflux_probe::model::Kind::Histogram,
    ..MetricDef::gauge("block_io.latency", Unit::Nanoseconds, "Any.", &["op"])
};

static ENVELOPE: LazyLock<Numbered> = LazyLock::new(envelope);

/// Builds the formatter as `check` does, and lets it write.
pub(super) fn run(input: &[u8]) -> u64 {
    let line = String::from_utf8_lossy(input).into_owned();
    let quoted = toml::Value::String(line).to_string();
    let text = format!(
        "[metrics.cpu]\n[output.a]\nformatter = 'template'\nlogger = 'stdout'\n[output.a.template]\nline = {quoted}\n"
    );
    let config = Config::parse(Path::new("fuzz.toml"), text, Registries::BUILT_IN);
    let config = match config {
        Ok(config) => config,
        Err(error) => return outcome(alike(&error.to_string())),
    };
    let output = config.outputs.first().expect("one was configured");
    let mut written = Vec::new();
    output
        .formatter
        .format(&ENVELOPE, 0, &mut written)
        .expect("a template that parses can be written");
    let text = String::from_utf8(written).expect("what is written is text");
    let series = ENVELOPE.envelope.sources[0].metrics.len();
    assert_eq!(text.lines().count(), series, "a line for each: {text:?}");
    assert!(
        text.chars()
            .all(|it| it == '\n' || it == '\t' || !it.is_control()),
        "{text:?}"
    );
    // By the kinds of what is told: how long it is makes no difference.
    let shapes = text.lines().map(alike).map(|shape| shape.len().min(64));
    outcome(shapes.collect::<Vec<_>>())
}

/// What is left of an error without places and what is quoted of the input.
fn alike(told: &str) -> String {
    let words = told.lines().next().unwrap_or_default();
    let words = words.split('`').step_by(2).flat_map(str::chars);
    words.filter(char::is_ascii_alphabetic).collect()
}

fn outcome(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// One series of each kind, and names with what no line may have.
fn envelope() -> Numbered {
    let series = |def, labels: &[&'static str], value| Metric {
        def,
        entity: Some(Entity {
            kind: EntityKind::Device,
            key: EntityKey::Name("sda\n\u{1b}[1m".into()),
        }),
        entity_id: Some(8 << 20),
        entity_name: None,
        labels: labels.iter().map(|&label| label.into()).collect(),
        value,
    };
    let counter = |value, total| Value::Counter { value, total };
    let gauge = |value| Value::Gauge {
        value,
        min: -0.0,
        max: f64::MAX,
    };
    let buckets = Buckets {
        sum: u64::MAX,
        counts: vec![(0, 1), (100, 2), (495, 1)],
    };
    let metrics = vec![
        series(&REQUESTS, &["read"], counter(Some(7), u64::MAX)),
        series(&REQUESTS, &["a\"b,c d"], counter(None, 0)),
        series(&TIME, &["write"], counter(Some(u64::MAX), u64::MAX)),
        series(&USED, &[], gauge(0.1)),
        series(&USED, &[], gauge(f64::NAN)),
        series(&LATENCY, &["read"], Value::Histogram(buckets)),
        series(&LATENCY, &["write"], Value::Histogram(Buckets::default())),
    ];
    let window = Window {
        start: i64::MAX,
        stop: -1,
        duration: Duration::ZERO,
        ..Window::default()
    };
    let host = json!({"name": "h\n", "number": 1.5, "nothing": null, "list": [{"a": 1}]});
    let mut metadata = Metadata::default();
    if let serde_json::Value::Object(host) = host {
        metadata.sections.insert("host", host);
    }
    let source = Source {
        reader: "disk",
        labels: Arc::default(),
        health: Health::default(),
        window,
        covered: Duration::MAX,
        lost: u64::MAX,
        unsupported: Vec::new(),
        metrics,
    };
    Numbered {
        stream: Arc::new(Stream {
            id: "fuzz".into(),
            previous: None,
        }),
        range: 1..=u64::MAX,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(Envelope {
            window,
            metadata: Arc::new(metadata),
            sources: vec![source],
        }),
    }
}
