//! Variables, arguments and whatever else a text can be.

use std::{ffi::OsString, path::Path as FilePath};

use proptest::prelude::*;

use super::*;
use crate::config::variables::Environment;

fn environment(name: &str) -> Option<OsString> {
    let value = match name {
        "OFF" => "false",
        "NUMBER" => "12",
        "PATH_OF" => "/tmp/\"]\n[metrics.cpu]\n#",
        "DB_PASSWORD" => "hunter2 \"quoted\"",
        "SHORT_TOKEN" => "7",
        "TWO_TOKEN" => "s3cr3t two QUX",
        "CURLY_TOKEN" => "s3cr3{QUX}",
        _ => return None,
    };
    Some(value.into())
}

fn parse_in(text: &str, arguments: &[&str], environment: Environment) -> Result<Config, String> {
    let settings: Vec<Setting> = arguments.iter().map(|text| text.parse().unwrap()).collect();
    let parsed = Config::parse_in(
        FilePath::new("p.toml"),
        text.to_owned(),
        &settings,
        environment,
        PLUGINS,
    );
    parsed.map_err(|error| error.to_string())
}

fn with(text: &str, arguments: &[&str]) -> Result<Config, String> {
    let reader = if text.contains("metrics") { "" } else { READER };
    parse_in(&format!("{text}{reader}{OUTPUT}"), arguments, environment)
}

#[test]
fn a_variable_is_a_text_a_number_or_a_flag_as_its_key_asks() {
    let text = "[metrics.cpu]\nenabled = '${OFF}'\n[metrics.disk]\ninterval = '${NUMBER}s'\n\
                labels = { rack = '${NUMBER}', room = '${ROOM:-${}' }\nmax_entities = '${NUMBER}'";
    let error = with(text, &[]).err().unwrap();
    assert!(
        error.contains("metrics.disk.labels.room: the default of ROOM must not"),
        "{error}"
    );
    let text = text.replace(":-${}", ":-}");
    let error = with(&text, &[]).err().unwrap();
    assert_eq!(
        error,
        "p.toml:6: metrics.disk.max_entities: nothing to choose from: its series belong to no device or interface"
    );
    let text = text.replace("max_entities = '${NUMBER}'", "path = '${PATH_OF}'");
    let config = with(&text, &[]).unwrap_or_else(|error| panic!("{error}"));
    let [reader] = &*config.readers else {
        panic!("cpu is switched off")
    };
    assert_eq!(reader.interval, Duration::from_secs(12));
    assert_eq!(reader.labels["rack"], "12");
    assert_eq!(reader.labels["room"], "");
}

#[test]
fn what_is_wrong_with_a_value_of_a_variable_or_an_argument_has_its_place() {
    for (text, arguments, expected) in [
        (
            "[metrics.disk]\npath = '${NONE}'",
            &[][..],
            "p.toml:2: metrics.disk.path: the variable NONE is not set; ${NONE:-...} has a default",
        ),
        (
            "[metrics.disk]\n\nenabled = '${NUMBER}'",
            &[],
            "p.toml:3: metrics.disk.enabled: invalid type: integer `12`, expected a boolean",
        ),
        (
            "[probe]\ninterval = '${NUMBER}'",
            &[],
            "p.toml:2: probe.interval: `12` is not a time",
        ),
        (
            "include = 3",
            &[],
            "p.toml:1: include: must be the path of a folder, in quotes",
        ),
        (
            "include = 'no/such/folder'",
            &[],
            "p.toml:1: include: no/such/folder: No such file",
        ),
        ("", &["nonsense"], "--set nonsense: is no KEY=VALUE"),
        (
            "",
            &["a..b=1"],
            "--set a..b: is no key like metrics.cpu.interval",
        ),
        (
            "",
            &["include=/etc"],
            "--set include: stands in the file alone",
        ),
        (
            "",
            &["probe.interval=soon"],
            "--set probe.interval: `soon` is not a time",
        ),
        (
            "",
            &["probe.intervall=1s"],
            "--set probe.intervall: unknown key; known: interval",
        ),
        (
            "",
            &["probe={ interval = '1ms' }"],
            "--set probe: probe.interval: 1ms is not between",
        ),
        (
            "",
            &["metrics.cpu.interval.x=1"],
            "--set metrics.cpu.interval.x: metrics.cpu.interval: not a time",
        ),
        (
            "[probe]\ninterval = '1s'",
            &["probe.interval.x=1"],
            "--set probe.interval.x: probe.interval is no section",
        ),
        ("", &["a=[1"], "--set a: the value is not TOML"),
    ] {
        let error = with(text, arguments)
            .err()
            .unwrap_or_else(|| panic!("nothing is wrong with {text} {arguments:?}"));
        assert!(
            error.starts_with(expected),
            "{text} {arguments:?}\n gives {error}\n and not {expected}"
        );
    }
}

