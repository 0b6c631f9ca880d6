//! Reads a filter's text. Any text gives a condition or a mistake with its place, in time linear in its length.
//!
//! ```text
//! any     = all { "or" all }
//! all     = one { "and" one }
//! one     = "not" one | "(" any ")" | test
//! test    = field ( "=" | "!=" | ":" | "!:" | "~" | "!~" ) value
//!         | field [ "not" ] "in" "(" value { "," value } ")"
//! value   = "'" text "'" | '"' text '"' | word
//! ```

use regex::RegexBuilder;

use super::filter::{Condition, Field, Mistake, Pattern, Test};
use crate::model::EntityKind;

/// Longer ones are not written by people.
const LONGEST: usize = 16_384;

/// How deep parentheses and `not` may be nested: conditions are walked recursively.
const DEEPEST: usize = 64;

/// What one compiled regular expression, and what it remembers while it matches, may take.
const REGEX_BYTES: usize = 1 << 20;

const FIELDS: [(&str, Field); 10] = [
    ("name", Field::Name),
    ("reader", Field::Reader),
    ("kind", Field::Kind),
    ("unit", Field::Unit),
    ("device.name", Field::EntityName(EntityKind::Device)),
    ("device.id", Field::Id(EntityKind::Device)),
    ("interface.name", Field::EntityName(EntityKind::Interface)),
    ("interface.id", Field::Id(EntityKind::Interface)),
    ("cgroup.name", Field::EntityName(EntityKind::Cgroup)),
    ("cgroup.id", Field::Id(EntityKind::Cgroup)),
];

/// # Errors
/// The first place where it is no filter.
pub(super) fn parse(text: &str) -> Result<Condition, Mistake> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    if text.len() > LONGEST {
        return Err(parser.mistake(format!("longer than {LONGEST} bytes")));
    }
    let condition = parser.any()?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.expected("`and`, `or` or the end"));
    }
    Ok(condition)
}

struct Parser<'a> {
    text: &'a str,
    /// In bytes, at a character.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self) -> Result<Condition, Mistake> {
        let first = self.all()?;
        let mut several = vec![first];
        while self.keyword("or") {
            several.push(self.all()?);
        }
        Ok(single_or(several, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, Mistake> {
        let first = self.one()?;
        let mut several = vec![first];
        while self.keyword("and") {
            several.push(self.one()?);
        }
        Ok(single_or(several, Condition::All))
    }

    fn one(&mut self) -> Result<Condition, Mistake> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.mistake(format!("nested deeper than {DEEPEST}")));
        }
        let condition = if self.keyword("not") {
            Condition::Not(Box::new(self.one()?))
        } else if self.eat("(") {
            let inner = self.any()?;
            self.expect(")")?;
            inner
        } else {
            Condition::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn test(&mut self) -> Result<Test, Mistake> {
        self.skip_space();
        let at = self.character();
        let field = self.field()?;
        let (negated, pattern) = if self.keyword("in") {
            (false, self.list()?)
        } else if self.keyword("not") {
            if !self.keyword("in") {
                return Err(self.expected("`in`"));
            }
            (true, self.list()?)
        } else {
            self.comparison()?
        };
        Ok(Test {
            at,
            field,
            negated,
            pattern,
        })
    }

    fn comparison(&mut self) -> Result<(bool, Pattern), Mistake> {
        self.skip_space();
        let negated = self.eat("!");
        if self.eat("=") {
            return Ok((negated, Pattern::In(vec![self.value()?])));
        }
        if self.eat(":") {
            return Ok((negated, Pattern::Wildcard(self.value()?)));
        }
        if !self.eat("~") {
            let known = "`=`, `!=`, `:`, `!:`, `~`, `!~`, `in` or `not in`";
            return Err(self.expected(if negated { "`=`, `:` or `~`" } else { known }));
        }
        self.skip_space();
        let start = self.at;
        let regex = RegexBuilder::new(&self.value()?)
            .size_limit(REGEX_BYTES)
            .dfa_size_limit(REGEX_BYTES)
            .build();
        regex
            .map(|regex| (negated, Pattern::Regex(regex)))
            .map_err(|error| {
                self.at = start;
                // The last line says what is wrong, the others show where.
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                self.mistake(format!("no regular expression: {reason}"))
            })
    }

    fn list(&mut self) -> Result<Pattern, Mistake> {
        self.expect("(")?;
        let mut values = vec![self.value()?];
        while self.eat(",") {
            values.push(self.value()?);
        }
        self.expect(")")?;
        Ok(Pattern::In(values))
    }

    fn field(&mut self) -> Result<Field, Mistake> {
        let word = self.word(is_name);
        if word.is_empty() {
            return Err(self.expected("a field, `not` or `(`"));
        }
        let label = word.strip_prefix("labels.");
        if let Some(label) = label.filter(|label| !label.is_empty()) {
            self.at += word.len();
            return Ok(Field::Label(label.to_owned()));
        }
        let known = FIELDS.into_iter().find(|(name, _)| *name == word);
        let Some((_, field)) = known else {
            let known = FIELDS.map(|(name, _)| name).join(", ");
            let message = format!("unknown field `{word}`; known: {known}, labels.NAME");
            return Err(self.mistake(message));
        };
        self.at += word.len();
        Ok(field)
    }

    fn value(&mut self) -> Result<String, Mistake> {
        self.skip_space();
        for quote in ["'", "\""] {
            let start = self.at;
            if !self.eat(quote) {
                continue;
            }
            let Some(length) = self.rest().find(quote) else {
                self.at = start;
                return Err(self.mistake(format!("no {quote} ends this value")));
            };
            let value = self.rest()[..length].to_owned();
            self.at += length + quote.len();
            return Ok(value);
        }
        let word = self.word(is_plain);
        if word.is_empty() {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(word.to_owned())
    }

    /// Takes the word, in capitals or not, if it comes next.
    fn keyword(&mut self, keyword: &str) -> bool {
        self.skip_space();
        let found = self.word(is_name).eq_ignore_ascii_case(keyword);
        if found {
            self.at += keyword.len();
        }
        found
    }

    /// Takes the sign if it comes next.
    fn eat(&mut self, sign: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(sign);
        if found {
            self.at += sign.len();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.eat(sign) {
            return Ok(());
        }
        Err(self.expected(&format!("`{sign}`")))
    }

    /// The characters of this sort that come next.
    fn word(&self, of: fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|character| !of(character)).unwrap_or(rest.len());
        &rest[..end]
    }

    fn skip_space(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> Mistake {
        let found = match self.rest().chars().next() {
            Some(character) => format!("`{character}`"),
            None => "the end".to_owned(),
        };
        self.mistake(format!("expected {what}, found {found}"))
    }

    fn mistake(&self, message: String) -> Mistake {
        Mistake {
            at: self.character(),
            message,
        }
    }

    /// The place in characters, from 1.
    fn character(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }
}

fn single_or(mut several: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match several.pop() {
        Some(only) if several.is_empty() => only,
        last => {
            several.extend(last);
            join(several)
        }
    }
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '.')
}

/// What a value without quotes can have.
fn is_plain(character: char) -> bool {
    !character.is_whitespace()
        && !character.is_control()
        && !matches!(
            character,
            '(' | ')' | ',' | '\'' | '"' | '=' | '!' | '~' | '<' | '>'
        )
}
