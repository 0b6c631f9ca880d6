//! SIGHUP where the configuration is more than one file: variables, included files, arguments; and before it was read at all.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use dataflux_tests::{
    probe::{Probe, until},
    sequence::{envelopes, one_stream},
};
use rustix::process::Signal;

const CONFIG: &str = "
[probe]
interval = '100ms'
[metadata.agent]
[metrics.memory]
[output.main]
formatter = 'json'
logger = 'file'
file.path = 'DIR/main'
";

/// Waits for more envelopes of the output.
fn more(probe: &Probe) {
    let before = envelopes(&probe.path("main")).len();
    until("more envelopes", || {
        (envelopes(&probe.path("main")).len() > before + 1).then_some(())
    });
}

/// Puts a pipe without a writer in the place of a file.
fn replace_by_pipe(path: &Path) {
    fs::remove_file(path).expect("it is there");
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()));
}

/// Waits until the probe has said something.
fn told(probe: &Probe, what: &str) {
    until(what, || probe.diagnostics().contains(what).then_some(()));
}

/// Ends it; the output went on in one stream without a hole.
fn stop(mut probe: Probe) {
    more(&probe);
    probe.stop();
    let stream = one_stream(&envelopes(&probe.path("main")));
    assert!(stream.lost.is_empty(), "{stream:?}");
}

/// Scenario: a probe that was started with a variable; reloads bring a label that has it, one that has a variable that is not
/// set, and one with a default.
/// Guarantees: variables are those of the start; one that is not set refuses the file, with its line, and nothing changes.
#[test]
fn a_reload_has_the_variables_of_the_start() {
    let mut probe = Probe::prepare(CONFIG);
    probe.start_under(&["env", "-u", "G_UNSET", "SITE=berlin"]);
    probe.restart();
    more(&probe);
    let labelled = format!("{CONFIG}[metadata.labels]\nsite = '${{SITE}}'\n");
    let label = |name: &str, value: &str| {
        until("the label", || {
            let last = envelopes(&probe.path("main")).pop()?;
            (last["header"]["labels"][name] == value).then_some(())
        });
    };
    let told = probe.reload(&labelled);
    assert!(told.ends_with("new metadata.labels"), "{told}");
    label("site", "berlin");
    let told = probe.reload(&format!("{labelled}rack = '${{G_UNSET}}'\n"));
    let line = labelled.lines().count() + 1;
    assert!(told.contains("not reloaded"), "{told}");
    let expected =
        format!("probe.toml:{line}: metadata.labels.rack: the variable G_UNSET is not set");
    assert!(told.contains(&expected), "{told}");
    more(&probe);
    label("site", "berlin");
    let told = probe.reload(&format!("{labelled}rack = '${{G_UNSET:-b12}}'\n"));
    assert!(told.ends_with("changed metadata.labels"), "{told}");
    label("rack", "b12");
    stop(probe);
}

/// Scenario: a folder of snippets, in which one is changed, one is added, one is wrong, one is a pipe, and one goes.
/// Guarantees: a reload reads what is there then; what is wrong is told with the snippet, and refused as a whole.
#[test]
fn a_reload_reads_included_files_again() {
    let config = format!(
        "include = 'conf.d'\n{}",
        CONFIG.replace("[metrics.memory]\n", "")
    );
    let mut probe = Probe::prepare(&config);
    fs::create_dir(probe.path("conf.d")).expect("the folder is writable");
    let write = |probe: &Probe, name: &str, text: &str| {
        fs::write(probe.path("conf.d").join(name), text).expect("the folder is writable");
    };
    write(&probe, "10.toml", "[metrics.memory]\n");
    probe.restart();
    more(&probe);
    write(
        &probe,
        "10.toml",
        "[metrics.memory]\nlabels = { a = 'b' }\n",
    );
    let told = probe.reload(&config);
    assert!(told.ends_with("changed metrics.memory"), "{told}");
    write(&probe, "20.toml", "[metrics.cpu]\n");
    let told = probe.reload(&config);
    assert!(told.ends_with("new metrics.cpu"), "{told}");
    write(&probe, "20.toml", "\n[metrics.cpo]\n");
    let told = probe.reload(&config);
    assert!(
        told.contains("not reloaded") && told.contains("20.toml:2: metrics.cpo: "),
        "{told}"
    );
    write(&probe, "20.toml", "[metrics.cpu]\n");
    let pipe = probe.path("conf.d/30.toml");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.is_ok_and(|status| status.success()));
    let told = probe.reload(&config);
    assert!(
        told.contains("not reloaded") && told.contains("30.toml is not a file"),
        "{told}"
    );
    fs::remove_file(pipe).expect("it is there");
    let told = probe.reload(&config);
    assert!(
        told.ends_with("no reader and no output has changed"),
        "{told}"
    );
    fs::remove_file(probe.path("conf.d/20.toml")).expect("it is there");
    let told = probe.reload(&config);
    assert!(told.ends_with("gone metrics.cpu"), "{told}");
    stop(probe);
}

