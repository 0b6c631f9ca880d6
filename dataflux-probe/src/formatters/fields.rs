//! The fields that an output can do without: sections and fields of the header, running totals, extremes of gauges.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::model::Metadata;

/// Which of those fields an output has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// By section of the header.
    sections: BTreeMap<String, Rule>,
    /// Of sections without a rule.
    other_sections: bool,
    /// Running totals of counters.
    pub total: bool,
    /// The smallest value of a gauge.
    pub min: bool,
    /// The largest value of a gauge.
    pub max: bool,
    /// Labels whose value is empty, of series and in the header's section `labels`.
    pub empty_labels: bool,
}

/// Which fields of a section are there: all but some, or only some.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rule {
    all: bool,
    except: BTreeSet<String>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            sections: BTreeMap::new(),
            other_sections: true,
            total: true,
            min: true,
            max: true,
            empty_labels: true,
        }
    }
}

const LABELS: &str = "labels";

impl Fields {
    /// Reads the names of what is kept: `host`, `host.name`, `total`. `!host.name` leaves it out, whatever else is said; if
    /// there are only such ones, all the rest is kept.
    ///
    /// # Errors
    /// A name is none of these; `sections` are those that can be in a header.
    pub fn parse<'a>(
        names: impl IntoIterator<Item = &'a str>,
        empty_labels: bool,
        sections: &[&str],
    ) -> Result<Self, String> {
        let (left_out, kept): (Vec<_>, Vec<_>) = names
            .into_iter()
            .map(|name| match name.strip_prefix('!') {
                Some(name) => (true, name),
                None => (false, name),
            })
            .partition(|(left_out, _)| *left_out);
        let mut fields = Self {
            empty_labels,
            ..Self::default()
        };
        if !kept.is_empty() || left_out.is_empty() {
            (fields.total, fields.min, fields.max) = (false, false, false);
            fields.other_sections = false;
        }
        // What comes later wins: a field over its section, and what is left out over what is kept.
        for (names, keep) in [(kept, true), (left_out, false)] {
            let (fields_of, whole): (Vec<_>, Vec<_>) = names
                .into_iter()
                .map(|(_, name)| name)
                .partition(|name| name.contains('.'));
            let (first, last) = if keep {
                (whole, fields_of)
            } else {
                (fields_of, whole)
            };
            for name in first.into_iter().chain(last) {
                fields.set(name, keep, sections)?;
            }
        }
        Ok(fields)
    }

    fn set(&mut self, name: &str, keep: bool, sections: &[&str]) -> Result<(), String> {
        match name {
            "total" => self.total = keep,
            "min" => self.min = keep,
            "max" => self.max = keep,
            _ => {
                let (section, field) = match name.split_once('.') {
                    Some((section, field)) => (section, Some(field)),
                    None => (name, None),
                };
                let plain = field.is_none_or(|field| !field.is_empty() && !field.contains('.'));
                if !plain || !sections.contains(&section) {
                    return Err(format!(
                        "unknown field `{name}`; known: total, min, max, the sections {} and their fields, as in {}.name",
                        sections.join(", "),
                        sections.first().unwrap_or(&"host"),
                    ));
                }
                self.set_in_header(section, field, keep);
            }
        }
        Ok(())
    }

    fn set_in_header(&mut self, section: &str, field: Option<&str>, keep: bool) {
        let all = self.other_sections;
        let rule = self
            .sections
            .entry(section.to_owned())
            .or_insert_with(|| Rule {
                all,
                except: BTreeSet::new(),
            });
        match field {
            None => {
                rule.all = keep;
                rule.except.clear();
            }
            Some(field) if keep == rule.all => {
                rule.except.remove(field);
            }
            Some(field) => {
                rule.except.insert(field.to_owned());
            }
        }
    }

    /// What is kept of a header, section by section. A section that is not wanted at all is left out; one that is wanted is
    /// there even if it has none of the fields.
    pub(super) fn header<'a>(
        &'a self,
        metadata: &'a Metadata,
    ) -> impl Iterator<Item = (&'static str, impl Iterator<Item = (&'a String, &'a Json)>)> {
        metadata.sections.iter().filter_map(|(&name, section)| {
            let rule = self.sections.get(name);
            let wanted = rule.map_or(self.other_sections, |rule| {
                rule.all || !rule.except.is_empty()
            });
            let all = self.empty_labels || name != LABELS;
            let kept = move |&(field, value): &(&'a String, &'a Json)| {
                rule.is_none_or(|rule| rule.all != rule.except.contains(field))
                    && (all || value.as_str() != Some(""))
            };
            wanted.then(|| (name, section.iter().filter(kept)))
        })
    }

    /// A fact of the header, unless it is left out.
    pub(super) fn fact<'a>(
        &self,
        metadata: &'a Metadata,
        section: &str,
        field: &str,
    ) -> Option<&'a Json> {
        let kept = match self.sections.get(section) {
            Some(rule) => rule.all != rule.except.contains(field),
            None => self.other_sections,
        };
        kept.then(|| metadata.sections.get(section)?.get(field))?
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECTIONS: [&str; 3] = ["host", "labels", "os"];

    /// What is left of a header.
    fn header(names: &[&str], empty_labels: bool) -> Json {
        let object = |json: Json| json.as_object().cloned().unwrap();
        let metadata = Metadata {
            sections: [
                (
                    "host",
                    object(json!({"name": "web-1", "boot_id": "b", "empty": ""})),
                ),
                ("labels", object(json!({"rack": "b12", "note": ""}))),
                ("os", object(json!({"kernel": "6.1"}))),
            ]
            .into(),
        };
        let fields = Fields::parse(names.iter().copied(), empty_labels, &SECTIONS).unwrap();
        let kept = fields.header(&metadata).map(|(name, section)| {
            let section = section.map(|(field, value)| (field.clone(), value.clone()));
            (name.to_owned(), Json::Object(section.collect()))
        });
        Json::Object(kept.collect())
    }

    #[test]
    fn a_header_has_what_is_named() {
        for (names, expected) in [
            (vec!["host.name"], json!({"host": {"name": "web-1"}})),
            (
                vec!["host.name", "labels"],
                json!({"host": {"name": "web-1"}, "labels": {"rack": "b12", "note": ""}}),
            ),
            (
                vec!["host.name", "host", "!host.empty"],
                json!({"host": {"name": "web-1", "boot_id": "b"}}),
            ),
            (
                vec!["!host.boot_id", "!labels"],
                json!({"host": {"name": "web-1", "empty": ""}, "os": {"kernel": "6.1"}}),
            ),
            (vec!["host.name", "!host"], json!({})),
            (vec!["os.nothing"], json!({"os": {}})),
            (vec!["total"], json!({})),
            (vec![], json!({})),
        ] {
            assert_eq!(header(&names, true), expected, "{names:?}");
        }
        assert_eq!(
            header(&["labels"], false),
            json!({"labels": {"rack": "b12"}})
        );
    }

    #[test]
    fn what_is_not_named_is_kept_only_beside_what_is_left_out() {
        let of = |names: &[&str]| {
            let fields = Fields::parse(names.iter().copied(), true, &SECTIONS).unwrap();
            (fields.total, fields.min, fields.max)
        };
        assert_eq!(of(&["host"]), (false, false, false));
        assert_eq!(of(&["host", "total", "max"]), (true, false, true));
        assert_eq!(of(&["!total"]), (false, true, true));
        assert_eq!(of(&["!host"]), (true, true, true));
        assert_eq!(of(&["total", "!total"]), (false, false, false));
    }
}
