//! The only place that subtracts: cumulative snapshots of one reader in, windows out.

use std::{sync::Arc, time::Duration};

use super::{
    clock::Moment,
    identity::{Finder, Identified},
};
use crate::model::{
    Born, Buckets, Entity, Fall, Health, Kind, Metric, MetricDef, Series, Snapshot, Source, Status,
    Total, Value,
};

/// What one reader has counted so far, and since when.
pub(super) struct Delta {
    reader: &'static str,
    /// Whether series without change are worth building: some output wants them.
    keep_zeros: bool,
    /// Where the next window starts: the last successful read, or the baseline's tick.
    since: Moment,
    /// The last successful snapshot's series, with high-water marks for those that jitter. `None` until there was one.
    before: Option<Vec<Series>>,
    lost: u64,
}

impl Delta {
    /// For a reader that was never read. [`Delta::start`] comes before everything else.
    pub(super) fn new(reader: &'static str, keep_zeros: bool) -> Self {
        Self {
            reader,
            keep_zeros,
            since: Moment::default(),
            before: None,
            lost: 0,
        }
    }

    /// Whether series without change are worth building from now on.
    pub(super) fn keep_zeros(&mut self, keep: bool) {
        self.keep_zeros = keep;
    }

    /// The next window starts at `at`.
    pub(super) fn start(&mut self, at: Moment) {
        self.since = at;
    }

    /// The entities of the last successful read that go on; one that has several series comes several times.
    pub(super) fn entities(&self) -> impl Iterator<Item = &Entity> {
        let series = self.before.iter().flatten();
        series.filter_map(|series| series.entity.as_ref())
    }

    /// Takes the very first read, which nothing is sent of. If it failed, a later one becomes the baseline.
    pub(super) fn baseline(&mut self, at: Moment, read: anyhow::Result<Snapshot>) {
        if let Ok(snapshot) = read {
            self.since = at;
            self.lost = snapshot.lost;
            self.before = Some(continuing(snapshot.series, &snapshot.ended));
        }
    }

    /// The source of the window that ends with this read, which began at `at`. After a failed read the next success covers
    /// the time since the last one.
    pub(super) fn source(&mut self, at: Moment, read: anyhow::Result<Snapshot>) -> Source {
        match read {
            Ok(snapshot) => self.advance(at, snapshot),
            Err(error) => {
                self.without_values(at, Health::new(Status::Failed, format!("{error:#}")))
            }
        }
    }

    /// A source that only says why there are no values up to `at`.
    pub(super) fn without_values(&mut self, at: Moment, health: Health) -> Source {
        Source {
            reader: self.reader,
            labels: Arc::default(),
            health,
            window: self.since.window_to(&at),
            covered: Duration::ZERO,
            lost: 0,
            unsupported: Vec::new(),
            metrics: Vec::new(),
        }
    }

    fn advance(&mut self, at: Moment, snapshot: Snapshot) -> Source {
        let Snapshot {
            mut series,
            earlier,
            lost,
            ended,
            unsupported,
            mut health,
        } = snapshot;
        let window = self.since.window_to(&at);
        let late_baseline = self.before.is_none();
        if late_baseline {
            health = health.worse(Health::new(
                Status::Degraded,
                "counting starts with this window's end: no read succeeded before",
            ));
        }
        let before = self.before.take().unwrap_or_default();
        let mut finder = Finder::new(&before);
        let mut corrections = (!earlier.is_empty()).then(|| Finder::new(&earlier));
        let mut metrics = Vec::new();
        for new in &mut series {
            let corrected = corrections
                .as_mut()
                .and_then(|finder| finder.find(new.identity()))
                .map(|place| &earlier[place].value);
            let old = corrected.or_else(|| {
                let place = finder.find(new.identity())?;
                Some(&before[place].value)
            });
            let value = if late_baseline {
                first_value(&new.value)
            } else {
                Some(change(new.def, &mut new.value, old))
            };
            if let Some(value) = value
                && (self.keep_zeros || !value.is_zero())
            {
                metrics.push(metric(new, value));
            }
        }
        let covered = if late_baseline {
            Duration::ZERO
        } else {
            window.duration
        };
        let newly_lost = if late_baseline {
            0
        } else {
            // Fewer than before: the kernel side began anew.
            lost.checked_sub(self.lost).unwrap_or(lost)
        };
        self.since = at;
        self.lost = lost;
        self.before = Some(continuing(series, &ended));
        Source {
            reader: self.reader,
            labels: Arc::default(),
            health,
            window,
            covered,
            lost: newly_lost,
            unsupported,
            metrics,
        }
    }
}

