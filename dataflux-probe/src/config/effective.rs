//! What is in force: each section as text, after variables, includes and arguments, with the defaults that are known.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Section,
    secrets::{self, MASK},
    variables,
};

/// One section that is in force. Two with the same text came to the same.
#[derive(Clone, PartialEq, Eq)]
pub struct Effective {
    path: String,
    /// Everything that is written, and nothing else; it may have secrets in it.
    text: String,
    shown: String,
}

impl Effective {
    /// A section, with the values of the keys that it may not have, as TOML, and the description of a plugin's keys: of its
    /// own, or of those of a section in it.
    pub(super) fn new(
        section: &Section<'_>,
        defaults: &[(&str, String)],
        example: &str,
        inner: &[(&str, &str)],
    ) -> Self {
        let mut shown = Writer {
            section,
            hides: true,
            out: String::new(),
        };
        shown.table(section.path(), section.table(), defaults, example, inner);
        Self {
            path: section.path().to_owned(),
            text: text(section),
            shown: shown.out,
        }
    }

    /// `metrics.cpu`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// As TOML that means the same, without secrets; keys that are not set have their defaults or stand in comments.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// It may have secrets in it.
impl fmt::Debug for Effective {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{}]", self.path)
    }
}

/// What is written in a section, the same for the same content.
fn text(section: &Section<'_>) -> String {
    written(section, false)
}

/// As [`text`], without secrets.
pub(super) fn shown(section: &Section<'_>) -> String {
    written(section, true)
}

fn written(section: &Section<'_>, hides: bool) -> String {
    let mut writer = Writer {
        section,
        hides,
        out: String::new(),
    };
    writer.table(section.path(), section.table(), &[], "", &[]);
    writer.out
}

struct Writer<'a> {
    section: &'a Section<'a>,
    /// Whether its secrets are not shown.
    hides: bool,
    out: String,
}

impl Writer<'_> {
    fn table(
        &mut self,
        path: &str,
        table: &DeTable<'_>,
        defaults: &[(&str, String)],
        example: &str,
        inner: &[(&str, &str)],
    ) {
        let mut lines: BTreeMap<String, String> = defaults
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let mut tables = Vec::new();
        for (key, value) in table {
            let key = key.get_ref();
            lines.remove(&**key);
            match value.get_ref() {
                DeValue::Table(table) => tables.push((key, table)),
                _ => {
                    let value = self.value(value, secrets::is_secret(key));
                    lines.insert(key.to_string(), value);
                }
            }
        }
        if !path.is_empty() {
            self.line(format_args!("[{path}]"));
        }
        for (key, value) in &lines {
            self.line(format_args!("{} = {value}", name(key)));
        }
        for line in unset(example, |key| {
            lines.contains_key(key) || tables.iter().any(|(name, _)| **name == key)
        }) {
            self.line(format_args!("# {line}"));
        }
        for &(key, table) in &tables {
            let example = inner.iter().find(|(name, _)| *name == *key);
            let example = example.map_or("", |(_, example)| example);
            self.table(&joined(path, key), table, &[], example, &[]);
        }
        for (key, example) in inner {
            let is_there = tables.iter().any(|(name, _)| **name == **key);
            if !is_there && unset(example, |_| false).next().is_some() {
                self.table(&joined(path, key), &DeTable::new(), &[], example, &[]);
            }
        }
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a text does not fail.
        writeln!(self.out, "{text}").ok();
    }

    fn value(&self, value: &Spanned<DeValue<'_>>, is_secret: bool) -> String {
        match value.get_ref() {
            DeValue::Table(table) => {
                let entries = table.iter().map(|(key, value)| {
                    let is_secret = is_secret || secrets::is_secret(key.get_ref());
                    let value = self.value(value, is_secret);
                    format!("{} = {value}", name(key.get_ref()))
                });
                format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
            }
            DeValue::Array(items) => {
                let items = items.iter();
                let items = items.map(|item| self.value(item, is_secret));
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            _ if is_secret && self.hides => quote(MASK),
            DeValue::String(text) if self.section.is_typed(value.span().start) => text.to_string(),
            DeValue::String(text) if self.hides => {
                quote(&variables::escape(&self.section.hide(text)))
            }
            DeValue::String(text) => quote(text),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(date) => date.to_string(),
        }
    }
}

/// The lines of a description that have the defaults of keys that are not set.
fn unset<'a>(
    example: &'a str,
    is_set: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = &'a str> {
    let lines = example.lines();
    // What stands in a comment is an example of what could be, unless it says that it is the default.
    let lines = lines.filter(|line| !line.starts_with('#') || line.contains("default"));
    lines.filter_map(move |line| {
        let line = line.trim_start_matches(['#', ' ']);
        let (key, value) = line.split_once('=')?;
        let key = key.trim();
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit();
        let is_key = !key.is_empty() && key.bytes().all(plain) && value.starts_with(' ');
        (is_key && !is_set(key)).then_some(line)
    })
}

fn joined(path: &str, key: &str) -> String {
    let key = name(key);
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// A key as TOML has it.
fn name(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(plain) {
        key.to_owned()
    } else {
        quote(key)
    }
}

/// A length of time as TOML has it.
pub(super) fn time(time: Duration) -> String {
    quote(&humantime::format_duration(time).to_string())
}

/// A text as TOML has it.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                write!(out, "\\u{:04x}", u32::from(control)).ok();
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quoted_text_is_read_as_it_was(text: String) {
            let quoted = quote(&text);
            let read = DeValue::parse(&quoted).unwrap();
            prop_assert_eq!(read.get_ref().as_str(), Some(&*text));
        }
    }
}
