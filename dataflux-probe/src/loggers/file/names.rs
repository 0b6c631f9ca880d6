//! Names of files: what stands for `{host}`, `{date}` and `{reader}`, what a closed file is called, and which names are ours.

use std::path::{Component, Path, PathBuf};

use super::super::claims::{DATE, TIME};
use crate::{formatters::rfc3339::Rfc3339, metrics, model::WallTime};

/// The longest value in a name: as long as the name of a host may be.
const LONGEST_VALUE: usize = 64;
/// The longest name of a file (`NAME_MAX`).
const LONGEST_NAME: usize = 255;
/// What a name gets beside a time: `.` before it, `.zst` and `.part` behind.
const ADDITIONS: usize = 1 + 4 + 5;
/// Stands for a value that nobody knows.
const UNKNOWN: &str = "unknown";

/// What a compressed file ends in.
const PACKED: [&str; 2] = [".gz", ".zst"];

/// A piece of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(String),
    Host,
    Date,
    Reader,
    /// When a file was last written to.
    Time,
}

/// The path of an output's files.
#[derive(Debug)]
pub(super) struct Template {
    /// The folder up to the first placeholder.
    base: PathBuf,
    /// The names below it; the last one is the file's.
    names: Vec<Vec<Token>>,
    /// The file's name with a time in it, before what the name ends in.
    closed: Vec<Token>,
}

/// What stands for the placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) host: String,
    pub(super) date: String,
    pub(super) reader: String,
}

/// What a name says that is one of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) date: Option<String>,
    pub(super) reader: Option<&'static str>,
    pub(super) time: Option<String>,
}

/// What a file in one of our folders is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records, maybe compressed.
    Records { found: Found, packed: bool },
    /// What a compression had not finished.
    Part,
    /// Where the last record of this file ends.
    Note { of: PathBuf, found: Found },
}

