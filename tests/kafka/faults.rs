//! What brokers and networks do to a running probe. Afterwards no number may be missing without being told.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{Stream, account, one_stream},
    sums::totals,
};
use rustix::process::Signal;
use serde_json::Value;

use super::{
    cluster::{Cluster, until_there_are},
    consume,
    delivery::config,
    proxy::{Mode, Proxy},
};

/// How long a fault lasts.
const OUTAGE: Duration = Duration::from_secs(3);

/// With a queue on disk.
const SPOOL: &str = "spool_bytes = '8MiB'";

/// The highest number that a topic has.
fn highest(cluster: &Cluster, topic: &str) -> u64 {
    let last = |envelope: &Value| envelope["stream"]["last"].as_u64();
    let found = consume::envelopes(cluster, topic);
    found.iter().filter_map(last).max().unwrap_or(0)
}

/// Waits until numbers arrive that are younger than this call by two seconds of ticks.
pub(crate) fn until_it_flows(cluster: &Cluster, topic: &str) {
    let before = highest(cluster, topic);
    until(&format!("{topic} flows after {before}"), || {
        (highest(cluster, topic) > before + 20).then_some(())
    });
}

/// Stops the probe and accounts for everything in a topic and what was read before.
fn settle(cluster: &Cluster, probe: &mut Probe, topic: &str, mut before: Vec<Value>) -> Stream {
    let ended = probe.stop();
    before.extend(consume::envelopes(cluster, topic));
    let stream = one_stream(&before);
    assert_eq!(stream.lost.len(), 0, "{stream:?}\n{}", ended.diagnostics);
    assert!(totals(&before) > 0);
    stream
}

/// Scenario: a broker is stopped in order, killed, and paused with its connections open; each time it comes back.
/// Guarantees: every number arrives, none is lost or merged: there is room for all of them.
#[test]
fn a_broker_that_is_away_loses_nothing() {
    let Some(cluster) = Cluster::own("a_broker_that_is_away_loses_nothing", 1, &[]) else {
        return;
    };
    let topic = "away";
    let mut probe = Probe::start(&config(cluster.bootstrap("plaintext"), topic, SPOOL, ""));
    until_there_are(&cluster, topic, 5);
    for (away, back) in [("stop", "start"), ("kill", "start"), ("pause", "resume")] {
        cluster.act(1, away);
        thread::sleep(OUTAGE);
        cluster.act(1, back);
        until_it_flows(&cluster, topic);
    }
    assert_eq!(settle(&cluster, &mut probe, topic, Vec::new()).merged(), 0);
}

/// Scenario: the broker's disk is replaced by an empty one, and later the topic is deleted.
/// Guarantees: what was read before and what comes afterwards is every number.
#[test]
fn an_empty_broker_and_a_deleted_topic_lose_nothing_more() {
    let test = "an_empty_broker_and_a_deleted_topic_lose_nothing_more";
    let Some(cluster) = Cluster::own(test, 1, &[]) else {
        return;
    };
    let topic = "empty";
    let mut probe = Probe::start(&config(cluster.bootstrap("plaintext"), topic, SPOOL, ""));
    until_there_are(&cluster, topic, 5);
    // What a broker acknowledged and then forgot is no loss of the probe: it must be read before.
    let read_all = |probe: &Probe| {
        probe.signal(Signal::STOP);
        thread::sleep(Duration::from_millis(500));
        consume::envelopes(&cluster, topic)
    };
    let mut before = read_all(&probe);
    cluster.act(1, "kill");
    cluster.act(1, "empty");
    cluster.act(1, "start");
    probe.signal(Signal::CONT);
    until_it_flows(&cluster, topic);

    if let Some(python) = consume::python() {
        before.extend(read_all(&probe));
        delete(&python, cluster.bootstrap("plaintext"), topic);
        probe.signal(Signal::CONT);
        until_it_flows(&cluster, topic);
    }
    settle(&cluster, &mut probe, topic, before);
}

/// Deletes a topic and waits until it is gone.
fn delete(python: &std::path::Path, brokers: &str, topic: &str) {
    let script = "import sys\nfrom confluent_kafka.admin import AdminClient\n\
                  client = AdminClient({'bootstrap.servers': sys.argv[1]})\n\
                  [future.result() for future in client.delete_topics([sys.argv[2]]).values()]\n";
    super::cluster::output(std::process::Command::new(python).args(["-c", script, brokers, topic]));
}

