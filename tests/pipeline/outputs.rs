//! Outputs that are away, stuck, refusing or full, beside one that is well.

use std::{
    fs,
    io::Read as _,
    process::{Command, Stdio},
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{Stream, envelopes, one_stream, series},
};
use serde_json::Value;

/// Ten times a second, with a well output in `DIR/well`.
const WELL: &str = "
[probe]
interval = '100ms'
drain = '2s'
[metrics.memory]
[metrics.probe]
[output.well]
formatter = 'json'
logger = 'file'
file.path = 'DIR/well'
";

/// An output to a file in a folder whose own folder is missing.
fn away(keys: &str) -> String {
    format!(
        "[output.away]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/missing/folder/away'\n{keys}\n"
    )
}

/// Waits until the well output has so many envelopes.
fn wait_for(probe: &Probe, count: usize) -> Vec<Value> {
    until("envelopes of the well output", || {
        let envelopes = envelopes(&probe.path("well"));
        (envelopes.len() >= count).then_some(envelopes)
    })
}

/// Every number came by itself, in order and at once; nothing was merged or lost.
fn assert_well(probe: &Probe) {
    let envelopes = envelopes(&probe.path("well"));
    let stream = one_stream(&envelopes);
    assert_eq!(stream.merged(), 0, "{stream:?}");
    assert!(stream.lost.is_empty(), "{stream:?}");
    let numbers: Vec<_> = envelopes
        .iter()
        .map(|envelope| envelope["stream"]["first"].as_u64())
        .collect();
    let expected: Vec<_> = (1..=envelopes.len() as u64).map(Some).collect();
    assert_eq!(
        numbers, expected,
        "each number once, in the order of their birth"
    );
}

/// The latest value of one of the probe's own gauges for an output.
fn level(envelopes: &[Value], metric: &str, output: &str) -> f64 {
    let last = envelopes.last().map(|envelope| series(envelope, metric));
    let mut found = last.into_iter().flatten();
    found
        .find(|series| series["labels"]["output"] == output)
        .and_then(|series| series["value"].as_f64())
        .unwrap_or(0.0)
}

/// The running total of one of the probe's own counters for an output.
fn total(envelopes: &[Value], metric: &str, output: &str) -> u64 {
    let of_output = |series: &Value| series["labels"]["output"] == output;
    let latest = envelopes.iter().rev();
    let mut found =
        latest.flat_map(|envelope| series(envelope, metric).into_iter().filter(of_output));
    found
        .next()
        .and_then(|series| series["total"].as_u64())
        .unwrap_or(0)
}

/// Scenario: the folder of one output's file is missing for thirty ticks, then it is there.
/// Guarantees: the other output loses and delays nothing meanwhile; the one that was away gets everything in the end.
#[test]
fn an_output_that_is_away_delays_no_other_and_loses_nothing() {
    let mut probe = Probe::start(&(WELL.to_owned() + &away("")));
    let before = wait_for(&probe, 30);
    assert!(level(&before, "probe.output.queue_envelopes", "away") > 20.0);
    assert_eq!(total(&before, "probe.output.retries", "well"), 0);
    fs::create_dir(probe.path("missing")).unwrap();
    until("the other output comes back", || {
        (!envelopes(&probe.path("missing/folder/away")).is_empty()).then_some(())
    });
    probe.stop();
    assert_well(&probe);
    let stream = one_stream(&envelopes(&probe.path("missing/folder/away")));
    assert!(stream.lost.is_empty() && stream.merged() == 0, "{stream:?}");
    let well = one_stream(&envelopes(&probe.path("well")));
    assert_eq!(stream.last(), well.last(), "both have seen every tick");
}

