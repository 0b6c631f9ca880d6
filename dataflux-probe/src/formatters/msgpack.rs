//! `msgpack`: the document of `json` as MessagePack, maps with their keys, one after the other.

use std::sync::Arc;

use rmp::encode;
use serde::Deserialize;

use super::{
    Fields, Formatter,
    document::Document,
    writer::{Encoding, Writer},
};
use crate::{
    model::{Numbered, WallTime},
    plugin::{Needs, Plugin},
};

pub(super) static PLUGIN: Plugin<dyn Formatter> = Plugin {
    name: "msgpack",
    summary: "the same document as json in MessagePack, a map for each envelope",
    needs: Needs::NOTHING,
    example: "# No options.",
    metrics: &[],
    build: |section, context| {
        let Config {} = section.parse()?;
        Ok(Box::new(MessagePack {
            fields: Arc::clone(&context.fields),
        }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

struct MessagePack {
    fields: Arc<Fields>,
}

impl Formatter for MessagePack {
    fn content_type(&self) -> &'static str {
        "application/vnd.msgpack"
    }

    fn format(
        &self,
        numbered: &Numbered,
        trans_time: WallTime,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        Document(&self.fields).write(numbered, trans_time, Writer::<Packed>::new(out));
        Ok(())
    }
}

/// MessagePack, each value in the fewest bytes.
struct Packed;

/// A map or an array begins with how much is in it, which is known at its end: until then, one byte keeps the place.
const PLACE: u8 = 0;

/// Writes a length to the place that was kept at `start`; what follows moves if one byte is not enough.
fn length(start: usize, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut head = Vec::with_capacity(5);
    write(&mut head);
    match *head {
        [one] => out[start] = one,
        _ => drop(out.splice(start..=start, head)),
    }
}

fn map(start: usize, entries: usize, out: &mut Vec<u8>) {
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    length(start, out, |head| {
        infallible(encode::write_map_len(head, entries));
    });
}

fn array(start: usize, items: usize, out: &mut Vec<u8>) {
    let items = u32::try_from(items).unwrap_or(u32::MAX);
    length(start, out, |head| {
        infallible(encode::write_array_len(head, items));
    });
}

fn infallible<T, E: std::fmt::Debug>(written: Result<T, E>) {
    written.expect("memory takes everything");
}

impl Encoding for Packed {
    fn begin_object(out: &mut Vec<u8>) {
        out.push(PLACE);
    }

    fn key(key: &str, _: usize, out: &mut Vec<u8>) {
        Self::text(key, out);
    }

    fn any_key(key: &str, _: usize, out: &mut Vec<u8>) {
        Self::text(key, out);
    }

    fn end_object(start: usize, length: usize, out: &mut Vec<u8>) {
        map(start, length, out);
    }

    fn begin_array(out: &mut Vec<u8>) {
        out.push(PLACE);
    }

    fn item(_: usize, _: &mut Vec<u8>) {}

    fn end_array(start: usize, length: usize, out: &mut Vec<u8>) {
        array(start, length, out);
    }

    fn numbers(values: impl ExactSizeIterator<Item = u64>, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(PLACE);
        array(start, values.len(), out);
        for value in values {
            Self::unsigned(value, out);
        }
    }

    fn plain(text: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        infallible(encode::write_str_len(out, length));
        out.extend_from_slice(text);
    }

    fn text(text: &str, out: &mut Vec<u8>) {
        Self::plain(text.as_bytes(), out);
    }

    fn unsigned(value: u64, out: &mut Vec<u8>) {
        infallible(encode::write_uint(out, value));
    }

    fn signed(value: i64, out: &mut Vec<u8>) {
        infallible(encode::write_sint(out, value));
    }

    fn float(value: f64, out: &mut Vec<u8>) {
        if value.is_finite() {
            infallible(encode::write_f64(out, value));
        } else {
            Self::null(out);
        }
    }

    fn null(out: &mut Vec<u8>) {
        infallible(encode::write_nil(out));
    }

    fn yes(out: &mut Vec<u8>) {
        infallible(encode::write_bool(out, true));
    }

    fn json(value: &serde_json::Value, out: &mut Vec<u8>) {
        use serde_json::Value;
        let start = out.len();
        match value {
            Value::Null => Self::null(out),
            Value::Bool(value) => infallible(encode::write_bool(out, *value)),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => Self::unsigned(value, out),
                (None, Some(value)) => Self::signed(value, out),
                (None, None) => Self::float(number.as_f64().unwrap_or(f64::NAN), out),
            },
            Value::String(text) => Self::text(text, out),
            Value::Array(items) => {
                out.push(PLACE);
                array(start, items.len(), out);
                items.iter().for_each(|item| Self::json(item, out));
            }
            Value::Object(entries) => {
                out.push(PLACE);
                map(start, entries.len(), out);
                for (key, value) in entries {
                    Self::text(key, out);
                    Self::json(value, out);
                }
            }
        }
    }
}
