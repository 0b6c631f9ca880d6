//! A file that rolls while its probe is killed again and again.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    thread,
    time::Duration,
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, envelopes},
};

const CONFIG: &str = "
[probe]
interval = '100ms'
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
[output.main.file]
path = 'DIR/envelopes/all.jsonl'
roll_bytes = '20KiB'
keep = 1000
";

/// The closed files and the open one, the oldest first: that is how their names sort.
fn files(probe: &Probe) -> Vec<PathBuf> {
    let entries = fs::read_dir(probe.path("envelopes"))
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Scenario: a file that rolls every few envelopes; SIGKILL after more and more of them, and between two starts the end of
/// the file is cut within a line, as a power cut would leave it.
/// Guarantees: at no time is an ended line anything but one whole envelope; every number of every start is there, except
/// one that was cut away and those not yet written at the kill.
#[test]
fn a_kill_never_leaves_a_torn_line_that_looks_whole() {
    let mut probe = Probe::prepare(CONFIG);
    let mut seen = 0;
    for round in 0..8 {
        probe.restart();
        until("more envelopes", || {
            let now = files(&probe)
                .iter()
                .map(|file| envelopes(file).len())
                .sum::<usize>();
            (now > seen + round).then(|| seen = now)
        });
        // The kill comes anywhere within a tick.
        thread::sleep(Duration::from_millis(13 * round as u64));
        probe.kill();
        if round == 4 {
            let current = probe.path("envelopes/all.jsonl");
            let length = fs::metadata(&current).unwrap().len();
            File::options()
                .write(true)
                .open(&current)
                .unwrap()
                .set_len(length - 7)
                .unwrap();
        }
    }
    let files = files(&probe);
    assert!(files.len() > 4, "it never rolled: {files:?}");
    for rolled in &files[..files.len() - 1] {
        assert!(
            fs::read(rolled).unwrap().ends_with(b"\n"),
            "{rolled:?} ends within a line"
        );
        assert!(
            fs::metadata(rolled).unwrap().len() <= 20 << 10,
            "{rolled:?} is too large"
        );
    }
    let all: Vec<_> = files.iter().flat_map(|file| envelopes(file)).collect();
    let streams = account(&all).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(streams.len(), 8, "one stream for each start");
    assert!(
        streams.values().all(|stream| stream.lost.is_empty()),
        "{streams:?}"
    );
    let order: Vec<_> = all
        .iter()
        .map(|envelope| envelope["stop_time"].as_str())
        .collect();
    assert!(order.is_sorted(), "the files are in order: {order:?}");
    let ids: BTreeSet<_> = streams.keys().collect();
    assert_eq!(ids.len(), 8);
}
