//! What the real probe may still do once it runs, started as root and as a user of its own.

use std::{fs, thread, time::Duration};

use dataflux_probe::{
    kernel::objects,
    plugin::Roots,
    privileges::{self, Files, Plan},
};
use dataflux_tests::{
    probe::{Probe, until},
    sequence::{envelopes, one_stream, series},
};
use rustix::{process::Signal, thread::CapabilitySet};
use serde_json::Value;

use crate::harness::{Attached, machine};

const CONFIG: &str = "
[probe]
interval = '200ms'
state_dir = 'DIR/state'
[metadata.host]
[metadata.os]
[metadata.processor]
[metadata.addresses]
[metadata.agent]
[metrics.cpu]
[metrics.disk]
[metrics.interface]
[metrics.memory]
[metrics.probe]
[metrics.block_io]
[metrics.network]
[metrics.scheduler]
[output.main]
formatter = 'json'
logger = 'file'
spool_bytes = '4MiB'
file.path = 'DIR/out/envelopes'
[output.away]
formatter = 'json'
logger = 'kafka'
spool_bytes = '4MiB'
kafka.brokers = ['localhost:1']
kafka.topic = 'nowhere'
";

/// The lines of `/proc/PID/status` that say what a thread may do, of every thread of a process.
fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let statuses = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let told = |line: &&str| {
        let names = ["Cap", "NoNewPrivs", "Seccomp:"];
        names.iter().any(|name| line.starts_with(name))
    };
    statuses
        .map(|status| status.lines().filter(told).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Whether a slow machine, such as an emulated one, had not read it in time: nothing that a privilege decides.
fn is_late(source: &Value) -> bool {
    let reason = source["reason"].as_str();
    reason.is_some_and(|reason| reason.starts_with("late: "))
}

/// Runs for some intervals; gives its diagnostics.
fn runs(mut probe: Probe, bounding: &str) -> String {
    probe.restart();
    let file = probe.path("out/envelopes");
    until("envelopes", || (envelopes(&file).len() >= 8).then_some(()));
    let threads = threads(probe.pid());
    // Its own, the spools', the file's, Kafka's.
    assert!(threads.len() > 5, "{threads:#?}");
    for thread in threads {
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(
                thread.contains(&format!("{set}:\t0000000000000000")),
                "{thread}"
            );
        }
        assert!(thread.contains(&format!("CapBnd:\t{bounding}")), "{thread}");
        assert!(thread.contains("NoNewPrivs:\t1"), "{thread}");
        assert!(thread.contains("Seccomp:\t2"), "{thread}");
    }
    assert!(probe.path("state/spool/away/journal-0").exists());
    let diagnostics = probe.stop().diagnostics;
    let all = envelopes(&file);
    assert_eq!(one_stream(&all).lost.len(), 0);
    let sources = all
        .iter()
        .flat_map(|one| one["sources"].as_array().into_iter().flatten());
    for source in sources.filter(|source| !is_late(source)) {
        assert_eq!(source["status"], "ok", "{source}");
    }
    let in_time = |envelope: &&Value| {
        let mut sources = envelope["sources"].as_array().into_iter().flatten();
        sources.any(|source| source["reader"] == "scheduler" && !is_late(source))
    };
    let windows: Vec<_> = all.iter().skip(1).filter(in_time).collect();
    assert!(!windows.is_empty(), "the scheduler's reader is always late");
    for envelope in windows {
        let switches = series(envelope, "scheduler.context_switches");
        assert!(!switches.is_empty(), "{envelope}");
    }
    diagnostics
}

/// Scenario: the probe is started as root with all readers and an output to a Kafka that is away.
/// Guarantees: no thread of it has a capability, could get one, or is without a system call filter; every reader is read in
/// every window, both spools are written, and it ends in order.
#[test]
fn started_as_root_nothing_is_left_of_it() {
    let Some(_machine) = machine() else { return };
    let probe = Probe::prepare(CONFIG);
    let diagnostics = runs(probe, "0000000000000000");
    assert!(
        diagnostics.contains("from here on: no capability"),
        "{diagnostics}"
    );
}

