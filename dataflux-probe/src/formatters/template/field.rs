//! What placeholders stand for.

use std::borrow::Cow;

use super::conversion::{Given, Type};
use crate::{
    formatters::{
        Fields,
        naming::{self, EntityNames},
        writer::nanoseconds,
    },
    histogram::{WHOLE, highest_at},
    metadata, metrics,
    model::{Metric, Numbered, Source, Unit, Value, WallTime},
};

/// A series and all that it is in.
pub(super) struct Series<'a> {
    pub(super) fields: &'a Fields,
    pub(super) numbered: &'a Numbered,
    pub(super) trans_time: WallTime,
    pub(super) source: &'a Source,
    /// Labels that all series of the source have.
    pub(super) shared: &'a [(&'a str, &'a str)],
    pub(super) metric: &'a Metric,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// The whole name.
    Metric,
    /// Without the reader.
    Name,
    Reader,
    Kind,
    Unit,
    Status,
    Reason,
    Stream,
    First,
    Last,
    Part,
    Parts,
    Lost,
    StartTime,
    StopTime,
    TransTime,
    Duration,
    Covered,
    /// Its name, else its id.
    Entity,
    EntityKind,
    EntityId,
    EntityName,
    /// All of them.
    Labels,
    /// One that a metric is defined with.
    Label(String),
    /// A fact of the header.
    Header(String, String),
    Value,
    Total,
    Min,
    Max,
    Count,
    Sum,
    Mean,
    Rate,
    /// Share in [`WHOLE`].
    Quantile(u32),
}

const FIELDS: [(&str, Field); 31] = [
    ("metric", Field::Metric),
    ("name", Field::Name),
    ("reader", Field::Reader),
    ("kind", Field::Kind),
    ("unit", Field::Unit),
    ("entity", Field::Entity),
    ("entity.kind", Field::EntityKind),
    ("entity.id", Field::EntityId),
    ("entity.name", Field::EntityName),
    ("labels", Field::Labels),
    ("value", Field::Value),
    ("total", Field::Total),
    ("min", Field::Min),
    ("max", Field::Max),
    ("rate", Field::Rate),
    ("count", Field::Count),
    ("sum", Field::Sum),
    ("mean", Field::Mean),
    ("start_time", Field::StartTime),
    ("stop_time", Field::StopTime),
    ("trans_time", Field::TransTime),
    ("duration", Field::Duration),
    ("covered", Field::Covered),
    ("status", Field::Status),
    ("reason", Field::Reason),
    ("lost", Field::Lost),
    ("stream", Field::Stream),
    ("first", Field::First),
    ("last", Field::Last),
    ("part", Field::Part),
    ("parts", Field::Parts),
];

