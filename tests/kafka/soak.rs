//! The long ones: `cargo xtask soak` runs them, in release, and collects their figures.

use std::{
    env, fs, thread,
    time::{Duration, Instant},
};

use dataflux_tests::{
    probe::Probe,
    sequence::{envelopes, one_stream},
    sums::sums,
};
use serde_json::Value;

use super::{
    cluster::{Cluster, until_there_are},
    consume,
    delivery::config,
    kills,
};

/// How long the outage lasts, or how many minutes the backlog stands for.
fn minutes(default: u64) -> u64 {
    let asked = env::var("DATAFLUX_SOAK_MINUTES").ok();
    asked.map_or(default, |text| text.parse().expect("a number of minutes"))
}

/// Scenario: 200 rounds of SIGKILL.
/// Guarantees: as [`kills::rounds`].
#[test]
#[ignore = "long: cargo xtask soak kills"]
fn soak_kills() {
    kills::rounds("soak_kills", 200);
}

/// Scenario: the broker is away for 30 minutes at 100 ms with 8 MiB of disk, beside an output to a file.
/// Guarantees: every number arrives, in merged windows where there was no room, and both outputs add up to the same, to the last
/// count.
#[test]
#[ignore = "long: cargo xtask soak outage"]
fn soak_outage() {
    let Some(cluster) = Cluster::own("soak_outage", 1, &[]) else {
        return;
    };
    let topic = "outage";
    let text = config(
        cluster.bootstrap("plaintext"),
        topic,
        "spool_bytes = '8MiB'",
        "",
    );
    let mut probe = Probe::start(&format!(
        "{text}\n[metrics.disk]\n[metrics.interface]\n[metrics.scheduler]\n[metrics.block_io]\n[metrics.network]\n\
         [output.file]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/envelopes'\nfile.roll_bytes = '100GiB'\n"
    ));
    until_there_are(&cluster, topic, 5);
    cluster.act(1, "kill");
    let mut largest = 0;
    let outage = Duration::from_secs(60 * minutes(30));
    let begin = Instant::now();
    while begin.elapsed() < outage {
        thread::sleep(Duration::from_secs(1));
        largest = largest.max(size(&probe.path("state/spool")));
    }
    cluster.act(1, "start");
    let drain = drained(&cluster, topic, &probe);
    probe.stop();

    let ours = consume::envelopes(&cluster, topic);
    let stream = one_stream(&ours);
    let (last, lost) = (stream.last(), stream.lost.len());
    println!(
        "figure: outage of {} min: drained in {drain:.1} s, {} ranges for {last} numbers, {} merged, {lost} lost, \
         at most {largest} bytes on disk",
        outage.as_secs() / 60,
        stream.ranges.len(),
        stream.merged(),
    );
    assert_eq!(lost, 0);
    let file = envelopes(&probe.path("envelopes"));
    assert_eq!(one_stream(&file).last(), last);
    let (ours, file) = (sums(&ours, last), sums(&file, last));
    assert!(!file.is_empty());
    assert!(ours == file, "the sums differ");
    println!(
        "figure: {} sums over the outage equal those of the file",
        ours.len()
    );
}

/// Scenario: 8,640 envelopes, a day at 10 s, wait on disk when the broker comes back.
/// Guarantees: they are gone within a minute, no window gets longer meanwhile, memory stays small.
#[test]
#[ignore = "long: cargo xtask soak backlog"]
fn soak_backlog() {
    let Some(cluster) = Cluster::own("soak_backlog", 1, &[]) else {
        return;
    };
    let topic = "backlog";
    let text = config(
        cluster.bootstrap("plaintext"),
        topic,
        "spool_bytes = '1GiB'",
        "",
    );
    let mut probe = Probe::start(&format!("{text}\n[metrics.disk]\n[metrics.interface]\n"));
    until_there_are(&cluster, topic, 5);
    cluster.act(1, "kill");
    // As many at the shortest interval.
    thread::sleep(
        Duration::from_millis(100) * u32::try_from(6 * minutes(24 * 60)).expect("a few days"),
    );
    cluster.act(1, "start");
    let drain = drained(&cluster, topic, &probe);
    let memory = peak_memory(probe.pid());
    probe.stop();
    let found = consume::envelopes(&cluster, topic);
    let stream = one_stream(&found);
    let longest = found
        .iter()
        .filter_map(|envelope| envelope["duration_ns"].as_u64())
        .max();
    let longest = Duration::from_nanos(longest.unwrap_or(0));
    println!(
        "figure: backlog of {} envelopes: drained in {drain:.1} s, RSS at most {:.1} MiB, longest window {longest:?}",
        stream.last(),
        memory as f64 / 1024.0
    );
    assert_eq!((stream.lost.len(), stream.merged()), (0, 0));
    assert!(drain < 60.0, "{drain} s");
    assert!(memory < 32 << 10, "{memory} KiB");
    assert!(longest < Duration::from_millis(200), "{longest:?}");
}

/// Seconds until the topic has everything that the probe had numbered by now.
fn drained(cluster: &Cluster, topic: &str, probe: &Probe) -> f64 {
    let begin = Instant::now();
    let streams =
        fs::read_to_string(probe.path("state/streams.json")).expect("the probe notes its numbers");
    let state: Value = serde_json::from_str(&streams).expect("it is JSON");
    let goal = largest_number(&state);
    loop {
        let last = consume::newest(cluster, topic);
        if last.is_some_and(|envelope| envelope["stream"]["last"].as_u64() >= Some(goal)) {
            return begin.elapsed().as_secs_f64();
        }
        assert!(
            begin.elapsed() < Duration::from_secs(600),
            "it does not drain to {goal}"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

/// The largest `last` anywhere in the noted state.
fn largest_number(state: &Value) -> u64 {
    match state {
        Value::Object(fields) => {
            let own = fields.get("last").and_then(Value::as_u64).unwrap_or(0);
            fields.values().map(largest_number).fold(own, u64::max)
        }
        Value::Array(values) => values.iter().map(largest_number).max().unwrap_or(0),
        _ => 0,
    }
}

/// Bytes of the files in a folder and below.
fn size(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The most memory a process ever had, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the probe runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let digits = line
        .expect("a process has memory")
        .trim()
        .trim_end_matches(" kB");
    digits.parse().expect("a number")
}
