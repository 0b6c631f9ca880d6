//! Envelopes as bytes for a disk: postcard, and zstd where that pays.
//!
//! Metric definitions stand once in each body, and the series refer to them. The sections of the header are JSON text, since
//! only metadata readers know what is in them. The format is fixed by the version of the segment around it; what came later
//! stands behind the envelope, and only if there is any. See `docs/spool.md`.

mod definitions;
mod later;
mod outgoing;

use std::{borrow::Cow, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::get_frame_content_size,
};

use crate::model::{
    Cause, Entity, Envelope, Health, Kind, LabelValue, Labels, Metadata, Metric, MetricDef, Source,
    Unit, Value, Window,
};
use dataflux_common::histogram::BUCKETS;
use outgoing::Outgoing;

/// A body that would be larger is refused, uncompressed: nothing that reads allocates more than that.
pub(super) const LARGEST: usize = 64 << 20;
/// The fastest of zstd's usual levels.
const LEVEL: i32 = 1;
/// Buffers that one large envelope has made larger than this are given back.
const KEPT: usize = 1 << 20;

/// What a record carries, as it stands on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a> {
    /// The bytes on disk.
    pub(super) bytes: &'a [u8],
    /// Whether zstd has been over them.
    pub(super) compressed: bool,
}

/// A record that was rejected, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter {
    /// What the other end said, for people.
    pub(super) reason: String,
    /// Why it is lost to its stream.
    pub(super) cause: Cause,
    /// What it carried.
    pub(super) envelope: Envelope,
}

/// Bytes that are no body of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damaged(pub(super) &'static str);

/// Encodes and decodes, with the buffers and contexts it takes.
pub(super) struct Codec {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// The header seldom changes from one envelope to the next.
    header: Header,
    outgoing: Outgoing,
    incoming: Incoming,
}

/// What was read last: that of the next envelope is mostly the same.
#[derive(Default)]
struct Incoming {
    /// The definitions.
    definitions: Vec<&'static MetricDef>,
    /// The labels of sources.
    labels: later::Known,
}

/// A header and its text.
#[derive(Default)]
struct Header {
    metadata: Arc<Metadata>,
    sections: Vec<(&'static str, String)>,
}

/// A rejected envelope on the way out, or in.
#[derive(Serialize, Deserialize)]
struct WireLetter<'a, E> {
    reason: &'a str,
    cause: Cause,
    envelope: E,
}

#[derive(Deserialize)]
struct WireEnvelope<'a> {
    window: Window,
    #[serde(borrow)]
    sections: Vec<(&'a str, &'a str)>,
    definitions: Vec<WireDefinition<'a>>,
    sources: Vec<WireSource<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireDefinition<'a> {
    name: &'a str,
    kind: Kind,
    unit: Unit,
    #[serde(borrow)]
    labels: Cow<'a, [&'a str]>,
}

#[derive(Deserialize)]
struct WireSource<'a> {
    reader: &'a str,
    health: Health,
    window: Window,
    covered: Duration,
    lost: u64,
    /// Places among the definitions.
    unsupported: Vec<u32>,
    #[serde(borrow)]
    metrics: Vec<WireMetric<'a>>,
}

#[derive(Deserialize)]
struct WireMetric<'a> {
    /// Place among the definitions.
    definition: u32,
    entity: Option<Entity>,
    entity_id: Option<u64>,
    entity_name: Option<&'a str>,
    labels: Box<[LabelValue]>,
    value: Value,
}

impl Codec {
    pub(super) fn new() -> Self {
        Self {
            compressor: Compressor::new(LEVEL).expect("zstd has level 1"),
            decompressor: Decompressor::new().expect("no dictionary that could be wrong"),
            plain: Vec::new(),
            packed: Vec::new(),
            header: Header::default(),
            outgoing: Outgoing::default(),
            incoming: Incoming::default(),
        }
    }

