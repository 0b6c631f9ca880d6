//! Reads a template's line. Any text gives pieces, or mistakes with their places.
//!
//! ```text
//! line        = { text | "{{" | "}}" | "{" placeholder "}" }
//! placeholder = field { "|" conversion [ ":" number ] }
//! ```

use std::{fmt, mem};

use super::{Conversion, Field, Piece};

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// At which character, from 1.
    at: usize,
    message: String,
}

impl Mistake {
    /// At a byte of the text.
    fn new(text: &str, at: usize, message: impl Into<String>) -> Self {
        Self {
            at: text[..at].chars().count() + 1,
            message: message.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "at character {}: {}", self.at, self.message)
    }
}

/// # Errors
/// The text is more than one line, or has what a terminal would act on.
pub(super) fn one_line(text: &str) -> Result<(), Mistake> {
    let control = |&(_, character): &(usize, char)| character.is_control() && character != '\t';
    match text.char_indices().find(control) {
        None => Ok(()),
        Some((at, character)) => {
            let message = format!("a line cannot have `{}` in it", character.escape_default());
            Err(Mistake::new(text, at, message))
        }
    }
}

/// # Errors
/// Every place where it is no template.
pub(super) fn parse(text: &str) -> Result<Vec<Piece>, Vec<Mistake>> {
    let mut pieces = Vec::new();
    let mut mistakes = Vec::new();
    let mut has_placeholder = false;
    let mut plain = String::new();
    let mut rest = 0;
    while let Some(found) = text[rest..].find(['{', '}']) {
        let at = rest + found;
        plain.push_str(&text[rest..at]);
        let (brace, after) = text[at..].split_at(1);
        if after.starts_with(brace) {
            plain.push_str(brace);
            rest = at + 2;
            continue;
        }
        if brace == "}" {
            mistakes.push(Mistake::new(
                text,
                at,
                "`}` ends nothing; `}}` stands for one",
            ));
            rest = at + 1;
            continue;
        }
        has_placeholder = true;
        let Some(end) = after
            .find(['{', '}'])
            .filter(|&end| after[end..].starts_with('}'))
        else {
            mistakes.push(Mistake::new(
                text,
                at,
                "`{` has no end; `{{` stands for one",
            ));
            rest = at + 1;
            continue;
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(mem::take(&mut plain)));
        }
        match placeholder(text, at + 1, at + 1 + end) {
            Ok(piece) => pieces.push(piece),
            Err(mistake) => mistakes.push(mistake),
        }
        rest = at + 1 + end + 1;
    }
    if !has_placeholder {
        let message = "without a placeholder every line would be the same";
        mistakes.push(Mistake::new(text, 0, message));
    }
    plain.push_str(&text[rest..]);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    if mistakes.is_empty() {
        Ok(pieces)
    } else {
        Err(mistakes)
    }
}

/// What is between two braces.
fn placeholder(text: &str, start: usize, end: usize) -> Result<Piece, Mistake> {
    let mut at = start;
    let mut words = text[start..end].split('|').map(|word| {
        let begin = at + word.len() - word.trim_start().len();
        at += word.len() + 1;
        (begin, word.trim())
    });
    let (at, name) = words.next().unwrap_or((start, ""));
    let field = Field::parse(name).map_err(|message| Mistake::new(text, at, message))?;
    let mut kind = field.kind();
    let mut conversions = Vec::new();
    for (at, word) in words {
        let wrong = |message: String| Mistake::new(text, at, message);
        let conversion = Conversion::parse(word).map_err(wrong)?;
        kind = conversion.gives(kind).ok_or_else(|| {
            let takes = conversion.takes();
            wrong(format!("`{word}` is for {takes}; this is {}", kind.name()))
        })?;
        conversions.push(conversion);
    }
    Ok(Piece::Placeholder { field, conversions })
}
