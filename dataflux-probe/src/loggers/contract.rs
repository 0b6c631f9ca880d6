//! What every logger promises to the pipeline, as a test that each of them runs against its own other end.

use std::sync::Arc;

use bytes::Bytes;

use super::{Logger, Payload};
use crate::model::{Part, Stream};

/// A payload of these bytes; the rest is of no interest to loggers that do not route.
pub(super) fn payload(bytes: impl Into<Bytes>) -> Payload {
    Payload {
        bytes: bytes.into(),
        file_header: Bytes::new(),
        content_type: "text/plain",
        stream: Arc::new(Stream {
            id: "test-1".into(),
            previous: None,
        }),
        range: 1..=1,
        part: Part::WHOLE,
        readers: Vec::new(),
        metadata: Arc::default(),
    }
}

/// Whole payloads arrive in order, those too whose acknowledgement nobody waits for; closing ends. `receive` takes so many
/// bytes out of the other end.
pub(super) async fn check(logger: &mut dyn Logger, mut receive: impl FnMut(usize) -> Vec<u8>) {
    assert!(logger.limits().in_flight > 0 && logger.limits().payload_bytes > 0);
    for record in ["one\n", "second\n"] {
        logger.send(payload(record)).await.unwrap();
        assert_eq!(receive(record.len()), record.as_bytes());
    }
    drop(logger.send(payload("three\n")));
    let large = "x".repeat(1 << 20) + "\n";
    logger.send(payload(large.clone())).await.unwrap();
    let both = "three\n".to_owned() + &large;
    assert!(receive(both.len()) == both.as_bytes(), "in order and whole");
    logger.close().await.unwrap();
}