/// Scenario: the probe is started by a user that owns nothing but its folder, with CAP_BPF and CAP_PERFMON.
/// Guarantees: it measures and writes all that root does.
#[test]
fn a_user_of_its_own_with_two_capabilities_is_enough() {
    let Some(_machine) = machine() else { return };
    let mut probe = Probe::prepare(CONFIG);
    let needed = CapabilitySet::BPF | CapabilitySet::PERFMON;
    probe.start_as_nobody(needed);
    runs(probe, &format!("{:016x}", needed.bits()));
}

/// Scenario: the same user without any capability.
/// Guarantees: the kernel readers are denied and say which capability is missing; all else runs.
#[test]
fn without_capabilities_only_kernel_readers_are_missing() {
    let Some(_machine) = machine() else { return };
    let mut probe = Probe::prepare(CONFIG);
    probe.start_as_nobody(CapabilitySet::empty());
    probe.restart();
    let file = probe.path("out/envelopes");
    until("envelopes", || (envelopes(&file).len() >= 3).then_some(()));
    let ended = probe.stop();
    let all = envelopes(&file);
    let sources = all
        .iter()
        .flat_map(|one| one["sources"].as_array().into_iter().flatten());
    for source in sources.filter(|source| !is_late(source)) {
        let kernel = ["block_io", "network", "scheduler"]
            .contains(&source["reader"].as_str().unwrap_or_default());
        assert_eq!(
            source["status"],
            if kernel { "denied" } else { "ok" },
            "{source}"
        );
        if kernel {
            assert_eq!(source["reason"], "needs CAP_BPF", "{source}");
        }
    }
    assert!(
        ended.diagnostics.contains("denied (needs CAP_BPF)"),
        "{}",
        ended.diagnostics
    );
}

/// Scenario: readers attach, and then their thread gives up what the probe gives up, as root.
/// Guarantees: what is attached is read and counts on; nothing more is attached.
#[test]
fn what_is_attached_counts_on_and_nothing_more_is_attached() {
    let Some(_machine) = machine() else { return };
    let thread = thread::spawn(|| {
        let mut reader = Attached::new("scheduler", "");
        let plan = Plan {
            keep: Vec::new(),
            files: Files::default(),
            roots: Roots::default(),
        };
        let restricted = privileges::give_up(&plan).expect("they can be given up");
        assert!(restricted.system_calls.is_ok(), "{restricted:?}");
        let before = reader
            .read()
            .counter("scheduler.context_switches", None, &[]);
        thread::sleep(Duration::from_millis(100));
        let after = reader
            .read()
            .counter("scheduler.context_switches", None, &[]);
        assert!(after > before, "{after} switches");
        let mut loader = aya::EbpfLoader::new();
        objects::OBJECTS
            .iter()
            .map(|(name, object)| (*name, loader.load(object).is_ok()))
            .collect::<Vec<_>>()
    });
    for (name, loaded) in thread.join().expect("it does not panic") {
        assert!(!loaded, "{name} was loaded");
    }
}

/// Scenario: SIGTERM as soon as the first program is loaded, long before the first tick.
/// Guarantees: the probe ends in order, with 0.
#[test]
fn a_signal_while_readers_attach_ends_it_in_order() {
    let Some(_machine) = machine() else { return };
    for _ in 0..5 {
        let mut probe = Probe::start(CONFIG);
        let descriptors = format!("/proc/{}/fd", probe.pid());
        until("a program", || {
            let links = fs::read_dir(&descriptors).ok()?.flatten();
            let mut links = links.filter_map(|link| fs::read_link(link.path()).ok());
            links
                .any(|link| link.to_string_lossy().contains("bpf-prog"))
                .then_some(())
        });
        probe.signal(Signal::TERM);
        let ended = probe.wait();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.diagnostics);
    }
}
