//! Delivery when all is well.

use std::fs;

use dataflux_tests::{probe::Probe, sequence::one_stream};

use super::{
    cluster::{Cluster, until_there_are},
    consume,
};

/// A probe that reads every 100 ms, with one output to a topic; further keys of the output, and of its logger, follow.
pub(crate) fn config(brokers: &str, topic: &str, output: &str, kafka: &str) -> String {
    format!(
        "[probe]\ninterval = '100ms'\nstate_dir = 'DIR/state'\n[metadata.host]\n[metrics.memory]\n[metrics.cpu]\n\
         [output.main]\nformatter = 'json'\nlogger = 'kafka'\n{output}\n\
         [output.main.kafka]\nbrokers = {}\ntopic = '{topic}'\n{kafka}\n",
        list(brokers)
    )
}

/// Addresses as a list of TOML.
pub(crate) fn list(brokers: &str) -> String {
    format!("['{}']", brokers.replace(',', "', '"))
}

/// Scenario: a probe sends to a broker for a while and is stopped; kcat and the reference consumer read.
/// Guarantees: every number arrives in order, with its key and headers; the consumer that is not ours has the same numbers, and a
/// row for each.
#[test]
fn other_clients_read_every_number() {
    let Some(cluster) = Cluster::shared("other_clients_read_every_number") else {
        return;
    };
    let topic = "delivery";
    let mut probe = Probe::start(&config(cluster.bootstrap("plaintext"), topic, "", ""));
    until_there_are(cluster, topic, 20);
    probe.stop();

    let found = consume::envelopes(cluster, topic);
    let stream = one_stream(&found);
    assert_eq!(stream.lost.len(), 0, "{stream:?}");
    let numbers: Vec<_> = found
        .iter()
        .map(|envelope| envelope["stream"]["first"].as_u64().expect("a number"))
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");

    let host = found[0]["header"]["host"]["name"].as_str().expect("a name");
    let heads = consume::records(cluster, topic, "%k|%h\n");
    let head = heads.lines().next().expect("there are records");
    assert!(head.starts_with(&format!("{host}|")), "{head}");
    for name in [
        "schema=dataflux.envelope/1",
        "first=1",
        "last=1",
        "part=1",
        "parts=1",
        "content-type=application/x-ndjson",
        "stream=main-",
    ] {
        assert!(head.contains(name), "no {name} in {head}");
    }

    let rows = probe.path("rows.csv");
    let Some(report) = consume::reference(cluster, topic, &rows) else {
        return;
    };
    let id = found[0]["stream"]["id"].as_str().expect("an id");
    let theirs = &report["streams"][id];
    assert_eq!(theirs["covered"], serde_json::json!([[1, stream.last()]]));
    assert_eq!(theirs["missing"], serde_json::json!([]));
    let rows = fs::read_to_string(rows).expect("the consumer wrote it");
    assert_eq!(
        rows.lines().count() as u64,
        stream.last() + 1,
        "and a header"
    );
    assert!(rows.lines().next().expect("a header").contains("memory."));
}

/// Scenario: envelopes larger than a message may be.
/// Guarantees: they come in parts, and every number is whole once the parts are together.
#[test]
fn large_envelopes_come_in_parts() {
    let Some(cluster) = Cluster::shared("large_envelopes_come_in_parts") else {
        return;
    };
    let topic = "parts";
    let small = "message_bytes = '8KiB'";
    let wide = "zeros = 'keep'";
    let config = config(cluster.bootstrap("plaintext"), topic, wide, small);
    let mut probe = Probe::start(&format!(
        "{config}[metrics.disk]\n[metrics.interface]\n[metrics.probe]\n"
    ));
    until_there_are(cluster, topic, 20);
    probe.stop();
    let found = consume::envelopes(cluster, topic);
    let several = |envelope: &&serde_json::Value| envelope["stream"]["parts"].as_u64() > Some(1);
    assert!(
        found.iter().filter(several).count() > 0,
        "nothing was too large"
    );
    assert_eq!(one_stream(&found).lost.len(), 0);
}

/// Scenario: one probe, an output for every compression, one of them with the leader's acknowledgement only.
/// Guarantees: kcat reads every number of each.
#[test]
fn every_compression_arrives() {
    let Some(cluster) = Cluster::shared("every_compression_arrives") else {
        return;
    };
    let ways = ["zstd", "lz4", "snappy", "gzip", "none"];
    let outputs = ways.map(|way| {
        let acks = if way == "none" { "1" } else { "all" };
        format!(
            "[output.{way}]\nformatter = 'json'\nlogger = 'kafka'\n[output.{way}.kafka]\nbrokers = {}\n\
             topic = 'compression_{way}'\ncompression = '{way}'\nacks = '{acks}'\n",
            list(cluster.bootstrap("plaintext"))
        )
    });
    let head = "[probe]\ninterval = '100ms'\n[metrics.memory]\n[metrics.cpu]\n";
    let mut probe = Probe::start(&format!("{head}{}", outputs.concat()));
    let topics = ways.map(|way| format!("compression_{way}"));
    for topic in &topics {
        until_there_are(cluster, topic, 10);
    }
    probe.stop();
    for topic in &topics {
        let stream = one_stream(&consume::envelopes(cluster, topic));
        assert_eq!(stream.lost.len(), 0, "{topic}: {stream:?}");
    }
}
