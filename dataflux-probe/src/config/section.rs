//! One table of the configuration file that knows its path and line, so that errors can name both.

use std::path::Path;

use anyhow::anyhow;
use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
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
    /// The text is not TOML.
    pub fn parse(&self) -> anyhow::Result<Section<'_>> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            self.error(error.span().map(|span| span.start), "", error.message())
        })?;
        Ok(Section {
            path: String::new(),
            file: self,
            table,
        })
    }

    fn error(&self, at: Option<usize>, path: &str, message: &str) -> anyhow::Error {
        let line = at.map_or(1, |at| {
            self.text
                .bytes()
                .take(at)
                .filter(|&byte| byte == b'\n')
                .count()
                + 1
        });
        let (path, colon) = if path.is_empty() {
            ("", "")
        } else {
            (path, ": ")
        };
        anyhow!(
            "{}:{line}: {path}{colon}{}",
            self.name,
            message.trim().replace('\n', "; ")
        )
    }
}

impl<'a> Section<'a> {
    /// The path of this section in its file: `metrics.scheduler`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The plugin's view of this section.
    ///
    /// # Errors
    /// An unknown key or a wrong value, with path, line and what is known.
    pub fn parse<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        T::deserialize(toml::Deserializer::from(self.table.clone()))
            .map_err(|error| self.error_at(error.span().map(|span| span.start), error.message()))
    }

    /// The keys that hold tables, in the order of the file.
    ///
    /// # Errors
    /// A key holds something else.
    pub fn sections(&self) -> anyhow::Result<Vec<(String, Self)>> {
        let mut found: Vec<_> = self
            .table
            .get_ref()
            .iter()
            .map(|(key, value)| match value.get_ref() {
                DeValue::Table(table) => Ok((
                    key.span().start,
                    (
                        key.get_ref().to_string(),
                        self.child(key.get_ref(), key.span().start, table.clone()),
                    ),
                )),
                _ => Err(self.error_at(
                    Some(key.span().start),
                    &format!(
                        "`{}` must be a section, [{}]",
                        key.get_ref(),
                        self.join(key.get_ref())
                    ),
                )),
            })
            .collect::<anyhow::Result<_>>()?;
        found.sort_by_key(|&(at, _)| at);
        Ok(found.into_iter().map(|(_, section)| section).collect())
    }

    /// Takes a sub-section out, so that the rest can be parsed without it.
    ///
    /// # Errors
    /// The key holds something else than a table.
    pub fn take_section(&mut self, name: &str) -> anyhow::Result<Option<Self>> {
        let Some((key, value)) = self.table.get_mut().remove_entry(name) else {
            return Ok(None);
        };
        match value.into_inner() {
            DeValue::Table(table) => Ok(Some(self.child(name, key.span().start, table))),
            _ => Err(self.error_at(
                Some(key.span().start),
                &format!("`{name}` must be a section, [{}]", self.join(name)),
            )),
        }
    }

    /// Takes one value out, so that the rest can be parsed without it.
    ///
    /// # Errors
    /// The value has the wrong type.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> anyhow::Result<Option<T>> {
        let Some((key, value)) = self.table.get_mut().remove_entry(name) else {
            return Ok(None);
        };
        T::deserialize(toml::de::ValueDeserializer::from(value))
            .map(Some)
            .map_err(|error| {
                let at = error.span().map_or(key.span().start, |span| span.start);
                self.error_at(Some(at), &format!("{name}: {}", error.message()))
            })
    }

    /// An error about this section, or about one of its keys if it is there.
    #[must_use]
    pub fn error(&self, key: Option<&str>, message: impl std::fmt::Display) -> anyhow::Error {
        let at = key
            .and_then(|key| self.table.get_ref().get_key_value(key))
            .map(|(key, _)| key.span().start);
        let message = key.map_or_else(|| message.to_string(), |key| format!("{key}: {message}"));
        self.error_at(at, &message)
    }

    fn error_at(&self, at: Option<usize>, message: &str) -> anyhow::Error {
        self.file
            .error(at.or(Some(self.table.span().start)), &self.path, message)
    }

    fn child(&self, name: &str, at: usize, table: DeTable<'a>) -> Self {
        Self {
            path: self.join(name),
            file: self.file,
            table: Spanned::new(at..at, table),
        }
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(default)]
        size: u64,
    }

    fn error(text: &str) -> String {
        let file = File::new(Path::new("p.toml"), text.to_owned());
        let result = file.parse().and_then(|mut root| {
            let mut part = root.take_section("part")?.expect("the test has a part");
            part.take::<bool>("enabled")?;
            part.parse::<Example>()
        });
        result.unwrap_err().to_string()
    }

    #[test]
    fn errors_name_path_line_and_what_is_known() {
        assert_eq!(
            error("\n[part]\nsizze = 3\n"),
            "p.toml:3: part: unknown field `sizze`, expected `size`"
        );
        assert_eq!(
            error("[part]\n\nsize = 'x'\n"),
            "p.toml:3: part: invalid type: string \"x\", expected u64"
        );
        assert_eq!(
            error("[part]\nenabled = 1\n"),
            "p.toml:2: part: enabled: invalid type: integer `1`, expected a boolean"
        );
        assert_eq!(
            error("part = 1\n"),
            "p.toml:1: `part` must be a section, [part]"
        );
        assert!(
            error("[part]\nsize = \n").starts_with("p.toml:2: "),
            "a syntax error has a line"
        );
    }
}
