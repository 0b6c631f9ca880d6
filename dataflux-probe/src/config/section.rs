//! One table of the configuration file that knows its path and line, so that errors can name both.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    mem,
    path::Path,
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

/// A configuration file.
#[derive(Debug)]
pub struct File {
    name: String,
    text: String,
}

/// One table of a configuration file.
#[derive(Debug, Clone)]
pub struct Section<'a> {
    /// `metrics.scheduler`; empty for the whole file.
    path: String,
    file: &'a File,
    table: Spanned<DeTable<'a>>,
    /// Keys that were taken out already, which an error lists beside those of the plugin.
    taken: Vec<&'static str>,
}

impl File {
    /// A file's text; `name` stands in errors.
    #[must_use]
    pub fn new(name: &Path, text: String) -> Self {
        Self {
            name: name.display().to_string(),
            text,
        }
    }

    /// The table that is the whole file.
    ///
    /// # Errors
    /// The text is not TOML: every place where it is not.
    pub fn parse(&self) -> Result<Section<'_>, Invalid> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        if errors.is_empty() {
            return Ok(Section {
                path: String::new(),
                file: self,
                table,
                taken: Vec::new(),
            });
        }
        let mut problems: Vec<_> = errors
            .iter()
            .map(|error| {
                let at = error.span().map_or(0, |span| span.start);
                self.problem(at, "", &format!("not TOML: {}", error.message()))
            })
            .collect();
        // One slip makes the rest of its line unreadable in more than one way.
        problems.sort_by_key(|problem| problem.line);
        problems.dedup_by_key(|problem| problem.line);
        Err(Invalid::new(problems))
    }

    fn problem(&self, at: usize, path: &str, message: &str) -> Problem {
        let before = self.text.bytes().take(at);
        let line = before.filter(|&byte| byte == b'\n').count() + 1;
        let colon = if path.is_empty() { "" } else { ": " };
        let message = message.trim().replace('\n', "; ");
        Problem {
            line,
            text: format!("{}:{line}: {path}{colon}{message}", self.name),
        }
    }
}

impl<'a> Section<'a> {
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
        let mut rest = self.clone();
        let mut problems = rest.remove_unknown(known::keys::<T>());
        loop {
            match T::deserialize(toml::Deserializer::from(rest.table.clone())) {
                Ok(value) if problems.is_empty() => return Ok(value),
                Ok(_) => break,
                Err(error) => match rest.remove_at(&error) {
                    Some(problem) => problems.push(problem),
                    None => {
                        // A field may be missing only because its wrong value was removed.
                        if problems.is_empty() {
                            problems.push(self.problem(None, error.message()));
                        }
                        break;
                    }
                },
            }
        }
        Err(Invalid::new(problems).into())
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
        let value = toml::de::ValueDeserializer::from(value);
        T::deserialize(value).map(Some).map_err(|error| {
            let at = error.span().map_or(key.span().start, |span| span.start);
            let problem = self.file.problem(at, &self.join(name), error.message());
            Invalid::new(vec![problem]).into()
        })
    }

    /// As [`Section::take_section`], for a table that an error lists among the known keys.
    pub(super) fn take_table(&mut self, name: &'static str) -> anyhow::Result<Option<Self>> {
        self.taken.push(name);
        self.take_section(name)
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
            problems.push(self.error(Some(key.get_ref()), message));
        }
    }

    /// An error about this section, or about one of its keys if it is there.
    #[must_use]
    pub fn error(&self, key: Option<&str>, message: impl std::fmt::Display) -> anyhow::Error {
        Invalid::new(vec![self.problem(key, &message.to_string())]).into()
    }

    /// An error about a place in the file that belongs to one of this section's keys.
    pub(super) fn error_at(
        &self,
        at: usize,
        key: &str,
        message: impl std::fmt::Display,
    ) -> anyhow::Error {
        let problem = self.file.problem(at, &self.join(key), &message.to_string());
        Invalid::new(vec![problem]).into()
    }

    fn problem(&self, key: Option<&str>, message: &str) -> Problem {
        let at = key
            .and_then(|key| self.table.get_ref().get_key_value(key))
            .map_or(self.table.span().start, |(key, _)| key.span().start);
        let path = key.map_or(Cow::Borrowed(&*self.path), |key| self.join(key).into());
        self.file.problem(at, &path, message)
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
                let problem = self.problem(Some(&key), &message);
                self.table.get_mut().remove(&*key);
                problem
            })
            .collect()
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
        let problem = self.file.problem(at, &self.join(&names.join(".")), message);
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
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors matter")]
    struct Example {
        #[serde(default)]
        size: u64,
        #[serde(default)]
        names: Vec<String>,
        #[serde(default)]
        inner: Option<Inner>,
        must: bool,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors matter")]
    struct Inner {
        #[serde(default)]
        a: u64,
    }

    fn parse(text: &str) -> anyhow::Result<Example> {
        let file = File::new(Path::new("p.toml"), text.to_owned());
        let mut root = file.parse()?;
        let mut part = root.take_section("part")?.expect("the test has a part");
        part.take::<bool>("enabled")?;
        part.parse::<Example>()
    }

    #[test]
    fn errors_name_path_line_and_what_is_known() {
        for (text, expected) in [
            (
                "\n[part]\nmust = true\nsizze = 3\n",
                "p.toml:4: part.sizze: unknown key; known: enabled, size, names, inner, must",
            ),
            (
                "[part]\n\nsize = 'x'\nmust = true",
                "p.toml:3: part.size: invalid type: string \"x\", expected u64",
            ),
            (
                "[part]\nmust = true\nnames = ['a',\n  3]\n",
                "p.toml:4: part.names: invalid type: integer `3`, expected a string",
            ),
            (
                "[part]\nenabled = 1\n",
                "p.toml:2: part.enabled: invalid type: integer `1`, expected a boolean",
            ),
            ("\n\n[part]\n", "p.toml:3: part: missing field `must`"),
            ("part = 1\n", "p.toml:1: part: must be a section, [part]"),
            (
                "[part]\nmust = true\n[part.inner]\na = ''",
                "p.toml:4: part.inner.a: invalid type: string \"\", expected u64",
            ),
            (
                "[part]\nmust = true\ninner.b = 1",
                "p.toml:3: part.inner.b: unknown field `b`, expected `a`",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn all_errors_of_a_section_are_told() {
        assert_eq!(
            parse("[part]\nsizze = 3\nsize = 'x'\nmust = 3\nenable = true\n")
                .unwrap_err()
                .to_string(),
            "p.toml:5: part.enable: unknown key; known: enabled, size, names, inner, must\n\
             p.toml:2: part.sizze: unknown key; known: enabled, size, names, inner, must\n\
             p.toml:4: part.must: invalid type: integer `3`, expected a boolean\n\
             p.toml:3: part.size: invalid type: string \"x\", expected u64",
        );
    }

    #[test]
    fn every_line_that_is_not_toml_is_told_once() {
        let error = parse("[part]\nsize = \nmust = true\nnames = [\"a]\n").unwrap_err();
        let lines: Vec<_> = error.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2, "{error}");
        assert!(lines[0].starts_with("p.toml:2: not TOML: "), "{error}");
        assert!(lines[1].starts_with("p.toml:4: not TOML: "), "{error}");
    }
}
