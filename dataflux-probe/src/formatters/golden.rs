//! Byte for byte: envelopes built by hand against tests/golden, and what is in those files against docs/envelope.md.
//!
//! `BLESS=1` writes the files anew; look at the difference before committing it.

mod cases;

use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::Value as Json;

use super::REGISTRY;
use crate::{model::Numbered, plugin::testing};
use cases::TRANS_TIME;
pub(super) use cases::{all, first};

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden");
const CONTRACT: &str = include_str!("../../../docs/envelope.md");
const DOCUMENT: &str = include_str!("../../../docs/formatters.md");

/// The ending of a golden file's name, the formatter it is of, and that one's configuration.
const FORMATS: [(&str, &str, &str); 9] = [
    ("csv", "csv", ""),
    ("json", "json", ""),
    ("lp", "influx", ""),
    ("msgpack", "msgpack", ""),
    (
        "openmetrics",
        "prometheus",
        "syntax = \"openmetrics\"\nbuckets = 2",
    ),
    ("prom", "prometheus", ""),
    ("rows.json", "json", "shape = \"rows\""),
    ("template.txt", "template", TEMPLATE),
    ("txt", "text", ""),
];

/// What only one case is written with.
const VARIANTS: [(&str, &str, &str); 4] = [
    ("bars.txt", "text", "histograms = \"bars\""),
    ("off.txt", "text", "histograms = \"off\""),
    (
        "signed.lp",
        "influx",
        "integers = \"signed\"\nbuckets = true",
    ),
    ("spreadsheet.csv", "csv", "spreadsheet = true"),
];

const TEMPLATE: &str = r#"
line = "{stop_time|unix_ms} {host.name|word} {metric}{{{entity},{labels}}} {value|base} {p99.9|seconds|round:3} {rate|human}"
missing = "-"
header = "time host series value p99.9 rate""#;

fn format(name: &str, config: &str, numbered: &Numbered) -> Vec<u8> {
    let plugin = REGISTRY.iter().find(|plugin| plugin.name == name).unwrap();
    let context = testing::context(Path::new("/nowhere"));
    let formatter = plugin.build_from(config, &context).unwrap();
    let mut bytes = formatter.file_header().to_vec();
    formatter.format(numbered, TRANS_TIME, &mut bytes).unwrap();
    bytes
}

fn json() -> [Json; 4] {
    all().map(|(_, numbered)| serde_json::from_slice(&format("json", "", &numbered)).unwrap())
}

#[test]
fn formatters_write_what_the_golden_files_hold() {
    let mut wrong = Vec::new();
    let formats = FORMATS.iter().map(|format| (format, None));
    let variants = VARIANTS.iter().map(|format| (format, Some("first")));
    for ((ending, name, config), only) in formats.chain(variants) {
        for (case, numbered) in all() {
            if only.is_some_and(|only| only != case) {
                continue;
            }
            let path = format!("{FILES}/{case}.{ending}");
            let bytes = format(name, config, &numbered);
            if env::var_os("BLESS").is_some() {
                fs::write(path, bytes).unwrap();
            } else if fs::read(&path).unwrap_or_default() != bytes {
                let now = String::from_utf8_lossy(&bytes);
                wrong.push(format!("{path} should be, with BLESS=1:\n{now}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn json_is_one_line_per_record() {
    for (case, numbered) in all() {
        let bytes = format("json", "", &numbered);
        let newline = bytes.iter().position(|&byte| byte == b'\n');
        assert_eq!(newline, Some(bytes.len() - 1), "{case}");
    }
}

#[test]
fn the_contract_names_every_field_and_every_field_is_in_a_golden_file() {
    let mut used = BTreeSet::new();
    json().iter().for_each(|json| collect_keys(json, &mut used));
    let (fields, _) = CONTRACT
        .split_once("## The fields")
        .and_then(|(_, rest)| rest.split_once("\n## "))
        .unwrap();
    let quoted: BTreeSet<_> = fields
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(words)
        .collect();
    let unnamed: Vec<_> = used
        .iter()
        .filter(|key| !quoted.contains(&***key))
        .collect();
    assert!(unnamed.is_empty(), "not in docs/envelope.md: {unnamed:?}");

    let in_tables: BTreeSet<_> = fields
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" |").next())
        .flat_map(words)
        .collect();
    assert!(
        in_tables.len() > 30,
        "the tables of docs/envelope.md look different: {in_tables:?}"
    );
    let missing: Vec<_> = in_tables
        .iter()
        .filter(|&&field| !used.contains(field))
        .collect();
    assert!(missing.is_empty(), "in no golden file: {missing:?}");
}

/// The keys that the format itself gives; those of labels and within the header's sections are others'.
fn collect_keys(json: &Json, keys: &mut BTreeSet<String>) {
    match json {
        Json::Object(map) => {
            for (key, value) in map {
                keys.insert(key.clone());
                if key != "header" && key != "labels" {
                    collect_keys(value, keys);
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| !word.is_empty())
}

#[test]
fn the_example_of_the_contract_is_what_the_formatter_writes() {
    let (_, rest) = CONTRACT.split_once("```json\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let example: Json = serde_json::from_str(example).unwrap();
    let [_, written, ..] = json();
    assert_eq!(example, written);
}

#[test]
fn the_examples_of_every_format_are_what_is_written() {
    let example = |name, config| {
        let [_, (_, numbered), ..] = all();
        format(name, config, &numbered)
    };
    let template = DOCUMENT
        .lines()
        .find(|line| line.starts_with("    line = "));
    let own = ("", "template", template.unwrap());
    let mut written = BTreeSet::new();
    for (_, name, config) in FORMATS.into_iter().chain([own]) {
        let bytes = example(name, config);
        let text = String::from_utf8_lossy(&bytes);
        written.extend(text.lines().map(str::to_owned));
    }
    let packed = example("msgpack", "");
    let hex: String = packed.iter().map(|byte| format!("{byte:02x} ")).collect();
    let blocks: Vec<_> = DOCUMENT.split("```").skip(1).step_by(2).collect();
    assert_eq!(blocks.len(), 6, "one for each format");
    for block in blocks {
        for line in block.lines().skip(1) {
            let is_written = written.contains(line) || hex.starts_with(line);
            assert!(is_written, "no formatter writes {line}");
        }
    }
}
