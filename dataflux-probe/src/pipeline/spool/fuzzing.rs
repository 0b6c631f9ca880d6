//! What `cargo xtask fuzz` throws bytes at: functions that must return for any bytes, and what must be true then.
//!
//! The first byte of an input says how to take the rest. With one of its bits the checksums are made to fit first, because
//! otherwise hardly anything would get behind them.

use std::{
    collections::hash_map::DefaultHasher,
    fs::File,
    hash::Hasher as _,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::Arc,
};

use super::{
    codec::{Body, Codec, Damaged},
    journal,
    segment::{Kind, ScanEnd, Segment, format},
};
use crate::{
    model::{Envelope, Numbered, Part, Stream},
    pipeline::merge,
};

/// Something that reads what a disk gives.
pub struct Target {
    /// The name of its folder in the corpus.
    pub name: &'static str,
    /// Reads the bytes; panics if something is not as it must be. Inputs with different results were dealt with differently.
    pub run: fn(&[u8]) -> u64,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "envelope",
        run: envelope,
    },
    Target {
        name: "journal",
        run: ledger,
    },
    Target {
        name: "segment",
        run: segment,
    },
];

/// In the first byte: checksums are made to fit.
const SEALED: u8 = 1;
/// In the first byte of an envelope's input: the body is compressed.
const COMPRESSED: u8 = 2;
/// In the first byte: these are dead letters.
const LETTERS: u8 = 4;

fn outcome(of: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn envelope(data: &[u8]) -> u64 {
    let Some((&how, bytes)) = data.split_first() else {
        return 0;
    };
    let body = Body {
        bytes,
        compressed: how & COMPRESSED != 0,
    };
    outcome(decode(&mut Codec::new(), body, how & LETTERS != 0))
}

/// How many sources and series there are, at most a few of each, or what is wrong.
fn decode(
    codec: &mut Codec,
    body: Body<'_>,
    letters: bool,
) -> Result<(usize, usize), &'static str> {
    let decoded = if letters {
        codec.decode_letter(body).map(|letter| letter.envelope)
    } else {
        codec.decode(body)
    };
    let envelope = decoded.map_err(|Damaged(why)| why)?;
    let series = envelope.sources.iter().map(|source| source.metrics.len());
    let counts = (envelope.sources.len().min(4), series.sum::<usize>().min(8));
    // Bytes are compared, since a value may be no number, which is not even equal to itself.
    let first = codec.encode(&envelope);
    let (bytes, compressed) = (first.bytes.to_vec(), first.compressed);
    let again = Body {
        bytes: &bytes,
        compressed,
    };
    let again = codec.decode(again).expect("what is encoded is decoded");
    assert!(
        codec.encode(&again).bytes == bytes,
        "what is decoded is what was encoded"
    );
    merge::records(numbered(1, envelope), numbered(2, again));
    Ok(counts)
}

fn numbered(number: u64, envelope: Envelope) -> Numbered {
    Numbered {
        stream: Arc::new(Stream {
            id: "fuzz".into(),
            previous: None,
        }),
        range: number..=number,
        part: Part::WHOLE,
        gaps: Vec::new(),
        envelope: Arc::new(envelope),
    }
}

fn segment(data: &[u8]) -> u64 {
    let Some((&how, bytes)) = data.split_first() else {
        return 0;
    };
    let mut bytes = bytes.to_vec();
    if how & SEALED != 0 {
        seal_records(&mut bytes);
    }
    let letters = how & LETTERS != 0;
    let kind = if letters {
        Kind::DeadLetters
    } else {
        Kind::Envelopes
    };
    let memory = rustix::fs::memfd_create("segment", rustix::fs::MemfdFlags::CLOEXEC)
        .map(File::from)
        .expect("there is room in memory");
    memory
        .write_all_at(&bytes, 0)
        .expect("there is room in memory");
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    match Segment::view(Path::new(&path), kind) {
        Ok(segment) => read_all(&segment, bytes.len() as u64, letters),
        Err(error) => outcome(error.to_string()),
    }
}

fn read_all(segment: &Segment, length: u64, letters: bool) -> u64 {
    let mut places = Vec::new();
    let end = segment
        .scan(&mut |place, head| places.push((place, head)))
        .expect("memory can be read");
    let ScanEnd {
        valid_length,
        skipped_bytes,
        torn_bytes,
        torn,
    } = end;
    assert_eq!(valid_length + torn_bytes, length);
    let mut at = 0;
    let (mut codec, mut buffer) = (Codec::new(), Vec::new());
    let mut outcomes = Vec::new();
    for (place, head) in places {
        assert!(place.offset >= at && head.range.start() <= head.range.end());
        at = place.offset + u64::from(place.length);
        outcomes.push(match segment.read(place, &mut buffer) {
            Ok(record) => {
                assert_eq!(record.head, head);
                decode(&mut codec, record.body, letters).map_err(str::to_owned)
            }
            Err(error) => Err(error.to_string()),
        });
    }
    assert!(at <= valid_length);
    outcomes.truncate(4);
    let header = segment.header_is_damaged();
    outcome((
        outcomes,
        header,
        skipped_bytes > 0,
        torn_bytes > 0,
        torn.is_some(),
    ))
}

/// Makes the checksums of whatever looks like the header or a record fit.
fn seal_records(bytes: &mut [u8]) {
    format::seal_header(bytes);
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(&format::MAGIC) {
            format::seal_record(&mut bytes[at..]);
        }
    }
}

fn ledger(data: &[u8]) -> u64 {
    let Some((&how, bytes)) = data.split_first() else {
        return 0;
    };
    let mut bytes = bytes.to_vec();
    if how & SEALED != 0 {
        journal::seal(&mut bytes);
    }
    let Some(found) = journal::parse(&bytes, "fuzz") else {
        return 1;
    };
    let again = journal::parse(&bytes, "fuzz").expect("as before");
    assert_eq!(found.ledger, again.ledger);
    let account = |account: &super::ledger::Account| {
        let lost = account.gaps.iter().map(|gap| gap.cause).next_back();
        let counts = [account.done.iter().count(), account.handed.len()].map(|count| count.min(3));
        (counts, lost.map(|cause| cause.name()), account.introduced)
    };
    let accounts: Vec<_> = found.ledger.accounts.iter().take(4).map(account).collect();
    outcome((accounts, found.same_boot, found.damage))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A change of the format makes the corpus worthless, which nobody would see.
    #[test]
    fn most_of_the_corpus_is_what_this_version_writes() {
        let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus"));
        let inputs = |target: &str| {
            let entries = fs::read_dir(corpus.join(target)).unwrap();
            let inputs = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap());
            inputs.collect::<Vec<_>>()
        };
        for input in inputs("envelope") {
            let body = Body {
                bytes: &input[1..],
                compressed: input[0] & COMPRESSED != 0,
            };
            let series = decode(&mut Codec::new(), body, input[0] & LETTERS != 0);
            assert!(series.is_ok_and(|(_, series)| series > 1), "{series:?}");
        }
        for mut input in inputs("journal") {
            if input[0] & SEALED != 0 {
                journal::seal(&mut input[1..]);
            }
            let found = journal::parse(&input[1..], "").unwrap();
            assert!(found.damage.is_none(), "{:?} in {input:?}", found.damage);
        }
    }
}
