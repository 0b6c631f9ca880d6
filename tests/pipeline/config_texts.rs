//! Configurations of several texts: variables, included files, arguments, secrets, and what `config` says of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use dataflux_tests::{
    probe::{self, Probe, until},
    workspace,
};
use tempfile::TempDir;

const GOOD: &str = "[metrics.memory]\n[output.a]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'DIR/envelopes'\n";

/// A folder with `probe.toml`, in which `DIR` stands for it, and other files.
fn folder(main: &str, others: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let path = folder.path().join("probe.toml");
    for (name, text) in others.iter().chain([&("probe.toml", main)]) {
        let file = folder.path().join(name);
        let parent = file.parent().expect("a file is in a folder");
        fs::create_dir_all(parent).expect("there is room for temporary files");
        let text = text.replace("DIR", &folder.path().display().to_string());
        fs::write(file, text).expect("there is room for temporary files");
    }
    (folder, path)
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(probe::binary())
        .args(arguments)
        .env_remove("RUST_LOG")
        .env_remove("G_UNSET")
        .envs(environment.iter().copied())
        .output()
        .expect("the probe starts")
}

/// What it prints when all is well.
fn printed(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(arguments, environment);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("what it prints is UTF-8")
}

/// What it says of a wrong configuration, without its own name.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(arguments, environment);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed something");
    said.replace("dataflux-probe: ", "")
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Scenario: a configuration with variables: set, with defaults, with text that looks like TOML, and not set.
/// Guarantees: what is set is put in as text; what is not set is an error with path and line.
#[test]
fn variables_are_put_in_as_text() {
    let main =
        format!("[metrics.cpu]\nper_cpu = '${{EACH}}'\n{GOOD}queue_bytes = '${{ROOM:-2MiB}}'\n")
            .replace("queue_bytes", "[metadata.labels]\nrack = '${RACK}'\nroom");
    let (_folder, path) = folder(&main, &[]);
    let path = text(&path);
    let evil = "\"\n[metrics.nonsense]\nx = \"";
    let said = printed(
        &["config", "show", &path],
        &[("EACH", "false"), ("RACK", evil)],
    );
    for line in [
        "per_cpu = false",
        "room = \"2MiB\"",
        "rack = \"\\\"\\n[metrics.nonsense]\\nx = \\\"\"",
    ] {
        assert!(
            said.lines().any(|shown| shown == line),
            "{line} is not in {said}"
        );
    }
    let said = refused(&["check", &path], &[("EACH", "no"), ("RACK", "")]);
    assert!(
        said.starts_with(&format!(
            "{path}:2: metrics.cpu.per_cpu: invalid type: string \"no\""
        )),
        "{said}"
    );
    let said = refused(&["check", &path], &[("EACH", "true")]);
    assert_eq!(
        said,
        format!(
            "{path}:9: metadata.labels.rack: the variable RACK is not set; ${{RACK:-...}} has a default\n"
        )
    );
}

