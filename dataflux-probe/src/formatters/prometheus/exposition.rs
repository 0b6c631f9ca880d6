//! Writes families in either syntax: metadata once, then samples, none of them twice.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write as _},
    ops::Range,
};

use serde::Deserialize;

use super::{histogram::Bound, names, numbers};
use crate::model::{Buckets, Kind, MetricDef};

/// How it is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Syntax {
    /// Prometheus' own, version 0.0.4.
    #[default]
    Text,
    /// Version 1.0.0.
    OpenMetrics,
}

impl Syntax {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Text => Self::OpenMetrics,
            Self::OpenMetrics => Self::Text,
        }
    }
}

/// What is being written. A family is begun, then it gets the labels of all its series, then their values.
pub(super) struct Exposition<'a> {
    syntax: Syntax,
    out: &'a mut Vec<u8>,
    family: String,
    decimals: u8,
    /// Labels of all series of the family, `a="1",b="2"`, one after the other.
    labels: Vec<u8>,
    /// Where those of each series are.
    series: Vec<Range<usize>>,
    /// Where those of the series begin that is getting its labels.
    begun: usize,
}

impl<'a> Exposition<'a> {
    pub(super) fn new(syntax: Syntax, out: &'a mut Vec<u8>) -> Self {
        Self {
            syntax,
            out,
            family: String::new(),
            decimals: 0,
            labels: Vec::new(),
            series: Vec::new(),
            begun: 0,
        }
    }

    /// Adds a label to the series, unless it has one of that name. One whose value is empty is the same as none.
    pub(super) fn label(&mut self, name: &str, value: &str) {
        if value.is_empty() || self.has(name) {
            return;
        }
        if self.labels.len() > self.begun {
            self.labels.push(b',');
        }
        self.labels.extend_from_slice(name.as_bytes());
        self.labels.extend_from_slice(b"=\"");
        self.labels
            .extend_from_slice(escaped(value, true).as_bytes());
        self.labels.push(b'"');
    }

    /// Whether the series has a label of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        // In a value the quotes have a backslash before them.
        let own = &self.labels[self.begun..];
        let wanted = [b",", name.as_bytes(), b"=\""].concat();
        own.starts_with(&wanted[1..]) || own.windows(wanted.len()).any(|found| found == wanted)
    }

    /// The series has all its labels.
    pub(super) fn end_of_labels(&mut self) {
        self.series.push(self.begun..self.labels.len());
        self.begun = self.labels.len();
    }

    /// The family that the labels are of which were given, as an information that is always 1.
    pub(super) fn target(&mut self, help: &str) {
        self.end_of_labels();
        let (family, kind) = match self.syntax {
            Syntax::Text => ("target_info", "gauge"),
            Syntax::OpenMetrics => ("target", "info"),
        };
        self.metadata(family, kind, None, help);
        self.family = "target_info".to_owned();
        self.sample("", 0, None, |out| out.write_all(b"1"));
    }

    /// Begins the family of a metric.
    pub(super) fn begin(&mut self, def: &MetricDef) {
        self.labels.clear();
        self.series.clear();
        self.begun = 0;
        let family = names::family(def);
        let (kind, suffix) = match def.kind {
            Kind::Counter { .. } => ("counter", "_total"),
            Kind::Gauge => ("gauge", ""),
            Kind::Histogram => ("histogram", ""),
        };
        match self.syntax {
            Syntax::Text => {
                let name = family.clone() + suffix;
                self.metadata(&name, kind, None, def.help);
            }
            Syntax::OpenMetrics => self.metadata(&family, kind, names::unit(def.unit), def.help),
        }
        self.decimals = names::decimals(def.unit);
        self.family = family;
    }

    fn metadata(&mut self, name: &str, kind: &str, unit: Option<&str>, help: &str) {
        let help = escaped(help, self.syntax == Syntax::OpenMetrics);
        let mut lines = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        if let Some(unit) = unit {
            lines.push_str(&format!("# UNIT {name} {unit}\n"));
        }
        self.out.extend_from_slice(lines.as_bytes());
    }

    /// The places of the series that have labels of their own. Of those that read the same it is the last one.
    pub(super) fn distinct(&self) -> Vec<usize> {
        let labels = |place: usize| &self.labels[self.series[place].clone()];
        let all = 0..self.series.len();
        let last: HashMap<&[u8], usize> = all.clone().map(|place| (labels(place), place)).collect();
        all.filter(|&place| last[labels(place)] == place).collect()
    }

    /// The value of a counter, in its own unit.
    pub(super) fn counter(&mut self, place: usize, total: u64) {
        let decimals = self.decimals;
        self.sample("_total", place, None, |out| {
            numbers::whole(total, decimals, out)
        });
    }

    /// The value of a gauge, in its own unit.
    pub(super) fn gauge(&mut self, place: usize, value: f64) {
        let decimals = self.decimals;
        self.sample("", place, None, |out| numbers::float(value, decimals, out));
    }

    /// The value of a gauge that is a whole number.
    pub(super) fn whole(&mut self, place: usize, value: u64) {
        self.sample("", place, None, |out| numbers::whole(value, 0, out));
    }

    /// A histogram: how many values are at or below each bound, how many there are, their sum.
    pub(super) fn histogram(&mut self, place: usize, bounds: &[Bound], buckets: &Buckets) {
        let mut rest = buckets.counts.iter().peekable();
        let mut below = 0;
        for bound in bounds {
            while let Some((_, count)) = rest.next_if(|(bucket, _)| *bucket <= bound.bucket) {
                below += count;
            }
            self.sample("_bucket", place, Some(&bound.text), |out| {
                numbers::whole(below, 0, out)
            });
        }
        let count = buckets.count();
        let decimals = self.decimals;
        let of_count = |out: &mut Vec<u8>| numbers::whole(count, 0, out);
        self.sample("_bucket", place, Some("+Inf"), of_count);
        self.sample("_count", place, None, of_count);
        self.sample("_sum", place, None, |out| {
            numbers::whole(buckets.sum, decimals, out)
        });
    }

    /// What must stand at the end.
    pub(super) fn end(self) {
        if self.syntax == Syntax::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }

    fn sample(
        &mut self,
        suffix: &str,
        place: usize,
        bound: Option<&str>,
        value: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) {
        let labels = &self.labels[self.series[place].clone()];
        let out = &mut *self.out;
        out.extend_from_slice(self.family.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        if !labels.is_empty() || bound.is_some() {
            out.push(b'{');
            out.extend_from_slice(labels);
            if let Some(bound) = bound {
                let comma = if labels.is_empty() { "" } else { "," };
                for piece in [comma, "le=\"", bound, "\""] {
                    out.extend_from_slice(piece.as_bytes());
                }
            }
            out.push(b'}');
        }
        out.push(b' ');
        value(out).expect("a vector takes everything");
        out.push(b'\n');
    }
}

/// What would end the text or its line, with a backslash.
fn escaped(text: &str, quotes: bool) -> Cow<'_, str> {
    let special = |c: char| c == '\\' || c == '\n' || quotes && c == '"';
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            c if special(c) => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}