    /// The body of an envelope.
    pub(super) fn encode(&mut self, envelope: &Envelope) -> Body<'_> {
        self.encode_plain(envelope);
        self.pack()
    }

    /// The body of an envelope that zstd is not to go over.
    pub(super) fn encode_plain(&mut self, envelope: &Envelope) -> Body<'_> {
        self.header.follow(&envelope.metadata);
        let wire = self.outgoing.wire(envelope, &self.header);
        write(&wire, &mut self.plain);
        later::append(envelope, &mut self.plain);
        Body {
            bytes: &self.plain,
            compressed: false,
        }
    }

    /// The body of a rejected envelope.
    pub(super) fn encode_letter(
        &mut self,
        reason: &str,
        cause: Cause,
        envelope: &Envelope,
    ) -> Body<'_> {
        self.header.follow(&envelope.metadata);
        let letter = WireLetter {
            reason,
            cause,
            envelope: self.outgoing.wire(envelope, &self.header),
        };
        write(&letter, &mut self.plain);
        later::append(envelope, &mut self.plain);
        self.pack()
    }

    /// The envelope of a body.
    pub(super) fn decode(&mut self, body: Body<'_>) -> Result<Envelope, Damaged> {
        let (wire, rest) = read(unpack(&mut self.decompressor, &mut self.plain, body)?)?;
        model(wire, rest, &mut self.header, &mut self.incoming)
    }

    /// The rejected envelope of a body.
    pub(super) fn decode_letter(&mut self, body: Body<'_>) -> Result<Letter, Damaged> {
        let (letter, rest): (WireLetter<'_, WireEnvelope<'_>>, _) =
            read(unpack(&mut self.decompressor, &mut self.plain, body)?)?;
        Ok(Letter {
            reason: letter.reason.to_owned(),
            cause: letter.cause,
            envelope: model(letter.envelope, rest, &mut self.header, &mut self.incoming)?,
        })
    }

    /// `plain`, compressed if that saves at least an eighth.
    fn pack(&mut self) -> Body<'_> {
        let most = self.plain.len() - self.plain.len() / 8;
        self.packed.clear();
        self.packed.shrink_to(KEPT);
        // With less room than that zstd gives up.
        self.packed.reserve(most);
        let packed = self
            .compressor
            .compress_to_buffer(&self.plain, &mut self.packed);
        let compressed = packed.is_ok_and(|length| length <= most);
        Body {
            bytes: if compressed {
                &self.packed
            } else {
                &self.plain
            },
            compressed,
        }
    }
}

/// The bytes that were encoded.
fn unpack<'a>(
    decompressor: &mut Decompressor<'_>,
    plain: &'a mut Vec<u8>,
    body: Body<'a>,
) -> Result<&'a [u8], Damaged> {
    if !body.compressed {
        return Ok(body.bytes);
    }
    let length = get_frame_content_size(body.bytes).ok().flatten();
    let length = length.and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|&length| length <= LARGEST);
    let length = length.ok_or(Damaged("a compressed body without a sensible length"))?;
    plain.clear();
    plain.shrink_to(KEPT);
    plain.reserve_exact(length);
    match decompressor.decompress_to_buffer(body.bytes, plain) {
        Ok(got) if got == length => Ok(plain),
        _ => Err(Damaged("it does not decompress")),
    }
}

fn write(wire: &impl Serialize, out: &mut Vec<u8>) {
    out.clear();
    out.shrink_to(KEPT);
    write_behind(wire, out);
}

/// Appends to what is written already.
fn write_behind(wire: &impl Serialize, out: &mut Vec<u8>) {
    let buffer = std::mem::take(out);
    *out = postcard::to_extend(wire, buffer).expect("sequences of known length, into memory");
}

/// What the bytes begin with, and the rest of them.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), Damaged> {
    postcard::take_from_bytes(bytes).map_err(|_| Damaged("it is no envelope"))
}

impl Header {
    /// Becomes that of `metadata`.
    fn follow(&mut self, metadata: &Arc<Metadata>) {
        if Arc::ptr_eq(&self.metadata, metadata) {
            return;
        }
        let text = |(&name, section)| {
            let text = serde_json::to_string(section).expect("text keys, into memory");
            (name, text)
        };
        self.sections = metadata.sections.iter().map(text).collect();
        self.metadata = Arc::clone(metadata);
    }

