//! One table of the configuration file that knows its path and line, so that errors can name both.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem,
};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    known,
    problem::{Invalid, Problem, Problems},
};

pub use super::text::File;

/// One table of a configuration file.
#[derive(Clone)]
pub struct Section<'a> {
    /// `metrics.scheduler`; empty for the whole file.
    path: String,
    file: &'a File,
    table: Spanned<DeTable<'a>>,
    /// Keys that were taken out already, which an error lists beside those of the plugin.
    taken: Vec<&'static str>,
}

/// Its values may be secrets.
impl fmt::Debug for Section<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{}]", self.path)
    }
}

impl<'a> Section<'a> {
    /// The table that is a whole file.
    pub(super) fn root(file: &'a File, table: Spanned<DeTable<'a>>) -> Self {
        Self {
            path: String::new(),
            file,
            table,
            taken: Vec::new(),
        }
    }

    /// What is in it.
    pub(super) fn table(&self) -> &DeTable<'a> {
        self.table.get_ref()
    }

    /// Whether the text at a place was read as a number or a flag.
    pub(super) fn is_typed(&self, at: usize) -> bool {
        self.file.is_typed(at)
    }

    /// The text without any secret of the configuration.
    pub(super) fn hide(&self, text: &str) -> String {
        self.file.hide(text, "")
    }

    /// The path of this section in its file: `metrics.scheduler`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it says: equal sections have equal fingerprints, wherever they stand and however they are written.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        hash_table(self.table.get_ref(), &mut hasher);
        hasher.finish()
    }

    /// The plugin's view of this section. Keys that were taken out are known, and not in it.
    ///
    /// # Errors
    /// All unknown keys and wrong values, with path, line and what is known.
    pub fn parse<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.build(|value, _| Ok(value))
    }

    /// As [`Section::parse`], and makes something of the value. What `make` notes or gives as an error is told together with
    /// unknown keys and wrong values: then it has a value without those, unless a key is missing that must be there.
    ///
    /// # Errors
    /// As [`Section::parse`], and whatever `make` finds wrong.
    pub(crate) fn build<T: DeserializeOwned, B>(
        &self,
        make: impl FnOnce(T, &mut Problems) -> anyhow::Result<B>,
    ) -> anyhow::Result<B> {
        let mut problems = Problems::default();
        let value = self.read(&mut problems);
        match value.map(|value| make(value, &mut problems)) {
            Some(Ok(made)) if problems.is_empty() => return Ok(made),
            Some(Err(error)) if error.is::<Invalid>() => problems.push(error),
            Some(Err(error)) => problems.push(self.error(None, format!("{error:#}"))),
            Some(Ok(_)) | None => {}
        }
        Err(problems.invalid().into())
    }

    /// Notes all unknown keys and wrong values, and gives what is there without them. `None` if a key is missing that must be
    /// there, which is noted as well.
    pub(crate) fn read<T: DeserializeOwned>(&self, problems: &mut Problems) -> Option<T> {
        let mut rest = self.clone();
        let before = problems.len();
        problems.extend(rest.remove_unknown(known::keys::<T>()));
        loop {
            match T::deserialize(toml::Deserializer::from(rest.table.clone())) {
                Ok(value) => return Some(value),
                Err(error) if rest.retype(&error) => {}
                Err(error) => match rest.remove_at(&error) {
                    Some(problem) => problems.extend([problem]),
                    None => {
                        // One may be missing only because its wrong value was removed.
                        let missing = error.message().split('`').nth(1);
                        let was_there = missing.is_some_and(|key| self.has(key));
                        if problems.len() == before || !was_there {
                            problems.extend([self.problem(None, error.message())]);
                        }
                        return None;
                    }
                },
            }
        }
    }

    /// Whether a key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get_ref().contains_key(key)
    }

    /// Takes every sub-section out, in the order of the file, so that the rest can be parsed without them.
    #[must_use]
    pub fn take_sections(&mut self) -> Vec<(String, Self)> {
        let mut names: Vec<_> = self
            .table
            .get_ref()
            .iter()
            .filter(|(_, value)| matches!(value.get_ref(), DeValue::Table(_)))
            .map(|(key, _)| (key.span().start, key.get_ref().to_string()))
            .collect();
        names.sort();
        names
            .into_iter()
            .filter_map(|(_, name)| {
                let section = self.take_section(&name).ok().flatten()?;
                Some((name, section))
            })
            .collect()
    }

    /// Takes a sub-section out, so that the rest can be parsed without it.
    ///
    /// # Errors
    /// The key holds something else than a table.
    pub fn take_section(&mut self, name: &str) -> anyhow::Result<Option<Self>> {
        let Some((key, value)) = self.table.get_mut().remove_entry(name) else {
            return Ok(None);
        };
        let at = key.span().start;
        let path = self.join(name);
        match value.into_inner() {
            DeValue::Table(table) => Ok(Some(Self {
                path,
                file: self.file,
                table: Spanned::new(at..at, table),
                taken: Vec::new(),
            })),
            _ => {
                let message = format!("must be a section, [{path}]");
                Err(Invalid::new(vec![self.file.problem(at, &path, &message)]).into())
            }
        }
    }

    /// Takes one value out, so that the rest can be parsed without it.
    ///
    /// # Errors
    /// The value has the wrong type.
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> anyhow::Result<Option<T>> {
        self.taken.push(name);
        let Some((key, value)) = self.table.get_mut().remove_entry(name) else {
            return Ok(None);
        };
        let read = |value| T::deserialize(toml::de::ValueDeserializer::from(value)).map(Some);
        read(value.clone())
            .or_else(|error| match self.typed(&error, value.span().start) {
                Some(typed) => {
                    self.file.note_type(value.span().start);
                    read(Spanned::new(value.span(), typed))
                }
                None => Err(error),
            })
            .map_err(|error| {
                let at = error.span().map_or(key.span().start, |span| span.start);
                let path = self.join(name);
                let problem = self.file.problem_of_value(at, &path, error.message());
                Invalid::new(vec![problem]).into()
            })
    }

    /// As [`Section::take_section`], for a table that an error lists among the known keys.
    pub(super) fn take_table(&mut self, name: &'static str) -> anyhow::Result<Option<Self>> {
        self.taken.push(name);
        self.take_section(name)
    }

    /// Without keys that somebody else reads, which an error lists among the known ones.
    #[must_use]
    pub(super) fn without(&self, keys: impl Iterator<Item = &'static str>) -> Self {
        let mut rest = self.clone();
        for key in keys {
            rest.table.get_mut().remove(key);
            rest.taken.push(key);
        }
        rest
    }

    /// An empty sub-section, for a plugin that has none in the file.
    #[must_use]
    pub fn empty(&self, name: &str) -> Self {
        let at = self.table.span().start;
        Self {
            path: self.join(name),
            file: self.file,
            table: Spanned::new(at..at, DeTable::new()),
            taken: Vec::new(),
        }
    }

    /// Every key that is still there is wrong.
    pub(super) fn refuse_rest(&self, message: &str, problems: &mut Problems) {
        for key in self.table.get_ref().keys() {
            problems.extend([self.problem_of_key(key.get_ref(), message)]);
        }
    }

    /// An error about this section, or about one of its keys if it is there.
    #[must_use]
    pub fn error(&self, key: Option<&str>, message: impl fmt::Display) -> anyhow::Error {
        Invalid::new(vec![self.problem(key, &message.to_string())]).into()
    }

    /// Several errors about one of its keys.
    pub(crate) fn errors<M: fmt::Display>(
        &self,
        key: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> anyhow::Error {
        let messages = messages.into_iter();
        let problems = messages.map(|message| self.problem(Some(key), &message.to_string()));
        Invalid::new(problems.collect()).into()
    }

    /// An error about a place in the file that belongs to one of this section's keys.
    pub(super) fn error_at(
        &self,
        at: usize,
        key: &str,
        message: impl fmt::Display,
    ) -> anyhow::Error {
        let path = self.join(key);
        let problem = self.file.problem_of_value(at, &path, &message.to_string());
        Invalid::new(vec![problem]).into()
    }

    fn problem(&self, key: Option<&str>, message: &str) -> Problem {
        match key {
            Some(key) => self
                .file
                .problem_of_value(self.at(key), &self.join(key), message),
            None => self
                .file
                .problem(self.table.span().start, &self.path, message),
        }
    }

    /// That a key stands there at all is wrong, whatever its value is.
    fn problem_of_key(&self, key: &str, message: &str) -> Problem {
        self.file.problem(self.at(key), &self.join(key), message)
    }

    /// Where a key stands, or the section if it is not there.
    fn at(&self, key: &str) -> usize {
        let there = self.table.get_ref().get_key_value(key);
        there.map_or(self.table.span().start, |(key, _)| key.span().start)
    }

    fn remove_unknown(&mut self, fields: Option<&[&'static str]>) -> Vec<Problem> {
        let Some(fields) = fields else {
            return Vec::new();
        };
        let known: Vec<_> = self.taken.iter().chain(fields).copied().collect();
        let unknown: Vec<_> = self
            .table
            .get_ref()
            .keys()
            .map(|key| key.get_ref().to_string())
            .collect();
        let unknown = unknown.into_iter().filter(|key| !fields.contains(&&**key));
        unknown
            .map(|key| {
                let message = match known.as_slice() {
                    [] => "unknown key; this section has none".to_owned(),
                    known => format!("unknown key; known: {}", known.join(", ")),
                };
                let problem = self.problem_of_key(&key, &message);
                self.table.get_mut().remove(&*key);
                problem
            })
            .collect()
    }

    /// The number or flag that a text without quotes may be meant as, if the error is that it is a text.
    fn typed(&self, error: &toml::de::Error, at: usize) -> Option<DeValue<'a>> {
        if !error.message().starts_with("invalid type: string") {
            return None;
        }
        let value = DeValue::parse(self.file.bare(at)?).ok()?.into_inner();
        let is_plain = matches!(
            value,
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_)
        );
        is_plain.then_some(value)
    }

    /// Makes the value that an error is about a number or flag, if it may be meant as one.
    fn retype(&mut self, error: &toml::de::Error) -> bool {
        let Some(at) = error.span().map(|span| span.start) else {
            return false;
        };
        let Some(typed) = self.typed(error, at) else {
            return false;
        };
        value_at(self.table.get_mut(), at).is_some_and(|value| {
            let is_text = matches!(value, DeValue::String(_));
            if is_text {
                *value = typed;
                self.file.note_type(at);
            }
            is_text
        })
    }

    /// Removes the key that an error is about, if it is about one, so that the rest can be looked at.
    fn remove_at(&mut self, error: &toml::de::Error) -> Option<Problem> {
        let at = error.span()?.start;
        let names = find(self.table.get_ref(), at)?;
        // What the TOML reader says of a choice that is no text.
        let message = match error.message() {
            "wanted string or table" => "must be a text in quotes",
            message => message,
        };
        let path = self.join(&names.join("."));
        let problem = self.file.problem_of_value(at, &path, message);
        self.table.get_mut().remove(&*names[0]);
        Some(problem)
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

fn hash_table(table: &DeTable<'_>, hasher: &mut DefaultHasher) {
    table.len().hash(hasher);
    // In the order of their names.
    for (key, value) in table {
        key.get_ref().hash(hasher);
        hash_value(value.get_ref(), hasher);
    }
}

fn hash_value(value: &DeValue<'_>, hasher: &mut DefaultHasher) {
    mem::discriminant(value).hash(hasher);
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => (number.radix(), number.as_str()).hash(hasher),
        DeValue::Float(number) => number.as_str().hash(hasher),
        DeValue::Boolean(value) => value.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(values) => {
            values.len().hash(hasher);
            for value in values {
                hash_value(value.get_ref(), hasher);
            }
        }
        DeValue::Table(table) => hash_table(table, hasher),
    }
}

/// The value at a place in the file.
fn value_at<'t, 'a>(table: &'t mut DeTable<'a>, at: usize) -> Option<&'t mut DeValue<'a>> {
    table.iter_mut().find_map(|(_, value)| in_value(value, at))
}

fn in_value<'t, 'a>(value: &'t mut Spanned<DeValue<'a>>, at: usize) -> Option<&'t mut DeValue<'a>> {
    let is_here = value.span().start == at;
    match value.get_mut() {
        DeValue::Table(table) => value_at(table, at),
        DeValue::Array(items) => items.iter_mut().find_map(|item| in_value(item, at)),
        value => is_here.then_some(value),
    }
}

/// The keys, from the outermost one, that lead to a place in the file.
fn find(table: &DeTable<'_>, at: usize) -> Option<Vec<String>> {
    table.iter().find_map(|(key, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(table) => find(table, at),
            _ => None,
        };
        let here = || (key.span().contains(&at) || value.span().contains(&at)).then(Vec::new);
        let mut names = inner.or_else(here)?;
        names.insert(0, key.get_ref().to_string());
        Some(names)
    })
}

#[cfg(test)]
mod tests;