impl Template {
    /// Of an absolute path.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn parse(path: &Path) -> Result<Self, Vec<String>> {
        let one = |mistake: &str| vec![mistake.to_owned()];
        let components: Vec<_> = path.components().collect();
        let has_placeholder =
            |component: &Component<'_>| component.as_os_str().as_encoded_bytes().contains(&b'{');
        let last = components.len().saturating_sub(1);
        let split = components.iter().position(has_placeholder);
        let (base, below) = components.split_at(split.unwrap_or(last).min(last));
        let (mut names, mut mistakes) = (Vec::new(), Vec::new());
        for component in below {
            let Component::Normal(name) = component else {
                return Err(one("has `..` after a placeholder"));
            };
            let name = name.to_str().ok_or_else(|| one("is not UTF-8"))?;
            names.push(tokens(name, &mut mistakes));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let file = names
            .last()
            .ok_or_else(|| one("is not the path of a file"))?;
        let closed = closed(file);
        let longest: usize = closed.iter().map(Token::longest).sum();
        if longest + ADDITIONS > LONGEST_NAME {
            return Err(one(
                "leaves no room for a time in the name of a closed file",
            ));
        }
        Ok(Self {
            base: base.iter().collect(),
            names,
            closed,
        })
    }

    /// The folder that everything is in.
    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    /// Whether readers have files of their own.
    pub(super) fn has_reader(&self) -> bool {
        self.has(&Token::Reader)
    }

    /// Whether days have files of their own.
    pub(super) fn has_date(&self) -> bool {
        self.has(&Token::Date)
    }

    fn has(&self, token: &Token) -> bool {
        self.names.iter().any(|name| name.contains(token))
    }

    /// The file that records go to.
    pub(super) fn path(&self, values: &Values) -> PathBuf {
        let names = self.names.iter().map(|name| expand(name, values, ""));
        let mut path = self.base.clone();
        path.extend(names);
        path
    }

    /// What that file is called once it is closed, by the time of its last record. Such names sort by that time.
    pub(super) fn closed(&self, values: &Values, time: WallTime) -> PathBuf {
        self.path(values)
            .with_file_name(expand(&self.closed, values, &stamp(time)))
    }

    /// What `check` compares: the file and its closed ones, for each reader.
    pub(super) fn claims(&self) -> Vec<String> {
        let readers = if self.has_reader() {
            metrics::REGISTRY.iter().map(|plugin| plugin.name).collect()
        } else {
            vec![""]
        };
        let of = |reader: &str| {
            let values = Values {
                host: "{host}".to_owned(),
                date: "{date}".to_owned(),
                reader: reader.to_owned(),
            };
            let path = self.path(&values);
            let closed = path.with_file_name(expand(&self.closed, &values, "{time}"));
            [path, closed].map(|path| without_parents(&path).display().to_string())
        };
        readers.into_iter().flat_map(of).collect()
    }

    /// How many folders deep the files are below the base.
    pub(super) fn depth(&self) -> usize {
        self.names.len() - 1
    }

    /// What a folder's name says, `depth` below the base.
    pub(super) fn folder(
        &self,
        depth: usize,
        name: &str,
        host: &str,
        found: &Found,
    ) -> Option<Found> {
        read(self.names.get(depth)?, name, host, found.clone())
    }

    /// What a file is whose folder said `found`, if it is one of ours.
    pub(super) fn file(
        &self,
        folder: &Path,
        name: &str,
        host: &str,
        found: &Found,
    ) -> Option<Kind> {
        if let Some(of) = noted(name)
            && let Some(found) = self.plain(of, host, found)
        {
            let of = folder.join(of);
            return Some(Kind::Note { of, found });
        }
        if let Some(packed) = name
            .strip_prefix('.')
            .and_then(|name| name.strip_suffix(".part"))
        {
            return self
                .records(unpacked(packed)?, host, found)
                .map(|_| Kind::Part);
        }
        if let Some(found) = self.records(name, host, found) {
            let packed = false;
            return Some(Kind::Records { found, packed });
        }
        let found = self.records(unpacked(name)?, host, found)?;
        Some(Kind::Records {
            found,
            packed: true,
        })
    }

    fn records(&self, name: &str, host: &str, found: &Found) -> Option<Found> {
        let closed = || read(&self.closed, name, host, found.clone());
        self.plain(name, host, found).or_else(closed)
    }

    fn plain(&self, name: &str, host: &str, found: &Found) -> Option<Found> {
        read(self.names.last()?, name, host, found.clone())
    }
}

impl Token {
    fn longest(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Host | Self::Reader => LONGEST_VALUE,
            Self::Date => DATE.len(),
            Self::Time => TIME.len(),
        }
    }
}

impl Values {
    /// In UTC.
    pub(super) fn new(host: &str, reader: &str, now: WallTime) -> Self {
        Self {
            host: plain(host),
            date: Rfc3339(now).to_string()[..DATE.len()].to_owned(),
            reader: plain(reader),
        }
    }
}

/// A time as it stands in names, to the millisecond: `20261121T221501.123Z`.
pub(super) fn stamp(time: WallTime) -> String {
    let text = Rfc3339(time).to_string();
    format!("{}Z", text[..23].replace(['-', ':'], ""))
}

/// The time of a stamp.
pub(super) fn time_of(stamp: &str) -> Option<WallTime> {
    let part = |range| stamp.get(range);
    let text = format!(
        "{}-{}-{}T{}:{}:{}",
        part(0..4)?,
        part(4..6)?,
        part(6..8)?,
        part(9..11)?,
        part(11..13)?,
        part(13..20)?
    );
    let time = humantime::parse_rfc3339(&text).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    WallTime::try_from(since.as_nanos()).ok()
}

/// What a compressed file is called.
pub(super) fn packed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What a compressed file is called while it is being written.
pub(super) fn part(packed: &Path) -> PathBuf {
    hidden(packed, ".part")
}

/// The file that says where the last record of this one ends.
pub(super) fn note(path: &Path) -> PathBuf {
    hidden(path, ".end")
}

fn hidden(path: &Path, suffix: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    path.with_file_name(name)
}

fn noted(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".end")
}