    /// The header of these sections.
    fn find(&mut self, sections: &[(&str, &str)]) -> Result<Arc<Metadata>, Damaged> {
        let known = self
            .sections
            .iter()
            .map(|(name, text)| (*name, text.as_str()));
        if !known.eq(sections.iter().copied()) {
            let mut metadata = Metadata::default();
            for (name, text) in sections {
                let section = serde_json::from_str(text)
                    .map_err(|_| Damaged("a section of the header is no JSON object"))?;
                let name = definitions::name(name)?;
                metadata.sections.insert(name, section);
            }
            self.follow(&Arc::new(metadata));
        }
        Ok(Arc::clone(&self.metadata))
    }
}

fn model(
    wire: WireEnvelope<'_>,
    rest: &[u8],
    header: &mut Header,
    Incoming {
        definitions,
        labels: known,
    }: &mut Incoming,
) -> Result<Envelope, Damaged> {
    let labels = later::labels(rest, wire.sources.len(), known)?;
    definitions.truncate(wire.definitions.len());
    for (place, definition) in wire.definitions.iter().enumerate() {
        let WireDefinition {
            name,
            kind,
            unit,
            labels,
        } = definition;
        let like = definitions.get(place).filter(|def| {
            def.name == *name && (def.kind, def.unit) == (*kind, *unit) && def.labels == &**labels
        });
        if like.is_none() {
            let found = definitions::find(name, *kind, *unit, labels)?;
            definitions.splice(place..(place + 1).min(definitions.len()), [found]);
        }
    }
    let sources = wire
        .sources
        .into_iter()
        .zip(labels)
        .map(|(source, labels)| model_source(source, labels, definitions));
    Ok(Envelope {
        window: wire.window,
        metadata: header.find(&wire.sections)?,
        sources: sources.collect::<Result<_, _>>()?,
    })
}

fn model_source(
    source: WireSource<'_>,
    labels: Labels,
    definitions: &[&'static MetricDef],
) -> Result<Source, Damaged> {
    let find = |place: u32| {
        let place = usize::try_from(place).ok();
        let def = place.and_then(|place| definitions.get(place)).copied();
        def.ok_or(Damaged("a series without a definition"))
    };
    // Neighbours are mostly of one entity.
    let mut last: Option<Arc<str>> = None;
    let mut shared = |name: &str| {
        let known = last.take().filter(|known| **known == *name);
        Arc::clone(last.insert(known.unwrap_or_else(|| name.into())))
    };
    let metric = |metric: WireMetric<'_>| {
        let def = find(metric.definition)?;
        if metric.labels.len() != def.labels.len() {
            return Err(Damaged("a series has not the labels of its metric"));
        }
        check(def.kind, &metric.value)?;
        Ok(Metric {
            def,
            entity: metric.entity,
            entity_id: metric.entity_id,
            entity_name: metric.entity_name.map(&mut shared),
            labels: metric.labels,
            value: metric.value,
        })
    };
    let metrics = source.metrics.into_iter().map(metric);
    let mut metrics = metrics.collect::<Result<Vec<_>, _>>()?;
    // Collected in place, which is larger: many envelopes may be on their way at once.
    metrics.shrink_to_fit();
    Ok(Source {
        reader: definitions::name(source.reader)?,
        labels,
        health: source.health,
        window: source.window,
        covered: source.covered,
        lost: source.lost,
        unsupported: source
            .unsupported
            .into_iter()
            .map(find)
            .collect::<Result<_, _>>()?,
        metrics,
    })
}

/// What the rest of the probe relies on for a value of this kind.
fn check(kind: Kind, value: &Value) -> Result<(), Damaged> {
    match (kind, value) {
        (Kind::Counter { .. }, Value::Counter { .. }) | (Kind::Gauge, Value::Gauge { .. }) => {
            Ok(())
        }
        (Kind::Histogram, Value::Histogram(buckets)) => {
            let counts = &buckets.counts;
            let sorted = counts.is_sorted_by(|(a, _), (b, _)| a < b);
            let known = counts
                .iter()
                .all(|&(bucket, count)| usize::from(bucket) < BUCKETS && count > 0);
            let total = counts
                .iter()
                .try_fold(0u64, |sum, &(_, count)| sum.checked_add(count));
            if sorted && known && total.is_some() {
                Ok(())
            } else {
                Err(Damaged("a histogram that cannot be"))
            }
        }
        _ => Err(Damaged("a value is not of its metric's kind")),
    }
}

#[cfg(test)]
mod tests;
