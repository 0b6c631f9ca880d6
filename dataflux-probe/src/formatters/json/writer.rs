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

    /// An array of numbers.
    pub(super) fn numbers(&mut self, key: &str, values: impl ExactSizeIterator<Item = u64>) {
        self.begin(key);
        let start = self.out.len();
        // Room for all of them at once: to ask for it each time takes longer than to write them.
        self.out
            .resize(start + values.len() * (LONGEST + 1) + 2, b'[');
        let place = &mut self.out[start..];
        let mut end = usize::from(values.len() == 0);
        for value in values {
            place[end] = b',';
            end += 1 + put(value, &mut place[end + 1..]);
        }
        place[0] = b'[';
        place[end] = b']';
        self.out.truncate(start + end + 1);
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

    /// The numbers of an entity's id, as text.
    pub(super) fn id(&mut self, key: &str, (major, minor): (Option<u64>, u64)) {
        self.begin(key);
        self.out.push(b'"');
        if let Some(major) = major {
            digits(major, self.out);
            self.out.push(b':');
        }
        digits(minor, self.out);
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

    #[inline]
    fn begin(&mut self, key: &str) {
        self.out.extend_from_slice(&[self.before, b'"']);
        self.before = b',';
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
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

/// The digits of the numbers below 1000, and how many they are: most of what a histogram consists of.
static SMALL: [[u8; 4]; 1000] = {
    let mut table = [[0; 4]; 1000];
    let mut value = 0;
    while value < table.len() {
        let digits = [value / 100, value / 10 % 10, value % 10];
        let length = if value < 10 {
            1
        } else if value < 100 {
            2
        } else {
            3
        };
        let mut place = 0;
        while place < length {
            table[value][place] = b'0' + digits[3 - length + place] as u8;
            place += 1;
        }
        table[value][3] = length as u8;
        value += 1;
    }
    table
};

/// As many digits as `u64::MAX` has, and one more: three at a time are written.
const LONGEST: usize = 21;

fn digits(value: u64, out: &mut Vec<u8>) {
    if value < 1000 {
        // To copy a fixed number of bytes and take some back is the quickest way.
        let small = SMALL[value as usize];
        out.extend_from_slice(&small);
        out.truncate(out.len() - 4 + usize::from(small[3]));
        return;
    }
    let mut place = [0; LONGEST];
    let length = put(value, &mut place);
    out.extend_from_slice(&place[..length]);
}

/// Writes the digits of a number to the start of `place`, which has room for [`LONGEST`], and says how many they are.
fn put(mut value: u64, place: &mut [u8]) -> usize {
    if value < 1000 {
        let small = SMALL[value as usize];
        place[..4].copy_from_slice(&small);
        return usize::from(small[3]);
    }
    // Three at a time from the end.
    let mut digits = [b'0'; LONGEST];
    let mut start = digits.len();
    while value >= 1000 {
        start -= 3;
        digits[start..start + 3].copy_from_slice(&all_three(value % 1000));
        value /= 1000;
    }
    let [first @ .., length] = SMALL[value as usize];
    let length = usize::from(length);
    start -= length;
    digits[start..start + length].copy_from_slice(&first[..length]);
    let digits = &digits[start..];
    place[..digits.len()].copy_from_slice(digits);
    digits.len()
}

/// With zeros in front.
fn all_three(value: u64) -> [u8; 3] {
    let [first, second, third, length] = SMALL[value as usize];
    match length {
        1 => [b'0', b'0', first],
        2 => [b'0', first, second],
        _ => [first, second, third],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_written_in_full(value: u64, shift in 0_u32..64) {
            for value in [value >> shift, 10_u64.saturating_pow(shift), u64::MAX] {
                for value in [value.wrapping_sub(1), value] {
                    let mut out = b"=".to_vec();
                    digits(value, &mut out);
                    prop_assert_eq!(String::from_utf8(out).unwrap(), format!("={value}"));
                }
            }
        }

        #[test]
        fn arrays_of_numbers_are_those_of_serde_json(values: Vec<u64>, shift in 0_u32..64) {
            let values: Vec<_> = values.iter().map(|value| value >> shift).collect();
            let mut out = Vec::new();
            let mut writer = Writer::new(&mut out);
            let mut object = writer.object();
            object.numbers("values", values.iter().copied());
            object.end();
            let expected = serde_json::json!({ "values": values }).to_string();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
