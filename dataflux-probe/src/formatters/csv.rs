//! `csv`: long form, one row for each series, always the same columns; docs/formatters.md describes them.
//!
//! Quoting and line ends are those of RFC 4180, in UTF-8. No cell holds a line break, so every row is one line.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    Fields, Formatter,
    json::Compact,
    naming::{self, EntityNames, visible},
    numbers, rfc3339,
    writer::{Writer, nanoseconds},
};
use crate::{
    histogram::{QUANTILES, quantiles},
    model::{Metric, Numbered, Source, Value, WallTime},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "csv",
    summary: "comma-separated values with a header row, one row for each series",
    needs: Needs::NOTHING,
    example: r#"spreadsheet = false  # true = a ' before text that a spreadsheet would take for a formula; default: false"#,
    metrics: &[],
    build: |section, context| {
        let Config { spreadsheet } = section.parse()?;
        Ok(Box::new(Csv {
            spreadsheet,
            fields: Arc::clone(&context.fields),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    spreadsheet: bool,
}

struct Csv {
    spreadsheet: bool,
    fields: Arc<Fields>,
}

/// The first row of a file.
const HEADER: &str = "stream,first,last,part,parts,host,reader,status,lost,start_time,stop_time,covered_ns,\
    metric,kind,unit,entity,entity_id,entity_name,labels,value,total,min,max,count,sum,p50,p90,p99,p999,p100\r\n";

impl Formatter for Csv {
    fn content_type(&self) -> &'static str {
        "text/csv; charset=utf-8"
    }

    fn file_header(&self) -> &[u8] {
        HEADER.as_bytes()
    }

    fn format(
        &self,
        numbered: &Numbered,
        _trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let metadata = &numbered.envelope.metadata;
        let mut begun = Vec::with_capacity(256);
        let mut row = self.row(&mut begun);
        row.text(&numbered.stream.id);
        row.number(*numbered.range.start());
        row.number(*numbered.range.end());
        row.number(numbered.part.part.into());
        row.number(numbered.part.parts.into());
        row.text(naming::host(&self.fields, metadata).unwrap_or_default());
        let common = begun.len();
        for source in &numbered.envelope.sources {
            of_source(source, &mut self.row(&mut begun));
            let shared = naming::shared_labels(&self.fields, metadata, source);
            for metric in &source.metrics {
                out.extend_from_slice(&begun);
                self.series(&shared, metric, &mut self.row(out));
                // The last cell has its comma, too.
                out.pop();
                out.extend_from_slice(b"\r\n");
            }
            begun.truncate(common);
        }
        Ok(())
    }
}

/// What all series of a source have.
fn of_source(source: &Source, row: &mut Row<'_>) {
    row.plain(source.reader.as_bytes());
    row.plain(source.health.status.name().as_bytes());
    row.number(source.lost);
    row.plain(&rfc3339::text(source.window.start));
    row.plain(&rfc3339::text(source.window.stop));
    row.number(nanoseconds(source.covered));
}

impl Csv {
    fn row<'a>(&self, out: &'a mut Vec<u8>) -> Row<'a> {
        Row {
            out,
            spreadsheet: self.spreadsheet,
        }
    }

    fn series(&self, shared: &[(&str, &str)], metric: &Metric, row: &mut Row<'_>) {
        let def = metric.def;
        for text in [def.name, def.kind.name(), def.unit.name()] {
            row.plain(text.as_bytes());
        }
        if let Some(entity) = EntityNames::of(metric) {
            row.plain(entity.kind.as_bytes());
            row.text(entity.id.as_deref().unwrap_or_default());
            row.text(entity.name.unwrap_or_default());
        } else {
            row.empty(3);
        }
        row.labels(naming::labels(&self.fields, shared, metric));
        match &metric.value {
            Value::Counter { value, total } => {
                row.maybe(*value);
                row.maybe(self.fields.total.then_some(*total));
                row.empty(2 + 2 + QUANTILES.len());
            }
            Value::Gauge { value, min, max } => {
                row.float(*value);
                row.empty(1);
                for (bound, wanted) in [(min, self.fields.min), (max, self.fields.max)] {
                    if wanted {
                        row.float(*bound);
                    } else {
                        row.empty(1);
                    }
                }
                row.empty(2 + QUANTILES.len());
            }
            Value::Histogram(buckets) => {
                row.empty(4);
                row.number(buckets.count());
                row.number(buckets.sum);
                let mut missing = QUANTILES.len();
                for (_, value) in quantiles(buckets) {
                    row.number(value);
                    missing -= 1;
                }
                row.empty(missing);
            }
        }
    }
}

/// A row that is being written; every cell ends in a comma.
struct Row<'a> {
    out: &'a mut Vec<u8>,
    /// Whether text must not look like a formula.
    spreadsheet: bool,
}

impl Row<'_> {
    fn empty(&mut self, cells: usize) {
        self.out.resize(self.out.len() + cells, b',');
    }

    fn number(&mut self, value: u64) {
        numbers::unsigned(value, self.out);
        self.out.push(b',');
    }

    fn maybe(&mut self, value: Option<u64>) {
        match value {
            Some(value) => self.number(value),
            None => self.empty(1),
        }
    }

    fn float(&mut self, value: f64) {
        numbers::float(value, self.out);
        self.out.push(b',');
    }

    /// Text of our own, which never has to be quoted.
    fn plain(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
        self.out.push(b',');
    }

    /// Text from outside.
    fn text(&mut self, text: &str) {
        let text = visible(text);
        let formula = self.spreadsheet && text.starts_with(['=', '+', '-', '@']);
        if formula || text.contains([',', '"', ' ']) {
            self.out.push(b'"');
            if formula {
                self.out.push(b'\'');
            }
            self.quoted(text.as_bytes());
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(text.as_bytes());
        }
        self.out.push(b',');
    }

    /// A JSON object of texts; empty for none.
    fn labels<'a>(&mut self, labels: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut labels = labels.peekable();
        if labels.peek().is_some() {
            let mut json = Vec::with_capacity(64);
            let mut object = Writer::<Compact>::new(&mut json).object();
            for (name, value) in labels {
                object.any_text(name, value);
            }
            object.end();
            self.out.push(b'"');
            self.quoted(&json);
            self.out.push(b'"');
        }
        self.out.push(b',');
    }

    /// The inside of a quoted cell.
    fn quoted(&mut self, text: &[u8]) {
        for &byte in text {
            if byte == b'"' {
                self.out.push(b'"');
            }
            self.out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(text: &str, spreadsheet: bool) -> String {
        let mut out = Vec::new();
        let mut row = Row {
            out: &mut out,
            spreadsheet,
        };
        row.text(text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        for (text, expected) in [
            ("", ","),
            ("web-1", "web-1,"),
            ("a,b", "\"a,b\","),
            ("say \"a\"", "\"say \"\"a\"\"\","),
            ("a\r\nb", "a\\r\\nb,"),
            ("=1+1", "=1+1,"),
        ] {
            assert_eq!(cell(text, false), expected);
        }
    }

    #[test]
    fn a_spreadsheet_sees_no_formula() {
        for text in ["=1+1", "+1", "-1", "@a"] {
            assert_eq!(cell(text, true), format!("\"'{text}\","));
        }
        assert_eq!(cell("a=1", true), "a=1,");
    }

    #[test]
    fn the_header_has_a_column_for_every_quantile() {
        let names: Vec<_> = QUANTILES.iter().map(|(name, _)| *name).collect();
        let end = format!("count,sum,{}\r\n", names.join(","));
        assert!(HEADER.ends_with(&end), "{end}");
    }
}
