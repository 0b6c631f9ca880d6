//! Cuts an envelope that is too large for its output into parts: by source, then by series.

use std::sync::Arc;

use super::sweep::without_panic;
use crate::{
    formatters::Formatter,
    model::{Envelope, Numbered, Part, Source, WallTime},
};

/// Longer than any number that a part will have.
const LONGEST: Part = Part {
    part: u32::MAX,
    parts: u32::MAX,
};

/// Formats a record, which is about so many bytes. A formatter's panic is an error.
pub(super) fn format(
    formatter: &dyn Formatter,
    record: &Numbered,
    trans_time: WallTime,
    about: usize,
) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(about);
    without_panic(|| formatter.format(record, trans_time, &mut bytes))?;
    Ok(bytes)
}

/// Parts of a record that take at most `limit` bytes each. They depend only on the record and the limit, so that a repeat is
/// cut in the same way. `None` if a single series is too large.
///
/// # Errors
/// It cannot be formatted.
pub(super) fn parts(
    formatter: &dyn Formatter,
    record: &Numbered,
    limit: usize,
) -> anyhow::Result<Option<Vec<Numbered>>> {
    let mut pieces = Vec::new();
    if !cut(formatter, record.clone(), limit, &mut pieces)? {
        return Ok(None);
    }
    let parts = u32::try_from(pieces.len())?;
    for (part, piece) in (1..).zip(&mut pieces) {
        piece.part = Part { part, parts };
    }
    Ok(Some(pieces))
}

/// Appends the pieces of `record`; false if one cannot be made small enough.
fn cut(
    formatter: &dyn Formatter,
    mut record: Numbered,
    limit: usize,
    pieces: &mut Vec<Numbered>,
) -> anyhow::Result<bool> {
    record.part = LONGEST;
    // Any time of these days will do, as long as it is always the same.
    let trans_time = record.envelope.window.stop;
    if format(formatter, &record, trans_time, 0)?.len() <= limit {
        pieces.push(record);
        return Ok(true);
    }
    let Some((left, right)) = halves(&record.envelope.sources) else {
        return Ok(false);
    };
    let with = |sources| Numbered {
        envelope: Arc::new(Envelope {
            window: record.envelope.window,
            metadata: Arc::clone(&record.envelope.metadata),
            sources,
        }),
        ..record.clone()
    };
    Ok(cut(formatter, with(left), limit, pieces)? && cut(formatter, with(right), limit, pieces)?)
}

/// Half of the sources and the other half; of a single source, half of its series, each with all of the source's own fields.
fn halves(sources: &[Source]) -> Option<(Vec<Source>, Vec<Source>)> {
    match sources {
        [] => None,
        [source] => {
            let (left, right) = source.metrics.split_at(source.metrics.len() / 2);
            if left.is_empty() {
                return None;
            }
            let with = |metrics: &[_]| {
                vec![Source {
                    metrics: metrics.to_vec(),
                    labels: Arc::clone(&source.labels),
                    health: source.health.clone(),
                    unsupported: source.unsupported.clone(),
                    ..*source
                }]
            };
            Some((with(left), with(right)))
        }
        _ => {
            let (left, right) = sources.split_at(sources.len() / 2);
            Some((left.to_vec(), right.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{
        super::fakes::{FakeFormatter, source},
        *,
    };
    use crate::{
        formatters::REGISTRY,
        model::{Stream, Value, Window},
        plugin::testing,
    };

    const FORMATTER: FakeFormatter = FakeFormatter { fails: |_| false };

    fn record(sizes: &[usize]) -> Numbered {
        let of = |&size: &usize| source("alpha", Window::default(), &vec![1; size]);
        Numbered {
            stream: Arc::new(Stream {
                id: "s".into(),
                previous: None,
            }),
            range: 7..=7,
            part: Part::WHOLE,
            gaps: Vec::new(),
            envelope: Arc::new(Envelope {
                window: Window::default(),
                metadata: Arc::default(),
                sources: sizes.iter().map(of).collect(),
            }),
        }
    }

    #[test]
    fn parts_keep_to_any_limit_and_hold_every_series_once() {
        let whole = record(&[5, 0, 31, 1]);
        let smallest = format(&FORMATTER, &record(&[1]), 0, 0).unwrap().len();
        let mut cuts = std::collections::BTreeSet::new();
        for limit in smallest + 20..4_200 {
            let parts = parts(&FORMATTER, &whole, limit).unwrap().unwrap();
            for (number, part) in (1..).zip(&parts) {
                let expected = Part {
                    part: number,
                    parts: u32::try_from(parts.len()).unwrap(),
                };
                assert_eq!(part.part, expected);
                assert_eq!(part.range, whole.range);
                let length = format(&FORMATTER, part, 0, 0).unwrap().len();
                assert!(length <= limit, "{length} is above {limit}");
            }
            let series = parts
                .iter()
                .flat_map(|part| &part.envelope.sources)
                .flat_map(|source| &source.metrics);
            assert!(
                series
                    .clone()
                    .all(|metric| matches!(metric.value, Value::Counter { .. }))
            );
            assert_eq!(series.count(), 37);
            cuts.insert(parts.len());
        }
        assert!(cuts.contains(&1) && cuts.len() > 5, "{cuts:?}");
    }

    #[test]
    fn a_series_that_is_too_large_alone_cannot_be_cut() {
        assert!(parts(&FORMATTER, &record(&[2]), 150).unwrap().is_none());
        assert!(parts(&FORMATTER, &record(&[0]), 10).unwrap().is_none());
        let broken = FakeFormatter { fails: |_| true };
        assert!(parts(&broken, &record(&[2]), 150).is_err());
    }

    #[test]
    fn every_format_can_be_cut() {
        let context = testing::context(Path::new("/nowhere"));
        for plugin in REGISTRY {
            let config = match plugin.name {
                "template" => "line = '{metric} {value}'",
                _ => "",
            };
            let formatter = plugin.build_from(config, &context).unwrap();
            let whole = record(&[40, 0, 60, 1]);
            let limit = format(&*formatter, &whole, 0, 0).unwrap().len() * 3 / 4;
            let parts = parts(&*formatter, &whole, limit).unwrap().unwrap();
            assert!(parts.len() > 1, "{}", plugin.name);
            for part in &parts {
                let length = format(&*formatter, part, 0, 0).unwrap().len();
                assert!(
                    length <= limit,
                    "{}: {length} is above {limit}",
                    plugin.name
                );
            }
        }
    }
}
