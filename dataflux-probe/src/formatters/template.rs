//! `template`: one line for each series, as the user writes it with placeholders; docs/formatters.md lists them.

mod conversion;
mod field;
mod parser;

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Fields, Formatter,
    naming::{self, visible},
};
use crate::{
    config::Section,
    model::{Numbered, WallTime},
    plugin::{Needs, Plugin},
};
use conversion::{Conversion, Given};
use field::{Field, Series};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "template",
    summary: "a line for each series that you write yourself, with placeholders and conversions",
    needs: Needs::NOTHING,
    example: r#"line = "{stop_time|unix} {host.name} {metric} {entity} {labels} {value}"  # required; {{ and }} are braces
missing = ""           # what stands for something that a series does not have; default: ""
header = ""            # the first line of a new file, as it is; "" = none; default: """#,
    metrics: &[],
    build: |section, context| Ok(Box::new(Template::new(section, &context.fields)?)),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    line: String,
    #[serde(default)]
    missing: String,
    #[serde(default)]
    header: String,
}

struct Template {
    line: Vec<Piece>,
    missing: String,
    header: String,
    fields: Arc<Fields>,
}

/// A part of the line.
#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Placeholder {
        field: Field,
        conversions: Vec<Conversion>,
    },
}

impl Template {
    fn new(section: &Section<'_>, fields: &Arc<Fields>) -> anyhow::Result<Self> {
        section.build(|config: Config, problems| {
            let Config {
                line,
                missing,
                mut header,
            } = config;
            for (key, text) in [("line", &line), ("missing", &missing), ("header", &header)] {
                let checked = parser::one_line(text);
                problems.note(checked.map_err(|mistake| section.error(Some(key), mistake)));
            }
            let line = parser::parse(&line).map_err(|mistakes| section.errors("line", mistakes))?;
            if !header.is_empty() {
                header.push('\n');
            }
            Ok(Self {
                line,
                missing,
                header,
                fields: Arc::clone(fields),
            })
        })
    }

    fn line(&self, series: &Series<'_>, out: &mut Vec<u8>) {
        for piece in &self.line {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Placeholder { field, conversions } => {
                    let given = conversions
                        .iter()
                        .fold(field.of(series), |given, conversion| conversion.of(given));
                    match given {
                        Given::Missing => out.extend_from_slice(self.missing.as_bytes()),
                        Given::Text(text) => out.extend_from_slice(visible(&text).as_bytes()),
                        given => given.write(out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

impl Formatter for Template {
    fn content_type(&self) -> &'static str {
        "text/plain; charset=utf-8"
    }

    fn file_header(&self) -> &[u8] {
        self.header.as_bytes()
    }

    fn format(
        &self,
        numbered: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        for source in &numbered.envelope.sources {
            let metadata = &numbered.envelope.metadata;
            let shared = naming::shared_labels(&self.fields, metadata, source);
            for metric in &source.metrics {
                let series = Series {
                    fields: &self.fields,
                    numbered,
                    trans_time,
                    source,
                    shared: &shared,
                    metric,
                };
                self.line(&series, out);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
