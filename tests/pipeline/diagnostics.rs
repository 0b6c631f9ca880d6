//! What the probe says of itself, and the codes it ends with.

use std::{fs, process::Command};

use dataflux_tests::probe::{self, Probe, until};
use serde_json::Value;

/// The memory reader, into a file in a folder that is not there.
const AWAY: &str = "
[probe]
interval = '100ms'
drain = '100ms'
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/missing/folder/envelopes'
";

fn code(arguments: &[&str]) -> Option<i32> {
    probe::run(arguments).status.code()
}

/// Scenario: a probe with `--log-format json`, whose output cannot be opened, and a wrong configuration.
/// Guarantees: every line on standard error is a JSON object with time, level and message, the last word of a failure too.
#[test]
fn json_diagnostics_are_json_to_the_last_line() {
    let mut probe = Probe::prepare(AWAY);
    probe.add_arguments(&["--log-format", "json"]);
    probe.restart();
    until("a word about the output", || {
        probe.diagnostics().contains("missing").then_some(())
    });
    let ended = probe.stop();
    let mut said = ended.diagnostics;
    let path = probe.path("wrong.toml");
    fs::write(&path, "[metrics.cpo]\n").unwrap();
    let path = path.display().to_string();
    let wrong = probe::run(&["--log-format", "json", "check", &path]);
    assert_eq!(wrong.status.code(), Some(2));
    said += &String::from_utf8(wrong.stderr).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(lines.len() > 3, "{said}");
    for line in &lines {
        let is_text = |key: &str| line[key].as_str().is_some_and(|text| !text.is_empty());
        assert!(
            ["timestamp", "level", "message"].into_iter().all(is_text),
            "{line}"
        );
    }
    let last = &lines[lines.len() - 1];
    assert_eq!(last["level"], "ERROR");
    assert!(
        last["message"].as_str().unwrap().contains("metrics.cpo"),
        "{last}"
    );
}

/// Scenario: the same probe with `--log-level error`, and with `RUST_LOG` against it.
/// Guarantees: what is less severe is not said; `RUST_LOG` goes before; nothing has colours, since nothing is a terminal.
#[test]
fn the_level_is_held() {
    let said = |level: &str, environment: Option<&str>| {
        let mut command = Command::new(probe::binary());
        command.args(["once", "--window", "1ms", "--log-level", level]);
        command
            .env_remove("RUST_LOG")
            .envs(environment.map(|filter| ("RUST_LOG", filter)));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(said("error", None), "");
    let usual = said("info", None);
    assert!(usual.contains("memory"), "{usual}");
    assert!(!usual.contains('\u{1b}'), "{usual}");
    assert!(said("error", Some("info")).contains("memory"));
}

/// Scenario: every way to end that is not 0.
/// Guarantees: the codes are those of docs/reference/commands.md.
#[test]
fn exit_codes_are_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.toml");
    let path = file.display().to_string();
    assert_eq!(code(&["check", &path]), Some(2), "no such file");
    fs::write(&file, "[metrics.cpo]\n").unwrap();
    for arguments in [
        &["check", &path][..],
        &["--config", &path],
        &["once", "--config", &path],
        &["doctor", "--config", &path],
        &["metrics", "cpo"],
        &["--log-level", "loud", "list"],
        &["--config", &path, "check", &path],
        &["completions", "tcsh"],
    ] {
        assert_eq!(code(arguments), Some(2), "{arguments:?}");
    }
    let missing = folder.path().join("missing").display().to_string();
    for arguments in [
        &["health", "--file", &missing][..],
        &["man", "--dir", &missing],
        &["spool", "list", "--state-dir", &missing],
    ] {
        assert_eq!(code(arguments), Some(1), "{arguments:?}");
    }
    for arguments in [
        &["list"][..],
        &["--version"],
        &["metrics", "memory"],
        &["man"],
    ] {
        assert_eq!(code(arguments), Some(0), "{arguments:?}");
    }
}

/// Scenario: `metrics` for one reader, as text and as JSON.
/// Guarantees: both have all of that reader's metrics and no others.
#[test]
fn metrics_can_be_asked_of_one_reader() {
    let printed = |arguments: &[&str]| String::from_utf8(probe::run(arguments).stdout).unwrap();
    let text = printed(&["metrics", "memory"]);
    let json: Vec<Value> =
        serde_json::from_str(&printed(&["metrics", "--format", "json", "memory"])).unwrap();
    let definitions = dataflux_probe::metrics::REGISTRY
        .iter()
        .find(|plugin| plugin.name == "memory")
        .unwrap()
        .metrics;
    let names: Vec<_> = json
        .iter()
        .map(|metric| metric["name"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = definitions.iter().map(|metric| metric.name).collect();
    assert_eq!(names, expected);
    for (metric, definition) in json.iter().zip(definitions) {
        assert_eq!(metric["help"], definition.help);
        assert_eq!(metric["unit"], definition.unit.name());
        assert!(
            text.contains(&format!(
                "{}: {}, ",
                definition.name,
                definition.kind.name()
            )),
            "{text}"
        );
    }
    assert!(!text.contains("cpu."), "{text}");
}

/// Scenario: completions of every shell, and the manual in a folder.
/// Guarantees: they know the commands; every command has a page, which names its options.
#[test]
fn completions_and_manual_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = probe::run(&["completions", shell]);
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(
            script.contains("doctor") && script.contains("log-format"),
            "{shell}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    assert_eq!(code(&["man", "--dir", &path]), Some(0));
    for (page, word) in [
        ("dataflux-probe.1", "config"),
        ("dataflux-probe-once.1", "window"),
        ("dataflux-probe-spool-cat.1", "dead"),
    ] {
        let text = fs::read_to_string(folder.path().join(page)).unwrap();
        assert!(text.contains(word), "{page}");
    }
}
