//! Outputs of one probe at two resolutions, through kills.

use std::{collections::BTreeMap, thread, time::Duration};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, envelopes},
    sums::sums,
};
use rustix::process::Signal;
use serde_json::Value;

const CONFIG: &str = "
[probe]
interval = '100ms'
state_dir = 'DIR/state'
[metrics.cpu]
[metrics.disk]
[metrics.memory]
[output.fine]
formatter = 'json'
logger = 'file'
spool_bytes = '1MiB'
file.path = 'DIR/fine'
[output.coarse]
formatter = 'json'
logger = 'file'
spool_bytes = '1MiB'
resolution = '2s'
file.path = 'DIR/coarse'
";

const ROUNDS: u64 = 6;

/// The envelopes of a file by the start that they are of, repeats left out.
fn by_start(probe: &Probe, file: &str) -> BTreeMap<String, Vec<Value>> {
    let all = envelopes(&probe.path(file));
    account(&all).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut starts = BTreeMap::<String, Vec<Value>>::new();
    for envelope in all {
        let id = envelope["stream"]["id"].as_str().expect("an id");
        let (_, start) = id.rsplit_once('-').expect("an id ends with its start");
        let known = starts.entry(start.to_owned()).or_default();
        if known
            .iter()
            .all(|one| one["stream"]["first"] != envelope["stream"]["first"])
        {
            known.push(envelope);
        }
    }
    starts
}

/// Scenario: an output at 100 ms and one at 2 s, both with a spool; `kill -9` somewhere within the 2 s, six times.
/// Guarantees: what was being merged arrives after the restart. Of each start the coarse output has one window after the
/// other, their counts are those of the fine one up to the same time, and a kill takes no more of it than a few ticks.
#[test]
fn a_kill_does_not_take_what_is_being_merged() {
    let mut probe = Probe::start(CONFIG);
    let mut known = 0;
    for round in 0..ROUNDS {
        until("some envelopes of this start", || {
            let now = envelopes(&probe.path("fine")).len();
            (now >= known + 8).then_some(())
        });
        thread::sleep(Duration::from_millis(370 * round % 1900));
        probe.kill();
        known = envelopes(&probe.path("fine")).len();
        probe.restart();
    }
    until("the last start", || {
        (by_start(&probe, "fine").len() as u64 > ROUNDS).then_some(())
    });
    probe.signal(Signal::TERM);
    probe.wait();

    let (fine, coarse) = (by_start(&probe, "fine"), by_start(&probe, "coarse"));
    assert_eq!(fine.len() as u64, ROUNDS + 1);
    assert!(coarse.keys().eq(fine.keys()), "{:?}", coarse.keys());
    for (start, coarse) in &coarse {
        let fine = &fine[start];
        let (first, last) = (&coarse[0], &coarse[coarse.len() - 1]);
        assert_eq!(first["start_time"], fine[0]["start_time"]);
        let reached = fine
            .iter()
            .position(|envelope| envelope["stop_time"] == last["stop_time"])
            .unwrap_or_else(|| panic!("{start}: {} is no tick", last["stop_time"]));
        assert!(
            reached + 5 >= fine.len(),
            "{start}: {reached} of {}",
            fine.len()
        );
        assert!(coarse.len() <= fine.len() / 20 + 2, "{start}");
        let numbers = |of: &Value| of["stream"]["last"].as_u64().expect("a number");
        assert_eq!(
            sums(coarse, numbers(last)),
            sums(fine, numbers(&fine[reached])),
            "{start}"
        );
    }
}