/// Scenario: a file that includes a folder with two snippets, a hidden file and one that is no TOML file.
/// Guarantees: sections are merged; a mistake is told with the snippet's own line, a key set twice with both places.
#[test]
fn a_folder_is_included_in_the_order_of_names() {
    let main = format!("include = 'conf.d'\n[probe]\ninterval = '5s'\n{GOOD}");
    let snippets = [
        (
            "conf.d/10-cpu.toml",
            "[metrics.cpu]\nper_cpu = false\n[probe]\ndrain = '1s'\n",
        ),
        (
            "conf.d/20-labels.toml",
            "[metadata.labels]\nrack = 'a'\n[metrics.cpu]\ninterval = '10s'\n",
        ),
        ("conf.d/.30-hidden.toml", "nonsense\n"),
        ("conf.d/README", "nonsense\n"),
    ];
    let (folder, path) = folder(&main, &snippets);
    let said = printed(&["config", "show", "--config", &text(&path)], &[]);
    for line in [
        "drain = \"1s\"",
        "per_cpu = false",
        "rack = \"a\"",
        "interval = \"10s\"",
        "interval = \"5s\"",
    ] {
        assert!(
            said.lines().any(|shown| shown == line),
            "{line} is not in {said}"
        );
    }
    let snippet = folder.path().join("conf.d/15-more.toml");
    let name = text(&snippet);
    for (wrong, expected) in [
        (
            "[metrics.memory]\n\nintervall = '1s'\n",
            format!("{name}:3: metrics.memory.intervall: unknown key; "),
        ),
        (
            "\n[metrics.cpu]\nper_cpu = true\n",
            format!(
                "{name}:3: metrics.cpu.per_cpu: is set in {}:2 already",
                text(&folder.path().join("conf.d/10-cpu.toml"))
            ),
        ),
        (
            "[probe]\ninterval = '1s'\n",
            format!(
                "{name}:2: probe.interval: is set in {}:3 already",
                text(&path)
            ),
        ),
        (
            "metrics = 1\n",
            format!("{name}:1: metrics: is set in {}:4 already", text(&path)),
        ),
        ("[probe\n", format!("{name}:1: not TOML: ")),
        (
            "\ninclude = 'x'\n",
            format!("{name}:2: include: only the file that is given itself"),
        ),
    ] {
        fs::write(&snippet, wrong).unwrap();
        let said = refused(&["check", &text(&path)], &[]);
        assert!(
            said.starts_with(&expected),
            "{wrong} gives {said} and not {expected}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    fs::write(&snippet, [0xff, b'\n']).unwrap();
    let said = refused(&["check", &text(&path)], &[]);
    assert!(
        said.starts_with(&format!("{}:1: include: {name}: ", text(&path))),
        "{said}"
    );
}

/// Scenario: `--set` for running, `check`, `once`, `doctor` and `config show`.
/// Guarantees: the value counts; what is wrong with it names the argument; nothing starts.
#[test]
fn arguments_set_keys() {
    let (folder, path) = folder(GOOD, &[]);
    let path = text(&path);
    let said = printed(
        &[
            "config",
            "show",
            &path,
            "--set",
            "metrics.cpu.per_cpu=false",
            "--set",
            "probe.interval=1s",
        ],
        &[],
    );
    assert!(
        said.contains("[metrics.cpu]") && said.contains("interval = \"1s\""),
        "{said}"
    );
    let output = printed(
        &[
            "once",
            "--window",
            "50ms",
            "--format",
            "json",
            "--set",
            "metrics.cpu.per_cpu=false",
        ],
        &[],
    );
    assert!(
        !output.contains("\"cpu\":\"0\"") && output.contains("\"reader\":\"cpu\""),
        "{output}"
    );
    for arguments in [
        &["--config", &*path][..],
        &["check", &path],
        &["check", "--config", &path],
        &["once", "--config", &path],
        &["once"],
        &["doctor"],
        &["doctor", "--config", &path],
        &["config", "show", &path],
    ] {
        let wrong = [arguments, &["--set", "metrics.memory.intervall=1s"]].concat();
        let said = refused(&wrong, &[]);
        let expected = "--set metrics.memory.intervall: unknown key; known: enabled, interval";
        assert!(said.starts_with(expected), "{wrong:?}: {said}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "something was made"
    );
}

/// Scenario: `config default`, and `config show` of it.
/// Guarantees: the first is deploy/probe.toml; what the second shows is a configuration that comes to the same.
#[test]
fn the_default_configuration_is_shown_and_means_the_same() {
    let default = printed(&["config", "default"], &[]);
    let deployed = workspace::root().join("deploy/probe.toml");
    assert_eq!(default, fs::read_to_string(&deployed).unwrap());
    let shown = printed(&["config", "show", &text(&deployed)], &[]);
    let (_folder, path) = folder(&shown, &[]);
    assert_eq!(printed(&["config", "show", &text(&path)], &[]), shown);
    let checked = |path: &Path| {
        let said = printed(&["check", "--config", &text(path)], &[]);
        said.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(checked(&path), checked(&deployed));
}

/// Scenario: a folder instead of a file.
/// Guarantees: it is refused, with the way to include one.
#[test]
fn a_folder_is_no_configuration() {
    let (folder, _) = folder(GOOD, &[]);
    let said = refused(&["check", &text(folder.path())], &[]);
    assert!(said.contains("is a folder: name a file"), "{said}");
}

/// Scenario: secrets in files, in variables, in an address, in keys named like secrets and in an argument; the configuration is
/// shown, wrong in several ways, and runs.
/// Guarantees: no secret is in what is printed or said.
#[test]
fn no_secret_is_shown_or_said() {
    let main = "[metrics.memory]\ninterval = '1s'\n[metadata.labels]\npassword = 'hunter2-label'\nurl = 'https://u:hunter2-url@h/'\n\
        url2 = 'http://u:hun/ter2@h'\nurl3 = 'x://u:abc@h'\n\
        note = 'a ${G_TOKEN} b'\n[output.a]\nformatter = 'json'\nlogger = 'kafka'\nkafka.brokers = ['127.0.0.1:9']\nkafka.topic = 't'\n\
        kafka.security = 'sasl_plaintext'\n[output.a.kafka.sasl]\nmechanism = 'PLAIN'\nusername = 'u'\npassword_file = 'DIR/password'\n";
    let secrets = [("G_TOKEN", "hunter2-variable")];
    let others = [("password", "hunter2-file\n")];
    let (_folder, path) = folder(main, &others);
    let path = text(&path);
    let shown = printed(
        &[
            "config",
            "show",
            &path,
            "--set",
            "metadata.labels.api_key=hunter2-argument",
        ],
        &secrets,
    );
    assert!(
        shown.contains("password = \"[secret]\"") && shown.contains("api_key = \"[secret]\""),
        "{shown}"
    );
    assert!(
        shown.contains("note = \"a [secret] b\"") && shown.contains("https://[secret]@h/"),
        "{shown}"
    );
    for secret in ["hunter2", "hun/ter2", "abc"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for wrong in [
        "metadata.labels.password=[\"hunter2-argument\"]",
        "metadata.labels.NOTE=hunter2-argument",
        "metrics.memory.interval=${G_TOKEN}",
        "output.a.kafka.sasl.password=hunter2-argument",
        "output.a.kafka.topic={ token = \"hunter2-argument\" }",
        "output.a.kafka.properties.\"sasl.password\"=hunter2-argument",
        "output.a.password",
        "metrics.memory.interval=http://u:hun/ter2@h",
        "output.a.logger=http://u:hun/ter2@h",
    ] {
        let said = refused(&["check", &path, "--set", wrong], &secrets);
        assert!(
            !said.contains("hunter2") && !said.contains("hun/ter2"),
            "{wrong}: {said}"
        );
    }
    let mut probe = Probe::prepare(&main.replace("${G_TOKEN}", "${G_TOKEN:-hunter2-default}"));
    fs::write(probe.path("password"), "hunter2-file\n").unwrap();
    probe.restart();
    until("the probe runs", || {
        probe.diagnostics().contains("from here on").then_some(())
    });
    let ended = probe.stop();
    assert!(
        !ended.diagnostics.contains("hunter2"),
        "{}",
        ended.diagnostics
    );
}
