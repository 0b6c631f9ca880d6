//! SIGKILL at random points, with a queue on disk, while the broker comes and goes.

use std::{thread, time::Duration};

use dataflux_tests::{probe::Probe, sequence::account, sums::totals};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{cluster::Cluster, consume, delivery::config, faults::until_there_are_streams};

/// A few small segments, so that kills hit their changes too.
const SPOOL: &str = "spool_bytes = '2MiB'";

/// Scenario: 20 rounds of a start and SIGKILL after some random time; in every third the broker hangs.
/// Guarantees: every number of every stream that the probe tells of arrives, and each stream but the first names one before it.
#[test]
fn kills_lose_nothing() {
    rounds("kills_lose_nothing", 20);
}

/// The same for any number of rounds.
pub(crate) fn rounds(test: &str, rounds: u32) {
    let Some(cluster) = Cluster::own(test, 1, &[]) else {
        return;
    };
    let topic = "kills";
    let mut probe = Probe::prepare(&config(cluster.bootstrap("plaintext"), topic, SPOOL, ""));
    let mut lives = Vec::new();
    for round in 0..rounds {
        let hangs = round % 3 == 2;
        if hangs {
            cluster.act(1, "pause");
        }
        probe.restart();
        let life = random(3000);
        lives.push(life.as_millis());
        thread::sleep(life);
        probe.kill();
        if hangs {
            cluster.act(1, "resume");
        }
    }
    let before = streams(&cluster, topic);
    probe.restart();
    until_there_are_streams(&cluster, topic, before + 1);
    let ended = probe.stop();

    let found = consume::envelopes(&cluster, topic);
    let accounts = account(&found).unwrap_or_else(|error| {
        panic!("{error}\nlives of {lives:?} ms\n{}", ended.diagnostics);
    });
    let covered: usize = accounts.values().map(|stream| stream.ranges.len()).sum();
    let lost: usize = accounts.values().map(|stream| stream.lost.len()).sum();
    println!(
        "figure: kills {rounds}, streams {}, envelopes {covered}, lost and declared {lost}, undeclared 0",
        accounts.len()
    );
    assert_eq!(
        lost, 0,
        "lives of {lives:?} ms: {accounts:?}\n{}",
        ended.diagnostics
    );
    assert!(
        accounts.len() > rounds as usize / 4,
        "{lives:?}: {accounts:?}"
    );
    assert!(totals(&found) > 0);
    let orphans: std::collections::BTreeSet<_> = found
        .iter()
        .filter(|envelope| envelope["stream"]["first"] == 1)
        .filter(|envelope| envelope["stream"].get("previous").is_none())
        .map(|envelope| envelope["stream"]["id"].to_string())
        .collect();
    assert_eq!(
        orphans.len(),
        1,
        "streams that name none before them: {orphans:?}"
    );
}

fn streams(cluster: &Cluster, topic: &str) -> usize {
    let found = consume::envelopes(cluster, topic);
    let ids: std::collections::BTreeSet<_> = found
        .iter()
        .map(|envelope| envelope["stream"]["id"].to_string())
        .collect();
    ids.len()
}

/// Some time below a limit in milliseconds.
fn random(limit: u16) -> Duration {
    let mut bytes = [0; 2];
    let filled =
        getrandom(&mut bytes, GetRandomFlags::empty()).expect("the kernel has random bytes");
    assert_eq!(filled, bytes.len());
    Duration::from_millis(u64::from(u16::from_le_bytes(bytes) % limit))
}
