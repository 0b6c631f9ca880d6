//! A state folder that fills up while the broker is away.

use std::{fs, thread, time::Duration};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{account, one_stream},
};

use super::{
    cluster::{Cluster, until_there_are},
    consume,
    delivery::config,
    faults::until_it_flows,
};

/// Scenario: the queue's folder is on a disk much smaller than the queue may be, and something else has filled it.
/// Guarantees: the probe goes on, says so, and every number arrives, in coarser windows or by a gap that names it. A
/// start that finds the folder empty sends all the same.
#[test]
fn a_full_disk_loses_nothing_in_silence() {
    let test = "a_full_disk_loses_nothing_in_silence";
    if !rustix::process::geteuid().is_root() {
        println!("skipped, needs root to mount: {test}");
        return;
    }
    let Some(cluster) = Cluster::own(test, 1, &[]) else {
        return;
    };
    let topic = "disk";
    let mut probe = Probe::prepare(&config(
        cluster.bootstrap("plaintext"),
        topic,
        "spool_bytes = '8MiB'\nqueue_bytes = '256KiB'",
        "",
    ));
    let disk = probe.path("state");
    fs::create_dir(&disk).expect("the folder is writable");
    // In a mount namespace of the probe's own: nothing is left behind, and the test sees it through /proc/PID/root.
    let mount = format!(
        "mount -t tmpfs -o size=512k tmpfs {} && exec \"$@\"",
        disk.display()
    );
    probe.start_under(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    probe.restart();
    until_there_are(&cluster, topic, 5);
    let inside = |name: &str| {
        let root = format!("/proc/{}/root", probe.pid());
        std::path::PathBuf::from(format!("{root}{}/{name}", disk.display()))
    };
    cluster.act(1, "pause");
    thread::sleep(Duration::from_secs(1));
    let filler = inside("filler");
    // It writes as much as there is room for.
    drop(fs::write(&filler, vec![1; 1 << 20]));
    until("a word about the disk", || {
        let told = probe.diagnostics();
        told.contains("No space left").then_some(())
    });
    thread::sleep(Duration::from_secs(5));
    cluster.act(1, "resume");
    until_it_flows(&cluster, topic);
    fs::remove_file(filler).expect("the test made it");
    until_it_flows(&cluster, topic);
    let ended = probe.stop();
    let stream = one_stream(&consume::envelopes(&cluster, topic));
    println!(
        "figure: disk full: {} ranges, {} merged, {} lost and declared",
        stream.ranges.len(),
        stream.merged(),
        stream.lost.len()
    );
    assert!(stream.lost.is_empty(), "{stream:?}\n{}", ended.diagnostics);
    // The new mount is empty: a state folder that was lost is no reason not to start.
    probe.restart();
    super::faults::until_there_are_streams(&cluster, topic, 2);
    probe.stop();
    let streams = account(&consume::envelopes(&cluster, topic));
    assert_eq!(streams.map(|streams| streams.len()), Ok(2));
}
