//! A machine of the test's own, made of namespaces, in which mounts hang and addresses change. Needs root, `unshare`, `mount` and
//! `ip`.

use std::{collections::BTreeSet, process::Command};

use dataflux_tests::probe::{self, Probe};
use serde_json::Value;

/// Process 1 of the machine runs this with the probe's folder as `$1` and its program as `$2`.
const MACHINE: [&str; 8] = [
    "unshare",
    "--pid",
    "--net",
    "--mount",
    "--fork",
    "--mount-proc",
    "sh",
    "-euc",
];

/// Mounts a file system in userspace whose program never says a word, and lets the probe run beside it for a while. Says how
/// many of its threads wait for an answer.
const HANG: &str = r#"
exec 3<>/dev/fuse
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none "$1/hang"
"$2" --config "$1/probe.toml" 3>&- &
sleep 3
# One of them may end meanwhile.
cat /proc/$!/task/*/comm >"$1/threads" 2>/dev/null || :
kill -TERM $!
wait $!
"#;

/// Changes what the loopback is while the probe runs.
const CHANGE: &str = r#"
mount -t sysfs sysfs /sys
ip link set lo up
"$2" --config "$1/probe.toml" &
sleep 2
ip addr add 192.0.2.77/32 dev lo
ip link set lo mtu 1400
sleep 3
kill -TERM $!
wait $!
"#;

/// The envelopes of a probe with this configuration, in the order in which they left, and its folder.
#[expect(clippy::print_stdout, reason = "the test says that it was skipped")]
fn run(config: &str, script: &str) -> Option<(Vec<Value>, Probe)> {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return None;
    }
    let probe = Probe::prepare(config);
    std::fs::create_dir(probe.path("hang")).expect("the folder is writable");
    let output = Command::new(MACHINE[0])
        .args(&MACHINE[1..])
        .args([script, "machine"])
        .arg(probe.path(""))
        .arg(probe::binary())
        .env_remove("RUST_LOG")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let envelopes: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert!(envelopes.len() >= 4, "{said}");
    Some((envelopes, probe))
}

/// The mount points of a gauge of an envelope.
fn points(envelope: &Value) -> BTreeSet<String> {
    let metrics = envelope["sources"][0]["metrics"].as_array();
    let space = metrics
        .into_iter()
        .flatten()
        .filter(|metric| metric["name"] == "disk.space");
    space
        .flat_map(|metric| metric["series"].as_array().expect("series"))
        .filter_map(|series| Some(series["labels"]["mount_point"].as_str()?.to_owned()))
        .collect()
}

/// Scenario: the probe, with all privileges given up, asks for remote file systems every 200 ms, and the program of one of them
/// never answers.
/// Guarantees: every envelope has the others, and says which one does not answer; a single thread waits for it, and stops
/// nobody from ending.
#[test]
fn a_mount_that_hangs_holds_up_nobody() {
    let config = "[probe]\ninterval = '200ms'\n[metrics.disk]\nremote = true\nremote_timeout = '20ms'\nexclude_types = ['proc']\n\
         [output.a]\nformatter = 'json'\nlogger = 'stdout'\n";
    let Some((envelopes, probe)) = run(config, HANG) else {
        return;
    };
    let hangs = probe.path("hang").display().to_string();
    for envelope in &envelopes {
        let source = &envelope["sources"][0];
        let reason = source["reason"].as_str().unwrap_or_default();
        assert_eq!(source["status"], "degraded", "{envelope}");
        assert!(
            reason.contains("no answer: ") && reason.contains(&hangs),
            "{reason}"
        );
        let points = points(envelope);
        assert!(
            points.contains("/") && !points.contains(&hangs),
            "{points:?}"
        );
    }
    let threads = std::fs::read_to_string(probe.path("threads")).expect("the script made it");
    let waiting = threads.lines().filter(|name| *name == "question").count();
    assert_eq!(waiting, 1, "{threads}");
}

/// Scenario: the loopback gets another address and another MTU while the probe runs.
/// Guarantees: the header has both after the next refresh.
#[test]
fn a_changed_address_is_in_the_header_after_one_refresh() {
    let config = "[probe]\ninterval = '500ms'\n[metadata.addresses]\ninterval = '1s'\n[metrics.network_stack]\n\
         [output.a]\nformatter = 'json'\nlogger = 'stdout'\n";
    let Some((envelopes, _probe)) = run(config, CHANGE) else {
        return;
    };
    let loopback = |envelope: &Value| envelope["header"]["addresses"]["interfaces"]["lo"].clone();
    let first = loopback(&envelopes[0]);
    assert_eq!(first["mtu"], 65_536, "{first}");
    assert_eq!(first["ipv4"], serde_json::json!(["127.0.0.1/8"]), "{first}");
    let last = loopback(&envelopes[envelopes.len() - 1]);
    assert_eq!(last["mtu"], 1400, "{last}");
    let both = serde_json::json!(["127.0.0.1/8", "192.0.2.77/32"]);
    assert_eq!(last["ipv4"], both, "{last}");
}
