//! SIGKILL while a full spool merges, copies and deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::Duration,
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{Stream, account, envelopes},
    sums::totals,
};
use rustix::rand::{GetRandomFlags, getrandom};

/// The smallest spool, and a label that fills it within seconds.
fn config(when_full: &str) -> String {
    let label: String = (0..800).map(|_| format!("{:016x}", random())).collect();
    format!(
        "[probe]\ninterval = '100ms'\nstate_dir = 'DIR/state'\n[metadata.labels]\nnoise = '{label}'\n[metrics.memory]\n\
         [output.main]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/missing/folder/envelopes'\n\
         file.roll_bytes = 0\nspool_bytes = '1MiB'\nenvelope = 'per_reader'\nwhen_full = '{when_full}'\n[metrics.cpu]\n"
    )
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(filled.expect("the kernel has random bytes"), bytes.len());
    u64::from_le_bytes(bytes)
}

/// 20 starts with an output that is away, each ended at a random point, mostly by SIGKILL, the spool being full from the
/// first few on; then the output is back. Each number of every stream that was ever noted arrives or is named by a gap.
fn rounds(when_full: &str) -> BTreeMap<String, Stream> {
    let mut probe = Probe::prepare(&config(when_full));
    let (mut lives, mut known) = (Vec::new(), BTreeSet::new());
    for round in 0..20 {
        probe.restart();
        lives.push(200 + random() % 800);
        thread::sleep(Duration::from_millis(lives[lives.len() - 1]));
        if round % 4 == 3 {
            probe.stop();
        } else {
            probe.kill();
        }
        known.extend(ids(&probe));
    }
    fs::create_dir(probe.path("missing")).expect("the folder is writable");
    probe.restart();
    let file = probe.path("missing/folder/envelopes");
    until("numbers of the last start", || {
        let newest = envelopes(&file).pop()?;
        ids(&probe)
            .contains(newest["stream"]["id"].as_str()?)
            .then_some(())
    });
    let ended = probe.stop();
    let found = envelopes(&file);
    let streams = account(&found)
        .unwrap_or_else(|error| panic!("{error}\nlives of {lives:?} ms\n{}", ended.diagnostics));
    if when_full == "coalesce" {
        assert!(totals(&found) > 0);
    }
    for id in &known {
        assert!(streams.contains_key(id), "nobody tells of {id}");
    }
    streams
}

/// The streams that the newest start has noted.
fn ids(probe: &Probe) -> BTreeSet<String> {
    let state = fs::read_to_string(probe.path("state/streams.json")).unwrap_or_default();
    let words = state.split('"').filter(|word| word.starts_with("main/"));
    let ids = words.filter(|word| {
        word.rsplit_once('-')
            .is_some_and(|(_, start)| start.len() == 16)
    });
    ids.map(str::to_owned).collect()
}

fn lost(streams: &BTreeMap<String, Stream>) -> usize {
    streams.values().map(|stream| stream.lost.len()).sum()
}

/// Scenario: as above, with a spool that merges.
/// Guarantees: as above; nothing is lost, and every counter grows by what its windows say.
#[test]
fn kills_of_a_spool_that_merges_lose_nothing() {
    let streams = rounds("coalesce");
    let merged: usize = streams.values().map(Stream::merged).sum();
    assert!(merged > 0, "the spool was not full: {streams:?}");
    assert_eq!(lost(&streams), 0, "{streams:?}");
}

/// Scenario: as above, with a spool that gives up the oldest.
/// Guarantees: as above, though most of the gaps are of starts that were killed.
#[test]
fn kills_forget_no_loss() {
    let streams = rounds("drop_oldest");
    assert!(lost(&streams) > 0, "{streams:?}");
}