/// Scenario: one output writes to a pipe that nobody empties, another to a file in whose place a fifo comes that nobody opens.
/// Guarantees: the well output loses and delays nothing, and the probe ends within its limit all the same.
#[test]
fn an_output_that_is_stuck_delays_no_other() {
    let stuck = "
[output.pipe]
formatter = 'text'
logger = 'stdout'
[output.fifo]
formatter = 'json'
logger = 'file'
file.path = 'DIR/missing/folder/fifo'
";
    let mut probe = Probe::prepare(&(WELL.to_owned() + stuck));
    let pipe = probe.restart_into(Stdio::piped());
    wait_for(&probe, 2);
    fs::create_dir_all(probe.path("made/folder")).unwrap();
    let made = Command::new("mkfifo")
        .arg(probe.path("made/folder/fifo"))
        .status()
        .unwrap();
    assert!(made.success());
    fs::rename(probe.path("made"), probe.path("missing")).unwrap();
    let envelopes = until("the pipe is full", || {
        let envelopes = envelopes(&probe.path("well"));
        let full = envelopes.iter().rev().take(5).all(|envelope| {
            series(envelope, "probe.output.in_flight")
                .iter()
                .any(|series| series["labels"]["output"] == "pipe" && series["value"] == 1.0)
        });
        (envelopes.len() > 20 && full).then_some(envelopes)
    });
    assert!(level(&envelopes, "probe.output.queue_envelopes", "fifo") > 15.0);
    probe.stop();
    assert_well(&probe);
    drop(pipe);
}

/// Scenario: whoever reads standard output goes away.
/// Guarantees: what it was sent after that is counted as rejected; the well output does not notice.
#[test]
fn an_output_that_is_refused_is_counted() {
    let refused = "[output.refused]\nformatter = 'json'\nlogger = 'stdout'\n";
    let mut probe = Probe::prepare(&(WELL.to_owned() + refused));
    let mut pipe = probe.restart_into(Stdio::piped()).expect("it is piped");
    let mut first = [0];
    pipe.read_exact(&mut first).unwrap();
    drop(pipe);
    until("rejected envelopes", || {
        let envelopes = envelopes(&probe.path("well"));
        let rejected = |series: &Value| {
            series["labels"]["cause"] == "rejected" && series["total"].as_u64() > Some(5)
        };
        let last = envelopes.last()?;
        series(last, "probe.output.lost")
            .iter()
            .any(rejected)
            .then_some(())
    });
    probe.stop();
    assert_well(&probe);
}

/// The stream of an output that was away until its small queue had been full for long.
fn after_a_full_queue(when_full: &str) -> Stream {
    let small = away(&format!("queue_bytes = '40KiB'\nwhen_full = '{when_full}'"));
    let mut probe = Probe::start(&(WELL.to_owned() + &small));
    until("a full queue", || {
        let envelopes = envelopes(&probe.path("well"));
        let merged = total(&envelopes, "probe.output.merged", "away");
        let lost = total(&envelopes, "probe.output.lost", "away");
        (merged + lost > 20).then_some(())
    });
    fs::create_dir(probe.path("missing")).expect("the folder is writable");
    let file = probe.path("missing/folder/away");
    until("the output comes back", || {
        (envelopes(&file).len() > 3).then_some(())
    });
    probe.stop();
    assert_well(&probe);
    let stream = one_stream(&envelopes(&file));
    let well = one_stream(&envelopes(&probe.path("well")));
    assert_eq!(stream.last(), well.last(), "both have seen every tick");
    stream
}

/// Scenario: a queue of a few envelopes, full for a while, that coalesces.
/// Guarantees: nothing is lost: windows became longer, and every number is in one of them.
#[test]
fn a_full_queue_merges_windows() {
    let stream = after_a_full_queue("coalesce");
    assert!(stream.merged() > 0, "{stream:?}");
    assert!(stream.lost.is_empty(), "{stream:?}");
}

/// Scenario: a queue of a few envelopes, full for a while, that gives up the oldest.
/// Guarantees: every number that is lost is named by a gap with its cause.
#[test]
fn a_full_queue_declares_what_it_dropped_of_the_oldest() {
    let stream = after_a_full_queue("drop_oldest");
    assert_eq!(stream.merged(), 0, "{stream:?}");
    assert!(stream.lost.len() > 20, "{stream:?}");
    assert_eq!(stream.causes, ["queue_full".to_owned()].into());
}

/// Scenario: a queue of a few envelopes, full for a while, that takes no new ones.
/// Guarantees: every number that is lost is named by a gap with its cause, and the oldest came through.
#[test]
fn a_full_queue_declares_what_it_dropped_of_the_newest() {
    let stream = after_a_full_queue("drop_newest");
    assert_eq!(stream.merged(), 0, "{stream:?}");
    assert!(stream.lost.len() > 20, "{stream:?}");
    assert_eq!(stream.causes, ["queue_full".to_owned()].into());
    assert!(!stream.lost.contains(&1), "{stream:?}");
}
