//! The file logger under what happens to files: moved away, deleted with their folder, on a disk that is full.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use dataflux_tests::{
    probe::{Probe, run, until},
    sequence::{envelopes, one_stream},
};
use rustix::process::Signal;
use serde_json::Value;

const CONFIG: &str = "
[probe]
interval = '100ms'
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/logs/all.jsonl'
file.roll_bytes = 0
";

/// Waits for more envelopes than so many in a file.
fn wait_for(file: &Path, more_than: usize) -> Vec<Value> {
    until("envelopes", || {
        let found = envelopes(file);
        (found.len() > more_than).then_some(found)
    })
}

/// How often the diagnostics say something.
fn told(diagnostics: &str, what: &str) -> usize {
    diagnostics
        .lines()
        .filter(|line| line.contains(what))
        .count()
}

fn numbers(envelopes: &[Value]) -> Vec<u64> {
    let number = |envelope: &Value| envelope["stream"]["first"].as_u64();
    envelopes.iter().filter_map(number).collect()
}

/// Each number came by itself, and in order.
fn assert_whole(envelopes: &[Value]) {
    let stream = one_stream(envelopes);
    assert_eq!(stream.merged(), 0, "{stream:?}");
    assert!(stream.lost.is_empty(), "{stream:?}");
    let numbers = numbers(envelopes);
    let expected: Vec<_> = (1..=envelopes.len() as u64).collect();
    assert_eq!(numbers, expected);
}

/// Scenario: a running probe, whose files are kept by Landlock where that is there; its file is renamed and the probe told so by
/// SIGHUP, as logrotate does it, and later its folder is deleted with everything in it.
/// Guarantees: it goes on in a file and a folder that it makes again; what was renamed has every envelope before and is closed,
/// and nothing is told but, at most, once of the folder.
#[test]
fn a_moved_file_and_a_deleted_folder_are_made_again() {
    let mut probe = Probe::start(CONFIG);
    let file = probe.path("logs/all.jsonl");
    wait_for(&file, 2);
    let moved = probe.path("logs/all.jsonl.1");
    fs::rename(&file, &moved).expect("the folder is writable");
    probe.signal(Signal::HUP);
    until("the moved file closed", || {
        let open = fs::read_dir(format!("/proc/{}/fd", probe.pid())).ok()?;
        let mut targets = open.flatten().map(|entry| fs::read_link(entry.path()));
        let is_open = targets.any(|target| target.is_ok_and(|target| target == moved));
        (!is_open).then_some(())
    });
    wait_for(&file, 2);
    let all = [envelopes(&moved), envelopes(&file)].concat();
    assert_whole(&all);

    // The probe may write anew into a folder that is about to be removed.
    until("an empty folder", || {
        fs::remove_dir_all(probe.path("logs")).ok()
    });
    wait_for(&file, 2);
    let ended = probe.stop();
    assert!(
        told(&ended.diagnostics, "cannot deliver") <= 1,
        "{}",
        ended.diagnostics
    );
    let after = numbers(&envelopes(&file));
    let first = after[0];
    assert!(
        after.iter().copied().eq(first..first + after.len() as u64),
        "{after:?}"
    );
}

/// Scenario: a disk of 512 KiB, which the output fills; then somebody makes room.
/// Guarantees: every envelope is there afterwards, whole and in order: what did not fit waited in the queue. It is told once
/// that nothing gets through, and once that it does again.
#[test]
#[expect(clippy::print_stdout, reason = "the test says that it was skipped")]
fn a_full_disk_is_told_once_and_costs_nothing() {
    if !rustix::process::geteuid().is_root() {
        return println!("skipped: needs root");
    }
    let mut probe = Probe::prepare(CONFIG);
    let logs = probe.path("logs");
    fs::create_dir(&logs).expect("the folder is writable");
    // Only the probe's mount namespace has it: it goes with the probe.
    let mount = format!(
        "mount -t tmpfs -o size=512k tmpfs {} && exec \"$@\"",
        logs.display()
    );
    probe.start_under(&["unshare", "--mount", "sh", "-c", &mount, "sh"]);
    probe.restart();
    let inside: PathBuf = format!("/proc/{}/root{}", probe.pid(), logs.display()).into();
    let file = inside.join("all.jsonl");
    wait_for(&file, 0);
    fs::write(inside.join("filler"), vec![1; 470 << 10]).expect("there is room yet");
    let full = || {
        until("a full disk", || {
            (told(&probe.diagnostics(), "cannot deliver") > 0).then_some(())
        })
    };
    full();
    // Several more attempts, and more envelopes that wait.
    thread::sleep(Duration::from_millis(700));
    let before = envelopes(&file);
    fs::remove_file(inside.join("filler")).expect("the disk is writable");
    let after = wait_for(&file, before.len() + 4);
    assert_whole(&after);
    until("a word of it", || {
        (told(&probe.diagnostics(), "delivers again") == 1).then_some(())
    });
    let diagnostics = probe.diagnostics();
    assert_eq!(told(&diagnostics, "cannot deliver"), 1, "{diagnostics}");
    assert!(
        diagnostics.contains("fitted") || diagnostics.contains("No space left"),
        "{diagnostics}"
    );
    probe.kill();
}

/// Scenario: outputs whose paths are, or could become, one.
/// Guarantees: `check` refuses them and names both; what only looks alike passes.
#[test]
fn two_outputs_to_one_path_are_refused() {
    for (one, other, is_refused) in [
        ("a.jsonl", "a.jsonl", true),
        ("a.jsonl", "b/../a.jsonl", true),
        ("{date}.jsonl", "2026-11-21.jsonl", true),
        ("{reader}.jsonl", "memory.jsonl", true),
        ("{host}.jsonl", "web.jsonl", true),
        ("{reader}.jsonl", "all.jsonl", false),
        ("{host}-a.jsonl", "{host}-b.jsonl", false),
        ("{date}.jsonl", "{date}.csv", false),
        ("a.jsonl", "a-20261121T220000.000Z.jsonl", true),
    ] {
        let output = |name: &str, path: &str| {
            format!(
                "[output.{name}]\nformatter = 'json'\nlogger = 'file'\nenvelope = 'per_reader'\nfile.path = '/x/{path}'\n"
            )
        };
        let text = format!(
            "[metrics.memory]\n{}{}",
            output("one", one),
            output("two", other)
        );
        let probe = Probe::prepare(&text);
        let checked = run(&["check", &probe.path("probe.toml").display().to_string()]);
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(
            !checked.status.success(),
            is_refused,
            "{one} and {other}: {told}"
        );
        assert_eq!(
            told.contains("belongs to output.one already"),
            is_refused,
            "{told}"
        );
    }
}
