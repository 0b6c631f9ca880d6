//! What the real binary writes in every format, read by parsers that are not ours.

use std::{collections::BTreeSet, fs};

use dataflux_probe::config::Registries;
use dataflux_tests::probe::{self, Probe, until};
use serde_json::Value;

fn printed(arguments: &[&str]) -> String {
    let output = probe::run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("what it prints is UTF-8")
}

/// The schema that the binary prints.
fn schema(arguments: &[&str]) -> jsonschema::Validator {
    let printed = printed(&[&["schema"], arguments].concat());
    let schema = serde_json::from_str(&printed).expect("a schema is JSON");
    jsonschema::draft202012::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("it is a schema")
}

fn assert_valid(schema: &jsonschema::Validator, json: &Value) {
    let errors: Vec<_> = schema
        .iter_errors(json)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

const EVERYTHING: &str = "
[probe]
interval = '100ms'
[metadata.host]
[metadata.labels]
rack = 'b12'
[metadata.processor]
[metrics.cpu]
[metrics.disk]
[metrics.interface]
[metrics.memory]
[metrics.probe]
[output.envelopes]
formatter = 'json'
logger = 'file'
file.path = 'DIR/envelopes'
[output.rows]
formatter = 'json'
json.shape = 'rows'
logger = 'file'
file.path = 'DIR/rows'
[output.csv]
formatter = 'csv'
logger = 'file'
file.path = 'DIR/csv'
[output.influx]
formatter = 'influx'
logger = 'file'
file.path = 'DIR/influx'
[output.msgpack]
formatter = 'msgpack'
logger = 'file'
file.path = 'DIR/msgpack'
[output.template]
formatter = 'template'
template.line = '{host.name} {metric} {value|base} {header.labels.rack}'
logger = 'file'
file.path = 'DIR/template'
";

/// Scenario: one probe with an output in each format that files can have, for some windows.
/// Guarantees: envelopes and rows are as the printed schemas say, without a field more; each format has as many series of
/// the same windows as the envelopes.
#[test]
fn real_output_is_what_the_schemas_say() {
    let mut probe = Probe::start(EVERYTHING);
    let read = |probe: &Probe, name: &str| fs::read_to_string(probe.path(name)).unwrap_or_default();
    until("some windows in each format", || {
        let windows = read(&probe, "rows").matches("\"row\":\"window\"").count();
        (windows >= 5).then_some(())
    });
    probe.stop();
    let json = |name: &str| -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).expect("a line is JSON");
        read(&probe, name).lines().map(parse).collect()
    };
    let (envelopes, rows) = (json("envelopes"), json("rows"));
    let valid = schema(&["--strict"]);
    envelopes.iter().for_each(|json| assert_valid(&valid, json));
    let valid = schema(&["--shape", "rows", "--strict"]);
    rows.iter().for_each(|json| assert_valid(&valid, json));

    let of_envelopes: usize = envelopes
        .iter()
        .flat_map(|envelope| envelope["sources"].as_array().unwrap())
        .flat_map(|source| source["metrics"].as_array().unwrap())
        .map(|metric| metric["series"].as_array().unwrap().len())
        .sum();
    let series: Vec<_> = rows.iter().filter(|row| row["row"] == "series").collect();
    let lines = |name: &str| read(&probe, name).lines().count();
    let of_influx = read(&probe, "influx")
        .lines()
        .filter(|line| !line.starts_with("dataflux_"))
        .count();
    assert_eq!(series.len(), of_envelopes);
    assert_eq!(lines("csv") - 1, of_envelopes);
    assert_eq!(lines("template"), of_envelopes);
    assert_eq!(of_influx, of_envelopes);
    assert!(series.iter().all(|row| row["label_rack"] == "b12"));
    let metrics: BTreeSet<_> = series
        .iter()
        .filter_map(|row| row["metric"].as_str())
        .collect();
    assert!(metrics.len() > 20, "{metrics:?}");
}

/// Scenario: one window of all readers there are, with whatever privileges the test has.
/// Guarantees: every source is there, and each metric as it is defined.
#[test]
fn every_reader_is_as_its_schema_says() {
    let json = printed(&["once", "--window", "300ms", "--format", "json"]);
    let envelope: Value = serde_json::from_str(&json).expect("it is JSON");
    assert_valid(&schema(&["--strict"]), &envelope);
    let sources = envelope["sources"].as_array().unwrap();
    let sources: BTreeSet<_> = sources
        .iter()
        .filter_map(|source| source["reader"].as_str())
        .collect();
    let readers = Registries::BUILT_IN.metrics.iter();
    let readers: BTreeSet<_> = readers.map(|plugin| plugin.name).collect();
    assert_eq!(sources, readers);
}

/// Scenario: `once` in all formats that need no options.
/// Guarantees: each prints something; CSV has its header row.
#[test]
fn once_prints_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("probe.toml");
    let text = "[metrics.memory]\n[output.a]\nformatter = 'json'\nlogger = 'stdout'\n";
    fs::write(&config, text).unwrap();
    let config = config.display().to_string();
    for (format, begin) in [
        ("csv", "stream,first,last,"),
        ("influx", "dataflux_envelope,"),
        ("json", "{\"schema\":"),
        ("text", "20"),
    ] {
        let arguments = [
            "once", "--window", "100ms", "--format", format, "--config", &config,
        ];
        let text = printed(&arguments);
        assert!(text.starts_with(begin), "{format}: {text}");
    }
    let arguments = [
        "once", "--window", "100ms", "--format", "msgpack", "--config", &config,
    ];
    let bytes = probe::run(&arguments).stdout;
    // A map of ten, the first key of which is a text of six bytes.
    assert!(bytes.starts_with(b"\x8a\xa6schema"), "{bytes:?}");
}

/// Scenario: a template with a slip.
/// Guarantees: `check` names its place.
#[test]
fn check_finds_slips() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("probe.toml");
    let output =
        "formatter = 'template'\nlogger = 'stdout'\ntemplate.line = '{host.name} {metrik}'";
    fs::write(&file, format!("[metrics.memory]\n[output.a]\n{output}\n")).unwrap();
    let output = probe::run(&["check", &file.display().to_string()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected = "probe.toml:5: output.a.template.line: at character 14: unknown placeholder `metrik`; known: ";
    assert!(said.contains(expected), "{said}");
}
