//! `--set KEY=VALUE`: one key of the configuration, from the command line.

use std::{convert::Infallible, fmt, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{effective::quote, gather, text::Kind};

/// An argument that sets one key. What is wrong with it is told together with what is wrong with the configuration.
#[derive(Clone)]
pub struct Setting(String);

impl FromStr for Setting {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

/// The value may be a secret.
impl fmt::Debug for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.key())
    }
}

impl Setting {
    /// The key, for people. Of what is none only what it begins with: the rest may be a value whose `=` was forgotten.
    pub(super) fn key(&self) -> &str {
        let (key, is_key) = match self.0.split_once('=') {
            Some((key, _)) => (key.trim(), parts(key.trim()).is_some()),
            None => (self.0.trim(), false),
        };
        let is_plain = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.')
        };
        match key.find(|character| !is_plain(character)) {
            Some(end) if !is_key => &key[..end],
            _ => key,
        }
    }

    /// As a line of TOML.
    ///
    /// # Errors
    /// There is no key, no value, or the key is none.
    pub(super) fn text(&self) -> Result<(String, Kind), &'static str> {
        let (key, value) = self.0.split_once('=').ok_or("is no KEY=VALUE")?;
        let (key, value) = (key.trim(), value.trim());
        let depth = parts(key).ok_or("is no key like metrics.cpu.interval")?;
        let is_bare = !value.starts_with(['"', '\'', '[', '{']);
        if is_bare {
            let line = format!("{key} = {}", quote(value));
            return Ok((line, Kind::Argument { depth, is_bare }));
        }
        let line = format!("{key} = {value}");
        match gather::parse(&line) {
            Ok(table) if is_one_key(&table, depth) => Ok((line, Kind::Argument { depth, is_bare })),
            _ => Err("the value is not TOML; without quotes and brackets it is a text"),
        }
    }
}

/// Whether nothing else is set.
fn is_one_key(table: &DeTable<'_>, depth: usize) -> bool {
    let mut values = table.values().map(Spanned::get_ref);
    match (values.next(), values.next(), depth) {
        (Some(_), None, 1) => true,
        (Some(DeValue::Table(table)), None, _) => is_one_key(table, depth - 1),
        _ => false,
    }
}

/// How many parts a key has, if it is one.
fn parts(key: &str) -> Option<usize> {
    let is_one_line = !key.contains(['\n', '\r', '#', '[', '{']);
    is_one_line.then(|| depth(&format!("{key} = 0")))?
}

/// How many parts the only key of a text has.
fn depth(text: &str) -> Option<usize> {
    let table = gather::parse(text).ok()?;
    let mut table = &table;
    for depth in 1.. {
        let mut values = table.values();
        let value = values.next().filter(|_| values.next().is_none());
        match value?.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Integer(_) => return Some(depth),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(argument: &str) -> Result<(String, Kind), &'static str> {
        argument.parse::<Setting>().unwrap().text()
    }

    #[test]
    fn an_argument_is_a_line_of_toml() {
        for (argument, expected, depth) in [
            ("probe.interval=1s", "probe.interval = \"1s\"", 2),
            ("a.b.c = true ", "a.b.c = \"true\"", 3),
            ("a.\"b.c\"=x=\"y\"", "a.\"b.c\" = \"x=\\\"y\\\"\"", 2),
            ("a=", "a = \"\"", 1),
            ("a=1\n[b]", "a = \"1\\n[b]\"", 1),
            ("a=[1, 'x']", "a = [1, 'x']", 1),
            ("a=\"1\"", "a = \"1\"", 1),
            ("a={ b = 1 }", "a = { b = 1 }", 1),
        ] {
            let (line, kind) = text(argument).unwrap();
            assert_eq!(line, expected);
            assert!(
                matches!(kind, Kind::Argument { depth: found, .. } if found == depth),
                "{argument}"
            );
        }
    }

    #[test]
    fn what_is_no_argument_is_told() {
        for argument in [
            "",
            "a",
            "=1",
            "a b=1",
            ".a=1",
            "a.=1",
            "[a]=1",
            "a\nb=1",
            "a#=1",
            "a=[1",
            "a='",
            "a={b=1}\n[c]",
        ] {
            assert!(text(argument).is_err(), "{argument}");
        }
    }

    #[test]
    fn its_value_is_not_shown() {
        let setting: Setting = "a.password=hunter2".parse().unwrap();
        assert_eq!(format!("{setting:?}"), "a.password");
        for (argument, shown) in [
            ("a.token s3cr3t", "a.token"),
            (" a.token:s3cr3t", "a.token"),
            ("a.token s3cr3t==", "a.token"),
            ("'s3cr3t", ""),
            ("a.\"b c\"=s3cr3t", "a.\"b c\""),
        ] {
            let setting: Setting = argument.parse().unwrap();
            assert_eq!(setting.key(), shown);
        }
    }
}
