//! What has added up since the start, for outputs that tell totals instead of windows: the merge of all windows so far.
//!
//! A series is here for as long as its reader gives it. One that a successful read does not give any more has ended, and
//! goes at once; no memory of it stays.

use std::{mem, sync::Arc, time::Duration};

use super::{
    envelope::metric_weight,
    identity::{Finder, Identified},
    merge,
};
use crate::model::{Envelope, Metadata, Metric, Source, Status, Window};

/// A reader that has had nothing to tell at this many ticks in a row has no series until it has again. One that was not even
/// due for so many times its last window is not read any more.
const PATIENCE: u32 = 3;

/// But not for less than this.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(10);

/// The merge of all windows of one output, which have zeros in them.
pub(super) struct Totals {
    /// What is told. Shared with who formats it.
    told: Arc<Envelope>,
    /// What else is known of each of its sources, in the same order.
    known: Vec<Known>,
    /// How many windows are in it.
    windows: u64,
    /// Bytes that its series may take.
    most: u64,
}

/// Of one source.
#[derive(Default)]
struct Known {
    /// Its series while they are not told: counting goes on from them.
    untold: Vec<Metric>,
    /// Ticks in a row without values.
    silent: u32,
    /// How long it has not been due, and how long that is good.
    absent: Duration,
    patience: Duration,
    /// Bytes of its series.
    weight: u64,
    /// How many series found no room when it was last read.
    left_out: u64,
}

impl Totals {
    /// Nothing yet. Its series will take `most` bytes, about.
    pub(super) fn new(most: u64) -> Self {
        Self {
            told: Arc::new(Envelope {
                window: Window::default(),
                metadata: Arc::<Metadata>::default(),
                sources: Vec::new(),
            }),
            known: Vec::new(),
            windows: 0,
            most,
        }
    }

    /// Adds the next window.
    pub(super) fn add(&mut self, next: &Envelope) {
        let told = Arc::make_mut(&mut self.told);
        told.window = match self.windows {
            0 => next.window,
            _ => merge::join(told.window, next.window),
        };
        told.metadata = Arc::clone(&next.metadata);
        self.windows += 1;
        for known in &mut self.known {
            known.absent = known.absent.saturating_add(next.window.duration);
        }
        for source in &next.sources {
            let mut readers = told.sources.iter().map(|known| known.reader);
            let place = readers.position(|reader| reader == source.reader);
            let place = place.unwrap_or_else(|| {
                told.sources.push(Source {
                    covered: Duration::ZERO,
                    lost: 0,
                    ..without_series(source)
                });
                self.known.push(Known::default());
                self.known.len() - 1
            });
            let weight: u64 = self.known.iter().map(|known| known.weight).sum();
            let known = &mut self.known[place];
            let room = self.most.saturating_sub(weight - known.weight);
            known.add(&mut told.sources[place], source, room);
        }
        let mut known = self
            .known
            .iter()
            .map(|known| known.absent <= known.patience);
        told.sources.retain(|_| known.next().unwrap_or(true));
        self.known.retain(|known| known.absent <= known.patience);
    }

    /// All of it.
    pub(super) fn told(&self) -> Arc<Envelope> {
        Arc::clone(&self.told)
    }

    /// How many windows are in it.
    pub(super) fn windows(&self) -> u64 {
        self.windows
    }

    /// The bytes of all series, about.
    pub(super) fn weight(&self) -> u64 {
        self.known.iter().map(|known| known.weight).sum()
    }

    /// How many series there is no room for.
    pub(super) fn left_out(&self) -> u64 {
        self.known.iter().map(|known| known.left_out).sum()
    }
}

impl Known {
    fn add(&mut self, told: &mut Source, next: &Source, room: u64) {
        self.absent = Duration::ZERO;
        self.patience = (next.window.duration.saturating_mul(PATIENCE)).max(SHORTEST_PATIENCE);
        let mut series = mem::take(&mut told.metrics);
        series.append(&mut self.untold);
        merge::absorb_source(told, without_series(next));
        // What holds now, not the worst that ever was.
        told.health = next.health.clone();
        if !next.covered.is_zero() || !next.metrics.is_empty() {
            self.silent = 0;
            told.unsupported.clone_from(&next.unsupported);
            told.metrics = self.grown(series, &next.metrics, room);
            return;
        }
        self.silent += 1;
        if next.health.status >= Status::Unsupported || self.silent >= PATIENCE {
            self.untold = series;
        } else {
            told.metrics = series;
        }
    }

    /// The series of the next window, with what is known of them.
    fn grown(&mut self, before: Vec<Metric>, next: &[Metric], room: u64) -> Vec<Metric> {
        let mut finder = Finder::new(&before);
        let places: Vec<_> = next
            .iter()
            .map(|later| finder.find(later.identity()))
            .collect();
        let mut before: Vec<_> = before.into_iter().map(Some).collect();
        let mut series = Vec::with_capacity(next.len());
        (self.weight, self.left_out) = (0, 0);
        for (later, place) in next.iter().zip(places) {
            let known = place.and_then(|place| before[place].take());
            let is_new = known.is_none();
            let metric = known.map_or_else(|| later.clone(), |known| grow(known, later));
            let weight = metric_weight(&metric) as u64;
            if is_new && self.weight + weight > room {
                self.left_out += 1;
                continue;
            }
            self.weight += weight;
            series.push(metric);
        }
        series
    }
}

fn grow(mut known: Metric, later: &Metric) -> Metric {
    if later.entity_id.is_some() || later.entity_name.is_some() {
        known.entity_id = later.entity_id;
        known.entity_name.clone_from(&later.entity_name);
    }
    merge::absorb_value(&mut known.value, later.value.clone());
    known
}

fn without_series(source: &Source) -> Source {
    Source {
        labels: Arc::clone(&source.labels),
        health: source.health.clone(),
        unsupported: source.unsupported.clone(),
        metrics: Vec::new(),
        ..*source
    }
}

#[cfg(test)]
mod tests;
