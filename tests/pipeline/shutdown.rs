//! How the probe ends: by one signal in order, by two at once.

use std::{
    thread,
    time::{Duration, Instant},
};

use dataflux_tests::{
    probe::{PATIENCE, Probe, until},
    sequence::{envelopes, one_stream},
};
use rustix::process::Signal;

/// One output that is well, and one whose file can never be opened.
fn config(drain: &str) -> String {
    format!(
        "[probe]\ninterval = '1s'\ndrain = '{drain}'\n[metrics.memory]\n\
         [output.well]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/well'\n\
         [output.away]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/missing/folder/away'\n"
    )
}

fn wait_for_an_envelope(probe: &Probe) {
    until("an envelope", || {
        (!envelopes(&probe.path("well")).is_empty()).then_some(())
    });
}

/// Scenario: SIGTERM, and SIGINT, between two ticks, while one output cannot deliver.
/// Guarantees: what was measured since the last tick is delivered where it can be; the probe ends with 0 within its limit.
#[test]
fn one_signal_drains_within_the_limit() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut probe = Probe::start(&config("500ms"));
        wait_for_an_envelope(&probe);
        let delivered = envelopes(&probe.path("well")).len();
        let begin = Instant::now();
        probe.signal(signal);
        let ended = probe.wait();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.diagnostics);
        assert!(begin.elapsed() < PATIENCE / 2, "{:?}", begin.elapsed());
        let envelopes = envelopes(&probe.path("well"));
        assert!(envelopes.len() > delivered, "the last read is missing");
        let stream = one_stream(&envelopes);
        assert!(stream.lost.is_empty() && stream.merged() == 0, "{stream:?}");
    }
}

/// Scenario: a second signal while an output that cannot deliver has an hour to drain.
/// Guarantees: the probe ends at once, with 128 and the number of the second signal.
#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, code) in [
        (Signal::TERM, Signal::TERM, 143),
        (Signal::TERM, Signal::INT, 130),
    ] {
        let mut probe = Probe::start(&config("1h"));
        wait_for_an_envelope(&probe);
        probe.signal(first);
        until("the drain", || {
            probe
                .diagnostics()
                .contains("reading once more")
                .then_some(())
        });
        // At once it would be the same wish.
        thread::sleep(Duration::from_millis(100));
        probe.signal(second);
        let ended = probe.wait();
        assert_eq!(ended.status.code(), Some(code), "{}", ended.diagnostics);
    }
}

/// Scenario: two SIGTERM at the same moment, as timeout(1) sends them to a process and to its group; the output's folder comes
/// back meanwhile.
/// Guarantees: they count as one: everything is delivered, and the probe ends with 0.
#[test]
fn two_signals_at_once_are_one() {
    let mut probe = Probe::start(&config("1m"));
    until("an outage", || {
        probe.diagnostics().contains("cannot deliver").then_some(())
    });
    probe.signal(Signal::TERM);
    probe.signal(Signal::TERM);
    until("the drain", || {
        probe
            .diagnostics()
            .contains("reading once more")
            .then_some(())
    });
    std::fs::create_dir(probe.path("missing")).expect("the folder is writable");
    let ended = probe.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.diagnostics);
    assert!(
        !ended.diagnostics.contains("not delivered"),
        "{}",
        ended.diagnostics
    );
}

/// Scenario: SIGTERM before the first tick of a long interval.
/// Guarantees: the probe ends with 0; it had nothing to send.
#[test]
fn a_signal_before_the_first_tick_ends_too() {
    let config = config("1s").replace("interval = '1s'", "interval = '24h'");
    let mut probe = Probe::start(&config);
    until("the start", || {
        probe.diagnostics().contains("memory ok").then_some(())
    });
    // The signal handlers follow the summary; a signal before them is the kernel's to handle.
    until("signal handlers", || {
        catches_sigterm(probe.pid()).then_some(())
    });
    probe.stop();
    assert!(envelopes(&probe.path("well")).is_empty());
}

fn catches_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    caught.unwrap_or(0) & (1 << (Signal::TERM.as_raw() - 1)) != 0
}
