//! The metric and metadata readers of a pipeline: which are to be read now, and what they have read.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

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
    /// How many readers there were so far: a reader that is still being read may be gone when it comes back.
    ids: usize,
    /// The sections of all metadata readers.
    pub(super) header: Arc<Metadata>,
}

struct Metric {
    id: usize,
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
    id: usize,
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
        let mut readers = Self {
            metrics: Vec::new(),
            metadata: Vec::new(),
            ids: 0,
            header: Arc::default(),
        };
        for reader in metrics {
            let metric = Metric::new(readers.next_id(), reader, counters, keep_zeros);
            readers.metrics.push(metric);
        }
        for reader in metadata {
            let header = Header::new(readers.next_id(), reader);
            readers.metadata.push(header);
        }
        readers
    }

    fn next_id(&mut self) -> usize {
        self.ids += 1;
        self.ids
    }

    /// Goes on with these metric readers: those that are in `same` with what they have, the others anew, with windows that
    /// start at `at`. Gives the place that each had before, if it goes on.
    pub(super) fn change_metrics(
        &mut self,
        readers: Vec<super::Reader>,
        same: &BTreeSet<String>,
        counters: &Counters,
        keep_zeros: bool,
        at: Moment,
    ) -> Vec<Option<usize>> {
        let mut old: Vec<_> = std::mem::take(&mut self.metrics)
            .into_iter()
            .map(Some)
            .collect();
        let mut places = Vec::new();
        for reader in readers {
            let is_it = |metric: &Option<Metric>| {
                let metric = metric.as_ref();
                metric.is_some_and(|metric| metric.name == reader.name)
            };
            let place = old.iter().position(is_it);
            let place = place.filter(|_| same.contains(reader.name));
            let metric = match place.and_then(|place| old[place].take()) {
                Some(metric) => metric.go_on(reader, keep_zeros),
                None => {
                    let mut new = Metric::new(self.next_id(), reader, counters, keep_zeros);
                    new.delta.start(at);
                    new
                }
            };
            places.push(place);
            self.metrics.push(metric);
        }
        places
    }

    /// Goes on with these metadata readers: those that are in `same` with what they have, the others anew. The sections of
    /// those that are gone are gone, too.
    pub(super) fn change_metadata(
        &mut self,
        readers: Vec<super::Metadata>,
        same: &BTreeSet<String>,
    ) {
        let mut old = std::mem::take(&mut self.metadata);
        for reader in readers {
            let place = old.iter().position(|header| header.name == reader.name);
            let going_on = place.map(|place| old.remove(place));
            let header = match going_on.filter(|_| same.contains(reader.name)) {
                Some(header) => Header {
                    interval: reader.interval,
                    ..header
                },
                None => Header::new(self.next_id(), reader),
            };
            self.metadata.push(header);
        }
        for gone in old {
            if self.header.sections.contains_key(gone.name) {
                Arc::make_mut(&mut self.header).sections.remove(gone.name);
            }
        }
    }

    /// The places of the metric readers that are not in `same`, and their names.
    pub(super) fn without(&self, same: &BTreeSet<String>) -> Vec<(usize, &'static str)> {
        let names = self.metrics.iter().map(|metric| metric.name).enumerate();
        names.filter(|(_, name)| !same.contains(*name)).collect()
    }

    /// The names of all metric readers, by place.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.metrics.iter().map(|metric| metric.name)
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
            let reader = metric.reader.take()?;
            Some(Job::Metric(metric.id, reader))
        };
        places.iter().filter_map(begin).collect()
    }

    /// Jobs for the metadata readers whose interval has passed.
    pub(super) fn metadata_jobs(&mut self, now: Moment) -> Vec<Job> {
        let begin = |header: &mut Header| {
            let due = header
                .last
                .is_none_or(|last| now.boot.saturating_sub(last.boot) + EARLY >= header.interval);
            let reader = if due { header.reader.take() } else { None }?;
            header.last = Some(now);
            Some(Job::Metadata(header.id, reader))
        };
        self.metadata.iter_mut().filter_map(begin).collect()
    }

    /// Takes a reader back, with what it read.
    pub(super) fn accept(&mut self, done: Done) {
        match done.outcome {
            Outcome::Metric(id, reader, read) => {
                let mut metrics = self.metrics.iter_mut();
                let Some(metric) = metrics.find(|metric| metric.id == id) else {
                    return;
                };
                metric.reader = Some(reader);
                metric.accept(done.at, done.took, read);
            }
            Outcome::Metadata(id, reader, read) => {
                let mut metadata = self.metadata.iter_mut();
                let Some(header) = metadata.find(|header| header.id == id) else {
                    return;
                };
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

impl Header {
    fn new(id: usize, reader: super::Metadata) -> Self {
        Self {
            id,
            name: reader.name,
            interval: reader.interval,
            reader: Some(reader.reader),
            last: None,
            outage: Outage::default(),
        }
    }
}

impl Metric {
    fn new(id: usize, reader: super::Reader, counters: &Counters, keep_zeros: bool) -> Self {
        Self {
            id,
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
        }
    }

    /// With what another configuration says of it; `reader` itself is not needed.
    fn go_on(mut self, reader: super::Reader, keep_zeros: bool) -> Self {
        self.interval = reader.interval;
        self.labels = reader.labels;
        self.selection = self.selection.go_on(reader.selection);
        self.delta.keep_zeros(keep_zeros);
        self
    }

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
