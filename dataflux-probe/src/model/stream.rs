//! What an output adds to an envelope: its stream, its numbers, and what is missing between them.

use std::{cell::Cell, ops::RangeInclusive, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Envelope, WallTime};

/// What an envelope is, for those who receive it.
pub const SCHEMA: &str = "dataflux.envelope/1";

/// The stream an envelope belongs to: one output of one start of the probe, and one reader of it for `per_reader`.
#[derive(Debug, PartialEq, Eq)]
pub struct Stream {
    /// Output, `/` and reader if per reader, `-` and a random id of the start.
    pub id: Arc<str>,
    /// What this output sent before this start.
    pub previous: Option<Previous>,
}

/// The last stream of an output that numbered anything.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Previous {
    /// Its id.
    pub id: Arc<str>,
    /// Its highest number known durably.
    pub last: u64,
    /// Where its last window stopped.
    pub stop_time: WallTime,
    /// What is known lost at its end.
    pub gaps: Vec<Gap>,
    /// The stream before that one, if it lost more than its own envelopes and the next stream could say.
    #[serde(default, deserialize_with = "chain")]
    pub previous: Option<Box<Previous>>,
}

impl Previous {
    /// No chain of streams is longer. What could not be told in one goes into the next.
    pub const LONGEST_CHAIN: usize = 64;
}

/// Reads the rest of a chain, but no more than a thread's stack has room for, whatever the bytes say.
fn chain<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<Previous>>, D::Error> {
    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(1) };
    }
    let depth = DEPTH.get();
    if depth > Previous::LONGEST_CHAIN {
        return Err(D::Error::custom("a chain of streams that is too long"));
    }
    DEPTH.set(depth + 1);
    let rest = Option::deserialize(from);
    DEPTH.set(depth);
    rest
}

/// Numbers of a stream that are lost.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Gap {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Why.
    pub cause: Cause,
}

/// Why envelopes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The queue had no room, and merging could not make any.
    QueueFull,
    /// The transport will never take it.
    Rejected,
    /// It could not be formatted.
    Unformattable,
    /// The probe stopped before it could be delivered.
    Stopped,
    /// It was on a disk that did not keep it.
    Damaged,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::Rejected,
        Self::Unformattable,
        Self::Stopped,
        Self::Damaged,
    ];

    /// As it stands in an envelope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Rejected => "rejected",
            Self::Unformattable => "unformattable",
            Self::Stopped => "stopped",
            Self::Damaged => "damaged",
        }
    }
}

/// Which part of an envelope that had to be split; 1 of 1 otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
}

impl Part {
    /// An envelope in one piece.
    pub const WHOLE: Self = Self { part: 1, parts: 1 };
}

/// An envelope that one output has accepted.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Its stream.
    pub stream: Arc<Stream>,
    /// One number, or several after merging.
    pub range: RangeInclusive<u64>,
    /// Which part of it.
    pub part: Part,
    /// Numbers of this stream that were lost before it, and why.
    pub gaps: Vec<Gap>,
    /// What it carries.
    pub envelope: Arc<Envelope>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: usize) -> Previous {
        let one = |previous| Previous {
            id: "main-1".into(),
            last: 1,
            stop_time: 0,
            gaps: Vec::new(),
            previous,
        };
        (1..length).fold(one(None), |chain, _| one(Some(Box::new(chain))))
    }

    #[test]
    fn a_chain_is_read_up_to_its_limit() {
        for (length, good) in [
            (1, true),
            (Previous::LONGEST_CHAIN, true),
            (Previous::LONGEST_CHAIN + 1, false),
        ] {
            let chain = of(length);
            let bytes = postcard::to_stdvec(&chain).unwrap();
            let read = postcard::from_bytes::<Previous>(&bytes);
            assert_eq!(read.ok(), good.then(|| chain.clone()));
            let text = serde_json::to_string(&chain).unwrap();
            assert_eq!(serde_json::from_str::<Previous>(&text).is_ok(), good);
        }
    }
}
