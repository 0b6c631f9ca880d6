//! Writes JSON straight into bytes, without a tree and without asking what comes next.
//!
//! What has to be escaped, and the numbers with a fraction, serde_json writes.

use std::time::Duration;

use serde::Serialize;

use crate::{formatters::rfc3339, model::WallTime};

/// A place for one value.
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
}

/// An object that was begun; [`Object::end`] ends it.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// What stands before the next key.
    before: u8,
}

/// An array that was begun; [`Array::end`] ends it.
pub(super) struct Array<'a> {
    out: &'a mut Vec<u8>,
    /// What stands before the next item.
    before: u8,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    pub(super) fn object(&mut self) -> Object<'_> {
        Object {
            out: self.out,
            before: b'{',
        }
    }

    pub(super) fn number(&mut self, value: u64) {
        digits(value, self.out);
    }

    /// Text that has nothing to escape.
    pub(super) fn plain(&mut self, text: &str) {
        plain(text, self.out);
    }
}

impl Object<'_> {
    /// A place for the value of a key that has nothing to escape.
    pub(super) fn key(&mut self, key: &str) -> Writer<'_> {
        self.begin(key);
        Writer { out: self.out }
    }

    pub(super) fn object(&mut self, key: &str) -> Object<'_> {
        self.begin(key);
        Object {
            out: self.out,
            before: b'{',
        }
    }

    pub(super) fn array(&mut self, key: &str) -> Array<'_> {
        self.begin(key);
        self.out.push(b'[');
        Array {
            out: self.out,
            before: b' ',
        }
    }

    /// Text that has nothing to escape.
    pub(super) fn plain(&mut self, key: &str, text: &str) {
        self.begin(key);
        plain(text, self.out);
    }

    pub(super) fn text(&mut self, key: &str, text: &str) {
        self.begin(key);
        let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
        if text.bytes().any(special) {
            serialize(text, self.out);
        } else {
            plain(text, self.out);
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.begin(key);
        digits(value, self.out);
    }

    pub(super) fn signed(&mut self, key: &str, value: i64) {
        self.begin(key);
        if value < 0 {
            self.out.push(b'-');
        }
        digits(value.unsigned_abs(), self.out);
    }

    /// `null` if it is not finite.
    pub(super) fn float(&mut self, key: &str, value: f64) {
        self.begin(key);
        serialize(&value, self.out);
    }

    pub(super) fn nanoseconds(&mut self, key: &str, time: Duration) {
        self.number(key, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn time(&mut self, key: &str, time: WallTime) {
        self.begin(key);
        self.out.push(b'"');
        self.out.extend_from_slice(&rfc3339::text(time));
        self.out.push(b'"');
    }

    pub(super) fn null(&mut self, key: &str) {
        self.begin(key);
        self.out.extend_from_slice(b"null");
    }

    pub(super) fn yes(&mut self, key: &str) {
        self.begin(key);
        self.out.extend_from_slice(b"true");
    }

    /// A key and a value from elsewhere.
    pub(super) fn json(&mut self, key: &str, value: &serde_json::Value) {
        self.out.push(self.before);
        self.before = b',';
        serialize(key, self.out);
        self.out.push(b':');
        serialize(value, self.out);
    }

    pub(super) fn end(self) {
        if self.before == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }

    fn begin(&mut self, key: &str) {
        self.out.push(self.before);
        self.before = b',';
        plain(key, self.out);
        self.out.push(b':');
    }
}

impl Array<'_> {
    /// A place for the next item.
    pub(super) fn item(&mut self) -> Writer<'_> {
        if self.before == b',' {
            self.out.push(b',');
        }
        self.before = b',';
        Writer { out: self.out }
    }

    pub(super) fn end(self) {
        self.out.push(b']');
    }
}

fn plain(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn serialize(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value)
        .expect("texts, numbers and trees of them can be written to memory");
}

fn digits(mut value: u64, out: &mut Vec<u8>) {
    // As many as u64::MAX has.
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(value % 10).expect("it is below 10");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}
