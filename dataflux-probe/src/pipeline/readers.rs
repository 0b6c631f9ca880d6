//! The metric and metadata readers of a pipeline: which are to be read now, and what they have read.

use std::{sync::Arc, time::Duration};

use super::{
    clock::Moment,
    counters::{Counters, ReaderCounters},
    delta::Delta,
    merge,
    selection::Selection,
    sweep::{Done, Job, Outcome},
};
use crate::{
    metadata::MetadataReader,
    metrics::MetricReader,
    model::{Health, Labels, Metadata, MetricDef, Snapshot, Source, Status},
};

/// Metadata is read along with a tick of the metric readers; one that comes this little too early will do.
const EARLY: Duration = Duration::from_millis(50);

/// All readers, and the header that the metadata readers make.
pub(super) struct Readers {
    metrics: Vec<Metric>,
    metadata: Vec<Header>,
    /// The sections of all metadata readers.
    pub(super) header: Arc<Metadata>,
}

struct Metric {
    name: &'static str,
    interval: Duration,
    defs: &'static [&'static MetricDef],
    labels: Labels,
    attached: Health,
    /// Gone while it is being read.
    reader: Option<Box<dyn MetricReader>>,
    /// Whether its first read, the baseline, was seen.
    begun: bool,
    delta: Delta,
    selection: Selection,
    /// What has been read since the last envelope.
    ready: Option<Source>,
    /// Whether its present read is known and counted as late.
    late: bool,
    outage: Outage,
    counters: Arc<ReaderCounters>,
}

struct Header {
    name: &'static str,
    interval: Duration,
    /// Gone while it is being read.
    reader: Option<Box<dyn MetadataReader>>,
    /// When it was last begun.
    last: Option<Moment>,
    outage: Outage,
}

impl Readers {
    /// `keep_zeros` says whether any output wants series without change.
    pub(super) fn new(
        metrics: Vec<super::Reader>,
        metadata: Vec<super::Metadata>,
        counters: &Counters,
        keep_zeros: bool,
    ) -> Self {
        let metrics = metrics.into_iter().map(|reader| Metric {
            name: reader.name,
            interval: reader.interval,
            defs: reader.metrics,
            labels: reader.labels,
            attached: reader.attached,
            reader: Some(reader.reader),
            begun: false,
            delta: Delta::new(reader.name, keep_zeros),
            selection: Selection::new(reader.selection),
            ready: None,
            late: false,
            outage: Outage::default(),
            counters: counters.reader(reader.name),
        });
        let metadata = metadata.into_iter().map(|reader| Header {
            name: reader.name,
            interval: reader.interval,
            reader: Some(reader.reader),
            last: None,
            outage: Outage::default(),
        });
        Self {
            metrics: metrics.collect(),
            metadata: metadata.collect(),
            header: Arc::default(),
        }
    }

    /// The interval of each metric reader, by place.
    pub(super) fn intervals(&self) -> impl Iterator<Item = Duration> {
        self.metrics.iter().map(|metric| metric.interval)
    }

    /// How often the metric reader at this place is read.
    pub(super) fn interval(&self, place: usize) -> Duration {
        self.metrics[place].interval
    }

