//! Filters: conditions that a series has to meet, as docs/shaping.md describes them.

use std::{borrow::Cow, fmt};

use regex::Regex;

use super::{parser, wildcard};
use crate::model::{EntityKind, Kind, Metric, MetricDef, Unit};

/// A condition that a series has to meet.
#[derive(Clone)]
pub struct Filter {
    /// As it was written.
    text: String,
    condition: Condition,
}

/// What is wrong with a filter.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistake {
    /// At which character, from 1.
    pub(super) at: usize,
    pub(super) message: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// Each of them.
    All(Vec<Self>),
    /// At least one of them.
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Test {
    /// At which character of the filter it is, from 1.
    pub(super) at: usize,
    pub(super) field: Field,
    pub(super) negated: bool,
    pub(super) pattern: Pattern,
}

/// What of a series is looked at. Called as in the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Reader,
    Name,
    Kind,
    Unit,
    Label(String),
    Id(EntityKind),
    EntityName(EntityKind),
}

/// What it is compared with.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// One of these.
    In(Vec<String>),
    Wildcard(String),
    Regex(Regex),
}

/// What can stand in a filter, so that a slip is found before anything starts.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Names of metric readers.
    pub readers: &'a [&'static str],
    /// What they can measure.
    pub metrics: &'a [&'static MetricDef],
}

impl Filter {
    /// # Errors
    /// The text is no filter.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        Ok(Self {
            condition: parser::parse(text)?,
            text: text.to_owned(),
        })
    }

    /// Whether a series of this reader meets it.
    pub(super) fn passes(&self, reader: &str, metric: &Metric) -> bool {
        self.condition.holds(reader, metric)
    }

    /// Whether everything in it that has a name of its own is known.
    ///
    /// # Errors
    /// Something is not; such a filter would never or always be met.
    pub fn check(&self, known: Known<'_>) -> Result<(), Mistake> {
        self.condition.check(known)
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, out)
    }
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at character {}: {}", self.at, self.message)
    }
}

impl Condition {
    fn holds(&self, reader: &str, metric: &Metric) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.holds(reader, metric)),
            Self::Any(any) => any.iter().any(|one| one.holds(reader, metric)),
            Self::Not(other) => !other.holds(reader, metric),
            Self::Test(test) => {
                test.pattern.matches(&test.field.of(reader, metric)) != test.negated
            }
        }
    }

    fn check(&self, known: Known<'_>) -> Result<(), Mistake> {
        match self {
            Self::All(several) | Self::Any(several) => {
                several.iter().try_for_each(|one| one.check(known))
            }
            Self::Not(other) => other.check(known),
            Self::Test(test) => test.check(known).map_err(|message| Mistake {
                at: test.at,
                message,
            }),
        }
    }
}

impl Test {
    fn check(&self, known: Known<'_>) -> Result<(), String> {
        let (what, words): (_, Vec<&str>) = match &self.field {
            Field::Reader => ("reader", known.readers.to_vec()),
            Field::Name => ("metric", known.metrics.iter().map(|def| def.name).collect()),
            Field::Kind => ("kind", Vec::from(Kind::NAMES)),
            Field::Unit => ("unit", Unit::ALL.map(Unit::name).into()),
            Field::Label(label) => return known_label(label, known),
            Field::Id(_) | Field::EntityName(_) => return Ok(()),
        };
        // There are too many metrics for one line.
        let choice = match self.field {
            Field::Name => "`dataflux-probe metrics` lists them".to_owned(),
            _ => format!("known: {}", words.join(", ")),
        };
        let is_known = |pattern: &Pattern| words.iter().any(|word| pattern.matches(word));
        match &self.pattern {
            Pattern::In(values) => {
                let unknown = values.iter().find(|value| !words.contains(&value.as_str()));
                unknown.map_or(Ok(()), |value| {
                    Err(format!("no {what} is called `{value}`; {choice}"))
                })
            }
            pattern if is_known(pattern) => Ok(()),
            Pattern::Wildcard(text) => Err(format!("`{text}` is like no {what}; {choice}")),
            Pattern::Regex(regex) => Err(format!("`{regex}` is like no {what}; {choice}")),
        }
    }
}

fn known_label(label: &str, known: Known<'_>) -> Result<(), String> {
    let mut labels: Vec<_> = known
        .metrics
        .iter()
        .flat_map(|def| def.labels)
        .copied()
        .collect();
    if labels.contains(&label) {
        return Ok(());
    }
    labels.sort_unstable();
    labels.dedup();
    let labels = labels.join(", ");
    Err(format!(
        "no metric has the label `{label}`; known: {labels}"
    ))
}

impl Field {
    /// Its text; empty if the series has no such thing.
    fn of<'a>(&self, reader: &'a str, metric: &'a Metric) -> Cow<'a, str> {
        let def = metric.def;
        match self {
            Self::Reader => reader.into(),
            Self::Name => def.name.into(),
            Self::Kind => def.kind.name().into(),
            Self::Unit => def.unit.name().into(),
            Self::Label(label) => {
                let place = def.labels.iter().position(|name| name == label);
                let value = place.and_then(|place| metric.labels.get(place));
                value.map_or_else(Cow::default, |value| Cow::Borrowed(&**value))
            }
            Self::Id(kind) => match (of_kind(metric, *kind), metric.id_and_name()) {
                (true, (Some(id), _)) => kind.format_id(id).into(),
                _ => Cow::default(),
            },
            Self::EntityName(kind) => match (of_kind(metric, *kind), metric.id_and_name()) {
                (true, (_, Some(name))) => name.into(),
                _ => Cow::default(),
            },
        }
    }
}

fn of_kind(metric: &Metric, kind: EntityKind) -> bool {
    metric
        .entity
        .as_ref()
        .is_some_and(|entity| entity.kind == kind)
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::In(values) => values.iter().any(|value| value == text),
            Self::Wildcard(wildcard) => wildcard::matches(wildcard, text),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(one), Self::In(other)) => one == other,
            (Self::Wildcard(one), Self::Wildcard(other)) => one == other,
            (Self::Regex(one), Self::Regex(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
