//! The commands that print and exit.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use dataflux_probe::config::Registries;
use dataflux_tests::{probe, workspace};

fn printed(arguments: &[&str]) -> String {
    let output = probe::run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("what it prints is UTF-8")
}

/// Scenario: `list` and `metrics`.
/// Guarantees: every plugin and every metric is there.
#[test]
fn lists_are_complete() {
    let list = printed(&["list"]);
    let metrics = printed(&["metrics"]);
    for plugin in Registries::BUILT_IN.metrics {
        assert!(list.contains(plugin.summary), "{}", plugin.name);
        for metric in plugin.metrics {
            assert!(
                metrics.contains(&format!("{}: ", metric.name)),
                "{}",
                metric.name
            );
            assert!(metrics.contains(metric.help), "{}", metric.name);
        }
    }
    for logger in Registries::BUILT_IN.loggers {
        assert!(list.contains(logger.summary), "{}", logger.name);
    }
}

/// Scenario: a good configuration, one output of which could not be opened.
/// Guarantees: `check` opens nothing: it names what would run, and makes no file.
#[test]
fn check_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.toml");
    let path = folder.path().display();
    let text = format!(
        "[probe]\nstate_dir = '{path}/state'\n[metrics.memory]\n[metadata.host]\n\
         [output.a]\nformatter = 'json'\nlogger = 'file'\nfile.path = '{path}/envelopes'\n\
         [output.b]\nformatter = 'json'\nlogger = 'file'\nfile.path = '/no/such/folder/envelopes'\n"
    );
    fs::write(&file, text).unwrap();
    let said = printed(&["check", &file.display().to_string()]);
    for word in [": ok", "host", "memory", "a, b"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "something was made"
    );
}

/// Scenario: whoever reads the output goes away after one byte.
/// Guarantees: the probe ends quietly.
#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = Command::new(probe::binary())
        .arg("metrics")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""));
}

/// Scenario: standard output goes to a full disk, or to a reader that goes away after the first line, for every command that
/// prints without looking at the machine.
/// Guarantees: the full disk is told and the exit code is 1; the reader has its line, and the end is quiet, with 0.
#[test]
fn what_cannot_be_printed_is_told() {
    let deployed = workspace::root().join("deploy/probe.toml");
    let deployed = deployed.display().to_string();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["check", "--help"],
        &["help"],
        &["list"],
        &["metrics"],
        &["metrics", "--format", "json"],
        &["schema"],
        &["config", "default"],
        &["config", "show", &deployed],
        &["check", &deployed],
        &["completions", "bash"],
        &["man"],
    ] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(probe::binary())
            .args(arguments)
            .stdout(full)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        let expected = "dataflux-probe: writing to standard output: No space left on device";
        assert!(said.starts_with(expected), "{arguments:?}: {said}");

        let mut child = Command::new(probe::binary())
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::with_capacity(16, child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        drop(stdout);
        assert!(line.ends_with('\n'), "{arguments:?}: {line}");
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            (output.status.code(), &*said),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

/// Scenario: no arguments, an unknown command, `--help`.
/// Guarantees: a wrong command line is 2, help is 0 and has examples.
#[test]
fn a_wrong_command_line_is_2() {
    assert_eq!(probe::run(&[]).status.code(), Some(2));
    assert_eq!(probe::run(&["frobnicate"]).status.code(), Some(2));
    assert!(printed(&["--help"]).contains("Examples:"));
}

/// Scenario: `doctor` with a configuration, the outputs of which could write, could make their folder, have a broker that is
/// away, and have authorities that are not there.
/// Guarantees: each is told with its place, and nothing is made or sent.
#[test]
fn doctor_looks_at_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = away.local_addr().unwrap();
    drop(away);
    let path = folder.path().display();
    let text = format!(
        "[metrics.memory]\n[output.good]\nformatter = 'json'\nlogger = 'file'\nfile.path = '{path}/envelopes'\n\
         [output.new]\nformatter = 'json'\nlogger = 'file'\nfile.path = '{path}/gone/envelopes'\n\
         [output.away]\nformatter = 'json'\nlogger = 'kafka'\nkafka = {{ brokers = ['{broker}'], topic = 't' }}\n\
         [output.unknown]\nformatter = 'json'\nlogger = 'kafka'\n\
         kafka = {{ brokers = ['{broker}'], topic = 't', security = 'ssl', tls.ca_file = '{path}/authorities' }}\n"
    );
    let file = folder.path().join("probe.toml");
    fs::write(&file, text).unwrap();
    let said = printed(&["doctor", "--config", &file.display().to_string()]);
    for expected in [
        format!("ok      {path}: can be written to"),
        format!("ok      {path}/gone: is not there; {path} can be written to"),
        format!("failed  {path}/authorities: cannot be read: No such file"),
        format!("failed  {broker}: takes no connection"),
    ] {
        assert!(said.contains(&expected), "{expected} is not in {said}");
    }
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "it made something"
    );
}

/// Scenario: `doctor` where a host's file is a pipe that nobody writes to, its root is missing, and a port is taken.
/// Guarantees: it comes to its end, and names all three.
#[test]
fn doctor_ends_where_a_file_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().display();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let proc = folder.path().join("proc");
    fs::create_dir(&proc).unwrap();
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, proc.join("loadavg"), kind, mode, 0).unwrap();
    let text = format!(
        "[probe]\nproc = '{host}/proc'\nroot = '{host}/gone'\n[health]\nlisten = '{port}'\n[metrics.load]\n[metadata.os]\n\
         [output.main]\nformatter = 'json'\nlogger = 'stdout'\n"
    );
    let file = folder.path().join("probe.toml");
    fs::write(&file, text).unwrap();
    let said = printed(&["doctor", "--config", &file.display().to_string()]);
    for expected in [
        "  load                  failed (no answer within 10 s".to_owned(),
        format!("{host}/gone is no folder\n      concerns os"),
        format!("  health\n    failed  {port}: is in use"),
    ] {
        assert!(said.contains(&expected), "{expected} is not in {said}");
    }
}

/// Scenario: `doctor` on a machine without sensors, whose `/proc` has no pressure and nothing of its load.
/// Guarantees: it has read each reader, and says what is not there, what stands in the way, and what failed, with the file.
#[test]
fn doctor_reads_what_it_says_of_readers() {
    let folder = tempfile::tempdir().unwrap();
    let host = folder.path().display();
    let file = folder.path().join("probe.toml");
    let text = format!(
        "[probe]\nproc = '{host}/proc'\nsys = '{host}/sys'\n[metrics.power]\n[metrics.load]\n[metadata.labels]\n\
         [output.main]\nformatter = 'json'\nlogger = 'stdout'\n"
    );
    fs::write(&file, text).unwrap();
    fs::create_dir_all(folder.path().join("sys/class")).unwrap();
    let said = printed(&["doctor", "--config", &file.display().to_string()]);
    for expected in [
        "  power                 unsupported (no zone in /sys/class/powercap".to_owned(),
        "-> see the obstacles".to_owned(),
        format!("  load                  failed (cannot read {host}/proc/loadavg"),
        "metadata\n  labels                ok\n".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected} is not in {said}");
    }
}

/// Scenario: `doctor` with whatever privileges the test has.
/// Guarantees: it names this kernel and every reader.
#[test]
fn doctor_names_every_reader() {
    let said = printed(&["doctor"]);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(said.contains(release.trim()), "{said}");
    for plugin in Registries::BUILT_IN.metrics {
        assert!(
            said.contains(&format!("\n  {} ", plugin.name)),
            "{} is not in {said}",
            plugin.name
        );
    }
}
