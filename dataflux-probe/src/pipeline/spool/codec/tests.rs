//! What is encoded is decoded, and nothing else is.

use std::ptr;

use proptest::prelude::*;

use super::*;
use crate::model::{EntityKey, arbitrary::numbered};

/// A body that outlives its codec.
fn keep(body: Body<'_>) -> (Vec<u8>, bool) {
    (body.bytes.to_vec(), body.compressed)
}

fn body(kept: &(Vec<u8>, bool)) -> Body<'_> {
    Body {
        bytes: &kept.0,
        compressed: kept.1,
    }
}

proptest! {
    #[test]
    fn an_envelope_comes_back_as_it_was(numbered in numbered()) {
        let (mut writer, mut reader) = (Codec::new(), Codec::new());
        let kept = keep(writer.encode(&numbered.envelope));
        let envelope = reader.decode(body(&kept)).unwrap();
        prop_assert_eq!(&envelope, &*numbered.envelope);
        // Merging relies on it.
        for (source, original) in envelope.sources.iter().zip(&numbered.envelope.sources) {
            for (metric, original) in source.metrics.iter().zip(&original.metrics) {
                prop_assert!(ptr::eq(metric.def, original.def));
            }
        }
        // A reader that has seen the header already.
        prop_assert_eq!(&reader.decode(body(&kept)).unwrap(), &*numbered.envelope);
    }

    #[test]
    fn a_dead_letter_comes_back_as_it_was(numbered in numbered(), reason: String) {
        let (mut writer, mut reader) = (Codec::new(), Codec::new());
        let kept = keep(writer.encode_letter(&reason, Cause::Rejected, &numbered.envelope));
        let letter = reader.decode_letter(body(&kept)).unwrap();
        let envelope = Envelope::clone(&numbered.envelope);
        prop_assert_eq!(letter, Letter { reason, cause: Cause::Rejected, envelope });
    }

    #[test]
    fn any_bytes_are_an_envelope_or_damage(bytes: Vec<u8>, compressed: bool) {
        let mut codec = Codec::new();
        drop(codec.decode(Body { bytes: &bytes, compressed }));
        drop(codec.decode_letter(Body { bytes: &bytes, compressed }));
    }

    #[test]
    fn a_changed_byte_never_panics(numbered in numbered(), at: prop::sample::Index, flip in 1..=255u8) {
        let mut codec = Codec::new();
        let mut kept = keep(codec.encode(&numbered.envelope));
        let at = at.index(kept.0.len());
        kept.0[at] ^= flip;
        drop(codec.decode(body(&kept)));
    }
}

proptest! {
    /// Spools of versions whose ids had 32 bits are read as they are.
    #[test]
    fn an_id_of_32_bits_is_written_as_one_of_64(id: u32) {
        let key = EntityKey::Id(id.into());
        // The number of the variant comes first.
        let narrow = postcard::to_stdvec(&(0_u8, id)).unwrap();
        prop_assert_eq!(postcard::to_stdvec(&key).unwrap(), &narrow[..]);
        prop_assert_eq!(postcard::from_bytes::<EntityKey>(&narrow), Ok(key));
    }
}

fn envelope(series: u64, name: impl Fn(u64) -> String) -> Envelope {
    let def: &'static MetricDef = &LEVEL_METRIC;
    let metric = |number| Metric {
        def,
        entity: None,
        entity_id: None,
        entity_name: Some(name(number).into()),
        labels: Box::default(),
        value: Value::Gauge {
            value: f64::NAN,
            min: f64::NEG_INFINITY,
            max: -0.0,
        },
    };
    Envelope {
        window: Window::default(),
        metadata: Arc::default(),
        sources: vec![Source {
            reader: "codec_test",
            labels: Arc::default(),
            health: Health::default(),
            window: Window::default(),
            covered: Duration::ZERO,
            lost: 0,
            unsupported: Vec::new(),
            metrics: (0..series).map(metric).collect(),
        }],
    }
}

static LEVEL_METRIC: MetricDef = MetricDef {
    name: "codec_test.level",
    kind: Kind::Gauge,
    unit: Unit::Count,
    help: "For tests.",
    labels: &[],
};

#[test]
fn a_value_that_is_no_number_keeps_its_bits() {
    let mut codec = Codec::new();
    let kept = keep(codec.encode(&envelope(1, |_| String::new())));
    let decoded = codec.decode(body(&kept)).unwrap();
    let Value::Gauge { value, min, max } = decoded.sources[0].metrics[0].value else {
        panic!("a gauge")
    };
    assert_eq!(value.to_bits(), f64::NAN.to_bits());
    assert!(min == f64::NEG_INFINITY && max.to_bits() == (-0.0f64).to_bits());
}

#[test]
fn repetition_is_compressed_and_noise_is_not() {
    let mut codec = Codec::new();
    let same = keep(codec.encode(&envelope(1_000, |_| "eth0".to_owned())));
    assert!(same.1);
    assert_eq!(
        codec.decode(body(&same)).unwrap().sources[0].metrics.len(),
        1_000
    );
    let mut random = crate::pipeline::fakes::Random(7);
    codec.plain = (0..2_000).map(|_| random.below(256) as u8).collect();
    let kept = keep(codec.pack());
    assert!(kept == (codec.plain, false));
}

#[test]
fn a_length_beyond_the_limit_is_damage_before_anything_is_allocated() {
    // A frame of 2^40 bytes, if one believes it: magic, descriptor with an 8-byte length, one empty last block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1110_0000];
    frame.extend_from_slice(&(1u64 << 40).to_le_bytes());
    frame.extend_from_slice(&[1, 0, 0]);
    let error = Codec::new().decode(Body {
        bytes: &frame,
        compressed: true,
    });
    assert_eq!(
        error,
        Err(Damaged("a compressed body without a sensible length"))
    );
}

/// What is written today must be readable tomorrow: changing these bytes takes a new version of the segment.
#[test]
fn the_format_is_what_it_was() {
    let mut codec = Codec::new();
    let example = envelope(1, |_| "e".to_owned());
    codec.encode(&example);
    let mut expected = vec![0; 7]; // window: start, stop, two durations of seconds and nanoseconds, step
    expected.push(0); // sections
    expected.push(1); // definitions
    expected.extend(b"\x10codec_test.level\x01\x02\x00"); // name, gauge, count, labels
    expected.push(1); // sources
    expected.extend(b"\x0acodec_test\x00\x00"); // reader, status, reason
    expected.extend([0; 7]); // window
    expected.extend([0; 3]); // covered, lost
    expected.extend([0, 1]); // unsupported, metrics
    expected.extend(b"\x00\x00\x00\x01\x01e\x00"); // definition, entity, id, name, labels
    expected.push(1); // a gauge
    for value in [f64::NAN, f64::NEG_INFINITY, -0.0] {
        expected.extend(value.to_le_bytes());
    }
    assert_eq!(codec.plain, expected);
}
