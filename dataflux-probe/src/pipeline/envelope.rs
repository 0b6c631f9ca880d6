//! Assembles the sources of a tick to an envelope, joins ids and names, and cuts it to the shapes that outputs want.

use std::{mem::size_of, sync::Arc};

use super::{clock::Moment, shape::Shape};
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
    at: Moment,
    /// Start of all first windows.
    first: Moment,
    /// The previous tick of each reader that had one.
    previous: Vec<(&'static str, Moment)>,
    /// When readers began that did not begin with the others.
    joined: Vec<(&'static str, Moment)>,
    /// What was asked for already.
    shapes: Vec<(Arc<Shape>, Vec<Shaped>)>,
}

/// Makes the envelope of each tick.
pub(super) struct Assembler {
    names: Names,
    /// Start of all first windows.
    first: Moment,
    /// Start of the next envelope's window.
    since: Moment,
    /// The last tick of each reader that had one.
    ticks: Vec<(&'static str, Moment)>,
    /// When readers began that did not begin with the others.
    joined: Vec<(&'static str, Moment)>,
}

impl Assembler {
    /// [`Assembler::start`] comes before everything else.
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            since: Moment::default(),
            first: Moment::default(),
            ticks: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// The first windows start at `baseline`.
    pub(super) fn start(&mut self, baseline: Moment) {
        self.since = baseline;
        self.first = baseline;
    }

    /// The first window of this reader starts at `at`.
    pub(super) fn start_of(&mut self, reader: &'static str, at: Moment) {
        self.joined.retain(|(joined, _)| *joined != reader);
        self.joined.push((reader, at));
    }

    /// Gives the entities of a tick's sources their ids and names, as far as they are known.
    pub(super) fn join(&mut self, sources: &mut [Source]) {
        self.names.begin_tick();
        for metric in sources.iter_mut().flat_map(|source| &mut source.metrics) {
            if let Some(entity) = &metric.entity {
                (metric.entity_id, metric.entity_name) = self.names.resolve(entity);
            }
        }
    }

    /// The envelope of the tick at `at`, of joined sources.
    pub(super) fn assemble(
        &mut self,
        at: Moment,
        header: Arc<Metadata>,
        sources: Vec<Source>,
    ) -> Tick {
        let previous = self.ticks.clone();
        for source in &sources {
            let mut known = self.ticks.iter_mut();
            match known.find(|(reader, _)| *reader == source.reader) {
                Some((_, tick)) => *tick = at,
                None => self.ticks.push((source.reader, at)),
            }
        }
        let window = std::mem::replace(&mut self.since, at).window_to(&at);
        Tick {
            full: Arc::new(Envelope {
                window,
                metadata: header,
                sources,
            }),
            at,
            first: self.first,
            previous,
            joined: self.joined.clone(),
            shapes: Vec::new(),
        }
    }
}

impl Tick {
    /// The tick's envelopes as an output wants them: one, or one for each reader; none if no source that it wants was due.
    /// Made once and shared by all outputs of an equal shape.
    pub(super) fn shape(&mut self, shape: &Arc<Shape>) -> &[Shaped] {
        let made = |(made, _): &(Arc<Shape>, _)| Arc::ptr_eq(made, shape) || made == shape;
        let place = self.shapes.iter().position(made).unwrap_or_else(|| {
            self.shapes.push((Arc::clone(shape), self.cut(shape)));
            self.shapes.len() - 1
        });
        &self.shapes[place].1
    }

    fn cut(&self, shape: &Shape) -> Vec<Shaped> {
        let wanted: Vec<_> = self
            .full
            .sources
            .iter()
            .filter(|source| shape.wants(source.reader))
            .collect();
        if shape.per_reader {
            let alone = |source: &&Source| {
                let window = self.window(|reader| reader == source.reader);
                let envelope = self.envelope(window, vec![shape.cut(source)]);
                Shaped::new(Some(source.reader), envelope)
            };
            return wanted.iter().map(alone).collect();
        }
        let all = wanted.len() == self.full.sources.len();
        if wanted.is_empty() && !all {
            return Vec::new();
        }
        let passes = |source: &&Source| {
            let mut metrics = source.metrics.iter();
            metrics.all(|metric| shape.passes(source.reader, metric))
        };
        let envelope = if all && wanted.iter().all(passes) && shape.sources.is_none() {
            Arc::clone(&self.full)
        } else {
            let window = self.window(|reader| shape.wants(reader));
            self.envelope(
                window,
                wanted.into_iter().map(|source| shape.cut(source)).collect(),
            )
        };
        vec![Shaped::new(None, envelope)]
    }

    /// From the previous tick of the stream that has these readers' sources.
    fn window(&self, of: impl Fn(&str) -> bool) -> Window {
        let last = |ticks: &[(&str, Moment)]| {
            let ticks = ticks.iter().filter(|(reader, _)| of(reader));
            ticks.map(|(_, tick)| *tick).max_by_key(|tick| tick.boot)
        };
        let start = last(&self.previous).or_else(|| last(&self.joined));
        start.unwrap_or(self.first).window_to(&self.at)
    }

    fn envelope(&self, window: Window, sources: Vec<Source>) -> Arc<Envelope> {
        Arc::new(Envelope {
            window,
            metadata: Arc::clone(&self.full.metadata),
            sources,
        })
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

/// The bytes of a series beside those of its vector's place, about.
pub(super) fn metric_weight(metric: &Metric) -> usize {
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
