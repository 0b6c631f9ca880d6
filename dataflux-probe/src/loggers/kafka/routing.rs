//! Where a payload goes and what it is called on the wire: topic, key and headers.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::{
    config::{Problems, Section},
    loggers::Payload,
    model::{Metadata, SCHEMA},
};

/// Kafka's own bound of a topic's name.
const LONGEST_TOPIC: usize = 249;

/// Stands for a value that the envelope does not have.
const UNKNOWN: &str = "unknown";

/// The topic and the key of every payload.
#[derive(Debug)]
pub(super) struct Routing {
    topic: Vec<Piece>,
    key: Key,
}

/// A piece of a topic's name.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Host,
    Label(String),
    Reader,
}

#[derive(Debug, PartialEq, Eq)]
enum Key {
    None,
    Host,
    Label(String),
}

/// One record, ready to be produced.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) key: Option<String>,
    pub(super) headers: OwnedHeaders,
    pub(super) bytes: Bytes,
}

impl Routing {
    pub(super) fn new(
        section: &Section<'_>,
        topic: &str,
        key: &str,
        per_reader: bool,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut wrong = |key, message: &str| problems.push(section.error(Some(key), message));
        let key = match (key, key.strip_prefix("label.")) {
            ("host", _) => Some(Key::Host),
            ("none", _) => Some(Key::None),
            (_, Some(name)) if !name.is_empty() => Some(Key::Label(name.to_owned())),
            _ => {
                let message = format!("`{key}` is not \"host\", \"none\" or \"label.NAME\"");
                wrong("key", &message);
                None
            }
        };
        let (topic, mistakes) = pieces(topic);
        mistakes.iter().for_each(|mistake| wrong("topic", mistake));
        if topic.contains(&Piece::Reader) && !per_reader {
            let message =
                "{reader} needs envelope = \"per_reader\": otherwise an envelope holds all readers";
            wrong("topic", message);
            return None;
        }
        let key = key.filter(|_| mistakes.is_empty())?;
        Some(Self { topic, key })
    }

    /// A payload as a record. `own` is the host's name where the envelope's header does not say it.
    pub(super) fn message(&self, payload: Payload, own: Option<&str>) -> Message {
        let host = payload.host().or(own);
        Message {
            topic: self.topic(&payload, host),
            key: self.key(&payload, host),
            headers: headers(&payload),
            bytes: payload.bytes,
        }
    }

    /// Values stand in a topic's name with `_` for what Kafka does not allow there, and `unknown` for what is not there.
    fn topic(&self, payload: &Payload, host: Option<&str>) -> String {
        let mut topic = String::new();
        for piece in &self.topic {
            let value = match piece {
                Piece::Text(text) => Some(&**text),
                Piece::Host => host,
                Piece::Label(name) => label(&payload.metadata, name),
                Piece::Reader => payload.readers.first().copied(),
            };
            let value = value.filter(|value| !value.is_empty()).unwrap_or(UNKNOWN);
            topic.extend(value.chars().map(|c| if is_legal(c) { c } else { '_' }));
        }
        topic.truncate(LONGEST_TOPIC);
        if topic == "." || topic == ".." {
            topic = topic.replace('.', "_");
        }
        topic
    }

    fn key(&self, payload: &Payload, host: Option<&str>) -> Option<String> {
        let value = match &self.key {
            Key::None => None,
            Key::Host => host,
            Key::Label(name) => label(&payload.metadata, name),
        };
        value.map(str::to_owned)
    }
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Cuts `a.{host}` into its pieces, and says everything that is wrong with it.
fn pieces(template: &str) -> (Vec<Piece>, Vec<String>) {
    let (mut pieces, mut mistakes) = (Vec::new(), Vec::new());
    let mut rest = template;
    while !rest.is_empty() {
        let (text, after) = rest
            .split_once('{')
            .map_or((rest, None), |(text, after)| (text, Some(after)));
        if let Some(wrong) = text.chars().find(|&c| !is_legal(c)) {
            mistakes.push(format!(
                "`{wrong}` cannot stand in a topic's name: letters, digits, `.`, `_` and `-` can"
            ));
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let Some(after) = after else { break };
        let Some((name, after)) = after.split_once('}') else {
            mistakes.push("a `{` has no `}`".to_owned());
            break;
        };
        match (name, name.strip_prefix("label.")) {
            ("host", _) => pieces.push(Piece::Host),
            ("reader", _) => pieces.push(Piece::Reader),
            (_, Some(label)) if !label.is_empty() => pieces.push(Piece::Label(label.to_owned())),
            _ => mistakes.push(format!(
                "{{{name}}} is not {{host}}, {{label.NAME}} or {{reader}}"
            )),
        }
        rest = after;
    }
    match pieces.as_slice() {
        [] if mistakes.is_empty() => mistakes.push("is empty".to_owned()),
        [Piece::Text(text)] if text.len() > LONGEST_TOPIC || text == "." || text == ".." => {
            mistakes.push("is not the name of a topic".to_owned());
        }
        _ => {}
    }
    (pieces, mistakes)
}

fn label<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a str> {
    metadata.sections.get("labels")?.get(name)?.as_str()
}

fn headers(payload: &Payload) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new_with_capacity(7);
    let texts = [
        ("schema", SCHEMA),
        ("stream", &*payload.stream.id),
        ("content-type", payload.content_type),
    ];
    for (key, value) in texts {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    let numbers = [
        ("first", *payload.range.start()),
        ("last", *payload.range.end()),
        ("part", payload.part.part.into()),
        ("parts", payload.part.parts.into()),
    ];
    for (key, value) in numbers {
        let value = Some(&value.to_string());
        headers = headers.insert(Header { key, value });
    }
    headers
}
