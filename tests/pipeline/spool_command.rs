//! What `spool` says beside a probe that fills and empties one.

use std::{fs, process::Output};

use dataflux_tests::{
    probe::{self, Probe, until},
    sequence::envelopes,
};
use serde_json::{Value, json};

const CONFIG: &str = "
[probe]
interval = '100ms'
state_dir = 'DIR/state'
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/missing/folder/envelopes'
spool_bytes = '4MiB'
";

fn spool(probe: &Probe, action: &[&str]) -> Output {
    let config = probe.path("probe.toml").display().to_string();
    probe::run(&[&["spool"], action, &["--config", &config]].concat())
}

/// What it prints, of a command that succeeds.
fn lines(probe: &Probe, action: &[&str]) -> Vec<Value> {
    let output = spool(probe, action);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{action:?}: {said}");
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let parse = |line| serde_json::from_str(line).expect("each line is JSON");
    text.lines().map(parse).collect()
}

fn first(envelope: &Value) -> u64 {
    envelope["stream"]["first"].as_u64().expect("a number")
}

/// What an envelope says apart from when it left and what it announces.
fn measured(envelope: &Value) -> Value {
    let fields = [
        "start_time",
        "stop_time",
        "duration_ns",
        "header",
        "sources",
    ];
    fields
        .iter()
        .map(|&field| envelope[field].clone())
        .collect()
}

/// Scenario: an output whose folder is missing, so that its spool fills; the commands run beside the probe, then after
/// SIGKILL; then the folder is made and another start delivers everything.
/// Guarantees: at any time everything on disk is whole and each number is there once; what `cat` prints is what is delivered
/// later; nothing waits in the end.
#[test]
fn a_spool_can_be_read_while_it_fills_and_empties() {
    let mut probe = Probe::start(CONFIG);
    let mut before = 0;
    until("the state folder", || {
        probe.path("state").is_dir().then_some(())
    });
    let waiting = until("envelopes in the spool", || {
        let listed = lines(&probe, &["list"]).pop()?;
        let waiting = listed["waiting"].as_u64().expect("a number");
        assert!(waiting >= before, "{listed}");
        before = waiting;
        assert!(
            lines(&probe, &["verify"])
                .iter()
                .all(|report| report["intact"] == true)
        );
        let printed = lines(&probe, &["cat", "main"]);
        assert!(printed.iter().map(first).eq(1..=printed.len() as u64));
        assert!(printed.len() as u64 >= waiting);
        (printed.len() > 5).then_some(printed)
    });
    probe.kill();
    assert_eq!(spool(&probe, &["verify"]).status.code(), Some(0));
    let last = lines(&probe, &["cat", "--first", "3", "--last", "4"]);
    assert!(last.iter().map(first).eq([3, 4]), "{last:?}");

    fs::create_dir(probe.path("missing")).expect("the folder is writable");
    probe.restart();
    let id = &waiting[0]["stream"]["id"];
    until("everything of the first start is delivered", || {
        let listed = lines(&probe, &["list"]).pop()?;
        let streams = listed["streams"].as_array().expect("an array").clone();
        let stream = streams.iter().find(|stream| stream["id"] == *id);
        stream
            .is_none_or(|stream| stream["waiting"] == json!([]))
            .then_some(())
    });
    probe.stop();
    let delivered = envelopes(&probe.path("missing/folder/envelopes"));
    for printed in &waiting {
        let same = |envelope: &&Value| {
            envelope["stream"]["id"] == *id && first(envelope) == first(printed)
        };
        let envelope = delivered.iter().find(same).expect("it was in the spool");
        assert_eq!(measured(envelope), measured(printed));
    }
    let listed = lines(&probe, &["list"]);
    assert_eq!(listed[0]["journal"]["state"], "whole", "{listed:?}");
    assert_eq!(listed[0]["waiting"], 0);
}

/// Scenario: a configuration whose state folder is set by an argument.
/// Guarantees: `spool` looks there; `--set` needs a configuration, and a wrong one is told as elsewhere.
#[test]
fn an_argument_can_set_the_state_folder() {
    let probe = Probe::prepare(&CONFIG.replace("DIR/state", "/no/such/folder"));
    fs::create_dir_all(probe.path("other/spool/found")).expect("the folder is writable");
    let other = format!("probe.state_dir={}", probe.path("other").display());
    let listed = lines(&probe, &["list", "--set", &other]);
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["output"], "found", "{listed:?}");
    let said = |output: Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let without = spool(&probe, &["list"]);
    assert_eq!(without.status.code(), Some(1));
    assert!(said(without).contains("/no/such/folder is no folder"));
    let wrong = spool(&probe, &["verify", "--set", "probe.statedir=/x"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(wrong).contains("--set probe.statedir: unknown key; "));
    let alone = probe::run(&["spool", "list", "--state-dir", "/", "--set", &other]);
    assert_eq!(alone.status.code(), Some(2));
}

/// Scenario: a spool with envelopes, whose output has no `spool_bytes` at the next start.
/// Guarantees: the probe says where they are and why they stay there.
#[test]
fn a_spool_that_nobody_delivers_is_told() {
    let mut probe = Probe::start(CONFIG);
    until("envelopes in the spool", || {
        let segment = fs::metadata(probe.path("state/spool/main/0000000000.seg")).ok()?;
        (segment.len() > 1_000).then_some(())
    });
    probe.kill();
    let path = probe.path("probe.toml");
    let config = fs::read_to_string(&path).expect("it was written");
    fs::write(path, config.replace("spool_bytes = '4MiB'", "")).expect("it is writable");
    probe.restart();
    until("a warning", || {
        let told = "are not delivered: the configuration has no output main with spool_bytes";
        probe.diagnostics().contains(told).then_some(())
    });
    probe.kill();
}
