//! Ten envelopes a second for a minute.

use std::time::{Duration, Instant};

use dataflux_tests::{
    probe::Probe,
    sequence::{envelopes, one_stream, series},
};
use serde_json::Value;

const CONFIG: &str = "
[probe]
interval = '100ms'
[metrics.memory]
[metrics.probe]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/envelopes'
";

const INTERVAL: i64 = 100_000_000;

/// Nanoseconds of the day of an envelope's time.
fn time(envelope: &Value, field: &str) -> i64 {
    let text = envelope[field].as_str().expect("a time");
    let (_, clock) = text
        .trim_end_matches('Z')
        .split_once('T')
        .expect("RFC 3339");
    let (seconds, nanoseconds) = clock.split_once('.').expect("nine digits");
    let seconds = seconds.split(':').fold(0, |sum, part| {
        sum * 60 + part.parse::<i64>().expect("digits")
    });
    seconds * 1_000_000_000 + nanoseconds.parse::<i64>().expect("digits")
}

/// The middle one of how far the windows' ends lie behind the grid.
fn median_offset(envelopes: &[Value]) -> i64 {
    let mut offsets: Vec<_> = envelopes
        .iter()
        .map(|envelope| time(envelope, "stop_time") % INTERVAL)
        .collect();
    offsets.sort_unstable();
    offsets[offsets.len() / 2]
}

/// Scenario: the shortest interval for a minute, beside the load of the other tests.
/// Guarantees: windows end on the grid, as closely at the end as at the start; their number is that of the intervals that
/// passed less the ticks that were missed, and those are counted; no window is missing or overlaps.
#[test]
fn the_shortest_interval_does_not_drift() {
    let mut probe = Probe::start(CONFIG);
    let begin = Instant::now();
    std::thread::sleep(Duration::from_secs(60));
    let passed = begin.elapsed();
    probe.stop();
    let mut all = envelopes(&probe.path("envelopes"));
    assert!(one_stream(&all).lost.is_empty());
    // The last one ends with the probe and not on the grid.
    all.pop();
    let (first, last) = (
        time(&all[0], "start_time"),
        time(&all[all.len() - 1], "stop_time"),
    );
    if last < first {
        return; // Midnight passed; the next run has a whole day.
    }
    // A tick that is late still belongs to its place on the grid; the clock's own corrections may make it a bit early.
    let place = |time: i64| (time + INTERVAL / 10) / INTERVAL;
    let expected = place(last) - place(first);
    let mut counted = all
        .iter()
        .rev()
        .flat_map(|envelope| series(envelope, "probe.missed_ticks"));
    let missed = counted
        .next()
        .and_then(|series| series["total"].as_i64())
        .unwrap_or(0);
    assert_eq!(
        all.len() as i64 + missed,
        expected,
        "{missed} ticks were missed"
    );
    assert!(
        i128::from(expected) * i128::from(INTERVAL) > passed.as_nanos() as i128 * 9 / 10,
        "only {expected} intervals in {passed:?}"
    );
    for (place, envelopes) in ["start", "middle", "end"]
        .iter()
        .zip(all.chunks(all.len() / 3))
    {
        let offset = median_offset(envelopes);
        assert!(
            offset < INTERVAL / 4,
            "at the {place} windows end {offset} ns behind the grid"
        );
    }
}