    /// The places of all metric readers.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.metrics.len()).collect()
    }

    /// Jobs for those of the metric readers at these places that are attached and not still being read.
    pub(super) fn metric_jobs(&mut self, places: &[usize]) -> Vec<Job> {
        let begin = |&place: &usize| {
            let metric = &mut self.metrics[place];
            if metric.attached.status != Status::Ok {
                return None;
            }
            metric
                .reader
                .take()
                .map(|reader| Job::Metric(place, reader))
        };
        places.iter().filter_map(begin).collect()
    }

    /// Jobs for the metadata readers whose interval has passed.
    pub(super) fn metadata_jobs(&mut self, now: Moment) -> Vec<Job> {
        let begin = |(place, header): (usize, &mut Header)| {
            let due = header
                .last
                .is_none_or(|last| now.boot.saturating_sub(last.boot) + EARLY >= header.interval);
            let reader = if due { header.reader.take() } else { None }?;
            header.last = Some(now);
            Some(Job::Metadata(place, reader))
        };
        self.metadata
            .iter_mut()
            .enumerate()
            .filter_map(begin)
            .collect()
    }

    /// Takes a reader back, with what it read.
    pub(super) fn accept(&mut self, done: Done) {
        match done.outcome {
            Outcome::Metric(place, reader, read) => {
                let metric = &mut self.metrics[place];
                metric.reader = Some(reader);
                metric.accept(done.at, done.took, read);
            }
            Outcome::Metadata(place, reader, read) => {
                let header = &mut self.metadata[place];
                header.reader = Some(reader);
                header.outage.note(header.name, read.as_ref().err());
                if let Ok(new) = read {
                    update(&mut self.header, new);
                }
            }
        }
    }

    /// All windows start at `at`.
    pub(super) fn start(&mut self, at: Moment) {
        for metric in &mut self.metrics {
            metric.delta.start(at);
        }
    }

    /// Chooses among the entities of joined sources.
    pub(super) fn select(&mut self, sources: &mut [Source]) {
        for source in sources {
            let mut metrics = self.metrics.iter_mut();
            if let Some(metric) = metrics.find(|metric| metric.name == source.reader) {
                metric.select(source);
            }
        }
    }

    /// The sources of the envelope of the tick at `at`: of the readers at these places, which are due, and of those that were
    /// late before.
    pub(super) fn sources(&mut self, at: Moment, due: &[usize]) -> Vec<Source> {
        let mut sources = Vec::with_capacity(self.metrics.len());
        for (place, metric) in self.metrics.iter_mut().enumerate() {
            if due.contains(&place) && metric.is_late() && !metric.late {
                metric.late = true;
                metric.counters.late.add(1);
            }
            let source = match metric.ready.take() {
                None if due.contains(&place) => Some(metric.without_values(at)),
                ready => ready,
            };
            sources.extend(source.map(|source| Source {
                labels: Arc::clone(&metric.labels),
                ..source
            }));
        }
        sources
    }
}

impl Metric {
    /// Leaves the entities in the source that are reported by themselves, and what stands for the rest.
    fn select(&mut self, source: &mut Source) {
        self.selection.apply(&mut source.metrics);
        let rest = self.selection.settle(self.delta.entities());
        if rest > 0 {
            self.counters.is_bounded.set(1);
        }
        self.counters.other_entities.set(rest as u64);
    }

    /// Whether it is still being read.
    fn is_late(&self) -> bool {
        self.reader.is_none()
    }

    fn accept(&mut self, at: Moment, took: Duration, read: anyhow::Result<Snapshot>) {
        self.late = false;
        self.outage.note(self.name, read.as_ref().err());
        let outcomes = if read.is_ok() {
            &self.counters.reads
        } else {
            &self.counters.failures
        };
        outcomes.add(1);
        self.counters
            .read_ns
            .add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if !self.begun {
            self.begun = true;
            self.delta.baseline(at, read);
            return;
        }
        let source = self.delta.source(at, read);
        match &mut self.ready {
            Some(earlier) => merge::absorb_source(earlier, source),
            None => self.ready = Some(source),
        }
    }

    /// The source of a reader that is due and has nothing.
    fn without_values(&mut self, at: Moment) -> Source {
        if self.attached.status != Status::Ok {
            let mut source = self.delta.without_values(at, self.attached.clone());
            if self.attached.status == Status::Unsupported {
                source.unsupported = self.defs.to_vec();
            }
            self.delta.start(at);
            return source;
        }
        let reason = if self.is_late() {
            "late: being read when the envelope left"
        } else {
            "late: its first read ended in this window"
        };
        self.delta
            .without_values(at, Health::new(Status::Degraded, reason))
    }
}

/// Replaces sections of the header if they say something else.
fn update(header: &mut Arc<Metadata>, new: Metadata) {
    let changed = |(name, section)| header.sections.get(name) != Some(section);
    if new.sections.iter().any(changed) {
        Arc::make_mut(header).sections.extend(new.sections);
    }
}

/// Says once that a reader fails, and once that it works again.
#[derive(Default)]
struct Outage {
    lasting: bool,
}

impl Outage {
    fn note(&mut self, reader: &str, error: Option<&anyhow::Error>) {
        match error {
            Some(error) if !self.lasting => tracing::warn!(reader, "cannot be read: {error:#}"),
            None if self.lasting => tracing::info!(reader, "can be read again"),
            _ => {}
        }
        self.lasting = error.is_some();
    }
}