/// Scenario: a probe with arguments that set an interval and a label; reloads in whose file these have other values.
/// Guarantees: what was set at the start goes before the file at every reload, and the rest of the file counts.
#[test]
fn what_an_argument_sets_stays_over_a_reload() {
    let mut probe = Probe::prepare(CONFIG);
    probe.add_arguments(&["--set", "metrics.memory.interval=200ms"]);
    probe.add_arguments(&["--set", "metrics.memory.labels.a=argument"]);
    probe.restart();
    more(&probe);
    let other = CONFIG.replace(
        "[metrics.memory]",
        "[metrics.memory]\ninterval = '500ms'\nlabels.a = 'file'",
    );
    let told = probe.reload(&other);
    assert!(
        told.ends_with("no reader and no output has changed"),
        "{told}"
    );
    let told = probe.reload(&other.replace("labels.a", "labels.b"));
    assert!(told.ends_with("changed metrics.memory"), "{told}");
    until("both labels", || {
        let last = envelopes(&probe.path("main")).pop()?;
        let labels = &last["sources"][0]["labels"];
        (labels["a"] == "argument" && labels["b"] == "file").then_some(())
    });
    let told = probe.reload(&CONFIG.replace("[metrics.memory]\n", "metrics = 1\n"));
    assert!(told.contains("not reloaded"), "{told}");
    stop(probe);
}

/// Scenario: a pipe without a writer is put in the place of the configuration; later the file is back.
/// Guarantees: a reload does not wait for a writer but tells and refuses it, and the next one reads the file.
#[test]
fn a_pipe_in_the_place_of_the_file_does_not_end_reloads() {
    let mut probe = Probe::prepare(CONFIG);
    probe.restart();
    more(&probe);
    let path = probe.path("probe.toml");
    replace_by_pipe(&path);
    probe.signal(Signal::HUP);
    told(
        &probe,
        "not reloaded, the configuration before stays in force",
    );
    told(
        &probe,
        "probe.toml: is not a file; only a start reads a pipe or a device",
    );
    more(&probe);
    fs::remove_file(&path).expect("it is there");
    let told = probe.reload(&format!("{CONFIG}[metrics.cpu]\n"));
    assert!(told.ends_with("new metrics.cpu"), "{told}");
    stop(probe);
}

/// Scenario: the configuration is a pipe, so that the test decides when it is read; SIGHUP comes before that.
/// Guarantees: the probe starts all the same, and wants to read the configuration once more as soon as it runs.
#[test]
fn a_reload_before_the_configuration_was_read_is_done_after_the_start() {
    let mut probe = Probe::prepare(CONFIG);
    let path = probe.path("probe.toml");
    let text = fs::read_to_string(&path).expect("it was written");
    replace_by_pipe(&path);
    probe.restart();
    // Opens only once somebody reads.
    let writer = || {
        until("a reader of the configuration", || {
            let mut options = File::options();
            options.write(true).custom_flags(libc::O_NONBLOCK);
            options.open(&path).ok()
        })
    };
    let mut first = writer();
    probe.signal(Signal::HUP);
    first.write_all(text.as_bytes()).expect("the probe reads");
    drop(first);
    more(&probe);
    // It was done at once, of a pipe that has nothing more.
    told(
        &probe,
        "probe.toml: is not a file; only a start reads a pipe or a device",
    );
    fs::remove_file(&path).expect("it is there");
    let told = probe.reload(CONFIG);
    let expected = "no reader and no output has changed";
    assert!(told.ends_with(expected), "{told}");
    stop(probe);
}
