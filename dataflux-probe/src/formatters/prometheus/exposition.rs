//! Writes families in either syntax: metadata once, then samples, none of them twice.

use std::{borrow::Cow, collections::HashMap, ops::Range};

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
    /// Labels of all series of the family, one after the other: `{a="1",b="2"`, or nothing.
    labels: Vec<u8>,
    /// Where those of each series are.
    series: Vec<Range<usize>>,
    /// Where those of the series begin that is getting its labels.
    begun: usize,
    /// Where the names of these are.
    names: Vec<Range<usize>>,
    /// How each bucket's line of a histogram begins.
    bucket: Vec<u8>,
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
            names: Vec::new(),
            bucket: Vec::new(),
        }
    }

    /// Adds a label to the series, whose name is given in pieces. False if it has one of that name, which stays. One whose value
    /// is empty is the same as none.
    pub(super) fn label(&mut self, name: &[&str], value: &str) -> bool {
        value.is_empty()
            || self.label_of(name, |out| {
                out.extend_from_slice(escaped(value, true).as_bytes());
            })
    }

    /// The same with a value that is written in place, is not empty and has nothing to escape.
    pub(super) fn label_of(&mut self, name: &[&str], value: impl FnOnce(&mut Vec<u8>)) -> bool {
        let end = self.labels.len();
        let before = if end == self.begun { b'{' } else { b',' };
        self.labels.push(before);
        for piece in name {
            names::label(piece, &mut self.labels);
        }
        let place = end + 1..self.labels.len();
        let is_same =
            |known: &Range<usize>| self.labels[known.clone()] == self.labels[place.clone()];
        if self.names.iter().any(is_same) {
            self.labels.truncate(end);
            return false;
        }
        self.names.push(place);
        self.labels.extend_from_slice(b"=\"");
        value(&mut self.labels);
        self.labels.push(b'"');
        true
    }

    /// The series has all its labels.
    pub(super) fn end_of_labels(&mut self) {
        self.series.push(self.begun..self.labels.len());
        self.begun = self.labels.len();
        self.names.clear();
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
        self.sample("", 0, |out| out.push(b'1'));
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
        if all.len() < 2 {
            return all.collect();
        }
        let last: HashMap<&[u8], usize> = all.clone().map(|place| (labels(place), place)).collect();
        if last.len() == all.len() {
            return all.collect();
        }
        all.filter(|&place| last[labels(place)] == place).collect()
    }

    /// The value of a counter, in its own unit.
    pub(super) fn counter(&mut self, place: usize, total: u64) {
        let decimals = self.decimals;
        self.sample("_total", place, |out| numbers::whole(total, decimals, out));
    }

    /// The value of a gauge, in its own unit.
    pub(super) fn gauge(&mut self, place: usize, value: f64) {
        let decimals = self.decimals;
        self.sample("", place, |out| numbers::float(value, decimals, out));
    }

    /// The value of a gauge that is a whole number.
    pub(super) fn whole(&mut self, place: usize, value: u64) {
        self.sample("", place, |out| numbers::whole(value, 0, out));
    }

    /// A histogram: how many values are at or below each bound, how many there are, their sum.
    pub(super) fn histogram(&mut self, place: usize, bounds: &[Bound], buckets: &Buckets) {
        let labels = &self.labels[self.series[place].clone()];
        let before: &[u8] = if labels.is_empty() { b"{" } else { b"," };
        self.bucket.clear();
        for piece in [self.family.as_bytes(), b"_bucket", labels, before, b"le=\""] {
            self.bucket.extend_from_slice(piece);
        }
        let mut rest = buckets.counts.iter().peekable();
        let mut below = 0;
        for bound in bounds {
            while let Some((_, count)) = rest.next_if(|(bucket, _)| *bucket <= bound.bucket) {
                below += count;
            }
            self.bucket(&bound.text, below);
        }
        let count = buckets.count();
        let decimals = self.decimals;
        self.bucket("+Inf", count);
        self.sample("_count", place, |out| numbers::whole(count, 0, out));
        self.sample("_sum", place, |out| {
            numbers::whole(buckets.sum, decimals, out);
        });
    }

    fn bucket(&mut self, bound: &str, count: u64) {
        for piece in [&*self.bucket, bound.as_bytes(), b"\"} "] {
            self.out.extend_from_slice(piece);
        }
        numbers::whole(count, 0, self.out);
        self.out.push(b'\n');
    }

    /// What must stand at the end.
    pub(super) fn end(self) {
        if self.syntax == Syntax::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }

    fn sample(&mut self, suffix: &str, place: usize, value: impl FnOnce(&mut Vec<u8>)) {
        let labels = &self.labels[self.series[place].clone()];
        let after: &[u8] = if labels.is_empty() { b" " } else { b"} " };
        let out = &mut *self.out;
        for piece in [self.family.as_bytes(), suffix.as_bytes(), labels, after] {
            out.extend_from_slice(piece);
        }
        value(out);
        out.push(b'\n');
    }
}

/// What would end the text or its line, with a backslash.
fn escaped(text: &str, quotes: bool) -> Cow<'_, str> {
    let quote = if quotes { b'"' } else { b'\\' };
    let special = |byte: u8| (byte == b'\\') | (byte == b'\n') | (byte == quote);
    // To look at all of it is quicker than to stop at the first.
    let found = text
        .bytes()
        .fold(false, |found, byte| found | special(byte));
    if !found {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\\' => escaped.push_str("\\\\"),
            '"' if quotes => escaped.push_str("\\\""),
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}
