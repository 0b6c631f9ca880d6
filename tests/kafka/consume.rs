//! Reads topics with programs that are not ours: kcat, and the reference consumer on Python's client.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use dataflux_tests::workspace;
use serde_json::Value;

use super::cluster::{Cluster, is_required, output};

/// The records of a topic, from its beginning to its present end; none if there is no such topic yet.
///
/// # Panics
/// kcat is not installed, or a record is not JSON.
pub(crate) fn envelopes(cluster: &Cluster, topic: &str) -> Vec<Value> {
    records(cluster, topic, "%s\n")
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The last record of a topic.
pub(crate) fn newest(cluster: &Cluster, topic: &str) -> Option<Value> {
    let record = read(cluster, topic, "%s", &["-o", "-1"]);
    serde_json::from_str(&record).ok()
}

/// The records of a topic as kcat writes them.
pub(crate) fn records(cluster: &Cluster, topic: &str, format: &str) -> String {
    read(cluster, topic, format, &[])
}

/// What kcat knows of the cluster.
pub(crate) fn metadata(cluster: &Cluster) -> Value {
    let text =
        output(Command::new("kcat").args(["-b", cluster.bootstrap("plaintext"), "-L", "-J"]));
    serde_json::from_str(&text).expect("kcat prints JSON")
}

fn read(cluster: &Cluster, topic: &str, format: &str, options: &[&str]) -> String {
    // It would wait for a topic that is not there.
    let topics = metadata(cluster)["topics"].take();
    let exists = |found: &Value| found["topic"] == topic && found.get("error").is_none();
    if !topics
        .as_array()
        .is_some_and(|topics| topics.iter().any(exists))
    {
        return String::new();
    }
    let output = Command::new("kcat")
        .args(["-b", cluster.bootstrap("plaintext"), "-t", topic])
        .args(["-C", "-e", "-q", "-f", format])
        // An end is seen when a fetch comes back empty: it must not wait for what the probe sends next.
        .args(["-X", "fetch.wait.max.ms=10"])
        .args(options)
        .output()
        .expect("these tests read with kcat: package `kcat`");
    String::from_utf8(output.stdout).expect("a topic of text")
}

/// What the reference consumer says of a topic, and the rows it writes; nothing where Python's client is not installed.
///
/// # Panics
/// It fails.
pub(crate) fn reference(cluster: &Cluster, topic: &str, rows: &Path) -> Option<Value> {
    let python = python()?;
    let text = output(
        Command::new(python)
            .arg(workspace::root().join("deploy/consumer/consumer.py"))
            .args([
                "--brokers",
                cluster.bootstrap("plaintext"),
                "--topic",
                topic,
            ])
            .args(["--quiet", "5", "--rows"])
            .arg(rows),
    );
    Some(serde_json::from_str(&text).expect("the consumer prints JSON"))
}

/// The Python that `cargo xtask test` gave Kafka's client to.
///
/// # Panics
/// It is required and not there.
pub(crate) fn python() -> Option<PathBuf> {
    let python = workspace::root().join("target/kafka-python/bin/python");
    if python.is_file() {
        return Some(python);
    }
    assert!(!is_required(), "no {}", python.display());
    println!(
        "skipped, needs {}: `cargo xtask test` makes it",
        python.display()
    );
    None
}
