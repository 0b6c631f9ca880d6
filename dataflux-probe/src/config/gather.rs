//! One table out of all texts: variables are put in, sections of the same name become one, arguments come last.

use std::{cmp::Reverse, collections::HashMap};

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    problem::Problem,
    secrets,
    text::{File, Kind, Part},
    variables,
};

/// What is known of the values beside their places.
#[derive(Default)]
pub(super) struct Notes {
    /// Texts that must not be shown.
    pub(super) hidden: Vec<String>,
    /// The secret variables in values, with the paths of their keys.
    pub(super) variables: Vec<(String, String)>,
    /// By their places: texts of which the key says whether they are a text, a number or a flag.
    pub(super) bare: HashMap<usize, String>,
}

/// How deep tables and lists may be in each other: whatever walks through them calls itself so many times.
const DEEPEST: usize = 64;

/// The table of a text, or each place where it is not TOML.
pub(super) fn parse(text: &str) -> Result<DeTable<'_>, Vec<(usize, String)>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let table = DeValue::Table(table.into_inner());
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (at, format!("not TOML: {}", error.message()))
        })
        .collect();
    errors.extend(too_deep(&table).map(|at| (at, "not TOML: nests too deeply".to_owned())));
    match table {
        DeValue::Table(table) if errors.is_empty() => Ok(table),
        other => {
            take_apart(other);
            Err(errors)
        }
    }
}

/// Where something is too deep.
fn too_deep(root: &DeValue<'_>) -> Option<usize> {
    let mut waiting = vec![(root, 0, 0)];
    while let Some((value, at, depth)) = waiting.pop() {
        if depth > DEEPEST {
            return Some(at);
        }
        let values: Vec<&Spanned<DeValue<'_>>> = match value {
            DeValue::Table(table) => table.values().collect(),
            DeValue::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        let values = values.into_iter();
        waiting.extend(values.map(|value| (value.get_ref(), value.span().start, depth + 1)));
    }
    None
}

/// Drops a value level by level, however deep it is.
fn take_apart(value: DeValue<'_>) {
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        match value {
            DeValue::Table(table) => {
                waiting.extend(table.into_iter().map(|(_, value)| value.into_inner()));
            }
            DeValue::Array(items) => {
                waiting.extend(items.into_iter().map(Spanned::into_inner));
            }
            _ => {}
        }
    }
}

/// What is being made.
struct Gathering<'a> {
    file: &'a File,
    notes: Notes,
    problems: Vec<Problem>,
}

/// The table, what is known of its values, and everything that is wrong.
pub(super) fn gather(file: &File) -> (DeTable<'_>, Notes, Vec<Problem>) {
    let mut gathering = Gathering {
        file,
        notes: Notes::default(),
        problems: Vec::new(),
    };
    let mut all = DeTable::new();
    for part in file.parts() {
        let table = gathering.part(part);
        match part.kind {
            Kind::Argument { depth, .. } => gathering.set(&mut all, table, depth, ""),
            Kind::Main | Kind::Included => gathering.merge(&mut all, table, ""),
        }
    }
    (all, gathering.notes, gathering.problems)
}

