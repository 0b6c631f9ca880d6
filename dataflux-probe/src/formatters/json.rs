//! `json`: one envelope per line, as docs/envelope.md describes it field by field, or flat rows.

mod encoding;
mod rows;
pub(crate) mod schema;

use std::sync::Arc;

use serde::Deserialize;

use super::{Fields, Formatter, document::Document, writer::Writer};
use crate::{
    model::{Numbered, WallTime},
    plugin::{Needs, Plugin},
};
pub(super) use encoding::Compact;

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "json",
    summary: "JSON lines for programs: one envelope each, or flat rows; `schema` prints the JSON Schema of both",
    needs: Needs::NOTHING,
    example: r#"shape = "envelope"  # "rows" = a flat object for each series, source and loss; default: "envelope""#,
    metrics: &[],
    build: |section, context| {
        let Config { shape } = section.parse()?;
        Ok(Box::new(Json {
            shape,
            fields: Arc::clone(&context.fields),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    shape: Shape,
}

/// What one line holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shape {
    /// One envelope.
    #[default]
    Envelope,
    /// One series, one source, one loss.
    Rows,
}

struct Json {
    shape: Shape,
    fields: Arc<Fields>,
}

impl Formatter for Json {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn format(
        &self,
        numbered: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        match self.shape {
            Shape::Envelope => {
                Document(&self.fields).write(numbered, trans_time, Writer::<Compact>::new(out));
                out.push(b'\n');
            }
            Shape::Rows => rows::write(&self.fields, numbered, trans_time, out),
        }
        Ok(())
    }
}
