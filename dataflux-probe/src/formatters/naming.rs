//! How flat formats call what the model has: names of metrics, labels of a series, its entity, its host.
//!
//! | format | a metric | a label |
//! |---|---|---|
//! | `csv`, `template` | as it is defined | as it is defined |
//! | `json`, rows | as it is defined | `label_` in front |
//! | `influx` | dots become `_` | as it is defined; `label_` in front if it is called like a tag or field of the format |

use std::borrow::Cow;

use super::Fields;
use crate::{
    histogram::QUANTILES,
    model::{EntityKey, EntityKind, Metadata, Metric, Source},
};

/// What stands before a label's name where it would mean something else without.
pub(super) const LABEL: &str = "label_";

/// A name without dots: `block_io_latency`.
pub(super) fn underscored(name: &str) -> String {
    name.replace('.', "_")
}

/// What a bucket's field is called in `influx`, before its number.
pub(super) const BUCKET: &str = "bucket_";

/// Tags and fields that the `influx` format gives a series itself, beside the kinds of entities and the quantiles.
const INFLUX_OWN: [&str; 10] = [
    "host",
    "unit",
    "entity_other",
    "time",
    "value",
    "total",
    "min",
    "max",
    "count",
    "sum",
];

/// The tag of a label: its name, unless that is the format's own or the database's. A tag and a field of one name would be
/// one column.
pub(super) fn influx_tag(label: &str) -> Cow<'_, str> {
    let of_entity = |kind: &EntityKind| label.strip_suffix("_id").unwrap_or(label) == kind.name();
    let taken = INFLUX_OWN.contains(&label)
        || EntityKind::ALL.iter().any(of_entity)
        || QUANTILES.iter().any(|(name, _)| *name == label)
        || [BUCKET, LABEL, "_"]
            .iter()
            .any(|begin| label.starts_with(begin));
    if taken {
        Cow::Owned(format!("{LABEL}{label}"))
    } else {
        Cow::Borrowed(label)
    }
}

/// The name of the host, unless the output leaves it out or it is not known.
pub(super) fn host<'a>(fields: &Fields, metadata: &'a Metadata) -> Option<&'a str> {
    fields.fact(metadata, "host", "name")?.as_str()
}

/// The labels that all series of a source have: those of its reader and those of the host, as far as the output has them.
/// Of two with one name it is that of the reader.
pub(super) fn shared_labels<'a>(
    fields: &'a Fields,
    metadata: &'a Metadata,
    source: &'a Source,
) -> Vec<(&'a str, &'a str)> {
    let of_reader = source.labels.iter();
    let of_reader = of_reader.map(|(name, value)| (&**name, &**value));
    let of_host = fields
        .header(metadata)
        .filter(|(section, _)| *section == "labels")
        .flat_map(|(_, labels)| labels)
        .filter(|(name, _)| !source.labels.contains_key(*name))
        .filter_map(|(name, value)| Some((&**name, value.as_str()?)));
    of_reader.chain(of_host).collect()
}

/// The labels of a series: its own, then those that all series of its source have and that are called otherwise.
pub(super) fn labels<'a>(
    fields: &'a Fields,
    shared: &'a [(&'a str, &'a str)],
    metric: &'a Metric,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let own = metric.def.labels;
    let values = own.iter().zip(&metric.labels);
    let rest = shared.iter().filter(|(name, _)| !own.contains(name));
    values
        .map(|(name, value)| (*name, &**value))
        .chain(rest.copied())
        .filter(|(_, value)| fields.empty_labels || !value.is_empty())
}

/// What is known of a series' entity.
pub(super) struct EntityNames<'a> {
    /// `device`.
    pub(super) kind: &'static str,
    /// `254:0`.
    pub(super) id: Option<String>,
    /// `vda`.
    pub(super) name: Option<&'a str>,
    /// All that are not reported by themselves, together.
    pub(super) other: bool,
}

impl<'a> EntityNames<'a> {
    pub(super) fn of(metric: &'a Metric) -> Option<Self> {
        let entity = metric.entity.as_ref()?;
        let (id, name) = metric.id_and_name();
        Some(Self {
            kind: entity.kind.name(),
            id: id.map(|id| entity.kind.format_id(id)),
            name,
            other: entity.key == EntityKey::Other,
        })
    }

    /// Its name, else its id, else `other`.
    pub(super) fn shown(&self) -> &str {
        self.name.or(self.id.as_deref()).unwrap_or("other")
    }
}

/// Text from outside without what ends a line, moves the cursor or colours the terminal: `\n`, `\u{1b}`.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_lines_is_made_visible() {
        assert_eq!(visible("a\\b c"), "a\\b c");
        assert_eq!(visible("a\n\u{1b}[31m"), "a\\n\\u{1b}[31m");
    }
}