/// Scenario: the network between the probe and its broker drops everything, then only answers, then connections.
/// Guarantees: every number arrives; what was acknowledged in vain is repeated, never lost.
#[test]
fn a_partition_loses_nothing() {
    let Some(cluster) = Cluster::own("a_partition_loses_nothing", 1, &[]) else {
        return;
    };
    let (listens, advertises) = cluster.proxied();
    let proxy = Proxy::start(advertises, listens);
    let topic = "partition";
    // Short patience, so that repeats happen within the test.
    let kafka = "properties.'socket.timeout.ms' = 2000\nproperties.'request.timeout.ms' = 1500";
    let mut probe = Probe::start(&config(advertises, topic, SPOOL, kafka));
    until_there_are(&cluster, topic, 5);
    for mode in [Mode::Silent, Mode::Mute, Mode::Reset] {
        proxy.set(mode);
        thread::sleep(OUTAGE);
        proxy.set(Mode::Open);
        until_it_flows(&cluster, topic);
    }
    assert!(proxy.connections() > 1, "the probe never came again");
    settle(&cluster, &mut probe, topic, Vec::new());
}

/// Scenario: three nodes, and a queue in memory; the leader of the topic's partition is killed, and comes back.
/// Guarantees: another one takes over, and every number arrives.
#[test]
fn a_leader_that_moves_loses_nothing() {
    let Some(cluster) = Cluster::own("a_leader_that_moves_loses_nothing", 3, &[]) else {
        return;
    };
    let topic = "leader";
    let mut probe = Probe::start(&config(cluster.bootstrap("plaintext"), topic, "", ""));
    until_there_are(&cluster, topic, 5);
    let leader = || {
        let metadata = consume::metadata(&cluster);
        let topics = metadata["topics"].as_array()?;
        let found = topics.iter().find(|found| found["topic"] == topic)?;
        let leader = found["partitions"][0]["leader"].as_u64();
        leader.and_then(|leader| u32::try_from(leader).ok())
    };
    let first = leader().expect("a partition has a leader");
    cluster.act(first, "kill");
    until("another leader", || leader().filter(|&now| now != first));
    until_it_flows(&cluster, topic);
    cluster.act(first, "start");
    until_it_flows(&cluster, topic);
    settle(&cluster, &mut probe, topic, Vec::new());
}

/// Scenario: SIGTERM while the broker hangs, with a queue on disk; then the broker and the probe come back.
/// Guarantees: the probe ends soon with 0, and every number of both starts arrives.
#[test]
fn a_stop_during_an_outage_is_quick_and_loses_nothing() {
    let test = "a_stop_during_an_outage_is_quick_and_loses_nothing";
    let Some(cluster) = Cluster::own(test, 1, &[]) else {
        return;
    };
    let topic = "term";
    let mut probe = Probe::start(&config(cluster.bootstrap("plaintext"), topic, SPOOL, ""));
    until_there_are(&cluster, topic, 5);
    for (starts, away, back) in [(2, "pause", "resume"), (3, "kill", "start")] {
        cluster.act(1, away);
        thread::sleep(OUTAGE);
        let begin = Instant::now();
        probe.stop();
        println!(
            "figure: exit after SIGTERM, broker under {away}: {:.2} s",
            begin.elapsed().as_secs_f64()
        );
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?}",
            begin.elapsed()
        );
        cluster.act(1, back);
        probe.restart();
        until_there_are_streams(&cluster, topic, starts);
    }
    probe.stop();
    let streams =
        account(&consume::envelopes(&cluster, topic)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(streams.len(), 3, "{streams:?}");
    assert!(
        streams.values().all(|stream| stream.lost.is_empty()),
        "{streams:?}"
    );
}

/// Waits until a topic has envelopes of so many starts.
pub(crate) fn until_there_are_streams(cluster: &Cluster, topic: &str, count: usize) {
    until(&format!("{count} streams in {topic}"), || {
        let found = consume::envelopes(cluster, topic);
        let id = |envelope: &Value| envelope["stream"]["id"].as_str().map(str::to_owned);
        let ids: BTreeSet<String> = found.iter().filter_map(id).collect();
        (ids.len() >= count).then_some(())
    });
}