fn unpacked(name: &str) -> Option<&str> {
    PACKED.iter().find_map(|suffix| name.strip_suffix(suffix))
}

/// A value as a part of a name: no separator, not hidden, not empty, not long.
pub(super) fn plain(value: &str) -> String {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let legal = |c| if legal(c) { c } else { '_' };
    let mut name: String = value.chars().take(LONGEST_VALUE).map(legal).collect();
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.is_empty() {
        return UNKNOWN.to_owned();
    }
    name
}

/// The path without `..`, as if there were no links: good enough to see that two are one.
fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            component => plain.push(component),
        }
    }
    plain
}

/// Cuts `{host}-{date}.jsonl` into its pieces, and notes everything that is wrong.
fn tokens(name: &str, mistakes: &mut Vec<String>) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let (text, after) = rest
            .split_once('{')
            .map_or((rest, None), |(text, after)| (text, Some(after)));
        if !text.is_empty() {
            tokens.push(Token::Text(text.to_owned()));
        }
        let Some(after) = after else { break };
        let Some((placeholder, after)) = after.split_once('}') else {
            mistakes.push("has a `{` without a `}`".to_owned());
            break;
        };
        match placeholder {
            "host" => tokens.push(Token::Host),
            "date" => tokens.push(Token::Date),
            "reader" => tokens.push(Token::Reader),
            unknown => mistakes.push(format!(
                "{{{unknown}}} is not {{host}}, {{date}} or {{reader}}"
            )),
        }
        rest = after;
    }
    tokens
}

/// A name with a time before its last dot, or at its end.
fn closed(name: &[Token]) -> Vec<Token> {
    let mut tokens = name.to_vec();
    let alone = tokens.len() == 1;
    let mut extension = String::new();
    if let Some(Token::Text(text)) = tokens.last_mut()
        && let Some(dot) = text.rfind('.')
        && (dot > 0 || !alone)
    {
        extension = text.split_off(dot);
    }
    tokens.extend([
        Token::Text("-".to_owned()),
        Token::Time,
        Token::Text(extension),
    ]);
    tokens
}

fn expand(name: &[Token], values: &Values, time: &str) -> String {
    let mut text = String::new();
    for token in name {
        text += match token {
            Token::Text(text) => text,
            Token::Host => &values.host,
            Token::Date => &values.date,
            Token::Reader => &values.reader,
            Token::Time => time,
        };
    }
    text
}

/// What a name says if it is made of these pieces, and nothing else than what is known already.
fn read(tokens: &[Token], name: &str, host: &str, mut found: Found) -> Option<Found> {
    let Some((first, rest)) = tokens.split_first() else {
        return name.is_empty().then_some(found);
    };
    match first {
        Token::Text(text) => read(rest, name.strip_prefix(&**text)?, host, found),
        Token::Host => read(rest, name.strip_prefix(host)?, host, found),
        Token::Date => {
            let (date, after) = shaped(name, DATE)?;
            if found
                .date
                .replace(date.to_owned())
                .is_some_and(|other| other != date)
            {
                return None;
            }
            read(rest, after, host, found)
        }
        Token::Time => {
            let (time, after) = shaped(name, TIME)?;
            found.time = Some(time.to_owned());
            read(rest, after, host, found)
        }
        Token::Reader => metrics::REGISTRY.iter().find_map(|reader| {
            let mut found = found.clone();
            let after = name.strip_prefix(reader.name)?;
            if found
                .reader
                .replace(reader.name)
                .is_some_and(|other| other != reader.name)
            {
                return None;
            }
            read(rest, after, host, found)
        }),
    }
}

/// The begin of a name if it looks like this, where `d` is any digit, and the rest.
fn shaped<'a>(name: &'a str, shape: &str) -> Option<(&'a str, &'a str)> {
    let (value, rest) = name.split_at_checked(shape.len())?;
    let fits = |(byte, like)| match like {
        b'd' => u8::is_ascii_digit(&byte),
        like => byte == like,
    };
    let all = value.bytes().zip(shape.bytes()).all(fits);
    all.then_some((value, rest))
}