#[test]
fn an_argument_counts_more_than_the_file_and_a_later_one_more() {
    let text =
        "[probe]\ninterval = '5s'\n[metrics.cpu]\nenabled = false\n[metrics.disk]\npath = 'a'";
    let config = with(
        text,
        &[
            "probe.interval=3s",
            "probe.interval=2s",
            "metrics.cpu.enabled=true",
            "metrics.cpu.labels={team = \"x\"}",
            "metrics.disk.labels.rack=12",
            "metadata.host.enabled=true",
            "output.a.queue_bytes=\"1MiB\"",
            "output.a.filters=[]",
        ],
    );
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.interval, Duration::from_secs(2));
    assert_eq!(config.readers.len(), 2);
    assert_eq!(config.readers[0].labels["team"], "x");
    assert_eq!(config.readers[1].labels["rack"], "12");
    assert_eq!(config.metadata.len(), 1);
    assert_eq!(config.outputs[0].queue_bytes, 1 << 20);
}

#[test]
fn no_secret_is_told_by_an_error() {
    for text in [
        "[metrics.disk]\npath = ['https://u:hun/ter2@h', 'https://u:abc@h']\nlabels.a = ['x://:hunter2?a/b@h']",
        "[metrics.disk]\npath = ['${DB_PASSWORD}']",
        "[metrics.disk]\npath = 'bad'\ninterval = 'https://u:hunter2 \"quoted\"@h'",
        "[metrics.disk]\ninterval = '${DB_PASSWORD}'",
        "[probe]\ninterval = '${DB_PASSWORD}s'",
        "[metrics.disk]\npassword = 'hunter2 \"quoted\"'\ninterval = 'hunter2 \"quoted\"'",
        "[metrics.disk]\nlabels.password = 1234567\ninterval = 1234567",
        "[metrics.disk]\nlabels.token = ['hunter2']",
        "[output.b]\nformatter = '${DB_PASSWORD}'\nlogger = '${DB_PASSWORD}'",
    ] {
        let error = with(text, &["metrics.disk.x_token=hunter2-also"])
            .err()
            .unwrap();
        for secret in ["hunter2", "hun/ter2", "abc@", "1234567"] {
            assert!(!error.contains(secret), "{text}\ngives {error}");
        }
    }
}

#[test]
fn no_part_of_a_secret_is_told_by_an_error() {
    let output = |keys: &str| {
        format!("[output.b]\nformatter = 'json'\nlogger = 'file'\nfile.path = 'b'\n{keys}")
    };
    for (text, expected) in [
        (
            output("filters = ['${TWO_TOKEN}']"),
            "p.toml:5: output.b.filters: is wrong; how is not told, as the secret ${TWO_TOKEN} is in it",
        ),
        (
            "[metrics.disk]\nlabels = { a = 1 }\ninterval = '${CURLY_TOKEN}'".to_owned(),
            "p.toml:3: metrics.disk.interval: is wrong; how is not told, as the secret ${CURLY_TOKEN} is in it",
        ),
        (
            output("labels = { token = 'hunter2{QUX' }\nfilters = ['hunter2']"),
            "p.toml:6: output.b.filters: ",
        ),
        (
            "[metrics.disk]\nunheard = '${TWO_TOKEN}'".to_owned(),
            "p.toml:2: metrics.disk.unheard: unknown key; known: ",
        ),
    ] {
        let error = with(&text, &[]).err().unwrap();
        assert!(error.contains(expected), "{text}\ngives {error}");
        for part in ["s3cr", "two", "QUX", "hunter2"] {
            assert!(!error.contains(part), "{text}\ngives {error}");
        }
    }
}

