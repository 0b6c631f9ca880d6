//! The texts that make a configuration: its file, those that it includes, and arguments. Every mistake has its place in one
//! of them.

use std::{
    cell::{OnceCell, RefCell},
    cmp::Reverse,
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use toml::{Spanned, de::DeValue};

use super::{
    Section,
    gather::{self, Notes},
    problem::{Invalid, Problem},
    reading::{self, Kinds},
    secrets::{self, MASK},
    settings::Setting,
    variables::{self, Environment},
};

/// A configuration as text.
pub struct File {
    parts: Vec<Part>,
    /// What could not be read.
    unread: Vec<Problem>,
    /// The files and folders that it was read from.
    paths: Vec<PathBuf>,
    /// Whether the key `include` is one of the configuration, and not of the one section that this is.
    pub(super) is_whole: bool,
    pub(super) environment: Environment,
    notes: OnceCell<Notes>,
    /// Places of texts that were read as a number or a flag.
    typed: RefCell<BTreeSet<usize>>,
}

/// One of the texts.
pub(super) struct Part {
    /// What stands before the line in errors; of an argument its key.
    name: String,
    pub(super) text: String,
    /// Where it begins, as if all texts stood one after the other: all places count from there.
    pub(super) base: usize,
    pub(super) kind: Kind,
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file itself.
    Main,
    /// A file that it includes.
    Included,
    /// An argument, whose key has so many parts.
    Argument {
        depth: usize,
        /// Whether its value stands there without quotes, so that it may be meant as a number or a flag.
        is_bare: bool,
    },
}

/// The shortest secret that is hidden wherever it stands. A shorter one would be found in ordinary words.
const TELLING: usize = 4;

impl File {
    /// A text alone; `name` stands in errors.
    #[must_use]
    pub fn new(name: &Path, text: String) -> Self {
        let mut file = Self {
            parts: Vec::new(),
            unread: Vec::new(),
            paths: vec![name.to_owned()],
            is_whole: false,
            environment: variables::process,
            notes: OnceCell::new(),
            typed: RefCell::default(),
        };
        file.push(name.display().to_string(), text, Kind::Main);
        file
    }

    /// A configuration: a text, what that includes, and what is set beside it.
    #[must_use]
    pub fn whole(
        name: &Path,
        text: String,
        settings: &[Setting],
        environment: Environment,
    ) -> Self {
        let mut file = Self {
            is_whole: true,
            environment,
            ..Self::new(name, text)
        };
        file.include(name);
        for setting in settings {
            match setting.text() {
                Ok((text, kind)) => file.push(setting.key().to_owned(), text, kind),
                Err(message) => file.unread.push(Problem {
                    place: (usize::MAX, 0),
                    text: format!("--set {}: {message}", setting.key()),
                }),
            }
        }
        file
    }

    /// The table that all of it makes.
    ///
    /// # Errors
    /// Something is not TOML, not there or there twice: every place where that is so.
    pub fn parse(&self) -> Result<Section<'_>, Invalid> {
        let (table, notes, mut problems) = gather::gather(self);
        self.notes.set(notes).ok();
        problems.extend(self.unread.iter().cloned());
        if !problems.is_empty() {
            problems.sort();
            problems.dedup();
            return Err(Invalid::new(problems));
        }
        Ok(Section::root(self, Spanned::new(0..0, table)))
    }

    /// The files and folders that it was read from.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The text of a value that is one variable, or stands without quotes in an argument: what it means is for the key to say.
    pub(super) fn bare(&self, at: usize) -> Option<&str> {
        self.notes.get()?.bare.get(&at).map(String::as_str)
    }

    /// Notes that a text was read as what [`File::bare`] has.
    pub(super) fn note_type(&self, at: usize) {
        self.typed.borrow_mut().insert(at);
    }

    /// Whether a text was read as a number or a flag.
    pub(super) fn is_typed(&self, at: usize) -> bool {
        self.typed.borrow().contains(&at)
    }

    pub(super) fn problem(&self, at: usize, path: &str, message: &str) -> Problem {
        let (index, part) = self.part(at);
        let message = self.hide(message, path);
        let message = self.hide_pieces(message).trim().replace('\n', "; ");
        if let Kind::Argument { .. } = part.kind {
            let path = if path.is_empty() || path == part.name {
                String::new()
            } else {
                format!("{path}: ")
            };
            return Problem {
                place: (index, 0),
                text: format!("--set {}: {path}{message}", part.name),
            };
        }
        let colon = if path.is_empty() { "" } else { ": " };
        Problem {
            place: (index, part.line(at)),
            text: format!("{}:{}: {path}{colon}{message}", part.name, part.line(at)),
        }
    }

    /// As [`File::problem`], about the value of a key. A parser may tell any part of it, so nothing is told of one that has a
    /// secret variable in it.
    pub(super) fn problem_of_value(&self, at: usize, path: &str, message: &str) -> Problem {
        let variables = self.notes.get().map(|notes| &*notes.variables);
        let mut variables = variables.unwrap_or_default().iter();
        let is_in = |there: &str| {
            let below = there.strip_prefix(path);
            below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
        };
        match variables.find(|(there, _)| is_in(there)) {
            Some((_, name)) => {
                let message =
                    format!("is wrong; how is not told, as the secret ${{{name}}} is in it");
                self.problem(at, path, &message)
            }
            None => self.problem(at, path, message),
        }
    }

    /// A place for people: `probe.toml:3`, `--set probe.interval`.
    pub(super) fn place(&self, at: usize) -> String {
        let (_, part) = self.part(at);
        match part.kind {
            Kind::Argument { .. } => format!("--set {}", part.name),
            Kind::Main | Kind::Included => format!("{}:{}", part.name, part.line(at)),
        }
    }

    /// A text that is about a key, without any secret.
    pub(super) fn hide(&self, text: &str, path: &str) -> String {
        let hidden = self.notes.get().map(|notes| &*notes.hidden);
        let is_secret = path.split('.').any(secrets::is_secret);
        let hidden = hidden.unwrap_or_default().iter();
        let telling = hidden.filter(|secret| is_secret || secret.len() >= TELLING);
        telling.fold(secrets::without_users(text), |text, secret| {
            let quoted = secret.escape_debug().to_string();
            text.replace(&quoted, MASK).replace(secret, MASK)
        })
    }

    /// An error without what a parser may have cut out of a secret.
    fn hide_pieces(&self, message: String) -> String {
        let hidden = self.notes.get().map(|notes| &*notes.hidden);
        let is_inner =
            |character: char| character.is_alphanumeric() || matches!(character, '_' | '-');
        let mut pieces: Vec<_> = hidden
            .unwrap_or_default()
            .iter()
            .flat_map(|secret| secret.split(|character| !is_inner(character)))
            .filter(|piece| piece.len() >= TELLING)
            .collect();
        pieces.sort_by_key(|piece| Reverse(piece.len()));
        let hide = |message: String, piece: &str| message.replace(piece, MASK);
        pieces.into_iter().fold(message, hide)
    }

    fn part(&self, at: usize) -> (usize, &Part) {
        let after = self.parts.partition_point(|part| part.base <= at);
        let index = after.saturating_sub(1);
        (index, &self.parts[index])
    }

    fn push(&mut self, name: String, text: String, kind: Kind) {
        let last = self.parts.last();
        let base = last.map_or(0, |last| last.base + last.text.len() + 1);
        self.parts.push(Part {
            name,
            text,
            base,
            kind,
        });
    }

    /// Reads the folder that the key `include` names. What is wrong with the key itself is told by [`File::parse`].
    fn include(&mut self, name: &Path) {
        let Ok(table) = gather::parse(&self.parts[0].text) else {
            return;
        };
        let Some((key, DeValue::String(folder))) = table
            .get_key_value("include")
            .map(|(key, value)| (key.span().start, value.get_ref()))
        else {
            return;
        };
        let Ok(put_in) = variables::substitute(folder, self.environment) else {
            return;
        };
        let folder = put_in.map_or_else(|| folder.to_string(), |put_in| put_in.text);
        let folder = name.parent().unwrap_or(Path::new("")).join(folder);
        let found = snippets(&folder);
        self.paths.push(folder.join("include"));
        match found {
            Ok(paths) => paths.into_iter().for_each(|path| self.read(key, path)),
            Err(error) => {
                let message = format!("{}: {error}", folder.display());
                self.unread.push(self.problem(key, "include", &message));
            }
        }
    }

    fn read(&mut self, key: usize, path: PathBuf) {
        match reading::read(&path, Kinds::Files) {
            Ok(text) => self.push(path.display().to_string(), text, Kind::Included),
            Err(error) => {
                let message = format!("{}: {error}", path.display());
                self.unread.push(self.problem(key, "include", &message));
            }
        }
        self.paths.push(path);
    }
}

impl Part {
    fn line(&self, at: usize) -> usize {
        let before = self.text.bytes().take(at.saturating_sub(self.base));
        before.filter(|&byte| byte == b'\n').count() + 1
    }
}

/// The files of a folder whose names end with `.toml`, by name. Hidden ones, as editors make them, are none.
fn snippets(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        if name.ends_with(b".toml") && !name.starts_with(b".") && !path.is_dir() {
            // Whoever opens one that is a pipe waits for a writer.
            if path.exists() && !path.is_file() {
                let message = format!("{} is not a file", path.display());
                return Err(io::Error::other(message));
            }
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Texts may have secrets in them.
impl fmt::Debug for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parts.iter().map(|part| &part.name);
        out.debug_list().entries(names).finish()
    }
}
