//! JSON as an encoding. What has to be escaped, and the numbers with a fraction, serde_json writes.

use serde::Serialize;

use crate::formatters::{numbers, writer::Encoding};

/// Of those that are written at once.
const LONGEST_KEY: usize = 28;

/// JSON without spaces.
pub(in crate::formatters) struct Compact;

impl Encoding for Compact {
    /// Its brace comes with the first key, which is one write less.
    fn begin_object(_: &mut Vec<u8>) {}

    #[inline]
    fn key(key: &str, place: usize, out: &mut Vec<u8>) {
        // Put together here, one write has no more to ask of its vector than the shortest has; of a key that is known to the
        // compiler nothing is left to be put together.
        let (mut piece, end) = ([0; LONGEST_KEY + 4], key.len() + 2);
        if key.len() > LONGEST_KEY {
            return Self::any_key(key, place, out);
        }
        piece[..2].copy_from_slice(&[before(place), b'"']);
        piece[2..end].copy_from_slice(key.as_bytes());
        piece[end..end + 2].copy_from_slice(b"\":");
        out.extend_from_slice(&piece[..end + 2]);
    }

    fn any_key(key: &str, place: usize, out: &mut Vec<u8>) {
        out.push(before(place));
        Self::text(key, out);
        out.push(b':');
    }

    fn end_object(_: usize, length: usize, out: &mut Vec<u8>) {
        if length == 0 {
            out.push(b'{');
        }
        out.push(b'}');
    }

    fn begin_array(out: &mut Vec<u8>) {
        out.push(b'[');
    }

    fn item(place: usize, out: &mut Vec<u8>) {
        if place > 0 {
            out.push(b',');
        }
    }

    fn end_array(_: usize, _: usize, out: &mut Vec<u8>) {
        out.push(b']');
    }

    fn numbers(values: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u8>) {
        let start = out.len();
        // Room for all of them at once: to ask for it each time takes longer than to write them.
        out.resize(start + values.len() * (numbers::LONGEST + 1) + 2, b'[');
        let place = &mut out[start..];
        let mut end = usize::from(values.len() == 0);
        for value in values {
            place[end] = b',';
            end += 1 + numbers::put(value, &mut place[end + 1..]);
        }
        place[0] = b'[';
        place[end] = b']';
        out.truncate(start + end + 1);
    }

    #[inline]
    fn plain(text: &[u8], out: &mut Vec<u8>) {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    }

    fn text(text: &str, out: &mut Vec<u8>) {
        let special = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
        // To look at all of it is quicker than to stop at the first.
        let found = text
            .bytes()
            .fold(false, |found, byte| found | special(byte));
        if found {
            serialize(text, out);
        } else {
            Self::plain(text.as_bytes(), out);
        }
    }

    #[inline]
    fn unsigned(value: u64, out: &mut Vec<u8>) {
        numbers::unsigned(value, out);
    }

    fn signed(value: i64, out: &mut Vec<u8>) {
        numbers::signed(value, out);
    }

    fn float(value: f64, out: &mut Vec<u8>) {
        if value.is_finite() {
            numbers::float(value, out);
        } else {
            Self::null(out);
        }
    }

    fn null(out: &mut Vec<u8>) {
        out.extend_from_slice(b"null");
    }

    fn yes(out: &mut Vec<u8>) {
        out.extend_from_slice(b"true");
    }

    fn json(value: &serde_json::Value, out: &mut Vec<u8>) {
        serialize(value, out);
    }
}

/// What stands before a key.
#[inline]
const fn before(place: usize) -> u8 {
    if place == 0 { b'{' } else { b',' }
}

fn serialize(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    serde_json::to_writer(out, value)
        .expect("texts, numbers and trees of them can be written to memory");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formatters::writer::Writer;

    proptest! {
        #[test]
        fn arrays_of_numbers_are_those_of_serde_json(values: Vec<u64>, shift in 0_u32..64) {
            let values: Vec<_> = values.iter().map(|value| value >> shift).collect();
            let mut out = Vec::new();
            let mut object = Writer::<Compact>::new(&mut out).object();
            object.numbers("values", values.iter().copied());
            object.end();
            let expected = serde_json::json!({ "values": values }).to_string();
            prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