#[test]
fn nothing_is_left_of_a_secret_that_begins_with_another() {
    let text = "[metrics.disk]\npassword = 'hunter2'\ntoken = 'hunter2-and-more'\npath = 'x hunter2-and-more y'";
    let file = File::whole(FilePath::new("p.toml"), text.to_owned(), &[], environment);
    let section = file.parse().unwrap();
    let shown = Effective::new(&section, &[], "", &[]).shown().to_owned();
    assert!(shown.contains("x [secret] y"), "{shown}");
}

#[test]
fn no_secret_is_told_by_debug() {
    let text = "[metrics.disk]\npassword = 'hunter2'\npath = 'https://u:hunter2@h'";
    let setting: Setting = "output.a.token=hunter2".parse().unwrap();
    let file = File::whole(
        FilePath::new("p.toml"),
        text.to_owned(),
        std::slice::from_ref(&setting),
        environment,
    );
    let section = file.parse().unwrap();
    let in_force = Effective::new(&section, &[], "", &[]);
    let told = format!("{file:?} {file:#?} {section:?} {setting:?} {in_force:?}");
    assert!(!told.contains("hunter2"), "{told}");
    assert!(
        !in_force.shown().contains("hunter2"),
        "{}",
        in_force.shown()
    );
}

/// Pieces of which configurations are made, and what could be in their way.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[",
        "]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\"",
        "'",
        "'''",
        "\\",
        "#",
        " ",
        "$",
        "${",
        ":-",
        "${OFF}",
        "${NUMBER}",
        "${DB_PASSWORD}",
        "$$",
        "include",
        "probe",
        "metrics",
        "cpu",
        "disk",
        "output",
        "a",
        "formatter",
        "logger",
        "json",
        "file",
        "interval",
        "labels",
        "enabled",
        "max_entities",
        "path",
        "password",
        "'1s'",
        "true",
        "12",
        "0x1f",
        "1e3",
        "1979-05-27",
        "[metrics.cpu]\n",
        "[output.a]\nformatter='json'\nlogger='file'\n",
        "\u{e4}",
        "\u{0}",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_and_no_argument_is_too_strange(
        text in prop_oneof![any::<String>(), pieces()],
        arguments in prop::collection::vec(prop_oneof![any::<String>(), pieces()], 0..3),
    ) {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        drop(parse_in(&text, &arguments, environment));
        drop(with(&text, &arguments));
    }
}

#[test]
fn depth_is_bounded() {
    for (open, middle, close) in [
        ("a=", "[", "]"),
        ("", "a.", "a=1"),
        ("a=", "{a=", "1"),
        ("[", "a.", "a]"),
    ] {
        for depth in [70, 79, 5_000] {
            let text = format!(
                "{open}{}{}",
                middle.repeat(depth),
                close.repeat(depth.min(1 + depth * close.len() % 2))
            );
            assert!(parse_in(&text, &[], environment).is_err(), "{text}");
        }
    }
    // Each level of the one has many of the other.
    let keys = ["a"; 70].join(".");
    let text = format!(
        "x = {}1{}",
        format!("{{ {keys} = ").repeat(70),
        " }".repeat(70)
    );
    let error = parse_in(&text, &[&format!("y={text}")], environment)
        .err()
        .unwrap();
    assert!(error.contains("not TOML: nests too deeply"), "{error}");
}
