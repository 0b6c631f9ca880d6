//! What the commands say of files that stand still.

use std::{fs, sync::Arc};

use clap::Parser as _;
use serde_json::{Value, json};

use super::*;
use crate::{
    commands,
    model::{Envelope, Metadata, Window},
    pipeline::spool::reading::testing::write,
};

/// The exit code and the lines of JSON.
fn spool(arguments: &str) -> (u8, Vec<Value>) {
    let arguments = ["dataflux-probe", "spool"]
        .into_iter()
        .chain(arguments.split(' '));
    let arguments = commands::Arguments::try_parse_from(arguments).unwrap();
    let mut out = Vec::new();
    let code = commands::run(arguments, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (code, lines.collect())
}

fn envelope() -> Envelope {
    Envelope {
        window: Window::default(),
        metadata: Arc::new(Metadata::default()),
        sources: Vec::new(),
    }
}

/// A state_dir with two files of the output `main` and a dead letter.
fn example() -> (tempfile::TempDir, String) {
    let state = tempfile::tempdir().unwrap();
    let main = state.path().join("spool/main");
    let letters = state.path().join("dead_letters/main");
    for folder in [&main, &letters] {
        fs::create_dir_all(folder).unwrap();
    }
    let path = |number: u32| main.join(format!("{number:010}.seg"));
    write(
        &path(1),
        Kind::Envelopes,
        "main-1",
        &[4..=4, 5..=5],
        &envelope(),
    );
    // A merged record of the two above, as a crash leaves it.
    write(
        &path(2),
        Kind::Envelopes,
        "main-1",
        &[4..=5, 7..=7],
        &envelope(),
    );
    write(&path(3), Kind::Envelopes, "main-2", &[1..=1], &envelope());
    let letter = letters.join("0000000001.seg");
    write(&letter, Kind::DeadLetters, "main-1", &[3..=3], &envelope());
    let text = state.path().display().to_string();
    (state, text)
}

fn numbers(envelope: &Value) -> (String, u64, u64) {
    let stream = &envelope["stream"];
    let number = |name: &str| stream[name].as_u64().unwrap();
    (
        stream["id"].as_str().unwrap().to_owned(),
        number("first"),
        number("last"),
    )
}

#[test]
fn a_list_names_files_streams_and_numbers() {
    let (_state, text) = example();
    let (code, lines) = spool(&format!("list --state-dir {text}"));
    assert_eq!((code, lines.len()), (0, 1));
    let line = &lines[0];
    assert_eq!(
        (&line["output"], &line["records"]),
        (&json!("main"), &json!(5))
    );
    assert_eq!(line["waiting"], 3);
    let bytes = line["files"].as_array().unwrap().iter();
    let bytes: u64 = bytes.map(|file| file["bytes"].as_u64().unwrap()).sum();
    assert_eq!(line["bytes"], bytes);
    let file = &line["files"][0];
    assert_eq!(file["name"], "0000000001.seg");
    assert_eq!(file["records"], 2);
    assert_eq!(file["first_time"], "1970-01-01T00:00:00.000000000Z");
    assert!(file.get("problems").is_none());
    assert_eq!(
        line["streams"][0],
        json!({
            "id": "main-1",
            "on_disk": [{"first": 4, "last": 5}, {"first": 7, "last": 7}],
            "waiting": [{"first": 4, "last": 5}, {"first": 7, "last": 7}],
        })
    );
    assert_eq!(line["dead_letters"]["records"], 1);
    let (code, lines) = spool(&format!("list --state-dir {text} main --dead-letters"));
    assert_eq!((code, lines.len()), (0, 1));
    assert_eq!(lines[0]["records"], 1);
    assert!(lines[0].get("waiting").is_none());
}

#[test]
fn cat_gives_each_number_once_and_what_is_asked_for() {
    let (_state, text) = example();
    let cat = |more: &str| {
        let (code, lines) = spool(&format!("cat --state-dir {text}{more}"));
        assert_eq!(code, 0);
        lines.iter().map(numbers).collect::<Vec<_>>()
    };
    let record = |stream: &str, first, last| (stream.to_owned(), first, last);
    let merged = record("main-1", 4, 5);
    let (seven, one) = (record("main-1", 7, 7), record("main-2", 1, 1));
    assert_eq!(cat(""), [merged.clone(), seven.clone(), one.clone()]);
    let parts = [record("main-1", 4, 4), record("main-1", 5, 5)];
    let all = parts
        .into_iter()
        .chain([merged.clone(), seven.clone(), one.clone()]);
    assert_eq!(cat(" --all"), all.collect::<Vec<_>>());
    assert_eq!(cat(" main --stream main-2"), [one]);
    assert_eq!(cat(" --first 5 --last 6"), [merged]);
    assert_eq!(cat(" --first 6"), [seven]);
}

#[test]
fn cat_fails_when_a_file_cannot_be_read() {
    let (_state, text) = example();
    fs::write(format!("{text}/spool/main/0000000009.seg"), "mine").unwrap();
    let (code, lines) = spool(&format!("cat --state-dir {text} main"));
    assert_eq!((code, lines.len()), (1, 3), "the others are given");
}

#[test]
fn cat_of_dead_letters_says_why() {
    let (_state, text) = example();
    let (code, lines) = spool(&format!("cat --state-dir {text} --dead-letters"));
    assert_eq!((code, lines.len()), (0, 1));
    assert_eq!(lines[0]["cause"], "rejected");
    assert_eq!(lines[0]["reason"], "too \"large\"");
    assert_eq!(lines[0]["time"], "1970-01-01T00:00:00.000000000Z");
    assert_eq!(numbers(&lines[0]["envelope"]), ("main-1".to_owned(), 3, 3));
}

#[test]
fn verify_finds_damage_and_changes_nothing() {
    let (state, text) = example();
    let verify = || {
        let (code, mut lines) = spool(&format!("verify --state-dir {text}"));
        assert_eq!(lines.len(), 1);
        (code, lines.remove(0))
    };
    let (code, line) = verify();
    assert_eq!(
        (code, &line["intact"], &line["records"]),
        (0, &json!(true), &json!(5))
    );
    assert_eq!(line["damage"], json!([]));
    let path = state.path().join("spool/main/0000000002.seg");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    bytes[1] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::write(
        state.path().join("spool/main/0000000009.seg"),
        "what is this",
    )
    .unwrap();
    let (code, line) = verify();
    assert_eq!(
        (code, &line["intact"], &line["records"]),
        (1, &json!(false), &json!(4))
    );
    let damage = line["damage"].as_array().unwrap();
    let problem = |place: usize| damage[place]["problem"].as_str().unwrap();
    assert_eq!(problem(0), "the header is damaged");
    let skipped = |place: usize| problem(place).ends_with("bytes between records are none");
    assert!(skipped(1), "{line}");
    assert_eq!(problem(2), "its body is damaged");
    assert_eq!(
        (&damage[2]["first"], &damage[2]["stream"]),
        (&json!(7), &json!("main-1"))
    );
    assert_eq!(problem(3), "it is no segment");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    // What is whole can be had nevertheless.
    let (code, lines) = spool(&format!("cat --state-dir {text} --stream main-1"));
    assert_eq!((code, lines.len()), (1, 1));
}

#[test]
fn a_place_without_a_spool_is_an_error() {
    let (_state, text) = example();
    for arguments in [
        "list --state-dir /no/such/folder".to_owned(),
        format!("list --state-dir {text} other"),
        "list --config /no/such/file".to_owned(),
    ] {
        let arguments = ["dataflux-probe", "spool"]
            .into_iter()
            .chain(arguments.split(' '));
        let arguments = commands::Arguments::try_parse_from(arguments).unwrap();
        assert!(commands::run(arguments, &mut Vec::new()).is_err());
    }
    assert!(commands::Arguments::try_parse_from(["dataflux-probe", "spool", "list"]).is_err());
}
