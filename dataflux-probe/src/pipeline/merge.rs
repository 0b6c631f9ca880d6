//! Merges two adjacent windows into one longer window, without losing a count. Associative.

use std::{mem, sync::Arc};

use super::identity::{Finder, Identified};
use crate::model::{Buckets, Envelope, Metric, Numbered, Part, Source, Value, Window};

/// Two whole envelopes of one stream with adjacent numbers, `b` without gaps. The result stands for both, with the gaps and
/// the stream of `a`.
pub(super) fn records(a: Numbered, b: Numbered) -> Numbered {
    debug_assert!(a.stream.id == b.stream.id && a.range.end() + 1 == *b.range.start());
    debug_assert!(a.part == Part::WHOLE && b.part == Part::WHOLE && b.gaps.is_empty());
    Numbered {
        stream: a.stream,
        range: *a.range.start()..=*b.range.end(),
        part: Part::WHOLE,
        gaps: a.gaps,
        envelope: envelopes(a.envelope, b.envelope),
    }
}

/// Two adjacent windows of one stream.
pub(super) fn envelopes(mut a: Arc<Envelope>, b: Arc<Envelope>) -> Arc<Envelope> {
    absorb_envelope(Arc::make_mut(&mut a), Arc::unwrap_or_clone(b));
    a
}

fn absorb_envelope(a: &mut Envelope, b: Envelope) {
    a.window = join(a.window, b.window);
    a.metadata = b.metadata;
    for later in b.sources {
        match a
            .sources
            .iter_mut()
            .find(|known| known.reader == later.reader)
        {
            Some(known) => absorb_source(known, later),
            None => a.sources.push(later),
        }
    }
}

/// Adds a reader's next source to `a`.
pub(super) fn absorb_source(a: &mut Source, b: Source) {
    (a.window, a.covered) = (join_sources(a, &b), a.covered.saturating_add(b.covered));
    a.labels = b.labels;
    a.health = mem::take(&mut a.health).worse(b.health);
    a.lost = a.lost.saturating_add(b.lost);
    for def in b.unsupported {
        if !a.unsupported.contains(&def) {
            a.unsupported.push(def);
        }
    }
    a.metrics = merge_metrics(mem::take(&mut a.metrics), b.metrics);
}

/// `b` follows `a` without a break.
pub(super) fn join(a: Window, b: Window) -> Window {
    Window {
        start: a.start,
        stop: b.stop,
        duration: a.duration.saturating_add(b.duration),
        suspended: a.suspended.saturating_add(b.suspended),
        clock_step: a.clock_step.saturating_add(b.clock_step),
    }
}

/// `b` follows the last success in `a`: its window starts there and holds again what follows in `a`. So of `a` only what it
/// covers is added, and nothing is added of the suspensions and steps in a `b` that covers nothing.
fn join_sources(a: &Source, b: &Source) -> Window {
    if a.covered.is_zero() {
        return b.window;
    }
    let covered = Window {
        duration: a.covered,
        ..a.window
    };
    let mut next = b.window;
    if b.covered.is_zero() {
        (next.suspended, next.clock_step) = Default::default();
    }
    join(covered, next)
}

/// Keeps the order of `a`; what only `b` has follows in its own order.
fn merge_metrics(mut a: Vec<Metric>, b: Vec<Metric>) -> Vec<Metric> {
    let mut finder = Finder::new(&a);
    let places: Vec<_> = b
        .iter()
        .map(|later| finder.find(later.identity()))
        .collect();
    for (later, place) in b.into_iter().zip(places) {
        match place {
            Some(place) => absorb_metric(&mut a[place], later),
            None => a.push(later),
        }
    }
    a
}

fn absorb_metric(a: &mut Metric, b: Metric) {
    if b.entity_id.is_some() || b.entity_name.is_some() {
        (a.entity_id, a.entity_name) = (b.entity_id, b.entity_name);
    }
    absorb_value(&mut a.value, b.value);
}

/// Adds the value of a series' next window to `a`.
pub(super) fn absorb_value(a: &mut Value, b: Value) {
    let earlier = mem::replace(a, b);
    match (earlier, a) {
        (Value::Counter { value: earlier, .. }, Value::Counter { value, .. }) => {
            // A baseline adds nothing: what is known of the merged window is what was counted beside it.
            *value = match (earlier, *value) {
                (Some(earlier), Some(later)) => Some(earlier.saturating_add(later)),
                (earlier, later) => earlier.or(later),
            };
        }
        (
            Value::Gauge {
                min: lowest,
                max: highest,
                ..
            },
            Value::Gauge { min, max, .. },
        ) => {
            *min = min.min(lowest);
            *max = max.max(highest);
        }
        (Value::Histogram(earlier), Value::Histogram(later)) => *later = add(&earlier, later),
        // A definition has one kind, so this cannot be; the later value stands.
        _ => debug_assert!(false, "values of two kinds"),
    }
}

/// The sum of two histograms; both are sorted by bucket.
pub(super) fn add(a: &Buckets, b: &Buckets) -> Buckets {
    let mut counts = Vec::with_capacity(a.counts.len().max(b.counts.len()));
    let (mut left, mut right) = (a.counts.iter().peekable(), b.counts.iter().peekable());
    loop {
        counts.push(match (left.peek(), right.peek()) {
            (Some(&&(bucket, count)), Some(&&(other, more))) if bucket == other => {
                left.next();
                right.next();
                (bucket, count.saturating_add(more))
            }
            (Some(&&(bucket, count)), other) if other.is_none_or(|&&(other, _)| bucket < other) => {
                left.next();
                (bucket, count)
            }
            (_, Some(&&(bucket, count))) => {
                right.next();
                (bucket, count)
            }
            (_, None) => break,
        });
    }
    Buckets {
        sum: a.sum.saturating_add(b.sum),
        counts,
    }
}

#[cfg(test)]
mod tests;