/// The series that the next snapshot compares with: those of cleared values count from 0 if they come again.
fn continuing(mut series: Vec<Series>, ended: &[Entity]) -> Vec<Series> {
    if !ended.is_empty() {
        let cleared = |entity: &Entity| ended.contains(entity);
        series.retain(|series| !series.entity.as_ref().is_some_and(cleared));
    }
    series
}

fn metric(series: &Series, value: Value) -> Metric {
    Metric {
        def: series.def,
        entity: series.entity.clone(),
        entity_id: None,
        entity_name: None,
        labels: series.labels.clone(),
        value,
    }
}

/// The value of a series in the window that its reader's first successful read ends: only a baseline.
fn first_value(total: &Total) -> Option<Value> {
    match *total {
        Total::Counter(total) => Some(Value::Counter { value: None, total }),
        Total::Gauge(value) => Some(gauge(value)),
        Total::Histogram(_) => None,
    }
}

/// How much a series changed. Leaves the baseline of the next window in `new`.
fn change(def: &MetricDef, new: &mut Total, old: Option<&Total>) -> Value {
    match new {
        Total::Gauge(value) => gauge(*value),
        Total::Histogram(now) => {
            let old = match old {
                Some(Total::Histogram(old)) => Some(old),
                _ => None,
            };
            Value::Histogram(histogram_change(now, old))
        }
        Total::Counter(now) => {
            let old = match old {
                Some(&Total::Counter(old)) => Some(old),
                _ => None,
            };
            let (value, total) = counter_change(def, *now, old);
            *now = total;
            Value::Counter { value, total }
        }
    }
}

/// The window's value, and the total that is sent and becomes the baseline.
fn counter_change(def: &MetricDef, now: u64, old: Option<u64>) -> (Option<u64>, u64) {
    debug_assert!(
        matches!(def.kind, Kind::Counter { .. }),
        "{} is no counter",
        def.name
    );
    let (born, fall) = match def.kind {
        Kind::Counter { born, fall } => (born, fall),
        Kind::Gauge | Kind::Histogram => (Born::Past, Fall::Restart),
    };
    match (old, fall) {
        (Some(old), _) if now >= old => (Some(now - old), now),
        (Some(old), Fall::Jitter) => (Some(0), old),
        (Some(_), Fall::Restart) | (None, _) => match born {
            Born::Zero => (Some(now), now),
            Born::Past => (None, now),
        },
    }
}

/// What was added to a histogram; all of it if it is new or if a bucket fell, which means that it began anew. The sum may lag
/// behind the buckets by events in flight; should it ever fall alone, its highest value stays the baseline.
fn histogram_change(now: &mut Buckets, old: Option<&Buckets>) -> Buckets {
    let Some(old) = old else {
        return now.clone();
    };
    let Some(counts) = added(&now.counts, &old.counts) else {
        return now.clone();
    };
    let sum = now.sum.saturating_sub(old.sum);
    now.sum = now.sum.max(old.sum);
    Buckets { sum, counts }
}

/// The growth of each bucket; `None` if one of them fell. Both are sorted by bucket.
fn added(now: &[(u16, u64)], old: &[(u16, u64)]) -> Option<Vec<(u16, u64)>> {
    let mut rest = old;
    let mut counts = Vec::new();
    for &(bucket, count) in now {
        let before = match rest {
            [(first, before), others @ ..] if *first == bucket => {
                rest = others;
                *before
            }
            _ => 0,
        };
        let growth = count.checked_sub(before)?;
        if growth > 0 {
            counts.push((bucket, growth));
        }
    }
    // What is left was not among the new ones, so it fell to nothing.
    rest.is_empty().then_some(counts)
}

fn gauge(value: f64) -> Value {
    Value::Gauge {
        value,
        min: value,
        max: value,
    }
}

#[cfg(test)]
mod tests;
