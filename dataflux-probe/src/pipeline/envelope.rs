//! Assembles the sources of a tick to an envelope, joins ids and names, and cuts it to the shapes that outputs want.

use std::{mem::size_of, sync::Arc};

use super::clock::Moment;
use crate::{
    metadata::names::Names,
    model::{
        Entity, EntityKey, Envelope, LabelValue, Metadata, Metric, MetricDef, Source, Value, Window,
    },
};

/// What the allocator adds to a block, about.
const ALLOCATION: usize = 16;

/// An envelope on its way to outputs, with what it costs to keep.
#[derive(Debug, Clone)]
pub(super) struct Shaped {
    /// The reader whose stream it is for, if it is for outputs with an envelope per reader.
    pub(super) reader: Option<&'static str>,
    pub(super) envelope: Arc<Envelope>,
    /// Bytes of memory, estimated.
    pub(super) weight: u64,
}

/// What one tick gave.
pub(super) struct Tick {
    full: Arc<Envelope>,
    /// For each source, the envelope's window if the source is alone in its stream.
    reader_windows: Vec<Window>,
    /// By per reader, then by keeping zeros.
    shapes: [Option<Vec<Shaped>>; 4],
}

/// Makes the envelope of each tick.
pub(super) struct Assembler {
    names: Names,
    /// Start of all first windows.
    first: Moment,
    /// Start of the next envelope's window.
    since: Moment,
    /// Start of the next window in the stream of each reader that has one.
    reader_since: Vec<(&'static str, Moment)>,
}

impl Assembler {
    /// [`Assembler::start`] comes before everything else.
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            since: Moment::default(),
            first: Moment::default(),
            reader_since: Vec::new(),
        }
    }

    /// The first windows start at `baseline`.
    pub(super) fn start(&mut self, baseline: Moment) {
        self.since = baseline;
        self.first = baseline;
    }

    /// The envelope of the tick at `at`.
    pub(super) fn assemble(
        &mut self,
        at: Moment,
        header: Arc<Metadata>,
        mut sources: Vec<Source>,
    ) -> Tick {
        self.names.begin_tick();
        for metric in sources.iter_mut().flat_map(|source| &mut source.metrics) {
            if let Some(entity) = &metric.entity {
                (metric.entity_id, metric.entity_name) = self.names.resolve(entity);
            }
        }
        let first = self.first;
        let reader_windows = sources
            .iter()
            .map(|source| {
                let known = &mut self.reader_since;
                let place = known
                    .iter()
                    .position(|&(reader, _)| reader == source.reader);
                let since = match place {
                    Some(place) => std::mem::replace(&mut known[place].1, at),
                    None => {
                        known.push((source.reader, at));
                        first
                    }
                };
                since.window_to(&at)
            })
            .collect();
        let window = std::mem::replace(&mut self.since, at).window_to(&at);
        Tick {
            full: Arc::new(Envelope {
                window,
                metadata: header,
                sources,
            }),
            reader_windows,
            shapes: Default::default(),
        }
    }
}

impl Tick {
    /// The tick's envelopes in the shape of an output: one, or one for each reader; with or without the counters and
    /// histograms that did not change. Made once and shared by all outputs of that shape.
    pub(super) fn shape(&mut self, per_reader: bool, keep_zeros: bool) -> &[Shaped] {
        let (full, windows) = (&self.full, &self.reader_windows);
        self.shapes[usize::from(per_reader) * 2 + usize::from(keep_zeros)].get_or_insert_with(
            || {
                let envelope = if keep_zeros {
                    Arc::clone(full)
                } else {
                    without_zeros(full)
                };
                if per_reader {
                    split(&envelope, windows)
                } else {
                    vec![Shaped::new(None, envelope)]
                }
            },
        )
    }
}

impl Shaped {
    fn new(reader: Option<&'static str>, envelope: Arc<Envelope>) -> Self {
        Self {
            reader,
            weight: weight(&envelope),
            envelope,
        }
    }
}

fn without_zeros(full: &Arc<Envelope>) -> Arc<Envelope> {
    let mut metrics = full.sources.iter().flat_map(|source| &source.metrics);
    if !metrics.any(|metric| metric.value.is_zero()) {
        return Arc::clone(full);
    }
    let changed = |source: &Source| Source {
        metrics: source
            .metrics
            .iter()
            .filter(|metric| !metric.value.is_zero())
            .cloned()
            .collect(),
        unsupported: source.unsupported.clone(),
        health: source.health.clone(),
        ..*source
    };
    Arc::new(Envelope {
        window: full.window,
        metadata: Arc::clone(&full.metadata),
        sources: full.sources.iter().map(changed).collect(),
    })
}

fn split(envelope: &Envelope, windows: &[Window]) -> Vec<Shaped> {
    let alone = |(source, &window): (&Source, &Window)| {
        let alone = Envelope {
            window,
            metadata: Arc::clone(&envelope.metadata),
            sources: vec![source.clone()],
        };
        Shaped::new(Some(source.reader), Arc::new(alone))
    };
    envelope.sources.iter().zip(windows).map(alone).collect()
}

/// The bytes of memory that an envelope takes, about. The header is shared by all of them.
pub(super) fn weight(envelope: &Envelope) -> u64 {
    let sources = envelope.sources.iter().map(|source| {
        size_of::<Source>()
            + source.health.reason.len()
            + source.unsupported.len() * size_of::<&MetricDef>()
            + source.metrics.iter().map(metric_weight).sum::<usize>()
    });
    (size_of::<Envelope>() + ALLOCATION + sources.sum::<usize>()) as u64
}

fn metric_weight(metric: &Metric) -> usize {
    let labels = metric.labels.iter().map(|label| match label {
        LabelValue::Borrowed(_) => size_of::<LabelValue>(),
        LabelValue::Owned(text) => size_of::<LabelValue>() + ALLOCATION + text.len(),
    });
    let entity = match &metric.entity {
        Some(Entity {
            key: EntityKey::Name(name),
            ..
        }) => ALLOCATION + name.len(),
        _ => 0,
    };
    let buckets = match &metric.value {
        Value::Histogram(buckets) => ALLOCATION + buckets.counts.len() * size_of::<(u16, u64)>(),
        _ => 0,
    };
    size_of::<Metric>() + ALLOCATION + labels.sum::<usize>() + entity + buckets
}
