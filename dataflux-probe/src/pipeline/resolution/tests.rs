//! Merged windows end where they should, and hold what the others held.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    super::fakes::{LEVEL, source},
    *,
};
use crate::model::{Envelope, Metric, Value, Window};

const SECOND: i64 = 1_000_000_000;

/// A window between two times in ms, with a counter and a gauge.
fn shaped(reader: Option<&'static str>, start: i64, stop: i64, value: u64) -> Shaped {
    let window = Window {
        start: start * 1_000_000,
        stop: stop * 1_000_000,
        duration: Duration::from_millis(stop.saturating_sub(start).unsigned_abs()),
        ..Window::default()
    };
    let mut source = source(reader.unwrap_or("alpha"), window, &[value]);
    let level = value as f64;
    source.metrics.push(Metric {
        def: &LEVEL,
        value: Value::Gauge {
            value: level,
            min: level,
            max: level,
        },
        ..source.metrics[0].clone()
    });
    let envelope = Arc::new(Envelope {
        window,
        metadata: Arc::default(),
        sources: vec![source],
    });
    Shaped {
        reader,
        weight: weight(&envelope),
        envelope,
    }
}

/// Start and stop in seconds, and the sum of the counter.
fn told(shaped: &Shaped) -> (i64, i64, u64) {
    let Window { start, stop, .. } = shaped.envelope.window;
    let Value::Counter { value, .. } = shaped.envelope.sources[0].metrics[0].value else {
        panic!("the first series is a counter")
    };
    (start / SECOND, stop / SECOND, value.unwrap())
}

/// What comes out of windows between these times in seconds.
fn merged(times: &[i64]) -> Vec<(i64, i64, u64)> {
    let mut resolution = Resolution::new(Duration::from_mins(1), u64::MAX);
    let windows = times.windows(2);
    let mut out: Vec<_> = windows
        .filter_map(|pair| resolution.take(shaped(None, pair[0] * 1_000, pair[1] * 1_000, 1)))
        .collect();
    out.extend(resolution.finish());
    assert!(resolution.pending().is_empty());
    out.iter().map(told).collect()
}

#[test]
fn merged_windows_end_at_the_boundaries_of_the_resolution() {
    // Started in the middle of a minute, stopped in the middle of another one.
    let times: Vec<_> = (4..=20).map(|tick| tick * 10).collect();
    assert_eq!(
        merged(&times),
        [(40, 60, 2), (60, 120, 6), (120, 180, 6), (180, 200, 2)]
    );
}

#[test]
fn a_tick_a_little_early_or_late_is_the_one_at_the_boundary() {
    let mut resolution = Resolution::new(Duration::from_mins(1), u64::MAX);
    let times = [2, 29_999, 59_999, 90_001, 120_003, 149_998];
    let out: Vec<_> = times
        .windows(2)
        .filter_map(|pair| resolution.take(shaped(None, pair[0], pair[1], 1)))
        .map(|shaped| told(&shaped).2)
        .collect();
    assert_eq!(out, [2, 2]);
    assert_eq!(resolution.pending().len(), 1);
}

#[test]
fn missed_ticks_end_a_window_at_the_first_tick_behind_the_boundary() {
    assert_eq!(
        merged(&[0, 10, 20, 130, 140, 180, 190]),
        [(0, 130, 3), (130, 180, 2), (180, 190, 1)]
    );
}

#[test]
fn setting_the_clock_holds_nothing_back() {
    // By an hour back, and forth again.
    assert_eq!(
        merged(&[7_200, 7_210, 3_620, 3_630, 3_660, 7_270, 7_320]),
        [
            (7_200, 3_620, 2),
            (3_620, 3_660, 2),
            (3_660, 7_270, 1),
            (7_270, 7_320, 1)
        ]
    );
}

#[test]
fn each_stream_has_windows_of_its_own() {
    let mut resolution = Resolution::new(Duration::from_mins(1), u64::MAX);
    assert!(resolution.take(shaped(Some("a"), 0, 30_000, 1)).is_none());
    assert!(resolution.take(shaped(Some("b"), 0, 30_000, 10)).is_none());
    assert!(
        resolution
            .take(shaped(Some("c"), 0, 300_000, 100))
            .is_some()
    );
    let a = resolution
        .take(shaped(Some("a"), 30_000, 60_000, 1))
        .unwrap();
    assert_eq!((a.reader, told(&a)), (Some("a"), (0, 60, 2)));
    let rest: Vec<_> = resolution.finish().iter().map(told).collect();
    assert_eq!(rest, [(0, 30, 10)]);
}

#[test]
fn a_window_that_gets_too_large_ends_at_once() {
    let mut resolution = Resolution::new(Duration::from_mins(1), 1);
    let given = resolution.take(shaped(None, 0, 1_000, 1)).unwrap();
    assert_eq!(told(&given), (0, 1, 1));
    assert!(resolution.pending().is_empty());
}

proptest! {
    /// Whatever windows come: sums, lengths and extremes of what leaves are those of what came.
    #[test]
    fn merged_windows_hold_what_the_others_held(
        steps in prop::collection::vec((1..100_000_i64, 0..1_000_u64, 0..3_usize), 1..80),
        resolution in 1..200_u64,
    ) {
        let readers = [None, Some("a"), Some("b")];
        let mut times = [0; 3];
        let mut resolution = Resolution::new(Duration::from_secs(resolution), u64::MAX);
        let (mut came, mut left) = (Vec::new(), Vec::new());
        for (step, value, stream) in steps {
            let next = shaped(readers[stream], times[stream], times[stream] + step, value);
            times[stream] += step;
            came.push(next.clone());
            left.extend(resolution.take(next));
        }
        left.extend(resolution.finish());
        for reader in readers {
            let sums = |all: &[Shaped]| {
                let mut sums = (0, Duration::ZERO, f64::INFINITY, f64::NEG_INFINITY);
                for one in all.iter().filter(|one| one.reader == reader) {
                    sums.0 += told(one).2;
                    sums.1 += one.envelope.window.duration;
                    if let Value::Gauge { min, max, .. } = one.envelope.sources[0].metrics[1].value {
                        sums.2 = sums.2.min(min);
                        sums.3 = sums.3.max(max);
                    }
                }
                sums
            };
            prop_assert_eq!(sums(&came), sums(&left));
            let own: Vec<_> = left.iter().filter(|one| one.reader == reader).collect();
            for pair in own.windows(2) {
                prop_assert_eq!(pair[0].envelope.window.stop, pair[1].envelope.window.start);
            }
        }
    }
}