impl Field {
    /// By its name.
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == name) {
            return Ok(field.clone());
        }
        if let Some(share) = name.strip_prefix('p').and_then(share) {
            return Ok(Self::Quantile(share));
        }
        if let Some(label) = name.strip_prefix("labels.") {
            return known_label(label);
        }
        let of_header = name.strip_prefix("header.").unwrap_or(name);
        if let Some((section, field)) = of_header.split_once('.') {
            let known = metadata::REGISTRY
                .iter()
                .any(|plugin| plugin.name == section);
            if known && !field.is_empty() {
                return Ok(Self::Header(section.to_owned(), field.to_owned()));
            }
        }
        let known: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
        let sections: Vec<_> = metadata::REGISTRY
            .iter()
            .map(|plugin| plugin.name)
            .collect();
        Err(format!(
            "unknown placeholder `{name}`; known: {}, labels.NAME, p50, p99.9 and the like, and facts of the header as \
             host.name, header.labels.NAME: {}",
            known.join(", "),
            sections.join(", ")
        ))
    }

    pub(super) const fn kind(&self) -> Type {
        match self {
            Self::Metric
            | Self::Name
            | Self::Reader
            | Self::Kind
            | Self::Unit
            | Self::Status
            | Self::Reason
            | Self::Stream
            | Self::Entity
            | Self::EntityKind
            | Self::EntityId
            | Self::EntityName
            | Self::Labels
            | Self::Label(_)
            | Self::Header(..) => Type::Text,
            Self::StartTime | Self::StopTime | Self::TransTime => Type::Time,
            Self::First
            | Self::Last
            | Self::Part
            | Self::Parts
            | Self::Lost
            | Self::Duration
            | Self::Covered
            | Self::Value
            | Self::Total
            | Self::Min
            | Self::Max
            | Self::Count
            | Self::Sum
            | Self::Mean
            | Self::Rate
            | Self::Quantile(_) => Type::Number,
        }
    }

    /// Of a series.
    pub(super) fn of<'a>(&self, series: &Series<'a>) -> Given<'a> {
        let Series {
            fields,
            numbered,
            source,
            metric,
            ..
        } = *series;
        let def = metric.def;
        let number = |value| Given::whole(value, None);
        match self {
            Self::Metric => text(def.name),
            Self::Name => {
                let name = def.name.strip_prefix(source.reader);
                text(
                    name.and_then(|name| name.strip_prefix('.'))
                        .unwrap_or(def.name),
                )
            }
            Self::Reader => text(source.reader),
            Self::Kind => text(def.kind.name()),
            Self::Unit => text(def.unit.name()),
            Self::Status => text(source.health.status.name()),
            Self::Reason => text(&source.health.reason),
            Self::Stream => text(&numbered.stream.id),
            Self::First => number(*numbered.range.start()),
            Self::Last => number(*numbered.range.end()),
            Self::Part => number(numbered.part.part.into()),
            Self::Parts => number(numbered.part.parts.into()),
            Self::Lost => number(source.lost),
            Self::StartTime => Given::Time(source.window.start),
            Self::StopTime => Given::Time(source.window.stop),
            Self::TransTime => Given::Time(series.trans_time),
            Self::Duration => time(nanoseconds(source.window.duration)),
            Self::Covered => time(nanoseconds(source.covered)),
            Self::Entity | Self::EntityKind | Self::EntityId | Self::EntityName => {
                self.of_entity(metric)
            }
            Self::Labels => labels(series),
            Self::Label(name) => label(series, name),
            Self::Header(section, field) => {
                match fields.fact(&numbered.envelope.metadata, section, field) {
                    None => Given::Missing,
                    Some(serde_json::Value::String(fact)) => text(fact),
                    Some(fact) => Given::Text(fact.to_string().into()),
                }
            }
            _ => self.of_value(series),
        }
    }

    fn of_entity<'a>(&self, metric: &'a Metric) -> Given<'a> {
        let Some(entity) = EntityNames::of(metric) else {
            return Given::Missing;
        };
        match self {
            Self::EntityKind => text(entity.kind),
            Self::EntityId => entity.id.map_or(Given::Missing, owned),
            Self::EntityName => entity.name.map_or(Given::Missing, text),
            _ => owned(entity.shown().to_owned()),
        }
    }

    fn of_value<'a>(&self, series: &Series<'a>) -> Given<'a> {
        let unit = Some(series.metric.def.unit);
        let whole = |value| Given::whole(value, unit);
        let float = |value| Given::Float { value, unit };
        let fields = series.fields;
        match (self, &series.metric.value) {
            (Self::Value, Value::Counter { value, .. }) => value.map_or(Given::Missing, whole),
            (Self::Total, Value::Counter { total, .. }) if fields.total => whole(*total),
            (Self::Rate, Value::Counter { value, .. }) => {
                value.map_or(Given::Missing, |value| rate(series, value, unit))
            }
            (Self::Value, Value::Gauge { value, .. }) => float(*value),
            (Self::Min, Value::Gauge { min, .. }) if fields.min => float(*min),
            (Self::Max, Value::Gauge { max, .. }) if fields.max => float(*max),
            (Self::Count, Value::Histogram(buckets)) => {
                Given::whole(buckets.count(), Some(Unit::Count))
            }
            (Self::Sum, Value::Histogram(buckets)) => whole(buckets.sum),
            (Self::Mean, Value::Histogram(buckets)) if buckets.count() > 0 => {
                float(to_float(buckets.sum) / to_float(buckets.count()))
            }
            (Self::Rate, Value::Histogram(buckets)) => {
                rate(series, buckets.count(), Some(Unit::Count))
            }
            (Self::Quantile(share), Value::Histogram(buckets)) => {
                highest_at(buckets, *share).map_or(Given::Missing, whole)
            }
            _ => Given::Missing,
        }
    }
}

fn text(text: &str) -> Given<'_> {
    Given::Text(Cow::Borrowed(text))
}

fn owned<'a>(text: String) -> Given<'a> {
    Given::Text(Cow::Owned(text))
}

fn time<'a>(value: u64) -> Given<'a> {
    Given::whole(value, Some(Unit::Nanoseconds))
}

/// Per second of the time that the values stand for.
fn rate<'a>(series: &Series<'_>, value: u64, unit: Option<Unit>) -> Given<'a> {
    let seconds = series.source.covered.as_secs_f64();
    if seconds > 0.0 {
        let value = to_float(value) / seconds;
        Given::Float { value, unit }
    } else {
        Given::Missing
    }
}

/// `operation=read,rack=7`.
fn labels<'a>(series: &Series<'_>) -> Given<'a> {
    let labels = naming::labels(series.fields, series.shared, series.metric);
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    owned(labels.join(","))
}

fn label<'a>(series: &Series<'a>, name: &str) -> Given<'a> {
    let names = series.metric.def.labels;
    let place = names.iter().position(|known| *known == name);
    let value = place.and_then(|place| series.metric.labels.get(place));
    let value = value.filter(|value| series.fields.empty_labels || !value.is_empty());
    value.map_or(Given::Missing, |value| text(value))
}

fn known_label(label: &str) -> Result<Field, String> {
    let metrics = metrics::REGISTRY.iter().flat_map(|plugin| plugin.metrics);
    let mut known: Vec<_> = metrics.flat_map(|def| def.labels).copied().collect();
    if known.contains(&label) {
        return Ok(Field::Label(label.to_owned()));
    }
    known.sort_unstable();
    known.dedup();
    let known = known.join(", ");
    Err(format!(
        "no metric has the label `{label}`; known: {known}; those of the host are header.labels.NAME"
    ))
}

/// `99.9` as a share in [`WHOLE`].
fn share(percent: &str) -> Option<u32> {
    let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
    let digits = |text: &str, most| {
        let plain =
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u32>().ok()).flatten()
    };
    let places = u32::try_from(part.len()).ok()?;
    let share = digits(whole, 3)? * 1_000 + digits(part, 3)? * 10u32.pow(3 - places.min(3));
    (1..=WHOLE).contains(&share).then_some(share)
}

#[expect(clippy::cast_precision_loss, reason = "a quotient has no more digits")]
fn to_float(value: u64) -> f64 {
    value as f64
}
