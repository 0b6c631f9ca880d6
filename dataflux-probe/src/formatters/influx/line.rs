//! One line of the line protocol: its escapes, its types, and nothing that a parser could take in two ways.

use serde::Deserialize;

use crate::{
    formatters::{naming::visible, numbers},
    model::WallTime,
};

/// How counts are written, of which most are above what a double holds exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Integers {
    /// `120u`: all of 64 bits.
    #[default]
    Unsigned,
    /// `120i`: the field is left out where that has no room for it.
    Signed,
}

/// A line that is being written: tags first, then fields. One without fields comes to nothing.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    integers: Integers,
    start: usize,
    has_fields: bool,
}

impl<'a> Line<'a> {
    /// `measurement` has nothing to escape.
    pub(super) fn new(measurement: &str, integers: Integers, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(measurement.as_bytes());
        Self {
            out,
            integers,
            start,
            has_fields: false,
        }
    }

    /// A tag; one without key or value does not exist in this format.
    pub(super) fn tag(&mut self, key: &str, value: &str) {
        if !key.is_empty() && !value.is_empty() {
            self.out.push(b',');
            escape(key, self.out);
            self.out.push(b'=');
            escape(value, self.out);
        }
    }

    pub(super) fn unsigned(&mut self, key: &str, value: u64) {
        let suffix = match self.integers {
            Integers::Unsigned => b'u',
            Integers::Signed if i64::try_from(value).is_ok() => b'i',
            Integers::Signed => return,
        };
        self.key(key);
        numbers::unsigned(value, self.out);
        self.out.push(suffix);
    }

    pub(super) fn signed(&mut self, key: &str, value: i64) {
        self.key(key);
        numbers::signed(value, self.out);
        self.out.push(b'i');
    }

    /// Left out if it is not finite, which the format cannot say.
    pub(super) fn float(&mut self, key: &str, value: f64) {
        if value.is_finite() {
            self.key(key);
            numbers::float(value, self.out);
        }
    }

    /// Left out if it is empty.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        self.key(key);
        self.out.push(b'"');
        for byte in visible(text).bytes() {
            if matches!(byte, b'"' | b'\\') {
                self.out.push(b'\\');
            }
            self.out.push(byte);
        }
        self.out.push(b'"');
    }

    /// Ends it with its time.
    pub(super) fn end(self, time: WallTime) {
        if self.has_fields {
            self.out.push(b' ');
            numbers::signed(time, self.out);
            self.out.push(b'\n');
        } else {
            self.out.truncate(self.start);
        }
    }

    /// A field's key, which has nothing to escape.
    fn key(&mut self, key: &str) {
        self.out.push(if self.has_fields { b',' } else { b' ' });
        self.has_fields = true;
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b'=');
    }
}

/// Writes a tag's key or value. Parsers disagree about a backslash before what has to be escaped, before another one and at
/// the end, so there it becomes a slash. They agree about every other one: it stands for itself.
fn escape(text: &str, out: &mut Vec<u8>) {
    let text = visible(text);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let next = bytes.peek();
        match byte {
            b',' | b'=' | b' ' => out.extend_from_slice(&[b'\\', byte]),
            b'\\' if next.is_none_or(|next| b",= \\\"".contains(next)) => out.push(b'/'),
            byte => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(integers: Integers, write: impl FnOnce(&mut Line<'_>)) -> String {
        let mut out = b"before\n".to_vec();
        let mut line = Line::new("m", integers, &mut out);
        write(&mut line);
        line.end(-7);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before\n").unwrap().to_owned()
    }

    #[test]
    fn every_escape_is_where_it_belongs() {
        for (value, expected) in [
            ("a b", r"a\ b"),
            ("a,b=c", r"a\,b\=c"),
            (r"system\x2dgetty", r"system\x2dgetty"),
            (r"a\ b", r"a/\ b"),
            (r"a\\b", r"a/\b"),
            (r"end\", "end/"),
            ("a\nb\t", r"a\nb\t"),
            ("\"quoted\"", "\"quoted\""),
        ] {
            let written = line(Integers::Unsigned, |line| {
                line.tag("k y", value);
                line.unsigned("f", 1);
            });
            assert_eq!(written, format!("m,k\\ y={expected} f=1u -7\n"));
        }
        let written = line(Integers::Unsigned, |line| {
            line.text("f", "a \\ \"b\"\n, c=1");
        });
        assert_eq!(written, "m f=\"a \\\\ \\\"b\\\"\\\\n, c=1\" -7\n");
    }

    #[test]
    fn numbers_have_their_type_and_what_has_none_is_left_out() {
        let numbers = |line: &mut Line<'_>| {
            line.unsigned("a", u64::MAX);
            line.unsigned("b", 1);
            line.signed("c", i64::MIN);
            line.float("d", 2.0);
            line.float("e", f64::NAN);
        };
        assert_eq!(
            line(Integers::Unsigned, numbers),
            "m a=18446744073709551615u,b=1u,c=-9223372036854775808i,d=2.0 -7\n"
        );
        assert_eq!(
            line(Integers::Signed, numbers),
            "m b=1i,c=-9223372036854775808i,d=2.0 -7\n"
        );
        let nothing = |line: &mut Line<'_>| {
            line.tag("a", "b");
            line.float("e", f64::INFINITY);
        };
        assert_eq!(line(Integers::Unsigned, nothing), "");
    }
}
