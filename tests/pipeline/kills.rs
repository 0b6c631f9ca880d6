//! SIGKILL while a full spool merges, copies and deletes.

use std::{fs, thread, time::Duration};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, envelopes},
};
use rustix::rand::{GetRandomFlags, getrandom};

/// The smallest spool, and a label that fills it within seconds.
fn config() -> String {
    let label: String = (0..400).map(|_| format!("{:016x}", random())).collect();
    format!(
        "[probe]\ninterval = '100ms'\nstate_dir = 'DIR/state'\n[metadata.labels]\nnoise = '{label}'\n[metrics.memory]\n\
         [output.main]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/missing/folder/envelopes'\n\
         file.roll_bytes = 0\nspool_bytes = '1MiB'\nenvelope = 'per_reader'\n[metrics.cpu]\n"
    )
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(filled.expect("the kernel has random bytes"), bytes.len());
    u64::from_le_bytes(bytes)
}

/// Scenario: 20 starts with an output that is away, each ended by SIGKILL at a random point, the spool being full from the
/// first few on; then the output is back.
/// Guarantees: every number of every start arrives, merged or not; each stream but the first names one before it.
#[test]
fn kills_of_a_full_spool_lose_nothing() {
    let mut probe = Probe::prepare(&config());
    let mut lives = Vec::new();
    for _ in 0..20 {
        probe.restart();
        lives.push(200 + random() % 800);
        thread::sleep(Duration::from_millis(lives[lives.len() - 1]));
        probe.kill();
    }
    fs::create_dir(probe.path("missing")).expect("the folder is writable");
    probe.restart();
    let file = probe.path("missing/folder/envelopes");
    until("numbers of the last start", || {
        let newest = envelopes(&file).pop()?;
        let streams = fs::read_to_string(probe.path("state/streams.json")).ok()?;
        streams
            .contains(newest["stream"]["id"].as_str()?)
            .then_some(())
    });
    let ended = probe.stop();
    let found = envelopes(&file);
    let streams = account(&found)
        .unwrap_or_else(|error| panic!("{error}\nlives of {lives:?} ms\n{}", ended.diagnostics));
    let merged: usize = streams.values().map(|stream| stream.merged()).sum();
    assert!(merged > 20, "the spool was not full: {streams:?}");
    assert!(
        streams.values().all(|stream| stream.lost.is_empty()),
        "lives of {lives:?} ms: {streams:?}\n{}",
        ended.diagnostics
    );
    let orphans = found
        .iter()
        .filter(|envelope| envelope["stream"]["first"] == 1)
        .filter(|envelope| envelope["stream"].get("previous").is_none())
        .map(|envelope| envelope["stream"]["id"].to_string())
        .collect::<std::collections::BTreeSet<_>>();
    assert_eq!(orphans.len(), 2, "one for each reader: {orphans:?}");
}
