//! Programs that people trust, and the probe's values of the same moment.

use std::{env, fs, process::Command};

use serde_json::Value;

use crate::probe;

/// What a program prints. `None` if it is not there, unless `./x test` has installed it.
///
/// # Panics
/// It fails, or is missing although it was installed.
#[must_use]
#[expect(clippy::print_stdout, reason = "the test says what it skipped")]
pub fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output();
    let Ok(output) = output else {
        let required = env::var_os("DATAFLUX_TRUSTED_TOOLS").is_some();
        assert!(!required, "{program} was installed and is not there");
        println!("skipped: no {program} here");
        return None;
    };
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`printed`], of one that prints JSON.
///
/// # Panics
/// It prints something else.
#[must_use]
pub fn printed_json(program: &str, arguments: &[&str]) -> Option<Value> {
    let text = printed(program, arguments)?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{program}: {error}: {text}")))
}

/// One envelope of this machine, by a configuration's readers.
///
/// # Panics
/// The probe fails.
#[must_use]
pub fn measured(readers: &str) -> Value {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("probe.toml");
    let text = format!("{readers}\n[output.a]\nformatter = 'json'\nlogger = 'stdout'\n");
    fs::write(&file, text).expect("the folder is writable");
    let file = file.display().to_string();
    let arguments = [
        "once", "--window", "100ms", "--format", "json", "--config", &file,
    ];
    let output = probe::run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// The only series of an envelope with this metric and these labels.
///
/// # Panics
/// There are two.
#[must_use]
pub fn series<'a>(envelope: &'a Value, metric: &str, labels: &[(&str, &str)]) -> Option<&'a Value> {
    let sources = envelope["sources"].as_array()?.iter();
    let metrics = sources.filter_map(|source| source["metrics"].as_array());
    let named = metrics
        .flatten()
        .filter(|candidate| candidate["name"] == metric);
    let all = named.filter_map(|found| found["series"].as_array());
    let mut found = all.flatten().filter(|series| {
        labels
            .iter()
            .all(|(label, value)| series["labels"][label] == *value)
    });
    let first = found.next();
    assert!(found.next().is_none(), "{metric} {labels:?} is there twice");
    first
}