impl<'a> Gathering<'a> {
    /// A part's table, with places that count from the beginning of all texts.
    fn part(&mut self, part: &'a Part) -> DeTable<'a> {
        let table = match parse(&part.text) {
            Ok(table) => table,
            Err(errors) => {
                let errors = errors.into_iter();
                let mut problems: Vec<_> = errors
                    .map(|(at, message)| self.file.problem(part.base + at, "", &message))
                    .collect();
                // One slip makes the rest of its line unreadable in more than one way.
                problems.sort_by_key(|problem| problem.place);
                problems.dedup_by_key(|problem| problem.place);
                self.problems.extend(problems);
                return DeTable::new();
            }
        };
        let mut table = self.table(table, part, "");
        if self.file.is_whole
            && let Some((key, value)) = table.remove_entry("include")
        {
            let message = match (part.kind, value.get_ref()) {
                (Kind::Main, DeValue::String(_)) => return table,
                (Kind::Main, _) => "must be the path of a folder, in quotes",
                (Kind::Included, _) => "only the file that is given itself can include others",
                (Kind::Argument { .. }, _) => "stands in the file alone",
            };
            self.tell(key.span().start, "include", message);
        }
        table
    }

    fn table(&mut self, table: DeTable<'a>, part: &Part, path: &str) -> DeTable<'a> {
        let entry = |(key, value): (Spanned<DeString<'a>>, _)| {
            let path = join(path, key.get_ref());
            let is_secret = secrets::is_secret(key.get_ref());
            let value = self.value(value, part, &path, is_secret);
            (shifted(key, part.base), value)
        };
        table.into_iter().map(entry).collect()
    }

    fn value(
        &mut self,
        value: Spanned<DeValue<'a>>,
        part: &Part,
        path: &str,
        is_secret: bool,
    ) -> Spanned<DeValue<'a>> {
        let span = value.span();
        let at = part.base + span.start;
        let value = match value.into_inner() {
            DeValue::String(text) => {
                DeValue::String(self.text(text, at, part.kind, path, is_secret))
            }
            DeValue::Table(table) => DeValue::Table(self.table(table, part, path)),
            DeValue::Array(items) => {
                let items = items.into_iter();
                DeValue::Array(
                    items
                        .map(|item| self.value(item, part, path, is_secret))
                        .collect(),
                )
            }
            other => {
                if is_secret {
                    self.conceal(plain(&other));
                }
                other
            }
        };
        Spanned::new(at..part.base + span.end, value)
    }

    fn text(
        &mut self,
        text: DeString<'a>,
        at: usize,
        kind: Kind,
        path: &str,
        is_secret: bool,
    ) -> DeString<'a> {
        let put_in = match variables::substitute(&text, self.file.environment) {
            Ok(put_in) => put_in,
            Err(message) => {
                self.tell(at, path, &message);
                None
            }
        };
        let mut is_bare = matches!(kind, Kind::Argument { is_bare: true, .. });
        let text = match put_in {
            Some(put_in) => {
                is_bare |= put_in.is_whole;
                let used = put_in.used.into_iter();
                for (name, value) in used.filter(|(name, _)| secrets::is_secret(name)) {
                    self.notes.variables.push((path.to_owned(), name));
                    self.conceal(value);
                }
                put_in.text.into()
            }
            None => text,
        };
        for secret in secrets::of_addresses(&text) {
            self.conceal(secret.to_owned());
        }
        if is_secret {
            self.conceal(text.to_string());
        }
        if is_bare {
            self.notes.bare.insert(at, text.to_string());
        }
        text
    }

    fn conceal(&mut self, secret: String) {
        if !secret.is_empty() && !self.notes.hidden.contains(&secret) {
            self.notes.hidden.push(secret);
            // One may be the beginning of another, of which nothing may be left.
            self.notes
                .hidden
                .sort_by_key(|secret| Reverse(secret.len()));
        }
    }

    /// Adds a file's table to those before it. No key is set twice.
    fn merge(&mut self, all: &mut DeTable<'a>, table: DeTable<'a>, path: &str) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            let there = all.get_key_value(&**key.get_ref());
            let there = there.map(|(there, _)| there.span().start);
            let known = all.get_mut(&**key.get_ref()).map(Spanned::get_mut);
            match (known, there, value.get_ref()) {
                (Some(DeValue::Table(known)), _, DeValue::Table(_)) => {
                    if let DeValue::Table(table) = value.into_inner() {
                        self.merge(known, table, &path);
                    }
                }
                (Some(_), Some(there), _) => {
                    let message = format!("is set in {} already", self.file.place(there));
                    self.tell(key.span().start, &path, &message);
                }
                _ => {
                    all.insert(key, value);
                }
            }
        }
    }

    /// Sets the one key of an argument's table, which has so many parts.
    fn set(&mut self, all: &mut DeTable<'a>, table: DeTable<'a>, depth: usize, path: &str) {
        for (key, value) in table {
            let path = join(path, key.get_ref());
            let known = all.get_mut(&**key.get_ref()).map(Spanned::get_mut);
            match (known, value) {
                (Some(DeValue::Table(known)), value) if depth > 1 => {
                    if let DeValue::Table(table) = value.into_inner() {
                        self.set(known, table, depth - 1, &path);
                    }
                }
                (Some(_), _) if depth > 1 => {
                    let message = format!("{path} is no section");
                    self.tell(key.span().start, "", &message);
                }
                (_, value) => {
                    // The key that is there knows another place.
                    all.remove(&**key.get_ref());
                    all.insert(key, value);
                }
            }
        }
    }

    fn tell(&mut self, at: usize, path: &str, message: &str) {
        self.problems.push(self.file.problem(at, path, message));
    }
}

fn shifted<T>(value: Spanned<T>, base: usize) -> Spanned<T> {
    let span = value.span();
    Spanned::new(base + span.start..base + span.end, value.into_inner())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// A number, flag or date as it is written.
fn plain(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Boolean(_) | DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_) => {
            String::new()
        }
    }
}
